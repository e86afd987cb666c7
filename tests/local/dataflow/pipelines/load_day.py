"""Stands for load_events: takes its options, and ends as the file LOAD_DAY_DIR/<landing day> says.

`done` ends it well, any other text fails it with that text; until there is a file, it runs.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from tests.local.dataflow.pipelines.wait_for_file import Ended


def run(argv: list[str]) -> Ended:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--landing_day", required=True)
    known, _ = parser.parse_known_args(argv)
    told = Path(os.environ["LOAD_DAY_DIR"]) / known.landing_day
    while not told.exists():
        time.sleep(0.05)
    if (text := told.read_text()) != "done":
        raise ValueError(text)
    return Ended()
