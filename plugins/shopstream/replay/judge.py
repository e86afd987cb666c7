"""Judge kept rejects anew, by the contract as it is now, and tell what came of it.

Nothing here asks a service. A kept reject is judged only if all its bytes were kept, as they are, and its
columns are known. Of the others nobody can tell, and they stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from beam_jobs.lines import Block
from beam_jobs.messages import Message, judge
from beam_jobs.parse import parse_block
from beam_jobs.pseudonyms import is_masked
from beam_jobs.validate import validate
from shopstream.load.checks import shape

PASSES = "passes"
CUT_OFF, NO_FILE, STORE, MASKED = "cut_off", "no_file", "refused_by_a_store", "masked"
CANNOT_TELL = {
    CUT_OFF: "only the first bytes were kept, or none of a customer who was forgotten",
    NO_FILE: "the landing file that tells the order of its columns is gone, or begins otherwise now",
    MASKED: "it was kept masked, as all are where customers have pseudonyms; a load reads its file again",
    STORE: "a store refused it and not the contract; choose this reason in the form to send it again",
}
REFUSED_BY_STORES = ("refused_by_spanner", "refused_by_bigquery")
SHAPE_CHARS_SHOWN = 160


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept reject: a message, a line, or `lines` lines of a file of which `raw` is the first.

    `closing` is what a replay writes down so that no other does it again: the message's id, or the load that
    rejected the line. `is_whole` tells whether `raw` is all of it. A message has no `file`.
    """

    closing: str
    reason: str
    raw: bytes
    is_whole: bool = True
    lines: int = 1
    file: str | None = None


@dataclass(slots=True)
class Tally:
    """How many lines or messages were judged: by the reason they were rejected for, and by today's verdict.

    A verdict is PASSES, a reason of the contract, or a key of CANNOT_TELL. `shapes` has of each pair the
    first one seen, of which it shows the shape alone. `in_ranges` counts the lines that were judged by the
    first of their range.
    """

    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    shapes: dict[tuple[str, str], str] = field(default_factory=dict)
    in_ranges: int = 0

    def add(self, kept: Sequence[Kept], verdicts: Sequence[str]) -> None:
        """Count rejects with their verdicts."""
        for reject, verdict in zip(kept, verdicts, strict=True):
            self.verdicts.setdefault(reject.reason, Counter())[verdict] += reject.lines
            text = reject.raw[: 4 * SHAPE_CHARS_SHOWN].decode(errors="replace")
            self.shapes.setdefault((reject.reason, verdict), shape(text)[:SHAPE_CHARS_SHOWN])
            if reject.lines > 1:
                self.in_ranges += reject.lines

    def merge(self, other: Tally) -> None:
        """Add what another has counted."""
        for reason, counts in other.verdicts.items():
            self.verdicts.setdefault(reason, Counter()).update(counts)
        self.shapes = other.shapes | self.shapes
        self.in_ranges += other.in_ranges

    @property
    def judged(self) -> int:
        """All that were judged."""
        return sum(counts.total() for counts in self.verdicts.values())

    @property
    def passed(self) -> int:
        """Those that the contract takes now."""
        return sum(counts[PASSES] for counts in self.verdicts.values())

    def told(self) -> str:
        """Say it in lines for a person; nothing in them tells of a customer."""
        lines = [f"Of {self.judged:,}, {self.passed:,} would pass now."]
        for reason, counts in sorted(self.verdicts.items(), key=lambda item: -item[1].total()):
            lines.append(f"  {reason}: {counts[PASSES]:,} of {counts.total():,} would pass now")
            for verdict, count in counts.most_common():
                why = f" ({CANNOT_TELL[verdict]})" if verdict in CANNOT_TELL else ""
                lines.append(f"    {verdict}{why}: {count:,}, such as {self.shapes[reason, verdict]!r}")
        if self.in_ranges:
            lines.append(
                f"  {self.in_ranges:,} of them are kept as ranges, each judged by its first line: a load "
                "reads each line of them again."
            )
        return "\n".join(lines)


def judge_messages(kept: Sequence[Kept], reason: str | None = None) -> list[str]:
    """Return the verdict on each rejected message, in order; `reason` is the one asked for, if any."""
    verdicts = [_cannot_tell(reject, reason) for reject in kept]
    open_ones = [place for place, verdict in enumerate(verdicts) if not verdict]
    judged = judge([Message(kept[place].raw, message_id=str(place)) for place in open_ones])
    for message in judged.messages:
        verdicts[int(message.message_id or 0)] = PASSES
    for message, now, _ in judged.rejects:
        verdicts[int(message.message_id or 0)] = now
    return verdicts


def judge_lines(
    kept: Sequence[Kept], columns: Sequence[str] | None, landing_day: date, reason: str | None = None
) -> list[str]:
    """Return the verdict on each rejected line of one landing file, in order.

    Args:
        columns: of that file, in its order; None if nobody knows them any more.
        reason: the one that was asked for, if any.
    """
    verdicts = [_cannot_tell(reject, reason) or ("" if columns else NO_FILE) for reject in kept]
    open_ones = [place for place, verdict in enumerate(verdicts) if not verdict]
    if not open_ones or not columns:
        return verdicts
    judged = judge_raws([kept[place].raw for place in open_ones], columns, landing_day)
    for place, (verdict, _) in zip(open_ones, judged, strict=True):
        verdicts[place] = verdict
    return verdicts


def judge_raws(
    raws: Sequence[bytes], columns: Sequence[str], landing_day: date
) -> list[tuple[str, dict[str, Any]]]:
    """Return the verdict on each line of a landing day, in order, and the event that it is, {} if it is none.

    Args:
        raws: lines without their newline, none of them blank.
        columns: of these lines, in their order.
    """
    judged: list[tuple[str, dict[str, Any]]] = [("", {})] * len(raws)
    starts = np.cumsum([0] + [len(raw) + 1 for raw in raws[:-1]])
    checked = validate(parse_block(Block(b"\n".join(raws), 0), columns), landing_day)

    def places(offsets: np.ndarray) -> list[int]:
        return (np.searchsorted(starts, offsets, side="right") - 1).tolist()

    for place, event in zip(places(checked.offsets), checked.accepted.to_pylist(), strict=True):
        judged[place] = (PASSES, event)
    rejected = zip(
        places(checked.rejected["byte_offset"].to_numpy()),
        checked.rejected["reason"].to_pylist(),
        strict=True,
    )
    for place, reason in rejected:
        judged[place] = (reason, {})
    return judged


def _cannot_tell(reject: Kept, reason: str | None) -> str:
    """Return why a reject is not judged, or "" if it is."""
    if is_masked(reject.raw):
        return MASKED
    if reject.reason in REFUSED_BY_STORES and reject.reason != reason:
        return STORE
    return "" if reject.is_whole else CUT_OFF
