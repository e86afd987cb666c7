"""Probes of Spanner, Dataflow, Cloud Monitoring, and of what a project has: images, quotas, the dashboard's
door."""

from __future__ import annotations

import datetime as dt
import json
import re
import time
from contextlib import ExitStack
from typing import Any

import requests
from googleapiclient.errors import HttpError

from beam_jobs.manifest import Manifest
from infra.deploy import read_target
from local.root import ROOT
from shopstream import layout
from shopstream.load.in_spanner import count_in_parts
from shopstream.load.launch import load_events_launch, new_load_id
from shopstream.settings import settings
from shopstream.stream.decide import STREAM_JOB
from shopstream.stream.jobs import stream_events_launch
from tools.cloud_proof.ground import AIRFLOW_VARIABLE, REQUEST_SECONDS, Ground
from tools.cloud_proof.probe import Open, Otherwise, Probe

DAY = dt.date(2001, 1, 1)
COUNTERS = ("read", "accepted", "rejected")
"""Of beam_jobs/stream_events.py, as infra/alerts.tf asks Cloud Monitoring for them."""
SUMMARY = "shop.daily_event_count"
LAUNCHED_SECONDS = 900
POLL_SECONDS = 5
ENDED = (
    "JOB_STATE_DONE",
    "JOB_STATE_FAILED",
    "JOB_STATE_CANCELLED",
    "JOB_STATE_DRAINED",
    "JOB_STATE_UPDATED",
)
DATAFLOW, MONITORING = "SHOPSTREAM_DATAFLOW_ENDPOINT", "SHOPSTREAM_MONITORING_ENDPOINT"


def data_boost(ground: Ground, undo: ExitStack) -> str:
    """Count a landing day that nobody has landed as a large load counts its own: in parts, by Data Boost, at
    LOW."""
    now = dt.datetime.now(dt.UTC)
    nothing = Manifest(DAY, new_load_id(DAY, now), finished_at=now)
    counts = count_in_parts(ground.spanner, nothing)
    if counts:
        raise Otherwise(f"{DAY} has rows of {', '.join(counts)}")
    return "accepted, no row"


def launch_load(ground: Ground, undo: ExitStack) -> str:
    """Let Dataflow check the launch of a load."""
    load_id = new_load_id(DAY, dt.datetime.now(dt.UTC))
    return _validate(ground, undo, load_events_launch(settings(), DAY, load_id))


def launch_stream(ground: Ground, undo: ExitStack) -> str:
    """Let Dataflow check the launch of the stream."""
    return _validate(
        ground, undo, stream_events_launch(settings(), settings().template_version, update=False)
    )


def template_defaults(ground: Ground, undo: ExitStack) -> str:
    """Launch a load of an empty folder, without naming account and machine, and look which ones its job has.

    It fails as soon as it looks for files; what it was to run with is known before.
    """
    launch = load_events_launch(settings(), DAY, new_load_id(DAY, dt.datetime.now(dt.UTC)))
    launch["jobName"] = ground.name
    launch["parameters"] |= {"landing": f"gs://{settings().bucket}/{layout.TEMP}/{ground.name}"}
    named = launch["environment"]
    for field in ("serviceAccountEmail", "machineType", "maxWorkers"):
        named.pop(field, None)
    blob = ground.bucket.blob(layout.template(settings().template_version, "load_events"))
    defaults = json.loads(blob.download_as_bytes()).get("defaultEnvironment", {})
    locations = ground.dataflow()
    undo.callback(cancel, locations, ground.name)
    job_id = _launch(locations, {"launchParameter": launch})["job"]["id"]
    deadline = time.monotonic() + LAUNCHED_SECONDS
    while True:
        job = locations.jobs().get(**_location(), jobId=job_id, view="JOB_VIEW_ALL").execute()
        account = job.get("environment", {}).get("serviceAccountEmail")
        if account or job["currentState"] in ENDED or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    told = (
        f"the job's account is {account or 'not told'}, the template's {defaults.get('serviceAccountEmail')}"
    )
    if not account or account != defaults.get("serviceAccountEmail"):
        raise Otherwise(told)
    return told


