"""Take customers out of Spanner and BigQuery: which tables hold them is asked of the stores themselves.

So a table that a later version adds, or that an earlier one or a load has left, is found too.
"""

# ruff: noqa: S608
# Names of tables and columns come from the stores themselves; values are parameters.

from __future__ import annotations

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from beam_jobs.identity import shard
from shopstream.forget.customers import RANGE_DETAIL, is_told_of
from shopstream.gcp.bigquery import (
    REQUEST_RETRY,
    REQUEST_TIMEOUT_SECONDS,
    Limit,
    get_table,
    run,
    standard_fields,
)
from shopstream.retries import Refused
from shopstream.tables.limits import limit_of_tables

if TYPE_CHECKING:
    from google.cloud.spanner_v1 import KeyRange, RequestOptions
    from google.cloud.spanner_v1.database import Database

_KEYS = """
    SELECT columns.table_name, ARRAY(
        SELECT key.column_name
        FROM information_schema.index_columns AS key
        WHERE
            key.table_schema = '' AND key.table_name = columns.table_name
            AND key.index_type = 'PRIMARY_KEY'
        ORDER BY key.ordinal_position
    )
    FROM information_schema.columns AS columns
    JOIN information_schema.tables AS tables
    ON columns.table_schema = tables.table_schema AND columns.table_name = tables.table_name
    WHERE
        tables.table_schema = '' AND tables.table_type = 'BASE TABLE'
        AND columns.column_name = 'user_id'
    ORDER BY columns.table_name"""
_SOUGHT = ["shard", "event_date", "user_id"]
"""How the key of a table begins in which customers are sought; any other is read to its end."""
RANGES_AT_ONCE = 1_000
"""So many customers and days are read, or deleted in one commit, in which each counts as one mutation."""
ODD_DIGITS = "5c|([0189a-f][0-9a-f]|2[0-9a-df]|3[a-f]|40|5[b-e]|60|7[b-f])(3[0-9]|2e)+[46]5(2[bd])?3[0-9]"
"""In hex: a backslash, behind which JSON may write anything, or a number with an exponent; or what looks so.

One of them is in each line that `is_told_of` tells of and in which the digits do not stand as they are.
"""
_STREAMING = "streaming buffer"
"""BigQuery's words for rows of insertAll that are so young that no statement changes them yet."""
_EMPTIED = {
    kind: f"raw = {nothing}, detail = {RANGE_DETAIL!r}"
    for kind, nothing in (("BYTES", "b''"), ("STRING", "''"))
}

log = logging.getLogger(__name__)

Ids = Collection[int]


class JustStreamed(RuntimeError):
    """Rows of a customer were streamed in by insertAll too lately to be deleted; in 30 minutes they can be.

    Those of the Storage Write API, by which the stream writes, BigQuery deletes at any age.
    """


@dataclass(frozen=True, slots=True)
class Holder:
    """A table of BigQuery that may hold customers.

    `text` is an expression of what was said of a rejected line, as words of hex, where the table is of such;
    else the table has a user_id. `emptied` is what is set in a range of such lines, of which only the first
    is told; None where there is none. `limit` is what a statement over all of it may bill.
    """

    name: str
    partition_by: str | None
    text: str | None
    emptied: str | None
    limit: Limit

    @property
    def rows(self) -> str:
        """All partitions, as a condition: BigQuery asks for one on a partitioned table."""
        return f"{self.partition_by} >= @first_day" if self.partition_by else "TRUE"

    @property
    def is_range(self) -> str:
        """Whether a row of rejected lines is a range of them, as an expression."""
        return "COALESCE(lines, 1) > 1" if self.emptied else "FALSE"


def count_in_spanner(database: Database, ids: Ids) -> dict[str, int]:
    """Return how many rows each table of Spanner with a user_id holds of these customers."""
    found = {}
    for table, is_sought in _spanner_tables(database):
        if is_sought:
            found[table] = sum(
                len(list(_read(database, table, ["user_id"], ranges)))
                for ranges in _ranges(database, table, ids)
            )
            continue
        with database.snapshot() as snapshot:
            [[found[table]]] = snapshot.execute_sql(
                f"SELECT COUNT(*) FROM {table} WHERE user_id IN UNNEST(@user_ids)", **_options(ids)
            )
    return found


