"""What Spanner holds of a landing day, and which of its loads readers see (docs/adr/0020).

Each function may be repeated at any time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from google.cloud.spanner_v1 import COMMIT_TIMESTAMP, KeySet, RequestOptions, param_types

from beam_jobs.contract import SHARDS
from shopstream.load.checks import LoadRefused
from shopstream.load.held import FIRST_BITS, HELD, LANDED, Held, window

if TYPE_CHECKING:
    from google.cloud.spanner_v1.database import BatchSnapshot, Database
    from google.cloud.spanner_v1.transaction import Transaction

    from beam_jobs.manifest import Manifest

MAX_ROWS_READ_AT_ONCE = 200_000
"""Where there are more, a load is counted in parts: one a shard at least, each a request and a scan."""
COUNT_THREADS = 4
"""The parts of a count that are read at once, by one worker."""
COUNT_SECONDS = 600
COUNT_ROWS_A_SECOND = 5_000
"""A count, or a part, may take COUNT_SECONDS, and as long as all of the load's rows take at this pace."""

_LOW = RequestOptions(priority=RequestOptions.Priority.PRIORITY_LOW)
# Rows and not their count, and of one shard: a query that is read in parts may have nothing above its scan of
# one key range, no list of shards either (cloud.google.com/spanner/docs/reads, "Read data in parallel").
_ROWS = f"SELECT NULLIF(load_id, @load_id), {FIRST_BITS} FROM loaded_events WHERE shard = @shard AND {LANDED}"  # noqa: S608
# All shards by number, not as a range: so Spanner reads one short key range of days in each. They come last
# for the emulator's sake, which compares each row with each shard.
_SHARDS = ", ".join(map(str, range(SHARDS)))
_DELETE = (
    f"DELETE FROM loaded_events WHERE {LANDED} AND load_id IN UNNEST(@load_ids) "  # noqa: S608
    f"AND shard IN ({_SHARDS})"
)
# Whoever landed them: the key has a row's landing day behind its customer, so that all of the days are read.
_COUNT = f"""
    SELECT landing_day, load_id, {HELD}
    FROM (
        SELECT landing_day, load_id, event_id
        FROM loaded_events
        WHERE event_date BETWEEN @first_day AND @landing_day AND shard IN ({_SHARDS})
        LIMIT {{most}}
    )
    GROUP BY landing_day, load_id"""  # noqa: S608

_TYPES = {"landing_day": param_types.DATE, "first_day": param_types.DATE}


def count_loads(database: Database, manifest: Manifest) -> dict[str, Held]:
    """Count the landing day's rows by load_id, over all shards and the days it may hold.

    Where these days hold few rows by one query, at low priority as the delete that reads the same rows; it
    reads no more than MAX_ROWS_READ_AT_ONCE. Else in parts.

    Raises:
        google.api_core.exceptions.DeadlineExceeded: it took longer than so many rows should take.
    """
    with database.snapshot() as snapshot:
        counted = list(
            snapshot.execute_sql(
                _COUNT.format(most=MAX_ROWS_READ_AT_ONCE + 1),
                params=window(manifest.landing_day),
                param_types=_TYPES,
                request_options=_LOW,
                timeout=_timeout(manifest),
            )
        )
    if sum(events for _, _, events, _ in counted) > MAX_ROWS_READ_AT_ONCE:
        return count_in_parts(database, manifest)
    return {load_id: Held(*held) for day, load_id, *held in counted if day == manifest.landing_day}


def count_in_parts(database: Database, manifest: Manifest) -> dict[str, Held]:
    """Count as `count_loads`, in parts and by Data Boost, which takes nothing of the CPU that serves readers.

    Raises:
        google.api_core.exceptions.DeadlineExceeded: a part took longer than so many rows should take.
    """
    batch = database.batch_snapshot()
    events: Counter[str] = Counter()
    checksums: defaultdict[str, int] = defaultdict(int)
    parts = (
        part
        for shard in range(SHARDS)
        for part in batch.generate_query_batches(
            _ROWS,
            params=window(manifest.landing_day) | {"load_id": manifest.load_id, "shard": shard},
            param_types=_TYPES | {"load_id": param_types.STRING, "shard": param_types.INT64},
            data_boost_enabled=True,
        )
    )
    pool = ThreadPoolExecutor(COUNT_THREADS)
    try:
        for counted in pool.map(partial(_count_part, batch, _timeout(manifest)), parts):
            for load_id, held in counted.items():
                events[load_id or manifest.load_id] += held.events
                checksums[load_id or manifest.load_id] ^= held.checksum
    finally:
        # After an error no further part is read, and paid for.
        pool.shutdown(cancel_futures=True)
        batch.close()
    return {load_id: Held(count, checksums[load_id]) for load_id, count in events.items()}


def publish_load(database: Database, manifest: Manifest) -> None:
    """Let readers see this load of the landing day instead of the one they saw, all of it at one moment.

    Raises:
        LoadRefused: readers already see a newer one.
    """
    day = manifest.landing_day

    def switch(transaction: Transaction) -> None:
        for (load_id,) in transaction.read("published_loads", ("load_id",), KeySet(keys=[[day.isoformat()]])):
            if load_id > manifest.load_id:
                raise LoadRefused(
                    f"landing day {day}, load {manifest.load_id}: load {load_id} has published the day "
                    "meanwhile. This one changes nothing any more; that one goes on by itself."
                )
        transaction.insert_or_update(
            "published_loads",
            ("landing_day", "load_id", "published_at"),
            [(day, manifest.load_id, COMMIT_TIMESTAMP)],
        )

    database.run_in_transaction(switch)


def delete_loads(database: Database, manifest: Manifest, load_ids: Collection[str]) -> None:
    """Delete the landing day's rows of these loads, and of no other: one launched since writes its own."""
    if load_ids:
        database.execute_partitioned_dml(
            _DELETE,
            params=window(manifest.landing_day) | {"load_ids": sorted(load_ids)},
            param_types=_TYPES | {"load_ids": param_types.Array(param_types.STRING)},
            request_options=_LOW,
        )


def _count_part(batch: BatchSnapshot, timeout: float, part: dict[str, Any]) -> dict[str | None, Held]:
    """Count the rows of one part by load_id; that of the load itself is None."""
    # generate_query_batches takes no priority, but what is in a part goes into its request.
    query = part["query"] | {"request_options": _LOW}
    events: Counter[str | None] = Counter()
    checksums: defaultdict[str | None, int] = defaultdict(int)
    for load_id, first_bits in batch.process_query_batch(part | {"query": query}, timeout=timeout):
        events[load_id] += 1
        checksums[load_id] ^= first_bits or 0
    return {load_id: Held(count, checksums[load_id]) for load_id, count in events.items()}


def _timeout(manifest: Manifest) -> float:
    return COUNT_SECONDS + manifest.distinct / COUNT_ROWS_A_SECOND
