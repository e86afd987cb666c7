"""Customers are taken out of Spanner and BigQuery, on the emulators, and so is nobody else."""

from __future__ import annotations

import base64
import datetime as dt
import re
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1 import CommitRequest, ExecuteSqlRequest, ReadRequest, SpannerClient
from google.cloud.spanner_v1.database import Database
from hypothesis import example, given
from hypothesis import strategies as st

from beam_jobs.identity import shard
from shopstream.forget import stores
from shopstream.forget.customers import RANGE_DETAIL, is_told_of
from shopstream.replay.judge import CUT_OFF, NO_FILE
from shopstream.replay.kept import Asked, judge_day
from shopstream.settings import settings
from shopstream.tables.folder import all_tables
from shopstream.tables.names import BATCH
from tests.dags.shop import line
from tests.sql.events import batch_event, fill, stream_event

ID, OTHER = 520088904, 7
TABLES = all_tables(settings().sql_dir)
DATASETS = {table.dataset for table in TABLES}


def test_each_table_that_tells_of_a_session_tells_of_its_customer_by_whom_it_is_found() -> None:
    """Else what it holds of a customer could not be told."""
    told = [table for table in TABLES if not table.view and "user_session" in table.column_names]
    assert told
    assert [table.full_name for table in told if "user_id" not in table.column_names] == []


def pieces_of_json() -> st.SearchStrategy[bytes]:
    forms = [b"520088904", b"5.20088904e8", b"52008890.4E+1", b"520088904000e-3", b"0520088904.0"]
    escapes = [b"\\u0035", b"\\u0065", b"\\u002e", b"\\5", b"\\e", b"\\t", b"20088904", b"5.2"]
    return st.lists(st.sampled_from(forms + escapes) | st.binary(max_size=1), max_size=5).map(b"".join)


@example(said=[b'{"user_id":\r5.20088904e8}'])
@example(said=[b'{"user_id"=5.20088904e8}'])
@example(said=[b"{(5.20088904e8"])
@example(said=[rb'{"user_id": "5.20088904\u00658"}'])
@example(said=[rb'{"user_id": "52\0088904"}'])
@given(st.lists(pieces_of_json().map(lambda text: b"{" + text), min_size=1, max_size=3))
def test_what_is_told_of_a_customer_bigquery_finds_by_the_digits_or_by_what_looks_odd(
    said: list[bytes],
) -> None:
    if is_told_of(said, {ID}):
        words = " ".join(text.hex() for text in said)
        assert str(ID).encode().hex() in words or re.search(stores.ODD_DIGITS, words)


@pytest.mark.integration
def test_the_rows_of_spanner_go_by_the_customer_alone_whatever_loaded_them(
    spanner_database: Database,
) -> None:
    days = [dt.date(2019, 11, day) for day in (1, 2, 3)]
    insert(spanner_database, *((user_id, day) for user_id in (ID, OTHER, ID + 16) for day in days))
    assert stores.count_in_spanner(spanner_database, {ID, 8}) == {"loaded_events": 3}
    for _ in range(2):
        stores.delete_in_spanner(spanner_database, {ID, 8})
        assert stores.count_in_spanner(spanner_database, {ID}) == {"loaded_events": 0}
        assert stores.count_in_spanner(spanner_database, {OTHER, ID + 16}) == {"loaded_events": 6}


@pytest.mark.integration
def test_customers_are_sought_in_spanner_by_its_key_on_the_days_that_are_there_and_readers_come_first(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "RANGES_AT_ONCE", 3)
    sent: list[Any] = []
    for method in ("streaming_read", "execute_streaming_sql", "execute_sql", "commit"):
        send = getattr(SpannerClient, method)

        def note(client: SpannerClient, request: Any, send: Any = send, **options: Any) -> Any:
            sent.append(request)
            return send(client, request=request, **options)

        monkeypatch.setattr(SpannerClient, method, note)
    theirs = {ID, ID + 16, 8}
    days = [dt.date(1970, 1, 1), dt.date(2019, 11, 1), dt.date(2019, 11, 5)]
    insert(spanner_database, *((user_id, day) for user_id in (*theirs, OTHER) for day in days))
    sent.clear()

    assert stores.count_in_spanner(spanner_database, theirs) == {"loaded_events": 9}
    stores.delete_in_spanner(spanner_database, theirs)

    statements = [request.sql for request in sent if isinstance(request, ExecuteSqlRequest)]
    assert [sql for sql in statements if "loaded_events" in sql] == []
    reads = [request for request in sent if isinstance(request, ReadRequest)]
    commits = [request for request in sent if isinstance(request, CommitRequest)]
    assert {request.request_options.priority.name for request in (*reads, *commits)} == {"PRIORITY_LOW"}
    ranges = [request.key_set.ranges for request in reads if "user_id" in request.columns]
    ranges += [mutation.delete.key_set.ranges for commit in commits for mutation in commit.mutations]
    assert {len(key.start_closed) for some in ranges for key in some} == {3}
    # Three customers and three days, counted and deleted.
    assert list(map(len, ranges)) == [3] * 6
    assert stores.count_in_spanner(spanner_database, theirs | {OTHER}) == {"loaded_events": 3}


