"""What the services other than BigQuery's queries cost a month, from the shop's rows, bytes and CPU.

Each is a bound from the documentation or a measurement of bench/, named beside it. What grows in steps
(workers, nodes) is counted whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any, NamedTuple

from shopstream.tables.names import EVENTS_STREAM
from tools.cost.queries import DAYS_A_MONTH, Query, Size

Prices = Mapping[str, Any]

GIB, TIB = 2**30, 2**40
HOURS_A_MONTH = 730
KEEP_MONTHS = 12
"""For how long events are kept when the bill is looked at: storage is that of a shop a year old."""
ACTIVE_DAYS = 90
"""After so long without a change BigQuery's storage is cheaper."""

CSV_BYTES = 9_006_762_395 / 67_501_979
"""Of a landed line, of the published file."""
PARQUET_BYTES = 60
"""Of an accepted event, a half of its CSV: chosen."""
LANDING_STANDARD_DAYS, LANDING_KEEP_DAYS, ACCEPTED_KEEP_DAYS = 30, 365, 30
"""infra/storage.tf and infra/medium.tfvars."""
MESSAGE_BYTES = 360
"""Of an event's message: nine fields as JSON, with their names."""

LOAD_CPU_US, STREAM_CPU_US = 7.2, 16.8
"""Of a row: load_cpu_us_per_row and stream_json_cpu_us_per_event of `make bench`, on 2 cores. The load's is
with Spanner's emulator, as ADR 22 has it. The stream's is the local driver's, as ADR 17 has it: Dataflow's
runner is not in it."""
BUSY_SHARE = 0.5
"""Of a worker's CPU when Dataflow neither grows nor shrinks a job: chosen."""
PEAK = 3
"""The busiest hour against the mean one: 5.9 million events on 2019-11-16, and a day's own rhythm."""
BATCH_START_HOURS = 0.15
"""Of one worker, for each load: Dataflow starts and stops its machines."""
WORKER_VCPUS, VCPU_GIB = 2, 4
"""n2-standard-2."""

SPANNER_LEAST_NODES = 1
"""infra/medium.tfvars, from where Spanner scales by itself."""
NODE_WRITES_A_SECOND = 3_500
"""Google's figure for rows of 1 KB on SSD, of one region."""
NODE_BYTES = 10 * TIB
LOAD_HOURS = 4
"""Of the six hours after a day's end in which it is published."""
SPANNER_ROW_BYTES = 260
"""Of a row of loaded_events, by the lengths of its values and 8 bytes a column."""


class Item(NamedTuple):
    """A line of the bill: the bytes that are billed, None where other things are, and dollars."""

    service: str
    name: str
    bytes_: float | None
    dollars: float


def items(
    queries: list[Query], sizes: Mapping[str, Size], events_a_day: int, prices: Prices, times: float
) -> list[Item]:
    """Return the bill of a month, of a shop so many times this one."""
    return [
        *_queries(queries, prices["bigquery"], times),
        *_bigquery(sizes, prices["bigquery"], times),
        *_dataflow(events_a_day * times, prices["dataflow"]),
        *_spanner(events_a_day * times, prices["spanner"]),
        *_rest(events_a_day * times, prices),
    ]


def _queries(queries: list[Query], price: Prices, times: float) -> Iterator[Item]:
    for query in queries:
        billed = query.bytes_a_month(times, price["least_query_bytes_a_table"])
        yield Item(
            "BigQuery queries", f"{query.dag}: {query.name}", billed, billed / TIB * price["query_tib"]
        )


def _bigquery(sizes: Mapping[str, Size], price: Prices, times: float) -> Iterator[Item]:
    a_day = sum(size.bytes_of(frozenset(size.column_bytes)) for size in sizes.values()) * times
    active, kept = a_day * ACTIVE_DAYS, a_day * KEEP_MONTHS * DAYS_A_MONTH
    dollars = active / GIB * price["active_gib_month"] + (kept - active) / GIB * price["long_term_gib_month"]
    yield Item("BigQuery storage", f"all tables, {KEEP_MONTHS} months", kept, dollars)
    stream = sizes[EVENTS_STREAM]
    written = stream.bytes_of(frozenset(stream.column_bytes)) * DAYS_A_MONTH * times
    yield Item(
        "BigQuery streaming", "Storage Write API", written, written / GIB * price["storage_write_api_gib"]
    )


