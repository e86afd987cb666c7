"""Writes Arrow tables of events to Spanner: sorted, in bounded commits, no good row lost to a bad one.

Arrow joins the columns into the bytes of a Commit request, with no Python object for a row or a value
(docs/adr/0005); session, credentials, endpoint and call are those of the google-cloud-spanner client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.api_core import exceptions
from google.api_core.gapic_v1.method import wrap_method
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.api_core.retry import Retry, if_exception_type
from google.cloud import spanner
from google.cloud.spanner_v1 import CommitRequest, CommitResponse, RequestOptions, TransactionOptions
from google.cloud.spanner_v1.database import Database
from google.cloud.spanner_v1.database_sessions_manager import TransactionType

from beam_jobs.rejected import Refusal
from beam_jobs.waiting import tell_waiting

TABLE = "loaded_events"
KEY_COLUMNS = ("shard", "event_date", "user_id", "event_time", "event_id", "landing_day", "load_id")
"""The primary key of `loaded_events`, in order."""

STORED_COLUMNS = (
    *KEY_COLUMNS,
    "event_type",
    "product_id",
    "category_id",
    "category_code",
    "brand",
    "price",
    "user_session",
)
"""Every column of `loaded_events`."""

_UNIQUE_COLUMNS = ("event_id",)
"""Of these no value is likely to come twice."""

MAX_COMMIT_MUTATIONS = 28_000
"""Columns x rows of one commit: 2,000 events. Spanner's own limit is 80,000."""

MAX_COMMIT_BYTES = 4 * 1024 * 1024
"""Bytes of the rows of one commit. Spanner's own limit is 100 MiB."""

COMMIT_TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = 300.0
"""How long one commit is tried again before the load fails."""

MAX_REFUSALS_IN_A_ROW = 100
"""So many rows refused with none written between them are no bad rows, but a table that does not fit."""

_RETRY = Retry(
    predicate=if_exception_type(
        exceptions.Aborted,
        exceptions.ServiceUnavailable,
        exceptions.DeadlineExceeded,
        exceptions.ResourceExhausted,
        exceptions.InternalServerError,
    ),
    initial=0.05,
    # Short, since a commit that lost to another must be tried soon, or it loses again.
    maximum=2.0,
    multiplier=2.0,
    timeout=RETRY_SECONDS,
)
_SINGLE_USE = TransactionOptions(read_write=TransactionOptions.ReadWrite())
_LOW = RequestOptions(priority=RequestOptions.Priority.PRIORITY_LOW)
"""Readers come first; without it a commit has high priority, as they have."""
_SESSION_GONE = "Session not found"
"""What Spanner says of a session; of a missing table or database, NOT_FOUND too, it says something else."""
_ABOUT_A_ROW = (exceptions.InvalidArgument, exceptions.FailedPrecondition, exceptions.OutOfRange)

# Field numbers in google/spanner/v1 (CommitRequest, Mutation, Mutation.Write) and google.protobuf.Value.
_COMMIT_MUTATION = 4
_INSERT_OR_UPDATE = 3
_WRITE_TABLE = 1
_WRITE_COLUMN = 2
_WRITE_ROW = 3
_LIST_ELEMENT = 1
_STRING_VALUE = 3
_NULL_VALUE = b"\x08\x00"


class SpannerTableError(RuntimeError):
    """Spanner refuses row after row: the table, not the rows, is wrong."""


