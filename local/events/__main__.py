"""Write realistic days of click events, as CSV files of the shop's format, of any size.

python -m local.events --day 2019-11-01 --days 3 --events 50000 --out build/generated
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
import time
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from local.events.day import DEFAULT_EVENTS, DEFAULT_SEED, generate_day
from local.events.files import write_chunks, write_landing_day, written_whole
from local.events.sessions import MAX_LATE_DAYS, day_events

DEFAULT_LATE_SHARE = 0.002
DEFAULT_BAD_SHARE = 0.003


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    days = [arguments.day + dt.timedelta(number) for number in range(arguments.days)]
    started = time.monotonic()
    try:
        counts = _write_export(arguments, days) if _is_export(arguments.out) else _land(arguments, days)
    except ValueError as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has had enough. Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    seconds = time.monotonic() - started

    columns = ("rows", "rejected", "duplicates", "late")
    print("day       ", *(f"{name:>12}" for name in columns), file=sys.stderr)
    for day, held in counts.items():
        print(day, *(f"{held[name]:12,}" for name in columns), file=sys.stderr)
    rows = sum(held["rows"] for held in counts.values())
    print(
        f"{rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} a second, to {arguments.out}",
        file=sys.stderr,
    )
    if arguments.counts:
        listed = [{"landing_day": str(day), **held} for day, held in counts.items()]
        arguments.counts.write_text(json.dumps(listed, indent=2) + "\n")
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local.events",
        description="Generate realistic days of click events, calibrated to the shop's November 2019.",
        epilog="Examples: `--out build/generated` lands three days; `--days 30 --events 2250000 --vary-days "
        "--out 2019-Nov.csv.gz` is a month in its real size; `--days 1 --out - | head` shows some rows.",
    )
    parser.add_argument(
        "--day", type=dt.date.fromisoformat, default=dt.date(2019, 11, 1), help="first day (2019-11-01)"
    )
    parser.add_argument("--days", type=int, default=3, help="number of days (3)")
    parser.add_argument(
        "--events", type=int, default=DEFAULT_EVENTS, help=f"data rows a day ({DEFAULT_EVENTS})"
    )
    parser.add_argument(
        "--vary-days",
        action="store_true",
        help="--events is the mean day; others differ as they did in the shop",
    )
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help=f"0 or more ({DEFAULT_SEED})")
    parser.add_argument(
        "--out",
        default="build/generated",
        help="a directory: each day as it lands, <day>/events.csv and _SUCCESS; a name that ends in .csv or "
        ".csv.gz: all days in one export; -: the same on standard output (build/generated)",
    )
    parser.add_argument(
        "--late-share",
        type=float,
        nargs="?",
        default=0.0,
        const=DEFAULT_LATE_SHARE,
        help=f"share of late sessions on each day but the first (0; without a value {DEFAULT_LATE_SHARE})",
    )
    parser.add_argument(
        "--bad-share",
        type=float,
        nargs="?",
        default=0.0,
        const=DEFAULT_BAD_SHARE,
        help=f"share of rows that break the contract (0; without a value {DEFAULT_BAD_SHARE})",
    )
    parser.add_argument("--counts", type=Path, help="write what the days hold to this file, as JSON")
    arguments = parser.parse_args(argv)
    if arguments.days < 1:
        parser.error(f"--days is {arguments.days}; give 1 or more")
    return arguments


def _is_export(out: str) -> bool:
    return out == "-" or out.endswith((".csv", ".csv.gz"))


def _options(arguments: argparse.Namespace, days: list[dt.date], day: dt.date) -> dict[str, Any]:
    """Return generate_day's arguments. Late events are of the other days, so the first day has none."""
    return {
        "day": day,
        "events": day_events(day, arguments.events) if arguments.vary_days else arguments.events,
        "seed": arguments.seed,
        "late_share": arguments.late_share if day > days[0] else 0.0,
        "late_days": min(max(1, (day - days[0]).days), MAX_LATE_DAYS),
        "bad_share": arguments.bad_share,
    }


def _land(arguments: argparse.Namespace, days: list[dt.date]) -> dict[dt.date, dict[str, Any]]:
    return {day: write_landing_day(Path(arguments.out), **_options(arguments, days, day)) for day in days}


def _write_export(arguments: argparse.Namespace, days: list[dt.date]) -> dict[dt.date, dict[str, Any]]:
    """Write all days as one file or to standard output, with one header."""
    counts = {}
    to_stdout = arguments.out == "-"
    with nullcontext(sys.stdout.buffer) if to_stdout else written_whole(Path(arguments.out)) as out:
        for day in days:
            options = _options(arguments, days, day)
            # Each day begins with a chunk that is its header.
            chunks = islice(generate_day(**options), int(day > days[0]), None)
            counts[day] = write_chunks(out, chunks, str(day), options["events"]).as_dict()
    return counts


if __name__ == "__main__":
    sys.exit(main())
