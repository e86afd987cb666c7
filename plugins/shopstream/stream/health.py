"""How well the stream is: a pure function of four figures. Nothing here asks a service."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from shopstream.rounding import percent
from shopstream.settings import Limits, Settings
from shopstream.stream.decide import Desired

MIN_MESSAGES_JUDGED = 100
"""A share of fewer messages says little: one bad message of three is no reason to wake somebody."""
MIN_WAIT_SECONDS = 60
"""Messages that wait for less are on their way; only then does an old newest row mean a stuck stream."""
CATCH_UP_SECONDS = 600
"""A job younger than this is still busy with what waited for it: old messages are no failure yet."""


class Level(IntEnum):
    """How bad."""

    OK = 0
    WARN = 1
    FAIL = 2

    def __str__(self) -> str:
        """As it is written."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. Ages are None where there is nothing whose age it would be.

    `accepted` and `rejected` count the messages published within the last hour by what became of them.
    """

    oldest_unacked_seconds: float | None
    newest_row_seconds: float | None
    accepted: int
    rejected: int

    @property
    def rejected_share(self) -> float | None:
        """From 0 to 1; None without messages."""
        messages = self.accepted + self.rejected
        return self.rejected / messages if messages else None


@dataclass(frozen=True, slots=True)
class Health:
    """The worst level, and a phrase for each figure."""

    level: Level
    phrases: tuple[str, ...]


def assess(figures: Figures, desired: Desired, job_age_seconds: float | None, env: Settings) -> Health:
    """Hold the figures against the levels of the settings.

    Only a stream that should run is judged. While its job is younger than CATCH_UP_SECONDS, or there is none
    (None), ages warn at most. The newest row is judged while messages wait for longer than MIN_WAIT_SECONDS,
    or Monitoring does not tell whether any do: without traffic there is no new row, and nothing is wrong.
    """
    waiting_seconds, row_seconds = figures.oldest_unacked_seconds, figures.newest_row_seconds
    young = job_age_seconds is None or job_age_seconds < CATCH_UP_SECONDS
    worst = Level.FAIL if desired is Desired.RUNNING else Level.OK
    worst_age = min(worst, Level.WARN if young else Level.FAIL)
    findings = []

    if waiting_seconds is None:
        findings.append((Level.OK, "Monitoring has no age of the oldest unacknowledged message"))
    elif waiting_seconds == 0:
        findings.append((Level.OK, "no message is unacknowledged"))
    else:
        level = min(_level(waiting_seconds, env.unacked_seconds), worst_age)
        phrase = f"the oldest unacknowledged message is {duration(waiting_seconds)} old"
        findings.append((level, phrase + _limit(level, env.unacked_seconds, duration)))

    if row_seconds is None:
        findings.append((Level.OK, "events_stream has no row"))
    else:
        level = Level.OK
        if waiting_seconds is None or waiting_seconds >= MIN_WAIT_SECONDS:
            level = min(_level(row_seconds, env.newest_row_seconds), worst_age)
        phrase = f"the newest row of events_stream was published {duration(row_seconds)} ago"
        findings.append((level, phrase + _limit(level, env.newest_row_seconds, duration)))

    share, messages = figures.rejected_share, figures.accepted + figures.rejected
    if share is None:
        findings.append((Level.OK, "no message of the last hour has come through"))
    else:
        level = Level.OK
        if messages >= MIN_MESSAGES_JUDGED:
            level = min(_level(share, env.stream_rejected_share), worst)
        phrase = f"{figures.rejected:,} of {messages:,} messages of the last hour were rejected"
        phrase += f" ({percent(share)})" + _limit(level, env.stream_rejected_share, percent)
        findings.append((level, phrase))

    return Health(max(level for level, _ in findings), tuple(phrase for _, phrase in findings))


def _level(value: float, limits: Limits) -> Level:
    return Level.FAIL if value >= limits.fail else Level.WARN if value >= limits.warn else Level.OK


def _limit(level: Level, limits: Limits, show: Any) -> str:
    """Name the limit that was passed."""
    if level is Level.OK:
        return ""
    return f" [{level}: from {show(limits.fail if level is Level.FAIL else limits.warn)} on]"


def duration(seconds: float) -> str:
    """Seconds as people say them, by the two greatest units: 45 s, 12 min 5 s, 3 h 20 min, 2 d 3 h."""
    whole = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
