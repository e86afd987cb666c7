"""Tables as described, loads published, summaries built and checked: on the BigQuery emulator."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, Forbidden, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud import storage

from shopstream import bigquery, tables
from shopstream.bigquery import CheckFailed, PublishError, SchemaConflict
from shopstream.settings import settings
from shopstream.tables import Column, Table
from tests.sql.events import apply_all, batch_event, fill, rows_of

DAY = dt.date(2019, 11, 1)
NEXT_DAY = dt.date(2019, 11, 2)
ARROW_TYPES = {
    "DATE": pa.date32(),
    "INT64": pa.int64(),
    "NUMERIC": pa.decimal128(38, 9),
    "STRING": pa.string(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
}


def table_of(full_name: str) -> Table:
    return tables.load_table(settings().sql_dir, full_name)


@pytest.fixture
def client(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with all tables, empty."""
    return bigquery_tables


# Schemas


def with_columns(table: Table, *columns: Column) -> Table:
    return replace(table, schema=(*table.schema, *columns))


@pytest.mark.integration
def test_apply_creates_tables_as_their_folders_describe_them(bigquery_clean: bigquery_api.Client) -> None:
    bigquery.apply(bigquery_clean, table_of("shop_raw.events_batch"))
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
    bigquery.apply(client, replace(view, view=sql, schema=view.schema[:1]))
    assert [field.name for field in client.get_table("shop.events").schema] == ["event_id"]


@pytest.mark.integration
def test_apply_adds_a_nullable_column_after_the_others_and_updates_descriptions(
    client: bigquery_api.Client,
) -> None:
    table = table_of("shop_ops.loads")
    added = Column("note", "STRING", "NULLABLE", "What the operator should know.")
    first = replace(table.schema[0], description="Another description.")
    bigquery.apply(client, replace(table, schema=(added, first, *table.schema[1:])))
    schema = client.get_table("shop_ops.loads").schema
    assert [field.name for field in schema] == [*table.column_names, "note"]
    assert (schema[0].description, schema[-1].description) == ("Another description.", added.description)


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
            lambda table: replace(table, metadata=replace(table.metadata, cluster_by=("events",))),
            "it is clustered by",
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
    bigquery.apply(bigquery_clean, table)
    before = bigquery_clean.get_table("shop.daily_event_count").schema
    with pytest.raises(SchemaConflict, match=problem):
        bigquery.apply(bigquery_clean, change(table))
    assert bigquery_clean.get_table("shop.daily_event_count").schema == before


# Statements


@pytest.mark.integration
def test_run_returns_the_finished_job_and_passes_parameters(bigquery_clean: bigquery_api.Client) -> None:
    params = {
        "day": DAY,
        "moment": dt.datetime(2019, 11, 1, 10, tzinfo=dt.UTC),
        "number": 7,
        "text": "it's",
        "days": [DAY, NEXT_DAY],
    }
    sql = "SELECT @day AS day, @moment AS moment, @number AS number, @text AS text, @days AS days"
    job = bigquery.run(bigquery_clean, sql, params, job_id_prefix="test", maximum_bytes_billed=10**7)
    assert job.state == "DONE"
    assert job.job_id.startswith("test-")
    assert job.maximum_bytes_billed == 10**7
    assert [dict(row) for row in job.result()] == [params]


@pytest.mark.integration
def test_run_tells_at_once_what_bigquery_refused(bigquery_clean: bigquery_api.Client) -> None:
    with pytest.raises(BadRequest, match="nothing_such"):
        bigquery.run(
            bigquery_clean, "SELECT nothing_such", {}, job_id_prefix="test", maximum_bytes_billed=10**7
        )


def test_run_gives_up_on_a_bigquery_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery, "_REQUEST_RETRY", bigquery_api.DEFAULT_RETRY.with_timeout(1.0))
    nobody = bigquery_api.Client(
        project="nobody",
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint="http://127.0.0.1:1"),
    )
    with pytest.raises(RetryError, match=r"Timeout of 1\.0s exceeded"):
        bigquery.run(nobody, "SELECT 1", {}, job_id_prefix="test", maximum_bytes_billed=10**7)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (BadRequest("Could not serialize access to table shop.x due to concurrent update"), True),
        (Forbidden("slow down", errors=[{"reason": "jobRateLimitExceeded"}]), True),
        (BadRequest("Syntax error", errors=[{"reason": "invalidQuery"}]), False),
        (Forbidden("no", errors=[{"reason": "accessDenied"}]), False),
        (ValueError("ours"), False),
    ],
)
def test_a_job_is_run_again_only_after_an_error_that_passes(error: Exception, again: bool) -> None:
    assert bigquery._is_transient(error) is again


