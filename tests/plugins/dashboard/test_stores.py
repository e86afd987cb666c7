"""stores: an answer is kept for a moment, and a store that fails is named with what to do."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, Self

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1.database import Database

from local.stack import emulators
from shopstream.dashboard import stores
from shopstream.dashboard.app import SQL_DIR
from shopstream.dashboard.stores import BigQueryStore, SpannerStore, StoreFailed
from shopstream.tables import limits
from tests.faults import Front
from tests.plugins.dashboard.small_shop import write_journey

DAY = {"first_day": date(2019, 11, 1)}
NUMBERED = "SELECT number FROM UNNEST(GENERATE_ARRAY(1, 3)) AS number WHERE @first_day IS NOT NULL"
A_NEW_ID = "SELECT GENERATE_UUID() AS id, @first_day AS day"


@pytest.fixture
def store(bigquery_tables: bigquery_api.Client) -> BigQueryStore:
    return BigQueryStore(lambda: bigquery_tables)


@pytest.mark.integration
def test_an_answer_is_kept_for_a_moment_and_then_asked_anew(store: BigQueryStore) -> None:
    first = store.ask("days", A_NEW_ID, DAY)
    assert store.ask("days", A_NEW_ID, DAY) is first
    assert store.ask("days", A_NEW_ID, {"first_day": date(2019, 11, 2)}).rows != first.rows
    assert store.ask("days", A_NEW_ID, DAY, kept_seconds=0).rows != first.rows


@pytest.mark.integration
def test_many_who_ask_at_once_are_answered_by_one_query(store: BigQueryStore) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return str(store.ask("days", A_NEW_ID, DAY).rows)

    with ThreadPoolExecutor(8) as readers:
        assert len(set(readers.map(ask, range(8)))) == 1


@pytest.mark.integration
def test_however_many_ask_first_one_client_is_made_and_it_may_be_made_before(
    bigquery_tables: bigquery_api.Client,
) -> None:
    made = []

    def make() -> bigquery_api.Client:
        made.append(1)
        time.sleep(0.1)  # as long as others need to come too
        return bigquery_tables

    store = BigQueryStore(make)
    with ThreadPoolExecutor(4) as readers:
        list(
            readers.map(lambda n: store.ask("days", A_NEW_ID, {"first_day": date(2019, 11, n)}), range(1, 5))
        )
    assert made == [1]
    warmed = BigQueryStore(make)
    warmed.warm().join()
    assert made == [1, 1]
    warmed.ask("days", A_NEW_ID, DAY)
    assert made == [1, 1]


def test_a_client_that_cannot_be_made_before_is_told_to_whoever_asks() -> None:
    def none() -> bigquery_api.Client:
        raise ConnectionError

    store = BigQueryStore(none)
    store.warm().join()
    with pytest.raises(StoreFailed, match="could not be reached"):
        store.ask("days", A_NEW_ID, DAY)


@pytest.mark.integration
def test_more_rows_than_may_be_shown_are_cut_and_that_is_told(
    store: BigQueryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MAX_ROWS", 2)
    cut = store.ask("choices", NUMBERED, DAY)
    assert (len(cut.rows), cut.is_cut) == (2, True)
    monkeypatch.setattr(stores, "MAX_ROWS", 3)
    whole = store.ask("choices", NUMBERED, DAY, kept_seconds=0)
    assert (len(whole.rows), whole.is_cut) == (3, False)


@pytest.mark.integration
def test_no_more_answers_are_kept_than_there_is_room_for(
    store: BigQueryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MAX_KEPT", 1)
    first = store.ask("days", A_NEW_ID, DAY)
    store.ask("choices", NUMBERED, DAY)
    assert store.ask("days", A_NEW_ID, DAY).rows != first.rows


class Weighing(AuthorizedSession):
    """A session that hears of each table that it has a tebibyte, and keeps the limits that it sends."""

    def __init__(self) -> None:
        super().__init__(AnonymousCredentials())
        self.limits: dict[str, int] = {}

    def request(self, method: str, url: str, data: Any = None, **options: Any) -> Any:
        if method == "POST" and "query" in (job := json.loads(data).get("configuration", {})):
            self.limits[job["query"]["query"]] = int(job["query"]["maximumBytesBilled"])
        response = super().request(method, url, data=data, **options)
        if method == "GET" and "/tables/" in url:
            response._content = json.dumps(response.json() | {"numBytes": str(2**40)}).encode()
        return response


@pytest.mark.integration
@pytest.mark.parametrize("name", ["rejects", "samples"])
def test_however_many_lines_were_rejected_their_cards_are_shown(
    bigquery_tables: bigquery_api.Client, name: str
) -> None:
    sent = Weighing()
    options = ClientOptions(api_endpoint=bigquery_tables._connection.API_BASE_URL)
    client = bigquery_api.Client(project=bigquery_tables.project, _http=sent, client_options=options)
    sql = (SQL_DIR / "pipelines" / f"{name}.sql").read_text()
    days = {"first_day": date(2019, 11, 1), "last_day": date(2019, 11, 1)}
    assert BigQueryStore(lambda: client).ask(f"pipelines-{name}", sql, days).rows == []
    assert sent.limits == {sql: 3 * 2 * 2**40}


class Clock:
    """Stands at the seconds to which it was put."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Slow(AuthorizedSession):
    """A session whose requests each take five seconds, as a clock tells."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(AnonymousCredentials())
        self._clock = clock

    def request(self, *args: Any, **options: Any) -> Any:
        self._clock.seconds += 5
        return super().request(*args, **options)


@pytest.mark.integration
def test_the_time_of_an_answer_is_of_all_that_is_asked_for_it(
    bigquery_tables: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "QUERY_SECONDS", 20.0)
    monkeypatch.setattr(stores, "time", clock := Clock())
    options = ClientOptions(api_endpoint=bigquery_tables._connection.API_BASE_URL)
    slow = bigquery_api.Client(project=bigquery_tables.project, _http=Slow(clock), client_options=options)
    store = BigQueryStore(lambda: slow)
    with pytest.raises(StoreFailed, match="try again"):
        store.ask("days", A_NEW_ID, DAY)
    # The events of the days are known now.
    assert store.ask("days", A_NEW_ID, DAY).rows


class Timed(AuthorizedSession):
    """A session that keeps how long each look at a table may take, of which each takes TAKEN."""

    TAKEN = 0.5

    def __init__(self) -> None:
        super().__init__(AnonymousCredentials())
        self.seconds: list[float] = []

    def request(self, method: str, url: str, *, timeout: float, **options: Any) -> Any:
        if "/tables/" in url:
            self.seconds.append(timeout)
            time.sleep(self.TAKEN)
        return super().request(method, url, timeout=timeout, **options)


@pytest.mark.integration
@pytest.mark.parametrize("card", ["days", "rejects"])
def test_what_a_limit_is_reckoned_from_may_take_no_longer_than_the_answer(
    bigquery_tables: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch, card: str
) -> None:
    monkeypatch.setattr(limits, "ROWS", limits.ROWS.replace("INFORMATION_SCHEMA.PARTITIONS", "withdrawn"))
    session = Timed()
    options = ClientOptions(api_endpoint=bigquery_tables._connection.API_BASE_URL)
    client = bigquery_api.Client(project=bigquery_tables.project, _http=session, client_options=options)
    sql = (SQL_DIR / "pipelines" / "rejects.sql").read_text() if card == "rejects" else A_NEW_ID
    BigQueryStore(lambda: client).ask(card, sql, {**DAY, "last_day": DAY["first_day"]})
    first, second = session.seconds
    assert first <= stores.QUERY_SECONDS
    assert second <= first - Timed.TAKEN


@pytest.mark.integration
def test_a_missing_table_is_told_with_the_dag_that_makes_it(store: BigQueryStore) -> None:
    with pytest.raises(StoreFailed, match="run the DAG apply_schemas"):
        store.ask("headline", "SELECT 1 AS one FROM nowhere.nothing", {})


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
            store.ask("days", A_NEW_ID, DAY)
        assert failure.value.store == "BigQuery"
    assert asked == [1]


# Spanner


@pytest.mark.integration
def test_a_journey_is_one_customers_alone_newest_first_and_goes_on_where_it_ends(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime(2019, 11, 3, 12, tzinfo=UTC)
    before = noon - timedelta(days=stores.JOURNEY_DAYS)
    write_journey(
        spanner_database,
        (7, noon, "a"),
        (7, noon - timedelta(hours=1), "b"),
        (7, noon - timedelta(days=1), "c"),
        (7, before, "d"),
        (8, noon, "e"),
        (7 + 16 * 65536, noon, "f"),
    )
    store = SpannerStore(lambda: spanner_database)
    events, next_last_day = store.journey(7, noon.date())
    assert [event["event_id"][-1] for event in events] == ["a", "b", "c"]
    assert events[0]["event_time"] == "2019-11-03T12:00:00Z"
    assert next_last_day == before.date()
    assert [event["event_id"][-1] for event in store.journey(7, next_last_day)[0]] == ["d"]
    assert store.journey(9, noon.date())[0] == []

    # Of more events than a page holds, a day is shown whole or on the next page.
    monkeypatch.setattr(stores, "MAX_ROWS", 2)
    events, next_last_day = store.journey(7, noon.date())
    assert [event["event_id"][-1] for event in events] == ["a", "b"]
    assert next_last_day == date(2019, 11, 2)
    monkeypatch.setattr(stores, "MAX_ROWS", 1)
    events, next_last_day = store.journey(7, noon.date())
    assert [event["event_id"][-1] for event in events] == ["a"]
    assert next_last_day == date(2019, 11, 2)


@pytest.mark.integration
def test_a_clock_that_is_behind_spanners_hides_no_event(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) - timedelta(minutes=10)

    noon = datetime(2019, 11, 3, 12, tzinfo=UTC)
    write_journey(spanner_database, (7, noon, "a"))
    monkeypatch.setattr(stores, "datetime", Behind)
    events, _ = SpannerStore(lambda: spanner_database).journey(7, noon.date())
    assert [event["event_id"][-1] for event in events] == ["a"]


@pytest.mark.integration
def test_however_many_rows_of_loads_that_nobody_sees_a_customer_has_the_newest_events_are_shown(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime(2019, 11, 3, 12, tzinfo=UTC)
    days = [noon - timedelta(days=n) for n in range(5)]
    write_journey(spanner_database, *((7, day, str(n)) for n, day in enumerate(days)))
    for load_id in ("dead", "dying"):
        dead = [(7, day, str(n)) for n, day in enumerate(days)]
        write_journey(spanner_database, *dead, load_id=load_id, is_published=False)
    monkeypatch.setattr(stores, "MAX_ROWS_A_READ", 4)
    events, _ = SpannerStore(lambda: spanner_database).journey(7, noon.date())
    assert [event["event_id"][-1] for event in events] == ["0", "1", "2", "3", "4"]


@pytest.mark.integration
def test_a_spanner_that_no_longer_answers_is_named_soon_and_not_asked_without_end(
    way_to_spanner: tuple[Front, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "JOURNEY_SECONDS", 2)
    front, database = way_to_spanner
    store = SpannerStore(lambda: database)
    assert store.journey(7, date(2019, 11, 3))[0] == []
    front.close()
    with pytest.raises(StoreFailed, match="Spanner refused or did not answer"):
        store.journey(7, date(2019, 11, 3))


def test_a_database_that_cannot_be_had_is_named() -> None:
    def none() -> Database:
        raise ConnectionError

    with pytest.raises(StoreFailed, match="could not be reached") as failure:
        SpannerStore(none).journey(7, date(2019, 11, 3))
    assert failure.value.store == "Spanner"
