"""What the load will say to the lines of an export, which the door tells before they are landed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.contract import COLUMN_NAMES, ContractError, first_event_day
from beam_jobs.lines import UTF8_BOM, Block, has_bom, past_bom, refuse_other_header
from beam_jobs.parse import REJECTED_SCHEMA, parse_block
from beam_jobs.pseudonyms import masked, masked_detail
from beam_jobs.validate import DAY_MICROS, check
from shopstream.rounding import percent

FIRST_YEAR, LAST_YEAR = 2000, 2099
DAYS_TOLD = 10

_DAY = r"^(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[ T]"
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class Landed:
    """What an export came to: the lines of each day, and by day and reason those that its load will reject.

    `translated` says in sentences what was not written in the plain form.
    """

    rows: Counter[date] = field(default_factory=Counter)
    rejected: dict[date, Counter[str]] = field(default_factory=dict)
    translated: list[str] = field(default_factory=list)

    def add(self, lines: Lines) -> None:
        """Add lines, which all have a day by now."""
        days = lines.days[lines.is_row]
        starts = run_starts(days)
        for day, rows in zip(days[starts].tolist(), np.diff(starts, append=len(days)).tolist(), strict=True):
            self.rows[as_date(day)] += rows
        reasons = Counter(
            zip(lines.days[lines.rejected_lines].tolist(), lines.rejected["reason"].to_pylist(), strict=True)
        )
        # An event of a day that is implausible lies under another one, too late for it or too early.
        misplaced = lines.accepted & (lines.days != lines.own_days)
        for day, own in zip(lines.days[misplaced].tolist(), lines.own_days[misplaced].tolist(), strict=True):
            if own > day:
                reasons[day, "after_landing_day"] += 1
            elif as_date(own) < first_event_day(as_date(day)):
                reasons[day, "too_late"] += 1
        for (day, reason), count in reasons.items():
            self.rejected.setdefault(as_date(day), Counter())[reason] += count

    def shares(self) -> list[str]:
        """Say which lines the loads will reject: all together, then the days with the greatest shares."""
        if not self.rejected:
            return []

        def share(reasons: Counter[str], rows: int) -> str:
            told = percent(reasons.total() / rows, 2)
            return f"{reasons.total():,} of {rows:,} lines ({told}): {_told(reasons)}"

        every = sum(self.rejected.values(), Counter())
        worst = sorted(self.rejected, key=lambda day: -self.rejected[day].total() / self.rows[day])
        told = [f"{day}: {share(self.rejected[day], self.rows[day])}" for day in worst[:DAYS_TOLD]]
        more = [f"and {len(worst) - DAYS_TOLD} days more"] if len(worst) > DAYS_TOLD else []
        return [share(every, self.rows.total()), *told, *more]


class Lines(NamedTuple):
    """The n lines of a block: where each starts, its day, and what the load will say to it.

    `days` are the numbers yyyymmdd, 0 where none can be read; `own_days` the same without regard to whether
    the day is plausible. `is_row` is a mask of the lines that are not blank, `accepted` of those that are
    events. `rejected` has parse.REJECTED_SCHEMA; `rejected_lines` are the places of these in the block.
    """

    starts: np.ndarray
    days: np.ndarray
    own_days: np.ndarray
    is_row: np.ndarray
    accepted: np.ndarray
    rejected: pa.Table
    rejected_lines: np.ndarray

    @staticmethod
    def nothing() -> Lines:
        """A piece of a line alone, which is not judged."""
        none = np.zeros(1, np.int64)
        return Lines(none, none.copy(), none, none > 0, none > 0, REJECTED_SCHEMA.empty_table(), none[:0])


def judge_lines(data: bytes, stored: bytes, offset: int, columns: Sequence[str], file: str) -> Lines:
    """Parse and check whole lines as the load will.

    `stored` are the lines as they stand at `offset` in the file, of which `data` is the translation.

    Raises:
        ContractError: a line is a header of other columns.
    """
    parsed = parse_block(Block(data, 0), columns)
    checked = check(parsed, None)
    # Mostly each line is a row.
    gapless = _are_gapless(parsed.offsets, parsed.lengths, len(data))
    starts = parsed.offsets if gapless else _line_starts(data)
    stored_starts = starts if stored is data else _line_starts(stored)

    def lines_at(offsets: np.ndarray) -> np.ndarray:
        return np.searchsorted(starts, offsets, side="right") - 1

    rejected_lines = lines_at(checked.rejected["byte_offset"].to_numpy())
    places = (offset + stored_starts[rejected_lines]).tolist()
    for raw, place in zip(checked.rejected["raw"].to_pylist(), places, strict=True):
        refuse_other_header(raw, columns, file, place)

    rows = np.arange(len(starts)) if gapless else lines_at(parsed.offsets)
    own_days = np.zeros(len(starts), np.int64)
    own_days[rows] = _days_of(checked.time.micros)
    bad = np.flatnonzero(checked.time.bad)
    own_days[rows[bad]] = _days_in(parsed.rows["event_time"].take(pa.array(bad)).combine_chunks())
    seen = set(own_days[run_starts(own_days)].tolist())
    implausible = [day for day in seen if not _is_plausible(day)]
    accepted = np.zeros(len(starts), bool)
    accepted[rows[checked.good]] = True
    return Lines(
        starts,
        np.where(np.isin(own_days, implausible), 0, own_days),
        own_days,
        np.ones(len(starts), bool) if gapless else _are_rows(data, starts),
        accepted,
        checked.rejected,
        rejected_lines,
    )


def fill_gaps(days: np.ndarray, last_day: int, block: bytes, file: str) -> int:
    """Give each line without a day the day of the line before it, in place; return the last line's day."""
    known = np.flatnonzero(days)
    if not last_day:
        if not len(known):
            raise ContractError(
                f"{file}: none of its first {len(days)} lines has an event_time of the years {FIRST_YEAR} to "
                f"{LAST_YEAR}; the first starts {masked(block[:80]).decode()!r}. "
                f"Give the columns {', '.join(COLUMN_NAMES)}, under a header or in this order."
            )
        last_day = int(days[known[0]])
    filled = np.maximum.accumulate(np.where(days > 0, np.arange(len(days)), -1))
    days[:] = np.where(filled >= 0, days[filled], last_day)
    return int(days[-1])


