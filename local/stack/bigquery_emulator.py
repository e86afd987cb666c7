"""The BigQuery emulator, with sixteen things changed: run by the Python of .venv-emulators.

BigQuery replaces the rows of a day by `MERGE ... ON FALSE`, its documented way to delete and insert in one
step, and joins nothing. DuckDB, which works inside the emulator, compares each row with each: 32 seconds for
50,000 new rows and 150,000 old ones, and four times that for twice as many of both. With an equality that
never holds it hashes both sides and needs 0.1 seconds. The outcome is the same.

For time travel the emulator keeps a copy of the whole table at each change, so that a stream of small inserts
costs the square of its length: 100,000 rows in 1,000s had filled 1.8 GB. Nothing here asks for a table as it
was (FOR SYSTEM_TIME AS OF), so those copies are not made.

Asked to insert the valid rows of a request and tell of the others (skipInvalidRows), the emulator converts
row by row: 3,700 rows/s. Now it does so only for a request in which there is an invalid row.

It inserts a row without the fields that the table lacks, and fails for a required one that the row lacks. Now
it refuses such rows as BigQuery does.

SQLGlot's writer of DuckDB's SQL parses 17 templates whenever one is made: 8 ms, some times a statement, and a
fifth of the emulator's CPU. Now each thread makes one and keeps it.

Half of what a query costs the emulator is its translation to DuckDB's SQL, though the statements of a summary
are the same for each day but for their parameters. Now the last translations are kept.

It parses each statement a dozen times, mostly to learn that it is no DROP, no CREATE and so on: 40 % of its
CPU. Now all that only look at what was parsed share it.

It takes any number of URIs in a load job. Now it refuses more than BigQuery's 10,000.

It takes insertAll requests of any size. Now it refuses those above BigQuery's 10 MB or 50,000 rows.

It streams a row into a view, for nobody to see. Now it refuses to.

It writes what is meant for one partition (`table$20191101`) elsewhere, and says that it is done. Now it
refuses to know such a name.

It changes and deletes rows that were streamed in a moment ago. Now it refuses any UPDATE, DELETE, MERGE or
TRUNCATE of a table into which a row was streamed in the last 30 minutes. BigQuery refuses those that would
affect a row of insertAll, which is not told before the statement runs: so nothing here may rely on its mercy.

It answers a statement that failed, if sent by jobs.query, as one without rows, and the client takes that for
success. Now it answers with the error, as BigQuery does.

Of rows appended by the Storage Write API it drops the columns that the table lacks, fills those that it
requires with NULL, holds a thread for each open connection, and writes beside the lock of its other writers.
Now it takes Arrow record batches on a table's default stream and nothing else. It refuses a request of 10 MB
or more, columns that the table did not have when the connection was opened, other types than BigQuery's, and,
telling each row, NULLs in required columns and days of a partition more than a year ahead; of a request with
such a row it takes none. (BigQuery refuses days more than ten years ago too. That is not held here: it would
be true of the days in tests and demo from 2029 on.) To DML these rows are as those of insertAll.

It casts a STRING to BYTES by DuckDB's cast, which takes a backslash for the start of an escape, and fails for
most. Now the bytes are those of the text in UTF-8.

It runs a job whatever bytes it may bill (maximumBytesBilled). Now it refuses one that would read more: of
each table that it names, the columns that it names too, or all if it changes the table or says *. All of
their days count, where BigQuery leaves out those that a filter on the partition excludes.

It runs a second job of the same id. BigQuery answers that the job is there, by which a client that lost the
answer to its request learns that it need not ask again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, wraps
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from bqemulator.cli import main
from bqemulator.domain.errors import (
    AlreadyExistsError,
    InvalidQueryError,
    UnsupportedFeatureError,
    ValidationError,
)
from bqemulator.grpc_api.write_servicer import BigQueryWriteHandler
from bqemulator.row_access.identity import CallerIdentity
from bqemulator.sql.rules import TranslationRule, register
from bqemulator.streaming.arrow_deserializer import deserialize_arrow_rows
from bqemulator.streaming.write_stream import parse_stream_name
from bqemulator.versioning.snapshots import SnapshotManager
from fastapi import APIRouter, Request
from google.cloud.bigquery_storage_v1.types import (
    AppendRowsRequest,
    AppendRowsResponse,
    RowError,
    StorageError,
)
from google.rpc.status_pb2 import Status
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB

_capture = SnapshotManager.capture
_make_generator = Dialect.generator
_parse_one = sqlglot.parse_one
_kept = threading.local()
KEPT_TRANSLATIONS = 256
ONLY_LOOKING = frozenset(
    {
        "bqemulator.catalog.ddl_sync",
        "bqemulator.jobs.ddl_result",
        "bqemulator.jobs.executor",
        "bqemulator.jobs.routine_ddl",
        "bqemulator.sql.catalog_schema",
    }
)
"""Modules of the emulator that change nothing in what they have parsed."""
MAX_JOB_URIS = 10_000
MAX_INSERT_BYTES, MAX_INSERT_ROWS = 10 * 2**20, 50_000
STREAMING_BUFFER = timedelta(minutes=30)
MAX_APPEND_BYTES = 10_000_000
LARGEST_ROW_BYTES = 2**16
STREAMED_AHEAD = timedelta(days=366)


@register
class MergeOnFalse(TranslationRule):
    """`MERGE INTO t USING s ON FALSE` that inserts s.x -> `... ON t.x || 'target' = s.x || 'source'`."""

    name = "MERGE_ON_FALSE"

    def applies_to(self, node: exp.Expression) -> bool:
        """Tell whether the node is the FALSE of a MERGE that inserts a column of its source."""
        return (
            isinstance(node.parent, exp.Merge)
            and node.arg_key == "on"
            and node == exp.false()
            and bool(_inserted_columns(node.parent))
        )

    def rewrite(self, node: exp.Expression) -> exp.Expression:
        """Return an equality that never holds, in place of FALSE."""
        merge = node.parent
        into, value = _inserted_columns(merge)[0]
        target = exp.column(into.name, table=merge.this.alias_or_name)
        source = exp.column(value.name, table=merge.args["using"].alias_or_name)
        return exp.EQ(this=_marked(target, "target"), expression=_marked(source, "source"))


@register
class CastToBytes(TranslationRule):
    """`CAST(text AS BYTES)` -> `ENCODE(text)`."""

    name = "CAST_TO_BYTES"

    def applies_to(self, node: exp.Expression) -> bool:
        """Tell whether the node is such a cast, and none that the emulator makes of what is bytes."""
        if not isinstance(node, exp.Cast) or not node.is_type("binary", "varbinary"):
            return False
        branch = node.find_ancestor(exp.If)
        return branch is None or branch.this != exp.Literal.string("BLOB")

    def rewrite(self, node: exp.Expression) -> exp.Expression:
        """Return the function of DuckDB that does the same."""
        return exp.Anonymous(this="ENCODE", expressions=[node.this])


# Only now, since it imports the emulator's translator, which takes the rules that are registered by then.
from bqemulator.api.routes import jobs, tabledata  # noqa: E402
from bqemulator.jobs import executor  # noqa: E402
from bqemulator.sql.translator import SQLTranslator  # noqa: E402

_partition_rows = tabledata._partition_rows_for_insert
_translate = SQLTranslator.translate
_parse_load = executor._parse_load_job_config
_refuse_immutable = executor._reject_dml_on_immutable
_Context: Any = jobs._Ctx
_Caller: Any = jobs._Caller
_execute = jobs._execute_query_or_failed_meta
_FAILURES = {failure.bq_reason: failure for failure in jobs._SQL_EXECUTION_DOMAIN_ERRORS}
_last_streamed: dict[tuple[str, str, str], datetime] = {}
"""When a row was last streamed into a table, by project, dataset and table."""


def _inserted_columns(merge: exp.Merge) -> list[tuple[exp.Expression, exp.Column]]:
    """Return pairs of a target's column and the source's column that is inserted into it."""
    insert = merge.find(exp.Insert)
    if insert is None or not isinstance(insert.expression, exp.Tuple):
        return []
    pairs = zip(insert.this.expressions, insert.expression.expressions, strict=True)
    return [(into, value) for into, value in pairs if isinstance(value, exp.Column)]


def _marked(column: exp.Column, side: str) -> exp.Expression:
    return exp.DPipe(this=exp.cast(column, "text"), expression=exp.Literal.string(side))


def _capture_if_asked(self: SnapshotManager, *table: str, kind: str = "AUTO") -> Any:
    """Copy a table for CREATE SNAPSHOT TABLE (kind USER), but not for time travel (AUTO)."""
    return None if kind == "AUTO" else _capture(self, *table, kind=kind)


def _partition_rows_if_needed(rows: list[Any], schema: Any) -> tuple[list[Any], list[Any]]:
    """Return the valid rows and the errors of the others, converting by rows only if not all are valid."""
    known = frozenset(schema.names)
    required = [field.name for field in schema if not field.nullable]
    errors = []
    fitting: list[int] = []
    for index, row in enumerate(rows):
        values = row["json"]
        if unknown := values.keys() - known:
            errors.append(_row_error(index, min(unknown), "no such field: {}."))
        elif lacking := [name for name in required if values.get(name) is None]:
            errors.append(_row_error(index, lacking[0], "Missing required field: {}."))
        else:
            fitting.append(index)
    kept = [rows[index] for index in fitting]
    try:
        tabledata.bq_rows_to_arrow(kept, schema)
    except (ValueError, TypeError):
        kept, others = _partition_rows(kept, schema)
        errors += [error | {"index": fitting[error["index"]]} for error in others]
    return kept, errors


def _row_error(index: int, field: str, message: str) -> dict[str, Any]:
    error = {"reason": "invalid", "location": field, "debugInfo": "", "message": message.format(field)}
    return {"index": index, "errors": [error]}


def _kept_generator(self: Dialect, **options: Any) -> Any:
    """Return this thread's writer of DuckDB's SQL, or a new one for other dialects and options."""
    if type(self) is not DuckDB or self.settings or options not in ({}, {"pretty": False}):
        return _make_generator(self, **options)
    if not hasattr(_kept, "generator"):
        _kept.generator = _make_generator(self)
    return _kept.generator


def _parse_one_or_share(sql: str, read: Any = None, **options: Any) -> Any:
    """Return the tree of a statement: one for all that only look at it, else one of the caller's own."""
    if not options and sys._getframe(1).f_globals["__name__"] in ONLY_LOOKING:
        return _shared_tree(sql, read)
    return _parse_one(sql, read=read, **options)


