"""
### Purpose
Bring the schemas to what this version describes: the BigQuery datasets, tables and views of `sql/bigquery`,
then the Spanner tables by the numbered migrations of `sql/spanner` (each applied once, recorded in table
`schema_migrations`). Trigger it after each deployment and once in a new project.

### How to rerun
Trigger it again at any time: what is already there stays as it is, and no row is changed. Where there still
is the one table of rejects of an earlier version, or Spanner's table `events` of one, its rows are copied to
where they belong now, each once; readers see the old rows until all are copied.

### When it fails
Nothing is lost; loads and summaries go on with the old schema, or fail if they need the new one. A refused
change (an applied migration was edited, a column changed its type) names the file and what to do.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from shopstream.defaults import DAG_DEFAULTS
from shopstream.tables import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Apply the Spanner migrations and the BigQuery tables and views",
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=24),
    tags=[Tag.SETUP],
)
def apply_schemas() -> None:
    # BigQuery's first: its audit rows tell which of Spanner's old rows are published. Those may be many.
    migrate = task(execution_timeout=timedelta(hours=5))(tasks.migrate_spanner)
    task(tasks.apply_bigquery_tables)() >> migrate()


apply_schemas()
