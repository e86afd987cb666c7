"""Appends Arrow tables to a BigQuery table: bounded requests, no good row lost to a bad one.

The rows go by the Storage Write API's default stream as Arrow record batches, with no Python object for a row
or a value (docs/adr/0017); credentials, endpoint and call are those of google-cloud-bigquery-storage.
"""

from __future__ import annotations

import functools
import os
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import grpc
import pyarrow as pa
from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.cloud.bigquery_storage_v1.types import AppendRowsRequest, AppendRowsResponse, StorageError
from google.protobuf.any_pb2 import Any as AnyMessage

from beam_jobs.rejected import Refusal
from beam_jobs.waiting import tell_waiting

EMULATOR_VARIABLE = "BIGQUERY_STORAGE_EMULATOR_HOST"
"""Names an emulator of the Storage API as HOST:PORT, as Google's clients read it of other services."""

MAX_REQUEST_BYTES = 8 * 2**20
"""Of the rows in a request. BigQuery's limit is 10 MB, with all that is around them."""

REQUEST_TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = 120.0
"""How long rows are tried again before the write fails."""

MAX_REFUSALS_IN_A_ROW = 100
"""More rows than this refused one after the other are the table's fault."""

_MISSING_FIELD = "missing required field"
"""How a row's error begins, in any case, that is told of the table, since all rows have what it requires;
further on it may quote a row. After a change of the schema BigQuery may know the old one for some minutes."""
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Else gRPC itself waits up to two minutes before it connects to a server that was away.
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class BigQueryTableError(RuntimeError):
    """The table is missing, may not be written to or has another schema: no row is at fault."""


class BigQueryUnavailable(RuntimeError):
    """BigQuery did not take the rows for RETRY_SECONDS, though it refused none."""