@lru_cache(KEPT_TRANSLATIONS)
def _shared_tree(sql: str, read: Any) -> Any:
    return _parse_one(sql, read=read)


@lru_cache(KEPT_TRANSLATIONS)
def _translation(translator: SQLTranslator, sql: str, schema: str, caller: CallerIdentity | None) -> Any:
    return _translate(translator, sql, schema=json.loads(schema), caller=caller)


def _kept_translation(
    self: SQLTranslator,
    bq_sql: str,
    *,
    schema: dict[str, Any] | None = None,
    caller: CallerIdentity | None = None,
    **context: Any,
) -> Any:
    """Return the translation, which nothing but the statement, the columns and the caller changes."""
    return _translation(self, bq_sql, json.dumps(schema), caller)


def _parse_load_of_few_uris(project_id: str, config: dict[str, Any]) -> Any:
    """Return a load job's settings, or refuse one of more than MAX_JOB_URIS."""
    job = _parse_load(project_id, config)
    if len(job.source_uris) > MAX_JOB_URIS:
        raise InvalidQueryError(
            f"Too many source URIs: {len(job.source_uris)}; a load job may have {MAX_JOB_URIS}"
        )
    return job


async def _query_or_fail(project_id: str, request: Request, ctx: _Context, caller: _Caller) -> dict[str, Any]:
    answer = await jobs.query(project_id, request, ctx, caller)
    for error in answer.get("errors", []):
        raise _FAILURES[error["reason"]](error["message"])
    return answer


