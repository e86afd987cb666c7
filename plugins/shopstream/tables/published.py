"""Which days loads have published, as shop_ops.loads tells."""

# ruff: noqa: S608
# Only names from our own code become part of a statement; values are query parameters.

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from shopstream.gcp.bigquery import SMALL_MAX_BYTES, run
from shopstream.tables.names import LOADS

if TYPE_CHECKING:
    from google.cloud.bigquery import Client


class PublishedDay(NamedTuple):
    """The newest published load of a landing day: its id, when it was published, and its distinct events."""

    load_id: str
    loaded_at: dt.datetime
    events: int


def days_published(client: Client, since: dt.datetime, until: dt.datetime) -> set[dt.date]:
    """Return the days that loads audited between two moments may have changed, their landing days too."""
    sql = f"""
        SELECT landing_day AS day
        FROM {LOADS}
        WHERE landing_day >= @first_day AND loaded_at BETWEEN @since AND @until
        UNION DISTINCT
        SELECT day
        FROM {LOADS}, UNNEST(event_dates) AS day
        WHERE landing_day >= @first_day AND loaded_at BETWEEN @since AND @until"""
    # Of all landing days: a backfill publishes old ones. The table has a row a load.
    params = {"since": since, "until": until, "first_day": dt.date(1970, 1, 1)}
    job = run(client, sql, params, job_id_prefix="days-published", maximum_bytes_billed=SMALL_MAX_BYTES)
    return {row.day for row in job.result()}


def published_days(client: Client) -> dict[dt.date, PublishedDay]:
    """Return each landing day that a load has published."""
    # Of all landing days: the table has a row a load.
    sql = f"""
        SELECT landing_day, load_id, loaded_at, bigquery_rows
        FROM {LOADS}
        WHERE landing_day >= @first_day
        QUALIFY ROW_NUMBER() OVER (PARTITION BY landing_day ORDER BY load_id DESC) = 1"""
    params = {"first_day": dt.date(1970, 1, 1)}
    job = run(client, sql, params, job_id_prefix="published-days", maximum_bytes_billed=SMALL_MAX_BYTES)
    return {day: PublishedDay(*load) for day, *load in job.result()}


def rejected_shares(client: Client, first_day: dt.date, last_day: dt.date) -> list[float]:
    """Return the share of rejected lines, 0 to 1, of each landing day's newest load, lowest first."""
    sql = f"""
        SELECT rejected / `read` AS share
        FROM {LOADS}
        WHERE landing_day BETWEEN @first_day AND @last_day AND `read` > 0
        QUALIFY ROW_NUMBER() OVER (PARTITION BY landing_day ORDER BY load_id DESC) = 1
        ORDER BY share"""
    params = {"first_day": first_day, "last_day": last_day}
    job = run(client, sql, params, job_id_prefix="rejected-shares", maximum_bytes_billed=SMALL_MAX_BYTES)
    return [row.share for row in job.result()]
