"""Launching and awaiting loads: real task runs, against a local Dataflow over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from google.cloud import storage
from googleapiclient.errors import HttpError

from beam_jobs import stream_events
from beam_jobs.load_events import parse_options
from infra.deploy import read_place
from local.dataflow import spec
from local.dataflow.templates import check_parameters, parse_template
from local.root import ROOT
from local.stack import emulators
from shopstream import layout
from shopstream.defaults import START_DATE
from shopstream.gcp.dataflow import DataflowHook, WaitForJob
from shopstream.load.launch import LaunchLoadEvents, load_events_launch
from shopstream.settings import settings
from shopstream.stream.jobs import stream_events_launch
from tests.airflow_home import airflow_home, store  # noqa: F401
from tests.local.dataflow.service import Service, serving, until

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("airflow_home")]

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


@pytest.fixture(autouse=True)
def dataflow(
    server: Service, told: Path, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    """The local Dataflow, which the settings name, with the load's template and without active jobs."""
    monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", server.url)
    _upload(bucket, METADATA)
    for path in told.iterdir():
        path.unlink()
    yield server
    server.cancel_all()


@pytest.fixture(scope="module")
def loading(airflow_home: Path) -> DAG:  # noqa: F811
    """A DAG that launches the load of the run's day and awaits it, wired as load_events_daily is."""
    with DAG("load_day", schedule=None, start_date=START_DATE, default_args={"retries": 3}) as dag:
        launched = LaunchLoadEvents(task_id="launch", landing_day="{{ dag_run.conf['landing_day'] }}")
        WaitForJob(task_id="wait", job_id=launched.output["job_id"])
    store(dag)
    return dag


def test_a_launch_starts_the_days_job_and_returns_where_its_manifest_will_be(
    dataflow: Service, loading: DAG, bucket: storage.Bucket
) -> None:
    load = succeed(loading, start_run(loading), "launch")

    assert re.fullmatch(r"20191101-[0-9a-f]{8}", load["load_id"])
    assert load["landing_day"] == DAY
    assert load["manifest"] == f"gs://{bucket.name}/loads/{DAY}/{load['load_id']}.json"
    job = dataflow.get(load["job_id"])
    assert job["name"] == NAME
    assert job["currentState"] == "JOB_STATE_RUNNING"
    assert job["labels"] == {"app": "shopstream", "landing_day": DAY, "load_id": load["load_id"]}
    parameters = job["environment"]["sdkPipelineOptions"]["options"]
    assert parameters["landing"] == f"gs://{bucket.name}/landing/events/{DAY}"
    assert parameters["accepted"] == f"gs://{bucket.name}/accepted/events/{DAY}/{load['load_id']}"


def test_the_launch_gives_airflows_ui_the_link_to_the_job(loading: DAG) -> None:
    from airflow.models.taskinstancekey import TaskInstanceKey

    run_id = start_run(loading)
    load = succeed(loading, run_id, "launch")

    task = stored(loading).task_dict["launch"]
    [link] = task.operator_extra_links
    url = link.get_link(task, ti_key=TaskInstanceKey(loading.dag_id, "launch", run_id))
    assert url.endswith(f"/dataflow/jobs/{settings().region}/{load['job_id']}?project={settings().project}")


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


def test_a_second_try_ends_what_the_first_left_and_loads_under_a_new_id(
    dataflow: Service, loading: DAG
) -> None:
    run_id = start_run(loading)
    first = succeed(loading, run_id, "launch")
    next_try(run_id, "launch")

    second = succeed(loading, run_id, "launch")

    assert second["load_id"] != first["load_id"]
    assert dataflow.get(first["job_id"])["currentState"] == "JOB_STATE_CANCELLED"
    assert [job["id"] for job in dataflow.list(filter="ACTIVE")["jobs"]] == [second["job_id"]]


def test_a_launch_leaves_jobs_alone_whose_names_only_begin_like_its_own(
    dataflow: Service, loading: DAG, bucket: storage.Bucket
) -> None:
    template = f"gs://{bucket.name}/{layout.template('local', 'load_events')}"
    parameters = load_events_launch(settings(), date(2019, 11, 2), "20191102-00000000")["parameters"]
    other = dataflow.launch(f"{NAME}-canary", template, parameters=parameters)

    load = succeed(loading, start_run(loading), "launch")

    assert dataflow.get(other["id"])["currentState"] == "JOB_STATE_RUNNING"
    assert [job["id"] for job in DataflowHook().active_jobs(NAME)] == [load["job_id"]]