# Summaries


@pytest.mark.integration
def test_building_a_day_replaces_its_rows_and_no_others(client: bigquery_api.Client) -> None:
    table = table_of("shop.daily_event_count")
    fill(
        client,
        "shop_raw.events_batch",
        [
            batch_event(event_id="a"),
            batch_event(event_id="b", event_type="cart"),
            batch_event(event_id="c", event_time=dt.datetime(2019, 11, 2, 5)),  # noqa: DTZ001
        ],
    )
    for day in (DAY, NEXT_DAY, DAY):
        bigquery.build_day(client, table, day)
    assert [bigquery.run_checks(client, table, day) for day in (DAY, NEXT_DAY)] == [2, 1]
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a")])
    bigquery.build_day(client, table, DAY)
    assert bigquery.run_checks(client, table, DAY) == 1
    sql = "SELECT event_date, event_type, events FROM shop.daily_event_count ORDER BY event_date"
    assert [tuple(row.values()) for row in rows_of(client, sql)] == [
        (DAY, "view", 1),
        (NEXT_DAY, "view", 1),
    ]


@pytest.mark.integration
def test_a_failed_check_names_the_check_the_table_the_day_and_what_it_found(
    client: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of("shop.daily_event_count")
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a")])
    row = {"event_date": DAY, "event_type": "view", "events": 2, "users": 3, "sessions": 1}
    fill(client, "shop.daily_event_count", [row, row | {"event_date": NEXT_DAY}])

    with caplog.at_level(logging.WARNING), pytest.raises(CheckFailed) as failed:
        bigquery.run_checks(client, table, DAY)

    place = "shop.daily_event_count of 2019-11-01: check"
    assert str(failed.value).splitlines() == [
        f"{place} possible_counts (fail) found event_type = view, events = 2, users = 3, sessions = 1.",
        f"{place} every_event_counted (fail) found expected_events = 1, found_events = 2.",
    ]
    assert caplog.messages == [f"{place} day_has_every_event_type (warn) found found_event_types = 1."]


@pytest.mark.integration
def test_a_check_shows_five_rows_and_counts_the_others(client: bigquery_api.Client) -> None:
    table = table_of("shop.daily_event_count")
    rows = [
        {"event_date": DAY, "event_type": f"type {n}", "events": 1, "users": 1, "sessions": 1}
        for n in range(7)
    ]
    fill(client, "shop.daily_event_count", rows)
    with pytest.raises(CheckFailed, match=r"accepted_event_types \(fail\) found .*; and 2 more rows\."):
        bigquery.run_checks(client, table, DAY)


@pytest.mark.integration
def test_twice_the_events_of_the_days_before_are_worth_a_warning(
    client: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of("shop.daily_event_count")
    fill(client, "shop_raw.events_batch", [batch_event(event_id=str(n)) for n in range(5)])
    before = {"event_type": "view", "events": 2, "users": 1, "sessions": 1}
    fill(
        client,
        "shop.daily_event_count",
        [before | {"event_date": dt.date(2019, 10, day)} for day in (30, 31)],
    )
    bigquery.build_day(client, table, DAY)
    with caplog.at_level(logging.WARNING):
        bigquery.run_checks(client, table, DAY)
    assert any("like_the_days_before (warn) found found_events = 5" in text for text in caplog.messages)


# Loads


def parquet(bucket: storage.Bucket, name: str, rows: Iterable[Mapping[str, Any]]) -> str:
    """Upload accepted events as the pipeline writes them; return the file's URI."""
    table = table_of("shop_raw.events_batch")
    schema = pa.schema([(column.name, ARROW_TYPES[column.type]) for column in table.schema])
    typed = [
        {**row, "price": Decimal(row["price"]), "event_time": row["event_time"].replace(tzinfo=dt.UTC)}
        for row in rows
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(typed, schema=schema), file)
    bucket.blob(f"accepted/{name}.parquet").upload_from_string(file.getvalue())
    return f"gs://{bucket.name}/accepted/{name}.parquet"


def manifest_of(
    landing_day: dt.date, load_id: str, *, accepted: Iterable[str] = (), rejected: Iterable[str] = ()
) -> dict[str, Any]:
    return {
        "landing_day": landing_day.isoformat(),
        "load_id": load_id,
        "accepted_files": list(accepted),
        "rejected_files": list(rejected),
    }


def load(
    client: bigquery_api.Client,
    bucket: storage.Bucket,
    load_id: str,
    rows: list[dict[str, Any]],
    landing_day: dt.date = DAY,
) -> list[str]:
    """Stage and publish one load of one file; return the event dates touched."""
    landed = [row | {"landing_day": landing_day, "load_id": load_id} for row in rows]
    manifest = manifest_of(landing_day, load_id, accepted=[parquet(bucket, load_id, landed)])
    return bigquery.publish_day(client, manifest, bigquery.stage_load(client, manifest))


def published(client: bigquery_api.Client) -> list[tuple[Any, ...]]:
    sql = "SELECT event_id, event_date, landing_day, load_id FROM shop_raw.events_batch ORDER BY 1, 3"
    return [tuple(row.values()) for row in rows_of(client, sql)]


def event(event_id: str, day: dt.date = DAY) -> dict[str, Any]:
    return batch_event(event_id=event_id, event_time=dt.datetime.combine(day, dt.time(12)))


@pytest.mark.integration
def test_a_load_of_several_files_is_staged_as_it_is_and_published_once_each(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    given = event("a") | {"price": "2574.07", "brand": None, "category_code": None}
    files = [
        parquet(bucket, "one", [given, event("b")]),
        parquet(bucket, "two", [event("b"), event("b"), event("c")]),
    ]
    manifest = manifest_of(DAY, "20191101-aaaaaaaa", accepted=files)
    staging = bigquery.stage_load(client, manifest)
    assert staging == "shop_raw.events_batch_staging_20191101_aaaaaaaa"
    assert rows_of(client, f"SELECT COUNT(*) AS staged FROM {staging}") == [{"staged": 5}]
    assert bigquery.count_staged_distinct(client, staging) == 3

    assert bigquery.publish_day(client, manifest, staging) == ["2019-11-01"]
    assert bigquery.count_published(client, DAY) == 3
    sql = "SELECT event_id, event_time, price, brand FROM shop_raw.events_batch ORDER BY 1 LIMIT 1"
    assert rows_of(client, sql) == [
        {
            "event_id": "a",
            "event_time": dt.datetime(2019, 11, 1, 12, tzinfo=dt.UTC),
            "price": Decimal("2574.07"),
            "brand": None,
        }
    ]


@pytest.mark.integration
def test_every_step_of_a_load_may_be_repeated(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    for _ in range(2):
        load(client, bucket, "20191101-aaaaaaaa", [event("a"), event("b")])
    manifest = manifest_of(DAY, "20191101-aaaaaaaa")
    staging = "shop_raw.events_batch_staging_20191101_aaaaaaaa"
    assert bigquery.publish_day(client, manifest, staging) == ["2019-11-01"]
    assert [row[0] for row in published(client)] == ["a", "b"]
    for _ in range(2):
        bigquery.drop_staging(client, staging)


@pytest.mark.integration
def test_a_reload_from_a_corrected_file_leaves_exactly_the_corrected_rows(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    before = DAY - dt.timedelta(days=1)
    week_before = DAY - dt.timedelta(days=7)
    load(client, bucket, "20191031-00000000", [event("kept", before)], landing_day=before)
    first = [event("a"), event("wrong"), event("late", before), event("very late", week_before)]
    assert load(client, bucket, "20191101-aaaaaaaa", first) == ["2019-10-25", "2019-10-31", "2019-11-01"]

    touched = load(client, bucket, "20191101-bbbbbbbb", [event("a"), event("right")])

    assert touched == ["2019-10-25", "2019-10-31", "2019-11-01"]
    assert published(client) == [
        ("a", DAY, DAY, "20191101-bbbbbbbb"),
        ("kept", before, before, "20191031-00000000"),
        ("right", DAY, DAY, "20191101-bbbbbbbb"),
    ]


@pytest.mark.integration
def test_an_event_landed_on_two_days_stays_with_one_when_the_other_is_replaced(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    load(client, bucket, "20191101-aaaaaaaa", [event("a")])
    load(client, bucket, "20191102-bbbbbbbb", [event("a")], landing_day=NEXT_DAY)
    assert [row[2] for row in published(client)] == [DAY, NEXT_DAY]
    load(client, bucket, "20191102-cccccccc", [event("b", NEXT_DAY)], landing_day=NEXT_DAY)
    assert [row[:3] for row in published(client)] == [("a", DAY, DAY), ("b", NEXT_DAY, NEXT_DAY)]


@pytest.mark.integration
def test_a_load_without_accepted_rows_empties_its_landing_day(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    load(client, bucket, "20191101-aaaaaaaa", [event("a")])
    manifest = manifest_of(DAY, "20191101-bbbbbbbb")
    staging = bigquery.stage_load(client, manifest)
    assert bigquery.count_staged_distinct(client, staging) == 0
    assert bigquery.publish_day(client, manifest, staging) == ["2019-11-01"]
    assert published(client) == []


@pytest.mark.integration
def test_dates_emptied_by_a_publication_that_died_are_named_by_the_next(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    before = DAY - dt.timedelta(days=1)
    touched = load(client, bucket, "20191101-aaaaaaaa", [event("a"), event("late", before)])
    bigquery.write_audit_row(client, audit_row("20191101-aaaaaaaa", event_dates=touched))
    load(client, bucket, "20191101-bbbbbbbb", [event("a")])  # and then died, unaudited
    assert load(client, bucket, "20191101-cccccccc", [event("a")]) == ["2019-10-31", "2019-11-01"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("row", "found"),
    [
        (event("a", DAY - dt.timedelta(days=8)) | {"landing_day": DAY}, "2019-10-24 landed 2019-11-01"),
        (event("a", NEXT_DAY) | {"landing_day": DAY}, "2019-11-02 landed 2019-11-01"),
        (event("a") | {"landing_day": NEXT_DAY}, "2019-11-01 landed 2019-11-02"),
    ],
)
def test_rows_that_do_not_belong_to_the_landing_day_are_not_published(
    client: bigquery_api.Client, bucket: storage.Bucket, row: dict[str, Any], found: str
) -> None:
    manifest = manifest_of(DAY, "20191101-aaaaaaaa", accepted=[parquet(bucket, "foreign", [row])])
    staging = bigquery.stage_load(client, manifest)
    with pytest.raises(PublishError, match=f"it has 1 rows of {found}"):
        bigquery.publish_day(client, manifest, staging)
    assert published(client) == []


@pytest.mark.integration
def test_days_published_at_the_same_time_do_not_disturb_each_other(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    days = [DAY + dt.timedelta(days=n) for n in range(3)]
    counts = table_of("shop.daily_event_count")

    def load_and_build(day: dt.date) -> int:
        rows = [event(f"{day} {n}", day) for n in range(200)]
        for _ in range(3):
            load(client, bucket, f"{day:%Y%m%d}-aaaaaaaa", rows, landing_day=day)
        bigquery.build_day(client, counts, day)
        return bigquery.run_checks(client, counts, day)

    with ThreadPoolExecutor(len(days)) as pool:
        assert list(pool.map(load_and_build, days, timeout=200)) == [1, 1, 1]
    assert [bigquery.count_published(client, day) for day in days] == [200, 200, 200]
    assert rows_of(client, "SELECT SUM(events) AS events FROM shop.daily_event_count") == [{"events": 600}]


@pytest.mark.parametrize("load_id", ["20191101", "20191101-AAAAAAAA", "20191101-aaaaaaaa; DROP TABLE x"])
def test_a_load_id_of_another_form_is_refused(load_id: str) -> None:
    nobody = bigquery_api.Client(project="nobody", credentials=AnonymousCredentials())
    with pytest.raises(ValueError, match="is not of the form YYYYMMDD-<8 hex>"):
        bigquery.stage_load(nobody, manifest_of(DAY, load_id))


# Rejected events


def rejected(bucket: storage.Bucket, name: str, raws: Iterable[bytes], day: dt.date = DAY) -> str:
    """Upload rejected lines as the pipeline writes them; return the file's URI."""
    lines = [
        json.dumps(
            {
                "source": "batch",
                "rejected_date": day.isoformat(),
                "load_id": name,
                "file": "gs://bucket/landing/events/2019-11-01/a.csv",
                "byte_offset": number,
                "line_bytes": len(raw),
                "raw": base64.b64encode(raw).decode(),
                "reason": "bad_price",
                "detail": "price is 'x'.",
                "rejected_at": "2019-11-02T01:02:03.456789Z",
                "message_id": None,
                "attributes": None,
                "publish_time": None,
            }
        )
        for number, raw in enumerate(raws)
    ]
    bucket.blob(f"rejected/{name}.jsonl").upload_from_string("\n".join(lines) + "\n")
    return f"gs://{bucket.name}/rejected/{name}.jsonl"


def rejected_rows(client: bigquery_api.Client) -> list[tuple[Any, ...]]:
    sql = (
        "SELECT source, rejected_date, raw FROM shop_raw.rejected_events ORDER BY source, rejected_date, raw"
    )
    return [tuple(row.values()) for row in rows_of(client, sql)]


@pytest.mark.integration
def test_rejected_lines_keep_their_bytes_and_replace_those_of_their_landing_day_only(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    streamed = {
        "source": "stream",
        "rejected_date": DAY,
        "raw": "",
        "reason": "bad_json",
        "detail": "not JSON",
        "rejected_at": dt.datetime(2019, 11, 1, tzinfo=dt.UTC),
    }
    fill(client, "shop_raw.rejected_events", [streamed])
    other = rejected(bucket, "20191102-aaaaaaaa", [b"other day"], NEXT_DAY)
    bigquery.load_rejected(client, manifest_of(NEXT_DAY, "20191102-aaaaaaaa", rejected=[other]))
    first = rejected(bucket, "20191101-aaaaaaaa", [b"\x00\xff,bad", b"soon gone"])
    bigquery.load_rejected(client, manifest_of(DAY, "20191101-aaaaaaaa", rejected=[first]))

    second = manifest_of(
        DAY, "20191101-bbbbbbbb", rejected=[rejected(bucket, "20191101-bbbbbbbb", [b"\x00\xff,bad"])]
    )
    for _ in range(2):
        bigquery.load_rejected(client, second)

    assert rejected_rows(client) == [
        ("batch", DAY, b"\x00\xff,bad"),
        ("batch", NEXT_DAY, b"other day"),
        ("stream", DAY, b""),
    ]
    sql = "SELECT byte_offset, line_bytes, rejected_at FROM shop_raw.rejected_events"
    found = rows_of(client, f"{sql} WHERE load_id = '20191101-bbbbbbbb'")
    moment = dt.datetime(2019, 11, 2, 1, 2, 3, 456789, tzinfo=dt.UTC)
    assert found == [{"byte_offset": 0, "line_bytes": 6, "rejected_at": moment}]
    assert not [table for table in client.list_tables("shop_raw") if "staging" in table.table_id]


@pytest.mark.integration
def test_a_load_without_rejected_lines_clears_those_of_the_load_before(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    file = rejected(bucket, "20191101-aaaaaaaa", [b"bad"])
    bigquery.load_rejected(client, manifest_of(DAY, "20191101-aaaaaaaa", rejected=[file]))
    bigquery.load_rejected(client, manifest_of(DAY, "20191101-bbbbbbbb"))
    assert rejected_rows(client) == []


# The audit


def audit_row(load_id: str, **changes: Any) -> dict[str, Any]:
    row = {
        "landing_day": "2019-11-01",
        "load_id": load_id,
        "job_id": None,
        "read": 12,
        "accepted": 11,
        "rejected": 1,
        "duplicates": 1,
        "late": 0,
        "spanner_rows": 10,
        "bigquery_rows": 10,
        "event_dates": ["2019-10-31", "2019-11-01"],
    }
    return row | changes


@pytest.mark.integration
def test_the_audit_has_one_row_a_load_which_a_repetition_replaces(client: bigquery_api.Client) -> None:
    bigquery.write_audit_row(client, audit_row("20191101-aaaaaaaa"))
    bigquery.write_audit_row(client, audit_row("20191101-bbbbbbbb", job_id="job-1", event_dates=[]))
    bigquery.write_audit_row(client, audit_row("20191101-aaaaaaaa", late=3))
    found = rows_of(client, "SELECT * FROM shop_ops.loads ORDER BY load_id")
    assert [(row["load_id"], row["job_id"], row["late"], row["event_dates"]) for row in found] == [
        ("20191101-aaaaaaaa", None, 3, [DAY - dt.timedelta(days=1), DAY]),
        ("20191101-bbbbbbbb", "job-1", 0, []),
    ]
    age = dt.datetime.now(dt.UTC) - found[0]["loaded_at"]
    assert dt.timedelta(0) <= age < dt.timedelta(minutes=1)


@pytest.mark.integration
def test_an_audit_row_that_lacks_a_column_is_refused(client: bigquery_api.Client) -> None:
    row = audit_row("20191101-aaaaaaaa")
    del row["late"]
    with pytest.raises(ValueError, match=r"shop_ops\.loads needs exactly .*late"):
        bigquery.write_audit_row(client, row)
