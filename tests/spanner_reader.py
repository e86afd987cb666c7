"""A reader of Spanner who looks all the time, and notes whatever differs from what was there before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.cloud.spanner_v1.database import Database

from tests.local.dataflow.service import until

_JOURNEYS = "SELECT product_id, brand FROM customer_journey"

Seen = frozenset[tuple[int, str | None]]
"""The events of all journeys: their products and brands."""


class Reader:
    """What readers of the view saw: each state once for each time it came, in order."""

    def __init__(self, database: Database, at_each_look: Callable[[], None]) -> None:
        self._database, self._at_each_look = database, at_each_look
        self._stopped = threading.Event()
        self._failures: list[BaseException] = []
        self.seen: list[Seen] = []
        self.looks = 0
        """How often the reader has looked."""

    def run(self) -> None:
        """Look until `stop`."""
        try:
            while not self._stopped.is_set():
                with self._database.snapshot() as snapshot:
                    rows = [tuple(row) for row in snapshot.execute_sql(_JOURNEYS)]
                assert len(rows) == len(set(rows))
                if not self.seen or self.seen[-1] != frozenset(rows):
                    self.seen.append(frozenset(rows))
                self._at_each_look()
                self.looks += 1
        except BaseException as error:
            self._failures.append(error)

    def look(self) -> Seen:
        """Return what the reader sees once it has begun to look after now."""
        before = self.looks
        until(lambda: self._failures or self.looks >= before + 2, "the reader to look")
        self.raise_failure()
        return self.seen[-1]

    def stop(self) -> None:
        """Let the reader stop after its look."""
        self._stopped.set()

    def raise_failure(self) -> None:
        """Raise what ended the reader, if anything did."""
        if self._failures:
            raise self._failures[0]


@contextmanager
def reading(database: Database, at_each_look: Callable[[], None] = lambda: None) -> Iterator[Reader]:
    """Let a reader look as long as this lasts."""
    reader = Reader(database, at_each_look)
    thread = threading.Thread(target=reader.run)
    thread.start()
    try:
        yield reader
    finally:
        reader.stop()
        thread.join()
    reader.raise_failure()
