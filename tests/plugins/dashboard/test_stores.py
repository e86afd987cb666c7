"""stores: an answer is kept for a moment, and a store that fails is named with what to do."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api

from local.stack import emulators
from shopstream.dashboard import stores
from shopstream.dashboard.stores import BigQueryStore, StoreFailed

DAY = {"first_day": date(2019, 11, 1)}
NUMBERED = "SELECT number FROM UNNEST(GENERATE_ARRAY(1, 3)) AS number WHERE @first_day IS NOT NULL"
A_NEW_ID = "SELECT GENERATE_UUID() AS id, @first_day AS day"


@pytest.fixture
def store(bigquery: bigquery_api.Client) -> BigQueryStore:
    return BigQueryStore(lambda: bigquery)


@pytest.mark.integration
def test_an_answer_is_kept_for_a_moment_and_then_asked_anew(store: BigQueryStore) -> None:
    first = store.ask("ids", A_NEW_ID, DAY)
    assert store.ask("ids", A_NEW_ID, DAY) is first
    assert store.ask("ids", A_NEW_ID, {"first_day": date(2019, 11, 2)}).rows != first.rows
    assert store.ask("ids", A_NEW_ID, DAY, kept_seconds=0).rows != first.rows


@pytest.mark.integration
def test_many_who_ask_at_once_are_answered_by_one_query(store: BigQueryStore) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return str(store.ask("ids", A_NEW_ID, DAY).rows)

    with ThreadPoolExecutor(8) as readers:
        assert len(set(readers.map(ask, range(8)))) == 1


@pytest.mark.integration
def test_more_rows_than_may_be_shown_are_cut_and_that_is_told(
    store: BigQueryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MAX_ROWS", 2)
    cut = store.ask("numbers", NUMBERED, DAY)
    assert (len(cut.rows), cut.is_cut) == (2, True)
    monkeypatch.setattr(stores, "MAX_ROWS", 3)
    whole = store.ask("numbers", NUMBERED, DAY, kept_seconds=0)
    assert (len(whole.rows), whole.is_cut) == (3, False)


@pytest.mark.integration
def test_no_more_answers_are_kept_than_there_is_room_for(
    store: BigQueryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MAX_KEPT", 1)
    first = store.ask("ids", A_NEW_ID, DAY)
    store.ask("numbers", NUMBERED, DAY)
    assert store.ask("ids", A_NEW_ID, DAY).rows != first.rows


@pytest.mark.integration
def test_a_missing_table_is_told_with_the_dag_that_makes_it(store: BigQueryStore) -> None:
    with pytest.raises(StoreFailed, match="run the DAG apply_schemas"):
        store.ask("nothing", "SELECT 1 AS one FROM nowhere.nothing", {})


def test_a_store_that_is_down_is_named_soon_and_asked_again_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "QUERY_SECONDS", 0.2)
    options = ClientOptions(api_endpoint=f"http://127.0.0.1:{emulators.free_port()}")
    asked = []

    def client() -> bigquery_api.Client:
        asked.append(1)
        return bigquery_api.Client(
            project="shopstream-local", credentials=AnonymousCredentials(), client_options=options
        )

    store = BigQueryStore(client)
    for _ in range(2):
        with pytest.raises(StoreFailed, match="try again") as failure:
            store.ask("ids", A_NEW_ID, DAY)
        assert failure.value.store == "BigQuery"
    assert asked == [1]
