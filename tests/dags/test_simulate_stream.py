"""simulate_stream, as real DAG runs on the Cloud Storage and Pub/Sub emulators."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.cloud import pubsub_v1
from google.cloud.storage import Bucket

from shopstream.settings import settings
from tests.airflow_home import Run, load_dag, run_dag
from tests.dags.shop import DAY, line
from tests.dags.stream import write_variable

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("airflow_home")]

FOLDER = f"landing/events/{DAY}"
PULL_SECONDS = 60


@pytest.fixture
def pull(
    pubsub_emulator: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Any]:
    """A topic of its own, and a function that waits for so many more of its messages."""
    monkeypatch.setenv("SHOPSTREAM_TOPIC", f"events-{abs(hash(request.node.name))}")
    env = settings()
    topic, subscription = (
        f"projects/{env.project}/{kind}/{env.topic}" for kind in ("topics", "subscriptions")
    )
    pubsub_v1.PublisherClient().create_topic(name=topic)
    with pubsub_v1.SubscriberClient() as subscriber:
        subscriber.create_subscription(name=subscription, topic=topic)

        def messages(count: int) -> list[str]:
            got: dict[int, str] = {}
            deadline = time.monotonic() + PULL_SECONDS
            while len(got) < count and time.monotonic() < deadline:
                answer = subscriber.pull(subscription=subscription, max_messages=1000, timeout=10)
                for received in answer.received_messages:
                    got[int(received.message.message_id)] = received.message.data.decode()
                if ack_ids := [received.ack_id for received in answer.received_messages]:
                    subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
            return [got[number] for number in sorted(got)]

        yield messages


def simulate(**conf: Any) -> Run:
    return run_dag(load_dag("simulate_stream"), conf)


def test_a_landing_day_is_published_in_order(bucket: Bucket, pull: Any) -> None:
    lines = [line(number) for number in range(6)]
    bucket.blob(f"{FOLDER}/a.csv").upload_from_string("".join(lines[::2]))
    bucket.blob(f"{FOLDER}/b.csv").upload_from_string("".join(lines[1::2]))
    run = simulate(landing_day=str(DAY))
    assert run.errors == {}
    assert run.returned["publish_events"] == {
        "source": f"gs://{bucket.name}/{FOLDER}",
        "lines": 6,
        "published": 6,
        "event_time": f"{DAY}T10:00:05+00:00",
    }
    assert pull(6) == [text.rstrip("\n") for text in lines]


def test_an_object_is_published_in_the_form_and_number_asked_for(bucket: Bucket, pull: Any) -> None:
    bucket.blob("exports/week.csv").upload_from_string("".join(line(number) for number in range(9)))
    run = simulate(object="exports/week.csv", speed=None, format="json", limit=4)
    assert run.errors == {}
    assert run.returned["publish_events"]["published"] == 4
    assert [json.loads(message)["product_id"] for message in pull(4)] == [
        str(1_000_000 + n) for n in range(4)
    ]


def test_a_stream_that_is_stopped_is_told_and_its_messages_wait(
    bucket: Bucket, pull: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.blob(f"{FOLDER}/a.csv").upload_from_string(line(1))
    told = "The stream is stopped: messages wait in the subscription"
    assert simulate(landing_day=str(DAY)).errors == {}
    assert told not in caplog.text
    try:
        # As stop_stream leaves it; one that is no state is keep_stream_alive's to tell.
        for text, is_told in (("no state", False), ('{"desired": "stopped"}', True)):
            write_variable(text)
            assert simulate(landing_day=str(DAY)).errors == {}
            assert (told in caplog.text) == is_told
    finally:
        write_variable(None)
    assert len(pull(3)) == 3


def test_a_day_that_was_not_landed_fails_once_and_says_so(bucket: Bucket, pull: Any) -> None:
    run = simulate(landing_day="2019-11-30")
    assert run.states == {"publish_events": "failed"}
    assert "landing/events/2019-11-30 is neither a file" in run.errors["publish_events"]


def test_a_topic_that_is_missing_fails_once_and_says_so(
    bucket: Bucket, pubsub_emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_TOPIC", "no-such-topic")
    bucket.blob(f"{FOLDER}/a.csv").upload_from_string(line(1))
    run = simulate(landing_day=str(DAY))
    assert run.states == {"publish_events": "failed"}
    assert "topics/no-such-topic: 404" in run.errors["publish_events"]


def test_a_killed_task_sends_what_it_has_read_and_fails(bucket: Bucket, pull: Any) -> None:
    bucket.blob(f"{FOLDER}/a.csv").upload_from_string("".join(line(number) for number in range(600)))
    first: list[str] = []

    def kill_when_it_publishes() -> None:
        first.extend(pull(1))
        # The task runs in this process; without a message it does not listen yet, and the tests would end.
        if first:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    killing = threading.Thread(target=kill_when_it_publishes, daemon=True)
    killing.start()
    try:
        run = simulate(landing_day=str(DAY), speed=10)  # which takes a minute
    finally:
        killing.join()
        signal.signal(signal.SIGTERM, before)

    assert run.states == {"publish_events": "failed"}
    [message] = run.errors.values()
    assert message.startswith("Stopped since the task was killed: ")
    published = int(message.split(": ")[1].split()[0])
    assert len(first) <= published < 600
    assert len(first + pull(published - len(first))) == published


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("object", "exports/2019-Nov.zip"),
        ("object", "elsewhere/2019-Nov.csv"),
        ("speed", 0),
        ("speed", "fast"),
        ("format", "xml"),
        ("limit", 0),
    ],
)
def test_the_form_refuses_what_cannot_be(name: str, value: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        load_dag("simulate_stream").params[name] = value
