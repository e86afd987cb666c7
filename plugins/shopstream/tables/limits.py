"""How many bytes a statement may bill: what it reads of an event, of as many events as its days have.

bytes_per_event.json says what each statement reads, in bytes for each event of a day. It is derived from the
statements and what a mean day of the shop is, with load and stream both full: `python -m tools.cost.limits`.
Those named build and check are of a day of a table, with the days before and after that it reads; those named
ask are of a day of a chart, or of a page of the dashboard. What is 0 does not grow with the events.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from google.api_core.exceptions import ClientError, NotFound

from shopstream.gcp.bigquery import JOB_TIMEOUT_SECONDS, SMALL_MAX_BYTES, Limit, get_table, run
from shopstream.settings import settings
from shopstream.tables.names import EVENTS_BATCH, EVENTS_STREAM

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, Table

BYTES_FILE = Path(__file__).with_name("bytes_per_event.json")
KEPT_SECONDS = 600.0
ROWS = """
    SELECT partition_id, MAX(total_rows) AS events
    FROM (
        SELECT partition_id, SUM(total_rows) AS total_rows
        FROM shop_raw.INFORMATION_SCHEMA.PARTITIONS
        WHERE table_name IN ('events_batch', 'events_stream') AND partition_id IS NOT NULL
        GROUP BY table_name, partition_id
        UNION ALL
        SELECT FORMAT_DATE('%Y%m%d', landing_day) AS partition_id, bigquery_rows AS total_rows
        FROM shop_ops.loads
        WHERE landing_day >= DATE '1970-01-01'
    )
    GROUP BY partition_id"""
"""The most rows of a day in a raw table, or of a load, which may have published them just now. What is billed
is BigQuery's least of two tables, however many events there are. The view may tell a partition
without a name, and what has just streamed in once for each tier of storage."""
_JUST_STREAMED = "__UNPARTITIONED__"
_RAISED_BY = (
    "and they only hold more than usual, raise SHOPSTREAM_BYTES_LIMIT_TIMES (Terraform's bytes_limit_times)"
)

log = logging.getLogger(__name__)

_asking = threading.Lock()
_kept: WeakKeyDictionary[Client, tuple[float, dict[str, int]]] = WeakKeyDictionary()


def limit_of(statement: str, events: int) -> Limit:
    """Return what a statement may bill: its bytes an event, of so many events, times a setting.

    It is never less than SMALL_MAX_BYTES, so that no small shop is refused; and no more for a statement that
    BYTES_FILE does not have, which a new one is until it is derived.

    Args:
        statement: by its name in BYTES_FILE.
        events: the most that one of the days has which it reads; for statements of a row of days, such as a
            chart's, that many for each of them.
    """
    known = _bytes_per_event()
    if statement not in known:
        reckoned = f"the least of any: {BYTES_FILE.name} lacks {statement!r}"
        raised_by = "derive what it reads by `python -m tools.cost.limits`, and deploy"
        return Limit(SMALL_MAX_BYTES.max_bytes, reckoned, raised_by)
    per_event = known[statement]
    return _times(per_event * events, f"{per_event:g} bytes an event ({statement}) of {events:,} events")


def limit_of_tables(*tables: Table) -> Limit:
    """Return what a statement over all of some tables may bill, whose rows have no certain size: rejects."""
    held = sum(
        (table.num_bytes or 0) + (buffer.estimated_bytes if (buffer := table.streaming_buffer) else 0)
        for table in tables
    )
    names = " and ".join(f"{table.dataset_id}.{table.table_id}" for table in tables)
    return _times(held, f"the {held:,} bytes of {names}")


def _times(held: float, reckoned: str) -> Limit:
    times = settings().bytes_limit_times
    most = math.ceil(times * held)
    floor = "the least of any, above " if most <= SMALL_MAX_BYTES.max_bytes else ""
    return Limit(max(most, SMALL_MAX_BYTES.max_bytes), f"{floor}{times:g} times {reckoned}", _RAISED_BY)


def most_events(
    client: Client,
    first_day: dt.date = dt.date.min,
    last_day: dt.date = dt.date.max,
    *,
    kept_seconds: float = KEPT_SECONDS,
    timeout_seconds: float = JOB_TIMEOUT_SECONDS,
) -> int:
    """Return how many events the day has that has most, of the days between two, by load or by stream.

    Those that streamed in a moment ago may be of any of the days. The answer may be `kept_seconds` old. If
    BigQuery refuses to tell, it is how many the fuller raw table has of all days.
    """
    rows = _rows_of_days(client, kept_seconds, timeout_seconds)
    days = range(*(int(f"{day:%Y%m%d}") + more for day, more in ((first_day, 0), (last_day, 1))))
    of_days = (events for part, events in rows.items() if part.isdecimal() and int(part) in days)
    return max(of_days, default=0) + rows.get(_JUST_STREAMED, 0)


def _rows_of_days(client: Client, kept_seconds: float, timeout_seconds: float) -> dict[str, int]:
    """Return what ROWS tells; whoever asks while it is being asked waits for that answer."""
    until = time.monotonic() + timeout_seconds
    if not _asking.acquire(timeout=timeout_seconds):
        raise TimeoutError(f"the events of days were not told within {timeout_seconds:g} s")
    try:
        asked_at, rows = _kept.get(client, (-math.inf, {}))
        if time.monotonic() - asked_at >= kept_seconds:
            rows = _ask_rows(client, until)
            _kept[client] = (time.monotonic(), rows)
        return rows
    finally:
        _asking.release()


def _ask_rows(client: Client, until: float) -> dict[str, int]:
    def left() -> float:
        return max(until - time.monotonic(), 0.001)

    try:
        job = run(
            client,
            ROWS,
            {},
            job_id_prefix="events-of-days",
            maximum_bytes_billed=SMALL_MAX_BYTES,
            timeout_seconds=left(),
        )
        return {row.partition_id: row.events or 0 for row in job.result(timeout=left())}
    except ClientError as error:
        # What guards a bill must not stop what it guards.
        try:
            of_all = max(all_rows(get_table(client, name, left())) for name in (EVENTS_BATCH, EVENTS_STREAM))
        except NotFound:
            raise error from None  # It is the schemas that are missing.
        log.warning("Limits are of the events of all days, since BigQuery refused to tell of each: %s", error)
        return {_JUST_STREAMED: of_all}


def all_rows(table: Table) -> int:
    """Return how many rows a table has, with those that streamed in a moment ago."""
    return (table.num_rows or 0) + (table.streaming_buffer.estimated_rows if table.streaming_buffer else 0)


@cache
def _bytes_per_event() -> dict[str, float]:
    read: dict[str, float] = json.loads(BYTES_FILE.read_text(encoding="utf-8"))
    return read
