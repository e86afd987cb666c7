"""Probes of BigQuery: what two statements at once come to, what a statement is billed, and appending rows."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from typing import Any, TypeVar

import pyarrow as pa
from google.cloud import bigquery

from beam_jobs.bigquery_sink import BigQuerySink, BigQueryTableError
from beam_jobs.contract import LATENESS_DAYS, first_event_day
from local.root import ROOT
from shopstream.gcp.bigquery import SMALL_MAX_BYTES, bytes_read, get_table, run
from shopstream.load import publish
from shopstream.rounding import percent
from shopstream.settings import settings
from shopstream.tables.apply import apply
from shopstream.tables.day import build_day, build_statement, checks_statement, replace_statement
from shopstream.tables.folder import Column, Metadata, Table, all_tables, built_in_order
from shopstream.tables.limits import ROWS
from shopstream.tables.names import EVENTS_BATCH, EVENTS_STREAM, LOADS
from tools.cloud_proof.ground import Ground
from tools.cloud_proof.probe import Open, Otherwise, Probe
from tools.googlesql.analyzer import running_analyzer
from tools.googlesql.reads import reads_of
from tools.googlesql.sizes import bytes_of, column_sizes

T = TypeVar("T")

DAY = dt.date(2001, 1, 1)
ROUNDS = 3
ROWS_A_DAY = 3
WITHIN = 0.05
"""How far derived bytes may be from BigQuery's."""
SIZES_MAX_BYTES = 100 * 2**30
"""Of each table's rows that are counted; 0.61 US dollars."""
NEW_TABLE_SECONDS = 300
"""For so long BigQuery's streaming end may not know a table that was just made."""
EMULATOR = "BIGQUERY_EMULATOR_HOST"


def build_twice(ground: Ground, undo: ExitStack) -> str:
    """Let two threads build the same empty day at the same moment, some days one after the other."""
    client = ground.bigquery
    table = _table_of_days(ground.dataset(undo))
    apply(client, table)
    found = {}
    for day in (DAY + dt.timedelta(days=number) for number in range(ROUNDS)):
        at_once(lambda day=day: build_day(client, table, day))  # type: ignore[misc]
        found[day] = _rows_of(client, table, day)
    told = f"{', '.join(map(str, found.values()))} rows of {ROWS_A_DAY}, in {ROUNDS} days"
    if set(found.values()) != {ROWS_A_DAY}:
        raise Otherwise(told)
    return told


def job_id_twice(ground: Ground, undo: ExitStack) -> str:
    """Let two threads send the same statement under the id that follows from it, at the same moment."""
    client = ground.bigquery
    table = _table_of_days(ground.dataset(undo))
    apply(client, table)
    sql = replace_statement(
        table.full_name, table.column_names, table.query or "", "target.event_date = @day"
    )

    def send() -> str:
        job = run(
            client,
            sql,
            {"day": DAY},
            job_id_prefix=ground.name,
            maximum_bytes_billed=SMALL_MAX_BYTES,
            once=True,
        )
        return str(job.job_id)

    jobs = set(at_once(send))
    rows = _rows_of(client, table, DAY)
    told = f"{len(jobs)} job, {rows} rows of {ROWS_A_DAY}"
    if (len(jobs), rows) != (1, ROWS_A_DAY):
        raise Otherwise(told)
    return told


def append_arrow(ground: Ground, undo: ExitStack) -> str:
    """Append rows of every type by the stream's own sink, and read them again."""
    client = ground.bigquery
    name = f"{ground.dataset(undo)}.appended"
    fields = {
        "n": "INT64",
        "text": "STRING",
        "raw": "BYTES",
        "day": "DATE",
        "moment": "TIMESTAMP",
        "money": "NUMERIC",
    }
    schema = [bigquery.SchemaField(column, kind) for column, kind in fields.items()]
    client.create_table(bigquery.Table(f"{client.project}.{name}", schema=schema))
    noon = dt.datetime(2001, 1, 1, 12, tzinfo=dt.UTC)
    given = [
        {
            "n": 1,
            "text": "Ä",
            "raw": b"\x00\xff",
            "day": DAY,
            "moment": noon,
            "money": Decimal("12.500000001"),
        },
        {"n": 2, "text": None, "raw": None, "day": None, "moment": None, "money": None},
    ]
    types = [
        *(pa.int64(), pa.string(), pa.binary(), pa.date32()),
        *(pa.timestamp("us", "UTC"), pa.decimal128(38, 9)),
    ]
    rows = pa.Table.from_pylist(given, schema=pa.schema(list(zip(fields, types, strict=True))))
    deadline = time.monotonic() + NEW_TABLE_SECONDS
    while True:
        try:
            refused = BigQuerySink(f"{client.project}:{name}").append(rows)
            break
        except BigQueryTableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(10)
    read = [dict(row) for row in client.query_and_wait(f"SELECT * FROM {name} ORDER BY n")]  # noqa: S608
    if refused or read != given:
        raise Otherwise(f"refused {refused}, read {read}")
    return f"{len(read)} rows of {len(fields)} types, as they were given"


