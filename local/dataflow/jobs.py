"""The jobs of the local Dataflow: their table on disk, their states, and the child process of each.

One folder a job, <state dir>/<job id>/: job.json (the job as v1b3 shows it, and its messages), log (the
worker's output), and what the worker leaves (see worker.py). job.json is replaced whole at each change, so a
service that was killed at any moment finds its jobs again: a live worker is found by its worker.json and
adopted, a dead one is judged by what it left.
"""

from __future__ import annotations

import copy
import fcntl
import json
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import secrets
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from local.dataflow import worker
from local.dataflow.api_error import ApiError
from local.dataflow.templates import Template
from local.dataflow.worker import EXIT_FILE, write_json

QUEUED = "JOB_STATE_QUEUED"
PENDING = "JOB_STATE_PENDING"
RUNNING = "JOB_STATE_RUNNING"
CANCELLING = "JOB_STATE_CANCELLING"
DRAINING = "JOB_STATE_DRAINING"
DONE = "JOB_STATE_DONE"
FAILED = "JOB_STATE_FAILED"
CANCELLED = "JOB_STATE_CANCELLED"
DRAINED = "JOB_STATE_DRAINED"
UPDATED = "JOB_STATE_UPDATED"
TERMINAL_STATES = frozenset({DONE, FAILED, CANCELLED, DRAINED, UPDATED})

BATCH = "JOB_TYPE_BATCH"
STREAMING = "JOB_TYPE_STREAMING"

IMPORTANCES = (
    "JOB_MESSAGE_DEBUG",
    "JOB_MESSAGE_DETAILED",
    "JOB_MESSAGE_BASIC",
    "JOB_MESSAGE_WARNING",
    "JOB_MESSAGE_ERROR",
)
BASIC, WARNING, ERROR = IMPORTANCES[2:]

RUNNER = "--runner=FnApiRunner"
CANCEL_GRACE_SECONDS = 10
UPDATE_GRACE_SECONDS = 60
BUILD_SECONDS = 30
STOP_GRACE_SECONDS = 5
ADOPTED_POLL_SECONDS = 0.25
MAX_PAGE_SIZE = 100
LOG_TAIL_BYTES = 4096

log = logging.getLogger(__name__)


@dataclass
class Job:
    """One job. `resource` is what v1b3 calls a Job, `command` what its worker runs after JOB_DIR."""

    resource: dict[str, Any]
    command: list[str]
    messages: list[dict[str, str]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.resource["id"])

    @property
    def state(self) -> str:
        return str(self.resource["currentState"])

    @property
    def is_active(self) -> bool:
        return self.state not in TERMINAL_STATES

    @property
    def is_streaming(self) -> bool:
        return bool(self.resource["type"] == STREAMING)

    @property
    def steps(self) -> list[str]:
        """The names of its pipeline's steps; of a pipeline that does not tell them, none."""
        described = self.resource.get("pipelineDescription", {})
        return [step["name"] for step in described.get("originalPipelineTransform", [])]

    def is_of(self, project: str, location: str) -> bool:
        return (self.resource["projectId"], self.resource["location"]) == (project, location)


class TableInUse(Exception):
    """Another service has the job table open."""


