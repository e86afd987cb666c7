"""The stream on one machine: what was published is in the tables, however often the driver is killed."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.api_core.exceptions import RetryError, ServiceUnavailable
from google.cloud import bigquery as bigquery_api
from google.cloud import pubsub_v1
from google.cloud.storage import Bucket

from beam_jobs.messages import Message, judge
from beam_jobs.pseudonyms import Pseudonyms
from beam_jobs.stream_events import StreamOptions
from local.dataflow import backlog, stream_driver
from local.dataflow.stream_driver import Pulled, StreamDriver, run
from local.dataflow.worker import JOB_DIR_VARIABLE
from local.stack.provision import ACK_DEADLINE_SECONDS
from local.stack.services import PRELOAD
from shopstream.settings import settings
from shopstream.tables.apply import apply
from shopstream.tables.folder import load_table
from tests.beam_jobs.bigquery_server import TAKEN, Answer, failed
from tests.beam_jobs.bigquery_server import serving as bigquery_answering
from tests.beam_jobs.samples import LINE, POISON, rows_in
from tests.conftest import LOGS
from tests.local.dataflow.service import Service, serving, until, upload_template

pytestmark = pytest.mark.integration

TABLES = (
    "shop_raw.events_batch",
    "shop_raw.events_stream",
    "shop_raw.rejected_events_stream",
    "shop.events",
)
DRAIN_SECONDS = 30
CATCH_UP_SECONDS = 120
PORTION = 100
PORTION_SECONDS = 0.1


def lines(count: int, first: int = 0) -> list[bytes]:
    """Different events."""
    return [LINE.replace(b",4,", b",%d," % user_id) for user_id in range(first, first + count)]


def ids(data: list[bytes]) -> list[str]:
    """The events' ids, sorted."""
    return sorted(judge([Message(one) for one in data]).events["event_id"].to_pylist())


@dataclass
class Feed:
    """A topic with one subscription, and the tables that the driver lands its messages in."""

    publisher: pubsub_v1.PublisherClient
    topic: str
    subscription: str
    client: bigquery_api.Client

    @property
    def options(self) -> dict[str, str]:
        return {
            "subscription": self.subscription,
            "events_table": f"{settings().project}:shop_raw.events_stream",
            "rejected_table": f"{settings().project}:shop_raw.rejected_events_stream",
        }

    @property
    def arguments(self) -> list[str]:
        return [f"--{name}={value}" for name, value in self.options.items()]

    def publish(self, data: list[bytes], **attributes: str) -> None:
        for future in [self.publisher.publish(self.topic, one, **attributes) for one in data]:
            future.result(60)

    def count(self, table: str = "shop_raw.events_stream") -> int:
        return int(next(iter(self.client.query_and_wait(f"SELECT COUNT(*) FROM {table}")))[0])

    def await_rows(self, count: int, table: str = "shop_raw.events_stream") -> None:
        until(lambda: self.count(table) >= count, f"{count} rows in {table}", CATCH_UP_SECONDS)

    def view_ids(self) -> list[str]:
        sql = "SELECT event_id FROM shop.events WHERE event_date = '2019-11-01' ORDER BY event_id"
        return [row.event_id for row in self.client.query_and_wait(sql)]

    @contextmanager
    def load(self) -> Iterator[list[bytes]]:
        """Publish ever new events until the block ends, and give the growing list of them.

        So a driver has not landed all at whichever moment it ends, however fast it is.
        """
        published: list[bytes] = []
        ended = threading.Event()

        def publish() -> None:
            while not ended.wait(PORTION_SECONDS):
                portion = lines(PORTION, first=len(published))
                # Before it is sent: what has arrived is in the list.
                published.extend(portion)
                self.publish(portion)

        publishing = threading.Thread(target=publish)
        publishing.start()
        try:
            yield published
        finally:
            ended.set()
            publishing.join()

    def await_all(self, published: list[bytes]) -> None:
        """Wait until shop.events holds exactly these events."""
        until(
            lambda: self.count("shop.events") == len(published), "all events to be landed", CATCH_UP_SECONDS
        )
        assert self.view_ids() == ids(published)

    def waiting(self) -> int:
        """How many messages wait to be delivered, of which not all may be told, but at least one."""
        subscriber = pubsub_v1.SubscriberClient()
        return len(
            subscriber.pull(subscription=self.subscription, max_messages=10, timeout=5).received_messages
        )

    @contextmanager
    def driver(self, *more: str) -> Iterator[ForkServerProcess]:
        """Run the driver as a process, with more arguments; kill it at the end if it still runs."""
        FORKS.set_forkserver_preload(list(PRELOAD))
        child = FORKS.Process(target=drive, args=([*self.arguments, *more], dict(os.environ)))
        child.start()
        try:
            yield child
        finally:
            child.kill()
            child.join()


