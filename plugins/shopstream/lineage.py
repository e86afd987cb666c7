"""What a task reads and writes, for who draws from it what feeds what.

Composer reports a task's inlets and outlets to the Data Lineage API by Airflow's OpenLineage provider. Those
of no asset write no event when the task succeeds, and no provider is asked of their scheme while a DAG file
is parsed. One call of Airflow's API they cost as an asset does: at each start of a task that has any, Airflow
asks whether one of them is an inactive asset.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.providers.common.compat.lineage.entities import File, Table
from airflow.sdk import Asset

from shopstream.settings import settings
from shopstream.tables.folder import reads_of


def lineage(
    *tables: str, reads: Iterable[str] = (), writes: Iterable[str | Asset] = ()
) -> dict[str, list[Any]]:
    """Return the `inlets` and `outlets` of a task.

    Args:
        tables: what it writes in BigQuery, as dataset.table; what their metadata.yaml say they are made from,
            it reads.
        reads: the folders of the bucket that it reads, such as landing/events/, and further tables.
        writes: the folders that it writes, and assets.

    Raises:
        TableError: a table has no folder in sql/bigquery, or its metadata.yaml does not say what it reads.
    """
    sql_dir = settings().sql_dir
    made_from = dict.fromkeys(name for table in tables for name in reads_of(sql_dir, table))
    return {
        "inlets": [_named(name) for name in (*made_from, *reads)],
        "outlets": [_named(name) for name in (*tables, *writes)],
    }


def _named(name: str | Asset) -> Any:
    if isinstance(name, Asset):
        return name
    env = settings()
    if name.endswith("/"):
        return File(url=f"gs://{env.bucket}/{name}")
    dataset, _, table = name.partition(".")
    return Table(cluster="bigquery", database=f"{env.project}.{dataset}", name=table)
