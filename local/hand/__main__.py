"""The shop by hand, on the running local stack or, with --env and --project, in a real project.

python -m local.hand up | status | put FILE [--day DAY [--replace]] | load DAY
python -m local.hand summaries DAY [--last-day DAY] | sql [STATEMENT or FILE.sql]
python -m local.hand contract-whatif DAY [--last-day DAY] [--reason REASON] [--sample ROWS] [--seed TEXT]
python -m local.hand stream DAY | kill-stream     on the local stack alone
"""

# The shop imports all of Google's clients, for a second that `up` need not wait: so who asks it imports it.
from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from requests import RequestException
from rich.console import Console
from rich.table import Table

from beam_jobs.contract import REASONS, ContractError
from infra.deploy import ENVIRONMENT, ENVIRONMENTS, Refused, Target, read_target
from local.dataflow.jobs import known_jobs, running_workers
from local.stack import control
from local.stack.airflow_client import AirflowClient, AirflowRefused, ComposerClient, RunFailed
from local.stack.emulators import NotReady
from local.stack.services import STATE
from shopstream.settings import settings
from shopstream.stream.decide import (
    DESIRED_STATE,
    STREAM_JOB,
    Action,
    Decision,
    Desired,
    MalformedDesiredState,
    keep_to_budget,
    parse_desired_state,
)
from shopstream.stream.jobs import stream_job

UNPAUSED = ("apply_schemas", "land_export", "load_events_daily", "build_summaries")
"""The DAGs that run after `make up`; the others are started on their pages, when somebody wants them."""
MAX_SHOWN = 1000
ASK = "make sql Q='SELECT * FROM shop.daily_event_count ORDER BY event_date'"
STREAM_SPEED = 60
"""A day in 24 minutes."""
NEXT_DAYS = 3
"""So many landed days, those of the most rows, are named as the next to load."""
EMULATED = ("BIGQUERY_EMULATOR_HOST", "SPANNER_EMULATOR_HOST", "STORAGE_EMULATOR_HOST")
LOG_IN = "Log in: gcloud auth application-default login"
COUNTED = ("shop_ops.loads", "shop_raw.events_batch", "shop_raw.events_stream", "shop.rejected_events")
console = Console()


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when what was asked for holds."""
    options = _parse(argv)
    control.take_interrupts()
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "up": _up,
        "status": _status,
        "put": _put,
        "load": _load,
        "summaries": _summaries,
        "sql": _sql,
        "contract-whatif": _contract_whatif,
        "stream": _stream,
        "kill-stream": _kill_stream,
    }
    try:
        return commands[options.command](options)
    except (NotReady, ContractError, AirflowRefused, Refused, RunFailed, MalformedDesiredState) as error:
        print(error, file=sys.stderr)
    except NotFound as error:
        hint = "\nAll tables, with their columns: docs/tables.md" if options.command == "sql" else ""
        print(f"{error.message}{hint}", file=sys.stderr)
    except GoogleAPICallError as error:
        print(error.message, file=sys.stderr)
    except GoogleAuthError as error:
        print(f"Google does not know who asks: {error}\n{LOG_IN}", file=sys.stderr)
    except (GoogleAPIError, RequestException) as error:
        print(f"There is no answer: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    return 1


class _Parser(argparse.ArgumentParser):
    """Refuses in a sentence alone: make has typed the rest, so that the usage says nothing to a person."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{re.sub('^argument (day|file|--store|--last-day): ', '', message)}\n")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m local.hand", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the stack, apply the schemas, let the daily DAGs run")
    commands.add_parser("status", help="tell pages, login, what runs, and the rows of the main tables")
    put = commands.add_parser("put", help="land a file of events")
    put.add_argument("file", type=_file)
    put.add_argument("--day", type=_day, help="land it, a CSV file, as all of this landing day")
    put.add_argument("--replace", action="store_true", help="delete what else that landing day holds")
    put.add_argument("--utc", action="store_true", help="its times without a zone are UTC")
    load = commands.add_parser("load", help="load a landing day and follow the run")
    load.add_argument("day", type=_day)
    summaries = commands.add_parser("summaries", help="build the summaries of loaded days anew")
    summaries.add_argument("day", type=_day)
    summaries.add_argument("--last-day", type=_day, help="the last such day; else the first alone")
    sql = commands.add_parser("sql", help="ask a store")
    sql.add_argument("statement", nargs="?", help="or a file that ends in .sql; else standard input")
    sql.add_argument("--store", type=_store, default="bigquery", help="bigquery or spanner")
    sql.add_argument("--csv", action="store_true", help="as CSV, as it is when not on a terminal")
    what_if = commands.add_parser(
        "contract-whatif",
        help="judge kept rejects and a sample of accepted rows by the contract of this working tree",
        description="Judge kept rejects, and a sample of accepted rows, by beam_jobs as it is in this "
        "working tree: how many would pass now, how many would newly fail, by reason. It only reads.",
    )
    what_if.add_argument("day", type=_day, help="of the rejects the landing day, of the rows the event's")
    what_if.add_argument("--last-day", type=_day, help="the last such day; else the first alone")
    what_if.add_argument("--reason", choices=REASONS, help="of the rejects only those of this reason")
    what_if.add_argument("--sample", type=_sample, default=10_000, help="so many rows (default: %(default)s)")
    what_if.add_argument("--seed", default="1", help="another seed is another sample (default: %(default)s)")
    stream = commands.add_parser("stream", help="start the stream, and play a landed day as if it were now")
    stream.add_argument("day", type=_day)
    commands.add_parser("kill-stream", help="kill the stream's process, as a crash would")
    for command in (put, load, summaries, sql, what_if):
        names = ", ".join(ENVIRONMENTS)
        command.add_argument("--env", help=f"of a real project, one of {names}; see --project")
        command.add_argument("--project", help="the project's id")
    options = parser.parse_args(argv)
    if bool(getattr(options, "env", None)) != bool(getattr(options, "project", None)):
        parser.error("a real project has both ENV= and PROJECT=; without them it is the local stack")
    if getattr(options, "replace", False) and not options.day:
        parser.error("REPLACE=1 is for DAY=, the landing day that is to hold this file alone")
    return options


