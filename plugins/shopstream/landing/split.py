"""Split an export of any size into landing days, as a stream: memory does not grow with the export.

`land` works on Cloud Storage; `split` and `open_export` are its core over plain file objects.
"""

from __future__ import annotations

import io
import logging
import lzma
import re
import time
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from beam_jobs.contract import COLUMN_NAMES, ContractError, header_columns
from beam_jobs.lines import BLOCK_BYTES, decompressed, is_mark, read_first_line, read_pieces
from beam_jobs.parse import excerpt
from shopstream.gcp.storage import open_object
from shopstream.landing.judge import (
    Landed,
    Lines,
    as_date,
    fill_gaps,
    judge_lines,
    refuse_hopeless,
    run_starts,
)
from shopstream.landing.translate import translation
from shopstream.layout import EXPORT_PATTERN, EXPORTS, LANDING, SUCCESS, UNFINISHED, landing

if TYPE_CHECKING:
    from google.cloud.storage import Bucket, Client

log = logging.getLogger(__name__)

MAX_OPEN_PARTS = 32
"""More than a month's days, so that a monthly export makes one part a day in whatever order its lines are."""
UPLOAD_CHUNK_BYTES = 4 * 2**20
"""What an open part may hold in memory; Cloud Storage wants a multiple of 256 KiB."""
MAX_DAYS = 400
MAX_PARTS = 10_000
MEMBERS_NAMED = 5
PROGRESS_SECONDS = 10.0

_END_RECORD, _END_RECORD_BYTES = b"PK\5\6", 22
"""Of a zip: how its last record begins, and how long that is without a comment."""

Progress = Callable[[int, int, int], None]
"""Called after each block with the bytes, rows and days so far."""


def land(client: Client, bucket_name: str, export: str, *, times_are_utc: bool = False) -> dict[str, Any]:
    """Split an export into landing/events/<day>/<stem>-<part>.csv and mark its days complete.

    Safe to repeat: a day's _SUCCESS goes before its first part is written, parts that an earlier run of this
    export left and this one did not write are deleted, and all _SUCCESS objects are written at the very end.
    Safe to give up: from before its first part to the end a day has _UNFINISHED-<stem>, and as long as it
    has, no other export marks it complete, with half of this one in it. The same export as .csv, .csv.gz or
    .zip has the same parts.

    Args:
        times_are_utc: take times without a zone for UTC.

    Returns:
        {"export": gs uri, "rows": int, "days": {"2019-11-01": rows, ...},
        "rejected": {"2019-11-01": {reason: rows, ...}, ...}, "translated": [what, ...]}

    Raises:
        ContractError: the export does not exist, changes while it is read, cannot be decompressed or does
            not hold events; or all its days are landed, but some also have parts of an export that was not
            landed to its end.
    """
    uri = f"gs://{bucket_name}/{export}"
    if not re.fullmatch(EXPORT_PATTERN, export):
        raise ContractError(
            f"{uri}: an export lies directly in exports/, ends in one of .csv, .csv.gz, .zip, .csv.zip, does "
            "not begin with _ and has none of * ? # [ ] in its name. Upload it under such a name."
        )
    bucket = client.bucket(bucket_name)
    stem = stem_of(export.removeprefix(EXPORTS))
    written: set[str] = set()

    def open_part(day: date, number: int) -> IO[bytes]:
        if number == 0:
            _delete(bucket, _mark(day, SUCCESS))
            bucket.blob(_mark(day, UNFINISHED + stem)).upload_from_string(b"")
        name = f"{landing(day)}/{stem}-{number:05d}.csv"
        written.add(name)
        return bucket.blob(name).open(
            "wb", chunk_size=UPLOAD_CHUNK_BYTES, content_type="text/csv", ignore_flush=True
        )

    with (
        open_object(bucket, export, chunk_bytes=BLOCK_BYTES) as (stored, encoding),
        open_export(stored, uri, encoding) as source,
    ):
        landed = split(source, uri, open_part, _log_progress(uri), times_are_utc)
    if landed.translated:
        log.info("%s was translated to plain CSV: %s", uri, "; ".join(landed.translated))
    if shares := landed.shares():
        log.warning("%s: the loads will reject %s", uri, "\n".join(shares))
    days = landed.rows
    waiting = _delete_leftovers(bucket, stem, written)
    for day in days:
        if str(day) not in waiting:
            bucket.blob(_mark(day, SUCCESS)).upload_from_string(b"")
    if held := {day: waiting[str(day)] for day in days if str(day) in waiting}:
        raise ContractError(
            f"{uri} is landed, but other exports broke off and left parts of themselves in "
            + ", ".join(f"{day} ({', '.join(stems)})" for day, stems in held.items())
            + ". These days have no _SUCCESS. Land those exports again, which completes the days. Or, to "
            f"give one up, delete its <name>-*.csv and {UNFINISHED}<name> from all days in "
            f"gs://{bucket_name}/{LANDING}, and land this one again."
        )
    log.info(
        "%s is landed, rows: %s, days: %d, %s to %s, each marked complete; the loads will reject rows: %s.",
        *(uri, f"{days.total():,}", len(days), min(days), max(days)),
        f"{sum(reasons.total() for reasons in landed.rejected.values()):,}",
    )
    return {
        "export": uri,
        "rows": days.total(),
        "days": {str(day): rows for day, rows in days.items()},
        "rejected": {str(day): dict(reasons) for day, reasons in landed.rejected.items()},
        "translated": landed.translated,
    }


