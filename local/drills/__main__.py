"""Carry out the runbooks on the local stack and print what came of each. See `--help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass
from datetime import date, timedelta

from rich.console import Console
from rich.table import Table

from local.drills.drills import DRILLS
from local.drills.ground import DrillFailed, Ground
from local.hand.shop import clients
from local.stack import control as stack
from local.stack.airflow_client import AirflowClient

DAG_IDS = (
    "apply_schemas",
    "build_summaries",
    "land_export",
    "load_events_daily",
    "simulate_stream",
    "stop_stream",
    "watch_days",
)
"""Those whose runs must start. keep_stream_alive runs by hand alone: its schedule is not drilled here."""
FIRST_DAY = date(2020, 3, 1)
"""Far from the demo's days, so that drills may follow one in the same stack."""
console = Console(width=max(120, Console().width))


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one drill; `error` is empty if all was well in the end."""

    name: str
    runbook: str
    done: tuple[str, ...]
    seconds: float
    lost: int
    double: int
    error: str

    @property
    def is_well(self) -> bool:
        """Whether it ended as the runbook says, with every event there once."""
        return not (self.error or self.lost or self.double)


def main(argv: list[str] | None = None) -> int:
    """Run the drills; 0 if each ended well and no row was lost or doubled. What ended is always told."""
    options = _parse(argv)
    was_up = stack.is_up()
    results: list[Result] = []
    try:
        stack.up(_progress)
        os.environ.update(stack.environment())
        for number, name in enumerate(options.names):
            results.append(run_drill(_ground(options, number), name))
    finally:
        tell(results)
        if not was_up:
            stack.down(_progress)
    return 0 if all(result.is_well for result in results) else 1


def run_drill(ground: Ground, name: str) -> Result:
    """Carry out one drill; what breaks it is told in its result."""
    drill = DRILLS[name]
    console.print(f"[bold]{drill.__name__.replace('_', ' ')}[/bold]", highlight=False)
    began, lost, double, error = time.monotonic(), 0, 0, ""
    try:
        lost, double = drill(ground)
    except (DrillFailed, RuntimeError) as failure:
        error = str(failure)
    seconds = time.monotonic() - (ground.trouble_at or began)
    runbook = (drill.__doc__ or "").strip()
    return Result(name, runbook, tuple(ground.told), round(seconds, 1), lost, double, error)


def tell(results: list[Result]) -> None:
    """Print the table."""
    table = Table(title="Drills", show_lines=True)
    for heading in ("drill", "what was done", "runbook", "seconds until well", "rows lost", "rows double"):
        table.add_column(heading, justify="right" if heading.startswith(("seconds", "rows")) else "left")
    for result in results:
        done = "; ".join(result.done) + (f". FAILED: {result.error}" if result.error else "")
        numbers = (f"{result.seconds:,.0f}", f"{result.lost:,}", f"{result.double:,}")
        table.add_row(result.name, done, result.runbook, *numbers)
    console.print(table)


def _ground(options: argparse.Namespace, number: int) -> Ground:
    airflow = AirflowClient(stack.airflow_url(), *stack.airflow_login())
    if number == 0:
        airflow.wait_for_dags([*DAG_IDS, "keep_stream_alive"])
        for dag_id in DAG_IDS:
            airflow.unpause(dag_id)
        airflow.forget_scheduled_runs("load_events_daily")
        airflow.run("apply_schemas", {}, _progress)
    spanner_client, bigquery_client, storage_client = clients()
    bucket = storage_client.bucket(os.environ["SHOPSTREAM_BUCKET"])
    return Ground(
        airflow,
        bigquery_client,
        spanner_client,
        bucket,
        _progress,
        options.events,
        options.away_seconds,
        FIRST_DAY + timedelta(days=60 * number),
    )


def _progress(line: str) -> None:
    console.print(f"  {line}", highlight=False, markup=False)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(DRILLS), help=f"of {', '.join(DRILLS)}; else all")
    parser.add_argument("--events", type=int, default=5_000, help="of each generated day")
    parser.add_argument(
        "--away-seconds", type=float, default=60, help="how long a store is away; ten minutes are 600"
    )
    options = parser.parse_args(argv)
    if unknown := [name for name in options.names if name not in DRILLS]:
        parser.error(f"there is no drill {', '.join(unknown)}; give some of {', '.join(DRILLS)}")
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
