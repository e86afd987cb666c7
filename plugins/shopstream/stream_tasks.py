"""The tasks of keep_stream_alive and stop_stream: look, decide, act, measure, and tell.

The desired state is the Airflow Variable DESIRED_STATE, which tasks reach without Airflow's database.
"""

# Google's clients take seconds to import, which parsing a DAG file should not: so the tasks import them.
from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable
from airflow.sdk.exceptions import AirflowFailException

from shopstream import stream
from shopstream.settings import settings
from shopstream.stream import (
    STREAM_JOB,
    VERSION_LABEL,
    Action,
    Decision,
    Desired,
    DesiredState,
    Figures,
    Health,
    How,
    Level,
    StreamJob,
    duration,
)

if TYPE_CHECKING:
    from shopstream.dataflow import DataflowHook

DESIRED_STATE = "shopstream_stream"
DESCRIPTION = "What the stream should do; the DAGs keep_stream_alive and stop_stream write it."

LAUNCH_PAUSES_SECONDS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""The pause after each launch that was not answered with a job; then the jobs are looked at again."""
SETTLE_SECONDS = 10.0
"""A job that has run for so long has read its options and imported its modules."""
WATCH_SECONDS = 240.0
"""Dataflow takes minutes to start a job; one that takes longer is left to the next run."""
POLL_SECONDS = 1.0
STOP_TIMEOUT = timedelta(minutes=30)
MAX_ERROR_CHARS = 600

_SEVERITIES = {Level.OK: logging.INFO, Level.WARN: logging.WARNING, Level.FAIL: logging.ERROR}
_END_STATES = {Action.DRAIN: "JOB_STATE_DRAINED", Action.CANCEL: "JOB_STATE_CANCELLED"}

log = logging.getLogger(__name__)


class StreamNotWell(AirflowFailException):
    """Calls for a person. Airflow does not retry; the next scheduled run looks again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, in words, how bad that is, and the job that was started, even if it has died since."""

    text: str
    level: Level = Level.OK
    job_id: str | None = None


def keep_alive(**context: Any) -> dict[str, Any]:
    """Make the stream's job be as desired, measure its health, and tell both.

    A run by hand first sets the desired state to running.

    Returns:
        {"decision": str, "job_id": the job that runs now or None, "level": "ok" or "warn"}

    Raises:
        StreamNotWell: a job could not be launched or died at once, the launches of the hour are used up, more
            than one job is active, a figure is beyond its level fail, or the desired state is malformed.
        Exception: Dataflow or BigQuery did not answer, or the health could not be measured in a run that had
            nothing to do; Airflow tries again.
    """
    from shopstream.dataflow import DataflowHook

    hook, now = DataflowHook(), datetime.now(UTC)
    by_hand = context["dag_run"].run_type == "manual"
    state = _want(context, desired=Desired.RUNNING) if by_hand else read_desired_state()
    jobs = _active_jobs(hook)
    recent = [_stream_job(job) for job in hook.newest_jobs(STREAM_JOB, now - stream.BUDGET_WINDOW)]
    decision = stream.decide(state, settings().template_version, jobs)
    max_launches = settings().stream_max_launches
    decision = stream.keep_to_budget(decision, recent, state, max_launches, now)
    told = (
        f"Wanted: {_tell_state(state, now)}. Seen: {_tell_jobs(hook, jobs, recent, now)}. "
        f"Decision: {decision.action}, because {decision.reason}."
    )
    try:
        outcome = _act(hook, state, decision, recent)
    except Exception as error:
        log.error("%s Done: it broke off: %s", told, error)
        raise
    launches = len(stream.launches_counted(recent, state, now))
    launches += decision.action is Action.LAUNCH and outcome.job_id is not None
    told += (
        f" Done: {outcome.text}. Launches in the last hour, or since a start by hand: {launches} of at most "
        f"{max_launches}."
    )

    is_new = outcome.job_id is not None or not jobs
    job_age_seconds = None if is_new else (now - min(job.created for job in jobs)).total_seconds()
    figures, health, not_measured = _look_at_health(state.desired, job_age_seconds)
    level = max(outcome.level, health.level)
    # The log first: it is the record of what was done, whatever fails from here on.
    log.log(_SEVERITIES[level], "%s Health: %s; %s.", told, health.level, "; ".join(health.phrases))
    failure = StreamNotWell(_what_failed(decision, outcome, health)) if level is Level.FAIL else None
    try:
        _write_check(
            context,
            checked_at=now,
            desired=str(state.desired),
            desired_version=_version(state),
            active_jobs=json.dumps([{"job_id": j.id, "state": j.state, "version": j.version} for j in jobs]),
            decision=str(decision.action),
            reason=decision.reason,
            outcome=outcome.text,
            oldest_unacked_seconds=figures.oldest_unacked_seconds,
            newest_row_seconds=figures.newest_row_seconds,
            rejected_share=figures.rejected_share,
            level=str(level),
            restarts_last_hour=launches,
        )
    except Exception as error:
        if failure is None:
            raise
        # Trying again would act again, as launch what has died at once.
        raise failure from error
    if failure:
        raise failure
    if not_measured and decision.action in (Action.NOTHING, Action.WAIT):
        # A try again replaces this run's row: one that tells of an action stays, and the next run measures.
        raise not_measured
    job_id = outcome.job_id or (jobs[0].id if jobs else None)
    return {"decision": str(decision.action), "job_id": job_id, "level": str(level)}


def request_stop(**context: Any) -> list[str]:
    """Set the desired state to stopped and ask Dataflow to end the stream, as the parameter `how` says.

    Returns:
        The ids of the jobs that are active.
    """
    from shopstream.dataflow import DataflowHook

    hook = DataflowHook()
    state = _want(context, desired=Desired.STOPPED, how=How(context["params"]["how"]))
    _refuse_overruled(state)
    jobs = _active_jobs(hook)
    decision = stream.decide(state, settings().template_version, jobs)
    outcome = _act(hook, state, decision, [])
    log.info(
        "Wanted: %s. Decision: %s, because %s. Done: %s.",
        _tell_state(state, datetime.now(UTC)),
        decision.action,
        decision.reason,
        outcome.text,
    )
    return [job.id for job in jobs]


def has_stopped(job_ids: Sequence[str], **context: Any) -> bool:
    """Tell whether the stream has ended; asks again where Dataflow had to be asked later, as of a new job.

    Raises:
        StreamNotWell: it is active STOP_TIMEOUT after the stop was asked for, or was started meanwhile.
    """
    from shopstream.dataflow import DataflowHook

    hook, state = DataflowHook(), read_desired_state()
    _refuse_overruled(state)
    jobs = _active_jobs(hook)
    if jobs:
        _act(hook, state, stream.decide(state, settings().template_version, jobs), [])
        if state.since and datetime.now(UTC) - state.since > STOP_TIMEOUT:
            raise StreamNotWell(
                f"{', '.join(map(str, jobs))} has not ended {duration(STOP_TIMEOUT.total_seconds())} after "
                f"it was asked to {state.how}; trigger stop_stream with how = cancel, which loses nothing: "
                "what is not yet written is delivered again"
            )
        return False
    ended = [_stream_job(hook.job(job_id)) for job_id in job_ids]
    log.info(
        "The stream is stopped: %s. It stays so until keep_stream_alive is triggered by hand. Meanwhile "
        "messages wait in the subscription %s, for as long as it retains them.",
        ", ".join(map(str, ended)) or "no job was active",
        settings().subscription,
    )
    return True


def read_desired_state() -> DesiredState:
    """Read what is wanted of the stream, now.

    Raises:
        StreamNotWell: the Variable is malformed.
    """
    try:
        return stream.parse_desired_state(Variable.get(DESIRED_STATE, default=None))
    except stream.MalformedDesiredState as error:
        raise StreamNotWell(
            f"Airflow Variable {DESIRED_STATE}: {error} Or delete it, which means running."
        ) from error


def _want(context: Mapping[str, Any], **changes: Any) -> DesiredState:
    """Change the desired state as the run asks; a state asked for later than this run stays.

    So a run that is retried or cleared does not undo what somebody has asked for since.
    """
    asked = context["dag_run"].run_after
    state = read_desired_state()
    if state.since is not None and state.since > asked:
        return state
    state = replace(state, since=asked, **changes)
    Variable.set(DESIRED_STATE, stream.desired_state_text(state), DESCRIPTION)
    return state


def _refuse_overruled(state: DesiredState) -> None:
    if state.desired is not Desired.STOPPED:
        raise StreamNotWell(
            "the stream was started by hand after this stop; trigger stop_stream anew to stop it"
        )


def _version(state: DesiredState) -> str:
    return state.version or settings().template_version


def _active_jobs(hook: DataflowHook) -> list[StreamJob]:
    """The stream's jobs that have not ended, oldest first, read one by one since lists show no labels."""
    from shopstream.dataflow import DataflowJobStatus

    jobs = [_stream_job(hook.job(job["id"])) for job in hook.active_jobs(STREAM_JOB)]
    return [job for job in jobs if job.state not in DataflowJobStatus.TERMINAL_STATES]