def load_vcpu_hours(events_a_day: float) -> float:
    """Return the hours of a worker's CPUs that a daily load takes, besides starting and stopping them."""
    return events_a_day * LOAD_CPU_US / 1e6 / 3600 / BUSY_SHARE


def stream_workers(events_a_day: float) -> int:
    """Return the workers that the stream needs in its busiest hour."""
    vcpus = events_a_day / 86_400 * PEAK * STREAM_CPU_US / 1e6 / BUSY_SHARE
    return max(1, ceil(vcpus / WORKER_VCPUS))


def spanner_nodes(events_a_day: float) -> tuple[int, int]:
    """Return the nodes that hold what is kept, and those that take a day's rows in LOAD_HOURS."""
    holding = max(SPANNER_LEAST_NODES, ceil(spanner_bytes(events_a_day) / NODE_BYTES))
    return holding, max(holding, ceil(events_a_day / (LOAD_HOURS * 3600) / NODE_WRITES_A_SECOND))


def spanner_bytes(events_a_day: float) -> float:
    """Return the bytes of the events that Spanner keeps, without what an older load of a day has left."""
    return events_a_day * DAYS_A_MONTH * KEEP_MONTHS * SPANNER_ROW_BYTES


def _dataflow(events_a_day: float, price: Prices) -> Iterator[Item]:
    memory = VCPU_GIB * price["memory_gib_hour"]
    vcpu_hours = load_vcpu_hours(events_a_day) + WORKER_VCPUS * BATCH_START_HOURS
    # No row crosses Dataflow's shuffle but in landed .gz files, and this shop's are plain.
    yield Item("Dataflow", "loads", None, vcpu_hours * DAYS_A_MONTH * (price["batch_vcpu_hour"] + memory))
    streamed = events_a_day * DAYS_A_MONTH * MESSAGE_BYTES
    yield Item(
        "Dataflow",
        "stream",
        None,
        stream_workers(events_a_day) * WORKER_VCPUS * HOURS_A_MONTH * (price["streaming_vcpu_hour"] + memory)
        + streamed / GIB * price["streaming_engine_gib"],
    )


def _spanner(events_a_day: float, price: Prices) -> Iterator[Item]:
    stored = spanner_bytes(events_a_day)
    holding, loading = spanner_nodes(events_a_day)
    node_hours = holding * HOURS_A_MONTH + (loading - holding) * LOAD_HOURS * DAYS_A_MONTH
    yield Item("Spanner", "nodes", None, node_hours * price["node_hour"])
    yield Item("Spanner", f"storage, {KEEP_MONTHS} months", stored, stored / GIB * price["gib_month"])


def _rest(events_a_day: float, prices: Prices) -> Iterator[Item]:
    sent = 2 * events_a_day * DAYS_A_MONTH * MESSAGE_BYTES
    yield Item("Pub/Sub", "published and delivered", sent, sent / TIB * prices["pubsub"]["tib"])
    price = prices["storage"]
    standard = events_a_day * (CSV_BYTES * LANDING_STANDARD_DAYS + PARQUET_BYTES * ACCEPTED_KEEP_DAYS)
    nearline = events_a_day * CSV_BYTES * (LANDING_KEEP_DAYS - LANDING_STANDARD_DAYS)
    dollars = standard / GIB * price["standard_gib_month"] + nearline / GIB * price["nearline_gib_month"]
    yield Item("Cloud Storage", "landing, accepted", standard + nearline, dollars)
    environment = HOURS_A_MONTH * prices["composer"]["environment_dcus"] * prices["composer"]["dcu_hour"]
    yield Item("Composer", "the environment, whatever the shop's size", None, environment)
