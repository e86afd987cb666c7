"""watch_figures, as real DAG runs against BigQuery, over days as their summaries tell of them."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream import alerts
from shopstream.tables.names import FIGURE_FINDINGS
from tests.airflow_home import load_dag, run_dag
from tests.plugins.watch.days_of_shop import fill_days
from tests.plugins.watch.november import PURCHASES, views_of_november
from tests.sql.events import rows_of

pytestmark = pytest.mark.integration

FRIDAY = date(2019, 11, 15)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The reasons of the alerts until now, which are then forgotten."""
    lines = [record.getMessage() for record in caplog.records if record.name == alerts.log.name]
    caplog.clear()
    found = [json.loads(line[line.index("{") :]) for line in lines]
    assert {alert["kind"] for alert in found} <= {"figures_found"}
    return [alert["reason"] for alert in found]


def test_a_day_without_purchases_is_told_once_and_written_each_time(
    airflow_home: Path, bigquery_tables: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    usual = {FRIDAY - timedelta(weeks=weeks): 1000 for weeks in (1, 2, 3)}
    fill_days(bigquery_tables, {**usual, FRIDAY: 0})
    dag = load_dag("watch_figures")
    days = {"first_day": str(FRIDAY - timedelta(weeks=1)), "last_day": str(FRIDAY)}
    for number in range(2):
        run = run_dag(dag, days)
        assert run.errors == {}
        counts = run.returned["judge_figures"]
        assert counts[str(FRIDAY)] >= 5
        assert sum(counts.values()) == counts[str(FRIDAY)]
        rows = rows_of(bigquery_tables, "SELECT finding FROM shop_ops.figure_findings")
        assert len(rows) == counts[str(FRIDAY)]
        alerted = told(caplog)
        if number == 0:
            [reason] = alerted
            assert "2019-11-15 (Friday): purchases is 0, expected 700 to 1,300" in reason
        else:
            assert alerted == []

    # Loaded anew, and not built since: what was found of the day stays until it is judged again.
    bigquery_tables.query_and_wait(f"DELETE FROM shop_ops.loads WHERE landing_day = '{FRIDAY}'")
    assert run_dag(dag, {"first_day": str(FRIDAY)}).errors == {}
    assert rows_of(bigquery_tables, "SELECT finding FROM shop_ops.figure_findings") == rows

    # Corrected since, and what it lacked is too much now: neither is told as if it had been told before.
    fill_days(bigquery_tables, {**usual, FRIDAY: 5000})
    assert run_dag(dag, days).errors == {}
    [reason] = told(caplog)
    assert "purchases is 5,000" in reason
    fill_days(bigquery_tables, {**usual, FRIDAY: 1000})
    assert run_dag(dag, days).errors == {}
    assert told(caplog) == []
    assert rows_of(bigquery_tables, "SELECT finding FROM shop_ops.figure_findings") == []


def test_of_the_published_november_only_the_day_without_purchases_and_the_two_after_it_are_told(
    airflow_home: Path, bigquery_tables: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    known = views_of_november(dict.fromkeys(range(1, 31), 1.65))
    fill_days(bigquery_tables, PURCHASES, views={day: round(1e6 * known[day.day]) for day in PURCHASES})
    dag = load_dag("watch_figures")
    month = {"first_day": "2019-11-01", "last_day": "2019-11-30"}
    for number in range(2):
        run = run_dag(dag, month)
        assert run.errors == {}
        assert len(run.returned["judge_figures"]) == 30
        found = rows_of(
            bigquery_tables,
            "SELECT CAST(event_date AS STRING) AS day, figure, finding FROM shop_ops.figure_findings "
            "WHERE subcategory IS NULL ORDER BY event_date, figure",
        )
        figures: dict[str, set[str]] = {}
        for row in found:
            figures.setdefault(row["day"], set()).add(row["figure"])
        money = {"purchases", "buyers", "orders", "revenue"}
        visits = {"events", "views", "viewers"}
        assert figures == {
            "2019-11-15": visits | money | {"purchases_per_view"},
            "2019-11-16": visits | money,
            "2019-11-17": visits | money | {"purchases_per_view"},
        }
        assert [row["finding"] for row in found if row["figure"] == "purchases"] == [
            "2019-11-15 (Friday): purchases is 0, expected 14,431 to 33,741; usual is 24,086, by 2 Fridays "
            "(2019-11-01 22,458; 2019-11-08 25,714). Rows: shop.purchase_conversion_rate of these days.",
            "2019-11-16 (Saturday): purchases is 68,247, expected 15,621 to 29,011; usual is 22,316, by 2 "
            "Saturdays (2019-11-02 21,864; 2019-11-09 22,768). Rows: shop.purchase_conversion_rate of these "
            "days.",
            "2019-11-17 (Sunday): purchases is 185,195, expected 15,758 to 29,265; usual is 22,512, by 2 "
            "Sundays (2019-11-03 22,145; 2019-11-10 22,878). Rows: shop.purchase_conversion_rate of these "
            "days.",
        ]
        told_now = told(caplog)
        if number == 0:
            [reason] = told_now
            assert reason.startswith("2019-11-15 (Friday): ")
            assert f"more in {FIGURE_FINDINGS}" in reason
        else:
            assert told_now == []


def test_it_starts_when_summaries_were_built(airflow_home: Path) -> None:
    from shopstream.assets import SUMMARIES_BUILT

    assert load_dag("watch_figures").schedule == [SUMMARIES_BUILT]