class BigQuerySink:
    """Appends rows to one table, at least once: a row whose answer was lost is appended again.

    Not for use by several threads at once. The sinks of a process share a connection to a table.
    """

    def __init__(self, table: str, retry_seconds: float = RETRY_SECONDS) -> None:
        """Name the table as PROJECT:DATASET.TABLE; the first append connects."""
        tell_waiting()
        project, _, name = table.rpartition(":")
        dataset, _, table_id = name.partition(".")
        self._table = f"{project}.{name}"
        self._stream = f"projects/{project}/datasets/{dataset}/tables/{table_id}/streams/_default"
        self._refusals_in_a_row = 0
        self._retry_seconds = retry_seconds
        self._retry = Retry(
            predicate=if_exception_type(*_TRANSIENT),
            initial=0.2,
            maximum=10.0,
            multiplier=2.0,
            timeout=retry_seconds,
        )

    def append(self, rows: pa.Table) -> list[Refusal]:
        """Append all rows that BigQuery takes; return those that it refuses, in ascending order of row.

        Args:
            rows: columns of the table, all that it requires among them, as Arrow's int64, string, binary,
                date32, timestamp (microseconds, UTC) or decimal128.

        Raises:
            BigQueryTableError: the table is missing, or the job may not write to it, or it did not have the
                rows' fields for RETRY_SECONDS, or more than MAX_REFUSALS_IN_A_ROW rows were refused one after
                the other.
            BigQueryUnavailable: it did not take some rows for RETRY_SECONDS. Any may have been appended.
        """
        refusals: list[Refusal] = []
        start = 0
        for whole in rows.combine_chunks().to_batches():
            for batch in _bounded(whole):
                refused = self._append(batch, range(batch.num_rows))
                refusals += [Refusal(start + row, detail) for row, detail in refused]
                start += batch.num_rows
        return sorted(refusals)

    def _append(self, batch: pa.RecordBatch, rows: Sequence[int]) -> list[Refusal]:
        """Append these rows of a batch in one request, or in several if it is refused."""
        refusals: list[Refusal] = []
        pending = rows

        def append_pending() -> None:
            nonlocal pending
            while pending:
                is_whole = len(pending) == batch.num_rows
                told = self._send(batch if is_whole else batch.take(pa.array(pending)))
                behind = [detail for detail in told.values() if detail.lower().startswith(_MISSING_FIELD)]
                refused = {pending[at]: detail for at, detail in told.items() if detail not in behind}
                refusals.extend(Refusal(*row) for row in refused.items())
                # Of a request with a bad row BigQuery takes none.
                pending = [row for row in pending if row not in refused] if told else ()
                if behind:
                    raise _SchemaBehind(behind[0])

        try:
            self._retry(append_pending)()
        except exceptions.RetryError as error:
            if isinstance(error.cause, _SchemaBehind):
                raise BigQueryTableError(
                    f"{self._table} has not had the fields of this job's rows for "
                    f"{self._retry_seconds:.0f} seconds: run the DAG apply_schemas of the job's version, and "
                    f"start the job minutes after it. ({error.cause})"
                ) from error
            raise BigQueryUnavailable(
                f"BigQuery did not take {len(pending)} rows for {self._table} within "
                f"{self._retry_seconds:.0f} seconds: {error.cause}"
            ) from error
        except exceptions.NotFound as error:
            raise BigQueryTableError(
                f"BigQuery has no table {self._table}; run the DAG apply_schemas. ({error.message})"
            ) from error
        except exceptions.Forbidden as error:
            raise BigQueryTableError(
                f"The job may not append to {self._table}; give its service account the permission "
                f"bigquery.tables.updateData on it, as roles/bigquery.dataEditor does. ({error.message})"
            ) from error
        except exceptions.BadRequest as error:
            # Which row it is about is not told: look for it by halves.
            if len(pending) > 1:
                half = len(pending) // 2
                for part in (pending[:half], pending[half:]):
                    refusals += self._append(batch, part)
                return refusals
            refusals.append(Refusal(pending[0], f"{_name(error)}: {error.message}"))
        self._count_refusals(rows, refusals)
        return refusals

    def _send(self, rows: pa.RecordBatch) -> dict[int, str]:
        """Append all of the rows, or none if there is an error of a row; return these errors by row."""
        connection = _connection_to(self._stream, rows.schema)
        try:
            answer = connection.send(rows).result(REQUEST_TIMEOUT_SECONDS)
            if answer.error.code and not answer.row_errors:
                error = answer.error
                raise exceptions.from_grpc_status(error.code, error.message, details=list(error.details))
        except TimeoutError:
            connection.cancel()
            message = f"no answer within {REQUEST_TIMEOUT_SECONDS:.0f} seconds"
            raise exceptions.DeadlineExceeded(message) from None
        except exceptions.BadRequest as error:
            if not _tells_of_extra_fields(error):
                raise
            connection.close()
            raise _SchemaBehind(error.message) from error
        if answer.updated_schema.fields:
            connection.close()
        return {error.index: error.message for error in answer.row_errors}

    def _count_refusals(self, rows: Sequence[int], refusals: Sequence[Refusal]) -> None:
        """Count the rows refused since the last one that was taken, by what became of these."""
        details = dict(refusals)
        for row in rows:
            self._refusals_in_a_row = self._refusals_in_a_row + 1 if row in details else 0
            if self._refusals_in_a_row > MAX_REFUSALS_IN_A_ROW:
                raise BigQueryTableError(
                    f"BigQuery refused {self._refusals_in_a_row} rows for {self._table} one after the other. "
                    "These are no bad rows but a table that does not fit: compare it with sql/bigquery, and "
                    f"run the DAG apply_schemas. The last refusal: {details[row]}"
                )


class _SchemaBehind(Exception):
    """The connection to the table does not know the fields of the rows, or not yet."""


_TRANSIENT = (
    _SchemaBehind,
    # Of a connection that was closed, for being idle or for a server's restart.
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
    # What gRPC makes of a connection that broke, among others.
    exceptions.Unknown,
)


