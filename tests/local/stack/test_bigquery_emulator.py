"""What the BigQuery emulator does otherwise than as it comes."""

from __future__ import annotations

import os
import time
from datetime import date
from decimal import Decimal
from typing import Any

import grpc
import pyarrow as pa
import pytest
from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
)
from google.cloud import bigquery as bigquery_api
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.cloud.bigquery_storage_v1.types import AppendRowsRequest, AppendRowsResponse, StorageError

pytestmark = pytest.mark.integration

MERGE = """
    MERGE shop.counted AS target
    USING (
        SELECT CAST(n AS STRING) AS id, DATE '2019-11-02' AS day
        FROM UNNEST(GENERATE_ARRAY(1, {new})) AS n
    ) AS built
    ON {matched}
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
    def fastest(matched: str) -> float:
        seconds = []
        for _ in range(3):
            started = time.monotonic()
            client.query_and_wait(MERGE.format(new=50_000, matched=matched))
            seconds.append(time.monotonic() - started)
        return min(seconds)

    # Comparing each with each takes a hundred times as long as hashing both sides for an equality.
    assert fastest("FALSE") < 15 * fastest("target.id || 'old' = built.id || 'new'")
    assert counted(client) == [("2019-11-01", 40_000, 40_000), ("2019-11-02", 50_000, 50_000)]


def test_a_merge_on_false_of_nothing_empties_the_day(client: bigquery_api.Client) -> None:
    client.query_and_wait(MERGE.format(new=0, matched="FALSE"))
    assert counted(client) == [("2019-11-01", 40_000, 40_000)]


def test_a_text_has_the_bytes_of_its_utf8_with_its_backslashes(client: bigquery_api.Client) -> None:
    texts = [r"a\tb", r"\x41", "é\t", "\\"]
    parameter = bigquery_api.ArrayQueryParameter("texts", "STRING", texts)
    config = bigquery_api.QueryJobConfig(query_parameters=[parameter])
    sql = "SELECT TO_HEX(CAST(COALESCE(said, '') AS BYTES)) FROM UNNEST(@texts) AS said ORDER BY 1"
    assert [row[0] for row in client.query_and_wait(sql, job_config=config)] == sorted(
        text.encode().hex() for text in texts
    )


def test_no_copy_of_a_table_is_kept_for_time_travel_when_rows_are_inserted(
    client: bigquery_api.Client,
) -> None:
    insert(client, {"id": "first"})
    [[between]] = client.query_and_wait("SELECT CURRENT_TIMESTAMP()")  # by the emulator's clock, not by ours
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


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"id": "x" * 1_100_000}] * 10, "this has 110"),
        ([{"id": "x"}] * 50_001, "and 50001"),
    ],
    ids=["bytes", "rows"],
)
def test_rows_inserted_at_once_are_no_more_and_no_larger_than_bigquery_takes(
    client: bigquery_api.Client, rows: list[dict[str, object]], told: str
) -> None:
    with pytest.raises(BadRequest, match=rf"at most 10485760 bytes and 50000 rows; .*{told}"):
        insert(client, *rows)
    assert insert(client, *rows[: len(rows) // 2]) == []


def test_no_row_is_streamed_into_a_view(strict: bigquery_api.Client) -> None:
    strict.query_and_wait("CREATE VIEW shop.seen AS SELECT id FROM shop.strict")
    told = "Rows cannot be streamed into seen, which is a VIEW"
    with pytest.raises(BadRequest, match=told):
        strict.insert_rows_json(f"{strict.project}.shop.seen", [{"id": "a"}], timeout=10)
    with pytest.raises(InvalidArgument, match=told):
        append(strict, pa.table({"id": ["a"]}), table="seen")


def test_a_partition_by_its_decorator_is_refused_instead_of_being_written_elsewhere(
    client: bigquery_api.Client,
) -> None:
    partition = f"{client.project}.shop.counted$20191101"
    config = bigquery_api.QueryJobConfig(destination=partition, write_disposition="WRITE_TRUNCATE")
    with pytest.raises(MethodNotImplemented, match=r"counted\$20191101"):
        client.query("SELECT 'a' AS id", job_config=config).result(timeout=10)
    with pytest.raises(MethodNotImplemented, match=r"counted\$20191101"):
        client.load_table_from_uri("gs://shop/a.parquet", partition).result(timeout=10)


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
    MERGE.format(new=1, matched="FALSE"),
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


def append(
    client: bigquery_api.Client, rows: pa.Table, known: pa.Schema | None = None, table: str = "strict"
) -> AppendRowsResponse:
    """Append rows over a connection of its own to a table of shop, by Google's own client."""
    stream = f"projects/{client.project}/datasets/shop/tables/{table}/streams/_default"
    request = AppendRowsRequest(write_stream=stream)
    request.arrow_rows.writer_schema.serialized_schema = (known or rows.schema).serialize().to_pybytes()
    for batch in rows.to_batches():
        request.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
    channel = grpc.insecure_channel(
        os.environ["BIGQUERY_STORAGE_EMULATOR_HOST"], [("grpc.max_send_message_length", -1)]
    )
    with channel:
        write = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
        [answer] = write.append_rows(iter([request]))
    return answer


