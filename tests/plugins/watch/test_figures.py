"""Which figures of a day call for a person, and which do not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shopstream.watch.figures import (
    COUNTS,
    FIGURES,
    LIMITS_FILE,
    Counts,
    Judgement,
    LimitsError,
    judge_day,
    read_limits,
)
from tests.plugins.watch.november import PURCHASES, bounds, views_of_november

LIMITS = read_limits()
FRIDAY = dt.date(2021, 3, 5)
LARGE = {
    "events": 2_000_000,
    "views": 1_900_000,
    "viewers": 300_000,
    "purchases": 25_000,
    "buyers": 18_000,
    "orders": 20_000,
    "revenue": 7_500_000.0,
    "carts": 70_000,
    "abandoned_carts": 49_000,
    "without_category": 640_000,
}


def weeks_before(day: dt.date, *weeks: Mapping[str, float]) -> dict[dt.date, Counts]:
    """Days of these counts, on the weekday of `day` in the weeks before it, the last one first."""
    return {day - dt.timedelta(weeks=number): counts for number, counts in enumerate(weeks, start=1)}


def found(judgement: Judgement) -> set[str]:
    return {finding.figure for finding in judgement.findings}


# The published November


def november(views: Mapping[int, float]) -> dict[dt.date, Counts]:
    """The shop's counts of the whole month; of views those given, in millions, and nothing else is known."""
    return {
        day: {**dict.fromkeys(COUNTS, 0), "purchases": purchases, "views": 1e6 * views[day.day]}
        for day, purchases in PURCHASES.items()
    }


def test_of_the_published_november_the_purchases_call_on_the_three_days_of_the_sale_and_on_no_other() -> None:
    shop = november(views_of_november(dict.fromkeys(range(1, 31), 1.65)))
    # Without the holidays too, of which Black Friday is one.
    judgements = {day: judge_day(day, shop, {}, replace(LIMITS, holidays={})) for day in shop}
    calling = {day.day for day, judged in judgements.items() if "purchases" in found(judged)}
    assert calling == {15, 16, 17}
    too_new = {day.day for day, judged in judgements.items() if "too little" in "".join(judged.not_judged)}
    assert too_new == set(range(1, 15))
    [finding] = [
        finding
        for finding in judgements[dt.date(2019, 11, 15)].findings
        if finding.figure == "purchases" and finding.subcategory is None
    ]
    assert finding.sentence == (
        "2019-11-15 (Friday): purchases is 0, expected 14,431 to 33,741; usual is 24,086, by 2 Fridays "
        "(2019-11-01 22,458; 2019-11-08 25,714). Rows: shop.purchase_conversion_rate of these days."
    )


@given(views=st.fixed_dictionaries({number: st.floats(*bounds(number)) for number in range(1, 31)}))
def test_of_the_published_november_no_other_day_calls_whatever_its_unknown_views_were(
    views: dict[int, float],
) -> None:
    shop = november(views_of_november(views))
    calling = {day.day: calls for day in shop if (calls := found(judge_day(day, shop, {}, LIMITS)))}
    assert calling.keys() == {15, 16, 17}
    assert {"purchases", "views", "purchases_per_view"} <= calling[15]
    assert {"purchases", "views"} <= calling[16]
    assert {"purchases", "views"} <= calling[17]


# Any shop


def test_a_day_as_always_is_quiet_and_each_figure_is_judged() -> None:
    shop = weeks_before(FRIDAY, *[LARGE] * 4) | {FRIDAY: LARGE}
    assert judge_day(FRIDAY, shop, {}, LIMITS) == Judgement(FRIDAY, (), ())


COUNT_FIGURES = ("events", "views", "viewers", "purchases", "buyers", "orders", "revenue")


@pytest.mark.parametrize("figure", COUNT_FIGURES)
@given(
    off=st.floats(0.02, 0.9), up=st.booleans(), noise=st.lists(st.floats(-0.03, 0.03), min_size=8, max_size=8)
)
def test_a_count_that_is_off_by_more_than_its_share_is_found_and_by_less_is_not(
    figure: str, off: float, up: bool, noise: list[float]
) -> None:
    shop = weeks_before(FRIDAY, *({**LARGE, figure: LARGE[figure] * (1 + share)} for share in noise))
    shop[FRIDAY] = {**LARGE, figure: LARGE[figure] * (1 + (off if up else -off))}
    least = LIMITS.shares[figure]["shop"]
    calls = figure in found(judge_day(FRIDAY, shop, {}, LIMITS))
    # 3 % of noise move the median by 3 % at most, and the width to 4 x 1.4826 x 6 % at most.
    if off > max(least, 4 * 1.4826 * 0.06) * 1.03 + 0.03:
        assert calls
    elif off < least * 0.97 - 0.03:
        assert not calls


