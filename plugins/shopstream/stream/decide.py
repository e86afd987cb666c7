"""What is to be done about the stream: a pure function of desired state, active jobs and deployed version.

Nothing here asks a service; jobs.py does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

STREAM_JOB = "shop-stream"
"""The job's name at Dataflow, exactly; its uniqueness among active jobs keeps two streams apart."""

DESIRED_STATE = "shopstream_stream"
"""The Airflow Variable that says what is wanted."""

VERSION_LABEL = "template_version"
KEY_LABEL = "pseudonym_key"
"""Of the key by which a job writes pseudonyms, as Settings.pseudonym_key_label; a job without it has none."""
BUDGET_WINDOW = timedelta(hours=1)

_STARTING = {"JOB_STATE_UNKNOWN", "JOB_STATE_STOPPED", "JOB_STATE_PENDING", "JOB_STATE_QUEUED"}
"""Not yet running; `stopped` is Dataflow's word for a job that has not yet been started."""
_RUNNING = {"JOB_STATE_RUNNING"}
_PAUSED = {"JOB_STATE_PAUSING", "JOB_STATE_PAUSED"}
"""Somebody has paused it at Dataflow: it processes nothing until it is resumed or cancelled there."""
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
    """A job of the stream. `replaces` and `replaced_by` name the other job of an update.

    `pseudonym_key` is the value of KEY_LABEL.
    """

    id: str
    state: str
    version: str | None
    created: datetime
    state_since: datetime
    replaces: str | None = None
    replaced_by: str | None = None
    pseudonym_key: str = "none"

    @property
    def is_starting(self) -> bool:
        """Whether it does not run yet."""
        return self.state in _STARTING

    @property
    def is_paused(self) -> bool:
        """Whether it processes nothing until somebody resumes it."""
        return self.state in _PAUSED

    @property
    def is_known(self) -> bool:
        """Whether its state is one that Dataflow had when this was written."""
        return self.state in _STARTING | _RUNNING | _PAUSED | _ENDING

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
    if job.is_paused or not job.is_known:
        return Decision(Action.ALERT, _what_stands_still(job))
    if job.version == wanted:
        return Decision(Action.NOTHING, "the job is as wanted")
    if job.is_starting:
        return Decision(Action.WAIT, f"the job must run before it can be updated to version {wanted}")
    return Decision(Action.UPDATE, f"the job is not of version {wanted}", (job,))


def _decide_to_stop(how: How, jobs: Sequence[StreamJob]) -> Decision:
    if not jobs:
        return Decision(Action.NOTHING, "no job is active, as wanted")
    # Dataflow drains only what runs; what a job that starts or is paused has not written is delivered again.
    if idle := tuple(job for job in jobs if (job.is_starting or job.is_paused) and not job.is_ending):
        return Decision(Action.CANCEL, "a stop is wanted and a job does not run", idle)
    if how is How.CANCEL:
        # A drain that takes too long may be cancelled.
        if found := tuple(job for job in jobs if job.state != "JOB_STATE_CANCELLING"):
            return Decision(Action.CANCEL, "a stop by cancelling is wanted", found)
    elif found := tuple(job for job in jobs if not job.is_ending):
        return Decision(Action.DRAIN, "a stop by draining is wanted", found)
    return Decision(Action.WAIT, "a stop is wanted and under way")


def _what_stands_still(job: StreamJob) -> str:
    state = job.state.removeprefix("JOB_STATE_")
    if job.is_paused:
        return (
            f"job {job.id} is {state} and processes nothing; resume it at Dataflow, or trigger stop_stream "
            "and then keep_stream_alive"
        )
    return (
        f"job {job.id} is in the state {state}, which is not known here; look at it at Dataflow. If it does "
        "not run, trigger stop_stream with how = cancel and then keep_stream_alive"
    )


def _is_update(jobs: Sequence[StreamJob]) -> bool:
    """Whether all jobs but one are being replaced by another of them."""
    replaced = [
        job for job in jobs if any(other.replaces == job.id or job.replaced_by == other.id for other in jobs)
    ]
    return len(replaced) == len(jobs) - 1


def keep_to_key(decision: Decision, jobs: Sequence[StreamJob], key: str) -> Decision:
    """Turn it into an alert if a job that would stay or be updated has another key of pseudonyms than `key`.

    No update changes it: what was written by the old one has to be deleted, up to a moment that is known.
    """
    if decision.action not in (Action.NOTHING, Action.UPDATE):
        return decision
    for job in jobs:
        if job.pseudonym_key != key:
            return Decision(
                Action.ALERT,
                f"the pseudonym key of job {job.id} is {job.pseudonym_key} and that of loads {key}, so that "
                "customers count as two; stop the stream by stop_stream with how = drain, and follow "
                "docs/runbooks/pseudonyms.md",
            )
    return decision


def keep_to_budget(
    decision: Decision, recent: Sequence[StreamJob], state: DesiredState, max_launches: int, now: datetime
) -> Decision:
    """Turn a launch into an alert after `max_launches` within BUDGET_WINDOW, an update after so many updates.

    `recent` holds the jobs of the window.
    """
    match decision.action:
        case Action.LAUNCH:
            begun, done, stays = launches_counted(recent, state, now), "launched", "down"
        case Action.UPDATE:
            begun, done, stays = _counted(recent, state, now, updates=True), "updated", "as it is"
        case _:
            return decision
    if len(begun) < max_launches:
        return decision
    again = begun[-max_launches] + BUDGET_WINDOW
    times = "once" if len(begun) == 1 else f"{len(begun)} times"
    return Decision(
        Action.ALERT,
        f"{decision.reason}, but the stream was {done} {times} within the last hour, and "
        f"SHOPSTREAM_STREAM_MAX_LAUNCHES allows {max_launches}. It stays {stays} until {again:%H:%M:%S} UTC; "
        "to go on at once, mend what ends the jobs and trigger keep_stream_alive by hand",
    )


def launches_counted(recent: Sequence[StreamJob], state: DesiredState, now: datetime) -> list[datetime]:
    """When jobs were launched within BUDGET_WINDOW before `now`, in order; a start by hand begins anew.

    An update is no launch: the stream was not down.
    """
    return _counted(recent, state, now, updates=False)


def _counted(
    recent: Sequence[StreamJob], state: DesiredState, now: datetime, *, updates: bool
) -> list[datetime]:
    begin = now - BUDGET_WINDOW
    since = begin if state.since is None else max(begin, state.since)
    return sorted(job.created for job in recent if job.created >= since and bool(job.replaces) == updates)
