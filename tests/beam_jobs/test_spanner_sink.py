"""Arrow tables into Spanner: every value as it was, no good row lost, no bad row unexplained."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from google.api_core.exceptions import NotFound
from google.cloud.spanner_v1 import CommitRequest, Mutation
from google.cloud.spanner_v1.database import Database
from google.protobuf.struct_pb2 import ListValue
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import spanner_sink
from beam_jobs.spanner_sink import (
    KEY_COLUMNS,
    STORED_COLUMNS,
    SpannerSink,
    SpannerTableError,
    encode_rows,
    mutation_of,
)
from shopstream.settings import settings

TYPES = {
    "shard": pa.int64(),
    "event_date": pa.date32(),
    "user_id": pa.int64(),
    "event_time": pa.timestamp("us", "UTC"),
    "event_id": pa.string(),
    "landing_day": pa.date32(),
    "event_type": pa.string(),
    "product_id": pa.int64(),
    "category_id": pa.int64(),
    "category_code": pa.string(),
    "brand": pa.string(),
    "price": pa.decimal128(38, 9),
    "user_session": pa.string(),
    "load_id": pa.string(),
}


def event(number: int, **different: object) -> dict[str, object]:
    """One event, another for each number."""
    time = datetime(2019, 11, 1, tzinfo=UTC) + timedelta(seconds=number)
    return {
        "shard": number % 16,
        "event_date": time.date(),
        "user_id": 500_000_000 + number,
        "event_time": time,
        "event_id": f"{number:032x}",
        "landing_day": date(2019, 11, 1),
        "event_type": "view",
        "product_id": 1_000_000 + number,
        "category_id": 2_053_013_555_631_882_655,
        "category_code": "electronics.smartphone",
        "brand": "apple",
        "price": Decimal("35.79"),
        "user_session": "72d76fde-8bb3-4e00-8c23-a032dfed738c",
        "load_id": "20191101-ab12cd34",
        **different,
    }


HALF_PAST = datetime(2019, 11, 1, 0, 0, 2, 500_000, tzinfo=UTC)


def table(events: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(events, pa.schema(list(TYPES.items()))).select(STORED_COLUMNS)


def stored(database: Database, columns: tuple[str, ...] = STORED_COLUMNS) -> list[dict[str, object]]:
    """Every row of `loaded_events`, in the order of its key."""
    with database.snapshot() as snapshot:
        rows = snapshot.execute_sql(
            f"SELECT {', '.join(columns)} FROM loaded_events ORDER BY {', '.join(KEY_COLUMNS)}"
        )
        return [dict(zip(columns, row, strict=True)) for row in rows]


def sink(database: Database) -> SpannerSink:
    return SpannerSink(settings().project, settings().spanner_instance, database.database_id)


def test_a_row_is_encoded_as_protobuf_reads_it() -> None:
    long_brand = "\N{SNOWMAN}" * 200  # 600 bytes: lengths above 127 take two bytes
    rows = encode_rows(
        table(
            [
                event(1, category_code=None, brand=long_brand, price=Decimal("0")),
                event(2, price=Decimal("0.000000001"), user_session=None, event_time=HALF_PAST),
            ]
        )
    )

    values = [
        [cell.string_value if cell.HasField("string_value") else None for cell in row] for row in parsed(rows)
    ]

    assert [dict(zip(STORED_COLUMNS, row, strict=True)) for row in values] == [
        {
            "shard": "1",
            "event_date": "2019-11-01",
            "user_id": "500000001",
            "event_time": "2019-11-01T00:00:01.000000Z",
            "event_id": "00000000000000000000000000000001",
            "landing_day": "2019-11-01",
            "event_type": "view",
            "product_id": "1000001",
            "category_id": "2053013555631882655",
            "category_code": None,
            "brand": long_brand,
            "price": "0.000000000",
            "user_session": "72d76fde-8bb3-4e00-8c23-a032dfed738c",
            "load_id": "20191101-ab12cd34",
        },
        {
            "shard": "2",
            "event_date": "2019-11-01",
            "user_id": "500000002",
            "event_time": "2019-11-01T00:00:02.500000Z",
            "event_id": "00000000000000000000000000000002",
            "landing_day": "2019-11-01",
            "event_type": "view",
            "product_id": "1000002",
            "category_id": "2053013555631882655",
            "category_code": "electronics.smartphone",
            "brand": "apple",
            "price": "0.000000001",
            "user_session": None,
            "load_id": "20191101-ab12cd34",
        },
    ]


TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
EVENTS = st.builds(
    event,
    st.integers(0, 10**6),
    event_time=st.datetimes(timezones=st.just(UTC)),
    event_date=st.dates(),
    price=st.integers(0, 10**12).map(lambda units: Decimal(units).scaleb(-9))
    | st.integers(0, 10**28).map(Decimal),
    product_id=st.integers(0, 2**63 - 1),
    category_code=TEXTS,
    brand=TEXTS,
    user_session=TEXTS,
)


@given(st.lists(EVENTS, max_size=20))
def test_rows_are_the_bytes_that_protobuf_makes_of_them_one_by_one(events: list[dict[str, object]]) -> None:
    assert b"".join(encode_rows(table(events)).to_pylist()) == Mutation.Write.serialize(
        Mutation.Write(values=[[plain(row[name]) for name in STORED_COLUMNS] for row in events])
    )


@given(st.lists(EVENTS, min_size=1, max_size=8), st.data())
def test_a_request_has_the_bytes_that_protobuf_makes_of_a_range_of_rows(
    events: list[dict[str, object]], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(events) - 1))
    stop = data.draw(st.integers(start + 1, len(events)))
    write = Mutation.Write(
        table="loaded_events",
        columns=STORED_COLUMNS,
        values=[[plain(row[name]) for name in STORED_COLUMNS] for row in events[start:stop]],
    )
    request = CommitRequest(mutations=[Mutation(insert_or_update=write)])
    # A slice begins within its buffers.
    rows = encode_rows(table([event(0), *events])).slice(1)
    assert b"".join(mutation_of(rows, start, stop)) == CommitRequest.serialize(request)


def plain(value: object) -> str | None:
    """Return a value as Spanner reads it, written in plain Python."""
    if isinstance(value, datetime):
        return f"{value.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    if isinstance(value, Decimal):
        return f"{value:.9f}"
    return None if value is None else str(value)


def parsed(rows: pa.BinaryArray) -> Iterator[ListValue]:
    write = Mutation.Write.pb(Mutation.Write.deserialize(b"".join(rows.to_pylist())))
    return (row.values for row in write.values)


def test_a_column_of_a_type_that_events_never_has_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="column price has the Arrow type double"):
        encode_rows(pa.table({"price": [35.79]}))


@pytest.mark.integration
def test_every_value_is_read_back_as_it_was_written(spanner_database: Database) -> None:
    events = [
        event(1),
        event(2, category_code=None, brand=None, user_session=None),
        event(3, price=Decimal("0"), brand="nan", event_type="cart"),
        event(4, price=Decimal("99999999999999999999999999999.999999999")),
        event(5, price=Decimal("0.000000001"), user_id=0, product_id=2**63 - 1),
        event(6, category_code="\N{SNOWMAN}" * 256, brand="\N{GRINNING FACE}" * 256, user_session="s" * 128),
        event(7, event_time=datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), event_date=date(1969, 12, 31)),
    ]

    assert sink(spanner_database).write(table(events[::-1])) == []

    assert stored(spanner_database) == sorted(events, key=lambda row: [row[name] for name in KEY_COLUMNS])


@pytest.mark.integration
def test_rows_written_twice_are_there_once(spanner_database: Database) -> None:
    events = [event(number) for number in range(5000)]
    writer = sink(spanner_database)

    writer.write(table(events))
    writer.write(table(events))

    assert len(stored(spanner_database, KEY_COLUMNS)) == 5000


@pytest.mark.integration
def test_a_table_without_rows_needs_no_commit(spanner_database: Database) -> None:
    writer = sink(spanner_database)

    assert writer.write(table([])) == []

    assert writer.commits == 0


@pytest.mark.integration
def test_commits_are_bounded_by_rows_and_by_bytes(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = table([event(number) for number in range(4001)])
    row_bytes = encode_rows(events.slice(0, 1)).nbytes
    writer = sink(spanner_database)

    writer.write(events)
    assert writer.commits == 3

    monkeypatch.setattr(spanner_sink, "MAX_COMMIT_BYTES", 1000 * row_bytes)
    writer.write(events)
    assert writer.commits - 3 in (4, 5)

    monkeypatch.setattr(spanner_sink, "MAX_COMMIT_BYTES", 1)
    writer.write(events.slice(0, 3))
    assert len(stored(spanner_database, KEY_COLUMNS)) == 4001


@pytest.mark.integration
def test_commits_have_low_priority_so_that_readers_come_first_and_follow_the_key(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_call = spanner_sink._commit_call
    sent: list[CommitRequest] = []

    def noting(database: Database) -> Callable[..., object]:
        call = commit_call(database)

        def commit(request: bytes, **options: object) -> object:
            sent.append(CommitRequest.deserialize(request))
            return call(request, **options)

        return commit

    monkeypatch.setattr(spanner_sink, "_commit_call", noting)
    sink(spanner_database).write(table([event(number) for number in range(2001)]))
    assert [request.request_options.priority.name for request in sent] == ["PRIORITY_LOW"] * 2
    written = [
        dict(zip(STORED_COLUMNS, row, strict=True))
        for request in sent
        for row in request.mutations[0].insert_or_update.values
    ]
    keys = [(int(row["shard"]), int(row["user_id"])) for row in written]
    assert keys == sorted(keys)


@pytest.mark.integration
def test_rows_that_spanner_refuses_are_returned_with_its_reason_and_all_others_are_written(
    spanner_database: Database,
) -> None:
    spanner_database.update_ddl(
        [
            "ALTER TABLE loaded_events ADD CONSTRAINT price_below_1000 CHECK (price < 1000)",
            "ALTER TABLE loaded_events ALTER COLUMN brand STRING(10)",
        ]
    ).result(timeout=60)
    bad: dict[int, dict[str, object]] = {
        7: {"price": Decimal("1000")},
        8: {"price": Decimal("2000")},
        2900: {"brand": "a brand too long"},
    }
    events = [event(number, **bad.get(number, {})) for number in range(3000)]

    refusals = sink(spanner_database).write(table(events))

    assert [row for row, _ in refusals] == [7, 8, 2900]
    assert refusals[0].detail.startswith("OUT_OF_RANGE: Check constraint")
    assert "price_below_1000" in refusals[0].detail
    assert refusals[2].detail.startswith("FAILED_PRECONDITION: ")
    assert "brand" in refusals[2].detail
    assert {row["user_id"] for row in stored(spanner_database)} == {
        row["user_id"] for number, row in enumerate(events) if number not in bad
    }


@pytest.mark.integration
def test_a_table_that_refuses_row_after_row_fails_the_write(spanner_database: Database) -> None:
    spanner_database.update_ddl(
        ["ALTER TABLE loaded_events ADD CONSTRAINT impossible CHECK (price < 0)"]
    ).result(timeout=60)

    with pytest.raises(
        SpannerTableError, match=r"101 rows one after the other for table loaded_events.*impossible"
    ):
        sink(spanner_database).write(table([event(number) for number in range(500)]))


@pytest.mark.integration
def test_a_missing_table_or_database_fails_the_write(spanner_database: Database) -> None:
    events = table([event(1), event(2)])

    spanner_database.update_ddl(["DROP VIEW customer_journey", "DROP TABLE loaded_events"]).result(timeout=60)
    with pytest.raises(NotFound, match="loaded_events"):
        sink(spanner_database).write(events)

    with pytest.raises(NotFound, match="no-such-database"):
        SpannerSink(settings().project, settings().spanner_instance, "no-such-database").write(events)


@pytest.mark.integration
def test_a_session_that_is_gone_is_made_anew(spanner_database: Database) -> None:
    def sessions() -> set[str]:
        listed = spanner_database.spanner_api.list_sessions(database=spanner_database.name)
        return {session.name for session in listed}

    others = sessions()
    writer = sink(spanner_database)
    writer.write(table([event(1)]))
    [gone] = sessions() - others
    spanner_database.spanner_api.delete_session(name=gone)
    for number in (2, 3):
        assert writer.write(table([event(number)])) == []
    assert len(stored(spanner_database, ("event_id",))) == 3


@pytest.mark.integration
def test_two_writers_at_once_both_get_through(spanner_database: Database) -> None:
    halves = [table([event(number) for number in range(first, 6000, 2)]) for first in (0, 1)]
    threads = [threading.Thread(target=sink(spanner_database).write, args=[half]) for half in halves]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(stored(spanner_database, KEY_COLUMNS)) == 6000


@pytest.mark.integration
def test_a_write_outlasts_broken_connections(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with breaking_proxy(os.environ["SPANNER_EMULATOR_HOST"], broken_connections=3) as address:
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", address)
        assert sink(spanner_database).write(table([event(number) for number in range(5000)])) == []

    assert len(stored(spanner_database, KEY_COLUMNS)) == 5000


@contextmanager
def breaking_proxy(target: str, broken_connections: int) -> Iterator[str]:
    """A TCP proxy to `target` that cuts its first connections after 100,000 bytes from the client."""
    left = [broken_connections]

    def forward(source: socket.socket, sink: socket.socket, most_bytes: int | None) -> None:
        seen = 0
        with suppress(OSError):
            while chunk := source.recv(65_536):
                seen += len(chunk)
                if most_bytes is not None and seen > most_bytes:
                    break
                sink.sendall(chunk)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            host, _, port = target.rpartition(":")
            upstream = socket.create_connection((host, int(port)))
            most_bytes = 100_000 if left[0] > 0 else None
            left[0] -= 1
            threading.Thread(target=forward, args=[client, upstream, most_bytes], daemon=True).start()
            threading.Thread(target=forward, args=[upstream, client, None], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        assert left[0] <= 0, "the connections were never broken"
        server.shutdown(socket.SHUT_RDWR)
