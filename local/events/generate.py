"""Realistic days of click events, as CSV files of the shop's format, of any size.

    python -m local.events.generate --day 2019-11-01 --days 3 --events 50000 --out build/generated

The figures that a day is calibrated to, and their source, are in local/events/november_2019.py.

A day is made of sessions; a session of journeys, each of one customer to one product: one or more views, then
maybe a cart, then maybe a purchase. Sessions are drawn for one slice of the day after the other, and events
that reach beyond a slice are carried into the next, so memory does not grow with the day.

The same arguments give the same bytes, whatever else is generated. All randomness is PCG64's raw stream,
which NumPy promises to keep between versions, turned into numbers here; NumPy's distributions, which may
change, are left alone. Only the last bit of a logarithm might differ on another processor.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import gzip
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.contract import CATEGORY_LEVELS, COLUMN_NAMES, LATENESS_DAYS, MAX_LINE_BYTES
from local.events import november_2019 as shop

DEFAULT_EVENTS = 50_000
DEFAULT_SEED = 2019
DEFAULT_LATE_SHARE = 0.002
DEFAULT_BAD_SHARE = 0.003

DAY_SECONDS = 86_400
SLICE_EVENTS = 100_000
DIVISORS_OF_60 = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)
MAX_JOURNEYS = 30
MAX_SESSION_EVENTS = 50
MAX_PAUSE_SECONDS = 900
MAX_LATE_DAYS = 3
FIRST_USER_ID = 400_000_000
USER_IDS = 199_999_991
USER_ID_STEP = 48_271
"""User number n has the id FIRST_USER_ID + n * USER_ID_STEP mod USER_IDS: ids in no order, and none twice."""
CATALOGUE_SEED = 190_662
"""Products are the same in every day and for every seed."""
PRICE_SPREAD = 0.75
"""Standard deviation of the logarithm of the prices in one category, before calibration."""
UNKNOWN_BRANDS_PER_CATEGORY = 8
GZIP_LEVEL = 3

HEADER = (",".join(COLUMN_NAMES) + "\n").encode()
EVENT_TYPE_TEXTS = pa.array(["view,", "cart,", "purchase,"])
VIEW, CART, PURCHASE = range(3)

BAD_REASONS = (
    "invalid_utf8",
    "control_character",
    "bad_quoting",
    "wrong_column_count",
    "repeated_header",
    "missing_value",
    "too_long",
    "bad_event_time",
    "bad_event_type",
    "bad_integer",
    "bad_price",
    "negative_price",
    "bad_category_code",
    "too_late",
    "after_landing_day",
)
"""Reasons that bad rows take in turn. A day's first bad row is one more: line_too_long."""

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """What a chunk or a file really holds, so that a load can be checked without its own word.

    `rows` counts data rows (no header), `duplicates` the exact repetitions of a row, `late` the good rows of
    an earlier day, repetitions included.
    """

    rows: int = 0
    duplicates: int = 0
    late: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts under the names that a load's manifest has, but `rows` for what it calls read."""
        rejected = sum(self.rejected_by_reason.values())
        return {
            "rows": self.rows,
            "accepted": self.rows - rejected,
            "rejected": rejected,
            "distinct": self.rows - rejected - self.duplicates,
            "duplicates": self.duplicates,
            "late": self.late,
            "rejected_by_reason": self.rejected_by_reason,
        }

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.rows + other.rows,
            self.duplicates + other.duplicates,
            self.late + other.late,
            dict(Counter(self.rejected_by_reason) + Counter(other.rejected_by_reason)),
        )


class Chunk(NamedTuple):
    """A run of whole CSV lines, and what they hold."""

    csv: bytes
    counts: Counts


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


def generate_day(
    day: dt.date,
    events: int = DEFAULT_EVENTS,
    seed: int = DEFAULT_SEED,
    *,
    late_share: float = 0.0,
    late_days: int = MAX_LATE_DAYS,
    bad_share: float = 0.0,
) -> Iterator[Chunk]:
    """Yield the CSV file of one landing day, header first, in chunks of some ten megabytes.

    The file has exactly `events` data rows; exact duplicates and bad rows are among them. Rows are sorted by
    time, but for late ones: whole sessions of 1 to 3 days before, in the place where they arrived.

    Args:
        day: the landing day.
        events: data rows of the file, 0 or more.
        seed: another seed gives other customers and choices, of the same products.
        late_share: share of sessions that are late.
        late_days: how many days at most, 1 to 3.
        bad_share: share of rows that break the contract, over as many reasons as there are rows for.

    Raises:
        ValueError: an argument is out of range.
    """
    if events < 0:
        raise ValueError(f"events is {events}; give 0 or more")
    if seed < 0:
        raise ValueError(f"seed is {seed}; give 0 or more")
    for name, share in (("late_share", late_share), ("bad_share", bad_share)):
        if not 0 <= share <= 0.5:
            raise ValueError(f"{name} is {share}; give a share from 0 to 0.5")
    if not 1 <= late_days <= MAX_LATE_DAYS:
        raise ValueError(f"late_days is {late_days}; give 1 to {MAX_LATE_DAYS}")
    bits = np.random.PCG64([seed, day.toordinal()])
    return _day_chunks(_Sessions(day, events, bits, late_share, late_days), bits, day, events, bad_share)


