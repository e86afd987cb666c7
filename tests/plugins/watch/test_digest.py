"""What one day of the pipelines is told as, and what is left of the promises."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.settings import settings
from shopstream.tables.day import build_day
from shopstream.tables.folder import load_table
from shopstream.tables.names import OBJECTIVES
from shopstream.watch.digest import in_words, read_day
from tests.sql.events import fill, rows_of

DAY = dt.date(2019, 11, 30)
QUIET = {
    "lines_read": None,
    "batch_events": None,
    "looks": 0,
    "checks": 0,
    "findings": 0,
    "budgets": "fresh days 100 %",
}


def test_a_day_on_which_nothing_was_done_is_told_as_such() -> None:
    assert in_words(DAY, QUIET) == (
        "2019-11-30: not published. The stream was not held against the loads. Nobody looked after it. "
        "No check ran. No figure called. Left of what may go wrong in 30 days: fresh days 100 %."
    )


def test_an_empty_file_has_no_share_of_rejects() -> None:
    empty = dict.fromkeys(("lines_read", "accepted", "rejected", "late"), 0)
    assert "loaded 0 of 0 lines, rejected 0 (0.00%), late 0." in in_words(DAY, QUIET | empty)


def a_load(day: dt.date, hours_after: int, read: int = 1000, rejected: int = 0) -> dict[str, Any]:
    end = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=1)
    return {
        "landing_day": day,
        "load_id": f"{day:%Y%m%d}-t{hours_after}",
        "read": read,
        "accepted": read - rejected,
        "rejected": rejected,
        "duplicates": 0,
        "late": 3,
        "spanner_rows": 1,
        "bigquery_rows": 1,
        "loaded_at": end + dt.timedelta(hours=hours_after),
    }


def a_check(day: dt.date, name: str, severity: str, found_rows: int) -> dict[str, Any]:
    return {
        "event_date": day,
        "table_name": "shop.sessions",
        "check_name": name,
        "severity": severity,
        "found_rows": found_rows,
        "checked_at": dt.datetime(2019, 12, 1, tzinfo=dt.UTC),
    }


def compared(day: dt.date, batch: int, missing: int, level: str) -> dict[str, Any]:
    return {
        "event_date": day,
        "event_type": "view",
        "batch_events": batch,
        "stream_events": batch - missing,
        "only_in_batch": missing,
        "only_in_stream": 0,
        "level": level,
        "compared_at": dt.datetime(2019, 12, 1, tzinfo=dt.UTC),
    }


@pytest.mark.integration
def test_the_promises_are_reckoned_from_what_was_written_and_told_with_the_day(
    bigquery_tables: bigquery_api.Client,
) -> None:
    days = [DAY - dt.timedelta(days=number) for number in range(31)]
    # Of 20 days one was late and one is not there; a later load of a day makes it no less fresh. What is
    # older than 30 days does not count.
    loads = [a_load(day, 6) for day in days[:18]] + [a_load(days[19], 7), a_load(days[30], 50, rejected=999)]
    loads += [a_load(DAY, 30, rejected=95)]
    fill(bigquery_tables, "shop_ops.loads", loads)
    fill(
        bigquery_tables,
        "shop_ops.check_results",
        [
            *(a_check(day, f"c{number}", "fail", 0) for day in days[:20] for number in range(10)),
            a_check(DAY, "wrong", "fail", 2),
            a_check(DAY, "odd", "warn", 2),
            a_check(days[30], "old", "fail", 2),
        ],
    )
    fill(
        bigquery_tables,
        "shop_ops.stream_completeness",
        [
            compared(DAY, 10_000, 10, "ok"),
            compared(days[1], 9_000, 9_000, "absent"),
            compared(days[2], 10_000, 30, "warn"),
        ],
    )
    fill(bigquery_tables, "shop_ops.stream_checks", [])
    fill(bigquery_tables, "shop_ops.figure_findings", [])

    for _ in range(2):
        build_day(bigquery_tables, load_table(settings().sql_dir, OBJECTIVES), DAY)
    sql = "SELECT objective, good, total, budget_left FROM shop_ops.objectives ORDER BY objective"
    assert [tuple(row.values()) for row in rows_of(bigquery_tables, sql)] == [
        ("accepted_lines", 18_905, 19_000, pytest.approx(0.5)),
        ("fresh_days", 18, 20, pytest.approx(-1)),
        ("passed_checks", 200, 201, pytest.approx(1 - 1 / 2.01)),
        ("streamed_events", 19_960, 20_000, pytest.approx(-1)),
    ]
    assert in_words(DAY, read_day(bigquery_tables, DAY)) == (
        "2019-11-30: loaded 905 of 1,000 lines, rejected 95 (9.50%), late 3. The stream lacked 10 of the "
        "loads' events (0.10%). Nobody looked after it. Of 12 checks 1 failed and 1 warned. No figure "
        "called. Left of what may go wrong in 30 days: accepted lines 50 %, fresh days broken, passed "
        "checks 50 %, streamed events broken."
    )
    fill(bigquery_tables, "shop_ops.loads", [])
    build_day(bigquery_tables, load_table(settings().sql_dir, OBJECTIVES), DAY)
    told = in_words(DAY, read_day(bigquery_tables, DAY))
    assert told.startswith("2019-11-30: not published.")
    assert "accepted lines nothing yet, fresh days nothing yet" in told
