"""stop_stream, as real DAG runs against the local Dataflow over HTTP."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shopstream.stream import tasks as stream_tasks
from tests.airflow_home import load_dag, run_dag
from tests.dags.stream import Stream, read_variable
from tests.local.dataflow.service import until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(("how", "state"), [("drain", "DRAINED"), ("cancel", "CANCELLED")])
def test_a_stop_ends_the_job_as_asked_and_waits_for_its_end(stream: Stream, how: str, state: str) -> None:
    stream.check()
    [job_id] = stream.active()

    run = stream.stop(how)

    assert run.errors == {}
    assert stream.jobs() == [(job_id, state)]
    assert (read_variable()["desired"], read_variable()["how"]) == ("stopped", how)


def test_a_stop_of_a_stream_that_does_not_run_keeps_it_from_being_launched(stream: Stream) -> None:
    assert stream.stop().state == "success"
    stream.check()
    assert stream.jobs() == []


def test_a_stop_keeps_the_pinned_version_for_the_next_start(stream: Stream) -> None:
    stream.deploy("v2")
    stream.want(desired="running", version="v2")
    stream.check()
    stream.stop()
    stream.start()
    assert stream.dataflow.get(stream.active()[0])["labels"]["template_version"] == "v2"


def test_a_drain_that_does_not_end_can_be_cancelled(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_tasks, "STOP_TIMEOUT", timedelta(seconds=0))
    stream.tell("deaf", "")
    stream.check()

    draining = stream.stop("drain")
    assert draining.states["wait_for_end"] == "failed"
    assert "trigger stop_stream with how = cancel" in draining.errors["wait_for_end"]
    assert [state for _, state in stream.jobs()] == ["DRAINING"]

    monkeypatch.setattr(stream_tasks, "STOP_TIMEOUT", timedelta(minutes=1))
    assert stream.stop("cancel").errors == {}
    assert [state for _, state in stream.jobs()] == ["CANCELLED"]


def test_a_start_while_the_stop_is_waiting_ends_the_stop_and_says_so(stream: Stream) -> None:
    stream.check()

    def start(task_id: str) -> None:
        if task_id == "wait_for_end":
            stream.start()

    run = run_dag(load_dag("stop_stream"), {"how": "drain"}, start)

    assert "the stream was started after this stop" in run.errors["wait_for_end"]
    until(lambda: stream.check() and stream.jobs()[-1][1] == "RUNNING", "the stream to run again")


def test_a_stop_that_an_older_start_overwrites_is_written_again(stream: Stream) -> None:
    stream.check()

    def overwrite(task_id: str) -> None:
        if task_id == "wait_for_end":
            stream.want(desired="running", since="2019-11-01T00:00:00+00:00")

    run = run_dag(load_dag("stop_stream"), {"how": "drain"}, overwrite)

    assert run.errors == {}
    assert (read_variable()["desired"], read_variable()["how"]) == ("stopped", "drain")
    assert stream.active() == []
