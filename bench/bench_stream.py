"""What the stream takes on one machine: events a second from a backlog, and the time from publish to query.

Run as `python -m bench.bench_stream [events] [seconds of latency]`. Emulators and driver are processes of
their own, as in the local stack.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from itertools import cycle, islice
from pathlib import Path

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, pubsub_v1

from beam_jobs.bigquery_sink import BigQuerySink
from beam_jobs.messages import Message, event_rows, judge
from beam_jobs.stream_events import StreamOptions, land, write_events, write_rejects
from local.events.files import write_landing_day
from local.root import ROOT
from local.stack import emulators
from local.stack.provision import ACK_DEADLINE_SECONDS
from shopstream.settings import settings
from shopstream.tables.apply import apply
from shopstream.tables.folder import load_table

DAY = date(2019, 11, 1)
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
        pubsub_v1.SubscriberClient().create_subscription(
            name=self.stream.subscription, topic=self.topic, ack_deadline_seconds=ACK_DEADLINE_SECONDS
        )

    def empty_tables(self) -> None:
        """Make the tables anew."""
        self.client.delete_dataset("shop_raw", delete_contents=True, not_found_ok=True)
        for table in self.tables:
            apply(self.client, table)

    def rows(self) -> int:
        """Ask how many events are in the table."""
        return next(iter(self.client.query_and_wait("SELECT COUNT(*) FROM shop_raw.events_stream")))[0]

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
    def driver(self) -> Iterator[psutil.Process]:
        """Run the driver, and drain it at the end."""
        command = [
            sys.executable,
            "-m",
            "local.dataflow.stream_driver",
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


def main(events: int, latency_seconds: int) -> None:
    os.environ["NO_GCE_CHECK"] = "true"
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(ROOT / "local" / "google_credentials.json")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        write_landing_day(directory, DAY, events)
        [file] = (directory / str(DAY)).glob("*.csv")
        lines = file.read_bytes().splitlines()[1:]
        pubsub_port, bigquery_port = emulators.free_port(), emulators.free_port()
        stack.enter_context(emulators.running(emulators.pubsub(pubsub_port), directory / "pubsub.log"))
        program = emulators.bigquery(bigquery_port, directory, settings().project)
        stack.enter_context(emulators.running(program, directory / "bigquery.log"))
        os.environ["PUBSUB_EMULATOR_HOST"] = f"{emulators.HOST}:{pubsub_port}"
        os.environ["BIGQUERY_EMULATOR_HOST"] = f"http://{emulators.HOST}:{bigquery_port}"
        bench = Bench(lines)
        micro_batches(bench)
        inserts(bench)
        sustained(bench)
        latency(bench, latency_seconds)


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


def inserts(bench: Bench) -> None:
    """Find how fast the BigQuery emulator is, by rows a request."""
    judged = judge([Message(line) for line in bench.lines[:INSERT_ROWS]])
    print("insertAll on the BigQuery emulator, rows/s")
    rows = event_rows(judged.events)
    for rows_a_request in (100, 500, 2000, 5000):
        bench.empty_tables()

        def insert(size: int = rows_a_request) -> None:
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                bench.client.insert_rows_json(
                    "shop_raw.events_stream",
                    part,
                    row_ids=[row["event_id"] for row in part],
                    skip_invalid_rows=True,
                )

        print(f"  {f'{rows_a_request:,} rows a request':24} {len(rows) / timed(insert):10,.0f}")


def sustained(bench: Bench) -> None:
    """Measure how fast a backlog is landed, from the first row to the last."""
    bench.empty_tables()
    bench.publish(bench.lines)
    with bench.driver() as driver:
        first = bench.await_rows(1, driver)
        started = time.monotonic()
        first_mib = driver.memory_info().rss / 2**20
        cpu = sum(driver.cpu_times()[:2])
        landed = bench.await_rows(len(bench.lines), driver)
        seconds = time.monotonic() - started
        cpu = sum(driver.cpu_times()[:2]) - cpu
        last_mib = driver.memory_info().rss / 2**20
    count = landed - first
    print(f"a backlog of {len(bench.lines):,} events")
    print(f"  {'events/s':24} {count / seconds:10,.0f}")
    print(f"  {'us of CPU an event':24} {cpu / count * 1e6:10,.0f}")
    print(f"  {'RSS, first and last MiB':24} {first_mib:10,.0f} {last_mib:,.0f}")


def latency(bench: Bench, seconds: int) -> None:
    """Publish at a steady rate and measure from each publishing until a query counts the row.

    Which row is not asked: the nth that is counted is taken for the nth that was published.
    """
    bench.empty_tables()
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


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS,
        int(sys.argv[2]) if len(sys.argv) > 2 else LATENCY_SECONDS,
    )