def delete_in_spanner(database: Database, ids: Ids) -> None:
    """Delete the rows of these customers in each table of Spanner with a user_id, whatever loaded them."""
    from google.cloud.spanner_v1 import KeySet

    for table, is_sought in _spanner_tables(database):
        if not is_sought:
            database.execute_partitioned_dml(
                f"DELETE FROM {table} WHERE user_id IN UNNEST(@user_ids)", **_options(ids)
            )
            continue
        for ranges in _ranges(database, table, ids):
            with database.batch(request_options=_low()) as batch:
                batch.delete(table, KeySet(ranges=ranges))
        log.info("Spanner: 0 rows of them are left in %s.", table)


def count_in_bigquery(client: bigquery.Client, datasets: Collection[str], ids: Ids) -> dict[str, int]:
    """Return how many rows each table of the datasets that may hold customers holds of these."""
    return {
        holder.name: len(_rejects(client, holder, ids)) if holder.text else _count(client, holder, ids)
        for holder in holders(client, datasets)
    }


def delete_in_bigquery(client: bigquery.Client, datasets: Collection[str], ids: Ids) -> None:
    """Delete the rows of these customers in each table of the datasets; a second time there are none.

    Raises:
        JustStreamed: some were streamed in too lately; all others are deleted.
    """
    waiting = []
    for holder in holders(client, datasets):
        try:
            deleted = _delete(client, holder, ids)
        except GoogleAPICallError as error:
            if _STREAMING not in str(error):
                raise
            waiting.append(holder.name)
        else:
            log.info("BigQuery: took %s rows out of %s.", f"{deleted:,}", holder.name)
    if waiting:
        raise JustStreamed(
            f"{', '.join(waiting)}: rows that were streamed in by insertAll within the last 30 minutes "
            "cannot be deleted yet."
        )


def holders(client: bigquery.Client, datasets: Collection[str]) -> Iterator[Holder]:
    """Yield the tables of the datasets that may hold customers, as they are now.

    Raises:
        Refused: a copy of such a table is there that no statement changes.
    """
    asked: dict[str, Any] = {"retry": REQUEST_RETRY, "timeout": REQUEST_TIMEOUT_SECONDS}
    for dataset in sorted(datasets):
        for listed in client.list_tables(f"{client.project}.{dataset}", **asked):
            if listed.table_type == "VIEW":
                continue
            table = get_table(client, f"{dataset}.{listed.table_id}")
            types = {column.name: column.field_type for column in standard_fields(table.schema)}
            if not types.keys() & {"user_id", "raw"}:
                continue
            name = f"{dataset}.{table.table_id}"
            if table.table_type != "TABLE":
                raise Refused(
                    f"{name} is a {table.table_type.lower()}, which no statement changes; delete it, then "
                    "clear this task."
                )
            partitioning = table.time_partitioning
            yield Holder(
                name,
                partitioning.field if partitioning else None,
                None if "user_id" in types else _said(types),
                _EMPTIED[types["raw"]] if types.keys() >= {"raw", "lines"} else None,
                limit_of_tables(table),
            )


def _said(types: dict[str, str]) -> str:
    """What a table of rejected lines keeps of one, in hex; where a load is staged, raw is base64."""
    raw = "raw" if types["raw"] == "BYTES" else "FROM_BASE64(raw)"
    texts = [f"TO_HEX({raw})"]
    texts += [
        f"TO_HEX(CAST(COALESCE({name}, '') AS BYTES))" for name in ("detail", "attributes") if name in types
    ]
    between = ", ' ', "
    return f"CONCAT({between.join(texts)})"


def _count(client: bigquery.Client, holder: Holder, ids: Ids) -> int:
    sql = f"SELECT COUNT(*) FROM {holder.name} WHERE {holder.rows} AND user_id IN UNNEST(@user_ids)"
    [[found]] = _run(client, holder, "count", sql, _user_ids(ids)).result()
    return int(found)


def _delete(client: bigquery.Client, holder: Holder, ids: Ids) -> int:
    """Delete, and empty ranges; not where there are none, which BigQuery refuses while rows are streamed in.

    Returns:
        How many rows were deleted or emptied.
    """
    if not holder.text:
        if not _count(client, holder, ids):
            return 0
        sql = f"DELETE FROM {holder.name} WHERE {holder.rows} AND user_id IN UNNEST(@user_ids)"
        return _changed(client, holder, "delete", sql, _user_ids(ids))
    changed = 0
    rejects = _rejects(client, holder, ids)
    for is_range, statement in (
        (False, f"DELETE FROM {holder.name}"),
        (True, f"UPDATE {holder.name} SET {holder.emptied}"),
    ):
        digests = sorted({digest for digest, of_range in rejects if of_range == is_range})
        if digests:
            sql = f"""
                {statement}
                WHERE {holder.rows} AND {"" if is_range else "NOT"} ({holder.is_range})
                AND TO_HEX(SHA256({holder.text})) IN UNNEST(@digests)"""
            values = bigquery.ArrayQueryParameter("digests", "STRING", digests)
            changed += _changed(client, holder, "rejects", sql, values)
    return changed


