"""Loads are published, their rejects kept and their audit rows written: on the BigQuery emulator."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud import storage

from shopstream.load import publish
from shopstream.load.held import Held
from shopstream.load.publish import (
    PublishError,
    Staged,
    count_published,
    count_rejected,
    drop_staging,
    load_rejected,
    publish_day,
    stage_load,
)
from shopstream.settings import settings
from shopstream.stream.jobs import stream_events_launch
from shopstream.tables.day import build_day, run_checks
from shopstream.tables.folder import Table, load_table
from tests.plugins.load.landed import audit, manifest_of, parquet, rejected
from tests.sql.events import batch_event, build_tables_read, rows_of

DAY = dt.date(2019, 11, 1)
NEXT_DAY = dt.date(2019, 11, 2)


@pytest.fixture
def client(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with all tables, empty."""
    return bigquery_tables


def table_of(full_name: str) -> Table:
    return load_table(settings().sql_dir, full_name)


def load(
    client: bigquery_api.Client,
    bucket: storage.Bucket,
    load_id: str,
    rows: list[dict[str, Any]],
    landing_day: dt.date = DAY,
) -> tuple[dt.date, ...]:
    """Stage and publish one load of one file; return the event dates touched."""
    landed = [row | {"landing_day": landing_day, "load_id": load_id} for row in rows]
    manifest = manifest_of(landing_day, load_id, accepted=[parquet(bucket, load_id, landed)])
    return publish_day(client, manifest, stage_load(client, manifest))


def published(client: bigquery_api.Client) -> list[tuple[Any, ...]]:
    sql = "SELECT event_id, event_date, landing_day, load_id FROM shop_raw.events_batch ORDER BY 1, 3"
    return [tuple(row.values()) for row in rows_of(client, sql)]


def event(event_id: str, day: dt.date = DAY) -> dict[str, Any]:
    return batch_event(event_id=event_id, event_time=dt.datetime.combine(day, dt.time(12)))


