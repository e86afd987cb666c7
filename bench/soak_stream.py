"""Whether the stream loses or doubles anything while it is killed, drained and updated under load.

Run as `python -m bench.soak_stream [--messages N] [--seed S]`. It starts emulators, a local Dataflow and an
Airflow home of its own, and publishes N messages as fast as the stream takes them: 2 % poison, 1 %
duplicates, CSV and JSON in turn. Meanwhile it ends the streaming process five times by SIGKILL, stops the
stream by a drain and starts it again, and updates it to another version, at moments that the seed chooses;
real runs of keep_stream_alive and stop_stream do what they do in production. At last it compares what
BigQuery holds with what was published, and exits with 1 if anything was lost or doubled. What the DAGs log is
in build/soak/log.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from google.api_core.exceptions import DeadlineExceeded
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud import pubsub_v1

from beam_jobs.contract import MAX_LINE_BYTES
from local.dataflow.jobs import running_workers
from local.events.day import generate_day
from local.root import ROOT
from local.stack import airflow_settings, emulators
from local.stack.provision import ACK_DEADLINE_SECONDS, provision
from shopstream.settings import settings
from shopstream.stream.decide import STREAM_JOB
from shopstream.stream.publish import FORMATS, publish
from shopstream.tables.apply import apply
from shopstream.tables.folder import all_tables

MESSAGES = 1_000_000
POISON_SHARE = 0.02
DUPLICATE_SHARE = 0.01
DUPLICATE_DISTANCE = 10_000
"""A duplicate repeats one of so many events before it."""
LONG_POISON_SHARE = 0.002
KILLS = 5
FIRST_SHARE, CALM_SHARE = 0.03, 0.4
"""Disturbances come after the first so many and before the last so many messages."""
WARM_UP_SHARE = 0.05
"""The last job's memory is first looked at when it has taken so many of the messages."""
MAX_MEMORY_GROWTH = 1.2
FILES = 100
WAITING_SHARE = 0.05
"""While so many of the messages wait, no more are published: the Pub/Sub emulator keeps them in memory."""
POLL_SECONDS = 0.5
STALL_SECONDS = 180
"""Without a new row for so long, the stream counts as broken."""
QUIET_SECONDS = 15
"""The driver asks Pub/Sub anew each 4 seconds at the latest, and writes what it gets within seconds."""
DEADLINE_MARGIN_SECONDS = 5
PULL_SECONDS = 10
DAY = date(2019, 11, 1)
NEXT_VERSION = "soak-2"
FOLDER = ROOT / "build" / "soak"


class Broken(RuntimeError):
    """The stream does not do what it should; there is no use in going on."""


@dataclass
class Expected:
    """What is in the messages; the sums are over the distinct events."""

    messages: int = 0
    poison: int = 0
    duplicates: int = 0
    events: int = 0
    product_ids: int = 0
    user_ids: int = 0
    cents: int = 0


@dataclass
class Seen:
    """What a thread looks at twice a second."""

    landings: list[tuple[int, float]] = field(default_factory=lambda: [(0, 0.0)])
    """(messages landed in all, when that was first seen), whenever they were more."""
    memory: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Of each job, in order: (messages landed in all, bytes of the process)."""

    @property
    def landed(self) -> int:
        """Messages landed in all."""
        return self.landings[-1][0]

    @property
    def landed_at(self) -> float:
        """When there was last something new."""
        return self.landings[-1][1]


def main() -> int:
    """Run the soak and print its figures; 0 if nothing is broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=MESSAGES, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=2019, help="of poison and moments (default: %(default)s)")
    options = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "messages").mkdir(parents=True)
    tell = take_output(FOLDER / "log")
    pick = random.Random(options.seed)
    expected, files = write_messages(FOLDER / "messages", options.messages, pick)
    with ExitStack() as stack:
        start_stack(stack)
        soak = Soak(expected, files, pick, tell)
        try:
            return soak.run()
        except Broken as error:
            tell(f"BROKEN: {error}. Read {FOLDER / 'log'} and the jobs' logs beside it.")
            return 1


