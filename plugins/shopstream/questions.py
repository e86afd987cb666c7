"""A task that asks a person, and what Airflow shows of its question."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.standard.operators.hitl import HITLOperator
    from airflow.sdk import Context


def shown_subject(task: HITLOperator, context: Context) -> str:
    """Return the subject of the question that Airflow shows for a task that is about to ask its own.

    Of a task that is cleared Airflow 3.3 shows the first question again, with its figures (apache/airflow
    #72155).
    """
    from airflow.sdk.execution_time.comms import CreateHITLDetailPayload
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    question = CreateHITLDetailPayload(
        ti_id=context["ti"].id,
        options=task.options,
        subject=task.subject,
        body=task.body,
        defaults=task.defaults,
        params=task.serialized_params,
        assigned_users=[],
    )
    return str(SUPERVISOR_COMMS.send(question).subject)
