"""What the DAGs ask of BigQuery: tables as described, loads published, summaries built and checked.

Each function takes the client of its caller (Airflow's `BigQueryHook().get_client(...)`) and may be repeated
at any time: each replaces what it wrote before. Names have no project: the client's project completes them,
but for those in views, which BigQuery wants complete.
"""

# ruff: noqa: S608
# Values travel as query parameters. Only names from our own code, and load ids of the one known form, become
# part of a statement.

from __future__ import annotations

import datetime as dt
import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound
from google.api_core.retry import Retry
from google.cloud import bigquery

from beam_jobs.contract import LATENESS_DAYS
from shopstream.settings import LABELS
from shopstream.tables import Check, Column, Table, checks_statement, merge_statement

EVENTS_BATCH = "shop_raw.events_batch"
REJECTED_EVENTS = "shop_raw.rejected_events"
EVENTS_STREAM = "shop_raw.events_stream"
LOADS = "shop_ops.loads"
STREAM_CHECKS = "shop_ops.stream_checks"

REQUEST_TIMEOUT_SECONDS = 60.0
"""How long one HTTP request may take, and how long one is repeated while BigQuery does not answer."""
JOB_TIMEOUT_SECONDS = 1800.0
JOB_RETRY_SECONDS = 300.0
STAGING_EXPIRATION_DAYS = 2
PUBLISH_MAX_BYTES = 100 * 2**30
"""For the statements of a load: the staged rows and the 8 partitions that a landing day may touch."""
STREAM_MAX_BYTES = 20 * 2**30
"""For the publish times of the stream: 8 bytes a row, of all its rows where past days are replayed."""
SMALL_MAX_BYTES = 2**30
OFFENDING_ROWS_SHOWN = 5

_REQUEST_RETRY = bigquery.DEFAULT_RETRY.with_timeout(REQUEST_TIMEOUT_SECONDS)
_TRANSIENT_REASONS = {
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "rateLimitExceeded",
}
_LEGACY_TYPE_NAMES = {"BOOLEAN": "BOOL", "FLOAT": "FLOAT64", "INTEGER": "INT64"}
_LOAD_ID = re.compile(r"\d{8}-[0-9a-f]{8}")

log = logging.getLogger(__name__)


class SchemaConflict(RuntimeError):
    """A table exists in another form than its folder describes, and cannot be changed in place."""


class PublishError(RuntimeError):
    """Staged rows do not belong to the landing day they would be published under."""


class CheckFailed(RuntimeError):
    """Checks of level fail found something; the message names each, its table, the day and what it found."""


def apply(client: bigquery.Client, table: Table) -> None:
    """Make the table or view, and its dataset, be as its folder describes.

    Creates what is missing, adds new columns (which must not be REQUIRED, for old rows lack them), and
    updates descriptions and labels. Rows are never touched.

    Raises:
        SchemaConflict: a change that cannot be made in place.
    """
    dataset = bigquery.Dataset(f"{client.project}.{table.dataset}")
    if client.location:  # else BigQuery's default
        dataset.location = client.location
    dataset.labels = LABELS
    client.create_dataset(dataset, exists_ok=True, retry=_REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)
    if table.view:
        sql = f"CREATE OR REPLACE VIEW {table.full_name} AS\n{_with_project(client, table)}"
        run(client, sql, {}, job_id_prefix="apply", maximum_bytes_billed=SMALL_MAX_BYTES)
    described = _described(client, table)
    try:
        existing = _get_table(client, table.full_name)
    except NotFound:
        client.create_table(described, exists_ok=True, retry=_REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)
        log.info("Created %s.", table.full_name)
        return
    if not table.view:
        _refuse_conflicts(table, existing)
    # The order of an existing table's columns cannot change; new ones come last.
    new_names = [name for name in table.column_names if name not in {field.name for field in existing.schema}]
    by_name = {field.name: field for field in described.schema}
    wanted = [by_name[name] for name in [*(field.name for field in existing.schema), *new_names]]
    if (wanted, described.description, described.labels) != (
        _with_standard_types(existing.schema),
        existing.description,
        existing.labels,
    ):
        existing.schema, existing.description, existing.labels = (
            wanted,
            described.description,
            described.labels,
        )
        client.update_table(
            existing,
            ["schema", "description", "labels"],
            retry=_REQUEST_RETRY,
            timeout=REQUEST_TIMEOUT_SECONDS,
        )
    if new_names:
        log.info("Added to %s: %s.", table.full_name, ", ".join(new_names))


