"""Streams rows into a BigQuery table: insert ids, bounded requests, no good row lost to a bad one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, RetryError
from google.api_core.retry import Retry
from google.auth.exceptions import TransportError
from google.cloud import bigquery
from requests.exceptions import ChunkedEncodingError, Timeout
from requests.exceptions import ConnectionError as RequestsConnectionError

from beam_jobs.rejected import Refusal
from beam_jobs.waiting import tell_waiting

MAX_REQUEST_ROWS = 500
"""BigQuery recommends at most so many; its limit is 50,000."""

MAX_REQUEST_BYTES = 5 * 2**20
"""Of the rows as JSON. BigQuery's limit is 10 MB."""

REQUEST_TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = 120.0
"""How long rows are tried again before the write fails."""

MAX_REFUSALS_IN_A_ROW = 100
"""More rows than this refused one after the other are the table's fault."""

Row = Mapping[str, str | int | None]

_TRANSIENT_REASONS = frozenset(
    {
        "backendError",
        "internalError",
        "quotaExceeded",
        "rateLimitExceeded",
        "stopped",
        "timeout",
    }
)
"""Reasons, of a request or of one row, for which the same row may be taken later."""
_OF_THE_SCHEMA = re.compile(r"no such field|missing required field", re.IGNORECASE)
"""How a message begins that is told of the table, since all rows have the same fields; further on it may
quote a row. After a change of the schema the streaming end knows the old one for some minutes (BigQuery:
"Streaming data into BigQuery", metadata)."""
_REQUEST_TIMEOUT, _TOO_LARGE, _TOO_MANY, _BAD_REQUEST, _SERVER_ERROR = 408, 413, 429, 400, 500
_INSERT_ID_BYTES = 256


class BigQueryTableError(RuntimeError):
    """The table is missing, may not be written to or has another schema: no row is at fault."""


class BigQueryUnavailable(RuntimeError):
    """BigQuery did not take the rows for RETRY_SECONDS, though it refused none."""


class BigQuerySink:
    """Inserts rows into one table by the streaming API (tabledata.insertAll).

    A row that is inserted again under the same insert id within about a minute is mostly dropped by BigQuery;
    readers still have to expect it twice. Not for use by several threads at once.
    """

    def __init__(self, table: str, retry_seconds: float = RETRY_SECONDS) -> None:
        """Name the table as PROJECT:DATASET.TABLE; the first insert connects."""
        tell_waiting()
        project, _, name = table.rpartition(":")
        self._table = f"{project}.{name}"
        self._client = bigquery.Client(project=project)
        self._refusals_in_a_row = 0
        self._retry_seconds = retry_seconds
        self._retry = Retry(
            predicate=_is_transient, initial=0.2, maximum=10.0, multiplier=2.0, timeout=retry_seconds
        )

    def insert(self, rows: Sequence[Row], insert_ids: Sequence[str | None]) -> list[Refusal]:
        """Insert all rows that BigQuery takes; return those that it refuses, in ascending order of row.

        Args:
            rows: by column name, each value as BigQuery reads it from JSON.
            insert_ids: one a row; None for a row that may always be there again.

        Raises:
            BigQueryTableError: the table is missing, or the job may not write to it, or its streaming end
                did not know the rows' fields for RETRY_SECONDS, or more than MAX_REFUSALS_IN_A_ROW rows were
                refused one after the other.
            BigQueryUnavailable: it did not take some rows for RETRY_SECONDS. Any may have been inserted.
        """
        refusals: list[Refusal] = []
        for indexes in _requests(rows):
            refusals += self._insert(rows, insert_ids, indexes)
        return sorted(refusals)

    def _insert(
        self, rows: Sequence[Row], insert_ids: Sequence[str | None], indexes: list[int]
    ) -> list[Refusal]:
        """Insert the rows of these indexes in one request, or in several if it is refused as a whole."""
        refusals: list[Refusal] = []
        pending = indexes

        def insert_pending() -> None:
            nonlocal pending
            answer = self._client.insert_rows_json(
                self._table,
                [rows[index] for index in pending],
                row_ids=[insert_ids[index] for index in pending],
                # Else one bad row would keep back all others of its request.
                skip_invalid_rows=True,
                retry=None,
                timeout=REQUEST_TIMEOUT_SECONDS,
            )
            refused, again, waits_for = _outcomes(answer, pending)
            refusals.extend(refused)
            self._count_refusals(pending, refused, again)
            pending = again
            if waits_for:
                raise waits_for

        try:
            self._retry(insert_pending)()
        except RetryError as error:
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
        except NotFound as error:
            raise BigQueryTableError(
                f"BigQuery has no table {self._table}; run the DAG apply_schemas. ({error.message})"
            ) from error
        except Forbidden as error:
            raise BigQueryTableError(
                f"The job may not insert into {self._table}; give its service account the role "
                f"roles/bigquery.dataEditor on it. ({error.message})"
            ) from error
        except GoogleAPICallError as error:
            if error.code not in (_BAD_REQUEST, _TOO_LARGE):
                raise
            # Which row it is about is not told: look for it by halves.
            if len(pending) == 1:
                refusals.append(Refusal(pending[0], f"{error.code} {error.message}"))
                self._count_refusals(pending, refusals[-1:], [])
            else:
                half = len(pending) // 2
                for part in (pending[:half], pending[half:]):
                    refusals += self._insert(rows, insert_ids, part)
        return refusals

    def _count_refusals(
        self, indexes: Sequence[int], refused: Sequence[Refusal], again: Sequence[int]
    ) -> None:
        """Count the rows refused since the last one that was taken; `indexes` are those of a request."""
        details = dict(refused)
        for index in indexes:
            if index in details:
                self._refusals_in_a_row += 1
            elif index not in again:
                self._refusals_in_a_row = 0
            if self._refusals_in_a_row > MAX_REFUSALS_IN_A_ROW:
                raise BigQueryTableError(
                    f"BigQuery refused {self._refusals_in_a_row} rows for {self._table} one after the other. "
                    "These are no bad rows but a table that does not fit: compare it with sql/bigquery, and "
                    f"run the DAG apply_schemas. The last refusal: {details[index]}"
                )


