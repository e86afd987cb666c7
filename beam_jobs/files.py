"""The files of a landing day, local or in Cloud Storage: which there are, and their lines in byte ranges.

What one worker reads at a time is a tuple of ranges, so that ten thousand small files are few pieces of work.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from google.api_core.exceptions import NotFound

from beam_jobs.contract import ContractError
from beam_jobs.lines import (
    BLOCK_BYTES,
    DAY_WITHOUT_EVENTS,
    MAX_BLOCK_LINES,
    Block,
    decompressed,
    event_files,
    has_bom,
    read_blocks,
    read_header,
)

RANGE_BYTES = 64 * 2**20
"""Beam reads Cloud Storage 16 MiB at a time, so the end of a range's last line costs up to 16 MiB more."""
MAX_FILES_AT_ONCE = 500
"""So many small files are read one after the other: each is a request or two to Cloud Storage."""

_UNPACKED_TIMES = 8
"""The text of a compressed file is taken for so many times its bytes; of events it is 3 to 6 times."""
_CODEC = "zstd"
_BOMS = re.compile(rb"^(?:\xef\xbb\xbf)+", re.MULTILINE)


class LandingFile(NamedTuple):
    """One file of a landing day. `columns` is its column order; its events start at byte `body_start`.

    `updated` is when it was last written, in seconds since 1970. A compressed file cannot be cut.
    """

    path: str
    size_bytes: int
    updated: float
    columns: tuple[str, ...]
    has_header: bool
    body_start: int
    is_compressed: bool


class ByteRange(NamedTuple):
    """The lines of a file whose first byte lies in [start, end).

    An `end` of None is the end of a compressed file.
    """

    path: str
    columns: tuple[str, ...]
    start: int
    end: int | None


class LandingFiles(list[LandingFile]):
    """The files of a landing day, by path. Beam packs a list item by item, and another class at once."""

    def __reduce__(self) -> Any:
        """Pack the files as plain tuples, in a quarter of the time."""
        return _of_tuples, (LandingFiles, LandingFile, [*map(tuple, self)])


class Work(tuple[ByteRange, ...]):
    """What is read at a time: one range, or several small ones of the same columns."""

    def __reduce__(self) -> Any:
        """Pack the ranges as plain tuples, in a quarter of the time."""
        return _of_tuples, (Work, ByteRange, [*map(tuple, self)])


def _of_tuples(kind: Any, item: Any, rows: list[tuple[Any, ...]]) -> Any:
    return kind(map(item._make, rows))


class Origin(NamedTuple):
    """Where lines are from: what stands at `start` of a block, as it counts, stands at `offset` of `path`."""

    path: str
    start: int
    offset: int


@dataclass(frozen=True, slots=True)
class LandedBlock:
    """A block of lines of one file or of several, whose columns have the same order.

    A block of one file counts as that file does; one of several from 0. `origins` are in order of `start`.
    """

    block: Block
    columns: tuple[str, ...]
    origins: tuple[Origin, ...]

    def place(self, offset: int) -> tuple[str, int]:
        """Return the file, and the offset in it, of what stands at `offset` of the block."""
        origin = self.origins[bisect_right(self.origins, offset, key=lambda origin: origin.start) - 1]
        return origin.path, origin.offset + offset - origin.start

    def by_origin(self) -> Iterator[LandedBlock]:
        """Yield the lines of each origin as a block of their own."""
        if len(self.origins) == 1:
            yield self
            return
        starts = [origin.start for origin in self.origins]
        for origin, end in zip(self.origins, [*starts[1:], len(self.block.data)], strict=True):
            block = Block(self.block.data[origin.start : end], origin.offset)
            yield _alone(block, self.columns, origin.path)


