"""answers: what the rows say, and nothing where they say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from shopstream.charts import chart_names
from shopstream.dashboard.answers import answer_of


def funnel(viewed: int, by_cart: int, direct: int) -> list[dict[str, Any]]:
    steps = [
        ("view, cart, purchase", 1, viewed),
        ("view, cart, purchase", 3, by_cart),
        ("view, purchase", 1, viewed),
        ("view, purchase", 2, direct),
    ]
    return [
        {"funnel": name, "step_number": n, "sessions": sessions, "share_of_viewed": sessions / viewed}
        for name, n, sessions in steps
    ]


@pytest.mark.parametrize(
    ("chart", "rows", "told"),
    [
        (
            "daily_event_count",
            [
                {"event_date": "2019-11-01", "event_type": "view", "events": 1200},
                {"event_date": "2019-11-02", "event_type": "view", "events": 900},
                {"event_date": "2019-11-02", "event_type": "cart", "events": 5000},
            ],
            "Most views on 1 Nov 2019: 1,200.",
        ),
        (
            "most_visited_subcategories",
            [{"subcategory": "living_room", "views": 60}, {"subcategory": "audio", "views": 40}],
            "living room: 60 views, 60.0% of those with a sub-category.",
        ),
        (
            "hourly_price_by_event_type",
            [
                {"event_hour": 2, "event_type": "view", "events": 700, "price_sum": 90},
                {"event_hour": 9, "event_type": "view", "events": 80, "price_sum": 9000},
                {"event_hour": 9, "event_type": "purchase", "events": 14, "price_sum": 70},
                {"event_hour": 15, "event_type": "purchase", "events": 16, "price_sum": 60},
            ],
            "Most revenue at 09:00 UTC: 70 from 14 purchases. Most views at 02:00 UTC: 700.",
        ),
        (
            "hourly_price_by_event_type",
            [
                {"event_hour": 2, "event_type": "view", "events": 700, "price_sum": 90},
                {"event_hour": 9, "event_type": "purchase", "events": 29, "price_sum": 70},
            ],
            "Most views at 02:00 UTC: 700.",
        ),
        (
            "purchase_conversion_volume",
            [
                {"weekday_name": "Friday", "event_type": "view", "events": 900, "days": 5},
                {"weekday_name": "Friday", "event_type": "purchase", "events": 50, "days": 4},
                {"weekday_name": "Monday", "event_type": "purchase", "events": 44, "days": 4},
            ],
            "Most purchases on Mondays: 11.0 a day on average.",
        ),
        (
            "purchase_conversion_volume",
            [
                {"weekday_name": "Friday", "event_type": "purchase", "events": 16, "days": 40},
                {"weekday_name": "Monday", "event_type": "purchase", "events": 14, "days": 40},
            ],
            "Most purchases on Fridays: 0.4 a day on average.",
        ),
        (
            "purchase_conversion_rate",
            [
                {"subcategory": name, "event_type": kind, "events": events}
                for name, views, purchases in (
                    *((f"large_{n}", 1000 - n, 20 - n) for n in range(5)),
                    ("small", 100, 5),
                )
                for kind, events in (("view", views), ("purchase", purchases))
            ],
            "Most purchases per view: small, 5.0%; of those drawn here: large 0, 2.0%.",
        ),
        (
            "cart_abandonment_by_hour",
            [
                {"cart_hour": 4, "carts": 30, "abandoned_carts": 20},
                {"cart_hour": 15, "carts": 25, "abandoned_carts": 21},
            ],
            "Most products in carts are left at 15:00 UTC: 21 of 25.",
        ),
        (
            "revenue_by_subcategory",
            [{"subcategory": "living_room", "revenue": 75.5}, {"subcategory": "audio", "revenue": 24.5}],
            "living room: 76, 75.5% of the revenue in the table.",
        ),
        (
            "revenue_by_subcategory",
            [{"subcategory": "smartphone", "revenue": 10}],
            "smartphone: 10.",
        ),
        (
            "purchase_funnels",
            funnel(200, 4, 6),
            "Of 200 sessions that viewed, 2.0% bought through the cart and 3.0% without.",
        ),
        (
            "sessions",
            [
                {"length_number": 3, "length": "1 to 5 min", "sessions": 300},
                {"length_number": 1, "length": "a moment", "sessions": 900},
                {"length_number": 2, "length": "under 1 min", "sessions": 700},
            ],
            "The median of 1,900 sessions lasted under 1 min.",
        ),
        (
            "time_to_purchase",
            [
                {"seen": "by one customer", "time_number": 2, "purchases": 30},
                {"seen": "by one customer", "time_number": 4, "purchases": 10},
                {"seen": "in one session", "time_number": 1, "purchases": 99},
            ],
            "75.0% of 40 were bought within an hour of the first look.",
        ),
        (
            "bought_together",
            [
                {"kind": "subcategory", "item_a": "a", "item_b": "b", "baskets": 29, "lift": 9.0},
                {"kind": "subcategory", "item_a": "a", "item_b": "living_room", "baskets": 30, "lift": 2.5},
                {"kind": "product", "item_a": "1", "item_b": "2", "baskets": 99, "lift": 9.0},
            ],
            "a and living room are bought together 2.5 times as often as by chance.",
        ),
        (
            "session_funnels",
            [
                {
                    "funnel": "products put into the cart",
                    "step_number": 1,
                    "counted": 40,
                    "share_of_first": 1,
                },
                {
                    "funnel": "products put into the cart",
                    "step_number": 2,
                    "counted": 10,
                    "share_of_first": 0.25,
                },
            ],
            "75.0% of 40 products in carts were left by whole sessions.",
        ),
        (
            "session_paths",
            [
                {"path": "view a", "purchasing_sessions": 0},
                {"path": "view living_room > purchase living_room", "purchasing_sessions": 1200},
            ],
            "Most purchases come by view living room > purchase living room: 1,200 sessions.",
        ),
        (
            "product_performance",
            [{"product_id": 7, "brand": None, "revenue": 12.5, "purchases": 2}],
            "Product 7 of no brand: 13 from 2 purchases.",
        ),
        (
            "brand_performance",
            [
                {"brand": "rich", "revenue": 900, "purchases": 4, "views": 50},
                {"brand": "liked", "revenue": 800, "purchases": 6, "views": 60},
                {"brand": "rare", "revenue": 700, "purchases": 5, "views": 29},
            ],
            "rich: 900 from 4 purchases. Most purchases per view: liked, 10.0%.",
        ),
        (
            "customer_retention",
            [
                {"weeks_since": 0, "week_is_complete": True, "customers": 40, "active_customers": 40},
                {"weeks_since": 1, "week_is_complete": True, "customers": 40, "active_customers": 10},
                {"weeks_since": 1, "week_is_complete": False, "customers": 99, "active_customers": 0},
            ],
            "25.0% of customers bought again in the week after their first.",
        ),
    ],
)
def test_rows_are_told_in_a_sentence(chart: str, rows: list[dict[str, Any]], told: str) -> None:
    assert answer_of(chart, rows) == told


def test_money_is_told_with_its_currency_where_that_is_known() -> None:
    rows = [{"event_date": f"2019-11-0{n}", "revenue": 1234.5 / n, "orders": 3} for n in (1, 2)]
    assert answer_of("revenue_daily", rows) == "Most on 1 Nov 2019: 1,235 from 3 orders."
    assert answer_of("revenue_daily", rows, "EUR") == "Most on 1 Nov 2019: EUR 1,235 from 3 orders."


def test_a_half_of_what_is_left_of_a_whole_is_rounded_up() -> None:
    steps = {"funnel": "products put into the cart", "share_of_first": 1999 / 2000}
    counted = [steps | {"step_number": 1, "counted": 2000}, steps | {"step_number": 2, "counted": 1999}]
    assert answer_of("session_funnels", counted) == (
        "0.1% of 2,000 products in carts were left by whole sessions."
    )
    buyers = [{"orders_each": "1", "customers": 1999}, {"orders_each": "2", "customers": 1}]
    assert answer_of("customer_purchases", buyers) == "0.1% of 2,000 buyers ordered more than once."


def test_of_one_day_nothing_is_the_most() -> None:
    day = {"event_date": "2019-11-01", "event_type": "view", "events": 7, "revenue": 5, "orders": 3}
    assert answer_of("daily_event_count", [day]) == "Views on 1 Nov 2019: 7."
    assert answer_of("revenue_daily", [day]) == "On 1 Nov 2019: 5 from 3 orders."
    friday = {"weekday_name": "Friday", "event_type": "purchase", "events": 50, "days": 1}
    assert answer_of("purchase_conversion_volume", [friday]) is None


def test_of_two_weeks_no_weekday_has_the_most() -> None:
    def bought(days: int) -> str | None:
        weekdays = [("Friday", 490), ("Saturday", 300)]
        purchases = [
            {"weekday_name": name, "event_type": "purchase", "events": events, "days": days}
            for name, events in weekdays
        ]
        return answer_of("purchase_conversion_volume", purchases)

    assert bought(2) is None
    assert bought(10) == "Most purchases on Fridays: 49.0 a day on average."


def test_of_two_that_are_level_none_has_the_most() -> None:
    hours = [{"event_hour": hour, "event_type": "view", "events": 40, "price_sum": hour} for hour in (8, 9)]
    assert answer_of("hourly_price_by_event_type", hours) is None
    brands = [{"brand": name, "revenue": 60, "purchases": 6, "views": 60} for name in ("one", "other")]
    assert answer_of("brand_performance", brands) is None
    assert answer_of("brand_performance", [*brands, brands[0] | {"brand": "third", "views": 40}]) == (
        "Most purchases per view: third, 15.0%."
    )
    shares = [
        {"subcategory": name, "event_type": kind, "events": events}
        for name in ("one", "other")
        for kind, events in (("view", 100), ("purchase", 5))
    ]
    assert answer_of("purchase_conversion_rate", shares) is None


def test_of_a_few_views_no_hour_has_the_most() -> None:
    hours = [{"event_hour": 8, "event_type": "view", "events": 3, "price_sum": 9}]
    assert answer_of("hourly_price_by_event_type", hours) is None


def test_carts_are_counted_as_the_products_in_them() -> None:
    carts = [
        {"carts": 100, "abandoned_carts": 72, "abandoned_value": 0.15},
        {"carts": 100, "abandoned_carts": 73, "abandoned_value": 0.35},
    ]
    assert answer_of("cart_abandonment_by_subcategory", carts) == (
        "72.5% of 200 products in carts were left, worth 1."
    )


def test_of_a_few_purchases_no_weekday_has_the_most() -> None:
    days = [
        {"weekday_name": name, "event_type": kind, "events": events, "days": 4}
        for name, bought in (("Monday", 15), ("Tuesday", 14))
        for kind, events in (("view", 900), ("purchase", bought))
    ]
    assert answer_of("purchase_conversion_volume", days) is None


def test_a_share_of_few_is_not_told() -> None:
    assert answer_of("purchase_funnels", funnel(29, 1, 1)) is None
    carts = {"carts": 3, "abandoned_carts": 3, "abandoned_value": 1}
    assert answer_of("cart_abandonment_by_hour", [carts]) is None


def test_of_a_few_sessions_that_bought_none_went_the_way_of_most() -> None:
    paths = [{"path": "view a > purchase a", "purchasing_sessions": number} for number in (26, 3)]
    assert answer_of("session_paths", paths) is None


@pytest.mark.parametrize("chart", [*chart_names(), "a_chart_of_tomorrow"])
def test_no_rows_say_nothing(chart: str) -> None:
    assert answer_of(chart, []) is None
