"""What the stream has written is counted by when it was written, whatever day its events are of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.stream.checks import stream_figures
from tests.sql.events import fill, stream_event

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def published(ago: timedelta, event_time: datetime | None = None) -> dict[str, Any]:
    moment = event_time or NOW - ago
    return stream_event(event_time=moment, event_date=moment.date(), publish_time=NOW - ago)


def reject(ago: timedelta) -> dict[str, Any]:
    moment = NOW - ago
    return {
        "rejected_date": moment.date(),
        "rejected_at": moment,
        "source": "stream",
        "publish_time": moment,
        "reason": "bad_price",
        "raw": b"x",
    }


def test_past_days_published_within_the_hour_count_beside_an_older_live_event(
    bigquery_tables: bigquery_api.Client,
) -> None:
    replayed = timedelta(minutes=10)
    past = datetime(2019, 11, 1, tzinfo=UTC)
    fill(bigquery_tables, "shop_raw.events_stream", [published(2 * HOUR), published(replayed, past)])
    fill(bigquery_tables, "shop_raw.rejected_events_stream", [reject(replayed)])
    for table, rows in (("events_stream", 20_000), ("rejected_events_stream", 120)):
        bigquery_tables.query(
            f"INSERT INTO shop_raw.{table} SELECT row.* FROM shop_raw.{table} AS row, "
            f"UNNEST(GENERATE_ARRAY(2, {rows})) WHERE publish_time > '{NOW - HOUR}'"
        ).result()

    assert stream_figures(bigquery_tables, NOW, HOUR) == (NOW - replayed, 20_000, 120)


@pytest.mark.parametrize("ago", [timedelta(hours=30), timedelta(days=400)])
def test_the_newest_row_is_found_however_old_it_is(
    bigquery_tables: bigquery_api.Client, ago: timedelta
) -> None:
    fill(bigquery_tables, "shop_raw.events_stream", [published(ago), published(ago + HOUR)])

    assert stream_figures(bigquery_tables, NOW, HOUR) == (NOW - ago, 0, 0)


def test_an_empty_table_has_no_newest_row(bigquery_tables: bigquery_api.Client) -> None:
    assert stream_figures(bigquery_tables, NOW, HOUR) == (None, 0, 0)
