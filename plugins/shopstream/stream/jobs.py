"""The stream's jobs at Dataflow: look at them, launch one and watch its start, ask them to end."""

# Google's clients take seconds to import, which parsing a DAG file should not: so functions import them.
from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shopstream import layout
from shopstream.settings import LABELS, Settings, settings
from shopstream.stream.decide import (
    KEY_LABEL,
    STREAM_JOB,
    VERSION_LABEL,
    Action,
    Decision,
    StreamJob,
    check_version,
)
from shopstream.stream.health import Level, duration
from shopstream.tables.names import EVENTS_STREAM, REJECTED_EVENTS_STREAM

if TYPE_CHECKING:
    from shopstream.gcp.dataflow import DataflowHook

LAUNCH_PAUSES_SECONDS = (2.0, 4.0, 8.0, 16.0, 32.0)
"""The pause after each launch that was not answered with a job; then the jobs are looked at again."""
SETTLE_SECONDS = 10.0
"""A job that has run for so long has read its options and imported its modules."""
WATCH_SECONDS = 240.0
"""Dataflow takes minutes to start a job; one that takes longer is left to the next run."""
POLL_SECONDS = 1.0
MAX_ERROR_CHARS = 600

_END_STATES = {Action.DRAIN: "JOB_STATE_DRAINED", Action.CANCEL: "JOB_STATE_CANCELLED"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, in words, how bad that is, and the job that was started, even if it has died since."""

    text: str
    level: Level = Level.OK
    job_id: str | None = None


def active_jobs(hook: DataflowHook) -> list[StreamJob]:
    """The stream's jobs that have not ended, oldest first, read one by one since lists show no labels."""
    from shopstream.gcp.dataflow import DataflowJobStatus

    jobs = [stream_job(hook.job(job["id"])) for job in hook.active_jobs(STREAM_JOB)]
    return [job for job in jobs if job.state not in DataflowJobStatus.TERMINAL_STATES]


def stream_job(job: Mapping[str, Any]) -> StreamJob:
    """Read a job as jobs.get shows it."""
    labels = job.get("labels", {})
    return StreamJob(
        id=job["id"],
        state=job["currentState"],
        version=labels.get(VERSION_LABEL),
        created=datetime.fromisoformat(job["createTime"]),
        state_since=datetime.fromisoformat(job["currentStateTime"]),
        replaces=job.get("replaceJobId"),
        replaced_by=job.get("replacedByJobId"),
        pseudonym_key=labels.get(KEY_LABEL, "none"),
    )


def end(hook: DataflowHook, decision: Decision) -> Outcome:
    """Ask Dataflow to drain or cancel the decision's jobs."""
    for job in decision.jobs:
        hook.request_end(job.id, _END_STATES[decision.action])
    return Outcome(f"asked Dataflow to {decision.action} {', '.join(job.id for job in decision.jobs)}")


def launch(hook: DataflowHook, version: str, replaced: Sequence[StreamJob]) -> Outcome:
    """Launch the stream, or an update of the job in `replaced`, and see that it does not die at once.

    Dataflow refuses a second active job of a name, so that whoever else launches at the same moment, this run
    or another ends up with the one job there is.
    """
    from google.auth.exceptions import TransportError
    from googleapiclient.errors import HttpError
    from httplib2 import HttpLib2Error

    try:
        check_version(version)
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
        if found := [job for job in active_jobs(hook) if job.id not in known]:
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
    from shopstream.gcp.dataflow import DataflowJobStatus

    began = time.monotonic()
    running_since: float | None = None
    while True:
        state, now = hook.state(job_id), time.monotonic()
        if state in DataflowJobStatus.TERMINAL_STATES:
            why = shorten(hook.errors(job_id)) or "it has no error message"
            return Outcome(f"{said}; it ended at once as {short(state)}: {why}", Level.FAIL, job_id)
        if state != DataflowJobStatus.JOB_STATE_RUNNING:
            running_since = None
        elif running_since is None:
            running_since = now
        elif now - running_since >= SETTLE_SECONDS:
            return Outcome(f"{said}; it has run for {duration(now - running_since)} now", job_id=job_id)
        if now - began > WATCH_SECONDS:
            waited = f"after {duration(WATCH_SECONDS)} it is still {short(state)}; the next run looks again"
            return Outcome(f"{said}; {waited}", Level.WARN, job_id)
        time.sleep(POLL_SECONDS)


def short(state: str) -> str:
    """A job's state without Dataflow's prefix."""
    return state.removeprefix("JOB_STATE_")


def shorten(text: str) -> str:
    """One line of at most MAX_ERROR_CHARS characters; the end of an error says most."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_ERROR_CHARS else f"...{line[-MAX_ERROR_CHARS:]}"


def stream_events_launch(env: Settings, version: str, *, update: bool) -> dict[str, Any]:
    """The launchParameter (v1b3) of the stream: stream_events.json of a template version.

    With `update` the job replaces the running one of its name.
    """
    launch: dict[str, Any] = {
        "jobName": STREAM_JOB,
        "containerSpecGcsPath": f"gs://{env.bucket}/{layout.template(version, 'stream_events')}",
        "parameters": {
            "subscription": f"projects/{env.project}/subscriptions/{env.subscription}",
            "events_table": f"{env.project}:{EVENTS_STREAM}",
            "rejected_table": f"{env.project}:{REJECTED_EVENTS_STREAM}",
            **env.pseudonym_key(),
        },
        "environment": {
            "tempLocation": f"gs://{env.temp_bucket}/{layout.TEMP}",
            "stagingLocation": f"gs://{env.temp_bucket}/{layout.STAGING}",
            **env.stream_workers.environment(),
            "sdkContainerImage": env.image("stream_events", version),
            "additionalUserLabels": {
                **LABELS,
                VERSION_LABEL: version,
                KEY_LABEL: env.pseudonym_key_label(),
            },
            # The stream keeps no state, and readers see each event once whatever was written twice.
            "streamingMode": "STREAMING_MODE_AT_LEAST_ONCE",
            "enableStreamingEngine": True,
        },
    }
    return launch | ({"update": True} if update else {})
