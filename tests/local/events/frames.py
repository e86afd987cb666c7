"""Generated days as tables, and the published figures of November 2019, written here once more."""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Iterator

import pandas as pd
import pytest

from local.events.day import Chunk, Counts

DAY = dt.date(2019, 11, 2)
SEED = 7
MONTH = [dt.date(2019, 11, number) for number in range(1, 31)]
MONTH_MEAN_EVENTS = 10_000

ROWS = 67_501_979
VIEWS, CARTS, PURCHASES = 63_556_110, 3_028_930, 916_939

STANDARD_ERRORS = 4
"""How far a share may be from the published one. A seed gives the same days, so no test fails by chance."""
SESSION_EFFECT = 10
"""Events of a session look alike (same product, same category), so that n events tell as much as
n / SESSION_EFFECT independent ones about products, brands, categories and prices."""
TYPE_EFFECT = 1.5
"""The same for event types, which a session hardly decides."""


def csv_of(chunks: Iterator[Chunk]) -> bytes:
    return b"".join(chunk.csv for chunk in chunks)


def counts_of(chunks: Iterator[Chunk]) -> dict:
    return sum((chunk.counts for chunk in chunks), Counts()).as_dict()


def frame_of(text: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(text), dtype=str, keep_default_na=False)


def subcategory_of(events: pd.DataFrame) -> pd.Series:
    """The second level of the category code, NaN without one; each code is split once."""
    second = {code: code.split(".")[1] for code in events.category_code.unique() if code}
    return events.category_code.map(second)


def assert_share(found: float, published: float, events: int, effect: float) -> None:
    standard_error = math.sqrt(published * (1 - published) * effect / events)
    assert found == pytest.approx(published, abs=STANDARD_ERRORS * standard_error)
