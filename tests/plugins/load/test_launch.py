"""Launching loads: real task runs, against a local Dataflow over HTTP."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pytest
from airflow.sdk import DAG
from google.cloud import storage

from beam_jobs.load_events import parse_options
from infra.deploy import read_target
from local.dataflow import spec
from local.dataflow.templates import check_parameters, parse_template
from shopstream import layout
from shopstream.gcp.dataflow import DataflowHook
from shopstream.load.launch import load_events_launch
from shopstream.settings import settings
from shopstream.stream.jobs import stream_events_launch
from tests.airflow_home import stored
from tests.local.dataflow.service import Service
from tests.plugins.day_loads import (
    DAY,
    METADATA,
    NAME,
    await_end,
    next_try,
    run,
    start_run,
    succeed,
    tell,
    upload_load_template,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("airflow_home", "dataflow")]


def fail(told: Path, job_id: str, reason: str) -> None:
    """Let a job that runs fail; one that is launched after it runs."""
    tell(told, reason)
    await_end(job_id)
    (told / DAY).unlink()


def options_of(dataflow: Service, job_id: str) -> dict[str, str]:
    parameters: dict[str, str] = dataflow.get(job_id)["environment"]["sdkPipelineOptions"]["options"]
    return parameters


def test_a_launch_starts_the_days_job_and_returns_where_its_manifest_will_be(
    dataflow: Service, loading: DAG, bucket: storage.Bucket
) -> None:
    load = succeed(loading, start_run(loading), "launch")

    assert re.fullmatch(r"20191101-t\d{20}", load["load_id"])
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


def test_a_job_that_fails_by_chance_is_launched_anew_once_a_failure_and_the_good_load_goes_on(
    dataflow: Service, loading: DAG, told: Path
) -> None:
    run_id = start_run(loading)
    load = succeed(loading, run_id, "launch")
    fail(told, load["job_id"], "ServiceUnavailable: 503 The service is currently unavailable.")

    for _ in range(2):  # the second look finds what the first has launched
        assert run(loading, run_id, "wait_for_load").state == "up_for_reschedule"
        [anew] = DataflowHook().active_jobs(NAME)
        assert dataflow.get(anew["id"])["labels"]["load_id"] == f"{load['load_id']}r1"
    tell(told, "done")
    await_end(anew["id"])

    good = succeed(loading, run_id, "wait_for_load")
    assert good == load | {
        "load_id": f"{load['load_id']}r1",
        "job_id": anew["id"],
        "manifest": load["manifest"].replace(load["load_id"], f"{load['load_id']}r1"),
    }
    parse_options([f"--{name}={value}" for name, value in options_of(dataflow, anew["id"]).items()])


def test_a_load_whose_jobs_all_fail_is_launched_anew_twice_and_then_given_up(
    dataflow: Service, loading: DAG, told: Path
) -> None:
    run_id = start_run(loading)
    failed = succeed(loading, run_id, "launch")["job_id"]
    for _ in range(2):
        fail(told, failed, "Workers were lost.")
        assert run(loading, run_id, "wait_for_load").state == "up_for_reschedule"
        [anew] = DataflowHook().active_jobs(NAME)
        failed = anew["id"]
    fail(told, failed, "Workers were lost again.")

    result = run(loading, run_id, "wait_for_load")

    assert result.state == "failed"
    assert "Workers were lost again." in str(result.error)
    assert DataflowHook().active_jobs(NAME) == []


def test_a_failed_job_is_launched_anew_before_the_loads_that_wait_for_a_place_and_one_above_them(
    dataflow: Service, loading: DAG, bucket: storage.Bucket, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start_run(loading)
    fail(told, succeed(loading, run_id, "launch")["job_id"], "Workers were lost.")
    monkeypatch.setenv("SHOPSTREAM_MAX_LOADS", "1")
    template = f"gs://{bucket.name}/{layout.template('local', 'load_events')}"

    def launch_other(day: date) -> str:
        parameters = load_events_launch(settings(), day, f"{day:%Y%m%d}-00000000")["parameters"]
        other: str = dataflow.launch(f"load-events-{day}", template, parameters=parameters)["id"]
        return other

    others = [launch_other(date(2019, 11, day)) for day in (2, 3)]
    waiting = start_run(loading, landing_day="2019-11-04")

    assert run(loading, run_id, "wait_for_load").state == "up_for_reschedule"
    assert DataflowHook().active_jobs(NAME) == [], "the others take the only place and the one above"
    dataflow.request_state(others[0], "JOB_STATE_CANCELLED")
    await_end(others[0])
    assert run(loading, waiting, "launch").state == "up_for_reschedule"
    assert run(loading, run_id, "wait_for_load").state == "up_for_reschedule"
    assert len(DataflowHook().active_jobs(NAME)) == 1


@pytest.mark.parametrize(
    "reason",
    [
        "beam_jobs.contract.ContractError: events.csv: the header has extra columns 'colour'.",
        "beam_jobs.pseudonyms.PseudonymKeyError: /pseudonym.key cannot be read: No such file or directory.",
        "beam_jobs.spanner_sink.SpannerTableError: Spanner refuses row after row.",
        "google.api_core.exceptions.NotFound: 404 Database not found: shopstream",
        "google.api_core.exceptions.PermissionDenied: 403 Caller is missing IAM permission.",
    ],
)
def test_a_job_whose_input_or_table_is_at_fault_is_not_launched_anew(
    loading: DAG, told: Path, reason: str
) -> None:
    run_id = start_run(loading)
    fail(told, succeed(loading, run_id, "launch")["job_id"], reason)

    result = run(loading, run_id, "wait_for_load")

    assert result.state == "failed"
    assert reason in str(result.error)
    assert DataflowHook().active_jobs(NAME) == []


def test_a_failed_job_is_not_launched_anew_once_another_load_of_the_day_has_begun(
    loading: DAG, told: Path
) -> None:
    overtaken = start_run(loading)
    fail(told, succeed(loading, overtaken, "launch")["job_id"], "Workers were lost.")
    newer = succeed(loading, start_run(loading), "launch")

    assert run(loading, overtaken, "wait_for_load").state == "failed"
    assert [job["id"] for job in DataflowHook().active_jobs(NAME)] == [newer["job_id"]]


def test_a_refused_launch_fails_with_dataflows_reason(loading: DAG, bucket: storage.Bucket) -> None:
    with_one_more = {**METADATA, "parameters": [*METADATA["parameters"], {"name": "colour"}]}
    upload_load_template(bucket, with_one_more)

    result = run(loading, start_run(loading), "launch")

    assert result.state == "up_for_retry"
    assert "colour: Missing required parameter" in str(result.error)


def test_a_landing_day_that_is_no_day_fails_the_launch(loading: DAG) -> None:
    result = run(loading, start_run(loading, landing_day="2019-11-31"), "launch")

    assert "day is out of range for month" in str(result.error)


def test_the_launch_the_template_and_the_pipeline_agree_on_the_parameters() -> None:
    parameters = load_events_launch(settings(), date(2019, 11, 1), "20191101-ab12cd34")["parameters"]

    check_parameters(
        parse_template(json.dumps(spec(METADATA, "beam_jobs.load_events")).encode(), ""), parameters
    )
    required = [parameter["name"] for parameter in METADATA["parameters"] if not parameter.get("isOptional")]
    assert required == list(parameters)
    optional = {"range_bytes": "1", "pseudonym_key": "/pseudonym.key"}
    assert {parameter["name"] for parameter in METADATA["parameters"]} == {*parameters, *optional}
    _, not_known = parse_options([f"--{name}={value}" for name, value in {**parameters, **optional}.items()])
    assert not_known == []


def test_both_launches_name_the_newest_key_of_pseudonyms_and_none_if_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def launches() -> list[dict[str, str]]:
        load = load_events_launch(settings(), date(2019, 11, 1), "20191101-ab12cd34")
        return [load["parameters"], stream_events_launch(settings(), "v-1", update=False)["parameters"]]

    without = launches()
    newest = "projects/p/secrets/shopstream-pseudonym-key/versions/2"
    monkeypatch.setenv("SHOPSTREAM_PSEUDONYM_KEYS", f"{newest},/old.key")
    assert launches() == [parameters | {"pseudonym_key": newest} for parameters in without]
    template = parse_template(json.dumps(spec(METADATA, "beam_jobs.load_events")).encode(), "")
    check_parameters(template, launches()[0])


def test_both_launches_say_themselves_what_the_workers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_DATAFLOW_SUBNETWORK", "regions/r/subnetworks/s")
    monkeypatch.setenv("SHOPSTREAM_TEMP_BUCKET", "dataflows-own")
    for pipeline, workers in (("BATCH", 4), ("STREAM", 2)):
        monkeypatch.setenv(f"SHOPSTREAM_{pipeline}_SERVICE_ACCOUNT", f"{pipeline}@x")
        monkeypatch.setenv(f"SHOPSTREAM_{pipeline}_MACHINE_TYPE", "n2-standard-2")
        monkeypatch.setenv(f"SHOPSTREAM_{pipeline}_MAX_WORKERS", str(workers))

    launches = {
        "BATCH": load_events_launch(settings(), date(2019, 11, 1), "20191101-ab12cd34"),
        "STREAM": stream_events_launch(settings(), "v-1", update=False),
    }

    for pipeline, launch in launches.items():
        assert (
            launch["environment"].items()
            >= {
                "tempLocation": "gs://dataflows-own/temp",
                "stagingLocation": "gs://dataflows-own/staging",
                "serviceAccountEmail": f"{pipeline}@x",
                "subnetwork": "regions/r/subnetworks/s",
                "ipConfiguration": "WORKER_IP_PRIVATE",
                "machineType": "n2-standard-2",
                "maxWorkers": 4 if pipeline == "BATCH" else 2,
            }.items()
        )


def test_workers_run_the_image_that_a_deployment_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = read_target("small", "my-shop")
    monkeypatch.setenv("SHOPSTREAM_PROJECT", "my-shop")
    monkeypatch.setenv("SHOPSTREAM_REGION", deployed.region)
    monkeypatch.setenv("SHOPSTREAM_TEMPLATE_VERSION", "v-1")

    load = load_events_launch(settings(), date(2019, 11, 1), "20191101-ab12cd34")

    assert load["environment"]["sdkContainerImage"] == deployed.image("load_events", "v-1")
