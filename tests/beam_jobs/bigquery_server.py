"""A BigQuery that answers AppendRows as a test says: for what the emulator does not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

import grpc
import pyarrow as pa
from google.cloud.bigquery_storage_v1.types import (
    AppendRowsRequest,
    AppendRowsResponse,
    RowError,
    StorageError,
    TableFieldSchema,
    TableSchema,
)
from google.rpc.status_pb2 import Status

Answer: TypeAlias = AppendRowsResponse | grpc.StatusCode | Callable[[], AppendRowsResponse]
"""A code ends the connection with it; OK ends it as a server does that goes away."""

TAKEN = AppendRowsResponse(append_result={})
TOLD = "told by BigQuery"


def failed(code: grpc.StatusCode, message: str = TOLD) -> AppendRowsResponse:
    """Refuse the whole request, but keep the connection."""
    return AppendRowsResponse(error=Status(code=code.value[0], message=message))


def lacking(field: str) -> AppendRowsResponse:
    """Refuse the request for a field that the table has not."""
    answer = failed(grpc.StatusCode.INVALID_ARGUMENT, f"extra fields: {field}")
    code = StorageError.StorageErrorCode.SCHEMA_MISMATCH_EXTRA_FIELDS
    answer.error.details.add().Pack(StorageError.pb(StorageError(code=code)))
    return answer


def refused(*rows: int, message: str = "told") -> AppendRowsResponse:
    """Refuse the request for these rows."""
    return AppendRowsResponse(
        error=Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="see the row_errors"),
        row_errors=[RowError(index=row, message=message) for row in rows],
    )


def taken_by_a_changed_table() -> AppendRowsResponse:
    """Take the rows, and tell that the table has another schema now."""
    field = TableFieldSchema(name="new", type_=TableFieldSchema.Type.STRING)
    return AppendRowsResponse(append_result={}, updated_schema=TableSchema(fields=[field]))


class _Service(grpc.GenericRpcHandler):
    def __init__(self, answer: Callable[[list[dict[str, Any]]], Answer]) -> None:
        self._answer = answer
        self.connections = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if not handler_call_details.method.endswith(".BigQueryWrite/AppendRows"):
            return None
        return grpc.stream_stream_rpc_method_handler(
            self._append,
            request_deserializer=AppendRowsRequest.deserialize,
            response_serializer=AppendRowsResponse.serialize,
        )

    def _append(
        self, requests: Iterator[AppendRowsRequest], context: grpc.ServicerContext
    ) -> Iterator[AppendRowsResponse]:
        self.connections += 1
        schema = b""
        for request in requests:
            if not schema:
                assert request.write_stream.endswith("/streams/_default")
                routed = f"write_stream={request.write_stream}"
                assert dict(context.invocation_metadata())["x-goog-request-params"] == routed
                schema = request.arrow_rows.writer_schema.serialized_schema
            data = schema + request.arrow_rows.rows.serialized_record_batch
            answer = self._answer(pa.ipc.open_stream(data).read_all().to_pylist())
            if answer is grpc.StatusCode.OK:
                return
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, TOLD)
            yield answer() if callable(answer) else answer


@contextmanager
def serving(answer: Callable[[list[dict[str, Any]]], Answer]) -> Iterator[tuple[str, _Service]]:
    """Serve on a free port; `answer` is asked with the rows of each request, in any thread."""
    service = _Service(answer)
    server = grpc.server(
        ThreadPoolExecutor(8), handlers=[service], options=[("grpc.max_receive_message_length", -1)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", service
    finally:
        server.stop(None).wait()