def derived_bytes(ground: Ground, undo: ExitStack) -> str:
    """Compare what tools/googlesql derives with BigQuery's dry run, of statements that it gives a limit."""
    client = ground.bigquery
    day = _loaded_days(client, 1)[0]
    # Empty: nothing prunes it. So "count the staged" and "look for foreign rows", which read nothing else,
    # would read 0 bytes here, and are left out.
    staging = f"{ground.dataset(undo)}.staging"
    schema = get_table(client, EVENTS_BATCH).schema
    client.create_table(bigquery.Table(f"{client.project}.{staging}", schema=schema))
    statements = statements_with_limits(staging)
    return compare(derive(client, statements, day, staging), told(client, statements, day))


def statements_with_limits(staging: str) -> dict[str, str]:
    """Return the builds and checks of each summary, and what a load sends, by name."""
    tables = _tables()
    summaries = [tables[name] for name in built_in_order(settings().sql_dir)]
    return {
        **{f"build {table.full_name}": build_statement(table) for table in summaries},
        **{f"check {table.full_name}": checks_statement(table) for table in summaries if table.checks},
        "find the days touched": publish.touched_sql(staging),
        "replace the landing day": publish.publish_sql(staging, tables[EVENTS_BATCH].column_names),
        "count the published": publish.COUNT_PUBLISHED,
        "write the audit row": publish.OTHER_ROW,
    }


def told(client: bigquery.Client, statements: dict[str, str], day: dt.date) -> dict[str, int]:
    """Return the bytes that BigQuery's dry run tells of statements of a day, as they are sent."""
    given = {
        "day": day,
        "landing_day": day,
        "first_day": first_event_day(day),
        "load_id": f"{day:%Y%m%d}-00000000",
    }
    return {
        name: bytes_read(client, sql, {key: given[key] for key in given if f"@{key}" in sql})
        for name, sql in statements.items()
    }


def pruning(ground: Ground, undo: ExitStack) -> str:
    """Compare BigQuery's dry run of one day through the view shop.events with the bytes of that day alone."""
    client = ground.bigquery
    day = _loaded_days(client, 2)[0]
    sql = "SELECT user_id FROM shop.events WHERE event_date = @day AND event_type = 'view'"
    return compare(derive(client, {"a day": sql}, day), {"a day": bytes_read(client, sql, {"day": day})})


def rows_of_days(ground: Ground, undo: ExitStack) -> str:
    """Ask for the rows of each day, as limits are reckoned from them, where the stream has none yet."""
    client = ground.bigquery
    dataset = ground.dataset(undo)
    for name in (EVENTS_BATCH, EVENTS_STREAM, LOADS):
        apply(client, replace(_tables()[name], dataset=dataset))
    sql = f"""
        INSERT INTO {dataset}.events_batch (event_id, event_date, event_time, event_type)
        SELECT CAST(CAST(n AS STRING) AS BYTES), @day, TIMESTAMP(@day), 'view'
        FROM UNNEST(GENERATE_ARRAY(1, {ROWS_A_DAY})) AS n"""  # noqa: S608
    _ask(client, sql, DAY)
    asked = re.sub(r"\bshop_\w+\.", f"{dataset}.", ROWS)
    job = run(client, asked, {}, job_id_prefix="proof", maximum_bytes_billed=SMALL_MAX_BYTES)
    found = {row.partition_id: row.events for row in job.result()}
    if found.get(f"{DAY:%Y%m%d}") != ROWS_A_DAY or sum(filter(None, found.values())) != ROWS_A_DAY:
        raise Otherwise(f"{found}")
    return f"{ROWS_A_DAY} rows of {DAY}, and none else"


def derive(
    client: bigquery.Client, queries: dict[str, str], day: dt.date, staging: str | None = None
) -> dict[str, int]:
    """Return the bytes that queries of a day read, by Google's analyzer and the rows that are stored.

    Those of a landing day are of `day` too. `staging` is an empty table as a load stages its rows in.
    """
    tables = _tables()
    if staging:
        batch = tables[EVENTS_BATCH]
        dataset, name = staging.split(".")
        whole = replace(batch.metadata, partition_by=None)
        tables[staging] = replace(batch, dataset=dataset, name=name, metadata=whole)
    first_day = f"DATE_SUB(@day, INTERVAL {LATENESS_DAYS} DAY)"
    queries = {
        name: sql.replace("@landing_day", "@day").replace("@first_day", first_day)
        for name, sql in queries.items()
    }
    with running_analyzer(tables.values(), ROOT / "build" / "googlesql.log") as analyzer:
        reads = {
            name: reads_of(
                analyzer.analyze(sql, {"day": "DATE", "load_id": "STRING"}),
                tables,
                lambda view: analyzer.analyze(view.view or "", {}),
            )
            for name, sql in queries.items()
        }
    for read_of in reads.values():
        read_of.pop(staging or "", None)
    found = [(table, read.days) for of_one in reads.values() for table, read in of_one.items()]
    reach = [bound.days for _, days in found for bound in (days.first, days.last) if bound]
    first, last = (day + dt.timedelta(days=pick(reach)) for pick in (min, max))
    stored = [tables[name] for name in sorted({name for name, _ in found})]
    sizes = column_sizes(client, stored, first, last, maximum_bytes_billed=SIZES_MAX_BYTES)
    return {name: bytes_of(of_one, sizes, day) for name, of_one in reads.items()}


