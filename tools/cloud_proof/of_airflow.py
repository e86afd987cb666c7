"""Probes of Airflow: who is let in, what its plugin reaches, whether a failure calls, and a day from end to
end."""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import google.auth
import requests
from google.auth import impersonated_credentials
from google.auth.transport.requests import Request
from google.cloud import bigquery
from google.cloud.spanner_v1 import KeySet, param_types

from infra.deploy import read_target
from local.events.files import write_landing_day
from local.hand import shop
from local.stack.airflow_client import WAIT_SECONDS, AirflowClient
from shopstream import layout
from shopstream.alerts import ALERT_PREFIX
from shopstream.dashboard.in_airflow import PREFIX
from shopstream.gcp.bigquery import SMALL_MAX_BYTES, run
from shopstream.load.launch import job_name
from shopstream.report.tasks import last_day_shown
from shopstream.settings import settings
from shopstream.tables.folder import all_tables
from shopstream.tables.names import EVENTS_STREAM, REJECTED_EVENTS_STREAM, STREAM_CHECKS
from tools.cloud_proof.ground import AIRFLOW_VARIABLE, REQUEST_SECONDS, Ground
from tools.cloud_proof.of_google import cancel, is_active
from tools.cloud_proof.probe import Open, Otherwise, Probe

DAY = dt.date(2001, 1, 2)
"""A landing day of long ago, which no shop has, and from which no summary reaches to a day of the shop."""
NOT_LANDED = dt.date(2001, 1, 9)
EVENTS = 400
BAD_SHARE = 0.005
LOAD, BUILD = "load_events_daily", "build_summaries"
FOLLOWERS = (BUILD, "compare_stream_with_batch", "watch_figures")
"""The DAGs that a load or a build starts."""
STREAMED = {EVENTS_STREAM, REJECTED_EVENTS_STREAM, STREAM_CHECKS}
"""The tables that no load writes."""
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
LOGGED_SECONDS = 600
POLL_SECONDS = 5


def deployer(ground: Ground, undo: ExitStack) -> str:
    """Read Airflow's Variables as the deployer, which writes one with each deployment."""
    account = read_target(ground.environment, settings().project).service_account("deployer")
    source, _ = google.auth.default(scopes=[CLOUD])
    credentials = impersonated_credentials.Credentials(source, account, [CLOUD], lifetime=300)
    credentials.refresh(Request())
    answer = requests.get(
        f"{ground.airflow().url}/api/v2/variables",
        params={"limit": "1"},
        headers={"Authorization": f"Bearer {credentials.token}"},
        allow_redirects=False,
        timeout=REQUEST_SECONDS,
    )
    if answer.status_code != 200:
        raise Otherwise(f"{answer.status_code} {answer.text[:100]}")
    return "200: it may read and write Variables"


def web_server(ground: Ground, undo: ExitStack) -> str:
    """Ask the dashboard in Airflow for something of each store."""
    airflow = ground.airflow()
    told = []
    for store, path in (
        ("BigQuery", f"{PREFIX}/api/days"),
        ("Spanner", f"{PREFIX}/api/customer?user_id=1&last_day={DAY}"),
    ):
        answer = airflow.page(path)
        if answer.status_code != 200:
            raise Otherwise(f"{store}: {answer.status_code} {answer.text[:150]}")
        told.append(f"{store} {answer.elapsed.total_seconds():.1f} s")
    return ", ".join(told)


def alert(ground: Ground, undo: ExitStack) -> str:
    """Let a run fail, of a day that is not landed, and look for the line that the alert watches for."""
    airflow = ground.airflow()
    _refuse_paused(airflow, LOAD)
    began = dt.datetime.now(dt.UTC)
    run_id = airflow.trigger(LOAD, {"landing_day": str(NOT_LANDED)})
    undo.callback(airflow.delete_run, LOAD, run_id)
    airflow.wait({(LOAD, run_id): "a day that is not landed"}, ground.progress)
    entries = ground.google("logging", "v2").entries()
    body = {
        "resourceNames": [f"projects/{settings().project}"],
        "filter": 'resource.type="cloud_composer_environment" '
        f'AND "{ALERT_PREFIX} {settings().alert_id}" AND "{run_id}" AND timestamp>="{began.isoformat()}"',
    }
    deadline = time.monotonic() + LOGGED_SECONDS
    while not (found := entries.list(body=body).execute().get("entries", [])):
        if time.monotonic() > deadline:
            raise Otherwise(f"no line in Cloud Logging, {LOGGED_SECONDS} s after the run has failed")
        time.sleep(POLL_SECONDS)
    seconds = (dt.datetime.now(dt.UTC) - began).total_seconds()
    return f"{len(found)} line, {seconds:.0f} s after it was triggered; look whether a call came, too"


