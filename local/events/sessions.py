"""The sessions of one day: when each begins, and what is viewed, put in the cart and bought in it.

A session is made of journeys, each of one customer to one product: one or more views, then maybe a cart, then
maybe a purchase.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from local.events import november_2019 as shop
from local.events.catalogue import catalogue
from local.events.draw import Integers, below, uniform

DAY_SECONDS = 86_400
MAX_JOURNEYS = 30
MAX_SESSION_EVENTS = 50
MAX_PAUSE_SECONDS = 900
MAX_LATE_DAYS = 3
FIRST_USER_ID = 400_000_000
USER_IDS = 199_999_991
USER_ID_STEP = 48_271
"""User number n has the id FIRST_USER_ID + n * USER_ID_STEP mod USER_IDS: ids in no order, and none twice."""
VIEW, CART, PURCHASE = range(3)


class DayShape(NamedTuple):
    """How many views, carts and purchases the real shop had, or would have had, on a day."""

    views: int
    carts: int
    purchases: int

    @property
    def events(self) -> int:
        return sum(self)


def day_shape(day: dt.date) -> DayShape:
    """Return the events of a day at the shop's real size.

    A day outside November 2019 is the mean of that month's days of the same weekday, the promotion left out.
    """
    if (day.year, day.month) == (2019, 11):
        views = shop.DAY_VIEWS[day.day - 1]
        carts_per_view = shop.PROMOTION_CARTS_PER_VIEW.get(day.day, shop.ORDINARY_CARTS_PER_VIEW)
        return DayShape(views, round(views * carts_per_view), shop.DAY_PURCHASES[day.day - 1])
    alike = [
        day_shape(dt.date(2019, 11, number))
        for number in range(1, 31)
        if dt.date(2019, 11, number).weekday() == day.weekday()
        and number not in shop.PROMOTION_CARTS_PER_VIEW
    ]
    return DayShape(*(round(sum(column) / len(alike)) for column in zip(*alike, strict=True)))


def day_events(day: dt.date, mean_events: int) -> int:
    """Return how many events a day has when the mean day of November 2019 has `mean_events`."""
    return round(mean_events * day_shape(day).events / (shop.ROWS / 30))


class Events(NamedTuple):
    """Columns of events, one value an event."""

    second: Integers
    event_type: Integers
    """VIEW, CART or PURCHASE."""
    product: Integers
    """Index into Catalogue.texts."""
    user: Integers
    session_high: npt.NDArray[np.uint64]
    session_low: npt.NDArray[np.uint64]
    days_late: Integers

    def take(self, which: npt.NDArray[np.bool_] | Integers | slice) -> Events:
        return Events._make(column[which] for column in self)

    @staticmethod
    def concatenate(parts: list[Events]) -> Events:
        return Events._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


class Sessions:
    """Draws the sessions of one day."""

    def __init__(
        self, day: dt.date, day_rows: int, bits: np.random.PCG64, late_share: float, late_days: int
    ) -> None:
        shape = day_shape(day)
        self._bits = bits
        self._late_share = late_share
        self._late_days = late_days
        # A shop of this size: its users of a month stand to its rows of a month as published.
        self._users = max(1, round(day_rows * 30 * shop.USERS / shop.ROWS))
        weights = np.arange(1, MAX_JOURNEYS + 1) ** -shop.JOURNEYS_EXPONENT
        self._journeys_until = np.cumsum(weights) / weights.sum()
        self._mean_events = shop.ROWS / shop.SESSIONS
        # Chance of a cart, and of a purchase, in a journey of each category on this day.
        self._catalogue = catalogue()
        free_share = shop.FREE_VIEWS / shop.VIEWS
        cart_factor = shape.carts / shape.views / (shop.CARTS / shop.VIEWS)
        purchase_factor = shape.purchases / shape.views / (shop.PURCHASES / shop.VIEWS)
        free_carts_per_view = shop.FREE_CARTS / shop.FREE_VIEWS * cart_factor
        carts_per_view = self._catalogue.carts_per_view * cart_factor
        self._free_cart = free_carts_per_view * shop.VIEWS_PER_JOURNEY
        self._cart = (
            (carts_per_view - free_share * free_carts_per_view) / (1 - free_share) * shop.VIEWS_PER_JOURNEY
        )
        self._purchase = (
            self._catalogue.purchases_per_view * purchase_factor / (1 - free_share) * shop.VIEWS_PER_JOURNEY
        )

    def events(self, wanted: int, begin: int, seconds: int) -> Events:
        """Draw sessions that begin in a slice of the day, and return exactly `wanted` of their events."""
        parts: list[Events] = []
        missing = wanted
        while missing > 0 or not parts:
            sessions = int(missing / self._mean_events * 1.02) + 1
            parts.append(self._draw(sessions, begin, seconds).take(slice(missing)))
            missing -= len(parts[-1].second)
        return Events.concatenate(parts)

    def _draw(self, sessions: int, begin: int, seconds: int) -> Events:
        """Draw sessions that begin in a slice of the day; their events come session by session, in order."""
        bits = self._bits
        user = self._draw_users(sessions)
        high = bits.random_raw(sessions) & np.uint64(0xFFFFFFFFFFFF0FFF) | np.uint64(0x4000)
        low = bits.random_raw(sessions) & np.uint64(0x3FFFFFFFFFFFFFFF) | np.uint64(0x8000000000000000)
        start = begin + below(bits, sessions, seconds)
        is_late = uniform(bits, sessions) < self._late_share
        days_late = (1 + below(bits, sessions, self._late_days)) * is_late
        journeys = 1 + np.searchsorted(self._journeys_until[:-1], uniform(bits, sessions), side="right")

        session = np.repeat(np.arange(sessions), journeys)
        is_first = np.diff(session, prepend=-1) > 0
        product = self._draw_products(session, is_first)
        free = uniform(bits, len(session)) < shop.FREE_VIEWS / shop.VIEWS
        views, has_cart, has_purchase = self._draw_fates(self._catalogue.category[product], free)
        # Now and then an account is left and another one entered, between two journeys of a session.
        several_journeys_share = 1 - self._journeys_until[0]
        change_share = shop.SESSIONS_OF_SEVERAL_USERS / shop.SESSIONS / several_journeys_share
        changes = (uniform(bits, sessions) < change_share)[session] & ~is_first
        journey_user = np.where(changes, user[(session + 1) % sessions], user[session])

        # A journey's events: views first, then the cart, then the purchase.
        length = views + has_cart + has_purchase
        journey = np.repeat(np.arange(len(length)), length)
        step = np.arange(len(journey)) - np.repeat(np.cumsum(length) - length, length)
        is_view = step < views[journey]
        is_cart = (step == views[journey]) & has_cart[journey]
        session = session[journey]
        second, rank = self._draw_seconds(session, start)
        named = uniform(bits, len(journey)) >= shop.ROWS_WITHOUT_SESSION / shop.ROWS
        return Events(
            second=second,
            event_type=np.where(is_view, VIEW, np.where(is_cart, CART, PURCHASE)),
            product=(product + free * len(self._catalogue.category))[journey],
            user=FIRST_USER_ID + journey_user[journey] * USER_ID_STEP % USER_IDS,
            session_high=high[session] * named,
            session_low=low[session] * named,
            days_late=days_late[session],
        ).take(rank < MAX_SESSION_EVENTS)

    def _draw_users(self, sessions: int) -> Integers:
        """Return the number of each session's user: some come often, most seldom, some again soon."""
        share = uniform(self._bits, sessions)
        user = np.floor(share * share * self._users).astype(np.int64)
        earlier = below(self._bits, sessions, np.arange(sessions))
        return np.where(uniform(self._bits, sessions) < shop.RETURNING_SHARE, user[earlier], user)

    def _draw_products(self, session: Integers, is_first: npt.NDArray[np.bool_]) -> Integers:
        """Return each journey's product, many in the category of the session's first."""
        products = self._catalogue
        choice = uniform(self._bits, len(session))
        first_product = np.searchsorted(products.popularity_until[:-1], choice[is_first], side="right")
        home = products.category[first_product][session]
        stays = (uniform(self._bits, len(session)) < shop.SAME_CATEGORY_SHARE) & ~is_first
        width = products.category_until[home] - products.category_from[home]
        choice = np.where(stays, products.category_from[home] + choice * width, choice)
        return np.searchsorted(products.popularity_until[:-1], choice, side="right")

    def _draw_fates(
        self, category: Integers, free: npt.NDArray[np.bool_]
    ) -> tuple[Integers, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return the views of each journey, whether it has a cart event, and whether a purchase."""
        more = np.log(1 - uniform(self._bits, len(category))) / math.log(1 - 1 / shop.VIEWS_PER_JOURNEY)
        views = 1 + np.floor(more).astype(np.int64)
        purchase = np.where(free, 0.0, self._purchase[category])
        cart = np.where(free, self._free_cart, self._cart[category])
        both = np.minimum(purchase * shop.PURCHASES_FROM_CART_SHARE, cart)
        # From 0 up: both, only a purchase, only a cart, neither.
        fate = uniform(self._bits, len(category))
        has_purchase = fate < purchase
        has_cart = (fate < both) | ((fate >= purchase) & (fate < purchase + cart - both))
        return views, has_cart, has_purchase

    def _draw_seconds(self, session: Integers, start: Integers) -> tuple[Integers, Integers]:
        """Return each event's second of the day, no two alike in a session, and its rank in its session."""
        events = np.bincount(session, minlength=len(start))
        first = np.cumsum(events) - events
        rank = np.arange(len(session)) - first[session]
        pause = np.floor(-np.log(1 - uniform(self._bits, len(session))) * (shop.SECONDS_BETWEEN_EVENTS - 1))
        pause = 1 + np.minimum(pause, MAX_PAUSE_SECONDS).astype(np.int64)
        passed = np.cumsum(pause)
        offset = passed - passed[first][session]
        # A session that would go on after midnight is hurried, down to a second between two of its events.
        length = np.minimum(events, MAX_SESSION_EVENTS)
        start = np.minimum(start, DAY_SECONDS - length)
        duration = np.maximum.reduceat(offset, first)
        room = DAY_SECONDS - 1 - start
        spare = np.maximum(duration - length + 1, 1)
        pace = np.minimum(1.0, (room - length + 1) / spare)
        return start[session] + rank + np.floor((offset - rank) * pace[session]).astype(np.int64), rank
