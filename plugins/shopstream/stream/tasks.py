"""The tasks of the stream's DAGs: keep it alive, stop it, feed it, compare it with the daily loads.

The desired state is the Airflow Variable DESIRED_STATE, which tasks reach without Airflow's database.
"""

# Google's clients take seconds to import, which parsing a DAG file should not: so the tasks import them.
from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from shopstream.days import days_of_run, summary_days, told_days
from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.stream import decide, jobs
from shopstream.stream.decide import (
    DESIRED_STATE,
    STREAM_JOB,
    Action,
    Decision,
    Desired,
    DesiredState,
    How,
    StreamJob,
)
from shopstream.stream.health import Figures, Health, Level, assess, duration
from shopstream.stream.jobs import Outcome, short, shorten
from shopstream.stream.simulate import PublishEvents

if TYPE_CHECKING:
    from shopstream.gcp.dataflow import DataflowHook

__all__ = [
    "PublishEvents",
    "compare",
    "has_stopped",
    "keep_alive",
    "request_stop",
    "resolve_days",
]

DESCRIPTION = "What the stream should do; the DAGs keep_stream_alive and stop_stream write it."
STOP_TIMEOUT = timedelta(minutes=30)

_SEVERITIES = {Level.OK: logging.INFO, Level.WARN: logging.WARNING, Level.FAIL: logging.ERROR}

log = logging.getLogger(__name__)


class StreamNotWell(Refused):
    """Calls for a person; the next scheduled run looks again."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one run of keep-alive saw, and what it decided to do.

    `active` are the stream's jobs that have not ended, oldest first; `recent` the newest job and all others
    that were created within the budget's window, newest first.
    """

    at: datetime
    wanted: DesiredState
    active: list[StreamJob]
    recent: list[StreamJob]
    decision: Decision


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
    from shopstream.gcp.dataflow import DataflowHook

    hook = DataflowHook()
    look = _look(hook, context)
    told = _tell_look(hook, look)
    try:
        outcome = _act(hook, look.wanted, look.decision, look.recent)
    except Exception as error:
        log.error("%s Done: it broke off: %s", told, error)
        raise
    if _is_by_hand(context):
        _confirm_desired_state(context, desired=Desired.RUNNING)
    level = _tell_outcome(context, look, outcome, told)
    job_id = outcome.job_id or (look.active[0].id if look.active else None)
    return {"decision": str(look.decision.action), "job_id": job_id, "level": str(level)}


def request_stop(**context: Any) -> list[str]:
    """Set the desired state to stopped and ask Dataflow to end the stream, as the parameter `how` says.

    Returns:
        The ids of the jobs that are active.
    """
    from shopstream.gcp.dataflow import DataflowHook

    hook = DataflowHook()
    state = _set_desired_state(context, desired=Desired.STOPPED, how=How(context["params"]["how"]))
    _refuse_overruled(state)
    active = jobs.active_jobs(hook)
    decision = decide.decide(state, settings().template_version, active)
    outcome = _act(hook, state, decision, [])
    log.info(
        "Wanted: %s. Decision: %s, because %s. Done: %s.",
        _tell_state(state, datetime.now(UTC)),
        decision.action,
        decision.reason,
        outcome.text,
    )
    return [job.id for job in active]


