"""What stands between a client and a store and fails as networks and services do, or tells when to kill.

A way is a chain: where the client connects (Front), and is cut off, held or refused; a server of the store's
kind, which answers with errors (HttpErrors, GrpcErrors); the emulator.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

from local.stack import emulators

PIECE_BYTES = 16_384
LONGEST_CALL_SECONDS = 86_400.0
REASONS = {429: "rateLimitExceeded", 503: "backendError"}
"""What BigQuery names beside such an answer."""


@dataclass(slots=True)
class Storm:
    """Which requests fail, and how: the first, and by lot a share of the others, until `most` have failed.

    `status` is one of HTTP or the name of one of gRPC; `of` a pattern of the requests that may fail, as
    "POST /path" or the name of a call. A share of them, `done`, is done before it is answered so, where that
    can be: a store that is busy or has aborted has done nothing.
    """

    status: int | str
    pick: random.Random
    most: int = 4
    share: float = 0.6
    of: str = ""
    done: float = 0.5
    failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, request: str) -> bool:
        """Tell whether this request fails."""
        with self._lock:
            may = self.failed < self.most and re.search(self.of, request) is not None
            struck = may and (self.failed == 0 or self.pick.random() < self.share)
            self.failed += struck
            return struck

    def is_after(self) -> bool:
        """Tell whether a request that fails is done nevertheless."""
        with self._lock:
            return self.status in (503, "UNAVAILABLE") and self.pick.random() < self.done


@dataclass
class Way:
    """A way to a store, whose client connects to `host`."""

    host: str
    front: Front
    errors: HttpErrors | GrpcErrors

    @property
    def url(self) -> str:
        """The same, of a store that speaks HTTP."""
        return f"http://{self.host}"

    def calm(self) -> None:
        """Fail no more."""
        self.errors.storm = None
        self.front.arm()


class Front:
    """Passes bytes on, counts them, and at given counts does something before it passes on what follows."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server((emulators.HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.RLock()
        self._plan: list[tuple[int, Callable[[], bool]]] = []
        self._closed = False
        self.passed = 0
        """Bytes in both directions since it was armed."""
        self._accept()

    def arm(self, *plan: tuple[int, Callable[[], bool]]) -> None:
        """Count anew; at each of these counts call this. False drops what would be passed on just then."""
        with self._lock:
            self._plan = sorted(plan, key=lambda moment: moment[0])
            self.passed = 0

    @property
    def is_done(self) -> bool:
        """Whether all that was planned has been done."""
        return not self._plan

    def cut(self) -> bool:
        """Reset every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for one in (one for pair in pairs for one in pair):
            with contextlib.suppress(OSError):
                # Closed without lingering, TCP sends a reset.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD)
            one.close()
        return False

    def refuse(self, seconds: float) -> bool:
        """Reset every connection, and refuse new ones for so long."""
        self._stop_listening()
        self.cut()

        def listen_again() -> None:
            with self._lock:
                if not self._closed:
                    self._listener = socket.create_server((emulators.HOST, self.port))
                    self._accept()

        timer = threading.Timer(seconds, listen_again)
        timer.daemon = True
        timer.start()
        return False

    def close(self) -> None:
        """End all."""
        with self._lock:
            self._closed = True
        self._stop_listening()
        self.cut()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread that waits for clients
        self._listener.close()

    def _accept(self) -> None:
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                pair = (client, socket.create_connection(self._target))
                with self._lock:
                    self._pairs.add(pair)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                if self._may_pass(len(piece)):
                    sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def _may_pass(self, size: int) -> bool:
        with self._lock:
            self.passed += size
            if not self._plan or self.passed < self._plan[0][0]:
                return True
            _, act = self._plan.pop(0)
        # Not under the lock: it may take seconds.
        return act()


def stall(seconds: float) -> Callable[[], bool]:
    """Hold what is on its way for so long."""

    def hold() -> bool:
        time.sleep(seconds)
        return True

    return hold


class HttpErrors:
    """Forwards HTTP requests; those that a storm strikes are answered as Google's APIs answer."""

    def __init__(self, target: str) -> None:
        self.storm: Storm | None = None
        errors = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                if len(body) < size:
                    # Its client was killed: half a request would let the store wait for the other half.
                    self.close_connection = True
                    return
                storm = errors.storm
                if storm is None or not storm.strikes(f"{self.command} {self.path}"):
                    self._answer(*self._forward(body))
                    return
                if storm.is_after():
                    self._forward(body)
                code = int(storm.status)
                told = {"message": "try again later", "reason": REASONS[code]}
                content = json.dumps({"error": {"code": code, "message": told["message"], "errors": [told]}})
                self._answer(code, [("Content-Type", "application/json")], content.encode())

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

            def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                with contextlib.closing(http.client.HTTPConnection(target, timeout=120)) as connection:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    return answer.status, answer.getheaders(), answer.read()

            def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

            def handle(self) -> None:
                # A client that was killed, or cut off.
                with contextlib.suppress(ConnectionError):
                    super().handle()

        self._server = ThreadingHTTPServer((emulators.HOST, 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class GrpcErrors(grpc.GenericRpcHandler):
    """Forwards calls of whatever service; those of which a storm strikes a request end with its status."""

    def __init__(self, target: str) -> None:
        self.storm: Storm | None = None
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(target, options)
        # A stream that waits for messages keeps its thread.
        self._server = grpc.server(ThreadPoolExecutor(64), handlers=[self], options=options)
        self.port = self._server.add_insecure_port(f"{emulators.HOST}:0")
        self._server.start()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        """Return what serves a call, whatever its method; on the wire, one message is a stream of one."""
        method = handler_call_details.method
        kept = [pair for pair in handler_call_details.invocation_metadata if pair[0] != "user-agent"]

        def serve(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            struck: list[Storm] = []

            def until_struck() -> Iterator[bytes]:
                # A connection may have many requests.
                for request in requests:
                    if (storm := self.storm) and storm.strikes(method):
                        struck.append(storm)
                        if storm.is_after():
                            yield request
                        return
                    yield request

            # A connection that may last has a deadline too far away to be passed on.
            seconds = min(context.time_remaining() or LONGEST_CALL_SECONDS, LONGEST_CALL_SECONDS)
            call = self._channel.stream_stream(method)(until_struck(), metadata=kept, timeout=seconds)
            context.add_callback(call.cancel)
            try:
                for answer in call:
                    if not struck:
                        yield answer
            except grpc.RpcError:
                if not struck:
                    context.set_trailing_metadata(call.trailing_metadata() or ())
                    context.abort(call.code(), call.details())
            if struck:
                context.abort(grpc.StatusCode[str(struck[0].status)], "try again later")

        return grpc.stream_stream_rpc_method_handler(serve)

    def close(self) -> None:
        """End it."""
        self._server.stop(0)
        self._channel.close()


@contextmanager
def way(target: str, *, speaks_grpc: bool = False) -> Iterator[Way]:
    """Give a way to a store at host:port, which passes all on until told otherwise."""
    errors = GrpcErrors(target) if speaks_grpc else HttpErrors(target)
    front = Front(f"{emulators.HOST}:{errors.port}")
    try:
        yield Way(f"{emulators.HOST}:{front.port}", front, errors)
    finally:
        front.close()
        errors.close()
