"""Which figures of a day are not what that weekday was in the last weeks: rules, which ask nobody.

A figure is a count, a sum of money or a share, of the whole shop or of a sub-category. The limits and the
holidays are in figures.yaml.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from shopstream.retries import Refused
from shopstream.rounding import percent, rounded

LIMITS_FILE = Path(__file__).with_name("figures.yaml")
STANDARD_DEVIATION_PER_MAD = 1.4826
"""Of values that differ by chance alone."""
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COUNTS = (
    "events",
    "views",
    "viewers",
    "purchases",
    "buyers",
    "orders",
    "revenue",
    "carts",
    "abandoned_carts",
    "without_category",
)
"""The columns of figures.sql beside event_date and subcategory."""

Counts = Mapping[str, float]
"""What one day has of each of COUNTS."""


class LimitsError(Refused):
    """figures.yaml is not as it must be; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class Figure:
    """How a figure is made of a day's counts.

    `value` gives it, and `behind` how many events (orders, carts) it is made of, by which chance is judged.
    A share has none on a day without what it is a share of, and is at `most` so large. `rows_in` is the table
    to look at.
    """

    value: Callable[[Counts], float | None]
    behind: Callable[[Counts], float]
    rows_in: str
    is_share: bool = False
    most: float = math.inf


def _count(name: str, rows_in: str) -> Figure:
    return Figure(lambda counts: counts[name], lambda counts: counts[name], rows_in)


def _share(part: str, whole: str, rows_in: str, most: float = 1.0) -> Figure:
    return Figure(
        lambda counts: counts[part] / counts[whole] if counts[whole] else None,
        lambda counts: counts[part],
        rows_in,
        is_share=True,
        most=most,
    )


FIGURES = {
    "events": _count("events", "shop.daily_event_count"),
    "views": _count("views", "shop.purchase_conversion_rate"),
    "viewers": _count("viewers", "shop.daily_event_count"),
    "purchases": _count("purchases", "shop.purchase_conversion_rate"),
    "buyers": _count("buyers", "shop.revenue_daily"),
    "orders": _count("orders", "shop.revenue_daily"),
    "revenue": Figure(
        lambda counts: counts["revenue"], lambda counts: counts["orders"], "shop.revenue_daily"
    ),
    "purchases_per_view": _share("purchases", "views", "shop.purchase_conversion_rate", most=math.inf),
    "abandonment": _share("abandoned_carts", "carts", "shop.cart_abandonment"),
    "share_without_category": _share("without_category", "events", "shop.daily_event_count"),
}
OF_SUBCATEGORIES = ("views", "purchases", "purchases_per_view", "abandonment")
"""Figures that a sub-category has too."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What figures.yaml says; `shares` has least_share by figure and by "shop" or "subcategory"."""

    weeks: int
    least_days: int
    spreads: float
    least_usual: float
    subcategories: int
    shares: Mapping[str, Mapping[str, float]]
    holidays: Mapping[str, str]

    def holiday(self, day: dt.date) -> str | None:
        """The name of the holiday that `day` is, if it is one."""
        return self.holidays.get(f"{day:%Y-%m-%d}") or self.holidays.get(f"{day:%m-%d}")


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure of a day that is not as usual; `compared` are the days it was held against, with values."""

    day: dt.date
    figure: str
    subcategory: str | None
    value: float
    usual: float
    expected_low: float
    expected_high: float
    compared: tuple[tuple[dt.date, float], ...]

    @property
    def is_high(self) -> bool:
        """Whether the figure is above what was expected, not below."""
        return self.value > self.expected_high

    @property
    def sentence(self) -> str:
        """The finding in words: figure, expected range, and the rows behind it."""
        weekday = WEEKDAYS[self.day.weekday()]
        of = f" of {self.subcategory}" if self.subcategory else ""
        compared = "; ".join(f"{day} {self._told(value)}" for day, value in self.compared)
        return (
            f"{self.day} ({weekday}): {self.figure}{of} is {self._told(self.value)}, expected "
            f"{self._told(self.expected_low)} to {self._told(self.expected_high)}; usual is "
            f"{self._told(self.usual)}, by {len(self.compared)} {weekday}s ({compared}). "
            f"Rows: {FIGURES[self.figure].rows_in} of these days."
        )

    def _told(self, value: float) -> str:
        return percent(value, 2) if FIGURES[self.figure].is_share else f"{rounded(value):,}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found on one day, and in words what could not be judged and why."""

    day: dt.date
    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]


def read_limits(path: Path = LIMITS_FILE) -> Limits:
    """Read figures.yaml.

    Raises:
        LimitsError: a key is missing or unknown, or a value is none that can hold.
    """
    entry = yaml.safe_load(path.read_text(encoding="utf-8"))
    ranges: dict[str, tuple[type, float, float]] = {
        "weeks": (int, 1, 52),
        "least_days": (int, 2, 52),
        "spreads": (float, 1, 100),
        "least_usual": (float, 1, math.inf),
        "subcategories": (int, 0, 1000),
    }
    known = {*ranges, "figures", "holidays"}
    if not isinstance(entry, dict) or set(entry) != known:
        raise LimitsError(f"{path}: give exactly the keys {', '.join(sorted(known))}")
    for key, (kind, least, most) in ranges.items():
        entry[key] = _number(f"{path}: {key}", entry[key], kind, least, most)
    if entry["least_days"] > entry["weeks"]:
        raise LimitsError(f"{path}: least_days is {entry['least_days']}; {entry['weeks']} weeks have no more")
    return Limits(
        **{key: entry[key] for key in ranges},
        shares=_read_shares(path, entry["figures"]),
        holidays=_read_holidays(path, entry["holidays"]),
    )


