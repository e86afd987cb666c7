"""Take over the rows of shop_raw.rejected_events, into which both paths wrote before each had a table.

Loads changed it while the stream inserted into it, which BigQuery refuses for 30 minutes after an insert.
"""

# ruff: noqa: S608
# Only names from our own code become part of a statement.

from __future__ import annotations

import logging

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from shopstream.gcp.bigquery import REQUEST_RETRY, REQUEST_TIMEOUT_SECONDS, get_table, run
from shopstream.tables.limits import limit_of_tables
from shopstream.tables.names import LOADS, REJECTED_EVENTS_BATCH, REJECTED_EVENTS_STREAM

OLD_REJECTED_EVENTS = "shop_raw.rejected_events"
BATCH_TAKEN = {"batch_rows": "taken_over"}
"""The label of an old table whose batch rows were copied: loads have replaced them since, so never again."""

# No load of this version writes into the old table. A day that one has replaced meanwhile stays as it is.
_BATCH = f"""
    old.source = 'batch'
    AND NOT EXISTS (
        SELECT 1
        FROM {REJECTED_EVENTS_BATCH} AS kept
        WHERE kept.rejected_date = old.rejected_date
    )
    AND NOT EXISTS (
        SELECT 1
        FROM {LOADS} AS newer
        WHERE newer.landing_day = old.rejected_date AND newer.load_id > old.load_id
    )"""
# A stream of the version before writes into it until it is updated: so these are looked for each time.
_STREAM = f"""
    old.source = 'stream'
    AND NOT EXISTS (
        SELECT 1
        FROM {REJECTED_EVENTS_STREAM} AS kept
        WHERE
            kept.rejected_date = old.rejected_date
            AND kept.rejected_at = old.rejected_at
            AND COALESCE(kept.message_id, '') = COALESCE(old.message_id, '')
    )"""

log = logging.getLogger(__name__)


def take_over_rejects(client: bigquery.Client) -> None:
    """Copy the rows of the old table that no table of a path has, if there is an old table.

    It may be repeated at any time. The old table stays: while a stream still writes into it, to drop it would
    lose what came in last.
    """
    try:
        old = get_table(client, OLD_REJECTED_EVENTS)
    except NotFound:
        return
    columns = ", ".join(field.name for field in old.schema)
    if not BATCH_TAKEN.items() <= old.labels.items():
        _copy(client, REJECTED_EVENTS_BATCH, columns, _BATCH)
        old.labels = {**old.labels, **BATCH_TAKEN}
        client.update_table(old, ["labels"], retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)
    taken = _copy(client, REJECTED_EVENTS_STREAM, columns, _STREAM)
    log.warning(
        "%s is still there, and had %d rows of the stream that were not taken over before. Once the stream "
        "runs this version, trigger apply_schemas again, then drop it: docs/deployment.md.",
        OLD_REJECTED_EVENTS,
        taken,
    )


def _copy(client: bigquery.Client, table: str, columns: str, which: str) -> int:
    """Insert rows of the old table into another; return how many."""
    sql = f"""
        INSERT INTO {table} ({columns})
        SELECT {columns}
        FROM {OLD_REJECTED_EVENTS} AS old
        WHERE {which}"""
    limit = limit_of_tables(*(get_table(client, name) for name in (OLD_REJECTED_EVENTS, table, LOADS)))
    job = run(client, sql, {}, job_id_prefix="take-over", maximum_bytes_billed=limit)
    return job.num_dml_affected_rows or 0
