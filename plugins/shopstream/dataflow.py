"""Dataflow jobs as the DAGs start and await them.

Built on the Google provider's hook, operator and sensor. What differs: the endpoint is a setting, job names
are compared whole (the provider compares beginnings), and a job that failed says why in the task's own log.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.google.cloud.hooks.dataflow import DataflowHook as GoogleDataflowHook
from airflow.providers.google.cloud.hooks.dataflow import DataflowJobStatus
from airflow.providers.google.cloud.links.dataflow import DataflowJobLink
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.providers.google.cloud.sensors.dataflow import DataflowJobStatusSensor
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from google.auth.exceptions import TransportError
from googleapiclient.errors import HttpError
from httplib2 import HttpLib2Error

from shopstream.settings import LABELS, Settings, settings
from shopstream.stream import STREAM_JOB, VERSION_LABEL

if TYPE_CHECKING:
    from airflow.sdk import Context
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
        jobs = self._jobs()
        found: list[dict[str, Any]] = []
        request = jobs.list(**_place(), filter="ACTIVE", name=name)
        while request is not None:
            answer = request.execute(num_retries=self.num_retries)
            found += [job for job in answer.get("jobs", []) if job["name"] == name]
            request = jobs.list_next(request, answer)
        return sorted(found, key=lambda job: str(job["createTime"]))

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
            self._jobs().update(**_place(), jobId=job_id, body=body).execute(num_retries=self.num_retries)
        except HttpError:
            # It may have ended just before.
            if self.state(job_id) not in DataflowJobStatus.TERMINAL_STATES:
                raise

    def newest_jobs(self, name: str, since: datetime) -> list[dict[str, Any]]:
        """The newest job of exactly this name and all others created at or after `since`, newest first.

        Whether they have ended or not; each is whole, as jobs.get shows it.
        """
        jobs = self._jobs()
        found: list[dict[str, Any]] = []
        # Without a filter the list begins with the newest.
        request = jobs.list(**_place(), name=name)
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
        request = templates.launch(**_place(), body={"launchParameter": launch})
        job: dict[str, Any] = request.execute(num_retries=0)["job"]
        return job

    def errors(self, job_id: str) -> str:
        """The job's error messages, each once, oldest first; at most the last MAX_ERROR_CHARS characters."""
        messages = self._jobs().messages()
        # Dataflow repeats the same traceback for each attempt at a bundle: a dict keeps one of each.
        texts: dict[str, None] = {}
        request = messages.list(**_place(), jobId=job_id, minimumImportance="JOB_MESSAGE_ERROR")
        while request is not None:
            answer = request.execute(num_retries=self.num_retries)
            texts.update(dict.fromkeys(message["messageText"] for message in answer.get("jobMessages", [])))
            request = messages.list_next(request, answer)
        return "\n".join(texts)[-MAX_ERROR_CHARS:]

    def job(self, job_id: str) -> dict[str, Any]:
        """The job as jobs.get shows it, with what lists leave out: labels, and which job it replaces."""
        job: dict[str, Any] = self._jobs().get(**_place(), jobId=job_id).execute(num_retries=self.num_retries)
        return job

    def state(self, job_id: str) -> str:
        """The job's state, such as JOB_STATE_RUNNING."""
        return str(self.job(job_id)["currentState"])

    def _jobs(self) -> Any:
        return self.get_conn().projects().locations().jobs()


class LaunchLoadEvents(DataflowStartFlexTemplateOperator):
    """Launches the load of one landing day as the Dataflow job load-events-<day>; does not wait for its end.

    The job's name guards the day: Dataflow refuses a second active one. A job of this name that is still
    active is what a killed try left behind; it is cancelled, and its end awaited, before the launch.

    Returns {"landing_day", "load_id", "job_id", "manifest"}, all strings; the XCom `job_id` is set too. The
    load_id, and with it every path the load writes to, is new for each try.
    """

    template_fields: Sequence[str] = ("landing_day",)

    def __init__(self, *, landing_day: str, **kwargs: Any) -> None:
        """Make the task; `landing_day` is a template that renders to YYYY-MM-DD."""
        place = settings()
        super().__init__(
            body={},
            location=place.region,
            project_id=place.project,
            append_job_name=False,
            deferrable=False,
            cancel_on_kill=True,
            cancel_timeout=CANCEL_TIMEOUT_SECONDS,
            **kwargs,
        )
        self.landing_day = landing_day

    @cached_property
    def hook(self) -> DataflowHook:
        """The hook of this module; on_kill uses it too."""
        return DataflowHook(
            gcp_conn_id=self.gcp_conn_id, poll_sleep=POLL_SECONDS, cancel_timeout=self.cancel_timeout
        )

    def execute(self, context: Context) -> dict[str, str]:
        """Launch the job.

        Raises:
            ValueError: landing_day is no date.
            HttpError: Dataflow refuses the launch; its answer says why.
        """
        day = date.fromisoformat(self.landing_day)
        # The id of a task instance is new for each try; it is a UUID 7, whose first digits are a coarse time.
        load_id = f"{day:%Y%m%d}-{context['ti'].id.hex[-8:]}"
        launch = load_events_launch(settings(), day, load_id)
        for leftover in self.hook.active_jobs(launch["jobName"]):
            self.log.warning(
                "Dataflow job %s (%s) is still %s, left by an earlier try: cancelling it.",
                leftover["name"],
                leftover["id"],
                leftover["currentState"],
            )
            state = self.hook.cancel_and_await_end(leftover["id"])
            self.log.info("Dataflow job %s ended as %s.", leftover["id"], state)
        # Not the provider's start_flex_template, which fails without a reason if the job fails at once.
        self.job = self.hook.launch_job_with_flex_template(
            body={"launchParameter": launch}, location=self.location, project_id=self.project_id
        )
        job_id = str(self.job["id"])
        self.log.info("Launched load %s as Dataflow job %s (%s).", load_id, launch["jobName"], job_id)
        DataflowJobLink.persist(
            context=context, project_id=self.project_id, region=self.location, job_id=job_id
        )
        context["ti"].xcom_push(key="job_id", value=job_id)
        return {
            "landing_day": day.isoformat(),
            "load_id": load_id,
            "job_id": job_id,
            "manifest": launch["parameters"]["manifest"],
        }


