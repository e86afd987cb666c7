"""What the stream takes on one machine: events a second from a backlog, and the time from publish to query.

Run as `python -m bench.bench_stream [events] [seconds of latency]`. Emulators and driver are processes of
their own, as in the local stack. The peer (stream_peer) is the shortest program that does something of the
kind: json.loads, a dict a message, insert_rows_json; it checks nothing and gives no event an id.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, median

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, pubsub_v1

from beam_jobs.bigquery_sink import BigQuerySink
from beam_jobs.contract import COLUMN_NAMES
from beam_jobs.messages import Message, judge
from beam_jobs.stream_events import StreamOptions, land, write_events, write_rejects
from local.dataflow.stream_driver import ACK_IDS, PULL_MESSAGES, Subscription
from local.events.files import write_landing_day
from local.root import ROOT
from local.stack import emulators
from local.stack.provision import ACK_DEADLINE_SECONDS
from shopstream.settings import settings
from shopstream.tables.apply import apply
from shopstream.tables.folder import load_table

DAY = date(2019, 11, 1)
NUMBERS = ("product_id", "category_id", "user_id")
PEER_TABLE = "shop_raw.peer"
EVENTS = 100_000
INSERT_ROWS = 20_000
MICRO_BATCHES = 5
BATCH_MESSAGES = 500
LATENCY_SECONDS = 30
LATENCY_RATE = 500
PUBLISH_MESSAGES = 50
POLL_SECONDS = 0.25
WARM_UP_SECONDS = 10
TIMEOUT_SECONDS = 300


class Bench:
    """The stream's subscription and tables on running emulators, and a generated day."""

    def __init__(self, lines: list[bytes]) -> None:
        project = settings().project
        self.lines = lines
        self.client = bigquery.Client(project=project, credentials=AnonymousCredentials())
        names = ("shop_raw.events_stream", "shop_raw.rejected_events_stream")
        self.tables = [load_table(settings().sql_dir, name) for name in names]
        self.stream = StreamOptions(
            f"projects/{project}/subscriptions/{settings().subscription}",
            f"{project}:shop_raw.events_stream",
            f"{project}:shop_raw.rejected_events_stream",
        )
        self.publisher = pubsub_v1.PublisherClient(
            pubsub_v1.types.BatchSettings(max_messages=1000, max_latency=0.02)
        )
        self.topic = self.publisher.topic_path(project, settings().topic)
        self.publisher.create_topic(name=self.topic)
        self.subscriber = pubsub_v1.SubscriberClient()

    def renew_subscription(self) -> None:
        """Make the subscription anew, so that no message of another measurement comes again in the next."""
        name = self.stream.subscription
        with suppress(NotFound):
            self.subscriber.delete_subscription(subscription=name)
        self.subscriber.create_subscription(
            name=name, topic=self.topic, ack_deadline_seconds=ACK_DEADLINE_SECONDS
        )

    def empty_tables(self) -> None:
        """Make the tables anew."""
        self.client.delete_dataset("shop_raw", delete_contents=True, not_found_ok=True)
        for table in self.tables:
            apply(self.client, table)
        kinds = dict.fromkeys(NUMBERS, "INT64") | {"price": "NUMERIC", "event_time": "TIMESTAMP"}
        fields = [bigquery.SchemaField(name, kinds.get(name, "STRING")) for name in COLUMN_NAMES]
        self.client.create_table(bigquery.Table(f"{self.client.project}.{PEER_TABLE}", fields))

    def rows(self) -> int:
        """Ask how many events are in the table, of the stream or of the peer."""
        tables = ("shop_raw.events_stream", PEER_TABLE)
        counts = ", ".join(f"(SELECT COUNT(*) FROM {table})" for table in tables)
        return sum(next(iter(self.client.query_and_wait(f"SELECT {counts}"))))

    def publish(self, lines: list[bytes]) -> None:
        """Publish and wait until Pub/Sub has all."""
        for future in [self.publisher.publish(self.topic, line) for line in lines]:
            future.result(TIMEOUT_SECONDS)

    def await_rows(
        self, count: int, driver: psutil.Process, look: Callable[[int], None] = lambda rows: None
    ) -> int:
        """Ask, and show `look` each answer, until the table has so many events; return how many it has.

        Raises:
            RuntimeError: the driver has ended, or no row has come for TIMEOUT_SECONDS.
        """
        rows, came = 0, time.monotonic()
        while True:
            before, rows = rows, self.rows()
            look(rows)
            if rows >= count:
                return rows
            if rows > before:
                came = time.monotonic()
            if driver.status() == psutil.STATUS_ZOMBIE:
                raise RuntimeError(f"the driver has ended with {rows:,} of {count:,} events landed")
            if time.monotonic() - came > TIMEOUT_SECONDS:
                raise RuntimeError(f"no event in {TIMEOUT_SECONDS} s, with {rows:,} of {count:,} landed")
            time.sleep(POLL_SECONDS)

    @contextmanager
    def driver(self, module: str = "local.dataflow.stream_driver") -> Iterator[psutil.Process]:
        """Run the driver, or the peer, and let it end by SIGUSR1."""
        command = [
            *(sys.executable, "-m", module),
            f"--subscription={self.stream.subscription}",
            f"--events_table={self.stream.events_table}",
            f"--rejected_table={self.stream.rejected_table}",
        ]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield psutil.Process(child.pid)
            child.send_signal(signal.SIGUSR1)
            child.wait(TIMEOUT_SECONDS)
        finally:
            child.kill()
            child.wait()