def stem_of(name: str) -> str:
    """The name of an export's file without its endings, which its parts have."""
    return re.sub(r"(\.csv|\.gz|\.zip)+$", "", name)


def is_part(name: str, stem: str) -> bool:
    """Tell whether a name in a landing day's folder is that of a part of the export."""
    return re.fullmatch(rf"{re.escape(stem)}-\d{{5}}\.csv", name) is not None


@contextmanager
def open_export(
    stored: io.BufferedIOBase, file: str, encoding: str | None = None
) -> Iterator[io.BufferedIOBase]:
    """Give the export's CSV bytes; `stored` must be seekable for a .zip, and is closed in the end.

    Raises:
        ContractError: the file is damaged, encrypted, of an encoding that is not read, or a .zip with
            anything else than one CSV file in it, before it or behind it.
    """
    try:
        with decompressed(stored, file, encoding) as text:
            if not file.endswith(".zip"):
                yield text
                return
            with (
                zipfile.ZipFile(text) as archive,
                archive.open(_only_csv(archive, file)) as packed,
                decompressed(cast(io.BufferedIOBase, packed), file) as source,
            ):
                yield source
    except (zipfile.BadZipFile, lzma.LZMAError) as error:
        raise ContractError(f"{file} is damaged or cut short: {error}. Upload it again.") from error


def split(
    source: io.BufferedIOBase,
    file: str,
    open_part: Callable[[date, int], IO[bytes]],
    progress: Progress,
    times_are_utc: bool = False,
) -> Landed:
    """Write each line of `source` to a part of its event_time's day; the header, if any, heads every part.

    Lines are judged by the load's own rules. One whose day cannot be read goes where the line before it went
    (the first lines: with the first line that has a day), so that every line is landed and the load can
    reject it with a reason; blank lines before all others are left out. At most MAX_OPEN_PARTS parts are
    open; the one longest unused is closed, and its day goes on in a new part.

    Args:
        file: the export's name, for errors.
        open_part: opens part 0, 1, ... of a day for writing.
        times_are_utc: take times without a zone for UTC.

    Returns:
        What was landed, in order of days; blank lines are not counted.

    Raises:
        ContractError: there is no event, the header is wrong, the load would accept no line of the first
            block, or the days make no sense. Of these only the days may show after parts were written.
    """
    line, start = read_first_line(source, file)
    form = translation(line, file, times_are_utc)
    header = form.lines(line) if form else line
    columns = header_columns(header.decode(errors="replace"), file)
    if columns is None:
        columns, header, body_start = COLUMN_NAMES, b"", start
    else:
        body_start = start + len(line)
    landed = Landed()
    parts = _Parts(open_part, header, file)
    last_day = 0
    try:
        for piece in read_pieces(source, body_start, block_bytes=BLOCK_BYTES):
            if piece.begins_line:
                data = form.lines(piece.data) if form else piece.data
                lines = judge_lines(data, piece.data, piece.offset, columns, file)
                if lines.is_row.any() and not landed.rows:
                    refuse_hopeless(lines, file)
            else:
                # It goes on with the line that the piece before it began, and counted.
                data, lines = piece.data, Lines.nothing()
            last_day = fill_gaps(lines.days, last_day, data, file)
            landed.add(lines)
            slices: dict[int, list[memoryview]] = defaultdict(list)
            first_lines = run_starts(lines.days)
            ends = np.append(lines.starts[first_lines[1:]], len(data))
            for first, end in zip(first_lines, ends, strict=True):
                slices[int(lines.days[first])].append(memoryview(data)[lines.starts[first] : end])
            for day, texts in slices.items():
                parts.write(day, texts[0] if len(texts) == 1 else b"".join(texts))
            progress(piece.offset + len(piece.data), landed.rows.total(), len(landed.rows))
    finally:
        parts.close()
    if not landed.rows:
        raise ContractError(f"{file} holds no event. Upload the export again.")
    landed.rows = Counter(dict(sorted(landed.rows.items())))
    landed.rejected = dict(sorted(landed.rejected.items()))
    landed.translated = form.told if form else []
    return landed


