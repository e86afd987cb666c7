"""What 1, 100 and 10,000 times this shop need, and what breaks first: `python -m bench.scale`.

Prints the tables of docs/scale.md: a load's machines, nodes and hours, the hot spots of Spanner's key and of
others (bench/hot_spots.py), at how many times this shop each limit is met, dollars by service. Measured are
the CPU of a row and an event (of `make bench`; where build/bench/result.json has newer ones, the tables use
them and say so), published the limits, each with its page. A limit of Google's was read in a public
transcript of that page, not tried.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, NamedTuple

from beam_jobs.contract import SHARDS
from beam_jobs.lines import BLOCK_BYTES
from beam_jobs.spanner_sink import MAX_COMMIT_MUTATIONS, STORED_COLUMNS
from bench.hot_spots import KEYS, LONGEST_HOURS, Followed, Key, follow, history_of, today_of
from infra.deploy import PLACEHOLDER_PROJECT, read_target
from local.root import ROOT
from local.stack import emulators
from shopstream.load.publish import MAX_JOB_URIS
from shopstream.settings import settings
from shopstream.tables.folder import TableError, all_tables
from shopstream.tables.names import EVENTS_STREAM
from tools.cost.__main__ import TIMES, bill, by_service, human, table
from tools.cost.queries import DAYS_A_MONTH, queries, read_shop, sizes_of
from tools.cost.services import (
    BUSY_SHARE,
    CSV_BYTES,
    LOAD_CPU_US,
    LOAD_HOURS,
    MESSAGE_BYTES,
    NODE_BYTES,
    NODE_WRITES_A_SECOND,
    PEAK,
    STREAM_CPU_US,
    load_vcpu_hours,
    spanner_bytes,
    spanner_nodes,
    stream_workers,
)

RESULT = ROOT / "build" / "bench" / "result.json"
PRODUCTION = "production"
TIB = 2**40
SECONDS_A_DAY = 86_400
COMMIT_ROWS = MAX_COMMIT_MUTATIONS // len(STORED_COLUMNS)
COMMIT_SECONDS = 0.2
"""Of a commit of 2,000 rows from start to answer: chosen, since the emulator tells nothing of Spanner's."""
SIZES = tuple(f"{times:,} x" for times in TIMES)
SHOWN_MINUTES = (1, 10, 30, 60, 120)
LEAST_SHARE = 0.01
"""What the sample does not tell apart from chance."""

QUERY_BYTES_A_DAY = 200 * TIB
LOAD_JOBS_A_TABLE = 1_500
APPEND_BYTES_A_SECOND = 300e6
PUBLISH_BYTES_A_SECOND = 800e6
OBJECT_BYTES = 5 * TIB
JOB_WORKERS = 4_000


class Measured(NamedTuple):
    """Microseconds of CPU: of a loaded row and of a streamed event."""

    load_cpu_us: float = LOAD_CPU_US
    stream_cpu_us: float = STREAM_CPU_US


class Limit(NamedTuple):
    """What this shop uses of what there is; whose the limit is, or the page that has it."""

    what: str
    used: float
    limit: float
    whose: str

    @property
    def times(self) -> float:
        """How many times this shop meets it."""
        return self.limit / self.used


class Load(NamedTuple):
    """A day's load: `vcpus` are those that end it within LOAD_HOURS, were there parts of them."""

    rows: float
    vcpu_hours: float
    vcpus: float
    holding_nodes: int
    loading_nodes: int


class Production(NamedTuple):
    """What infra/production.tfvars lets the load, Spanner and the stream grow to."""

    batch_vcpus: float
    nodes: float
    stream_vcpus: int


def measured() -> Measured:
    """Return what `make bench` measured last here, else what tools/cost knows."""
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    return Measured(
        found.get("load_cpu_us_per_row", LOAD_CPU_US),
        found.get("stream_json_cpu_us_per_event", STREAM_CPU_US),
    )


