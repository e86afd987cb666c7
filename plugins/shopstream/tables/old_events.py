"""Take over the rows of Spanner's table `events`, in which loads of a day overwrote each other's rows.

The table that took its place has load_id in its key (docs/adr/0020), and Spanner changes no table's key.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import AlreadyExists
from google.cloud.spanner_v1 import COMMIT_TIMESTAMP, KeySet, RequestOptions, param_types

from beam_jobs.contract import SHARDS, first_event_day
from shopstream.retries import Refused
from shopstream.tables.published import published_days

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.spanner_v1.database import Database

COMMIT_ROWS = 2_000
COPY_THREADS = 8
DAYS_NAMED = 10

_IS_THERE = "SELECT 1 FROM information_schema.tables WHERE table_schema = '' AND table_name = 'events'"
_LOADS = "SELECT landing_day, load_id FROM events GROUP BY landing_day, load_id"
_ROWS = (
    "SELECT * FROM events "
    "WHERE shard = @shard AND event_date BETWEEN @first_day AND @landing_day AND landing_day = @landing_day"
)
_LOW = RequestOptions(priority=RequestOptions.Priority.PRIORITY_LOW)

log = logging.getLogger(__name__)


def take_over_events(database: Database, client: Client) -> None:
    """Copy each landing day of `events` that is as its last published load left it, and publish that load.

    It may be repeated at any time, and goes on where it ended: days with a published load are left alone.

    Raises:
        Refused: other days are there, after all that could be copied were; the message names them.
    """
    loads: defaultdict[dt.date, set[str]] = defaultdict(set)
    with database.snapshot(multi_use=True) as snapshot:
        if not list(snapshot.execute_sql(_IS_THERE)):
            return
        for day, load_id in snapshot.execute_sql(_LOADS, request_options=_LOW):
            loads[day].add(load_id)
        for (day,) in snapshot.read("published_loads", ("landing_day",), KeySet(all_=True)):
            loads.pop(day, None)
    if not loads:
        return
    audited = published_days(client)
    for day in sorted(loads):
        if day in audited and loads[day] == {audited[day].load_id}:
            [load_id] = loads.pop(day)
            copied = _copy(database, day)
            with suppress(AlreadyExists), database.batch() as batch:
                columns = ("landing_day", "load_id", "published_at")
                batch.insert("published_loads", columns, [(day, load_id, COMMIT_TIMESTAMP)])
            log.info("Took over landing day %s, load %s: %s rows.", day, load_id, f"{copied:,}")
    if loads:
        days = [f"{day} (loads {', '.join(sorted(loads[day]))})" for day in sorted(loads)]
        more = f" and {len(days) - DAYS_NAMED} more" if len(days) > DAYS_NAMED else ""
        raise Refused(
            "Spanner's old table events holds landing days that are not as shop_ops.loads says they were "
            f"last published: {', '.join(days[:DAYS_NAMED])}{more}. Readers still see them. Run "
            "load_events_daily for each, or delete its rows from events if nobody wants them; then trigger "
            "apply_schemas again."
        )


def _copy(database: Database, day: dt.date) -> int:
    """Copy the rows of a landing day into loaded_events; return how many."""
    with ThreadPoolExecutor(COPY_THREADS) as pool:
        return sum(pool.map(lambda shard: _copy_shard(database, day, shard), range(SHARDS)))


def _copy_shard(database: Database, day: dt.date, shard: int) -> int:
    copied = 0
    left = _rows(database, day, shard)
    while rows := list(islice(left, COMMIT_ROWS)):
        with database.batch(request_options=_LOW) as batch:
            batch.insert_or_update("loaded_events", list(rows[0]), [list(row.values()) for row in rows])
        copied += len(rows)
    return copied


def _rows(database: Database, day: dt.date, shard: int) -> Iterator[dict[str, Any]]:
    types = {"landing_day": param_types.DATE, "first_day": param_types.DATE, "shard": param_types.INT64}
    params = {"landing_day": day, "first_day": first_event_day(day), "shard": shard}
    with database.snapshot() as snapshot:
        result = snapshot.execute_sql(_ROWS, params, types, request_options=_LOW)
        for row in result:
            yield dict(zip((field.name for field in result.fields), row, strict=True))
