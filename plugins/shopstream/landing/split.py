"""Split an export of any size into landing days, as a stream: memory does not grow with the export.

`land` works on Cloud Storage; `split` and `open_export` are its core over plain file objects.
"""

from __future__ import annotations

import csv
import io
import logging
import lzma
import re
import time
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError
from beam_jobs.lines import (
    BLOCK_BYTES,
    UTF8_BOM,
    Piece,
    decompressed,
    has_bom,
    is_mark,
    past_bom,
    read_header,
    read_pieces,
    refuse_other_header,
)
from shopstream.layout import EXPORT_PATTERN, EXPORTS, LANDING, SUCCESS, UNFINISHED, landing

if TYPE_CHECKING:
    from google.cloud.storage import Bucket, Client

log = logging.getLogger(__name__)

MAX_OPEN_PARTS = 32
"""More than a month's days, so that a monthly export makes one part a day in whatever order its lines are."""
UPLOAD_CHUNK_BYTES = 4 * 2**20
"""What an open part may hold in memory; Cloud Storage wants a multiple of 256 KiB."""
DAY_PATTERN = re.compile(r"(\d{4})-(\d\d)-(\d\d) ", re.ASCII)
MAX_DAYS = 400
MAX_PARTS = 10_000
FIRST_YEAR, LAST_YEAR = 2000, 2099
PROGRESS_SECONDS = 10.0

Progress = Callable[[int, int, int], None]
"""Called after each block with the bytes, rows and days so far."""


def land(client: Client, bucket_name: str, export: str) -> dict[str, Any]:
    """Split an export into landing/events/<day>/<stem>-<part>.csv and mark its days complete.

    Safe to repeat: a day's _SUCCESS goes before its first part is written, parts that an earlier run of this
    export left and this one did not write are deleted, and all _SUCCESS objects are written at the very end.
    Safe to give up: from before its first part to the end a day has _UNFINISHED-<stem>, and as long as it
    has, no other export marks it complete, with half of this one in it. The same export as .csv, .csv.gz or
    .zip has the same parts.

    Returns:
        {"export": gs uri, "rows": int, "days": {"2019-11-01": rows, ...}}

    Raises:
        ContractError: the export does not exist, cannot be decompressed or does not hold events; or all its
            days are landed, but some also have parts of an export that was not landed to its end.
    """
    uri = f"gs://{bucket_name}/{export}"
    if not re.fullmatch(EXPORT_PATTERN, export):
        raise ContractError(
            f"{uri}: an export lies directly in exports/, ends in one of .csv, .csv.gz, .zip, .csv.zip, does "
            "not begin with _ and has none of * ? # [ ] in its name. Upload it under such a name."
        )
    bucket = client.bucket(bucket_name)
    blob = bucket.get_blob(export)
    if blob is None:
        raise ContractError(f"{uri} does not exist. Upload it: gcloud storage cp FILE {uri}")

    stem = re.sub(r"(\.csv|\.gz|\.zip)+$", "", export.removeprefix(EXPORTS))
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
        # Raw, for the sizes and ranges of an object with an encoding are those of what is stored.
        blob.open("rb", chunk_size=BLOCK_BYTES, raw_download=True) as stored,
        open_export(stored, uri, blob.content_encoding) as source,
    ):
        days = split(source, uri, open_part, _log_progress(uri))
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
    return {"export": uri, "rows": sum(days.values()), "days": {str(day): n for day, n in days.items()}}


