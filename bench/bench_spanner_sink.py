"""How fast events reach the Spanner emulator, and at what CPU: our sink against the client's own batches.

Run as `python -m bench.bench_spanner_sink`; it starts an emulator of its own. The emulator is the ceiling of
rows/s, so it is the CPU that compares the ways to write.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
from google.cloud import spanner
from google.cloud.spanner_v1.database import Database

from beam_jobs import spanner_sink
from beam_jobs.identity import shards
from local.root import ROOT
from local.stack import emulators

PROJECT, INSTANCE, DATABASE = "shopstream-bench", "bench", "bench"
BATCH_ROWS = 2000


def main() -> None:
    """Print one line for each way to write, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000, help="Rows a measurement (default: %(default)s).")
    rows = parser.parse_args().rows
    port = emulators.free_port()
    os.environ["SPANNER_EMULATOR_HOST"] = f"{emulators.HOST}:{port}"
    with emulators.running(emulators.spanner(port), ROOT / "build" / "bench-spanner.log"):
        database = create_database()
        events = some_events(rows)
        sink = spanner_sink.SpannerSink(PROJECT, INSTANCE, DATABASE)
        sink.write(
            events
        )  # Sessions and caches are warm, and every row exists: all further writes are updates.

        ours = measure(f"sink, {BATCH_ROWS:,} rows a commit", rows, lambda: sink.write(events))
        theirs = measure(
            f"database.batch(), {BATCH_ROWS:,} rows a commit",
            rows,
            lambda: write_in_batches(database, events),
        )
        print(f"The sink takes 1/{theirs / ours:.1f} of the client CPU of database.batch().")
        columns = len(spanner_sink.STORED_COLUMNS)
        for commit_rows in (500, 1000, 2000, 4000, 5500):
            spanner_sink.MAX_COMMIT_MUTATIONS = commit_rows * columns
            measure(f"sink, {commit_rows:,} rows a commit", rows, lambda: sink.write(events))


def create_database() -> Database:
    client = spanner.Client(project=PROJECT)
    instance = client.instance(INSTANCE, f"projects/{PROJECT}/instanceConfigs/emulator-config")
    instance.create().result(timeout=30)
    database = instance.database(DATABASE)
    database.create().result(timeout=30)
    ddl = re.sub(r"--.*", "", (ROOT / "sql" / "spanner" / "0003_loaded_events.sql").read_text())
    database.update_ddl([statement for statement in ddl.split(";") if statement.strip()]).result(timeout=30)
    return database


def some_events(count: int) -> pa.Table:
    """Random events of one day, with values as long as real ones."""
    pick = np.random.default_rng(1)
    second = np.sort(pick.integers(0, 86_400, count))
    user_id = pick.integers(500_000_000, 560_000_000, count)
    start = int(datetime(2019, 11, 1, tzinfo=UTC).timestamp())
    codes = pa.array([None, "electronics.smartphone", "appliances.environment.water_heater"])
    brands = pa.array([None, "samsung", "apple", "xiaomi"])
    return pa.table(
        {
            "shard": shards(user_id),
            "event_date": pa.repeat(pa.scalar(date(2019, 11, 1)), count),
            "user_id": user_id,
            "event_time": pa.array((start + second) * 1_000_000).cast(pa.timestamp("us", "UTC")),
            "event_id": [pick.bytes(16).hex() for _ in range(count)],
            "landing_day": pa.repeat(pa.scalar(date(2019, 11, 1)), count),
            "event_type": pa.array(["view", "cart", "purchase"]).take(pa.array(pick.integers(0, 3, count))),
            "product_id": pick.integers(1_000_000, 60_000_000, count),
            "category_id": pick.integers(2_053_013_552_000_000_000, 2_053_013_566_000_000_000, count),
            "category_code": codes.take(pa.array(pick.integers(0, 3, count))),
            "brand": brands.take(pa.array(pick.integers(0, 4, count))),
            "price": pa.array(pick.integers(0, 257_407, count))
            .cast(pa.decimal128(19, 0))
            .cast(pa.decimal128(38, 9)),
            "user_session": [f"{pick.bytes(16).hex()}-abc" for _ in range(count)],
            "load_id": pa.repeat("20191101-ab12cd34", count),
        }
    )


def write_in_batches(database: Database, events: pa.Table) -> None:
    """Write as the client's documentation shows it."""
    columns = spanner_sink.STORED_COLUMNS
    for start in range(0, len(events), BATCH_ROWS):
        part = events.select(columns).slice(start, BATCH_ROWS)
        values = list(zip(*(column.to_pylist() for column in part.columns), strict=True))
        with database.batch() as batch:
            batch.insert_or_update(spanner_sink.TABLE, columns, values)


def measure(name: str, rows: int, write: Callable[[], object]) -> float:
    """Print rows/s and client CPU of the best of three writes; return the CPU in microseconds a row."""
    best_seconds = best_cpu = float("inf")
    for _ in range(3):
        started, cpu_started = time.perf_counter(), time.process_time()
        write()
        best_seconds = min(best_seconds, time.perf_counter() - started)
        best_cpu = min(best_cpu, time.process_time() - cpu_started)
    print(
        f"{name:>40}: {rows / best_seconds:8,.0f} rows/s, {best_cpu / rows * 1e6:5.1f} us of client CPU a row"
    )
    return best_cpu / rows * 1e6


if __name__ == "__main__":
    main()
