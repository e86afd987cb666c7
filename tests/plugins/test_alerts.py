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
from tests.airflow_home import airflow_home, load_dag  # noqa: F401


def alert_in(caplog: pytest.LogCaptureFixture) -> Any:
    [line] = [entry for entry in caplog.records if entry.name == alerts.log.name]
    assert line.levelno == logging.ERROR
    prefix, _, rest = line.getMessage().partition(" {")
    assert prefix == alerts.ALERT_PREFIX
    return json.loads("{" + rest)


def test_a_failed_task_is_told_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    task = SimpleNamespace(dag_id="load_events_daily", run_id="r", task_id="gate")
    alerts.task_failed({"ti": task, "exception": ValueError("2 %\nwere rejected" + "." * 5000)})
    alert = alert_in(caplog)
    assert alert["kind"] == "task_failed"
    assert alert["task_id"] == "gate"
    assert alert["reason"].startswith("2 %\nwere rejected")
    assert len(alert["reason"]) == alerts.MAX_REASON_CHARS


def test_a_run_that_misses_its_deadline_is_told_by_the_executor_with_the_broken_promise(
    airflow_home: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    """From the queued run to the callback as Airflow makes them; only the hours between are left out."""
    from airflow.models.callback import ExecutorCallback
    from airflow.models.deadline import Deadline
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    load_dag("load_events_daily")
    stored = SerializedDagModel.get("load_events_daily")
    assert stored is not None
    with create_session() as session:
        run = stored.dag.create_dagrun(
            run_id="late",
            run_after=datetime.now(UTC),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state="queued",
            session=session,
        )
        session.flush()
        deadline = session.scalars(select(Deadline).where(Deadline.dagrun_id == run.id)).one()
        assert deadline.deadline_time - run.queued_at == timedelta(hours=6)
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
        "promise": "A day's events are published 6 hours after the day's end",
        "dag_id": "load_events_daily",
        "run_id": "late",
        "state": "queued",
    }
