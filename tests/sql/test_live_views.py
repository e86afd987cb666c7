"""The live views and shop.days: what they show of what is in the tables now."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from tests.sql.events import fill, rows_of, stream_event

pytestmark = pytest.mark.integration


@pytest.fixture
def client(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    return bigquery_tables


def ago(minutes: float) -> dict[str, Any]:
    """The time of an event so long ago, as YAML gives times: UTC, without a zone."""
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0)
    return {"event_time": now - dt.timedelta(minutes=minutes)}


def minute_of(event: dict[str, Any]) -> dt.datetime:
    return event["event_time"].replace(second=0, tzinfo=dt.UTC)


def test_the_last_60_minutes_are_counted_by_minute_each_event_once(client: bigquery_api.Client) -> None:
    earlier, later = ago(40), ago(5)
    fill(
        client,
        "shop_raw.events_stream",
        [
            stream_event(event_id="too old", **ago(61)),
            stream_event(event_id="a day old", **ago(24 * 60 + 5)),
            stream_event(event_id="by a clock that is ahead", **ago(-30)),
            stream_event(event_id="a", **earlier),
            stream_event(event_id="a", **earlier),
            stream_event(event_id="b", event_type="purchase", price="10.5", user_id=1, **later),
            stream_event(event_id="b", event_type="purchase", price="10.5", user_id=1, **later),
            stream_event(event_id="c", event_type="purchase", price="0.25", user_id=1, **later),
            stream_event(event_id="d", event_type="cart", price="99", user_session=None, **later),
        ],
    )
    sql = "SELECT minute, event_type, events, users, revenue FROM shop.live_events_by_minute ORDER BY 1, 2"
    assert [tuple(row.values()) for row in rows_of(client, sql)] == [
        (minute_of(earlier), "view", 1, 1, Decimal(0)),
        (minute_of(later), "cart", 1, 1, Decimal(0)),
        (minute_of(later), "purchase", 2, 1, Decimal("10.75")),
    ]


def test_the_top_products_are_those_with_the_most_revenue_then_the_most_views(
    client: bigquery_api.Client,
) -> None:
    fill(
        client,
        "shop_raw.events_stream",
        [
            stream_event(event_id="a", product_id=1, **ago(5)),
            stream_event(event_id="b", product_id=2, brand=None, category_code=None, **ago(5)),
            stream_event(event_id="c", product_id=2, brand=None, category_code=None, **ago(4)),
            stream_event(event_id="c", product_id=2, brand=None, category_code=None, **ago(4)),
            stream_event(event_id="d", product_id=3, event_type="cart", **ago(3)),
            stream_event(event_id="e", product_id=3, event_type="purchase", price="7", **ago(2)),
            stream_event(event_id="f", product_id=4, event_type="purchase", price="9", **ago(70)),
            stream_event(event_id="by a clock that is ahead", product_id=5, **ago(-30)),
        ],
    )
    assert [tuple(row.values()) for row in rows_of(client, "SELECT * FROM shop.live_top_products")] == [
        (3, "electronics.smartphone", "apple", 0, 1, 1, Decimal(7)),
        (2, None, None, 2, 0, 0, Decimal(0)),
        (1, "electronics.smartphone", "apple", 1, 0, 0, Decimal(0)),
    ]


def test_a_day_is_provisional_until_a_load_has_published_it(client: bigquery_api.Client) -> None:
    first, second, third = (dt.date(2019, 11, day) for day in (1, 2, 3))
    at = [dt.datetime(2019, 11, 4, hour, tzinfo=dt.UTC) for hour in (1, 2)]
    counters = {"read": 0, "accepted": 0, "rejected": 0, "duplicates": 0, "late": 0}
    load = {"spanner_rows": 0, "bigquery_rows": 0, **counters}
    counted = {"event_type": "view", "events": 1, "users": 1, "sessions": 1}
    fill(
        client, "shop.daily_event_count", [{"event_date": first, **counted}, {"event_date": third, **counted}]
    )
    for number, (day, moment) in enumerate([(first, at[0]), (first, at[1]), (second, at[0])]):
        # DML leaves event_dates, which the view does not read, empty.
        row = {"landing_day": f"'{day}'", "load_id": f"'{number}'", **load, "loaded_at": f"'{moment}'"}
        values = ", ".join(map(str, row.values()))
        client.query_and_wait(f"INSERT INTO shop_ops.loads ({', '.join(row)}) VALUES ({values})")

    shown = rows_of(client, "SELECT event_date, is_provisional, published_at FROM shop.days ORDER BY 1")
    assert [tuple(row.values()) for row in shown] == [
        (first, False, at[1]),
        (second, False, at[0]),
        (third, True, None),
    ]