@contextmanager
def open_export(
    stored: io.BufferedIOBase, file: str, encoding: str | None = None
) -> Iterator[io.BufferedIOBase]:
    """Give the export's CSV bytes; `stored` must be seekable for a .zip, and is closed in the end.

    Raises:
        ContractError: the file is damaged, encrypted, of an encoding that is not read, or a .zip without
            exactly one CSV file in it.
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
) -> dict[date, int]:
    """Write each line of `source` to a part of its event_time's day; the header, if any, heads every part.

    A line whose day cannot be read goes where the line before it went (the first lines: with the first line
    that has a day), so that every line is landed and the load can reject it with a reason; blank lines before
    all others are left out. At most MAX_OPEN_PARTS parts are open; the one longest unused is closed, and its
    day goes on in a new part.

    Args:
        file: the export's name, for errors.
        open_part: opens part 0, 1, ... of a day for writing.

    Returns:
        The number of lines of each day, blank ones left out, in order of days.

    Raises:
        ContractError: there is no event, the header is wrong, or the days make no sense.
    """
    header = read_header(source, file)
    column = header.columns.index("event_time")
    rows: dict[int, int] = defaultdict(int)
    parts = _Parts(open_part, header.line, file)
    last_day = 0
    try:
        for piece in read_pieces(source, header.body_start, block_bytes=BLOCK_BYTES):
            block = piece.data
            starts, days = _line_days(block, column)
            is_row = _are_rows(block, starts)
            if not piece.begins_line:
                # It goes on with the line that the piece before it began, and counted.
                days[0] = 0
                is_row[0] = False
            _refuse_other_headers(piece, starts, days, header.columns, file)
            last_day = _fill_gaps(days, last_day, block, file)
            slices: dict[int, list[memoryview]] = defaultdict(list)
            first_lines = np.concatenate(([0], np.flatnonzero(np.diff(days)) + 1))
            ends = np.append(starts[first_lines[1:]], len(block))
            for line, end, count in zip(
                first_lines, ends, np.add.reduceat(is_row, first_lines, dtype=np.int64), strict=True
            ):
                day = int(days[line])
                slices[day].append(memoryview(block)[starts[line] : end])
                rows[day] += int(count)
            for day, texts in slices.items():
                parts.write(day, b"".join(texts))
            progress(piece.offset + len(block), sum(rows.values()), len(rows))
    finally:
        parts.close()
    if not rows:
        raise ContractError(f"{file} holds no event. Upload the export again.")
    return {_as_date(day): rows[day] for day in sorted(rows)}


class _Parts:
    """The open parts, one a day, at most MAX_OPEN_PARTS."""

    def __init__(self, open_part: Callable[[date, int], IO[bytes]], header: bytes, file: str) -> None:
        self._open_part = open_part
        self._header = header
        self._file = file
        self._open: OrderedDict[int, IO[bytes]] = OrderedDict()
        self._count: dict[int, int] = defaultdict(int)

    def write(self, day: int, text: bytes) -> None:
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
                f"{_as_date(min(self._count))} and {_as_date(max(self._count))}. "
                "Look at its event_time column; split an export of more days by hand."
            )
        if sum(self._count.values()) == MAX_PARTS:
            raise ContractError(
                f"{self._file} mixes its days so much that it would make more than {MAX_PARTS} parts. "
                "Sort it by event_time."
            )
        if len(self._open) == MAX_OPEN_PARTS:
            self._open.popitem(last=False)[1].close()
        part = self._open_part(_as_date(day), self._count[day])
        self._count[day] += 1
        self._open[day] = part
        part.write(self._header)


def _line_days(block: bytes, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each line starts, and its day as the number yyyymmdd, 0 where none can be read.

    Shapes: both (lines,); types int64 and int32.
    """
    text = np.frombuffer(block + bytes(16), np.uint8)
    starts = np.concatenate(([0], np.flatnonzero(text[: len(block)] == ord("\n")) + 1))
    if starts[-1] == len(block):
        starts = starts[:-1]
    fields = _past_boms(block, starts)
    if column:
        commas = np.append(np.flatnonzero(text == ord(",")), len(block))
        nth = np.searchsorted(commas, starts) + column - 1
        fields = commas[np.minimum(nth, len(commas) - 1)] + 1
    fields += text[fields] == ord('"')

    shown = text[fields[:, None] + np.arange(len("2019-11-01 "))]
    digits = shown[:, [0, 1, 2, 3, 5, 6, 8, 9]] - np.uint8(ord("0"))
    marks = shown[:, [4, 7, 10]] == np.frombuffer(b"-- ", np.uint8)
    readable = (digits <= 9).all(axis=1) & marks.all(axis=1)
    if column:
        readable &= fields < np.append(starts[1:], len(block))
    days = np.where(readable, digits.astype(np.int32) @ (10 ** np.arange(7, -1, -1, dtype=np.int32)), 0)
    if column:
        _read_quoted_lines(block, text, starts, column, days)
    implausible = [day for day in np.unique(days) if not _is_plausible(int(day))]
    days[np.isin(days, implausible)] = 0
    return starts, days