def test_a_killed_launch_cancels_its_job(dataflow: Service, loading: DAG) -> None:
    result = run(loading, start_run(loading), "launch")

    result.ti.task.on_kill()

    job = dataflow.list(name=NAME)["jobs"][0]
    assert job["currentState"] == "JOB_STATE_CANCELLED"


def test_a_refused_launch_fails_with_dataflows_reason(loading: DAG, bucket: storage.Bucket) -> None:
    with_one_more = {**METADATA, "parameters": [*METADATA["parameters"], {"name": "colour"}]}
    _upload(bucket, with_one_more)

    result = run(loading, start_run(loading), "launch")

    assert result.state == "up_for_retry"
    assert "colour: Missing required parameter" in str(result.error)


def test_a_landing_day_that_is_no_day_fails_the_launch(loading: DAG) -> None:
    result = run(loading, start_run(loading, landing_day="2019-11-31"), "launch")

    assert "day is out of range for month" in str(result.error)


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


def test_the_launch_the_template_and_the_pipeline_agree_on_the_parameters() -> None:
    parameters = load_events_launch(settings(), date(2019, 11, 1), "20191101-ab12cd34")["parameters"]

    check_parameters(
        parse_template(json.dumps(spec(METADATA, "beam_jobs.load_events")).encode(), ""), parameters
    )
    options = [
        f"--{parameter['name']}=1" for parameter in METADATA["parameters"] if parameter.get("isOptional")
    ]
    _, not_known = parse_options([*(f"--{name}={value}" for name, value in parameters.items()), *options])
    assert not_known == []
    required = [parameter["name"] for parameter in METADATA["parameters"] if not parameter.get("isOptional")]
    assert required == list(parameters)


@pytest.mark.usefixtures("bare_environment")
def test_workers_run_the_image_that_a_deployment_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    place = read_place("small", "my-shop")
    monkeypatch.setenv("SHOPSTREAM_PROJECT", "my-shop")
    monkeypatch.setenv("SHOPSTREAM_REGION", place.region)
    monkeypatch.setenv("SHOPSTREAM_TEMPLATE_VERSION", "v-1")

    load = load_events_launch(settings(), date(2019, 11, 1), "20191101-ab12cd34")
    stream = stream_events_launch(settings(), "v-2", update=False)

    assert load["environment"]["sdkContainerImage"] == place.image("load_events", "v-1")
    assert stream["environment"]["sdkContainerImage"] == place.image("stream_events", "v-2")


def test_the_launch_and_the_template_of_the_stream_agree_on_the_parameters() -> None:
    metadata = json.loads((ROOT / "beam_jobs" / "templates" / "stream_events.json").read_text())
    template = parse_template(json.dumps(spec(metadata, "beam_jobs.stream_events")).encode(), "")
    launch = stream_events_launch(settings(), "v-1", update=False)

    check_parameters(template, launch["parameters"])
    options = [f"--{name}={value}" for name, value in launch["parameters"].items()]
    _, not_known = stream_events.parse_options(options)

    assert not_known == []
    assert template.streaming
    assert launch["jobName"] == "shop-stream"
    assert launch["containerSpecGcsPath"].endswith("/templates/v-1/stream_events.json")
    assert launch["environment"]["additionalUserLabels"] == {"app": "shopstream", "template_version": "v-1"}
    assert launch["environment"]["sdkContainerImage"].endswith("/stream_events:v-1")
    assert "update" not in launch
    assert stream_events_launch(settings(), "v-1", update=True) == launch | {"update": True}


def stored(dag: DAG) -> Any:
    """The DAG as scheduler and web server know it."""
    from airflow.models.serialized_dag import SerializedDagModel

    row = SerializedDagModel.get(dag.dag_id)
    assert row is not None
    return row.dag


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


def _upload(bucket: storage.Bucket, metadata: dict[str, Any]) -> None:
    template = json.dumps(spec(metadata, "tests.local.dataflow.pipelines.load_day"))
    bucket.blob(f"templates/{settings().template_version}/load_events.json").upload_from_string(template)


def _without_client_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Google's client give up at once instead of after half a minute."""
    extra = {"is_anonymous": True, "project": settings().project, "num_retries": 0}
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