def write_landing_day(
    directory: Path,
    day: dt.date,
    events: int = DEFAULT_EVENTS,
    seed: int = DEFAULT_SEED,
    *,
    late_share: float = 0.0,
    late_days: int = MAX_LATE_DAYS,
    bad_share: float = 0.0,
    gzipped: bool = False,
) -> dict[str, Any]:
    """Write one day as it lands: `<directory>/<day>/events.csv[.gz]` and then `_SUCCESS`.

    An earlier landing of that day in the directory is replaced. The file takes its name when it is complete.

    Returns:
        What the file holds: rows, accepted, rejected, distinct, duplicates, late, rejected_by_reason.
    """
    landing = directory / day.isoformat()
    for name in ("_SUCCESS", "events.csv", "events.csv.gz"):
        (landing / name).unlink(missing_ok=True)
    path = landing / ("events.csv.gz" if gzipped else "events.csv")
    chunks = generate_day(day, events, seed, late_share=late_share, late_days=late_days, bad_share=bad_share)
    with _written_whole(path) as out:
        counts = _write_chunks(out, chunks, str(day), events)
    (landing / "_SUCCESS").touch()
    return counts.as_dict()


# --- the catalogue: categories, brands, products ---


@dataclass(frozen=True)
class Catalogue:
    """The shop's products, ordered by category, and how customers choose among them.

    One value a product: `popularity_until`, the running share of journeys, 1 at the end; and `category`, an
    index into the others. One value a category: `category_from` and `category_until`, its stretch of
    `popularity_until`; `carts_per_view` and `purchases_per_view` over the whole month.
    `texts`: `product_id,category_id,category_code,brand,price,` of each product, then of each at price 0.
    """

    popularity_until: Floats
    category: Integers
    category_from: Floats
    category_until: Floats
    carts_per_view: Floats
    purchases_per_view: Floats
    texts: pa.StringArray


@dataclass(frozen=True)
class _Category:
    code: str
    views: float
    carts_per_view: float
    purchases_per_view: float
    usual_price: float

    @property
    def events(self) -> float:
        return self.views * (1 + self.carts_per_view + self.purchases_per_view)


@functools.cache
def catalogue() -> Catalogue:
    """Build the products: the same ones each time."""
    bits = np.random.PCG64(CATALOGUE_SEED)
    categories = _categories()
    cells = _cells(categories)
    cell_category = np.array([category for category, _, _ in cells])
    cell_views = np.array([views for _, _, views in cells])

    # A cell (a brand in a category) has one product at least, and more the more it is viewed, but slowly.
    size = cell_views**0.4
    cell_products = 1 + np.floor(size / size.sum() * (shop.PRODUCTS - len(cells))).astype(np.int64)
    cell_products[np.argmax(cell_products)] += shop.PRODUCTS - cell_products.sum()

    cell = np.repeat(np.arange(len(cells)), cell_products)
    first_of_cell = np.repeat(np.cumsum(cell_products) - cell_products, cell_products)
    rank = np.arange(shop.PRODUCTS) - first_of_cell
    popularity = (rank + 2.0) ** -1.05
    views = popularity / np.bincount(cell, popularity)[cell] * cell_views[cell]
    category = cell_category[cell]
    until = np.cumsum(views)
    until /= until[-1]
    last_of_category = np.searchsorted(category, np.arange(len(categories)), side="right") - 1
    category_until = until[last_of_category]

    events_per_view = np.array([entry.events / entry.views for entry in categories])
    usual_price = np.array(
        [categories[c].usual_price * shop.BRAND_PRICE_FACTORS.get(brand, 1.0) for c, brand, _ in cells]
    )
    log_price = np.log(usual_price)[cell] + PRICE_SPREAD * _normal(bits, shop.PRODUCTS)
    cents = _calibrated_cents(log_price, views * events_per_view[category])

    return Catalogue(
        popularity_until=until,
        category=category,
        category_from=np.concatenate([[0.0], category_until[:-1]]),
        category_until=category_until,
        carts_per_view=np.array([entry.carts_per_view for entry in categories]),
        purchases_per_view=np.array([entry.purchases_per_view for entry in categories]),
        texts=_product_texts(categories, cells, cell, category, cents),
    )