def refuse_hopeless(lines: Lines, file: str) -> None:
    """Refuse an export of which the load would accept nothing: it was saved in a form that is none.

    Raises:
        ContractError: of the first block no line is an event; the message has the reasons and a detail, of
            which it shows the shape: where columns are shifted, an id stands where a time should.
    """
    if lines.accepted.any():
        return
    reasons = Counter(lines.rejected["reason"].to_pylist())
    worst = reasons.most_common(1)[0][0]
    detail = lines.rejected["detail"].filter(pc.equal(lines.rejected["reason"], worst))[0].as_py()
    raise ContractError(
        f"{file}: the load would reject each of its first {lines.is_row.sum():,} lines: {_told(reasons)}. "
        f"{masked_detail(detail)} Nothing was landed. Correct the export and upload it again."
    )


def run_starts(values: np.ndarray) -> np.ndarray:
    """Return where values begin that differ from the one before; of days, few are such."""
    return np.concatenate((np.zeros(min(len(values), 1), np.int64), np.flatnonzero(np.diff(values)) + 1))


def _are_gapless(offsets: np.ndarray, lengths: np.ndarray, end: int) -> bool:
    """Tell whether rows at `offsets` are all lines of a text: each begins where the one before it ends."""
    ends = offsets + lengths + 1
    return (
        len(offsets) > 0
        and offsets[0] == 0
        and end <= ends[-1] <= end + 1
        and bool((offsets[1:] == ends[:-1]).all())
    )


def _line_starts(data: bytes) -> np.ndarray:
    starts = np.concatenate(([0], np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1))
    return starts[:-1] if starts[-1] == len(data) else starts


def _days_of(micros: np.ndarray) -> np.ndarray:
    """Return the days of times, in microseconds since 1970, as the numbers yyyymmdd."""
    since_1970 = micros // DAY_MICROS
    starts = run_starts(since_1970)
    distinct, which = np.unique(since_1970[starts], return_inverse=True)
    days = [date.fromordinal(_EPOCH_ORDINAL + int(day)) for day in distinct]
    numbers = np.array([day.year * 10_000 + day.month * 100 + day.day for day in days], np.int64)
    return np.repeat(numbers[which], np.diff(starts, append=len(micros)))


def _days_in(texts: pa.StringArray) -> np.ndarray:
    """Return the days that texts begin with, which are no times, as the numbers yyyymmdd; 0 where none."""
    found = pc.extract_regex(texts, _DAY)
    digits = pc.binary_join_element_wise(
        *(pc.struct_field(found, part) for part in ("year", "month", "day")), ""
    )
    return pc.fill_null(digits, "0").cast(pa.int64()).to_numpy()


def _are_rows(block: bytes, starts: np.ndarray) -> np.ndarray:
    """Return a mask of the lines that are not blank, and so are rows of a load."""
    text = np.frombuffer(block, np.uint8)
    bodies = starts.copy()
    if has_bom(block):
        for line in np.flatnonzero(text[starts] == UTF8_BOM[0]).tolist():
            bodies[line] = past_bom(block, int(starts[line]))
    ends = np.append(starts[1:], len(block))
    lengths = ends - bodies - (text[ends - 1] == ord("\n"))
    return (lengths > 1) | ((lengths == 1) & (text[np.minimum(bodies, len(block) - 1)] != ord("\r")))


@lru_cache(maxsize=10_000)
def _is_plausible(day: int) -> bool:
    """Tell whether yyyymmdd is a day of the calendar on which a shop may have had events."""
    if not FIRST_YEAR <= day // 10_000 <= LAST_YEAR:
        return False
    try:
        as_date(day)
    except ValueError:
        return False
    return True


def as_date(day: int) -> date:
    return date(day // 10_000, day // 100 % 100, day % 100)


def _told(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
