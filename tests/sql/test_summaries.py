"""Each summary over its fixture: the events of shop/<table>.yaml in, its expected rows out."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud import bigquery as bigquery_api

from local.root import ROOT
from shopstream.gcp import bigquery
from shopstream.settings import settings
from shopstream.tables import folder as tables
from shopstream.tables.day import build_day, run_checks
from tests.sql.events import (
    SUMMARIES,
    VIEWS_OF_DAYS,
    batch_event,
    build_tables_read,
    complete,
    fill,
    fill_all,
    rows_of,
    stream_event,
)
from tests.sql.real_bigquery import ON_BIGQUERY, real_bigquery

pytestmark = pytest.mark.integration

FIXTURES = Path(__file__).parent
WITHOUT_CASES = {
    "shop_raw.carts_and_purchases": "a test of its own, and each summary that reads it",
    "shop_raw.events_deduplicated": "a test of its own, and each summary",
    "shop_raw.product_views": "a test of its own, and the cases of shop.time_to_purchase",
    "shop_ops.objectives": "its cases are in tests/plugins/watch/test_digest.py",
    "shop_ops.stream_completeness": "its cases are in tests/plugins/stream/test_completeness.py",
}
DAY = dt.date(2019, 11, 1)
LONG_AGO = dt.datetime(2018, 11, 1, 10, 0, 0)  # noqa: DTZ001 (the helpers take UTC without saying so)
"""Before all days that any summary of DAY looks back on."""
API_TYPES = {"BOOLEAN": "BOOL", "FLOAT": "FLOAT64", "INTEGER": "INT64"}


def cases() -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}: {case['case']}")
        for name in (*SUMMARIES, *VIEWS_OF_DAYS)
        for case in yaml.load((FIXTURES / f"{name.replace('.', '/')}.yaml").read_text(), yaml.CSafeLoader)
    ]


@pytest.fixture(scope="module", params=["emulator", ON_BIGQUERY])
def client(request: pytest.FixtureRequest) -> Iterator[bigquery_api.Client]:
    """The emulator, and real BigQuery if a project is named, with all tables and views."""
    if request.param == "bigquery":
        with real_bigquery() as client:
            yield client
        return
    emulator: bigquery_api.Client = request.getfixturevalue("bigquery_tables_of_file")
    yield emulator


def typed(table: tables.Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return the expected row with its NUMERIC values, given as text, as numbers."""
    assert list(row) == list(table.column_names), "an expected row names every column, in order"
    numeric = {column.name for column in table.schema if column.type == "NUMERIC"}
    return {
        name: Decimal(value) if name in numeric and value is not None else value
        for name, value in row.items()
    }


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [str(value) for value in row.values()])


def build_summaries_read(client: bigquery_api.Client, table: tables.Table, case: dict[str, Any]) -> None:
    """Build what the summary reads, and what that reads, for every day of the case's events."""
    given = [*case.get("batch", []), *case.get("stream", [])]
    build_tables_read(client, table, {complete(event)["event_date"] for event in given})


def query_of(view: tables.Table) -> str:
    """Return the query of one day's rows of a view."""
    return f"SELECT {', '.join(view.column_names)} FROM {view.full_name} WHERE event_date = @day"


@pytest.mark.parametrize(("name", "case"), cases())
def test_a_summary_makes_the_expected_rows_of_its_fixture_and_passes_its_checks(
    client: bigquery_api.Client, name: str, case: dict[str, Any]
) -> None:
    table = tables.load_table(settings().sql_dir, name)
    given = {
        "shop_raw.events_batch": [batch_event(**event) for event in batch_of(case)],
        "shop_raw.events_stream": [stream_event(**event) for event in stream_of(case)],
    }
    fill_all(client, given if table.view else {**given, name: []})
    build_summaries_read(client, table, case)
    expected = in_order([typed(table, row) for row in case["expect"]])

    if table.view:
        job = bigquery.run(
            client,
            query_of(table),
            {"day": case["day"]},
            job_id_prefix="view",
            maximum_bytes_billed=bigquery.SMALL_MAX_BYTES,
        )
        assert in_order([dict(row) for row in job.result()]) == expected
        return
    build_day(client, table, case["day"])
    assert in_order(rows_of(client, f"SELECT * FROM {name}")) == expected
    assert run_checks(client, table, case["day"]) == len(expected)


@pytest.mark.parametrize("name", [*SUMMARIES, *VIEWS_OF_DAYS])
def test_a_summary_has_the_cases_that_every_summary_must_have(name: str) -> None:
    own = [case for case in cases() if case.id.startswith(f"{name}:")]
    for word in ("ordinary", "empty day", "lack|without", "both ways", "midnight UTC", "late"):
        assert any(any(part in case.id for part in word.split("|")) for case in own), word
    assert missing_kinds([case.values[1] for case in own]) == []


