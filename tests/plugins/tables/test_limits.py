"""What a statement may bill grows with the events of its days, and so never refuses a shop that grows."""

from __future__ import annotations

import datetime as dt
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud.storage import Bucket

from shopstream.gcp.bigquery import SMALL_MAX_BYTES, load_files
from shopstream.settings import settings
from shopstream.tables import limits
from shopstream.tables.limits import ROWS, limit_of, limit_of_tables, most_events
from tests.plugins.load.landed import audit
from tests.sql.events import batch_event, fill, stream_event
from tools.cost.limits import main as write_limits
from tools.cost.queries import bytes_per_event, read_shop

SHOP = read_shop()
DAY = dt.date(2019, 11, 1)
DAYS = [DAY + dt.timedelta(days=number) for number in range(4)]
FLOOR = SMALL_MAX_BYTES.max_bytes


def noon(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(12), dt.UTC)


@pytest.fixture(scope="module")
def derived() -> dict[str, float]:
    """What Google's analyzer tells of each statement, in bytes for each event of a day."""
    return bytes_per_event(settings().sql_dir, SHOP)


@pytest.mark.parametrize("times", [1, 100, 10_000])
def test_each_statement_may_bill_three_times_what_it_reads_at_this_size_or_the_least_of_any(
    derived: dict[str, float], times: int
) -> None:
    events = SHOP["events_a_day"] * times
    limits_of = {statement: limit_of(statement, events).max_bytes for statement in derived}
    three_times = {name: max(FLOOR, 3 * per_event * events) for name, per_event in derived.items()}
    assert limits_of == pytest.approx(three_times, rel=1e-3), "the file has four digits"
    # Without the limits growing, these would be refused: most at 10,000 times, and none at once.
    above = [name for name, per_event in derived.items() if per_event * events > FLOOR]
    assert len(above) >= {1: 3, 100: 40, 10_000: 50}[times]


