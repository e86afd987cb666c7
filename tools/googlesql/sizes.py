"""How many bytes columns hold of each day, and how many a statement reads of them: as BigQuery bills them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

from google.cloud import bigquery

from shopstream.tables.folder import Column, Table
from tools.googlesql.reads import FIXED_BYTES, Read

Sizes = Mapping[tuple[str, dt.date], Mapping[str, int]]
"""Bytes of each column, by table and day."""


def column_sizes(
    client: bigquery.Client, tables: Iterable[Table], first_day: dt.date, last_day: dt.date, **config: int
) -> Sizes:
    """Return the bytes of each column of the tables, on each of the days that has rows.

    They are counted in the stored rows, which all are read; `config` is of each query's job, such as
    maximum_bytes_billed.
    """
    sizes = {}
    days = [
        bigquery.ScalarQueryParameter(name, "DATE", day)
        for name, day in (("first_day", first_day), ("last_day", last_day))
    ]
    for table in tables:
        sums = ", ".join(f"{_size(column)} AS {column.name}_bytes" for column in table.schema)
        partition = table.metadata.partition_by
        sql = (
            f"SELECT {partition} AS partition_day, {sums} FROM {table.full_name} "  # noqa: S608 (our own names)
            f"WHERE {partition} BETWEEN @first_day AND @last_day GROUP BY partition_day"
        )
        asked = bigquery.QueryJobConfig(query_parameters=days, **config)
        for row in client.query_and_wait(sql, job_config=asked):
            sizes[table.full_name, row["partition_day"]] = {
                name: row[f"{name}_bytes"] for name in table.column_names
            }
    return sizes


def bytes_of(reads: Mapping[str, Read], sizes: Sizes, day: dt.date) -> int:
    """Return the bytes that a query reads when it builds a day.

    Raises:
        ValueError: it reads all days of a table.
    """
    total = 0
    for name, read in reads.items():
        if not read.days.first or not read.days.last:
            raise ValueError(f"all days of {name} are read; run `python -m tools.googlesql`")
        for offset in range(read.days.first.days, read.days.last.days + 1):
            of_day = sizes.get((name, day + dt.timedelta(days=offset)), {})
            total += sum(of_day.get(column, 0) for column in read.columns_on(offset))
    return total


def _size(column: Column) -> str:
    if column.type in ("STRING", "BYTES"):
        return f"COALESCE(SUM(2 + BYTE_LENGTH({column.name})), 0)"
    values = f"SUM(ARRAY_LENGTH({column.name}))" if column.mode == "REPEATED" else f"COUNT({column.name})"
    return f"COALESCE({values}, 0) * {FIXED_BYTES[column.type]}"
