"""Days of a shop as their summaries tell of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from google.cloud import bigquery as bigquery_api

from tests.sql.events import fill

NOON = dt.datetime(2019, 12, 1, 12, tzinfo=dt.UTC)
TABLES = (
    "shop.daily_event_count",
    "shop.revenue_daily",
    "shop.cart_abandonment",
    "shop.purchase_conversion_rate",
)


def fill_days(
    client: bigquery_api.Client,
    purchases: Mapping[dt.date, int],
    *,
    views: Mapping[dt.date, int] | None = None,
    not_final: tuple[dt.date, ...] = (),
    not_built: tuple[dt.date, ...] = (),
) -> None:
    """Let the summaries have these days, each of so many purchases and views (else 60,000), and 3,000 carts.

    Two thirds of views and all purchases are of smartphones; the other events have no category. Days that are
    not final no load has published; those that are not built were published after they were built.
    """
    events = {
        day: {"view": views[day] if views else 60_000, "cart": 3_000, "purchase": count}
        for day, count in purchases.items()
    }
    fill(
        client,
        "shop.daily_event_count",
        [
            {
                "event_date": day,
                "event_type": kind,
                "events": count,
                "users": count / 2,
                "sessions": count / 2,
            }
            for day, kinds in events.items()
            for kind, count in kinds.items()
            if count
        ],
    )
    fill(
        client,
        "shop.revenue_daily",
        [
            {
                "event_date": day,
                "orders": count / 2,
                "buyers": count / 4,
                "purchases": count,
                "revenue": count * 10,
            }
            for day, count in purchases.items()
        ],
    )
    fill(
        client,
        "shop.cart_abandonment",
        [
            {
                "event_date": day,
                "subcategory": subcategory,
                "cart_hour": hour,
                "carts": 750,
                "cart_value": 7500,
                "abandoned_carts": 500,
                "abandoned_value": 5000,
                "carts_without_order": 400,
                "value_without_order": 4000,
                "abandonment_rate": 0.6,
            }
            for day in purchases
            for subcategory in ("smartphone", None)
            for hour in (10, 11)
        ],
    )
    fill(
        client,
        "shop.purchase_conversion_rate",
        [
            {
                "event_date": day,
                "subcategory": "smartphone",
                "event_type": kind,
                "events": count,
                "share_of_events": 0.5,
            }
            for day, kinds in events.items()
            for kind, count in (("view", kinds["view"] * 2 // 3), ("purchase", kinds["purchase"]))
            if count
        ],
    )
    fill(
        client,
        "shop_ops.loads",
        [
            {
                "landing_day": day,
                "load_id": f"{day:%Y%m%d}-t1",
                **dict.fromkeys(("read", "accepted", "rejected", "duplicates", "late"), 0),
                **dict.fromkeys(("spanner_rows", "bigquery_rows"), 0),
                "loaded_at": NOON + dt.timedelta(hours=day in not_built),
            }
            for day in purchases
            if day not in not_final
        ],
    )
    fill(
        client,
        "shop_ops.check_results",
        [
            {
                "event_date": day,
                "table_name": table,
                "check_name": check,
                "severity": "fail",
                "found_rows": 0,
                "checked_at": NOON + dt.timedelta(minutes=1),
            }
            for day in purchases
            for table in TABLES
            for check in ("unique_grain", "every_event_counted")
        ],
    )
