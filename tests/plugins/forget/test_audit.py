"""What stays of a customer is what the project is set to keep."""

from __future__ import annotations

import datetime as dt
import re

from local.root import ROOT
from shopstream.forget.audit import MESSAGES_DAYS, SOFT_DELETE_DAYS, SPANNER_VERSIONS_DAYS, what_stays

INFRA = {path.name: path.read_text() for path in (ROOT / "infra").glob("*.tf")}


def test_it_is_told_until_when_each_store_keeps_what_no_statement_takes_away() -> None:
    proved_at = dt.datetime(2019, 11, 8, 12, 30, tzinfo=dt.UTC)
    stays = "\n".join(what_stays(proved_at, "forget/a.txt"))
    for store in ("BigQuery", "Cloud Storage", "Spanner", "Pub/Sub"):
        assert f"{store}: " in stays
    assert stays.count("until 2019-11-15 12:30 UTC") == 5
    assert "until 2019-11-22 12:30 UTC" in stays
    assert "delete the run" in what_stays(proved_at, None)[-1]


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
    # BigQuery's own days, where nothing else is set.
    assert "max_time_travel_hours" not in INFRA["bigquery.tf"]
