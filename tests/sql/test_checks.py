"""Each check finds what it is there for, and only that: the changes of checks.yaml, one at a time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud import bigquery as bigquery_api

from shopstream.gcp import bigquery
from shopstream.settings import settings
from shopstream.tables import folder as tables
from shopstream.tables.day import build_day, checks_statement, run_checks
from tests.sql.events import BUILT, batch_event, build_tables_read, fill, stream_event

CHANGES: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_name("checks.yaml").read_text()
)
DAY, DAY_BEFORE, WEEK_BEFORE = dt.date(2019, 11, 8), dt.date(2019, 11, 7), dt.date(2019, 11, 1)
COMPARED_WITH = {
    "shop.customer_purchases": (WEEK_BEFORE, DAY_BEFORE),
    "shop.customer_retention": (DAY_BEFORE,),
    "shop.customer_value": (DAY_BEFORE,),
    "shop.daily_event_count": (WEEK_BEFORE, DAY_BEFORE),
    "shop.product_performance": (DAY_BEFORE,),
    "shop.revenue_daily": (WEEK_BEFORE,),
    "shop_raw.carts_and_purchases": (WEEK_BEFORE, DAY_BEFORE),
    "shop_raw.events_deduplicated": (WEEK_BEFORE, DAY_BEFORE),
    "shop_raw.product_views": (WEEK_BEFORE, DAY_BEFORE),
}
"""The days that are there beside DAY of the summaries whose checks, or queries, look at them."""


def ordinary_day(day: dt.date) -> list[dict[str, Any]]:
    """Return events in every hour, of twelve sub-categories; some carted, some bought, two by one."""
    events = []
    for hour in range(24):
        # Of DAY, two customers are new.
        user_id = hour % 6 + 1 if hour not in (10, 11) or day != DAY else hour + 10
        event = {
            "product_id": hour % 12 + 1,
            "category_code": f"all.sub{hour % 12 + 1}",
            "brand": None if hour % 12 == 11 else "apple" if hour % 2 else "nan",
            "price": f"{10 + hour}.5",
            "user_id": user_id,
            "user_session": f"{day} {user_id}",
        }
        steps = ("view", "cart", "purchase")[: 3 if 8 <= hour < 13 or hour == 14 else 2 if hour < 8 else 1]
        for minute, event_type in enumerate(steps):
            moment = dt.datetime.combine(day, dt.time(hour, minute))
            event_id = f"{day} {hour} {event_type}"
            events.append(batch_event(event_id=event_id, event_time=moment, event_type=event_type, **event))
    return events


@pytest.fixture(scope="module")
def client(bigquery_tables_of_file: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with three ordinary days of events, and the summaries of them."""
    events = [event for day in (WEEK_BEFORE, DAY_BEFORE, DAY) for event in ordinary_day(day)]
    fill(bigquery_tables_of_file, "shop_raw.events_batch", events)
    return bigquery_tables_of_file


@pytest.fixture(scope="module")
def built(client: bigquery_api.Client) -> dict[str, set[str]]:
    """What the checks of each summary find on DAY as it is: nothing that fails it."""
    found = {}
    for name in BUILT:
        table = tables.load_table(settings().sql_dir, name)
        for day in (*COMPARED_WITH.get(name, ()), DAY):
            build_day(client, table, day)
        run_checks(client, table, DAY)
        found[name] = findings(client, table)
    return found


def findings(client: bigquery_api.Client, table: tables.Table) -> set[str]:
    """The names of the checks that find something on DAY."""
    job = bigquery.run(
        client,
        checks_statement(table, rows_shown=1),
        {"day": DAY},
        job_id_prefix="check",
        maximum_bytes_billed=bigquery.SMALL_MAX_BYTES,
    )
    return {row["check_name"] for row in job.result() if row["check_name"] and row["found_rows"]}


@pytest.fixture
def table(request: pytest.FixtureRequest, client: bigquery_api.Client) -> Iterator[tables.Table]:
    """The summary, whose DAY is made as it was at the end."""
    table = tables.load_table(settings().sql_dir, request.param)
    yield table
    build_day(client, table, DAY)


@pytest.fixture
def arrive(client: bigquery_api.Client, table: tables.Table) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Lets an event come by stream when DAY of the summary is built; at the end none has come."""
    arrived: list[dict[str, Any]] = []

    def stream_in() -> None:
        fill(client, "shop_raw.events_stream", arrived)
        build_tables_read(client, table, [DAY], anew=False)

    def let(given: dict[str, Any]) -> None:
        noon = dt.datetime.combine(DAY, dt.time(12))
        arrived.append(stream_event(event_id="new", event_time=noon, **given))
        stream_in()

    yield let
    if arrived:
        arrived.clear()
        stream_in()


def statement(name: str, change: dict[str, Any]) -> str:
    of_day = f"event_date = DATE '{DAY}' AND ({change.get('where', 'TRUE')})"
    if "set" in change:
        return f"UPDATE {name} SET {change['set']} WHERE {of_day}"
    if "insert" in change:
        return f"INSERT INTO {name} SELECT * FROM {name} WHERE {of_day} AND {change['insert']}"
    return f"DELETE FROM {name} WHERE {of_day} AND {change['delete']}"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("table", "check"),
    [(name, check) for name, changes in CHANGES.items() for check in changes],
    indirect=["table"],
)
def test_a_check_finds_its_fault_and_no_other_check_does(
    client: bigquery_api.Client,
    built: dict[str, set[str]],
    table: tables.Table,
    arrive: Callable[[dict[str, Any]], None],
    check: str,
) -> None:
    change = CHANGES[table.full_name][check]
    if "arrives" in change:
        arrive(change["arrives"])
    else:
        client.query_and_wait(statement(table.full_name, change))

    assert findings(client, table) - built[table.full_name] == {check, *change.get("also", ())}


def test_every_check_has_a_change_that_it_must_find() -> None:
    checks = {
        name: {check.name for check in tables.load_table(settings().sql_dir, name).checks} for name in BUILT
    }
    assert {name: set(changes) for name, changes in CHANGES.items()} == checks
