"""What a build of summaries does with some days, and what it would do.

What is built are the summaries and, before them, the tables of shop_raw that are made for them
(tables.folder.built_in_order). shop.days tells which days are known and which of them are provisional:
summarised, but not yet published by a daily load.
"""

# ruff: noqa: S608
# Only names from our own files become part of a statement; days are parameters.

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from beam_jobs.contract import LATENESS_DAYS
from shopstream.days import told_days
from shopstream.gcp.bigquery import SMALL_MAX_BYTES, bytes_read, get_table, run
from shopstream.stream.checks import streamed_days
from shopstream.tables.day import (
    CheckFailed,
    CheckResult,
    build_day,
    day_limit,
    look,
    refuse_failed,
    write_check_results,
)
from shopstream.tables.folder import Table
from shopstream.tables.names import CHECK_RESULTS, LOADS
from shopstream.text_table import text_table

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

DRY_RUN_THREADS = 8
LAST_LOADED = f"""
    SELECT event_date, MAX(loaded_at) AS loaded_at
    FROM {LOADS}, UNNEST(event_dates) AS event_date
    WHERE landing_day BETWEEN @first_day AND @last_landing_day
    GROUP BY event_date"""
"""When a load last changed the events of each day from @first_day on."""


class FilledDayFailed(CheckFailed):
    """Filled days failed a check; those asked for are built and good. `rows` is how many rows all have."""

    def __init__(self, message: str, rows: int) -> None:
        super().__init__(message)
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Change:
    """What building one day of a summary would do: the bytes its query reads, and what becomes of the rows.

    Of `rows_now`, `rows_gone` have no equal among `rows_then`; of these, `rows_new` have none among those.
    `is_lower_bound` tells that the summary reads others that a build would change before: their rows as they
    are now were read.
    """

    table: str
    day: dt.date
    bytes_read: int
    rows_now: int
    rows_then: int
    rows_gone: int
    rows_new: int
    is_lower_bound: bool = False


def build(client: Client, table: Table, days: Sequence[dt.date]) -> int:
    """Replace the table's rows of the days and of all days that look back or ahead on them; check each day.

    Of a table that others read it then fills each known day near them of which it lacks events.

    Returns:
        How many rows these days have now.

    Raises:
        CheckFailed: a check of severity fail found rows. On a provisional day rows stream in between the
            build and its checks: there a check that also looks at other tables only warns, and so does it on
            a day that looks ahead on a provisional one.
        FilledDayFailed: it did so on filled days alone. All days are built.
    """
    known = known_days(client, days, table)
    wanted = days_to_build(table, days, known)
    filled = _unbuilt(client, table, wanted, known)
    ahead = range(table.metadata.lookahead_days + 1)
    rows, results = 0, list[CheckResult]()
    try:
        # Those asked for first: no old day is in their way.
        for day in [*wanted, *filled]:
            build_day(client, table, day)
            # At once, since checks look at what the summary reads: if a load publishes late events in
            # between, they fail, and the retry builds the day again.
            is_provisional = any(known.get(day + dt.timedelta(days=number), True) for number in ahead)
            checked = as_provisional(table) if is_provisional else table
            rows_of_day, found = look(client, checked, day)
            rows += rows_of_day
            results += found
            if day in wanted:
                refuse_failed(found)
    finally:
        # Of all days at once: one statement a table, also of the day that failed.
        write_check_results(client, table, results)
    try:
        refuse_failed(result for result in results if result.day in filled)
    except CheckFailed as failed:
        raise FilledDayFailed(
            f"{table.full_name} is built and good for {told_days(wanted)}, as was asked. It also filled "
            f"{told_days(filled)}, of which these failed:\n{failed}",
            rows,
        ) from None
    return rows


