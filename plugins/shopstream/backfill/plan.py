"""The plan of a backfill: what there is of each day, what becomes of it, and what that reads in BigQuery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from shopstream.text_table import text_table

LOAD, SUMMARIES = "load", "summaries"
WHAT = [LOAD, SUMMARIES]
LOAD_DAG, SUMMARIES_DAG = "load_events_daily", "build_summaries"

LINE_BYTES = 133
"""Of a landing file that is not compressed: November 2019 is 9,006,762,395 bytes of 67,501,979 lines."""
USD_A_TIB = 6.25
"""What BigQuery's on-demand queries cost, in the US, after the first TiB of a month: its list price, as
https://cloud.google.com/bigquery/pricing gave it. Other regions, and editions, cost otherwise."""

LEAVE, REFUSE = "leave", "cannot"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a day.

    `lacks` says why it cannot be loaded as it is landed, None if it can. `landed_at` is when _SUCCESS was
    written, `launched_at` and `published_at` when the load of the day was launched and published, with
    `events` distinct events of this landing day, and `summarised_at` since when all summaries of the day are
    built and have passed their checks.
    """

    day: date
    files: int = 0
    landed_bytes: int = 0
    is_compressed: bool = False
    lacks: str | None = None
    landed_at: datetime | None = None
    launched_at: datetime | None = None
    published_at: datetime | None = None
    events: int | None = None
    summarised_at: datetime | None = None

    @property
    def is_summarised(self) -> bool:
        """Whether its summaries are of what is published."""
        published = self.published_at
        return self.summarised_at is not None and (published is None or self.summarised_at >= published)


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of a day: `does` is WHAT, LEAVE or REFUSE, and `why` a sentence or "".

    `events` are those that it has, or, if `is_estimate`, will have, as its files' bytes tell; None: nobody
    knows. `bytes_read` is what the summaries' statements read because of this day, None if not known.
    """

    found: Found
    does: str
    why: str
    events: int | None
    is_estimate: bool
    bytes_read: int | None = None

    def told(self) -> dict[str, Any]:
        """Return what it says, as JSON has it."""
        told = asdict(self)
        of_day = {name: _json(value) for name, value in told.pop("found").items()}
        return of_day | told


@dataclass(frozen=True, slots=True)
class Run:
    """A run of another DAG that a backfill triggers, for one day or an unbroken range of days.

    Its id follows from the backfill's own, so that whoever asks for it again finds it.
    """

    dag_id: str
    run_id: str
    first_day: date
    last_day: date

    @property
    def conf(self) -> dict[str, Any]:
        """What its form is given."""
        if self.dag_id == LOAD_DAG:
            return {"landing_day": str(self.first_day)}
        return {"first_day": str(self.first_day), "last_day": str(self.last_day), "dry_run": False}

    @property
    def days(self) -> str:
        """The days in words."""
        is_one = self.first_day == self.last_day
        return str(self.first_day) if is_one else f"{self.first_day} to {self.last_day}"

    def to_xcom(self) -> dict[str, str]:
        """Return it as texts."""
        return asdict(self) | {"first_day": str(self.first_day), "last_day": str(self.last_day)}

    @classmethod
    def from_xcom(cls, texts: Mapping[str, str]) -> Run:
        """Read what `to_xcom` returned."""
        first_day, last_day = (date.fromisoformat(texts[name]) for name in ("first_day", "last_day"))
        return cls(texts["dag_id"], texts["run_id"], first_day, last_day)


def decide(found: Sequence[Found], what: str, again: bool) -> list[Step]:
    """Return what becomes of each day.

    A published day is loaded only if `again`, or if it was landed anew after its load had begun; a summarised
    one is built only if `again`.
    """
    line_bytes = _line_bytes(found)
    steps = []
    for one in found:
        does, why = (_load if what == LOAD else _build)(one, again)
        events, is_estimate = one.events, False
        if does == LOAD and (events is None or why):
            size = line_bytes or (None if one.is_compressed else LINE_BYTES)
            events, is_estimate = (round(one.landed_bytes / size) if size else None), True
        steps.append(Step(one, does, why, events, is_estimate))
    return steps


def runs_of(steps: Iterable[Step], backfill_run_id: str) -> list[Run]:
    """Return the runs to trigger, oldest first: one a day to load, one an unbroken range to summarise."""
    runs: list[Run] = []
    for step in steps:
        day = step.found.day
        if step.does == SUMMARIES and runs and runs[-1].last_day == day - timedelta(days=1):
            runs[-1] = _run(SUMMARIES_DAG, runs[-1].first_day, day, backfill_run_id)
        elif step.does in WHAT:
            dag_id = LOAD_DAG if step.does == LOAD else SUMMARIES_DAG
            runs.append(_run(dag_id, day, day, backfill_run_id))
    return runs


def _run(dag_id: str, first_day: date, last_day: date, backfill_run_id: str) -> Run:
    """A run whose id names its days: a plan that is made anew has other ranges."""
    days = first_day if first_day == last_day else f"{first_day}_{last_day}"
    return Run(dag_id, f"backfill__{days}__{backfill_run_id}", first_day, last_day)


