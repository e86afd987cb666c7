"""keep_stream_alive, as real DAG runs against the local Dataflow over HTTP, its jobs real processes."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import googleapiclient.http
import pytest

from local.root import ROOT
from local.stack import emulators
from shopstream.gcp.dataflow import DataflowHook
from shopstream.stream import checks, health, jobs
from shopstream.stream import tasks as stream_tasks
from tests.airflow_home import Run, load_dag, run_dag, run_task, store
from tests.dags.stream import Stream, read_variable, write_variable
from tests.local.dataflow.proxy import Proxy, after, lose_answer, never_answer, proxying, refuse
from tests.local.dataflow.service import until

pytestmark = pytest.mark.integration

MINUTE = timedelta(minutes=1)


@pytest.fixture
def proxy(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy between Airflow and the local Dataflow."""
    with proxying(stream.dataflow.url) as proxy:
        monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", proxy.url)
        yield proxy


def decision(run: Run) -> Any:
    """What keep-alive decided in a run that succeeded."""
    assert run.errors == {}
    return run.returned["keep_alive"]["decision"]


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What keep-alive has logged."""
    return [entry for entry in caplog.records if entry.name == stream_tasks.log.name]


def error(run: Run) -> str:
    """Why a run failed for good: no retry would help."""
    assert run.states == {"keep_alive": "failed"}
    return run.errors["keep_alive"]


# Decisions


def test_a_stream_that_nobody_has_stopped_is_launched_and_then_left_alone(stream: Stream) -> None:
    first = stream.check()
    assert first.errors == {}
    [job_id] = stream.active()
    assert first.returned["keep_alive"] == {"decision": "launch", "job_id": job_id, "level": "ok"}
    job = stream.dataflow.get(job_id)
    assert job["labels"] == {"app": "shopstream", "template_version": "local", "pseudonym_key": "none"}
    assert job["environment"]["sdkPipelineOptions"]["options"] == {
        "subscription": "projects/shopstream-local/subscriptions/events-stream",
        "events_table": "shopstream-local:shop_raw.events_stream",
        "rejected_table": "shopstream-local:shop_raw.rejected_events_stream",
    }

    second = stream.check()
    assert second.returned["keep_alive"] == {"decision": "nothing", "job_id": job_id, "level": "ok"}
    assert stream.jobs() == [(job_id, "RUNNING")]


def test_a_killed_stream_is_back_after_the_next_check_which_tells_why_it_died(stream: Stream) -> None:
    stream.check()
    [killed] = stream.active()
    stream.kill(killed)

    run = stream.check()

    assert run.returned["keep_alive"]["decision"] == "launch"
    assert run.returned["keep_alive"]["level"] == "warn"
    assert [state for _, state in stream.jobs()] == ["FAILED", "RUNNING"]
    assert "was killed by SIGKILL" in stream.dataflow.messages(killed)


def test_the_log_tells_in_one_paragraph_what_was_seen_done_and_why(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    stream.check()
    [killed] = stream.active()
    stream.kill(killed)
    caplog.clear()

    stream.check()

    [entry] = told(caplog)
    paragraph = entry.getMessage()
    assert entry.levelname == "WARNING"
    assert "\n" not in paragraph
    [job_id] = stream.active()
    assert re.fullmatch(
        r"Wanted: the stream shop-stream running, version local \(the deployed one\)\. "
        rf"Seen: no active job; the last one, {killed}, ended as FAILED \d+ s ago "
        r"\(The worker process was killed by SIGKILL and left no result\. .*\)\. "
        r"Decision: launch, because no job is active\. "
        rf"Done: launched job {job_id} of version local; it has run for \d+ s now\. "
        r"Launches in the last hour, or since a start by hand: 2 of at most 5\. "
        r"Health: ok; no message is unacknowledged; events_stream has no row; "
        r"no message of the last hour has come through\.",
        paragraph,
    )


def test_jobs_whose_names_only_begin_like_ours_are_neither_taken_for_it_nor_touched(stream: Stream) -> None:
    canary = stream.launch("shop-stream-canary", version="local")

    assert decision(stream.check()) == "launch"
    assert stream.stop().state == "success"

    assert [state for _, state in stream.jobs()] == ["DRAINED"]
    assert stream.jobs("shop-stream-canary") == [(canary, "RUNNING")]


def test_a_newly_deployed_version_replaces_the_running_job(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stream.check()
    [old] = stream.active()
    stream.deploy("v2")
    monkeypatch.setenv("SHOPSTREAM_TEMPLATE_VERSION", "v2")
    caplog.clear()

    run = stream.check()

    assert decision(run) == "update"
    assert run.returned["keep_alive"]["level"] == "ok", "nothing has gone wrong"
    assert [entry.levelname for entry in told(caplog)] == ["INFO"]
    [new] = stream.active()
    assert stream.jobs() == [(old, "UPDATED"), (new, "RUNNING")]
    assert stream.dataflow.get(new)["labels"]["template_version"] == "v2"
    assert stream.dataflow.get(new)["replaceJobId"] == old
    assert f"launched job {new} of version v2, in place of {old}" in stream.checks()[1]["outcome"]
    assert decision(stream.check()) == "nothing"


def test_a_pinned_version_runs_instead_of_the_deployed_one(stream: Stream) -> None:
    stream.check()
    stream.deploy("v0")
    stream.want(desired="running", version="v0")

    assert decision(stream.check()) == "update"

    assert stream.dataflow.get(stream.active()[0])["labels"]["template_version"] == "v0"


def test_a_stream_with_another_key_of_pseudonyms_than_loads_is_told_of_and_left_to_a_person(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.check()
    [job_id] = stream.active()
    stream.deploy("v2")
    monkeypatch.setenv("SHOPSTREAM_TEMPLATE_VERSION", "v2")
    monkeypatch.setenv("SHOPSTREAM_PSEUDONYM_KEYS", "projects/p/secrets/s/versions/1")

    told = error(stream.check())

    assert f"the pseudonym key of job {job_id} is none and that of loads 1" in told
    assert "follow docs/runbooks/pseudonyms.md" in told
    assert stream.jobs() == [(job_id, "RUNNING")]
    assert stream.checks()[1]["level"] == "fail"


def test_an_update_that_cannot_be_launched_fails_and_leaves_the_old_job_running(stream: Stream) -> None:
    stream.check()
    [old] = stream.active()
    stream.want(desired="running", version="not-deployed")

    why = error(stream.check())

    assert "400" in why
    assert "templates/not-deployed/stream_events.json" in why
    assert stream.jobs() == [(old, "RUNNING")]


def test_an_update_whose_steps_have_other_names_fails_with_dataflows_reason_and_the_old_job_goes_on(
    stream: Stream,
) -> None:
    stream.tell("steps", "Read messages\nWrite events")
    stream.check()
    [old] = stream.active()
    stream.deploy("v2")
    stream.want(desired="running", version="v2")
    stream.tell("steps", "Read messages\nStore events")

    why = error(stream.check())

    assert (
        f"ended at once as FAILED: Workflow failed. Causes: The new job is not compatible with {old}" in why
    )
    assert "is missing steps Write events" in why
    assert [state for _, state in stream.jobs()] == ["RUNNING", "FAILED"]
    assert stream.active() == [old]


# Starts and stops


def test_a_stop_is_respected_by_scheduled_runs_until_somebody_starts_by_hand(stream: Stream) -> None:
    stream.check()
    assert stream.stop().state == "success"
    assert decision(stream.check()) == "nothing"
    assert stream.active() == []

    assert decision(stream.start()) == "launch"

    assert read_variable()["desired"] == "running"
    assert len(stream.active()) == 1
    assert decision(stream.check()) == "nothing"


def test_a_job_that_somebody_launched_after_the_stop_is_drained_by_the_next_check(stream: Stream) -> None:
    stream.stop()
    job_id = stream.launch()

    assert decision(stream.check()) == "drain"

    stream.dataflow.await_state(job_id, "JOB_STATE_DRAINED")


def test_a_stop_that_is_asked_for_while_a_check_launches_ends_the_new_job_too(
    stream: Stream, proxy: Proxy
) -> None:
    proxy.launches = [after(lambda: stream.want(desired="stopped", how="cancel"))]

    run = stream.check()

    assert "asked Dataflow to cancel" in stream.checks()[0]["outcome"]
    assert run.state == "success"
    stream.dataflow.await_state(stream.jobs()[0][0], "JOB_STATE_CANCELLED")


def test_a_start_that_is_run_again_does_not_undo_a_later_stop(stream: Stream) -> None:
    stream.want(desired="stopped", since="2100-01-01T00:00:00+00:00")

    assert decision(stream.start()) == "nothing"

    assert read_variable()["desired"] == "stopped"
    assert stream.jobs() == []


def test_a_start_that_is_cleared_does_not_undo_a_stop_written_by_hand(stream: Stream) -> None:
    run = stream.start()
    stream.want(desired="stopped", how="cancel")

    _run_again(run)

    assert read_variable() == {"desired": "stopped", "how": "cancel"}
    assert [state for _, state in stream.jobs()] in (["CANCELLING"], ["CANCELLED"])


def test_a_start_that_an_older_stop_overwrites_is_written_again(stream: Stream, proxy: Proxy) -> None:
    older = {"desired": "stopped", "how": "cancel", "since": "2019-11-01T00:00:00+00:00"}
    proxy.launches = [after(lambda: stream.want(**older))]

    stream.start()

    assert read_variable()["desired"] == "running"
    assert [state for _, state in stream.jobs()] == ["RUNNING"]


@pytest.mark.parametrize(
    "text", ["stopped", '{"desired": "paused"}', '{"desired": "running", "verison": "v2"}']
)
def test_a_malformed_desired_state_is_an_error_that_names_it_and_changes_nothing(
    stream: Stream, text: str
) -> None:
    job_id = stream.launch()
    write_variable(text)

    why = error(stream.check())

    assert "Airflow Variable shopstream_stream" in why
    assert repr(text) in why
    assert stream.jobs() == [(job_id, "RUNNING")]


# Launches that go wrong


def test_two_checks_at_the_same_moment_give_one_job(stream: Stream, proxy: Proxy) -> None:
    both_are_here = threading.Barrier(2, timeout=120)
    proxy.launches = [after(both_are_here.wait), after(both_are_here.wait)]
    program = (
        "import sys; from tests.airflow_home import load_dag, run_dag; "
        "from shopstream.stream import jobs; jobs.SETTLE_SECONDS = 0.3; "
        "run = run_dag(load_dag('keep_stream_alive'), {}, by_hand=False); "
        "sys.exit(str(run.errors) if run.errors else 0)"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "plugins")))
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as of_another_process:
        run = stream.check()
        output, _ = of_another_process.communicate(timeout=200)
    assert of_another_process.returncode == 0, output
    assert run.errors == {}

    assert proxy.seen == 2
    assert [state for _, state in stream.jobs()] == ["RUNNING"]
    [row, other] = sorted(stream.checks(), key=lambda row: str(row["outcome"]))
    assert row["outcome"].startswith("Dataflow answered 409")
    assert other["outcome"].startswith("launched job")


def test_after_a_409_the_job_that_somebody_else_launched_is_taken(stream: Stream, proxy: Proxy) -> None:
    theirs: list[str] = []
    proxy.launches = [after(lambda: theirs.append(stream.launch()))]

    run = stream.check()

    assert run.returned["keep_alive"]["job_id"] == theirs[0]
    assert [job_id for job_id, _ in stream.jobs()] == theirs
    assert proxy.seen == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_launch_that_dataflow_has_no_time_for_is_tried_again(
    stream: Stream, proxy: Proxy, status: int
) -> None:
    proxy.launches = [refuse(status), refuse(status)]

    assert decision(stream.check()) == "launch"

    assert proxy.seen == 3
    assert [state for _, state in stream.jobs()] == ["RUNNING"]


@pytest.mark.parametrize("status", [429, 500])
def test_a_launch_that_is_never_accepted_fails_with_dataflows_answer(
    stream: Stream, proxy: Proxy, status: int
) -> None:
    proxy.launches = [refuse(status, "come back tomorrow")] * 10

    why = error(stream.check())

    assert f"after 3 attempts Dataflow answered {status} come back tomorrow" in why
    assert proxy.seen == 3
    assert stream.jobs() == []


def test_a_job_whose_launch_was_answered_with_an_error_is_found_and_not_launched_again(
    stream: Stream, proxy: Proxy
) -> None:
    proxy.launches = [lose_answer(503)]

    assert decision(stream.check()) == "launch"

    assert proxy.seen == 1
    assert [state for _, state in stream.jobs()] == ["RUNNING"]


@pytest.mark.parametrize("launch_it", [True, False], ids=["launched", "not launched"])
def test_a_launch_that_is_never_answered_ends_with_one_job(
    stream: Stream, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, launch_it: bool
) -> None:
    monkeypatch.setattr(googleapiclient.http, "DEFAULT_HTTP_TIMEOUT_SEC", 2)
    # Beam sets 60 seconds for the whole process, which would come first.
    monkeypatch.setattr(socket, "getdefaulttimeout", lambda: None)
    released = threading.Event()
    proxy.launches = [never_answer(released, launch_it=launch_it)]

    assert decision(stream.check()) == "launch"

    released.set()
    assert proxy.seen == (1 if launch_it else 2)
    assert [state for _, state in stream.jobs()] == ["RUNNING"]


def test_a_refused_launch_is_not_repeated_and_fails_with_dataflows_reason(
    stream: Stream, proxy: Proxy
) -> None:
    proxy.launches = [refuse(403, "The caller does not have permission")]

    why = error(stream.check())

    assert "403 The caller does not have permission" in why
    assert proxy.seen == 1
    assert stream.checks()[0]["level"] == "fail"


def test_a_job_that_dies_right_after_its_launch_fails_the_check_with_its_error(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SETTLE_SECONDS", 10.0)
    stream.tell("die", "the table events_stream is gone")

    why = error(stream.check())

    assert "ended at once as FAILED: ValueError: the table events_stream is gone" in why
    assert stream.checks()[0]["restarts_last_hour"] == 1


# The restart budget


def test_a_stream_that_dies_again_and_again_is_left_down_until_it_is_started_by_hand(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_STREAM_MAX_LAUNCHES", "2")
    for _ in range(2):
        assert decision(stream.check()) == "launch"
        stream.kill(stream.active()[0])

    why = error(stream.check())

    assert "launched 2 times within the last hour" in why
    assert "trigger keep_stream_alive by hand" in why
    assert [state for _, state in stream.jobs()] == ["FAILED", "FAILED"]
    assert [row["restarts_last_hour"] for row in stream.checks()] == [1, 2, 2]

    assert decision(stream.start()) == "launch"
    assert [state for _, state in stream.jobs()] == ["FAILED", "FAILED", "RUNNING"]
    stream.kill(stream.active()[0])
    assert decision(stream.check()) == "launch"


def test_a_version_that_does_not_come_up_is_not_tried_at_every_look(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_STREAM_MAX_LAUNCHES", "1")
    stream.check()
    for version in ("v2", "v3"):
        stream.deploy(version)
    stream.want(desired="running", version="v2")
    assert decision(stream.check()) == "update"
    stream.want(desired="running", version="v3")

    assert "updated once within the last hour" in error(stream.check())
    [job_id] = stream.active()
    assert stream.dataflow.get(job_id)["labels"]["template_version"] == "v2"


def test_updates_are_not_counted_as_restarts(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_STREAM_MAX_LAUNCHES", "2")
    stream.check()
    for version in ("v2", "v3"):
        stream.deploy(version)
        stream.want(desired="running", version=version)
        assert decision(stream.check()) == "update"
    stream.kill(stream.active()[0])

    assert decision(stream.check()) == "launch"


# Health


def test_the_checks_row_holds_what_was_seen_and_measured(stream: Stream) -> None:
    stream.check()
    [job_id] = stream.active()
    began = time.monotonic()
    stream.fill([2 * MINUTE] * 190 + [90 * MINUTE], [3 * MINUTE] * 10 + [70 * MINUTE])
    stream.hold_message(age=timedelta(seconds=30))

    assert stream.dataflow.get(job_id)["currentState"] == "JOB_STATE_RUNNING"
    _await_told(stream)
    run = stream.check()

    assert run.errors == {}
    [_, row] = stream.checks()
    assert row["run_id"] == run.run_id
    assert (row["desired"], row["desired_version"], row["decision"]) == ("running", "local", "nothing")
    assert json.loads(row["active_jobs"]) == [
        {"job_id": job_id, "state": "JOB_STATE_RUNNING", "version": "local"}
    ]
    # Ages are told in whole seconds.
    seconds = time.monotonic() - began + 1
    assert 29 <= row["oldest_unacked_seconds"] < 30 + seconds
    assert 119 <= row["newest_row_seconds"] < 120 + seconds
    assert row["rejected_share"] == 0.05
    assert row["level"] == "warn", "5 % are above 1 %"


def test_events_of_long_ago_that_come_today_count_too(stream: Stream) -> None:
    stream.fill([timedelta(days=400)])
    began = time.monotonic()
    stream.bigquery.query_and_wait(
        "UPDATE shop_raw.events_stream SET publish_time = CURRENT_TIMESTAMP() WHERE TRUE"
    )
    stream.check()
    assert stream.checks()[0]["newest_row_seconds"] < time.monotonic() - began + 1


def test_no_traffic_at_all_is_no_failure(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CATCH_UP_SECONDS", 0)
    stream.check()
    stream.fill([timedelta(hours=5)])
    run = stream.check()
    assert run.returned["keep_alive"]["level"] == "ok"


@pytest.mark.parametrize(("age", "level"), [(4 * MINUTE, "ok"), (6 * MINUTE, "warn"), (31 * MINUTE, "fail")])
def test_messages_that_wait_too_long_warn_and_then_fail(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, age: timedelta, level: str
) -> None:
    monkeypatch.setattr(health, "CATCH_UP_SECONDS", 0)
    stream.check()
    stream.hold_message(age)
    _await_told(stream)

    run = stream.check()

    assert stream.checks()[1]["level"] == level
    assert run.state == ("failed" if level == "fail" else "success")
    if level == "fail":
        assert "the oldest unacknowledged message is 31 min" in error(run)


def test_old_messages_do_not_fail_a_stream_that_was_only_just_launched(stream: Stream) -> None:
    stream.check()
    stream.hold_message(timedelta(hours=9))
    _await_told(stream)
    stream.kill(stream.active()[0])

    run = stream.check()

    assert run.returned["keep_alive"]["level"] == "warn"
    assert stream.checks()[1]["oldest_unacked_seconds"] >= 9 * 3600


@pytest.mark.parametrize(("rejected", "level"), [(0, "ok"), (2, "warn"), (20, "fail")])
def test_too_many_rejected_messages_warn_and_then_fail(stream: Stream, rejected: int, level: str) -> None:
    stream.fill([MINUTE] * (120 - rejected), [MINUTE] * rejected)
    run = stream.check()
    assert stream.checks()[0]["level"] == level
    if level == "fail":
        assert "20 of 120 messages of the last hour were rejected (16.7%)" in error(run)


@pytest.fixture
def no_monitoring(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Monitoring is away, and asked once."""
    monkeypatch.setenv("SHOPSTREAM_MONITORING_ENDPOINT", f"http://{emulators.HOST}:{emulators.free_port()}")
    connection = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "num_retries": 0}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))


