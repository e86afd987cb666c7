"""Launch the load of a landing day as a Dataflow job, wait for it, and launch it anew where that may help."""

# Google's clients take seconds to import, which parsing a DAG file should not: so the tasks import them.
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowRescheduleException

from shopstream import layout
from shopstream.gcp.wait_for_job import WaitForJob
from shopstream.lineage import lineage
from shopstream.load import checks
from shopstream.settings import LABELS, Settings, settings

if TYPE_CHECKING:
    from logging import Logger

    from airflow.sdk import Context
    from google.cloud.storage import Client

    from beam_jobs.manifest import Manifest
    from shopstream.gcp.dataflow import DataflowHook
    from shopstream.tables.published import PublishedDay


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


def newest_manifest(storage: Client, load: Load) -> Manifest:
    """Return the load's manifest, once it is sure that no newer load of the day has begun.

    Whatever changes a store asks this first: each task may be cleared long after another load of the day.

    Raises:
        LoadRefused: a newer one has.
    """
    from shopstream.gcp.dataflow import DataflowHook

    manifest = checks.read_manifest(storage, load.manifest)
    checks.check_newest(storage, load.manifest, DataflowHook().active_jobs(job_name(load.landing_day)))
    return manifest


JOB_PREFIX = "load-events-"
RELAUNCHES = 2
"""How often a failed job is launched anew within a run."""
_FAULTS = re.compile(
    # Of the files: beam_jobs.contract. Of the key: beam_jobs.pseudonyms. Of the table:
    # beam_jobs.spanner_sink. Of the launch: its options.
    r"\b(ContractError|PseudonymKeyError|SpannerTableError|SystemExit"
    # What Google's services refuse each time, by the names of google.api_core.exceptions.
    r"|BadRequest|FailedPrecondition|Forbidden|InvalidArgument|NotFound|PermissionDenied|Unauthenticated)\b"
)
"""What in a job's messages says that another job would fail as well."""


def new_load_id(day: date, now: datetime) -> str:
    """The id of a load of `day` that is launched now: <YYYYMMDD>-t<YYYYMMDDhhmmss and 6 digits of a second>.

    Ids of a day sort by launch, and two loads of a day never run at once (see LaunchLoadEvents): so what a
    store holds of the day under a greater id is of a newer load.
    """
    return f"{day:%Y%m%d}-t{now:%Y%m%d%H%M%S%f}"


def launched_at(load: PublishedDay) -> datetime:
    """When a published load was launched, as its id says: what was landed before, it has read.

    Of an id that says nothing, when it was published, which may be a day later.
    """
    found = re.match(r"\d{8}-t(\d{20})", load.load_id)
    return datetime.strptime(found[1], "%Y%m%d%H%M%S%f").replace(tzinfo=UTC) if found else load.loaded_at


def job_name(day: date) -> str:
    """The Dataflow job that loads a landing day; Dataflow refuses a second active one of its name."""
    return f"{JOB_PREFIX}{day}"


class JobLink(BaseOperatorLink):
    """The button that opens the launched job in Google's console."""

    name = "Dataflow Job"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the job's page, or nothing if the task launched none."""
        from airflow.sdk.execution_time.xcom import XCom

        job_id = XCom.get_value(ti_key=ti_key, key="job_id")
        env = settings()
        page = f"https://console.cloud.google.com/dataflow/jobs/{env.region}/{job_id}?project={env.project}"
        return page if job_id else ""


class LaunchLoadEvents(BaseOperator):
    """Launches the load of one landing day as a Dataflow job; does not wait for its end.

    The job's name guards the day: Dataflow refuses a second active one. A job of this name that is still
    active is what a killed try left behind; it is cancelled, and its end awaited, before the launch.

    Returns a Load as texts (Load.to_xcom); the XCom `job_id` is set too. The load_id, and with it every path
    the load writes to, is new for each try.
    """

    template_fields: Sequence[str] = ("landing_day",)
    operator_extra_links = (JobLink(),)

    def __init__(self, *, landing_day: str, **kwargs: Any) -> None:
        """Make the task; `landing_day` is a template that renders to YYYY-MM-DD."""
        moved = lineage(reads=[layout.LANDING], writes=[layout.ACCEPTED, layout.REJECTED])
        super().__init__(**moved, **kwargs)
        self.landing_day = landing_day
        self.job: dict[str, Any] | None = None

    @cached_property
    def hook(self) -> DataflowHook:
        """The hook of the jobs."""
        from shopstream.gcp.dataflow import CANCEL_TIMEOUT_SECONDS, POLL_SECONDS, DataflowHook

        return DataflowHook(poll_sleep=POLL_SECONDS, cancel_timeout=CANCEL_TIMEOUT_SECONDS)

    def execute(self, context: Context) -> dict[str, str]:
        """Launch the job.

        Raises:
            ValueError: landing_day is no date.
            HttpError: Dataflow refuses the launch; its answer says why.
            AirflowRescheduleException: as many other loads run as may at a time; Airflow runs the task again.
        """
        day = date.fromisoformat(self.landing_day)
        name = job_name(day)
        # In one run at a time (max_active_tis_per_dag), so that no two take the last place.
        if not _has_place(self.hook, name, settings().max_loads, self.log):
            raise AirflowRescheduleException(
                datetime.now(UTC) + timedelta(seconds=settings().job_look_seconds)
            )
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
        env = settings()
        launch = load_events_launch(env, day, load_id)
        # Not the provider's start_flex_template, which fails without a reason if the job fails at once.
        self.job = self.hook.launch_job_with_flex_template(
            body={"launchParameter": launch}, location=env.region, project_id=env.project
        )
        job_id = str(self.job["id"])
        self.log.info("Launched load %s as Dataflow job %s (%s).", load_id, name, job_id)
        context["ti"].xcom_push(key="job_id", value=job_id)
        return Load(day, load_id, job_id, launch["parameters"]["manifest"]).to_xcom()

    def on_kill(self) -> None:
        """Cancel the job, if one is launched, and await its end."""
        if self.job:
            self.hook.cancel_job(
                job_id=self.job["id"], project_id=self.job["projectId"], location=self.job["location"]
            )