def production() -> Production:
    """Read infra/production.tfvars."""
    sizes: Mapping[str, Any] = read_target(PRODUCTION, PLACEHOLDER_PROJECT).sizes
    text = (ROOT / "infra" / f"{PRODUCTION}.tfvars").read_text(encoding="utf-8")
    [units] = re.findall(r"^spanner_processing_units *= *\{.*\bmax *= *(\d+)", text, re.MULTILINE)

    def vcpus(job: str) -> int:
        return int(sizes[f"{job}_max_workers"]) * int(sizes[f"{job}_machine_type"].rpartition("-")[2])

    return Production(vcpus("batch"), int(units) / 1000, vcpus("stream"))


def load_of(events: float, found: Measured) -> Load:
    """Return what a day of so many events needs."""
    vcpu_hours = load_vcpu_hours(events) * found.load_cpu_us / LOAD_CPU_US
    # Each of a worker's CPUs runs a process, which waits for the answer to each of its commits.
    waiting_hours = events / COMMIT_ROWS * COMMIT_SECONDS / 3600
    return Load(events, vcpu_hours, (vcpu_hours + waiting_hours) / LOAD_HOURS, *spanner_nodes(events))


def hours_in(load: Load, there: Production) -> float:
    """Return how long a load takes where there is no more than that, without hot spots."""
    writing = load.rows / (there.nodes * NODE_WRITES_A_SECOND * 3600)
    return max(load.vcpus / there.batch_vcpus * LOAD_HOURS, writing)


def limits(found: Measured) -> list[Limit]:
    """Return all limits, the one that is met first in front.

    Raises:
        emulators.NotReady: the analyzer is not installed, or does not start.
        TableError: a folder is not as it must be, or a table is not measured.
    """
    shop = read_shop()
    events = float(shop["events_a_day"])
    tables = {one.full_name: one for one in all_tables(settings().sql_dir)}
    asked = queries(settings().sql_dir, shop)
    load, there = load_of(events, found), production()
    rows_a_second = events / (LOAD_HOURS * 3600)
    peak = events / SECONDS_A_DAY * PEAK
    row_bytes = sum(sizes_of(tables, shop)[EVENTS_STREAM].column_bytes.values())
    ours = f"infra/{PRODUCTION}.tfvars"
    every = [
        Limit("nodes that load a day in 4 hours", rows_a_second / NODE_WRITES_A_SECOND, there.nodes, ours),
        Limit("nodes that hold a year", spanner_bytes(events) / NODE_BYTES, there.nodes, ours),
        Limit("CPUs of a load", load.vcpus, there.batch_vcpus, ours),
        Limit("CPUs of the stream", peak * found.stream_cpu_us / 1e6 / BUSY_SHARE, there.stream_vcpus, ours),
        Limit(
            f"rows a second on {SHARDS} shards, before Spanner has cut them",
            rows_a_second,
            SHARDS * NODE_WRITES_A_SECOND,
            "Spanner, performance overview: writes of a node",
        ),
        Limit(
            "bytes read by queries a day",
            sum(query.bytes_a_month(1, 0) for query in asked) / DAYS_A_MONTH,
            QUERY_BYTES_A_DAY,
            "BigQuery, quotas: query usage per day, on demand",
        ),
        Limit(
            "bytes a second of the stream's rows, at its peak",
            peak * row_bytes,
            APPEND_BYTES_A_SECOND,
            "BigQuery, quotas: Storage Write API, throughput in a region",
        ),
        Limit(
            "bytes a second of published messages, at their peak",
            peak * MESSAGE_BYTES,
            PUBLISH_BYTES_A_SECOND,
            "Pub/Sub, quotas: publisher throughput, medium regions",
        ),
        Limit(
            "load jobs that stage a day",
            events * CSV_BYTES / BLOCK_BYTES / MAX_JOB_URIS,
            LOAD_JOBS_A_TABLE,
            "BigQuery, quotas: load jobs per table per day",
        ),
        Limit(
            "workers of one load, of 4 CPUs",
            load.vcpus / 4,
            JOB_WORKERS,
            "Dataflow, quotas: instances of a job with Dataflow Shuffle",
        ),
        Limit(
            "bytes of a day that is landed as one file",
            events * CSV_BYTES,
            OBJECT_BYTES,
            "Cloud Storage, quotas: object size",
        ),
    ]
    return sorted(every, key=lambda limit: limit.times)


