"""Events for tests of the BigQuery side: short in the test, complete in the tables."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

from google.cloud import bigquery as bigquery_api

from shopstream.settings import settings
from shopstream.tables import folder as tables
from shopstream.tables.apply import apply
from shopstream.tables.day import build_day

DEFAULTS: Mapping[str, Any] = {
    "event_time": dt.datetime(2019, 11, 1, 10, 0, 0),  # noqa: DTZ001 (YAML gives naive times; they are UTC)
    "event_type": "view",
    "product_id": 1,
    "category_id": 2,
    "category_code": "electronics.smartphone",
    "brand": "apple",
    "price": "10.5",
    "user_id": 1,
    "user_session": "s1",
}

TABLES = tables.all_tables(settings().sql_dir)
"""Read once, since to read them takes as long as a statement."""
BUILT = list(tables.built_in_order(settings().sql_dir))
SUMMARIES = tables.summaries_in_order(settings().sql_dir)
VIEWS_OF_DAYS = [
    table.full_name for table in TABLES if table.view and set(table.metadata.reads) <= set(SUMMARIES)
]
"""Views that show summaries day by day, and are proven by fixtures as those are."""


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all event columns: those given, defaults for others, and what follows from them."""
    event = {**DEFAULTS, **given}
    levels = (event["category_code"] or "").split(".")
    return event | {
        "event_date": event["event_time"].date(),
        **{f"category_level_{n}": levels[n - 1] if len(levels) >= n else None for n in (2, 3, 4)},
        "category_level_1": levels[0] or None,
    }


def batch_event(**given: Any) -> dict[str, Any]:
    """Return a row of events_batch; its landing day is its event date unless given."""
    event = complete(given)
    return {"landing_day": event["event_date"], "load_id": "20191101-00000000", **event}


def stream_event(**given: Any) -> dict[str, Any]:
    """Return a row of events_stream."""
    event = complete(given)
    return {"publish_time": event["event_time"], "message_id": "1", **event}


def fill(client: bigquery_api.Client, table_name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a table's rows by these, in DML, so that it may be repeated at once."""
    fill_all(client, {table_name: rows})


def fill_all(client: bigquery_api.Client, tables_rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Replace the rows of several tables, by their names."""
    statements = []
    for table_name, given in tables_rows.items():
        statements.append(f"TRUNCATE TABLE {table_name}")
        if rows := list(given):
            fields = client.get_table(table_name).schema
            names = ", ".join(field.name for field in fields)
            values = [", ".join(_literal(field, row.get(field.name)) for field in fields) for row in rows]
            statements.append(f"INSERT INTO {table_name} ({names}) VALUES ({'), ('.join(values)})")
    # As one script, for each job costs some tens of milliseconds.
    client.query_and_wait(";\n".join(statements))


def empty(client: bigquery_api.Client, table_names: Iterable[str]) -> None:
    """Delete all rows of some tables."""
    fill_all(client, dict.fromkeys(table_names, ()))


def drop_all(client: bigquery_api.Client) -> None:
    """Drop all datasets, whatever a test before has made or left in them."""
    for dataset in client.list_datasets():
        client.delete_dataset(dataset.reference, delete_contents=True, not_found_ok=True)


def apply_all(client: bigquery_api.Client) -> None:
    """Create all tables and views of sql/bigquery."""
    for table in TABLES:
        apply(client, table)


def build_tables_read(
    client: bigquery_api.Client, table: tables.Table, days: Iterable[dt.date], *, anew: bool = True
) -> None:
    """Build days of each table that another reads and that is built, itself or by others, in order.

    With `anew` they have no other days then.
    """
    wanted, built = set(table.metadata.reads), []
    for below in reversed(TABLES):
        if below.full_name in wanted:
            wanted |= set(below.metadata.reads)
            built += [below] if below.query else []
    if anew and built:
        empty(client, [below.full_name for below in built])
    for below in reversed(built):
        for day in days:
            build_day(client, below, day)


def rows_of(client: bigquery_api.Client, sql: str) -> list[dict[str, Any]]:
    """Return the rows of a query, as dicts."""
    return [dict(row) for row in client.query_and_wait(sql)]


def _literal(field: bigquery_api.SchemaField, value: Any) -> str:
    if value is None:
        return "NULL"
    if field.field_type in ("BOOL", "FLOAT64", "INT64"):
        return str(value)
    if isinstance(value, bytes):
        return f'FROM_BASE64("{base64.b64encode(value).decode()}")'
    text = json.dumps(str(value), ensure_ascii=False)
    return text if field.field_type == "STRING" else f"{field.field_type} {text}"
