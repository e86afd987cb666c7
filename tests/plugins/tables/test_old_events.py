"""Rows of the table in which loads overwrote each other are kept, as published: on both emulators."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1 import COMMIT_TIMESTAMP
from google.cloud.spanner_v1.database import Database
from google.cloud.spanner_v1.instance import Instance

from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.tables.migrations import apply_migrations
from shopstream.tables.old_events import take_over_events
from tests.sql.events import fill

pytestmark = pytest.mark.integration

FOLDER = settings().sql_dir / "spanner"
COLUMNS = (
    "shard", "event_date", "user_id", "event_time", "event_id", "landing_day", "event_type", "product_id",
    "category_id", "brand", "price", "load_id",
)  # fmt: skip
FIRST, SECOND, THIRD = (dt.date(2019, 11, day) for day in (1, 2, 3))


def old_row(number: int, landed: dt.date, load_id: str, event_date: dt.date | None = None) -> tuple[Any, ...]:
    day = event_date or landed
    return (
        number % 16,
        day,
        number,
        f"{day}T00:00:00Z",
        f"{number:032x}",
        landed,
        "view",
        number,
        1,
        None,
        "1.5",
        load_id,
    )


def load_id(day: dt.date, end: str = "00000001") -> str:
    return f"{day:%Y%m%d}-{end}"


def journeys(database: Database) -> list[tuple[int, str]]:
    sql = "SELECT product_id, CAST(first_landing_day AS STRING) FROM customer_journey ORDER BY 1, 2"
    with database.snapshot() as snapshot:
        return [(product, day) for product, day in snapshot.execute_sql(sql)]


def tables(database: Database) -> set[str]:
    sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = ''"
    with database.snapshot() as snapshot:
        return {name for (name,) in snapshot.execute_sql(sql)}


@pytest.fixture
def old_database(spanner_instance: Instance, tmp_path: Path) -> Iterator[Database]:
    """A database as the version before left it: two days of one load each, with a late event."""
    for name in ("0001_events.sql", "0002_customer_journey.sql"):
        (tmp_path / name).write_text((FOLDER / name).read_text())
    database = spanner_instance.database("test-old-events")
    database.create().result(timeout=30)
    apply_migrations(database, tmp_path)
    with database.batch() as batch:
        rows = [
            *(old_row(number, FIRST, load_id(FIRST)) for number in range(40)),
            *(old_row(number, SECOND, load_id(SECOND)) for number in range(40, 60)),
            old_row(60, SECOND, load_id(SECOND), FIRST),
        ]
        batch.insert("events", COLUMNS, rows)
    yield database
    database.drop()


def audit(client: bigquery_api.Client, *loads: str) -> None:
    fill(client, "shop_ops.loads", [_audited(load) for load in loads])


def _audited(load: str) -> dict[str, Any]:
    day = dt.datetime.strptime(load[:8], "%Y%m%d").replace(tzinfo=dt.UTC)
    counts = dict.fromkeys(
        ("read", "accepted", "rejected", "duplicates", "late", "spanner_rows", "bigquery_rows"), 1
    )
    return {
        "landing_day": day.date(),
        "load_id": load,
        "job_id": "j",
        "loaded_at": day,
        **counts,
    }


def migrate(database: Database, client: bigquery_api.Client) -> list[str]:
    return apply_migrations(database, FOLDER, {4: lambda: take_over_events(database, client)})


def test_the_days_as_they_were_published_are_kept_and_the_old_table_goes(
    old_database: Database, bigquery_tables: bigquery_api.Client
) -> None:
    audit(bigquery_tables, load_id(FIRST), load_id(SECOND))
    before = journeys(old_database)
    assert len(before) == 61
    assert migrate(old_database, bigquery_tables)[-1].startswith("0004")
    assert journeys(old_database) == before
    assert tables(old_database) >= {"loaded_events", "published_loads"}
    assert "events" not in tables(old_database)
    assert migrate(old_database, bigquery_tables) == []


def test_days_that_no_load_published_as_they_are_stop_it_and_are_named_until_they_are_loaded_again(
    old_database: Database, bigquery_tables: bigquery_api.Client
) -> None:
    audit(bigquery_tables, load_id(FIRST), load_id(SECOND, "00000002"))
    before = journeys(old_database)
    for _ in range(2):
        with pytest.raises(Refused, match=r"2019-11-02 \(loads 20191102-00000001\)\. Readers still see them"):
            migrate(old_database, bigquery_tables)
        assert journeys(old_database) == before
    # A load of this version.
    with old_database.batch() as batch:
        batch.insert("loaded_events", COLUMNS, [old_row(70, SECOND, load_id(SECOND, "00000003"))])
        batch.insert(
            "published_loads",
            ("landing_day", "load_id", "published_at"),
            [(SECOND, load_id(SECOND, "00000003"), COMMIT_TIMESTAMP)],
        )
    migrate(old_database, bigquery_tables)
    assert journeys(old_database) == [*(row for row in before if row[1] == "2019-11-01"), (70, "2019-11-02")]