def hot_spots(found: Measured) -> dict[int, dict[Key, Followed]]:
    """Follow a load of each size, by each key."""
    events = float(read_shop()["events_a_day"])
    followed = {}
    for times in TIMES:
        history, today = history_of(times, events), today_of(times, events)
        workers = ceil(load_of(events * times, found).vcpus)
        followed[times] = {key: follow(key, history, today, events * times, workers) for key in KEYS}
    return followed


def describe(found: Measured) -> str:
    """Return all tables."""
    return "\n\n".join(
        "\n".join(lines)
        for lines in (_loads(found), *_hot_spots(hot_spots(found)), _limits(limits(found)), _dollars())
    )


def _loads(found: Measured) -> Iterator[str]:
    events, there = float(read_shop()["events_a_day"]), production()
    loads = [load_of(events * times, found) for times in TIMES]
    measures: list[tuple[str, Iterator[str]]] = [
        ("rows a day, million", (f"{load.rows / 1e6:,.2f}" for load in loads)),
        ("CSV a day, GB", (f"{load.rows * CSV_BYTES / 1e9:,.1f}" for load in loads)),
        ("Parquet files a day", (f"{load.rows * CSV_BYTES / BLOCK_BYTES:,.0f}" for load in loads)),
        ("CPU-hours of workers", (f"{load.vcpu_hours:,.2f}" for load in loads)),
        (f"workers' CPUs that end within {LOAD_HOURS} hours", (f"{ceil(load.vcpus):,}" for load in loads)),
        ("Spanner's nodes that hold a year", (f"{load.holding_nodes:,}" for load in loads)),
        (f"nodes that take a day in {LOAD_HOURS} hours", (f"{load.loading_nodes:,}" for load in loads)),
        (f"hours within {PRODUCTION}.tfvars", (f"{hours_in(load, there):,.1f}" for load in loads)),
        ("stream's workers of 2 CPUs, busiest hour", (f"{stream_workers(load.rows):,}" for load in loads)),
    ]
    return table(("", *SIZES), ((name, *cells) for name, cells in measures))


def _hot_spots(followed: Mapping[int, Mapping[Key, Followed]]) -> Iterator[Iterator[str]]:
    yield table(
        ("key", "a customer's month, ranges", "a day, ranges", *SIZES),
        ((key.name, key.journey, key.day, *(_told(followed[times][key]) for times in TIMES)) for key in KEYS),
    )
    largest = followed[TIMES[-1]]
    yield table(
        (f"key, at {SIZES[-1]}", *(f"minute {minute}" for minute in SHOWN_MINUTES)),
        (
            (key.name, *(_percent(largest[key].shares[minute - 1]) for minute in SHOWN_MINUTES))
            for key in KEYS
        ),
    )


def _told(followed: Followed) -> str:
    hours = f"{followed.hours:.1f} h" if followed.hours else f"over {LONGEST_HOURS} h"
    return f"{_percent(followed.shares[0])}, {hours}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= LEAST_SHARE else f"below {LEAST_SHARE:.0%}"


def _limits(found: list[Limit]) -> Iterator[str]:
    return table(
        ("limit", "this shop", "limit is", "met at", "whose"),
        (
            (
                one.what,
                _number(one.used, one.what),
                _number(one.limit, one.what),
                _times(one.times),
                one.whose,
            )
            for one in found
        ),
    )


def _number(value: float, what: str) -> str:
    if what.startswith("bytes"):
        return human(value)
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _times(times: float) -> str:
    """Write it with two digits: no more are known."""
    return f"{float(f'{times:.2g}'):,g} x"


def _dollars() -> Iterator[str]:
    bills = bill(settings().sql_dir, read_shop())
    services = {times: by_service(of_one) for times, of_one in bills.items()}
    return table(
        ("dollars a month", *SIZES),
        (
            (name, *(f"{of_one[name]:,.0f}" for of_one in services.values()))
            for name in next(iter(services.values()))
        ),
    )


def main() -> int:
    """Print the tables."""
    found = measured()
    try:
        print(describe(found))
    except (emulators.NotReady, TableError) as error:
        print(error, file=sys.stderr)
        return 1
    if found != Measured():
        print(f"\nCPU as measured here: {found}. docs/scale.md has {Measured()}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
