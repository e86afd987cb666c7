"""alerts: one line at level ERROR for each thing that calls for a person."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from airflow.sdk.execution_time.callback_supervisor import execute_callback

from shopstream import alerts
from shopstream.settings import settings
from tests.airflow_home import airflow_home, load_dag, stored  # noqa: F401


def alert_in(caplog: pytest.LogCaptureFixture) -> Any:
    [line] = [entry for entry in caplog.records if entry.name == alerts.log.name]
    assert line.levelno == logging.ERROR
    prefix, _, rest = line.getMessage().partition(" {")
    assert prefix == f"{alerts.ALERT_PREFIX} {settings().alert_id}"
    return json.loads("{" + rest)


def test_a_failed_task_is_told_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    task = SimpleNamespace(dag_id="load_events_daily", run_id="r", task_id="gate")
    alerts.task_failed({"ti": task, "exception": ValueError("2 %\nwere rejected" + "." * 5000)})
    alert = alert_in(caplog)
    assert alert["kind"] == "task_failed"
    assert alert["task_id"] == "gate"
    assert alert["reason"].startswith("2 %\nwere rejected")
    assert len(alert["reason"]) == alerts.MAX_REASON_CHARS


def test_a_question_is_told_when_it_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    task = SimpleNamespace(dag_id="load_events_daily", run_id="r", task_id="gate")
    alerts.answer_wanted({"ti": task}, "4 of 200 lines were rejected." + "." * 5000)
    alert = alert_in(caplog)
    assert (alert["kind"], alert["task_id"]) == ("answer_wanted", "gate")
    assert alert["reason"].startswith("4 of 200 lines were rejected.")
    assert len(alert["reason"]) == alerts.MAX_REASON_CHARS


def test_figures_that_are_not_as_usual_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    task = SimpleNamespace(dag_id="watch_figures", run_id="r", task_id="judge_figures")
    alerts.figures_found({"ti": task}, ["No purchases.", "No orders."])
    alert = alert_in(caplog)
    assert alert == {
        "kind": "figures_found",
        "dag_id": "watch_figures",
        "run_id": "r",
        "reason": "No purchases.\nNo orders.",
    }


@pytest.mark.parametrize(("length", "shown"), [(199, 10), (200, 9), (990, 1), (1960, 1)])
def test_of_figures_that_are_too_many_for_a_line_whole_sentences_are_told_and_how_many_more_there_are(
    length: int, shown: int, caplog: pytest.LogCaptureFixture
) -> None:
    task = SimpleNamespace(dag_id="watch_figures", run_id="r", task_id="judge_figures")
    sentences = [f"{number} {'x' * (length - 2)}" for number in range(10)]
    alerts.figures_found({"ti": task}, sentences)
    reason = alert_in(caplog)["reason"]
    assert len(reason) <= alerts.MAX_REASON_CHARS
    rest = [f"and {10 - shown} more in shop_ops.figure_findings"] if shown < 10 else []
    assert reason.split("\n") == sentences[:shown] + rest


def test_a_sentence_that_is_too_long_for_a_line_is_cut_and_the_others_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = SimpleNamespace(dag_id="watch_figures", run_id="r", task_id="judge_figures")
    alerts.figures_found({"ti": task}, ["No purchases" + "." * 5000, "No orders."])
    reason = alert_in(caplog)["reason"]
    assert alerts.MAX_REASON_CHARS - 10 < len(reason) <= alerts.MAX_REASON_CHARS
    assert reason.startswith("No purchases...")
    assert reason.endswith("...\nand 1 more in shop_ops.figure_findings")


def test_a_run_that_misses_its_deadline_is_told_by_the_executor_with_the_broken_promise(
    airflow_home: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the queued run to the callback as Airflow makes them; only the hours between are left out."""
    from airflow.models.callback import ExecutorCallback
    from airflow.models.deadline import Deadline
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    dag = load_dag("load_events_daily")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with create_session() as session:
        run = stored(dag).create_dagrun(
            run_id="late",
            run_after=midnight,
            logical_date=midnight - timedelta(days=1),
            data_interval=(midnight - timedelta(days=1), midnight),
            run_type=DagRunType.SCHEDULED,
            triggered_by=DagRunTriggeredByType.TEST,
            state="queued",
            session=session,
        )
        session.flush()
        deadline = session.scalars(select(Deadline).where(Deadline.dagrun_id == run.id)).one()
        assert deadline.deadline_time == midnight + timedelta(hours=6)
        deadline.handle_miss(session)
        assert isinstance(deadline.callback, ExecutorCallback)
        callback = deadline.callback.data
        session.delete(run)

    done = execute_callback(callback["path"], callback["kwargs"], "", None, structlog.get_logger())
    assert done == (True, None)
    alert = alert_in(caplog)
    assert alert.pop("deadline").startswith(f"{deadline.deadline_time:%Y-%m-%d %H:%M:%S}")
    assert alert == {
        "kind": "deadline_missed",
        "promise": "A day's events are published 6 hours after its end",
        "dag_id": "load_events_daily",
        "run_id": "late",
        "state": "queued",
    }


@pytest.mark.parametrize(
    ("state", "run_type"),
    [
        ("failed", "scheduled"),
        ("success", "scheduled"),
        ("running", "backfill"),
        ("running", "operator_triggered"),
    ],
)
def test_a_deadline_of_a_run_that_was_told_of_or_made_no_promise_alerts_nobody(
    caplog: pytest.LogCaptureFixture, state: str, run_type: str
) -> None:
    run = {"dag_id": "load_events_daily", "dag_run_id": "r", "state": state, "run_type": run_type}
    alerts.deadline_missed("soon", {"dag_run": run, "deadline": {"deadline_time": "now"}})
    assert not [entry for entry in caplog.records if entry.levelno >= logging.ERROR]


def test_a_task_that_was_lost_without_an_exception_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    task = SimpleNamespace(dag_id="load_events_daily", run_id="r", task_id="gate")
    alerts.task_failed({"ti": task, "exception": None})
    assert "was killed or lost" in alert_in(caplog)["reason"]


def test_a_run_with_a_failed_task_is_not_told_twice(caplog: pytest.LogCaptureFixture) -> None:
    alerts.run_failed({"dag": SimpleNamespace(dag_id="d"), "run_id": "r", "reason": "task_failure"})
    assert not [entry for entry in caplog.records if entry.name == alerts.log.name]


def test_a_run_that_times_out_is_told_by_the_dag_processor(
    airflow_home: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its tasks are skipped without a callback; the scheduler asks the DAG processor for the run's."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.dag_processing.processor import _execute_dag_callbacks
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    dag = load_dag("build_summaries")
    long_ago = datetime.now(UTC) - dag.dagrun_timeout - timedelta(minutes=1)
    stored(dag).create_dagrun(
        run_id="endless",
        run_after=long_ago,
        start_date=long_ago,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state="running",
    )
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.run_id == "endless")).one()
        asked = SchedulerJobRunner(Job())._schedule_dag_run(run, session=session)
        assert asked is not None
        assert str(run.state) == "failed"
        bag = DagBag(dag_folder="/dev/null")
        bag.bag_dag(dag)
        _execute_dag_callbacks(bag, asked, structlog.get_logger())
        session.delete(run)

    alert = alert_in(caplog)
    assert (alert["kind"], alert["dag_id"], alert["run_id"]) == ("run_failed", "build_summaries", "endless")
    assert "took longer than its dagrun_timeout" in alert["reason"]