def _are_rows(block: bytes, starts: np.ndarray) -> np.ndarray:
    """Return a mask of the lines that are not blank, and so are rows of a load."""
    text = np.frombuffer(block, np.uint8)
    bodies = _past_boms(block, starts)
    ends = np.append(starts[1:], len(block))
    lengths = ends - bodies - (text[ends - 1] == ord("\n"))
    return (lengths > 1) | ((lengths == 1) & (text[np.minimum(bodies, len(block) - 1)] != ord("\r")))


def _past_boms(block: bytes, starts: np.ndarray) -> np.ndarray:
    """Return where the lines at `starts` go on after their byte order marks."""
    bodies = starts.copy()
    if has_bom(block):
        text = np.frombuffer(block, np.uint8)
        for line in np.flatnonzero(text[starts] == UTF8_BOM[0]).tolist():
            bodies[line] = past_bom(block, int(starts[line]))
    return bodies


def _refuse_other_headers(
    piece: Piece, starts: np.ndarray, days: np.ndarray, columns: Sequence[str], file: str
) -> None:
    """Look for a header of other columns among the lines without a day; lines that began earlier are none."""
    ends = np.append(starts[1:], len(piece.data))
    for line in np.flatnonzero(days == 0).tolist():
        if line or piece.begins_line:
            start, end = int(starts[line]), min(int(ends[line]), int(starts[line]) + MAX_LINE_BYTES)
            refuse_other_header(piece.data[start:end], columns, file, piece.offset + start)


def _read_quoted_lines(
    block: bytes, text: np.ndarray, starts: np.ndarray, column: int, days: np.ndarray
) -> None:
    """Read the days of the lines with a quote one by one: a comma inside quotes ends no field."""
    ends = np.append(starts[1:], len(block))
    for line in np.unique(np.searchsorted(starts, np.flatnonzero(text == ord('"')), side="right") - 1):
        shown = (
            block[starts[line] : ends[line]].decode(errors="replace").strip("\ufeff\r\n").replace("\0", " ")
        )
        try:
            fields = next(csv.reader([shown]), [])
        except csv.Error:
            fields = []
        match = DAY_PATTERN.match(fields[column]) if len(fields) > column else None
        days[line] = int("".join(match.groups())) if match else 0


def _fill_gaps(days: np.ndarray, last_day: int, block: bytes, file: str) -> int:
    """Give each line without a day the day of the line before it, in place; return the last line's day."""
    known = np.flatnonzero(days)
    if not last_day:
        if not len(known):
            raise ContractError(
                f"{file}: none of its first {len(days)} lines has an event_time such as "
                f"2019-11-01 00:00:00 UTC; the first starts {block[:80]!r}. "
                f"Give the columns {', '.join(COLUMN_NAMES)}, under a header or in this order."
            )
        last_day = int(days[known[0]])
    filled = np.maximum.accumulate(np.where(days > 0, np.arange(len(days)), -1))
    days[:] = np.where(filled >= 0, days[filled], last_day)
    return int(days[-1])


@lru_cache(maxsize=10_000)
def _is_plausible(day: int) -> bool:
    """Tell whether yyyymmdd is a day of the calendar on which a shop may have had events."""
    if not FIRST_YEAR <= day // 10_000 <= LAST_YEAR:
        return False
    try:
        _as_date(day)
    except ValueError:
        return False
    return True


def _as_date(day: int) -> date:
    return date(day // 10_000, day // 100 % 100, day % 100)


def _only_csv(archive: zipfile.ZipFile, file: str) -> zipfile.ZipInfo:
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    # macOS adds a shadow of each file in a folder of this name.
    files = [entry for entry in files if not entry.filename.startswith("__MACOSX/")]
    tables = [entry for entry in files if entry.filename.lower().endswith(".csv")]
    if len(tables) != 1:
        names = ", ".join(entry.filename for entry in files[:10]) or "nothing"
        raise ContractError(f"{file} must hold one .csv file, but holds {names}. Zip one file alone.")
    if tables[0].flag_bits & 1:
        raise ContractError(f"{file} is encrypted. Upload it without a password.")
    if tables[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ContractError(f"{file} is compressed by method {tables[0].compress_type}. Use deflate.")
    return tables[0]


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
    own = re.compile(rf"{re.escape(stem)}-\d{{5}}\.csv")
    waiting = {}
    for day in sorted(names):
        folder = f"{LANDING}{day}/"
        stale = {name for name in names[day] if own.fullmatch(name) and folder + name not in written}
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
