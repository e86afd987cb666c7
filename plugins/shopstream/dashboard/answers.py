"""What a chart's rows say, as one sentence below the chart's question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from shopstream.rounding import percent, rounded

Row = Mapping[str, Any]
_MONEY = "\x1f"
"""Stands for the currency before an amount; no name holds it, see beam_jobs.identity."""
SMALL_SAMPLE = 30
"""Shares and weekdays of fewer than these say nothing, and no sentence is made of them."""
FEW_PURCHASES = 5
"""Nor do shares with fewer purchases than these."""
FEW_WEEKS = 3
"""One Friday is not what Fridays are: of fewer of a weekday than these none is said to have the most."""
SHOWN_SUBCATEGORIES = 5
"""So many are drawn in purchase_conversion_rate."""


def answer_of(chart: str, rows: Sequence[Row], currency: str = "") -> str | None:
    """Return the sentence, or None: no rows, too few to say anything, or a chart that nothing is said of.

    Money in it has its currency, by the three letters; "" if that is not known.
    """
    tell = _ANSWERS.get(chart)
    told = tell(rows) if tell and rows else None
    return told.replace(_MONEY, f"{currency} ".lstrip()) if told else None


def _daily_events(rows: Sequence[Row]) -> str | None:
    views = [row for row in rows if row["event_type"] == "view"]
    most = "Most views on" if len(views) > 1 else "Views on"
    return _most(views, "events", lambda row: f"{most} {_day(row['event_date'])}: {row['events']:,}.")


def _revenue(rows: Sequence[Row]) -> str | None:
    most = "Most on" if len(rows) > 1 else "On"
    return _most(
        rows,
        "revenue",
        lambda row: (
            f"{most} {_day(row['event_date'])}: {_amount(row['revenue'])} "
            f"from {_count(row['orders'], 'order')}."
        ),
    )


def _subcategories(rows: Sequence[Row]) -> str | None:
    whole = sum(row["views"] for row in rows)
    return _most(
        rows,
        "views",
        lambda row: (
            f"{_name(row['subcategory'])}: {_count(row['views'], 'view')}, "
            f"{percent(row['views'] / whole)} of those with a sub-category."
        ),
    )


def _hours(rows: Sequence[Row]) -> str | None:
    views, purchases = ([row for row in rows if row["event_type"] == kind] for kind in ("view", "purchase"))
    looked, bought = None, None
    if sum(row["events"] for row in views) >= SMALL_SAMPLE:
        looked = _most(
            views, "events", lambda row: f"Most views at {row['event_hour']:02}:00 UTC: {row['events']:,}."
        )
    if sum(row["events"] for row in purchases) >= SMALL_SAMPLE:
        bought = _most(
            purchases,
            "price_sum",
            lambda row: (
                f"Most revenue at {row['event_hour']:02}:00 UTC: {_amount(row['price_sum'])} "
                f"from {_count(row['events'], 'purchase')}."
            ),
        )
    return " ".join(filter(None, (bought, looked))) or None


def _weekdays(rows: Sequence[Row]) -> str | None:
    # A month has five of some weekdays and four of others.
    days: dict[str, int] = {}
    for row in rows:
        days[row["weekday_name"]] = max(days.get(row["weekday_name"], 0), row["days"])
    purchases = [row for row in rows if row["event_type"] == "purchase"]
    if len(days) < 2 or min(days.values()) < FEW_WEEKS:
        return None
    if sum(row["events"] for row in purchases) < SMALL_SAMPLE:
        return None
    return _most(
        [
            {"weekday": (name := row["weekday_name"]), "a_day": row["events"] / days[name]}
            for row in purchases
        ],
        "a_day",
        lambda row: f"Most purchases on {row['weekday']}s: {rounded(row['a_day'], 1):,} a day on average.",
    )


def _shares(rows: Sequence[Row]) -> str | None:
    by_name: dict[str, dict[str, int]] = {}
    for row in rows:
        by_name.setdefault(row["subcategory"], {})[row["event_type"]] = row["events"]
    rates = {
        name: counts.get("purchase", 0) / counts["view"]
        for name, counts in by_name.items()
        if counts.get("view", 0) >= SMALL_SAMPLE and counts.get("purchase", 0) >= FEW_PURCHASES
    }
    if not rates:
        return None
    best = _best(rates)
    if best is None:
        return None
    told = f"Most purchases per view: {_name(best)}, {percent(rates[best])}"
    shown = sorted(by_name, key=lambda name: (-sum(by_name[name].values()), name))[:SHOWN_SUBCATEGORIES]
    best_shown = _best({name: rates[name] for name in shown if name in rates})
    if best in shown or best_shown is None:
        return f"{told}."
    return f"{told}; of those drawn here: {_name(best_shown)}, {percent(rates[best_shown])}."


def _funnels(rows: Sequence[Row]) -> str | None:
    shares = {(row["funnel"], row["step_number"]): row for row in rows}
    by_cart, direct = shares[("view, cart, purchase", 3)], shares[("view, purchase", 2)]
    if shares[("view, purchase", 1)]["sessions"] < SMALL_SAMPLE:
        return None
    return (
        f"Of {shares[('view, purchase', 1)]['sessions']:,} sessions that viewed, "
        f"{percent(by_cart['share_of_viewed'])} bought through the cart and "
        f"{percent(direct['share_of_viewed'])} without."
    )


def _whole_sessions(rows: Sequence[Row]) -> str | None:
    shares = {(row["funnel"], row["step_number"]): row for row in rows}
    carts, bought = (shares[("products put into the cart", step)]["counted"] for step in (1, 2))
    if carts < SMALL_SAMPLE:
        return None
    return f"{percent((carts - bought) / carts)} of {carts:,} products in carts were left by whole sessions."


def _abandonment(rows: Sequence[Row]) -> str | None:
    carts, abandoned = (sum(row[name] for row in rows) for name in ("carts", "abandoned_carts"))
    value = sum(Decimal(str(row["abandoned_value"])) for row in rows)
    if carts < SMALL_SAMPLE:
        return None
    return f"{percent(abandoned / carts)} of {carts:,} products in carts were left, worth {_amount(value)}."


def _hours_of_carts(rows: Sequence[Row]) -> str | None:
    if sum(row["carts"] for row in rows) < SMALL_SAMPLE:
        return None
    return _most(
        rows,
        "abandoned_carts",
        lambda row: (
            f"Most products in carts are left at {row['cart_hour']:02}:00 UTC: "
            f"{row['abandoned_carts']:,} of {row['carts']:,}."
        ),
    )


def _revenue_by_subcategory(rows: Sequence[Row]) -> str | None:
    whole = sum(row["revenue"] for row in rows)
    return _most(
        rows,
        "revenue",
        lambda row: (
            f"{_name(row['subcategory'])}: {_amount(row['revenue'])}"
            # Not of all: the rows may be those of a brand.
            + (f", {percent(row['revenue'] / whole)} of the revenue in the table." if len(rows) > 1 else ".")
        ),
    )


def _products(rows: Sequence[Row]) -> str | None:
    return _most(
        rows,
        "revenue",
        lambda row: (
            f"Product {row['product_id']} of {row['brand'] or 'no brand'}: {_amount(row['revenue'])} "
            f"from {_count(row['purchases'], 'purchase')}."
        ),
    )


def _brands(rows: Sequence[Row]) -> str | None:
    told = _most(
        rows,
        "revenue",
        lambda row: f"{row['brand']}: {_amount(row['revenue'])} from {_count(row['purchases'], 'purchase')}.",
    )
    rates = {
        row["brand"]: row["purchases"] / row["views"]
        for row in rows
        if row["views"] >= SMALL_SAMPLE and row["purchases"] >= FEW_PURCHASES
    }
    best = _best(rates)
    converts = f"Most purchases per view: {best}, {percent(rates[best])}." if best is not None else None
    return " ".join(filter(None, (told, converts))) or None


def _retention(rows: Sequence[Row]) -> str | None:
    customers, active = (
        sum(row[name] for row in rows if row["weeks_since"] == 1 and row["week_is_complete"])
        for name in ("customers", "active_customers")
    )
    if customers < SMALL_SAMPLE:
        return None
    return f"{percent(active / customers)} of customers bought again in the week after their first."


def _segments(rows: Sequence[Row]) -> str | None:
    revenue, customers = (sum(row[name] for row in rows) for name in ("revenue", "customers"))
    if customers < SMALL_SAMPLE or not revenue:
        return None
    return _most(
        rows,
        "revenue",
        lambda row: (
            f"{row['segment'].capitalize()}: {percent(row['customers'] / customers, 0)} of customers, "
            f"{percent(row['revenue'] / revenue, 0)} of revenue."
        ),
    )


def _orders(rows: Sequence[Row]) -> str | None:
    customers = sum(row["customers"] for row in rows)
    once = sum(row["customers"] for row in rows if row["orders_each"] == "1")
    return (
        f"{percent((customers - once) / customers)} of {customers:,} buyers ordered more than once."
        if customers >= SMALL_SAMPLE
        else None
    )


def _sessions(rows: Sequence[Row]) -> str | None:
    sessions = sum(row["sessions"] for row in rows)
    if sessions < SMALL_SAMPLE:
        return None
    so_far = 0
    for row in sorted(rows, key=lambda row: row["length_number"]):
        so_far += row["sessions"]
        if so_far * 2 >= sessions:
            return f"The median of {sessions:,} sessions lasted {row['length']}."
    return None


def _paths(rows: Sequence[Row]) -> str | None:
    if sum(row["purchasing_sessions"] for row in rows) < SMALL_SAMPLE:
        return None
    return _most(
        rows,
        "purchasing_sessions",
        lambda row: (
            f"Most purchases come by {_name(row['path'])}: {_count(row['purchasing_sessions'], 'session')}."
        ),
    )


def _time_to_purchase(rows: Sequence[Row]) -> str | None:
    own = [row for row in rows if row["seen"] == "by one customer"]
    purchases = sum(row["purchases"] for row in own)
    if purchases < SMALL_SAMPLE:
        return None
    within_an_hour = sum(row["purchases"] for row in own if row["time_number"] <= 3)
    share = percent(within_an_hour / purchases)
    return f"{share} of {purchases:,} were bought within an hour of the first look."


def _pairs(rows: Sequence[Row]) -> str | None:
    frequent = [row for row in rows if row["kind"] == "subcategory" and row["baskets"] >= SMALL_SAMPLE]
    return _most(
        frequent,
        "lift",
        lambda row: (
            f"{_name(row['item_a'])} and {_name(row['item_b'])} are bought together "
            f"{rounded(row['lift'], 1):,} times as often as by chance."
        ),
    )


_ANSWERS: dict[str, Callable[[Sequence[Row]], str | None]] = {
    "daily_event_count": _daily_events,
    "revenue_daily": _revenue,
    "most_visited_subcategories": _subcategories,
    "hourly_price_by_event_type": _hours,
    "purchase_conversion_volume": _weekdays,
    "purchase_conversion_rate": _shares,
    "purchase_funnels": _funnels,
    "cart_abandonment_by_subcategory": _abandonment,
    "cart_abandonment_by_hour": _hours_of_carts,
    "revenue_by_subcategory": _revenue_by_subcategory,
    "product_performance": _products,
    "brand_performance": _brands,
    "customer_retention": _retention,
    "customer_value": _segments,
    "customer_purchases": _orders,
    "sessions": _sessions,
    "time_to_purchase": _time_to_purchase,
    "session_paths": _paths,
    "session_funnels": _whole_sessions,
    "bought_together": _pairs,
}


def _most(rows: Sequence[Row], column: str, tell: Callable[[Row], str]) -> str | None:
    """Tell the row with the most; None where that is 0, or several have as much."""
    most = max((row[column] for row in rows), default=0)
    first = [row for row in rows if row[column] == most]
    return tell(first[0]) if most and len(first) == 1 else None


def _best(rates: Mapping[str, float]) -> str | None:
    """Return whose rate is highest; None where there are none, or several are level."""
    highest = max(rates.values(), default=None)
    first = [name for name, rate in rates.items() if rate == highest]
    return first[0] if len(first) == 1 else None


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"


def _amount(value: Decimal | float) -> str:
    return f"{_MONEY}{rounded(value):,}"


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {day:%b %Y}"


def _name(text: str) -> str:
    return text.replace("_", " ")