@pytest.fixture
def strict(bigquery_clean: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with shop.strict, partitioned by its required day, with a string and a price."""
    bigquery_clean.create_dataset("shop")
    kinds = [("day", "DATE", "REQUIRED"), ("id", "STRING", "NULLABLE"), ("price", "NUMERIC", "NULLABLE")]
    table = bigquery_api.Table(
        f"{bigquery_clean.project}.shop.strict", [bigquery_api.SchemaField(*kind) for kind in kinds]
    )
    table.time_partitioning = bigquery_api.TimePartitioning(field="day")
    bigquery_clean.create_table(table)
    return bigquery_clean


DAY = date(2019, 11, 1)


def stored(client: bigquery_api.Client) -> list[tuple[object, ...]]:
    sql = "SELECT day, id, price FROM shop.strict WHERE day >= '2000-01-01' ORDER BY id"
    return [tuple(row) for row in client.query_and_wait(sql)]


def test_appended_rows_are_there_at_once_whatever_the_order_of_their_columns(
    strict: bigquery_api.Client,
) -> None:
    price = pa.array([Decimal("0.5"), None], pa.decimal128(20, 2))

    answer = append(strict, pa.table({"price": price, "id": ["a", "b"], "day": [DAY, DAY]}))
    append(strict, pa.table({"day": [DAY]}))

    assert not answer.error.code
    assert stored(strict) == [(DAY, None, None), (DAY, "a", Decimal("0.5")), (DAY, "b", None)]
    for change in ("DELETE FROM shop.strict WHERE day = DATE '2019-11-01'", "TRUNCATE TABLE shop.strict"):
        with pytest.raises(BadRequest, match="strict would affect rows in the streaming buffer"):
            strict.query(change).result()


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (pa.table({"day": [DAY], "id": ["a"], "colour": ["red"]}), "extra fields: colour"),
        (
            pa.table({"day": [DAY], "id": [1]}),
            "The field id has the Arrow type int64; its column takes string.",
        ),
        (
            pa.table({"day": pa.array([0], pa.timestamp("us"))}),
            "The field day has the Arrow type timestamp[us]; its column takes date32[day].",
        ),
        (
            pa.table({"day": [DAY], "price": pa.array([Decimal(1)], pa.decimal128(38, 10))}),
            "The field price has the Arrow type decimal128(38, 10)",
        ),
        (pa.table({"day": [DAY], "id": ["x" * 10_000_000]}), "A request has less than 10000000 bytes"),
    ],
    ids=["column", "type", "time", "scale", "size"],
)
def test_rows_that_do_not_fit_their_table_are_refused_together(
    strict: bigquery_api.Client, rows: pa.Table, told: str
) -> None:
    answer = append(strict, rows)

    assert answer.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert told in answer.error.message
    assert not answer.row_errors
    assert stored(strict) == []
    codes = []
    for detail in answer.error.details:
        error = StorageError.pb(StorageError())
        assert detail.Unpack(error)
        codes.append(StorageError.StorageErrorCode(error.code).name)
    assert codes == (["SCHEMA_MISMATCH_EXTRA_FIELDS"] if "colour" in rows.column_names else [])


def test_of_rows_appended_together_none_stays_if_one_is_bad_and_each_bad_one_is_told(
    strict: bigquery_api.Client,
) -> None:
    days = [DAY, None, date(2219, 11, 1), None]

    answer = append(strict, pa.table({"day": pa.array(days, pa.date32()), "id": list("abcd")}))

    assert answer.error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert {error.index: error.message.partition(" of day")[0] for error in answer.row_errors} == {
        1: "Missing required field: day.",
        2: "The day 2219-11-01",
        3: "Missing required field: day.",
    }
    assert stored(strict) == []


def test_rows_that_are_no_record_batch_of_their_schema_are_refused(strict: bigquery_api.Client) -> None:
    answer = append(
        strict, pa.table({"id": ["a"]}), known=pa.schema([("day", pa.date32()), ("id", pa.int64())])
    )

    assert "no Arrow record batch of the writer's schema" in answer.error.message
    assert stored(strict) == []


def test_rows_for_a_table_that_is_not_there_end_the_connection(bigquery_clean: bigquery_api.Client) -> None:
    with pytest.raises(NotFound, match=r"Entity: projects/.*/tables/strict/streams/_default"):
        append(bigquery_clean, pa.table({"id": ["a"]}))