class WaitForJob(DataflowJobStatusSensor):
    """Waits until a Dataflow job is done, giving its worker slot back between two looks.

    It looks often at first and then ever more seldom. A job that ends otherwise fails the task at once and
    for good, since looking again would not change it; the error holds the job's own messages. An answer that
    Dataflow fails to give only postpones the look.
    """

    def __init__(
        self,
        *,
        job_id: str,
        poke_interval: timedelta = timedelta(seconds=5),
        max_wait: timedelta = timedelta(minutes=1),
        timeout: timedelta = timedelta(hours=12),
        **kwargs: Any,
    ) -> None:
        """Make the task; `job_id` is a template. Waits grow from `poke_interval` to `max_wait`."""
        place = settings()
        super().__init__(
            job_id=job_id,
            expected_statuses={DataflowJobStatus.JOB_STATE_DONE},
            location=place.region,
            project_id=place.project,
            deferrable=False,
            mode="reschedule",
            poke_interval=poke_interval,
            exponential_backoff=True,
            max_wait=max_wait,
            timeout=timeout,
            **kwargs,
        )

    @cached_property
    def hook(self) -> DataflowHook:
        """The hook of this module."""
        return DataflowHook(gcp_conn_id=self.gcp_conn_id)

    def poke(self, context: Context) -> bool:
        """Tell whether the job is done.

        Raises:
            AirflowFailException: it has failed or was cancelled.
            HttpError: there is no such job, or it may not be read.
        """
        try:
            return self._is_done(context)
        except HttpError as error:
            if error.resp.status != 429 and error.resp.status < 500:
                raise
            self.log.warning("Dataflow did not answer about job %s; will ask again: %s", self.job_id, error)
        except (OSError, HttpLib2Error, TransportError) as error:
            self.log.warning("Dataflow is not reached about job %s; will ask again: %r", self.job_id, error)
        return False

    def _is_done(self, context: Context) -> bool:
        try:
            return bool(super().poke(context))
        except AirflowException as error:
            reasons = self.hook.errors(self.job_id) or "The job has no error message."
            raise AirflowFailException(f"{error}. {reasons}") from error


def stream_events_launch(place: Settings, version: str, *, update: bool) -> dict[str, Any]:
    """The launchParameter (v1b3) of the stream: stream_events.json of a template version.

    With `update` the job replaces the running one of its name.
    """
    launch: dict[str, Any] = {
        "jobName": STREAM_JOB,
        "containerSpecGcsPath": f"gs://{place.bucket}/templates/{version}/stream_events.json",
        "parameters": {
            "subscription": f"projects/{place.project}/subscriptions/{place.subscription}",
            "events_table": f"{place.project}:shop_raw.events_stream",
            "rejected_table": f"{place.project}:shop_raw.rejected_events",
            "write_method": place.stream_write_method,
        },
        "environment": {
            "tempLocation": f"gs://{place.bucket}/temp",
            "sdkContainerImage": place.image("stream_events", version),
            "additionalUserLabels": {**LABELS, VERSION_LABEL: version},
            # The stream keeps no state, and readers see each event once whatever was written twice.
            "streamingMode": "STREAMING_MODE_AT_LEAST_ONCE",
            "enableStreamingEngine": True,
        },
    }
    return launch | ({"update": True} if update else {})


def created(job: Mapping[str, Any]) -> datetime:
    """When the job was created."""
    return datetime.fromisoformat(job["createTime"])


def load_events_launch(place: Settings, day: date, load_id: str) -> dict[str, Any]:
    """The launchParameter (v1b3) of one load: beam_jobs/templates/load_events.json with its parameters."""
    bucket = f"gs://{place.bucket}"
    return {
        "jobName": f"load-events-{day}",
        "containerSpecGcsPath": f"{place.template_dir}/load_events.json",
        "parameters": {
            "landing_day": day.isoformat(),
            "load_id": load_id,
            "landing": f"{bucket}/landing/events/{day}",
            "accepted": f"{bucket}/accepted/events/{day}/{load_id}",
            "rejected": f"{bucket}/rejected/events/{day}/{load_id}",
            "manifest": f"{bucket}/loads/{day}/{load_id}.json",
            "spanner_project": place.project,
            "spanner_instance": place.spanner_instance,
            "spanner_database": place.spanner_database,
        },
        "environment": {
            "tempLocation": f"{bucket}/temp",
            "sdkContainerImage": place.image("load_events", place.template_version),
            "additionalUserLabels": {**LABELS, "landing_day": day.isoformat(), "load_id": load_id},
        },
    }


def _place() -> dict[str, str]:
    place = settings()
    return {"projectId": place.project, "location": place.region}
