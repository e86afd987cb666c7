"""Stands for the stream: takes its options, runs until it is asked to drain, and does what STREAM_DIR says.

The text of the file `die` fails it at once; with the file `deaf` it does not hear that it should drain. The
file `oldest` holds the publish time of the oldest message that it has not acknowledged, the file `steps` the
names of its steps.
"""

from __future__ import annotations

import argparse
import os
import signal
from datetime import datetime
from pathlib import Path

from local.dataflow import backlog
from tests.local.dataflow.pipelines.wait_for_file import Ended


def run(argv: list[str]) -> Ended:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in ("--subscription", "--events_table", "--rejected_table"):
        parser.add_argument(option, required=True)
    parser.parse_known_args(argv)
    folder = Path(os.environ["STREAM_DIR"])
    if (folder / "die").exists():
        raise ValueError((folder / "die").read_text())
    while signal.sigtimedwait([signal.SIGUSR1], 0.1) is None or (folder / "deaf").exists():
        oldest = folder / "oldest"
        backlog.tell(datetime.fromisoformat(oldest.read_text()) if oldest.exists() else None)
    return Ended()


def steps(argv: list[str]) -> list[str]:
    named = Path(os.environ["STREAM_DIR"]) / "steps"
    return named.read_text().splitlines() if named.exists() else []