FORKS = multiprocessing.get_context("forkserver")
"""Its processes are forked from one that has imported Beam, which takes longer than these tests' events."""


def drive(arguments: list[str], environment: dict[str, str]) -> None:
    """Be `python -m local.dataflow.stream_driver` with these arguments and variables."""
    os.environ |= environment
    with (LOGS / "stream_driver.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv[1:] = arguments
    runpy.run_module("local.dataflow.stream_driver", run_name="__main__")


@pytest.fixture
def feed(pubsub_emulator: str, bigquery_clean: bigquery_api.Client) -> Feed:
    for table in TABLES:
        apply(bigquery_clean, load_table(settings().sql_dir, table))
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    name = f"events-{uuid.uuid4().hex[:12]}"
    topic = publisher.topic_path(settings().project, name)
    subscription = subscriber.subscription_path(settings().project, name)
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic, ack_deadline_seconds=ACK_DEADLINE_SECONDS)
    return Feed(publisher, topic, subscription, bigquery_clean)


def drain(child: ForkServerProcess) -> None:
    os.kill(child.pid or 0, signal.SIGUSR1)
    child.join(DRAIN_SECONDS)
    assert child.exitcode == 0


def test_every_message_is_in_one_table_and_none_is_left(feed: Feed) -> None:
    # Pub/Sub itself refuses a message without data and attributes.
    poison = {name: data for name, (data, _, _) in POISON.items() if len(data) < 10_000_000 - 100}
    good = lines(500)
    before = datetime.now(UTC)
    feed.publish(good)
    feed.publish(list(poison.values()), origin="test")

    with feed.driver() as driver:
        feed.await_rows(len(good))
        feed.await_rows(len(poison), "shop_raw.rejected_events_stream")
        drain(driver)

    assert feed.view_ids() == ids(good)
    stored = rows_in(feed.client, "events_stream")
    assert len({row["message_id"] for row in stored}) == len(good)
    assert all(before.timestamp() - 5 < row["publish_time"].timestamp() for row in stored)
    rejects = rows_in(feed.client, "rejected_events_stream")
    assert sorted((row["raw"], row["reason"]) for row in rejects) == sorted(
        (data[:65_536], POISON[name][1]) for name, data in poison.items()
    )
    assert {row["attributes"] for row in rejects} == {'{"origin": "test"}'}
    assert feed.waiting() == 0


def test_with_a_key_a_driver_writes_pseudonyms_and_masked_rejects(feed: Feed, tmp_path: Path) -> None:
    key = tmp_path / "pseudonym.key"
    key.write_text("0123456789abcdef" * 2)
    feed.publish([LINE, LINE.replace(b"3.50", b"free")])

    with feed.driver(f"--pseudonym_key={key}") as driver:
        feed.await_rows(1)
        feed.await_rows(1, "shop_raw.rejected_events_stream")
        drain(driver)

    [event] = rows_in(feed.client, "events_stream")
    assert event["user_id"] == Pseudonyms(key.read_bytes()).user(4)
    [reject] = rows_in(feed.client, "rejected_events_stream")
    assert reject["raw"] == b"####-##-## ##:##:## xxx,xxxx,#,#,x.x,xxxx,xxxx,#,x-#"