class _Connection:
    """One call of AppendRows, whose answers come in the order of its requests; for use by several threads.

    It knows the table's schema of when it was opened. BigQuery closes it after some idle minutes.
    """

    def __init__(self, stream: str, schema: pa.Schema) -> None:
        first = AppendRowsRequest(write_stream=stream)
        first.arrow_rows.writer_schema.serialized_schema = schema.serialize().to_pybytes()
        self._next = first
        self._requests: queue.SimpleQueue[AppendRowsRequest | None] = queue.SimpleQueue()
        self._answers: deque[Future[AppendRowsResponse]] = deque()
        self._changing = threading.Lock()
        self.is_open = True
        self._why_closed: exceptions.GoogleAPICallError = exceptions.Aborted("the connection was closed")
        self._call = _transport(os.environ.get(EMULATOR_VARIABLE)).append_rows(
            iter(self._requests.get, None),
            # BigQuery finds the table's region by it.
            metadata=[("x-goog-request-params", f"write_stream={stream}")],
        )
        threading.Thread(target=self._read, name="append", daemon=True).start()

    def send(self, rows: pa.RecordBatch) -> Future[AppendRowsResponse]:
        """Send rows of the connection's schema; the future gives the answer, or raises GoogleAPICallError."""
        data = rows.serialize().to_pybytes()
        answer: Future[AppendRowsResponse] = Future()
        with self._changing:
            if not self.is_open:
                raise self._why_closed
            request, self._next = self._next, AppendRowsRequest()
            # Set by proto-plus, the bytes are copied twice more.
            AppendRowsRequest.pb(request).arrow_rows.rows.serialized_record_batch = data
            self._answers.append(answer)
            self._requests.put(request)
        return answer

    def close(self) -> None:
        """Send nothing more; what was sent is answered still."""
        with self._changing:
            self.is_open = False
        self._requests.put(None)

    def cancel(self) -> None:
        """Give up what was not answered."""
        self.close()
        self._call.cancel()

    def _read(self) -> None:
        ended = self._why_closed
        try:
            for answer in self._call:
                self._answers.popleft().set_result(answer)
        except grpc.RpcError as error:
            ended = exceptions.from_grpc_error(error)
        if not self._answers and not isinstance(ended, exceptions.BadRequest):
            self._why_closed = ended
        self.close()
        # What ended the connection is the answer to the first of them; of the others nothing is known.
        for waiting in self._answers:
            waiting.set_exception(ended)
            ended = self._why_closed


_connections: dict[tuple[str, bytes, str | None], _Connection] = {}
_connecting = threading.Lock()


def _connection_to(stream: str, schema: pa.Schema) -> _Connection:
    """Return this process's open connection to a stream for rows of a schema."""
    key = (stream, schema.serialize().to_pybytes(), os.environ.get(EMULATOR_VARIABLE))
    with _connecting:
        connection = _connections.get(key)
        if connection is None or not connection.is_open:
            connection = _connections[key] = _Connection(stream, schema)
        return connection


@functools.cache
def _transport(emulator: str | None) -> BigQueryWriteGrpcTransport:
    """Return the way to BigQuery, or to an emulator at HOST:PORT."""
    if emulator:
        channel = grpc.insecure_channel(emulator, options=_CHANNEL_OPTIONS)
    else:
        channel = BigQueryWriteGrpcTransport.create_channel(options=_CHANNEL_OPTIONS)
    return BigQueryWriteGrpcTransport(channel=channel)


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into parts within MAX_REQUEST_BYTES, a single row aside."""
    if batch.nbytes <= MAX_REQUEST_BYTES or batch.num_rows == 1:
        yield batch
    else:
        half = batch.num_rows // 2
        yield from _bounded(batch.slice(0, half))
        yield from _bounded(batch.slice(half))


def _tells_of_extra_fields(error: exceptions.GoogleAPICallError) -> bool:
    """Whether BigQuery says that the rows have fields that the table has not."""
    told = StorageError.pb(StorageError())
    return any(
        # Of a call's end google.api_core has unpacked what it knows.
        isinstance(detail, AnyMessage)
        and detail.Is(told.DESCRIPTOR)
        and detail.Unpack(told)
        and told.code == StorageError.StorageErrorCode.SCHEMA_MISMATCH_EXTRA_FIELDS
        for detail in error.details
    )


def _name(error: exceptions.GoogleAPICallError) -> str:
    return error.grpc_status_code.name if error.grpc_status_code else str(error.code)