@pytest.mark.integration
def test_customers_are_found_in_a_table_of_spanner_that_has_another_key(spanner_database: Database) -> None:
    ddl = "CREATE TABLE wishes (id INT64, user_id INT64) PRIMARY KEY (id)"
    spanner_database.update_ddl([ddl]).result(timeout=60)
    with spanner_database.batch() as batch:
        batch.insert("wishes", ("id", "user_id"), [(1, ID), (2, OTHER), (3, ID)])
    assert stores.count_in_spanner(spanner_database, {ID}) == {"loaded_events": 0, "wishes": 2}
    stores.delete_in_spanner(spanner_database, {ID})
    assert stores.count_in_spanner(spanner_database, {ID, OTHER}) == {"loaded_events": 0, "wishes": 1}


def insert(database: Database, *rows: tuple[int, dt.date]) -> None:
    """Insert an event for each user_id and day."""
    columns = ("shard", "event_date", "user_id", "event_time", "event_id", "landing_day", "event_type",
               "product_id", "category_id", "price", "load_id")  # fmt: skip
    with database.batch() as batch:
        batch.insert(
            "loaded_events",
            columns,
            [
                (shard(user_id), day, user_id, dt.datetime(2019, 11, 1, tzinfo=dt.UTC), f"{user_id}", day,
                 "view", ID, 1, "1", f"load {day}")
                for user_id, day in rows
            ],
        )  # fmt: skip


def lines_of(user_id: int) -> bytes:
    return line(1, user_id=user_id, price="x").encode()


def reject(
    client: bigquery_api.Client, table: str, raw: bytes, detail: str, attributes: str = "{}", lines: int = 1
) -> None:
    sql = (
        f"INSERT INTO {table} (source, rejected_date, load_id, raw, reason, detail, rejected_at, attributes, "
        "lines) VALUES ('x', DATE '2019-11-01', 'a load', FROM_HEX(@raw), 'bad_price', @detail, "
        f"TIMESTAMP '2019-11-02 00:00:00', @attributes, {lines})"
    )
    given = {"raw": raw.hex(), "detail": detail, "attributes": attributes}
    params = [bigquery_api.ScalarQueryParameter(name, "STRING", value) for name, value in given.items()]
    client.query_and_wait(sql, job_config=bigquery_api.QueryJobConfig(query_parameters=params))


