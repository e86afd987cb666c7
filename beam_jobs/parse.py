"""Blocks of CSV lines to Arrow columns of raw text, a whole block at a time.

Almost every line is regular: nine fields, no quotes, no control characters. A block of such lines alone is
split by pyarrow's CSV reader as it is. In any other, NumPy finds the regular lines by their bytes, and only
the few others are looked at one by one.

A line is what `lines` says. A carriage return as its last byte belongs to the line's raw bytes, but to no
field. Blank lines are no rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES
from beam_jobs.lines import UTF8_BOM, Block, has_bom, may_be_header, past_bom

DETAIL_CHARS = 100
"""A reject's detail quotes at most so much of a value; the whole value is in its raw bytes."""
REJECTS_AT_ONCE = 10_000
"""So many rejects are Python objects at one time: a block may hold millions of short bad lines."""

RAW_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in COLUMN_NAMES])
REJECTED_SCHEMA = pa.schema(
    [
        pa.field("byte_offset", pa.int64(), nullable=False),
        pa.field("line_bytes", pa.int64(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("lines", pa.int64(), nullable=False),
    ]
)
"""A rejected line: where it starts in the decompressed file, its length without the newline, its first
MAX_LINE_BYTES bytes, the contract's reason code, a sentence that names the value, and 1.

Or a range of the file in which that many `lines` were rejected for this reason, of which no row of their own
tells: where the first starts, the range's length to the end of the last, and the raw bytes of the first. Who
reads the range again finds them by the same rules.
"""

_NO_REJECTS = REJECTED_SCHEMA.empty_table()
_FIELDS = pa.struct([(name, pa.string()) for name in COLUMN_NAMES])
_NEWLINE, _RETURN, _QUOTE, _COMMA, _DELETE = b'\n\r",\x7f'
_FIRST_PRINTABLE = ord(" ")
_QUOTED_OR_PLAIN = r'(?:"(?:[^"]|"")*+"|[^",]*+)'
_CSV_LINE = re.compile(rf"{_QUOTED_OR_PLAIN}(?:,{_QUOTED_OR_PLAIN})*+")
_CSV_FIELD = re.compile(rf"(?:^|,)({_QUOTED_OR_PLAIN})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ParsedBlock:
    """The lines of a block that have nine fields, as text, and the others as rejects.

    `rows` has RAW_SCHEMA; an empty field is "". Row i is the line at `offsets[i]` in the file, `lengths[i]`
    bytes long without its newline; both are int64. `rejected` has REJECTED_SCHEMA. The file's order is kept.
    At most `max_rejects` lines a reason are rejects of their own, the others a range; None is no limit.
    """

    block: Block
    rows: pa.Table
    offsets: np.ndarray
    lengths: np.ndarray
    rejected: pa.Table
    max_rejects: int | None = None


class Verdicts:
    """For each line at `offsets` of a block, the first reason noted for which it is bad.

    Reasons are to be noted in the order of contract.REASONS.
    """

    def __init__(
        self, block: Block, offsets: np.ndarray, lengths: np.ndarray, max_rejects: int | None = None
    ) -> None:
        self._block = block
        self._max_rejects = max_rejects
        self._offsets = offsets
        self._lengths = lengths
        self._first = np.full(len(offsets), -1, np.int8)
        self._notes: list[tuple[str, Callable[[int], str]]] = []

    def note(self, bad: np.ndarray, reason: str, detail: Callable[[int], str]) -> None:
        """Give `reason` to those lines in the mask `bad` that have none yet; `detail(i)` tells of line i."""
        new = bad & self.good
        if new.any():
            self._first[new] = len(self._notes)
            self._notes.append((reason, detail))

    @property
    def good(self) -> np.ndarray:
        """A mask of the lines that no reason was noted for."""
        return self._first < 0

    def rejected(self) -> pa.Table:
        """Return the bad lines, in order, in REJECTED_SCHEMA; the ranges come last.

        A header is never in a range: whoever looks for one among the rejects shall find it.
        """
        bad = np.flatnonzero(self._first >= 0)
        if not len(bad):
            return _NO_REJECTS
        ranges = []
        if self._max_rejects is not None and len(bad) > self._max_rejects:
            for reason in dict.fromkeys(reason for reason, _ in self._notes):
                numbers = [number for number, (noted, _) in enumerate(self._notes) if noted == reason]
                more = np.flatnonzero(np.isin(self._first, numbers))[self._max_rejects :]
                more = more[[not may_be_header(self._raw(line)) for line in more]]
                if len(more) > 1:
                    ranges.append(self._range(reason, more))
                    bad = np.setdiff1d(bad, more, assume_unique=True)
        batches = []
        for start in range(0, len(bad), REJECTS_AT_ONCE):
            part = bad[start : start + REJECTS_AT_ONCE]
            offsets, lengths = self._offsets[part], self._lengths[part]
            noted = [self._notes[number] for number in self._first[part].tolist()]
            columns = [
                pa.array(offsets),
                pa.array(lengths),
                pa.array(list(map(self._block.raw, offsets.tolist(), lengths.tolist())), pa.binary()),
                pa.array([reason for reason, _ in noted], pa.string()),
                pa.array(
                    [detail(line) for line, (_, detail) in zip(part.tolist(), noted, strict=True)],
                    pa.string(),
                ),
                pa.repeat(pa.scalar(1, pa.int64()), len(part)),
            ]
            batches.append(pa.record_batch(columns, schema=REJECTED_SCHEMA))
        batches.append(pa.RecordBatch.from_pylist(ranges, REJECTED_SCHEMA))
        return pa.Table.from_batches(batches, REJECTED_SCHEMA)

    def _range(self, reason: str, lines: np.ndarray) -> dict[str, Any]:
        first, last = int(lines[0]), int(lines[-1])
        start, end = int(self._offsets[first]), int(self._offsets[last] + self._lengths[last])
        detail = self._notes[self._first[first]][1](first)
        return {
            "byte_offset": start,
            "line_bytes": end - start,
            "raw": self._raw(first),
            "reason": reason,
            "detail": f"{len(lines):,} more lines, from here to byte {end:,}. The first: {detail}",
            "lines": len(lines),
        }

    def _raw(self, line: int) -> bytes:
        return self._block.raw(int(self._offsets[line]), int(self._lengths[line]))


def parse_block(block: Block, columns: Sequence[str], max_rejects: int | None = None) -> ParsedBlock:
    """Split the lines of a block into fields; `columns` are the nine column names in the file's order.

    Bad lines never raise: each line that is not blank becomes a row or a reject, or one of the lines of a
    range (see REJECTED_SCHEMA) where `max_rejects` lines have been rejected for the same reason.
    """
    octets = np.frombuffer(block.data, np.uint8)
    starts, ends = _lines(block, octets)
    rows = _split_plain(block, octets, starts, ends, columns)
    if rows is None:
        return parse_line_by_line(block, columns, max_rejects)
    return ParsedBlock(block, rows, starts + block.offset, ends - starts, _NO_REJECTS, max_rejects)


def parse_line_by_line(block: Block, columns: Sequence[str], max_rejects: int | None = None) -> ParsedBlock:
    """Split lines as `parse_block` does, whatever they hold."""
    octets = np.frombuffer(block.data, np.uint8)
    starts, ends = _lines(block, octets)
    offsets = starts + block.offset
    lengths = ends - starts
    if block.skipped_bytes:
        lengths[-1] += block.skipped_bytes
    verdicts = Verdicts(block, offsets, lengths, max_rejects)

    def raw(line: int) -> bytes:
        return block.raw(int(offsets[line]), int(lengths[line]))

    def holding(positions: np.ndarray) -> np.ndarray:
        """Return a mask of the lines in which one of the byte positions lies."""
        found = np.searchsorted(ends, positions, side="right")
        mask = np.zeros(len(starts), bool)
        mask[found[found < len(starts)]] = True
        return mask

    verdicts.note(
        lengths > MAX_LINE_BYTES,
        "line_too_long",
        lambda line: f"The line has {lengths[line]} bytes; at most {MAX_LINE_BYTES} are allowed.",
    )
    if not is_utf8(block.data):
        not_utf8 = holding(np.flatnonzero(octets > _DELETE)) & verdicts.good
        for line in np.flatnonzero(not_utf8).tolist():
            not_utf8[line] = not _is_utf8_line(raw(line))
        verdicts.note(not_utf8, "invalid_utf8", lambda line: _not_utf8_detail(raw(line)))
    verdicts.note(
        holding(_control_positions(octets)),
        "control_character",
        lambda line: _control_detail(raw(line).decode().removesuffix("\r")),
    )

    commas = np.flatnonzero(octets == _COMMA)
    field_counts = np.searchsorted(commas, ends) - np.searchsorted(commas, starts) + 1
    by_hand = holding(np.flatnonzero(octets == _QUOTE)) & verdicts.good
    bad_quoting = np.zeros(len(starts), bool)
    by_hand_rows: dict[int, list[str]] = {}
    for line in np.flatnonzero(by_hand).tolist():
        fields = _split(raw(line))
        bad_quoting[line] = fields is None
        if fields is not None:
            field_counts[line] = len(fields)
            if len(fields) == len(columns):
                by_hand_rows[line] = fields
    verdicts.note(
        bad_quoting,
        "bad_quoting",
        lambda line: (
            f"A double quote is not closed or is inside a plain field: {excerpt(raw(line).decode())}."
        ),
    )
    verdicts.note(
        field_counts != len(columns),
        "wrong_column_count",
        lambda line: f"The line has {field_counts[line]} fields; it should have {len(columns)}.",
    )

    regular = verdicts.good & ~by_hand
    rows = _split_regular(block.data, starts, ends, regular, columns)
    numbers = np.flatnonzero(regular)
    if by_hand_rows:
        rows, numbers = _add_rows(rows, numbers, by_hand_rows, columns)
    return ParsedBlock(block, rows, offsets[numbers], lengths[numbers], verdicts.rejected(), max_rejects)


def parse_fields(events: Sequence[dict[str, str | None]], raws: Sequence[bytes]) -> ParsedBlock:
    """Bring events that are no CSV lines, such as messages, into the form that `validate` takes.

    `events` map column names to text; a field that is missing or None is empty. `raws` are the bytes that
    they came from; offsets in the result are those in the concatenation of `raws`.
    """
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    try:
        columns = pa.array(events, _FIELDS).flatten()
    except UnicodeEncodeError:  # Half of a pair is no character.
        return parse_fields_one_by_one(events, raws)
    if (lengths > MAX_LINE_BYTES).any() or any(map(_has_control, columns)):
        return parse_fields_one_by_one(events, raws)
    rows = pa.Table.from_arrays([pc.fill_null(column, "") for column in columns], schema=RAW_SCHEMA)
    offsets = np.cumsum(lengths) - lengths
    return ParsedBlock(Block(b"".join(raws), 0), rows, offsets, lengths, _NO_REJECTS)


def parse_fields_one_by_one(events: Sequence[dict[str, str | None]], raws: Sequence[bytes]) -> ParsedBlock:
    """Bring events into that form as `parse_fields` does, whatever they hold."""
    lengths = np.fromiter(map(len, raws), np.int64, len(raws))
    offsets = np.cumsum(lengths) - lengths
    block = Block(b"".join(raws), 0)
    texts = [[event.get(name) or "" for name in COLUMN_NAMES] for event in events]
    verdicts = Verdicts(block, offsets, lengths)
    verdicts.note(
        lengths > MAX_LINE_BYTES,
        "line_too_long",
        lambda line: f"The message has {lengths[line]} bytes; at most {MAX_LINE_BYTES} are allowed.",
    )
    joined = ["".join(fields) for fields in texts]

    def having(pattern: re.Pattern[str]) -> np.ndarray:
        return np.fromiter((bool(pattern.search(text)) for text in joined), bool, len(joined))

    verdicts.note(
        having(_SURROGATE),
        "invalid_utf8",
        lambda line: "A field holds half of a surrogate pair, which is no character.",
    )
    verdicts.note(having(_CONTROL), "control_character", lambda line: _control_detail(joined[line]))
    good = np.flatnonzero(verdicts.good)
    kept = [texts[line] for line in good.tolist()]
    columns = list(zip(*kept, strict=True)) or [()] * len(COLUMN_NAMES)
    rows = pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=RAW_SCHEMA)
    return ParsedBlock(block, rows, offsets[good], lengths[good], verdicts.rejected())


def excerpt(text: str) -> str:
    """Quote a value for a reject's detail, cut to DETAIL_CHARS."""
    return repr(text) if len(text) <= DETAIL_CHARS else f"{text[:DETAIL_CHARS]!r}..."


def _lines(block: Block, octets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the lines that are not blank start and end (before the newline) in a block's data."""
    ends = np.flatnonzero(octets == _NEWLINE)
    if len(octets) and octets[-1] != _NEWLINE:
        ends = np.append(ends, len(octets))
    starts = np.empty_like(ends)
    starts[1:] = ends[:-1] + 1
    starts[:1] = 0
    if has_bom(block.data):
        for line in np.flatnonzero(octets[starts] == UTF8_BOM[0]).tolist():
            starts[line] = past_bom(block.data, int(starts[line]))
    lengths = ends - starts
    written = lengths > 0
    lone = np.flatnonzero(lengths == 1)
    written[lone] = octets[starts[lone]] != _RETURN
    return (starts, ends) if written.all() else (starts[written], ends[written])


def _control_positions(octets: np.ndarray) -> np.ndarray:
    """Return the positions of control characters that belong to no line ending."""
    positions = np.flatnonzero(((octets < _FIRST_PRINTABLE) & (octets != _NEWLINE)) | (octets == _DELETE))
    next_octets = octets[np.minimum(positions + 1, len(octets) - 1)]
    ends_line = (next_octets == _NEWLINE) | (positions == len(octets) - 1)
    return positions[~((octets[positions] == _RETURN) & ends_line)]


def _has_control(column: pa.StringArray) -> bool:
    octets = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    return bool(((octets < _FIRST_PRINTABLE) | (octets == _DELETE)).any())


def is_utf8(text: bytes) -> bool:
    """Tell whether bytes, which may be many, are UTF-8."""
    if text.isascii():
        return True
    bounds = pa.array([0, len(text)], pa.int64()).buffers()[1]
    try:
        pa.LargeStringArray.from_buffers(1, bounds, pa.py_buffer(text)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_utf8_line(line: bytes) -> bool:
    """Tell the same of a short text, in a hundredth of the time."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _split(line: bytes) -> list[str] | None:
    """Split a line by RFC 4180, or return None if its quotes do not pair up."""
    text = line.decode().removesuffix("\r")
    if not _CSV_LINE.fullmatch(text):
        return None
    return [
        field[1:-1].replace('""', '"') if field.startswith('"') else field
        for field in _CSV_FIELD.findall(text)
    ]


def _split_plain(
    block: Block, octets: np.ndarray, starts: np.ndarray, ends: np.ndarray, columns: Sequence[str]
) -> pa.Table | None:
    """Split the lines of a block that has regular ones alone, in RAW_SCHEMA; None if any may be another."""
    data = block.data
    newlines = len(starts) - (not data.endswith(b"\n"))
    if (
        not len(starts)
        or block.skipped_bytes
        or b'"' in data
        or b"\x7f" in data
        # Among them are the newlines, of which blank lines have more.
        or np.count_nonzero(octets < _FIRST_PRINTABLE) != newlines
        or (ends - starts).max() > MAX_LINE_BYTES
        or not is_utf8(data)
    ):
        return None
    try:
        rows = _split_regular(data, starts, ends, np.ones(len(starts), bool), columns)
    except pa.ArrowInvalid:  # A line has more fields, or fewer.
        return None
    return rows if len(rows) == len(starts) else None


def _split_regular(
    data: bytes, starts: np.ndarray, ends: np.ndarray, regular: np.ndarray, columns: Sequence[str]
) -> pa.Table:
    """Split the lines in the mask `regular` into columns, in RAW_SCHEMA."""
    if not regular.any():
        return RAW_SCHEMA.empty_table()
    view = memoryview(data)
    if has_bom(data):
        spans = zip(starts[regular].tolist(), ends[regular].tolist(), strict=True)
        text = memoryview(b"\n".join([view[start:end] for start, end in spans]))
    elif regular.all():
        text = view[starts[0] :]
    else:
        # Each run of regular lines, from its first line's start to its last line's end, newline included.
        edges = np.flatnonzero(np.diff(regular, prepend=False, append=False)).reshape(-1, 2)
        text = memoryview(b"".join([view[starts[a] : ends[b - 1] + 1] for a, b in edges.tolist()]))
    return pa_csv.read_csv(
        pa.BufferReader(text),
        pa_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=list(columns)),
        pa_csv.ParseOptions(quote_char=False, double_quote=False, escape_char=False),
        pa_csv.ConvertOptions(
            check_utf8=False,
            column_types={name: pa.string() for name in columns},
            strings_can_be_null=False,
            include_columns=list(COLUMN_NAMES),
        ),
    ).cast(RAW_SCHEMA)


def _add_rows(
    rows: pa.Table, numbers: np.ndarray, added: Mapping[int, list[str]], columns: Sequence[str]
) -> tuple[pa.Table, np.ndarray]:
    """Add the fields in `added`, by line number, to rows of the line `numbers`; return both in line order."""
    fields = zip(*added.values(), strict=True)
    table = pa.table(dict(zip(columns, map(list, fields), strict=True))).select(COLUMN_NAMES)
    numbers = np.concatenate([numbers, np.fromiter(added, np.int64)])
    order = np.argsort(numbers)
    return pa.concat_tables([rows, table.cast(RAW_SCHEMA)]).take(order), numbers[order]


def _not_utf8_detail(raw: bytes) -> str:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return (
            f"Byte 0x{raw[error.start]:02x} at place {error.start} of the line is not UTF-8 ({error.reason})."
        )
    raise AssertionError("the line is UTF-8")


def _control_detail(text: str) -> str:
    found = _CONTROL.findall(text)[0]
    return f"The character U+{ord(found):04X} is at place {text.index(found)}: {excerpt(text)}."