async def _insert_all_and_remember(
    project_id: str, dataset_id: str, table_id: str, request: Request, ctx: _Context
) -> dict[str, Any]:
    rows, size = (await request.json()).get("rows", []), len(await request.body())
    if size > MAX_INSERT_BYTES or len(rows) > MAX_INSERT_ROWS:
        raise ValidationError(
            f"A request has at most {MAX_INSERT_BYTES} bytes and {MAX_INSERT_ROWS} rows; this has {size} and "
            f"{len(rows)}"
        )
    _refuse_view(ctx.catalog.get_table(project_id, dataset_id, table_id))
    answer = await tabledata.insert_all(project_id, dataset_id, table_id, request, ctx)
    if len(rows) > len(answer["insertErrors"]):
        _last_streamed[project_id, dataset_id, table_id] = ctx.clock.now()
    return answer


def _refuse_view(table: Any) -> None:
    if table is not None and table.table_type != "TABLE":
        raise ValidationError(
            f"Rows cannot be streamed into {table.table_id}, which is a {table.table_type}."
        )


async def _append_rows(
    self: BigQueryWriteHandler, requests: AsyncIterator[bytes], context: Any
) -> AsyncIterator[bytes]:
    """Answer the requests of a connection, which ends by the first that names no table or no Arrow rows."""
    name, writer, known = "", b"", frozenset[str]()
    async for data in requests:
        if len(data) >= MAX_APPEND_BYTES:
            yield _not_appended(
                name, f"A request has less than {MAX_APPEND_BYTES} bytes; this has {len(data)}"
            )
            continue
        request = AppendRowsRequest.pb(AppendRowsRequest.deserialize(data))
        if request.write_stream not in ("", name) and name:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "one connection for several streams")
        name = name or request.write_stream
        if not name.endswith("/streams/_default") or not request.HasField("arrow_rows"):
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, f"only Arrow rows on default streams: {name!r}"
            )
        if request.HasField("offset"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "an offset on a default stream")
        table = parse_stream_name(name)[:3]
        meta = self._ctx.catalog.get_table(*table)
        if meta is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Requested entity was not found. Entity: {name}")
        try:
            _refuse_view(meta)
        except ValidationError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{error} Entity: {name}")
        columns = tabledata._build_arrow_schema(tabledata._fields_raw_from_schema(meta.schema_.fields))
        if not writer:
            writer, known = request.arrow_rows.writer_schema.serialized_schema, frozenset(columns.names)
        try:
            rows = deserialize_arrow_rows(writer, request.arrow_rows.rows.serialized_record_batch)
        except (ValueError, OSError) as error:
            yield _not_appended(name, f"The rows are no Arrow record batch of the writer's schema: {error}")
            continue
        if extra := sorted(set(rows.column_names) - known):
            code = StorageError.StorageErrorCode.SCHEMA_MISMATCH_EXTRA_FIELDS
            told = f"Input schema has more fields than BigQuery schema, extra fields: {', '.join(extra)}"
            yield _not_appended(name, told, StorageError(code=code, entity=name, error_message=told))
        elif fault := _type_fault(rows.schema, columns):
            yield _not_appended(name, fault)
        elif errors := _faults_of_rows(rows, meta, self._ctx.clock.now()):
            told = "Errors found while processing rows. Please refer to the row_errors field for details."
            yield _not_appended(name, told, row_errors=errors)
        else:
            await _store(self._ctx, table, rows)
            yield AppendRowsResponse.serialize(AppendRowsResponse(append_result={}, write_stream=name))