def judge_day(
    day: dt.date,
    shop: Mapping[dt.date, Counts],
    parts: Mapping[str, Mapping[dt.date, Counts]],
    limits: Limits,
) -> Judgement:
    """Hold each figure of `day` against the same weekday of the weeks before it.

    A sub-category's finding is left out where the whole shop's same figure is as far off to the same side.

    Args:
        shop: the counts of the whole shop, of each final day; a day that is not in it was not published.
        parts: those of each sub-category; of a final day that is not in it there were none.
        limits: what calls.
    """
    if day not in shop:
        return Judgement(day, (), (f"{day}: is not final, or its summaries were not built since it was.",))
    if holiday := limits.holiday(day):
        return Judgement(day, (), (f"{day}: is {holiday}, a day like no other.",))
    compared = [
        earlier
        for weeks in range(limits.weeks, 0, -1)
        if (earlier := day - dt.timedelta(weeks=weeks)) in shop and not limits.holiday(earlier)
    ]
    if len(compared) < limits.least_days:
        weekday = WEEKDAYS[day.weekday()]
        few = ", ".join(map(str, compared)) or "none"
        return Judgement(
            day,
            (),
            (
                f"{day}: too little history; of the {weekday}s of the last {limits.weeks} weeks it could be "
                f"held against {few}, and {limits.least_days} are needed.",
            ),
        )
    findings, not_judged = [], []
    for figure, shares in limits.shares.items():
        told = _judge(day, figure, None, shop, compared, shares["shop"], limits)
        if isinstance(told, Finding):
            findings.append(told)
        elif told:
            not_judged.append(told)
    of_shop = {(finding.figure, finding.is_high) for finding in findings}
    for subcategory in _most_visited(parts, compared, limits.subcategories):
        counts = {of: parts[subcategory].get(of, dict.fromkeys(COUNTS, 0)) for of in (*compared, day)}
        for figure, shares in limits.shares.items():
            if "subcategory" in shares:
                told = _judge(day, figure, subcategory, counts, compared, shares["subcategory"], limits)
                if isinstance(told, Finding) and (figure, told.is_high) not in of_shop:
                    findings.append(told)
    return Judgement(day, tuple(findings), tuple(not_judged))


def _judge(
    day: dt.date,
    name: str,
    subcategory: str | None,
    counts: Mapping[dt.date, Counts],
    compared: Sequence[dt.date],
    least_share: float,
    limits: Limits,
) -> Finding | str | None:
    """Return what was found, None if the figure is as usual, or in words why it was not judged."""
    figure = FIGURES[name]
    value = figure.value(counts[day])
    values = [(of, found) for of in compared if (found := figure.value(counts[of])) is not None]
    if value is None or len(values) < limits.least_days:
        return f"{day}: {name} has no value, or too few days had one."
    behind = median(figure.behind(counts[of]) for of, _ in values)
    if behind < limits.least_usual:
        return f"{day}: {name} is usually of {behind:,.0f}, fewer than {limits.least_usual:,.0f}."
    usual = median(found for _, found in values)
    deviation = STANDARD_DEVIATION_PER_MAD * median(abs(found - usual) for _, found in values)
    # Of a count that chance makes, the standard deviation is its root.
    noise = usual / math.sqrt(behind)
    width = max(limits.spreads * max(deviation, noise), least_share * usual)
    low, high = max(0.0, usual - width), min(usual + width, figure.most)
    # Nothing at all, where there usually is plenty, calls however much the days before differ; but no share,
    # of which nothing may be the best.
    if low <= value <= high and (value > 0 or usual == 0 or figure.is_share):
        return None
    return Finding(day, name, subcategory, value, usual, low, high, tuple(values))


def _most_visited(
    parts: Mapping[str, Mapping[dt.date, Counts]], compared: Sequence[dt.date], wanted: int
) -> list[str]:
    """Return the sub-categories of the most views in the days compared, of the usual day of each."""
    usual = {
        name: median(days[of]["views"] if of in days else 0 for of in compared)
        for name, days in parts.items()
    }
    return sorted(usual, key=lambda name: (-usual[name], name))[:wanted]


def _read_shares(path: Path, entry: Any) -> dict[str, dict[str, float]]:
    if not isinstance(entry, dict) or set(entry) != set(FIGURES):
        raise LimitsError(f"{path}: figures: give exactly {', '.join(FIGURES)}")
    for name, shares in entry.items():
        where = f"{path}: figures: {name}"
        per_part = {"subcategory"} if name in OF_SUBCATEGORIES else set()
        if not isinstance(shares, dict) or not {"shop"} <= set(shares) <= {"shop", *per_part}:
            raise LimitsError(
                f"{where} is {shares!r}; give shop" + ", and if you like subcategory" * len(per_part)
            )
        for key, value in shares.items():
            shares[key] = _number(f"{where}: {key}", value, float, 0.01, 100)
    return entry


def _read_holidays(path: Path, entry: Any) -> dict[str, str]:
    for key, name in (entry or {}).items():
        text = key if isinstance(key, str) else ""
        try:
            # In a leap year, which has each day.
            dt.date.fromisoformat(text if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else f"2020-{text}")
        except ValueError:
            raise LimitsError(f'{path}: holidays has {key!r}; give "MM-DD" or "YYYY-MM-DD"') from None
        if not isinstance(name, str):
            raise LimitsError(f"{path}: holidays: {key} is {name!r}; give the holiday's name")
    return dict(entry or {})


def _number(where: str, value: Any, kind: type, least: float, most: float) -> Any:
    is_number = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        raise LimitsError(f"{where} is {value!r}; give {what} from {least:g} to {most:g}")
    return kind(value)