def run(
    client: bigquery.Client,
    sql: str,
    params: Mapping[str, Any],
    *,
    job_id_prefix: str,
    maximum_bytes_billed: int,
) -> bigquery.QueryJob:
    """Run one statement, wait for its end, and return the finished job.

    `params` maps the statement's @names to a date, datetime, int, float, str, or a list of dates. BigQuery
    refuses to start a job that would bill more than `maximum_bytes_billed`. A job that failed for a passing
    reason, such as another statement changing the same table, is run again for up to JOB_RETRY_SECONDS: `sql`
    must bear that.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: BigQuery refused the statement.
        google.api_core.exceptions.RetryError: BigQuery did not answer for REQUEST_TIMEOUT_SECONDS.
    """
    return _run(
        client,
        sql,
        [_query_parameter(name, value) for name, value in params.items()],
        job_id_prefix=job_id_prefix,
        maximum_bytes_billed=maximum_bytes_billed,
    )


def build_day(
    client: bigquery.Client, table: Table, day: dt.date, params: Mapping[str, float] | None = None
) -> None:
    """Replace the table's rows of the day, in one statement.

    `params` are those that the table's query takes beside @day.
    """
    run(
        client,
        merge_statement(table),
        {"day": day, **(params or {})},
        job_id_prefix=f"build-{table.name}-{day:%Y%m%d}",
        maximum_bytes_billed=table.metadata.maximum_bytes_billed,
    )


def bytes_read(client: bigquery.Client, sql: str, params: Mapping[str, Any]) -> int:
    """Return how many bytes BigQuery says a query would read, at most, without running it."""
    config = bigquery.QueryJobConfig(
        query_parameters=[_query_parameter(name, value) for name, value in params.items()],
        dry_run=True,
        use_query_cache=False,
        labels=LABELS,
    )
    job = client.query(
        sql, job_config=config, retry=_REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS, job_retry=None
    )
    return job.total_bytes_processed


def run_checks(client: bigquery.Client, table: Table, day: dt.date) -> int:
    """Run all checks of the table on the day; log what those of level warn find; return the day's rows.

    They are one query: it sees one state of all tables, and costs one job for each day.

    Raises:
        CheckFailed: checks of level fail found rows.
    """
    job = run(
        client,
        checks_statement(table, OFFENDING_ROWS_SHOWN),
        {"day": day},
        job_id_prefix=f"check-{table.name}-{day:%Y%m%d}",
        maximum_bytes_billed=table.metadata.maximum_bytes_billed,
    )
    answers = {row["check_name"]: (row["found_rows"], row["shown"]) for row in job.result()}
    rows, _ = answers[None]
    log.info("%s of %s: %d rows.", table.full_name, day, rows)
    failures = []
    for check in table.checks:
        if finding := _finding(table, check, day, *answers[check.name]):
            if check.level == "fail":
                failures.append(finding)
            else:
                log.warning(finding)
    if failures:
        raise CheckFailed("\n".join(failures))
    return rows


def stage_load(client: bigquery.Client, manifest: Mapping[str, Any]) -> str:
    """Load the accepted Parquet files of a load into its own staging table and return that table's name.

    The staging table has the columns of events_batch, is made anew each time, and expires by itself after
    STAGING_EXPIRATION_DAYS. A load without accepted rows gets an empty one.
    """
    return _stage(
        client,
        EVENTS_BATCH,
        manifest,
        manifest["accepted_files"],
        source_format=bigquery.SourceFormat.PARQUET,
    )


def count_staged_distinct(client: bigquery.Client, staging: str) -> int:
    """Count the distinct events in a staging table."""
    sql = f"SELECT COUNT(DISTINCT event_id) FROM {staging}"
    [[events]] = run(
        client, sql, {}, job_id_prefix="count-staged", maximum_bytes_billed=PUBLISH_MAX_BYTES
    ).result()
    return events


