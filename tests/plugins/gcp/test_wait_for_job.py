"""Awaiting jobs: real task runs, against a local Dataflow over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk import DAG
from googleapiclient.errors import HttpError

from local.stack import emulators
from shopstream.gcp.wait_for_job import WaitForJob
from shopstream.settings import settings
from tests.local.dataflow.service import Service
from tests.plugins.day_loads import DAY, await_end, run, start_run, succeed, tell

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("airflow_home", "dataflow")]


def test_waiting_gives_the_slot_back_until_the_job_is_done(loading: DAG, told: Path) -> None:
    run_id = start_run(loading)
    load = succeed(loading, run_id, "launch")

    assert run(loading, run_id, "wait").state == "up_for_reschedule"
    tell(told, "done")
    await_end(load["job_id"])
    assert run(loading, run_id, "wait").state == "success"


def test_a_failed_job_fails_the_wait_for_good_with_the_jobs_own_reason(loading: DAG, told: Path) -> None:
    tell(told, "events.csv: the header has extra columns 'colour'.")
    run_id = start_run(loading)
    load = succeed(loading, run_id, "launch")
    await_end(load["job_id"])

    result = run(loading, run_id, "wait")

    assert result.state == "failed", "a retry would only see the same failed job"
    assert "JOB_STATE_FAILED" in str(result.error)
    assert "ValueError: events.csv: the header has extra columns 'colour'." in str(result.error)


def test_a_cancelled_job_fails_the_wait(dataflow: Service, loading: DAG) -> None:
    run_id = start_run(loading)
    load = succeed(loading, run_id, "launch")
    dataflow.request_state(load["job_id"], "JOB_STATE_CANCELLED")
    await_end(load["job_id"])

    result = run(loading, run_id, "wait")

    assert result.state == "failed"
    assert "JOB_STATE_CANCELLED" in str(result.error)


def test_a_dataflow_that_does_not_answer_only_postpones_the_look(
    loading: DAG, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start_run(loading)
    succeed(loading, run_id, "launch")
    _without_client_retries(monkeypatch)

    monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", f"http://{emulators.HOST}:{emulators.free_port()}")

    assert run(loading, run_id, "wait").state == "up_for_reschedule"


def test_waiting_for_a_job_that_dataflow_does_not_know_fails() -> None:
    task = WaitForJob(task_id="wait", job_id=f"{DAY}_00_00_00-1")

    with pytest.raises(HttpError, match=f"Information about job {DAY}_00_00_00-1 could not be found"):
        task.poke({})


def _without_client_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Google's client give up at once instead of after half a minute."""
    extra = {"is_anonymous": True, "project": settings().project, "num_retries": 0}
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
