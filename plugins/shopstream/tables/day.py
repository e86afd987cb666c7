"""A day of a table: replace its rows in one statement, and check them."""

# ruff: noqa: S608
# Only names from our own files become part of a statement; values are query parameters.

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud import bigquery

from shopstream.gcp.bigquery import SMALL_MAX_BYTES, Limit, get_table, run, standard_fields
from shopstream.tables.folder import Check, Table, TableError
from shopstream.tables.limits import limit_of, most_events
from shopstream.tables.names import CHECK_RESULTS

OFFENDING_ROWS_SHOWN = 5
PERSONAL_COLUMNS = ("user_id", "user_session", "session_key")
"""What a finding does not show, since logs and shop_ops outlive what a customer asks to be forgotten."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found on one day of a table, and when it ran; `finding` is a sentence, or None."""

    day: dt.date
    check: str
    severity: str
    found_rows: int
    finding: str | None
    checked_at: dt.datetime


class CheckFailed(RuntimeError):
    """Checks of severity fail found rows; the message names each, its table, the day and what it found."""


def build_day(
    client: bigquery.Client, table: Table, day: dt.date, params: Mapping[str, float] | None = None
) -> None:
    """Replace the table's rows of the day, in one statement.

    `params` are those that the table's query takes beside @day, as metadata.yaml declares them.

    Raises:
        ValueError: one of them is not given, or another is.
    """
    params, types = params or {}, table.metadata.parameters
    if params.keys() != types.keys():
        raise ValueError(
            f"{table.full_name}: its query takes {', '.join(types) or 'nothing'} beside the day, as "
            f"metadata.yaml says; given were {', '.join(params) or 'none'}"
        )
    typed = {name: bigquery.ScalarQueryParameter(name, types[name], value) for name, value in params.items()}
    run(
        client,
        build_statement(table),
        {"day": day, **typed},
        job_id_prefix=f"build-{table.name}-{day:%Y%m%d}",
        maximum_bytes_billed=day_limit(client, "build", table, day),
        alone=True,
    )


def day_limit(client: bigquery.Client, verb: str, table: Table, day: dt.date) -> Limit:
    """Return what the statement that builds (`verb` is "build") or checks ("check") a day may bill."""
    first_day = day - dt.timedelta(days=table.metadata.lookback_days)
    last_day = day + dt.timedelta(days=table.metadata.lookahead_days)
    return limit_of(f"{verb} {table.full_name}", most_events(client, first_day, last_day))


def run_checks(client: bigquery.Client, table: Table, day: dt.date) -> int:
    """Run all checks of the table on the day; log what those of severity warn find; return the day's rows.

    Raises:
        CheckFailed: checks of severity fail found rows.
    """
    rows, results = look(client, table, day)
    refuse_failed(results)
    return rows


def look(client: bigquery.Client, table: Table, day: dt.date) -> tuple[int, list[CheckResult]]:
    """Run all checks of the table on the day; return the day's rows and what each check found.

    They are one query: it sees one state of all tables, and costs one job for each day.
    """
    # Before it runs, so that a load that comes meanwhile is newer.
    now = dt.datetime.now(dt.UTC)
    job = run(
        client,
        checks_statement(table),
        {"day": day},
        job_id_prefix=f"check-{table.name}-{day:%Y%m%d}",
        maximum_bytes_billed=day_limit(client, "check", table, day),
    )
    answers = {row["check_name"]: (row["found_rows"], row["shown"]) for row in job.result()}
    rows, _ = answers[None]
    log.info("%s of %s, rows: %s.", table.full_name, day, f"{rows:,}")
    results = []
    for check in table.checks:
        found_rows, shown = answers[check.name]
        finding = _finding(table, check, day, found_rows, shown)
        results.append(CheckResult(day, check.name, check.severity, found_rows, finding, now))
    return rows, results


def refuse_failed(results: Iterable[CheckResult]) -> None:
    """Log what checks of severity warn found.

    Raises:
        CheckFailed: checks of severity fail found rows.
    """
    failures = []
    for result in results:
        if result.finding and result.severity == "fail":
            failures.append(result.finding)
        elif result.finding:
            log.warning(result.finding)
    if failures:
        raise CheckFailed("\n".join(failures))


def write_check_results(client: bigquery.Client, table: Table, results: Sequence[CheckResult]) -> None:
    """Write what the checks of some days of a table found, in place of what shop_ops.check_results has."""
    if not results:
        return
    columns: dict[str, tuple[str, Sequence[Any]]] = {
        "event_date": ("DATE", [result.day for result in results]),
        "check_name": ("STRING", [result.check for result in results]),
        "severity": ("STRING", [result.severity for result in results]),
        "found_rows": ("INT64", [result.found_rows for result in results]),
        # BigQuery has no NULL in an array.
        "finding": ("STRING", [result.finding or "" for result in results]),
        "checked_at": ("TIMESTAMP", [result.checked_at for result in results]),
    }
    rows, given = rows_given(columns, {"table_name": "@table_name", "finding": "NULLIF(finding, '')"})
    days = [result.day for result in results]
    params = {"table_name": table.full_name, "first_day": min(days), "last_day": max(days), **given}
    old = (
        "target.event_date BETWEEN @first_day AND @last_day AND target.event_date IN UNNEST(@event_date) "
        "AND target.table_name = @table_name"
    )
    names = ["table_name", *columns]
    statement = replace_statement(CHECK_RESULTS, names, rows, old)
    prefix = f"check-results-{table.name}"
    run(client, statement, params, job_id_prefix=prefix, maximum_bytes_billed=SMALL_MAX_BYTES, alone=True)