def publish_day(client: bigquery.Client, manifest: Mapping[str, Any], staging: str) -> list[str]:
    """Replace the landing day's rows of events_batch by the staged ones, each event once, in one statement.

    Returns:
        The event dates, sorted, as YYYY-MM-DD, whose rows may have changed: those of the staged rows, of the
        rows that were replaced, and of earlier audited loads of this landing day, so that a publication
        repeated after a crash still names the dates that the one before it emptied.

    Raises:
        PublishError: staged rows are of another landing day, or of a date that this landing day may not hold.
    """
    landing_day = dt.date.fromisoformat(manifest["landing_day"])
    params = {"landing_day": landing_day, "first_day": landing_day - dt.timedelta(days=LATENESS_DAYS)}
    options: dict[str, Any] = {
        "job_id_prefix": f"publish-{manifest['load_id']}",
        "maximum_bytes_billed": PUBLISH_MAX_BYTES,
    }
    foreign = f"""
        SELECT landing_day, event_date, COUNT(*) AS found_rows
        FROM {staging}
        WHERE
            landing_day IS DISTINCT FROM @landing_day
            OR event_date IS NULL
            OR event_date NOT BETWEEN @first_day AND @landing_day
        GROUP BY landing_day, event_date"""
    if found := list(run(client, foreign, params, **options).result()):
        rows = "; ".join(
            f"{row.found_rows} rows of {row.event_date} landed {row.landing_day}" for row in found
        )
        raise PublishError(
            f"{staging} may hold only events of {params['first_day']} to {landing_day}, "
            f"landed on {landing_day}; it has {rows}. Nothing was published; load the day again."
        )
    touched = f"""
        SELECT DISTINCT event_date FROM {staging}
        UNION DISTINCT
        SELECT DISTINCT event_date
        FROM {EVENTS_BATCH}
        WHERE landing_day = @landing_day AND event_date BETWEEN @first_day AND @landing_day
        UNION DISTINCT
        SELECT event_date
        FROM {LOADS}, UNNEST(event_dates) AS event_date
        WHERE landing_day = @landing_day"""
    event_dates = sorted(
        row.event_date.isoformat() for row in run(client, touched, params, **options).result()
    )
    columns = ", ".join(field.name for field in _get_table(client, EVENTS_BATCH).schema)
    merge = f"""
        MERGE {EVENTS_BATCH} AS target
        USING (
            SELECT {columns}
            FROM {staging}
            WHERE TRUE
            QUALIFY ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY event_time) = 1
        ) AS staged
        ON FALSE
        WHEN NOT MATCHED BY SOURCE
            AND target.landing_day = @landing_day
            AND target.event_date BETWEEN @first_day AND @landing_day
            THEN DELETE
        WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns})"""
    run(client, merge, params, **options)
    return event_dates


def count_published(client: bigquery.Client, landing_day: dt.date) -> int:
    """Count the rows of events_batch that were landed on this day."""
    sql = f"""
        SELECT COUNT(*)
        FROM {EVENTS_BATCH}
        WHERE landing_day = @landing_day AND event_date BETWEEN @first_day AND @landing_day"""
    params = {"landing_day": landing_day, "first_day": landing_day - dt.timedelta(days=LATENESS_DAYS)}
    [[rows]] = run(
        client, sql, params, job_id_prefix="count-published", maximum_bytes_billed=PUBLISH_MAX_BYTES
    ).result()
    return rows


def drop_staging(client: bigquery.Client, staging: str) -> None:
    """Drop a staging table, if it is still there."""
    client.delete_table(staging, not_found_ok=True, retry=_REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)