def day(ground: Ground, undo: ExitStack) -> str:
    """Land a small day of long ago, load it, build its summaries, and take all of it away again."""
    airflow, began = ground.airflow(), dt.datetime.now(dt.UTC)
    if settings().events_keep_days:
        raise Open(
            f"events are kept for {settings().events_keep_days} days, and the probe's day is of {DAY.year}"
        )
    _refuse_paused(airflow, LOAD, BUILD)
    prefix = f"{layout.landing(DAY)}/"
    if found := [blob.name for blob in ground.bucket.list_blobs(prefix=prefix)]:
        folder = f"gs://{ground.bucket.name}/{prefix}"
        raise Open(
            f"{folder} holds {found[0].removeprefix(prefix)}: the probe's day is somebody's. If an earlier "
            f"probe has left it, delete {folder} and run this one again: it takes the rest away too"
        )
    take_away(undo, ground, airflow, began)
    with tempfile.TemporaryDirectory() as folder:
        written = write_landing_day(Path(folder), DAY, EVENTS, bad_share=BAD_SHARE)
        file = Path(folder) / str(DAY) / "events.csv"
        shop.land_day(ground.bucket, file, DAY, shop.look(file))
    counts = shop.load(airflow, DAY, ground.progress, WAIT_SECONDS)
    airflow.run(BUILD, {"first_day": str(DAY), "last_day": str(DAY), "dry_run": False}, ground.progress)
    sql = "SELECT COALESCE(SUM(events), 0) FROM shop.daily_event_count WHERE event_date = @day"
    [[events]] = _ask(ground.bigquery, sql)
    told = (
        f"of {written['rows']} lines {counts['read']} read, {counts['rejected']} rejected; of "
        f"{written['distinct']} events {counts['spanner_rows']} in Spanner, {counts['bigquery_rows']} in "
        f"BigQuery, {events} summarised"
    )
    stored = {counts["spanner_rows"], counts["bigquery_rows"], events}
    if (counts["read"], counts["rejected"]) != (written["rows"], written["rejected"]) or stored != {
        written["distinct"]
    }:
        raise Otherwise(told)
    return told


def take_away(undo: ExitStack, ground: Ground, airflow: AirflowClient, since: dt.datetime) -> None:
    """Have `undo` take away whatever a load of the probe's day, whole or broken off, leaves; and its runs'
    effects.

    Each step is tried whatever became of the others. The last that is registered here comes first.
    """
    undo.callback(_delete_from_published_loads, ground)
    undo.callback(_delete_from_loaded_events, ground)
    undo.callback(_delete_staging_tables, ground)
    for table in all_tables(settings().sql_dir):
        if (column := table.metadata.partition_by) and table.full_name not in STREAMED:
            undo.callback(_delete_rows, ground, table.full_name, column)
    undo.callback(_delete_reports, ground)
    for prefix in (layout.LANDING, layout.ACCEPTED, layout.REJECTED, layout.LOADS):
        undo.callback(_delete_objects, ground, f"{prefix}{DAY}/")
    undo.callback(_wait_for_followers, ground, airflow, since)
    undo.callback(_cancel_load, ground)
    undo.callback(_delete_load_runs, airflow, since)


def _delete_load_runs(airflow: AirflowClient, since: dt.datetime) -> None:
    for run_id in airflow.runs(LOAD, since.isoformat()):
        if str(DAY) in run_id:
            airflow.delete_run(LOAD, run_id)


def _cancel_load(ground: Ground) -> None:
    locations = ground.dataflow()
    cancel(locations, job_name(DAY))
    while is_active(locations, job_name(DAY)):
        time.sleep(POLL_SECONDS)


def _wait_for_followers(ground: Ground, airflow: AirflowClient, since: dt.datetime) -> None:
    """Those that an asset has started may have days of others too, so they are not ended."""
    running = {
        (dag, run_id): dag
        for dag in FOLLOWERS
        if not airflow.is_paused(dag)
        for run_id in airflow.runs(dag, since.isoformat())
    }
    airflow.wait(running, ground.progress)


def _delete_objects(ground: Ground, prefix: str) -> None:
    for blob in ground.bucket.list_blobs(prefix=prefix):
        blob.delete()


def _delete_reports(ground: Ground) -> None:
    for blob in ground.bucket.list_blobs(prefix=layout.REPORTS):
        if last_day_shown(blob) == DAY:
            blob.delete()


def _delete_rows(ground: Ground, table: str, column: str) -> None:
    _ask(ground.bigquery, f"DELETE FROM {table} WHERE {column} = @day")  # noqa: S608 (our own names)


def _delete_staging_tables(ground: Ground) -> None:
    for listed in ground.bigquery.list_tables("shop_raw"):
        if f"_staging_{DAY:%Y%m%d}_" in listed.table_id:
            ground.bigquery.delete_table(listed, not_found_ok=True)


def _delete_from_loaded_events(ground: Ground) -> None:
    ground.spanner.execute_partitioned_dml(
        "DELETE FROM loaded_events WHERE event_date = @day AND landing_day = @day",
        params={"day": DAY},
        param_types={"day": param_types.DATE},
    )


def _delete_from_published_loads(ground: Ground) -> None:
    with ground.spanner.batch() as batch:
        batch.delete("published_loads", KeySet(keys=[[DAY.isoformat()]]))


def _refuse_paused(airflow: AirflowClient, *dags: str) -> None:
    if paused := [dag for dag in dags if airflow.is_paused(dag)]:
        raise Open(f"{', '.join(paused)} is paused: unpause it, and run this probe again")


def _ask(client: bigquery.Client, sql: str) -> list[tuple[object, ...]]:
    job = run(client, sql, {"day": DAY}, job_id_prefix="proof", maximum_bytes_billed=SMALL_MAX_BYTES)
    return [tuple(row.values()) for row in job.result()]


PROBES = (
    Probe(
        "deployer",
        "Does Composer's web server let the deployer in, as a user who may write Variables?",
        "200",
        0.00,
        deployer,
        needs=(AIRFLOW_VARIABLE,),
    ),
    Probe(
        "web-server",
        "Does Airflow's web server mount the dashboard, and reach both stores?",
        "200 of each",
        0.01,
        web_server,
    ),
    Probe(
        "alert",
        "Does a failed task leave the line in Cloud Logging that calls a person?",
        "1 line",
        0.01,
        alert,
        needs=(AIRFLOW_VARIABLE,),
    ),
    Probe(
        "day",
        "Does a day go from its landed file to both stores and the summaries, with the deployed accounts?",
        "each event once in each",
        1.00,
        day,
    ),
)
