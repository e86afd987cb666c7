"""Loads whose processes are killed, and whose stores fail: in the end all is as after an undisturbed one."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud import pubsub_v1

from beam_jobs.spanner_sink import STORED_COLUMNS
from local.dataflow.jobs import running_workers
from local.root import ROOT
from local.stack import emulators
from local.stack.services import PRELOAD
from shopstream.settings import settings
from shopstream.stream.publish import publish
from tests.airflow_home import Run, load_dag, run_dag
from tests.dags.shop import DAY, Shop, line
from tests.faults import Storm, Way, stall, way
from tests.local.dataflow.service import Service, serving, until

pytestmark = pytest.mark.integration

SEED = 20191108

Rows = dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Moment:
    """When to kill whom: the job (as `task_id` wait_for_load) or the process of a task, so far into what it
    sends to a store and gets from it; with or without that what is just on its way arrives.
    """

    task_id: str
    store: str
    share: float
    arrives: bool

    def __str__(self) -> str:
        return f"{self.task_id}-{self.store}-{self.share:.2f}-{'arrives' if self.arrives else 'lost'}"


def moments() -> list[Moment]:
    """Twenty, by lot."""
    pick = random.Random(SEED)
    places = [
        *[("wait_for_load", "gcs"), ("wait_for_load", "spanner")] * 4,
        ("launch_load", "dataflow"),
        *[("gate", "bigquery")] * 2,
        ("gate", "gcs"),
        *[("reconcile", "bigquery")] * 2,
        ("reconcile", "spanner"),
        *[("publish", "bigquery")] * 2,
        ("publish", "spanner"),
        *[("write_audit_row", "bigquery")] * 2,
    ]
    return [Moment(*place, pick.uniform(0.02, 0.95), pick.random() < 0.5) for place in places]


MOMENTS = moments()


@dataclass
class Ways:
    """The ways to the stores: those of the tasks, in this process, and those of the Dataflow job."""

    tasks: dict[str, Way]
    job: dict[str, Way]

    def all(self) -> Iterator[Way]:
        yield from (*self.tasks.values(), *self.job.values())


@pytest.fixture(scope="module")
def job_ways(spanner_emulator: str, gcs_emulator: str) -> Iterator[dict[str, Way]]:
    with (
        way(gcs_emulator.removeprefix("http://")) as gcs,
        way(spanner_emulator, speaks_grpc=True) as spanner,
    ):
        yield {"gcs": gcs, "spanner": spanner}


@pytest.fixture(scope="module")
def dataflow(job_ways: dict[str, Way], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A local Dataflow whose jobs go to their stores by ways of ours."""
    environment = {
        "SHOPSTREAM_DATAFLOW_PRELOAD": ",".join(PRELOAD),
        "STORAGE_EMULATOR_HOST": job_ways["gcs"].url,
        "SPANNER_EMULATOR_HOST": job_ways["spanner"].host,
    }
    with serving(tmp_path_factory.mktemp("dataflow"), environment=environment) as service:
        yield service


@pytest.fixture
def ways(shop: Shop, job_ways: dict[str, Way], monkeypatch: pytest.MonkeyPatch) -> Iterator[Ways]:
    """The ways, all calm; tasks that run from now on take theirs."""
    with ExitStack() as stack:
        tasks = {
            "bigquery": stack.enter_context(way(_host(os.environ["BIGQUERY_EMULATOR_HOST"]))),
            "dataflow": stack.enter_context(way(_host(shop.dataflow.url))),
            "gcs": stack.enter_context(way(_host(os.environ["STORAGE_EMULATOR_HOST"]))),
            "spanner": stack.enter_context(way(os.environ["SPANNER_EMULATOR_HOST"], speaks_grpc=True)),
        }
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", tasks["bigquery"].url)
        monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", tasks["dataflow"].url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", tasks["gcs"].url)
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", tasks["spanner"].host)
        ways = Ways(tasks, job_ways)
        yield ways
        for one in job_ways.values():
            one.calm()


def _host(url: str) -> str:
    return url.removeprefix("http://")