def load_rejected(client: bigquery.Client, manifest: Mapping[str, Any]) -> None:
    """Replace the batch's rows of the landing day in rejected_events by those of this load."""
    staging = _stage(
        client,
        REJECTED_EVENTS,
        manifest,
        manifest["rejected_files"],
        source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
    )
    fields = _get_table(client, REJECTED_EVENTS).schema
    columns = ", ".join(field.name for field in fields)
    decoded = ", ".join(
        f"FROM_BASE64({field.name}) AS {field.name}" if field.field_type == "BYTES" else field.name
        for field in fields
    )
    merge = f"""
        MERGE {REJECTED_EVENTS} AS target
        USING (SELECT {decoded} FROM {staging}) AS staged
        ON FALSE
        WHEN NOT MATCHED BY SOURCE
            AND target.rejected_date = @landing_day
            AND target.source = 'batch'
            THEN DELETE
        WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns})"""
    run(
        client,
        merge,
        {"landing_day": dt.date.fromisoformat(manifest["landing_day"])},
        job_id_prefix=f"rejected-{manifest['load_id']}",
        maximum_bytes_billed=PUBLISH_MAX_BYTES,
    )
    drop_staging(client, staging)


def write_audit_row(client: bigquery.Client, row: Mapping[str, Any]) -> None:
    """Write the audit row of a load, or replace the one of the same landing day and load id.

    `row` has a value for each column of shop_ops.loads but loaded_at, which is now; dates may be YYYY-MM-DD.

    Raises:
        ValueError: the row lacks a column or has one more.
    """
    row = {**row, "loaded_at": dt.datetime.now(dt.UTC)}
    _replace_row(client, LOADS, row, ("landing_day", "load_id"), job_id_prefix=f"audit-{row['load_id']}")


def write_stream_check(client: bigquery.Client, row: Mapping[str, Any]) -> None:
    """Write what one run of keep-alive saw and did, or replace the row of the same date and run.

    `row` has a value for each column of shop_ops.stream_checks.

    Raises:
        ValueError: the row lacks a column or has one more.
    """
    _replace_row(client, STREAM_CHECKS, row, ("checked_date", "run_id"), job_id_prefix="stream-check")


def stream_figures(
    client: bigquery.Client, now: dt.datetime, window: dt.timedelta
) -> tuple[dt.datetime | None, int, int]:
    """Return when the newest row of events_stream was published, None without any; and how many messages that
    were published in `window` before `now` the stream accepted and rejected.

    Live events are in the newest partitions; only where those are empty, as when past days are replayed,
    all are read.
    """
    since = now - window
    options: dict[str, Any] = {"job_id_prefix": "stream-figures", "maximum_bytes_billed": STREAM_MAX_BYTES}
    events = f"""
        SELECT MAX(publish_time), COUNTIF(publish_time >= @since)
        FROM {EVENTS_STREAM}
        WHERE event_date >= @first_day"""
    newest, accepted = None, 0
    for first_day in (now.date() - dt.timedelta(days=LATENESS_DAYS), dt.date(1970, 1, 1)):
        if newest is None:
            params = {"since": since, "first_day": first_day}
            [[newest, accepted]] = run(client, events, params, **options).result()
    rejects = f"""
        SELECT COUNT(*)
        FROM {REJECTED_EVENTS}
        WHERE
            source = 'stream'
            AND rejected_date BETWEEN @first_day AND @last_day
            AND publish_time >= @since"""
    params = {"since": since, "first_day": since.date(), "last_day": now.date()}
    [[rejected]] = run(client, rejects, params, **options).result()
    return newest, accepted, rejected


def streamed_days(
    client: bigquery.Client, first_day: dt.date, last_day: dt.date, since: dt.datetime
) -> set[dt.date]:
    """Return the event dates, of those from `first_day` to `last_day`, of messages published since then."""
    sql = f"""
        SELECT DISTINCT event_date
        FROM {EVENTS_STREAM}
        WHERE event_date BETWEEN @first_day AND @last_day AND publish_time >= @since"""
    params = {"first_day": first_day, "last_day": last_day, "since": since}
    job = run(client, sql, params, job_id_prefix="streamed-days", maximum_bytes_billed=STREAM_MAX_BYTES)
    return {row.event_date for row in job.result()}


