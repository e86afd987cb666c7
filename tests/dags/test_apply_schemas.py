"""apply_schemas, as real DAG runs against the emulators."""

from __future__ import annotations

import pytest
from google.cloud.bigquery import Client

from shopstream.settings import settings
from shopstream.tables.folder import all_tables
from tests.dags.shop import DAY, Shop, line

pytestmark = pytest.mark.integration


def test_every_table_is_there_and_a_repeated_run_changes_nothing(shop: Shop, bigquery_clean: Client) -> None:
    assert shop.run("apply_schemas").state == "success"
    shop.land(line(n) for n in range(3))
    assert shop.load().state == "success"
    rows = shop.spanner(), shop.published()

    run = shop.run("apply_schemas")
    assert run.errors == {}
    assert run.returned["migrate_spanner"] == []
    tables = [table.full_name for table in all_tables(settings().sql_dir)]
    assert run.returned["apply_bigquery_tables"] == tables
    for name in tables:
        assert shop.bigquery.get_table(name).schema
    assert (shop.spanner(DAY), shop.published(DAY)) == rows