def land(shop: Shop) -> None:
    """Three files with late events, equal lines and rejected ones."""
    late = DAY - timedelta(days=3)
    for part in range(3):
        lines = [line(number) for number in range(1_500 * part, 1_500 * part + 1_500)]
        lines += [line(10_000 + number, day=late) for number in range(20 * part, 20 * part + 20)]
        lines += [line(part, price="free"), lines[7]]
        shop.land(lines, name=f"part-{part}.csv")


@dataclass(frozen=True)
class Undisturbed:
    """What a load comes to that nothing disturbs, and how many bytes pass on each way meanwhile."""

    rows: Rows
    job_bytes: dict[str, int]
    task_bytes: dict[tuple[str, str], int]
    """By the task and its store."""

    def bytes_of_tasks(self, store: str) -> int:
        return sum(size for (_, to), size in self.task_bytes.items() if to == store)


# Of the first test that asks: no test changes it.
_undisturbed: list[Undisturbed] = []


def undisturbed(shop: Shop, ways: Ways) -> Undisturbed:
    """Load once undisturbed, and leave the stores empty for another load."""
    if not _undisturbed:
        totals: dict[str, Counter[str]] = {}

        def count(task_id: str) -> None:
            totals.setdefault(
                task_id, Counter({store: ways.tasks[store].front.passed for store in ways.tasks})
            )

        for one in ways.all():
            one.calm()
        run = shop.load(before_task=count)
        assert run.errors == {}
        count("end")
        steps = list(totals)
        task_bytes = {
            (task_id, store): totals[after][store] - totals[task_id][store]
            for task_id, after in pairwise(steps)
            for store in ways.tasks
        }
        job_bytes = {store: ways.job[store].front.passed for store in ways.job}
        _undisturbed.append(Undisturbed(rows_of(shop), job_bytes, task_bytes))
        shop.database.execute_partitioned_dml("DELETE FROM loaded_events WHERE TRUE")
        for table in ("shop_raw.events_batch", "shop_raw.rejected_events_batch", "shop_ops.loads"):
            shop.query(f"TRUNCATE TABLE {table}")
        for blob in shop.bucket.list_blobs(prefix="loads/"):
            blob.delete()
    return _undisturbed[0]


def rows_of(shop: Shop) -> Rows:
    """All rows of the stores, in order, without what is another in each load; each store holds one load's."""
    with shop.database.snapshot() as snapshot:
        result = snapshot.execute_sql("SELECT * FROM loaded_events")
        events = [dict(zip((field.name for field in result.fields), row, strict=True)) for row in result]
    assert len({event.pop("load_id") for event in events}) == 1
    rows = {"events": sorted(tuple(map(str, event.values())) for event in events)}
    for table, others in (
        ("shop_raw.events_batch", "load_id"),
        ("shop_raw.rejected_events_batch", "load_id, rejected_at"),
        ("shop_ops.loads", "load_id, job_id, loaded_at"),
    ):
        assert shop.query(f"SELECT COUNT(DISTINCT load_id) FROM {table}") == [(1,)]
        found = shop.query(f"SELECT * EXCEPT ({others}) FROM {table}")
        rows[table] = sorted(
            tuple(str(value).replace(shop.bucket.name, "bucket") for value in row) for row in found
        )
    return rows


def kill_job(shop: Shop, way: Way, at: int, arrives: bool) -> None:
    """Kill the load's job as soon as so many bytes have passed."""

    def kill() -> bool:
        [worker] = running_workers(shop.dataflow.state_dir).values()
        worker.kill()
        return arrives

    way.front.arm((at, kill))


