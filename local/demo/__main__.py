"""The main job on one machine: days of events go from files to Spanner, BigQuery summaries and charts.

Starts the local stack, lands events, triggers the DAGs over Airflow's REST API as a user would, counts in the
stores what came of them, and holds the counts against what must always be true. See `--help`.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import psutil
from google.cloud import storage

from beam_jobs.contract import COLUMN_NAMES, ContractError
from local.demo.run import Run, console
from local.demo.stream import StreamedDay
from local.events.files import write_landing_day
from local.hand import shop
from local.hand.shop import clients
from local.stack import control as stack
from local.stack.airflow_client import AirflowClient, RunFailed
from shopstream import layout
from shopstream.landing.split import EXPORT_PATTERN
from shopstream.rounding import percent

GENERATED_DAYS = (date(2019, 11, 1), date(2019, 11, 2), date(2019, 11, 3))
GENERATED_EVENTS_A_DAY = 50_000
SEED = 20191101
LATE_SHARE = 0.002
BAD_SHARE = 0.003
BAD_DAY, BAD_DAY_SHARE = GENERATED_DAYS[-1], 0.05
"""The day that the gate asks about, if the demo is to show one."""
BAD_DAY_REASON = "the demo planted these lines"
SUMMARIES_START_SECONDS = 180
INPUT_SUFFIXES = (".csv", ".csv.gz", ".zip")
BATCH_DAG_IDS = ("apply_schemas", "land_export", "load_events_daily")
SUMMARIES_DAG_ID = "build_summaries"
STREAM_DAG_IDS = ("keep_stream_alive", "stop_stream", "simulate_stream")
MAX_STREAMED_ROWS = 200_000
"""A first day of more rows, in a file of the user's own, goes by batch alone."""
KEEP_ALIVE_SECONDS = 15
"""Instead of 10 minutes, so that a killed stream is back while somebody watches."""
EMULATOR_BYTES_A_ROW = 4_500
"""Of memory, in the Spanner emulator, which keeps all rows there; a little more than was measured."""
INPUT_BYTES_A_ROW = 133
"""In the November 2019 file: 9,006,762,395 bytes, 67,501,979 rows."""
GZIP_RATIO = 5


