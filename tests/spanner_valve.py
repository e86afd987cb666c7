"""A way to the Spanner emulator that is shut after so many bytes, to hold a load at a known point."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from local.stack import emulators

PIECE_BYTES = 16_384


@dataclass
class Valve:
    """Listens on `host` and passes on the first `open_bytes` that clients send in all, and all answers.

    Whoever writes more waits for an answer that does not come, as long as the valve is there.
    """

    host: str
    open_bytes: int
    shut: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket, target: tuple[str, int]) -> None:
        """Connect each client to the target, until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(target)
                for pump in (self._pass_to, self._answer):
                    threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _pass_to(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                with self._lock:
                    self.open_bytes -= len(piece)
                    if self.open_bytes < 0:
                        self.shut.set()
                        return
                server.sendall(piece)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(PIECE_BYTES):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)


@contextmanager
def valve(emulator: str, open_bytes: int) -> Iterator[Valve]:
    """Give a valve before the emulator at host:port."""
    host, _, port = emulator.rpartition(":")
    with socket.create_server((emulators.HOST, 0)) as listener:
        found = Valve(f"{emulators.HOST}:{listener.getsockname()[1]}", open_bytes)
        serving = threading.Thread(target=found.serve, args=(listener, (host, int(port))), daemon=True)
        serving.start()
        yield found
        listener.shutdown(socket.SHUT_RDWR)  # which wakes the thread that waits for clients
        serving.join()