class _Parts:
    """The open parts, one a day, at most MAX_OPEN_PARTS."""

    def __init__(self, open_part: Callable[[date, int], IO[bytes]], header: bytes, file: str) -> None:
        self._open_part = open_part
        self._header = header
        self._file = file
        self._open: OrderedDict[int, IO[bytes]] = OrderedDict()
        self._count: dict[int, int] = defaultdict(int)

    def write(self, day: int, text: bytes | memoryview) -> None:
        if day not in self._open:
            self._open_next(day)
        self._open.move_to_end(day)
        self._open[day].write(text)

    def close(self) -> None:
        for part in self._open.values():
            part.close()

    def _open_next(self, day: int) -> None:
        if day not in self._count and len(self._count) == MAX_DAYS:
            raise ContractError(
                f"{self._file} holds more than {MAX_DAYS} different days, among them "
                f"{as_date(min(self._count))} and {as_date(max(self._count))}. "
                "Look at its event_time column; split an export of more days by hand."
            )
        if sum(self._count.values()) == MAX_PARTS:
            raise ContractError(
                f"{self._file} mixes its days so much that it would make more than {MAX_PARTS} parts. "
                "Sort it by event_time."
            )
        if len(self._open) == MAX_OPEN_PARTS:
            self._open.popitem(last=False)[1].close()
        part = self._open_part(as_date(day), self._count[day])
        self._count[day] += 1
        self._open[day] = part
        part.write(self._header)


def _only_csv(archive: zipfile.ZipFile, file: str) -> zipfile.ZipInfo:
    """Return the one file in an archive, which is of events: whatever else it holds, nobody would read."""
    files = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_of_macos(entry)]
    if len(files) != 1 or not files[0].filename.lower().endswith(".csv"):
        more = f" and {len(files) - MEMBERS_NAMED:,} more" if len(files) > MEMBERS_NAMED else ""
        names = ", ".join(excerpt(entry.filename) for entry in files[:MEMBERS_NAMED]) or "nothing"
        raise ContractError(
            f"{file} must hold one .csv file and nothing else, but holds {names}{more}. Zip one file alone."
        )
    if files[0].flag_bits & 1:
        raise ContractError(f"{file} is encrypted. Upload it without a password.")
    if files[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ContractError(f"{file} is compressed by method {files[0].compress_type}. Use deflate.")
    if min(entry.header_offset for entry in archive.infolist()) or not _ends_file(archive):
        raise ContractError(
            f"{file} is no zip alone: other bytes stand before or behind it, as when files are joined. "
            "Upload each file by itself."
        )
    return files[0]


def _is_of_macos(entry: zipfile.ZipInfo) -> bool:
    """Tell whether macOS has added a file: the shadow of another one, or how a folder is shown."""
    name = entry.filename.rpartition("/")[2]
    return name == ".DS_Store" or (entry.filename.startswith("__MACOSX/") and name.startswith("._"))


def _ends_file(archive: zipfile.ZipFile) -> bool:
    """Tell whether the archive's last record, which its comment ends, is the last of the file."""
    stored = cast("IO[bytes]", archive.fp)  # None once it is closed
    stored.seek(-_END_RECORD_BYTES - len(archive.comment), io.SEEK_END)
    return stored.read(len(_END_RECORD)) == _END_RECORD


def _mark(day: date, name: str) -> str:
    return f"{landing(day)}/{name}"


def _delete(bucket: Bucket, name: str) -> None:
    bucket.delete_blobs([bucket.blob(name)], on_error=lambda blob: None)


def _delete_leftovers(bucket: Bucket, stem: str, written: set[str]) -> dict[str, list[str]]:
    """Delete what only earlier runs of this export wrote, the _SUCCESS of days left without parts, and the
    marks that this export is unfinished.

    Returns:
        The days that other exports have not finished, with the stems of these.
    """
    blobs = bucket.list_blobs(prefix=LANDING, fields="items(name),nextPageToken")
    names: dict[str, set[str]] = defaultdict(set)
    for blob in blobs:
        day, _, name = blob.name.removeprefix(LANDING).partition("/")
        names[day].add(name)
    waiting = {}
    for day in sorted(names):
        folder = f"{LANDING}{day}/"
        stale = {name for name in names[day] if is_part(name, stem) and folder + name not in written}
        marks = {name for name in names[day] if is_mark(name) and name != SUCCESS}
        if stale and names[day] <= stale | {SUCCESS, UNFINISHED + stem}:
            stale.add(SUCCESS)
        # _SUCCESS before the parts, and the mark when all is well: so a death between them misleads nobody.
        for name in sorted(stale & names[day], key=lambda name: name != SUCCESS):
            log.info(
                "Deleting gs://%s/%s%s, left by an earlier run of this export", bucket.name, folder, name
            )
            _delete(bucket, folder + name)
        if UNFINISHED + stem in marks:
            _delete(bucket, folder + UNFINISHED + stem)
        if others := marks - {UNFINISHED + stem}:
            waiting[day] = sorted(name.removeprefix(UNFINISHED) for name in others)
    return waiting


def _log_progress(file: str) -> Progress:
    started = last = time.monotonic()

    def progress(bytes_read: int, rows: int, days: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            last = now
            megabytes = bytes_read / 1e6
            log.info(
                "%s: %.0f MB, %s rows, %d days, %.0f MB/s",
                file, megabytes, f"{rows:,}", days, megabytes / (now - started),
            )  # fmt: skip

    return progress
