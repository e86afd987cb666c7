"""Who comes when and what is bought, against the published figures of November 2019."""

from __future__ import annotations

import datetime as dt
import math

import pandas as pd
import pytest

from local.events.day import generate_day
from local.events.sessions import day_shape
from tests.local.events.frames import (
    CARTS,
    DAY,
    MONTH_MEAN_EVENTS,
    PURCHASES,
    ROWS,
    SEED,
    STANDARD_ERRORS,
    TYPE_EFFECT,
    VIEWS,
    assert_share,
    csv_of,
    frame_of,
)


def test_event_types_have_the_published_shares(month: pd.DataFrame) -> None:
    shares = month.event_type.value_counts(normalize=True)

    for event_type, published in (("view", VIEWS), ("cart", CARTS), ("purchase", PURCHASES)):
        assert_share(shares[event_type], published / ROWS, len(month), TYPE_EFFECT)


def test_days_have_the_published_weights_and_purchases(month: pd.DataFrame) -> None:
    by_day = pd.crosstab(month.event_time.str[:10], month.event_type)
    scale = 30 * MONTH_MEAN_EVENTS / ROWS

    assert by_day.loc["2019-11-15", "purchase"] == 0
    for day, views in (("01", 1_400_000), ("14", 2_880_000), ("16", 6_030_000), ("17", 5_780_000)):
        assert by_day.loc[f"2019-11-{day}", "view"] == pytest.approx(views * scale, rel=0.02)
    for day, purchases in (("16", 68_247), ("17", 185_195), ("29", 32_107)):
        expected = purchases * scale
        error = STANDARD_ERRORS * math.sqrt(expected * TYPE_EFFECT)
        assert by_day.loc[f"2019-11-{day}", "purchase"] == pytest.approx(expected, abs=error)


def test_weekdays_have_the_published_views_and_carts(month: pd.DataFrame) -> None:
    # Sunday to Saturday.
    views = (10_655_259, 7_060_674, 6_758_308, 6_728_150, 7_768_675, 12_138_186, 12_444_980)
    carts = (586_851, 251_754, 233_132, 235_121, 337_040, 742_195, 642_764)
    weekday = pd.to_datetime(month.event_time.str[:10]).dt.day_of_week
    found = pd.crosstab((weekday + 1) % 7, month.event_type)

    for number in range(7):
        assert found["view"][number] / found["view"].sum() == pytest.approx(views[number] / VIEWS, rel=0.01)
        expected = carts[number] * 30 * MONTH_MEAN_EVENTS / ROWS
        error = STANDARD_ERRORS * math.sqrt(expected * TYPE_EFFECT)
        assert found["cart"][number] == pytest.approx(expected, abs=error)


def test_a_day_of_another_month_is_like_an_ordinary_november_day_of_its_weekday() -> None:
    friday = day_shape(dt.date(2024, 3, 1))

    assert friday.views == pytest.approx(1_600_000, rel=0.02)
    assert friday.purchases == pytest.approx((22_458 + 25_714 + 24_187 + 32_107) / 4, abs=1)
    assert len(frame_of(csv_of(generate_day(dt.date(2024, 2, 29), 100, SEED)))) == 100


def test_hours_are_quiet_and_busy_as_published(month: pd.DataFrame) -> None:
    hour = month.event_time.str[11:13].astype(int)
    busiest_first = list(hour.value_counts().index)

    assert set(busiest_first[:5]) == {13, 14, 15, 16, 17}
    assert set(busiest_first[-5:]) == {21, 22, 23, 0, 1}
    views = month.event_type == "view"
    view_prices = month.price.astype(float)[views].groupby(hour[views]).sum()
    # 0.13 and 1.24 of 18.59 thousand millions; the first over some 2,000 events only.
    assert view_prices[0] / view_prices.sum() == pytest.approx(0.13 / 18.59, rel=0.25)
    assert view_prices[16] / view_prices.sum() == pytest.approx(1.24 / 18.59, rel=0.08)


def test_a_price_of_0_is_viewed_and_put_in_carts_but_never_bought(month: pd.DataFrame) -> None:
    free = month.event_type[month.price == "0.00"].value_counts()

    assert set(free.index) == {"view", "cart"}
    assert_share(free["view"] / (month.event_type == "view").sum(), 183_680 / VIEWS, len(month), TYPE_EFFECT)
    assert_share(free["cart"] / (month.event_type == "cart").sum(), 4_408 / CARTS, 13_000, TYPE_EFFECT)


def test_who_carts_has_viewed_and_who_buys_has_viewed_and_perhaps_carted_before(month: pd.DataFrame) -> None:
    """In file order, within one session and product."""
    journey = ["user_session", "product_id"]
    events = month.drop_duplicates().reset_index(drop=True)
    carts = events.event_type == "cart"
    purchases = events.event_type == "purchase"
    viewed_before = (events.event_type == "view").groupby([events[name] for name in journey]).cummax()
    carted_before = carts.groupby([events[name] for name in journey]).cummax()

    assert viewed_before[carts | purchases].all()
    # A later journey of the session to the same product may have carted it: a bit above the 60 % set.
    assert 0.5 < carted_before[purchases].mean() < 0.75


def test_a_session_has_as_many_events_as_published_and_seldom_two_users(month: pd.DataFrame) -> None:
    sessions = month.groupby("user_session").agg(events=("user_id", "size"), users=("user_id", "nunique"))

    assert sessions.events.mean() == pytest.approx(ROWS / 13_776_050, rel=0.03)
    assert 0.2 < (sessions.events == 1).mean() < 0.5
    assert (sessions.users > 1).sum() == pytest.approx(591 / 13_776_050 * len(sessions), abs=6)


def test_customers_come_back(month: pd.DataFrame) -> None:
    sessions_per_user = month.groupby("user_id").user_session.nunique()

    assert sessions_per_user.mean() == pytest.approx(13_776_050 / 3_696_117, rel=0.2)
    of_a_day = frame_of(csv_of(generate_day(DAY, 20_000, SEED)))
    assert (of_a_day.groupby("user_id").user_session.nunique() > 1).mean() > 0.05
