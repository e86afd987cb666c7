"""Publish a load in BigQuery: stage its files, replace its landing day, keep its rejects, write its row.

Each function may be repeated at any time: each replaces what it wrote before.
"""

# ruff: noqa: S608
# Only names from our own code, and load ids of the one known form, become part of a statement.

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from beam_jobs.contract import first_event_day
from beam_jobs.manifest import Manifest
from shopstream.gcp.bigquery import (
    REQUEST_RETRY,
    REQUEST_TIMEOUT_SECONDS,
    get_table,
    load_files,
    run,
)
from shopstream.load.held import HELD, LANDED, Held, window
from shopstream.retries import Refused
from shopstream.settings import LABELS
from shopstream.tables.day import replace_row, replace_statement
from shopstream.tables.limits import limit_of, limit_of_tables, most_events
from shopstream.tables.names import EVENTS_BATCH, LOADS, REJECTED_EVENTS_BATCH

if TYPE_CHECKING:
    from shopstream.questions import Approval

STAGING_EXPIRATION_DAYS = 2
MAX_JOB_URIS = 10_000
"""BigQuery's limit for one load job."""
_LOAD_ID = re.compile(r"\d{8}-[0-9a-z]{8,24}")


@dataclass(frozen=True, slots=True)
class Staged:
    """A load's accepted rows in a staging table, and the distinct events among them."""

    table: str
    events: Held


@dataclass(frozen=True, slots=True)
class Published:
    """The event dates whose rows may have changed, and the landing day's rows in each store."""

    event_dates: tuple[dt.date, ...]
    spanner_rows: int
    bigquery_rows: int


_OVERTAKEN = "another load has published the day"
COUNT_PUBLISHED = f"SELECT load_id, {HELD} FROM {EVENTS_BATCH} WHERE {LANDED} GROUP BY load_id"
OTHER_ROW = f"SELECT 1 FROM {EVENTS_BATCH} WHERE {LANDED} AND load_id != @load_id"
_NEWER_ROW = f"SELECT 1 FROM {EVENTS_BATCH} WHERE {LANDED} AND load_id > @load_id"
_NEWER_REJECT = (
    f"SELECT 1 FROM {REJECTED_EVENTS_BATCH} WHERE rejected_date = @landing_day AND load_id > @load_id"
)
_NEWER_AUDIT = f"SELECT 1 FROM {LOADS} WHERE landing_day = @landing_day AND load_id > @load_id"


class PublishError(Refused):
    """A load may not be published: its rows are of another landing day, or another load has come before."""


def stage_load(client: bigquery.Client, manifest: Manifest) -> Staged:
    """Load the accepted Parquet files of a load into its own staging table, and count its distinct events.

    The staging table has the columns of events_batch, is made anew each time, and expires by itself after
    STAGING_EXPIRATION_DAYS. A load without accepted rows gets an empty one.
    """
    table = _stage(
        client,
        EVENTS_BATCH,
        manifest.load_id,
        manifest.accepted_files,
        source_format=bigquery.SourceFormat.PARQUET,
    )
    return Staged(table, _count_staged(client, table, manifest.accepted))


def count_staged_sql(staging: str) -> str:
    """The query that counts the distinct events of a staging table."""
    return f"SELECT {HELD} FROM (SELECT DISTINCT event_id FROM {staging})"


def publish_day(client: bigquery.Client, manifest: Manifest, staged: Staged) -> tuple[dt.date, ...]:
    """Replace the landing day's rows of events_batch by the staged ones, each event once, in one statement.

    The statement itself looks whether a newer load of the day has come before it, and then fails.

    Returns:
        The event dates, sorted, whose rows may have changed: those of the staged rows, of the
        rows that were replaced, and of earlier audited loads of this landing day, so that a publication
        repeated after a crash still names the dates that the one before it emptied.

    Raises:
        PublishError: staged rows are of another landing day, or of a date that this landing day may not hold,
            or not those that were counted when they were staged, or a newer load has published the day.
    """
    landing_day, staging = manifest.landing_day, staged.table
    params = window(landing_day) | {"load_id": manifest.load_id}
    events = _most_events(client, landing_day, manifest.accepted)

    def ask(statement: str, sql: str, **more: Any) -> bigquery.QueryJob:
        limit = limit_of(statement, events)
        prefix = f"publish-{manifest.load_id}"
        return run(client, sql, params, job_id_prefix=prefix, maximum_bytes_billed=limit, **more)

    if found := list(ask("look for foreign rows", foreign_sql(staging)).result()):
        rows = "; ".join(
            f"{row.found_rows} rows of {row.event_date} landed {row.landing_day}" for row in found
        )
        raise PublishError(
            f"{staging} may hold only events of {params['first_day']} to {landing_day}, "
            f"landed on {landing_day}; it has {rows}. Nothing was published; load the day again."
        )
    # Before the day is replaced: readers must not see what was not compared with Spanner.
    if (held := _count_staged(client, staging, manifest.accepted)) != staged.events:
        raise PublishError(
            f"{staging} holds {held.events:,} events, and not the {staged.events.events:,} that reconcile "
            "has compared with Spanner. Nothing was published; clear the run from launch_load on, or load "
            "the day again."
        )
    dates = ask("find the days touched", touched_sql(staging)).result()
    event_dates = tuple(sorted(row.event_date for row in dates))
    columns = [field.name for field in get_table(client, EVENTS_BATCH).schema]
    with _refusing_overtaken(manifest):
        ask("replace the landing day", publish_sql(staging, columns), once=True)
    return event_dates