class _RowsNotTaken(Exception):
    """BigQuery took a request, but for the moment not all of its rows."""


class _SchemaBehind(_RowsNotTaken):
    """The table's streaming end does not have the fields of the rows, or not yet."""


def _requests(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Yield the indexes of the rows of each request."""
    indexes: list[int] = []
    request_bytes = 0
    for index, row in enumerate(rows):
        row_bytes = len(json.dumps(row)) + _INSERT_ID_BYTES
        if indexes and (len(indexes) == MAX_REQUEST_ROWS or request_bytes + row_bytes > MAX_REQUEST_BYTES):
            yield indexes
            indexes, request_bytes = [], 0
        indexes.append(index)
        request_bytes += row_bytes
    if indexes:
        yield indexes


def _outcomes(
    answer: Sequence[Mapping[str, Any]], indexes: Sequence[int]
) -> tuple[list[Refusal], list[int], _RowsNotTaken | None]:
    """Return the rows refused, the indexes of those to insert again, and what these wait for."""
    refused, again = [], []
    waits_for: _RowsNotTaken | None = None
    for entry in answer:
        index, errors = indexes[entry["index"]], entry["errors"]
        told = "; ".join(map(_told, errors))
        if any(_OF_THE_SCHEMA.match(str(error.get("message"))) for error in errors):
            again.append(index)
            # It is told of all rows.
            waits_for = _SchemaBehind(told)
        elif all(error.get("reason") in _TRANSIENT_REASONS for error in errors):
            again.append(index)
            waits_for = waits_for or _RowsNotTaken(told)
        else:
            refused.append(Refusal(index, told))
    return refused, again, waits_for


def _told(error: Mapping[str, Any]) -> str:
    where = f" at {error['location']}" if error.get("location") else ""
    return f"{error.get('reason')}{where}: {error.get('message')}"


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, GoogleAPICallError):
        reasons = {entry.get("reason") for entry in error.errors if isinstance(entry, Mapping)}
        code = error.code or _SERVER_ERROR
        return (
            code in (_REQUEST_TIMEOUT, _TOO_MANY)
            or code >= _SERVER_ERROR
            or bool(reasons & _TRANSIENT_REASONS)
        )
    return isinstance(
        error,
        _RowsNotTaken
        | ConnectionError
        | RequestsConnectionError
        | ChunkedEncodingError
        | Timeout
        | TransportError,
    )
