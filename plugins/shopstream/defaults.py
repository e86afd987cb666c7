"""What all DAGs share, in one place."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import RetryDecision, RetryPolicy

from shopstream.alerts import run_failed, task_failed
from shopstream.retries import Refused, next_step

START_DATE = datetime(2019, 10, 1, tzinfo=UTC)
"""The first day of the published data set; DAGs do not catch up, a backfill loads old days."""


def refuse_unknown_params(context: Mapping[str, Any]) -> None:
    """Fail a run whose conf has a key that no parameter of its DAG has.

    Airflow takes such a run and leaves the key out of account, so that a slip would load another day.

    Raises:
        Refused: there is one; the message names the nearest parameter.
    """
    known = list(context["dag"].params)
    for key in context["dag_run"].conf or {}:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            meant = f" Did you mean {near[0]}?" if near else ""
            names = ", ".join(known) or "none"
            raise Refused(
                f"the run was given {key!r}, which is no parameter of {context['dag'].dag_id}.{meant} "
                f"It has {names}; trigger it again."
            )


class FailWhereARetryCannotHelp(RetryPolicy):
    """Fails a task at once for an error that has a next step; else Airflow's own rule holds."""

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Any = None
    ) -> RetryDecision:
        """Decide, in the worker; the reason is logged."""
        step = next_step(exception)
        return RetryDecision.default() if step is None else RetryDecision.fail(step)


TASK_DEFAULTS: dict[str, Any] = {
    "owner": "shopstream",
    "retries": 3,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": FailWhereARetryCannotHelp(),
    "execution_timeout": timedelta(minutes=30),
    "on_failure_callback": task_failed,
    "pre_execute": refuse_unknown_params,
}
DAG_DEFAULTS: dict[str, Any] = {
    "start_date": START_DATE,
    "catchup": False,
    "default_args": TASK_DEFAULTS,
    "on_failure_callback": run_failed,
}