def counters(ground: Ground, undo: ExitStack) -> str:
    """Look whether Cloud Monitoring has the stream's counters under the names that the alerts ask for."""
    series = ground.google("monitoring", "v3", settings().monitoring_endpoint).projects().timeSeries()
    now = dt.datetime.now(dt.UTC)
    found = {}
    for name in COUNTERS:
        answer = series.list(
            name=f"projects/{settings().project}",
            filter='metric.type = "dataflow.googleapis.com/job/user_counter" '
            f'AND metric.labels.metric_name = "{name}" AND resource.labels.job_name = "{STREAM_JOB}"',
            interval_startTime=(now - dt.timedelta(days=1)).isoformat(),
            interval_endTime=now.isoformat(),
            view="HEADERS",
        ).execute()
        found[name] = len(answer.get("timeSeries", []))
    if not any(found.values()):
        raise Open("no counter of the last day: start the stream, publish some events, and ask again")
    told = ", ".join(f"{name}: {count} series" for name, count in found.items())
    if not all(found.values()):
        raise Otherwise(told)
    return told


def composer_image(ground: Ground, undo: ExitStack) -> str:
    """Look whether the region offers the image that infra/composer.tf names."""
    text = (ROOT / "infra" / "composer.tf").read_text(encoding="utf-8")
    wanted = re.search(r'composer_image += "([^"]+)"', text)
    if not wanted:
        raise Otherwise("infra/composer.tf names no image")
    versions = ground.google("composer", "v1").projects().locations().imageVersions()
    parent = f"projects/{settings().project}/locations/{settings().region}"
    offered: list[str] = []
    request = versions.list(parent=parent)
    while request is not None:
        answer = request.execute()
        offered += [version["imageVersionId"] for version in answer.get("imageVersions", [])]
        request = versions.list_next(request, answer)
    builds = [name for name in offered if name == wanted[1] or name.startswith(f"{wanted[1]}-")]
    if not builds:
        raise Otherwise(
            f"{len(offered)} images, none of {wanted[1]}; the newest is {max(offered, default='none')}"
        )
    return ", ".join(sorted(builds))


def quotas(ground: Ground, undo: ExitStack) -> str:
    """Look whether the region's quota of CPUs is enough for the load's and the stream's most workers at
    once."""
    target = read_target(ground.environment, settings().project)
    needed: dict[str, int] = {}
    # One load more than run at a time, of those launched anew.
    for role, times in (("batch", settings().max_loads + 1), ("stream", 1)):
        machine = str(target.sizes[f"{role}_machine_type"])
        family, _, cpus = machine.split("-")
        quota = f"{family.upper()}_CPUS"
        workers = int(target.sizes[f"{role}_max_workers"])
        needed[quota] = needed.get(quota, 0) + times * workers * int(cpus)
    region = (
        ground.google("compute", "v1").regions().get(project=settings().project, region=settings().region)
    )
    limits = {quota["metric"]: quota["limit"] for quota in region.execute()["quotas"]}
    told = ", ".join(f"{name}: {limits.get(name, 0):.0f} of {count} needed" for name, count in needed.items())
    if any(limits.get(name, 0) < count for name, count in needed.items()):
        raise Otherwise(told)
    return told


def dashboard_door(ground: Ground, undo: ExitStack) -> str:
    """Open the dashboard of Cloud Run as nobody."""
    services = ground.google("run", "v2").projects().locations().services()
    name = f"projects/{settings().project}/locations/{settings().region}/services/shopstream-dashboard"
    try:
        address = services.get(name=name).execute()["uri"]
    except HttpError as error:
        if error.resp.status == 404:
            raise Open("there is no dashboard in Cloud Run (TF_VAR_dashboard_image)") from error
        raise
    answer = requests.get(address, allow_redirects=False, timeout=REQUEST_SECONDS)
    told = f"{answer.status_code} {answer.headers.get('Location', '')[:60]}"
    if answer.status_code != 302 or "accounts.google.com" not in answer.headers.get("Location", ""):
        raise Otherwise(told)
    return told


