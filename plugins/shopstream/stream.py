"""What is to be done about the stream, and how well it is: pure functions of what was seen.

`decide` answers the first from the desired state, the active jobs and the deployed version, `judge` the
second from four figures. Nothing here asks a service; see stream_tasks.py for who does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any

from shopstream.settings import Levels, Settings

STREAM_JOB = "shop-stream"
"""The job's name at Dataflow, exactly; its uniqueness among active jobs keeps two streams apart."""

VERSION_LABEL = "template_version"
BUDGET_WINDOW = timedelta(hours=1)
MIN_MESSAGES_JUDGED = 100
"""A share of fewer messages says little: one bad message of three is no reason to wake somebody."""
MIN_WAIT_SECONDS = 60
"""Messages that wait for less are on their way; only then does an old newest row mean a stuck stream."""
CATCH_UP_SECONDS = 600
"""A job younger than this is still busy with what waited for it: old messages are no failure yet."""

_STARTING = {"JOB_STATE_UNKNOWN", "JOB_STATE_STOPPED", "JOB_STATE_PENDING", "JOB_STATE_QUEUED"}
"""Not yet running; `stopped` is Dataflow's word for a job that has not yet been started."""
_ENDING = {"JOB_STATE_DRAINING", "JOB_STATE_CANCELLING", "JOB_STATE_RESOURCE_CLEANING_UP"}
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{1,63}")


class MalformedDesiredState(ValueError):
    """The desired state is not of the one known form; the message has the value and the form."""


class Desired(StrEnum):
    """What somebody wants of the stream."""

    RUNNING = "running"
    STOPPED = "stopped"


class How(StrEnum):
    """How to stop: finish what was pulled, or end at once and leave it to be delivered again."""

    DRAIN = "drain"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What is wanted, of which template version (None: the deployed one), and since when it was asked for."""

    desired: Desired = Desired.RUNNING
    version: str | None = None
    how: How = How.DRAIN
    since: datetime | None = None


def parse_desired_state(text: str | None) -> DesiredState:
    """Read a desired state as `desired_state_text` writes it; None is the default, a running stream.

    Raises:
        MalformedDesiredState: it is not.
    """
    if text is None:
        return DesiredState()
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or "desired" not in value:
            raise ValueError("it is no object with the key desired")
        if unknown := sorted(value.keys() - {"desired", "version", "how", "since"}):
            raise ValueError(f"it has the unknown keys {', '.join(unknown)}")
        since = value.get("since")
        state = DesiredState(
            Desired(value["desired"]),
            value.get("version"),
            How(value.get("how", How.DRAIN)),
            None if since is None else datetime.fromisoformat(since),
        )
        if state.since is not None and state.since.tzinfo is None:
            raise ValueError(f"since is {since!r}, without a time zone")
        if state.version is not None:
            check_version(state.version)
    except (ValueError, TypeError) as error:
        raise MalformedDesiredState(
            f"the desired state of the stream is {text!r}: {error}. "
            'Give {"desired": "running" or "stopped", "version": null or a template version, '
            '"how": "drain" or "cancel"}.'
        ) from error
    return state


def desired_state_text(state: DesiredState) -> str:
    """The desired state as JSON."""
    since = state.since and state.since.isoformat()
    return json.dumps({"desired": state.desired, "version": state.version, "how": state.how, "since": since})


def check_version(version: Any) -> None:
    """Check that a template version can be the value of a job's label.

    Raises:
        ValueError: it cannot.
    """
    if not isinstance(version, str) or not _LABEL_VALUE.fullmatch(version):
        raise ValueError(
            f"the template version is {version!r}; give 1 to 63 lower case letters, digits, - and _, "
            "since it is a label of the job"
        )


@dataclass(frozen=True, slots=True)
class StreamJob:
    """A job of the stream. `replaces` and `replaced_by` name the other job of an update."""

    id: str
    state: str
    version: str | None
    created: datetime
    state_since: datetime
    replaces: str | None = None
    replaced_by: str | None = None

    @property
    def is_starting(self) -> bool:
        """Whether it does not run yet."""
        return self.state in _STARTING

    @property
    def is_ending(self) -> bool:
        """Whether it will end, without anything more being asked of it."""
        return self.state in _ENDING or self.replaced_by is not None

    def __str__(self) -> str:
        """For people."""
        return f"{self.id} ({self.state.removeprefix('JOB_STATE_')}, version {self.version or 'unknown'})"


class Action(StrEnum):
    """What keep-alive can do."""

    LAUNCH = "launch"
    UPDATE = "update"
    DRAIN = "drain"
    CANCEL = "cancel"
    WAIT = "wait"
    NOTHING = "nothing"
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, to which jobs, and why."""

    action: Action
    reason: str
    jobs: tuple[StreamJob, ...] = ()


def decide(state: DesiredState, deployed_version: str, jobs: Sequence[StreamJob]) -> Decision:
    """Decide from the desired state and the active jobs of exactly the stream's name."""
    if state.desired is Desired.STOPPED:
        return _decide_to_stop(state.how, jobs)
    wanted = state.version or deployed_version
    if not jobs:
        return Decision(Action.LAUNCH, "no job is active")
    if len(jobs) > 1:
        if _is_update(jobs):
            return Decision(Action.WAIT, "an update is under way")
        return Decision(
            Action.ALERT,
            f"{len(jobs)} jobs are active where one should be; stop all but one of them at Dataflow",
        )
    [job] = jobs
    if job.is_ending:
        return Decision(Action.WAIT, "the job is ending, and the next one can only be launched after it")
    if job.version == wanted:
        return Decision(Action.NOTHING, "the job is as wanted")
    if job.is_starting:
        return Decision(Action.WAIT, f"the job must run before it can be updated to version {wanted}")
    return Decision(Action.UPDATE, f"the job is not of version {wanted}", (job,))


