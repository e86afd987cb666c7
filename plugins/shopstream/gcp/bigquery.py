"""Run one statement in BigQuery: parameters, a byte limit, and what is tried again.

Each function takes the client of its caller (gcp.clients.bigquery_client). Names in statements have no
project: the client's project completes them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as JobTimeoutError
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple, TypeAlias
from uuid import uuid4

from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound
from google.api_core.retry import Retry
from google.cloud import bigquery

from shopstream.retries import Refused
from shopstream.settings import LABELS

REQUEST_TIMEOUT_SECONDS = 60.0
"""How long one HTTP request may take, and how long one is repeated while BigQuery does not answer."""
JOB_TIMEOUT_SECONDS = 1800.0
JOB_RETRY_SECONDS = 300.0

REQUEST_RETRY = bigquery.DEFAULT_RETRY.with_timeout(REQUEST_TIMEOUT_SECONDS)
_TRANSIENT_REASONS = {
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
    "jobRateLimitExceeded",
    "rateLimitExceeded",
}
_LEGACY_TYPE_NAMES = {"BOOLEAN": "BOOL", "FLOAT": "FLOAT64", "INTEGER": "INT64"}

QueryParameter: TypeAlias = bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter


class Limit(NamedTuple):
    """The most bytes that a statement may bill; in words from what it was reckoned, and how it is raised."""

    max_bytes: int
    reckoned: str
    raised_by: str


SMALL_MAX_BYTES = Limit(
    2**30,
    "what every statement may bill: this one reads nothing that grows with events",
    "give it a limit of shopstream.tables.limits, and deploy",
)


class TooManyBytes(Refused):
    """BigQuery has refused a statement, since it would bill more than its limit; the message names both."""


def run(
    client: bigquery.Client,
    sql: str,
    params: Mapping[str, Any],
    *,
    job_id_prefix: str,
    maximum_bytes_billed: Limit,
    timeout_seconds: float = JOB_TIMEOUT_SECONDS,
    once: bool = False,
    alone: bool = False,
) -> bigquery.QueryJob:
    """Run one statement, wait for its end, and return the finished job.

    `params` maps the statement's @names to a date, datetime, int, float, str, a list of dates, or a query
    parameter. BigQuery refuses to start a job that would bill more than `maximum_bytes_billed`. A job that
    failed for a passing reason, such as another statement changing the same table, is run again for up to
    JOB_RETRY_SECONDS: `sql` must bear that. `timeout_seconds`, for somebody who waits, limits all of it.

    With `once` a statement never runs beside itself, whoever asks for it: a task that was killed leaves its
    job running, and what its retry runs beside it may insert the same rows a second time. The job's id
    follows from `job_id_prefix`, which must tell all that `params` do, from `sql`, and from how often it has
    ended before; a job of that id which still runs is waited for instead. One that has not ended in time is
    cancelled, and its end awaited.

    With `alone` no two statements of the same `job_id_prefix` run at the same time: this one waits for the
    end of another, and then runs, since it may see more than the other did. So two that replace the rows of
    an empty day, between which BigQuery finds no conflict, leave each row once.

    Raises:
        TooManyBytes: the statement would bill more than `maximum_bytes_billed`.
        google.api_core.exceptions.GoogleAPICallError: BigQuery refused the statement.
        google.api_core.exceptions.RetryError: BigQuery did not answer for REQUEST_TIMEOUT_SECONDS.
        concurrent.futures.TimeoutError: the job had not ended after `timeout_seconds`.
    """
    request_seconds = min(REQUEST_TIMEOUT_SECONDS, timeout_seconds)
    retry = bigquery.DEFAULT_RETRY.with_timeout(request_seconds)
    config = bigquery.QueryJobConfig(
        query_parameters=[_query_parameter(name, value) for name, value in params.items()],
        maximum_bytes_billed=maximum_bytes_billed.max_bytes,
        labels=LABELS,
    )

    def attempt() -> bigquery.QueryJob:
        # The client's job_retry would wait ten minutes for a BigQuery that does not answer, whatever `retry`.
        options: dict[str, Any] = {"retry": retry, "timeout": request_seconds}
        if once:
            job = _begin_or_join(client, sql, config, job_id_prefix, options)
        elif alone:
            job = _begin_alone(client, sql, config, job_id_prefix, options, timeout_seconds)
        else:
            prefix = f"{job_id_prefix}-"
            job = client.query(sql, job_config=config, job_id_prefix=prefix, job_retry=None, **options)
        try:
            job.result(retry=retry, timeout=timeout_seconds, job_retry=None)
        except JobTimeoutError:
            if not (once or alone):
                raise
            job.cancel(**options)
            # It may have ended well just before.
            if job.exception(timeout=REQUEST_TIMEOUT_SECONDS) is not None:
                raise
        return job

    retry_seconds = min(JOB_RETRY_SECONDS, timeout_seconds)
    retrying = Retry(predicate=_is_transient, initial=1.0, maximum=30.0, timeout=retry_seconds)
    try:
        return retrying(attempt)()
    except GoogleAPICallError as error:
        if not _reasons(error) & {"bytesBilledLimitExceeded"}:
            raise
        raise TooManyBytes(
            f"{job_id_prefix}: BigQuery has read nothing, since it would bill more than the limit of "
            f"{maximum_bytes_billed.max_bytes:,} bytes ({error.errors[0]['message']}). That limit is "
            f"{maximum_bytes_billed.reckoned}. Look at the statement: if no condition on its days was lost, "
            f"{maximum_bytes_billed.raised_by}, then clear this task."
        ) from error


def load_files(
    client: bigquery.Client,
    uris: Sequence[str],
    table: bigquery.TableReference,
    config: bigquery.LoadJobConfig,
    *,
    job_id_prefix: str,
) -> None:
    """Load files into a table by one job, and wait for its end.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: BigQuery refused the job, or it failed.
        google.api_core.exceptions.RetryError: BigQuery did not answer for REQUEST_TIMEOUT_SECONDS.
        concurrent.futures.TimeoutError: the job had not ended after JOB_TIMEOUT_SECONDS.
    """
    job_id = f"{job_id_prefix}-{uuid4()}"
    asked: dict[str, Any] = {"retry": REQUEST_RETRY, "timeout": REQUEST_TIMEOUT_SECONDS}
    try:
        job = client.load_table_from_uri(list(uris), table, job_id=job_id, job_config=config, **asked)
    except Conflict:
        # The answer to the first request was lost, and the client asked again: the job is there. Of a query
        # the client finds it itself.
        job = client.get_job(job_id, location=client.location, **asked)
    job.result(retry=REQUEST_RETRY, timeout=JOB_TIMEOUT_SECONDS)


def _begin_or_join(
    client: bigquery.Client,
    sql: str,
    config: bigquery.QueryJobConfig,
    job_id_prefix: str,
    options: Mapping[str, Any],
) -> bigquery.QueryJob:
    """Begin a job of the first id that is not used up, or return the one of that id that runs already."""
    began = dt.datetime.now(dt.UTC)
    digest = hashlib.sha256(sql.encode()).hexdigest()[:12]
    for number in count(1):
        job_id = f"{job_id_prefix}-{digest}-{number}"
        try:
            return client.query(sql, job_config=config, job_id=job_id, job_retry=None, **options)
        except Conflict:
            job = client.get_job(job_id, **options)
            if job.state != "DONE" or job.ended >= began:
                return job
    raise AssertionError("there is always a next number")


def _begin_alone(
    client: bigquery.Client,
    sql: str,
    config: bigquery.QueryJobConfig,
    job_id_prefix: str,
    options: Mapping[str, Any],
    timeout_seconds: float,
) -> bigquery.QueryJob:
    """Begin a job of the first id that is not used, after the end of the one before it."""
    free = 1
    while True:
        with suppress(Conflict):  # Somebody else was first.
            job_id = f"{job_id_prefix}-{free}"
            return client.query(sql, job_config=config, job_id=job_id, job_retry=None, **options)
        free = _first_free(client, job_id_prefix, options)
        client.get_job(f"{job_id_prefix}-{free - 1}", **options).exception(timeout=timeout_seconds)


def _first_free(client: bigquery.Client, job_id_prefix: str, options: Mapping[str, Any]) -> int:
    """Return the first number, of those from 2 on, that no job of the prefix has; they have no gap."""

    def is_used(number: int) -> bool:
        try:
            client.get_job(f"{job_id_prefix}-{number}", **options)
        except NotFound:
            return False
        return True

    used, free = 1, 2
    while is_used(free):
        used, free = free, 2 * free
    while free - used > 1:
        middle = (used + free) // 2
        used, free = (middle, free) if is_used(middle) else (used, middle)
    return free


def bytes_read(client: bigquery.Client, sql: str, params: Mapping[str, Any]) -> int:
    """Return how many bytes BigQuery says a query would read, at most, without running it."""
    config = bigquery.QueryJobConfig(
        query_parameters=[_query_parameter(name, value) for name, value in params.items()],
        dry_run=True,
        use_query_cache=False,
        labels=LABELS,
    )
    job = client.query(
        sql, job_config=config, retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS, job_retry=None
    )
    return job.total_bytes_processed


def get_table(
    client: bigquery.Client, full_name: str, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
) -> bigquery.Table:
    """Ask BigQuery for a table's schema and properties.

    Raises:
        google.api_core.exceptions.NotFound: there is no such table.
        google.api_core.exceptions.RetryError: BigQuery did not answer for `timeout_seconds`, which are never
            more than REQUEST_TIMEOUT_SECONDS.
    """
    seconds = min(REQUEST_TIMEOUT_SECONDS, timeout_seconds)
    return client.get_table(full_name, retry=REQUEST_RETRY.with_timeout(seconds), timeout=seconds)


def standard_fields(fields: Sequence[bigquery.SchemaField]) -> list[bigquery.SchemaField]:
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


def _is_transient(error: Exception) -> bool:
    """Tell whether a job that failed so may succeed when it is run again."""
    if not isinstance(error, GoogleAPICallError):
        return False
    return bool(_reasons(error) & _TRANSIENT_REASONS) or "Could not serialize access" in str(error)


def _reasons(error: GoogleAPICallError) -> set[Any]:
    return {item.get("reason") for item in error.errors if isinstance(item, Mapping)}


def _query_parameter(name: str, value: Any) -> QueryParameter:
    if isinstance(value, QueryParameter):
        return value
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
