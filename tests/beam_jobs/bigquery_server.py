"""A BigQuery that answers insertAll as a test says: for what the emulator does not show."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]
TAKEN: Answer = (200, {})


def failed(code: int, reason: str, message: str = "told by BigQuery") -> Answer:
    """Refuse the whole request."""
    error = {"reason": reason, "message": message}
    return code, {"error": {"code": code, "message": message, "errors": [error]}}


def not_taken(message: str = "told", **reasons: str) -> Answer:
    """Take the request but for some rows: row_3="invalid" is row 3's reason."""
    return 200, {
        "insertErrors": [
            {"index": int(row.removeprefix("row_")), "errors": [{"reason": reason, "message": message}]}
            for row, reason in reasons.items()
        ]
    }


@contextmanager
def serving(answer: Callable[[list[dict[str, Any]]], Answer]) -> Iterator[str]:
    """Serve on a free port; `answer` is asked with the rows of each request: {"insertId", "json"}."""

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["skipInvalidRows"] is True
            code, content = answer(body["rows"])
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