def _decide_to_stop(how: How, jobs: Sequence[StreamJob]) -> Decision:
    if not jobs:
        return Decision(Action.NOTHING, "no job is active, as wanted")
    # Dataflow drains only what runs; what does not yet has pulled nothing.
    if starting := tuple(job for job in jobs if job.is_starting and not job.is_ending):
        return Decision(Action.CANCEL, "a stop is wanted and a job is only starting", starting)
    if how is How.CANCEL:
        # A drain that takes too long may be cancelled.
        if found := tuple(job for job in jobs if job.state != "JOB_STATE_CANCELLING"):
            return Decision(Action.CANCEL, "a stop by cancelling is wanted", found)
    elif found := tuple(job for job in jobs if not job.is_ending):
        return Decision(Action.DRAIN, "a stop by draining is wanted", found)
    return Decision(Action.WAIT, "a stop is wanted and under way")


def _is_update(jobs: Sequence[StreamJob]) -> bool:
    """Whether all jobs but one are being replaced by another of them."""
    replaced = [
        job for job in jobs if any(other.replaces == job.id or job.replaced_by == other.id for other in jobs)
    ]
    return len(replaced) == len(jobs) - 1


def keep_to_budget(
    decision: Decision, recent: Sequence[StreamJob], state: DesiredState, max_launches: int, now: datetime
) -> Decision:
    """Turn a launch into an alert after `max_launches` within BUDGET_WINDOW; `recent` holds its jobs."""
    launches = launches_counted(recent, state, now)
    if decision.action is not Action.LAUNCH or len(launches) < max_launches:
        return decision
    again = launches[-max_launches] + BUDGET_WINDOW
    return Decision(
        Action.ALERT,
        f"{decision.reason}, but the stream was launched {len(launches)} times within the last hour, and "
        f"SHOPSTREAM_STREAM_MAX_LAUNCHES allows {max_launches}. It stays down until {again:%H:%M:%S} UTC; to "
        "resume at once, mend what ends the jobs and trigger keep_stream_alive by hand",
    )


def launches_counted(recent: Sequence[StreamJob], state: DesiredState, now: datetime) -> list[datetime]:
    """When jobs were launched within BUDGET_WINDOW before `now`, in order; a start by hand begins anew.

    An update is no launch: the stream was not down.
    """
    since = now - BUDGET_WINDOW
    if state.since is not None:
        since = max(since, state.since)
    return sorted(job.created for job in recent if job.created >= since and job.replaces is None)


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


def judge(figures: Figures, desired: Desired, job_age_seconds: float | None, limits: Settings) -> Health:
    """Hold the figures against the levels of the settings.

    Only a stream that should run is judged. While its job is younger than CATCH_UP_SECONDS, or there is none
    (None), ages warn at most. The newest row is judged only while messages wait for longer than
    MIN_WAIT_SECONDS: without traffic there is no new row, and nothing is wrong.
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
        level = min(_level(waiting_seconds, limits.unacked_seconds), worst_age)
        phrase = f"the oldest unacknowledged message is {duration(waiting_seconds)} old"
        findings.append((level, phrase + _limit(level, limits.unacked_seconds, duration)))

    if row_seconds is None:
        findings.append((Level.OK, "events_stream has no row"))
    else:
        level = Level.OK
        if waiting_seconds is not None and waiting_seconds >= MIN_WAIT_SECONDS:
            level = min(_level(row_seconds, limits.newest_row_seconds), worst_age)
        phrase = f"the newest row of events_stream was published {duration(row_seconds)} ago"
        findings.append((level, phrase + _limit(level, limits.newest_row_seconds, duration)))

    share, messages = figures.rejected_share, figures.accepted + figures.rejected
    if share is None:
        findings.append((Level.OK, "no message of the last hour has come through"))
    else:
        level = Level.OK
        if messages >= MIN_MESSAGES_JUDGED:
            level = min(_level(share, limits.stream_rejected_share), worst)
        phrase = f"{figures.rejected:,} of {messages:,} messages of the last hour were rejected"
        phrase += f" ({share:.1%})" + _limit(level, limits.stream_rejected_share, "{:.1%}".format)
        findings.append((level, phrase))

    return Health(max(level for level, _ in findings), tuple(phrase for _, phrase in findings))


def _level(value: float, levels: Levels) -> Level:
    return Level.FAIL if value >= levels.fail else Level.WARN if value >= levels.warn else Level.OK


def _limit(level: Level, levels: Levels, show: Any) -> str:
    """Name the limit that was passed."""
    if level is Level.OK:
        return ""
    return f" [{level}: from {show(levels.fail if level is Level.FAIL else levels.warn)} on]"


def duration(seconds: float) -> str:
    """Seconds as people say them, by the two greatest units: 45 s, 12 min 5 s, 3 h 20 min, 2 d 3 h."""
    whole = round(seconds)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
