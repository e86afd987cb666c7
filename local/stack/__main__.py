"""The command line of the local stack.

python -m local.stack up | down | status | logs [SERVICE]
"""

from __future__ import annotations

import argparse
import os
import sys

from local.stack.control import describe, down, logs_dir, status, take_interrupts, up
from local.stack.emulators import NotReady


def _print_status() -> int:
    states = status()
    if not states:
        print("The stack is down.")
        return 1
    for name, state in states.items():
        print(f"{name:14} {state}")
    return 0 if set(states.values()) == {"healthy"} else 1


def _follow_logs(service: str | None) -> int:
    logs = sorted(logs_dir().glob(f"{service or '*'}.log"))
    if not logs:
        known = ", ".join(sorted(log.stem for log in logs_dir().glob("*.log"))) or "none; run `make up`"
        raise NotReady(f"There is no log of {service or 'the stack'}; known: {known}.")
    os.execvp("tail", ["tail", "-n", "50", "-F", *map(str, logs)])  # noqa: S606 (no shell is wanted)


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when what was asked for holds."""
    parser = argparse.ArgumentParser(prog="python -m local.stack", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "logs"))
    parser.add_argument("service", nargs="?", help="whose log to follow; all without it")
    options = parser.parse_args(argv)
    take_interrupts()
    try:
        if options.command == "up":
            up()
            print(describe())
            return 0
        if options.command == "down":
            down()
            return 0
        return _print_status() if options.command == "status" else _follow_logs(options.service)
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