class Input(NamedTuple):
    """A file of the user's own, its landing days, and whether to delete what a running stack has of them."""

    file: Path
    days: list[date]
    replace: bool


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 when every run succeeded and every invariant holds."""
    options = _parse(argv)
    run = Run.into(options.out)
    was_up = stack.is_up()
    try:
        os.environ.setdefault("SHOPSTREAM_KEEP_ALIVE_SECONDS", str(KEEP_ALIVE_SECONDS))
        with run.step("start", "Starting the local stack"):
            stack.up(progress)
        os.environ.update(stack.environment())
        airflow = AirflowClient(stack.airflow_url(), *stack.airflow_login())
        _run_to_the_end(run, airflow, options.input, bad_day=options.bad_day)
        if run.stream and not run.stream.kills:
            run.broken.append("stream: its process was not found, so it was not killed")
        if run.stream and options.keep:
            airflow.unpause("keep_stream_alive")
    except stack.NotReady as error:
        run.broken.append(str(error))
    except KeyboardInterrupt:
        run.broken.append("Stopped by Ctrl-C.")
    finally:
        if was_up and run.stream and not options.keep:
            run.stream.stop()
        if stack.is_up() and (options.keep or was_up):
            console.print(stack.describe(), highlight=False)
        else:
            with run.step("stop", "Stopping the local stack"):
                stack.down(progress)
    return run.tell()


def run_in_running_stack(airflow: AirflowClient, out: Path) -> int:
    """Run the demo in a stack that others started and whose variables are in the environment; 0 as `main`."""
    run = Run.into(out)
    _run_to_the_end(run, airflow)
    if run.stream:
        run.stream.stop()
    return run.tell()


def _run_to_the_end(
    run: Run, airflow: AirflowClient, given: Input | None = None, *, bad_day: bool = False
) -> None:
    """Do the job; an error ends it, and is among what is broken."""
    try:
        _do_the_job(run, airflow, given, bad_day=bad_day)
    except RunFailed as error:
        run.broken.append(str(error))
    except Exception as error:
        console.print_exception()
        run.broken.append(f"{type(error).__name__}: {error}")


def progress(line: str) -> None:
    """Print one line of progress under the current step."""
    console.print(f"  {line}", highlight=False, markup=False)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    # Its own usage is of no use to who gave INPUT to make.
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument(
        "--input",
        type=Path,
        help=f"a file of the events' CSV format ({', '.join(INPUT_SUFFIXES)}), all of whose days are loaded; "
        f"without it {len(GENERATED_DAYS)} generated days of {GENERATED_EVENTS_A_DAY:,} events",
    )
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="where the results go")
    parser.add_argument(
        "--keep", action="store_true", help="leave the stack running; print its pages and login"
    )
    parser.add_argument(
        "--replace", action="store_true", help="delete what a running stack has landed of the input's days"
    )
    parser.add_argument(
        "--bad-day",
        action="store_true",
        help=f"let {percent(BAD_DAY_SHARE, 0)}% of a day's lines be bad, so that its load asks a person; "
        "the demo answers",
    )
    options = parser.parse_args(argv)
    if options.input and options.bad_day:
        parser.error("BAD_DAY=1 is for generated days; give no INPUT with it.")
    if options.input:
        if not options.input.is_file():
            parser.error(f"INPUT={options.input} is no file; name a file of click events.")
        if not options.input.name.endswith(INPUT_SUFFIXES):
            parser.error(f"INPUT={options.input} must end in one of {', '.join(INPUT_SUFFIXES)}.")
        if not re.fullmatch(EXPORT_PATTERN, f"{layout.EXPORTS}{options.input.name}"):
            parser.error(f"INPUT={options.input}: an export may have none of * ? # [ ] in its name.")
        if too_large := _too_large(options.input, psutil.virtual_memory().available):
            parser.error(too_large)
        try:
            landed = shop.look(options.input)
        except ContractError as error:
            parser.error(str(error))
        found, *more = shop.describe(landed)
        megabytes = math.ceil(landed.rows.total() * EMULATOR_BYTES_A_ROW / 1e6)
        for line in (
            f"all {len(COLUMN_NAMES)} columns, {found}, some {megabytes:,} MB in the Spanner emulator",
            *more,
        ):
            console.print(f"{options.input.name}: {line}", highlight=False, markup=False)
        options.input = Input(options.input, list(landed.rows), options.replace)
    return options


def _too_large(file: Path, free_bytes: int) -> str | None:
    """Why the file's rows will not fit in the Spanner emulator's memory, or None if they will."""
    size = file.stat().st_size
    if file.suffix == ".gz":
        size *= GZIP_RATIO
    elif zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
    rows, fit = size // INPUT_BYTES_A_ROW, free_bytes // EMULATOR_BYTES_A_ROW
    if rows <= fit:
        return None
    return (
        f"INPUT={file} has about {rows:,} rows, and the Spanner emulator, which keeps every row in memory, "
        f"has room for about {fit:,} on this machine: give a part of it, such as its first days."
    )


def _do_the_job(run: Run, airflow: AirflowClient, given: Input | None, *, bad_day: bool) -> None:
    bucket = clients()[2].bucket(os.environ["SHOPSTREAM_BUCKET"])
    if given:
        _clear_days(bucket, given.days, replace=given.replace)
    airflow.wait_for_dags([*BATCH_DAG_IDS, SUMMARIES_DAG_ID, *STREAM_DAG_IDS])
    for dag_id in BATCH_DAG_IDS:
        airflow.unpause(dag_id)
    # Landing needs no Airflow, but for splitting an export.
    landing = None if given else _in_background(lambda: _land_generated(run, bucket, bad_day=bad_day))
    with run.step("apply_schemas", "Applying the schemas"):
        airflow.run("apply_schemas", {}, progress)
    with run.step("land", f"Landing {given.file if given else 'generated days'}"):
        if landing:
            landing.result()
        elif given:
            landed = shop.land_export(airflow, bucket, given.file, progress)
            run.landed = {day: {"rows": rows} for day, rows in landed["days"].items()}
    another = airflow.another_session()
    streamed = _in_background(lambda: _stream_first_day(run, another, bucket))
    airflow.pause(SUMMARIES_DAG_ID)  # which it is, unless the stack was up before
    airflow.forget_scheduled_runs("load_events_daily")
    with run.step("load", f"Loading {len(run.landed)} landing days"):
        if given:
            progress("should a load ask a person, answer it: " + stack.describe().partition("\n")[0])
        loads, unpaused = _load(airflow, sorted(run.landed), run if bad_day else None)
    with run.step("summaries", "Building the summaries and the report"):
        _build_summaries(airflow, loads, unpaused)
    streamed.result()
    with run.step("check", "Counting in the stores"):
        run.collect([airflow.returned("load_events_daily", run_id, "wait_for_load") for run_id in loads])


def _in_background(work: Callable[[], None]) -> Future[None]:
    """Start work in a thread that Ctrl-C and failures elsewhere do not wait for."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            work()
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _stream_first_day(run: Run, airflow: AirflowClient, bucket: storage.Bucket) -> None:
    """Let the first day come by the stream too, while the batch loads it."""
    day = min(run.landed)
    if run.landed[day]["rows"] > MAX_STREAMED_ROWS:
        progress(f"{day} has more than {MAX_STREAMED_ROWS:,} rows, so it is not streamed")
        return
    with run.step("stream", f"Streaming {day} meanwhile, and killing the stream's job in between"):
        client = clients()[1]
        run.stream = StreamedDay.start(airflow, client, bucket, date.fromisoformat(day), _stream_progress)
        run.stream.publish_and_kill()


def _stream_progress(line: str) -> None:
    progress(f"stream: {line}")


