"""What the watching reads of the summaries, and what it writes."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.watch.figures import judge_day, read_limits
from shopstream.watch.read import read_counts, told_before, write_findings
from tests.plugins.watch.days_of_shop import fill_days
from tests.sql.events import fill, rows_of

pytestmark = pytest.mark.integration

FRIDAY = dt.date(2019, 11, 15)
FRIDAYS = [FRIDAY - dt.timedelta(weeks=weeks) for weeks in range(4)]


def test_counts_are_of_final_days_whose_summaries_were_built_since(
    bigquery_tables: bigquery_api.Client,
) -> None:
    first, second, third, fourth = FRIDAYS
    fill_days(
        bigquery_tables,
        {first: 0, second: 1000, third: 1000, fourth: 1000},
        not_final=(third,),
        not_built=(fourth,),
    )
    shop, parts = read_counts(bigquery_tables, FRIDAY - dt.timedelta(weeks=8), FRIDAY)
    assert shop == {
        first: {
            "events": 63_000,
            "views": 60_000,
            "viewers": 30_000,
            "purchases": 0,
            "buyers": 0,
            "orders": 0,
            "revenue": 0,
            "carts": 3_000,
            "abandoned_carts": 2_000,
            "without_category": 23_000,
        },
        second: {
            "events": 64_000,
            "views": 60_000,
            "viewers": 30_000,
            "purchases": 1000,
            "buyers": 250,
            "orders": 500,
            "revenue": 10_000,
            "carts": 3_000,
            "abandoned_carts": 2_000,
            "without_category": 23_000,
        },
    }
    assert parts.keys() == {"smartphone"}
    assert parts["smartphone"].keys() == {first, second}
    of_smartphones = {name: count for name, count in parts["smartphone"][second].items() if count}
    assert of_smartphones == {
        "events": 41_000,
        "views": 40_000,
        "purchases": 1000,
        "carts": 1_500,
        "abandoned_carts": 1_000,
    }
    assert read_counts(bigquery_tables, FRIDAY, FRIDAY)[0].keys() == {first}


def test_a_published_day_without_any_event_is_a_day_of_zeros(bigquery_tables: bigquery_api.Client) -> None:
    fill_days(bigquery_tables, {FRIDAY: 1000})
    for table in ("daily_event_count", "revenue_daily", "cart_abandonment", "purchase_conversion_rate"):
        fill(bigquery_tables, f"shop.{table}", [])
    shop, parts = read_counts(bigquery_tables, FRIDAY, FRIDAY)
    assert set(shop[FRIDAY].values()) == {0}
    assert parts == {}


def test_the_findings_of_a_day_replace_those_it_had_and_no_other_days(
    bigquery_tables: bigquery_api.Client,
) -> None:
    purchases = dict.fromkeys(FRIDAYS[1:], 1000) | {FRIDAY: 0}
    fill_days(bigquery_tables, purchases)
    shop, parts = read_counts(bigquery_tables, min(FRIDAYS), FRIDAY)
    findings = judge_day(FRIDAY, shop, parts, read_limits()).findings
    other = replace(findings[0], day=FRIDAYS[1], subcategory='it\'s "so"')
    write_findings(bigquery_tables, [FRIDAYS[1]], [other])
    for _ in range(2):
        write_findings(bigquery_tables, [FRIDAY], findings)
        rows = rows_of(
            bigquery_tables, "SELECT * FROM shop_ops.figure_findings ORDER BY event_date, figure, subcategory"
        )
        assert [(row["event_date"], row["figure"], row["subcategory"], row["value"]) for row in rows] == [
            (other.day, other.figure, other.subcategory, other.value),
            *sorted((FRIDAY, finding.figure, finding.subcategory, finding.value) for finding in findings),
        ]
        assert {row["finding"] for row in rows[1:]} == {finding.sentence for finding in findings}
    assert told_before(bigquery_tables, [FRIDAY]) == {
        (FRIDAY, finding.figure, finding.subcategory, finding.is_high) for finding in findings
    }
    write_findings(bigquery_tables, [FRIDAY], [])
    assert told_before(bigquery_tables, [FRIDAY]) == set()
    assert told_before(bigquery_tables, FRIDAYS) != set()
