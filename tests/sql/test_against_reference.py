"""Each summary over events in no sensible order, against the reference: what generated days never hold.

Purchases without views, carts after purchases, several events in one second, sessions that customers share or
that last over midnight, products that change their category: few of everything, so that all of it meets.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from google.cloud import bigquery as bigquery_api

from beam_jobs.contract import COLUMN_NAMES, EVENT_TYPES
from shopstream.settings import settings
from shopstream.tables import folder as tables
from shopstream.tables.day import build_day
from tests.sql.events import BUILT, SUMMARIES, VIEWS_OF_DAYS, apply_all, batch_event, fill
from tools.reference import compare, reference_summaries

pytestmark = pytest.mark.integration

# Two days, and two of the week after, with nothing between them.
DAYS = [dt.date(2019, 11, day) for day in (1, 2, 8, 9)]
EARLIER = sorted(
    {day - dt.timedelta(days=number) for day in DAYS[1:3] for number in (83, 84, 85, 89, 90, 168, 174, 175)}
)
"""Days at the edges of what two of DAYS look back on: 90 days of customers, 12 and 25 weeks of cohorts."""
READ_BY_LATER_DAYS = ("shop.customer_purchases", *(name for name in BUILT if name.startswith("shop_raw.")))
EVENTS, EARLIER_EVENTS = 700, 150
SEED = 7
SECONDS = (0, 1, 2, 3, 3600, 36_000, 36_001, 36_002, 43_199, 43_200, 86_398, 86_399)
CATEGORIES = (None, "medicine", "apparel.shoes", "apparel.shoes.keds", "electronics.smartphone", "toys.shoes")


def odd_events() -> list[dict[str, Any]]:
    """Return EARLIER_EVENTS different events of EARLIER and EVENTS of DAYS."""
    choose = random.Random(SEED).choice
    events: dict[str, dict[str, Any]] = {}
    while len(events) < EARLIER_EVENTS + EVENTS:
        midnight = dt.datetime.combine(choose(EARLIER if len(events) < EARLIER_EVENTS else DAYS), dt.time())
        # Some come once in a while only, so that they have left a window, or come back after a long pause.
        user_id = choose(range(1, 8)) if choose(range(4)) else choose(range(8, 60))
        product_id = choose(range(1, 6))
        event = {
            "event_time": midnight + dt.timedelta(seconds=choose(SECONDS)),
            "event_type": choose(EVENT_TYPES),
            "product_id": product_id,
            "category_id": product_id,
            "category_code": CATEGORIES[product_id] if choose(range(9)) else choose(CATEGORIES),
            "brand": choose((None, "nan", "apple", "samsung")),
            "price": choose(("0", "0.01", "9.99", "33.333333333", "1000")),
            "user_id": user_id,
            "user_session": choose((None, "shared", f"a{user_id}", f"b{user_id}", f"c{user_id}")),
        }
        event_id = hashlib.sha256(repr(event).encode()).hexdigest()[:32]
        events[event_id] = {"event_id": event_id, **event}
    return list(events.values())


def write_export(path: Path, events: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMN_NAMES, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(event | {"event_time": f"{event['event_time']} UTC"} for event in events)


def test_every_figure_of_every_summary_of_odd_events_equals_the_reference(
    bigquery_clean: bigquery_api.Client, tmp_path: Path
) -> None:
    events = odd_events()
    write_export(tmp_path / "odd.csv", events)
    expected = reference_summaries([tmp_path / "odd.csv"])
    apply_all(bigquery_clean)
    fill(bigquery_clean, "shop_raw.events_batch", [batch_event(**event) for event in events])

    for name in BUILT:
        table = tables.load_table(settings().sql_dir, name)
        for day in EARLIER + DAYS if name in READ_BY_LATER_DAYS else DAYS:
            build_day(bigquery_clean, table, day)
    differences = {}
    for name in (*SUMMARIES, *VIEWS_OF_DAYS):
        table = tables.load_table(settings().sql_dir, name)
        frame = expected[table.name].query("event_date in @DAYS")
        sql = f"SELECT {', '.join(frame.columns)} FROM {name} WHERE event_date >= '{DAYS[0]}'"
        rows = [tuple(row.values()) for row in bigquery_clean.query_and_wait(sql)]
        differences[name] = compare(frame, pd.DataFrame(rows, columns=frame.columns))
    assert differences == {name: [] for name in (*SUMMARIES, *VIEWS_OF_DAYS)}


def test_the_odd_events_reach_the_edges_of_what_is_looked_back_on(tmp_path: Path) -> None:
    write_export(tmp_path / "odd.csv", odd_events())
    expected = reference_summaries([tmp_path / "odd.csv"])
    value = expected["customer_value"].query("event_date in @DAYS")
    assert value.recency_days.max() == 89
    retention = expected["customer_retention"].query("event_date in @DAYS")
    assert set(retention.weeks_since) >= {0, 1, 12}
    purchases = expected["customer_purchases"]
    edges = {(DAYS[1] - day).days for day in purchases.event_date if day < DAYS[0]}
    assert edges >= {89, 90, 174, 175}


def test_the_odd_events_take_every_way_through_a_funnel(tmp_path: Path) -> None:
    write_export(tmp_path / "odd.csv", odd_events())
    funnels = reference_summaries([tmp_path / "odd.csv"])["purchase_funnels"]
    ways = [
        "view_cart_purchase",
        "view_purchase",
        "cart_view_purchase",
        "purchase_before_view",
        "purchase_without_view",
    ]
    assert (funnels[ways].sum() > 0).all()
