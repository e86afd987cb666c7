"""One load of a generated landing day in a process of its own: its CPU a row, rows a second, peak memory.

`python -m bench.load WAY LANDING_FOLDER ROWS` prints one JSON object. WAY is `ours` (the load as it is),
`null` (the load, whose rows no Spanner takes), `peer` (plain Beam, as one writes it first) or `ceiling` (the
rows, encoded before, in the load's commits). CPU is that of this process, threads and all, without its
imports. The emulator, at SPANNER_EMULATOR_HOST, is a process of its own and not counted.
"""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud import spanner

from beam_jobs import load_events, spanner_sink
from beam_jobs.contract import COLUMN_NAMES
from beam_jobs.files import (
    RANGE_BYTES,
    ByteRange,
    LandedBlock,
    UnpackedBlock,
    list_files,
    plan_ranges,
    plan_work,
    read_range,
    read_work,
)
from beam_jobs.identity import shard, shards
from beam_jobs.parse import parse_block
from beam_jobs.validate import validate
from bench.bench_parse import DAY, naive_event

LOAD_ID = "20191101-ab12cd34"
PROJECT, INSTANCE, DATABASE = "shopstream-bench", "bench", "bench"
RUNNER = ["--runner=FnApiRunner"]
PEER_BATCH_ROWS = 500


def main(way: str, landing: str, rows: int) -> None:
    """Load, and print what it took."""
    work = ready_made(landing) if way == "ceiling" else lambda: WAYS[way](landing)
    before, imported_mb = resource.getrusage(resource.RUSAGE_SELF), memory_mb("VmRSS")
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {
        "cpu_us_per_row": cpu / rows * 1e6,
        "rows_s": rows / seconds,
        "peak_mb": memory_mb("VmHWM") - imported_mb,
    }
    print(json.dumps(found))