def lineage(ground: Ground, undo: ExitStack) -> str:
    """Look whether the lineage of a summary names the task that builds it, beside BigQuery's own jobs."""
    parent = f"projects/{settings().project}/locations/{settings().region}"
    entity = {"fullyQualifiedName": f"bigquery:{settings().project}.{SUMMARY}"}
    locations = ground.google("datalineage", "v1").projects().locations()
    try:
        found = locations.searchLinks(parent=parent, body={"target": entity, "pageSize": 100}).execute()
    except HttpError as error:
        if b"SERVICE_DISABLED" in error.content:
            raise Open("the project's Data Lineage API is off") from error
        raise
    links = [link["name"] for link in found.get("links", [])]
    if not links:
        raise Open(f"nothing has fed {SUMMARY} since the API is on: load a day, and ask again")
    answer = locations.batchSearchLinkProcesses(parent=parent, body={"links": links, "pageSize": 100})
    fed_by = [
        locations.processes().get(name=process["process"]).execute()
        for process in answer.execute()["processLinks"]
    ]
    sources = {process.get("origin", {}).get("sourceType", "not told") for process in fed_by}
    told = f"{SUMMARY} is fed by {len(fed_by)} processes of {', '.join(sorted(sources))}"
    if "COMPOSER" not in sources:
        raise Otherwise(told)
    return told


def _validate(ground: Ground, undo: ExitStack, launch: dict[str, Any]) -> str:
    launch |= {"jobName": ground.name}
    locations = ground.dataflow()
    undo.callback(cancel, locations, ground.name)
    _launch(locations, {"launchParameter": launch, "validateOnly": True})
    if jobs := is_active(locations, ground.name):
        raise Otherwise(f"a job was launched, {jobs[0]}, though only a check was asked for; it is cancelled")
    return "accepted"


def _launch(locations: Any, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = locations.flexTemplates().launch(**_location(), body=body).execute()
    except HttpError as error:
        raise Otherwise(f"{error.resp.status}: {error.reason}") from error
    return answer


def is_active(locations: Any, name: str) -> list[str]:
    answer = locations.jobs().list(**_location(), filter="ACTIVE", name=name).execute()
    return [job["id"] for job in answer.get("jobs", []) if job["name"] == name]


def cancel(locations: Any, name: str) -> None:
    for job_id in is_active(locations, name):
        body = {"requestedState": "JOB_STATE_CANCELLED"}
        locations.jobs().update(**_location(), jobId=job_id, body=body).execute()


def _location() -> dict[str, str]:
    return {"projectId": settings().project, "location": settings().region}


PROBES = (
    Probe(
        "data-boost",
        "May who counts a load read Spanner in parts by Data Boost, at low priority?",
        "accepted",
        0.01,
        data_boost,
        needs=("SPANNER_EMULATOR_HOST",),
    ),
    Probe("launch-load", "Does Dataflow take the launch of a load?", "accepted", 0.00, launch_load),
    Probe("launch-stream", "Does Dataflow take the launch of the stream?", "accepted", 0.00, launch_stream),
    Probe(
        "template-defaults",
        "Does a launch take from the template's defaults what it does not name itself?",
        "the template's account",
        0.20,
        template_defaults,
        needs=(DATAFLOW,),
    ),
    Probe(
        "counters",
        "Does Cloud Monitoring name the stream's counters as two alerts ask for them?",
        "a series of each",
        0.00,
        counters,
        needs=(MONITORING,),
    ),
    Probe(
        "composer-image",
        "Is Composer's image offered in the region?",
        "a build of it",
        0.00,
        composer_image,
        needs=(AIRFLOW_VARIABLE,),
    ),
    Probe(
        "quotas",
        "Has the project CPUs enough for all Dataflow workers at once?",
        "as many as needed",
        0.00,
        quotas,
        needs=(DATAFLOW,),
    ),
    Probe(
        "dashboard-door",
        "Does Identity-Aware Proxy stand before the dashboard in Cloud Run?",
        "302 to Google's login",
        0.00,
        dashboard_door,
        needs=(AIRFLOW_VARIABLE,),
    ),
    Probe(
        "lineage",
        "Does the lineage of a summary name the task that builds it, beside BigQuery's own jobs?",
        "a process of COMPOSER",
        0.00,
        lineage,
        needs=(AIRFLOW_VARIABLE,),
    ),
)