def _replace_row(
    client: bigquery.Client, table: str, row: Mapping[str, Any], keys: Sequence[str], *, job_id_prefix: str
) -> None:
    """Write one row in place of those with the same values of `keys`; dates may be YYYY-MM-DD."""
    fields = _get_table(client, table).schema
    names = [field.name for field in fields]
    if set(row) != set(names):
        raise ValueError(
            f"the row has {', '.join(sorted(row))}; {table} needs exactly {', '.join(sorted(names))}"
        )
    params: list[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter] = []
    for field in _with_standard_types(fields):
        kind = bigquery.ArrayQueryParameter if field.mode == "REPEATED" else bigquery.ScalarQueryParameter
        params.append(kind(field.name, field.field_type, row[field.name]))
    selected = ", ".join(f"@{name} AS {name}" for name in names)
    columns = ", ".join(names)
    same = " AND ".join(f"target.{key} = @{key}" for key in keys)
    merge = f"""
        MERGE {table} AS target
        USING (SELECT {selected}) AS given
        ON FALSE
        WHEN NOT MATCHED BY SOURCE AND {same} THEN DELETE
        WHEN NOT MATCHED BY TARGET THEN INSERT ({columns}) VALUES ({columns})"""
    _run(client, merge, params, job_id_prefix=job_id_prefix, maximum_bytes_billed=SMALL_MAX_BYTES)


def _run(
    client: bigquery.Client,
    sql: str,
    params: Sequence[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter],
    *,
    job_id_prefix: str,
    maximum_bytes_billed: int,
) -> bigquery.QueryJob:
    config = bigquery.QueryJobConfig(
        query_parameters=params, maximum_bytes_billed=maximum_bytes_billed, labels=LABELS
    )

    def attempt() -> bigquery.QueryJob:
        # The client's job_retry would wait ten minutes for a BigQuery that does not answer, whatever `retry`.
        job = client.query(
            sql,
            job_config=config,
            job_id_prefix=f"{job_id_prefix}-",
            retry=_REQUEST_RETRY,
            timeout=REQUEST_TIMEOUT_SECONDS,
            job_retry=None,
        )
        job.result(retry=_REQUEST_RETRY, timeout=JOB_TIMEOUT_SECONDS, job_retry=None)
        return job

    return Retry(predicate=_is_transient, initial=1.0, maximum=30.0, timeout=JOB_RETRY_SECONDS)(attempt)()


def _is_transient(error: Exception) -> bool:
    """Tell whether a job that failed so may succeed when it is run again."""
    if not isinstance(error, GoogleAPICallError):
        return False
    reasons = {item.get("reason") for item in error.errors if isinstance(item, Mapping)}
    return bool(reasons & _TRANSIENT_REASONS) or "Could not serialize access" in str(error)


def _query_parameter(name: str, value: Any) -> bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter:
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "DATE", value)
    # A datetime is a date and a bool an int, so the order matters.
    for kind, type_name in (
        (bool, "BOOL"),
        (int, "INT64"),
        (float, "FLOAT64"),
        (str, "STRING"),
        (dt.datetime, "TIMESTAMP"),
        (dt.date, "DATE"),
    ):
        if isinstance(value, kind):
            return bigquery.ScalarQueryParameter(name, type_name, value)
    raise TypeError(
        f"query parameter @{name} is {value!r}; give a date, datetime, int, float, str, or a list of dates"
    )


def _get_table(client: bigquery.Client, full_name: str) -> bigquery.Table:
    return client.get_table(full_name, retry=_REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)


def _with_project(client: bigquery.Client, view: Table) -> str:
    """Return a view's query with complete names: it is resolved in whichever project asks the view."""
    names = "|".join(map(re.escape, view.metadata.reads))
    return re.sub(rf"\b({names})\b", rf"`{client.project}.\1`", view.view or "")


def _described(client: bigquery.Client, table: Table) -> bigquery.Table:
    """Return what create_table needs, from the folder."""
    described = bigquery.Table(
        f"{client.project}.{table.full_name}", schema=[_schema_field(column) for column in table.schema]
    )
    described.description = table.metadata.description
    described.labels = {**LABELS, **table.metadata.labels, "owner": table.metadata.owner}
    if table.metadata.partition_by:
        described.time_partitioning = bigquery.TimePartitioning(field=table.metadata.partition_by)
        described.clustering_fields = list(table.metadata.cluster_by) or None
    return described


