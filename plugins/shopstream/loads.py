"""The steps of a load after its Dataflow job has ended: each is the body of a task of load_events_daily.

`load` is what LaunchLoadEvents returns: landing_day, load_id, job_id, manifest. Every step may be repeated.
"""

# google.cloud.bigquery takes seconds to import, which parsing a DAG file should not: so the steps import it.
from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from shopstream import reconcile
from shopstream.assets import EVENTS_PUBLISHED
from shopstream.clients import bigquery_client, spanner_database, storage_client
from shopstream.settings import settings

if TYPE_CHECKING:
    from google.cloud.storage import Client

Load = dict[str, str]


def gate(load: Load) -> None:
    """Keep the rejected lines in BigQuery; refuse a load that lost lines or rejected too many.

    Raises:
        LoadRefused: a newer load of the day has begun, its counters do not add up, or its share of rejected
            lines is above the threshold.
    """
    from shopstream import bigquery

    storage = storage_client()
    manifest = _newest(storage, load)
    reconcile.check_counters(manifest)
    bigquery.load_rejected(bigquery_client(), manifest)
    reconcile.check_rejected_share(storage, manifest, settings().max_rejected_share)


def reconcile_stores(load: Load) -> dict[str, Any]:
    """Stage the accepted rows in BigQuery, delete the day's stale rows in Spanner, and count in both.

    Returns:
        {"staging": table name, "staged_rows": the distinct events in it}

    Raises:
        LoadRefused: a newer load of the day has begun, or a store does not hold each distinct event once.
    """
    from shopstream import bigquery

    manifest = _newest(storage_client(), load)
    client, database = bigquery_client(), spanner_database()
    staging = bigquery.stage_load(client, manifest)
    staged = bigquery.count_staged_distinct(client, staging)
    counts = reconcile.count_in_spanner(database, manifest)
    # What earlier loads left goes only when all of this load has come.
    reconcile.check_stores(manifest, counts.get(load["load_id"], 0), staged)
    if counts.keys() - {load["load_id"]}:
        reconcile.delete_stale_rows(database, manifest)
        counts = reconcile.count_in_spanner(database, manifest)
    reconcile.check_stores(manifest, sum(counts.values()), staged)
    return {"staging": staging, "staged_rows": staged}


def publish(load: Load, reconciled: dict[str, Any]) -> dict[str, Any]:
    """Count the landing day in Spanner again, replace it in events_batch, and count what is there now.

    Returns:
        {"event_dates": the dates whose events may have changed, "spanner_rows": int, "bigquery_rows": int}

    Raises:
        LoadRefused: a newer load of the day has begun, or a store does not hold each distinct event once.
    """
    from shopstream import bigquery

    manifest = _newest(storage_client(), load)
    # Since `reconcile` another load may have begun, and died.
    spanner_rows = sum(reconcile.count_in_spanner(spanner_database(), manifest).values())
    reconcile.check_stores(manifest, spanner_rows, reconciled["staged_rows"])
    client = bigquery_client()
    event_dates = bigquery.publish_day(client, manifest, reconciled["staging"])
    bigquery_rows = bigquery.count_published(client, date.fromisoformat(load["landing_day"]))
    reconcile.check_stores(manifest, spanner_rows, bigquery_rows)
    return {"event_dates": event_dates, "spanner_rows": spanner_rows, "bigquery_rows": bigquery_rows}


def write_audit_row(
    load: Load, reconciled: dict[str, Any], published: dict[str, Any], **context: Any
) -> None:
    """Write the row of shop_ops.loads, and tell by the asset EVENTS_PUBLISHED which days have changed."""
    from shopstream import bigquery

    manifest = reconcile.read_manifest(storage_client(), load["manifest"])
    client = bigquery_client()
    counters = ("landing_day", "load_id", "read", "accepted", "rejected", "duplicates", "late")
    row = {name: manifest[name] for name in counters} | {
        "job_id": load["job_id"],
        **{name: published[name] for name in ("spanner_rows", "bigquery_rows", "event_dates")},
    }
    bigquery.write_audit_row(client, row)
    bigquery.drop_staging(client, reconciled["staging"])
    # The landing day too, which may have become empty.
    days = sorted({load["landing_day"], *published["event_dates"]})
    context["outlet_events"][EVENTS_PUBLISHED].extra = {"days": days}


def _newest(storage: Client, load: Load) -> dict[str, Any]:
    """Return the load's manifest, once it is sure that no newer load of the day has begun.

    Whatever changes a store asks this first: each task may be cleared long after another load of the day.
    """
    from shopstream.dataflow import DataflowHook

    manifest = reconcile.read_manifest(storage, load["manifest"])
    active = DataflowHook().active_jobs(f"load-events-{load['landing_day']}")
    reconcile.check_newest(storage, load["manifest"], active)
    return manifest
