"""The products, against the published figures of November 2019."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd
import pytest

from beam_jobs import contract
from tests.local.events.frames import (
    ROWS,
    SESSION_EFFECT,
    STANDARD_ERRORS,
    TYPE_EFFECT,
    VIEWS,
    assert_share,
    subcategory_of,
)


def test_the_catalogue_has_the_published_size(products: pd.DataFrame) -> None:
    assert products.product_id.nunique() == len(products) == 190_662
    assert products.category_id.nunique() == 684
    assert products.category_code[products.category_code != ""].nunique() == 129
    assert products.brand[products.brand != ""].nunique() == 4_201
    depths = Counter(code.count(".") + 1 for code in products.category_code.unique() if code)
    assert set(depths) == {2, 3, 4}
    assert depths[4] < 5


@pytest.mark.parametrize(
    ("subcategory", "published_views"),
    [
        ("smartphone", 14_831_874),
        ("kitchen", 5_580_606),
        ("shoes", 2_353_085),
        ("audio", 2_193_080),
        ("notebook", 2_102_974),
        ("video", 2_093_688),
        ("environment", 2_009_333),
        ("clocks", 1_994_394),
        ("accessories", 1_164_246),
        ("living_room", 1_043_209),
    ],
)
def test_subcategories_have_the_published_views(
    month: pd.DataFrame, products: pd.DataFrame, subcategory: str, published_views: int
) -> None:
    views = month[month.event_type == "view"]
    found = (subcategory_of(views) == subcategory).mean()
    assert_share(found, published_views / VIEWS, len(views), SESSION_EFFECT)
    drawn_from = products.share[subcategory_of(products) == subcategory].sum()
    assert drawn_from == pytest.approx(published_views / VIEWS, rel=1e-6)


def test_no_other_subcategory_is_among_the_ten_most_viewed(products: pd.DataFrame) -> None:
    by_subcategory = products.groupby(subcategory_of(products)).share.sum()
    assert by_subcategory.nlargest(10).index[-1] == "living_room"


@pytest.mark.parametrize(
    ("subcategory", "published"),
    [
        ("smartphone", (0.9058, 0.0708, 0.0234)),
        ("kitchen", (0.9496, 0.0394, 0.0110)),
        ("shoes", (0.9749, 0.0199, 0.0052)),
        ("notebook", (0.9644, 0.0271, 0.0085)),
        ("audio", (0.9184, 0.0623, 0.0194)),
    ],
)
def test_top_subcategories_have_the_published_shares_of_types(
    month: pd.DataFrame, subcategory: str, published: tuple[float, float, float]
) -> None:
    types = month.event_type[subcategory_of(month) == subcategory]

    for event_type, share in zip(contract.EVENT_TYPES, published, strict=True):
        assert_share((types == event_type).mean(), share, len(types), TYPE_EFFECT)


@pytest.mark.parametrize(
    ("brand", "published_rows"),
    [
        ("samsung", 7_890_000),
        ("apple", 6_260_000),
        ("xiaomi", 4_640_000),
        ("huawei", 1_410_000),
        ("", 9_218_235),
    ],
)
def test_brands_have_the_published_shares(month: pd.DataFrame, brand: str, published_rows: int) -> None:
    assert_share((month.brand == brand).mean(), published_rows / ROWS, len(month), SESSION_EFFECT)


def test_the_brand_named_nan_is_there_as_seldom_as_published(products: pd.DataFrame) -> None:
    # Not from the events: 300,000 have some 26 of it. Its products have a bit more views than events.
    assert products.share[products.brand == "nan"].sum() == pytest.approx(5_843 / ROWS, rel=0.02)


def test_as_many_events_as_published_have_no_category_code(month: pd.DataFrame) -> None:
    assert_share((month.category_code == "").mean(), 21_898_171 / ROWS, len(month), SESSION_EFFECT)


def test_prices_have_the_published_distribution(month: pd.DataFrame) -> None:
    price = month.price.astype(float)
    error = STANDARD_ERRORS * price.std() * math.sqrt(SESSION_EFFECT / len(month))

    assert price.mean() == pytest.approx(292.46, abs=error)
    assert price.median() == pytest.approx(169.35, rel=0.06)
    assert price.min() == 0
    assert price.max() == 2574.07


def test_a_category_id_has_one_code_and_a_product_one_brand_category_and_price(month: pd.DataFrame) -> None:
    assert (month.groupby("category_id").category_code.nunique() == 1).all()
    priced = month[month.price != "0.00"]
    assert (priced.groupby("product_id")[["category_id", "brand", "price"]].nunique() == 1).all().all()


def test_popularity_is_uneven_as_in_a_shop(month: pd.DataFrame) -> None:
    shares = month.product_id.value_counts(normalize=True)

    assert 0.003 < shares.iloc[0] < 0.02
    assert shares.iloc[:1000].sum() > 0.25
    assert len(shares) > 50_000
