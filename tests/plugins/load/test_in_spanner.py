"""Counting a landing day in Spanner, showing a load of it to readers, and deleting those that nobody sees."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from google.cloud.spanner_v1 import ExecuteSqlRequest, RequestOptions
from google.cloud.spanner_v1.database import Database
from google.cloud.spanner_v1.services.spanner import SpannerClient

from beam_jobs import spanner_sink
from beam_jobs.contract import SHARDS
from beam_jobs.identity import shard
from beam_jobs.manifest import Manifest
from beam_jobs.spanner_sink import SpannerSink
from shopstream.dashboard.stores import SpannerStore
from shopstream.load import in_spanner
from shopstream.load.checks import LoadRefused
from shopstream.load.held import Held
from shopstream.settings import settings
from tests.plugins.load.landed import manifest_of
from tests.spanner_reader import reading

pytestmark = pytest.mark.integration

DAY = date(2019, 11, 8)
OLDER, LOAD_ID, NEWER = "20191108-00000001", "20191108-00000002", "20191108-t2019"
LOW = RequestOptions.Priority.PRIORITY_LOW


def manifest(load_id: str = LOAD_ID, day: date = DAY) -> Manifest:
    return manifest_of(day, load_id)


COLUMNS = (
    "shard", "event_date", "user_id", "event_time", "event_id", "landing_day", "event_type", "product_id",
    "category_id", "price", "load_id",
)  # fmt: skip


def insert(database: Database, *rows: tuple[int, date, date, str]) -> None:
    """Insert events given as (shard, event_date, landing_day, load_id); ids begin with 00, 01, 02, ..."""
    with database.batch() as batch:
        batch.insert(
            "loaded_events",
            COLUMNS,
            [
                (
                    shard,
                    day,
                    n,
                    f"{day}T00:00:00Z",
                    f"{n:02x}".ljust(32, "0"),
                    landed,
                    "view",
                    1,
                    1,
                    "1",
                    load_id,
                )
                for n, (shard, day, landed, load_id) in enumerate(rows)
            ],
        )


def published(database: Database) -> list[list[Any]]:
    with database.snapshot() as snapshot:
        return list(snapshot.execute_sql("SELECT landing_day, load_id FROM published_loads ORDER BY 1"))


@pytest.fixture(params=["one query", "parts"])
def counting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way in which loads are counted: where days have few rows, or many."""
    if request.param == "parts":
        monkeypatch.setattr(in_spanner, "MAX_ROWS_READ_AT_ONCE", 0)
    return str(request.param)


@pytest.mark.usefixtures("counting")
def test_all_shards_and_all_days_that_a_landing_day_may_hold_are_counted_by_load(
    spanner_database: Database,
) -> None:
    week = [DAY - timedelta(days=n) for n in range(8)]
    insert(
        spanner_database,
        *((shard, DAY, DAY, LOAD_ID) for shard in range(SHARDS)),
        *((0, day, DAY, OLDER) for day in week),
        (0, DAY, DAY + timedelta(days=1), "20191109-00000001"),
    )
    # The exclusive or of 0x00... to 0x0f..., and of 0x10... to 0x17..., is 0: of 0x18 alone it is not.
    assert in_spanner.count_loads(spanner_database, manifest()) == {
        LOAD_ID: Held(SHARDS, 0),
        OLDER: Held(8, 0),
    }
    tomorrow = manifest("20191109-00000001", DAY + timedelta(days=1))
    assert in_spanner.count_loads(spanner_database, tomorrow) == {
        "20191109-00000001": Held(1, 0x18 << 52),
    }


@pytest.mark.usefixtures("counting")
def test_a_load_without_rows_has_none(spanner_database: Database) -> None:
    assert in_spanner.count_loads(spanner_database, manifest()) == {}


