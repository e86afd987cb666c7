from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1 import param_types
from google.cloud.spanner_v1.database import Database
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.contract import COLUMN_NAMES, COLUMNS, INT64_MAX, SHARDS
from beam_jobs.identity import EVENT_ID_SQL, SHARD_SQL, canonical_price, event_id, event_ids, shard, shards

EVENT: dict[str, Any] = {
    "event_time": datetime(2019, 11, 1, tzinfo=UTC),
    "event_type": "view",
    "product_id": 1003461,
    "category_id": 2053013555631882655,
    "category_code": "electronics.smartphone",
    "brand": "xiaomi",
    "price": Decimal("489.07"),
    "user_id": 520088904,
    "user_session": "4d3b30da-a5e4-49df-b1a8-ba5943f1dd33",
}
EDGES: list[dict[str, Any]] = [
    EVENT,
    {**EVENT, "category_code": None, "brand": None, "user_session": None},
    {**EVENT, "brand": "nan"},
    {**EVENT, "brand": "日本 'ß' \\x1f 🛒"},
    *({**EVENT, "price": Decimal(price)} for price in ("0", "35.7", "35.70", "100", "10.01", "0.000000001")),
    {**EVENT, "price": Decimal("9" * 29 + "." + "9" * 9)},
    {**EVENT, "price": Decimal("1" + "0" * 28)},
    {**EVENT, "product_id": 0, "category_id": INT64_MAX, "user_id": INT64_MAX},
    {**EVENT, "user_id": 0},
    {**EVENT, "user_id": 2**31},
    {**EVENT, "event_time": datetime(2019, 11, 1, 0, 0, 0, 500_000, tzinfo=UTC)},
    {**EVENT, "event_time": datetime(2019, 11, 1, 10, 20, 30, 1, tzinfo=UTC)},
    {**EVENT, "event_time": datetime(1969, 12, 31, 23, 59, 59, 999_990, tzinfo=UTC)},
    {**EVENT, "event_time": datetime(1, 1, 1, tzinfo=UTC)},
    {**EVENT, "event_time": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)},
    {**EVENT, "event_time": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)},
]
PARAMETERS = ", ".join(f"@{name} AS {name}" for name in COLUMN_NAMES)
SQL = f"SELECT {EVENT_ID_SQL}, {SHARD_SQL} FROM (SELECT {PARAMETERS})"


def test_the_id_is_half_the_sha256_of_the_fields_joined_by_the_unit_separator() -> None:
    # echo -n '2019-11-01 00:00:00 UTC,view,...' | tr , '\037' | sha256sum | cut -c 1-32
    assert event_id(**EVENT) == "c491cdf1082dda23bb43ac3c1b7c7404"


@pytest.mark.parametrize(
    ("price", "text"),
    [
        ("0.000", "0"),
        ("35.70", "35.7"),
        ("100", "100"),
        ("1E+2", "100"),
        ("100.10", "100.1"),
        ("1E-9", "0.000000001"),
    ],
)
def test_a_price_has_one_canonical_form(price: str, text: str) -> None:
    assert canonical_price(Decimal(price)) == text


@pytest.mark.parametrize("column", COLUMN_NAMES)
def test_events_that_differ_in_one_field_have_different_ids(column: str) -> None:
    kind = {item.name: item.kind for item in COLUMNS}[column]
    others = {
        "timestamp": datetime(2019, 11, 1, 0, 0, 1, tzinfo=UTC),
        "event_type": "cart",
        "int64": 4890,
        "numeric": Decimal("489.070000001"),
        "string": "electronics",
    }
    assert event_id(**{**EVENT, column: others[kind]}) != event_id(**EVENT)


FIELD = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=3) | st.sampled_from(
    ["a", "b", "", ","]
)
ROW = st.lists(FIELD, min_size=9, max_size=9)


@given(ROW, ROW)
def test_only_equal_fields_have_equal_ids(one: list[str], other: list[str]) -> None:
    ids = event_ids([pa.array(pair) for pair in zip(one, other, strict=True)]).to_pylist()
    assert (ids[0] == ids[1]) == (one == other)


def test_ids_of_columns_are_those_of_single_events() -> None:
    canonical = [pa.array([_canonical(event[name]) for event in EDGES], pa.string()) for name in COLUMN_NAMES]
    assert event_ids(canonical).to_pylist() == [event_id(**event) for event in EDGES]
    assert event_ids([column.slice(3, 5) for column in canonical]).to_pylist() == [
        event_id(**event) for event in EDGES[3:8]
    ]
    assert event_ids([column.slice(0, 0) for column in canonical]).to_pylist() == []


def test_a_null_counts_as_empty() -> None:
    columns = [pa.array(["a", "a"])] * 8 + [pa.array(["", None])]
    assert len(set(event_ids(columns).to_pylist())) == 1


@given(st.lists(st.integers(0, INT64_MAX)))
def test_shards_of_a_column_are_those_of_single_users(user_ids: list[int]) -> None:
    assert shards(np.array(user_ids, np.int64)).tolist() == [shard(user_id) for user_id in user_ids]


def test_neighbouring_users_spread_evenly_over_all_shards() -> None:
    rows = np.bincount(shards(np.arange(512_000_000, 512_100_000)), minlength=SHARDS)
    assert len(rows) == SHARDS
    assert rows.min() > 0.9 * rows.mean()
    assert rows.max() < 1.1 * rows.mean()


@pytest.mark.integration
def test_spanner_computes_the_same_ids_and_shards(spanner_database: Database) -> None:
    kinds = {
        "timestamp": param_types.TIMESTAMP,
        "event_type": param_types.STRING,
        "int64": param_types.INT64,
        "numeric": param_types.NUMERIC,
        "string": param_types.STRING,
    }
    types = {column.name: kinds[column.kind] for column in COLUMNS}
    for event in EDGES:
        with spanner_database.snapshot() as snapshot:
            [row] = snapshot.execute_sql(SQL, params=event, param_types=types)
        assert tuple(row) == (event_id(**event), shard(event["user_id"])), event


@pytest.mark.integration
def test_bigquery_computes_the_same_ids_and_shards(bigquery: bigquery_api.Client) -> None:
    kinds = {
        "timestamp": "TIMESTAMP",
        "event_type": "STRING",
        "int64": "INT64",
        "numeric": "NUMERIC",
        "string": "STRING",
    }
    for event in EDGES:
        parameters = [
            bigquery_api.ScalarQueryParameter(column.name, kinds[column.kind], event[column.name])
            for column in COLUMNS
        ]
        job = bigquery.query(SQL, bigquery_api.QueryJobConfig(query_parameters=parameters))
        [row] = job.result(timeout=60)
        assert tuple(row) == (event_id(**event), shard(event["user_id"])), event


def _canonical(value: object) -> str | None:
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(" ")
        return (text.rstrip("0") if value.microsecond else text) + " UTC"
    if isinstance(value, Decimal):
        return canonical_price(value)
    return value if value is None else str(value)