def _categories() -> list[_Category]:
    """Return the categories with a code, then those without."""
    rates = {
        name: (cart / view, purchase / view)
        for name, (view, cart, purchase) in shop.SUBCATEGORY_TYPE_SHARES.items()
    }
    rest_views = shop.VIEWS - sum(shop.SUBCATEGORY_VIEWS[name] for name in rates)
    rest_rates = (
        (shop.CARTS - sum(shop.SUBCATEGORY_VIEWS[name] * rate for name, (rate, _) in rates.items()))
        / rest_views,
        (shop.PURCHASES - sum(shop.SUBCATEGORY_VIEWS[name] * rate for name, (_, rate) in rates.items()))
        / rest_views,
    )
    views_without_code = shop.ROWS_WITHOUT_CATEGORY_CODE / (1 + sum(rest_rates))
    other_views = shop.VIEWS - sum(shop.SUBCATEGORY_VIEWS.values()) - views_without_code

    def group(code: str) -> str:
        subcategory = code.split(".")[1]
        return subcategory if subcategory in shop.SUBCATEGORY_VIEWS else ""

    group_views = {**shop.SUBCATEGORY_VIEWS, "": other_views}
    group_weights: Counter[str] = Counter()
    for code, weight, _ in shop.CATEGORY_CODES:
        group_weights[group(code)] += weight
    with_code = [
        _Category(
            code,
            group_views[group(code)] * weight / group_weights[group(code)],
            *rates.get(group(code), rest_rates),
            usual_price,
        )
        for code, weight, usual_price in shop.CATEGORY_CODES
    ]
    ranks = np.arange(1, shop.CATEGORIES - len(with_code) + 1)
    weights = (ranks + 5.0) ** -1.0
    shares = weights / weights.sum()
    # Usual prices of categories without a code go up and down by a factor of 3, in no order.
    factors = 3.0 ** np.sin(ranks * 2.4)
    return with_code + [
        _Category("", views_without_code * share, *rest_rates, shop.PRICE_WITHOUT_CATEGORY_CODE * factor)
        for share, factor in zip(shares.tolist(), factors.tolist(), strict=True)
    ]


def _cells(categories: list[_Category]) -> list[tuple[int, str, float]]:
    """Return (index of category, brand, views) for each brand of each category; brand "" is none."""
    smartphone = {
        brand: (rows - _events_of_brand(categories, brand))
        / _events_of_code(categories, "electronics.smartphone")
        for brand, rows in shop.BRAND_ROWS.items()
        if brand != "nan"
    }
    shares = {**shop.BRAND_SHARES, "electronics.smartphone": smartphone}
    events_without_code = _events_of_code(categories, "")
    brandless_with_code = sum(
        _brandless_share(entry.code) * entry.events for entry in categories if entry.code
    )
    brandless_without_code = (shop.ROWS_WITHOUT_BRAND - brandless_with_code) / events_without_code

    unknown = _unknown_brands(shares)
    cells = []
    for index, entry in enumerate(categories):
        named = dict(shares.get(entry.code, {}))
        named[""] = _brandless_share(entry.code) if entry.code else brandless_without_code
        if not entry.code:
            named["nan"] = shop.BRAND_ROWS["nan"] / events_without_code
        known = [brand for brand in shop.OTHER_BRANDS[entry.code.split(".")[0]] if brand not in named]
        # Each category begins elsewhere in the list, so that each has its own favourite.
        turn = index % len(known)
        first_unknown = index * UNKNOWN_BRANDS_PER_CATEGORY
        others = known[turn:] + known[:turn]
        others += [unknown[(first_unknown + i) % len(unknown)] for i in range(UNKNOWN_BRANDS_PER_CATEGORY)]
        weights = [1 / (rank + 2) for rank in range(len(others))]
        left = 1 - sum(named.values())
        named |= {brand: left * weight / sum(weights) for brand, weight in zip(others, weights, strict=True)}
        cells += [(index, brand, share * entry.views) for brand, share in named.items() if share]
    return cells


def _events_of_code(categories: list[_Category], code: str) -> float:
    return sum(entry.events for entry in categories if entry.code == code)


def _events_of_brand(categories: list[_Category], brand: str) -> float:
    return sum(entry.events * shop.BRAND_SHARES.get(entry.code, {}).get(brand, 0.0) for entry in categories)