def test_a_small_load_of_days_on_which_others_landed_many_rows_is_counted_in_parts(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = []

    def note(database: Database, of: Manifest) -> dict[str, Held]:
        parts.append(of.load_id)
        return count_in_parts(database, of)

    count_in_parts = in_spanner.count_in_parts
    monkeypatch.setattr(in_spanner, "count_in_parts", note)
    monkeypatch.setattr(in_spanner, "MAX_ROWS_READ_AT_ONCE", 3)
    tomorrow = DAY + timedelta(days=1)
    insert(
        spanner_database, (0, DAY, DAY, LOAD_ID), *((n, DAY, tomorrow, "20191109-0000000a") for n in range(2))
    )
    assert in_spanner.count_loads(spanner_database, manifest()).keys() == {LOAD_ID}
    assert parts == []
    insert(spanner_database, (3, DAY, tomorrow, "20191109-0000000a"))
    assert in_spanner.count_loads(spanner_database, manifest()).keys() == {LOAD_ID}
    assert parts == [LOAD_ID]


def test_the_rows_of_a_large_load_are_counted_by_data_boost_and_all_are_counted_and_deleted_at_low_priority(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch, counting: str
) -> None:
    sent: list[ExecuteSqlRequest] = []
    send = SpannerClient.execute_streaming_sql

    def note(client: SpannerClient, request: ExecuteSqlRequest, **options: Any) -> Any:
        sent.append(request)
        return send(client, request=request, **options)

    monkeypatch.setattr(SpannerClient, "execute_streaming_sql", note)
    insert(spanner_database, (0, DAY, DAY, LOAD_ID), (1, DAY, DAY, OLDER))
    in_spanner.count_loads(spanner_database, manifest())
    looked, *parts = sent
    assert not looked.data_boost_enabled
    assert bool(parts) == (counting == "parts")
    assert all(request.partition_token and request.data_boost_enabled for request in parts)
    assert {request.request_options.priority for request in sent} == {LOW}

    sent.clear()
    in_spanner.delete_loads(spanner_database, manifest(), [OLDER])
    assert [request.request_options.priority for request in sent] == [LOW]


def test_of_the_landing_days_rows_those_of_the_loads_that_were_seen_are_deleted_and_no_others(
    spanner_database: Database,
) -> None:
    tomorrow = DAY + timedelta(days=1)
    insert(
        spanner_database,
        (0, DAY, DAY, LOAD_ID),
        (15, DAY - timedelta(days=7), DAY, "20191108-00000000"),
        (3, DAY, DAY, OLDER),
        (4, DAY, DAY, NEWER),
        (3, DAY, tomorrow, "20191109-00000001"),
    )
    for _ in range(2):
        in_spanner.delete_loads(spanner_database, manifest(), ["20191108-00000000", OLDER])
        # A load that was launched after the count keeps its rows.
        assert in_spanner.count_loads(spanner_database, manifest()).keys() == {LOAD_ID, NEWER}
    others = in_spanner.count_loads(spanner_database, manifest("20191109-00000001", tomorrow))
    assert others.keys() == {"20191109-00000001"}


def test_a_load_is_published_once_however_often_and_never_over_a_newer_one(
    spanner_database: Database,
) -> None:
    for load_id in (OLDER, LOAD_ID, LOAD_ID):
        in_spanner.publish_load(spanner_database, manifest(load_id))
        assert published(spanner_database) == [[DAY, load_id]]
    with pytest.raises(LoadRefused, match=f"load {LOAD_ID} has published the day meanwhile"):
        in_spanner.publish_load(spanner_database, manifest(OLDER))
    assert published(spanner_database) == [[DAY, LOAD_ID]]


USER = 520088904
"""Whose events a version is."""


def version(numbers: Iterable[int], brand: str) -> dict[int, str]:
    """The brand of each product: one event each."""
    return dict.fromkeys(numbers, brand)


def write(database: Database, load_id: str, events: dict[int, str]) -> None:
    """Write events as a load does."""
    noon = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
    rows = [
        {
            "shard": shard(USER),
            "event_date": DAY,
            "user_id": USER,
            "event_time": noon + timedelta(seconds=number),
            "event_id": f"{number:032x}",
            "landing_day": DAY,
            "load_id": load_id,
            "event_type": "view",
            "product_id": number,
            "category_id": 1,
            "category_code": None,
            "brand": brand,
            "price": Decimal("1.000000000"),
            "user_session": None,
        }
        for number, brand in events.items()
    ]
    table = pa.Table.from_pylist(rows)
    types = {"event_time": pa.timestamp("us", "UTC"), "price": pa.decimal128(38, 9)}
    for name in ("category_code", "user_session"):
        types[name] = pa.string()
    schema = pa.schema(
        [(name, types.get(name, table.schema.field(name).type)) for name in table.column_names]
    )
    sink = SpannerSink(settings().project, settings().spanner_instance, database.database_id)
    assert sink.write(table.cast(schema)) == []


def test_a_reader_sees_a_day_as_its_last_published_load_left_it_whatever_is_loaded_refused_or_died(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A load is many commits, between which the reader looks.
    monkeypatch.setattr(spanner_sink, "MAX_COMMIT_MUTATIONS", 10 * len(spanner_sink.STORED_COLUMNS))
    store = SpannerStore(lambda: spanner_database)
    pages: list[frozenset[tuple[int, str]]] = []

    def look_at_the_dashboard() -> None:
        events, _ = store.journey(USER, DAY)
        page = frozenset((event["product_id"], event["brand"]) for event in events)
        if not pages or pages[-1] != page:
            pages.append(page)

    first, corrected, last = version(range(60), "a"), version(range(30, 90), "b"), version(range(50), "c")
    with reading(spanner_database, look_at_the_dashboard) as reader:
        reader.look()
        for number, (events, outcome) in enumerate(
            [
                (first, "published"),
                (version(range(20), "died"), "died"),
                (corrected, "published"),
                (version(range(200), "refused"), "refused"),
                (corrected, "published"),
                (last, "published"),
            ]
        ):
            load = manifest(f"20191108-0000000{number}")
            write(spanner_database, load.load_id, events)
            if outcome == "published":
                counts = in_spanner.count_loads(spanner_database, load)
                assert counts.pop(load.load_id).events == len(events)
                in_spanner.publish_load(spanner_database, load)
                reader.look()
                in_spanner.delete_loads(spanner_database, load, counts.keys())
                assert in_spanner.count_loads(spanner_database, load).keys() == {load.load_id}
            reader.look()
    states = [frozenset(events.items()) for events in ({}, first, corrected, last)]
    assert reader.seen == states
    assert pages == states
