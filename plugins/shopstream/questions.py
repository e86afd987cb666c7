"""A task that asks a person whether to go on.

A question waits in Airflow's state `awaiting_input`, which takes no worker, no triggerer and no pool slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from shopstream.alerts import answer_wanted
from shopstream.retries import Refused

if TYPE_CHECKING:
    from airflow.sdk import Context

ANSWER_WITHIN = timedelta(hours=24)
MAX_REASON_CHARS = 1000
_WITHIN = f"within {ANSWER_WITHIN / timedelta(hours=1):g} hours"


@dataclass(frozen=True, slots=True)
class Approval:
    """Who let a run go on, by the name in Airflow, and why."""

    approved_by: str
    reason: str


class NoReason(Refused):
    """The answer was `yes`, but gives no reason that can be kept."""


class NoAnswer(Refused):
    """Nobody answered in time."""


class Question(HITLOperator):
    """Asks for one of two answers with a reason; no answer in time is the answer `no`."""

    yes: ClassVar[str]
    no: ClassVar[str]

    def __init__(self, **kwargs: Any) -> None:
        """Make the task; what it asks is told to `ask`."""
        super().__init__(
            subject="",
            options=[self.yes, self.no],
            defaults=[self.no],
            response_timeout=ANSWER_WITHIN,
            **kwargs,
        )

    def ask(self, context: Context, subject: str, body: str, about_reason: str, details: str = "") -> None:
        """Ask, and call somebody; it leaves by an exception, with which Airflow waits.

        Args:
            context: Airflow's.
            subject: The question in a sentence or two.
            body: What to know for an answer, in Markdown.
            about_reason: What the form says of the field for the reason.
            details: What the alert says after the subject.

        Raises:
            Refused: Airflow would show an earlier question of this run.
            TaskAwaitingInput: somebody is asked.
        """
        self.subject, self.body = subject, body
        reason = Param(
            "",
            type="string",
            minLength=1,
            maxLength=MAX_REASON_CHARS,
            title="Reason",
            description=about_reason,
        )
        # Not before: Airflow holds a task's parameters against their schema when it starts.
        self.params = ParamsDict({"reason": reason})
        if (shown := self._shown_subject(context)) != subject:
            raise Refused(
                f"{subject} But in this run Airflow would show an earlier question: {shown!r} Trigger "
                f"{self.dag_id} anew: that run asks its own."
            )
        answer_wanted(context, f"{subject} Answer in the run's Required Actions {_WITHIN}.{details}")
        super().execute(context)

    def approval(self, event: dict[str, Any]) -> Approval:
        """Return who answered yes, and why; `event` is what Airflow gives to execute_complete.

        Raises:
            NoAnswer: nobody answered in time.
            NoReason: the answer is yes, without a reason of 1 to MAX_REASON_CHARS characters.
            Refused: the answer is no.
        """
        if "error" in event and event["error_type"] != "timeout":
            self.process_trigger_event_error(event)
        user = event.get("responded_by_user")
        if not user:
            raise NoAnswer(f"nobody answered {_WITHIN}.")
        reason = str(event["params_input"].get("reason") or "").strip()
        if event["chosen_options"] != [self.yes]:
            raise Refused(f"{user['name']} refused it: {reason or 'no reason given'}.")
        if not 1 <= len(reason) <= MAX_REASON_CHARS:
            raise NoReason(
                f"{user['name']} answered {self.yes!r} with a reason of {len(reason):,} characters; give one "
                f"of 1 to {MAX_REASON_CHARS:,}."
            )
        return Approval(user["name"], reason)

    def _shown_subject(self, context: Context) -> str:
        """The subject of the question that Airflow shows for this task, which is about to ask its own.

        Of a task that is cleared Airflow 3.3 shows the first question again, with its figures (apache/airflow
        #72155).
        """
        from airflow.sdk.execution_time.comms import CreateHITLDetailPayload
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        question = CreateHITLDetailPayload(
            ti_id=context["ti"].id,
            options=self.options,
            subject=self.subject,
            body=self.body,
            defaults=self.defaults,
            params=self.serialized_params,
            assigned_users=[],
        )
        return str(SUPERVISOR_COMMS.send(question).subject)