def kill_task(task_id: str, way: Way, at: int, arrives: bool, log: Path) -> None:
    """Run a task of the newest run in a process, and kill that as soon as so many bytes have passed."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        run_id = session.scalars(select(DagRun.run_id).order_by(DagRun.id.desc())).first()
    started: list[subprocess.Popen[bytes]] = []

    def kill() -> bool:
        started[0].kill()
        return arrives

    way.front.arm((at, kill))
    command = [sys.executable, "-m", "tests.task_process", "load_events_daily", str(run_id), task_id]
    path = os.pathsep.join((str(ROOT), str(ROOT / "plugins")))
    with log.open("ab") as output:
        started.append(
            subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=output, stderr=output)
        )
    assert started[0].wait(240) == -signal.SIGKILL, log.read_text()


@pytest.mark.killpoint
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param((MOMENTS[1], MOMENTS[15]), id="some"),
        *(pytest.param((moment,), id=str(moment), marks=pytest.mark.soak) for moment in MOMENTS),
    ],
)
def test_a_load_killed_at_any_moment_and_tried_again_ends_as_an_undisturbed_one(
    shop: Shop, ways: Ways, tmp_path: Path, chosen: tuple[Moment, ...]
) -> None:
    land(shop)
    expected = undisturbed(shop, ways)
    left = list(chosen)

    def kill_in_time(task_id: str) -> None:
        for moment in [moment for moment in left if moment.task_id == "wait_for_load"]:
            if task_id == "launch_load":
                left.remove(moment)
                at = moment.share * expected.job_bytes[moment.store]
                kill_job(shop, ways.job[moment.store], int(at), moment.arrives)
        for moment in [moment for moment in left if moment.task_id == task_id]:
            left.remove(moment)
            at = moment.share * expected.task_bytes[task_id, moment.store]
            log = tmp_path / f"{task_id}.log"
            kill_task(task_id, ways.tasks[moment.store], int(at), moment.arrives, log)

    run = shop.load(before_task=kill_in_time)
    assert left == []
    assert run.errors == {}
    if any(moment.task_id == "wait_for_load" for moment in chosen):
        # Launched anew, as the second load of the day.
        assert run.returned["wait_for_load"]["load_id"] != run.returned["launch_load"]["load_id"]
    assert rows_of(shop) == expected.rows


def leave_a_stale_row(shop: Shop) -> None:
    """Leave what a load that died has left, for the next to delete."""
    row = {
        **dict.fromkeys(STORED_COLUMNS, 0),
        **dict.fromkeys(("event_date", "landing_day"), DAY),
        "event_time": datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC),
        **dict.fromkeys(("event_type", "category_code", "brand", "user_session"), "stale"),
        "event_id": "0" * 32,
        "load_id": f"{DAY:%Y%m%d}-00000000",
    }
    with shop.database.batch() as batch:
        batch.insert("loaded_events", list(row), [list(row.values())])


CUTS = ("refused", "reset", "stalled")
TOLD = {
    "refused": "refused|failed to connect",
    429: "429 .*try again later",
    503: "503 .*try again later",
    "UNAVAILABLE": "503 try again later",
    "ABORTED": "409 try again later",
    "RESOURCE_EXHAUSTED": "429 try again later",
}
"""What the logs say. A store that stalls just takes long; after a reset there is nothing to wait for."""
OUTAGES = [
    *[("spanner", fault) for fault in (*CUTS, "UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED")],
    *[(store, fault) for store in ("bigquery", "gcs") for fault in (*CUTS, 429, 503)],
]


def trouble(way: Way, fault: str | int, total_bytes: int, pick: random.Random) -> Callable[[], bool]:
    """Let a way fail at moments by lot within so many bytes; return what tells whether it has."""
    if fault not in CUTS:
        # Reads and new sessions are never aborted. What the local Dataflow reads to start a job is no job's.
        aborted = "Commit|BeginTransaction|AppendRows|Publish|Pull|Acknowledge"
        of = aborted if fault == "ABORTED" else r"^(?!.*/templates%2F)"
        way.errors.storm = storm = Storm(fault, pick, of=of)
        return lambda: storm.failed > 0
    act = {
        "refused": lambda: way.front.refuse(3),
        "reset": way.front.cut,
        "stalled": stall(5),
    }[str(fault)]
    way.front.arm(*((int(pick.uniform(0.02, 0.9) * total_bytes), act) for _ in range(2)))
    return lambda: way.front.is_done


@pytest.mark.outage
@pytest.mark.parametrize(
    "outages",
    [
        pytest.param([("spanner", "UNAVAILABLE"), ("bigquery", 503), ("gcs", 429)], id="some"),
        *(
            pytest.param([outage], id="-".join(map(str, outage)), marks=pytest.mark.soak)
            for outage in OUTAGES
        ),
    ],
)
def test_a_load_outlasts_stores_that_fail_for_a_while_and_tells_what_it_waits_for(
    shop: Shop, ways: Ways, outages: list[tuple[str, str | int]], caplog: pytest.LogCaptureFixture
) -> None:
    land(shop)
    expected = undisturbed(shop, ways)
    leave_a_stale_row(shop)
    pick = random.Random(f"{SEED}{outages}")
    troubles = [
        trouble(way, fault, size, pick)
        for store, fault in outages
        for way, size in (
            (ways.tasks[store], expected.bytes_of_tasks(store)),
            (ways.job.get(store), expected.job_bytes.get(store, 0)),
        )
        if way
    ]
    caplog.clear()
    begun: Counter[str] = Counter()

    def begin(task_id: str) -> None:
        begun[task_id] += not task_id.startswith("wait_")
        # The clients themselves outlast it.
        assert begun[task_id] < 2, caplog.text

    run = shop.load(before_task=begin)
    assert run.errors == {}
    assert all(has_come() for has_come in troubles)
    assert rows_of(shop) == expected.rows
    job_log = shop.dataflow.state_dir / run.returned["launch_load"]["job_id"] / "log"
    for store, fault in outages:
        if fault in TOLD:
            assert re.search(f"WARNING.*{TOLD[fault]}", caplog.text)
            assert store not in ways.job or re.search(f"WARNING.*{TOLD[fault]}", job_log.read_text())


@pytest.mark.outage
@pytest.mark.soak
def test_a_load_outlasts_the_death_of_the_local_dataflow(
    shop: Shop, ways: Ways, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(shop)
    expected = undisturbed(shop, ways)
    port = emulators.free_port()
    with ExitStack() as stack:

        def serve() -> Service:
            # The jobs of before go on, or are found dead, as those of a machine that is gone.
            return stack.enter_context(serving(tmp_path, port))

        shop.dataflow = service = serve()
        monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", service.url)
        killed: list[Service] = []

        def kill_once(task_id: str) -> None:
            if task_id == "wait_for_load" and not killed:
                until(lambda: running_workers(tmp_path), "a worker")
                killed.append(service)
                service.kill()
                shop.dataflow = serve()

        run = shop.load(before_task=kill_once)
    assert killed
    assert run.errors == {}
    assert rows_of(shop) == expected.rows


@pytest.mark.soak
@pytest.mark.parametrize("begun", ["launch_load", "wait_for_load", "gate", "publish"])
def test_of_two_loads_of_a_day_at_once_one_is_published_whole(shop: Shop, ways: Ways, begun: str) -> None:
    shop.land(line(n) for n in range(2_000))
    other: list[Run] = []

    def load_too(task_id: str) -> None:
        if task_id == begun and not other:
            other.append(shop.load())

    first = shop.load(before_task=load_too)
    assert "success" in (first.state, other[0].state)
    assert [product for product, _, _ in shop.spanner()] == [1_000_000 + n for n in range(2_000)]
    assert shop.spanner() == shop.published()
    assert len({load_id for _, _, load_id in shop.published()}) == 1
    assert shop.audit()[-1][1:3] == (2_000, 2_000)


@pytest.mark.soak
def test_a_reload_while_summaries_are_built_is_in_them_in_the_end(shop: Shop, ways: Ways) -> None:
    shop.land(line(n) for n in range(300))
    assert shop.load().errors == {}
    reloads: list[Run] = []

    def reload(task_id: str) -> None:
        if task_id.endswith("purchase_funnels") and not reloads:
            shop.land(line(n) for n in range(30, 330))
            reloads.append(shop.load())

    days = {"first_day": str(DAY), "dry_run": False}
    disturbed = run_dag(load_dag("build_summaries"), days, before_task=reload)
    assert (disturbed.errors, reloads[0].errors) == ({}, {})
    # The reload's asset starts the next.
    assert shop.run("build_summaries", **days).errors == {}
    assert shop.query("SELECT SUM(events) FROM shop.daily_event_count") == [(300,)]
    for table in ("product_performance", "sessions"):
        assert shop.query(f"SELECT COUNT(*) FROM shop.{table}") == [(300,)]
    products = "SELECT product_id FROM shop.product_performance ORDER BY 1"
    assert shop.query(products) == [(1_000_000 + n,) for n in range(30, 330)]


STREAM_EVENTS = 3_000
STREAM_OUTAGES = [
    *[("pubsub", fault) for fault in (*CUTS, "UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED")],
    *[("bigquery", fault) for fault in (*CUTS, "UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED")],
]


@dataclass
class Feed:
    """A topic and its subscription, whose stream the driver lands in BigQuery; and the ways there."""

    topic: str
    subscription: str
    ways: dict[str, Way]

    @contextmanager
    def driver(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The stream's job; killed at the end if it still runs."""
        project = settings().project
        command = [
            *(sys.executable, "-m", "local.dataflow.stream_driver"),
            f"--subscription={self.subscription}",
            f"--events_table={project}:shop_raw.events_stream",
            f"--rejected_table={project}:shop_raw.rejected_events_stream",
        ]
        environment = {
            **os.environ,
            "BIGQUERY_STORAGE_EMULATOR_HOST": self.ways["bigquery"].host,
            "PUBSUB_EMULATOR_HOST": self.ways["pubsub"].host,
        }
        with log.open("wb") as output:
            child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        try:
            yield child
        finally:
            child.kill()
            child.wait()


