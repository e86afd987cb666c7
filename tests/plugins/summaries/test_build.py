"""What building summaries does to days, what it would do, and what holds while events stream in."""

from __future__ import annotations

import datetime as dt
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream.gcp import bigquery
from shopstream.settings import settings
from shopstream.summaries import build as summaries
from shopstream.summaries.build import Change, FilledDayFailed
from shopstream.tables import folder as tables
from shopstream.tables.apply import apply
from shopstream.tables.day import (
    CheckFailed,
    CheckResult,
    build_day,
    build_statement,
    write_check_results,
)
from shopstream.tables.folder import Table
from shopstream.tables.names import CHECK_RESULTS, LOADS
from tests.plugins.load.landed import audit
from tests.sql.events import (
    batch_event,
    build_tables_read,
    empty,
    fill,
    rows_of,
    stream_event,
)

BUILT = tables.built_in_order(settings().sql_dir)
FILLED = (
    *(name for name in BUILT if name.startswith("shop_raw.")),
    "shop.customer_purchases",
    "shop.customer_value",
    "shop.daily_event_count",
    "shop.sessions",
)
FIRST, SECOND, THIRD = (dt.date(2019, 11, day) for day in (1, 2, 3))


def table_of(name: str) -> Table:
    dataset = "shop_raw" if f"shop_raw.{name}" in BUILT else "shop"
    return tables.load_table(settings().sql_dir, f"{dataset}.{name}")


DEDUPLICATED = table_of("events_deduplicated")