@pytest.fixture
def check_once(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Run]:
    """Runs keep_stream_alive as scheduled, its task tried once."""
    # Else a DAG that was stored a moment before is not stored again.
    monkeypatch.setenv("AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL", "0")

    def check() -> Run:
        dag = load_dag("keep_stream_alive")
        dag.get_task("keep_alive").retries = 0
        store(dag)
        return run_dag(dag, {}, by_hand=False)

    return check


@pytest.mark.usefixtures("no_monitoring")
def test_what_was_done_is_told_though_the_health_cannot_be_measured(
    stream: Stream, check_once: Callable[[], Run], caplog: pytest.LogCaptureFixture
) -> None:
    run = stream.check()

    [job_id] = stream.active()
    assert run.returned["keep_alive"] == {"decision": "launch", "job_id": job_id, "level": "warn"}
    assert "Health: warn; it could not be measured: " in told(caplog)[-1].getMessage()
    [row] = stream.checks()
    assert (row["decision"], row["level"]) == ("launch", "warn")
    assert row["oldest_unacked_seconds"] is None

    # With nothing done there is nothing to keep, and a health that nobody sees is worth another try.
    assert check_once().state == "failed"
    assert [(row["decision"], row["level"]) for row in stream.checks()] == [
        ("launch", "warn"),
        ("nothing", "warn"),
    ]


