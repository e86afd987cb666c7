"""Rows to BigQuery: what it takes is written, what it refuses is told, what fails for now is tried again."""

from __future__ import annotations

import collections
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pyarrow as pa
import pytest
from google.api_core import exceptions
from google.cloud import bigquery as bigquery_api
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo

from beam_jobs import bigquery_sink
from beam_jobs.bigquery_sink import (
    MAX_REFUSALS_IN_A_ROW,
    MAX_REQUEST_BYTES,
    BigQuerySink,
    BigQueryTableError,
    BigQueryUnavailable,
)
from beam_jobs.messages import STREAM_SCHEMA
from beam_jobs.rejected import STREAM_REJECTS
from shopstream.settings import settings
from shopstream.tables.folder import load_table
from tests.beam_jobs.bigquery_server import (
    TAKEN,
    Answer,
    failed,
    lacking,
    refused,
    serving,
    taken_by_a_changed_table,
)
from tests.local.dataflow.service import until

TABLE = "example.com:shop:shop_raw.events_stream"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@dataclass
class Sent:
    """The ids of each request that BigQuery was sent, and how many connections were opened."""

    requests: list[list[int]] = field(default_factory=list)
    connections: Callable[[], int] = lambda: 0


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A sink whose BigQuery gives these answers in turn, then takes all; and what it was sent."""

    @contextmanager
    def start(*answers: Answer, retry_seconds: float = 20.0) -> Iterator[tuple[BigQuerySink, Sent]]:
        left = list(answers)
        sent = Sent()

        def answer(rows: list[dict[str, Any]]) -> Answer:
            sent.requests.append([row["id"] for row in rows])
            return left.pop(0) if left else TAKEN

        with serving(answer) as (host, service):
            monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", host)
            sent.connections = lambda: service.connections
            yield BigQuerySink(TABLE, retry_seconds), sent

    return start


def rows(count: int, size: int = 1) -> pa.Table:
    return pa.table({"id": range(count), "brand": ["x" * size] * count})


def test_rows_are_sent_in_their_order_and_nothing_for_none(answering: Callable[..., Any]) -> None:
    with answering() as (sink, sent):
        assert sink.append(rows(3)) == []
        assert sink.append(rows(0)) == []
        assert sink.append(pa.concat_tables([rows(2), rows(1)])) == []

    assert sent.requests == [[0, 1, 2], [0, 1, 0]]


def test_no_request_has_more_bytes_than_bigquery_takes(answering: Callable[..., Any]) -> None:
    with answering() as (sink, sent):
        sink.append(rows(5, size=MAX_REQUEST_BYTES * 2 // 5))

    assert sent.requests == [[0, 1], [2], [3, 4]]


def test_sinks_of_one_table_and_process_share_a_connection_whichever_thread_they_are_in(
    answering: Callable[..., Any],
) -> None:
    with answering() as (_, sent):
        threads = [
            threading.Thread(target=lambda size=size: BigQuerySink(TABLE).append(rows(size)))
            for size in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(sent.requests, key=len) == [list(range(size)) for size in range(1, 9)]
    assert sent.connections() == 1


@pytest.mark.parametrize(
    "answer",
    [
        failed(grpc.StatusCode.INTERNAL),
        failed(grpc.StatusCode.ABORTED),
        failed(grpc.StatusCode.RESOURCE_EXHAUSTED),
        UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    ],
    ids=lambda answer: str(answer).replace("\n", " "),
)
def test_a_request_that_fails_for_now_is_sent_again(answering: Callable[..., Any], answer: Answer) -> None:
    with answering(answer, answer) as (sink, sent):
        assert sink.append(rows(2)) == []

    assert sent.requests == [[0, 1]] * 3
    assert sent.connections() == (3 if isinstance(answer, grpc.StatusCode) else 1)


def test_a_request_that_is_not_answered_is_sent_again(
    answering: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bigquery_sink, "REQUEST_TIMEOUT_SECONDS", 0.2)
    released = threading.Event()

    def late() -> Any:
        released.wait(30)
        return TAKEN

    with answering(late) as (sink, sent):
        assert sink.append(rows(2)) == []
        released.set()

    assert sent.requests == [[0, 1]] * 2


def test_of_a_request_with_bad_rows_the_others_are_sent_again(answering: Callable[..., Any]) -> None:
    with answering(refused(1, 3), refused(0, message="late")) as (sink, sent):
        refusals = sink.append(rows(5))

    assert sent.requests == [[0, 1, 2, 3, 4], [0, 2, 4], [2, 4]]
    assert refusals == [(0, "late"), (1, "told"), (3, "told")]


def test_refused_rows_are_told_in_order_by_their_index_in_all_rows(answering: Callable[..., Any]) -> None:
    with answering(TAKEN, refused(0), TAKEN, TAKEN, refused(1, 0)) as (sink, _):
        refusals = sink.append(rows(6, size=MAX_REQUEST_BYTES * 2 // 5))

    assert [refusal.row for refusal in refusals] == [1, 4, 5]


def test_a_request_refused_for_one_row_is_halved_until_that_row_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[int] = []

    def answer(sent: list[dict[str, Any]]) -> Answer:
        ids = [row["id"] for row in sent]
        if 5 in ids:
            return failed(INVALID, "the row is too large")
        taken.extend(ids)
        return TAKEN

    with serving(answer) as (host, _):
        monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", host)
        refusals = BigQuerySink(TABLE).append(rows(9))

    assert [refusal.row for refusal in refusals] == [5]
    assert refusals[0].detail == "INVALID_ARGUMENT: the row is too large"
    assert sorted(taken) == [0, 1, 2, 3, 4, 6, 7, 8]


def test_what_ends_a_connection_is_blamed_on_the_request_that_was_to_be_answered_alone(
    answering: Callable[..., Any],
) -> None:
    arrived, released = threading.Event(), threading.Event()

    def hold() -> Any:
        arrived.set()
        released.wait(30)
        raise ValueError("the server breaks")

    found: dict[int, Any] = {}
    with answering(hold) as (_, sent):
        threads = [
            threading.Thread(
                target=lambda size=size: found.update({size: BigQuerySink(TABLE).append(rows(size))})
            )
            for size in (1, 2)
        ]
        threads[0].start()
        arrived.wait(30)
        threads[1].start()
        released.set()
        for thread in threads:
            thread.join()

    assert found == {1: [], 2: []}
    assert sent.connections() == 2


@pytest.mark.parametrize("is_connection", [True, False])
def test_a_missing_table_is_told_at_once_with_what_to_do(
    answering: Callable[..., Any], is_connection: bool
) -> None:
    code = grpc.StatusCode.NOT_FOUND
    with (
        answering(code if is_connection else failed(code)) as (sink, sent),
        pytest.raises(
            BigQueryTableError,
            match=r"no table example\.com:shop\.shop_raw\.events_stream; run .* apply_schemas.*told by",
        ),
    ):
        sink.append(rows(1))
    assert len(sent.requests) == 1


def test_a_missing_permission_is_told_at_once_with_the_role(answering: Callable[..., Any]) -> None:
    with (
        answering(grpc.StatusCode.PERMISSION_DENIED) as (sink, sent),
        pytest.raises(BigQueryTableError, match=r"roles/bigquery\.dataEditor.*told by BigQuery"),
    ):
        sink.append(rows(1))
    assert len(sent.requests) == 1


@pytest.mark.parametrize("answer", [UNAVAILABLE, failed(grpc.StatusCode.INTERNAL)], ids=["ends", "refuses"])
def test_an_outage_that_lasts_is_told_with_bigquerys_last_word(
    answering: Callable[..., Any], answer: Answer
) -> None:
    with (
        answering(*[answer] * 100, retry_seconds=1.0) as (sink, sent),
        pytest.raises(BigQueryUnavailable, match=r"did not take 1 rows .* within 1 seconds: .*told"),
    ):
        sink.append(rows(1))
    assert len(sent.requests) > 1


def test_a_bigquery_that_does_not_listen_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", f"127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(BigQueryUnavailable, match="refused"):
            BigQuerySink(TABLE, retry_seconds=0.5).append(rows(1))


def test_rows_with_a_field_that_bigquery_does_not_know_yet_wait_for_it_on_new_connections(
    answering: Callable[..., Any],
) -> None:
    with answering(lacking("gift_wrapped"), lacking("gift_wrapped")) as (sink, sent):
        assert sink.append(rows(3)) == []

    assert sent.requests == [[0, 1, 2]] * 3
    assert sent.connections() == 3


@pytest.mark.parametrize(
    "answer",
    [lacking("gift_wrapped"), refused(0, message="Missing required field: gift_wrapped.")],
    ids=["lacks", "requires"],
)
def test_a_field_that_bigquery_never_knows_fails_and_rejects_no_row(
    answering: Callable[..., Any], answer: Answer
) -> None:
    with (
        answering(*[answer] * 50, retry_seconds=0.5) as (sink, _),
        pytest.raises(BigQueryTableError, match=r"run the DAG apply_schemas.*gift_wrapped"),
    ):
        sink.append(rows(1))


def test_a_table_that_has_changed_is_written_to_over_a_new_connection(answering: Callable[..., Any]) -> None:
    with answering(TAKEN, taken_by_a_changed_table) as (sink, sent):
        for _ in range(4):
            assert sink.append(rows(1)) == []

    assert sent.requests == [[0]] * 4
    assert sent.connections() == 2


def test_a_bad_row_beside_a_field_not_known_yet_is_still_found(answering: Callable[..., Any]) -> None:
    behind = refused(0, message="Missing required field: gift_wrapped.")
    behind.row_errors.extend(refused(1).row_errors)
    with answering(behind) as (sink, sent):
        assert [refusal.row for refusal in sink.append(rows(2))] == [1]

    assert sent.requests == [[0, 1], [0]]


def test_a_bad_row_whose_text_reads_like_a_fault_of_the_schema_is_refused_at_once(
    answering: Callable[..., Any],
) -> None:
    with answering(refused(0, message="Bad value: Missing required field: x.")) as (sink, sent):
        assert [refusal.row for refusal in sink.append(rows(2))] == [0]

    assert sent.requests == [[0, 1], [1]]


@pytest.mark.parametrize("rows_a_request", [1, 300])
def test_a_table_that_refuses_every_row_fails_and_acknowledges_nothing(
    answering: Callable[..., Any], rows_a_request: int
) -> None:
    every = refused(*range(rows_a_request))
    with (
        answering(*[every] * 200) as (sink, sent),
        pytest.raises(BigQueryTableError, match="a table that does not fit"),
    ):
        collections.deque((sink.append(rows(rows_a_request)) for _ in range(200)), maxlen=0)

    assert sum(map(len, sent.requests)) - rows_a_request <= MAX_REFUSALS_IN_A_ROW


def test_a_request_refused_whole_for_the_table_is_not_halved_to_its_last_row(
    answering: Callable[..., Any],
) -> None:
    with (
        answering(*[failed(INVALID)] * 2000) as (sink, sent),
        pytest.raises(BigQueryTableError, match=r"a table that does not fit.*told by BigQuery"),
    ):
        sink.append(rows(1000))

    assert len(sent.requests) < 3 * MAX_REFUSALS_IN_A_ROW


def test_bad_rows_among_good_ones_are_never_the_tables_fault(answering: Callable[..., Any]) -> None:
    bad = refused(*range(MAX_REFUSALS_IN_A_ROW))
    with answering(bad, TAKEN, bad, TAKEN, bad, TAKEN) as (sink, _):
        for _ in range(3):
            assert len(sink.append(rows(MAX_REFUSALS_IN_A_ROW + 1))) == MAX_REFUSALS_IN_A_ROW


@pytest.mark.parametrize(
    ("name", "schema", "absent"),
    [
        ("events_stream", STREAM_SCHEMA, set()),
        ("rejected_events_stream", STREAM_REJECTS, {"load_id", "file", "byte_offset"}),
    ],
)
def test_the_columns_that_are_sent_are_those_of_the_table_and_null_where_it_allows_it(
    name: str, schema: pa.Schema, absent: set[str]
) -> None:
    fields = load_table(settings().sql_dir, f"shop_raw.{name}").schema

    assert {field.name for field in fields} == set(schema.names) | absent
    for of_table in fields:
        if of_table.name not in absent:
            assert (of_table.mode == "NULLABLE") == schema.field(of_table.name).nullable, of_table.name
        else:
            assert of_table.mode == "NULLABLE"


def test_an_error_that_tells_more_than_we_know_of_is_an_error_of_its_rows() -> None:
    # As google.api_core gives what stands at a call's end: unpacked what it knows, packed what it does not.
    details = [ErrorInfo(reason="badRequest"), AnyMessage(type_url="type.googleapis.com/other")]
    error = exceptions.InvalidArgument("no", details=details)
    assert not bigquery_sink._tells_of_extra_fields(error)


@pytest.mark.integration
def test_a_column_that_the_table_gets_is_written_to_by_a_job_that_runs_already(
    bigquery_clean: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    bigquery_clean.create_dataset("shop_raw")
    table = bigquery_api.Table(
        f"{settings().project}.shop_raw.grown", [bigquery_api.SchemaField("id", "INT64")]
    )
    table = bigquery_clean.create_table(table)
    sink = BigQuerySink(f"{settings().project}:shop_raw.grown")
    assert sink.append(rows(1).select(["id"])) == []

    writing = threading.Thread(target=lambda: sink.append(rows(2)))
    writing.start()
    until(lambda: "extra fields: brand" in caplog.text, "the rows to be refused")
    # Of the emulator each changes a half.
    bigquery_clean.query_and_wait("ALTER TABLE shop_raw.grown ADD COLUMN brand STRING")
    table.schema = [*table.schema, bigquery_api.SchemaField("brand", "STRING")]
    bigquery_clean.update_table(table, ["schema"])
    writing.join()

    found = list(bigquery_clean.query_and_wait("SELECT id, brand FROM shop_raw.grown ORDER BY brand, id"))
    assert [tuple(row) for row in found] == [(0, None), (0, "x"), (1, "x")]
