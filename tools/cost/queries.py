"""What BigQuery reads in a month: each statement that the DAGs send, by Google's analyzer, and how often it
runs.

A statement's bytes are those of the columns and days that it reads (tools/googlesql), of each table at least
what BigQuery bills at least. All grow with the shop's events. Statements that people send are not here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from beam_jobs.contract import LATENESS_DAYS
from local.root import ROOT
from shopstream.charts import FILTERS, chart_names, filters_of, read_sql
from shopstream.dashboard.app import SQL_DIR as DASHBOARD_SQL
from shopstream.load import publish
from shopstream.report.tasks import HISTORY_DAYS
from shopstream.settings import settings
from shopstream.stream import checks as stream
from shopstream.summaries.build import days_to_build
from shopstream.tables.folder import Column, Table, TableError, all_tables
from shopstream.tables.names import (
    EVENTS_BATCH,
    EVENTS_STREAM,
    OBJECTIVES,
    REJECTED_EVENTS_BATCH,
    REJECTED_EVENTS_STREAM,
    STREAM_COMPLETENESS,
)
from tools.cost.measure import SHOP, TEXT
from tools.googlesql.analyzer import Analyzer, running_analyzer
from tools.googlesql.reads import FIXED_BYTES, Bound, Read, reads_of
from tools.googlesql.statements import statements_of

DAYS_A_MONTH = 30
STAGING = "shop_raw.events_batch_staging"
LOG = ROOT / "build" / "googlesql.log"

DAY = dt.date(2019, 11, 30)
BATCH_DAYS = [DAY - dt.timedelta(days=number) for number in range(LATENESS_DAYS, -1, -1)]
"""Which days a daily load changes: events of each of the days that it may bring come late on every day."""
INTRADAY_RUNS = 24
INTRADAY_DAYS = BATCH_DAYS[-2:]
"""Which days each hourly run builds."""
COLLECTING_RUNS = 24 / settings().late_days_hours
"""How many of these build BATCH_DAYS: of each, late events stream in. The dearest case, and a large
shop's."""
KEEP_ALIVE_RUNS = 86_400 / settings().keep_alive_seconds
BUILT_ELSEWHERE = {
    STREAM_COMPLETENESS: {"compare_stream_with_batch": len(BATCH_DAYS)},
    OBJECTIVES: {"tell_digest": 1},
}
"""Tables with a query that are no summary: how often each DAG builds a day of them, a day."""

PARAM_DAYS = {
    "@day": 0,
    "@landing_day": 0,
    "@last_day": 0,
    "today": 0,
    "@first_day": -LATENESS_DAYS,
}
"""How many days after a run's own day a query parameter is."""


