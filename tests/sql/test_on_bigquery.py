"""The fixtures of the summaries once more, on real BigQuery, in a project that holds nothing else.

    gcloud auth application-default login
    SHOPSTREAM_TEST_BIGQUERY_PROJECT=my-test-project make test ARGS="-m bigquery"

The datasets are made for the run and dropped at its end. One that these tests did not make is never touched:
then they fail at once. A run costs cents: each query reads a few rows, of which BigQuery bills 10 MB.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core.exceptions import NotFound
from google.cloud import bigquery as bigquery_api

from shopstream.gcp import bigquery
from shopstream.settings import settings
from shopstream.tables import folder as tables
from shopstream.tables.day import build_day
from tests.sql.events import SUMMARIES, VIEWS_OF_DAYS, apply_all, batch_event, fill, stream_event
from tests.sql.test_summaries import (  # noqa: F401 (tests collected here too, for the client of this file)
    query_of,
    test_a_summary_makes_the_expected_rows_of_its_fixture_and_passes_its_checks,
    test_the_query_gives_the_columns_of_schema_yaml_in_order_and_type,
    test_the_view_gives_the_columns_of_schema_yaml_in_order_and_type,
    test_the_view_shows_each_event_once_and_the_batch_before_the_stream,
)

PROJECT = os.environ.get("SHOPSTREAM_TEST_BIGQUERY_PROJECT")
LABELS = {"purpose": "shopstream-test"}
DAY = dt.date(2019, 11, 1)
LONG_AGO = dt.datetime(2018, 11, 1, 10, 0, 0)  # noqa: DTZ001 (the helpers take UTC without saying so)
"""Before all days that any summary of DAY looks back on."""

pytestmark = [
    pytest.mark.bigquery,
    pytest.mark.skipif(not PROJECT, reason="SHOPSTREAM_TEST_BIGQUERY_PROJECT names no project"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[bigquery_api.Client]:
    client = bigquery_api.Client(project=PROJECT)
    names = {table.dataset for table in tables.all_tables(settings().sql_dir)}
    for name in names:
        try:
            existing = client.get_dataset(name)
        except NotFound:
            continue
        if existing.labels != LABELS:
            pytest.fail(f"{PROJECT} has a dataset {name} that no test made; name a project for tests only")
    for name in names:
        client.delete_dataset(name, delete_contents=True, not_found_ok=True)
        dataset = bigquery_api.Dataset(f"{client.project}.{name}")
        dataset.labels = LABELS
        client.create_dataset(dataset)
    apply_all(client)
    yield client
    for name in names:
        client.delete_dataset(name, delete_contents=True)


@pytest.mark.parametrize("name", [*SUMMARIES, *VIEWS_OF_DAYS])
def test_a_build_reads_nothing_of_the_days_before_its_lookback(
    client: bigquery_api.Client, name: str
) -> None:
    table = tables.load_table(settings().sql_dir, name)
    # A purchase, of which each summary makes a row.
    event: dict[str, Any] = {"event_type": "purchase", "event_time": LONG_AGO}
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a", **event)])
    fill(client, "shop_raw.events_stream", [stream_event(event_id="b", **event)])
    for read in table.metadata.reads:
        if (below := tables.load_table(settings().sql_dir, read)).query:
            fill(client, read, [])  # of the days of other tests
            build_day(client, below, LONG_AGO.date())

    sql = table.query or query_of(table)
    assert bigquery.bytes_read(client, sql, {"day": DAY}) == 0
    assert bigquery.bytes_read(client, sql, {"day": LONG_AGO.date()}) > 0
