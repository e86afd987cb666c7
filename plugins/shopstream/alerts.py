"""What calls for a person: one line at level ERROR, which a log-based alert watches for.

The alert watches for the environment's own id in the line, which nobody outside knows: so no text from the
data, such as a rejected line that is shown in a log, can call anybody.

Deadlines call `deadline_missed` on the executor, where plugins/ is; the triggerer, which runs asynchronous
callbacks, does not have it on Composer. A run calls `run_failed` in the DAG processor.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import accumulate
from typing import Any

from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback

from shopstream.retries import next_step
from shopstream.settings import settings

ALERT_PREFIX = "SHOPSTREAM ALERT"
DIGEST_PREFIX = "SHOPSTREAM DIGEST"
MAX_REASON_CHARS = 2000
RUNS_AVERAGED = 1_000
"""All that Airflow keeps: of runs without a logical date PostgreSQL gives it any, and not the last ones."""

_KILLED = (
    "the task was killed or lost, without an exception: look in its log and the scheduler's for a worker "
    "that was out of memory or went away"
)
_RUN_REASONS = {
    "timed_out": "the run took longer than its dagrun_timeout; its tasks that had not ended were skipped. "
    "Look what they waited for, then clear the run",
    "all_tasks_deadlocked": "no task can run any more; look at the states of the run's tasks, then clear it",
}

log = logging.getLogger(__name__)


def due_after_the_day(promise: str, within: timedelta) -> DeadlineAlert:
    """Alert when a scheduled run has not ended `within` so long after its day's end, as `promise` says.

    Not counted from when the run was queued: Airflow cannot clear a run with such a deadline
    (apache/airflow #70368). Only a scheduled run makes the promise: days of a backfill are long over.
    """
    return _deadline(promise, DeadlineReference.DAGRUN_LOGICAL_DATE, timedelta(days=1) + within)


def due_after_the_usual(promise: str, within: timedelta) -> DeadlineAlert:
    """Alert when a run has not ended `within` so long after the time that runs took, RUNS_AVERAGED at most.

    For runs that an asset starts, which have no logical date. The first run of all has no deadline.
    """
    reference = DeadlineReference.AVERAGE_RUNTIME(max_runs=RUNS_AVERAGED, min_runs=1)
    return _deadline(promise, reference, within)


def deadline_missed(promise: str, context: Mapping[str, Any]) -> None:
    """Tell that a run has missed its deadline; `context` holds the run and the deadline as plain values.

    A run that has failed was told when it failed, and another may have done its work since. Runs of old days,
    which somebody has another DAG trigger, take what they take.
    """
    run = context["dag_run"]
    is_of_old_days = run["run_type"] in ("backfill", "operator_triggered")
    if run["state"] not in ("queued", "running") or is_of_old_days:
        log.info("%s of %s passed its deadline as %s.", run["dag_run_id"], run["dag_id"], run["state"])
        return
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
    exception = context.get("exception")
    step = None if exception is None else next_step(exception)
    _alert(
        kind="task_failed",
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        reason=str(exception or _KILLED)[:MAX_REASON_CHARS] + (f" {step}" if step else ""),
    )


def answer_wanted(context: Mapping[str, Any], question: str) -> None:
    """Tell that a task waits for a person's answer, and what it asks."""
    task = context["ti"]
    _alert(
        kind="answer_wanted",
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        reason=question[:MAX_REASON_CHARS],
    )


def filled_day_failed(context: Mapping[str, Any], reason: str) -> None:
    """Tell that a table's days which nobody asked for failed a check, in a task that goes on."""
    task = context["ti"]
    _alert(
        kind="filled_day_failed",
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        reason=reason[:MAX_REASON_CHARS],
    )


def run_failed(context: Mapping[str, Any]) -> None:
    """Tell that a run has failed without a failed task, as when it timed out: tasks tell for themselves."""
    reason = context.get("reason")
    if reason == "task_failure":
        return
    _alert(
        kind="run_failed",
        dag_id=context["dag"].dag_id,
        run_id=context["run_id"],
        reason=_RUN_REASONS.get(str(reason), str(reason)),
    )


def figures_found(context: Mapping[str, Any], sentences: Sequence[str]) -> None:
    """Tell of business figures that are not as usual: one line a run, whose `reason` has the sentences.

    Those that do not fit are counted in it: nothing else will ever tell that there are more. The first is
    always told, cut if it is too long.
    """
    task = context["ti"]
    reason = "\n".join(sentences)
    if len(reason) > MAX_REASON_CHARS:
        more = "\nand {} more in shop_ops.figure_findings"
        room = MAX_REASON_CHARS - len(more.format(len(sentences)))
        ends = accumulate(len(sentence) + 1 for sentence in sentences)
        shown = max(1, sum(end - 1 <= room for end in ends))
        reason = "\n".join(sentences[:shown])[:room]
        if rest := len(sentences) - shown:
            reason += more.format(rest)
    _alert(kind="figures_found", dag_id=task.dag_id, run_id=task.run_id, reason=reason)


def tell_digest(words: str) -> None:
    """Tell how a day was: one line at level INFO, sent to whom the alerts are sent, that calls nobody."""
    log.info("%s %s %s", DIGEST_PREFIX, settings().alert_id, words)


def _deadline(promise: str, reference: Any, interval: timedelta) -> DeadlineAlert:
    callback = SyncCallback(deadline_missed, kwargs={"promise": promise})
    return DeadlineAlert(reference=reference, interval=interval, callback=callback)


def _alert(**what: str) -> None:
    log.error("%s %s %s", ALERT_PREFIX, settings().alert_id, json.dumps(what))