def _load(airflow: AirflowClient, days: list[str], bad: Run | None) -> tuple[list[str], datetime]:
    """Load landing days side by side; return the run ids, and when build_summaries was unpaused.

    The demo `bad` has a bad day among them, and answers what its load asks.

    Each load would start a build of its own, of much the same days. So build_summaries is paused until all
    but one are loaded, and that last one starts it.
    """
    runs = {
        ("load_events_daily", airflow.trigger("load_events_daily", {"landing_day": day})): f"load {day}"
        for day in days
    }
    if bad:
        # Airflow takes seconds to import, for which a wrong INPUT would wait.
        from shopstream.load.gate import PUBLISH

        [asking] = [run_id for (_, run_id), name in runs.items() if name == f"load {BAD_DAY}"]
        progress(f"{BAD_DAY} has {percent(BAD_DAY_SHARE, 0)} bad lines; waiting for its question")
        asked = airflow.answer("load_events_daily", asking, "gate", PUBLISH, BAD_DAY_REASON)
        bad.asked = asked["subject"]
        progress(f"gate asks: {bad.asked}")
        progress(f"answered: {PUBLISH}, since {BAD_DAY_REASON}")
    airflow.wait(runs, progress, enough=len(runs) - 1)
    airflow.unpause(SUMMARIES_DAG_ID)
    unpaused = datetime.now(UTC)
    airflow.wait_for_success(runs, progress)
    return [run_id for _, run_id in runs], unpaused


def _build_summaries(airflow: AirflowClient, load_run_ids: list[str], unpaused: datetime) -> None:
    """Wait until the run of build_summaries that the last load starts has built the days it touched.

    Days that only the other loads touched are then built by hand, and all, if the last one was too soon.
    """
    touched = {
        run_id: set(airflow.returned("load_events_daily", run_id, "publish")["event_dates"])
        for run_id in load_run_ids
    }
    published = {
        run_id: airflow.task("load_events_daily", run_id, "write_audit_row")["end_date"]
        for run_id in load_run_ids
    }
    last = max(load_run_ids, key=lambda run_id: published[run_id])
    built: set[str] = set()
    if datetime.fromisoformat(published[last]) > unpaused:
        deadline = time.monotonic() + SUMMARIES_START_SECONDS
        while not (run_ids := airflow.runs(SUMMARIES_DAG_ID, since=published[last])):
            if time.monotonic() > deadline:
                raise RunFailed(
                    f"No run of {SUMMARIES_DAG_ID} began in {SUMMARIES_START_SECONDS} s after the last load."
                )
            time.sleep(1)
        airflow.wait_for_success({(SUMMARIES_DAG_ID, run_ids[0]): "build"}, progress)
        built = set(airflow.returned(SUMMARIES_DAG_ID, run_ids[0], "resolve_days"))
        if missing := sorted(touched[last] - built):
            raise RunFailed(f"{SUMMARIES_DAG_ID} {run_ids[0]} did not build {', '.join(missing)}.")
    if unbuilt := sorted(set().union(*touched.values()) - built):
        params = {"first_day": unbuilt[0], "last_day": unbuilt[-1], "dry_run": False}
        airflow.run(SUMMARIES_DAG_ID, params, progress)


def _land_generated(run: Run, bucket: storage.Bucket, *, bad_day: bool) -> None:
    """Land files as the shop would: one file a day, and _SUCCESS when the day is complete."""
    with tempfile.TemporaryDirectory() as folder:
        for day in GENERATED_DAYS:
            truth = write_landing_day(
                Path(folder),
                day,
                GENERATED_EVENTS_A_DAY,
                SEED,
                late_share=LATE_SHARE if day > GENERATED_DAYS[0] else 0,
                # No later than the first day, so that every day of the charts is a whole one.
                late_days=max(1, (day - GENERATED_DAYS[0]).days),
                bad_share=BAD_DAY_SHARE if bad_day and day == BAD_DAY else BAD_SHARE,
            )
            folder_of_day = layout.landing(day)
            for earlier in bucket.client.list_blobs(bucket, prefix=f"{folder_of_day}/"):
                earlier.delete()  # of a demo before in this stack, with other files
            for path in sorted((Path(folder) / str(day)).glob("*.csv*")):
                bucket.blob(f"{folder_of_day}/{path.name}").upload_from_filename(path)
                shutil.copy(path, run.out / f"{day}-{path.name}")
            bucket.blob(f"{folder_of_day}/{layout.SUCCESS}").upload_from_string(b"")
            run.landed[str(day)] = truth
            progress(f"landed {day}: {truth['rows']:,} rows")


def _clear_days(bucket: storage.Bucket, days: Iterable[date], *, replace: bool) -> None:
    """Delete what lies in these landing days, of which the input's rows would be a part; if told to.

    Raises:
        RunFailed: it was not told to; the message names the days.
    """
    blobs = {day: list(bucket.list_blobs(prefix=f"{layout.landing(day)}/")) for day in sorted(days)}
    if not replace and (found := [str(day) for day, there in blobs.items() if there]):
        raise RunFailed(
            f"The running stack has landed {', '.join(found)} already, and INPUT has events of these days. "
            "Nothing was changed. Give REPLACE=1 to delete what is landed there, or begin empty: make down."
        )
    for blob in chain.from_iterable(blobs.values()):
        blob.delete()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
