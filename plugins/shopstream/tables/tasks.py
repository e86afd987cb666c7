"""The tasks of apply_schemas."""

# Google's clients take seconds to import, which parsing a DAG file should not: so the tasks import them.
from __future__ import annotations

import logging

from shopstream.gcp.clients import bigquery_client, spanner_database
from shopstream.settings import settings

log = logging.getLogger(__name__)


def migrate_spanner() -> list[str]:
    """Apply the migrations that are not yet recorded; returns their names.

    Then let Spanner keep events for as long as the settings say.
    """
    from shopstream.tables.expiration import keep_in_spanner
    from shopstream.tables.migrations import apply_migrations
    from shopstream.tables.old_events import take_over_events

    database = spanner_database()
    applied = apply_migrations(
        database,
        settings().sql_dir / "spanner",
        # Which drops the old table.
        before={4: lambda: take_over_events(database, bigquery_client())},
    )
    keep_in_spanner(database, settings().events_keep_days)
    log.info("Spanner is as this version describes it; migrations applied now: %d.", len(applied))
    return applied


def apply_bigquery_tables() -> list[str]:
    """Create or update each table and view, after those that it reads; returns their names.

    Then copy rows of the table of rejects of earlier versions into those of this one, and let the stream's
    table keep partitions for as long as the settings say.
    """
    from shopstream.tables.apply import apply
    from shopstream.tables.expiration import keep_in_stream
    from shopstream.tables.folder import all_tables
    from shopstream.tables.old_rejects import take_over_rejects

    client = bigquery_client()
    tables = all_tables(settings().sql_dir)
    for table in tables:
        apply(client, table)
    take_over_rejects(client)
    keep_in_stream(client, settings().events_keep_days)
    log.info("BigQuery is as this version describes it: %d tables and views.", len(tables))
    return [table.full_name for table in tables]