class SpannerSink:
    """Writes events into the Spanner table `loaded_events` of one database.

    Every row is an insert_or_update, so that a row written twice is the row written once, and any commit
    may be repeated. Not for use by several threads at once.
    """

    def __init__(self, project: str, instance: str, database: str) -> None:
        """Name the database by ids, without their resource prefixes; the first write connects."""
        tell_waiting()
        self._instance = spanner.Client(project=project).instance(instance)
        self._database = self._instance.database(database)
        self._refusals_in_a_row = 0
        self.commits = 0
        """Commits that succeeded so far."""

    def write(self, events: pa.Table) -> list[Refusal]:
        """Write all rows that Spanner takes; return those that it refuses, in ascending order of row.

        Args:
            events: at least the STORED_COLUMNS, of Arrow types int64, string, date32, timestamp (UTC) and
                decimal128; other columns are left out.

        Raises:
            SpannerTableError: more than MAX_REFUSALS_IN_A_ROW rows are refused one after the other.
            google.api_core.exceptions.GoogleAPICallError: what concerns the whole, such as a missing table or
                database, or missing permission.
            google.api_core.exceptions.RetryError: Spanner was unavailable for RETRY_SECONDS.
        """
        order = pc.sort_indices(events, sort_keys=[(name, "ascending") for name in KEY_COLUMNS])
        rows = encode_rows(events.select(STORED_COLUMNS)).take(order)
        refusals: list[Refusal] = []
        for start, stop in _commits(rows):
            refusals.extend(self._commit(rows, start, stop))
        return sorted(Refusal(order[row].as_py(), detail) for row, detail in refusals)

    def _commit(self, rows: pa.BinaryArray, start: int, stop: int) -> Iterator[Refusal]:
        """Commit rows[start:stop]; if Spanner refuses them, halve until the refused rows stand alone."""
        try:
            self._send(rows, start, stop)
        except _ABOUT_A_ROW as error:
            if stop - start == 1:
                yield self._refused(start, error)
            else:
                middle = (start + stop) // 2
                yield from self._commit(rows, start, middle)
                yield from self._commit(rows, middle, stop)
        else:
            self.commits += 1
            self._refusals_in_a_row = 0

    def _refused(self, row: int, error: exceptions.GoogleAPICallError) -> Refusal:
        self._refusals_in_a_row += 1
        if self._refusals_in_a_row > MAX_REFUSALS_IN_A_ROW:
            raise SpannerTableError(
                f"Spanner refused {self._refusals_in_a_row} rows one after the other for table {TABLE} "
                f"of {self._database.name}. These are no bad rows but a table that does not fit: compare it "
                f"with sql/spanner. The last refusal: {error.message}"
            ) from error
        return Refusal(row, f"{error.grpc_status_code.name}: {error.message}")

    def _send(self, rows: pa.BinaryArray, start: int, stop: int) -> None:
        mutation = mutation_of(rows, start, stop)
        try:
            self._send_in_session(mutation)
        except exceptions.NotFound as error:
            if _SESSION_GONE not in error.message:
                raise
            # Spanner may delete a session; the client would keep it for days. A new client makes another. The
            # old one is not closed: that waits up to ten minutes for a thread of its that sleeps.
            self._database = self._instance.database(self._database.database_id)
            self._send_in_session(mutation)

    def _send_in_session(self, mutation: tuple[bytes | pa.Buffer, ...]) -> None:
        sessions = self._database.sessions_manager
        session = sessions.get_session(TransactionType.READ_WRITE)
        try:
            head = CommitRequest(
                session=session.name, single_use_transaction=_SINGLE_USE, request_options=_LOW
            )
            _commit_call(self._database)(
                # Messages that stand one after the other are one message. Here the rows are copied, once.
                b"".join((CommitRequest.serialize(head), *mutation)),
                retry=_RETRY,
                timeout=COMMIT_TIMEOUT_SECONDS,
                metadata=[
                    ("google-cloud-resource-prefix", self._database.name),
                    ("x-goog-spanner-route-to-leader", "true"),
                    to_grpc_metadata({"session": session.name}),
                ],
            )
        finally:
            sessions.put_session(session)


def _commit_call(database: Database) -> Callable[..., object]:
    """Return the call Commit on the client's own channel, for a request that is bytes already.

    The client's own method takes a message, of which protobuf makes the very same bytes again.
    """
    call = database.spanner_api.transport.grpc_channel.unary_unary(
        "/google.spanner.v1.Spanner/Commit", response_deserializer=CommitResponse.deserialize
    )
    return wrap_method(call)


def mutation_of(rows: pa.BinaryArray, start: int, stop: int) -> tuple[bytes | pa.Buffer, ...]:
    """Return, in parts, the field of a Commit request that writes rows[start:stop], of encode_rows."""
    offsets = _offsets(rows)
    first, end = int(offsets[start]), int(offsets[stop])
    write_start = _write_start()
    size = len(write_start) + end - first
    insert = _start(_INSERT_OR_UPDATE, size)
    head = _start(_COMMIT_MUTATION, len(insert) + size) + insert + write_start
    # One after the other, as they lie in Arrow's buffer.
    return head, rows.buffers()[2].slice(first, end - first)


