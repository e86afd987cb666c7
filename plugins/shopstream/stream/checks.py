"""What the stream has written, asked of BigQuery, and the row that each look at it leaves."""

# ruff: noqa: S608
# Only names from our own code become part of a statement; values are query parameters.

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shopstream.gcp.bigquery import get_table, run
from shopstream.tables.day import replace_row
from shopstream.tables.limits import all_rows, limit_of, limit_of_tables, most_events
from shopstream.tables.names import EVENTS_STREAM, REJECTED_EVENTS_STREAM, STREAM_CHECKS

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LONG_AGO = dt.timedelta(days=7)
"""Rows older than this are looked for only if there is no newer one."""

FIGURES = f"""
    SELECT MAX(publish_time), COUNTIF(publish_time >= @since)
    FROM {EVENTS_STREAM}
    WHERE event_date >= @first_day AND publish_time >= @read_since"""
STREAMED_DAYS = f"""
    SELECT event_date, COUNT(*) AS streamed_rows
    FROM {EVENTS_STREAM}
    WHERE event_date BETWEEN @first_day AND @last_day AND publish_time >= @since
    GROUP BY event_date"""


def write_stream_check(client: Client, row: Mapping[str, Any]) -> None:
    """Write what one run of keep-alive saw and did, or replace the row of the same date and run.

    `row` has a value for each column of shop_ops.stream_checks.

    Raises:
        ValueError: the row lacks a column or has one more.
    """
    replace_row(client, STREAM_CHECKS, row, ("checked_date", "run_id"), job_id_prefix="stream-check")


def stream_figures(
    client: Client, now: dt.datetime, window: dt.timedelta
) -> tuple[dt.datetime | None, int, int]:
    """Return when the newest row of events_stream was published, None without any; and how many messages that
    were published in `window` before `now` the stream accepted and rejected.

    Whatever day the events are of: by publish_time, by which the table is clustered, BigQuery skips what is
    older than the window. Only of a stream that has written nothing for LONG_AGO are all rows read.
    """
    prefix, since = "stream-figures", now - window
    # BigQuery holds the limit against the publish times of all rows, though it reads and bills only the
    # blocks of the window.
    limit = limit_of("figures of the stream", all_rows(get_table(client, EVENTS_STREAM)))
    newest, accepted = None, 0
    for read_since in (since, now - LONG_AGO, EPOCH):
        if newest is None:
            params: dict[str, Any] = {"since": since, "read_since": read_since, "first_day": EPOCH.date()}
            job = run(client, FIGURES, params, job_id_prefix=prefix, maximum_bytes_billed=limit)
            [[newest, accepted]] = job.result()
    rejects = f"""
        SELECT COUNT(*)
        FROM {REJECTED_EVENTS_STREAM}
        WHERE rejected_date BETWEEN @first_day AND @last_day AND publish_time >= @since"""
    params = {"since": since, "first_day": since.date(), "last_day": now.date()}
    limit = limit_of_tables(get_table(client, REJECTED_EVENTS_STREAM))
    [[rejected]] = run(client, rejects, params, job_id_prefix=prefix, maximum_bytes_billed=limit).result()
    return newest, accepted, rejected


def streamed_days(
    client: Client, first_day: dt.date, last_day: dt.date, since: dt.datetime
) -> dict[dt.date, int]:
    """Return the event dates, of those from `first_day` to `last_day`, of rows published since then.

    With each how many rows: an event that the stream brought twice counts twice.
    """
    params = {"first_day": first_day, "last_day": last_day, "since": since}
    events = most_events(client, first_day, last_day) * ((last_day - first_day).days + 1)
    limit = limit_of("days that streamed in", events)
    job = run(client, STREAMED_DAYS, params, job_id_prefix="streamed-days", maximum_bytes_billed=limit)
    return {row.event_date: row.streamed_rows for row in job.result()}