def take_output(log: Path) -> Callable[[str], None]:
    """Send what this process and its children print to a file; return what prints to the console."""
    console = os.fdopen(os.dup(1), "w", buffering=1)
    with log.open("wb") as out:
        for descriptor in (1, 2):
            os.dup2(out.fileno(), descriptor)
    began = time.monotonic()
    return lambda text: print(f"{time.monotonic() - began:6.0f} s  {text}", file=console)


def write_messages(folder: Path, messages: int, pick: random.Random) -> tuple[Expected, list[Path]]:
    """Write the messages to FILES files of CSV lines; return what is in them, and the files."""
    expected = Expected()
    events = event_lines(messages)
    recent: deque[bytes] = deque([next(events)], DUPLICATE_DISTANCE)
    # Hashes, since the lines of a million would be 200 MB.
    seen: set[int] = set()
    files: list[Path] = []
    while expected.messages < messages:
        files.append(folder / f"{len(files):05d}.csv")
        with files[-1].open("wb") as out:
            for _ in range(min(-(-messages // FILES), messages - expected.messages)):
                expected.messages += 1
                draw = pick.random()
                if draw < POISON_SHARE:
                    line = poison(recent[-1], pick)
                    expected.poison += 1
                elif draw < POISON_SHARE + DUPLICATE_SHARE:
                    line = recent[pick.randrange(len(recent))]
                else:
                    line = next(events)
                    recent.append(line)
                if draw >= POISON_SHARE:
                    expected.duplicates += hash(line) in seen
                    if hash(line) not in seen:
                        seen.add(hash(line))
                        add(expected, line)
                out.write(line + b"\n")
    return expected, files


def event_lines(count: int) -> Iterator[bytes]:
    """Valid events, a little more than `count` of them; a few come twice."""
    chunks = generate_day(DAY, count + 1)
    next(chunks)  # the header
    for chunk in chunks:
        yield from chunk.csv.splitlines()


def add(expected: Expected, line: bytes) -> None:
    """Count a distinct event."""
    values = line.split(b",")
    expected.events += 1
    expected.product_ids += int(values[2])
    expected.cents += int(values[6].replace(b".", b""))  # generated prices have two decimals
    expected.user_ids += int(values[7])


def poison(line: bytes, pick: random.Random) -> bytes:
    """What cannot be an event, made of one."""
    values = line.split(b",")
    if pick.random() < LONG_POISON_SHARE:
        return line + b"x" * MAX_LINE_BYTES
    match pick.randrange(10):
        case 0:
            return line[:40]
        case 1:
            return b'{"event_time": ' + line
        case 2:
            return b"\xff\xfe" + line
        case 3:
            return line + b",1"
        case 4:
            return b"[1, 2]"
        case 5:
            values[0] = b"yesterday"
        case 6:
            values[1] = b"click"
        case 7:
            values[5] = b"sam\tsung"
        case 8:
            values[6] = b"-1.00"
        case 9:
            values[7] = b""
    return b",".join(values)


def start_stack(stack: ExitStack) -> None:
    """Start what the stream needs on free ports, with an empty state, and lay everything out in it."""
    project, ports = settings().project, [emulators.free_port() for _ in range(7)]
    pubsub, spanner, gcs, warehouse, dataflow, airflow, storage = ports
    urls = [f"http://{emulators.HOST}:{port}" for port in ports]
    storage_dir = FOLDER / "gcs"
    storage_dir.mkdir()
    os.environ.update(
        PUBSUB_EMULATOR_HOST=f"{emulators.HOST}:{pubsub}",
        SPANNER_EMULATOR_HOST=f"{emulators.HOST}:{spanner}",
        STORAGE_EMULATOR_HOST=urls[2],
        BIGQUERY_EMULATOR_HOST=urls[3],
        BIGQUERY_STORAGE_EMULATOR_HOST=f"{emulators.HOST}:{storage}",
        NO_GCE_CHECK="true",
        GOOGLE_APPLICATION_CREDENTIALS=str(ROOT / "local" / "google_credentials.json"),
        SHOPSTREAM_DATAFLOW_ENDPOINT=urls[4],
        SHOPSTREAM_MONITORING_ENDPOINT=urls[4],
        SHOPSTREAM_DATAFLOW_PORT=str(dataflow),
        SHOPSTREAM_DATAFLOW_STATE=str(FOLDER / "jobs"),
        # Kills are part of this, and no reason to stay down.
        SHOPSTREAM_STREAM_MAX_LAUNCHES="100",
        PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "plugins"))),
        **airflow_settings.environment(FOLDER / "airflow", airflow, project),
    )
    service = emulators.Program(
        "dataflow",
        (sys.executable, "-m", "local.dataflow"),
        lambda: emulators.answers(f"{urls[4]}/healthz"),
    )
    for program in (
        emulators.pubsub(pubsub, heap_mebibytes=4096),
        emulators.spanner(spanner),
        emulators.gcs(gcs, storage_dir),
        emulators.bigquery(warehouse, storage, storage_dir, project),
        service,
    ):
        stack.enter_context(emulators.running(program, FOLDER / f"{program.name}.log"))
    airflow_settings.lay_out(FOLDER / "airflow", "unused", os.environ)
    provision(settings())
    for table in all_tables(settings().sql_dir):
        apply(bigquery_client(), table)