def encode_rows(events: pa.Table) -> pa.BinaryArray:
    """Encode each row as one field of Mutation.Write: tag, length, and a ListValue of its cells.

    A cell is a string (numbers, days, times and decimals too: that is how Spanner reads a Value) or a null.

    Raises:
        TypeError: a column has a type that no column of `loaded_events` has.
    """
    parts: list[pa.Array | pa.Scalar] = []
    for name, column in zip(events.column_names, events.columns, strict=True):
        parts.extend(_cells(name, column.combine_chunks()))
    sizes = np.zeros(len(events), np.int64)
    for part in parts:
        sizes += len(part.as_py()) if isinstance(part, pa.Scalar) else pc.binary_length(part).to_numpy()
    starts = _by_value(pa.array(sizes), lambda size: _start(_WRITE_ROW, size))
    return pc.binary_join_element_wise(starts, *parts, b"")


def _cells(name: str, column: pa.Array) -> Iterator[pa.Array | pa.Scalar]:
    """Yield what is joined to a column's cells, each without NULLs: arrays, or what all rows have."""
    if name in _UNIQUE_COLUMNS and not column.null_count:
        text = _as_text(name, column).cast(pa.binary())
        yield _by_value(pc.binary_length(text), _cell_start)
        yield text
        return
    # What repeats within a block, as all else does, is encoded once. NULL is one value more.
    encoded = column.dictionary_encode(null_encoding="encode")
    text = _as_text(name, encoded.dictionary).cast(pa.binary())
    starts = _by_value(pc.binary_length(text), _cell_start)
    cells = pc.fill_null(pc.binary_join_element_wise(starts, text, b""), _field(_LIST_ELEMENT, _NULL_VALUE))
    yield cells[0] if len(cells) == 1 else cells.take(encoded.indices)


def _cell_start(size: int) -> bytes:
    value_start = _start(_STRING_VALUE, size)
    return _start(_LIST_ELEMENT, len(value_start) + size) + value_start


def _as_text(name: str, values: pa.Array) -> pa.StringArray:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_int64(kind) or pa.types.is_date32(kind):
        return values.cast(pa.string())
    if pa.types.is_timestamp(kind):
        # 2019-11-01 00:00:01.000000 without a zone; strftime says the same in ten times the time.
        plain = values.cast(pa.timestamp(kind.unit)).cast(pa.string())
        return pc.binary_join_element_wise(pc.utf8_replace_slice(plain, 10, 11, "T"), "Z", "")
    if pa.types.is_decimal(kind):
        texts = values.cast(pa.string())
        # Arrow writes small numbers as 0E-9, which Spanner's NUMERIC does not promise to read.
        small = pc.match_substring(texts, "E")
        plain = [format(value, "f") for value in values.filter(small).to_pylist()]
        return pc.replace_with_mask(texts, small, pa.array(plain, pa.string()))
    raise TypeError(f"column {name} has the Arrow type {kind}, which no column of {TABLE} has")


def _by_value(numbers: pa.Array, prefix: Callable[[int], bytes]) -> pa.BinaryArray:
    """Return prefix(number) of each number, NULL where it is NULL; few of them differ."""
    encoded = numbers.dictionary_encode()
    prefixes = pa.array([prefix(number) for number in encoded.dictionary.to_pylist()], pa.binary())
    return prefixes.take(encoded.indices)


def _write_start() -> bytes:
    """Return what stands before the rows of a Mutation.Write: the table and its columns."""
    columns = b"".join(_field(_WRITE_COLUMN, column.encode()) for column in STORED_COLUMNS)
    return _field(_WRITE_TABLE, TABLE.encode()) + columns


def _offsets(rows: pa.BinaryArray) -> np.ndarray:
    return np.frombuffer(rows.buffers()[1], np.int32)[rows.offset : rows.offset + len(rows) + 1]


def _commits(rows: pa.BinaryArray) -> Iterator[tuple[int, int]]:
    """Cut the rows into ranges within MAX_COMMIT_MUTATIONS and (a single row aside) MAX_COMMIT_BYTES."""
    most_rows = MAX_COMMIT_MUTATIONS // len(STORED_COLUMNS)
    offsets = _offsets(rows)
    start = 0
    while start < len(rows):
        fitting = int(np.searchsorted(offsets, offsets[start] + MAX_COMMIT_BYTES, side="right")) - 1
        stop = min(max(fitting, start + 1), start + most_rows, len(rows))
        yield start, stop
        start = stop


def _field(number: int, content: bytes) -> bytes:
    return _start(number, len(content)) + content


def _start(number: int, size: int) -> bytes:
    """Return what stands before a protobuf string or message of `size` bytes; field number below 16."""
    return bytes([number << 3 | 2]) + _varint(size)


def _varint(number: int) -> bytes:
    """Return a number from 0 as a protobuf varint: 7 bits a byte, lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
