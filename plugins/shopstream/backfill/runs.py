"""The runs of other DAGs that a backfill triggers: a few at once, each once, and what came of each.

Asked of Airflow by the messages of its own TriggerDagRunOperator, which triggers one run a task and cannot
wait for a place among the others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from shopstream.backfill.plan import Run
from shopstream.text_table import text_table

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

ACTIVE = ["queued", "running"]
SUCCESS, FAILED, NOT_STARTED = "success", "failed", "not started"
ASKED_AT_ONCE = 20
"""Runs in one request, whose address holds their ids."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: its state, or NOT_STARTED; how long it took; its page; the events of its days."""

    run: Run
    state: str
    seconds: float | None
    rows: int | None
    url: str

    @property
    def is_success(self) -> bool:
        """Whether it has done what it was to do."""
        return self.state == SUCCESS


def have_ended(
    ti: RuntimeTaskInstanceProtocol, runs: Sequence[Run], at_once: int, stop_at_failure: bool, note: str
) -> bool:
    """Trigger as many of the runs, in order, as have a place among `at_once`; tell whether all have ended.

    A run that is there is not triggered again, whoever looks. With `stop_at_failure` none is triggered once
    one has failed, and those that are active are waited for.

    Args:
        runs: all of one DAG.
        note: what each run says of where it comes from.
    """
    there = _there(ti, runs)
    active, failed = _count(ti, runs, ACTIVE), _count(ti, runs, [FAILED])
    left = [run for run in runs if run.run_id not in there]
    started = [] if stop_at_failure and failed else left[: max(0, at_once - active)]
    for run in started:
        _trigger(run, note)
    log.info(
        "Runs ended: %d of %d, failed: %d, active: %d%s, left: %d%s.",
        *(len(there) - active, len(runs), failed, active + len(started)),
        f" ({', '.join(run.days for run in started)} just triggered)" if started else "",
        len(left) - len(started),
        ", and none is triggered since one has failed" if stop_at_failure and failed and left else "",
    )
    return not active and not started


def outcomes(ti: RuntimeTaskInstanceProtocol, runs: Sequence[Run], events: dict[date, int]) -> list[Outcome]:
    """Return what came of each run; `events` are those that each day has now."""
    from airflow.sdk.execution_time.comms import GetDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS
    from airflow.utils.helpers import build_airflow_dagrun_url

    there = _there(ti, runs)
    found = []
    for run in runs:
        state, seconds, rows = NOT_STARTED, None, None
        if run.run_id in there:
            asked: Any = SUPERVISOR_COMMS.send(GetDagRun(dag_id=run.dag_id, run_id=run.run_id))
            state, seconds = asked.state.value, _seconds(asked.start_date, asked.end_date)
        if state == SUCCESS:
            rows = sum(count for day, count in events.items() if run.first_day <= day <= run.last_day)
        url = build_airflow_dagrun_url(run.dag_id, run.run_id)
        found.append(Outcome(run, state, seconds, rows, url))
    return found


def describe(found: Sequence[Outcome]) -> str:
    """Return a text table, a line a run."""
    lines = [
        (
            one.run.days,
            one.state,
            "" if one.seconds is None else f"{one.seconds:,.0f}",
            "" if one.rows is None else f"{one.rows:,}",
            "" if one.state == NOT_STARTED else one.url,
        )
        for one in found
    ]
    return text_table(("day", "state", "seconds", "events", "run"), lines, numbers=(2, 3))


def _there(ti: RuntimeTaskInstanceProtocol, runs: Sequence[Run]) -> set[str]:
    """The ids of those runs that have been triggered."""
    return {
        run_id for dag_id, ids in _asked(runs) for run_id in ti.get_task_states(dag_id=dag_id, run_ids=ids)
    }


def _count(ti: RuntimeTaskInstanceProtocol, runs: Sequence[Run], states: list[str]) -> int:
    return sum(ti.get_dr_count(dag_id=dag_id, run_ids=ids, states=states) for dag_id, ids in _asked(runs))


def _asked(runs: Sequence[Run]) -> Iterator[tuple[str, list[str]]]:
    for start in range(0, len(runs), ASKED_AT_ONCE):
        yield runs[0].dag_id, [run.run_id for run in runs[start : start + ASKED_AT_ONCE]]


def _trigger(run: Run, note: str) -> None:
    from airflow.sdk.execution_time.comms import TriggerDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    # Airflow answers, and does not fail, if somebody has triggered it since.
    SUPERVISOR_COMMS.send(
        TriggerDagRun(dag_id=run.dag_id, run_id=run.run_id, logical_date=None, conf=run.conf, note=note)
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return (end - start).total_seconds() if start and end else None