class Size(NamedTuple):
    """What a table holds of a day: rows, and the mean bytes of each column, by name."""

    rows: float
    column_bytes: Mapping[str, float]

    def bytes_of(self, columns: frozenset[str]) -> float:
        """The bytes of some columns of one day."""
        return self.rows * sum(self.column_bytes[name] for name in columns)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement: how often it runs a day, and the bytes that it reads of each table when the shop is this
    one.

    Of a table whose bytes are not known to grow, such as an audit table, they are 0: BigQuery bills its
    least.
    """

    name: str
    dag: str
    runs_a_day: float
    table_bytes: Mapping[str, float]

    def bytes_a_month(self, times: float, least: int) -> float:
        """The bytes billed for a month of a shop so many times this one."""
        once = sum(max(bytes_ * times, least) for bytes_ in self.table_bytes.values())
        return once * self.runs_a_day * DAYS_A_MONTH


def read_shop() -> dict[str, Any]:
    """Read shop.yaml."""
    shop: dict[str, Any] = yaml.safe_load(SHOP.read_text(encoding="utf-8"))
    return shop


def queries(sql_dir: Path, shop: Mapping[str, Any]) -> list[Query]:
    """Return each statement of the DAGs, in no set order; `shop` is shop.yaml.

    Raises:
        emulators.NotReady: the analyzer is not installed, or does not start.
        TableError: a folder is not as it must be, or tables are not measured.
    """
    with _judging(sql_dir, shop) as (tables, sizes, read):
        return [
            *_of_tables(sql_dir, tables, sizes, read),
            *_of_loads(tables, sizes, read),
            *_of_the_report(sizes, read),
            *_of_the_stream(sizes, read),
            *_small(tables),
        ]


def bytes_per_event(sql_dir: Path, shop: Mapping[str, Any]) -> dict[str, float]:
    """Return the bytes that each statement reads for each event of a day, as shopstream.tables.limits has it.

    Those of a statement over a row of days, which are parameters, are for each event of one of them. What
    asks for rejected lines is left out, since these have no certain size. The errors are those of `queries`.
    """
    with _judging(sql_dir, shop) as (tables, sizes, read):
        found = {
            query.name: sum(query.table_bytes.values())
            for query in (*_of_tables(sql_dir, tables, sizes, read), *_of_loads(tables, sizes, read))
        }
        of_days = {
            "figures of the stream": stream.FIGURES,
            "days that streamed in": stream.STREAMED_DAYS,
            **{f"ask {name}": read_sql(name) for name in chart_names()},
            **{
                f"ask {'-'.join(path.relative_to(DASHBOARD_SQL).with_suffix('').parts)}": path.read_text()
                for path in DASHBOARD_SQL.rglob("*.sql")
            },
        }
        for name, sql in of_days.items():
            types = {
                **dict.fromkeys(("first_day", "last_day"), "DATE"),
                **dict.fromkeys(("since", "read_since"), "TIMESTAMP"),
                **dict.fromkeys(FILTERS, "STRING"),
                "user_id": "INT64",
            }
            reads = read(sql, types)
            if reads.keys() & {REJECTED_EVENTS_BATCH, REJECTED_EVENTS_STREAM}:
                continue
            found[name] = sum(
                sizes[table].bytes_of(of_table.columns)
                if "@first_day" in sql
                else _bytes_read(sizes[table], of_table)
                for table, of_table in reads.items()
            )
    return {name: bytes_ / shop["events_a_day"] for name, bytes_ in found.items()}


def sizes_of(tables: Mapping[str, Table], shop: Mapping[str, Any]) -> dict[str, Size]:
    """Return what each stored table holds of a day; nothing of those that do not grow with the events.

    Raises:
        TableError: a table or a text column of it is not measured.
    """
    sizes = {}
    for name, table in tables.items():
        if table.view:
            continue
        entry = shop["tables"].get(name)
        if entry is None and (table.dataset == "shop_ops" or name.startswith("shop_raw.rejected_")):
            sizes[name] = Size(0, dict.fromkeys(table.column_names, 0))
            continue
        texts = (entry or {}).get("texts", {})
        missing = [c.name for c in table.schema if c.type in TEXT and c.name not in texts]
        if entry is None or missing:
            raise TableError(
                f"{SHOP.name}: knows nothing of {name}{': ' if missing else ''}{', '.join(missing)}; run "
                "`python -m tools.cost.measure`, which measures all tables"
            )
        sizes[name] = Size(entry["rows"], {c.name: _bytes(c, texts) for c in table.schema})
    return sizes


def columns_of_days(read: Read) -> list[frozenset[str]]:
    """Return the columns of a table that a statement reads, for each day of which it reads any.

    Raises:
        ValueError: without end, or from or to a parameter that is not known here.
    """
    days: dict[int, frozenset[str]] = {}
    for scan in read.scans:
        first, last = (_offset(bound, read) for bound in (scan.days.first, scan.days.last))
        for offset in range(first, last + 1):
            days[offset] = days.get(offset, frozenset()) | scan.columns
    return list(days.values())


Reader = Callable[[str, Mapping[str, str]], Mapping[str, Read]]


@contextmanager
def _judging(
    sql_dir: Path, shop: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Table], dict[str, Size], Reader]]:
    """Yield all tables, what each holds of a day, and what tells what a statement reads of them."""
    tables = {table.full_name: table for table in all_tables(sql_dir)}
    staging = replace(tables[EVENTS_BATCH], name=STAGING.partition(".")[2])
    staging = replace(staging, metadata=replace(staging.metadata, partition_by=None))
    known = {**tables, staging.full_name: staging}
    sizes = sizes_of(tables, shop)
    sizes[staging.full_name] = sizes[EVENTS_BATCH]
    with running_analyzer(known.values(), LOG) as analyzer:
        yield tables, sizes, _reader(analyzer, known)


def _reader(analyzer: Analyzer, tables: Mapping[str, Table]) -> Reader:
    def read(sql: str, params: Mapping[str, str]) -> Mapping[str, Read]:
        analyzed = analyzer.analyze(sql, params)
        return reads_of(analyzed, tables, lambda view: analyzer.analyze(view.view or "", {}))

    return read


def _of_tables(
    sql_dir: Path, tables: Mapping[str, Table], sizes: Mapping[str, Size], read: Reader
) -> Iterator[Query]:
    """Yield the builds and the checks of all tables that have a query."""
    for table in tables.values():
        if not table.query:
            continue
        statements = {statement.name: statement for statement in statements_of(sql_dir, table)}
        for statement, verb in (("its MERGE", "build"), ("all checks", "check")):
            if statement not in statements:
                continue
            reads = read(statements[statement].sql, statements[statement].params)
            table_bytes = {name: _bytes_read(sizes[name], found) for name, found in reads.items()}
            for dag, runs in _builds_a_day(table).items():
                yield Query(f"{verb} {table.full_name}", dag, runs, table_bytes)


def _builds_a_day(table: Table) -> Mapping[str, float]:
    """Return how often each DAG builds a day of a table, a day."""
    if table.full_name in BUILT_ELSEWHERE:
        return BUILT_ELSEWHERE[table.full_name]
    known = {DAY - dt.timedelta(days=number): False for number in range(400)}
    return {
        "build_summaries": len(days_to_build(table, BATCH_DAYS, known)),
        "build_summaries_intraday": COLLECTING_RUNS * len(days_to_build(table, BATCH_DAYS, known))
        + (INTRADAY_RUNS - COLLECTING_RUNS) * len(days_to_build(table, INTRADAY_DAYS, known)),
    }


def _of_loads(tables: Mapping[str, Table], sizes: Mapping[str, Size], read: Reader) -> Iterator[Query]:
    statements = {
        "count the staged": publish.count_staged_sql(STAGING),
        "look for foreign rows": publish.foreign_sql(STAGING),
        "find the days touched": publish.touched_sql(STAGING),
        "replace the landing day": publish.publish_sql(STAGING, tables[EVENTS_BATCH].column_names),
        "count the published": publish.COUNT_PUBLISHED,
        "write the audit row": publish.OTHER_ROW,
    }
    params = {"landing_day": "DATE", "first_day": "DATE", "load_id": "STRING"}
    for name, sql in statements.items():
        reads = read(sql, params)
        table_bytes = {
            table: sizes[table].bytes_of(found.columns)
            if table == STAGING
            else _bytes_read(sizes[table], found)
            for table, found in reads.items()
        }
        # Before it is compared with Spanner, and again before the day is replaced by it.
        runs = 2 if name == "count the staged" else 1
        yield Query(name, "load_events_daily", runs, table_bytes)


def _of_the_report(sizes: Mapping[str, Size], read: Reader) -> Iterator[Query]:
    for name in chart_names():
        sql = read_sql(name)
        types = {"first_day": "DATE", "last_day": "DATE", **dict.fromkeys(filters_of(sql), "STRING")}
        table_bytes = {
            table: sizes[table].bytes_of(found.columns) * HISTORY_DAYS
            for table, found in read(sql, types).items()
        }
        yield Query(f"report {name}", "build_summaries", 1, table_bytes)


def _of_the_stream(sizes: Mapping[str, Size], read: Reader) -> Iterator[Query]:
    """Yield the looks at what has just streamed in: clustering leaves the blocks of the last hour, say two
    hours."""
    share = 2 / 24
    types = {"first_day": "DATE", "last_day": "DATE", "since": "TIMESTAMP", "read_since": "TIMESTAMP"}
    for name, dag, runs, sql in (
        ("figures of the stream", "keep_stream_alive", KEEP_ALIVE_RUNS, stream.FIGURES),
        ("days that streamed in", "build_summaries_intraday", INTRADAY_RUNS, stream.STREAMED_DAYS),
    ):
        columns = read(sql, types)[EVENTS_STREAM].columns
        yield Query(name, dag, runs, {EVENTS_STREAM: sizes[EVENTS_STREAM].bytes_of(columns) * share})


def _small(tables: Mapping[str, Table]) -> list[Query]:
    """Return what reads little and is billed the least: looks at the audit tables, rejects, rows of
    checks."""
    builds = sum(bool(table.query) and name not in BUILT_ELSEWHERE for name, table in tables.items())
    least = {"build_summaries": builds, "build_summaries_intraday": builds * INTRADAY_RUNS}
    partitions = "shop_raw.INFORMATION_SCHEMA.PARTITIONS"
    found = [
        Query(f"{what} of each summary", dag, runs, dict.fromkeys(read, 0.0))
        for what, read in (("known days", ("shop.daily_event_count", "shop_ops.loads")),
                           ("events of the days", (partitions, "shop_ops.loads")),
                           ("results of checks", ("shop_ops.check_results",)))
        for dag, runs in least.items()
    ]  # fmt: skip
    rejects = ("shop_raw.rejected_events_batch", "shop_ops.loads")
    return [
        *found,
        Query("keep and count the rejects", "load_events_daily", 2, dict.fromkeys(rejects, 0.0)),
        Query("rejects and row of a check", "keep_stream_alive", KEEP_ALIVE_RUNS,
              dict.fromkeys(("shop_raw.rejected_events_stream", "shop_ops.stream_checks"), 0.0)),
    ]  # fmt: skip


def _bytes_read(size: Size, read: Read) -> float:
    """The bytes that are read of a table; of one that does not grow, 0."""
    return sum(map(size.bytes_of, columns_of_days(read))) if size.rows else 0.0


def _offset(bound: Bound | None, read: Read) -> int:
    if bound is None or bound.anchor not in PARAM_DAYS:
        raise ValueError(
            f"a statement reads {read.days}; give its parameters in PARAM_DAYS of tools/cost/queries.py"
        )
    return PARAM_DAYS[bound.anchor] + bound.days


def _bytes(column: Column, texts: Mapping[str, float]) -> float:
    return texts[column.name] if column.type in TEXT else FIXED_BYTES[column.type]