def _stream_job(job: Mapping[str, Any]) -> StreamJob:
    return StreamJob(
        id=job["id"],
        state=job["currentState"],
        version=job.get("labels", {}).get(VERSION_LABEL),
        created=datetime.fromisoformat(job["createTime"]),
        state_since=datetime.fromisoformat(job["currentStateTime"]),
        replaces=job.get("replaceJobId"),
        replaced_by=job.get("replacedByJobId"),
    )


def _act(hook: DataflowHook, state: DesiredState, decision: Decision, recent: Sequence[StreamJob]) -> Outcome:
    match decision.action:
        case Action.LAUNCH | Action.UPDATE:
            outcome = _launch(hook, _version(state), decision.jobs)
            if outcome.level is Level.FAIL:
                return outcome
            if (later := read_desired_state()).desired is Desired.STOPPED:
                # Somebody has asked for it while this run launched.
                stop = stream.decide(later, settings().template_version, _active_jobs(hook))
                ended = f"{outcome.text}; meanwhile a stop was asked for: {_end(hook, stop).text}"
                return replace(outcome, text=ended)
            is_back = decision.action is Action.LAUNCH and bool(recent)
            if is_back and (state.since is None or recent[0].state_since > state.since):
                # The job ended though nobody had asked for it here.
                return replace(outcome, level=max(outcome.level, Level.WARN))
            return outcome
        case Action.DRAIN | Action.CANCEL:
            return _end(hook, decision)
        case Action.ALERT:
            return Outcome("nothing; a person must look", Level.FAIL)
        case _:
            return Outcome("nothing")


