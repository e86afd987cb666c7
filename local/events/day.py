"""Realistic days of click events, as CSV of the shop's format, of any size.

The figures that a day is calibrated to, and their source, are in local/events/november_2019.py.

Sessions are drawn for one slice of the day after the other, and events that reach beyond a slice are carried
into the next, so memory does not grow with the day. The same arguments give the same bytes, whatever else is
generated.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from local.events import november_2019 as shop
from local.events.draw import Integers, below, uniform
from local.events.sessions import DAY_SECONDS, MAX_LATE_DAYS, Events, Sessions
from local.events.text import HEADER, event_lines, with_broken_rows

DEFAULT_EVENTS = 50_000
DEFAULT_SEED = 2019
SLICE_EVENTS = 100_000
DIVISORS_OF_60 = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)


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
    time, but for late ones: whole sessions of 1 to 3 days before, where they arrived.

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
    return _day_chunks(Sessions(day, events, bits, late_share, late_days), bits, day, events, bad_share)


def _day_chunks(
    sessions: Sessions, bits: np.random.PCG64, day: dt.date, rows: int, bad_share: float
) -> Iterator[Chunk]:
    yield Chunk(HEADER, Counts())
    duplicates = round(rows * shop.DUPLICATE_ROWS / shop.ROWS)
    bad = round(rows * bad_share)
    lines = rows - duplicates

    # Which lines are repeated, and which are broken: one in each of so many even stretches of the day.
    count = duplicates + bad
    stretches = np.arange(count + 1) * lines // max(1, count)
    special = stretches[:-1] + below(bits, count, np.diff(stretches))
    shuffled = np.argsort(uniform(bits, count), kind="stable")
    repeated_lines = special[np.sort(shuffled[:duplicates])]
    broken_lines = special[np.sort(shuffled[duplicates:])]
    broken = 0

    written = 0
    carried: list[Events] = []
    for begin, end, wanted in _slices(lines):
        events = Events.concatenate([*carried, sessions.events(wanted, begin, end - begin)])
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
        text = event_lines(day, events.take(line_of_row))
        csv, reasons = with_broken_rows(text, broken_rows.tolist(), broken, day)
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
