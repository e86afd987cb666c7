"""Loads of one day as task runs, against a local Dataflow whose jobs end as a file tells them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from google.cloud import storage

from local.dataflow import spec
from local.root import ROOT
from shopstream.defaults import START_DATE
from shopstream.gcp.dataflow import DataflowHook
from shopstream.gcp.wait_for_job import WaitForJob
from shopstream.load.launch import LaunchLoadEvents, WaitForLoad
from shopstream.settings import settings
from tests.airflow_home import store, stored
from tests.local.dataflow.service import Service, serving, until

DAY = "2019-11-01"
NAME = f"load-events-{DAY}"
METADATA = json.loads((ROOT / "beam_jobs" / "templates" / "load_events.json").read_text())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a file for each landing day tells its job how to end."""
    return tmp_path_factory.mktemp("told")


@pytest.fixture(scope="module")
def server(gcs_emulator: str, told: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("state"), environment={"LOAD_DAY_DIR": str(told)}) as service:
        yield service


@pytest.fixture
def dataflow(
    server: Service, told: Path, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """The local Dataflow, which the settings name, with the load's template and without active jobs."""
    monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", server.url)
    upload_load_template(bucket, METADATA)
    for path in told.iterdir():
        path.unlink()
    yield server
    server.cancel_all()


@pytest.fixture(scope="module")
def loading(airflow_home: Path) -> DAG:
    """A DAG that launches the load of the run's day, and awaits its job, or it as load_events_daily does."""
    with DAG("load_day", schedule=None, start_date=START_DATE, default_args={"retries": 3}) as dag:
        launched = LaunchLoadEvents(task_id="launch", landing_day="{{ dag_run.conf['landing_day'] }}")
        WaitForJob(task_id="wait", job_id=launched.output["job_id"])
        WaitForLoad(task_id="wait_for_load", load=launched.output)
    store(dag)
    return dag


def start_run(dag: DAG, landing_day: str = DAY) -> str:
    """Create a manual run for the day, and return its id."""
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    run_id = f"manual-{datetime.now(UTC).timestamp()}"
    stored(dag).create_dagrun(
        run_id=run_id,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state="running",
        run_after=datetime.now(UTC),
        conf={"landing_day": landing_day},
    )
    return run_id


def run(dag: DAG, run_id: str, task_id: str) -> Any:
    """Run a task as a worker does, whatever comes of it; the result has `ti`, `state` and `error`."""
    from airflow.sdk.definitions.dag import _run_task

    return _run_task(ti=_task_instance(run_id, task_id), task=dag.task_dict[task_id])


def succeed(dag: DAG, run_id: str, task_id: str) -> Any:
    """Run a task that must succeed, and return what it returned."""
    result = run(dag, run_id, task_id)
    assert result.state == "success", result.error
    return xcom(run_id, task_id, "return_value")


def xcom(run_id: str, task_id: str, key: str) -> Any:
    from airflow.utils.session import create_session

    with create_session() as session:
        ti = session.merge(_task_instance(run_id, task_id))
        return ti.xcom_pull(task_ids=task_id, key=key, session=session)


def next_try(run_id: str, task_id: str) -> None:
    """Make the task ready for another try, as the scheduler does after one that was killed."""
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(_task_instance(run_id, task_id)).prepare_db_for_next_try(session)


def tell(told: Path, text: str) -> None:
    new = told / "new"
    new.write_text(text)
    new.rename(told / DAY)


def await_end(job_id: str) -> None:
    hook = DataflowHook()
    until(lambda: not any(job["id"] == job_id for job in hook.active_jobs(NAME)), f"{job_id} to end")


def upload_load_template(bucket: storage.Bucket, metadata: dict[str, Any]) -> None:
    template = json.dumps(spec(metadata, "tests.local.dataflow.pipelines.load_day"))
    bucket.blob(f"templates/{settings().template_version}/load_events.json").upload_from_string(template)


def _task_instance(run_id: str, task_id: str) -> Any:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalar(
            select(TaskInstance).where(TaskInstance.run_id == run_id, TaskInstance.task_id == task_id)
        )
        session.expunge_all()
    return found