def compare(derived: dict[str, int], told: dict[str, int]) -> str:
    """Return how near they are.

    Raises:
        Otherwise: some are not within WITHIN of what BigQuery told.
    """
    off = {name: derived[name] / told[name] - 1 if told[name] else float(derived[name] > 0) for name in told}
    far = {name: share for name, share in off.items() if abs(share) > WITHIN}
    if far:
        raise Otherwise(
            "; ".join(
                f"{name}: {derived[name]:,} derived, {told[name]:,} told "
                f"({'+' if share > 0 else ''}{percent(share)})"
                for name, share in far.items()
            )
        )
    return f"{len(told)} queries, at most {percent(max(map(abs, off.values())))} off"


def at_once(work: Callable[[], T]) -> list[T]:
    """Do it in two threads that begin at the same moment."""
    gate = threading.Barrier(2)

    def begin(_: int) -> T:
        gate.wait(timeout=60)
        return work()

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(begin, range(2)))


def _table_of_days(dataset: str) -> Table:
    """A table of days with ROWS_A_DAY rows each, built as summaries are."""
    columns = tuple(
        Column(name, kind, "NULLABLE", "Of a probe.")
        for name, kind in (("event_date", "DATE"), ("n", "INT64"))
    )
    metadata = Metadata(
        owner="shop-analytics",
        description="Of a probe.",
        grain=("event_date", "n"),
        labels={},
        reads=(),
        lookback_days=0,
        partition_by="event_date",
    )
    query = f"SELECT @day AS event_date, n FROM UNNEST(GENERATE_ARRAY(1, {ROWS_A_DAY})) AS n"  # noqa: S608
    return Table(dataset, "days", columns, metadata, query, None, ())


def _rows_of(client: bigquery.Client, table: Table, day: dt.date) -> int:
    [[rows]] = _ask(client, f"SELECT COUNT(*) FROM {table.full_name} WHERE event_date = @day", day)  # noqa: S608
    return int(rows)


def _loaded_days(client: bigquery.Client, least: int) -> list[dt.date]:
    """The last days that have events of a load, the newest first; at least so many."""
    sql = """
        SELECT DISTINCT event_date
        FROM shop.daily_event_count
        WHERE event_date >= @day
        ORDER BY 1 DESC
        LIMIT 2"""
    days = [row[0] for row in _ask(client, sql, DAY)]
    if len(days) < least:
        raise Open(
            f"the shop has events of {len(days)} days, and this needs {least}: land some days, load them "
            "(make load), and run this probe again"
        )
    return days


def _tables() -> dict[str, Table]:
    return {table.full_name: table for table in all_tables(settings().sql_dir)}


def _ask(client: bigquery.Client, sql: str, day: dt.date) -> list[Any]:
    job = run(client, sql, {"day": day}, job_id_prefix="proof", maximum_bytes_billed=SMALL_MAX_BYTES)
    return [tuple(row.values()) for row in job.result()]


PROBES = (
    Probe(
        "build-twice",
        "Do two builds of an empty day at the same moment leave each row once?",
        f"{ROWS_A_DAY} rows a day",
        0.01,
        build_twice,
    ),
    Probe(
        "job-id-twice",
        "Does a statement whose job id is taken meet the job that runs, instead of running beside it?",
        f"1 job, {ROWS_A_DAY} rows",
        0.01,
        job_id_twice,
    ),
    Probe(
        "append-arrow",
        "Does the Storage Write API take Arrow record batches on a table's default stream?",
        "all rows, of each type",
        0.01,
        append_arrow,
    ),
    Probe(
        "rows-of-days",
        "Does BigQuery tell the rows of each day of the raw tables, also where one of them is empty?",
        f"{ROWS_A_DAY} rows of one day",
        0.01,
        rows_of_days,
        needs=(EMULATOR,),
    ),
    Probe(
        "derived-bytes",
        "Are the bytes that tools/googlesql derives of builds, checks and loads those of BigQuery's dry run?",
        f"within {percent(WITHIN, 0)}",
        1.00,
        derived_bytes,
        needs=(EMULATOR,),
    ),
    Probe(
        "pruning",
        "Does a filter on event_date reach the partitions below the view shop.events?",
        "the bytes of one day",
        1.00,
        pruning,
        needs=(EMULATOR,),
    ),
)