def _not_appended(
    name: str,
    told: str,
    detail: StorageError | None = None,
    row_errors: Sequence[RowError] = (),
) -> bytes:
    error = Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=f"{told} Entity: {name}")
    if detail is not None:
        error.details.add().Pack(StorageError.pb(detail))
    answer = AppendRowsResponse(error=error, write_stream=name, row_errors=row_errors)
    return AppendRowsResponse.serialize(answer)


def _type_fault(given: pa.Schema, columns: pa.Schema) -> str | None:
    """Tell of the first field of a type that BigQuery does not take for its column; of NUMERIC any scale."""
    for field in given:
        wanted = columns.field(field.name).type
        both_numeric = pa.types.is_decimal128(field.type) and pa.types.is_decimal128(wanted)
        if field.type != wanted and not (both_numeric and field.type.scale <= wanted.scale):
            return f"The field {field.name} has the Arrow type {field.type}; its column takes {wanted}."
    return None


def _faults_of_rows(rows: pa.Table, meta: Any, now: datetime) -> list[RowError]:
    """Tell of each row with a NULL that its column does not allow, or a day too far ahead to be streamed."""
    faults: dict[int, str] = {}
    for field in meta.schema_.fields:
        column = rows[field.name] if field.name in rows.column_names else pa.nulls(rows.num_rows)
        if field.mode == "REQUIRED":
            for row in pc.indices_nonzero(pc.is_null(column)).to_pylist():
                faults.setdefault(row, f"Missing required field: {field.name}.")
    by = meta.time_partitioning and meta.time_partitioning.field
    if by in rows.column_names and pa.types.is_date(rows.schema.field(by).type):
        last = now.date() + STREAMED_AHEAD
        for row in pc.indices_nonzero(pc.fill_null(pc.greater(rows[by], last), False)).to_pylist():
            faults.setdefault(
                row, f"The day {rows[by][row]} of {by} is later than {last}, the last that can be streamed."
            )
    code = RowError.RowErrorCode.FIELDS_ERROR
    return [RowError(index=row, code=code, message=told) for row, told in sorted(faults.items())]