def has_stopped(job_ids: Sequence[str], **context: Any) -> bool:
    """Tell whether the stream has ended; asks again where Dataflow had to be asked later, as of a new job.

    Raises:
        StreamNotWell: it is active STOP_TIMEOUT after the stop was asked for, or was started meanwhile.
    """
    from shopstream.gcp.dataflow import DataflowHook

    hook = DataflowHook()
    state = _confirm_desired_state(context, desired=Desired.STOPPED, how=How(context["params"]["how"]))
    _refuse_overruled(state)
    active = jobs.active_jobs(hook)
    if active:
        _act(hook, state, decide.decide(state, settings().template_version, active), [])
        if state.since and datetime.now(UTC) - state.since > STOP_TIMEOUT:
            raise StreamNotWell(
                f"{', '.join(map(str, active))} has not ended {duration(STOP_TIMEOUT.total_seconds())} after "
                f"it was asked to {state.how}; trigger stop_stream with how = cancel, which loses nothing: "
                "what is not yet written is delivered again"
            )
        return False
    ended = [jobs.stream_job(hook.job(job_id)) for job_id in job_ids]
    log.info(
        "The stream is stopped: %s. It stays so until keep_stream_alive is triggered by hand. Meanwhile "
        "messages wait in the subscription %s, for as long as it retains them.",
        ", ".join(map(str, ended)) or "0 jobs were active",
        settings().subscription,
    )
    return True


def resolve_days(**context: Any) -> list[str]:
    """Return the days to compare, in order, as YYYY-MM-DD; see shopstream.days."""
    from shopstream.gcp.clients import bigquery_client
    from shopstream.tables.published import days_published

    return days_of_run(summary_days(context, lambda *moments: days_published(bigquery_client(), *moments)))


def compare(days: list[str]) -> dict[str, str]:
    """Write the rows of shop_ops.stream_completeness of each day (YYYY-MM-DD).

    Returns:
        The worst level of each day that has events.

    Raises:
        StreamIncomplete: the stream lacks more events of some days than it may.
    """
    from shopstream.gcp.clients import bigquery_client
    from shopstream.stream.completeness import compare_days
    from shopstream.tables.folder import load_table
    from shopstream.tables.names import STREAM_COMPLETENESS

    env = settings()
    table = load_table(env.sql_dir, STREAM_COMPLETENESS)
    wanted = list(map(date.fromisoformat, days))
    levels = compare_days(bigquery_client(), table, wanted, env.stream_missing_share)
    counts = ", ".join(f"{level} {number}" for level, number in Counter(levels.values()).items())
    log.info("Compared: %s; by their levels: %s.", told_days(wanted), counts or "0, none has an event")
    return levels


def read_desired_state() -> DesiredState:
    """Read what is wanted of the stream, now.

    Raises:
        StreamNotWell: the Variable is malformed.
    """
    try:
        return decide.parse_desired_state(Variable.get(DESIRED_STATE, default=None))
    except decide.MalformedDesiredState as error:
        raise StreamNotWell(
            f"Airflow Variable {DESIRED_STATE}: {error} Or delete it, which means running."
        ) from error


def _look(hook: DataflowHook, context: Mapping[str, Any]) -> Look:
    """See what is wanted and what is there, and decide."""
    now = datetime.now(UTC)
    by_hand = _is_by_hand(context)
    wanted = _set_desired_state(context, desired=Desired.RUNNING) if by_hand else read_desired_state()
    active = jobs.active_jobs(hook)
    recent = [jobs.stream_job(job) for job in hook.newest_jobs(STREAM_JOB, now - decide.BUDGET_WINDOW)]
    decision = decide.decide(wanted, settings().template_version, active)
    decision = decide.keep_to_key(decision, active, settings().pseudonym_key_label())
    decision = decide.keep_to_budget(decision, recent, wanted, settings().stream_max_launches, now)
    return Look(now, wanted, active, recent, decision)


def _set_desired_state(context: Mapping[str, Any], **changes: Any) -> DesiredState:
    """Change the desired state as the run asks; a state asked for later than this run stays.

    So a run that is retried or cleared does not undo what somebody has asked for since. When a state without
    `since` was written is not known: only a run in its first try, which somebody has just asked for, may
    replace it.
    """
    asked = context["dag_run"].run_after
    state = read_desired_state()
    is_newer = context["ti"].try_number > 1 if state.since is None else state.since > asked
    if is_newer:
        log.info("The desired state stays as somebody has written it: %s.", decide.desired_state_text(state))
        return state
    return _write_desired_state(state, since=asked, **changes)


