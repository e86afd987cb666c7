"""Files of events as bytes: what a file is, where its header ends, and its lines in blocks of bounded size.

Whoever reads such a file (the load, the landing of exports, the publisher) opens it as it is stored and reads
it through here, so that all see the same lines. It needs nothing but the standard library.

A line is what stands before a newline or the file's end, without byte order marks at its start. A line of
nothing, or of a carriage return alone, is blank. Offsets in a compressed file are those of its decompressed
text.
"""

from __future__ import annotations

import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError, header_columns, header_names

UTF8_BOM = b"\xef\xbb\xbf"
BLOCK_BYTES = 4 * 2**20
MAX_BLOCK_LINES = 2**17
"""What is made of a block takes memory by its lines too: of short bad ones 4 MiB are millions."""
SUCCESS = "_SUCCESS"
"""The file in a landing day's folder that tells that the day is landed whole."""
UNFINISHED = "_UNFINISHED-"
"""What the name of a file begins with that tells that an export is not yet landed to its end."""
DAY_WITHOUT_EVENTS = "For a day without events, land a file that holds only the header."

_GZIP_START = b"\x1f\x8b"
_BLANK_LINES = re.compile(rb"(?:\r?\n)*+")
_A_NAME = re.compile(
    b"|".join(b"_*".join(re.findall(b"[a-z]", name.encode())) for name in COLUMN_NAMES), re.IGNORECASE
)


class Header(NamedTuple):
    """How a file begins: the order of its columns, and its header line, empty if it has none.

    `line` stands at byte `start`, as it is written, its newline included.
    """

    columns: tuple[str, ...]
    line: bytes
    start: int

    @property
    def body_start(self) -> int:
        """Where the events start, in bytes."""
        return self.start + len(self.line)


class Piece(NamedTuple):
    """Bytes of a file from `offset` on: whole lines, the last of which may be overlong and go on.

    `begins_line` is False for a piece that only goes on with the overlong line of the one before it.
    """

    data: bytes
    offset: int
    begins_line: bool


class Block(NamedTuple):
    """Whole lines of one file; the last may lack its newline.

    `offset` is where `data` starts in the file, in bytes. `skipped_bytes` is above 0 only for a block whose
    last line is overlong: so many bytes of that line were read and not kept.
    """

    data: bytes
    offset: int
    skipped_bytes: int = 0

    def raw(self, offset: int, length: int) -> bytes:
        """Return the first MAX_LINE_BYTES bytes of the line at `offset` in the file, `length` bytes long."""
        start = offset - self.offset
        return self.data[start : start + min(length, MAX_LINE_BYTES)]


def is_events_file(name: str) -> bool:
    """Tell by its name whether a file is of events; letter case does not matter."""
    return name.lower().endswith((".csv", ".csv.gz"))


def is_mark(name: str) -> bool:
    """Tell whether a name in a landing day's folder is that of a mark; one that ends as events do is none."""
    return name == SUCCESS or (name.startswith(UNFINISHED) and not is_events_file(name))


def event_files(folder: str, names: Iterable[str]) -> list[str]:
    """Return the files of events in `folder`, sorted; `names` are all that is in it and below, in full.

    Raises:
        ContractError: something else is there than events and marks. Nobody would read it, and a day without
            it would look whole.
    """
    files, strangers = [], []
    for name in names:
        inside = name.removeprefix(folder.rstrip("/") + "/")
        # The console makes an empty object of a folder's name.
        if is_mark(inside) or name.endswith("/"):
            continue
        if "/" not in inside and is_events_file(inside):
            files.append(name)
        else:
            strangers.append(inside)
    if strangers:
        shown = ", ".join(sorted(strangers)[:5]) + (", ..." if len(strangers) > 5 else "")
        raise ContractError(
            f"{folder} holds what is neither events nor a known mark: {shown}. If these are events, put them "
            "directly into the folder as *.csv or *.csv.gz; else delete them."
        )
    return sorted(files)


@contextmanager
def decompressed(
    stored: io.RawIOBase | io.BufferedIOBase, file: str, encoding: str | None = None
) -> Iterator[io.BufferedIOBase]:
    """Give the text of a file, open at its start; it is closed in the end.

    Its bytes tell whether it is gzip, and not its name, nor the `encoding` that an object of Cloud Storage
    may have: `stored` must give the bytes as they are stored. Gzip may be packed in gzip once more, as an
    upload does that compresses on the way.

    Raises:
        ContractError: the encoding is another than gzip, the gzip is damaged or cut short, or a file that is
            called .gz is none; also while the text is read.
    """
    if encoding not in (None, "", "gzip"):
        raise ContractError(
            f"{file} has the Content-Encoding {encoding!r}, which is not read. "
            "Upload it again without an encoding, as plain text or as gzip."
        )
    try:
        with ExitStack() as opened:
            # Not every stored stream has lines and looks ahead. Any: what the two readers share has no type.
            text: Any = opened.enter_context(io.BufferedReader(stored))
            start = text.peek(len(_GZIP_START))[: len(_GZIP_START)]
            if start and start != _GZIP_START and file.lower().endswith(".gz"):
                raise gzip.BadGzipFile(f"it starts with {start!r}, which is no gzip")
            for _ in range(2):
                if text.peek(len(_GZIP_START)).startswith(_GZIP_START):
                    text = opened.enter_context(gzip.GzipFile(fileobj=text, mode="rb"))
            yield text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ContractError(f"{file} is damaged or cut short: {error}. Upload it again.") from error