def test_what_the_file_has_is_what_is_derived(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_limits(["--check"]) == 0, capsys.readouterr().err


def test_a_small_shop_may_bill_the_least_of_any_and_so_may_a_statement_that_is_not_known() -> None:
    small = limit_of("build shop.sessions", 1_000)
    assert small.max_bytes == FLOOR
    assert small.reckoned == (
        "the least of any, above 3 times 375.7 bytes an event (build shop.sessions) of 1,000 events"
    )
    new = limit_of("build shop.brand_new", 10**12)
    assert new.max_bytes == FLOOR
    assert "lacks 'build shop.brand_new'" in new.reckoned


def test_what_a_limit_says_of_how_it_is_raised_does_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    known, unknown = "build shop.sessions", "build shop.brand_new"
    before = {name: limit_of(name, 10**8) for name in (known, unknown)}
    monkeypatch.setenv("SHOPSTREAM_BYTES_LIMIT_TIMES", "6")
    assert (
        {name for name in before if limit_of(name, 10**8).max_bytes > before[name].max_bytes}
        == {name for name, limit in before.items() if "SHOPSTREAM_BYTES_LIMIT_TIMES" in limit.raised_by}
        == {known}
    )
    assert "`python -m tools.cost.limits`" in before[unknown].raised_by
    assert "SHOPSTREAM_BYTES_LIMIT_TIMES" not in SMALL_MAX_BYTES.raised_by


def test_a_setting_raises_every_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = limit_of("build shop.sessions", 10**8).max_bytes
    monkeypatch.setenv("SHOPSTREAM_BYTES_LIMIT_TIMES", "6")
    raised = limit_of("build shop.sessions", 10**8)
    assert raised.max_bytes == 2 * before
    assert raised.reckoned.startswith("6 times 375.7 bytes an event")


@pytest.mark.integration
def test_the_events_of_a_day_are_those_of_the_fuller_raw_table_and_of_days_between_two_the_most(
    bigquery_tables: bigquery_api.Client,
) -> None:
    client = bigquery_tables
    rows = [batch_event(event_id=str(n), event_time=noon(day)) for day in DAYS[:2] for n in range(2)]
    fill(client, "shop_raw.events_batch", rows)
    rows = [stream_event(event_id=str(n), event_time=noon(DAYS[1])) for n in range(5)]
    fill(client, "shop_raw.events_stream", rows)

    def most(first: int, last: int) -> int:
        return most_events(client, DAYS[first], DAYS[last], kept_seconds=0)

    assert [most(0, 0), most(1, 1), most(0, 1), most(2, 3)] == [2, 5, 5, 0]
    assert most_events(client) == 5

    fill(client, "shop_raw.events_stream", [])
    assert most_events(client) == 5, "an answer is kept"
    assert most(0, 3) == 2

    audit(client, "20191103-aaaaaaaa", landing_day=DAYS[2])
    assert [most(2, 2), most(3, 3)] == [10, 0], "of a load that has published just now"


@pytest.mark.integration
def test_many_who_ask_at_once_for_the_events_of_days_are_answered_by_one_query(
    bigquery_tables: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_lot = "SELECT '20191101' AS partition_id, CAST(1000000000 * RAND() AS INT64) AS events"
    monkeypatch.setattr(limits, "ROWS", by_lot)
    most_events(bigquery_tables, kept_seconds=0)
    assert most_events(bigquery_tables, kept_seconds=0) != most_events(bigquery_tables, kept_seconds=0)
    limits._kept.clear()
    together = threading.Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        return most_events(bigquery_tables)

    with ThreadPoolExecutor(8) as readers:
        assert len(set(readers.map(ask, range(8)))) == 1


@pytest.mark.integration
def test_partitions_without_a_name_are_passed_over_and_what_just_streamed_in_is_counted_in_both_tiers(
    bigquery_tables: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    bigquery_tables.query_and_wait(
        """
        CREATE TABLE shop_raw.partitions AS
        SELECT 'events_batch' AS table_name, CAST(NULL AS STRING) AS partition_id, 0 AS total_rows
        UNION ALL SELECT 'events_batch', '20191101', 7
        UNION ALL SELECT 'events_stream', '20191101', 9
        UNION ALL SELECT 'events_stream', '__NULL__', 100
        UNION ALL SELECT 'events_stream', '__UNPARTITIONED__', 2
        UNION ALL SELECT 'events_stream', '__UNPARTITIONED__', 3"""
    )
    as_google_tells = ROWS.replace("INFORMATION_SCHEMA.PARTITIONS", "partitions")
    monkeypatch.setattr(limits, "ROWS", as_google_tells)
    assert most_events(bigquery_tables, DAY, DAY, kept_seconds=0) == 9 + 2 + 3


@pytest.mark.integration
def test_where_bigquery_refuses_to_tell_the_rows_of_days_those_of_the_fuller_table_limit_and_nothing_stops(
    bigquery_tables: bigquery_api.Client,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Of rows that statements write, the emulator's tables do not tell how many they have.
    for name, days in (("events_batch", DAYS[:3]), ("events_stream", DAYS[:1])):
        rows = "\n".join(json.dumps({"event_id": "YQ==", "event_date": f"{day}"}) for day in days)
        bucket.blob(f"{name}.jsonl").upload_from_string(rows)
        load_files(
            bigquery_tables,
            [f"gs://{bucket.name}/{name}.jsonl"],
            bigquery_api.TableReference.from_string(f"{bigquery_tables.project}.shop_raw.{name}"),
            bigquery_api.LoadJobConfig(source_format=bigquery_api.SourceFormat.NEWLINE_DELIMITED_JSON),
            job_id_prefix="test",
        )
    monkeypatch.setattr(limits, "ROWS", ROWS.replace("INFORMATION_SCHEMA.PARTITIONS", "withdrawn"))
    assert most_events(bigquery_tables, DAY, DAY, kept_seconds=0) == 3
    assert "Limits are of the events of all days" in caplog.text


@pytest.mark.integration
def test_rows_of_no_certain_size_may_bill_three_times_all_that_their_tables_hold(
    bigquery_tables: bigquery_api.Client,
) -> None:
    table = bigquery_tables.get_table("shop_raw.rejected_events_stream")
    table._properties |= {
        "numBytes": str(2**40),
        "streamingBuffer": {"estimatedBytes": "1024", "estimatedRows": "7"},
    }
    limit = limit_of_tables(table)
    assert limit.max_bytes == 3 * (2**40 + 1024)
    assert "shop_raw.rejected_events_stream" in limit.reckoned
    assert limits.all_rows(table) == 7