def memory_mb(which: str) -> float:
    """Return what this process holds (`VmRSS`) or at most held (`VmHWM`).

    ru_maxrss is no measure of it: that begins with what the parent held.
    """
    [kilobytes] = re.findall(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def ours(landing: str) -> None:
    """Load by the job's own code."""
    with tempfile.TemporaryDirectory() as out:
        options = [f"--{name}={out}/{name}" for name in ("accepted", "rejected")]
        result = load_events.run(
            [
                f"--landing={landing}",
                f"--landing_day={DAY}",
                f"--load_id={LOAD_ID}",
                *options,
                f"--manifest={out}/manifest.json",
                f"--spanner_project={PROJECT}",
                f"--spanner_instance={INSTANCE}",
                f"--spanner_database={DATABASE}",
                *RUNNER,
            ]
        )
        result.wait_until_finish()
        if not Path(out, "manifest.json").exists():
            raise SystemExit("the load wrote no manifest")


def null(landing: str) -> None:
    """Load, but encode for Spanner and send nothing."""

    def encode(_: spanner_sink.SpannerSink, rows: pa.BinaryArray, start: int, stop: int) -> None:
        b"".join(spanner_sink.mutation_of(rows, start, stop))

    os.environ["SPANNER_EMULATOR_HOST"] = "127.0.0.1:9"  # So that nobody looks for credentials.
    spanner_sink.SpannerSink._send = encode  # type: ignore[assignment,method-assign]
    ours(landing)


def ready_made(landing: str) -> Callable[[], None]:
    """Make the Commit requests of all rows; return what sends them, one after the other as the load does."""
    sink = spanner_sink.SpannerSink(PROJECT, INSTANCE, DATABASE)
    made: list[tuple[pa.BinaryArray, int, int]] = []
    sent = sink._send

    def keep(rows: pa.BinaryArray, start: int, stop: int) -> None:
        made.append((rows, start, stop))

    sink._send = keep  # type: ignore[method-assign]
    for file in list_files(landing):
        for part in plan_ranges(file):
            for block in read_range(part):
                events = validate(parse_block(block, part.columns), DAY).accepted
                for name, value in (("landing_day", pa.scalar(DAY)), ("load_id", LOAD_ID)):
                    events = events.append_column(name, pa.repeat(value, len(events)))
                user_ids = events["user_id"].to_numpy()
                sink.write(events.append_column("shard", pa.array(shards(user_ids))))

    def send() -> None:
        for rows, start, stop in made:
            sent(rows, start, stop)

    return send


def ranges(landing: str, range_bytes: int) -> list[ByteRange]:
    """Return the ranges of all files of a landing day."""
    return [part for file in list_files(landing) for part in plan_ranges(file, range_bytes)]


def checked_rows(part: ByteRange) -> int:
    """Parse and check a range; return its accepted rows."""
    blocks = (parse_block(block, part.columns) for block in read_range(part))
    return sum(len(validate(block, DAY).accepted) for block in blocks)


def unpack_cpu(landing: str) -> float:
    """Unpack a compressed landing day for other workers, as one worker does; return the CPU seconds."""
    began = time.process_time()
    for work in plan_work(list_files(landing), RANGE_BYTES):
        for landed in read_work(work):
            UnpackedBlock.of(landed)
    return time.process_time() - began


def workers_cpu(landing: str, workers: int) -> list[float]:
    """Parse and check a landing day by the job's own steps, in worker processes of Beam's local runner.

    Returns the CPU seconds of each process that had blocks, threads and all, from its first to its last one.
    """
    runner = [*RUNNER, f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    with tempfile.NamedTemporaryFile("r") as told:
        with beam.Pipeline(options=PipelineOptions(runner)) as pipeline:
            files = pipeline | beam.Create([landing]) | beam.Map(list_files)
            blocks = load_events.read_blocks(files, RANGE_BYTES).blocks
            _ = blocks | "Check" >> beam.Map(tell_checked, told.name)
        looks = [json.loads(line) for line in told]
    return [
        max(ended for by, _, ended in looks if by == process) - began
        for process, began in {by: began for by, began, _ in reversed(looks)}.items()
    ]


def tell_checked(landed: LandedBlock, file: str) -> None:
    """Parse and check a block; append this process and its CPU seconds before and after to a file."""
    began = time.process_time()
    validate(parse_block(landed.block, landed.columns), DAY)
    with Path(file).open("a", encoding="utf-8") as told:
        told.write(f"{json.dumps([os.getpid(), began, time.process_time()])}\n")


class ParseLine(beam.DoFn):
    """A line to an event, as one writes it first: csv, strptime, int, Decimal, sha256."""

    def process(self, line: str) -> Iterator[dict[str, Any]]:
        event = naive_event(dict(zip(COLUMN_NAMES, next(csv.reader([line])), strict=True)))
        yield event | {"shard": shard(event["user_id"]), "landing_day": DAY, "load_id": LOAD_ID}


class WriteRows(beam.DoFn):
    """Writes events by the client's own batches, as its documentation shows it."""

    def setup(self) -> None:
        self._database = spanner.Client(project=PROJECT).instance(INSTANCE).database(DATABASE)

    def start_bundle(self) -> None:
        self._rows: list[list[Any]] = []

    def process(self, event: dict[str, Any]) -> None:
        self._rows.append([event[name] for name in spanner_sink.STORED_COLUMNS])
        if len(self._rows) == PEER_BATCH_ROWS:
            self.finish_bundle()

    def finish_bundle(self) -> None:
        if self._rows:
            with self._database.batch() as batch:
                batch.insert_or_update(spanner_sink.TABLE, spanner_sink.STORED_COLUMNS, self._rows)
        self._rows = []


def peer(landing: str) -> None:
    """Load by plain Beam: neither ids compared, nor counters, nor rejects, nor Parquet."""
    pipeline = beam.Pipeline(options=PipelineOptions(RUNNER))
    _ = (
        pipeline
        | beam.io.ReadFromText(f"{landing}/*.csv", skip_header_lines=1)
        | beam.ParDo(ParseLine())
        | beam.ParDo(WriteRows())
    )
    pipeline.run().wait_until_finish()


WAYS = {"ours": ours, "null": null, "peer": peer}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
