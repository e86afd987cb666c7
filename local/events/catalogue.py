"""The catalogue: categories, brands, products, and how customers choose among them."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from local.events import november_2019 as shop
from local.events.draw import Floats, Integers, normal

CATALOGUE_SEED = 190_662
"""Products are the same in every day and for every seed."""
PRICE_SPREAD = 0.75
"""Standard deviation of the logarithm of the prices in one category, before calibration."""
UNKNOWN_BRANDS_PER_CATEGORY = 8


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
    log_price = np.log(usual_price)[cell] + PRICE_SPREAD * normal(bits, shop.PRODUCTS)
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