async def _store(ctx: Any, table: tuple[str, str, str], rows: pa.Table) -> None:
    """Put rows into a table, as insertAll does."""
    into = tabledata.quoted_table_ref(*table)
    async with ctx.engine.write_lock():
        ctx.engine.connection.register("__appended", rows)
        try:
            ctx.engine.execute(f"INSERT INTO {into} BY NAME SELECT * FROM __appended")  # noqa: S608 (quoted)
        finally:
            ctx.engine.connection.unregister("__appended")
        meta = ctx.catalog.get_table(*table)
        ctx.catalog.update_table(meta.model_copy(update={"num_rows": meta.num_rows + rows.num_rows}))
        ctx.snapshots.record_change(*table)
    if rows.num_rows:
        _last_streamed[table] = ctx.clock.now()


def _replace_route(router: APIRouter, endpoint: Callable[..., Any], other: Callable[..., Any]) -> None:
    route: Any
    [route] = [one for one in router.routes if getattr(one, "endpoint", None) is endpoint]
    router.routes.remove(route)
    router.add_api_route(route.path.removeprefix(router.prefix), other, methods=route.methods)


def _refuse_change_of_streamed_rows(project_id: str, bq_sql: str, ctx: Any) -> None:
    """Refuse a job that changes a table whose newest streamed row is younger than STREAMING_BUFFER."""
    _refuse_immutable(project_id, bq_sql, ctx)
    for name in _changed_tables(project_id, bq_sql) if _last_streamed else ():
        table, streamed = ctx.catalog.get_table(*name), _last_streamed.get(name)
        # A table that was dropped and made anew has none of those rows.
        if table is None or streamed is None or streamed < table.creation_time:
            continue
        if ctx.clock.now() - streamed < STREAMING_BUFFER:
            raise InvalidQueryError(
                f"UPDATE or DELETE statement over table {'.'.join(name)} would affect rows in the streaming "
                "buffer, which is not supported"
            )


@lru_cache(KEPT_TRANSLATIONS)
def _changed_tables(project_id: str, bq_sql: str) -> list[tuple[str, str, str]]:
    """Return the tables whose rows the statements of a job change; not those that they only add rows to."""
    try:
        statements = sqlglot.parse(bq_sql, read="bigquery")
    except sqlglot.errors.SqlglotError:  # The job tells of it.
        return []
    return [
        name
        for statement in statements
        if executor._is_dml(statement) and not isinstance(statement, exp.Insert)
        for name in executor._dml_target_tables(statement, project_id)
    ]


class BytesLimitExceeded(InvalidQueryError):
    """A job would bill more than its maximumBytesBilled."""

    bq_reason = "bytesBilledLimitExceeded"


async def _execute_within_limit(*, project_id: str, job_id: str, bq_sql: str, **more: Any) -> Any:
    """Run a query job, or fail it if it would read more bytes than its settings allow."""
    ctx, limit = more["ctx"], int(more["query_config"].get("maximumBytesBilled") or 0)
    read: dict[tuple[str, str, str], dict[str, Any]] = {}
    for table, fields in _tables_read(project_id, bq_sql, ctx) if limit else ():
        read.setdefault(table, {}).update({field.name: field for field in fields})
    # Most are so small that their columns need not be told apart.
    if sum(_sum(ctx, table, ["1"]) for table in read) * LARGEST_ROW_BYTES > limit:
        needed = sum(_sum(ctx, table, map(_size, fields.values())) for table, fields in read.items())
        if needed > limit:
            told = f"Query exceeded limit for bytes billed: {limit}. {needed} or higher required."
            return jobs._failed_job_meta(
                project_id=project_id,
                job_id=job_id,
                job_type="QUERY",
                config=more["config"],
                error_result=jobs._domain_error_to_error_result(BytesLimitExceeded(told)),
                now=ctx.clock.now(),
            )
    return await _execute(project_id=project_id, job_id=job_id, bq_sql=bq_sql, **more)


def _tables_read(project_id: str, bq_sql: str, ctx: Any) -> Iterator[tuple[tuple[str, str, str], list[Any]]]:
    """Yield each table that a statement names, itself or by views, and of its columns those that it names."""
    changed = set(_changed_tables(project_id, bq_sql))
    names, columns = _named(bq_sql)
    for name in names:
        table = (project_id, *name)
        meta = ctx.catalog.get_table(*table)
        if meta is None:
            continue
        if meta.view_query:
            yield from _tables_read(project_id, meta.view_query, ctx)
        else:
            is_whole = table in changed or "*" in columns
            fields = meta.schema_.fields
            yield table, [field for field in fields if is_whole or field.name.lower() in columns]


