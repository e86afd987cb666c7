"""Dataflow jobs as the DAGs start and await them.

Built on the Google provider's hook. What differs: the endpoint is a setting, and job names are compared whole
(the provider compares beginnings). Its operator and sensor are not used: to parse a DAG file with them takes
0.6 s, for they import Google's clients, as this module does; so tasks import it as they run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.google.cloud.hooks.dataflow import DataflowHook as GoogleDataflowHook
from airflow.providers.google.cloud.hooks.dataflow import DataflowJobStatus
from airflow.sdk.exceptions import AirflowException
from googleapiclient.errors import HttpError

from shopstream.settings import settings

if TYPE_CHECKING:
    from google.api_core.client_options import ClientOptions

CANCEL_TIMEOUT_SECONDS = 600
"""Dataflow takes minutes to stop the workers of a cancelled job."""

POLL_SECONDS = 2
MAX_ERROR_CHARS = 4000


class DataflowHook(GoogleDataflowHook):
    """The provider's hook for the project, region and Dataflow endpoint of the settings."""

    def get_client_options(self, api_endpoint_override: str | None = None) -> ClientOptions:
        """The endpoint of the settings, or Google's own."""
        return super().get_client_options(api_endpoint_override or settings().dataflow_endpoint)

    def active_jobs(self, name: str) -> list[dict[str, Any]]:
        """The jobs of exactly this name that have not ended, oldest first, each as jobs.list shows it."""
        return [job for job in self._active_jobs(name=name) if job["name"] == name]

    def active_jobs_like(self, prefix: str) -> list[dict[str, Any]]:
        """The jobs whose names begin so and that have not ended, oldest first, each as jobs.list shows it."""
        return [job for job in self._active_jobs() if job["name"].startswith(prefix)]

    def cancel_and_await_end(self, job_id: str, timeout_seconds: float = CANCEL_TIMEOUT_SECONDS) -> str:
        """Cancel a job, wait until it has ended in whichever way, and return its last state.

        Raises:
            AirflowException: it has not ended after `timeout_seconds`.
            HttpError: Dataflow refuses to cancel a job that has not ended.
        """
        self.request_end(job_id, DataflowJobStatus.JOB_STATE_CANCELLED)
        deadline = time.monotonic() + timeout_seconds
        while (state := self.state(job_id)) not in DataflowJobStatus.TERMINAL_STATES:
            if time.monotonic() > deadline:
                raise AirflowException(
                    f"Dataflow job {job_id} is still {state} {timeout_seconds:.0f} seconds after it was "
                    "cancelled; look at the job, force its end, and run this task again."
                )
            time.sleep(POLL_SECONDS)
        return state

    def request_end(self, job_id: str, state: str) -> None:
        """Ask Dataflow to end a job as `state`, JOB_STATE_CANCELLED or JOB_STATE_DRAINED, without waiting.

        Raises:
            HttpError: Dataflow refuses, and the job has not ended.
        """
        body = {"requestedState": state}
        try:
            self._jobs.update(**_location(), jobId=job_id, body=body).execute(num_retries=self.num_retries)
        except HttpError:
            # It may have ended just before.
            if self.state(job_id) not in DataflowJobStatus.TERMINAL_STATES:
                raise

    def newest_jobs(self, name: str, since: datetime) -> list[dict[str, Any]]:
        """The newest job of exactly this name and all others created at or after `since`, newest first.

        Whether they have ended or not; each is whole, as jobs.get shows it.
        """
        jobs = self._jobs
        found: list[dict[str, Any]] = []
        # Without a filter the list begins with the newest.
        request = jobs.list(**_location(), name=name)
        while request is not None:
            answer = request.execute(num_retries=self.num_retries)
            found += [job for job in answer.get("jobs", []) if job["name"] == name]
            if found and created(found[-1]) < since:
                break
            request = jobs.list_next(request, answer)
        return [self.job(job["id"]) for n, job in enumerate(found) if n == 0 or created(job) >= since]

    def launch_once(self, launch: Mapping[str, Any]) -> dict[str, Any]:
        """Launch a Flex Template by its launchParameter (v1b3) and return the job, without any retry.

        After an answer that leaves open whether there is a job now, the caller looks before the next one.

        Raises:
            HttpError: Dataflow refuses.
            OSError, HttpLib2Error, TransportError: it is not reached, or does not answer.
        """
        templates = self.get_conn().projects().locations().flexTemplates()
        request = templates.launch(**_location(), body={"launchParameter": launch})
        job: dict[str, Any] = request.execute(num_retries=0)["job"]
        return job

    def errors(self, job_id: str) -> str:
        """The job's error messages, each once, oldest first; at most the last MAX_ERROR_CHARS characters."""
        messages = self._jobs.messages()
        # Dataflow repeats the same traceback for each attempt at a bundle: a dict keeps one of each.
        texts: dict[str, None] = {}
        request = messages.list(**_location(), jobId=job_id, minimumImportance="JOB_MESSAGE_ERROR")
        while request is not None:
            answer = request.execute(num_retries=self.num_retries)
            texts.update(dict.fromkeys(message["messageText"] for message in answer.get("jobMessages", [])))
            request = messages.list_next(request, answer)
        return "\n".join(texts)[-MAX_ERROR_CHARS:]

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as jobs.get shows it, with what lists leave out: labels, and which job it replaces.

        Dataflow promises these only in the view that is asked for here.
        """
        request = self._jobs.get(**_location(), jobId=job_id, view="JOB_VIEW_ALL")
        job: dict[str, Any] = request.execute(num_retries=self.num_retries)
        return job

    def state(self, job_id: str) -> str:
        """The job's state, such as JOB_STATE_RUNNING."""
        return str(self.job(job_id)["currentState"])

    def _active_jobs(self, **options: str) -> list[dict[str, Any]]:
        jobs = self._jobs
        found: list[dict[str, Any]] = []
        request = jobs.list(**_location(), filter="ACTIVE", **options)
        while request is not None:
            answer = request.execute(num_retries=self.num_retries)
            found += answer.get("jobs", [])
            request = jobs.list_next(request, answer)
        return sorted(found, key=lambda job: str(job["createTime"]))

    @cached_property
    def _jobs(self) -> Any:
        # Kept, since to make it takes more CPU than a request of it, and whoever waits asks again and again.
        return self.get_conn().projects().locations().jobs()


def created(job: Mapping[str, Any]) -> datetime:
    """When the job was created."""
    return datetime.fromisoformat(job["createTime"])


def _location() -> dict[str, str]:
    env = settings()
    return {"projectId": env.project, "location": env.region}