def intraday_days(
    client: Client,
    today: dt.date,
    since: dt.datetime,
    collect_since: dt.datetime | None,
    late_share: float,
) -> list[dt.date]:
    """Return the days to build from what has streamed in: those that no daily load rebuilds in time.

    They are yesterday and today until a load has published them, and late days: of which, back to as late as
    an event may come, the stream brought events all the same. Each of these that were published at
    `collect_since` or later, if late days are due; else those of which the events published at `since` or
    later are more than `late_share` of what daily_event_count has of the day.
    """
    days = [today - dt.timedelta(days=number) for number in range(LATENESS_DAYS, -1, -1)]
    known = known_days(client, days[-2:])
    wanted = {day for day in days[-2:] if known.get(day, True)}
    late = streamed_days(client, days[0], today, collect_since or since)
    if collect_since is None:
        counted = summarised_events(client, days) if late else {}
        late = {day: rows for day, rows in late.items() if rows > late_share * counted.get(day, 0)}
    return sorted(wanted | late.keys())


def dry_run(client: Client, tables: Iterable[Table], days: Sequence[dt.date]) -> list[Change]:
    """Return what `build` would do to each table and day, without doing it.

    A summary that reads another of `tables` is counted from that one as it is now: a lower bound.
    """
    tables = list(tables)
    names = {table.full_name for table in tables}
    wanted = [(table, day) for table in tables for day in _days_of_build(client, table, days)]
    with ThreadPoolExecutor(DRY_RUN_THREADS) as threads:
        found = list(threads.map(lambda pair: _change(client, *pair), wanted))
    return [
        replace(change, is_lower_bound=bool(names.intersection(table.metadata.reads)))
        for change, (table, _) in zip(found, wanted, strict=True)
    ]


def describe(changes: Sequence[Change]) -> str:
    """Return a text table of the changes, a line each, and their sum; * marks those that are lower bounds."""
    headings = ("summary", "day", "MB read", "rows now", "rows then", "gone", "new")
    lines = [
        (
            change.table + ("*" if change.is_lower_bound else ""),
            str(change.day),
            f"{change.bytes_read / 1e6:,.1f}",
            *(f"{n:,}" for n in (change.rows_now, change.rows_then, change.rows_gone, change.rows_new)),
        )
        for change in changes
    ]
    sums = [
        sum(column)
        for column in zip(*((c.rows_now, c.rows_then, c.rows_gone, c.rows_new) for c in changes), strict=True)
    ]
    megabytes = sum(change.bytes_read for change in changes) / 1e6
    lines.append(("all", f"{len(changes)} builds", f"{megabytes:,.1f}", *(f"{n:,}" for n in sums)))
    text = text_table(headings, lines, numbers=range(2, len(headings)))
    if any(change.is_lower_bound for change in changes):
        text += (
            "\n* at least: it reads summaries that a build replaces before; they were read as they are now"
        )
    return text


def known_days(client: Client, days: Sequence[dt.date], table: Table | None = None) -> dict[dt.date, bool]:
    """Return the days that shop.days has from the first of `days` to the last of them.

    With a table, also those before and after them that look ahead or back on them, and those on which these
    look ahead, or that it fills. The value tells whether a day is provisional.
    """
    if not days:
        return {}
    fills = table.metadata.fills_days if table else 0
    lookahead, lookback = (table.metadata.lookahead_days, table.metadata.lookback_days) if table else (0, 0)
    sql = "SELECT event_date, is_provisional FROM shop.days WHERE event_date BETWEEN @first_day AND @last_day"
    params = {
        "first_day": min(days) - dt.timedelta(days=max(lookahead, fills)),
        "last_day": max(days) + dt.timedelta(days=max(lookback + lookahead, fills)),
    }
    job = run(client, sql, params, job_id_prefix="known-days", maximum_bytes_billed=SMALL_MAX_BYTES)
    return {row.event_date: row.is_provisional for row in job.result()}


def summarised_events(client: Client, days: Sequence[dt.date]) -> dict[dt.date, int]:
    """Return how many events shop.daily_event_count has of each of the days, which must be in order."""
    sql = """
        SELECT event_date, SUM(events) AS events
        FROM shop.daily_event_count
        WHERE event_date BETWEEN @first_day AND @last_day
        GROUP BY event_date"""
    params = {"first_day": days[0], "last_day": days[-1]}
    job = run(client, sql, params, job_id_prefix="summarised-events", maximum_bytes_billed=SMALL_MAX_BYTES)
    return {row.event_date: row.events for row in job.result()}


