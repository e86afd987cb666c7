"""Launch the load of a landing day as a Dataflow job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.google.cloud.links.dataflow import DataflowJobLink
from airflow.providers.google.cloud.operators.dataflow import DataflowStartFlexTemplateOperator
from airflow.sdk.exceptions import AirflowRescheduleException

from shopstream import layout
from shopstream.gcp.dataflow import CANCEL_TIMEOUT_SECONDS, POLL_SECONDS, DataflowHook
from shopstream.settings import LABELS, Settings, settings

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True, slots=True)
class Load:
    """One load of a landing day; `manifest` is the URI that its counters are written to."""

    landing_day: date
    load_id: str
    job_id: str
    manifest: str

    def to_xcom(self) -> dict[str, str]:
        """Return it as texts."""
        return asdict(self) | {"landing_day": self.landing_day.isoformat()}

    @classmethod
    def from_xcom(cls, texts: dict[str, str]) -> Load:
        """Read what `to_xcom` returned."""
        return cls(
            date.fromisoformat(texts["landing_day"]), texts["load_id"], texts["job_id"], texts["manifest"]
        )


JOB_PREFIX = "load-events-"


def new_load_id(day: date, now: datetime) -> str:
    """The id of a load of `day` that is launched now: <YYYYMMDD>-t<YYYYMMDDhhmmss and 6 digits of a second>.

    Ids of a day sort by launch, and two loads of a day never run at once (see LaunchLoadEvents): so what a
    store holds of the day under a greater id is of a newer load.
    """
    return f"{day:%Y%m%d}-t{now:%Y%m%d%H%M%S%f}"


def job_name(day: date) -> str:
    """The Dataflow job that loads a landing day; Dataflow refuses a second active one of its name."""
    return f"{JOB_PREFIX}{day}"


class LaunchLoadEvents(DataflowStartFlexTemplateOperator):
    """Launches the load of one landing day as a Dataflow job; does not wait for its end.

    The job's name guards the day: Dataflow refuses a second active one. A job of this name that is still
    active is what a killed try left behind; it is cancelled, and its end awaited, before the launch.

    Returns a Load as texts (Load.to_xcom); the XCom `job_id` is set too. The load_id, and with it every path
    the load writes to, is new for each try.
    """

    template_fields: Sequence[str] = ("landing_day",)

    def __init__(self, *, landing_day: str, **kwargs: Any) -> None:
        """Make the task; `landing_day` is a template that renders to YYYY-MM-DD."""
        env = settings()
        super().__init__(
            body={},
            location=env.region,
            project_id=env.project,
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
        name = job_name(day)
        self._await_place(name)
        for leftover in self.hook.active_jobs(name):
            self.log.warning(
                "Dataflow job %s (%s) is still %s, left by an earlier try: cancelling it.",
                leftover["name"],
                leftover["id"],
                leftover["currentState"],
            )
            state = self.hook.cancel_and_await_end(leftover["id"])
            self.log.info("Dataflow job %s ended as %s.", leftover["id"], state)
        load_id = new_load_id(day, datetime.now(UTC))
        launch = load_events_launch(settings(), day, load_id)
        # Not the provider's start_flex_template, which fails without a reason if the job fails at once.
        self.job = self.hook.launch_job_with_flex_template(
            body={"launchParameter": launch}, location=self.location, project_id=self.project_id
        )
        job_id = str(self.job["id"])
        self.log.info("Launched load %s as Dataflow job %s (%s).", load_id, name, job_id)
        DataflowJobLink.persist(
            context=context, project_id=self.project_id, region=self.location, job_id=job_id
        )
        context["ti"].xcom_push(key="job_id", value=job_id)
        return Load(day, load_id, job_id, launch["parameters"]["manifest"]).to_xcom()

    def _await_place(self, name: str) -> None:
        """Look again later while as many other loads run as may at a time.

        This task runs in one run at a time (max_active_tis_per_dag), so that no two take the last place.

        Raises:
            AirflowRescheduleException: there is no place; Airflow runs the task again.
        """
        others = [job["name"] for job in self.hook.active_jobs_like(JOB_PREFIX) if job["name"] != name]
        if len(others) >= settings().max_loads:
            self.log.info(
                "%d loads run, as many as SHOPSTREAM_MAX_LOADS allows: %s.", len(others), ", ".join(others)
            )
            raise AirflowRescheduleException(
                datetime.now(UTC) + timedelta(seconds=settings().job_look_seconds)
            )


def load_events_launch(env: Settings, day: date, load_id: str) -> dict[str, Any]:
    """The launchParameter (v1b3) of one load: beam_jobs/templates/load_events.json with its parameters."""
    bucket = f"gs://{env.bucket}"
    return {
        "jobName": job_name(day),
        "containerSpecGcsPath": f"{bucket}/{layout.template(env.template_version, 'load_events')}",
        "parameters": {
            "landing_day": day.isoformat(),
            "load_id": load_id,
            "landing": f"{bucket}/{layout.landing(day)}",
            "accepted": f"{bucket}/{layout.accepted(day, load_id)}",
            "rejected": f"{bucket}/{layout.rejected(day, load_id)}",
            "manifest": f"{bucket}/{layout.manifest(day, load_id)}",
            "spanner_project": env.project,
            "spanner_instance": env.spanner_instance,
            "spanner_database": env.spanner_database,
        },
        "environment": {
            # All of it, though the template says it too: nothing promises that a launch takes it from there.
            "tempLocation": f"gs://{env.temp_bucket}/{layout.TEMP}",
            "stagingLocation": f"gs://{env.temp_bucket}/{layout.STAGING}",
            **env.batch_workers.environment(),
            "sdkContainerImage": env.image("load_events", env.template_version),
            "additionalUserLabels": {**LABELS, "landing_day": day.isoformat(), "load_id": load_id},
        },
    }
