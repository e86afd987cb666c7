"""What is found of the days of a backfill, in a bucket and in BigQuery."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import bigquery as bigquery_api
from google.cloud import storage

from shopstream.backfill.look import bytes_of_build, days_built, find_days
from shopstream.backfill.plan import Found
from shopstream.settings import settings
from shopstream.summaries.build import build, summarised_events
from shopstream.tables.folder import Table, load_table
from shopstream.tables.names import CHECK_RESULTS, LOADS
from shopstream.tables.published import published_days
from tests.plugins.load.landed import audit
from tests.sql.events import batch_event, build_tables_read, fill

pytestmark = pytest.mark.integration

DAYS = [dt.date(2019, 11, day) for day in (1, 2, 3)]
LATER = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)


def table_of(name: str) -> Table:
    return load_table(settings().sql_dir, f"shop.{name}")


COUNTED, VALUED = table_of("daily_event_count"), table_of("customer_value")


@pytest.fixture
def client(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    for name in (LOADS, CHECK_RESULTS, COUNTED.full_name):
        fill(bigquery_tables, name, [])
    return bigquery_tables


def found_of(
    client: bigquery_api.Client, bucket: storage.Bucket, *tables: Table, day: dt.date = DAYS[0]
) -> Found:
    [found] = find_days(client, bucket.client, tables, [day], published_days(client))
    return found


def test_files_and_their_bytes_are_counted_and_what_a_load_would_refuse_is_said(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    def put(*names: str) -> None:
        for name in names:
            bucket.blob(f"landing/events/{DAYS[0]}/{name}").upload_from_string(b"x" * 10)

    found = found_of(client, bucket)
    assert (found.files, found.landed_bytes, found.landed_at) == (0, 0, None)
    assert "holds nothing" in str(found.lacks)

    put("a.csv", "b.csv.gz", "_UNFINISHED-export")
    found = found_of(client, bucket)
    assert (found.files, found.landed_bytes, found.is_compressed) == (2, 20, True)
    assert "export export is not landed to its end" in str(found.lacks)

    put("_SUCCESS")
    found = found_of(client, bucket)
    assert found.lacks is None
    assert found.landed_at is not None

    put("notes.txt")
    assert "holds what is neither events nor a known mark: notes.txt" in str(found_of(client, bucket).lacks)


def test_a_day_whose_events_would_expire_is_told_as_the_load_would_tell_it(
    client: bigquery_api.Client, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.blob(f"landing/events/{DAYS[0]}/_SUCCESS").upload_from_string(b"")
    monkeypatch.setenv("SHOPSTREAM_EVENTS_KEEP_DAYS", "60")
    assert "Spanner deletes events of landing day 2019-11-01" in str(found_of(client, bucket).lacks)


def test_a_day_is_published_as_its_newest_load_says(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    assert (found_of(client, bucket).published_at, found_of(client, bucket).events) == (None, None)
    audit(client, "20191101-aaaaaaaa", landing_day=DAYS[0])
    audit(client, "20191101-t20191102030405000006", landing_day=DAYS[0])
    [(day, published)] = published_days(client).items()
    assert (day, published.load_id, published.events) == (DAYS[0], "20191101-t20191102030405000006", 10)
    found = found_of(client, bucket)
    assert (found.published_at, found.events) == (published.loaded_at, 10)
    assert found.launched_at == dt.datetime(2019, 11, 2, 3, 4, 5, 6, dt.UTC)


def test_a_day_is_summarised_once_each_summary_has_passed_its_checks(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    audit(client, "20191101-aaaaaaaa", landing_day=DAYS[0])
    # Of which customer_value has no row, since nobody has bought.
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a")])
    tables = (COUNTED, VALUED)
    build_tables_read(client, COUNTED, DAYS[:1])
    build(client, COUNTED, DAYS[:1])
    assert found_of(client, bucket, *tables).summarised_at is None
    build(client, VALUED, DAYS[:1])
    found = found_of(client, bucket, *tables)
    assert found.is_summarised
    assert not replace(found, published_at=LATER).is_summarised
    assert summarised_events(client, DAYS) == {DAYS[0]: 1}
    # Late events of the day, which a load of another day has brought since.
    audit(client, "20191102-aaaaaaaa", landing_day=DAYS[1], event_dates=DAYS[:2])
    assert found_of(client, bucket, *tables).summarised_at is None
    for table in tables:
        build(client, table, DAYS[:1])
    assert found_of(client, bucket, *tables).is_summarised
    # The next load's rows are not in them.
    result = {"checked_at": LATER, "severity": "fail", "found_rows": 1, "event_date": DAYS[0]}
    fill(client, CHECK_RESULTS, [result | {"table_name": VALUED.full_name, "check_name": "unique_grain"}])
    assert found_of(client, bucket, VALUED).summarised_at is None


def test_the_days_that_look_back_on_those_built_are_built_too(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    for day in (*DAYS, DAYS[0] + dt.timedelta(days=200)):
        audit(client, f"{day:%Y%m%d}-aaaaaaaa", landing_day=day)
    assert days_built(client, [COUNTED, VALUED], DAYS[:1]) == {
        COUNTED.full_name: DAYS[:1],
        VALUED.full_name: DAYS,
    }


class Costly(AuthorizedSession):
    """What BigQuery says a statement would read, in the answers to dry runs: the emulator says 0."""

    def request(self, method: str, url: str, data: Any = None, **options: Any) -> Any:
        response = super().request(method, url, data=data, **options)
        if data and json.loads(data).get("configuration", {}).get("dryRun"):
            answer = response.json()
            count = "1000" if answer["configuration"]["query"]["query"].startswith("MERGE") else "1"
            statistics = answer["statistics"]
            statistics["totalBytesProcessed"] = count
            statistics.setdefault("query", {})["totalBytesProcessed"] = count
            response._content = json.dumps(answer).encode()
        return response


def test_a_build_reads_what_its_statement_and_its_checks_read(client: bigquery_api.Client) -> None:
    costly = bigquery_api.Client(
        project=client.project,
        _http=Costly(AnonymousCredentials()),
        client_options=ClientOptions(api_endpoint=client._connection.API_BASE_URL),
    )
    read = bytes_of_build(costly, [COUNTED, VALUED], DAYS[0])
    assert read == {COUNTED.full_name: 1001, VALUED.full_name: 1001}
    assert set(bytes_of_build(client, [COUNTED], DAYS[0]).values()) == {0}
