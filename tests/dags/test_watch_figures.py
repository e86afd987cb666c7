"""watch_figures, as real DAG runs against BigQuery, over days as their summaries tell of them."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream import alerts
from tests.airflow_home import load_dag, run_dag
from tests.plugins.watch.days_of_shop import fill_days
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


def test_it_starts_when_summaries_were_built(airflow_home: Path) -> None:
    from shopstream.assets import SUMMARIES_BUILT

    assert load_dag("watch_figures").schedule == [SUMMARIES_BUILT]
