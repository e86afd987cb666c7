"""A month in little, and the catalogue, made once."""

from __future__ import annotations

import pandas as pd
import pytest

from local.events.catalogue import catalogue
from local.events.day import generate_day
from local.events.sessions import day_events
from tests.local.events.frames import MONTH, MONTH_MEAN_EVENTS, SEED, csv_of, frame_of


@pytest.fixture(scope="session")
def month() -> pd.DataFrame:
    """November 2019 in little: 300,000 events over 30 days, large and small as in the shop."""
    days = [frame_of(csv_of(generate_day(day, day_events(day, MONTH_MEAN_EVENTS), SEED))) for day in MONTH]
    return pd.concat(days, ignore_index=True)


@pytest.fixture(scope="session")
def products() -> pd.DataFrame:
    """The catalogue, with each product's share of journeys."""
    made = catalogue()
    count = len(made.category)
    names = ["product_id", "category_id", "category_code", "brand", "price", "nothing"]
    frame = pd.DataFrame([text.split(",") for text in made.texts[:count].to_pylist()], columns=names).drop(
        columns="nothing"
    )
    until = pd.Series(made.popularity_until)
    return frame.assign(share=until.diff().fillna(until[0]))
