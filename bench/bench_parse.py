"""What reading, parsing and checking an event costs, in CPU time, beside a loop over lines.

Run as `python -m bench.bench_parse [rows]`. Both read the same generated day and give the same events.
"""

from __future__ import annotations

import csv
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from beam_jobs.contract import COLUMN_NAMES, EVENT_TYPES, TIME_FORMAT
from beam_jobs.files import LandingFile, list_files, plan_ranges, read_range
from beam_jobs.identity import SEPARATOR, canonical_price, event_ids
from beam_jobs.lines import Block
from beam_jobs.parse import parse_block
from beam_jobs.pseudonyms import Pseudonyms
from beam_jobs.validate import validate
from local.events.files import write_landing_day

DAY = date(2019, 11, 1)
T = TypeVar("T")
ROWS = 1_000_000
NAIVE_ROWS = 100_000


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        write_landing_day(Path(directory), DAY, rows)
        [file] = list_files(f"{directory}/{DAY}")
        blocks, reading = measured(lambda: all_blocks(file))
        parsed, parsing = measured(lambda: [parse_block(block, file.columns) for block in blocks])
        checked, checking = measured(lambda: [validate(part, DAY) for part in parsed])
        pseudonyms = Pseudonyms(b"0123456789abcdef" * 2)
        _, hashed = measured(lambda: [validate(part, DAY, pseudonyms) for part in parsed])
        texts = [[part.rows[name].combine_chunks() for name in COLUMN_NAMES] for part in parsed]
        _, hashing = measured(lambda: [event_ids(text) for text in texts])
        naive, naive_time = measured(lambda: list(naive_events(Path(file.path), NAIVE_ROWS)))

    count = sum(len(part.accepted) for part in checked)
    ids = [event_id for part in checked for event_id in part.accepted["event_id"].to_pylist()]
    if [event["event_id"] for event in naive] != ids[: len(naive)]:
        raise SystemExit("the loop over lines found other events")
    whole = reading + parsing + checking
    naive_us = naive_time / len(naive) * 1e6
    print(f"{count:,} rows, {file.size_bytes / 2**20:,.0f} MiB; us of CPU a row, on one core")
    for name, seconds in (
        ("read blocks", reading),
        ("split into fields", parsing),
        ("type, check, identify", checking),
        ("  of which ids", hashing),
        ("in all", whole),
        ("  pseudonyms, if on", hashed - checking),
    ):
        print(f"  {name:24} {seconds / count * 1e6:8.2f}")
    print(f"  {'a loop over lines':24} {naive_us:8.2f}   {naive_us * count / whole / 1e6:.1f} times as much")


def all_blocks(file: LandingFile) -> list[Block]:
    return [block for part in plan_ranges(file) for block in read_range(part)]


def naive_events(path: Path, rows: int) -> Iterator[dict[str, Any]]:
    """Read events line by line, as one writes it first: csv, strptime, int, Decimal, sha256."""
    with path.open(newline="", encoding="utf-8") as lines:
        for _, row in zip(range(rows), csv.DictReader(lines), strict=False):
            event = naive_event(row)
            levels = row["category_code"].split(".") if row["category_code"] else []
            event |= {f"category_level_{i}": level for i, level in enumerate(levels, start=1)}
            yield event


def naive_event(row: dict[str, str]) -> dict[str, Any]:
    """Make an event of a line's fields, in the contract's order."""
    event: dict[str, Any] = {name: text or None for name, text in row.items()}
    when = datetime.strptime(row["event_time"], TIME_FORMAT).replace(tzinfo=UTC)
    price = Decimal(row["price"])
    if row["event_type"] not in EVENT_TYPES or price < 0 or when.date() > DAY:
        raise ValueError(f"a bad row: {row}")
    canonical = SEPARATOR.join({**row, "price": canonical_price(price)}.values())
    event |= {name: int(row[name]) for name in ("product_id", "category_id", "user_id")}
    event |= {"event_time": when, "event_date": when.date(), "price": price}
    event["event_id"] = hashlib.sha256(canonical.encode()).hexdigest()[:32]
    return event


def measured(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` returns, and the CPU seconds of all threads that it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
