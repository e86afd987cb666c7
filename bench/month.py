"""A generated month through all summaries: is each figure right, and what does each query cost?

Run as `make bench-month`. It generates November, once with a quarter of the events, loads its days as the
daily load does but for Spanner, sends 1 event of 20 by stream, most of them by the load too, builds every
summary of every day, and compares all rows, and those of the views of summaries, with those that
tools/reference.py computes from the CSV files by other means. It runs the checks of one day a week. It prints
the seconds and the bytes of each summary's build and checks and how they grow, and exits non-zero if a figure
differs.

Seconds are the emulator's, which takes some hundredths for any query. It tells no bytes: they are computed as
BigQuery documents it, from the values in the columns and partitions that a query reads by Google's analyzer.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api

from beam_jobs.files import list_files, plan_ranges, read_range
from beam_jobs.manifest import Manifest
from beam_jobs.parse import parse_block
from beam_jobs.validate import validate
from local.events import november_2019
from local.events.files import write_landing_day
from local.events.sessions import day_events
from local.root import ROOT
from local.stack import emulators
from shopstream.load.publish import drop_staging, publish_day, stage_load
from shopstream.settings import settings
from shopstream.tables.apply import apply
from shopstream.tables.day import build_day, checks_statement, run_checks
from shopstream.tables.folder import Table, all_tables, built_in_order, summaries_in_order
from shopstream.tables.names import EVENTS_STREAM
from tools.googlesql.analyzer import running_analyzer
from tools.googlesql.reads import Read, reads_of
from tools.googlesql.sizes import Sizes, bytes_of, column_sizes
from tools.reference import compare, reference_summaries

EVENTS = 1_000_000
MONTH = [dt.date(2019, 11, 1) + dt.timedelta(days=number) for number in range(30)]
LATE_SHARE, BAD_SHARE = 0.01, 0.003
STREAMED_EVERY = 20
ONLY_STREAMED_EVERY = 100
"""Of the streamed events, those that no load brings."""
CHECKED_EVERY_DAYS = 7
WORK = ROOT / "build" / "month"
BUCKET = "month"
BUILT = list(built_in_order(settings().sql_dir))
SUMMARIES = summaries_in_order(settings().sql_dir)
DIFFERENCES_SHOWN = 5


@dataclass
class Cost:
    """What the builds of one summary's days took: one entry a day, but `rows` for all.

    `real_bytes` are those of the dearest build in the shop's real month, if the stream brings all of it too,
    and `real_month_bytes` those of one build and one check of each of its days.
    """

    seconds: list[float] = field(default_factory=list)
    bytes_read: list[int] = field(default_factory=list)
    check_bytes: list[int] = field(default_factory=list)
    real_bytes: int = 0
    real_month_bytes: int = 0
    rows: int = 0
    differences: list[str] = field(default_factory=list)


def main() -> int:
    """Run both sizes, print what they cost; return 1 if a figure differs from the reference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS, help="events of the month (%(default)s)")
    events = parser.parse_args().events
    logging.getLogger("shopstream").setLevel(logging.ERROR)  # a month so small gives many warnings
    tables = {table.full_name: table for table in all_tables(settings().sql_dir)}
    with running_analyzer(tables.values(), WORK / "googlesql.log") as analyzer:

        def reads_by(sql: str) -> Mapping[str, Read]:
            analyzed = analyzer.analyze(sql, {"day": "DATE"})
            return reads_of(analyzed, tables, lambda view: analyzer.analyze(view.view or "", {}))

        reads = {
            name: (reads_by(tables[name].query or ""), reads_by(checks_statement(tables[name], 1)))
            for name in BUILT
        }
    small, large = (run_month(count, tables, reads) for count in (events // 4, events))
    print_costs(small, large, events)
    return 1 if any(cost.differences for month in (small, large) for cost in month.values()) else 0


def run_month(
    events: int,
    tables: Mapping[str, Table],
    reads: Mapping[str, tuple[Mapping[str, Read], Mapping[str, Read]]],
) -> dict[str, Cost]:
    """Generate, load, build and compare one month; return the cost of each summary, by its name.

    `reads` are what each summary's query and its checks read.
    """
    folder = WORK / str(events)
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()

    def tell(text: str) -> None:
        print(f"{events:>9,} events, {time.monotonic() - started:5.0f} s: {text}", flush=True)

    for day in MONTH:
        write_landing_day(
            folder / "landing", day, day_events(day, events // 30), late_share=LATE_SHARE, bad_share=BAD_SHARE
        )
    csv_paths = sorted((folder / "landing").glob("*/events.csv"))
    tell(f"generated, {sum(path.stat().st_size for path in csv_paths) / 1e6:,.0f} MB")
    port = emulators.free_port()
    emulator = emulators.bigquery(port, emulators.free_port(), folder / "gcs", settings().project)
    with emulators.running(emulator, folder / "bigquery.log"):
        client = bigquery_api.Client(
            project=settings().project,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=f"http://{emulators.HOST}:{port}"),
        )
        for table in tables.values():
            apply(client, table)
        days = sorted({day for landing_day in MONTH for day in load_day(client, folder, landing_day)})
        tell(f"loaded, of {len(days)} days")
        costs = build(client, [tables[name] for name in BUILT], days)
        tell(f"built {len(days) * len(costs)} days of summaries")
        for name in BUILT:
            for day in days[::CHECKED_EVERY_DAYS]:
                run_checks(client, tables[name], day)
        tell(f"checked {len(days[::CHECKED_EVERY_DAYS])} days of each")
        read_names = {name for of_both in reads.values() for of_one in of_both for name in of_one}
        sizes = column_sizes(client, [tables[name] for name in read_names], days[0], days[-1])
        real = real_sizes(sizes, events)
        for name, cost in costs.items():
            by_query, by_checks = reads[name]
            cost.bytes_read = [bytes_of(by_query, sizes, day) for day in days]
            cost.check_bytes = [bytes_of(by_checks, sizes, day) for day in days]
            cost.real_bytes = max(bytes_of(read, real, day) for read in reads[name] for day in days)
            cost.real_month_bytes = sum(bytes_of(read, real, day) for read in reads[name] for day in MONTH)
        expected = reference_summaries(csv_paths)
        tell("computed the reference")
        views = [
            table.full_name
            for table in tables.values()
            if table.view and set(table.metadata.reads) <= set(SUMMARIES)
        ]
        for name in (*SUMMARIES, *views):
            found = rows_of(client, folder, tables[name])
            cost = costs.setdefault(name, Cost())
            cost.rows = len(found)
            cost.differences = compare(expected[name.removeprefix("shop.")], found)
            for difference in cost.differences[:DIFFERENCES_SHOWN]:
                tell(f"{name}: DIFFERS: {difference}")
        rows = sum(cost.rows for cost in costs.values())
        equal = sum(not cost.differences for cost in costs.values())
        tell(f"{equal} of {len(costs)} summaries and views equal the reference in all of their {rows:,} rows")
    shutil.rmtree(folder)
    return costs


def load_day(client: bigquery_api.Client, folder: Path, landing_day: dt.date) -> list[dt.date]:
    """Load a landing day as the daily load does, but for events that only streamed; return its dates."""
    load_id = f"{landing_day:%Y%m%d}-00000000"
    blocks = [
        validate(parse_block(block, part.columns), landing_day).accepted
        for file in list_files(str(folder / "landing" / str(landing_day)))
        for part in plan_ranges(file)
        for block in read_range(part)
    ]
    events = pa.concat_tables(blocks)
    accepted = events.filter(pa.array([row % ONLY_STREAMED_EVERY != 0 for row in range(len(events))]))
    accepted = accepted.append_column("landing_day", pa.repeat(pa.scalar(landing_day), len(accepted)))
    accepted = accepted.append_column("load_id", pa.repeat(load_id, len(accepted)))
    uri = write_object(folder, f"accepted/{load_id}.parquet", accepted)
    manifest = Manifest(
        landing_day,
        load_id,
        finished_at=dt.datetime.now(dt.UTC),
        read=len(accepted),
        accepted=len(accepted),
        distinct=len(accepted),
        accepted_files=(uri,),
    )
    staged = stage_load(client, manifest)
    dates = publish_day(client, manifest, staged)
    drop_staging(client, staged.table)

    streamed = events.take(pa.array(range(0, len(events), STREAMED_EVERY)))
    streamed = streamed.append_column("publish_time", streamed["event_time"])
    streamed = streamed.append_column("message_id", pa.repeat("1", len(streamed)))
    append = bigquery_api.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
    uri = write_object(folder, f"streamed/{load_id}.parquet", streamed)
    client.load_table_from_uri(uri, EVENTS_STREAM, job_config=append).result()
    return list(dates)


def build(client: bigquery_api.Client, tables: Iterable[Table], days: Iterable[dt.date]) -> dict[str, Cost]:
    """Build every day of every summary."""
    costs = {}
    for table in tables:
        cost = costs[table.full_name] = Cost()
        for day in days:
            started = time.monotonic()
            build_day(client, table, day)
            cost.seconds.append(time.monotonic() - started)
    return costs


def real_sizes(sizes: Sizes, events: int) -> Sizes:
    """Return the sizes in the shop's real month, of which the stream brings all, and the load all too."""
    factor = november_2019.ROWS / events
    return {
        (name, day): {
            column: round(size * factor * (STREAMED_EVERY if name == EVENTS_STREAM else 1))
            for column, size in columns.items()
        }
        for (name, day), columns in sizes.items()
    }


def rows_of(client: bigquery_api.Client, folder: Path, table: Table) -> pd.DataFrame:
    """Return all rows of a table or view, exported to a file, since pages of JSON would take minutes."""
    source = f"{client.project}.{table.full_name}"
    if table.view:
        source = f"{source}_copy"
        client.query_and_wait(f"CREATE TABLE `{source}` AS SELECT * FROM {table.full_name}")
    name = f"export/{table.name}.parquet"
    path = folder / "gcs" / BUCKET / name
    path.parent.mkdir(parents=True, exist_ok=True)
    config = bigquery_api.ExtractJobConfig(destination_format="PARQUET")
    client.extract_table(source, f"gs://{BUCKET}/{name}", job_config=config).result()
    return pq.read_table(path).to_pandas()


def write_object(folder: Path, name: str, rows: pa.Table) -> str:
    """Write rows as an object of the bucket, and return its URI."""
    path = folder / "gcs" / BUCKET / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path)
    return f"gs://{BUCKET}/{name}"


def print_costs(small: Mapping[str, Cost], large: Mapping[str, Cost], events: int) -> None:
    """Print a line for each summary: a build's mean seconds and bytes in both months, and how they grow.

    Then the mean bytes of its checks in the larger, the bytes of the dearest build or checks in the shop's
    real month, and the bytes of that month; at last the sums.
    """
    sizes = (f"{events // 4:,}", f"{events:,}", "ratio")
    heads = ("summary", *(f"s, {size}" for size in sizes), *(f"MB, {size}" for size in sizes))
    heads = (*heads, "MB of checks", "real GB", "rows", "real month GB")
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name in BUILT:
        before, after = small[name], large[name]
        seconds = [fmean(cost.seconds) for cost in (before, after)]
        megabytes = [fmean(cost.bytes_read) / 1e6 for cost in (before, after)]
        figures = (
            name.partition(".")[2],
            *(f"{figure:.2f}" for figure in (*seconds, seconds[1] / seconds[0])),
            *(f"{figure:.2f}" for figure in (*megabytes, megabytes[1] / megabytes[0])),
            f"{fmean(after.check_bytes) / 1e6:.2f}",
            f"{after.real_bytes / 1e9:.2f}",
            f"{after.rows:,}",
            f"{after.real_month_bytes / 1e9:.1f}",
        )
        print(f"| {' | '.join(figures)} |")
    month = sum(cost.real_month_bytes for cost in large.values()) / 1e9
    print(f"\nA build and a check of each day of the real month: {month:,.1f} GB.")


if __name__ == "__main__":
    os.environ["NO_GCE_CHECK"] = "true"
    sys.exit(main())
