"""The tasks of apply_schemas."""

# Google's clients take seconds to import, which parsing a DAG file should not: so the tasks import them.
from __future__ import annotations

from shopstream.gcp.clients import bigquery_client, spanner_database
from shopstream.settings import settings


def migrate_spanner() -> list[str]:
    """Apply the migrations that are not yet recorded; returns their names."""
    from shopstream.tables.migrations import apply_migrations

    return apply_migrations(spanner_database(), settings().sql_dir / "spanner")


def apply_bigquery_tables() -> list[str]:
    """Create or update each table and view, after those that it reads; returns their names.

    Rows of the table of rejects of earlier versions are copied into those of this one.
    """
    from shopstream.tables.apply import apply
    from shopstream.tables.folder import all_tables
    from shopstream.tables.old_rejects import take_over_rejects

    client = bigquery_client()
    tables = all_tables(settings().sql_dir)
    for table in tables:
        apply(client, table)
    take_over_rejects(client)
    return [table.full_name for table in tables]