def missing_kinds(given: list[dict[str, Any]]) -> list[str]:
    """Return what the rows of the cases lack of what any summary must bear, whatever the cases are named."""
    events = [complete(event) for case in given for event in batch_of(case) + stream_of(case)]
    kinds = {
        "a day without its kind of events": any(
            not case["expect"]
            or case["day"] not in {complete(e)["event_date"] for e in batch_of(case) + stream_of(case)}
            for case in given
        ),
        **{
            f"an event without {name}": any(event[name] is None for event in events)
            for name in ("category_code", "brand", "user_session")
        },
        **{
            f"an event at {time}": any(event["event_time"].time() == time for event in events)
            for time in (dt.time(0, 0, 0), dt.time(23, 59, 59))
        },
        "an event that came both ways": any(ids(batch_of(case)) & ids(stream_of(case)) for case in given),
        "an event twice by stream": any(len(stream_of(case)) > len(ids(stream_of(case))) for case in given),
        "a late event": any(
            event["landing_day"] > complete(event)["event_date"]
            for case in given
            for event in batch_of(case)
            if "landing_day" in event
        ),
    }
    return [kind for kind, is_there in kinds.items() if not is_there]


def batch_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    return case.get("batch", [])


def stream_of(case: dict[str, Any]) -> list[dict[str, Any]]:
    return case.get("stream", [])


def ids(events: list[dict[str, Any]]) -> set[str]:
    return {event["event_id"] for event in events}


def test_cases_without_what_is_asked_of_them_are_told() -> None:
    one = {"day": dt.date(2019, 11, 1), "batch": [{"event_id": "a"}], "expect": ["a row"]}
    assert len(missing_kinds([one])) == 9


def windows_over_all_rows(sql: str) -> list[str]:
    """The windows that are not of groups and have no PARTITION BY: BigQuery sorts all rows in one place."""
    found = re.findall(r"\w+\((?:[^()]|\([^()]*\))*\) OVER \((?!\s*PARTITION BY)[^)]*\)", sql)
    return [window for window in found if not re.match(r"\w+\((COUNT|MAX|MIN|SUM)\(", window)]


def test_no_statement_has_a_window_over_all_rows() -> None:
    files = [*(ROOT / "sql").rglob("*.sql"), *(ROOT / "plugins").rglob("*.sql")]
    found = {str(path.relative_to(ROOT)): windows_over_all_rows(path.read_text()) for path in files}
    assert {path: windows for path, windows in found.items() if windows} == {
        # A hundred rows.
        "sql/bigquery/shop/session_paths/query.sql": [
            "ROW_NUMBER() OVER (ORDER BY most_frequent.sessions DESC, most_frequent.path ASC)"
        ],
        # One row a date, of some days.
        "sql/bigquery/shop_ops/stream_completeness/query.sql": ["SUM(counted.stream_events) OVER ()"],
    }


def test_a_window_over_all_rows_is_told() -> None:
    sql = (
        "1 + DIV(5 * (RANK() OVER (ORDER BY orders) - 1), COUNT(*) OVER ()), MIN(a) OVER (\n PARTITION BY b)"
    )
    assert windows_over_all_rows(sql) == ["RANK() OVER (ORDER BY orders)", "COUNT(*) OVER ()"]


def test_every_query_has_cases_or_a_reason_why_not() -> None:
    with_query = {table.full_name for table in tables.all_tables(settings().sql_dir) if table.query}
    assert with_query == {*SUMMARIES, *WITHOUT_CASES}


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_query_gives_the_columns_of_schema_yaml_in_order_and_type(
    client: bigquery_api.Client, name: str
) -> None:
    table = tables.load_table(settings().sql_dir, name)
    job = bigquery.run(
        client,
        table.query or "",
        {"day": dt.date(2019, 11, 1)},
        job_id_prefix="schema",
        maximum_bytes_billed=bigquery.SMALL_MAX_BYTES,
    )
    found = [(field.name, API_TYPES.get(field.field_type, field.field_type)) for field in job.result().schema]
    assert found == [(column.name, column.type) for column in table.schema]


def test_the_view_gives_the_columns_of_schema_yaml_in_order_and_type(client: bigquery_api.Client) -> None:
    table = tables.load_table(settings().sql_dir, "shop.events")
    result = client.query_and_wait("SELECT * FROM shop.events WHERE event_date = DATE '2019-11-01'")
    found = [(field.name, API_TYPES.get(field.field_type, field.field_type)) for field in result.schema]
    assert found == [(column.name, column.type) for column in table.schema]


