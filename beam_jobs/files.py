"""The files of a landing day: which there are, their headers, and their lines in byte ranges.

Places in a .gz file are places in its decompressed text.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError, header_columns
from beam_jobs.parse import UTF8_BOM, Block

BLOCK_BYTES = 8 * 2**20
RANGE_BYTES = 64 * 2**20
"""Beam reads Cloud Storage 16 MiB at a time, so the end of a range's last line costs up to 16 MiB more."""

_DAY_WITHOUT_EVENTS = "For a day without events, land a file that holds only the header."
# An upload that went wrong looks so. It must not replace a good day by nothing.
_EMPTY = f"Land it again. {_DAY_WITHOUT_EVENTS}"


@dataclass(frozen=True, slots=True)
class LandingFile:
    """One file of a landing day. `columns` is its column order; its events start at byte `body_start`.

    `updated` is when it was last written, in seconds since 1970.
    """

    path: str
    size_bytes: int
    updated: float
    columns: tuple[str, ...]
    has_header: bool
    body_start: int


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The lines of a file whose first byte lies in [start, end); an `end` of None is the file's end."""

    path: str
    columns: tuple[str, ...]
    start: int
    end: int | None


def list_files(directory: str) -> list[LandingFile]:
    """List the *.csv and *.csv.gz files in `directory`, local or gs://, by path, with their headers read.

    Raises:
        ContractError: there is no such file, one holds not even a header, a header breaks the contract, or a
            .gz file is no gzip.
    """
    found = _match(directory)
    if not found:
        raise ContractError(f"{directory}: there is no file *.csv or *.csv.gz. {_DAY_WITHOUT_EVENTS}")
    return [_describe(item) for item in sorted(found, key=lambda item: item.path)]


def check_unchanged(directory: str, files: Iterable[LandingFile]) -> None:
    """Check that `directory` holds the very files that were listed, none of them written anew since.

    A load that reads while somebody lands may else take one half from the old files and one from the new.

    Raises:
        ContractError: a file has changed, is gone or has come; the message names them.
    """
    listed = {(file.path, file.size_bytes, file.updated) for file in files}
    found = {(item.path, item.size_in_bytes, item.last_updated_in_seconds) for item in _match(directory)}
    if changed := sorted({path for path, _, _ in listed ^ found}):
        raise ContractError(
            f"{directory}: files changed while they were loaded: {', '.join(changed)}. "
            "Once the day is landed whole, load it again."
        )


def plan_ranges(file: LandingFile, range_bytes: int = RANGE_BYTES) -> list[ByteRange]:
    """Cut a file into ranges of `range_bytes` (the last may be shorter); a .gz file is one range."""
    if _is_gzip(file.path):
        return [ByteRange(file.path, file.columns, file.body_start, None)]
    return [
        ByteRange(file.path, file.columns, start, min(start + range_bytes, file.size_bytes))
        for start in range(file.body_start, file.size_bytes, range_bytes)
    ]


def read_blocks(part: ByteRange, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Read the lines of a range, `block_bytes` at a time and then to the end of the line begun.

    Over all ranges of a file each line is read once, however the file is cut. Memory stays within a few times
    `block_bytes` also when a line never ends: the rest of a line that is surely overlong is read over.

    Raises:
        ContractError: a .gz file is truncated or corrupt.
    """
    end = sys.maxsize if part.end is None else part.end
    with _open(part.path) as stream:
        if part.start > 0:
            # The line begun before this range belongs to another, unless it ends right before this range.
            stream.seek(part.start - 1)
            _finish_line(stream)
        while (offset := stream.tell()) < end and (data := stream.read(min(block_bytes, end - offset))):
            skipped_bytes = 0
            if not data.endswith(b"\n"):
                data += stream.readline(MAX_LINE_BYTES + 1)
            if not data.endswith(b"\n"):
                skipped_bytes = _finish_line(stream)
            yield Block(data, offset, skipped_bytes)


def count_lines(block: Block) -> int:
    """Count the lines of a block that are not blank: each must end as an accepted or a rejected row.

    It counts by itself, so that what the parser and all after it make of the block can be held against it.
    """
    data = block.data if block.offset else block.data.removeprefix(UTF8_BOM)
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets == ord("\n"))
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    lengths = np.diff(ends, prepend=-1) - 1
    lone = ends[lengths == 1] - 1
    return int(np.count_nonzero(lengths)) - int(np.count_nonzero(octets[lone] == ord("\r")))


def _match(directory: str) -> list[FileMetadata]:
    patterns = [FileSystems.join(directory, pattern) for pattern in ("*.csv", "*.csv.gz")]
    return [metadata for match in FileSystems.match(patterns) for metadata in match.metadata_list]


def _describe(found: FileMetadata) -> LandingFile:
    path = found.path
    stored = (path, found.size_in_bytes, found.last_updated_in_seconds)
    # Also a .gz file of no bytes, which is no gzip.
    if found.size_in_bytes == 0:
        raise ContractError(f"{path}: the file is empty. {_EMPTY}")
    with _open(path) as stream:
        while line := stream.readline(MAX_LINE_BYTES):
            if line.removeprefix(UTF8_BOM).rstrip(b"\r\n"):
                break
        else:
            raise ContractError(f"{path}: the file holds no line. {_EMPTY}")
        columns = header_columns(line.decode(errors="replace"), path)
        if columns is None:
            return LandingFile(*stored, COLUMN_NAMES, has_header=False, body_start=0)
        return LandingFile(*stored, columns, has_header=True, body_start=stream.tell())


@contextmanager
def _open(path: str) -> Iterator[io.BufferedIOBase]:
    # Beam's own decompression takes a truncated .gz for a whole one.
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stored:
        if not _is_gzip(path):
            yield io.BufferedReader(stored)
            return
        try:
            with gzip.GzipFile(fileobj=stored) as stream:
                yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ContractError(
                f"{path}: the gzip data is truncated or corrupt ({error}). Land the file again."
            ) from error


def _is_gzip(path: str) -> bool:
    return path.endswith(".gz")


def _finish_line(stream: io.BufferedIOBase) -> int:
    """Read to the end of the line or file; return how many bytes that were, without the newline."""
    length = 0
    while piece := stream.readline(MAX_LINE_BYTES):
        if piece.endswith(b"\n"):
            return length + len(piece) - 1
        length += len(piece)
    return length
