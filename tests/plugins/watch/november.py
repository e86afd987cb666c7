"""The published November of 2019, day by day, as far as it is known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

KNOWN: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("november.yaml").read_text())
PURCHASES: dict[dt.date, int] = {
    dt.date(2019, 11, number): purchases for number, purchases in enumerate(KNOWN["purchases"], start=1)
}


def views_of_november(given: Mapping[int, float]) -> dict[int, float]:
    """Views of each day of the month, in millions.

    Those that are known, and of the others those given, moved until each weekday has its sum.
    """
    views = given | KNOWN["views"]
    for weekday, total in enumerate(KNOWN["views_by_weekday"]):
        days = [number for number in views if dt.date(2019, 11, number).weekday() == weekday]
        unknown = [number for number in days if number not in KNOWN["views"]]
        for _ in range(20):
            lacking = total - sum(views[number] for number in days)
            for number in unknown:
                least, most = bounds(number)
                views[number] = min(max(views[number] + lacking / len(unknown), least), most)
        assert sum(views[number] for number in days) == pytest.approx(total, rel=0.002)
    return views


def bounds(number: int) -> list[float]:
    """From where to where the views of a day of the month were, in millions, if no more is known of them."""
    return KNOWN["views_before_the_14th" if number < 14 else "views_after_the_17th"]
