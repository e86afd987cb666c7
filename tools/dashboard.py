"""Serve the dashboard on this machine: beside the running local stack, or over a real project.

    python -m tools.dashboard [--project ID]

Of a real project it reads what the application default credentials may read.
"""

from __future__ import annotations

import argparse
import os
import sys

from local.stack import control
from local.stack.emulators import NotReady
from shopstream.dashboard.__main__ import main as serve


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboard", description=__doc__)
    parser.add_argument("--project", help="a real project's id; without it the local stack is shown")
    options = parser.parse_args()
    try:
        if options.project:
            os.environ["SHOPSTREAM_PROJECT"] = options.project
        else:
            os.environ |= control.environment() | {"SHOPSTREAM_DASHBOARD_AIRFLOW_URL": control.airflow_url()}
        serve()
    except (NotReady, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