class WaitForLoad(WaitForJob):
    """Waits until a load has ended well. A job that fails is launched anew, up to RELAUNCHES times, before
    loads that wait for a place: it may be one above those that run at a time.

    Not if its messages say that the input or the table is at fault, nor if another load of the day has begun.
    The ids of the loads launched anew follow from the first one's, so that a look that died after its launch
    is followed by one that finds the job.

    Returns the Load that ended well, as texts (Load.to_xcom).
    """

    template_fields: Sequence[str] = ("load",)

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        """Make the task; `load` is what LaunchLoadEvents returns."""
        super().__init__(job_id="", **kwargs)
        self.load = load

    def execute(self, context: Context) -> dict[str, str]:
        """Wait.

        Raises:
            AirflowFailException: the last job has failed or was cancelled.
        """
        super().execute(context)
        load, _ = self._newest()
        self.log.info("Load %s has ended well, as Dataflow job %s.", load.load_id, load.job_id)
        return load.to_xcom()

    def _is_done(self) -> bool:
        from shopstream.gcp.dataflow import DataflowJobStatus

        load, launches_left = self._newest()
        self.job_id = load.job_id
        if launches_left and self.hook.state(load.job_id) == DataflowJobStatus.JOB_STATE_FAILED:
            errors = self.hook.errors(load.job_id)
            if not _FAULTS.search(errors):
                # One more than first launches have, which look far oftener where many wait: else one of them
                # takes each place that becomes free.
                if _has_place(self.hook, job_name(load.landing_day), settings().max_loads + 1, self.log):
                    self._launch_anew(load, RELAUNCHES - launches_left + 1, errors)
                return False
        return super()._is_done()

    def _newest(self) -> tuple[Load, int]:
        """The newest load of this run's, and how often it may be launched anew: 0 if another has begun."""
        from shopstream.gcp.dataflow import DataflowJobStatus, created

        first = Load.from_xcom(self.load)
        job = self.hook.job(first.job_id)
        if job["currentState"] != DataflowJobStatus.JOB_STATE_FAILED:
            return first, RELAUNCHES
        ids = [first.load_id, *(_anew(first.load_id, number) for number in range(1, RELAUNCHES + 1))]
        jobs = self.hook.newest_jobs(job_name(first.landing_day), created(job))
        ours = [job for job in jobs if job.get("labels", {}).get("load_id") in ids]
        load_id, job_id = ours[0]["labels"]["load_id"], ours[0]["id"]
        launch = load_events_launch(settings(), first.landing_day, load_id)
        load = Load(first.landing_day, load_id, job_id, launch["parameters"]["manifest"])
        return load, RELAUNCHES - ids.index(load_id) if ours[0] is jobs[0] else 0

    def _launch_anew(self, failed: Load, number: int, errors: str) -> None:
        load_id = _anew(Load.from_xcom(self.load).load_id, number)
        job = self.hook.launch_once(load_events_launch(settings(), failed.landing_day, load_id))
        self.log.warning(
            "Dataflow job %s failed, and not for its input or table: %s\n"
            "Launched it anew, %d of %d times, as load %s, Dataflow job %s.",
            failed.job_id,
            errors or "it has no error message.",
            number,
            RELAUNCHES,
            load_id,
            job["id"],
        )


def _has_place(hook: DataflowHook, name: str, places: int, log: Logger) -> bool:
    """Whether fewer loads run than there are places, the one of this name aside; if not, they are logged."""
    others = [job["name"] for job in hook.active_jobs_like(JOB_PREFIX) if job["name"] != name]
    if len(others) < places:
        return True
    log.info(
        "%d loads run, where SHOPSTREAM_MAX_LOADS is %d: %s. Waiting until one has ended.",
        len(others),
        settings().max_loads,
        ", ".join(others),
    )
    return False


def _anew(load_id: str, number: int) -> str:
    """The id of a load that is launched anew: it sorts after the first's, and before a later launch's."""
    return f"{load_id}r{number}"


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
            **env.pseudonym_key(),
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