def measure(events: int, latency_seconds: int) -> dict[str, float]:
    """Print all; return the figures by name."""
    os.environ["NO_GCE_CHECK"] = "true"
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(ROOT / "local" / "google_credentials.json")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_landing_day(directory, DAY, events)
        [file] = (directory / str(DAY)).glob("*.csv")
        lines = file.read_bytes().splitlines()[1:]
        pubsub_port, bigquery_port, storage_port = (emulators.free_port() for _ in range(3))
        stack.enter_context(emulators.running(emulators.pubsub(pubsub_port), directory / "pubsub.log"))
        program = emulators.bigquery(bigquery_port, storage_port, directory, settings().project)
        stack.enter_context(emulators.running(program, directory / "bigquery.log"))
        os.environ["PUBSUB_EMULATOR_HOST"] = f"{emulators.HOST}:{pubsub_port}"
        os.environ["BIGQUERY_EMULATOR_HOST"] = f"http://{emulators.HOST}:{bigquery_port}"
        os.environ["BIGQUERY_STORAGE_EMULATOR_HOST"] = f"{emulators.HOST}:{storage_port}"
        bench = Bench(lines)
        micro_batches(bench)
        append_s = appends(bench)
        figures = sustained(bench)
        figures["stream_append_ceiling_rows_s"] = append_s
        for of in ("stream", "stream_json"):
            ceiling = min(append_s, figures[f"{of}_pull_ceiling_events_s"])
            figures[f"{of}_to_ceiling"] = figures[f"{of}_events_s"] / ceiling
        figures["stream_latency_median_s"] = latency(bench, latency_seconds)
    return figures


def micro_batches(bench: Bench) -> None:
    """Compare a Beam pipeline for each small batch with calling what its steps are made of."""
    bench.empty_tables()
    now = datetime.now(UTC)
    messages = [Message(line, str(place), now, {}) for place, line in enumerate(bench.lines)]
    batches = [
        messages[start : start + BATCH_MESSAGES]
        for start in range(0, MICRO_BATCHES * BATCH_MESSAGES, BATCH_MESSAGES)
    ]
    events, rejects = BigQuerySink(bench.stream.events_table), BigQuerySink(bench.stream.rejected_table)

    def call(batch: list[Message]) -> None:
        judged = judge(batch)
        write_rejects(rejects, judged.rejects + write_events(events, judged))

    def pipeline(batch: list[Message]) -> None:
        with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as steps:
            land(steps | "Messages" >> beam.Create(batch), bench.stream)

    print(f"a batch of {BATCH_MESSAGES} messages, judged and written, in ms")
    for name, way in (("a call", call), ("a Beam pipeline", pipeline)):
        way(batches[0])
        seconds = timed(lambda way=way: list(map(way, batches)))  # type: ignore[misc]
        print(f"  {name:24} {seconds / len(batches) * 1e3:10.0f}")


def appends(bench: Bench) -> float:
    """Find how fast the BigQuery emulator is, by rows a request; return the most rows/s."""
    events = judge([Message(line) for line in bench.lines[:INSERT_ROWS]]).events
    print("Arrow rows into the BigQuery emulator, rows/s")
    found = []
    for rows_a_request in (100, 500, 2000, 5000):
        bench.empty_tables()
        sink = BigQuerySink(bench.stream.events_table)

        def append(sink: BigQuerySink = sink, size: int = rows_a_request) -> None:
            for start in range(0, len(events), size):
                sink.append(events.slice(start, size))

        found.append(len(events) / timed(append))
        print(f"  {f'{rows_a_request:,} rows a request':24} {found[-1]:10,.0f}")
    return max(found)


def pulls(bench: Bench) -> float:
    """Find how fast the Pub/Sub emulator gives messages to who only acknowledges them; return events/s.

    They are as many as `backlog` has, since each pull takes the longer the more wait.
    """
    bench.renew_subscription()
    bench.publish(bench.lines)
    subscription = Subscription(os.environ["PUBSUB_EMULATOR_HOST"], bench.stream.subscription)

    def pull() -> None:
        held: list[str] = []
        left = len(bench.lines)
        while left > 0:
            if pulled := subscription.pull():
                held += pulled.ack_ids
                left -= len(pulled.ack_ids)
            # In portions, so that none waits until it comes again.
            if len(held) > ACK_IDS - PULL_MESSAGES or left <= 0:
                subscription.acknowledge(held)
                held = []

    events_s = len(bench.lines) / timed(pull)
    print(f"pulls alone, events/s     {events_s:10,.0f}")
    return events_s


