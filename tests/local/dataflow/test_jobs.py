"""The local Dataflow, driven over HTTP with Google's own client, running real child processes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from google.cloud import storage
from googleapiclient.errors import HttpError

from local.dataflow import jobs as job_table
from local.dataflow import spec
from local.dataflow.jobs import Jobs, running_workers
from tests.local.dataflow.service import (
    Service,
    serving,
    until,
    upload_template,
)

pytestmark = pytest.mark.integration

WAIT_FOR_FILE = "tests.local.dataflow.pipelines.wait_for_file"
HARD_TO_BUILD = "tests.local.dataflow.pipelines.hard_to_build"
READ_LETTERS = "tests.local.dataflow.pipelines.read_letters"
UNTIL = {"name": "until", "label": "Until", "helpText": "Runs until this file exists."}
TEXT = {"name": "text", "label": "Text", "helpText": "What to read.", "regexes": ["[a-z0-9]+"]}


@pytest.fixture(scope="module")
def server(gcs_emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("state")) as service:
        yield service


@pytest.fixture
def dataflow(server: Service) -> Iterator[Service]:
    """The module's service, asked about a project of the test's own."""
    service = replace(server, project=f"test-{uuid.uuid4().hex[:12]}")
    yield service
    service.cancel_all()


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """The file that a waiting job waits for; its neighbour `pids` lists the workers that ran."""
    return tmp_path / "until"


@pytest.fixture
def waiting(bucket: storage.Bucket) -> str:
    """A batch template whose job waits for the file that its parameter `until` names."""
    return upload_template(bucket, WAIT_FOR_FILE, UNTIL)


@pytest.fixture
def stream(bucket: storage.Bucket) -> str:
    """A streaming template whose job runs until it is asked to drain."""
    return upload_template(bucket, WAIT_FOR_FILE, UNTIL, streaming=True, path="templates/local/stream.json")


@pytest.fixture
def reading(bucket: storage.Bucket) -> str:
    """A template of a real Beam pipeline, which reads letters and fails on a digit."""
    return upload_template(bucket, READ_LETTERS, TEXT, path="templates/local/read.json")


def test_a_job_runs_to_done_and_shows_what_it_was_given(dataflow: Service, reading: str) -> None:
    labels = {"landing_day": "2019-11-01"}
    environment = {"additionalUserLabels": labels, "tempLocation": "gs://bucket/temp"}
    launched = dataflow.launch("read", reading, parameters={"text": "abc"}, environment=environment)

    job = dataflow.await_state(launched["id"], "JOB_STATE_DONE", "JOB_STATE_FAILED")

    assert job["currentState"] == "JOB_STATE_DONE", dataflow.messages(job["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d_\d\d_\d\d-\d+", job["id"])
    assert job["type"] == "JOB_TYPE_BATCH"
    assert job["labels"] == labels
    assert job["environment"]["sdkPipelineOptions"] == {"options": {"text": "abc"}}
    summary = _without_view(dataflow, job["id"])
    assert summary["currentState"] == "JOB_STATE_DONE"
    assert not summary.keys() & {"labels", "environment", "replaceJobId"}, "Dataflow does not promise them"
    assert job["createTime"] <= job["startTime"] <= job["currentStateTime"]
    assert "Job state: JOB_STATE_RUNNING" in dataflow.messages(job["id"])
    assert dataflow.messages(job["id"], minimumImportance="JOB_MESSAGE_ERROR") == ""
    assert f'<a href="/jobs/{job["id"]}">read</a>' in requests.get(dataflow.url, timeout=30).text
    page = requests.get(f"{dataflow.url}/jobs/{job['id']}", timeout=30)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "<th>text<td>abc" in page.text
    assert "Job state: JOB_STATE_RUNNING" in page.text


def _without_view(dataflow: Service, job_id: str) -> dict[str, Any]:
    path = "/v1b3/projects/{projectId}/locations/{location}/jobs/".format(**dataflow.location)
    answer = requests.get(f"{dataflow.url}{path}{job_id}", timeout=30)
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"machine_type": "n2-standard-2"}, 'Unknown name "machine_type"'),
        ({"maxWorkers": "4"}, 'environment.maxWorkers\': "4"'),
        ({"maxWorkers": 1001}, "environment.maxWorkers': 1001"),
        ({"tempLocation": "/tmp/load"}, "environment.tempLocation"),
        ({"ipConfiguration": "PRIVATE"}, "environment.ipConfiguration"),
        ({"additionalUserLabels": {"Landing day": "1"}}, "environment.additionalUserLabels"),
        ({"additionalUserLabels": {"version": "v1.2"}}, "environment.additionalUserLabels"),
        ({"sdkContainerImage": "load_events"}, "environment.sdkContainerImage"),
        ({"streamingMode": "STREAMING_MODE_AT_LEAST_ONCE"}, "only available with Streaming Engine"),
    ],
)
def test_an_environment_that_dataflow_would_not_take_is_refused_by_field_and_value(
    dataflow: Service, stream: str, environment: dict[str, Any], words: str, tmp_path: Path
) -> None:
    until_there = {"until": str(tmp_path / "there")}
    with pytest.raises(HttpError) as refused:
        dataflow.launch("read", stream, parameters=until_there, environment=environment)

    assert refused.value.resp.status == 400
    assert words in refused.value.reason
    assert dataflow.list(filter="ACTIVE", name="read") == {}


def test_a_failed_job_tells_the_exception_and_where_its_log_is(dataflow: Service, reading: str) -> None:
    launched = dataflow.launch("read", reading, parameters={"text": "ab1"})

    dataflow.await_state(launched["id"], "JOB_STATE_FAILED")

    error = dataflow.messages(launched["id"], minimumImportance="JOB_MESSAGE_ERROR")
    log = dataflow.state_dir / launched["id"] / "log"
    assert error.startswith("ValueError: '1' is no letter")
    assert error.endswith(f"Its log: {log}")
    assert "Traceback (most recent call last)" in log.read_text()


def test_a_job_runs_the_code_that_lies_there_when_it_starts(
    gcs_emulator: str, bucket: storage.Bucket, tmp_path: Path
) -> None:
    pipeline = tmp_path / "edited_pipeline.py"
    code = "class Ended:\n    wait_until_finish = lambda self: {state!r}\nrun = lambda argv: Ended()\n"
    path = os.pathsep.join((os.environ.get("PYTHONPATH", ""), str(tmp_path)))
    template = upload_template(bucket, "edited_pipeline")
    with serving(tmp_path / "state", environment={"PYTHONPATH": path}) as service:
        # Texts of two lengths: by these and the second alone Python tells an edit from what it has compiled.
        for state, ended in (("FAILED", "JOB_STATE_FAILED"), ("DONE", "JOB_STATE_DONE")):
            pipeline.write_text(code.format(state=state))
            job = service.launch("edited", template)
            service.await_state(job["id"], ended)


def test_a_pipeline_that_cannot_be_imported_fails_with_its_name(
    dataflow: Service, bucket: storage.Bucket
) -> None:
    launched = dataflow.launch("none", upload_template(bucket, "beam_jobs.no_such_pipeline"))

    dataflow.await_state(launched["id"], "JOB_STATE_FAILED")

    assert "No module named 'beam_jobs.no_such_pipeline'" in dataflow.messages(launched["id"])


def test_a_pipeline_that_refuses_its_options_fails_with_what_it_printed(
    dataflow: Service, bucket: storage.Bucket
) -> None:
    launched = dataflow.launch("wait", upload_template(bucket, WAIT_FOR_FILE))

    dataflow.await_state(launched["id"], "JOB_STATE_FAILED")

    error = dataflow.messages(launched["id"], minimumImportance="JOB_MESSAGE_ERROR")
    assert "exited with 2" in error
    assert "error: the following arguments are required: --until" in error


def test_a_worker_that_is_killed_leaves_a_failed_job_that_says_so(
    dataflow: Service, waiting: str, flag: Path
) -> None:
    launched = dataflow.launch("wait", waiting, parameters={"until": str(flag)})
    os.kill(_first_pid(flag), signal.SIGKILL)

    dataflow.await_state(launched["id"], "JOB_STATE_FAILED")

    error = dataflow.messages(launched["id"], minimumImportance="JOB_MESSAGE_ERROR")
    assert "was killed by SIGKILL" in error


def test_a_second_active_job_of_one_name_is_refused_in_dataflows_words(
    dataflow: Service, waiting: str, flag: Path
) -> None:
    first = dataflow.launch("load-events-2019-11-01", waiting, parameters={"until": str(flag)})

    refusal = _refused(dataflow, "load-events-2019-11-01", waiting, parameters={"until": str(flag)})

    assert refusal["code"] == 409
    assert refusal["status"] == "ALREADY_EXISTS"
    assert re.fullmatch(
        r"\(\w+\): The workflow could not be created\. Causes: \(\w+\): There is already an active job "
        r"named load-events-2019-11-01\. If you want to submit a second job, try again by setting a "
        r"different name\.",
        refusal["message"],
    )
    assert [job["id"] for job in dataflow.list()["jobs"]] == [first["id"]]


def test_a_name_is_free_again_after_its_job_has_ended(dataflow: Service, waiting: str, flag: Path) -> None:
    flag.touch()
    first = dataflow.launch("again", waiting, parameters={"until": str(flag)})
    dataflow.await_state(first["id"], "JOB_STATE_DONE")

    second = dataflow.launch("again", waiting, parameters={"until": str(flag)})

    dataflow.await_state(second["id"], "JOB_STATE_DONE")
    assert second["id"] > first["id"]


def test_a_name_that_only_begins_like_an_active_one_is_another_job(
    dataflow: Service, waiting: str, flag: Path
) -> None:
    canary = dataflow.launch("shop-stream-canary", waiting, parameters={"until": str(flag)})
    stream = dataflow.launch("shop-stream", waiting, parameters={"until": str(flag)})

    assert [job["id"] for job in dataflow.list(name="shop-stream")["jobs"]] == [stream["id"]]
    assert [job["id"] for job in dataflow.list(filter="ACTIVE")["jobs"]] == [canary["id"], stream["id"]]


def test_launches_at_the_same_moment_give_one_job(dataflow: Service, waiting: str, flag: Path) -> None:
    def launch(_: int) -> int:
        try:
            dataflow.launch("one", waiting, parameters={"until": str(flag)})
        except HttpError as error:
            return int(error.resp.status)
        return 200

    with ThreadPoolExecutor(8) as pool:
        codes = sorted(pool.map(launch, range(8)))

    assert codes == [200] + [409] * 7
    assert len(dataflow.list()["jobs"]) == 1
    _first_pid(flag)
    assert len(flag.with_name("pids").read_text().split()) == 1


@pytest.mark.parametrize(
    ("parameters", "violation"),
    [
        ({}, {"parameter": "text", "description": "Missing required parameter"}),
        (
            {"text": "abc", "colour": "red"},
            {"parameter": "colour", "description": "Unrecognized parameter"},
        ),
        ({"text": "A!"}, {"parameter": "text", "description": "Parameter didn't match regex '[a-z0-9]+'"}),
    ],
)
def test_parameters_that_break_the_metadata_are_refused_with_every_violation(
    dataflow: Service, reading: str, parameters: dict[str, str], violation: dict[str, str]
) -> None:
    refusal = _refused(dataflow, "read", reading, parameters=parameters)

    assert refusal["code"] == 400
    assert refusal["details"][0]["parameterViolations"] == [violation]
    assert f"{violation['parameter']}: {violation['description']}" in refusal["message"]
    assert dataflow.list() == {}


def test_a_launch_of_a_template_that_is_missing_or_no_template_is_refused(
    dataflow: Service, bucket: storage.Bucket
) -> None:
    bucket.blob("broken.json").upload_from_string("{")
    bucket.blob("container.json").upload_from_string(
        json.dumps(spec({}, "m") | {"image": "gcr.io/shop/load"})
    )

    def message(path: str) -> str:
        return str(_refused(dataflow, "job", f"gs://{bucket.name}/{path}")["message"])

    assert message("none.json") == f"Unable to open template file: gs://{bucket.name}/none.json"
    assert message("broken.json").startswith(f"Invalid template file: gs://{bucket.name}/broken.json")
    assert "names the image 'gcr.io/shop/load'" in message("container.json")


def test_a_request_of_the_wrong_shape_is_refused_with_the_field(dataflow: Service, waiting: str) -> None:
    assert "jobName" in _refused(dataflow, "Upper_Case", waiting)["message"]
    assert "launchParameter.colour" in _refused(dataflow, "job", waiting, colour="red")["message"]


def test_an_unknown_job_is_not_found(dataflow: Service) -> None:
    for question in (dataflow.get, dataflow.messages):
        with pytest.raises(HttpError, match="Information about job 2019-11-01_00_00_00-1 could not be found"):
            question("2019-11-01_00_00_00-1")


def test_a_cancelled_job_ends_and_its_worker_with_it(dataflow: Service, waiting: str, flag: Path) -> None:
    launched = dataflow.launch("wait", waiting, parameters={"until": str(flag)})
    pid = _first_pid(flag)

    assert (
        dataflow.request_state(launched["id"], "JOB_STATE_CANCELLED")["currentState"]
        == "JOB_STATE_CANCELLING"
    )

    dataflow.await_state(launched["id"], "JOB_STATE_CANCELLED")
    assert not psutil.pid_exists(pid)
    with pytest.raises(HttpError, match=r"Operation cancel not allowed .* ended as JOB_STATE_CANCELLED"):
        dataflow.request_state(launched["id"], "JOB_STATE_CANCELLED")


def test_a_stream_drains_and_a_batch_job_does_not(
    dataflow: Service, waiting: str, stream: str, flag: Path
) -> None:
    batch_job = dataflow.launch("batch", waiting, parameters={"until": str(flag)})
    stream_job = dataflow.launch("stream", stream, parameters={"until": str(flag)})
    assert stream_job["type"] == "JOB_TYPE_STREAMING"

    with pytest.raises(HttpError, match="it is a batch job; cancel it instead"):
        dataflow.request_state(batch_job["id"], "JOB_STATE_DRAINED")
    # At once, before the worker can have started: the request must wait for it, not kill it.
    assert (
        dataflow.request_state(stream_job["id"], "JOB_STATE_DRAINED")["currentState"] == "JOB_STATE_DRAINING"
    )

    dataflow.await_state(stream_job["id"], "JOB_STATE_DRAINED")
    assert dataflow.get(batch_job["id"])["currentState"] == "JOB_STATE_RUNNING"


def test_an_update_replaces_the_running_stream_after_it_has_drained(
    dataflow: Service, stream: str, flag: Path
) -> None:
    old = dataflow.launch("shop-stream", stream, parameters={"until": str(flag)})
    _first_pid(flag)

    new = dataflow.launch("shop-stream", stream, parameters={"until": str(flag)}, update=True)

    assert new["replaceJobId"] == old["id"]
    ended = dataflow.await_state(old["id"], "JOB_STATE_UPDATED")
    assert ended["replacedByJobId"] == new["id"]
    started = dataflow.await_state(new["id"], "JOB_STATE_RUNNING")
    assert started["startTime"] >= ended["currentStateTime"]


@pytest.mark.parametrize(
    ("mapping", "missing"),
    [
        ({}, "Take, Write/Send"),
        ({"Take": "Get"}, "Write/Send"),
        ({"Take": "Get", "Writ": ""}, "Write/Send"),
        ({"Take": "Get", "Write": "Store"}, None),
        ({"Take": "Get", "Write": ""}, None),
        ({"Take": "Get", "Write": "", "Write/Send": "None"}, "Write/Send"),
    ],
)
def test_an_update_that_lacks_a_step_of_the_stream_fails_unless_it_says_what_became_of_it(
    dataflow: Service, stream: str, flag: Path, mapping: dict[str, str], missing: str | None
) -> None:
    flag.with_name("steps").write_text("Read\nTake\nWrite/Send\n")
    old = dataflow.launch("shop-stream", stream, parameters={"until": str(flag)})
    _first_pid(flag)
    flag.with_name("steps").write_text("Read\nGet\nStore/Send\nCount")

    update = partial(dataflow.launch, "shop-stream", stream, parameters={"until": str(flag)}, update=True)
    new = update(transformNameMappings=mapping)

    if missing is None:
        dataflow.await_state(old["id"], "JOB_STATE_UPDATED")
        dataflow.await_state(new["id"], "JOB_STATE_RUNNING")
        return
    dataflow.await_state(new["id"], "JOB_STATE_FAILED")
    assert (
        f"Workflow failed. Causes: The new job is not compatible with {old['id']}. The original job (if it "
        f"existed) has not been aborted., The new job is missing steps {missing}. If"
    ) in dataflow.messages(new["id"], minimumImportance="JOB_MESSAGE_ERROR")
    assert new["replaceJobId"] == old["id"]
    assert "replacedByJobId" not in dataflow.get(old["id"])
    assert dataflow.get(old["id"])["currentState"] == "JOB_STATE_RUNNING"
    # Once it has all steps, it replaces the stream that went on.
    flag.with_name("steps").write_text("Read\nTake\nWrite/Send\nCount")
    update()
    dataflow.await_state(old["id"], "JOB_STATE_UPDATED")


@pytest.mark.parametrize(
    ("names_its_file", "told"),
    [(False, "the following arguments are required: --until"), (True, "IsADirectoryError: ")],
)
def test_an_update_that_cannot_be_built_fails_with_the_reason_and_the_stream_goes_on(
    dataflow: Service, bucket: storage.Bucket, stream: str, flag: Path, names_its_file: bool, told: str
) -> None:
    parameters = {"until": str(flag)}
    old = dataflow.launch("shop-stream", stream, parameters=parameters)
    _first_pid(flag)
    flag.with_name("steps").mkdir()
    optional = upload_template(
        bucket, WAIT_FOR_FILE, {**UNTIL, "isOptional": True}, streaming=True, path="templates/local/v2.json"
    )

    new = dataflow.launch(
        "shop-stream", optional, parameters=parameters if names_its_file else {}, update=True
    )

    dataflow.await_state(new["id"], "JOB_STATE_FAILED")
    assert told in dataflow.messages(new["id"], minimumImportance="JOB_MESSAGE_ERROR")
    assert dataflow.get(old["id"])["currentState"] == "JOB_STATE_RUNNING"


@pytest.mark.parametrize(
    ("argument", "names", "told"),
    [
        ("--exit=silently", None, "exited with 3"),
        ("--hang=before", None, "was not built within 1 s"),
        ("--hang=after", ["Read"], None),
    ],
)
def test_a_pipeline_that_exits_or_hangs_as_it_is_built_is_told_of_within_seconds_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, names: list[str] | None, told: str | None
) -> None:
    # On a busy machine those that do not hang may take longer.
    if argument == "--hang=before":
        monkeypatch.setattr(job_table, "BUILD_SECONDS", 1)
    monkeypatch.setattr(job_table, "STOP_GRACE_SECONDS", 1)
    table = Jobs(tmp_path, 1)
    there = psutil.Process().children(recursive=True)
    try:
        with ThreadPoolExecutor(1) as asking:
            found, error = asking.submit(table._steps, HARD_TO_BUILD, [argument]).result(20)
    finally:
        left = [child for child in psutil.Process().children(recursive=True) if child not in there]
        for child in left:
            child.kill()
        table.close()
    assert (found, left) == (names, [])
    assert (error is None) if told is None else (told in str(error))


@pytest.mark.parametrize("files", [0, 2])
def test_a_pipeline_for_whose_process_there_are_no_files_left_is_not_built_and_told_of(
    tmp_path: Path, files: int
) -> None:
    table = Jobs(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest:
        first_free = lowest.fileno()
    opened = set(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + files, limits[1]))
        found, error = table._steps(HARD_TO_BUILD, ["--hang=after"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        table.close()
    assert found is None
    assert "Too many open files" in str(error)
    assert set(os.listdir("/proc/self/fd")) <= opened


def test_an_update_without_a_running_stream_of_the_name_is_refused(
    dataflow: Service, waiting: str, stream: str, flag: Path
) -> None:
    assert _refused(dataflow, "none", stream, parameters={"until": str(flag)}, update=True)["code"] == 404
    dataflow.launch("batch", waiting, parameters={"until": str(flag)})
    refusal = _refused(dataflow, "batch", waiting, parameters={"until": str(flag)}, update=True)
    assert "only a streaming job can be updated" in refusal["message"]


def test_more_batch_jobs_than_may_run_wait_their_turn_and_a_stream_does_not(
    dataflow: Service, waiting: str, stream: str, flag: Path
) -> None:
    names = [f"load-{number}" for number in range(4)]
    jobs = [dataflow.launch(name, waiting, parameters={"until": str(flag)}) for name in names]
    live = dataflow.launch("stream", stream, parameters={"until": str(flag)})

    states = [dataflow.get(job["id"])["currentState"] for job in [*jobs, live]]
    assert states == ["JOB_STATE_RUNNING"] * 2 + ["JOB_STATE_QUEUED"] * 2 + ["JOB_STATE_RUNNING"]
    dataflow.request_state(jobs[2]["id"], "JOB_STATE_CANCELLED")
    flag.touch()

    for job, state in zip(jobs, ["DONE", "DONE", "CANCELLED", "DONE"], strict=True):
        dataflow.await_state(job["id"], f"JOB_STATE_{state}")


def test_lists_are_filtered_and_paged_without_a_gap(dataflow: Service, waiting: str, flag: Path) -> None:
    there = flag.with_name("there")
    there.touch()
    ended = [dataflow.launch(f"ended-{n}", waiting, parameters={"until": str(there)})["id"] for n in range(3)]
    for job_id in ended:
        dataflow.await_state(job_id, "JOB_STATE_DONE")
    active = [
        dataflow.launch(f"active-{n}", waiting, parameters={"until": str(flag)})["id"] for n in range(3)
    ]

    def pages(**query: Any) -> list[list[str]]:
        found: list[list[str]] = []
        token = None
        while token or not found:
            answer = dataflow.list(pageSize=2, pageToken=token, **query)
            found.append([job["id"] for job in answer["jobs"]])
            token = answer.get("nextPageToken")
        return found

    assert pages(filter="ACTIVE") == [active[:2], active[2:]]
    assert list(chain.from_iterable(pages())) == [*reversed(active), *reversed(ended)]
    assert pages(name="ended-1") == [[ended[1]]]
    assert "labels" not in dataflow.list()["jobs"][0]
    with pytest.raises(HttpError, match="pageToken 'nonsense' is not valid"):
        dataflow.list(pageToken="nonsense")


def test_a_service_killed_amid_jobs_knows_their_true_ends_when_it_is_back(
    gcs_emulator: str, waiting: str, tmp_path: Path
) -> None:
    state_dir = tmp_path / "state"
    flags = {
        name: tmp_path / name / "until" for name in ("done", "lives", "ends-meanwhile", "dies-meanwhile")
    }
    for path in flags.values():
        path.parent.mkdir()
    flags["done"].touch()
    limit = {"SHOPSTREAM_DATAFLOW_MAX_RUNNING": "3"}
    with serving(state_dir, environment=limit) as service:
        jobs = {
            name: service.launch(name, waiting, parameters={"until": str(flags["done"])}) for name in ["done"]
        }
        service.await_state(jobs["done"]["id"], "JOB_STATE_DONE")
        done = service.get(jobs["done"]["id"])
        for name in ("lives", "ends-meanwhile", "dies-meanwhile", "queued"):
            path = flags.get(name, flags["done"])
            jobs[name] = service.launch(name, waiting, parameters={"until": str(path)})
        pids = {name: _first_pid(path) for name, path in flags.items()}
        service.kill()

    flags["ends-meanwhile"].touch()
    os.kill(pids["dies-meanwhile"], signal.SIGKILL)
    for name in ("ends-meanwhile", "dies-meanwhile"):
        until(partial(_has_ended, pids[name]), f"{name} to end")

    with serving(state_dir, environment=limit) as service:
        assert service.get(jobs["done"]["id"]) == done
        assert service.get(jobs["ends-meanwhile"]["id"])["currentState"] == "JOB_STATE_DONE"
        assert service.get(jobs["dies-meanwhile"]["id"])["currentState"] == "JOB_STATE_FAILED"
        assert "left no result" in service.messages(jobs["dies-meanwhile"]["id"])
        assert service.get(jobs["lives"]["id"])["currentState"] == "JOB_STATE_RUNNING"
        service.await_state(jobs["queued"]["id"], "JOB_STATE_DONE")
        refusal = _refused(service, "lives", waiting, parameters={"until": str(flags["lives"])})
        assert refusal["code"] == 409
        assert not _has_ended(pids["lives"])
        flags["lives"].touch()
        service.await_state(jobs["lives"]["id"], "JOB_STATE_DONE")
        assert flags["lives"].with_name("pids").read_text().split() == [str(pids["lives"])]


def test_an_adopted_job_can_be_cancelled(gcs_emulator: str, waiting: str, flag: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "state") as service:
        job = service.launch("wait", waiting, parameters={"until": str(flag)})
        pid = _first_pid(flag)
        service.kill()

    with serving(tmp_path / "state") as service:
        service.request_state(job["id"], "JOB_STATE_CANCELLED")
        service.await_state(job["id"], "JOB_STATE_CANCELLED")
        assert _has_ended(pid)


def test_a_service_killed_before_it_told_a_stream_to_drain_tells_it_when_it_is_back(
    gcs_emulator: str, stream: str, flag: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "state") as service:
        job = service.launch("stream", stream, parameters={"until": str(flag)})
        _first_pid(flag)
        service.kill()
    file = tmp_path / "state" / job["id"] / "job.json"
    content = json.loads(file.read_text())
    content["resource"]["currentState"] = "JOB_STATE_DRAINING"
    file.write_text(json.dumps(content))

    with serving(tmp_path / "state") as service:
        service.await_state(job["id"], "JOB_STATE_DRAINED")


def test_a_stopped_service_leaves_no_worker_and_says_so_in_its_jobs(
    gcs_emulator: str, waiting: str, stream: str, flag: Path, tmp_path: Path
) -> None:
    state_dir = tmp_path / "state"
    with serving(state_dir, environment={"SHOPSTREAM_DATAFLOW_MAX_RUNNING": "1"}) as service:
        templates = {"runs": waiting, "waits": waiting, "streams": stream}
        jobs = [service.launch(name, uri, parameters={"until": str(flag)}) for name, uri in templates.items()]
        until(lambda: len(running_workers(state_dir)) == 2, "two workers")

    assert running_workers(state_dir) == {}
    with serving(state_dir) as service:
        for job in jobs:
            assert service.get(job["id"])["currentState"] == "JOB_STATE_CANCELLED"
            assert "The local Dataflow was stopped, and this job with it." in service.messages(job["id"])


def test_a_second_service_on_the_same_jobs_is_refused(dataflow: Service) -> None:
    with pytest.raises(Exception, match="ended with code 1"), serving(dataflow.state_dir):
        pass


def _refused(service: Service, name: str, template: str, **more: Any) -> dict[str, Any]:
    with pytest.raises(HttpError) as caught:
        service.launch(name, template, **more)
    error: dict[str, Any] = json.loads(caught.value.content)["error"]
    return error


def _first_pid(flag: Path) -> int:
    pids = flag.with_name("pids")
    return int(until(lambda: pids.read_text().split() if pids.exists() else None, "a worker to start")[0])


def _has_ended(pid: int) -> bool:
    # An orphan that nobody reaps stays a zombie.
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