def _end(hook: DataflowHook, decision: Decision) -> Outcome:
    for job in decision.jobs:
        hook.request_end(job.id, _END_STATES[decision.action])
    return Outcome(f"asked Dataflow to {decision.action} {', '.join(job.id for job in decision.jobs)}")


def _launch(hook: DataflowHook, version: str, replaced: Sequence[StreamJob]) -> Outcome:
    """Launch the stream, or an update of the job in `replaced`, and see that it does not die at once.

    Dataflow refuses a second active job of a name, so that whoever else launches at the same moment, this run
    or another ends up with the one job there is.
    """
    from google.auth.exceptions import TransportError
    from googleapiclient.errors import HttpError
    from httplib2 import HttpLib2Error

    from shopstream.dataflow import stream_events_launch

    try:
        stream.check_version(version)
    except ValueError as error:
        return Outcome(f"no job was launched: {error}", Level.FAIL)
    launch = stream_events_launch(settings(), version, update=bool(replaced))
    attempt = 0
    for attempt, pause_seconds in enumerate(LAUNCH_PAUSES_SECONDS, start=1):
        is_final = False
        try:
            job_id = str(hook.launch_once(launch)["id"])
        except HttpError as error:
            answer = f"{error.resp.status} {error.reason}"
            is_final = error.resp.status < 500 and error.resp.status not in (409, 429)
        except (OSError, HttpLib2Error, TransportError) as error:
            answer = f"nothing ({error!r})"
        else:
            instead = f", in place of {' and '.join(job.id for job in replaced)}" if replaced else ""
            return _watch(hook, job_id, f"launched job {job_id} of version {version}{instead}")
        log.warning("Launch %d: Dataflow answered %s.", attempt, answer)
        if not is_final:
            time.sleep(pause_seconds)
        known = {job.id for job in replaced}
        if found := [job for job in _active_jobs(hook) if job.id not in known]:
            said = f"Dataflow answered {answer}, and job {found[0].id} is there: it is taken as the stream"
            return _watch(hook, found[0].id, said)
        if is_final:
            break
    return Outcome(
        f"no job could be launched; after {attempt} attempts Dataflow answered {answer}", Level.FAIL
    )


def _watch(hook: DataflowHook, job_id: str, said: str) -> Outcome:
    """Wait until the job has run for SETTLE_SECONDS, has ended, or WATCH_SECONDS are over."""
    try:
        return _await_settled(hook, job_id, said)
    except Exception as error:
        # There is a job now, which must be told of; how it does is seen by the next run.
        return Outcome(f"{said}; then it could not be looked at: {error}", Level.WARN, job_id)