def _rejects(client: bigquery.Client, holder: Holder, ids: Ids) -> list[tuple[str, bool]]:
    """The digests of the rows of rejected lines in which one of the ids stands, and if each is a range.

    BigQuery finds those that have its digits, or such as JSON may write otherwise; whether they are a number
    is told by the rule of the files.
    """
    sql = f"""
        SELECT TO_HEX(SHA256(said)) AS digest, said, is_range
        FROM (
            SELECT {holder.text} AS said, {holder.is_range} AS is_range
            FROM {holder.name}
            WHERE {holder.rows}
        )
        WHERE
            EXISTS (SELECT 1 FROM UNNEST(@texts) AS wanted WHERE STRPOS(said, wanted) > 0)
            OR REGEXP_CONTAINS(said, '{ODD_DIGITS}')"""
    texts = sorted(str(user_id).encode().hex() for user_id in ids)
    rows = _run(
        client, holder, "rejects", sql, bigquery.ArrayQueryParameter("texts", "STRING", texts)
    ).result()
    return [
        (row.digest, row.is_range) for row in rows if is_told_of(map(bytes.fromhex, row.said.split(" ")), ids)
    ]


def _changed(
    client: bigquery.Client, holder: Holder, what: str, sql: str, values: bigquery.ArrayQueryParameter
) -> int:
    return _run(client, holder, what, sql, values).num_dml_affected_rows or 0


def _run(
    client: bigquery.Client, holder: Holder, what: str, sql: str, values: bigquery.ArrayQueryParameter
) -> bigquery.QueryJob:
    params: dict[str, Any] = {values.name: values}
    if holder.partition_by:
        params["first_day"] = dt.date.min
    return run(client, sql, params, job_id_prefix=f"forget-{what}", maximum_bytes_billed=holder.limit)


def _user_ids(ids: Ids) -> bigquery.ArrayQueryParameter:
    return bigquery.ArrayQueryParameter("user_ids", "INT64", sorted(ids))


def _spanner_tables(database: Database) -> list[tuple[str, bool]]:
    """Return each table with a user_id, and whether its key is such that customers are sought by it."""
    with database.snapshot() as snapshot:
        return [(table, key[: len(_SOUGHT)] == _SOUGHT) for table, key in snapshot.execute_sql(_KEYS)]


def _ranges(database: Database, table: str, ids: Ids) -> Iterator[list[KeyRange]]:
    """Yield the ranges of a table's key in which these customers may be, RANGES_AT_ONCE, in its order."""
    from google.cloud.spanner_v1 import KeyRange

    of_shards = defaultdict(list)
    for user_id in sorted(ids):
        of_shards[shard(user_id)].append(user_id)
    ranges = (
        KeyRange(start_closed=key, end_closed=key)
        for number in sorted(of_shards)
        for day in _days(database, table, number)
        for user_id in of_shards[number]
        for key in ([number, day, user_id],)
    )
    while some := list(islice(ranges, RANGES_AT_ONCE)):
        yield some


def _days(database: Database, table: str, number: int) -> Iterator[str]:
    """Yield the days of which a shard holds events: from each the next is one short read away."""
    from google.cloud.spanner_v1 import KeyRange

    rest = KeyRange(start_closed=[number], end_closed=[number])
    while found := list(_read(database, table, ["event_date"], [rest], limit=1)):
        [[day]] = found
        yield day.isoformat()
        rest = KeyRange(start_open=[number, day.isoformat()], end_closed=[number])


def _read(
    database: Database, table: str, columns: list[str], ranges: list[KeyRange], limit: int = 0
) -> Iterator[Any]:
    from google.cloud.spanner_v1 import KeySet

    with database.snapshot() as snapshot:
        yield from snapshot.read(table, columns, KeySet(ranges=ranges), limit=limit, request_options=_low())


def _options(ids: Ids) -> dict[str, Any]:
    """Of a statement over a whole table."""
    from google.cloud.spanner_v1 import param_types

    return {
        "params": {"user_ids": sorted(ids)},
        "param_types": {"user_ids": param_types.Array(param_types.INT64)},
        "request_options": _low(),
    }


def _low() -> RequestOptions:
    """Readers of Spanner come first."""
    from google.cloud.spanner_v1 import RequestOptions

    return RequestOptions(priority=RequestOptions.Priority.PRIORITY_LOW)