def test_a_driver_killed_again_and_again_loses_no_event_and_the_view_shows_each_once(feed: Feed) -> None:
    with feed.load() as published:
        for _ in range(3):
            with feed.driver() as driver:
                landed = feed.count()
                until(lambda landed=landed: feed.count() > landed, "the first rows of a driver")  # type: ignore[misc]
                driver.kill()
                driver.join()
    with feed.driver() as driver:
        feed.await_all(published)
        drain(driver)

    assert feed.count("shop_raw.rejected_events_stream") == 0


def test_a_driver_that_is_drained_has_written_and_acknowledged_all_that_it_pulled(feed: Feed) -> None:
    feed.publish(lines(5000))

    with feed.driver() as driver:
        feed.await_rows(1)
        drain(driver)

    assert feed.count() == len(feed.view_ids())
    time.sleep(ACK_DEADLINE_SECONDS + 2)  # What was pulled and not acknowledged is delivered again by now.
    feed.publish(lines(1, first=5000))
    with feed.driver() as driver:
        feed.await_rows(5001)
        drain(driver)
    assert feed.count() == 5001
    assert feed.view_ids() == ids(lines(5001))


def test_what_waits_for_bigquery_is_not_delivered_again_and_its_age_is_told(
    feed: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    is_away = True

    def answer(sent: list[dict[str, Any]]) -> Answer:
        if is_away:
            return failed(grpc.StatusCode.INTERNAL)
        taken.extend(row["event_id"] for row in sent)
        return TAKEN

    before = datetime.now(UTC)
    feed.publish(lines(10))
    published = datetime.now(UTC)
    with bigquery_answering(answer) as (host, _):
        monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", host)
        monkeypatch.setenv(JOB_DIR_VARIABLE, str(tmp_path))
        with feed.driver() as driver:
            until(lambda: oldest_told(tmp_path), "the driver to hold the messages")
            time.sleep(ACK_DEADLINE_SECONDS + 5)
            oldest = oldest_told(tmp_path)
            is_away = False
            until(lambda: oldest_told(tmp_path) is None, "the driver to hold nothing")
            drain(driver)

    assert oldest
    # The emulator's clock is another than ours.
    assert before - timedelta(seconds=5) < oldest < published + timedelta(seconds=5)
    assert sorted(taken) == ids(lines(10))


def oldest_told(job_dir: Path) -> datetime | None:
    """What a driver that is alive tells of the oldest message it holds."""
    told = backlog.read(job_dir)
    if told is None:
        return None
    assert (datetime.now(UTC) - told.at).total_seconds() < 10
    return told.oldest


@pytest.fixture(scope="module")
def server(
    pubsub_emulator: str,
    gcs_emulator: str,
    bigquery: bigquery_api.Client,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    environment = {"SHOPSTREAM_DATAFLOW_PRELOAD": ",".join(PRELOAD)}
    with serving(tmp_path_factory.mktemp("jobs"), environment=environment) as service:
        yield service


@pytest.fixture
def dataflow(server: Service) -> Iterator[Service]:
    yield server
    server.cancel_all()


def launched(dataflow: Service, bucket: Bucket, feed: Feed) -> dict[str, Any]:
    parameters = [{"name": name} for name in feed.options]
    template = upload_template(bucket, "local.dataflow.stream_driver", *parameters, streaming=True)
    return dataflow.launch("shop-stream", template, parameters=feed.options)


def test_a_drained_job_ends_drained_and_tells_its_counts(
    feed: Feed, bucket: Bucket, dataflow: Service
) -> None:
    feed.publish([*lines(300), b"poison"])
    job = launched(dataflow, bucket, feed)
    feed.await_rows(300)
    feed.await_rows(1, "shop_raw.rejected_events_stream")

    dataflow.request_state(job["id"], "JOB_STATE_DRAINED")

    dataflow.await_state(job["id"], "JOB_STATE_DRAINED")
    log = (dataflow.state_dir / job["id"] / "log").read_text()
    assert "drained: read 301, accepted 300, rejected 1, refused_by_bigquery 0; " in log
    assert feed.view_ids() == ids(lines(300))


def test_a_job_that_is_cancelled_under_load_loses_nothing(
    feed: Feed, bucket: Bucket, dataflow: Service
) -> None:
    with feed.load() as published:
        job = launched(dataflow, bucket, feed)
        feed.await_rows(1)
        dataflow.request_state(job["id"], "JOB_STATE_CANCELLED")
        dataflow.await_state(job["id"], "JOB_STATE_CANCELLED")

    job = launched(dataflow, bucket, feed)
    feed.await_all(published)
    dataflow.request_state(job["id"], "JOB_STATE_DRAINED")
    dataflow.await_state(job["id"], "JOB_STATE_DRAINED")

    assert feed.view_ids() == ids(published)


def test_a_job_whose_table_is_missing_fails_with_what_to_do_and_its_messages_stay(
    feed: Feed, bucket: Bucket, dataflow: Service
) -> None:
    feed.client.delete_table("shop_raw.events_stream")
    feed.publish(lines(3))

    job = launched(dataflow, bucket, feed)

    dataflow.await_state(job["id"], "JOB_STATE_FAILED")
    told = dataflow.messages(job["id"], minimumImportance="JOB_MESSAGE_ERROR")
    assert "has no table shopstream-local.shop_raw.events_stream; run the DAG apply_schemas" in told
    apply(feed.client, load_table(settings().sql_dir, "shop_raw.events_stream"))
    with feed.driver():
        feed.await_rows(3)


def test_a_job_without_its_subscription_fails_with_its_name(
    feed: Feed, bucket: Bucket, dataflow: Service
) -> None:
    pubsub_v1.SubscriberClient().delete_subscription(subscription=feed.subscription)

    job = launched(dataflow, bucket, feed)

    dataflow.await_state(job["id"], "JOB_STATE_FAILED")
    told = dataflow.messages(job["id"], minimumImportance="JOB_MESSAGE_ERROR")
    assert feed.subscription.rpartition("/")[2] in told
    assert "make it with local.stack.provision" in told


def test_the_memory_of_a_driver_stays_flat(feed: Feed) -> None:
    with feed.driver() as driver:
        memory = psutil.Process(driver.pid).memory_info
        used = []
        for start in range(0, 24_000, 3000):
            feed.publish(lines(3000, first=start))
            feed.await_rows(start + 3000)
            used.append(memory().rss / 2**20)
        drain(driver)

    assert max(used) < used[1] + 40, used


@pytest.fixture
def driver(feed: Feed) -> Iterator[StreamDriver]:
    """A driver to be run in this process, which may be asked to drain."""
    before = signal.getsignal(signal.SIGUSR1)
    yield run(feed.arguments)
    signal.signal(signal.SIGUSR1, before)


def test_the_last_word_of_a_drained_driver_is_that_it_holds_nothing(
    driver: StreamDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    telling = threading.Event()

    def tell_slowly(_: datetime | None) -> None:
        name = threading.current_thread().name
        telling.set()
        told.append(f"{name} begins")
        time.sleep(1)
        told.append(f"{name} ends")

    def drain_while_it_tells() -> None:
        telling.wait(30)
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(backlog, "tell", tell_slowly)
    # So that the drain ends before the first word does.
    monkeypatch.setattr(stream_driver, "PULL_TIMEOUT_SECONDS", 0.2)
    threading.Thread(target=drain_while_it_tells, daemon=True).start()

    assert driver.wait_until_finish() == "DRAINED"

    main = threading.current_thread().name
    assert told[-2:] == [f"{main} begins", f"{main} ends"]
    assert told[-3] == "keep ends"


@pytest.fixture
def unconnected(monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamDriver]:
    """A driver of services that nobody serves."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    before = signal.getsignal(signal.SIGUSR1)
    yield StreamDriver(StreamOptions("projects/p/subscriptions/s", "p:d.events", "p:d.rejects"))
    signal.signal(signal.SIGUSR1, before)


class Failing:
    """A subscription whose calls fail as nobody has foreseen."""

    def __init__(self) -> None:
        self.extended = 0

    def pull(self) -> None:
        if self.extended >= 2:
            raise RetryError("the deadline of 600 s was exceeded", None)

    def extend(self, _: object) -> None:
        self.extended += 1
        raise RetryError("the deadline of 60 s was exceeded", None)


def test_the_driver_goes_on_when_a_deadline_is_not_extended_and_ends_when_it_cannot_pull(
    unconnected: StreamDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unconnected, "_subscription", Failing())
    monkeypatch.setattr(stream_driver, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(stream_driver, "EXTEND_SECONDS", 0.1)
    unconnected._held.add(pulled(1))

    # It is the second attempt to extend after which pulling fails.
    with pytest.raises(RetryError, match="600 s"):
        unconnected.wait_until_finish()


class Slow:
    """A subscription that answers when each of three calls has come, and the first of them with an error."""

    def __init__(self) -> None:
        self.extended: set[str] = set()
        self._all_came = threading.Barrier(3)

    def extend(self, ack_ids: Sequence[str]) -> None:
        if self._all_came.wait(5) == 0:
            raise ServiceUnavailable("busy")
        self.extended.update(ack_ids)


def test_a_portion_of_what_is_held_is_extended_though_another_is_slow_or_fails(
    unconnected: StreamDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow()
    monkeypatch.setattr(unconnected, "_subscription", slow)
    unconnected._held.add(pulled(3 * stream_driver.ACK_IDS))

    with pytest.raises(ServiceUnavailable):
        unconnected._extend_deadlines()
    assert len(slow.extended) == 2 * stream_driver.ACK_IDS


def pulled(count: int) -> Pulled:
    """What one pull brought."""
    messages = [Message(line) for line in lines(count)]
    return Pulled(messages, [uuid.uuid4().hex for _ in messages], sum(len(one.data) for one in messages))


def test_what_waits_in_pubsub_is_written_in_large_batches_and_single_events_at_once(
    unconnected: StreamDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_driver, "BATCH_SECONDS", 30.0)
    monkeypatch.setattr(stream_driver, "TICK_SECONDS", 30.0)
    full = [pulled(stream_driver.PULL_MESSAGES) for _ in range(3)]
    last = pulled(stream_driver.PULL_MESSAGES - 1)

    def pull_later() -> None:
        for one in [*full, last, last]:
            unconnected._pulled.put(one)
            time.sleep(0.2)

    pulling = threading.Thread(target=pull_later)
    pulling.start()
    assert unconnected._next_batch() == ([*full, last], False)
    assert unconnected._next_batch() == ([last], False)
    pulling.join()


def test_a_batch_does_not_wait_for_more_than_it_takes_or_for_ever(
    unconnected: StreamDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_driver, "BATCH_SECONDS", 0.1)
    full = [
        pulled(stream_driver.PULL_MESSAGES)
        for _ in range(stream_driver.BATCH_MESSAGES // stream_driver.PULL_MESSAGES)
    ]
    for one in [*full, full[0]]:
        unconnected._pulled.put(one)

    assert unconnected._next_batch() == (full, False)
    assert unconnected._next_batch() == (full[:1], False)

    ended = threading.Event()

    def pull_again_and_again() -> None:
        while not ended.wait(0.03):
            unconnected._pulled.put(full[0])

    pulling = threading.Thread(target=pull_again_and_again)
    pulling.start()
    batch, _ = unconnected._next_batch()
    ended.set()
    pulling.join()
    assert len(batch) < len(full)


def test_the_driver_refuses_to_run_without_an_emulator(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST")
    with pytest.raises(ValueError, match="PUBSUB_EMULATOR_HOST is not set"):
        run(feed.arguments)


def test_beams_own_options_are_left_out(feed: Feed) -> None:
    assert isinstance(run([*feed.arguments, "--runner=FnApiRunner"]), StreamDriver)