def _await_settled(hook: DataflowHook, job_id: str, said: str) -> Outcome:
    from shopstream.dataflow import DataflowJobStatus

    began = time.monotonic()
    running_since: float | None = None
    while True:
        state, now = hook.state(job_id), time.monotonic()
        if state in DataflowJobStatus.TERMINAL_STATES:
            why = _shorten(hook.errors(job_id)) or "it has no error message"
            return Outcome(f"{said}; it ended at once as {_short(state)}: {why}", Level.FAIL, job_id)
        if state != DataflowJobStatus.JOB_STATE_RUNNING:
            running_since = None
        elif running_since is None:
            running_since = now
        elif now - running_since >= SETTLE_SECONDS:
            return Outcome(f"{said}; it has run for {duration(now - running_since)} now", job_id=job_id)
        if now - began > WATCH_SECONDS:
            waited = f"after {duration(WATCH_SECONDS)} it is still {_short(state)}; the next run looks again"
            return Outcome(f"{said}; {waited}", Level.WARN, job_id)
        time.sleep(POLL_SECONDS)


def _look_at_health(
    desired: Desired, job_age_seconds: float | None
) -> tuple[Figures, Health, Exception | None]:
    """Measure and judge; where that fails the figures are empty, the level is warn, and the error is told."""
    try:
        figures = _measure()
    except Exception as error:
        phrase = f"it could not be measured: {_shorten(str(error) or repr(error))}"
        return Figures(None, None, 0, 0), Health(Level.WARN, (phrase,)), error
    return figures, stream.judge(figures, desired, job_age_seconds, settings()), None


def _measure() -> Figures:
    from shopstream import bigquery
    from shopstream.clients import bigquery_client
    from shopstream.monitoring import MonitoringHook

    # Not when the run began: a launch may have taken minutes since.
    now = datetime.now(UTC)
    unacked_seconds = MonitoringHook().oldest_unacked_seconds(settings().subscription)
    newest, accepted, rejected = bigquery.stream_figures(bigquery_client(), now, timedelta(hours=1))
    newest_row_seconds = None if newest is None else max(0.0, (now - newest).total_seconds())
    return Figures(unacked_seconds, newest_row_seconds, accepted, rejected)


def _write_check(context: Mapping[str, Any], **columns: Any) -> None:
    from shopstream import bigquery
    from shopstream.clients import bigquery_client

    run = context["dag_run"]
    # The run's own day, so that a retry after midnight replaces the row of the try before.
    row = {"checked_date": run.run_after.astimezone(UTC).date(), "run_id": run.run_id, **columns}
    bigquery.write_stream_check(bigquery_client(), row)


def _tell_state(state: DesiredState, now: datetime) -> str:
    if state.desired is Desired.STOPPED:
        text = f"the stream {STREAM_JOB} stopped ({state.how})"
    else:
        whose = "pinned" if state.version else "the deployed one"
        text = f"the stream {STREAM_JOB} running, version {_version(state)} ({whose})"
    if state.since:
        text += f", as asked by hand {duration((now - state.since).total_seconds())} ago"
    return text


def _tell_jobs(
    hook: DataflowHook, jobs: Sequence[StreamJob], recent: Sequence[StreamJob], now: datetime
) -> str:
    if jobs:
        return ", ".join(f"job {job}, created {_ago(job.created, now)}" for job in jobs)
    if not recent:
        return "no active job, and none before"
    last = recent[0]
    text = (
        f"no active job; the last one, {last.id}, ended as {_short(last.state)} {_ago(last.state_since, now)}"
    )
    try:
        reasons = _shorten(hook.errors(last.id))
    except Exception as error:
        # Not knowing why the last job ended is no reason to launch none.
        reasons = f"its errors could not be read: {_shorten(str(error))}"
    return f"{text} ({reasons})" if reasons else text


def _what_failed(decision: Decision, outcome: Outcome, health: Health | None = None) -> str:
    """The reasons for a failed run, without all that was well."""
    reasons = []
    if decision.action is Action.ALERT:
        reasons.append(decision.reason)
    elif outcome.level is Level.FAIL:
        reasons.append(outcome.text)
    if health and health.level is Level.FAIL:
        reasons.append("; ".join(health.phrases))
    return f"Stream {STREAM_JOB}: {'. '.join(reasons)}."


def _ago(moment: datetime, now: datetime) -> str:
    return f"{duration(max(0.0, (now - moment).total_seconds()))} ago"


def _short(state: str) -> str:
    return state.removeprefix("JOB_STATE_")


def _shorten(text: str) -> str:
    """One line of at most MAX_ERROR_CHARS characters; the end of an error says most."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_ERROR_CHARS else f"...{line[-MAX_ERROR_CHARS:]}"
