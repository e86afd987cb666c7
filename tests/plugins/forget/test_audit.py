"""What stays of a customer is what the project is set to keep."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from google.cloud import bigquery

from local.root import ROOT
from shopstream.forget.audit import (
    LIST_DAYS,
    MESSAGES_DAYS,
    SOFT_DELETE_DAYS,
    SPANNER_VERSIONS_DAYS,
    what_stays,
    write_rows,
)
from shopstream.forget.customers import Customers, Key
from shopstream.layout import FORGET
from shopstream.questions import Approval

INFRA = {path.name: path.read_text() for path in (ROOT / "infra").glob("*.tf")}


def test_it_is_told_until_when_each_store_keeps_what_no_statement_takes_away() -> None:
    proved_at = dt.datetime(2019, 11, 8, 12, 30, tzinfo=dt.UTC)
    stays = "\n".join(what_stays(proved_at, "forget/a.txt"))
    for store in ("BigQuery", "Cloud Storage", "Spanner", "Pub/Sub"):
        assert f"{store}: " in stays
    assert stays.count("until 2019-11-15 12:30 UTC") == 5
    assert "until 2019-11-22 12:30 UTC" in stays
    assert "delete the run" in what_stays(proved_at, None)[-1]


@pytest.mark.integration
def test_rows_that_are_written_again_on_a_later_day_replace_those_of_their_run_and_no_others(
    bigquery_tables: bigquery.Client,
) -> None:
    first = dt.datetime(2019, 11, 8, 23, 59, tzinfo=dt.UTC)
    key, approval = Key("k", b"k" * 32), Approval("operator", "request 17")
    for run_id, later in (("a", 0), ("b", 0), ("a", 1)):
        write_rows(
            bigquery_tables,
            run_id,
            first.date(),
            Customers(frozenset({1, 2}), None),
            key,
            {"Spanner loaded_events": 1},
            approval,
            first + dt.timedelta(days=later),
        )
    written = bigquery_tables.query_and_wait(
        "SELECT run_id, CAST(forgotten_on AS STRING), COUNT(DISTINCT customer), COUNT(*) "
        "FROM shop_ops.forgotten_customers GROUP BY 1, 2 ORDER BY 1"
    )
    assert [tuple(row) for row in written] == [("a", "2019-11-09", 2, 2), ("b", "2019-11-08", 2, 2)]


def test_the_days_are_those_of_the_terraform_files() -> None:
    storage = re.search(
        r'"google_storage_bucket" "data".*?retention_duration_seconds = (\d+) \*',
        INFRA["storage.tf"],
        re.DOTALL,
    )
    spanner = re.search(r'version_retention_period = "(\d+)d"', INFRA["spanner.tf"])
    pubsub = re.search(r"retention_seconds = (\d+) \* 24 \* 3600", INFRA["pubsub.tf"])
    assert storage
    assert spanner
    assert pubsub
    assert [int(found[1]) for found in (storage, spanner, pubsub)] == [
        SOFT_DELETE_DAYS,
        SPANNER_VERSIONS_DAYS,
        MESSAGES_DAYS,
    ]
    lists = re.search(
        rf'type = "Delete"\s*}}\s*condition {{\s*age\s*= (\d+)\s*matches_prefix = \["{FORGET}"\]',
        INFRA["storage.tf"],
    )
    assert lists
    assert int(lists[1]) == LIST_DAYS
    # BigQuery's own days, where nothing else is set.
    assert "max_time_travel_hours" not in INFRA["bigquery.tf"]