def replace_row(
    client: bigquery.Client,
    table: str,
    row: Mapping[str, Any],
    keys: Sequence[str],
    *,
    job_id_prefix: str,
    maximum_bytes_billed: Limit = SMALL_MAX_BYTES,
    where: str = "TRUE",
    params: Mapping[str, Any] | None = None,
    once: bool = False,
) -> None:
    """Write one row in place of those with the same values of `keys`; dates may be YYYY-MM-DD.

    `where` is a condition on other tables, with the parameters `params` and those named as the row's columns.
    `once` is that of gcp.bigquery.run.

    Raises:
        ValueError: the row lacks a column of the table or has one more.
    """
    fields = get_table(client, table).schema
    names = [field.name for field in fields]
    if set(row) != set(names):
        raise ValueError(
            f"the row has {', '.join(sorted(row))}; {table} needs exactly {', '.join(sorted(names))}"
        )
    values: dict[str, Any] = dict(params or {})
    for field in standard_fields(fields):
        kind = bigquery.ArrayQueryParameter if field.mode == "REPEATED" else bigquery.ScalarQueryParameter
        values[field.name] = kind(field.name, field.field_type, row[field.name])
    given = "SELECT " + ", ".join(f"@{name} AS {name}" for name in names) + f" FROM (SELECT 1) WHERE {where}"
    same = " AND ".join(f"target.{key} = @{key}" for key in keys)
    statement = replace_statement(table, names, given, same)
    run(
        client,
        statement,
        values,
        job_id_prefix=job_id_prefix,
        maximum_bytes_billed=maximum_bytes_billed,
        once=once,
    )


def build_statement(table: Table) -> str:
    """Return the statement that replaces the rows of @day by those of the summary's query.

    Raises:
        TableError: the table is no summary.
    """
    if not table.query:
        raise TableError(f"{table.full_name}: has no query.sql, so there is nothing to build")
    old = f"target.{table.metadata.partition_by} = @day"
    return replace_statement(table.full_name, table.column_names, table.query, old)


def replace_statement(table: str, columns: Iterable[str], rows: str, old: str) -> str:
    """Return the one statement that replaces the rows of a table for which `old` holds by those of `rows`.

    Since nothing ever matches ON FALSE, each old row is deleted and each new one inserted, atomically.
    Without new rows none are left.

    Args:
        columns: the columns written, which `rows` has.
        rows: a SELECT of the new rows.
        old: a condition on the row `target`, such as `target.event_date = @day`.
    """
    names = ", ".join(columns)
    return (
        f"MERGE {table} AS target\n"
        f"USING (\n{rows}\n) AS built\n"
        "ON FALSE\n"
        f"WHEN NOT MATCHED BY SOURCE AND {old} THEN DELETE\n"
        f"WHEN NOT MATCHED BY TARGET THEN INSERT ({names}) VALUES ({names})"
    )


def rows_given(
    columns: Mapping[str, tuple[str, Sequence[Any]]], made: Mapping[str, str]
) -> tuple[str, dict[str, bigquery.ArrayQueryParameter]]:
    """Return a SELECT of rows that are given as values, and its parameters: one array a column.

    Args:
        columns: each column's type and values, as many as there are rows, none of them None.
        made: expressions of further columns, or of what becomes of a given one.
    """
    first, *others = columns
    selected = [f"{made[name]} AS {name}" if name in made else name for name in columns]
    selected += [f"{expression} AS {name}" for name, expression in made.items() if name not in columns]
    rows = f"SELECT {', '.join(selected)} FROM UNNEST(@{first}) AS {first} WITH OFFSET AS row_number"
    for name in others:
        rows += f" JOIN UNNEST(@{name}) AS {name} WITH OFFSET AS {name}_number ON row_number = {name}_number"
    return rows, {
        name: bigquery.ArrayQueryParameter(name, kind, values) for name, (kind, values) in columns.items()
    }


def checks_statement(table: Table, rows_shown: int = OFFENDING_ROWS_SHOWN) -> str:
    """Return the one query that runs all checks of the table on @day.

    Each row has check_name, found_rows, and shown: at most `rows_shown` of the found rows, as JSON objects.
    In the row whose check_name is NULL, found_rows counts the table's own rows of the day.
    """
    counted = (
        "SELECT CAST(NULL AS STRING) AS check_name, COUNT(*) AS found_rows, ARRAY<STRING>[] AS shown\n"
        f"FROM {table.full_name}\nWHERE {table.metadata.partition_by} = @day"
    )
    checked = (
        f"SELECT '{check.name}' AS check_name, COUNT(*) AS found_rows,\n"
        f"ARRAY_AGG(TO_JSON_STRING(found) LIMIT {rows_shown}) AS shown\nFROM (\n{check.sql}\n) AS found"
        for check in table.checks
    )
    return "\nUNION ALL\n".join([counted, *checked])


def _finding(table: Table, check: Check, day: dt.date, found_rows: int, shown: Sequence[str]) -> str | None:
    """Return what a check found as a sentence, None if nothing; `shown` are some of its rows in JSON."""
    if not found_rows:
        return None
    rows = [
        {name: value for name, value in json.loads(row).items() if name not in PERSONAL_COLUMNS}
        for row in shown
    ]
    told = (", ".join(f"{name} = {value}" for name, value in row.items()) for row in rows)
    more = found_rows - len(shown)
    return (
        f"{table.full_name} of {day}: check {check.name} ({check.severity}) found {'; '.join(told)}"
        + (f"; and {more} more rows" if more else "")
        + f". {check.meaning}".rstrip()
    )
