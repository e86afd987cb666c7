"""Loads one landing day: its files to Spanner, accepted Parquet, rejected JSON lines and a manifest.

Run as `python -m beam_jobs.load_events --landing_day 2019-11-01 ...`, any Beam runner's own options behind.

A block of lines (some MiB, of a large file or of many small ones) is the unit of everything: read, checked
and written as Arrow tables. What it writes has names or keys that follow from the block alone, so that to
load it twice is to load it once. The manifest is written last, and names only what finished blocks wrote.

What goes from step to step between workers is small, whatever the day's size: ranges, counts, moments. Only
the text of compressed files and the ids of moments that several blocks share are more (docs/adr/0022).
"""

import argparse
import hashlib
import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import pairwise
from operator import attrgetter
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsSingleton, TaggedOutput
from apache_beam.runners.runner import PipelineResult

from beam_jobs.files import (
    RANGE_BYTES,
    LandedBlock,
    LandingFile,
    LandingFiles,
    UnpackedBlock,
    Work,
    check_unchanged,
    count_lines,
    is_compressed,
    list_files,
    plan_work,
    read_work,
)
from beam_jobs.identity import EVENT_ID_BYTES, shards
from beam_jobs.lines import refuse_other_header
from beam_jobs.manifest import LandedFile, Manifest
from beam_jobs.parse import REJECTED_SCHEMA, parse_block
from beam_jobs.pseudonyms import add_key_option, pseudonyms_by
from beam_jobs.rejected import Refusal, batch_envelopes
from beam_jobs.spanner_sink import SpannerSink
from beam_jobs.validate import validate
from beam_jobs.waiting import tell_waiting

PROGRESS_SECONDS = 10.0
MAX_REJECTS = 1000
"""So many lines of a block are kept for each reason; of further ones the range is kept, and their number."""
SUMS = ("read", "accepted", "rejected", "distinct", "duplicates", "late")
"""Of Counts and of the manifest."""
MOMENT_SECONDS = 10
"""Files that are sorted by time share few moments: of a day of 5 million rows, one in fifty."""
ID_BUCKETS = 64
"""Ids are compared in so many parts, by their first byte: even ones, also if all events are of one time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What to load, and where to: the job's options."""

    landing_day: date
    load_id: str
    landing: str
    accepted: str
    rejected: str
    manifest: str
    spanner_project: str
    spanner_instance: str
    spanner_database: str
    range_bytes: int
    pseudonym_key: str | None = None


@dataclass(frozen=True, slots=True)
class LoadedBlock:
    """A block on its way: row i of `events` is the line at `offsets[i]`, `lengths[i]` bytes long.

    `events` has the columns of accepted Parquet, `rejected` those of REJECTED_SCHEMA. All offsets are as the
    block counts.
    """

    landed: LandedBlock
    events: pa.Table
    offsets: np.ndarray
    lengths: np.ndarray
    rejected: pa.Table


@dataclass(slots=True)
class Counts:
    """What one block, or several together, came to.

    Each step adds what it has seen itself: `read` is counted where lines are read, `accepted` and `rejected`
    where rows are written, `distinct` and `duplicates` where ids are compared. So their sums agree only if
    nothing was lost between the steps.
    """

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    distinct: int = 0
    duplicates: int = 0
    late: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=Counter)
    event_dates: Counter[date] = field(default_factory=Counter)
    accepted_files: list[str] = field(default_factory=list)
    rejected_files: list[str] = field(default_factory=list)


