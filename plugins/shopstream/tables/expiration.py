"""How long the stores keep events: Spanner's rows, and the stream's partitions in BigQuery.

Not events_batch, from which both can be made again. Spanner deletes expired rows in the background, within
some days; BigQuery drops an expired partition whole.
"""

from __future__ import annotations

import logging
import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

from beam_jobs.contract import LATENESS_DAYS
from shopstream.retries import Refused

if TYPE_CHECKING:
    from google.cloud import bigquery
    from google.cloud.spanner_v1.database import Database

DAY_MS = 86_400_000
_POLICY = (
    "SELECT row_deletion_policy_expression FROM information_schema.tables "
    "WHERE table_schema = '' AND table_name = 'loaded_events'"
)

log = logging.getLogger(__name__)


def keep_in_spanner(database: Database, days: int) -> None:
    """Let Spanner delete events that are older than so many days by event_time; 0 keeps them for ever."""
    from shopstream.tables.migrations import update_ddl

    with database.snapshot() as snapshot:
        [[policy]] = snapshot.execute_sql(_POLICY)
    found = re.fullmatch(r"OLDER_THAN\(event_time, INTERVAL (\d+) DAY\)", policy or "")
    if int(found[1] if found else 0) == days:
        return
    wanted = f"ROW DELETION POLICY (OLDER_THAN(event_time, INTERVAL {days:d} DAY))"
    change = f"{'REPLACE' if policy else 'ADD'} {wanted}" if days else "DROP ROW DELETION POLICY"
    update_ddl(database, [f"ALTER TABLE loaded_events {change}"])
    log.info("Spanner: loaded_events: %s.", change)


def keep_in_stream(client: bigquery.Client, days: int) -> None:
    """Let BigQuery drop the stream's partitions that are older than so many days; 0 keeps them for ever."""
    from shopstream.gcp.bigquery import REQUEST_RETRY, REQUEST_TIMEOUT_SECONDS, get_table

    table = get_table(client, "shop_raw.events_stream")
    partitioning = table.time_partitioning
    if (partitioning.expiration_ms or 0) == days * DAY_MS:
        return
    partitioning.expiration_ms = days * DAY_MS or None
    table.time_partitioning = partitioning
    client.update_table(table, ["time_partitioning"], retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)
    log.info("BigQuery: partitions of events_stream are kept for %s.", f"{days} days" if days else "ever")


def refuse_expired(day: date, today: date, days: int) -> None:
    """Refuse to load a landing day whose events would expire in Spanner while they are counted there.

    Raises:
        Refused: events of the day, or late ones that it may hold, are older than `days`.
    """
    oldest = today - timedelta(days=days - LATENESS_DAYS - 2)
    if days and day < oldest:
        raise Refused(
            f"Spanner deletes events of landing day {day}, since SHOPSTREAM_EVENTS_KEEP_DAYS is {days}: "
            f"{oldest} is the oldest day that can be loaded. Set it higher, or to 0, run apply_schemas, and "
            "trigger the load again."
        )