@pytest.mark.usefixtures("no_monitoring")
def test_a_launch_that_failed_is_told_and_not_tried_again_though_the_health_cannot_be_measured(
    stream: Stream, proxy: Proxy
) -> None:
    proxy.launches = [refuse(403, "The caller does not have permission")]

    assert "403 The caller does not have permission" in error(stream.check())

    assert proxy.seen == 1
    assert stream.checks()[0]["level"] == "fail"


@pytest.mark.parametrize("dies", [False, True])
def test_what_was_done_is_in_the_log_though_its_row_cannot_be_written(
    stream: Stream,
    check_once: Callable[[], Run],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    dies: bool,
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError("BigQuery is away")

    monkeypatch.setattr(checks, "write_stream_check", away)
    if dies:
        monkeypatch.setattr(jobs, "SETTLE_SECONDS", 10.0)
        stream.tell("die", "the table events_stream is gone")

    run = stream.check() if dies else check_once()

    [(job_id, _)] = stream.jobs()
    assert f"Done: launched job {job_id}" in told(caplog)[-1].getMessage()
    # Trying again after a death would launch again.
    assert ("ended at once as FAILED" if dies else "BigQuery is away") in error(run)


def test_a_launch_is_told_though_the_job_cannot_be_looked_at_after_it(
    stream: Stream, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ConnectionError("Dataflow is away")

    monkeypatch.setattr(DataflowHook, "state", away)

    run = stream.check()

    [job_id] = stream.active()
    assert run.returned["keep_alive"] == {"decision": "launch", "job_id": job_id, "level": "warn"}
    assert stream.checks()[0]["outcome"].endswith("then it could not be looked at: Dataflow is away")


def test_a_check_that_is_run_again_replaces_its_row(stream: Stream) -> None:
    run = stream.check()
    _run_again(run)

    [row] = stream.checks()
    assert (row["run_id"], row["decision"]) == (run.run_id, "nothing")


def _run_again(run: Run) -> None:
    """Run the run's task again, as after somebody has cleared it."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.scalar(select(TaskInstance).where(TaskInstance.run_id == run.run_id))
        assert found is not None
        found.prepare_db_for_next_try(session)
        found.try_number += 1
    run_task(load_dag("keep_stream_alive"), run.run_id, "keep_alive")


def _await_told(stream: Stream) -> None:
    """Wait until the running job has told the age of the message that it was given to hold."""
    from shopstream.gcp.monitoring import MonitoringHook

    until(lambda: MonitoringHook().oldest_unacked_seconds("events-stream"), "the age of the held message")
