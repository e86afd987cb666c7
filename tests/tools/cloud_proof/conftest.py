"""A shop to probe: the emulators, by their endpoints."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from local.stack import emulators
from shopstream.settings import settings
from tests.airflow_home import airflow_home  # noqa: F401
from tests.airflow_server import airflow  # noqa: F401
from tests.dags.conftest import dataflow, shop  # noqa: F401
from tools.cloud_proof.ground import Ground


def no_airflow() -> Any:
    raise AssertionError("no Airflow is here")


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    """What the environment's endpoints lead to, without an Airflow."""
    monkeypatch.setenv("SHOPSTREAM_PROJECT", settings().project)
    return Ground("small", no_airflow, lambda line: None)


Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], str]]:
    """Let a function answer for Google's REST APIs: it is given each path, with the query or body."""
    servers = []

    def serve(answer: Answer) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query: dict[str, Any] = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if length := int(self.headers.get("Content-Length", 0)):
                    query |= json.loads(self.rfile.read(length))
                status, body = answer(parts.path, query)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer((emulators.HOST, 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{emulators.HOST}:{server.server_port}"
        asked = Ground.google
        monkeypatch.setattr(
            Ground, "google", lambda self, api, version, endpoint=None: asked(self, api, version, url)
        )
        return url

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
