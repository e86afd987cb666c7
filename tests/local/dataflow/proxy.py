"""A proxy in front of the local Dataflow that lets launches go wrong as networks and services do."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local.stack import emulators

Forward = Callable[[], tuple[int, bytes]]
Launch = Callable[[Forward], tuple[int, bytes] | None]
"""What becomes of one launch: the status and body to answer with; None closes without an answer."""


@dataclass
class Proxy:
    """`launches` are what becomes of the next launches, in order; all later ones are just forwarded."""

    url: str
    launches: list[Launch] = field(default_factory=list)
    seen: int = 0


def refuse(status: int, text: str = "refused") -> Launch:
    """Answer as Google's APIs do, without asking Dataflow."""
    body = json.dumps({"error": {"code": status, "message": text, "status": "REFUSED"}}).encode()
    return lambda forward: (status, body)


def lose_answer(status: int) -> Launch:
    """Let Dataflow launch the job, but answer with an error."""

    def launch(forward: Forward) -> tuple[int, bytes]:
        forward()
        return refuse(status, "the answer was lost")(forward) or (status, b"")

    return launch


def never_answer(released: threading.Event, *, launch_it: bool) -> Launch:
    """Hold the request until the test ends, with the job launched or not."""

    def launch(forward: Forward) -> None:
        if launch_it:
            forward()
        released.wait(120)

    return launch


def after(first: Callable[[], object]) -> Launch:
    """Do something first, then forward the launch."""

    def launch(forward: Forward) -> tuple[int, bytes]:
        first()
        return forward()

    return launch


@contextmanager
def proxying(target: str) -> Iterator[Proxy]:
    """Serve a proxy to the service at the URL `target`."""
    proxy = Proxy("")
    mutex = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(self._forward(None))

        def do_PUT(self) -> None:
            self._answer(self._forward(self._body()))

        def do_POST(self) -> None:
            body = self._body()
            launch: Launch = lambda forward: forward()  # noqa: E731
            if "flexTemplates:launch" in self.path:
                with mutex:
                    proxy.seen += 1
                    if proxy.launches:
                        launch = proxy.launches.pop(0)
            self._answer(launch(lambda: self._forward(body)))

        def log_message(self, *arguments: object) -> None:
            pass

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _forward(self, body: bytes | None) -> tuple[int, bytes]:
            request = urllib.request.Request(
                target + self.path, body, {"Content-Type": "application/json"}, method=self.command
            )
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        def _answer(self, answer: tuple[int, bytes] | None) -> None:
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

    server = ThreadingHTTPServer((emulators.HOST, 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://{emulators.HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