@pytest.fixture
def feed(pubsub_emulator: str, bigquery_tables: bigquery_api.Client) -> Iterator[Feed]:
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    name = f"events-{uuid.uuid4().hex[:12]}"
    topic = publisher.topic_path(settings().project, name)
    subscription = subscriber.subscription_path(settings().project, name)
    publisher.create_topic(name=topic)
    subscriber.create_subscription(name=subscription, topic=topic, ack_deadline_seconds=10)
    with (
        way(pubsub_emulator, speaks_grpc=True) as pubsub,
        way(os.environ["BIGQUERY_STORAGE_EMULATOR_HOST"], speaks_grpc=True) as bigquery,
    ):
        yield Feed(topic, subscription, {"bigquery": bigquery, "pubsub": pubsub})


@pytest.mark.outage
@pytest.mark.parametrize(
    "outages",
    [
        pytest.param([("pubsub", "UNAVAILABLE"), ("bigquery", "UNAVAILABLE")], id="some"),
        *(
            pytest.param([outage], id="-".join(map(str, outage)), marks=pytest.mark.soak)
            for outage in STREAM_OUTAGES
        ),
    ],
)
def test_a_stream_outlasts_stores_that_fail_for_a_while_and_tells_what_it_waits_for(
    feed: Feed,
    bigquery_tables: bigquery_api.Client,
    outages: list[tuple[str, str | int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = "".join(line(number) for number in range(STREAM_EVENTS)) + "no event\n"
    (tmp_path / "events.csv").write_text(events)
    pick = random.Random(f"{SEED}{outages}")
    log = tmp_path / "driver.log"

    def landed(question: str) -> tuple[int, ...]:
        return tuple(next(iter(bigquery_tables.query_and_wait(question))))

    with feed.driver(log) as driver:
        until(lambda: "drained" in log.read_text() or feed.ways["pubsub"].front.passed, "the driver to pull")
        # Each byte of an event passes to the topic, from it, and into BigQuery.
        troubles = [trouble(feed.ways[store], fault, len(events), pick) for store, fault in outages]
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", feed.ways["pubsub"].host)
        published = publish(str(tmp_path / "events.csv"), feed.topic)
        assert published.published == STREAM_EVENTS + 1
        in_view = f"SELECT COUNT(*), COUNT(DISTINCT event_id) FROM shop.events WHERE event_date = '{DAY}'"
        # Not by message_id: what is published again, since the answer was lost, is another message.
        rejected = "SELECT COUNT(DISTINCT raw) FROM shop_raw.rejected_events_stream"
        until(
            lambda: (landed(in_view)[1] == STREAM_EVENTS and landed(rejected) == (1,)) or driver.poll(),
            "all events",
            180,
        )
        driver.send_signal(signal.SIGUSR1)
        assert driver.wait(60) == 0, log.read_text()
    assert all(has_come() for has_come in troubles)
    assert landed(in_view) == (STREAM_EVENTS, STREAM_EVENTS)
    logs = caplog.text + log.read_text()
    for _, fault in outages:
        if fault in TOLD:
            assert re.search(f"WARNING.*{TOLD[fault]}", logs), logs
