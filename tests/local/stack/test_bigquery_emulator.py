"""What the BigQuery emulator does otherwise than as it comes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.cloud import bigquery as bigquery_api

pytestmark = pytest.mark.integration

MERGE = """
    MERGE {table} AS target
    USING (
        SELECT CAST(n AS STRING) AS id, DATE '2019-11-02' AS day
        FROM UNNEST(GENERATE_ARRAY(1, {new})) AS n
    ) AS built
    ON FALSE
    WHEN NOT MATCHED BY SOURCE AND target.day = DATE '2019-11-02' THEN DELETE
    WHEN NOT MATCHED BY TARGET THEN INSERT (day, id) VALUES (day, id)"""


@pytest.fixture
def client(bigquery_clean: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with the table shop.counted: 40,000 rows of 2019-11-01 and 40,000 of 2019-11-02."""
    bigquery_clean.create_dataset("shop")
    fill(bigquery_clean, "shop.counted", 40_000)
    return bigquery_clean


def fill(client: bigquery_api.Client, table: str, rows: int) -> None:
    client.query_and_wait(f"CREATE TABLE {table} (id STRING, day DATE)")
    client.query_and_wait(
        f"INSERT INTO {table} (id, day) SELECT CAST(n AS STRING), day "
        f"FROM UNNEST(GENERATE_ARRAY(1, {rows})) AS n, UNNEST([DATE '2019-11-01', DATE '2019-11-02']) AS day"
    )


def counted(client: bigquery_api.Client) -> list[tuple[object, ...]]:
    sql = "SELECT day, COUNT(*), COUNT(DISTINCT id) FROM shop.counted GROUP BY day ORDER BY day"
    return [(str(day), *counts) for day, *counts in client.query_and_wait(sql)]


def test_a_merge_on_false_replaces_the_day_without_comparing_each_row_with_each(
    client: bigquery_api.Client,
) -> None:
    fill(client, "shop.few", 10_000)

    def fastest(table: str, new: int) -> float:
        seconds = []
        for _ in range(3):
            started = time.monotonic()
            client.query_and_wait(MERGE.format(table=table, new=new))
            seconds.append(time.monotonic() - started)
        return min(seconds)

    # Comparing each with each, four times the rows take sixteen times as long.
    assert fastest("shop.counted", 50_000) < 8 * fastest("shop.few", 12_500)
    assert counted(client) == [("2019-11-01", 40_000, 40_000), ("2019-11-02", 50_000, 50_000)]


def test_a_merge_on_false_of_nothing_empties_the_day(client: bigquery_api.Client) -> None:
    client.query_and_wait(MERGE.format(table="shop.counted", new=0))
    assert counted(client) == [("2019-11-01", 40_000, 40_000)]


def test_no_copy_of_a_table_is_kept_for_time_travel_when_rows_are_inserted(
    client: bigquery_api.Client,
) -> None:
    insert(client, {"id": "first"})
    between = datetime.now(UTC)
    insert(client, {"id": "second"})

    rows = client.query_and_wait(
        f"SELECT id FROM shop.counted FOR SYSTEM_TIME AS OF TIMESTAMP '{between.isoformat()}' "
        "WHERE day IS NULL ORDER BY id"
    )
    assert [row.id for row in rows] == ["first", "second"]  # With a copy it would be the first alone.


def test_of_rows_inserted_at_once_the_valid_ones_stay_and_the_others_are_told(
    client: bigquery_api.Client,
) -> None:
    errors = insert(client, {"id": "a", "day": None}, {"id": "b", "day": "no day"}, {"id": "c", "day": None})

    assert [error["index"] for error in errors] == [1]
    assert [error["reason"] for error in errors[0]["errors"]] == ["invalid"]
    rows = client.query_and_wait("SELECT id FROM shop.counted WHERE day IS NULL ORDER BY id")
    assert [row.id for row in rows] == ["a", "c"]


def insert(client: bigquery_api.Client, *rows: dict[str, object]) -> list[dict[str, Any]]:
    table = f"{client.project}.shop.counted"
    return list(client.insert_rows_json(table, list(rows), skip_invalid_rows=True, timeout=10))


def test_a_row_with_a_field_that_the_table_lacks_or_without_one_it_requires_is_refused(
    bigquery_clean: bigquery_api.Client,
) -> None:
    bigquery_clean.create_dataset("shop")
    bigquery_clean.query_and_wait("CREATE TABLE shop.strict (id STRING NOT NULL, n INT64)")
    rows = [{"id": "0", "n": 0}, {"id": "1", "colour": "red"}, {"n": 2}, {"id": "3", "n": "x"}]

    told = bigquery_clean.insert_rows_json("shop.strict", rows, skip_invalid_rows=True)

    assert {entry["index"]: entry["errors"][0]["message"] for entry in told} == {
        1: "no such field: colour.",
        2: "Missing required field: id.",
        3: "Cannot convert value to string (bad value): 3",
    }
    assert [tuple(row) for row in bigquery_clean.query_and_wait("SELECT id, n FROM shop.strict")] == [
        ("0", 0)
    ]