def foreign_sql(staging: str) -> str:
    """The query that finds staged rows which a landing day may not hold."""
    return f"""
        SELECT landing_day, event_date, COUNT(*) AS found_rows
        FROM {staging}
        WHERE
            landing_day IS DISTINCT FROM @landing_day
            OR event_date IS NULL
            OR event_date NOT BETWEEN @first_day AND @landing_day
        GROUP BY landing_day, event_date"""


def touched_sql(staging: str) -> str:
    """The query of the dates whose rows a publication may change."""
    return f"""
        SELECT DISTINCT event_date FROM {staging}
        UNION DISTINCT
        SELECT DISTINCT event_date
        FROM {EVENTS_BATCH}
        WHERE {LANDED}
        UNION DISTINCT
        SELECT event_date
        FROM {LOADS}, UNNEST(event_dates) AS event_date
        WHERE landing_day = @landing_day"""


def publish_sql(staging: str, columns: Sequence[str]) -> str:
    """The statement that replaces the landing day's rows of events_batch by the staged ones."""
    distinct = f"""
        SELECT {", ".join(columns)}
        FROM {staging}
        WHERE {_unless(_NEWER_ROW, _NEWER_AUDIT)}
        QUALIFY ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY event_time) = 1"""
    old = (
        "target.landing_day = @landing_day AND target.event_date BETWEEN @first_day AND @landing_day "
        "AND target.load_id <= @load_id"
    )
    return replace_statement(EVENTS_BATCH, columns, distinct, old)


def count_published(client: bigquery.Client, landing_day: dt.date, events: int = 0) -> dict[str, Held]:
    """Count the rows of events_batch landed on this day, by load_id; `events` were published just now."""
    params = window(landing_day)
    job = run(
        client,
        COUNT_PUBLISHED,
        params,
        job_id_prefix="count-published",
        maximum_bytes_billed=limit_of("count the published", _most_events(client, landing_day, events)),
    )
    return {load_id: Held(*held) for load_id, *held in job.result()}


def drop_staging(client: bigquery.Client, staging: str) -> None:
    """Drop a staging table, if it is still there."""
    client.delete_table(staging, not_found_ok=True, retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)


def load_rejected(client: bigquery.Client, manifest: Manifest) -> None:
    """Replace the landing day's rows of rejected_events_batch by those of this load.

    Raises:
        PublishError: a newer load has kept its own, or has published the day.
    """
    staging = _stage(
        client,
        REJECTED_EVENTS_BATCH,
        manifest.load_id,
        manifest.rejected_files,
        source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
    )
    kept = get_table(client, REJECTED_EVENTS_BATCH)
    fields = kept.schema
    decoded = ", ".join(
        f"FROM_BASE64({field.name}) AS {field.name}" if field.field_type == "BYTES" else field.name
        for field in fields
    )
    statement = replace_statement(
        REJECTED_EVENTS_BATCH,
        [field.name for field in fields],
        # Each line once, whatever two runs of this task at once have staged.
        f"SELECT {decoded} FROM {staging} WHERE {_unless(_NEWER_REJECT, _NEWER_AUDIT)} "
        "QUALIFY ROW_NUMBER() OVER (PARTITION BY file, byte_offset ORDER BY rejected_at) = 1",
        "target.rejected_date = @landing_day AND target.load_id <= @load_id",
    )
    with _refusing_overtaken(manifest):
        run(
            client,
            statement,
            {"landing_day": manifest.landing_day, "load_id": manifest.load_id},
            job_id_prefix=f"rejected-{manifest.load_id}",
            maximum_bytes_billed=limit_of_tables(get_table(client, staging), kept),
            once=True,
        )
    drop_staging(client, staging)


def count_rejected(client: bigquery.Client, landing_day: dt.date) -> dict[str, int]:
    """Count the lines of this landing day in rejected_events_batch, by load_id."""
    sql = f"""
        SELECT load_id, SUM(COALESCE(lines, 1)) AS found
        FROM {REJECTED_EVENTS_BATCH}
        WHERE rejected_date = @landing_day
        GROUP BY load_id"""
    params = {"landing_day": landing_day}
    limit = limit_of_tables(get_table(client, REJECTED_EVENTS_BATCH))
    job = run(client, sql, params, job_id_prefix="count-rejected", maximum_bytes_billed=limit)
    return {row.load_id: row.found for row in job.result()}


