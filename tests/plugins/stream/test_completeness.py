"""What shop_ops.stream_completeness says of days that are in one path, in both, or in none."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.settings import Limits, settings
from shopstream.stream import completeness
from shopstream.stream.completeness import StreamIncomplete, compare_days
from shopstream.tables import folder as tables
from tests.sql.events import batch_event, fill, rows_of, stream_event

pytestmark = pytest.mark.integration

DAY = dt.date(2019, 11, 8)
NAME = "shop_ops.stream_completeness"
MISSING = Limits(warn=0.1, fail=0.5)


@pytest.fixture
def client(bigquery_tables_of_file: bigquery_api.Client) -> bigquery_api.Client:
    fill(bigquery_tables_of_file, NAME, [])
    return bigquery_tables_of_file


def at(day: dt.date, hour: int = 10) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour))


def given(client: bigquery_api.Client, batch: list[dict[str, Any]], stream: list[dict[str, Any]]) -> None:
    """Let the two tables hold these events and no others; each is of DAY unless it says when."""
    default = {"event_time": at(DAY)}
    fill(client, "shop_raw.events_batch", [batch_event(**default | event) for event in batch])
    rows = [
        stream_event(**default | event) | {"publish_time": event.get("published", at(DAY))}
        for event in stream
    ]
    fill(client, "shop_raw.events_stream", rows)


def events(numbers: str, **fields: Any) -> list[dict[str, Any]]:
    """Events with these ids, one letter each."""
    return [{"event_id": number, **fields} for number in numbers]


def compare(client: bigquery_api.Client, *days: dt.date, missing: Limits = MISSING) -> dict[str, str]:
    return compare_days(client, tables.load_table(settings().sql_dir, NAME), days or (DAY,), missing)


def found(client: bigquery_api.Client) -> list[tuple[Any, ...]]:
    """The rows but for compared_at."""
    rows = rows_of(
        client,
        "SELECT CAST(event_date AS STRING), event_type, batch_events, stream_events, only_in_batch, "
        f"only_in_stream, level FROM {NAME} ORDER BY event_date, event_type",
    )
    return [tuple(row.values()) for row in rows]


def test_events_are_counted_by_id_in_both_and_in_one_alone(client: bigquery_api.Client) -> None:
    given(
        client,
        [*events("abcdefghijk"), *events("xy", event_type="cart"), *events("z", event_type="purchase")],
        [*events("abcdefghijl"), *events("xy", event_type="cart"), *events("z", event_type="purchase")],
    )
    assert compare(client, missing=Limits(0.2, 0.5)) == {"2019-11-08": "ok"}
    assert found(client) == [
        ("2019-11-08", "cart", 2, 2, 0, 0, "ok"),
        ("2019-11-08", "purchase", 1, 1, 0, 0, "ok"),
        ("2019-11-08", "view", 11, 11, 1, 1, "ok"),
    ]


def test_an_event_that_came_often_counts_once(client: bigquery_api.Client) -> None:
    landed_twice = [*events("a"), *events("a", landing_day=DAY + dt.timedelta(days=1))]
    given(client, [*landed_twice, *events("b")], events("aaabb"))
    assert compare(client) == {"2019-11-08": "ok"}
    assert found(client) == [("2019-11-08", "view", 2, 2, 0, 0, "ok")]


@pytest.mark.parametrize(
    ("stream", "level"),
    [
        ("abcdefghij", "ok"),
        ("abcdefghi", "warn"),
        ("abcdef", "warn"),
        ("abcdefghijk", "ok"),
        ("abcdefghijkl", "warn"),
        ("abcdefghijklmnopqrstuv", "warn"),
    ],
)
def test_the_level_tells_how_much_is_missing(client: bigquery_api.Client, stream: str, level: str) -> None:
    given(client, events("abcdefghij"), events(stream))
    assert compare(client) == {"2019-11-08": level}


def test_a_level_of_nothing_is_reached_only_when_something_is_missing(client: bigquery_api.Client) -> None:
    given(client, events("a"), events("a"))
    assert compare(client, missing=Limits(0, 0)) == {"2019-11-08": "ok"}


def test_too_much_missing_fails_and_names_day_type_and_share_after_all_rows_are_written(
    client: bigquery_api.Client,
) -> None:
    next_day = DAY + dt.timedelta(days=1)
    given(
        client,
        [*events("abcd"), *events("ef", event_time=at(next_day))],
        [*events("ab"), *events("ef", event_time=at(next_day))],
    )
    with pytest.raises(StreamIncomplete) as caught:
        compare(client, DAY, next_day)
    assert "2019-11-08: the stream lacks 2 of 4 view events (50.00%; at most 50.00% may" in str(caught.value)
    assert "2019-11-09" not in str(caught.value)
    assert found(client) == [
        ("2019-11-08", "view", 4, 2, 2, 0, "fail"),
        ("2019-11-09", "view", 2, 2, 0, 0, "ok"),
    ]


def test_a_day_before_there_was_a_stream_is_absent(client: bigquery_api.Client) -> None:
    given(client, events("ab"), [])
    assert compare(client) == {"2019-11-08": "absent"}
    assert found(client) == [("2019-11-08", "view", 2, 0, 2, 0, "absent")]


def test_a_simulation_of_other_days_makes_no_day_more_than_absent(client: bigquery_api.Client) -> None:
    earlier, years_later = at(DAY - dt.timedelta(days=1)), dt.datetime(2026, 1, 1)  # noqa: DTZ001 (UTC)
    given(client, events("ab"), events("c", event_time=earlier, published=years_later))
    assert compare(client) == {"2019-11-08": "absent"}


def test_a_day_without_any_event_after_the_stream_had_run_fails(client: bigquery_api.Client) -> None:
    earlier = at(DAY - dt.timedelta(days=7))
    given(client, events("ab"), events("c", event_time=earlier, published=earlier))
    with pytest.raises(StreamIncomplete, match="lacks 2 of 2 view events"):
        compare(client)


def test_a_type_that_the_stream_lacks_fails_when_it_has_others(client: bigquery_api.Client) -> None:
    given(client, [*events("ab"), *events("c", event_type="purchase")], events("ab"))
    with pytest.raises(StreamIncomplete, match="lacks 1 of 1 purchase events"):
        compare(client)


def test_a_day_that_was_not_loaded_yet_is_a_warning(client: bigquery_api.Client) -> None:
    given(client, [], events("ab"))
    assert compare(client) == {"2019-11-08": "warn"}
    assert found(client) == [("2019-11-08", "view", 0, 2, 0, 2, "warn")]


def test_comparing_again_replaces_the_day_and_no_other(client: bigquery_api.Client) -> None:
    next_day = DAY + dt.timedelta(days=1)
    late = events("cd", event_time=at(next_day))
    given(client, [*events("ab"), *late], [*events("a"), *late])
    with pytest.raises(StreamIncomplete):
        compare(client, DAY, next_day)
    given(client, [*events("ab"), *late], [*events("ab"), *late])
    for _ in range(2):
        assert compare(client) == {"2019-11-08": "ok"}
    assert [row[:5] for row in found(client)] == [
        ("2019-11-08", "view", 2, 2, 0),
        ("2019-11-09", "view", 2, 2, 0),
    ]


def test_a_missing_share_is_rounded_half_up() -> None:
    counts = {"batch_events": 800, "stream_events": 799, "only_in_batch": 1, "only_in_stream": 0}
    row = {"event_date": DAY, "event_type": "view", "level": "ok"} | counts
    assert "  0.13%  ok" in completeness._as_text([row], [DAY])


def test_an_empty_day_has_no_rows_and_is_told(
    client: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    given(client, events("abcdefghij"), events("abcdefghi"))
    empty = DAY + dt.timedelta(days=1)
    with caplog.at_level(logging.INFO):
        assert compare(client, DAY, empty) == {"2019-11-08": "warn"}
    [table] = [message for message in caplog.messages if message.startswith(f"{NAME}\n")]
    assert table.splitlines()[1:] == [
        "event_date  event_type  batch_events  stream_events  only_in_batch  only_in_stream  missing  level",
        "2019-11-08  view                  10              9              1               0   10.00%  warn",
        "2019-11-09  neither the loads nor the stream have an event",
    ]


def test_the_query_gives_the_columns_of_schema_yaml_in_order_and_type(client: bigquery_api.Client) -> None:
    table = tables.load_table(settings().sql_dir, NAME)
    parameters = [
        bigquery_api.ScalarQueryParameter("day", "DATE", DAY),
        *(
            bigquery_api.ScalarQueryParameter(*declared, 0.1)
            for declared in table.metadata.parameters.items()
        ),
    ]
    job = client.query(table.query or "", bigquery_api.QueryJobConfig(query_parameters=parameters))
    columns = [(field.name, field.field_type.replace("INTEGER", "INT64")) for field in job.result().schema]
    assert columns == [(column.name, column.type) for column in table.schema]
