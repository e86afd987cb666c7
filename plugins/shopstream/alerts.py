"""What calls for a person: one line at level ERROR, which a log-based alert watches for.

Deadlines call `deadline_missed` on the executor, where plugins/ is; the triggerer, which runs asynchronous
callbacks, does not have it on Composer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback

ALERT_PREFIX = "SHOPSTREAM ALERT"
MAX_REASON_CHARS = 2000

log = logging.getLogger(__name__)


def deadline(promise: str, within: timedelta) -> DeadlineAlert:
    """Alert when a run has not ended `within` so long after it was queued; `promise` says what is late.

    Not counted from the data interval, by which a backfill of old days would be late before it starts.
    """
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=within,
        callback=SyncCallback(deadline_missed, kwargs={"promise": promise}),
    )


def deadline_missed(promise: str, context: Mapping[str, Any]) -> None:
    """Tell that a run has missed its deadline; `context` holds the run and the deadline as plain values."""
    run = context["dag_run"]
    _alert(
        kind="deadline_missed",
        promise=promise,
        dag_id=run["dag_id"],
        run_id=run["dag_run_id"],
        state=run["state"],
        deadline=str(context["deadline"]["deadline_time"]),
    )


def task_failed(context: Mapping[str, Any]) -> None:
    """Tell that a task has failed for good: Airflow calls this when no retry is left."""
    task = context["ti"]
    _alert(
        kind="task_failed",
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        reason=str(context.get("exception"))[:MAX_REASON_CHARS],
    )


def _alert(**what: str) -> None:
    log.error("%s %s", ALERT_PREFIX, json.dumps(what))
