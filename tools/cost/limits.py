"""Derive what each statement reads of an event, for shopstream.tables.limits: `python -m tools.cost.limits`.

With --check only tells whether the file is as it would be written, and ends with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import sys

from local.stack import emulators
from shopstream.settings import settings
from shopstream.tables.folder import TableError
from shopstream.tables.limits import BYTES_FILE
from tools.cost.queries import bytes_per_event, read_shop


def main(argv: list[str] | None = None) -> int:
    """Write the file, or check it; return 1 if it is not as it should be, or cannot be derived."""
    parser = argparse.ArgumentParser(prog="python -m tools.cost.limits", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the file is up to date")
    options = parser.parse_args(argv)
    try:
        derived = bytes_per_event(settings().sql_dir, read_shop())
    except (emulators.NotReady, TableError) as error:
        print(error, file=sys.stderr)
        return 1
    rounded = {name: float(f"{bytes_:.4g}") for name, bytes_ in derived.items()}
    path = BYTES_FILE
    text = json.dumps(rounded, indent=1, sort_keys=True) + "\n"
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