@given(levels=st.lists(st.floats(0.05, 20), min_size=7, max_size=7), growth=st.floats(-0.02, 0.02))
def test_a_weekly_rhythm_that_grows_slowly_is_quiet(levels: list[float], growth: float) -> None:
    start = dt.date(2021, 1, 18)
    shop = {
        day: {
            name: count * levels[day.weekday()] * (1 + growth) ** (number / 7)
            for name, count in LARGE.items()
        }
        for number in range(70)
        for day in [start + dt.timedelta(days=number)]
    }
    assert [judged for day in list(shop)[14:] if (judged := judge_day(day, shop, {}, LIMITS)).findings] == []


@pytest.mark.parametrize(
    ("figure", "counts"),
    [
        ("purchases_per_view", {"views": 5_700_000}),
        ("abandonment", {"abandoned_carts": 69_000}),
        ("abandonment", {"abandoned_carts": 35_000}),
        ("share_without_category", {"without_category": 900_000}),
        ("share_without_category", {"without_category": 0}),
    ],
)
def test_a_share_that_is_off_is_found(figure: str, counts: dict[str, float]) -> None:
    shop = weeks_before(FRIDAY, *[LARGE] * 4) | {FRIDAY: LARGE | counts}
    assert figure in found(judge_day(FRIDAY, shop, {}, LIMITS))


def test_one_day_out_of_all_bounds_does_not_move_what_is_usual() -> None:
    weeks = [LARGE, {name: count * 30 for name, count in LARGE.items()}, LARGE, LARGE]
    shop = weeks_before(FRIDAY, *weeks) | {FRIDAY: {**LARGE, "purchases": 12_000}}
    assert "purchases" in found(judge_day(FRIDAY, shop, {}, LIMITS))
    assert judge_day(FRIDAY, {**shop, FRIDAY: LARGE}, {}, LIMITS).findings == ()


def test_nothing_at_all_calls_however_much_the_days_before_differ() -> None:
    weeks = [{**LARGE, "purchases": 25_000 * share} for share in (0.2, 1, 1.8, 3)]
    shop = weeks_before(FRIDAY, *weeks) | {FRIDAY: {**LARGE, "purchases": 1}}
    assert "purchases" not in found(judge_day(FRIDAY, shop, {}, LIMITS))
    assert "purchases" in found(judge_day(FRIDAY, {**shop, FRIDAY: {**LARGE, "purchases": 0}}, {}, LIMITS))


def test_a_day_that_is_not_final_is_not_judged() -> None:
    judged = judge_day(FRIDAY, weeks_before(FRIDAY, *[LARGE] * 4), {}, LIMITS)
    assert judged.findings == ()
    assert judged.not_judged == ("2021-03-05: is not final, or its summaries were not built since it was.",)


def test_too_little_history_is_said_and_a_missing_day_is_no_day_of_zeros() -> None:
    shop = weeks_before(FRIDAY, LARGE) | {FRIDAY: {**LARGE, "purchases": 0}}
    judged = judge_day(FRIDAY, shop, {}, LIMITS)
    assert judged.findings == ()
    [told] = judged.not_judged
    assert told == (
        "2021-03-05: too little history; of the Fridays of the last 8 weeks it could be held against "
        "2021-02-26, and 2 are needed."
    )
    shop |= {FRIDAY - dt.timedelta(weeks=5): LARGE}
    [finding] = [f for f in judge_day(FRIDAY, shop, {}, LIMITS).findings if f.figure == "purchases"]
    assert [day for day, _ in finding.compared] == [FRIDAY - dt.timedelta(weeks=weeks) for weeks in (5, 1)]
    assert finding.usual == 25_000


def test_days_longer_ago_than_the_weeks_and_other_weekdays_are_no_measure() -> None:
    shop = {FRIDAY - dt.timedelta(weeks=weeks): LARGE for weeks in (9, 10, 11)}
    shop |= {FRIDAY - dt.timedelta(days=days): LARGE for days in (1, 2, 3, 8)} | {FRIDAY: LARGE}
    assert "could be held against none" in judge_day(FRIDAY, shop, {}, LIMITS).not_judged[0]


@pytest.mark.parametrize("key", ["03-05", "2021-03-05"])
def test_a_holiday_is_not_judged_and_is_no_measure(key: str) -> None:
    limits = replace(LIMITS, holidays={key: "Day of Rest"})
    none = dict.fromkeys(COUNTS, 0)
    shop = weeks_before(FRIDAY, *[LARGE] * 4) | {FRIDAY: none}
    assert judge_day(FRIDAY, shop, {}, limits) == Judgement(
        FRIDAY, (), ("2021-03-05: is Day of Rest, a day like no other.",)
    )
    later = FRIDAY + dt.timedelta(weeks=1)
    [finding] = [
        finding
        for finding in judge_day(later, shop | {later: none}, {}, limits).findings
        if finding.figure == "purchases"
    ]
    assert FRIDAY not in dict(finding.compared)


def test_chance_alone_does_not_call_in_a_small_shop() -> None:
    small = {name: count / 500 for name, count in LARGE.items()}  # 50 purchases
    shop = weeks_before(FRIDAY, *[small] * 4) | {FRIDAY: {**small, "purchases": 72}}
    assert "purchases" not in found(judge_day(FRIDAY, shop, {}, LIMITS))
    shop[FRIDAY] = {**small, "purchases": 79}
    assert "purchases" in found(judge_day(FRIDAY, shop, {}, LIMITS))


