"""Rows of the five summary tables as BigQuery returns them, made from counts of events."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

Rows = list[dict[str, Any]]

SHARES = {
    "smartphone": 0.4,
    "kitchen": 0.2,
    "shoes": 0.12,
    "audio": 0.08,
    "notebook": 0.06,
    "clocks": 0.05,
} | {f"other_{n}": 0.01 for n in range(9)}
PRICES = {"view": Decimal("291.5"), "cart": Decimal("330.25"), "purchase": Decimal("300.1")}


def summaries(days: dict[date, tuple[int, int, int]]) -> dict[str, Rows]:
    """Return the tables of days with so many views, carts and purchases, by table name.

    As in the tables, what has no events has no row. Half of a day's events are in hour 9, half in hour 16.
    """
    tables: dict[str, Rows] = {
        "daily_event_count": [],
        "most_visited_subcategories": [],
        "hourly_price_by_event_type": [],
        "purchase_conversion_volume": [],
        "purchase_conversion_rate": [],
    }
    for day, counts in days.items():
        for kind, events in zip(PRICES, counts, strict=True):
            if not events:
                continue
            keys = {"event_date": day, "event_type": kind}
            tables["daily_event_count"].append(
                {**keys, "events": events, "users": events // 3 + 1, "sessions": events // 2 + 1}
            )
            weekday = day.isoweekday() % 7 + 1
            tables["purchase_conversion_volume"].append(
                {**keys, "weekday": weekday, "weekday_name": f"{day:%A}", "events": events}
            )
            for hour, part in ((9, events // 2), (16, events - events // 2)):
                if part:
                    price_sum = part * PRICES[kind] * (hour + 10) / 20
                    tables["hourly_price_by_event_type"].append(
                        {**keys, "event_hour": hour, "events": part, "price_sum": price_sum}
                    )
            for subcategory, share in SHARES.items():
                if part := round(events * share):
                    tables["purchase_conversion_rate"].append(
                        {**keys, "subcategory": subcategory, "events": part}
                    )
                    if kind == "view":
                        tables["most_visited_subcategories"].append(
                            {"event_date": day, "subcategory": subcategory, "views": part}
                        )
    return tables


ONE_DAY = {date(2019, 10, 1): (9240, 443, 148)}
THREE_DAYS = {date(2019, 11, day): (1_400_000 + day, 68_000 + day, 22_000 + day) for day in (1, 2, 3)}
MONTH = {date(2019, 11, day): (1_500_000, 72_000, 0 if day == 15 else 22_000) for day in range(1, 31)}
NO_DAY: dict[date, tuple[int, int, int]] = {}