def _confirm_desired_state(context: Mapping[str, Any], **changes: Any) -> DesiredState:
    """Read the desired state, and write the run's own again if that of an older run stands there now.

    Airflow cannot read and write a Variable in one act: a run that had read before this one wrote may have
    written after it.
    """
    asked = context["dag_run"].run_after
    state = read_desired_state()
    if not _is_older(state, asked):
        return state
    log.warning("A request of %s has overwritten this one, which is newer; it is written again.", state.since)
    return _write_desired_state(state, since=asked, **changes)


def _write_desired_state(before: DesiredState, **changes: Any) -> DesiredState:
    state = replace(before, **changes)
    told = tuple(map(decide.desired_state_text, (before, state)))
    if state != before:
        log.info("The desired state was %s and becomes %s.", *told)
    Variable.set(DESIRED_STATE, told[1], DESCRIPTION)
    return state


def _is_older(state: DesiredState, moment: datetime | None) -> bool:
    return state.since is not None and moment is not None and state.since < moment


def _is_by_hand(context: Mapping[str, Any]) -> bool:
    return bool(context["dag_run"].run_type == "manual")


def _refuse_overruled(state: DesiredState) -> None:
    if state.desired is not Desired.STOPPED:
        raise StreamNotWell(
            "the stream was started after this stop, by hand or by the Variable "
            f"{DESIRED_STATE}; trigger stop_stream anew to stop it"
        )


def _version(state: DesiredState) -> str:
    return state.version or settings().template_version


def _act(hook: DataflowHook, state: DesiredState, decision: Decision, recent: Sequence[StreamJob]) -> Outcome:
    match decision.action:
        case Action.LAUNCH | Action.UPDATE:
            outcome = jobs.launch(hook, _version(state), decision.jobs)
            if outcome.level is Level.FAIL:
                return outcome
            later = read_desired_state()
            if later.desired is Desired.STOPPED and not _is_older(later, state.since):
                # Somebody has asked for it while this run launched.
                stop = decide.decide(later, settings().template_version, jobs.active_jobs(hook))
                ended = f"{outcome.text}; meanwhile a stop was asked for: {jobs.end(hook, stop).text}"
                return replace(outcome, text=ended)
            is_back = decision.action is Action.LAUNCH and bool(recent)
            if is_back and (state.since is None or recent[0].state_since > state.since):
                # The job ended though nobody had asked for it here.
                return replace(outcome, level=max(outcome.level, Level.WARN))
            return outcome
        case Action.DRAIN | Action.CANCEL:
            return jobs.end(hook, decision)
        case Action.ALERT:
            return Outcome("nothing; a person must look", Level.FAIL)
        case _:
            return Outcome("nothing")


def _tell_outcome(context: Mapping[str, Any], look: Look, outcome: Outcome, told: str) -> Level:
    """Measure the health, log it with what was done, and write both to shop_ops.stream_checks.

    Returns:
        The worse level of the two, which is not fail.

    Raises:
        StreamNotWell: it is fail; the row is written before, where BigQuery takes it.
        Exception: BigQuery did not take the row; or the health could not be measured, and the run had nothing
            to do.
    """
    launches = len(decide.launches_counted(look.recent, look.wanted, look.at))
    launches += look.decision.action is Action.LAUNCH and outcome.job_id is not None
    is_new = outcome.job_id is not None or not look.active
    oldest = None if is_new else min(job.created for job in look.active)
    figures, health, not_measured = _look_at_health(
        look.wanted.desired, None if oldest is None else (look.at - oldest).total_seconds()
    )
    level = max(outcome.level, health.level)
    # The log first: it is the record of what was done, whatever fails from here on.
    log.log(
        _SEVERITIES[level],
        "%s Done: %s. Launches in the last hour, or since a start by hand: %d of at most %d. Health: %s; %s.",
        told,
        outcome.text,
        launches,
        settings().stream_max_launches,
        health.level,
        "; ".join(health.phrases),
    )
    failure = StreamNotWell(_what_failed(look.decision, outcome, health)) if level is Level.FAIL else None
    try:
        _write_check(context, look, outcome, figures, level, launches)
    except Exception as error:
        if failure is None:
            raise
        # Trying again would act again, as launch what has died at once.
        raise failure from error
    if failure:
        raise failure
    if not_measured and look.decision.action in (Action.NOTHING, Action.WAIT):
        # A try again replaces this run's row: one that tells of an action stays, and the next run measures.
        raise not_measured
    return level