@dataclass(frozen=True, slots=True)
class UnpackedBlock:
    """A block of compressed files on its way to another worker, packed as is quick to unpack."""

    landed: LandedBlock
    text_bytes: int

    @classmethod
    def of(cls, landed: LandedBlock) -> UnpackedBlock:
        """Pack what is to be sent."""
        data = landed.block.data
        packed = pa.compress(data, codec=_CODEC, asbytes=True)
        return cls(replace(landed, block=landed.block._replace(data=packed)), len(data))

    def sent(self) -> LandedBlock:
        """Return what `of` was given."""
        block = self.landed.block
        data = pa.decompress(block.data, self.text_bytes, _CODEC, asbytes=True)
        return replace(self.landed, block=block._replace(data=data))


def list_files(directory: str) -> LandingFiles:
    """List the *.csv and *.csv.gz files in `directory`, local or gs://, by path, with their headers read.

    Raises:
        ContractError: there is no such file, there is anything but these and marks, one holds not even a
            header, a header breaks the contract, or a compressed file is damaged.
    """
    found = _match(directory)
    if not found:
        raise ContractError(f"{directory}: there is no file *.csv or *.csv.gz. {DAY_WITHOUT_EVENTS}")
    return LandingFiles(map(_describe, found))


def check_unchanged(directory: str, files: Iterable[LandingFile]) -> None:
    """Check that `directory` holds the very files that were listed, none of them written anew since.

    A load that reads while somebody lands may else take one half from the old files and one from the new.

    Raises:
        ContractError: a file has changed, is gone or has come; the message names them.
    """
    listed = {(file.path, file.size_bytes, file.updated) for file in files}
    found = {(item.path, item.size_in_bytes, item.last_updated_in_seconds) for item in _match(directory)}
    if changed := sorted({path for path, _, _ in listed ^ found}):
        raise _changed(directory, changed)


def _changed(directory: str, paths: Iterable[str]) -> ContractError:
    return ContractError(
        f"{directory}: files changed while they were loaded: {', '.join(paths)}. "
        "Once the day is landed whole, load it again."
    )


def plan_ranges(file: LandingFile, range_bytes: int = RANGE_BYTES) -> list[ByteRange]:
    """Cut a file into ranges of `range_bytes` (the last may be shorter); a compressed file is one range."""
    if file.is_compressed:
        return [ByteRange(file.path, file.columns, file.body_start, None)]
    return [
        ByteRange(file.path, file.columns, start, min(start + range_bytes, file.size_bytes))
        for start in range(file.body_start, file.size_bytes, range_bytes)
    ]


def plan_work(files: Iterable[LandingFile], range_bytes: int = RANGE_BYTES) -> Iterator[Work]:
    """Cut files into what is read at a time: a range of `range_bytes`, or small ones that make about a block.

    Ranges that are read together have the same columns, and all are compressed or none is, however files of
    several kinds are named.
    """
    most = min(range_bytes, BLOCK_BYTES)
    together: list[ByteRange] = []
    together_bytes = 0
    for file in sorted(files, key=lambda file: (file.columns, file.is_compressed, file.path)):
        for part in plan_ranges(file, range_bytes):
            part_bytes = file.size_bytes * _UNPACKED_TIMES if part.end is None else part.end - part.start
            together_bytes += part_bytes
            if together and (
                together_bytes > most
                or len(together) == MAX_FILES_AT_ONCE
                or _kind(together[0]) != _kind(part)
            ):
                yield Work(together)
                together, together_bytes = [], part_bytes
            together.append(part)
    if together:
        yield Work(together)


def _kind(part: ByteRange) -> tuple[tuple[str, ...], bool]:
    return part.columns, part.end is None


def is_compressed(work: Work) -> bool:
    """Tell whether what is to be read together is compressed."""
    return work[0].end is None


def read_work(work: Work, block_bytes: int = BLOCK_BYTES) -> Iterator[LandedBlock]:
    """Read the lines of ranges, those of small ones together in blocks of at most `block_bytes`.

    Raises:
        ContractError: as `read_range` says.
    """
    together: list[tuple[str, Block]] = []
    together_bytes = together_lines = 0
    for part in work:
        for block in read_range(part, block_bytes):
            lines = block.data.count(b"\n") + 1 if len(work) > 1 else 0
            together_bytes += len(block.data)
            together_lines += lines
            # Only the last line of a block may be one of which not all is kept.
            if together and (
                together_bytes > block_bytes or together_lines > MAX_BLOCK_LINES or block.skipped_bytes
            ):
                yield _joined(together, work[0].columns)
                together, together_bytes, together_lines = [], len(block.data), lines
            together.append((part.path, block))
            if len(work) == 1 or block.skipped_bytes:
                yield _joined(together, work[0].columns)
                together, together_bytes, together_lines = [], 0, 0
    if together:
        yield _joined(together, work[0].columns)


