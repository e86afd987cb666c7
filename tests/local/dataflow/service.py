"""Starts a local Dataflow on a free port for tests, and talks to it as its users do."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httplib2
from google.api_core.client_options import ClientOptions
from google.cloud import storage
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

from local.dataflow import spec
from local.root import ROOT
from local.stack import emulators
from shopstream.settings import settings
from tests.conftest import LOGS

T = TypeVar("T")
ENDS = tuple(f"JOB_STATE_{end}" for end in ("CANCELLED", "DONE", "DRAINED", "FAILED", "UPDATED"))


class _Http(httplib2.Http):
    """A connection for each request, since clients are shared by threads and outlive a service."""

    def request(self, *arguments: Any, **options: Any) -> Any:
        return httplib2.Http(timeout=30).request(*arguments, **options)


# Kept, since making one takes as long as some hundred of its requests.
@functools.cache
def _locations(url: str) -> Any:
    client = build(
        "dataflow",
        "v1b3",
        http=_Http(),
        client_options=ClientOptions(api_endpoint=url),
        cache_discovery=False,
    )
    return client.projects().locations()


@functools.cache
def _jobs(url: str) -> Any:
    return _locations(url).jobs()


@dataclass
class Service:
    """A running local Dataflow, asked with google-api-python-client about one project of it."""

    url: str
    state_dir: Path
    child: subprocess.Popen[bytes]
    project: str

    @property
    def location(self) -> dict[str, str]:
        """The project and location that every request names."""
        return {"projectId": self.project, "location": settings().region}

    def launch(self, name: str, template: str, **more: Any) -> dict[str, Any]:
        """Launch the template at a gs:// URI; `more` goes into launchParameter."""
        parameter = {"jobName": name, "containerSpecGcsPath": template, **more}
        request = (
            _locations(self.url).flexTemplates().launch(**self.location, body={"launchParameter": parameter})
        )
        job: dict[str, Any] = request.execute()["job"]
        return job

    def get(self, job_id: str) -> dict[str, Any]:
        """The job as jobs.get shows it whole."""
        request = _jobs(self.url).get(**self.location, jobId=job_id, view="JOB_VIEW_ALL")
        job: dict[str, Any] = request.execute()
        return job

    def list(self, **query: Any) -> dict[str, Any]:
        """One answer of jobs.list."""
        answer: dict[str, Any] = _jobs(self.url).list(**self.location, **query).execute()
        return answer

    def request_state(self, job_id: str, state: str) -> dict[str, Any]:
        """Ask with jobs.update for another state."""
        body = {"requestedState": state}
        job: dict[str, Any] = _jobs(self.url).update(**self.location, jobId=job_id, body=body).execute()
        return job

    def messages(self, job_id: str, **query: Any) -> str:
        """The texts of the job's messages, one after the other."""
        messages = _jobs(self.url).messages()
        answer = messages.list(**self.location, jobId=job_id, **query).execute()
        return "\n".join(message["messageText"] for message in answer.get("jobMessages", []))

    def await_state(self, job_id: str, *states: str) -> dict[str, Any]:
        """The job, once it is in one of `states`."""

        def arrived() -> dict[str, Any] | None:
            job = self.get(job_id)
            return job if job["currentState"] in states else None

        return until(arrived, f"{job_id} to be {' or '.join(states)}")

    def cancel_all(self) -> None:
        """Cancel every active job of the project and wait for the ends."""
        for job in self.list(filter="ACTIVE").get("jobs", []):
            # It may end by itself just now.
            with suppress(HttpError):
                self.request_state(job["id"], "JOB_STATE_CANCELLED")
            self.await_state(job["id"], *ENDS)

    def kill(self) -> None:
        """End the service as SIGKILL does, without a chance to say goodbye."""
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


@contextmanager
def serving(
    state_dir: Path, port: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Serve the jobs in `state_dir` from a real child process; SIGTERM ends it."""
    port = port or emulators.free_port()
    url = f"http://{emulators.HOST}:{port}"
    program = emulators.Program(
        "dataflow",
        (sys.executable, "-m", "local.dataflow"),
        lambda: emulators.answers(f"{url}/healthz"),
        {
            "SHOPSTREAM_DATAFLOW_PORT": str(port),
            "SHOPSTREAM_DATAFLOW_STATE": str(state_dir),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "plugins"))),
            **(environment or {}),
        },
    )
    with emulators.running(program, LOGS / "dataflow.log") as child:
        yield Service(url, state_dir, child, settings().project)


def upload_template(
    bucket: storage.Bucket,
    module: str,
    *parameters: Mapping[str, Any],
    streaming: bool = False,
    path: str = "templates/local/test.json",
) -> str:
    """Write a template specification for a module and return its gs:// URI."""
    metadata = {"name": "test", "parameters": list(parameters), "streaming": streaming}
    bucket.blob(path).upload_from_string(json.dumps(spec(metadata, module)))
    return f"gs://{bucket.name}/{path}"


def until(question: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """Ask until the answer is true, and return it.

    The dearer the question, the more seldom: who waits leaves the cores to what is waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if answer := question():
            return answer
        now = time.monotonic()
        assert now < deadline, f"waited {seconds} s for {what}"
        time.sleep(min(1, max(0.05, 9 * (now - asked))))