@pytest.mark.integration
def test_the_rows_of_every_table_of_bigquery_go_those_of_rejected_lines_and_of_loads_under_way_too(
    bigquery_tables: bigquery_api.Client,
) -> None:
    client = bigquery_tables
    rows = [batch_event(event_id=f"e{user_id}", user_id=user_id) for user_id in (ID, OTHER)]
    fill(client, "shop_raw.events_batch", rows)
    fill(client, "shop_raw.events_stream", [stream_event(event_id="s", user_id=ID)])
    client.query_and_wait(
        "CREATE TABLE shop_raw.events_batch_staging_1 AS SELECT * FROM shop_raw.events_batch"
    )
    rejects = "shop_raw.rejected_events_batch"
    reject(client, rejects, b"\xff,520088904,\n", "no number")
    reject(client, rejects, b"x", "user_id is '520088904'.")
    reject(client, rejects, b"x", "no", '{"user_id": "520088904"}')
    reject(client, rejects, b"1520088904,520088904x", "no number")
    for odd in ("\\t520088904", "\\u0035\\u00320088904"):
        reject(client, rejects, f'{{"user_id":"{odd}"}}'.encode(), "odd")
    reject(client, rejects, b'{"user_id":5.20088904e8}', "odd")

    found = stores.count_in_bigquery(client, DATASETS, {ID})
    assert {table: rows for table, rows in found.items() if rows} == {
        "shop_raw.events_batch": 1,
        "shop_raw.events_batch_staging_1": 1,
        "shop_raw.events_stream": 1,
        rejects: 6,
    }
    held = {table.full_name for table in TABLES if not table.view and "user_id" in table.column_names}
    assert held | {"shop_raw.rejected_events_stream"} <= found.keys()
    for _ in range(2):
        stores.delete_in_bigquery(client, DATASETS, {ID})
        assert set(stores.count_in_bigquery(client, DATASETS, {ID}).values()) == {0}
    assert [tuple(row) for row in client.query_and_wait(f"SELECT detail FROM {rejects}")] == [("no number",)]
    left = client.query_and_wait("SELECT user_id FROM shop_raw.events_batch_staging_1")
    assert [row.user_id for row in left] == [OTHER]
    assert stores.count_in_bigquery(client, DATASETS, {OTHER})["shop_raw.events_batch"] == 1


@pytest.mark.integration
def test_of_a_range_of_rejected_lines_only_the_first_goes_which_no_replay_then_takes_for_a_line(
    bigquery_tables: bigquery_api.Client,
) -> None:
    client, rejects = bigquery_tables, "shop_raw.rejected_events_batch"
    for number, user_id in enumerate((ID, OTHER)):
        reject(client, rejects, lines_of(user_id), f"{user_id}", lines=1_001 + number)
    reject(client, rejects, lines_of(ID), "one line")
    staged = "shop_raw.rejected_events_batch_staging_1"
    client.query_and_wait(f"CREATE TABLE {staged} AS SELECT * REPLACE (TO_BASE64(raw) AS raw) FROM {rejects}")
    assert stores.count_in_bigquery(client, DATASETS, {ID})[rejects] == 2
    for _ in range(2):
        stores.delete_in_bigquery(client, DATASETS, {ID})
        assert set(stores.count_in_bigquery(client, DATASETS, {ID}).values()) == {0}
    left = {
        table: [
            tuple(row)
            for row in client.query_and_wait(f"SELECT LENGTH(raw), detail, lines FROM {table} ORDER BY lines")
        ]
        for table in (rejects, staged)
    }
    whole = len(lines_of(OTHER))
    assert left[rejects] == [(0, RANGE_DETAIL, 1_001), (whole, f"{OTHER}", 1_002)]
    assert left[staged] == [
        (0, RANGE_DETAIL, 1_001),
        (len(base64.b64encode(lines_of(OTHER))), f"{OTHER}", 1_002),
    ]
    [(kept, verdicts)] = judge_day(client, None, Asked(BATCH, None, "a run"), dt.date(2019, 11, 1))
    assert {(reject.lines, verdict) for reject, verdict in zip(kept, verdicts, strict=True)} == {
        (1_001, CUT_OFF),
        (1_002, NO_FILE),
    }


@pytest.mark.integration
def test_rows_that_were_just_streamed_in_are_waited_for_by_name_and_all_others_are_deleted(
    bigquery_tables: bigquery_api.Client,
) -> None:
    client = bigquery_tables
    fill(client, "shop_raw.events_batch", [batch_event(event_id="e", user_id=ID)])
    row: dict[str, Any] = stream_event(event_id="s", user_id=ID)
    typed = {name: str(value) if value is not None else None for name, value in row.items()}
    assert client.insert_rows_json("shop_raw.events_stream", [typed]) == []

    with pytest.raises(
        stores.JustStreamed, match=r"shop_raw\.events_stream: rows that were streamed in by insertAll"
    ):
        stores.delete_in_bigquery(client, DATASETS, {ID})
    found = stores.count_in_bigquery(client, DATASETS, {ID})
    assert {table: rows for table, rows in found.items() if rows} == {"shop_raw.events_stream": 1}
    # Of a customer who is not among these rows nothing is waited for.
    stores.delete_in_bigquery(client, DATASETS, {OTHER})
