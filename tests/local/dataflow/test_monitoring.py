"""The local Dataflow's one figure of Cloud Monitoring, asked as keep-alive asks, on the Pub/Sub emulator."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1, storage
from googleapiclient.errors import HttpError

from local.dataflow.jobs import running_workers
from shopstream.gcp.monitoring import OLDEST_UNACKED, MonitoringHook
from shopstream.settings import settings
from tests.airflow_home import airflow_home  # noqa: F401
from tests.local.dataflow.service import Service, serving, until, upload_template

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("airflow_home")]

OPTIONS = ("subscription", "events_table", "rejected_table")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tells the stream what to do."""
    return tmp_path_factory.mktemp("stream")


@pytest.fixture(scope="module")
def server(
    gcs_emulator: str, pubsub_emulator: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    environment = {"STREAM_DIR": str(folder)}
    with serving(tmp_path_factory.mktemp("state"), environment=environment) as service:
        yield service


@pytest.fixture(autouse=True)
def dataflow(server: Service, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The local Dataflow, without active jobs."""
    monkeypatch.setenv("SHOPSTREAM_MONITORING_ENDPOINT", server.url)
    for path in folder.iterdir():
        path.unlink()
    yield server
    server.cancel_all()


@pytest.fixture
def subscription(pubsub_emulator: str) -> str:
    """The name of a fresh topic and its subscription."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    topic = publisher().create_topic(name=f"projects/{settings().project}/topics/{name}").name
    subscriber().create_subscription(name=full(name), topic=topic, ack_deadline_seconds=60)
    return name


def publisher() -> pubsub_v1.PublisherClient:
    return pubsub_v1.PublisherClient(credentials=AnonymousCredentials())


def subscriber() -> pubsub_v1.SubscriberClient:
    return pubsub_v1.SubscriberClient(credentials=AnonymousCredentials())


def full(subscription: str) -> str:
    return f"projects/{settings().project}/subscriptions/{subscription}"


def publish(topic: str) -> None:
    publisher().publish(f"projects/{settings().project}/topics/{topic}", b"{}").result(30)


def oldest_seconds(subscription: str) -> float | None:
    return MonitoringHook().oldest_unacked_seconds(subscription)


def run_stream(dataflow: Service, bucket: storage.Bucket, subscription: str) -> str:
    """Launch a stream that reads the subscription, and return the job's id."""
    parameters = [{"name": name} for name in OPTIONS]
    template = upload_template(bucket, "tests.local.dataflow.pipelines.stream", *parameters, streaming=True)
    values = dict.fromkeys(OPTIONS, "unused") | {"subscription": full(subscription)}
    return str(dataflow.launch("stream", template, parameters=values)["id"])


def hold(folder: Path, age: timedelta) -> None:
    new = folder / "oldest.new"
    new.write_text((datetime.now(UTC) - age).isoformat())
    new.replace(folder / "oldest")


def test_an_empty_subscription_has_nothing_that_waits(subscription: str) -> None:
    assert oldest_seconds(subscription) == 0


def test_a_subscription_that_does_not_exist_has_no_figure() -> None:
    assert oldest_seconds("no-such-subscription") is None


def test_while_nobody_reads_the_age_grows_at_the_cost_of_one_delivery(subscription: str) -> None:
    publish(subscription)
    until(lambda: (oldest_seconds(subscription) or 0) >= 2, "the message to be two seconds old")
    publish(subscription)
    age = oldest_seconds(subscription)
    assert age is not None
    assert age >= 2, "the older of the two counts"

    pulled = subscriber().pull(subscription=full(subscription), max_messages=10, timeout=30)
    assert pulled.received_messages, "it was given back at once"


def test_while_a_stream_runs_its_own_word_counts(
    dataflow: Service, bucket: storage.Bucket, folder: Path, subscription: str
) -> None:
    publish(subscription)
    run_stream(dataflow, bucket, subscription)
    until(lambda: oldest_seconds(subscription) == 0, "the stream to tell that it holds nothing")
    hold(folder, timedelta(hours=1))
    until(lambda: (oldest_seconds(subscription) or 0) >= 3600, "the stream to tell what it holds")


def test_what_a_killed_stream_held_is_unacknowledged_still(
    dataflow: Service, bucket: storage.Bucket, folder: Path, subscription: str
) -> None:
    hold(folder, timedelta(hours=1))
    job_id = run_stream(dataflow, bucket, subscription)
    until(lambda: (oldest_seconds(subscription) or 0) >= 3600, "the stream to tell what it holds")
    os.kill(running_workers(dataflow.state_dir)[job_id].pid, signal.SIGKILL)
    dataflow.await_state(job_id, "JOB_STATE_FAILED")
    age = oldest_seconds(subscription)
    assert age is not None
    assert age >= 3600


def test_another_metric_is_refused_as_google_refuses(dataflow: Service) -> None:
    now = datetime.now(UTC).isoformat()
    request = (
        MonitoringHook()
        .get_conn()
        .projects()
        .timeSeries()
        .list(
            name=f"projects/{settings().project}",
            filter=f'metric.type = "{OLDEST_UNACKED}s"',
            interval_endTime=now,
        )
    )
    with pytest.raises(HttpError, match="Only a filter on") as raised:
        request.execute()
    assert raised.value.resp.status == 400