def test_the_view_shows_each_event_once_and_the_batch_before_the_stream(client: bigquery_api.Client) -> None:
    fill(
        client,
        "shop_raw.events_batch",
        [
            batch_event(event_id="both"),
            batch_event(event_id="landed twice", landing_day=dt.date(2019, 11, 3)),
            batch_event(event_id="landed twice", landing_day=dt.date(2019, 11, 2)),
        ],
    )
    fill(
        client,
        "shop_raw.events_stream",
        [
            stream_event(event_id="both"),
            stream_event(event_id="streamed twice"),
            stream_event(event_id="streamed twice"),
        ],
    )
    shown = rows_of(client, "SELECT event_id, source, landing_day FROM shop.events ORDER BY event_id")
    assert [tuple(row.values()) for row in shown] == [
        ("both", "batch", dt.date(2019, 11, 1)),
        ("landed twice", "batch", dt.date(2019, 11, 2)),
        ("streamed twice", "stream", None),
    ]


def test_the_deduplicated_day_is_what_the_view_shows_of_it_and_the_narrow_tables_are_parts_of_it(
    client: bigquery_api.Client,
) -> None:
    later, next_day = (LONG_AGO.replace(year=2019, day=day, hour=11) for day in (1, 2))
    fill(
        client,
        "shop_raw.events_batch",
        [
            batch_event(event_id="both"),
            batch_event(event_id="twice", event_type="cart", landing_day=DAY + dt.timedelta(days=1)),
            batch_event(event_id="twice", event_type="cart"),
            batch_event(event_id="again", event_time=later),
            batch_event(event_id="of the next day", event_time=next_day),
        ],
    )
    fill(
        client,
        "shop_raw.events_stream",
        [
            stream_event(event_id="both"),
            stream_event(event_id="bought", event_type="purchase", user_session=None),
            stream_event(event_id="bought", event_type="purchase", user_session=None),
            stream_event(event_id="seen", user_session=None),
        ],
    )
    build_tables_read(client, tables.load_table(settings().sql_dir, "shop.time_to_purchase"), {DAY})

    columns = (
        "event_id, event_date, event_time, event_type, product_id, category_code, category_level_2, brand, "
        "price, user_id, user_session"
    )
    shown = rows_of(client, f"SELECT {columns} FROM shop.events WHERE event_date = '{DAY}' ORDER BY event_id")
    assert [row["event_id"] for row in shown] == ["again", "both", "bought", "seen", "twice"]
    kept = "shop_raw.events_deduplicated"
    assert rows_of(client, f"SELECT {columns} FROM {kept} ORDER BY event_id") == shown
    keys = f"SELECT user_session IS NULL AS lacks, session_key FROM {kept} GROUP BY 1, 2 ORDER BY 1"
    with_key, without = rows_of(client, keys)
    assert with_key == {"lacks": False, "session_key": hashlib.md5(b"s1").digest()}
    assert without == {"lacks": True, "session_key": None}

    narrow = rows_of(client, "SELECT event_type, price FROM shop_raw.carts_and_purchases ORDER BY 1")
    assert [row["event_type"] for row in narrow] == ["cart", "purchase"]
    views = "SELECT session_key, first_view FROM shop_raw.product_views ORDER BY session_key NULLS LAST"
    assert rows_of(client, views) == [
        {"session_key": with_key["session_key"], "first_view": shown[1]["event_time"]},
        {"session_key": None, "first_view": shown[3]["event_time"]},
    ]


def test_two_builds_of_an_empty_day_at_the_same_moment_leave_each_row_once(
    client: bigquery_api.Client,
) -> None:
    """On BigQuery a MERGE that only inserts conflicts with nothing: two at once would both insert."""
    table = tables.load_table(settings().sql_dir, "shop.daily_event_count")
    fill(client, "shop_raw.events_batch", [batch_event(event_id=f"{n}") for n in range(3)])
    fill(client, "shop_raw.events_stream", [])
    build_tables_read(client, table, {DAY})
    for _ in range(3):
        fill(client, table.full_name, [])
        both_there = threading.Barrier(2)

        def build(_: int, both_there: threading.Barrier = both_there) -> None:
            both_there.wait(60)
            build_day(client, table, DAY)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(build, range(2)))
        assert rows_of(client, "SELECT event_type, events FROM shop.daily_event_count") == [
            {"event_type": "view", "events": 3}
        ]


@pytest.mark.parametrize("client", [ON_BIGQUERY], indirect=True)
@pytest.mark.parametrize("name", [*SUMMARIES, *VIEWS_OF_DAYS])
def test_a_build_reads_nothing_of_the_days_before_its_lookback(
    client: bigquery_api.Client, name: str
) -> None:
    table = tables.load_table(settings().sql_dir, name)
    # A purchase, of which each summary makes a row.
    event: dict[str, Any] = {"event_type": "purchase", "event_time": LONG_AGO}
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a", **event)])
    fill(client, "shop_raw.events_stream", [stream_event(event_id="b", **event)])
    build_tables_read(client, table, {LONG_AGO.date()})

    sql = table.query or query_of(table)
    assert bigquery.bytes_read(client, sql, {"day": DAY}) == 0
    assert bigquery.bytes_read(client, sql, {"day": LONG_AGO.date()}) > 0