def days_to_build(table: Table, days: Sequence[dt.date], known: Mapping[dt.date, bool]) -> list[dt.date]:
    """Return `days`, and each known day whose rows the summary makes from one of them, in order."""
    reach = range(-table.metadata.lookahead_days, table.metadata.lookback_days + 1)
    return sorted({*days, *(day for day in known if any((day - built).days in reach for built in days))})


def _days_of_build(client: Client, table: Table, days: Sequence[dt.date]) -> list[dt.date]:
    known = known_days(client, days, table)
    wanted = days_to_build(table, days, known)
    return sorted([*wanted, *_unbuilt(client, table, wanted, known)])


def _unbuilt(
    client: Client, table: Table, wanted: Sequence[dt.date], known: Mapping[dt.date, bool]
) -> list[dt.date]:
    """Return the known days, without those wanted, that it fills and of which it lacks events, in order.

    Those were not built since the table was made, or since a load last changed their events: the table is new
    to a project that has events, was lost, or an older version ran for a while. Who reads it would take a day
    without rows for one without events. A day is checked when it was built, an empty one too; one that failed
    a check is built again.
    """
    if not table.metadata.fills_days or not known:
        return []
    sql = f"""
        WITH built AS (
            SELECT event_date, MAX(checked_at) AS built_at
            FROM {CHECK_RESULTS}
            WHERE
                event_date BETWEEN @first_day AND @last_day
                AND table_name = @table_name
                AND checked_at >= @made_at
            GROUP BY event_date
            HAVING COUNTIF(severity = 'fail' AND found_rows > 0) = 0
        ),
        loaded AS ({LAST_LOADED})
        SELECT built.event_date
        FROM built
        LEFT JOIN loaded ON built.event_date = loaded.event_date
        WHERE loaded.loaded_at IS NULL OR loaded.loaded_at < built.built_at"""
    params = {
        "first_day": min(known),
        "last_day": max(known),
        "last_landing_day": max(known) + dt.timedelta(days=LATENESS_DAYS),
        "table_name": table.full_name,
        "made_at": get_table(client, table.full_name).created,
    }
    job = run(client, sql, params, job_id_prefix="days-built", maximum_bytes_billed=SMALL_MAX_BYTES)
    built = {row.event_date for row in job.result()}
    return sorted(known.keys() - built - set(wanted))


def as_provisional(table: Table) -> Table:
    """Return the table with each check that also looks at other tables at severity warn."""
    checks = []
    for check in table.checks:
        others = set(re.findall(r"(?:FROM|JOIN)\s+(\w+\.\w+)", check.sql)) - {table.full_name}
        checks.append(replace(check, severity="warn") if others else check)
    return replace(table, checks=tuple(checks))


def _change(client: Client, table: Table, day: dt.date) -> Change:
    columns = ", ".join(table.column_names)
    counts = f"""
        WITH both_times AS (
            SELECT {columns}, 1 AS now, 0 AS later
            FROM {table.full_name}
            WHERE {table.metadata.partition_by} = @day
            UNION ALL
            SELECT {columns}, 0 AS now, 1 AS later
            FROM (
                {table.query}
            )
        ),
        equal_rows AS (
            SELECT SUM(now) AS now, SUM(later) AS later
            FROM both_times
            GROUP BY {columns}
        )
        SELECT
            COALESCE(SUM(now), 0), COALESCE(SUM(later), 0), COUNTIF(later = 0), COUNTIF(now = 0)
        FROM equal_rows"""
    query = table.query or ""
    [[rows_now, rows_then, rows_gone, rows_new]] = run(
        client,
        counts,
        {"day": day},
        job_id_prefix=f"dry-run-{table.name}-{day:%Y%m%d}",
        maximum_bytes_billed=day_limit(client, "build", table, day),
    ).result()
    read = bytes_read(client, query, {"day": day})
    return Change(table.full_name, day, read, rows_now, rows_then, rows_gone, rows_new)