def _joined(blocks: list[tuple[str, Block]], columns: tuple[str, ...]) -> LandedBlock:
    if len(blocks) == 1:
        [(path, block)] = blocks
        return _alone(block, columns, path)
    # A newline where a file has none at its end changes no line, and a block may lack it as well.
    texts = [block.data if block.data.endswith(b"\n") else block.data + b"\n" for _, block in blocks]
    starts = accumulate(map(len, texts), initial=0)
    origins = tuple(
        Origin(path, start, block.offset) for (path, block), start in zip(blocks, starts, strict=False)
    )
    return LandedBlock(Block(b"".join(texts), 0), columns, origins)


def _alone(block: Block, columns: tuple[str, ...], path: str) -> LandedBlock:
    return LandedBlock(block, columns, (Origin(path, block.offset, block.offset),))


def read_range(part: ByteRange, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Read the lines of a range, as `lines.read_blocks` does.

    Raises:
        ContractError: a compressed file is damaged or cut short, or an object of Cloud Storage is written
            anew or deleted while it is read.
    """
    try:
        with _open(part.path) as stored:
            # A file that can be cut is not looked at: from Cloud Storage that would be a request of its own.
            plain = nullcontext(io.BufferedReader(stored))
            text = plain if part.end is not None else decompressed(stored, part.path)
            with text as lines:
                yield from read_blocks(lines, part.start, part.end or sys.maxsize, block_bytes)
    except NotFound as error:  # Of the generation that it began with.
        raise _changed(FileSystems.split(part.path)[0], [part.path]) from error


def count_lines(block: Block) -> int:
    """Count the lines of a block that are not blank: each must end as an accepted or a rejected row.

    It counts by itself, so that what the parser and all after it make of the block can be held against it.
    """
    data = _BOMS.sub(b"", block.data) if has_bom(block.data) else block.data
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets == ord("\n"))
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    lengths = np.diff(ends, prepend=-1) - 1
    lone = ends[lengths == 1] - 1
    return int(np.count_nonzero(lengths)) - int(np.count_nonzero(octets[lone] == ord("\r")))


def _match(directory: str) -> list[FileMetadata]:
    [match] = FileSystems.match([FileSystems.join(directory, "**")])
    found = {metadata.path: metadata for metadata in match.metadata_list}
    return [found[path] for path in event_files(directory, found)]


def _describe(found: FileMetadata) -> LandingFile:
    path = found.path
    try:
        with _open(path) as stored, decompressed(stored, path, _encoding(stored)) as text:
            header = read_header(text, path)
            return LandingFile(
                path,
                found.size_in_bytes,
                found.last_updated_in_seconds,
                header.columns,
                has_header=bool(header.line),
                body_start=header.body_start,
                is_compressed=isinstance(text, gzip.GzipFile),
            )
    except NotFound as error:  # Since it was listed.
        raise _changed(FileSystems.split(path)[0], [path]) from error


def _open(path: str) -> io.RawIOBase:
    # Beam's own decompression goes by a file's name, and takes a truncated .gz for a whole one.
    try:
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except NotImplementedError as error:
        raise ContractError(
            f"{path} has the Content-Encoding gzip and a Content-Type that is gzip too, which Beam does not "
            "read. Upload it again without an encoding."
        ) from error


def _encoding(stored: io.RawIOBase) -> str | None:
    """Return an object's Content-Encoding, which Beam knows and does not tell; None of a local file."""
    return getattr(getattr(stored, "_blob", None), "content_encoding", None)
