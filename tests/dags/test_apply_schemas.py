"""apply_schemas, as real DAG runs against the emulators."""

from __future__ import annotations

import pytest
from google.cloud.bigquery import Client

from shopstream.settings import settings
from shopstream.tables.folder import all_tables
from tests.dags.shop import DAY, Shop, alerts_of, line

pytestmark = pytest.mark.integration


@pytest.fixture
def bigquery_tables(bigquery_clean: Client) -> Client:
    """The shop's BigQuery, in which this DAG has not run yet."""
    return bigquery_clean


def test_every_table_is_there_and_a_repeated_run_changes_nothing(shop: Shop) -> None:
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


@pytest.mark.parametrize(
    ("dag_id", "conf", "task_id"),
    [
        ("build_summaries", {"first_day": "2019-11-08"}, "dry_run"),
        ("compare_stream_with_batch", {"first_day": "2019-11-08"}, "compare"),
        ("watch_days", {}, "name_missing_days"),
    ],
)
def test_what_lacks_its_tables_fails_in_its_first_try_and_names_this_dag(
    shop: Shop,
    caplog: pytest.LogCaptureFixture,
    dag_id: str,
    conf: dict[str, str],
    task_id: str,
) -> None:
    run = shop.run(dag_id, **conf)
    assert (run.states[task_id], run.tries[task_id]) == ("failed", 1)
    assert "Trigger apply_schemas" in alerts_of(caplog)[task_id]