def _sum(ctx: Any, table: tuple[str, str, str], sizes: Iterable[str]) -> int:
    """Return the sum of expressions over all rows of a table."""
    added = " + ".join(f"COALESCE(SUM({size}), 0)" for size in sizes) or "0"
    [found] = ctx.engine.execute(f"SELECT {added} FROM {tabledata.quoted_table_ref(*table)}").fetchone()  # noqa: S608 (quoted)
    return int(found)


@lru_cache(KEPT_TRANSLATIONS)
def _named(bq_sql: str) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
    """Return the tables that a statement names, by data set and name, and the columns, in lower case."""
    try:
        statements = [one for one in sqlglot.parse(bq_sql, read="bigquery") if one]
    except sqlglot.errors.SqlglotError:  # The job tells of it.
        return frozenset(), frozenset()
    tables = {(one.db, one.name) for tree in statements for one in tree.find_all(exp.Table) if one.db}
    columns = {one.name.lower() for tree in statements for one in tree.find_all(exp.Column)}
    stars = {
        "*" for tree in statements for one in tree.find_all(exp.Star) if isinstance(one.parent, exp.Select)
    }
    return frozenset(tables), frozenset(columns | stars)


def _size(field: Any) -> str:
    """Return the bytes of a column of a row as BigQuery counts them, as an expression of DuckDB."""
    name = '"' + field.name.replace('"', '""') + '"'
    if field.mode != "REPEATED" and field.type in ("STRING", "BYTES", "JSON"):
        return f"2 + OCTET_LENGTH(CAST({name} AS BLOB))" if field.type == "BYTES" else f"2 + STRLEN({name})"
    if field.mode == "REPEATED":
        return f"STRLEN(CAST({name} AS VARCHAR))"
    width = {"NUMERIC": 16, "BIGNUMERIC": 32, "BOOL": 1, "BOOLEAN": 1}.get(field.type, 8)
    return f"CASE WHEN {name} IS NULL THEN 0 ELSE {width} END"


_begun: set[tuple[str, str]] = set()
POLL_SECONDS = 0.05


def _once(run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Run a job of a project's id once, if it writes to no partition by its decorator; a dry run makes no
    job, and one that is refused none either."""

    @wraps(run)
    async def run_once(project_id: str, job_id: str, config: dict[str, Any], *args: Any, **more: Any) -> Any:
        for kind in ("load", "query"):
            table = config.get(kind, {}).get("destinationTable", {}).get("tableId", "")
            if "$" in table:
                raise UnsupportedFeatureError(f"This emulator knows no partition by its decorator: {table}")
        if more.get("dry_run"):
            return await run(project_id, job_id, config, *args, **more)
        ctx = more["ctx"] if "ctx" in more else args[0]
        if (project_id, job_id) in _begun:
            # Only when it has ended does the emulator know a job.
            while (project_id, job_id) in _begun and ctx.catalog.get_job(project_id, job_id) is None:
                await asyncio.sleep(POLL_SECONDS)
            raise AlreadyExistsError(f"Already Exists: Job {project_id}:{job_id}")
        _begun.add((project_id, job_id))
        try:
            return await run(project_id, job_id, config, *args, **more)
        except BaseException:
            _begun.discard((project_id, job_id))
            raise

    return run_once


if __name__ == "__main__":
    # Python's garbage collector looks through all tables' catalogue and all kept translations each time.
    gc.set_threshold(100_000, 20, 20)
    _replace_route(jobs.router, jobs.query, _query_or_fail)
    _replace_route(tabledata.router, tabledata.insert_all, _insert_all_and_remember)
    BigQueryWriteHandler._handle_append_rows = _append_rows
    executor._reject_dml_on_immutable = _refuse_change_of_streamed_rows
    jobs._execute_query_or_failed_meta = _execute_within_limit
    jobs._handle_query_job = _once(jobs._handle_query_job)
    jobs._handle_load_job_with_async_envelope = _once(jobs._handle_load_job_with_async_envelope)
    executor._parse_load_job_config = _parse_load_of_few_uris
    SQLTranslator.translate = _kept_translation
    sqlglot.parse_one = _parse_one_or_share
    Dialect.generator = _kept_generator
    SnapshotManager.capture = _capture_if_asked
    tabledata._partition_rows_for_insert = _partition_rows_if_needed
    main()
