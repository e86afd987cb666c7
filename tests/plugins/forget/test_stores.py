"""Customers are taken out of Spanner and BigQuery, on the emulators, and so is nobody else."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1.database import Database

from beam_jobs.identity import shard
from shopstream.forget import stores
from shopstream.forget.customers import RANGE_DETAIL
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


@pytest.mark.integration
def test_the_rows_of_spanner_go_by_the_customer_alone_whatever_loaded_them(
    spanner_database: Database,
) -> None:
    columns = ("shard", "event_date", "user_id", "event_time", "event_id", "landing_day", "event_type",
               "product_id", "category_id", "price", "load_id")  # fmt: skip
    days = [dt.date(2019, 11, day) for day in (1, 2, 3)]
    with spanner_database.batch() as batch:
        batch.insert(
            "loaded_events",
            columns,
            [
                (shard(user_id), day, user_id, dt.datetime(2019, 11, 1, tzinfo=dt.UTC), f"{user_id}", day,
                 "view", ID, 1, "1", f"load {day}")
                for user_id in (ID, OTHER, ID + 16)
                for day in days
            ],
        )  # fmt: skip
    assert stores.count_in_spanner(spanner_database, {ID, 8}) == {"loaded_events": 3}
    for _ in range(2):
        stores.delete_in_spanner(spanner_database, {ID, 8})
        assert stores.count_in_spanner(spanner_database, {ID}) == {"loaded_events": 0}
        assert stores.count_in_spanner(spanner_database, {OTHER, ID + 16}) == {"loaded_events": 6}


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

    found = stores.count_in_bigquery(client, DATASETS, {ID})
    assert {table: rows for table, rows in found.items() if rows} == {
        "shop_raw.events_batch": 1,
        "shop_raw.events_batch_staging_1": 1,
        "shop_raw.events_stream": 1,
        rejects: 3,
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

    with pytest.raises(stores.JustStreamed, match=r"shop_raw\.events_stream: rows that were streamed in"):
        stores.delete_in_bigquery(client, DATASETS, {ID})
    found = stores.count_in_bigquery(client, DATASETS, {ID})
    assert {table: rows for table, rows in found.items() if rows} == {"shop_raw.events_stream": 1}
    # Of a customer who is not among these rows nothing is waited for.
    stores.delete_in_bigquery(client, DATASETS, {OTHER})