def test_a_statement_is_translated_anew_for_a_table_that_has_other_columns_now(
    client: bigquery_api.Client,
) -> None:
    average = "SELECT AVG(number) AS average FROM shop.numbers"
    client.query_and_wait("CREATE TABLE shop.numbers AS SELECT NUMERIC '0.1' AS number")
    as_numeric = [(row["average"], type(row["average"])) for row in client.query_and_wait(average)]

    client.query_and_wait("CREATE OR REPLACE TABLE shop.numbers AS SELECT CAST(0.1 AS FLOAT64) AS number")
    as_float = [(row["average"], type(row["average"])) for row in client.query_and_wait(average)]

    assert as_numeric == [(Decimal("0.1"), Decimal)]
    assert as_float == [(0.1, float)]


def test_a_load_job_of_more_than_10_000_uris_is_refused(client: bigquery_api.Client) -> None:
    uris = [f"gs://bucket/{number}.jsonl" for number in range(10_001)]
    config = bigquery_api.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON")
    with pytest.raises(BadRequest, match="Too many source URIs: 10001"):
        client.load_table_from_uri(uris, "shop.counted", job_config=config).result(timeout=10)


CHANGES = (
    "UPDATE shop.counted SET id = 'x' WHERE day = DATE '2019-11-01'",
    "DELETE FROM shop.counted WHERE day = DATE '2019-11-01'",
    "DELETE FROM `shopstream-local`.shop.counted WHERE day = DATE '2019-11-01'",
    "TRUNCATE TABLE shop.counted",
    "SELECT 1; TRUNCATE TABLE shop.counted",
    MERGE.format(table="shop.counted", new=1),
)


def test_rows_streamed_a_moment_ago_are_neither_changed_nor_deleted(client: bigquery_api.Client) -> None:
    assert insert(client, {"id": "streamed"}) == []

    for change in CHANGES:
        with pytest.raises(BadRequest, match="counted would affect rows in the streaming buffer") as refusal:
            client.query(change).result()
        assert refusal.value.errors[0]["reason"] == "invalidQuery", change
    client.query_and_wait("INSERT INTO shop.counted (id) VALUES ('inserted')")

    sql = "SELECT id FROM shop.counted WHERE day IS NULL ORDER BY id"
    assert [row.id for row in client.query_and_wait(sql)] == ["inserted", "streamed"]
    assert counted(client)[1:] == [("2019-11-01", 40_000, 40_000), ("2019-11-02", 40_000, 40_000)]


def test_a_table_made_anew_or_into_which_no_row_was_streamed_may_be_changed(
    client: bigquery_api.Client,
) -> None:
    assert len(insert(client, {"id": "a", "day": "no day"})) == 1
    client.query_and_wait("DELETE FROM shop.counted WHERE day = DATE '2019-11-01'")
    assert insert(client, {"id": "streamed"}) == []
    client.delete_table("shop.counted")
    fill(client, "shop.counted", 1)

    client.query_and_wait("DELETE FROM shop.counted WHERE day = DATE '2019-11-01'")

    assert counted(client) == [("2019-11-02", 1, 1)]


@pytest.mark.parametrize(
    ("sql", "failure"),
    [
        ("SELECT ERROR('stop')", BadRequest),
        ("SELECT no_such_column FROM shop.counted", BadRequest),
        ("SELECT * FROM shop.no_such_table", NotFound),
    ],
)
def test_a_statement_that_fails_is_an_error_by_whichever_call_it_is_sent(
    client: bigquery_api.Client, sql: str, failure: type[Exception]
) -> None:
    with pytest.raises(failure):
        client.query(sql).result()
    with pytest.raises(failure):
        client.query_and_wait(sql)


def test_a_second_job_of_an_id_is_refused_and_the_first_is_told(client: bigquery_api.Client) -> None:
    insert = "INSERT INTO shop.counted (id, day) VALUES ('new', DATE '2019-11-03')"
    client.query(insert, job_id="one", job_retry=None).result()
    with pytest.raises(Conflict, match="Already Exists: Job"):
        client.query(insert, job_id="one", job_retry=None)
    assert client.get_job("one").state == "DONE"
    assert counted(client)[2:] == [("2019-11-03", 1, 1)]


def test_the_id_of_a_job_is_used_up_whether_it_ended_well_or_not(client: bigquery_api.Client) -> None:
    client.query("INSERT INTO shop.counted (id) VALUES ('once')", job_id="well", job_retry=None).result()
    with pytest.raises(BadRequest):
        client.query("SELECT ERROR('stop')", job_id="badly", job_retry=None).result()
    for job_id in ("well", "badly"):
        with pytest.raises(Conflict, match=f"Already Exists: Job .*{job_id}"):
            client.query("INSERT INTO shop.counted (id) VALUES ('twice')", job_id=job_id, job_retry=None)
    assert [row.id for row in client.query_and_wait("SELECT id FROM shop.counted WHERE day IS NULL")] == [
        "once"
    ]
