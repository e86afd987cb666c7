"""Rows of the table that both paths once wrote are kept in their path's: on the BigQuery emulator."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.tables.old_rejects import OLD_REJECTED_EVENTS, take_over_rejects
from tests.sql.events import fill, rows_of

pytestmark = pytest.mark.integration

DAY = dt.date(2019, 11, 1)
MOMENT = dt.datetime(2019, 11, 1, 1, tzinfo=dt.UTC)


def reject(source: str, name: str, day: dt.date = DAY, **given: Any) -> dict[str, Any]:
    row = {"source": source, "rejected_date": day, "raw": "x", "reason": "bad_price", "detail": name}
    return {**row, "rejected_at": MOMENT, "message_id": name if source == "stream" else None, **given}


@pytest.fixture
def client(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with all tables, empty, and with the old one, as it was before it had a column for lines."""
    stream = bigquery_tables.get_table("shop_raw.rejected_events_stream")
    name = f"{bigquery_tables.project}.{OLD_REJECTED_EVENTS}"
    old = bigquery_api.Table(name, [field for field in stream.schema if field.name != "lines"])
    old.time_partitioning = stream.time_partitioning
    old.labels = {"app": "shopstream"}
    bigquery_tables.create_table(old)
    return bigquery_tables


def shown(client: bigquery_api.Client) -> list[tuple[str, str]]:
    sql = "SELECT source, detail FROM shop.rejected_events ORDER BY source, detail"
    return [(row["source"], row["detail"]) for row in rows_of(client, sql)]


def add_to_old(client: bigquery_api.Client, *names: str) -> None:
    """Insert rows as a running stream of the version before does."""
    rows = [reject("stream", name) for name in names]
    told = [{key: str(value) for key, value in row.items()} | {"raw": "eA=="} for row in rows]
    assert client.insert_rows_json(client.get_table(OLD_REJECTED_EVENTS), told) == []


def test_each_row_is_taken_over_once_and_stays_in_the_old_table(client: bigquery_api.Client) -> None:
    old = [reject("batch", "line", load_id="20191101-a"), reject("stream", "m1"), reject("stream", "m2")]
    # What one message was delivered twice, or two lines had in common, is as it was.
    fill(client, OLD_REJECTED_EVENTS, [*old, old[0], old[1], reject("stream", "nameless", message_id=None)])

    for _ in range(2):
        take_over_rejects(client)

    lines, messages = [("batch", "line")] * 2, ["m1", "m1", "m2", "nameless"]
    assert shown(client) == [*lines, *(("stream", name) for name in messages)]
    assert rows_of(client, f"SELECT COUNT(*) AS found FROM {OLD_REJECTED_EVENTS}") == [{"found": 6}]


def test_what_a_stream_of_the_version_before_still_writes_is_taken_over_by_the_next_run(
    client: bigquery_api.Client,
) -> None:
    add_to_old(client, "before")
    take_over_rejects(client)
    fill_stream = reject("stream", "of the new version")
    client.query_and_wait(_insert("shop_raw.rejected_events_stream", fill_stream))
    add_to_old(client, "after")
    take_over_rejects(client)
    assert [name for _, name in shown(client)] == ["after", "before", "of the new version"]


def test_lines_of_a_day_that_was_loaded_since_do_not_come_back(client: bigquery_api.Client) -> None:
    days = [DAY + dt.timedelta(days=n) for n in range(4)]
    loaded_since, loaded_without_rejects, as_it_was, emptied_later = days
    fill(client, OLD_REJECTED_EVENTS, [reject("batch", f"{day}", day, load_id="20191101-a") for day in days])
    new = reject("batch", "new", loaded_since, load_id="20191101-b")
    fill(client, "shop_raw.rejected_events_batch", [new])
    client.query_and_wait(
        "INSERT INTO shop_ops.loads (landing_day, load_id, job_id, read, accepted, rejected, duplicates, "
        f"late, spanner_rows, bigquery_rows, loaded_at) SELECT '{loaded_without_rejects}', '20191101-b', "
        "'j', 1, 1, 0, 0, 0, 1, 1, CURRENT_TIMESTAMP()"
    )

    take_over_rejects(client)
    assert [name for _, name in shown(client)] == [f"{as_it_was}", f"{emptied_later}", "new"]

    # As a load without rejects does, before it has published the day.
    client.query_and_wait(
        f"DELETE FROM shop_raw.rejected_events_batch WHERE rejected_date = '{emptied_later}'"
    )
    take_over_rejects(client)
    assert [name for _, name in shown(client)] == [f"{as_it_was}", "new"]


def test_where_there_is_no_old_table_nothing_is_done(bigquery_tables: bigquery_api.Client) -> None:
    take_over_rejects(bigquery_tables)
    assert shown(bigquery_tables) == []


def _insert(table: str, row: dict[str, Any]) -> str:
    values = ", ".join(
        f"TIMESTAMP '{value}'" if isinstance(value, dt.datetime) else f"'{value}'" for value in row.values()
    ).replace("'x'", "b'x'")
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})"
