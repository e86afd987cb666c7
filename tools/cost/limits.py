"""Derive what each statement reads of an event into sql/bigquery: `python -m tools.cost.limits`.

With --check only tells whether the file is as it would be written, and ends with 1 if not.
"""

from __future__ import annotations

import argparse
import sys

import yaml

from local.stack import emulators
from shopstream.settings import settings
from shopstream.tables.folder import TableError
from shopstream.tables.limits import BYTES_FILE
from tools.cost.queries import bytes_per_event, read_shop

HEAD = """\
# What each statement reads, in bytes for each event of a day. Written by `python -m tools.cost.limits`, from
# the statements and what a mean day of the shop is (tools/cost/shop.yaml), with load and stream both full.
#
# build, check: a day of a table, with the days before and after that it reads. ask: a day of a chart, or of a
# page of the dashboard. 0: what is read does not grow with the events.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the file, or check it; return 1 if it is not as it should be, or cannot be derived."""
    parser = argparse.ArgumentParser(prog="python -m tools.cost.limits", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the file is up to date")
    options = parser.parse_args(argv)
    sql_dir = settings().sql_dir
    try:
        derived = bytes_per_event(sql_dir, read_shop())
    except (emulators.NotReady, TableError) as error:
        print(error, file=sys.stderr)
        return 1
    rounded = {name: float(f"{bytes_:.4g}") for name, bytes_ in derived.items()}
    path = sql_dir / "bigquery" / BYTES_FILE
    text = HEAD + yaml.safe_dump(rounded)
    if not options.check:
        path.write_text(text, encoding="utf-8")
    elif text != (path.read_text(encoding="utf-8") if path.is_file() else ""):
        print(
            f"{path.name} is not what the statements read; write it by `python -m tools.cost.limits`.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
