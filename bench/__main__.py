"""What the pipeline costs, measured: `python -m bench [PART ...]`, by default all parts but the last.

load      CPU a row of the load, of plain Beam and of bare commits, in turn, on one Spanner emulator
growth    the load's CPU a row and peak memory from 200,000 to 5,000,000 rows, and in 10,000 small files,
          without Spanner, whose emulator keeps all rows in memory
parallel  parse and check in two processes against one; and of one .gz, by what the busiest of Beam's worker
          processes takes of CPU, which tells the same on a busy machine, and the share of unpacking it
land      land_export's splitting of an export, on one core
stream    the stream from a backlog, and from publish to query
airflow   how long each DAG file takes to parse beyond importing Airflow
demo      `make demo` from start to end, in a stack that is not up, and a look of keep-alive in it
page      how soon the dashboard shows its first chart, and its bytes, beside a running stack with events

What is measured is a process of its own; but land, page, and of stream the pulls and appends alone run in
this one. A ratio compares what one run measured, by medians of several in turn or by the neighbours' mean.
CPU is what compares: rows a second are those of this machine and of what else it does. The figures are merged
into build/bench/result.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import IO, NamedTuple

from rich.console import Console
from rich.table import Table

from bench import load
from bench.bench_spanner_sink import create_database
from local.events.files import write_landing_day
from local.root import ROOT
from local.stack import emulators

RESULT = ROOT / "build" / "bench" / "result.json"
ROWS = 200_000
MANY_ROWS = 5_000_000
SMALL_FILES = 10_000
RANGE_BYTES = 8 * 2**20
TURNS = 3


class Aim(NamedTuple):
    """What a figure should be: at least (`is_least`), or at most, so much."""

    value: float
    is_least: bool

    def holds(self, figure: float) -> bool:
        return figure >= self.value if self.is_least else figure <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.is_least else '≤'} {self.value:g}"


AIMS = {
    "peer_to_load_cpu": Aim(15, True),
    "load_to_ceiling": Aim(0.93, True),
    "cpu_growth_ratio": Aim(1.1, False),
    "peak_mb_200k": Aim(350, False),
    "peak_mb_5m": Aim(350, False),
    "peak_growth_ratio": Aim(1.1, False),
    "small_files_ratio": Aim(2, False),
    "small_files_peak_ratio": Aim(1.1, False),
    "parallel_speedup": Aim(1.7, True),
    "parallel_speedup_gz": Aim(1.7, True),
    "land_export_mb_s": Aim(200, True),
    "stream_cpu_us_per_event": Aim(31.5, False),
    "stream_peer_to_json_cpu": Aim(5, True),
    "stream_to_ceiling": Aim(0.9, True),
    "stream_latency_median_s": Aim(0.3, False),
    "dag_parse_max_s": Aim(0.3, False),
    "keep_alive_task_s": Aim(5, False),
    "demo_s": Aim(80, False),
    "page_first_look_best_ms": Aim(1500, False),
    "page_second_look_ms": Aim(1500, False),
    "page_files_kb": Aim(1200, False),
}
Figures = dict[str, float]


def main(argv: list[str] | None = None) -> int:
    """Measure, print each figure beside its aim, and keep all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[[], *PARTS], help=", ".join(PARTS))
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a load (default: %(default)s)")
    parser.add_argument(
        "--many", type=int, default=MANY_ROWS, help="rows of a large one (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=RESULT, help="the figures' file (default: %(default)s)")
    options = parser.parse_args(argv)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for name in options.parts or [part for part in PARTS if part != "page"]:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
            figures = PARTS[name](Path(folder), options)
        kept = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.write_text(json.dumps({**kept, **figures}, indent=2, sort_keys=True) + "\n")
        _tell(figures)
    print(f"All figures: {options.out}")
    return 0


def measure_load(folder: Path, options: argparse.Namespace) -> Figures:
    """The load, plain Beam and bare commits in turn."""
    landing = _landed(folder, options.rows)
    took: dict[str, list[Figures]] = {way: [] for way in ("ours", "peer", "ceiling")}
    with _spanner(folder):
        # The first makes the rows; all later ones update them.
        _load("ours", landing, options.rows)
        for _ in range(TURNS):
            for way, figures in took.items():
                figures.append(_load(way, landing, options.rows))

    def of(way: str, name: str) -> float:
        return median(figures[name] for figures in took[way])

    return {
        "load_cpu_us_per_row": of("ours", "cpu_us_per_row"),
        "peer_cpu_us_per_row": of("peer", "cpu_us_per_row"),
        "peer_to_load_cpu": of("peer", "cpu_us_per_row") / of("ours", "cpu_us_per_row"),
        "load_rows_s": of("ours", "rows_s"),
        "peer_rows_s": of("peer", "rows_s"),
        "emulator_ceiling_rows_s": of("ceiling", "rows_s"),
        "load_to_ceiling": of("ours", "rows_s") / of("ceiling", "rows_s"),
    }


def measure_growth(folder: Path, options: argparse.Namespace) -> Figures:
    """A small load, a large one and one of small files, without Spanner."""
    small, many = _landed(folder / "small", options.rows), _landed(folder / "many", options.many)
    files = _cut(Path(small), folder / "files", SMALL_FILES)
    much = _load("null", many, options.many)
    in_turn = [[_load("null", landing, options.rows) for landing in (small, files)] for _ in range(TURNS)]
    few, tiny = (
        {name: median(run[name] for run in runs) for name in runs[0]} for runs in zip(*in_turn, strict=True)
    )
    return {
        "cpu_growth_ratio": much["cpu_us_per_row"] / few["cpu_us_per_row"],
        "peak_mb_200k": few["peak_mb"],
        "peak_mb_5m": much["peak_mb"],
        "peak_growth_ratio": much["peak_mb"] / few["peak_mb"],
        "small_files_ratio": tiny["cpu_us_per_row"] / few["cpu_us_per_row"],
        "small_files_peak_ratio": tiny["peak_mb"] / few["peak_mb"],
    }


def measure_parallel(folder: Path, options: argparse.Namespace) -> Figures:
    """Ranges of a file, parsed and checked by one process and by two; and the blocks of one .gz."""
    landing = _landed(folder, options.many // 5)

    def seconds(processes: int) -> float:
        with ProcessPoolExecutor(processes, get_context("forkserver")) as pool:
            ranges = load.ranges(landing, RANGE_BYTES)
            list(pool.map(load.checked_rows, ranges[:processes]))
            began = time.perf_counter()
            rows = sum(pool.map(load.checked_rows, ranges))
            took = time.perf_counter() - began
        if rows != options.many // 5:
            raise SystemExit(f"{rows:,} rows were checked, not {options.many // 5:,}")
        return took

    one, two = zip(*((seconds(1), seconds(2)) for _ in range(TURNS)), strict=True)
    with (
        Path(landing, "events.csv").open("rb") as text,
        gzip.open(f"{landing}/events.csv.gz", "wb") as packed,
    ):
        shutil.copyfileobj(text, packed)
    Path(landing, "events.csv").unlink()
    alone = [max(load.workers_cpu(landing, 1)) for _ in range(TURNS)]
    shared = [load.workers_cpu(landing, 2) for _ in range(TURNS)]
    if any(len(workers) != 2 for workers in shared):
        raise SystemExit("one of two workers had no block of the .gz")
    unpack = median(load.unpack_cpu(landing) for _ in range(TURNS))
    return {
        "parallel_speedup": median(one) / median(two),
        "parallel_speedup_gz": median(alone) / median(map(max, shared)),
        "gz_unpack_share": unpack / (unpack + median(alone)),
    }


def measure_land(folder: Path, options: argparse.Namespace) -> Figures:
    """An export of a day, split to nowhere."""
    from shopstream.landing.split import split

    file = Path(_landed(folder, options.many // 5), "events.csv")

    def open_part(*_: object) -> IO[bytes]:
        return Path(os.devnull).open("wb")

    def seconds() -> float:
        began = time.process_time()
        with file.open("rb") as source:
            split(source, file.name, open_part, lambda *_: None)
        return time.process_time() - began

    return {"land_export_mb_s": file.stat().st_size / 1e6 / median(seconds() for _ in range(TURNS))}


def measure_stream(folder: Path, options: argparse.Namespace) -> Figures:
    """The stream from a backlog, as CSV and as JSON, beside one as one writes it first."""
    from bench import bench_stream

    return bench_stream.measure(options.rows // 2, bench_stream.LATENCY_SECONDS)


def measure_airflow(folder: Path, options: argparse.Namespace) -> Figures:
    """Each DAG file, in a process that has imported what every DAG does."""
    code = "import airflow.sdk, sys, time, runpy; t = time.perf_counter(); runpy.run_path(sys.argv[1]); "
    code += "print(time.perf_counter() - t)"
    took = {}
    for file in sorted((ROOT / "dags").glob("*.py")):
        runs = [float(_run([sys.executable, "-c", code, str(file)]).split()[-1]) for _ in range(TURNS)]
        took[file.stem] = median(runs)
        print(f"  {file.stem:30} {took[file.stem]:6.2f} s")
    return {"dag_parse_max_s": max(took.values())}


def measure_demo(folder: Path, options: argparse.Namespace) -> Figures:
    """The demo, its stack's start and end included."""
    began = time.monotonic()
    _run([sys.executable, "-m", "local.demo"])
    figures = {"demo_s": time.monotonic() - began}
    told = json.loads((ROOT / "build" / "demo" / "result.json").read_text())
    print(f"  {', '.join(f'{step} {seconds:g} s' for step, seconds in told['seconds'].items())}")
    looked = told["stream"]["keep_alive_seconds"]
    return figures if looked is None else {**figures, "keep_alive_task_s": looked}


def measure_page(folder: Path, options: argparse.Namespace) -> Figures:
    """The dashboard's first page in a browser, beside the running stack."""
    from bench import page

    return page.measure()


PARTS: dict[str, Callable[[Path, argparse.Namespace], Figures]] = {
    "load": measure_load,
    "growth": measure_growth,
    "parallel": measure_parallel,
    "land": measure_land,
    "stream": measure_stream,
    "airflow": measure_airflow,
    "demo": measure_demo,
    "page": measure_page,
}


def _landed(folder: Path, rows: int) -> str:
    write_landing_day(folder, load.DAY, rows)
    return str(folder / str(load.DAY))


def _cut(landing: Path, folder: Path, files: int) -> str:
    """Spread the lines of a landing day over so many files."""
    header, *lines = (landing / "events.csv").read_bytes().splitlines(keepends=True)
    folder.mkdir()
    for number in range(files):
        part = lines[len(lines) * number // files : len(lines) * (number + 1) // files]
        (folder / f"{number:05}.csv").write_bytes(header + b"".join(part))
    return str(folder)


@contextmanager
def _spanner(folder: Path) -> Iterator[None]:
    port = emulators.free_port()
    os.environ["SPANNER_EMULATOR_HOST"] = f"{emulators.HOST}:{port}"
    with emulators.running(emulators.spanner(port), folder / "spanner.log"):
        create_database()
        yield


def _load(way: str, landing: str, rows: int) -> Figures:
    command = [sys.executable, "-m", "bench.load", way, landing, str(rows)]
    figures: Figures = json.loads(_run(command).splitlines()[-1])
    cpu, speed, peak = (figures[name] for name in ("cpu_us_per_row", "rows_s", "peak_mb"))
    print(f"  {way:8} {rows:>9,} rows: {cpu:6.1f} us of CPU a row, {speed:8,.0f} rows/s, {peak:5,.0f} MiB")
    return figures


def _run(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _tell(figures: Figures) -> None:
    table = Table("figure", "found", "aim", "")
    for name, figure in figures.items():
        aim = AIMS.get(name)
        verdict = "" if aim is None else "holds" if aim.holds(figure) else "missed"
        table.add_row(name, f"{figure:,.2f}", str(aim or ""), verdict)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