def main() -> None:
    """Run the load and wait for its end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # At INFO, Beam tells of each annotation that it does not turn into a type hint.
    logging.getLogger("apache_beam.typehints").setLevel(logging.WARNING)
    run().wait_until_finish()


def run(argv: list[str] | None = None) -> PipelineResult:
    """Start the load that the options (default: the command line's) describe; the result may be waited for.

    Raises:
        SystemExit: an option is missing or malformed; the message on stderr says which.
    """
    load, beam_arguments = parse_options(argv)
    tell_waiting()
    # On Dataflow Beam would send what __main__ holds to workers, which import this module from their image.
    # That the steps' types fit a test looks at: here it would be a fifth of what a start costs.
    options = PipelineOptions(beam_arguments, save_main_session=False, pipeline_type_check=False)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, load)
    return pipeline.run()


def parse_options(argv: list[str] | None = None) -> tuple[LoadOptions, list[str]]:
    """Split the arguments into this job's options and those left for Beam and its runner."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--landing_day", required=True, type=_day, help="The day to load, such as 2019-11-01.")
    add("--load_id", required=True, type=_load_id, help="This load's id, such as 20191101-ab12cd34.")
    add("--landing", required=True, help="The directory of the day's *.csv and *.csv.gz files.")
    add("--accepted", required=True, help="The directory for Parquet files of accepted events.")
    add("--rejected", required=True, help="The directory for JSON lines of rejected rows.")
    add("--manifest", required=True, help="The file for the load's counters, written when all else is done.")
    add("--spanner_project", required=True, help="The project of the Spanner instance.")
    add("--spanner_instance", required=True, help="The Spanner instance's id.")
    add("--spanner_database", required=True, help="The Spanner database's id; it has the table events.")
    add(
        "--range_bytes",
        type=_byte_count,
        default=RANGE_BYTES,
        help="How many bytes of a file one worker takes at a time (default: %(default)s).",
    )
    add_key_option(parser)
    options, beam_arguments = parser.parse_known_args(argv)
    return LoadOptions(**vars(options)), beam_arguments


def build(pipeline: beam.Pipeline, load: LoadOptions) -> None:
    """Add the load's steps to a pipeline."""
    files = (
        pipeline | "Landing directory" >> beam.Impulse() | "List files" >> beam.Map(_list_files, load.landing)
    )
    read = read_blocks(files, load.range_bytes)
    written = (
        read.blocks
        | "Parse and validate" >> beam.FlatMap(_parse_and_validate, load)
        | "Write Spanner" >> beam.ParDo(WriteSpanner(load))
        | "Write files" >> beam.ParDo(WriteFiles(load)).with_outputs("moments", main="counts")
    )
    shared = (
        written.moments
        | "Moments of files" >> beam.MapTuple(lambda _, moments: Moments(moments))
        | "Find shared moments" >> beam.CombineGlobally(add_moments).without_defaults()
    )
    own = written.moments | "Count own ids" >> beam.FlatMap(
        _count_own_ids, AsSingleton(shared, Moments.none())
    ).with_outputs("ids", main="counts")
    compared = (
        own.ids
        | "Group ids" >> beam.GroupByKey()
        | "Count shared ids" >> beam.MapTuple(lambda _, ids: count_ids(ids))
    )
    counts = (
        (read.counts, written.counts, own.counts, compared)
        | "All counts" >> beam.Flatten()
        | "Add counts" >> beam.CombineGlobally(add_counts).without_defaults()
    )
    _ = files | "Write manifest" >> beam.Map(_write_manifest, load, AsSingleton(counts, Counts()))


def read_blocks(files: beam.PCollection, range_bytes: int) -> Any:
    """Add the steps from the listed files to their blocks; return these, as `blocks`, and their `counts`."""
    return (
        files
        | "Plan work" >> beam.FlatMap(plan_work, range_bytes)
        # Past this, all headers have been read: a file that breaks the contract fails the load unwritten.
        | "Spread work" >> beam.Reshuffle()
        # One worker unpacks a compressed file; what it unpacks is for all of them.
        | "Unpack" >> beam.FlatMap(_unpack)
        | "Spread unpacked blocks" >> beam.Reshuffle()
        | "Read blocks" >> beam.FlatMap(_read).with_outputs("counts", main="blocks")
    )


def _list_files(_: bytes, landing: str) -> LandingFiles:
    return list_files(landing)


def _unpack(work: Work) -> Iterator[Work | UnpackedBlock]:
    if is_compressed(work):
        yield from map(UnpackedBlock.of, read_work(work))
    else:
        yield work


# Blocks and TaggedOutput; Any, since Beam reads this hint and takes no TaggedOutput in it.
def _read(work: Work | UnpackedBlock) -> Iterator[Any]:
    lines_read = Metrics.counter("load_events", "read")
    for landed in [work.sent()] if isinstance(work, UnpackedBlock) else read_work(work):
        lines = count_lines(landed.block)
        lines_read.inc(lines)
        yield TaggedOutput("counts", Counts(read=lines))
        yield landed


def _parse_and_validate(landed: LandedBlock, load: LoadOptions) -> Iterator[LoadedBlock]:
    parsed = parse_block(landed.block, landed.columns, MAX_REJECTS)
    checked = validate(parsed, load.landing_day, pseudonyms_by(load.pseudonym_key))
    if len(landed.origins) > 1 and pc.any(pc.greater(checked.rejected["lines"], 1)).as_py():
        # A range of rejected lines is of one file.
        for part in landed.by_origin():
            yield from _parse_and_validate(part, load)
        return
    rejected = (checked.rejected[name].to_pylist() for name in ("raw", "byte_offset"))
    for raw, offset in zip(*rejected, strict=True):
        refuse_other_header(raw, landed.columns, *landed.place(offset))
    rows = len(checked.accepted)
    events = checked.accepted.append_column("landing_day", pa.repeat(pa.scalar(load.landing_day), rows))
    events = events.append_column("load_id", pa.repeat(load.load_id, rows))
    yield LoadedBlock(landed, events, checked.offsets, checked.lengths, checked.rejected)


class WriteSpanner(beam.DoFn):
    """Writes a block's events to Spanner; those that Spanner refuses become rejects."""

    def __init__(self, load: LoadOptions) -> None:
        self._load = load
        self._commits = Metrics.counter("load_events", "spanner_commits")

    def setup(self) -> None:
        load = self._load
        self._sink = SpannerSink(load.spanner_project, load.spanner_instance, load.spanner_database)

    def process(self, loaded: LoadedBlock) -> Iterator[LoadedBlock]:
        user_ids = loaded.events["user_id"].to_numpy()
        commits_before = self._sink.commits
        refusals = self._sink.write(loaded.events.append_column("shard", pa.array(shards(user_ids))))
        self._commits.inc(self._sink.commits - commits_before)
        yield reject_refused(loaded, refusals) if refusals else loaded


class WriteFiles(beam.DoFn):
    """Writes a block's accepted and rejected rows; yields its Counts, and as `moments` those of its file."""

    def __init__(self, load: LoadOptions) -> None:
        self._load = load
        self._counters = {
            name: Metrics.counter("load_events", name) for name in ("accepted", "rejected", "late")
        }

    def setup(self) -> None:
        self._rows = 0
        self._started = self._logged = time.monotonic()

    # Counts and TaggedOutput; Any for the same reason.
    def process(self, loaded: LoadedBlock) -> Iterator[Any]:
        load = self._load
        counts = count(loaded, load.landing_day)
        # The same block of the same file has the same name in every attempt, so that a retry overwrites.
        first = loaded.landed.origins[0]
        name = f"{hashlib.sha256(first.path.encode()).hexdigest()[:16]}-{first.offset:015}"
        if counts.accepted:
            parquet = pa.BufferOutputStream()
            # Ids repeat in no dictionary, and nobody reads a part of a file by its statistics.
            repeating = [name for name in loaded.events.column_names if name != "event_id"]
            pq.write_table(loaded.events, parquet, use_dictionary=repeating, write_statistics=False)
            counts.accepted_files = [
                _write(f"{load.accepted}/{name}.parquet", parquet.getvalue().to_pybytes())
            ]
        if counts.rejected:
            envelopes = batch_envelopes(
                loaded.rejected,
                landing_day=load.landing_day,
                load_id=load.load_id,
                place=loaded.landed.place,
                rejected_at=datetime.now(UTC),
                mask=load.pseudonym_key is not None,
            )
            counts.rejected_files = [_write(f"{load.rejected}/{name}.jsonl", b"".join(envelopes))]
        self._tell(counts)
        yield counts
        for file in counts.accepted_files:
            yield TaggedOutput("moments", (file, np.unique(moments_of(loaded.events))))

    def _tell(self, counts: Counts) -> None:
        """Add to the job's counters and, every PROGRESS_SECONDS, log how far this worker is."""
        for name, counter in self._counters.items():
            counter.inc(getattr(counts, name))
        self._rows += counts.accepted + counts.rejected
        now = time.monotonic()
        if now - self._logged >= PROGRESS_SECONDS:
            self._logged = now
            rows_per_second = self._rows / (now - self._started)
            _log.info(
                "load %s: %s rows so far in this worker, %s rows/s",
                self._load.load_id,
                f"{self._rows:,}",
                f"{rows_per_second:,.0f}",
            )


def reject_refused(loaded: LoadedBlock, refusals: list[Refusal]) -> LoadedBlock:
    """Move the rows that Spanner refused from the block's events to its rejects, with their raw lines."""
    rejects = [
        {
            "byte_offset": offset,
            "line_bytes": line_bytes,
            "raw": loaded.landed.block.raw(offset, line_bytes),
            "reason": "refused_by_spanner",
            "detail": detail,
            "lines": 1,
        }
        for row, detail in refusals
        for offset, line_bytes in [(int(loaded.offsets[row]), int(loaded.lengths[row]))]
    ]
    kept = np.ones(len(loaded.events), dtype=bool)
    kept[[refusal.row for refusal in refusals]] = False
    return replace(
        loaded,
        events=loaded.events.filter(pa.array(kept)),
        offsets=loaded.offsets[kept],
        lengths=loaded.lengths[kept],
        rejected=pa.concat_tables([loaded.rejected, pa.Table.from_pylist(rejects, REJECTED_SCHEMA)]),
    )


def count(loaded: LoadedBlock, landing_day: date) -> Counts:
    """Count a block's rows; which files they went to is for the caller to add."""
    event_dates = loaded.events["event_date"]
    rejected_by_reason: Counter[str] = Counter()
    for reason, lines in zip(
        *(loaded.rejected[name].to_pylist() for name in ("reason", "lines")), strict=True
    ):
        rejected_by_reason[reason] += lines
    return Counts(
        accepted=len(loaded.events),
        rejected=rejected_by_reason.total(),
        late=pc.sum(pc.less(event_dates, pa.scalar(landing_day))).as_py() or 0,
        rejected_by_reason=rejected_by_reason,
        event_dates=Counter(
            {day["values"]: day["counts"] for day in pc.value_counts(event_dates).to_pylist()}
        ),
    )


def add_counts(parts: Iterable[Counts]) -> Counts:
    """Add up the counts of blocks."""
    total = Counts()
    for part in parts:
        for name in Counts.__slots__:
            setattr(total, name, getattr(total, name) + getattr(part, name))
    return total


@dataclass(frozen=True, slots=True)
class Moments:
    """The moments of the events of files, and those of them that several files share; int32."""

    seen: np.ndarray
    shared: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    @classmethod
    def none(cls) -> "Moments":
        """Return what no file has."""
        return cls(np.zeros(0, np.int32))


def moments_of(events: pa.Table) -> np.ndarray:
    """Return for each event how many times MOMENT_SECONDS after 1970 it was; int32."""
    seconds = events["event_time"].to_numpy().astype("M8[s]").astype(np.int64)
    return (seconds // MOMENT_SECONDS).astype(np.int32)


def add_moments(parts: Iterable[Moments]) -> Moments:
    """Put the moments of files together; one that is in two of them is shared."""
    parts = [Moments.none(), *parts]
    seen, files = np.unique(np.concatenate([part.seen for part in parts]), return_counts=True)
    return Moments(seen, np.unique(np.concatenate([seen[files > 1], *(part.shared for part in parts)])))


def _count_own_ids(file_and_moments: tuple[str, np.ndarray], moments: Moments) -> Iterator[Any]:
    own, shared = split_ids(accepted_ids(file_and_moments[0]), moments.shared)
    yield own
    for bucket_and_ids in shared:
        yield TaggedOutput("ids", bucket_and_ids)


def accepted_ids(file: str) -> pa.Table:
    """Read the ids and times of the events in a file of accepted Parquet."""
    with FileSystems.open(file) as parquet:
        return pq.read_table(parquet, columns=["event_id", "event_time"], use_threads=False)


def split_ids(events: pa.Table, shared_moments: np.ndarray) -> tuple[Counts, list[tuple[int, bytes]]]:
    """Count the distinct ids of a file's own moments; return with them those of the shared ones by bucket.

    Events of one id are of one time, so that what is twice is so within a moment. Ids are one after the
    other, EVENT_ID_BYTES each.
    """
    is_shared = np.isin(moments_of(events), shared_moments)
    own = events["event_id"].filter(pa.array(~is_shared))
    distinct = pc.count_distinct(own).as_py()
    shared = bytes.fromhex("".join(events["event_id"].filter(pa.array(is_shared)).to_pylist()))
    ids = np.frombuffer(shared, np.uint8).reshape(-1, EVENT_ID_BYTES)
    buckets = ids[:, 0] % ID_BUCKETS
    order = np.argsort(buckets, kind="stable")
    found, starts = np.unique(buckets[order], return_index=True)
    by_bucket = [
        (bucket, ids[order[start:end]].tobytes())
        for bucket, (start, end) in zip(found.tolist(), pairwise([*starts.tolist(), len(order)]), strict=True)
    ]
    return Counts(distinct=distinct, duplicates=len(own) - distinct), by_bucket


def count_ids(parts: Iterable[bytes]) -> Counts:
    """Count the distinct ids in byte strings of ids, EVENT_ID_BYTES each, and those beyond as duplicates."""
    ids = b"".join(parts)
    id_type, length = pa.binary(EVENT_ID_BYTES), len(ids) // EVENT_ID_BYTES
    column = pa.FixedSizeBinaryArray.from_buffers(id_type, length, [None, pa.py_buffer(ids)])
    distinct = pc.count_distinct(column).as_py()
    return Counts(distinct=distinct, duplicates=length - distinct)


def manifest(load: LoadOptions, files: Iterable[LandingFile], counts: Counts) -> Manifest:
    """Return the manifest of a finished load: its counters and its files."""
    return Manifest(
        landing_day=load.landing_day,
        load_id=load.load_id,
        **{name: getattr(counts, name) for name in SUMS},
        rejected_by_reason=dict(sorted(counts.rejected_by_reason.items())),
        event_dates=dict(sorted(counts.event_dates.items())),
        files=tuple(
            LandedFile(file.path, file.size_bytes, file.has_header)
            for file in sorted(files, key=attrgetter("path"))
        ),
        accepted_files=tuple(sorted(counts.accepted_files)),
        rejected_files=tuple(sorted(counts.rejected_files)),
        finished_at=datetime.now(UTC).replace(microsecond=0),
    )


def _write_manifest(files: LandingFiles, load: LoadOptions, counts: Counts) -> None:
    check_unchanged(load.landing, files)
    content = manifest(load, files, counts)
    _write(load.manifest, content.to_json().encode())
    _log.info(
        "load %s: done; %s",
        load.load_id,
        ", ".join(
            f"{name} {getattr(content, name):,}"
            for name in ("read", "accepted", "rejected", "duplicates", "late")
        ),
    )


def _write(path: str, content: bytes) -> str:
    with FileSystems.create(path) as file:
        file.write(content)
    return path


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2019-11-01") from None


def _load_id(text: str) -> str:
    if not re.fullmatch(r"\d{8}-[0-9a-z]{8,24}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a load id such as 20191101-ab12cd34")
    return text


def _byte_count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes above 0")
    return int(text)


if __name__ == "__main__":
    # Under its real name, so that Beam's workers import this module's functions instead of unpickling copies.
    from beam_jobs import load_events

    load_events.main()
