"""A batch job that runs until the file --until exists, or a stream that also ends when it is asked to drain.

It needs no Beam, so that it starts at once; its result has the method of Beam's that a worker calls.
It appends its process id to --until's neighbour `pids`, so that a test can tell how many workers ran. The
names of its steps are the lines of the neighbour `steps`, if there is one.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path


class Ended:
    def wait_until_finish(self) -> str:
        return "DONE"


def run(argv: list[str]) -> Ended:
    until = _until(argv)
    with until.with_name("pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    while not until.exists():
        if signal.SIGUSR1 in signal.sigpending():
            break
        time.sleep(0.05)
    return Ended()


def steps(argv: list[str]) -> list[str]:
    named = _until(argv).with_name("steps")
    return named.read_text().splitlines() if named.exists() else []


def _until(argv: list[str]) -> Path:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--until", type=Path, required=True)
    known, _ = parser.parse_known_args(argv)
    until: Path = known.until
    return until
