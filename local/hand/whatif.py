"""What a changed contract would do: kept rejects, and a sample of accepted rows, judged by this working tree.

Of a customer nothing is shown but the shape of ids.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby, islice
from typing import Any

from google.cloud.bigquery import ScalarQueryParameter

from beam_jobs.contract import COLUMN_NAMES, ContractError
from beam_jobs.identity import canonical_price, canonical_time
from local.hand import shop
from shopstream.load.checks import PERSONAL, shape
from shopstream.replay.judge import PASSES, Tally, judge_raws
from shopstream.replay.kept import BATCH, STREAM, Asked, judge_day, open_days
from shopstream.tables.names import EVENTS_BATCH

MAX_SAMPLE = 1_000_000
ROWS_AT_ONCE = 10_000
SAMPLES_SHOWN = 3
TELLING_SAMPLE = 300

# Ids are hashes already; another seed brings them into another order.
_SAMPLE = f"""
SELECT event_id, landing_day, {", ".join(COLUMN_NAMES)}
FROM {EVENTS_BATCH}
WHERE event_date BETWEEN @first_day AND @last_day
ORDER BY TO_HEX(SHA256(CONCAT(event_id, @seed))), landing_day
LIMIT @sample
"""  # noqa: S608 - names of our own


@dataclass(slots=True)
class Sampled:
    """Accepted rows, judged again: how many would fail, by reason, and how many would be another event.

    `changed` counts those by the columns that would hold something else, or event_id alone. `shown` has of
    each reason and of each column the first SAMPLES_SHOWN, in words.
    """

    judged: int = 0
    failing: Counter[str] = field(default_factory=Counter)
    others: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    shown: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, rows: Sequence[Mapping[str, Any]], judged: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Count stored rows with what `judge_raws` says of them."""
        self.judged += len(rows)
        for row, (verdict, event) in zip(rows, judged, strict=True):
            if verdict != PASSES:
                self.failing[verdict] += 1
                self._show(verdict, line_of({**row, **_shapes(row)}))
            elif event["event_id"] != row["event_id"]:
                self.others += 1
                for name in [name for name in COLUMN_NAMES if event[name] != row[name]] or ["event_id"]:
                    self.changed[name] += 1
                    before, after = (
                        shape(str(value)) if name in PERSONAL else str(value)
                        for value in (row[name], event[name])
                    )
                    self._show(name, f"{before} -> {after}")

    def told(self, sample: int) -> list[str]:
        """Say it in lines for a person; `sample` is how many rows were asked for."""
        which = f"a sample of {self.judged:,}" if self.judged == sample else f"all {self.judged:,}"
        if not self.failing and not self.others:
            told = f"Accepted rows, {which}: all would pass again, as the same events"
            # Of no case among n there are, with 95 %, fewer than 3 in n.
            rest = f"; so would, with 95 % certainty, all others but 1 in {sample // 3:,} at most"
            return [f"{told}{rest if self.judged == sample >= TELLING_SAMPLE else ''}."]
        return [
            f"Accepted rows, {which}: {self.failing.total():,} would newly fail, and {self.others:,} would "
            "be other events than they are.",
            *self._listed(self.failing, "{}: {:,}"),
            *self._listed(self.changed, "another {}: {:,}"),
        ]

    def _listed(self, counts: Counter[str], form: str) -> Iterator[str]:
        for name, count in counts.most_common():
            yield f"  {form.format(name, count)}, such as"
            yield from (f"    {text}" for text in self.shown[name])

    def _show(self, name: str, text: str) -> None:
        if len(self.shown[name]) < SAMPLES_SHOWN:
            self.shown[name].append(text)


def tell(first_day: date, last_day: date, reason: str | None, sample: int, seed: str) -> Iterator[str]:
    """Judge, by the contract that this process has imported, what was kept and what was accepted.

    Args:
        first_day: of the rejects' landing days, or days of publication, and of the rows' event days.
        reason: of which rejects are judged; None is all.
        sample: so many rows of events_batch, at most.
        seed: which rows these are.

    Yields:
        Lines for a person.

    Raises:
        ContractError: the contract has columns that events_batch lacks.
        google.api_core.exceptions.GoogleAPICallError: a store refuses, or it would read too many bytes.
    """
    stored = {column.name for column in shop.clients()[1].get_table(EVENTS_BATCH).schema}
    if unknown := [name for name in COLUMN_NAMES if name not in stored]:
        raise ContractError(
            f"The contract has columns that {EVENTS_BATCH} lacks: {', '.join(unknown)}. Every event would be "
            "another one; see docs/how-to.md, A column of the contract."
        )
    yield f"{first_day} to {last_day}, by the contract of this working tree:"
    for source, what in ((BATCH, "Rejected lines"), (STREAM, "Rejected messages")):
        tally = judge_rejects(Asked(source, reason, run_id=""), first_day, last_day)
        yield f"{what} that no replay has sent: {tally.told() if tally.judged else 'none.'}"
    yield from judge_accepted(first_day, last_day, sample, seed).told(sample)


def judge_rejects(asked: Asked, first_day: date, last_day: date) -> Tally:
    """Judge the kept rejects of some days that no replay has sent."""
    _, client, storage = shop.clients()
    tally = Tally()
    for day in open_days(client, asked, first_day, last_day):
        for kept, verdicts in judge_day(client, storage, asked, day):
            tally.add(kept, verdicts)
    return tally


def judge_accepted(first_day: date, last_day: date, sample: int, seed: str) -> Sampled:
    """Judge a sample of the rows of events_batch, each written as a line of its landing day again."""
    names, values = shop.ask_bigquery(
        _SAMPLE,
        [
            ScalarQueryParameter("first_day", "DATE", first_day),
            ScalarQueryParameter("last_day", "DATE", last_day),
            ScalarQueryParameter("seed", "STRING", seed),
            ScalarQueryParameter("sample", "INT64", sample),
        ],
    )
    sampled = Sampled()
    while rows := [dict(zip(names, row, strict=True)) for row in islice(values, ROWS_AT_ONCE)]:
        rows.sort(key=_landing_day)
        for day, of_day in groupby(rows, _landing_day):
            events = list(of_day)
            raws = [line_of(event).encode() for event in events]
            sampled.add(events, judge_raws(raws, COLUMN_NAMES, day))
    return sampled


def line_of(event: Mapping[str, Any]) -> str:
    """Write an event as a CSV line in canonical form, without a newline."""
    texts = {
        **event,
        "event_time": canonical_time(event["event_time"]),
        "price": canonical_price(event["price"]),
    }
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([texts[name] for name in COLUMN_NAMES])
    return line.getvalue()


def _shapes(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: shape(str(row[name] or "")) for name in PERSONAL}


def _landing_day(row: Mapping[str, Any]) -> date:
    day: date = row["landing_day"]
    return day
