"""Tables and views are made and changed as their folders describe them: on the BigQuery emulator."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.settings import settings
from shopstream.tables.apply import SchemaConflict, apply
from shopstream.tables.folder import Column, Table, load_table
from tests.sql.events import apply_all, batch_event, fill, rows_of

DAY = dt.date(2019, 11, 1)
NEXT_DAY = dt.date(2019, 11, 2)


@pytest.fixture
def client(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with all tables, empty."""
    return bigquery_tables


def table_of(full_name: str) -> Table:
    return load_table(settings().sql_dir, full_name)


def with_columns(table: Table, *columns: Column) -> Table:
    return replace(table, schema=(*table.schema, *columns))


@pytest.mark.integration
def test_apply_creates_tables_as_their_folders_describe_them(bigquery_clean: bigquery_api.Client) -> None:
    apply(bigquery_clean, table_of("shop_raw.events_batch"))
    made = bigquery_clean.get_table("shop_raw.events_batch")
    assert made.time_partitioning is not None
    assert made.time_partitioning.field == "event_date"
    assert made.clustering_fields == ["event_type", "user_id"]
    assert made.labels == {"app": "shopstream", "layer": "raw", "path": "batch", "owner": "shop-analytics"}
    assert made.description.startswith("Events of the daily load")
    price = next(field for field in made.schema if field.name == "price")
    assert (price.field_type, price.mode) == ("NUMERIC", "REQUIRED")
    assert price.description == "The price in the shop's currency; 0 is valid."


@pytest.mark.integration
def test_apply_may_be_repeated_and_keeps_rows(client: bigquery_api.Client) -> None:
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a")])
    apply_all(client)
    assert rows_of(client, "SELECT event_id, source FROM shop.events") == [
        {"event_id": "a", "source": "batch"}
    ]


@pytest.mark.integration
def test_apply_describes_the_view_and_follows_a_change_of_its_query(client: bigquery_api.Client) -> None:
    view = table_of("shop.events")
    assert client.get_table("shop.events").description == view.metadata.description
    described = {field.name: field.description for field in client.get_table("shop.events").schema}
    assert described == {column.name: column.description for column in view.schema}

    sql = "SELECT event_id FROM shop_raw.events_stream"
    apply(client, replace(view, view=sql, schema=view.schema[:1]))
    assert [field.name for field in client.get_table("shop.events").schema] == ["event_id"]


@pytest.mark.integration
def test_apply_adds_a_nullable_column_after_the_others_and_updates_descriptions(
    client: bigquery_api.Client,
) -> None:
    table = table_of("shop_ops.loads")
    added = Column("note", "STRING", "NULLABLE", "What the operator should know.")
    first = replace(table.schema[0], description="Another description.")
    apply(client, replace(table, schema=(added, first, *table.schema[1:])))
    schema = client.get_table("shop_ops.loads").schema
    assert [field.name for field in schema] == [*table.column_names, "note"]
    assert (schema[0].description, schema[-1].description) == ("Another description.", added.description)


@pytest.mark.integration
def test_apply_changes_the_clustering_of_a_table_that_is_there(bigquery_clean: bigquery_api.Client) -> None:
    table = table_of("shop.daily_event_count")
    apply(bigquery_clean, table)

    apply(bigquery_clean, replace(table, metadata=replace(table.metadata, cluster_by=("events",))))

    assert bigquery_clean.get_table("shop.daily_event_count").clustering_fields == ["events"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda table: replace(table, schema=table.schema[:-1]), "column sessions is gone from schema.yaml"),
        (
            lambda table: replace(
                table, schema=(*table.schema[:-1], replace(table.schema[-1], type="STRING"))
            ),
            "column sessions is INT64 REQUIRED, described as STRING REQUIRED",
        ),
        (
            lambda table: with_columns(table, Column("buyers", "INT64", "REQUIRED", "Buyers.")),
            "column buyers is new and REQUIRED",
        ),
        (
            lambda table: replace(table, metadata=replace(table.metadata, partition_by=None)),
            "it is partitioned by event_date",
        ),
    ],
)
def test_apply_refuses_what_cannot_be_changed_in_place(
    bigquery_clean: bigquery_api.Client, change: Any, problem: str
) -> None:
    table = table_of("shop.daily_event_count")
    apply(bigquery_clean, table)
    before = bigquery_clean.get_table("shop.daily_event_count").schema
    with pytest.raises(SchemaConflict, match=problem):
        apply(bigquery_clean, change(table))
    assert bigquery_clean.get_table("shop.daily_event_count").schema == before