def _schema_field(column: Column) -> bigquery.SchemaField:
    return bigquery.SchemaField(column.name, column.type, column.mode, description=column.description)


def _with_standard_types(fields: Sequence[bigquery.SchemaField]) -> list[bigquery.SchemaField]:
    """Return the fields with GoogleSQL's names of types: the API tells those of a table by older names."""
    return [
        bigquery.SchemaField(
            field.name,
            _LEGACY_TYPE_NAMES.get(field.field_type, field.field_type),
            field.mode,
            description=field.description,
        )
        for field in fields
    ]


def _refuse_conflicts(table: Table, existing: bigquery.Table) -> None:
    found = {field.name: (field.field_type, field.mode) for field in _with_standard_types(existing.schema)}
    described = {column.name: (column.type, column.mode) for column in table.schema}
    problems = [f"column {name} is gone from schema.yaml" for name in found if name not in described]
    for name, (type_name, mode) in described.items():
        if name not in found and mode == "REQUIRED":
            problems.append(f"column {name} is new and REQUIRED, but old rows lack it; make it NULLABLE")
        elif name in found and found[name] != (type_name, mode):
            problems.append(f"column {name} is {' '.join(found[name])}, described as {type_name} {mode}")
    partitioning = existing.time_partitioning
    partition_by = partitioning.field if partitioning else None
    if partition_by != table.metadata.partition_by:
        problems.append(f"it is partitioned by {partition_by}, described as by {table.metadata.partition_by}")
    cluster_by = tuple(existing.clustering_fields or ())
    if cluster_by != table.metadata.cluster_by:
        problems.append(f"it is clustered by {cluster_by}, described as by {table.metadata.cluster_by}")
    if problems:
        raise SchemaConflict(
            f"{table.full_name} cannot be changed in place: {'; '.join(problems)}. "
            "Describe it as it is, or move its rows to a new table."
        )


def _finding(table: Table, check: Check, day: dt.date, found_rows: int, shown: Sequence[str]) -> str | None:
    """Return what a check found as a sentence, None if nothing; `shown` are some of its rows in JSON."""
    if not found_rows:
        return None
    told = (", ".join(f"{name} = {value}" for name, value in json.loads(row).items()) for row in shown)
    more = found_rows - len(shown)
    return (
        f"{table.full_name} of {day}: check {check.name} ({check.level}) found {'; '.join(told)}"
        + (f"; and {more} more rows" if more else "")
        + "."
    )


def _stage(
    client: bigquery.Client,
    target: str,
    manifest: Mapping[str, Any],
    files: Sequence[str],
    *,
    source_format: str,
) -> str:
    load_id = manifest["load_id"]
    if not _LOAD_ID.fullmatch(load_id):
        raise ValueError(f"load id {load_id!r} is not of the form YYYYMMDD-<8 hex>")
    # Files never promise that a column has no gaps, so nothing is REQUIRED here; the MERGE into the target
    # refuses a missing value. Bytes come as base64 text.
    schema = [
        bigquery.SchemaField(
            field.name, "STRING" if field.field_type == "BYTES" else field.field_type, "NULLABLE"
        )
        for field in _get_table(client, target).schema
    ]
    staging = f"{target}_staging_{load_id.replace('-', '_')}"
    drop_staging(client, staging)
    table = bigquery.Table(f"{client.project}.{staging}", schema=schema)
    table.labels = LABELS
    table.expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=STAGING_EXPIRATION_DAYS)
    table = client.create_table(table, retry=_REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)
    if files:
        job = client.load_table_from_uri(
            list(files),
            table.reference,
            job_id_prefix=f"stage-{load_id}-",
            job_config=bigquery.LoadJobConfig(
                schema=schema,
                source_format=source_format,
                write_disposition=bigquery.WriteDisposition.WRITE_EMPTY,
                labels=LABELS,
            ),
            retry=_REQUEST_RETRY,
            timeout=REQUEST_TIMEOUT_SECONDS,
        )
        job.result(retry=_REQUEST_RETRY, timeout=JOB_TIMEOUT_SECONDS)
    return staging
