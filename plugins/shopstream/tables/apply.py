"""Make a dataset, table or view of BigQuery be as its folder describes."""

from __future__ import annotations

import logging
import re

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from shopstream.gcp.bigquery import (
    REQUEST_RETRY,
    REQUEST_TIMEOUT_SECONDS,
    SMALL_MAX_BYTES,
    get_table,
    run,
    standard_fields,
)
from shopstream.retries import Refused
from shopstream.settings import LABELS
from shopstream.tables.folder import Column, Table

log = logging.getLogger(__name__)


class SchemaConflict(Refused):
    """A table exists in another form than its folder describes, and cannot be changed in place."""


def apply(client: bigquery.Client, table: Table) -> None:
    """Make the table or view, and its dataset, be as its folder describes.

    Creates what is missing, adds new columns (which must not be REQUIRED, for old rows lack them), and
    updates clustering, descriptions and labels. Rows are never touched; BigQuery sorts new ones anew.

    Raises:
        SchemaConflict: a change that cannot be made in place.
    """
    _make_dataset(client, table.dataset)
    if table.view:
        sql = f"CREATE OR REPLACE VIEW {table.full_name} AS\n{_with_project(client, table)}"
        run(client, sql, {}, job_id_prefix="apply", maximum_bytes_billed=SMALL_MAX_BYTES)
    described = _described(client, table)
    try:
        existing = get_table(client, table.full_name)
    except NotFound:
        client.create_table(described, exists_ok=True, retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)
        log.info("Created %s.", table.full_name)
        return
    if not table.view:
        _refuse_conflicts(table, existing)
    _update(client, existing, described)


def _make_dataset(client: bigquery.Client, name: str) -> None:
    dataset = bigquery.Dataset(f"{client.project}.{name}")
    if client.location:  # else BigQuery's default
        dataset.location = client.location
    dataset.labels = LABELS
    client.create_dataset(dataset, exists_ok=True, retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS)


def _update(client: bigquery.Client, existing: bigquery.Table, described: bigquery.Table) -> None:
    """Give a table or view its new columns, its clustering, descriptions and labels, if it lacks any."""
    by_name = {field.name: field for field in described.schema}
    found = standard_fields(existing.schema)
    found_names = [field.name for field in found]
    # The order of an existing table's columns cannot change; new ones come last.
    new_names = [name for name in by_name if name not in found_names]
    wanted = [by_name[name] for name in (*found_names, *new_names)]
    if (wanted, described.description, described.labels) != (found, existing.description, existing.labels):
        existing.schema = wanted
        existing.description = described.description
        existing.labels = described.labels
        client.update_table(
            existing,
            ["schema", "description", "labels"],
            retry=REQUEST_RETRY,
            timeout=REQUEST_TIMEOUT_SECONDS,
        )
    if new_names:
        name = f"{described.dataset_id}.{described.table_id}"
        log.info("Added to %s: %s.", name, ", ".join(new_names))
    if existing.clustering_fields != described.clustering_fields:
        existing.clustering_fields = described.clustering_fields
        client.update_table(
            existing, ["clustering_fields"], retry=REQUEST_RETRY, timeout=REQUEST_TIMEOUT_SECONDS
        )


def _with_project(client: bigquery.Client, view: Table) -> str:
    """Return a view's query with complete names: it is resolved in whichever project asks the view."""
    names = "|".join(map(re.escape, view.metadata.reads))
    return re.sub(rf"\b({names})\b", rf"`{client.project}.\1`", view.view or "")


def _described(client: bigquery.Client, table: Table) -> bigquery.Table:
    """Return what create_table needs, from the folder."""
    described = bigquery.Table(
        f"{client.project}.{table.full_name}", schema=[_schema_field(column) for column in table.schema]
    )
    described.description = table.metadata.description
    described.labels = {**LABELS, **table.metadata.labels, "owner": table.metadata.owner}
    if table.metadata.partition_by:
        described.time_partitioning = bigquery.TimePartitioning(field=table.metadata.partition_by)
        described.clustering_fields = list(table.metadata.cluster_by) or None
    return described


def _schema_field(column: Column) -> bigquery.SchemaField:
    return bigquery.SchemaField(column.name, column.type, column.mode, description=column.description)


def _refuse_conflicts(table: Table, existing: bigquery.Table) -> None:
    found = {field.name: (field.field_type, field.mode) for field in standard_fields(existing.schema)}
    described = {column.name: (column.type, column.mode) for column in table.schema}
    problems = [f"column {name} is gone from schema.yaml" for name in found if name not in described]
    for name, (type_name, mode) in described.items():
        if name not in found and mode == "REQUIRED":
            problems.append(f"column {name} is new and REQUIRED, but old rows lack it; make it NULLABLE")
        elif name in found and found[name] != (type_name, mode):
            problems.append(f"column {name} is {' '.join(found[name])}, described as {type_name} {mode}")
    partitioning = existing.time_partitioning
    partition_by = partitioning.field if partitioning else None
    if partition_by != table.metadata.partition_by:
        problems.append(f"it is partitioned by {partition_by}, described as by {table.metadata.partition_by}")
    if problems:
        raise SchemaConflict(
            f"{table.full_name} cannot be changed in place: {'; '.join(problems)}. "
            "Describe it as it is, or move its rows to a new table."
        )