def test_a_figure_of_too_few_is_not_judged_and_this_is_said() -> None:
    tiny = {name: count / 1000 for name, count in LARGE.items()}  # 25 purchases
    shop = weeks_before(FRIDAY, *[tiny] * 4) | {FRIDAY: {**tiny, "purchases": 0}}
    judged = judge_day(FRIDAY, shop, {}, LIMITS)
    assert "purchases" not in found(judged)
    assert "2021-03-05: purchases is usually of 25, fewer than 30." in judged.not_judged


def test_a_day_without_carts_has_no_share_of_them() -> None:
    shop = weeks_before(FRIDAY, *[LARGE] * 4) | {FRIDAY: {**LARGE, "carts": 0, "abandoned_carts": 0}}
    judged = judge_day(FRIDAY, shop, {}, LIMITS)
    assert judged == Judgement(
        FRIDAY, (), ("2021-03-05: abandonment has no value, or too few days had one.",)
    )


# Sub-categories


def of_part(views: float, purchases: float) -> Counts:
    return {**dict.fromkeys(COUNTS, 0), "events": views + purchases, "views": views, "purchases": purchases}


def test_a_large_sub_category_that_vanishes_is_found_and_a_small_one_is_not_looked_at() -> None:
    limits = replace(LIMITS, subcategories=2)
    shop = weeks_before(FRIDAY, *[LARGE] * 4) | {FRIDAY: LARGE}
    usual = {
        "smartphone": of_part(500_000, 9_000),
        "kitchen": of_part(90_000, 900),
        "shoes": of_part(80_000, 500),
    }
    parts = {name: weeks_before(FRIDAY, *[counts] * 4) for name, counts in usual.items()}
    parts["smartphone"][FRIDAY] = of_part(500_000, 1_000)
    judged = judge_day(FRIDAY, shop, parts, limits)
    assert [(finding.subcategory, finding.figure, finding.value) for finding in judged.findings] == [
        ("smartphone", "purchases", 1_000),
        ("smartphone", "purchases_per_view", 0.002),
        ("kitchen", "views", 0),
        ("kitchen", "purchases", 0),
    ]
    assert judged.findings[0].sentence.startswith(
        "2021-03-05 (Friday): purchases of smartphone is 1,000, expected"
    )


def test_what_the_whole_shop_tells_its_sub_categories_do_not_repeat() -> None:
    shop = weeks_before(FRIDAY, *[LARGE] * 4) | {FRIDAY: {**LARGE, "purchases": 0}}
    parts = {"smartphone": weeks_before(FRIDAY, *[of_part(500_000, 9_000)] * 4)}
    parts["smartphone"][FRIDAY] = of_part(5_000_000, 0)
    findings = judge_day(FRIDAY, shop, parts, LIMITS).findings
    assert [(finding.subcategory, finding.figure) for finding in findings] == [
        (None, "purchases"),
        (None, "purchases_per_view"),
        ("smartphone", "views"),
    ]


# figures.yaml


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weeks": 0}, "weeks is 0; give a whole number from 1 to 52"),
        ({"weeks": True}, "weeks is True"),
        ({"least_days": 1}, "least_days is 1; give a whole number from 2"),
        ({"least_days": 9}, "least_days is 9; 8 weeks have no more"),
        ({"spreads": "4"}, "spreads is '4'; give a number from 1"),
        ({"spread": 4}, "give exactly the keys figures, holidays,"),
        ({"figures": {"views": {"shop": 0.4}}}, "figures: give exactly events, views,"),
        ({"figures": {"orders": {"subcategory": 1}}}, "orders is {'subcategory': 1}; give shop"),
        ({"figures": {"orders": {"shop": 1, "subcategory": 1}}}, "orders is {'shop': 1, 'subcategory': 1}"),
        ({"figures": {"orders": {"shop": 0}}}, "orders: shop is 0; give a number from 0.01"),
        ({"holidays": {"2-30": "no day"}}, "holidays has '2-30'; give"),
        ({"holidays": {dt.date(2021, 1, 1): "a date"}}, "holidays has datetime.date(2021, 1, 1); give"),
        ({"holidays": {"01-01": 1}}, "01-01 is 1; give the holiday's name"),
    ],
)
def test_limits_that_cannot_hold_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    entry = yaml.safe_load(LIMITS_FILE.read_text())
    if "figures" in change and "views" not in change["figures"]:
        change = {"figures": entry["figures"] | change["figures"]}
    path = tmp_path / "figures.yaml"
    path.write_text(yaml.safe_dump(entry | change))
    with pytest.raises(LimitsError) as error:
        read_limits(path)
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)


def test_each_figure_names_a_table_that_there_is() -> None:
    from shopstream.settings import settings as shop_settings
    from shopstream.tables.folder import summaries_in_order

    assert {figure.rows_in for figure in FIGURES.values()} <= set(summaries_in_order(shop_settings().sql_dir))
