"""build_summaries_intraday, as real DAG runs against the BigQuery emulator."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from google.cloud.bigquery import Client

from shopstream import alerts
from tests.airflow_home import Run, load_dag, run_dag
from tests.plugins.load.landed import audit
from tests.sql.events import batch_event, fill, rows_of, stream_event

pytestmark = pytest.mark.integration


@pytest.fixture
def client(airflow_home: Path, bigquery_tables: Client) -> Client:
    """BigQuery with all tables, empty."""
    return bigquery_tables


TODAY = date(2019, 11, 20)


def run_at(hour: int) -> Run:
    """Run the DAG as scheduled on TODAY."""
    due = datetime.combine(TODAY, time(hour, 5), tzinfo=UTC)
    return run_dag(load_dag("build_summaries_intraday"), {}, by_hand=False, run_after=due)


def counted(client: Client) -> list[tuple[date, bool, int]]:
    """The days, whether each is provisional, and its events, as an analyst would ask for them."""
    sql = """
        SELECT event_date, is_provisional, SUM(events)
        FROM shop.daily_event_count
        JOIN shop.days USING (event_date)
        GROUP BY 1, 2
        ORDER BY 1"""
    return [tuple(row.values()) for row in rows_of(client, sql)]


def test_today_and_yesterday_are_built_from_the_stream_until_a_load_has_published_them(
    client: Client,
) -> None:
    yesterday, before = TODAY - timedelta(days=1), TODAY - timedelta(days=2)
    at = {day: datetime.combine(day, time(0)) for day in (before, yesterday, TODAY)}
    events = [stream_event(event_id=str(day), event_time=moment) for day, moment in at.items()]
    fill(client, "shop_raw.events_stream", events)

    assert run_at(12).errors == {}
    assert counted(client) == [(yesterday, True, 1), (TODAY, True, 1)]

    # The next hour: one more event has come by stream for each day, and a load has published yesterday. The
    # event of the day before comes late; that of yesterday, too, but long ago.
    published = {before: time(12, 30), yesterday: time(1), TODAY: time(0)}
    more = [
        stream_event(
            event_id=f"{day} again", event_time=at[day], publish_time=datetime.combine(TODAY, moment)
        )
        for day, moment in published.items()
    ]
    fill(client, "shop_raw.events_stream", [*events, *more])
    fill(client, "shop_raw.events_batch", [batch_event(event_id="landed", event_time=at[yesterday])])
    audit(client, "20191101-00000000", landing_day=yesterday)

    run = run_at(13)
    assert run.errors == {}
    assert run.returned["resolve_days"] == [str(before), str(TODAY)]
    assert counted(client) == [(before, True, 2), (yesterday, False, 1), (TODAY, True, 2)]


def test_an_old_day_that_fails_a_check_calls_a_person_and_is_not_in_the_way_of_today(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    old = TODAY - timedelta(days=30)
    audit(client, f"{old:%Y%m%d}-00000000", landing_day=old)
    # Less than nothing was paid, which the check of customer_purchases refuses.
    paid = {"event_type": "purchase", "price": -1, "event_time": datetime.combine(old, time(0))}
    fill(client, "shop_raw.events_batch", [batch_event(event_id="old", **paid)])
    yesterday = TODAY - timedelta(days=1)
    more = {"event_type": "purchase", "price": 5, "event_time": datetime.combine(yesterday, time(0))}
    fill(client, "shop_raw.events_stream", [stream_event(event_id="new", **more)])

    assert run_at(12).errors == {}
    [alert] = [record.getMessage() for record in caplog.records if record.name == alerts.log.name]
    assert '"kind": "filled_day_failed"' in alert
    assert f"shop.customer_purchases of {old}: check possible_values (fail) found" in alert
    read = "SELECT event_date, revenue FROM shop.customer_value ORDER BY 1"
    assert [tuple(row.values()) for row in rows_of(client, read)] == [
        (yesterday, Decimal(4)),
        (TODAY, Decimal(4)),
    ]