def _look_at_health(
    desired: Desired, job_age_seconds: float | None
) -> tuple[Figures, Health, Exception | None]:
    """Measure and judge; where that fails the figures are empty, the level is warn, and the error is told."""
    try:
        figures = _measure()
    except Exception as error:
        phrase = f"it could not be measured: {shorten(str(error) or repr(error))}"
        return Figures(None, None, 0, 0), Health(Level.WARN, (phrase,)), error
    return figures, assess(figures, desired, job_age_seconds, settings()), None


def _measure() -> Figures:
    from shopstream.gcp.clients import bigquery_client
    from shopstream.gcp.monitoring import MonitoringHook
    from shopstream.stream.checks import stream_figures

    # Not when the run began: a launch may have taken minutes since.
    now = datetime.now(UTC)
    unacked_seconds = MonitoringHook().oldest_unacked_seconds(settings().subscription)
    newest, accepted, rejected = stream_figures(bigquery_client(), now, timedelta(hours=1))
    newest_row_seconds = None if newest is None else max(0.0, (now - newest).total_seconds())
    return Figures(unacked_seconds, newest_row_seconds, accepted, rejected)


def _write_check(
    context: Mapping[str, Any], look: Look, outcome: Outcome, figures: Figures, level: Level, launches: int
) -> None:
    from shopstream.gcp.clients import bigquery_client
    from shopstream.stream.checks import write_stream_check

    run = context["dag_run"]
    row = {
        # The run's own day, so that a retry after midnight replaces the row of the try before.
        "checked_date": run.run_after.astimezone(UTC).date(),
        "run_id": run.run_id,
        "checked_at": look.at,
        "desired": str(look.wanted.desired),
        "desired_version": _version(look.wanted),
        "active_jobs": json.dumps(
            [{"job_id": job.id, "state": job.state, "version": job.version} for job in look.active]
        ),
        "decision": str(look.decision.action),
        "reason": look.decision.reason,
        "outcome": outcome.text,
        "oldest_unacked_seconds": figures.oldest_unacked_seconds,
        "newest_row_seconds": figures.newest_row_seconds,
        "rejected_share": figures.rejected_share,
        "level": str(level),
        "restarts_last_hour": launches,
    }
    write_stream_check(bigquery_client(), row)


def _tell_look(hook: DataflowHook, look: Look) -> str:
    return (
        f"Wanted: {_tell_state(look.wanted, look.at)}. "
        f"Seen: {_tell_jobs(hook, look.active, look.recent, look.at)}. "
        f"Decision: {look.decision.action}, because {look.decision.reason}."
    )


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
    hook: DataflowHook, active: Sequence[StreamJob], recent: Sequence[StreamJob], now: datetime
) -> str:
    if active:
        return ", ".join(f"job {job}, created {_ago(job.created, now)}" for job in active)
    if not recent:
        return "no active job, and none before"
    last = recent[0]
    text = (
        f"no active job; the last one, {last.id}, ended as {short(last.state)} {_ago(last.state_since, now)}"
    )
    try:
        reasons = shorten(hook.errors(last.id))
    except Exception as error:
        # Not knowing why the last job ended is no reason to launch none.
        reasons = f"its errors could not be read: {shorten(str(error))}"
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
