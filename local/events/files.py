"""Generated days as files: as they land, and written whole or not at all."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from local.events.day import DEFAULT_EVENTS, DEFAULT_SEED, Chunk, Counts, generate_day
from local.events.sessions import MAX_LATE_DAYS

GZIP_LEVEL = 3


def write_landing_day(
    directory: Path,
    day: dt.date,
    events: int = DEFAULT_EVENTS,
    seed: int = DEFAULT_SEED,
    *,
    late_share: float = 0.0,
    late_days: int = MAX_LATE_DAYS,
    bad_share: float = 0.0,
) -> dict[str, Any]:
    """Write one day as it lands: `<directory>/<day>/events.csv` and then `_SUCCESS`.

    An earlier landing of that day in the directory is replaced. The file takes its name when it is complete.

    Returns:
        What the file holds: rows, accepted, rejected, distinct, duplicates, late, rejected_by_reason.
    """
    landing = directory / day.isoformat()
    (landing / "_SUCCESS").unlink(missing_ok=True)
    chunks = generate_day(day, events, seed, late_share=late_share, late_days=late_days, bad_share=bad_share)
    with written_whole(landing / "events.csv") as out:
        counts = write_chunks(out, chunks, str(day), events)
    (landing / "_SUCCESS").touch()
    return counts.as_dict()


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a file for writing that takes its name only when all is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as raw:
            if path.name.endswith(".gz"):
                # No name and no time in the gzip header: the same bytes each time.
                with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as out:
                    yield out
            else:
                yield raw
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_chunks(out: IO[bytes] | gzip.GzipFile, chunks: Iterator[Chunk], name: str, rows: int) -> Counts:
    """Write the chunks, telling about the progress on stderr when it takes seconds."""
    total = Counts()
    told = time.monotonic()
    for chunk in chunks:
        out.write(chunk.csv)
        total += chunk.counts
        if time.monotonic() - told > 2:
            told = time.monotonic()
            print(f"{name}: {total.rows:,} of {rows:,} rows", file=sys.stderr)
    return total