def read_header(text: io.BufferedIOBase, file: str) -> Header:
    """Read on to where the events start: over blank lines, and over the header if there is one.

    Raises:
        ContractError: the file holds no line, or its header breaks the contract.
    """
    line, start = read_first_line(text, file)
    columns = header_columns(line.decode(errors="replace"), file)
    return Header(COLUMN_NAMES, b"", start) if columns is None else Header(columns, line, start)


def read_first_line(text: io.BufferedIOBase, file: str) -> tuple[bytes, int]:
    """Read over blank lines; return the first other one, of at most MAX_LINE_BYTES, and where it starts.

    Raises:
        ContractError: the file holds no line.
    """
    start = 0
    while line := _blank_lines(text) or text.readline(MAX_LINE_BYTES):
        if not _BLANK_LINES.fullmatch(line) and line[past_bom(line, 0) :].removesuffix(b"\n") not in (
            b"",
            b"\r",
        ):
            return line, start
        start += len(line)
    # An upload that went wrong looks so. It must not replace a good day by nothing.
    raise ContractError(
        f"{file}: the file holds no event and no header. Upload it again. {DAY_WITHOUT_EVENTS}"
    )


def _blank_lines(text: Any) -> bytes:
    """Read the blank lines that follow, as many as are buffered; of 100 MB each alone would take a minute."""
    # What lies in memory as a whole cannot be looked ahead in, and has not so many.
    ahead = text.peek(1) if hasattr(text, "peek") else b""
    blank = _BLANK_LINES.match(ahead)
    return text.read(blank.end()) if blank else b""


def may_be_header(line: bytes) -> bool:
    """Tell whether a line that is no event is a header of the contract's names or of some of them."""
    # Most lines hold no name at all, which is seen ten times as fast.
    return _A_NAME.search(line) is not None and header_names(line.decode(errors="replace")) is not None


def refuse_other_header(line: bytes, columns: Sequence[str], file: str, offset: int) -> None:
    """Check that a later line, of which no event can be made, does not name other columns than `columns`.

    Files that were joined have such lines. What follows would be read under the wrong names. A header that
    says the same again does no harm, and is a reject as any bad line is.

    Raises:
        ContractError: it does; the message names the file and the `offset`.
    """
    if not may_be_header(line):
        return
    names = header_names(line.decode(errors="replace"))
    if names is not None and names != tuple(columns):
        raise ContractError(
            f"{file}: the line at byte {offset} is a header of other columns than the file began with: "
            f"{', '.join(names)}. Land what follows it as a file of its own."
        )


def has_bom(data: bytes) -> bool:
    """Tell whether a byte order mark is anywhere in `data`, where mostly there is none."""
    # One byte is looked for ten times as fast as three.
    return UTF8_BOM[:1] in data and UTF8_BOM in data


def past_bom(data: bytes, start: int) -> int:
    """Return where the line that starts at `start` goes on after its byte order marks, if it has any.

    Such a mark begins a file. Where files were joined it stands at a line's start, and belongs to no value.
    """
    while data.startswith(UTF8_BOM, start):
        start += len(UTF8_BOM)
    return start


def read_pieces(
    text: io.BufferedIOBase, start: int, end: int = sys.maxsize, block_bytes: int = BLOCK_BYTES
) -> Iterator[Piece]:
    """Read the lines whose first byte lies in [start, end), `block_bytes` at a time.

    Over all ranges of a file each line is read once, however the file is cut. A piece goes on to the end of
    the line that it has begun; only an overlong line goes on in further pieces. So memory stays within
    `block_bytes` and MAX_LINE_BYTES also when a line never ends. A piece has at most MAX_BLOCK_LINES lines.

    Raises:
        ContractError: as `decompressed` says.
    """
    if text.tell() != start:
        # The line begun before this range belongs to another, unless it ends right before this range.
        text.seek(max(start - 1, 0))
        if start:
            # A line that goes on past this range leaves nothing to it, however far it goes.
            while (rest := text.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                if text.tell() >= end:
                    return
    while (offset := text.tell()) < end and (data := text.read(min(block_bytes, end - offset))):
        if not data.endswith(b"\n"):
            data += text.readline(MAX_LINE_BYTES + 1)
        yield from _of_few_lines(data, offset)
        while not data.endswith(b"\n"):
            offset = text.tell()
            if not (data := text.readline(MAX_LINE_BYTES)):
                return
            yield Piece(data, offset, False)


def _of_few_lines(data: bytes, offset: int) -> Iterator[Piece]:
    """Yield lines in pieces of at most MAX_BLOCK_LINES."""
    if data.count(b"\n") <= MAX_BLOCK_LINES:
        yield Piece(data, offset, True)
        return
    # There are many newlines: one ends a line in the first half, or else in the second.
    middle = (data.rfind(b"\n", 0, len(data) // 2) + 1) or (data.find(b"\n") + 1)
    yield from _of_few_lines(data[:middle], offset)
    yield from _of_few_lines(data[middle:], offset + middle)


def read_blocks(
    text: io.BufferedIOBase, start: int, end: int = sys.maxsize, block_bytes: int = BLOCK_BYTES
) -> Iterator[Block]:
    """Read lines as `read_pieces` does, but of an overlong one only so much as shows that it is."""
    block = None
    for piece in read_pieces(text, start, end, block_bytes):
        if piece.begins_line:
            block = Block(piece.data, piece.offset)
        elif block is not None:
            skipped_bytes = block.skipped_bytes + len(piece.data.removesuffix(b"\n"))
            block = block._replace(skipped_bytes=skipped_bytes)
        if block is not None and piece.data.endswith(b"\n"):
            yield block
            block = None
    if block is not None:
        yield block