def _file(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("Give FILE=events.csv, a file of click events.")
    return Path(text)


def _store(text: str) -> str:
    if text not in ("bigquery", "spanner"):
        raise argparse.ArgumentTypeError(f"STORE is {text!r}; give STORE=bigquery or STORE=spanner.")
    return text


def _day(text: str) -> date:
    if not text:
        raise argparse.ArgumentTypeError("Give DAY=2019-11-01, or another day.")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day such as 2019-11-01") from None


def _sample(text: str) -> int:
    from local.hand import whatif

    if not text.isdecimal() or not 1 <= int(text) <= whatif.MAX_SAMPLE:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows from 1 to {whatif.MAX_SAMPLE:,}")
    return int(text)


def _up(options: argparse.Namespace) -> int:
    applied: Future[None] = Future()

    def apply_schemas() -> None:
        try:
            _apply_schemas()
        except Exception as error:
            applied.set_exception(error)
        else:
            applied.set_result(None)

    if control.up(meanwhile=Thread(target=apply_schemas, daemon=True).start):
        applied.result()
    print(control.describe())
    print(
        "Next:\n"
        "  make put FILE=events.csv     land a file of events of yours\n"
        "  make load DAY=2019-11-01     load a landed day, and see what came of it\n"
        f"  {ASK}"
    )
    return 0


def _apply_schemas() -> None:
    airflow = AirflowClient(control.airflow_url(), *control.airflow_login())
    airflow.wait_for_dags(UNPAUSED)
    for dag_id in UNPAUSED:
        airflow.unpause(dag_id)
    airflow.run("apply_schemas", {}, _progress)


def _status(options: argparse.Namespace) -> int:
    from local.hand import shop

    states = control.status()
    if not states:
        print("The stack is down. Start it: make up")
        return 1
    os.environ.update(control.environment())
    for name, state in states.items():
        print(f"{name:14} {state}")
    print(control.describe())
    print(f"Jobs that run: {', '.join(_running_jobs()) or 'none'}")
    print("Rows")
    for table in COUNTED:
        try:
            _, rows = shop.ask_bigquery(f"SELECT COUNT(*) FROM {table}")  # noqa: S608 - a name of our own
            told = f"{next(rows)[0]:,}"
        except GoogleAPICallError:
            told = "not there yet: trigger apply_schemas"
        print(f"  {table:26} {told}")
    return 0 if set(states.values()) == {"healthy"} else 1


def _running_jobs() -> list[str]:
    """The names of the local Dataflow's jobs that have a worker."""
    workers = running_workers(STATE / "dataflow")
    return sorted(job["name"] for job in known_jobs(STATE / "dataflow") if job["id"] in workers)


def _put(options: argparse.Namespace) -> int:
    from local.hand import shop

    if not options.file.is_file():
        raise ContractError(f"{options.file} is no file; name a file of click events.")
    for line in shop.describe(landed := shop.look(options.file, times_are_utc=options.utc), options.day):
        print(line)
    whole = shop.as_day(landed, options.day) if options.day else landed
    if not whole.rejected:
        print("the load will reject none")
    airflow, bucket = _connect(options)
    suffix = f" ENV={options.env} PROJECT={options.project}" if options.env else ""
    for line in shop.to_be_asked(whole):
        print(line)
    if options.day:
        for line in shop.land_day(bucket, options.file, options.day, landed, replace=options.replace):
            print(line)
        days = [options.day]
    else:
        for line in shop.neighbours(bucket, options.file, landed, suffix):
            print(line)
        shop.land_export(airflow(), bucket, options.file, _progress, times_are_utc=options.utc)
        days = sorted(day for day, _ in landed.rows.most_common(NEXT_DAYS))
        print(f"landed in gs://{bucket.name}/landing/events/, each day marked complete")
    print("Next:")
    for day in days:
        print(f"  make load DAY={day}{suffix}")
    if not options.day and (more := len(landed.rows) - len(days)):
        told = "and so the one other day, of fewer rows" if more == 1 else f"and so the {more:,} other days"
        print(f"  {told}; or a backfill, on the page of load_events_daily")
    return 0


def _load(options: argparse.Namespace) -> int:
    from local.hand import shop

    airflow, _ = _connect(options)
    counts = shop.load(airflow(), options.day, _progress)
    told = (
        "{landing_day} is loaded: {read:,} lines read, {accepted:,} accepted ({duplicates:,} of them double, "
        "{late:,} late), {rejected:,} rejected. "
        "{spanner_rows:,} rows in Spanner, {bigquery_rows:,} in BigQuery."
    )
    print(shop.counted(told, **counts))
    if counts["rejected"]:
        _print_rows(("reason", "lines", "such as"), iter(shop.rejects([counts["load_id"]])), as_csv=False)
    print(f"build_summaries starts by itself. Next:\n  {_where_to_look(options)}\n  {ASK}")
    return 0


def _where_to_look(options: argparse.Namespace) -> str:
    return f"make dashboard PROJECT={options.project}" if options.env else control.dashboard_url()


def _summaries(options: argparse.Namespace) -> int:
    from local.hand import shop

    last_day = options.last_day or options.day
    airflow, _ = _connect(options)
    shop.build_summaries(airflow(), options.day, last_day, _progress)
    days = options.day if last_day == options.day else f"{options.day} to {last_day}"
    print(f"The summaries of {days} are built anew. Next:\n  {_where_to_look(options)}")
    return 0


def _sql(options: argparse.Namespace) -> int:
    from local.hand import shop

    _connect(options)
    ask = shop.ask_spanner if options.store == "spanner" else shop.ask_bigquery
    as_csv = options.csv or not sys.stdout.isatty()
    if options.statement:
        _print_rows(*ask(_statement(options.statement)), as_csv=as_csv)
        return 0
    if not sys.stdin.isatty():
        _print_rows(*ask(sys.stdin.read()), as_csv=as_csv)
        return 0
    for statement in _prompted(options.store):
        try:
            _print_rows(*ask(statement), as_csv=as_csv)
        except GoogleAPICallError as error:
            print(error.message, file=sys.stderr)
    return 0


def _contract_whatif(options: argparse.Namespace) -> int:
    from local.hand import whatif

    last_day = options.last_day or options.day
    if last_day < options.day:
        raise ContractError(f"The days from {options.day} to {last_day} are none; swap them.")
    _connect(options)
    for line in whatif.tell(options.day, last_day, options.reason, options.sample, options.seed):
        print(line, flush=True)
    return 0


def _stream(options: argparse.Namespace) -> int:
    from local.hand import shop

    connected, bucket = _connect(options)
    shop.refuse_unlanded(bucket, options.day)
    airflow = connected()
    for dag_id in ("keep_stream_alive", "simulate_stream"):
        airflow.unpause(dag_id)
    airflow.run("keep_stream_alive", {}, _progress)
    airflow.trigger(
        "simulate_stream", {"landing_day": str(options.day), "speed": STREAM_SPEED, "times_of_now": True}
    )
    print(
        f"The stream runs, and the events of {options.day} come in at {STREAM_SPEED} times their pace, as if "
        "they happened now; of longer silences an hour is kept. Next:\n"
        f"  {control.dashboard_url()}live\n"
        "  make kill-stream        and see it come back"
    )
    return 0


def _kill_stream(options: argparse.Namespace) -> int:
    os.environ.update(control.environment())
    killed = running_workers(STATE / "dataflow", STREAM_JOB)
    for worker in killed.values():
        worker.kill()
    if killed:
        print("Killed.", flush=True)
    comes_back = _told_of_keep_alive()
    if killed:
        print(f"{comes_back or 'It was to stop, or is not kept alive'}; no event is lost.")
        return 0
    if comes_back:
        print(f"The stream does not run at this moment: {comes_back}.", file=sys.stderr)
    else:
        print("No stream runs. Start it: make stream DAY=2019-11-01", file=sys.stderr)
    return 1


def _told_of_keep_alive() -> str | None:
    """When keep_stream_alive launches the stream anew; None if nobody started it, or somebody stopped it."""
    airflow = AirflowClient(control.airflow_url(), *control.airflow_login())
    wanted = parse_desired_state(airflow.variable(DESIRED_STATE))
    if wanted.desired is Desired.STOPPED or airflow.is_paused("keep_stream_alive"):
        return None
    looks = f"keep_stream_alive looks each {settings().keep_alive_seconds} s"
    launched = [stream_job(job) for job in known_jobs(STATE / "dataflow", STREAM_JOB)]
    most, launch = settings().stream_max_launches, Decision(Action.LAUNCH, looks)
    decision = keep_to_budget(launch, launched, wanted, most, datetime.now(UTC))
    return f"{looks} and launches it anew" if decision is launch else decision.reason


def _statement(given: str) -> str:
    if not given.endswith(".sql"):
        return given
    try:
        return Path(given).read_text(encoding="utf-8")
    except OSError as error:
        raise ContractError(f"{given} cannot be read: {error.strerror}. Name a file of SQL.") from error


def _prompted(store: str) -> Iterator[str]:
    """Statements typed at a prompt, each ended by a semicolon, until the end of input."""
    print(f"A statement for {store}, ended by a semicolon; Ctrl-D ends this.")
    lines: list[str] = []
    while True:
        try:
            lines.append(input("  > " if lines else "> "))
        except EOFError:
            return
        if lines[-1].rstrip().endswith(";"):
            yield "\n".join(lines).rstrip().rstrip(";")
            lines = []


def _print_rows(names: Sequence[str], rows: Iterator[Sequence[Any]], *, as_csv: bool) -> None:
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
        return
    shown = list(islice(rows, MAX_SHOWN))
    table = Table()
    for number, name in enumerate(names):
        are_numbers = all(isinstance(row[number], int | float | Decimal | None) for row in shown)
        table.add_column(name, overflow="fold", justify="right" if are_numbers else "left")
    for row in shown:
        table.add_row(*("" if value is None else str(value) for value in row))
    console.print(table, highlight=False, markup=False)
    if next(rows, None) is not None:
        print(f"These are the first {MAX_SHOWN:,} rows; as CSV all are printed.")


def _connect(options: argparse.Namespace) -> tuple[Callable[[], AirflowClient], Any]:
    """Make the environment the meant shop's; return how to reach its Airflow, and its bucket."""
    from local.hand import shop

    if not getattr(options, "env", None):
        os.environ.update(control.environment())
        bucket = shop.clients()[2].bucket(settings().bucket)
        return (lambda: AirflowClient(control.airflow_url(), *control.airflow_login())), bucket
    target = read_target(options.env, options.project)
    # Which infra/ leaves as it is, whatever this shell says for a stack.
    os.environ.pop("SHOPSTREAM_MAX_REJECTED_SHARE", None)
    if emulated := {name: os.environ[name] for name in EMULATED if os.environ.get(name)}:
        told = ", ".join(f"{name}={address}" for name, address in emulated.items())
        print(f"Not Google, but {told} answers for {target.project}.", file=sys.stderr)
    os.environ.update(
        SHOPSTREAM_PROJECT=target.project,
        SHOPSTREAM_REGION=target.region,
        SHOPSTREAM_BUCKET=target.bucket.removeprefix("gs://"),
    )
    bucket = shop.clients()[2].bucket(settings().bucket)
    return (lambda: ComposerClient(_airflow_uri(target))), bucket


def _airflow_uri(target: Target) -> str:
    """Where the environment's Airflow is.

    Raises:
        NotReady: gcloud is missing, or does not tell; the message is its own.
    """
    command = ["gcloud", "composer", "environments", "describe", ENVIRONMENT]
    command += [
        f"--project={target.project}",
        f"--location={target.region}",
        "--format=value(config.airflowUri)",
    ]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NotReady("gcloud is needed to find the project's Airflow; it is not on the PATH.") from None
    except subprocess.CalledProcessError as error:
        raise NotReady(error.stderr.strip()) from error
    return told.stdout.strip()


def _progress(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