class Jobs:
    """The job table. Its methods may be called from any thread."""

    def __init__(self, state_dir: Path, max_running: int, preload: Sequence[str] = ()) -> None:
        """Open the table in `state_dir`, adopt workers that still run and judge those that ended meanwhile.

        At most `max_running` batch jobs run at a time, others wait as QUEUED; streams never wait. The modules
        `preload` are imported once, for all jobs to come.

        Raises:
            TableInUse: another service has it open.
        """
        self._dir = state_dir.resolve()
        self._max_running = max_running
        self._mutex = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._pids: dict[str, int] = {}
        self._followers: dict[str, threading.Thread] = {}
        self._kill_timers: dict[str, threading.Timer] = {}
        self._closing = False
        self._dir.mkdir(parents=True, exist_ok=True)
        self._lock_file = (self._dir / "lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock_file.close()
            raise TableInUse(f"Another local Dataflow serves {self._dir}; stop it first.") from None
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([worker.__name__, *preload])
        multiprocessing.forkserver.ensure_running()
        with self._mutex:
            self._recover()

    def launch(
        self,
        project: str,
        location: str,
        name: str,
        template: Template,
        parameters: Mapping[str, str],
        environment: Mapping[str, Any],
        *,
        update: bool = False,
        transform_names: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Create a job and return it. With `update` it replaces the running stream of this name.

        A replaced stream drains; its successor starts when it has ended, so that two never write at once. A
        successor that cannot be built, or lacks a step of the stream's, fails, and the stream goes on.
        `transform_names` maps names of steps, or what they begin with up to a /, to those of the successor,
        or to "" if it has them no more.

        Raises:
            ApiError: ALREADY_EXISTS, a job of this name is active; with `update` NOT_FOUND, none of this name
                runs, or INVALID_ARGUMENT, it is a batch job.
        """
        arguments = [f"--{key}={value}" for key, value in parameters.items()]
        steps, error = self._steps(template.module, arguments) if template.streaming else (None, None)
        with self._mutex:
            active = [
                job
                for job in self._jobs.values()
                if job.is_active and job.is_of(project, location) and job.resource["name"] == name
            ]
            if active and not update:
                raise ApiError(
                    "ALREADY_EXISTS",
                    _not_created(
                        f"There is already an active job named {name}. If you want to submit a second job, "
                        "try again by setting a different name."
                    ),
                )
            replaced = _to_replace(active, name) if update else None
            now = _now()
            resource = {
                "id": _job_id(now),
                "projectId": project,
                "location": location,
                "name": name,
                "type": STREAMING if template.streaming else BATCH,
                "currentState": QUEUED,
                "currentStateTime": _timestamp(now),
                "createTime": _timestamp(now),
                "labels": dict(environment.get("additionalUserLabels", {})),
                "environment": {
                    "sdkPipelineOptions": {"options": dict(parameters)},
                },
            }
            if steps is not None:
                resource["pipelineDescription"] = {
                    "originalPipelineTransform": [{"name": name} for name in steps]
                }
            job = Job(resource, [template.module, RUNNER, *arguments])
            if replaced:
                resource |= {"replaceJobId": replaced.id, "transformNameMapping": dict(transform_names)}
                error = error or _incompatible(replaced, job, transform_names)
            self._jobs[job.id] = job
            (self._dir / job.id).mkdir()
            self._tell(job, BASIC, f"Launched {name}: {' '.join(job.command)}")
            if replaced and error:
                self._tell(job, ERROR, f"Workflow failed. Causes: {error}")
                self._set_state(job, FAILED)
            elif replaced:
                self._hand_over(replaced, job)
            self._start_queued()
            return copy.deepcopy(job.resource)

    def get(self, project: str, location: str, job_id: str) -> dict[str, Any]:
        """The job as v1b3 shows it.

        Raises:
            ApiError: NOT_FOUND.
        """
        with self._mutex:
            return copy.deepcopy(self._find(project, location, job_id).resource)

    def page(
        self, project: str, location: str, kind: str, name: str, page_size: int, page_token: str
    ) -> tuple[list[dict[str, Any]], str]:
        """One page of jobs and the token of the next page, empty after the last.

        `kind` is v1b3's filter: ACTIVE (by creation) or UNKNOWN (all, the newest first). An empty `name` is
        any. A page holds at most `page_size` jobs, or MAX_PAGE_SIZE if that is 0 or more than it.

        Raises:
            ApiError: INVALID_ARGUMENT, the token is none of ours.
        """
        with self._mutex:
            if page_token and page_token not in self._jobs:
                raise ApiError(
                    "INVALID_ARGUMENT",
                    f"pageToken {page_token!r} is not valid; give a nextPageToken as it was answered.",
                )
            newest_first = kind == "UNKNOWN"
            # Ids sort by creation, and a token is the last one shown: what starts between pages hides none.
            ids = sorted(
                (
                    job.id
                    for job in self._jobs.values()
                    if job.is_of(project, location)
                    and name in ("", job.resource["name"])
                    and (newest_first or job.is_active)
                    and (not page_token or (job.id < page_token if newest_first else job.id > page_token))
                ),
                reverse=newest_first,
            )
            size = page_size if 0 < page_size <= MAX_PAGE_SIZE else MAX_PAGE_SIZE
            token = ids[size - 1] if len(ids) > size else ""
            return [copy.deepcopy(self._jobs[job_id].resource) for job_id in ids[:size]], token

    def request_state(self, project: str, location: str, job_id: str, requested: str) -> dict[str, Any]:
        """Cancel or drain a job, and return it as it is now; its end comes later.

        Raises:
            ApiError: NOT_FOUND; FAILED_PRECONDITION, the job has ended, or a batch job or a stream that does
                not run is to be drained; INVALID_ARGUMENT, another state is requested.
        """
        with self._mutex:
            job = self._find(project, location, job_id)
            if requested == CANCELLED:
                if not job.is_active:
                    raise _not_allowed("cancel", job, f"it has ended as {job.state}.")
                if job.state != CANCELLING:
                    self._cancel(job, CANCEL_GRACE_SECONDS)
            elif requested == DRAINED:
                self._drain(job)
            else:
                raise ApiError(
                    "INVALID_ARGUMENT",
                    f"requestedState is {requested!r}; the local Dataflow takes {CANCELLED} and {DRAINED}.",
                )
            return copy.deepcopy(job.resource)

    def stream_folders(self, subscription: str) -> list[Path]:
        """The folders of the streams, ended or not, whose parameter `subscription` is this one."""
        with self._mutex:
            return [
                self._dir / job.id
                for job in self._jobs.values()
                if job.is_streaming
                and job.resource["environment"]["sdkPipelineOptions"]["options"].get("subscription")
                == subscription
            ]

    def messages(self, project: str, location: str, job_id: str, least: str) -> list[dict[str, str]]:
        """The job's messages of at least the importance `least`, oldest first.

        Raises:
            ApiError: NOT_FOUND.
        """
        wanted = IMPORTANCES[IMPORTANCES.index(least) :]
        with self._mutex:
            job = self._find(project, location, job_id)
            return [dict(message) for message in job.messages if message["messageImportance"] in wanted]

    def all(self) -> list[dict[str, Any]]:
        """All jobs of all projects, the newest first."""
        with self._mutex:
            return [copy.deepcopy(self._jobs[job_id].resource) for job_id in sorted(self._jobs, reverse=True)]

    def log(self, job_id: str, most_bytes: int) -> str:
        """The end of a job's log; empty before its worker has begun."""
        try:
            with (self._dir / job_id / "log").open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def close(self) -> None:
        """End every worker and cancel every active job; the jobs' messages say why."""
        with self._mutex:
            self._closing = True
            for job in self._jobs.values():
                if job.is_active:
                    self._tell(job, ERROR, "The local Dataflow was stopped, and this job with it.")
                    self._cancel(job, STOP_GRACE_SECONDS)
            followers = list(self._followers.values())
        for follower in followers:
            follower.join()
        self._lock_file.close()

    def _steps(self, module: str, arguments: list[str]) -> tuple[list[str] | None, str | None]:
        """The names of a pipeline's steps, and why it cannot be built, told by a process of its own."""
        try:
            receiver, sender = self._context.Pipe(duplex=False)
            with receiver:
                with sender, self._mutex:
                    child = self._context.Process(
                        target=worker.tell_steps, args=(sender, module, [RUNNER, *arguments])
                    )
                    child.start()
                try:
                    told: tuple[list[str] | None, str | None] = (
                        receiver.recv()
                        if receiver.poll(BUILD_SECONDS)
                        else (None, f"The pipeline {module} was not built within {BUILD_SECONDS} s.")
                    )
                finally:
                    if not multiprocessing.connection.wait([child.sentinel], STOP_GRACE_SECONDS):
                        child.kill()
                    with self._mutex:
                        child.join()
        except (OSError, EOFError) as error:
            told = None, f"The pipeline {module} could not be built: {error!r}"
        return told

    def _recover(self) -> None:
        for path in sorted(self._dir.glob("*/job.json")):
            job = Job(**json.loads(path.read_text()))
            self._jobs[job.id] = job
        for job in list(self._jobs.values()):
            if not job.is_active or job.state == QUEUED:
                continue
            # If its worker has not begun, it may not any more.
            folder = self._dir / job.id
            if not worker.claim(folder, os.getpid()) and (found := worker.running(folder)):
                log.info("%s: adopted its worker %d", job.id, found.pid)
                if job.state == PENDING:
                    self._set_state(job, RUNNING)
                self._follow(job, found)
                # The service may have been killed after it wrote the state and before it sent the signal.
                if job.state == CANCELLING:
                    self._end_worker(job, CANCEL_GRACE_SECONDS)
                elif job.state == DRAINING:
                    self._ask_to_drain(job)
            else:
                self._end(job, None)
        for job in list(self._jobs.values()):
            replaced = self._jobs.get(job.resource.get("replaceJobId", ""))
            if job.state == QUEUED and replaced and replaced.is_active:
                self._hand_over(replaced, job)
        self._start_queued()

    def _start_queued(self) -> None:
        if self._closing:
            return
        for job in sorted(self._jobs.values(), key=lambda job: job.id):
            replaced = self._jobs.get(job.resource.get("replaceJobId", ""))
            if job.state != QUEUED or (replaced and replaced.is_active):
                continue
            batches = sum(not self._jobs[job_id].is_streaming for job_id in self._pids)
            if job.is_streaming or batches < self._max_running:
                self._start(job)

    def _start(self, job: Job) -> None:
        job.resource["startTime"] = _timestamp(_now())
        self._set_state(job, PENDING)
        child = self._context.Process(
            target=worker.start, args=(self._dir / job.id, job.command[0], job.command[1:])
        )
        try:
            child.start()
        except (OSError, EOFError) as error:
            self._tell(job, ERROR, f"The worker could not be started: {error!r}")
            self._set_state(job, FAILED)
            return
        self._set_state(job, RUNNING)
        self._follow(job, child)

    def _follow(self, job: Job, child: ForkServerProcess | psutil.Process) -> None:
        pid = int(child.pid or 0)

        def follow() -> None:
            if isinstance(child, psutil.Process):
                _wait_for_end(child)
            else:
                multiprocessing.connection.wait([child.sentinel])
            # What the worker started and did not end, such as Beam's worker processes after a SIGKILL.
            _signal_group(pid, signal.SIGKILL)
            with self._mutex:
                code = None
                if isinstance(child, ForkServerProcess):
                    # Under the mutex, since a start of another looks whether this one has ended.
                    child.join()
                    code = child.exitcode
                del self._pids[job.id], self._followers[job.id]
                self._end(job, code)
                self._start_queued()

        self._pids[job.id] = pid
        self._followers[job.id] = threading.Thread(target=follow, name=job.id, daemon=True)
        self._followers[job.id].start()

    def _cancel(self, job: Job, grace_seconds: float) -> None:
        if job.state == QUEUED:
            self._set_state(job, CANCELLED)
        else:
            self._set_state(job, CANCELLING)
            self._end_worker(job, grace_seconds)

    def _drain(self, job: Job) -> None:
        if not job.is_streaming:
            raise _not_allowed("drain", job, "it is a batch job; cancel it instead.")
        if job.state not in (RUNNING, DRAINING):
            raise _not_allowed("drain", job, f"it is {job.state}, not running.")
        if job.state == RUNNING:
            self._set_state(job, DRAINING)
            self._ask_to_drain(job)

    def _hand_over(self, replaced: Job, successor: Job) -> None:
        replaced.resource["replacedByJobId"] = successor.id
        self._tell(replaced, BASIC, f"Job {successor.id} replaces this one, which drains.")
        self._ask_to_drain(replaced)
        self._kill_later(replaced, UPDATE_GRACE_SECONDS)

    def _ask_to_drain(self, job: Job) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pids[job.id], signal.SIGUSR1)

    def _end_worker(self, job: Job, grace_seconds: float) -> None:
        _signal_group(self._pids[job.id], signal.SIGTERM)
        # A worker that has just been forked has not made its group yet.
        with suppress(ProcessLookupError):
            os.kill(self._pids[job.id], signal.SIGTERM)
        self._kill_later(job, grace_seconds)

    def _kill_later(self, job: Job, grace_seconds: float) -> None:
        if timer := self._kill_timers.pop(job.id, None):
            timer.cancel()
        timer = threading.Timer(grace_seconds, _signal_group, (self._pids[job.id], signal.SIGKILL))
        timer.daemon = True
        timer.start()
        self._kill_timers[job.id] = timer

    def _end(self, job: Job, code: int | None) -> None:
        """Give a job whose worker has ended its last state."""
        if timer := self._kill_timers.pop(job.id, None):
            timer.cancel()
        error = self._error(job, code)
        if job.state == CANCELLING:
            self._set_state(job, CANCELLED)
        elif "replacedByJobId" in job.resource:
            if error:
                self._tell(job, WARNING, error)
            self._set_state(job, UPDATED)
        elif error:
            self._tell(job, ERROR, f"{error}\nIts log: {self._dir / job.id / 'log'}")
            self._set_state(job, FAILED)
        else:
            self._set_state(job, DRAINED if job.state == DRAINING else DONE)

    def _error(self, job: Job, code: int | None) -> str | None:
        """Why the job's worker failed, or None if it did not."""
        path = self._dir / job.id / EXIT_FILE
        if path.exists():
            error: str | None = json.loads(path.read_text())["error"]
            return error
        if code is None:
            how = "ended"
        else:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        last_line = _last_line(self._dir / job.id / "log")
        return f"The worker process {how} and left no result. Last line of its log: {last_line}"

    def _find(self, project: str, location: str, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or not job.is_of(project, location):
            raise ApiError(
                "NOT_FOUND",
                f"({_code()}): Information about job {job_id} could not be found in our system. Please "
                f"double check the id is correct, and that it is a job of {project} in {location}.",
            )
        return job

    def _set_state(self, job: Job, state: str) -> None:
        job.resource |= {"currentState": state, "currentStateTime": _timestamp(_now())}
        self._tell(job, BASIC, f"Job state: {state}")

    def _tell(self, job: Job, importance: str, text: str) -> None:
        """Add a message to the job and write the job to disk."""
        log.info("%s %s: %s", job.resource["name"], job.id, text)
        job.messages.append(
            {
                "id": f"{job.id}-{len(job.messages)}",
                "time": _timestamp(_now()),
                "messageImportance": importance,
                "messageText": text,
            }
        )
        content = {"resource": job.resource, "command": job.command, "messages": job.messages}
        write_json(self._dir / job.id / "job.json", content)


def known_jobs(state_dir: Path, name: str = "") -> list[dict[str, Any]]:
    """The jobs in `state_dir`, of one `name` if it is given, each as v1b3 shows it."""
    jobs = [json.loads(path.read_text())["resource"] for path in state_dir.glob("*/job.json")]
    return [job for job in jobs if name in ("", job["name"])]


def running_workers(state_dir: Path, name: str = "") -> dict[str, psutil.Process]:
    """The live workers of the jobs in `state_dir`, of one `name` if it is given, by job id."""
    workers = {job["id"]: worker.running(state_dir / job["id"]) for job in known_jobs(state_dir, name)}
    return {job_id: process for job_id, process in workers.items() if process}


def _to_replace(active: Sequence[Job], name: str) -> Job:
    running = [job for job in active if job.state == RUNNING and "replacedByJobId" not in job.resource]
    if len(active) != 1 or not running:
        states = ", ".join(job.state for job in active) or "none is active"
        raise ApiError(
            "NOT_FOUND",
            _not_created(f"There is no running job named {name} to update ({states})."),
        )
    if not running[0].is_streaming:
        raise ApiError(
            "INVALID_ARGUMENT",
            _not_created(f"{name} is a batch job; only a streaming job can be updated."),
        )
    return running[0]


def _incompatible(replaced: Job, successor: Job, transform_names: Mapping[str, str]) -> str | None:
    """Why a stream cannot be replaced by its successor, or None if it can."""
    there = {*successor.steps, ""}
    missing = [step for step in replaced.steps if _new_name(step, transform_names) not in there]
    if not missing:
        return None
    # In Dataflow's words (the first sentence is quoted in apache/beam #30357).
    return (
        f"The new job is not compatible with {replaced.id}. The original job (if it existed) has not been "
        f"aborted., The new job is missing steps {', '.join(missing)}. If these steps have been renamed or "
        "deleted, please specify them with the update command."
    )


def _new_name(step: str, transform_names: Mapping[str, str]) -> str:
    """The name of a step in the successor; "" if it has it no more."""
    for old in sorted(transform_names, key=len, reverse=True):
        if step == old or step.startswith(f"{old}/"):
            new = transform_names[old]
            return new and new + step.removeprefix(old)
    return step


def _not_created(cause: str) -> str:
    return f"({_code()}): The workflow could not be created. Causes: ({_code()}): {cause}"


def _not_allowed(operation: str, job: Job, why: str) -> ApiError:
    return ApiError(
        "FAILED_PRECONDITION",
        f"({_code()}): Workflow modification failed. Causes: ({_code()}): Operation {operation} not allowed "
        f"for job {job.id}: {why}",
    )


def _wait_for_end(adopted: psutil.Process) -> None:
    # psutil's own wait lasts for ever if nobody reaps the orphan.
    with suppress(psutil.NoSuchProcess):
        while adopted.is_running() and adopted.status() != psutil.STATUS_ZOMBIE:
            time.sleep(ADOPTED_POLL_SECONDS)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _last_line(path: Path) -> str:
    if not path.exists():
        return "(there is no log)"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "(it is empty)"


def _now() -> datetime:
    return datetime.now(UTC)


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _job_id(moment: datetime) -> str:
    """An id as Dataflow's; ids sort by creation."""
    return f"{moment:%Y-%m-%d_%H_%M_%S}-{moment:%f}{secrets.randbelow(10**13):013d}"


def _code() -> str:
    """A code such as Dataflow puts before each cause, for its own logs."""
    return secrets.token_hex(8)
