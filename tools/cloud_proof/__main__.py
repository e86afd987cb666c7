"""Ask Google Cloud what only it can tell: `make cloud-proof ENV=small PROJECT=my-shop`, or without both the
local stack.

It prints which probes there are, what each expects and costs at most, and asks nothing; with --yes it asks. A
probe clears away what it made, after Ctrl-C too. Prints a table and writes build/cloud-proof.json; ends with
1 if anything was found otherwise, or was left behind.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from infra.deploy import ENVIRONMENTS, read_target
from local.root import ROOT
from local.stack.emulators import NotReady
from shopstream.settings import settings
from tools.cloud_proof import of_airflow, of_bigquery, of_google
from tools.cloud_proof.ground import Ground, local_ground, real_ground
from tools.cloud_proof.probe import Outcome, Probe, Verdict, as_table, prove

PROBES = (*of_bigquery.PROBES, *of_google.PROBES, *of_airflow.PROBES)
RESULT = ROOT / "build" / "cloud-proof.json"


def main(argv: list[str] | None = None, probes: Sequence[Probe] = PROBES) -> int:
    """Run the probes, or tell of them; return 1 if anything was found otherwise, 130 after Ctrl-C."""
    options = _parse(argv, probes)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What the clients tell of their retries is no finding.
    logging.getLogger("shopstream").setLevel(logging.ERROR)
    try:
        ground = _ground(options)
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1
    ground.progress = lambda line: print(f"  {line}", flush=True)
    asked = [probe for probe in probes if not options.names or probe.name in options.names]
    if options.yes:
        able = [probe for probe in asked if not probe.emulators()]
        dollars = sum(probe.dollars for probe in able)
        print(f"{len(able)} of the probes are asked, for at most {dollars:.2f} US dollars.", flush=True)
    outcomes = []
    for outcome in prove(asked, ground, run=options.yes):
        outcomes.append(outcome)
        if outcome.seconds:
            print(f"{outcome.probe}: {outcome.verdict} ({outcome.seconds:.0f} s)", flush=True)
    print(as_table(outcomes))
    _write(ground, outcomes)
    if not options.yes:
        print("Nothing was asked. To ask, add YES=1.")
    verdicts = {outcome.verdict for outcome in outcomes}
    if Verdict.STOPPED in verdicts:
        return 130
    return 1 if Verdict.OTHERWISE in verdicts or any(outcome.left for outcome in outcomes) else 0


def _parse(argv: list[str] | None, probes: Sequence[Probe]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.cloud_proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [probe.name for probe in probes]
    parser.add_argument("names", nargs="*", metavar="PROBE", choices=[[], *names], help=", ".join(names))
    parser.add_argument("--env", choices=ENVIRONMENTS, help="of a real project; see --project")
    parser.add_argument("--project", help="the project's id")
    parser.add_argument("--yes", action="store_true", help="ask, and pay for it")
    options = parser.parse_args(argv)
    if bool(options.env) != bool(options.project):
        parser.error("a real project has both ENV= and PROJECT=; without them it is the local stack")
    return options


def _ground(options: argparse.Namespace) -> Ground:
    if options.env:
        return real_ground(read_target(options.env, options.project), options.env)
    return local_ground()


def _write(ground: Ground, outcomes: Sequence[Outcome]) -> None:
    told: dict[str, Any] = {
        "project": settings().project,
        "environment": ground.environment or "local stack",
        "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "probes": [outcome.as_json() for outcome in outcomes],
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nWritten to {RESULT.relative_to(ROOT) if RESULT.is_relative_to(ROOT) else RESULT}.")


if __name__ == "__main__":
    sys.exit(main())
