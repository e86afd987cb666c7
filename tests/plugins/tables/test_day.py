"""A day of a summary is built and checked: on the BigQuery emulator."""

from __future__ import annotations

import datetime as dt
import logging

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api

from shopstream.settings import settings
from shopstream.tables.day import CheckFailed, build_day, replace_row, run_checks
from shopstream.tables.folder import Table, load_table
from tests.sql.events import batch_event, build_tables_read, fill, rows_of

DAY = dt.date(2019, 11, 1)
NEXT_DAY = dt.date(2019, 11, 2)


@pytest.fixture
def client(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with all tables, empty."""
    return bigquery_tables


def table_of(full_name: str) -> Table:
    return load_table(settings().sql_dir, full_name)


@pytest.mark.integration
def test_building_a_day_replaces_its_rows_and_no_others(client: bigquery_api.Client) -> None:
    table = table_of("shop.daily_event_count")
    fill(
        client,
        "shop_raw.events_batch",
        [
            batch_event(event_id="a"),
            batch_event(event_id="b", event_type="cart"),
            batch_event(event_id="c", event_time=dt.datetime(2019, 11, 2, 5)),  # noqa: DTZ001
        ],
    )
    build_tables_read(client, table, [DAY, NEXT_DAY])
    for day in (DAY, NEXT_DAY, DAY):
        build_day(client, table, day)
    assert [run_checks(client, table, day) for day in (DAY, NEXT_DAY)] == [2, 1]
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a")])
    build_tables_read(client, table, [DAY])
    build_day(client, table, DAY)
    assert run_checks(client, table, DAY) == 1
    sql = "SELECT event_date, event_type, events FROM shop.daily_event_count ORDER BY event_date"
    assert [tuple(row.values()) for row in rows_of(client, sql)] == [
        (DAY, "view", 1),
        (NEXT_DAY, "view", 1),
    ]


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        ("shop_ops.stream_completeness", None, "warn_share, fail_share beside the day, .* given were none"),
        ("shop_ops.stream_completeness", {"warn_share": 0.1}, "warn_share, fail_share .* were warn_share"),
        ("shop.daily_event_count", {"share": 0.1}, "nothing beside the day, .* given were share"),
    ],
)
def test_a_build_with_other_parameters_than_the_query_takes_is_refused(
    name: str, params: dict[str, float] | None, told: str
) -> None:
    nowhere = bigquery_api.Client(project="nowhere", credentials=AnonymousCredentials())
    with pytest.raises(ValueError, match=rf"^{name}: its query takes {told}"):
        build_day(nowhere, table_of(name), DAY, params)


@pytest.mark.integration
def test_a_failed_check_names_the_check_the_table_the_day_and_what_it_found(
    client: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of("shop.daily_event_count")
    fill(client, "shop_raw.events_batch", [batch_event(event_id="a")])
    build_tables_read(client, table, [DAY])
    row = {"event_date": DAY, "event_type": "view", "events": 2, "users": 3, "sessions": 1}
    fill(client, "shop.daily_event_count", [row, row | {"event_date": NEXT_DAY}])

    with caplog.at_level(logging.WARNING), pytest.raises(CheckFailed) as failed:
        run_checks(client, table, DAY)

    place = "shop.daily_event_count of 2019-11-01: check"
    assert str(failed.value).splitlines() == [
        f"{place} possible_counts (fail) found event_type = view, events = 2, users = 3, sessions = 1. "
        "A row stands for at least one event; neither customers nor sessions can outnumber the events.",
        f"{place} every_event_counted (fail) found expected_events = 1, found_events = 2.",
    ]
    # A check's comment says what that means.
    assert caplog.messages == [
        f"{place} day_has_every_event_type (warn) found found_event_types = 1. A shop sells every day: a day "
        "without a single purchase is more likely a gap in the tracking."
    ]


@pytest.mark.integration
def test_a_check_shows_five_rows_and_counts_the_others(client: bigquery_api.Client) -> None:
    table = table_of("shop.daily_event_count")
    rows = [
        {"event_date": DAY, "event_type": f"type {n}", "events": 1, "users": 1, "sessions": 1}
        for n in range(7)
    ]
    fill(client, "shop.daily_event_count", rows)
    with pytest.raises(CheckFailed, match=r"accepted_event_types \(fail\) found .*; and 2 more rows\."):
        run_checks(client, table, DAY)


@pytest.mark.integration
def test_a_finding_names_no_customer(client: bigquery_api.Client) -> None:
    table = table_of("shop.customer_purchases")
    row = {"event_date": DAY, "user_id": 520088904, "orders": 0, "purchases": 1, "revenue": 1}
    fill(client, "shop.customer_purchases", [row, row])
    with pytest.raises(CheckFailed, match="orders = 0") as failed:
        run_checks(client, table, DAY)
    assert "520088904" not in str(failed.value)


@pytest.mark.integration
def test_twice_the_events_of_the_days_before_are_worth_a_warning(
    client: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of("shop.daily_event_count")
    fill(client, "shop_raw.events_batch", [batch_event(event_id=str(n)) for n in range(5)])
    build_tables_read(client, table, [DAY])
    before = {"event_type": "view", "events": 2, "users": 1, "sessions": 1}
    fill(
        client,
        "shop.daily_event_count",
        [before | {"event_date": dt.date(2019, 10, day)} for day in (30, 31)],
    )
    build_day(client, table, DAY)
    with caplog.at_level(logging.WARNING):
        run_checks(client, table, DAY)
    assert any("like_the_days_before (warn) found found_events = 5" in text for text in caplog.messages)


@pytest.mark.integration
def test_a_row_that_lacks_a_column_is_refused(client: bigquery_api.Client) -> None:
    with pytest.raises(ValueError, match=r"shop_ops\.loads needs exactly .*late"):
        replace_row(client, "shop_ops.loads", {"load_id": "a"}, ("load_id",), job_id_prefix="test")