def write_audit_row(
    client: bigquery.Client,
    manifest: Manifest,
    job_id: str,
    published: Published,
    approval: Approval | None = None,
) -> None:
    """Write the row of shop_ops.loads of a published load, or replace the one of the same day and load id.

    The statement itself looks whether another load has replaced the day since, and then fails.

    Raises:
        PublishError: one has.
    """
    row = {
        "landing_day": manifest.landing_day,
        "load_id": manifest.load_id,
        "job_id": job_id,
        "read": manifest.read,
        "accepted": manifest.accepted,
        "rejected": manifest.rejected,
        "duplicates": manifest.duplicates,
        "late": manifest.late,
        "spanner_rows": published.spanner_rows,
        "bigquery_rows": published.bigquery_rows,
        "event_dates": list(published.event_dates),
        "loaded_at": dt.datetime.now(dt.UTC),
        "approved_by": approval and approval.approved_by,
        "approval_reason": approval and approval.reason,
    }
    keys = ("landing_day", "load_id")
    events = _most_events(client, manifest.landing_day, manifest.accepted)
    with _refusing_overtaken(manifest):
        replace_row(
            client,
            LOADS,
            row,
            keys,
            job_id_prefix=f"audit-{manifest.load_id}",
            maximum_bytes_billed=limit_of("write the audit row", events),
            where=_unless(OTHER_ROW, _NEWER_AUDIT),
            params={"first_day": first_event_day(manifest.landing_day)},
            once=True,
        )


def _count_staged(client: bigquery.Client, table: str, accepted: int) -> Held:
    job = run(
        client,
        count_staged_sql(table),
        {},
        job_id_prefix="count-staged",
        maximum_bytes_billed=limit_of("count the staged", accepted),
    )
    [row] = job.result()
    return Held(*row)


def _unless(*queries: str) -> str:
    """Return a condition that fails its whole statement if one of the queries finds a row, and holds else."""
    found = " OR ".join(f"EXISTS ({query})" for query in queries)
    return f"IF({found}, ERROR('{_OVERTAKEN}'), TRUE)"


@contextmanager
def _refusing_overtaken(manifest: Manifest) -> Iterator[None]:
    """Tell in words that the condition of `_unless` has failed a statement."""
    try:
        yield
    except GoogleAPICallError as error:
        if _OVERTAKEN not in str(error):
            raise
        raise PublishError(
            f"landing day {manifest.landing_day}, load {manifest.load_id}: another load has published the "
            "day meanwhile. This one changes nothing any more; that one goes on by itself."
        ) from error


def _most_events(client: bigquery.Client, landing_day: dt.date, accepted: int) -> int:
    """Return the most events that a statement finds on a day: those of a load, or of a day before it."""
    return max(accepted, most_events(client, first_event_day(landing_day), landing_day, kept_seconds=0))


def _stage(
    client: bigquery.Client,
    target: str,
    load_id: str,
    files: Sequence[str],
    *,
    source_format: str,
) -> str:
    if not _LOAD_ID.fullmatch(load_id):
        raise ValueError(f"load id {load_id!r} is not of the form YYYYMMDD-<8 to 24 letters and digits>")
    # Files never promise that a column has no gaps, so nothing is REQUIRED here; the MERGE into the target
    # refuses a missing value. Bytes come as base64 text.
    schema = [
        bigquery.SchemaField(
            field.name, "STRING" if field.field_type == "BYTES" else field.field_type, "NULLABLE"
        )
        for field in get_table(client, target).schema
    ]
    staging = f"{target}_staging_{load_id.replace('-', '_')}"
    drop_staging(client, staging)
    table = bigquery.Table(f"{client.project}.{staging}", schema=schema)
    table.labels = LABELS
    table.expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=STAGING_EXPIRATION_DAYS)
    # It was dropped just now. It is there if the answer to the first request was lost.
    table = client.create_table(table, exists_ok=True, retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)
    # Nobody reads the table before all jobs have ended.
    for start in range(0, len(files), MAX_JOB_URIS):
        load_files(
            client,
            files[start : start + MAX_JOB_URIS],
            table.reference,
            bigquery.LoadJobConfig(
                schema=schema,
                source_format=source_format,
                write_disposition=bigquery.WriteDisposition.WRITE_APPEND
                if start
                else bigquery.WriteDisposition.WRITE_EMPTY,
                labels=LABELS,
            ),
            job_id_prefix=f"stage-{load_id}",
        )
    return staging