def bigquery_client() -> bigquery_api.Client:
    """A client of the emulator."""
    return bigquery_api.Client(project=settings().project, credentials=AnonymousCredentials())


class Soak:
    """One soak, on a running stack."""

    def __init__(
        self, expected: Expected, files: list[Path], pick: random.Random, tell: Callable[[str], None]
    ) -> None:
        # With Airflow's settings in the environment only now.
        from shopstream.gcp.dataflow import DataflowHook
        from tests.airflow_home import load_dag

        self.expected = expected
        self.files = files
        self.pick = pick
        self.tell = tell
        self.hook = DataflowHook()
        self.dags = {dag_id: load_dag(dag_id) for dag_id in ("keep_stream_alive", "stop_stream")}
        self.client = bigquery_client()
        self.seen = Seen()
        self.published = 0
        self.next_disturbance: float = 0
        self.recoveries: list[float] = []
        self.ended = threading.Event()
        self.failure: Exception | None = None

    def run(self) -> int:
        """Feed and disturb the stream, wait for all messages, and compare; 0 if nothing is broken."""
        self.tell(f"Starting the stream for {self.expected.messages:,} messages.")
        self.run_dag("keep_stream_alive")
        began = time.monotonic()
        for work in (self.watch, self.feed):
            threading.Thread(target=self.guarded, args=(work,), daemon=True).start()
        try:
            for place, disturb in self.plan():
                # A stream that is past the place gets more messages still, or there were none to disturb.
                self.next_disturbance = max(place, self.seen.landed)
                self.wait_for(lambda place=place: self.seen.landed >= place)  # type: ignore[misc]
                disturb()
            self.next_disturbance = math.inf
            self.wait_for(self.all_landed)
            seconds = self.seen.landed_at - began
            last_job = self.active_job()
            self.wait_for(self.is_quiet)
            self.run_dag("stop_stream")
        finally:
            self.ended.set()
        rate = self.expected.messages / seconds
        self.tell(f"All messages are landed: {seconds:.0f} s, {rate:,.0f} messages/s with all disturbances.")
        return self.judge(last_job)

    def plan(self) -> list[tuple[int, Callable[[], None]]]:
        """The disturbances in order, each with the number of landed messages at which it comes."""
        disturbances = [self.kill] * KILLS + [self.drain, self.update]
        self.pick.shuffle(disturbances)
        shares = sorted(self.pick.uniform(FIRST_SHARE, 1 - CALM_SHARE) for _ in disturbances)
        return [
            (round(share * self.expected.messages), act)
            for share, act in zip(shares, disturbances, strict=True)
        ]

    def kill(self) -> None:
        """End the streaming process by SIGKILL, and let keep-alive bring it back."""
        job_id = self.active_job()
        os.kill(running_workers(FOLDER / "jobs")[job_id].pid, signal.SIGKILL)
        killed = time.monotonic()
        self.wait_for(lambda: not self.hook.active_jobs(STREAM_JOB))
        landed = self.count_landed()
        # If all that was to wait for the kill had landed before it, more must come.
        self.next_disturbance = max(self.next_disturbance, landed)
        self.run_dag("keep_stream_alive", by_hand=False)
        self.wait_for(lambda: self.seen.landed > landed)
        # Keep-alive returns when the new job has run for a while: rows came before.
        came = next(at for rows, at in self.seen.landings if rows > landed)
        self.recoveries.append(came - killed)
        self.tell(f"Killed at {landed:,} rows; the next row came {self.recoveries[-1]:.0f} s after.")

    def drain(self) -> None:
        """Stop the stream; see that keep-alive leaves it so; start it again."""
        job_id = self.active_job()
        self.run_dag("stop_stream")
        self.run_dag("keep_stream_alive", by_hand=False)
        landed = self.count_landed()
        if (state := self.hook.state(job_id)) != "JOB_STATE_DRAINED" or self.hook.active_jobs(STREAM_JOB):
            raise Broken(f"after stop_stream job {job_id} is {state}, or another one is active")
        self.run_dag("keep_stream_alive")
        self.tell(f"Drained at {landed:,} rows, left so by keep-alive, and started again by hand.")

    def update(self) -> None:
        """Deploy another version, which keep-alive brings about."""
        job_id = self.active_job()
        os.environ["SHOPSTREAM_TEMPLATE_VERSION"] = NEXT_VERSION
        provision(settings())
        done = self.run_dag("keep_stream_alive", by_hand=False)
        self.wait_for(lambda: self.hook.state(job_id) == "JOB_STATE_UPDATED")
        if done["decision"] != "update" or self.active_job() == job_id:
            raise Broken(f"job {job_id} was not updated: keep_stream_alive returned {done}")
        self.tell(f"Updated at {self.count_landed():,} rows to version {NEXT_VERSION}.")

    def run_dag(self, dag_id: str, *, by_hand: bool = True) -> Any:
        """Run a DAG to its end; return what its first task returned."""
        from tests.airflow_home import run_dag

        run = run_dag(self.dags[dag_id], {}, by_hand=by_hand)
        if run.state != "success":
            raise Broken(f"{dag_id} failed: {run.errors}")
        return next(iter(run.returned.values()))

    def active_job(self) -> str:
        """The id of the one job that is active.

        Raises:
            Broken: none is, or more than one.
        """
        jobs = self.hook.active_jobs(STREAM_JOB)
        if len(jobs) != 1:
            raise Broken(f"{len(jobs)} jobs are active where one should be: {jobs}")
        return str(jobs[0]["id"])

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds.

        Raises:
            Broken: nothing has landed for STALL_SECONDS, or a thread has failed.
        """
        began = time.monotonic()
        while not condition():
            if self.failure:
                raise Broken(f"a thread failed: {self.failure!r}") from self.failure
            if time.monotonic() - max(began, self.seen.landed_at) > STALL_SECONDS:
                raise Broken(
                    f"nothing new in {STALL_SECONDS} s, with {self.published:,} messages published and "
                    f"{self.seen.landed:,} rows landed"
                )
            time.sleep(POLL_SECONDS)

    def guarded(self, work: Callable[[], None]) -> None:
        """Run a thread's work, and leave its failure where wait_for finds it."""
        try:
            work()
        except Exception as error:
            self.failure = error

    def feed(self) -> None:
        """Publish file after file; let some messages wait at each disturbance, but never too many."""
        topic = f"projects/{settings().project}/topics/{settings().topic}"
        may_wait = WAITING_SHARE * self.expected.messages
        for number, path in enumerate(self.files):
            while self.published > min(self.seen.landed, self.next_disturbance) + may_wait:
                time.sleep(POLL_SECONDS)
            message_format = FORMATS[number % len(FORMATS)]
            self.published += publish(str(path), topic, message_format=message_format).published

    def watch(self) -> None:
        """Look at the rows and at the memory of the streaming process, until the end."""
        while not self.ended.wait(POLL_SECONDS):
            if (landed := self.count_landed()) > self.seen.landed:
                self.seen.landings.append((landed, time.monotonic()))
            for job_id, worker in running_workers(FOLDER / "jobs").items():
                self.seen.memory.setdefault(job_id, []).append((landed, worker.memory_info().rss))

    def count_landed(self) -> int:
        """Rows in both tables, with what was written twice."""
        [[rows]] = self.client.query_and_wait(
            "SELECT (SELECT COUNT(*) FROM shop_raw.events_stream) "
            "+ (SELECT COUNT(*) FROM shop_raw.rejected_events_stream)"
        )
        return int(rows)

    def all_landed(self) -> bool:
        """Whether each distinct event and each poison message has a row."""
        if self.seen.landed < self.expected.events + self.expected.poison:
            return False
        [[events, rejects]] = self.client.query_and_wait(
            "SELECT (SELECT COUNT(DISTINCT event_id) FROM shop_raw.events_stream), "
            "(SELECT COUNT(DISTINCT message_id) FROM shop_raw.rejected_events_stream)"
        )
        return bool(events >= self.expected.events and rejects >= self.expected.poison)

    def is_quiet(self) -> bool:
        """Whether nothing has landed for so long that the job has everything that Pub/Sub had for it.

        The last messages may be duplicates, whose events have a row long since.
        """
        return time.monotonic() - self.seen.landed_at > QUIET_SECONDS

    def judge(self, last_job: str) -> int:
        """Print what was expected and what is there; 0 if that is the same."""
        expected = self.expected
        [events] = self.client.query_and_wait(
            "SELECT COUNT(*) AS shown, COUNT(DISTINCT event_id) AS ids, SUM(product_id) AS product_ids, "
            f"SUM(user_id) AS user_ids, SUM(price) AS prices FROM shop.events WHERE event_date = '{DAY}'"
        )
        [rejects] = self.client.query_and_wait(
            "SELECT COUNT(*) AS shown, COUNT(DISTINCT message_id) AS messages "
            "FROM shop_raw.rejected_events_stream"
        )
        rows = self.count_landed() - rejects["shown"]
        waiting = len(pull_left())
        checks = [
            ("messages published", expected.messages, self.published),
            ("events in shop.events", expected.events, events["shown"]),
            ("distinct event_id in it", expected.events, events["ids"]),
            ("sum of product_id", expected.product_ids, events["product_ids"]),
            ("sum of user_id", expected.user_ids, events["user_ids"]),
            ("sum of price, in cents", expected.cents, int(events["prices"] * 100)),
            ("messages rejected", expected.poison, rejects["messages"]),
            ("messages left in Pub/Sub", 0, waiting),
        ]
        memory = self.seen.memory[last_job]
        warm = memory[0][0] + round(WARM_UP_SHARE * expected.messages)
        first, last = next(size for landed, size in memory if landed >= warm), memory[-1][1]
        self.tell(f"{'':28}{'expected':>22}{'found':>22}")
        for name, wanted, found in checks:
            self.tell(f"{name:28}{wanted:22,}{found:22,}{'' if wanted == found else '  BROKEN'}")
        self.tell(f"Duplicates published: {expected.duplicates:,}.")
        self.tell(f"Rows: {rows:,} in events_stream, {rejects['shown']:,} in rejected_events.")
        self.tell(f"Seconds from kill to next row: {', '.join(f'{s:.0f}' for s in self.recoveries)}.")
        flat = last <= first * MAX_MEMORY_GROWTH
        self.tell(
            f"Memory of the last job over its last {memory[-1][0] - warm:,} rows: "
            f"first {first / 2**20:,.0f} MiB, last {last / 2**20:,.0f} MiB{'' if flat else '  BROKEN'}."
        )
        broken = not flat or any(wanted != found for _, wanted, found in checks)
        self.tell("BROKEN" if broken else "Nothing was lost, nothing is double.")
        return int(broken)


def pull_left() -> list[Any]:
    """What the subscription still delivers, also of what was pulled and not acknowledged."""
    time.sleep(ACK_DEADLINE_SECONDS + DEADLINE_MARGIN_SECONDS)
    with pubsub_v1.SubscriberClient(credentials=AnonymousCredentials()) as subscriber:
        path = subscriber.subscription_path(settings().project, settings().subscription)
        try:
            answer = subscriber.pull(subscription=path, max_messages=10, timeout=PULL_SECONDS, retry=None)
        except DeadlineExceeded:
            return []
        return list(answer.received_messages)


if __name__ == "__main__":
    sys.exit(main())
