"""Rows to BigQuery: what it takes is written, what it refuses is told, what fails for now is tried again."""

from __future__ import annotations

import collections
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from beam_jobs.bigquery_sink import (
    MAX_REFUSALS_IN_A_ROW,
    MAX_REQUEST_BYTES,
    MAX_REQUEST_ROWS,
    BigQuerySink,
    BigQueryTableError,
    BigQueryUnavailable,
)
from tests.beam_jobs.bigquery_server import TAKEN, Answer, failed, not_taken, serving

TABLE = "example.com:shop:shop_raw.events_stream"
Requests = list[list[str]]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A sink whose BigQuery gives these answers in turn, then takes all; and the insert ids it was sent."""

    @contextmanager
    def start(*answers: Answer, retry_seconds: float = 20.0) -> Iterator[tuple[BigQuerySink, Requests]]:
        left = list(answers)
        requests: Requests = []

        def answer(rows: list[dict[str, Any]]) -> Answer:
            requests.append([row["insertId"] for row in rows])
            return left.pop(0) if left else TAKEN

        with serving(answer) as url:
            monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
            yield BigQuerySink(TABLE, retry_seconds), requests

    return start


def rows(count: int, size: int = 1) -> tuple[list[dict[str, str]], list[str]]:
    return [{"brand": "x" * size} for _ in range(count)], [f"id-{n}" for n in range(count)]


def test_rows_are_sent_under_their_insert_ids(answering: Callable[..., Any]) -> None:
    with answering() as (sink, requests):
        assert sink.insert(*rows(3)) == []
        assert sink.insert([], []) == []

    assert requests == [["id-0", "id-1", "id-2"]]


def test_no_request_has_more_rows_than_bigquery_recommends(answering: Callable[..., Any]) -> None:
    with answering() as (sink, requests):
        sink.insert(*rows(2 * MAX_REQUEST_ROWS + 1))

    assert [len(ids) for ids in requests] == [MAX_REQUEST_ROWS, MAX_REQUEST_ROWS, 1]
    assert [one for ids in requests for one in ids] == rows(2 * MAX_REQUEST_ROWS + 1)[1]


def test_no_request_has_more_bytes_than_bigquery_takes(answering: Callable[..., Any]) -> None:
    with answering() as (sink, requests):
        sink.insert(*rows(5, size=MAX_REQUEST_BYTES * 2 // 5))

    assert [len(ids) for ids in requests] == [2, 2, 1]


@pytest.mark.parametrize(
    "answer",
    [
        failed(503, "backendError"),
        failed(500, "internalError"),
        failed(502, "badGateway"),
        failed(429, "rateLimitExceeded"),
        failed(403, "rateLimitExceeded"),
        failed(403, "quotaExceeded"),
        failed(408, "timeout"),
        (503, {}),
    ],
    ids=str,
)
def test_a_request_that_fails_for_now_is_sent_again(answering: Callable[..., Any], answer: Answer) -> None:
    with answering(answer, answer) as (sink, requests):
        assert sink.insert(*rows(2)) == []

    assert requests == [["id-0", "id-1"]] * 3


def test_rows_not_taken_for_now_are_sent_again_without_the_others(answering: Callable[..., Any]) -> None:
    with answering(
        not_taken(row_1="stopped", row_2="invalid", row_3="backendError"), not_taken(row_0="timeout")
    ) as (sink, requests):
        refusals = sink.insert(*rows(5))

    assert requests == [["id-0", "id-1", "id-2", "id-3", "id-4"], ["id-1", "id-3"], ["id-1"]]
    assert refusals == [(2, "invalid: told")]


def test_refused_rows_are_told_in_order_by_their_index_in_all_rows(answering: Callable[..., Any]) -> None:
    with answering(not_taken(row_499="invalid"), not_taken(row_1="invalid", row_0="invalid")) as (sink, _):
        refusals = sink.insert(*rows(MAX_REQUEST_ROWS + 2))

    assert [refusal.row for refusal in refusals] == [499, 500, 501]


@pytest.mark.parametrize("code", [400, 413])
def test_a_request_refused_for_one_row_is_halved_until_that_row_is_found(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    taken: list[str] = []

    def answer(sent: list[dict[str, Any]]) -> Answer:
        if any(row["insertId"] == "id-5" for row in sent):
            return failed(code, "invalid", "the row is too large")
        taken.extend(row["insertId"] for row in sent)
        return TAKEN

    with serving(answer) as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        refusals = BigQuerySink(TABLE).insert(*rows(9))

    assert [refusal.row for refusal in refusals] == [5]
    assert "the row is too large" in refusals[0].detail
    assert sorted(taken) == [f"id-{n}" for n in range(9) if n != 5]


def test_a_missing_table_is_told_at_once_with_what_to_do(answering: Callable[..., Any]) -> None:
    with (
        answering(failed(404, "notFound", "Not found: Table")) as (sink, requests),
        pytest.raises(
            BigQueryTableError,
            match=r"no table example\.com:shop\.shop_raw\.events_stream; run .* apply_schemas.*Not found",
        ),
    ):
        sink.insert(*rows(1))
    assert len(requests) == 1


def test_a_missing_permission_is_told_at_once_with_the_role(answering: Callable[..., Any]) -> None:
    with (
        answering(failed(403, "accessDenied", "Access Denied")) as (sink, requests),
        pytest.raises(BigQueryTableError, match=r"roles/bigquery\.dataEditor.*Access Denied"),
    ):
        sink.insert(*rows(1))
    assert len(requests) == 1


@pytest.mark.parametrize("answer", [failed(503, "backendError"), not_taken(row_0="backendError")], ids=str)
def test_an_outage_that_lasts_is_told_with_bigquerys_last_word(
    answering: Callable[..., Any], answer: Answer
) -> None:
    with (
        answering(*[answer] * 100, retry_seconds=1.0) as (sink, requests),
        pytest.raises(BigQueryUnavailable, match=r"did not take 1 rows .* within 1 seconds: .*told"),
    ):
        sink.insert(*rows(1))
    assert len(requests) > 1


def test_a_bigquery_that_does_not_listen_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(BigQueryUnavailable, match="refused"):
            BigQuerySink(TABLE, retry_seconds=0.5).insert(*rows(1))


NO_FIELD = "no such field: gift_wrapped."


def test_rows_with_a_field_that_bigquery_does_not_know_yet_wait_for_it(answering: Callable[..., Any]) -> None:
    behind = not_taken(NO_FIELD, row_0="invalid", row_1="invalid", row_2="invalid")
    with answering(behind, behind) as (sink, requests):
        assert sink.insert(*rows(3)) == []

    assert requests == [["id-0", "id-1", "id-2"]] * 3


def test_a_field_that_bigquery_never_knows_fails_and_rejects_no_row(answering: Callable[..., Any]) -> None:
    behind = not_taken(NO_FIELD, row_0="invalid")
    with (
        answering(*[behind] * 50, retry_seconds=0.5) as (sink, _),
        pytest.raises(BigQueryTableError, match=r"run the DAG apply_schemas.*no such field: gift_wrapped"),
    ):
        sink.insert(*rows(1))


def test_a_bad_row_beside_a_field_not_known_yet_is_still_found(answering: Callable[..., Any]) -> None:
    behind = not_taken(NO_FIELD, row_0="invalid", row_1="invalid")
    with answering(behind, not_taken(row_1="invalid")) as (sink, requests):
        assert [refusal.row for refusal in sink.insert(*rows(2))] == [1]

    assert requests == [["id-0", "id-1"]] * 2


def test_a_bad_row_whose_text_reads_like_a_fault_of_the_schema_is_refused_at_once(
    answering: Callable[..., Any],
) -> None:
    quoting = not_taken(f"Cannot convert value to integer (bad value): {NO_FIELD}", row_0="invalid")
    with answering(quoting) as (sink, requests):
        assert [refusal.row for refusal in sink.insert(*rows(2))] == [0]

    assert len(requests) == 1


@pytest.mark.parametrize("rows_a_request", [1, 300])
def test_a_table_that_refuses_every_row_fails_and_acknowledges_nothing(
    answering: Callable[..., Any], rows_a_request: int
) -> None:
    every = not_taken(**{f"row_{number}": "invalid" for number in range(rows_a_request)})
    with (
        answering(*[every] * 200) as (sink, requests),
        pytest.raises(BigQueryTableError, match="a table that does not fit"),
    ):
        collections.deque((sink.insert(*rows(rows_a_request)) for _ in range(200)), maxlen=0)

    assert sum(map(len, requests)) - rows_a_request <= MAX_REFUSALS_IN_A_ROW


def test_a_request_refused_whole_for_the_table_is_not_halved_to_its_last_row(
    answering: Callable[..., Any],
) -> None:
    with (
        answering(*[failed(400, "invalid")] * 2000) as (sink, requests),
        pytest.raises(BigQueryTableError, match=r"a table that does not fit.*told by BigQuery"),
    ):
        sink.insert(*rows(2 * MAX_REQUEST_ROWS))

    assert len(requests) < 3 * MAX_REFUSALS_IN_A_ROW


def test_bad_rows_among_good_ones_are_never_the_tables_fault(answering: Callable[..., Any]) -> None:
    bad = not_taken(**{f"row_{number}": "invalid" for number in range(MAX_REFUSALS_IN_A_ROW)})
    with answering(bad, bad, bad) as (sink, _):
        for _ in range(3):
            assert len(sink.insert(*rows(MAX_REFUSALS_IN_A_ROW + 1))) == MAX_REFUSALS_IN_A_ROW
