"""What the demo calls broken, what it writes of a run, and what it says of each summary."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.contract import REASONS
from local.demo.run import MAX_REASONS, Run, _plain, broken_invariants, day_columns, headline, told_stream
from shopstream.settings import settings
from shopstream.tables.folder import load_table, summaries_in_order

DAY = "2019-11-01"


@pytest.fixture
def whole(tmp_path: Path) -> Run:
    """A run of one day of which nothing is broken."""
    run = Run.into(tmp_path / "out")
    run.landed = {DAY: {"rows": 10, "rejected": 1, "duplicates": 2, "late": 0}}
    counts = (DAY, 10, 9, 1, 2, 0, 7, 7)
    run.days = [dict(zip(day_columns(), counts, strict=True))]
    run.stores = {"rejected": {DAY: 1}, "events": 7, "distinct_events": 7}
    run.summaries = {
        table: [
            {"event_type": "view", "event_hour": 9, "events": 5},
            {"event_type": "view", "event_hour": 10, "events": 2},
        ]
        for table in ("daily_event_count", "purchase_conversion_volume", "hourly_price_by_event_type")
    }
    return run


def test_a_whole_run_breaks_nothing(whole: Run) -> None:
    assert broken_invariants(whole) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda run: run.days[0].update(read=11), "rows read = accepted + rejected: 11 is not 10"),
        (lambda run: run.landed[DAY].update(rows=11), "rows landed = rows read: 11 is not 10"),
        (
            lambda run: run.days[0].update(spanner_rows=8),
            "Spanner's rows = accepted - duplicates: 8 is not 7",
        ),
        (
            lambda run: run.days[0].update(bigquery_rows=6),
            "BigQuery's rows = accepted - duplicates: 6 is not 7",
        ),
        (
            lambda run: run.stores["rejected"].update({DAY: 0}),
            "lines kept in rejected_events = rejected: 0 is",
        ),
        (lambda run: run.landed[DAY].update(late=3), "late landed = late counted: 3 is not 0"),
        (lambda run: run.landed.update({"2019-11-02": {"rows": 1}}), "landed but not loaded: 2019-11-02"),
        (
            lambda run: setattr(run, "asked", "2 % rejected."),
            "asked: 2 % rejected.; no audit row tells who approved it",
        ),
        (lambda run: run.stores.update(distinct_events=6), "shop.events shows 6 events in 7 rows"),
        (
            lambda run: run.summaries.update(daily_event_count=[{"events": 6}]),
            "daily_event_count counts 6 events, shop.events has 7",
        ),
    ],
)
def test_a_count_that_contradicts_another_is_broken(
    whole: Run, change: Callable[[Run], Any], sentence: str
) -> None:
    change(whole)

    assert any(sentence in broken for broken in broken_invariants(whole))


def test_the_last_good_result_stays_until_a_new_one_is_whole(whole: Run) -> None:
    final = whole.final
    assert whole.tell() == 0
    assert (final / "result.json").exists()

    broken = Run.into(final)
    broken.broken = ["something"]
    assert broken.tell() == 1

    assert json.loads((final / "result.json").read_text())["days"] == whole.days
    assert json.loads((broken.out / "result.json").read_text())["days"] == []


def test_the_result_has_the_counts_and_the_exit_code_tells_whether_anything_is_broken(
    whole: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    whole.seconds = {"load": 1.5}

    assert whole.tell() == 0
    result = json.loads((whole.out / "result.json").read_text())
    assert result["days"] == whole.days
    assert result["summaries"]["daily_event_count"] == 2
    assert result["seconds"] == {"load": 1.5}

    whole.broken = ["something"]
    assert whole.tell() == 1
    assert "BROKEN something" in capsys.readouterr().out


# Headlines: what metadata.yaml of each summary words, over rows of two days

FIRST, SECOND = "2019-11-01", "2019-11-02"


def rows_of(columns: str, *values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(columns.split(), row, strict=True)) for row in values]


TYPES = rows_of(
    "event_date event_type subcategory weekday_name event_hour events",
    (FIRST, "view", "toys", "Friday", 9, 1_000),
    (FIRST, "purchase", "toys", "Friday", 10, 3),
    (SECOND, "cart", "beds", "Saturday", 10, 40),
    (SECOND, "purchase", "beds", "Saturday", 10, 4),
    (SECOND, "view", "toys", "Saturday", 9, 500),
    (SECOND, "purchase", "toys", "Saturday", 9, 2),
)
HEADLINES = {
    "daily_event_count": (TYPES, "1,500 views, 40 carts, 9 purchases"),
    "hourly_price_by_event_type": (TYPES, "the busiest hour begins at 09:00 UTC with 1,502 events"),
    "purchase_conversion_volume": (TYPES, "most purchases on Saturday: 6"),
    "purchase_conversion_rate": (TYPES, "toys: 0.33% of its events are purchases"),
    "most_visited_subcategories": (
        rows_of("subcategory views", ("a", 1), ("b", 1_000), ("c", 5), ("a", 2), ("d", 2)),
        "b 1,000 views, c 5 views, a 3 views",
    ),
    "cart_abandonment": (
        rows_of("carts abandoned_carts", (1_000, 5), (4, 3)),
        "1,004 products in carts, 8 of them abandoned",
    ),
    "customer_purchases": (
        rows_of("orders purchases", (1, 2), (1_000, 1_000)),
        "1,001 orders, 1,002 purchases",
    ),
    "revenue_daily": (
        rows_of("orders revenue", (1_200, Decimal("1000.500000000")), (1, Decimal(2))),
        "1,201 orders, revenue USD 1,002.50",
    ),
    "sessions": (
        rows_of("user_session events_after_midnight", ("a", 1_000), ("b", 2)),
        "2 sessions, 1,002 of their events past midnight",
    ),
    "bought_together": (
        rows_of(
            "unit kind place item_a baskets",
            ("customer", "subcategory", 1, "a", 1_000),
            ("customer", "subcategory", 2, "b", 2_000),
            ("session", "subcategory", 1, "b", 9_000),
            ("customer", "subcategory", 1, "c", 2),
        ),
        "most baskets with a and another sub-category: 1,000",
    ),
    "session_paths": (
        rows_of("path sessions", ("view a", 1_000), ("view b", 2), ("view a", 1)),
        "most sessions on the path view a: 1,001",
    ),
    "time_to_purchase": (
        rows_of(
            "scope unit viewed_purchases up_to_10_minutes",
            ("shop", "session", 1_000, 2),
            ("shop", "customer", 9, 9),
        ),
        "1,000 products bought after a view in the same session, 2 within 10 minutes",
    ),
    "purchase_funnels": (
        rows_of(
            "scope unit view_cart_purchase view_purchase",
            ("shop", "session", 1_000, 2),
            ("shop", "session_product", 9, 9),
            ("subcategory", "session", 9, 9),
            ("shop", "session", 1, 1),
        ),
        "1,001 sessions bought by view, cart, purchase; 3 by view, purchase",
    ),
    "customer_retention": (
        rows_of(
            "event_date cohort_week weeks_since customers active_customers",
            (FIRST, "2019-10-28", 0, 5, 5),
            (SECOND, "2019-10-21", 1, 7, 3),
            (SECOND, "2019-10-28", 0, 1_200, 1_100),
        ),
        "week of 2019-10-28: 1,100 of 1,200 active",
    ),
    "customer_value": (
        rows_of("event_date user_id", (FIRST, 1), (SECOND, 1), (SECOND, 2)),
        f"2 customers by {SECOND}",
    ),
    "brand_performance": (
        rows_of(
            "brand revenue",
            (None, Decimal(9_000)),
            ("apple", Decimal("1.5")),
            ("nan", Decimal(2)),
            ("apple", Decimal(1_000)),
        ),
        "most revenue by brand apple: USD 1,001.50",
    ),
    "product_performance": (
        rows_of("product_id revenue", (1, Decimal("1.5")), (2, Decimal(2))),
        "most revenue by product 2: USD 2.00",
    ),
}


@pytest.mark.parametrize("name", summaries_in_order(settings().sql_dir))
def test_the_headline_of_a_summary_can_be_told_of_any_row_of_its_kind(name: str) -> None:
    values = {"DATE": FIRST, "INT64": 100, "FLOAT64": 0.5, "NUMERIC": Decimal(1), "BOOL": True}
    table = load_table(settings().sql_dir, name)
    wanted = table.metadata.headline
    assert wanted
    row = {column.name: values.get(column.type, "a") for column in table.schema} | dict(wanted.where)
    assert headline(wanted, [row, row])


@pytest.mark.parametrize("name", HEADLINES)
def test_a_headline_is_as_the_metadata_word_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_CURRENCY", "USD")
    rows, told = HEADLINES[name]
    wanted = load_table(settings().sql_dir, f"shop.{name}").metadata.headline
    assert headline(wanted, rows) == told
    assert headline(wanted, []) == "no rows"


def test_a_half_in_a_headline_is_rounded_up() -> None:
    revenue = load_table(settings().sql_dir, "shop.revenue_daily").metadata.headline
    day = {"event_date": FIRST, "orders": 2, "revenue": Decimal("1000.125")}
    assert headline(revenue, [day]).endswith("1,000.13")
    share = load_table(settings().sql_dir, "shop.purchase_conversion_rate").metadata.headline
    events = rows_of("event_type subcategory events", ("view", "toys", 799), ("purchase", "toys", 1))
    assert headline(share, events) == "toys: 0.13% of its events are purchases"


def test_a_share_of_a_handful_is_no_headline() -> None:
    wanted = load_table(settings().sql_dir, "shop.purchase_conversion_rate").metadata.headline
    few = rows_of("event_type subcategory events", ("view", "toys", 97), ("purchase", "toys", 2))
    assert headline(wanted, few) == ""
    assert headline(wanted, [*few, few[1]]) == "toys: 3.96% of its events are purchases"


def test_the_end_says_why_and_where_lines_were_rejected_and_what_customers_did(
    whole: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    whole.rejects = [("bad_price", 1_001, "2019-11-01/events.csv line 123 (byte 12,345)")]
    whole.summaries = {"daily_event_count": HEADLINES["daily_event_count"][0]}
    whole.tell()
    told = capsys.readouterr().out
    assert re.search(r"bad_price\W+1,001\W+2019-11-01/events.csv line 123 \(byte 12,345\)", told)
    assert "What customers did\n  1,500 views, 40 carts, 9 purchases.\n" in told


def test_the_end_is_a_page_of_a_terminal_and_names_every_reason(
    whole: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    whole.rejects = [(reason, 2, "2019-11-01/events.csv line 1 (byte 0)") for reason in REASONS]
    whole.summaries = {name: rows for name, (rows, _) in HEADLINES.items()}
    whole.tell()
    told = capsys.readouterr().out
    assert all(f"{reason} " in told for reason in REASONS)
    assert len(told.splitlines()) <= 40


@pytest.mark.parametrize(
    ("value", "text"), [("0E-9", "0"), ("54.710000000", "54.71"), ("1E+3", "1000"), ("-0.5", "-0.5")]
)
def test_a_decimal_is_written_as_people_write_it(value: str, text: str) -> None:
    assert _plain(Decimal(value)) == text


def test_a_count_of_one_is_no_plural() -> None:
    wanted = load_table(settings().sql_dir, "shop.daily_event_count").metadata.headline
    rows = rows_of("event_type events", ("view", 21), ("cart", 1), ("purchase", 1))
    assert headline(wanted, rows) == "21 views, 1 cart, 1 purchase"


def test_a_name_that_reads_like_a_count_of_one_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOPSTREAM_CURRENCY", raising=False)
    wanted = load_table(settings().sql_dir, "shop.brand_performance").metadata.headline
    [row] = rows_of("brand revenue", ("1 bis", 2))
    assert headline(wanted, [row]) == "most revenue by brand 1 bis: 2.00"


@pytest.mark.parametrize(
    ("kills", "seconds", "look", "told"),
    [
        (1, 15.3, 5.7, ", killed 1 time, the next message 15.3 s later, a look of keep_stream_alive 5.7 s"),
        (2, None, None, ", killed 2 times"),
        (0, None, None, ""),
    ],
)
def test_what_came_of_the_stream_is_told_in_a_sentence(
    kills: int, seconds: float | None, look: float | None, told: str
) -> None:
    counts = {"published": 1_000, "stream_rows": 999, "rejected": 1, "distinct_in_view": 998}
    streamed = {**counts, "kills": kills, "seconds_to_recover": seconds, "keep_alive_seconds": look}
    assert told_stream(streamed) == (
        f"1,000 messages published: 999 rows of 998 events, 1 message rejected{told}."
    )


def test_the_reasons_that_are_left_over_are_counted(whole: Run, capsys: pytest.CaptureFixture[str]) -> None:
    whole.rejects = [(reason, 2, "") for reason in list(REASONS)[: MAX_REASONS + 1]]
    whole.tell()
    assert f"and 1 reason more: {whole.rejects[-1][0]} 2\n" in capsys.readouterr().out


def test_a_headline_of_rows_that_are_not_there_says_nothing() -> None:
    wanted = load_table(settings().sql_dir, "shop.purchase_conversion_volume").metadata.headline
    assert headline(wanted, TYPES[:1]) == ""
    assert headline(None, TYPES) == ""
