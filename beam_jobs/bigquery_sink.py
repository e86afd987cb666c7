"""Streams rows into a BigQuery table: insert ids, bounded requests, no good row lost to a bad one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound, RetryError
from google.api_core.retry import Retry
from google.auth.exceptions import TransportError
from google.cloud import bigquery
from requests.exceptions import ChunkedEncodingError, Timeout
from requests.exceptions import ConnectionError as RequestsConnectionError

from beam_jobs.rejected import Refusal

MAX_REQUEST_ROWS = 500
"""BigQuery recommends at most so many; its limit is 50,000."""

MAX_REQUEST_BYTES = 5 * 2**20
"""Of the rows as JSON. BigQuery's limit is 10 MB."""

REQUEST_TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = 120.0
"""How long rows are tried again before the write fails."""

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
_REQUEST_TIMEOUT, _TOO_LARGE, _TOO_MANY, _BAD_REQUEST, _SERVER_ERROR = 408, 413, 429, 400, 500
_INSERT_ID_BYTES = 256


class BigQueryTableError(RuntimeError):
    """The table is missing or may not be written to: no row is at fault."""


class BigQueryUnavailable(RuntimeError):
    """BigQuery did not take the rows for RETRY_SECONDS, though it refused none."""


class BigQuerySink:
    """Inserts rows into one table by the streaming API (tabledata.insertAll).

    A row that is inserted again under the same insert id within about a minute is mostly dropped by BigQuery;
    readers still have to expect it twice. Not for use by several threads at once.
    """

    def __init__(self, table: str, retry_seconds: float = RETRY_SECONDS) -> None:
        """Name the table as PROJECT:DATASET.TABLE; the first insert connects."""
        project, _, name = table.rpartition(":")
        self._table = f"{project}.{name}"
        self._client = bigquery.Client(project=project)
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
            BigQueryTableError: the table is missing, or the job may not write to it.
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
            refused, again, why = _outcomes(answer, pending)
            refusals.extend(refused)
            pending = again
            if pending:
                raise _RowsNotTaken(f"{len(pending)} rows were not taken: {why}")

        try:
            self._retry(insert_pending)()
        except RetryError as error:
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
            else:
                half = len(pending) // 2
                for part in (pending[:half], pending[half:]):
                    refusals += self._insert(rows, insert_ids, part)
        return refusals


class _RowsNotTaken(Exception):
    """BigQuery took a request, but for the moment not all of its rows."""


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
) -> tuple[list[Refusal], list[int], str]:
    """Return the rows refused, the indexes of those to insert again, and why."""
    refused, again, why = [], [], ""
    for entry in answer:
        index, errors = indexes[entry["index"]], entry["errors"]
        told = "; ".join(map(_told, errors))
        if all(error.get("reason") in _TRANSIENT_REASONS for error in errors):
            again.append(index)
            why = told
        else:
            refused.append(Refusal(index, told))
    return refused, again, why


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