@pytest.fixture
def client(bigquery_tables_of_file: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with all tables, those empty that these tests fill."""
    filled = ("shop_raw.events_batch", "shop_raw.events_stream", LOADS, CHECK_RESULTS, *FILLED)
    empty(bigquery_tables_of_file, filled)
    return bigquery_tables_of_file


def publish(client: bigquery_api.Client, *days: dt.date) -> None:
    """Write the audit row by which a load says that it has published a day."""
    for day in days:
        audit(client, f"{day:%Y%m%d}-00000000", landing_day=day)


def purchase(day: dt.date, **given: Any) -> dict[str, Any]:
    moment = dt.datetime.combine(day, dt.time(10))
    return batch_event(
        **{"event_id": f"{day}{given}", "event_type": "purchase", "event_time": moment} | given
    )


# Which days are built


@pytest.mark.parametrize(
    ("name", "days", "built"),
    [
        ("daily_event_count", [FIRST], [FIRST]),
        ("customer_value", [FIRST], [FIRST, SECOND, THIRD]),
        ("customer_value", [THIRD], [THIRD]),
        ("customer_value", [SECOND, FIRST], [FIRST, SECOND, THIRD]),
        ("customer_value", [FIRST - dt.timedelta(days=89)], [FIRST - dt.timedelta(days=89), FIRST]),
        ("customer_value", [FIRST - dt.timedelta(days=90)], [FIRST - dt.timedelta(days=90)]),
        ("customer_value", [], []),
        ("sessions", [THIRD], [SECOND, THIRD]),
        ("sessions", [FIRST], [FIRST, SECOND, THIRD]),
        ("sessions", [THIRD + dt.timedelta(days=1)], [THIRD, THIRD + dt.timedelta(days=1)]),
    ],
)
def test_a_changed_day_is_built_and_each_known_day_that_looks_back_or_ahead_on_it(
    name: str, days: list[dt.date], built: list[dt.date]
) -> None:
    known = {FIRST: False, SECOND: False, THIRD: True}
    assert summaries.days_to_build(table_of(name), days, known) == built


@pytest.mark.integration
def test_a_late_purchase_is_seen_by_the_later_days_that_look_back_on_it(client: bigquery_api.Client) -> None:
    publish(client, FIRST, SECOND)
    events = [purchase(FIRST, user_id=1), purchase(SECOND, user_id=2)]
    fill(client, "shop_raw.events_batch", events)
    names = ("events_deduplicated", "carts_and_purchases", "customer_purchases", "customer_value")
    chain = [table_of(name) for name in names]
    for table in chain:
        summaries.build(client, table, [FIRST, SECOND])

    fill(client, "shop_raw.events_batch", [*events, purchase(FIRST, user_id=3)])
    assert [summaries.build(client, table, [FIRST]) for table in chain] == [2, 2, 2, 5]
    seen = "SELECT event_date, user_id FROM shop.customer_value ORDER BY 1, 2"
    assert [tuple(row.values()) for row in rows_of(client, seen)] == [
        (FIRST, 1), (FIRST, 3), (SECOND, 1), (SECOND, 2), (SECOND, 3)
    ]  # fmt: skip


@pytest.mark.integration
def test_a_session_grows_when_the_day_after_its_own_is_published_and_is_checked_in_full_only_then(
    client: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(client, FIRST)
    evening, night = (dt.datetime.combine(day, dt.time(hour)) for day, hour in ((FIRST, 23), (SECOND, 1)))
    events = [
        batch_event(event_id="a", event_time=evening),
        batch_event(event_id="b", event_time=night) | {"load_id": "20191102-00000000"},
    ]
    table = table_of("sessions")
    fill(client, "shop_raw.events_batch", events[:1])
    summaries.build(client, DEDUPLICATED, [FIRST])
    assert summaries.build(client, table, [FIRST]) == 1

    def build_and_load(*arguments: Any) -> None:
        build_day(*arguments)
        fill(client, "shop_raw.events_batch", events)
        build_day(client, DEDUPLICATED, SECOND)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(summaries, "build_day", build_and_load)
        assert summaries.build(client, table, [FIRST]) == 1
    assert "every_event_counted (warn) found expected_events = 2, found_events = 1" in caplog.text

    publish(client, SECOND)
    assert summaries.build(client, table, [SECOND]) == 1
    shown = "SELECT event_date, events, events_after_midnight FROM shop.sessions ORDER BY 1"
    assert [tuple(row.values()) for row in rows_of(client, shown)] == [(FIRST, 2, 1)]


@pytest.mark.integration
def test_of_what_others_read_each_known_day_near_the_days_built_is_there_after_the_first_build(
    client: bigquery_api.Client,
) -> None:
    """A project that had events before it had the table: its days are never read as days without events."""
    reach = DEDUPLICATED.metadata.fills_days
    long_before, too_long = (THIRD - dt.timedelta(days=number) for number in (reach, reach + 1))
    known = [too_long, long_before, FIRST, SECOND, THIRD]
    publish(client, *known)
    fill(client, "shop_raw.events_batch", [purchase(day) for day in known if day != SECOND])

    assert summaries.build(client, DEDUPLICATED, [THIRD]) == 3
    there = "SELECT DISTINCT event_date FROM shop_raw.events_deduplicated ORDER BY 1"
    assert [row["event_date"] for row in rows_of(client, there)] == [long_before, FIRST, THIRD]
    # SECOND was built too, and found empty: so it is not built again.
    again = summaries.dry_run(client, [DEDUPLICATED], [THIRD])
    assert [change.day for change in again] == [THIRD]

    # FIRST failed a check: the build that filled it has told so, and the next one builds it again.
    failed = CheckResult(FIRST, "every_event_there", "fail", 1, "found something", dt.datetime.now(dt.UTC))
    write_check_results(client, DEDUPLICATED, [failed])
    again = summaries.dry_run(client, [DEDUPLICATED], [THIRD])
    assert [change.day for change in again] == [FIRST, THIRD]
    write_check_results(client, DEDUPLICATED, [replace(failed, found_rows=0, finding=None)])

    # A load has published SECOND again, and nothing was built since.
    audit(client, "20191102-00000000", landing_day=SECOND, event_dates=[SECOND])
    again = summaries.dry_run(client, [DEDUPLICATED], [THIRD])
    assert [change.day for change in again] == [SECOND, THIRD]

    # The table was lost, and made anew.
    client.delete_table(DEDUPLICATED.full_name)
    apply(client, DEDUPLICATED)
    summaries.build(client, DEDUPLICATED, [THIRD])
    assert [row["event_date"] for row in rows_of(client, there)] == [long_before, FIRST, THIRD]


@pytest.mark.integration
def test_an_old_day_that_fails_a_check_is_told_as_one_that_nobody_asked_for_after_all_days_are_built(
    client: bigquery_api.Client,
) -> None:
    publish(client, FIRST, SECOND, THIRD)
    # Less than nothing was paid on FIRST, which the summary's check of its values refuses.
    events = [purchase(day, user_id=1, price=-1 if day == FIRST else 5) for day in (FIRST, SECOND, THIRD)]
    fill(client, "shop_raw.events_batch", events)
    table = table_of("customer_purchases")
    build_tables_read(client, table, [FIRST, SECOND, THIRD])

    for filled in ("2 days, 2019-11-01 to 2019-11-02", "1 day, 2019-11-01"):
        with pytest.raises(FilledDayFailed) as failed:
            summaries.build(client, table, [THIRD])
        asked_for, found = str(failed.value).splitlines()
        assert asked_for == (
            "shop.customer_purchases is built and good for 1 day, 2019-11-03, as was asked. "
            f"It also filled {filled}, of which these failed:"
        )
        assert found.startswith("shop.customer_purchases of 2019-11-01: check possible_values (fail) found")
        there = "SELECT event_date FROM shop.customer_purchases ORDER BY 1"
        assert [row["event_date"] for row in rows_of(client, there)] == [FIRST, SECOND, THIRD]

    # Asked for, it fails as any other.
    with pytest.raises(CheckFailed) as refused:
        summaries.build(client, table, [FIRST])
    assert not isinstance(refused.value, FilledDayFailed)


@pytest.mark.integration
def test_what_a_customer_bought_before_the_table_of_purchases_was_there_counts_in_the_first_build(
    client: bigquery_api.Client,
) -> None:
    publish(client, FIRST, SECOND)
    fill(client, "shop_raw.events_batch", [purchase(FIRST, user_id=1), purchase(SECOND, user_id=2)])
    for name in ("events_deduplicated", "carts_and_purchases", "customer_purchases", "customer_value"):
        summaries.build(client, table_of(name), [SECOND])
    seen = "SELECT user_id, recency_days FROM shop.customer_value ORDER BY 1"
    assert [tuple(row.values()) for row in rows_of(client, seen)] == [(1, 1), (2, 0)]


@pytest.mark.parametrize("name", BUILT)
def test_a_table_is_filled_as_far_as_those_look_that_read_other_days_of_it_than_their_own(name: str) -> None:
    """A build of a day also builds the days that look at it, which look as far again."""
    all_built = [tables.load_table(settings().sql_dir, one).metadata for one in BUILT]
    table = tables.load_table(settings().sql_dir, name).metadata
    reaches = [
        # Days that the table itself is made of are no days of it that are read.
        (reader.lookback_days - table.lookback_days)
        + (reader.lookahead_days - table.lookahead_days)
        + reader.fills_days
        for reader in all_built
        if name in reader.reads
    ]
    assert table.fills_days == max(reaches, default=0)


NOON = dt.datetime(2019, 11, 3, 12, tzinfo=dt.UTC)


@pytest.mark.integration
def test_yesterday_and_today_are_built_from_the_stream_until_they_are_published(
    client: bigquery_api.Client,
) -> None:
    assert summaries.intraday_days(client, THIRD, NOON, None, 0.01) == [SECOND, THIRD]
    publish(client, SECOND)
    assert summaries.intraday_days(client, THIRD, NOON, NOON, 0.01) == [THIRD]


@pytest.mark.integration
def test_days_of_which_late_events_streamed_in_are_built_too_once_they_are_due(
    client: bigquery_api.Client,
) -> None:
    publish(client, FIRST, SECOND)
    week_before = THIRD - dt.timedelta(days=7)
    published = {
        FIRST: NOON - dt.timedelta(seconds=1),  # seen when late days were last built
        SECOND: NOON,
        week_before: NOON + dt.timedelta(minutes=1),
        week_before - dt.timedelta(days=1): NOON,  # too late for a load, too
        THIRD + dt.timedelta(days=1): NOON,  # by a customer's clock that is ahead
    }
    fill(
        client,
        "shop_raw.events_stream",
        [
            stream_event(
                event_id=str(day), event_time=dt.datetime.combine(day, dt.time(23)), publish_time=moment
            )
            for day, moment in published.items()
        ],
    )
    assert summaries.intraday_days(client, THIRD, NOON, NOON, 1) == [week_before, SECOND, THIRD]


@pytest.mark.integration
def test_before_they_are_due_only_days_of_many_new_late_events_are_built(client: bigquery_api.Client) -> None:
    publish(client, SECOND, THIRD)
    few, many, unknown, seen = FIRST, SECOND, *(FIRST - dt.timedelta(days=number) for number in (2, 3))
    counted = {few: 200, many: 198}
    rows = [
        {"event_date": day, "event_type": kind, "events": events // 2, "users": 1, "sessions": 1}
        for day, events in counted.items()
        for kind in ("view", "cart")
    ]
    fill(client, "shop.daily_event_count", rows)
    late = [(few, 0), (few, 1), (many, 0), (many, 1), (unknown, 0), (seen, 0)]
    before = NOON - dt.timedelta(hours=1)
    fill(
        client,
        "shop_raw.events_stream",
        [
            stream_event(
                event_id=f"{day}{n}", event_time=dt.datetime.combine(day, dt.time(1)), publish_time=moment
            )
            for day, n in late
            for moment in (before, NOON)
            if day != seen or moment == before
        ],
    )
    assert summaries.intraday_days(client, THIRD, NOON, None, 0.01) == [unknown, many]
    assert summaries.intraday_days(client, THIRD, NOON, before, 0.01) == [seen, unknown, few, many]


@pytest.mark.integration
def test_different_days_and_the_same_may_be_built_at_the_same_time(client: bigquery_api.Client) -> None:
    days = [FIRST, SECOND, THIRD]
    publish(client, *days)
    events = [purchase(day, user_id=user) for day in days for user in range(day.day)]
    fill(client, "shop_raw.events_batch", events)
    table = table_of("customer_purchases")
    build_tables_read(client, table, days)
    with ThreadPoolExecutor(len(days)) as threads:
        built = list(threads.map(lambda day: summaries.build(client, table, [day]), days))
    # Each also builds those of the others' days that it finds not built yet.
    assert all(day.day <= rows <= 6 for day, rows in zip(days, built, strict=True))
    counted = "SELECT event_date, COUNT(*) AS n FROM shop.customer_purchases GROUP BY 1 ORDER BY 1"
    assert [tuple(row.values()) for row in rows_of(client, counted)] == list(
        zip(days, [1, 2, 3], strict=True)
    )


# Checks while events stream in


def test_on_a_provisional_day_a_check_that_looks_at_other_tables_only_warns() -> None:
    table = table_of("daily_event_count")
    severities = {check.name: check.severity for check in table.checks}
    provisional = {check.name: check.severity for check in summaries.as_provisional(table).checks}
    assert provisional == severities | {"every_event_counted": "warn"}
    assert severities["every_event_counted"] == provisional["unique_grain"] == "fail"


def stream_in_after_each_build(monkeypatch: pytest.MonkeyPatch, client: bigquery_api.Client) -> None:
    """Let an event arrive each time when a day is built and not yet checked."""
    arrived = [stream_event(event_id="before")]

    def build_and_stream(*arguments: Any) -> None:
        build_day(*arguments)
        arrived.append(stream_event(event_id=f"streamed {len(arrived)}"))
        fill(client, "shop_raw.events_stream", arrived)

    monkeypatch.setattr(summaries, "build_day", build_and_stream)


@pytest.mark.integration
def test_an_event_that_streams_in_between_build_and_check_warns_until_the_day_is_published(
    client: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = DEDUPLICATED
    fill(client, "shop_raw.events_stream", [stream_event(event_id="before")])
    stream_in_after_each_build(monkeypatch, client)

    with caplog.at_level(logging.WARNING):
        assert summaries.build(client, table, [FIRST]) == 1
    assert "every_event_there (warn) found expected_events = 2, found_events = 1" in caplog.text

    publish(client, FIRST)
    with pytest.raises(CheckFailed, match=r"every_event_there \(fail\)"):
        summaries.build(client, table, [FIRST])


@pytest.mark.integration
def test_on_a_provisional_day_rows_that_cannot_be_still_fail(
    client: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of("daily_event_count")
    row = {"event_date": FIRST, "event_type": "view", "events": 1, "users": 1, "sessions": 1}
    fill(client, table.full_name, [row, row])
    monkeypatch.setattr(summaries, "build_day", lambda *_: None)
    with pytest.raises(CheckFailed, match="unique_grain"):
        summaries.build(client, table, [FIRST])


# The dry run


def stored(client: bigquery_api.Client) -> dict[str, Any]:
    """All rows of all summaries."""
    return {name: rows_of(client, f"SELECT * FROM {name} ORDER BY 1, 2, 3") for name in BUILT}


@pytest.mark.integration
def test_a_dry_run_tells_which_rows_a_build_would_change_and_changes_none(
    client: bigquery_api.Client,
) -> None:
    publish(client, FIRST, SECOND)
    counts = table_of("daily_event_count")
    events = [batch_event(event_id="a"), batch_event(event_id="b", event_type="cart"), purchase(SECOND)]
    fill(client, "shop_raw.events_batch", events)
    chain = [DEDUPLICATED, counts]
    for table in chain:
        summaries.build(client, table, [FIRST, SECOND])
    # One row would stay, one would go, one be changed, one be new.
    fill(
        client,
        "shop_raw.events_batch",
        [
            events[0],
            batch_event(event_id="c", event_type="purchase"),
            purchase(SECOND, user_session="s2"),
            events[2],
        ],
    )
    build_tables_read(client, counts, [FIRST, SECOND], anew=False)
    before = stored(client)

    found = summaries.dry_run(client, [counts], [FIRST, SECOND, THIRD])
    assert [(c.day, c.rows_now, c.rows_then, c.rows_gone, c.rows_new) for c in found] == [
        (FIRST, 2, 2, 1, 1),
        (SECOND, 1, 1, 1, 1),
        (THIRD, 0, 0, 0, 0),
    ]
    assert stored(client) == before

    summaries.build(client, counts, [FIRST, SECOND])
    again = summaries.dry_run(client, [counts], [FIRST, SECOND])
    assert [(c.rows_gone, c.rows_new) for c in again] == [(0, 0), (0, 0)]


@pytest.mark.integration
def test_a_dry_run_can_be_made_of_every_summary_and_names_the_later_days_too(
    client: bigquery_api.Client,
) -> None:
    publish(client, FIRST, SECOND)
    fill(client, "shop_raw.events_batch", [purchase(FIRST)])
    chosen = [tables.load_table(settings().sql_dir, name) for name in BUILT]
    days: dict[str, list[dt.date]] = {name: [] for name in BUILT}
    found = summaries.dry_run(client, chosen, [FIRST])
    for change in found:
        days[change.table].append(change.day)
    # Known by its audit row, and looked back from by some; of what others read, not yet there.
    assert days == {
        table.full_name: [FIRST, SECOND]
        if table.metadata.lookback_days or table.metadata.fills_days
        else [FIRST]
        for table in chosen
    }
    assert [FIRST, SECOND] in days.values()
    assert {change.table for change in found if change.is_lower_bound} == {
        name for name, reads in BUILT.items() if reads
    }
    [alone] = summaries.dry_run(client, [table_of("customer_value")], [SECOND])
    assert not alone.is_lower_bound


@pytest.mark.integration
def test_to_ask_what_a_statement_would_read_does_not_run_it(client: bigquery_api.Client) -> None:
    """The emulator does not know a cost and answers 0."""
    fill(client, "shop_raw.events_batch", [purchase(FIRST)])
    merge = build_statement(table_of("customer_purchases"))
    assert bigquery.bytes_read(client, merge, {"day": FIRST}) == 0
    assert rows_of(client, "SELECT event_date FROM shop.customer_purchases") == []


def test_the_changes_are_told_as_a_table_with_their_sum() -> None:
    found = [
        Change("shop.daily_event_count", FIRST, 1_234_567_890, 3, 3, 1, 1),
        Change("shop.customer_value", SECOND, 50_000, 1_000, 1_200, 0, 200, is_lower_bound=True),
    ]
    told = summaries.describe(found).splitlines()
    assert told == [
        "summary                 day         MB read  rows now  rows then  gone  new",
        "shop.daily_event_count  2019-11-01  1,234.6         3          3     1    1",
        "shop.customer_value*    2019-11-02      0.1     1,000      1,200     0  200",
        "all                     2 builds    1,234.6     1,003      1,203     1  201",
        "* at least: it reads summaries that a build replaces before; they were read as they are now",
    ]
    assert not summaries.describe(found[:1]).splitlines()[-1].startswith("*")


# What checks found is kept


def kept(client: bigquery_api.Client) -> list[dict[str, Any]]:
    sql = """
        SELECT event_date, check_name, severity, found_rows, finding FROM shop_ops.check_results
        WHERE table_name = 'shop.daily_event_count' AND event_date >= '2019-01-01'
        ORDER BY event_date, check_name"""
    return rows_of(client, sql)


@pytest.mark.integration
def test_what_each_check_found_is_kept_once_a_day_also_of_a_build_that_failed(
    client: bigquery_api.Client,
) -> None:
    publish(client, FIRST, SECOND)
    fill(client, "shop_raw.events_batch", [purchase(FIRST), purchase(SECOND)])
    table = table_of("daily_event_count")
    build_tables_read(client, table, [FIRST, SECOND])
    names = sorted(check.name for check in table.checks)
    fill(client, "shop_ops.check_results", [])
    for _ in range(2):
        summaries.build(client, table, [FIRST, SECOND])
    passed = [row for row in kept(client) if not row["found_rows"]]
    found = [row for row in kept(client) if row["found_rows"]]
    assert sorted(row["check_name"] for row in kept(client)) == sorted(names * 2)
    assert all(row["finding"] is None for row in passed)
    assert [(row["event_date"], row["check_name"], row["severity"]) for row in found] == [
        (FIRST, "day_has_every_event_type", "warn"),
        (SECOND, "day_has_every_event_type", "warn"),
    ]
    assert found[0]["finding"].startswith("shop.daily_event_count of 2019-11-01: check day_has_every")

    broken = replace(table, query=(table.query or "").replace("COUNT(*)", "COUNT(*) + 1"))
    with pytest.raises(CheckFailed):
        summaries.build(client, broken, [SECOND])
    [failed] = [row for row in kept(client) if row["severity"] == "fail" and row["found_rows"]]
    assert (failed["event_date"], failed["check_name"]) == (SECOND, "every_event_counted")
    assert len(kept(client)) == 2 * len(names)