@pytest.mark.integration
def test_a_load_of_several_files_is_staged_as_it_is_and_published_once_each(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    of_load = {"load_id": "20191101-aaaaaaaa"}
    given = event("a") | {"price": "2574.07", "brand": None, "category_code": None}
    files = [
        parquet(bucket, "one", [row | of_load for row in (given, event("b"))]),
        parquet(bucket, "two", [row | of_load for row in (event("b"), event("b"), event("c"))]),
    ]
    manifest = manifest_of(DAY, "20191101-aaaaaaaa", accepted=files)
    staged = stage_load(client, manifest)
    assert staged == Staged("shop_raw.events_batch_staging_20191101_aaaaaaaa", staged.events)
    assert staged.events.events == 3
    assert rows_of(client, f"SELECT COUNT(*) AS staged FROM {staged.table}") == [{"staged": 5}]

    assert publish_day(client, manifest, staged) == (DAY,)
    assert count_published(client, DAY) == {"20191101-aaaaaaaa": staged.events}
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
    file = parquet(bucket, "one", [event(name) | {"load_id": "20191101-aaaaaaaa"} for name in "ab"])
    manifest = manifest_of(DAY, "20191101-aaaaaaaa", accepted=[file])
    for _ in range(2):
        staged = stage_load(client, manifest)
        for _ in range(2):
            assert publish_day(client, manifest, staged) == (DAY,)
    assert [row[0] for row in published(client)] == ["a", "b"]
    for _ in range(2):
        drop_staging(client, staged.table)


@pytest.mark.integration
def test_a_reload_from_a_corrected_file_leaves_exactly_the_corrected_rows(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    before = DAY - dt.timedelta(days=1)
    week_before = DAY - dt.timedelta(days=7)
    load(client, bucket, "20191031-00000000", [event("kept", before)], landing_day=before)
    first = [event("a"), event("wrong"), event("late", before), event("very late", week_before)]
    assert load(client, bucket, "20191101-aaaaaaaa", first) == (week_before, before, DAY)

    touched = load(client, bucket, "20191101-bbbbbbbb", [event("a"), event("right")])

    assert touched == (week_before, before, DAY)
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
    staged = stage_load(client, manifest)
    assert staged.events == Held.nothing()
    assert publish_day(client, manifest, staged) == (DAY,)
    assert published(client) == []


OLD, NEW = "20191101-aaaaaaaa", "20191101-t20191102010203000000"


@pytest.mark.integration
def test_a_load_that_stalls_before_its_statement_publishes_nothing_over_a_newer_one(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    load(client, bucket, NEW, [event("new")])
    with pytest.raises(PublishError, match=f"load {OLD}: another load has published the day"):
        load(client, bucket, OLD, [event("old")])
    assert [row[0] for row in published(client)] == ["new"]


@pytest.mark.integration
def test_a_load_that_stalls_publishes_nothing_over_a_newer_one_that_emptied_the_day(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    load(client, bucket, NEW, [])
    audit(client, NEW)
    with pytest.raises(PublishError, match="another load has published the day"):
        load(client, bucket, OLD, [event("old")])
    assert published(client) == []


@pytest.mark.integration
def test_a_load_that_stalls_after_its_statement_is_not_audited_over_a_newer_one(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    load(client, bucket, OLD, [event("old")])
    load(client, bucket, NEW, [event("new")])  # and is not audited yet
    with pytest.raises(PublishError, match="another load has published the day"):
        audit(client, OLD)
    audit(client, NEW)
    assert rows_of(client, "SELECT load_id FROM shop_ops.loads") == [{"load_id": NEW}]


@pytest.mark.integration
def test_an_event_exchanged_for_another_changes_the_checksum(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    load(client, bucket, OLD, [event("a"), event("b")])
    [before] = count_published(client, DAY).values()
    client.query_and_wait("UPDATE shop_raw.events_batch SET event_id = 'c' WHERE event_id = 'b'")
    [after] = count_published(client, DAY).values()
    assert before.events == after.events == 2
    assert before.checksum != after.checksum


@pytest.mark.integration
def test_dates_emptied_by_a_publication_that_died_are_named_by_the_next(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    before = DAY - dt.timedelta(days=1)
    touched = load(client, bucket, "20191101-aaaaaaaa", [event("a"), event("late", before)])
    audit(client, "20191101-aaaaaaaa", event_dates=touched)
    load(client, bucket, "20191101-bbbbbbbb", [event("a")])  # and then died, unaudited
    assert load(client, bucket, "20191101-cccccccc", [event("a")]) == (before, DAY)


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
    staged = stage_load(client, manifest)
    with pytest.raises(PublishError, match=f"it has 1 rows of {found}"):
        publish_day(client, manifest, staged)
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
        build_tables_read(client, counts, [day], anew=False)
        build_day(client, counts, day)
        return run_checks(client, counts, day)

    with ThreadPoolExecutor(len(days)) as pool:
        assert list(pool.map(load_and_build, days, timeout=200)) == [1, 1, 1]
    held = [of for day in days for of in count_published(client, day).values()]
    assert [of.events for of in held] == [200, 200, 200]
    assert rows_of(client, "SELECT SUM(events) AS events FROM shop.daily_event_count") == [{"events": 600}]


@pytest.mark.parametrize("load_id", ["20191101", "20191101-AAAAAAAA", "20191101-aaaaaaaa; DROP TABLE x"])
def test_a_load_id_of_another_form_is_refused(load_id: str) -> None:
    nobody = bigquery_api.Client(project="nobody", credentials=AnonymousCredentials())
    with pytest.raises(ValueError, match="is not of the form YYYYMMDD-<8 to 24 letters and digits>"):
        stage_load(nobody, manifest_of(DAY, load_id))


# Rejected events


def rejected_rows(client: bigquery_api.Client) -> list[tuple[Any, ...]]:
    sql = "SELECT source, rejected_date, raw FROM shop.rejected_events ORDER BY source, rejected_date, raw"
    return [tuple(row.values()) for row in rows_of(client, sql)]


@pytest.mark.integration
def test_rejected_lines_keep_their_bytes_and_replace_those_of_their_landing_day_only(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    streamed = {
        "source": "stream",
        "rejected_date": f"{DAY}",
        "raw": "",
        "reason": "bad_json",
        "detail": "not JSON",
        "rejected_at": f"{DAY}T00:00:00Z",
    }
    # As the stream does, a moment before: BigQuery then lets nobody change that table.
    table = stream_events_launch(settings(), "v1", update=False)["parameters"]["rejected_table"]
    assert client.insert_rows_json(client.get_table(table.replace(":", ".")), [streamed]) == []
    other = rejected(bucket, "20191102-aaaaaaaa", [b"other day"], NEXT_DAY)
    load_rejected(client, manifest_of(NEXT_DAY, "20191102-aaaaaaaa", rejected=[other]))
    first = rejected(bucket, "20191101-aaaaaaaa", [b"\x00\xff,bad", b"soon gone"])
    load_rejected(client, manifest_of(DAY, "20191101-aaaaaaaa", rejected=[first]))

    second = manifest_of(
        DAY, "20191101-bbbbbbbb", rejected=[rejected(bucket, "20191101-bbbbbbbb", [b"\x00\xff,bad"])]
    )
    for _ in range(2):
        load_rejected(client, second)

    assert rejected_rows(client) == [
        ("batch", DAY, b"\x00\xff,bad"),
        ("batch", NEXT_DAY, b"other day"),
        ("stream", DAY, b""),
    ]
    sql = "SELECT byte_offset, line_bytes, rejected_at FROM shop.rejected_events"
    found = rows_of(client, f"{sql} WHERE load_id = '20191101-bbbbbbbb'")
    moment = dt.datetime(2019, 11, 2, 1, 2, 3, 456789, tzinfo=dt.UTC)
    assert found == [{"byte_offset": 0, "line_bytes": 6, "rejected_at": moment}]
    assert not [table for table in client.list_tables("shop_raw") if "staging" in table.table_id]


@pytest.mark.integration
def test_more_files_than_a_load_job_may_have_are_staged_by_several(
    client: bigquery_api.Client, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MAX_JOB_URIS", 2)
    manifest = manifest_of(
        DAY,
        "20191101-aaaaaaaa",
        accepted=[parquet(bucket, name, [event(name)]) for name in "abcde"],
        rejected=[
            rejected(bucket, f"20191101-0000000{n}", [raw], file=f"gs://b/landing/{n}.csv")
            for n, raw in enumerate((b"x", b"y", b"z"))
        ],
    )
    for _ in range(2):
        staged = stage_load(client, manifest)
        assert staged.events.events == 5
        assert rows_of(client, f"SELECT COUNT(*) AS staged FROM {staged.table}") == [{"staged": 5}]
        load_rejected(client, manifest)
    assert [raw for _, _, raw in rejected_rows(client)] == [b"x", b"y", b"z"]


@pytest.mark.integration
def test_lines_that_two_runs_at_once_have_staged_are_kept_once(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    files = [rejected(bucket, name, [b"bad", b"worse"]) for name in ("one", "two")]
    load_rejected(client, manifest_of(DAY, "20191101-aaaaaaaa", rejected=files))
    assert [raw for _, _, raw in rejected_rows(client)] == [b"bad", b"worse"]


@pytest.mark.integration
def test_a_load_without_rejected_lines_clears_those_of_the_load_before(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    file = rejected(bucket, "20191101-aaaaaaaa", [b"bad"])
    load_rejected(client, manifest_of(DAY, "20191101-aaaaaaaa", rejected=[file]))
    load_rejected(client, manifest_of(DAY, "20191101-bbbbbbbb"))
    assert rejected_rows(client) == []


@pytest.mark.integration
def test_rejected_lines_of_a_load_that_was_overtaken_replace_none_of_the_newer_ones(
    client: bigquery_api.Client, bucket: storage.Bucket
) -> None:
    old, new = (
        manifest_of(DAY, load_id, rejected=[rejected(bucket, load_id, [load_id.encode()])])
        for load_id in (OLD, NEW)
    )
    load_rejected(client, new)
    with pytest.raises(PublishError, match=f"load {OLD}: another load has published the day"):
        load_rejected(client, old)
    load_rejected(client, manifest_of(DAY, OLD))
    assert count_rejected(client, DAY) == {NEW: 1}


# The audit


@pytest.mark.integration
def test_the_audit_has_one_row_a_load_which_a_repetition_replaces(client: bigquery_api.Client) -> None:
    audit(client, "20191101-aaaaaaaa")
    audit(client, "20191101-aaaaaaaa", late=3)
    audit(client, "20191101-bbbbbbbb", job_id="job-1", event_dates=[])
    found = rows_of(client, "SELECT * FROM shop_ops.loads ORDER BY load_id")
    assert [(row["load_id"], row["job_id"], row["late"], row["event_dates"]) for row in found] == [
        ("20191101-aaaaaaaa", "job-0", 3, [DAY - dt.timedelta(days=1), DAY]),
        ("20191101-bbbbbbbb", "job-1", 0, []),
    ]
    age = dt.datetime.now(dt.UTC) - found[0]["loaded_at"]
    assert dt.timedelta(0) <= age < dt.timedelta(minutes=1)