def sample_day(days: Sequence[date], events: Mapping[date, int]) -> date | None:
    """Return the day by which the bytes of the others are told: the nearest to `days` that has events.

    Args:
        days: in order.
        events: of each published day.
    """

    def away(day: date) -> tuple[timedelta, date]:
        return max(days[0] - day, day - days[-1], timedelta()), day

    return min((day for day, count in events.items() if count), key=away, default=None)


def with_bytes(
    steps: Iterable[Step],
    bytes_of_sample: Mapping[str, int],
    built: Mapping[str, Iterable[date]],
    events: Mapping[date, int],
    sample: date,
) -> tuple[list[Step], int]:
    """Return the steps with the bytes that they read, and what builds of other days read because of them.

    A day of n events is taken to read n / m of what the sample's m events do; another day, of which no load
    tells how many events it has, as much as the sample.

    Args:
        bytes_of_sample: what building and checking the sample reads, by summary.
        built: the days that are built, by summary: those of the steps, and others that look at them.
        events: of each published day.
    """
    an_event = sum(bytes_of_sample.values()) / events[sample]
    told = [
        replace(step, bytes_read=round(an_event * step.events))
        if step.does in WHAT and step.events is not None
        else step
        for step in steps
    ]
    ours = {step.found.day for step in told if step.does in WHAT}
    others = sum(
        bytes_of_sample[name] * events.get(day, events[sample]) / events[sample]
        for name, days in built.items()
        for day in days
        if day not in ours
    )
    return told, round(others)


def describe(steps: Sequence[Step], other_bytes: int = 0) -> str:
    """Return the plan as a text table, a line a day, their sums, and why a day is refused.

    Args:
        other_bytes: what builds of other days read, that look back or ahead on these.
    """
    headings = ("day", "files", "MB", "landed", "published", "events", "summaries", "MB read", "does")
    lines = [_line(step) for step in steps]
    doing = [step for step in steps if step.does in WHAT]
    known = [step.bytes_read for step in doing if step.bytes_read is not None]
    total = sum(known) + other_bytes
    of_all = (
        f"{len(steps)} days",
        f"{sum(step.found.files for step in steps):,}",
        _megabytes(sum(step.found.landed_bytes for step in steps)),
        *("", ""),
        f"{sum(step.events or 0 for step in doing):,}",
        "",
        _megabytes(total) if known else "?",
        f"{len(doing)} days",
    )
    text = text_table(headings, [*lines, of_all], numbers=(1, 2, 5, 7))
    text += f"\n{_cost(total, other_bytes, len(known) < len(doing)) if known else _NO_COST}"
    text += "".join(f"\n{step.found.day}: {step.why}" for step in steps if step.why)
    return text


_NO_COST = (
    "What the summaries' statements would read is not known: no day is published yet, or this BigQuery does "
    "not tell."
)


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def _load(found: Found, again: bool) -> tuple[str, str]:
    is_newer = found.launched_at and found.landed_at and found.landed_at > found.launched_at
    if found.published_at and not again and not is_newer:
        return LEAVE, ""
    if found.lacks:
        return REFUSE, found.lacks
    if is_newer:
        return LOAD, f"it was landed anew at {found.landed_at:%Y-%m-%d %H:%M} UTC, after its load had begun"
    return LOAD, ""


def _build(found: Found, again: bool) -> tuple[str, str]:
    if found.is_summarised and not again:
        return LEAVE, ""
    if not found.published_at:
        return REFUSE, "no load has published it; load it first, which starts its summaries too"
    return SUMMARIES, ""


def _line_bytes(found: Iterable[Found]) -> float | None:
    """The bytes of landing files for an event, as the days tell that are published; None: none is."""
    both = [one for one in found if one.events and one.landed_bytes]
    events = sum(one.events or 0 for one in both)
    return sum(one.landed_bytes for one in both) / events if events else None


def _line(step: Step) -> tuple[str, ...]:
    found = step.found
    events = "?" if step.events is None else f"{'~' if step.is_estimate else ''}{step.events:,}"
    is_done = step.does in WHAT
    again = " again" if step.does == LOAD and found.published_at else ""
    return (
        str(found.day),
        f"{found.files:,}",
        _megabytes(found.landed_bytes),
        "yes" if found.landed_at else "no",
        f"{found.published_at:%Y-%m-%d %H:%M}" if found.published_at else "no",
        events if is_done or found.events is not None else "",
        "yes" if found.is_summarised else "no",
        ("?" if step.bytes_read is None else _megabytes(step.bytes_read)) if is_done else "",
        step.does + again,
    )


def _cost(total: int, other_bytes: int, lacks_some: bool) -> str:
    other = f" ({_megabytes(other_bytes)} of other days, that look at these)" if other_bytes else ""
    least = "at least " if lacks_some else ""
    return (
        f"The summaries' statements and checks will read {least}{_megabytes(total)} MB{other}: "
        f"{least}{total / 2**40 * USD_A_TIB:,.2f} US dollars at {USD_A_TIB:.2f} a TiB."
    )


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f}"