def _brandless_share(code: str) -> float:
    return 0.0 if code == "electronics.smartphone" else shop.BRANDLESS_SHARES[code.split(".")[0]]


def _unknown_brands(shares: dict[str, dict[str, float]]) -> list[str]:
    """Return as many names as the known brands leave of shop.BRANDS."""
    known = set(shop.BRAND_ROWS).union(*shares.values(), *shop.OTHER_BRANDS.values())
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    names = (
        syllables[i % 70] + syllables[(i // 70 + i * 3) % 70] + syllables[(i * 11 + 5) % 70]
        for i in range(4_900)
    )
    return [name for name in names if name not in known][: shop.BRANDS - len(known)]


def _calibrated_cents(log_price: Floats, weight: Floats) -> Integers:
    """Stretch and shift the logarithms of prices so that events have the published median and mean price.

    `weight` is each product's number of events. Events at price 0, no product's own price, count as well.
    """
    free_share = (shop.FREE_VIEWS + shop.FREE_CARTS) / shop.ROWS
    order = np.argsort(log_price, kind="stable")
    running = np.cumsum(weight[order])
    middle = (0.5 - free_share) / (1 - free_share)
    centred = log_price - log_price[order[np.searchsorted(running, middle * running[-1])]]
    target_mean = shop.MEAN_PRICE / (1 - free_share)

    def prices(stretch: float) -> Floats:
        return np.clip(shop.MEDIAN_PRICE * np.exp(stretch * centred), 0.01, shop.MAX_PRICE)

    low, high = 0.1, 3.0
    for _ in range(40):
        stretch = (low + high) / 2
        if np.average(prices(stretch), weights=weight) < target_mean:
            low = stretch
        else:
            high = stretch
    return np.rint(prices(low) * 100).astype(np.int64)


def _product_texts(
    categories: list[_Category],
    cells: list[tuple[int, str, float]],
    cell: Integers,
    category: Integers,
    cents: Integers,
) -> pa.StringArray:
    first_of_category = np.searchsorted(category, category)
    product_id = (category + 10) * 100_000 + np.arange(len(category)) - first_of_category
    cell_texts = pa.array(
        f",{2_053_013_552_000_000_000 + index * 16_777_259},{categories[index].code},{brand},"
        for index, brand, _ in cells
    )
    whole = pc.cast(pa.array(cents // 100), pa.string())
    rest = pa.array([f".{number:02d}," for number in range(100)]).take(pa.array(cents % 100))
    product = pc.binary_join_element_wise(
        pc.cast(pa.array(product_id), pa.string()), cell_texts.take(pa.array(cell)), ""
    )
    priced = pc.binary_join_element_wise(product, whole, rest, "")
    free = pc.binary_join_element_wise(product, "0.00,", "")
    return pa.concat_arrays([priced, free])


# --- one day ---


class _Events(NamedTuple):
    """Columns of events, one value an event."""

    second: Integers
    event_type: Integers
    product: Integers
    """Index into Catalogue.texts."""
    user: Integers
    session_high: npt.NDArray[np.uint64]
    session_low: npt.NDArray[np.uint64]
    days_late: Integers

    def take(self, which: npt.NDArray[np.bool_] | Integers | slice) -> _Events:
        return _Events._make(column[which] for column in self)

    @staticmethod
    def concatenate(parts: list[_Events]) -> _Events:
        return _Events._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _day_chunks(
    sessions: _Sessions, bits: np.random.PCG64, day: dt.date, rows: int, bad_share: float
) -> Iterator[Chunk]:
    yield Chunk(HEADER, Counts())
    duplicates = round(rows * shop.DUPLICATE_ROWS / shop.ROWS)
    bad = round(rows * bad_share)
    lines = rows - duplicates

    # Which lines are repeated, and which are broken: one in each of so many even stretches of the day.
    count = duplicates + bad
    stretches = np.arange(count + 1) * lines // max(1, count)
    special = stretches[:-1] + _below(bits, count, np.diff(stretches))
    shuffled = np.argsort(_uniform(bits, count), kind="stable")
    repeated_lines = special[np.sort(shuffled[:duplicates])]
    broken_lines = special[np.sort(shuffled[duplicates:])]
    broken = 0

    written = 0
    carried: list[_Events] = []
    for begin, end, wanted in _slices(lines):
        events = _Events.concatenate([*carried, sessions.events(wanted, begin, end - begin)])
        events = events.take(np.argsort(events.second, kind="stable"))
        ready = len(events.second) if end == DAY_SECONDS else int(np.searchsorted(events.second, end))
        carried = [events.take(slice(ready, None))]
        if not ready:
            continue
        events = events.take(slice(ready))

        copies = np.ones(ready, np.int64)
        copies[_within(repeated_lines, written, ready)] = 2
        line_of_row = np.repeat(np.arange(ready), copies)
        broken_rows = np.searchsorted(line_of_row, _within(broken_lines, written, ready))
        text = _lines(day, events.take(line_of_row))
        csv, reasons = _with_broken_rows(text, broken_rows.tolist(), broken, day)
        broken += len(broken_rows)
        is_late = events.days_late[line_of_row] > 0
        yield Chunk(
            csv,
            Counts(
                rows=len(line_of_row),
                duplicates=len(line_of_row) - ready,
                late=int(is_late.sum() - is_late[broken_rows].sum()),
                rejected_by_reason=reasons,
            ),
        )
        written += ready


def _slices(lines: int) -> list[tuple[int, int, int]]:
    """Return (first second, last second + 1, events that begin there), of a minute to an hour each."""
    fullest_hour = lines * max(shop.HOUR_SHARES)
    per_hour = next((number for number in DIVISORS_OF_60 if fullest_hour / number <= SLICE_EVENTS), 60)
    until = np.rint(np.cumsum(np.repeat(shop.HOUR_SHARES, per_hour)) / per_hour * lines).astype(np.int64)
    edges = range(0, DAY_SECONDS + 1, 3600 // per_hour)
    return list(zip(edges[:-1], edges[1:], np.diff(until, prepend=0).tolist(), strict=True))


def _within(positions: Integers, start: int, length: int) -> Integers:
    """Return the sorted positions that lie in a stretch, counted from its start."""
    first, last = np.searchsorted(positions, [start, start + length])
    return positions[first:last] - start


class _Sessions:
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

    def events(self, wanted: int, begin: int, seconds: int) -> _Events:
        """Draw sessions that begin in a slice of the day, and return exactly `wanted` of their events."""
        parts: list[_Events] = []
        missing = wanted
        while missing > 0 or not parts:
            sessions = int(missing / self._mean_events * 1.02) + 1
            parts.append(self._draw(sessions, begin, seconds).take(slice(missing)))
            missing -= len(parts[-1].second)
        return _Events.concatenate(parts)

    def _draw(self, sessions: int, begin: int, seconds: int) -> _Events:
        """Draw sessions that begin in a slice of the day; their events come session by session, in order."""
        bits = self._bits
        user = self._draw_users(sessions)
        high = bits.random_raw(sessions) & np.uint64(0xFFFFFFFFFFFF0FFF) | np.uint64(0x4000)
        low = bits.random_raw(sessions) & np.uint64(0x3FFFFFFFFFFFFFFF) | np.uint64(0x8000000000000000)
        start = begin + _below(bits, sessions, seconds)
        is_late = _uniform(bits, sessions) < self._late_share
        days_late = (1 + _below(bits, sessions, self._late_days)) * is_late
        journeys = 1 + np.searchsorted(self._journeys_until[:-1], _uniform(bits, sessions), side="right")

        session = np.repeat(np.arange(sessions), journeys)
        is_first = np.diff(session, prepend=-1) > 0
        product = self._draw_products(session, is_first)
        free = _uniform(bits, len(session)) < shop.FREE_VIEWS / shop.VIEWS
        views, has_cart, has_purchase = self._draw_fates(self._catalogue.category[product], free)
        # Now and then an account is left and another one entered, between two journeys of a session.
        several_journeys_share = 1 - self._journeys_until[0]
        change_share = shop.SESSIONS_OF_SEVERAL_USERS / shop.SESSIONS / several_journeys_share
        changes = (_uniform(bits, sessions) < change_share)[session] & ~is_first
        journey_user = np.where(changes, user[(session + 1) % sessions], user[session])

        # A journey's events: views first, then the cart, then the purchase.
        length = views + has_cart + has_purchase
        journey = np.repeat(np.arange(len(length)), length)
        step = np.arange(len(journey)) - np.repeat(np.cumsum(length) - length, length)
        is_view = step < views[journey]
        is_cart = (step == views[journey]) & has_cart[journey]
        session = session[journey]
        second, rank = self._draw_seconds(session, start)
        named = _uniform(bits, len(journey)) >= shop.ROWS_WITHOUT_SESSION / shop.ROWS
        return _Events(
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
        share = _uniform(self._bits, sessions)
        user = np.floor(share * share * self._users).astype(np.int64)
        earlier = _below(self._bits, sessions, np.arange(sessions))
        return np.where(_uniform(self._bits, sessions) < shop.RETURNING_SHARE, user[earlier], user)

    def _draw_products(self, session: Integers, is_first: npt.NDArray[np.bool_]) -> Integers:
        """Return each journey's product, many in the category of the session's first."""
        products = self._catalogue
        choice = _uniform(self._bits, len(session))
        first_product = np.searchsorted(products.popularity_until[:-1], choice[is_first], side="right")
        home = products.category[first_product][session]
        stays = (_uniform(self._bits, len(session)) < shop.SAME_CATEGORY_SHARE) & ~is_first
        width = products.category_until[home] - products.category_from[home]
        choice = np.where(stays, products.category_from[home] + choice * width, choice)
        return np.searchsorted(products.popularity_until[:-1], choice, side="right")

    def _draw_fates(
        self, category: Integers, free: npt.NDArray[np.bool_]
    ) -> tuple[Integers, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return the views of each journey, whether it has a cart event, and whether a purchase."""
        more = np.log(1 - _uniform(self._bits, len(category))) / math.log(1 - 1 / shop.VIEWS_PER_JOURNEY)
        views = 1 + np.floor(more).astype(np.int64)
        purchase = np.where(free, 0.0, self._purchase[category])
        cart = np.where(free, self._free_cart, self._cart[category])
        both = np.minimum(purchase * shop.PURCHASES_FROM_CART_SHARE, cart)
        # From 0 up: both, only a purchase, only a cart, neither.
        fate = _uniform(self._bits, len(category))
        has_purchase = fate < purchase
        has_cart = (fate < both) | ((fate >= purchase) & (fate < purchase + cart - both))
        return views, has_cart, has_purchase

    def _draw_seconds(self, session: Integers, start: Integers) -> tuple[Integers, Integers]:
        """Return each event's second of the day, no two alike in a session, and its rank in its session."""
        events = np.bincount(session, minlength=len(start))
        first = np.cumsum(events) - events
        rank = np.arange(len(session)) - first[session]
        pause = np.floor(-np.log(1 - _uniform(self._bits, len(session))) * (shop.SECONDS_BETWEEN_EVENTS - 1))
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


def _uniform(bits: np.random.PCG64, count: int) -> Floats:
    """Return `count` numbers in [0, 1)."""
    return (bits.random_raw(count) >> np.uint64(11)) * 2.0**-53


def _below(bits: np.random.PCG64, count: int, limit: int | Integers) -> Integers:
    """Return `count` whole numbers from 0 to below `limit` (or to below each of `count` limits)."""
    return np.floor(_uniform(bits, count) * limit).astype(np.int64)


def _normal(bits: np.random.PCG64, count: int) -> Floats:
    """Return `count` standard normal numbers, by Box and Muller."""
    return np.sqrt(-2 * np.log(1 - _uniform(bits, count))) * np.cos(2 * math.pi * _uniform(bits, count))


# --- text ---


@functools.cache
def _time_texts() -> pa.StringArray:
    return pa.array(
        f" {hour:02d}:{minute:02d}:{second:02d} UTC,"
        for hour in range(24)
        for minute in range(60)
        for second in range(60)
    )


def _lines(day: dt.date, events: _Events) -> pa.StringArray:
    """Return each event's CSV line, with its line end."""
    dates = pa.array([str(day - dt.timedelta(days)) for days in range(MAX_LATE_DAYS + 1)])
    return pc.binary_join_element_wise(
        dates.take(pa.array(events.days_late)),
        _time_texts().take(pa.array(events.second)),
        EVENT_TYPE_TEXTS.take(pa.array(events.event_type)),
        catalogue().texts.take(pa.array(events.product)),
        pc.cast(pa.array(events.user), pa.string()),
        _session_texts(events.session_high, events.session_low),
        "",
    )


HEX_PAIRS = np.frombuffer("".join(f"{number:02x}" for number in range(256)).encode(), np.uint16)
UUID_GROUPS = ((1, 0, 8), (10, 8, 12), (15, 12, 16), (20, 16, 20), (25, 20, 32))
"""Where the session's text holds which of a UUID's hexadecimal digits: begin, first digit, last digit + 1."""


def _session_texts(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> pa.StringArray:
    """Return `,<uuid>` and a line end for each session name, without a UUID where the name is 0."""
    octets = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    digits = HEX_PAIRS[octets].view(np.uint8)
    text = np.full((len(high), 38), ord("-"), np.uint8)
    text[:, 0], text[:, 37] = ord(","), ord("\n")
    for begin, first, last in UUID_GROUPS:
        text[:, begin : begin + last - first] = digits[:, first:last]
    offsets = np.arange(len(high) + 1, dtype=np.int32) * text.shape[1]
    names = pa.StringArray.from_buffers(len(high), pa.py_buffer(offsets), pa.py_buffer(text))
    return names if low.all() else pc.if_else(pa.array(low != 0), names, ",\n")


def _with_broken_rows(
    lines: pa.StringArray, rows: list[int], broken_before: int, day: dt.date
) -> tuple[bytes, dict[str, int]]:
    """Return the text of the lines, those in `rows` broken, and how many were broken for which reason."""
    text = memoryview(lines.buffers()[2])
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset :]
    parts: list[bytes | memoryview] = []
    reasons: Counter[str] = Counter()
    done = int(offsets[0])
    for number, row in enumerate(rows, broken_before):
        reason = "line_too_long" if number == 0 else BAD_REASONS[(number - 1) % len(BAD_REASONS)]
        reasons[reason] += 1
        begin, end = int(offsets[row]), int(offsets[row + 1])
        parts += [text[done:begin], _broken(bytes(text[begin:end]), reason, number // len(BAD_REASONS), day)]
        done = end
    parts.append(text[done : int(offsets[len(lines)])])
    return b"".join(parts), dict(reasons)


def _broken(line: bytes, reason: str, turn: int, day: dt.date) -> bytes:
    """Return a line that is rejected for this reason; `turn` chooses between the ways to earn it."""
    fields = dict(zip(COLUMN_NAMES, line.decode().rstrip("\n").split(","), strict=True))

    def pick(*ways: str) -> str:
        return ways[turn % len(ways)]

    match reason:
        case "line_too_long":
            fields["brand"] = "x" * MAX_LINE_BYTES
        case "invalid_utf8":
            fields["brand"] = "caf\udce9"
        case "control_character":
            fields["brand"] = pick("sam\tsung", "sam\0sung", "sam\x1bsung")
        case "bad_quoting":
            fields["brand"] = pick('"samsung', 'sam"sung')
        case "wrong_column_count":
            if turn % 2:
                del fields["user_session"]
            else:
                fields["user_session"] += ",1"
        case "repeated_header":
            return HEADER
        case "missing_value":
            fields[pick("event_time", "event_type", "product_id", "category_id", "price", "user_id")] = ""
        case "too_long":
            fields["brand"] = "x" * 300
        case "bad_event_time":
            fields["event_time"] = pick(
                "yesterday", f"{day}T00:00:00Z", f"{day} 24:00:00 UTC", "2019-02-30 00:00:00 UTC"
            )
        case "bad_event_type":
            fields["event_type"] = pick("remove", "VIEW", "click")
        case "bad_integer":
            fields[pick("user_id", "product_id", "category_id")] = pick(
                "9223372036854775808", "-1", "12e3", "1.5", "id"
            )
        case "bad_price":
            fields["price"] = pick("free", "1e3", "1.2.3", "12.1234567890", "$5")
        case "negative_price":
            fields["price"] = "-" + pick("1.00", "35.79", "0.01")
        case "bad_category_code":
            fields["category_code"] = pick(
                "electronics..smartphone", ".smartphone", "electronics.", "a" + ".a" * CATEGORY_LEVELS
            )
        case "too_late":
            fields["event_time"] = f"{day - dt.timedelta(LATENESS_DAYS + 1 + turn % 30)} 12:00:00 UTC"
        case "after_landing_day":
            fields["event_time"] = f"{day + dt.timedelta(1 + turn % 3)} 00:00:00 UTC"
        case _:
            raise ValueError(f"no line is known that earns the reason {reason!r}")
    return ",".join(fields.values()).encode(errors="surrogateescape") + b"\n"


# --- files and the command line ---


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a file for writing that takes its name only when all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as raw:
            if path.name.endswith(".gz"):
                # No name and no time in the gzip header: the same bytes each time.
                with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as out:
                    yield out
            else:
                yield raw
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_chunks(out: IO[bytes] | gzip.GzipFile, chunks: Iterator[Chunk], name: str, rows: int) -> Counts:
    """Write the chunks, telling about the progress on stderr when it takes seconds."""
    total = Counts()
    told = time.monotonic()
    for chunk in chunks:
        out.write(chunk.csv)
        total += chunk.counts
        if time.monotonic() - told > 2:
            told = time.monotonic()
            print(f"{name}: {total.rows:,} of {rows:,} rows", file=sys.stderr)
    return total


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.events.generate",
        description="Generate realistic days of click events, calibrated to the shop's November 2019.",
        epilog="Examples: `--out build/generated` lands three days; `--days 30 --events 2250000 --vary-days "
        "--out 2019-Nov.csv.gz` is a month in its real size; `--days 1 --out - | head` shows some rows.",
    )
    parser.add_argument(
        "--day", type=dt.date.fromisoformat, default=dt.date(2019, 11, 1), help="first day (2019-11-01)"
    )
    parser.add_argument("--days", type=int, default=3, help="number of days (3)")
    parser.add_argument(
        "--events", type=int, default=DEFAULT_EVENTS, help=f"data rows a day ({DEFAULT_EVENTS})"
    )
    parser.add_argument(
        "--vary-days",
        action="store_true",
        help="--events is the mean day; others differ as they did in the shop",
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help=f"0 or more ({DEFAULT_SEED})")
    parser.add_argument(
        "--out",
        default="build/generated",
        help="a directory: each day as it lands, <day>/events.csv and _SUCCESS; a name that ends in .csv or "
        ".csv.gz: all days in one export; -: the same on standard output (build/generated)",
    )
    parser.add_argument("--gzip", action="store_true", help="with a directory: events.csv.gz")
    parser.add_argument(
        "--late-share",
        type=float,
        nargs="?",
        default=0.0,
        const=DEFAULT_LATE_SHARE,
        help=f"share of late sessions on each day but the first (0; without a value {DEFAULT_LATE_SHARE})",
    )
    parser.add_argument(
        "--bad-share",
        type=float,
        nargs="?",
        default=0.0,
        const=DEFAULT_BAD_SHARE,
        help=f"share of rows that break the contract (0; without a value {DEFAULT_BAD_SHARE})",
    )
    parser.add_argument("--counts", type=Path, help="write what the days hold to this file, as JSON")
    arguments = parser.parse_args(argv)
    if arguments.days < 1:
        parser.error(f"--days is {arguments.days}; give 1 or more")
    if arguments.gzip and _is_export(arguments.out):
        parser.error(
            f"--gzip goes with a directory; --out is {arguments.out}, give a name that ends in .csv.gz"
        )
    return arguments


def _is_export(out: str) -> bool:
    return out == "-" or out.endswith((".csv", ".csv.gz"))


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    days = [arguments.day + dt.timedelta(number) for number in range(arguments.days)]
    started = time.monotonic()
    try:
        counts = _write_export(arguments, days) if _is_export(arguments.out) else _land(arguments, days)
    except ValueError as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has had enough. Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    seconds = time.monotonic() - started

    columns = ("rows", "rejected", "duplicates", "late")
    print("day       ", *(f"{name:>12}" for name in columns), file=sys.stderr)
    for day, held in counts.items():
        print(day, *(f"{held[name]:12,}" for name in columns), file=sys.stderr)
    rows = sum(held["rows"] for held in counts.values())
    print(
        f"{rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} a second, to {arguments.out}",
        file=sys.stderr,
    )
    if arguments.counts:
        listed = [{"landing_day": str(day), **held} for day, held in counts.items()]
        arguments.counts.write_text(json.dumps(listed, indent=2) + "\n")
    return 0


def _options(arguments: argparse.Namespace, days: list[dt.date], day: dt.date) -> dict[str, Any]:
    """Return generate_day's arguments. Late events are of the other days, so the first day has none."""
    return {
        "day": day,
        "events": day_events(day, arguments.events) if arguments.vary_days else arguments.events,
        "seed": arguments.seed,
        "late_share": arguments.late_share if day > days[0] else 0.0,
        "late_days": min(max(1, (day - days[0]).days), MAX_LATE_DAYS),
        "bad_share": arguments.bad_share,
    }


def _land(arguments: argparse.Namespace, days: list[dt.date]) -> dict[dt.date, dict[str, Any]]:
    return {
        day: write_landing_day(Path(arguments.out), gzipped=arguments.gzip, **_options(arguments, days, day))
        for day in days
    }


def _write_export(arguments: argparse.Namespace, days: list[dt.date]) -> dict[dt.date, dict[str, Any]]:
    """Write all days as one file or to standard output, with one header."""
    counts = {}
    to_stdout = arguments.out == "-"
    with nullcontext(sys.stdout.buffer) if to_stdout else _written_whole(Path(arguments.out)) as out:
        for day in days:
            options = _options(arguments, days, day)
            # Each day begins with a chunk that is its header.
            chunks = islice(generate_day(**options), int(day > days[0]), None)
            counts[day] = _write_chunks(out, chunks, str(day), options["events"]).as_dict()
    return counts


if __name__ == "__main__":
    sys.exit(main())
