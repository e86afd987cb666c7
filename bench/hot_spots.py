"""Where a load's writes fall in Spanner's key, minute by minute, for the table's key and for others.

Nothing of Spanner runs here. Splits are ranges of the key, each of one node at a time; a table a month old is
cut into even ones. The events are those of local/events, for a shop of the given size: its customers, its
hours. Each minute the load offers what is due, as its workers read ranges of the day's file in no order. What
its hottest split cannot take waits for the next minute. Every WARM_MINUTES each split that is more than warm
is cut in two between the rows that it was sent.

A row of the sample stands for many. What a split has of them by chance (three standard deviations) limits
nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from beam_jobs.contract import SHARDS
from beam_jobs.files import RANGE_BYTES
from beam_jobs.identity import shards
from local.events import november_2019 as shop
from local.events.draw import uniform
from local.events.sessions import Sessions
from tools.cost.services import CSV_BYTES, LOAD_HOURS, NODE_WRITES_A_SECOND, spanner_bytes, spanner_nodes

Keys = npt.NDArray[np.uint64]

DAY = dt.date(2019, 11, 30)
SEED = 2019
SAMPLE = 2_400_000
"""Rows of the day that are followed, at most: of this shop all."""
HISTORY_DAYS, HISTORY_ROWS = 30, 600_000
SPLIT_BYTES = 4 * 2**30
"""After which a split is cut: chosen, since Google says no more than "a few"."""
SPLITS_A_NODE = 10
"""Spanner, pre-splitting overview: "We recommend creating 10 split points per node"."""
MOST_SPLITS = 2_000
"""Of the history that are followed: what is cut finer than that is no hot spot."""
WARM_SHARE = 0.5
"""Spanner, hot split statistics: warm from 50 % of what the server can take on."""
WARM_MINUTES = 5
"""Spanner, bulk loading: throughput doubles "every few minutes"; chosen, since it names no number."""
LONGEST_HOURS = 24


class Rows(NamedTuple):
    """Events of several days, one value a row; `day` counts from 0, `second` within it."""

    day: Keys
    second: Keys
    user: Keys
    id: Keys


class Key(NamedTuple):
    """A primary key: its order of rows, and how many ranges a reader of it asks for.

    `of` gives a number a row, in the key's order. `journey` is what a customer's 30 days cost, `day` what a
    landing day's event date does. `in_time`: rows are written as they happen, not from files.
    """

    name: str
    of: Callable[[Rows], Keys]
    journey: str
    day: str
    in_time: bool = False
    is_cut_before: bool = False


class Followed(NamedTuple):
    """What became of a load: the hottest split's share of the rows offered in each minute, and its hours.

    `hours` is None of a load that has not ended after LONGEST_HOURS.
    """

    shares: list[float]
    hours: float | None


def _sharded(count: int) -> Callable[[Rows], Keys]:
    def of(rows: Rows) -> Keys:
        shard = shards(rows.user.astype(np.int64), count).astype(np.uint64)
        return shard << np.uint64(55) | _by_day(rows) >> np.uint64(9)

    return of


def _by_day(rows: Rows) -> Keys:
    """day, user_id, event_time: 6, 31 and 17 bits."""
    return rows.day << np.uint64(58) | rows.user << np.uint64(27) | rows.second << np.uint64(10)


def _by_time(rows: Rows) -> Keys:
    return rows.day << np.uint64(58) | rows.second << np.uint64(41) | rows.user << np.uint64(10)


def _by_user(rows: Rows) -> Keys:
    return rows.user << np.uint64(33) | rows.day << np.uint64(27) | rows.second << np.uint64(10)


def _by_id(rows: Rows) -> Keys:
    return rows.id


KEYS = (
    Key(f"shard of {SHARDS}, event_date, user_id, ... (the table's)", _sharded(SHARDS), "30", str(SHARDS)),
    Key("the same, cut before the load", _sharded(SHARDS), "30", str(SHARDS), is_cut_before=True),
    Key("shard of 64, event_date, user_id, ...", _sharded(64), "30", "64"),
    Key("shard of 128, event_date, user_id, ...", _sharded(128), "30", "128"),
    Key("event_date, user_id, ... (no shard)", _by_day, "30", "1"),
    Key("user_id, event_time, ...", _by_user, "1", "the table"),
    Key("event_id, a UUID", _by_id, "the table", "the table"),
    Key("event_time, ...", _by_time, "the month", "1"),
    Key("event_time, ..., written in order of time", _by_time, "the month", "1", in_time=True),
)


def follow(key: Key, history: Rows, today: Rows, events: float, workers: int) -> Followed:
    """Load a day of so many events into a table of `history`; `today` is a sample of it, in order of time."""
    _, nodes = spanner_nodes(events)
    sent = key.of(today)
    if not key.in_time:
        sent = sent[_as_read(len(sent), events, workers)]
    limits = _limits(key, history, nodes, spanner_bytes(events))
    minutes = LOAD_HOURS * 60
    offered = len(sent) / minutes
    taken_by_a_split = NODE_WRITES_A_SECOND * 60 * len(sent) / events
    shares: list[float] = []
    begun, warm_since = 0.0, 0
    while round(begun) < len(sent) and len(shares) < LONGEST_HOURS * 60:
        asked = sent[int(begun) : int(begun) + ceil(offered)]
        on_split = np.bincount(np.searchsorted(limits, asked, side="right"), minlength=len(limits) + 1)
        shares.append(on_split.max() / len(asked))
        surely = on_split - 3 * np.sqrt(on_split)
        begun += offered * min(1.0, taken_by_a_split / max(surely.max(), 1e-9))
        if len(shares) - warm_since >= WARM_MINUTES:
            warm_since = len(shares)
            limits = _cut(limits, asked, surely > WARM_SHARE * taken_by_a_split)
    return Followed(shares, len(shares) / 60 if round(begun) >= len(sent) else None)


def _as_read(rows: int, events: float, workers: int) -> npt.NDArray[np.int64]:
    """Return the order in which rows are written: each worker takes one range of the day after the other."""
    ranges = ceil(events * CSV_BYTES / RANGE_BYTES)
    turn = np.argsort(uniform(np.random.PCG64(SEED), ranges), kind="stable")
    begins = np.arange(ranges) * rows / ranges
    at = np.searchsorted(begins, np.arange(rows), side="right") - 1
    within = (np.arange(rows) - begins[at]) / (rows / ranges)
    return np.argsort(np.argsort(turn)[at] // workers + within, kind="stable")


def _limits(key: Key, history: Rows, nodes: int, stored: float) -> Keys:
    """Return where the table is cut when the load begins."""
    splits = min(max(ceil(stored / SPLIT_BYTES), SPLITS_A_NODE * nodes), MOST_SPLITS)
    limits = _even(key.of(history), splits)
    if key.is_cut_before:
        # As yesterday's customers lie, a day on.
        yesterday = Rows._make(column[history.day == HISTORY_DAYS - 1] for column in history)
        as_today = yesterday._replace(day=yesterday.day + np.uint64(1))
        limits = np.union1d(limits, _even(key.of(as_today), SPLITS_A_NODE * nodes))
    return limits


def _even(keys: Keys, parts: int) -> Keys:
    """Return limits that cut the keys into so many parts of as many rows."""
    ordered = np.sort(keys)
    return np.unique(ordered[np.arange(1, parts) * len(ordered) // parts])


def _cut(limits: Keys, sent: Keys, is_warm: npt.NDArray[np.bool_]) -> Keys:
    """Return the limits with one more in each warm split: in the middle of what it was sent."""
    ordered = np.sort(sent)
    edges = np.concatenate([[0], np.searchsorted(ordered, limits), [len(ordered)]])
    first, last = edges[:-1][is_warm], edges[1:][is_warm]
    return np.union1d(limits, ordered[(first + last) // 2])


def history_of(times: float, events_a_day: float) -> Rows:
    """Return rows of the month before the day, of a shop so many times this one."""
    a_day = HISTORY_ROWS // HISTORY_DAYS
    days = [_day(number, events_a_day * times, a_day) for number in range(HISTORY_DAYS)]
    return Rows._make(np.concatenate(columns) for columns in zip(*days, strict=True))


def today_of(times: float, events_a_day: float) -> Rows:
    """Return rows of the day itself, in order of time."""
    return _day(HISTORY_DAYS, events_a_day * times, min(SAMPLE, round(events_a_day * times)))


def _day(number: int, events: float, rows: int) -> Rows:
    bits = np.random.PCG64([SEED, number])
    sessions = Sessions(DAY + dt.timedelta(number - HISTORY_DAYS), round(events), bits, 0.0, 1)
    until = np.rint(np.cumsum(shop.HOUR_SHARES) / sum(shop.HOUR_SHARES) * rows).astype(np.int64)
    hours = [
        sessions.events(wanted, hour * 3600, 3600)
        for hour, wanted in enumerate(np.diff(until, prepend=0).tolist())
    ]
    second, user = (
        np.concatenate([getattr(part, name) for part in hours]).astype(np.uint64)
        for name in ("second", "user")
    )
    order = np.argsort(second, kind="stable")
    day = np.full(len(order), number, np.uint64)
    return Rows(day, second[order], user[order], bits.random_raw(len(order)))
