"""Hot spots: keys order rows as Spanner would, what a split cannot take waits, what is hot is cut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from beam_jobs.identity import shards
from beam_jobs.spanner_sink import KEY_COLUMNS
from bench import hot_spots
from bench.hot_spots import KEYS, Key, Rows, follow, history_of, today_of
from tools.cost.services import LOAD_HOURS

EVENTS_A_DAY = 2_250_066
TIMES = 10_000
TABLES, CUT_BEFORE, _, OF_128, NO_SHARD, BY_USER, BY_ID, BY_TIME, IN_TIME = KEYS


@pytest.fixture(scope="module", autouse=True)
def _few_rows() -> Iterator[None]:
    """Enough to see a share of a sixteenth."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hot_spots, "SAMPLE", 240_000)
        patched.setattr(hot_spots, "HISTORY_ROWS", 60_000)
        yield


@pytest.fixture(scope="module")
def history(_few_rows: None) -> Rows:
    return history_of(TIMES, EVENTS_A_DAY)


@pytest.fixture(scope="module")
def today(_few_rows: None) -> Rows:
    return today_of(TIMES, EVENTS_A_DAY)


def columns(rows: Rows, names: str) -> list[np.ndarray]:
    found = {
        "shard": shards(rows.user.astype(np.int64)),
        "event_date": rows.day,
        "event_time": rows.day * np.uint64(86_400) + rows.second,
        "user_id": rows.user,
    }
    return [found[name] for name in names.split()]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (TABLES, "shard event_date user_id event_time"),
        (NO_SHARD, "event_date user_id event_time"),
        (BY_USER, "user_id event_time"),
        (BY_TIME, "event_time user_id"),
    ],
    ids=lambda value: value.name if isinstance(value, Key) else "",
)
def test_a_key_puts_rows_of_several_days_in_the_order_of_its_columns(
    key: Key, names: str, history: Rows
) -> None:
    of = key.of(history)
    ordered = np.lexsort(columns(history, names)[::-1])
    assert (np.diff(of[ordered].astype(object)) >= 0).all()
    told_apart = len(np.unique(np.stack(columns(history, names)), axis=1).T)
    assert len(np.unique(of)) == told_apart, "two rows of different keys are never one"


def test_the_tables_key_is_the_tables() -> None:
    assert KEY_COLUMNS[:4] == ("shard", "event_date", "user_id", "event_time")
    assert TABLES.name.startswith("shard of 16, event_date, user_id")


def test_a_days_first_minute_lies_on_one_split_without_a_shard_and_on_sixteen_with_it(
    history: Rows, today: Rows
) -> None:
    def first(key: Key) -> float:
        return follow(key, history, today, EVENTS_A_DAY * TIMES, workers=180).shares[0]

    assert first(NO_SHARD) == first(BY_TIME) == 1
    assert 1 / 16 <= first(TABLES) < 1 / 10
    assert 1 / 128 <= first(OF_128) < 1 / 40
    assert first(BY_USER) < 1 / 50
    assert first(CUT_BEFORE) < 1 / 50


def test_a_hot_split_is_cut_again_and_again_and_the_load_ends_the_later_the_hotter_it_began(
    history: Rows, today: Rows
) -> None:
    followed = {
        key: follow(key, history, today, EVENTS_A_DAY * TIMES, workers=180)
        for key in (CUT_BEFORE, TABLES, NO_SHARD)
    }
    without = followed[NO_SHARD].shares
    assert without[0] == without[hot_spots.WARM_MINUTES - 1] == 1
    assert without[hot_spots.WARM_MINUTES] == pytest.approx(1 / 2, abs=0.05)
    assert without[2 * hot_spots.WARM_MINUTES] == pytest.approx(1 / 4, abs=0.05)
    cut_before, tables, no_shard = (one.hours or 99 for one in followed.values())
    assert cut_before < tables < no_shard


def test_a_load_that_no_split_holds_up_ends_when_all_is_offered(history: Rows, today: Rows) -> None:
    followed = follow(TABLES, history, today, EVENTS_A_DAY, workers=1)
    assert followed.hours == LOAD_HOURS
    assert len(followed.shares) == LOAD_HOURS * 60


def test_rows_in_order_of_time_after_a_key_of_time_never_end_since_each_cut_comes_too_late(
    history: Rows, today: Rows
) -> None:
    followed = follow(IN_TIME, history, today, EVENTS_A_DAY * TIMES, workers=180)
    assert followed.hours is None
    assert len(followed.shares) == hot_spots.LONGEST_HOURS * 60


def test_the_same_shop_gives_the_same_rows(today: Rows) -> None:
    again = today_of(TIMES, EVENTS_A_DAY)
    assert all((one == other).all() for one, other in zip(today, again, strict=True))
    assert (np.diff(today.second.astype(np.int64)) >= 0).all(), "in order of time"
    assert len(today.user) == hot_spots.SAMPLE
