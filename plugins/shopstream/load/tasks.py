"""The tasks of load_events_daily (launch the load, wait for it, make known what came of it) and watch_days.

A load crosses the tasks as texts (Load.to_xcom). Every step may be repeated.
"""

# google.cloud.bigquery takes seconds to import, which parsing a DAG file should not: so the steps import it.
from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shopstream import layout
from shopstream.assets import EVENTS_PUBLISHED
from shopstream.days import landing_day
from shopstream.gcp.clients import bigquery_client, spanner_database, storage_client
from shopstream.load import checks
from shopstream.load.gate import Gate
from shopstream.load.held import Held
from shopstream.load.landed import (
    describe_missing,
    describe_strangers,
    landed_objects,
    missing_days,
    newest_landings,
)
from shopstream.load.launch import LaunchLoadEvents, Load, WaitForLoad, launched_at, newest_manifest
from shopstream.questions import Approval
from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.tables.expiration import refuse_expired

__all__ = [
    "Gate",
    "LaunchLoadEvents",
    "WaitForLoad",
    "has_landed",
    "name_missing_days",
    "publish",
    "reconcile_stores",
    "write_audit_row",
]

WATCHED_DAYS = 21

log = logging.getLogger(__name__)


def has_landed(**context: Any) -> bool:
    """Tell whether the run's landing day is landed whole, so that it can be loaded.

    A run by hand, or that another DAG has triggered, waits only if its parameter `wait` says so.

    Raises:
        Refused: it is not, and the run does not wait; the message says what is in the folder and
            how to land the day. Or its events would expire at once.
    """
    day = landing_day(context)
    refuse_expired(day, datetime.now(UTC).date(), settings().events_keep_days)
    found = landed_objects(storage_client(), settings().bucket, day)
    if layout.SUCCESS in found:
        log.info("Landing day %s is landed whole; objects in its folder: %d.", day, len(found))
        return True
    missing = describe_missing(settings().bucket, day, found)
    is_asked_for = context["dag_run"].run_type in ("manual", "operator_triggered")
    if is_asked_for and not context["params"]["wait"]:
        raise Refused(f"{missing} Then trigger the load again; with wait it waits for that.")
    log.info("%s", missing)
    return False


def reconcile_stores(load: dict[str, str]) -> dict[str, Any]:
    """Stage the accepted rows in BigQuery, and count what both stores hold of the load.

    Returns:
        {"table": the staging table, "events": the distinct events in it, "checksum": theirs,
        "stale": the older loads of which Spanner holds rows of the landing day}

    Raises:
        LoadRefused: a newer load of the day has begun, or a store does not hold each distinct event once.
    """
    from shopstream.load.in_spanner import count_loads
    from shopstream.load.publish import stage_load

    manifest = newest_manifest(storage_client(), Load.from_xcom(load))
    staged = stage_load(bigquery_client(), manifest)
    counts = count_loads(spanner_database(), manifest)
    checks.check_stores(manifest, counts.get(manifest.load_id, Held.nothing()), staged.events)
    log.info(
        "Landing day %s: Spanner and the staging table hold the same %s events of the load; readers see them "
        "once it is published.",
        *(manifest.landing_day, f"{staged.events.events:,}"),
    )
    stale = sorted(load_id for load_id in counts if load_id < manifest.load_id)
    return {"table": staged.table, **staged.events._asdict(), "stale": stale}


def publish(load: dict[str, str], staged: dict[str, Any]) -> dict[str, Any]:
    """Replace the landing day in events_batch, count what is there, and let Spanner's readers see the load.

    Then delete Spanner's rows of the older loads that `reconcile_stores` found, which nobody sees any more.

    Returns:
        {"event_dates": the dates whose events may have changed, "spanner_rows": int, "bigquery_rows": int}

    Raises:
        LoadRefused: a newer load of the day has begun, or BigQuery does not hold each distinct event once.
        PublishError: the staged rows are not those that `reconcile_stores` has compared with Spanner, or may
            not be published.
    """
    from shopstream.load.in_spanner import delete_loads, publish_load
    from shopstream.load.publish import Staged, count_published, publish_day
    from shopstream.tables.published import published_days

    manifest = newest_manifest(storage_client(), Load.from_xcom(load))
    # Nobody but this load wrote rows of its id, and none deletes them before a newer one is published.
    in_spanner = Held(staged["events"], staged["checksum"])
    client, day = bigquery_client(), manifest.landing_day
    before = published_days(client).get(day)
    event_dates = publish_day(client, manifest, Staged(staged["table"], in_spanner))
    in_bigquery = checks.of_this_load(
        manifest, count_published(client, manifest.landing_day, manifest.accepted)
    )
    checks.check_stores(manifest, in_spanner, in_bigquery)
    database = spanner_database()
    publish_load(database, manifest)
    delete_loads(database, manifest, staged["stale"])
    log.info(
        "Landing day %s is published %s: %s events in both stores; events of %s may have changed. "
        "Older loads whose rows Spanner no longer holds: %s.",
        day,
        f"anew, in place of the load of {before.loaded_at:%Y-%m-%d %H:%M} UTC"
        if before
        else "for the first time",
        *(f"{in_bigquery.events:,}", ", ".join(map(str, event_dates)) or "no day"),
        ", ".join(staged["stale"]) or "none",
    )
    return {
        "event_dates": [day.isoformat() for day in event_dates],
        "spanner_rows": in_spanner.events,
        "bigquery_rows": in_bigquery.events,
    }


def write_audit_row(
    load: dict[str, str],
    approval: dict[str, str],
    staged: dict[str, Any],
    published: dict[str, Any],
    **context: Any,
) -> None:
    """Write the row of shop_ops.loads, and tell by the asset EVENTS_PUBLISHED which days have changed."""
    from shopstream.load.publish import Published, drop_staging
    from shopstream.load.publish import write_audit_row as write

    done = Load.from_xcom(load)
    manifest = checks.read_manifest(storage_client(), done.manifest)
    event_dates = tuple(map(date.fromisoformat, published["event_dates"]))
    client = bigquery_client()
    write(
        client,
        manifest,
        done.job_id,
        Published(event_dates, published["spanner_rows"], published["bigquery_rows"]),
        Approval(**approval) if approval else None,
    )
    drop_staging(client, staged["table"])
    # The landing day too, which may have become empty.
    days = sorted({done.landing_day, *event_dates})
    context["outlet_events"][EVENTS_PUBLISHED].extra = {"days": [day.isoformat() for day in days]}
    log.info(
        "The load of %s is complete: %s lines read, %s accepted (%s double, %s late), %s rejected.",
        done.landing_day,
        *(
            f"{count:,}"
            for count in (
                manifest.read, manifest.accepted, manifest.duplicates, manifest.late, manifest.rejected
            )
        ),
    )  # fmt: skip


def name_missing_days() -> None:
    """Look at the landing days of the last weeks; name those that are not loaded as they are landed.

    Raises:
        Refused: there are some, or something lies beside the days; the message names each and says what to
            do.
    """
    from shopstream.tables.published import published_days

    now = datetime.now(UTC)
    first, last = now.date() - timedelta(days=WATCHED_DAYS), now.date() - timedelta(days=1)
    client, bucket = storage_client(), settings().bucket
    landings = newest_landings(client, bucket, first, last)
    loads = {
        day: launched_at(load)
        for day, load in published_days(bigquery_client()).items()
        if first <= day <= last
    }
    findings = missing_days(first, last, landings, loads, now) + describe_strangers(client, bucket)
    if findings:
        raise Refused("\n".join(findings))
    log.info("Every day from %s to %s that is due is loaded as it was landed.", first, last)