def sustained(bench: Bench) -> dict[str, float]:
    """Measure how fast a backlog is landed and what it costs, beside the peer; return figures by name."""
    objects = [as_object(line) for line in bench.lines]
    driver = "local.dataflow.stream_driver"
    pulls(bench)  # The emulator, a Java program, becomes faster as it runs.
    before_csv = pulls(bench)
    events_s, cpu = backlog(bench, "CSV lines", bench.lines, driver)
    between = pulls(bench)
    json_events_s, json_cpu = backlog(bench, "JSON objects", objects, driver)
    after_json = pulls(bench)
    _, peer_cpu = backlog(bench, "JSON objects, the peer", objects, "bench.stream_peer")
    return {
        "stream_events_s": events_s,
        "stream_pull_ceiling_events_s": mean((before_csv, between)),
        "stream_json_events_s": json_events_s,
        "stream_json_pull_ceiling_events_s": mean((between, after_json)),
        "stream_cpu_us_per_event": cpu,
        "stream_json_cpu_us_per_event": json_cpu,
        "stream_peer_cpu_us_per_event": peer_cpu,
        "stream_peer_to_json_cpu": peer_cpu / json_cpu,
    }


def backlog(bench: Bench, what: str, messages: Sequence[bytes], module: str) -> tuple[float, float]:
    """Publish messages and let a program land them; return events/s and us of CPU, from first row to last."""
    bench.empty_tables()
    bench.renew_subscription()
    bench.publish(list(messages))
    with bench.driver(module) as driver:
        first = bench.await_rows(1, driver)
        started = time.monotonic()
        first_mib = driver.memory_info().rss / 2**20
        cpu = sum(driver.cpu_times()[:2])
        landed = bench.await_rows(len(messages), driver)
        seconds = time.monotonic() - started
        cpu = sum(driver.cpu_times()[:2]) - cpu
        last_mib = driver.memory_info().rss / 2**20
    count = landed - first
    print(f"a backlog of {len(messages):,} {what}")
    print(f"  {'events/s':24} {count / seconds:10,.0f}")
    print(f"  {'us of CPU an event':24} {cpu / count * 1e6:10.1f}")
    print(f"  {'RSS, first and last MiB':24} {first_mib:10,.0f} {last_mib:,.0f}")
    return count / seconds, cpu / count * 1e6


def as_object(line: bytes) -> bytes:
    """Return an event's CSV line as the JSON object of a shop that has numbers for numbers."""
    fields = dict(zip(COLUMN_NAMES, line.decode().split(","), strict=True))
    numbers = {name: int(fields[name]) for name in NUMBERS} | {"price": float(fields["price"])}
    # BigQuery reads no "UTC" in the text of a time that is inserted, but Z.
    time_of = {"event_time": fields["event_time"].replace(" UTC", "Z")}
    return json.dumps(fields | numbers | time_of).encode()


def latency(bench: Bench, seconds: int) -> float:
    """Publish at a steady rate and measure from each publishing until a query counts the row.

    Return the median, in seconds.

    Which row is not asked: the nth that is counted is taken for the nth that was published.
    """
    bench.empty_tables()
    bench.renew_subscription()
    warm_up = WARM_UP_SECONDS * LATENCY_RATE
    lines = list(islice(cycle(bench.lines), warm_up + seconds * LATENCY_RATE))
    published: list[float] = []
    counted: list[tuple[float, int]] = []

    def publish_on_time() -> None:
        started = time.monotonic()
        for start in range(0, len(lines), PUBLISH_MESSAGES):
            time.sleep(max(0.0, started + start / LATENCY_RATE - time.monotonic()))
            part = lines[start : start + PUBLISH_MESSAGES]
            published.extend([time.monotonic()] * len(part))
            for line in part:
                bench.publisher.publish(bench.topic, line)

    with bench.driver() as driver:
        bench.publish(lines[:1])
        bench.await_rows(1, driver)
        bench.empty_tables()
        publishing = threading.Thread(target=publish_on_time, daemon=True)
        publishing.start()
        bench.await_rows(len(lines), driver, lambda rows: counted.append((time.monotonic(), rows)))
        publishing.join()
    counts = [rows for _, rows in counted]
    waits = sorted(
        counted[bisect_right(counts, place)][0] - at for place, at in enumerate(published) if place >= warm_up
    )
    print(
        f"{LATENCY_RATE} events/s for {seconds} s: seconds from publish to query, asked each {POLL_SECONDS} s"
    )
    for name, share in (("median", 0.5), ("99 %", 0.99), ("longest", 1.0)):
        print(f"  {name:24} {waits[min(int(share * len(waits)), len(waits) - 1)]:10.2f}")
    return median(waits)


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    measure(
        int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS,
        int(sys.argv[2]) if len(sys.argv) > 2 else LATENCY_SECONDS,
    )
