"""Real BigQuery for the tests of the summaries, in a project that holds nothing else.

    gcloud auth application-default login
    SHOPSTREAM_TEST_BIGQUERY_PROJECT=my-test-project make test ARGS="-m bigquery"

The datasets are made for the run and dropped at its end. One that these tests did not make is never touched:
then they fail at once. A run costs cents: each query reads a few rows, of which BigQuery bills 10 MB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from google.api_core.exceptions import NotFound
from google.cloud import bigquery as bigquery_api

from shopstream.settings import settings
from shopstream.tables import folder as tables
from tests.sql.events import apply_all

PROJECT = os.environ.get("SHOPSTREAM_TEST_BIGQUERY_PROJECT")
LABELS = {"purpose": "shopstream-test"}
ON_BIGQUERY = pytest.param(
    "bigquery",
    marks=[
        pytest.mark.bigquery,
        pytest.mark.skipif(not PROJECT, reason="SHOPSTREAM_TEST_BIGQUERY_PROJECT names no project"),
    ],
)
"""Where a test runs, if a project is named."""


@contextmanager
def real_bigquery() -> Iterator[bigquery_api.Client]:
    """A client of the project, with all tables and views of sql/bigquery, and no rows."""
    with pytest.MonkeyPatch.context() as patch:
        # An emulator of other tests may run.
        patch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
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
