"""How long the stores keep events, on the emulators."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1.database import Database

from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.tables.apply import apply
from shopstream.tables.expiration import keep_in_spanner, keep_in_stream, refuse_expired
from shopstream.tables.folder import load_table

TODAY = date(2026, 9, 30)


@pytest.mark.integration
def test_spanner_keeps_events_as_long_as_the_setting_says(spanner_database: Database) -> None:
    for days in (0, 400, 400, 500, 0, 0):
        keep_in_spanner(spanner_database, days)
        spanner_database.reload()
        [table] = [
            ddl for ddl in spanner_database.ddl_statements if ddl.startswith("CREATE TABLE loaded_events ")
        ]
        assert (f"OLDER_THAN(event_time, INTERVAL {days} DAY)" in table) is (days > 0)


@pytest.mark.integration
def test_the_stream_keeps_partitions_as_long_as_the_setting_says(
    bigquery_tables: bigquery_api.Client,
) -> None:
    table = load_table(settings().sql_dir, "shop_raw.events_stream")
    for days in (0, 400, 400, 500, 0):
        keep_in_stream(bigquery_tables, days)
        apply(bigquery_tables, table)  # which leaves it so
        partitioning = bigquery_tables.get_table("shop_raw.events_stream").time_partitioning
        assert partitioning.field == "event_date"
        assert partitioning.expiration_ms == (days * 86_400_000 or None)


def test_a_day_whose_events_would_expire_while_it_is_loaded_is_refused() -> None:
    oldest = TODAY - timedelta(days=400 - 7 - 2)
    refuse_expired(oldest, TODAY, 400)
    refuse_expired(date(2019, 11, 1), TODAY, 0)
    with pytest.raises(Refused, match=f"{oldest} is the oldest day that can be loaded"):
        refuse_expired(oldest - timedelta(days=1), TODAY, 400)
