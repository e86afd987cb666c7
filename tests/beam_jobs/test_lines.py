"""One reader of event files: what is compressed, where events start, and that each line is read once."""

import bz2
import gzip
import io
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs import lines
from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError
from beam_jobs.lines import (
    UTF8_BOM,
    Block,
    Header,
    Piece,
    decompressed,
    event_files,
    may_be_header,
    read_blocks,
    read_header,
    read_pieces,
    refuse_other_header,
)
from local.root import ROOT

HEADER = ",".join(COLUMN_NAMES).encode() + b"\n"
EVENT = b"2019-11-01 00:00:00 UTC,view,1,2,,,3.00,4,\n"


def text_of(stored: bytes, file: str = "a.csv") -> bytes:
    with decompressed(io.BytesIO(stored), file) as text:
        return text.read()


def header_of(content: bytes) -> Header:
    return read_header(io.BytesIO(content), "a.csv")


@pytest.mark.parametrize("file", ["a.csv", "a.csv.gz", "gs://b/a.CSV"])
def test_what_is_gzip_is_told_by_its_first_bytes_and_not_by_its_name(file: str) -> None:
    assert text_of(gzip.compress(EVENT), file) == EVENT
    assert text_of(gzip.compress(HEADER) + gzip.compress(EVENT), file) == HEADER + EVENT
    assert text_of(b"", file) == b""


def test_the_files_of_a_folder_are_told_from_its_marks() -> None:
    names = ["b.CSV", "a.csv", "c.csv.gz", "_SUCCESS", "_UNFINISHED-2019-Nov", ""]
    for folder in ("gs://b/2019-11-01", "gs://b/2019-11-01/"):
        found = event_files(folder, [f"gs://b/2019-11-01/{name}" for name in names])
        assert found == [f"gs://b/2019-11-01/{name}" for name in ("a.csv", "b.CSV", "c.csv.gz")]
    assert event_files("gs://b/2019-11-01", []) == []


def test_events_in_a_file_that_is_named_like_a_mark_are_read() -> None:
    names = ["/d/_UNFINISHED-a", "/d/_UNFINISHED-a-00000.csv", "/d/_SUCCESS-00000.csv"]
    assert event_files("/d", names) == ["/d/_SUCCESS-00000.csv", "/d/_UNFINISHED-a-00000.csv"]


@pytest.mark.parametrize(
    "name",
    [
        "a.csv.zip",
        "a.tsv",
        "a.csv.bz2",
        "part-00000",
        "a.csv.tmp",
        "hour=01/a.csv",
        "sub/_SUCCESS",
        "_success",
    ],
)
def test_what_nobody_would_read_is_refused_by_name(name: str) -> None:
    with pytest.raises(
        ContractError, match=rf"^/d/2019-11-01 holds what is neither events nor a known mark: {name}\. If"
    ):
        event_files("/d/2019-11-01", ["/d/2019-11-01/a.csv", f"/d/2019-11-01/{name}"])


def test_of_many_such_names_some_are_shown() -> None:
    with pytest.raises(ContractError, match=r"mark: 0, 1, 2, 3, 4, \.\.\.\. If"):
        event_files("/d", [f"/d/{number}" for number in range(9)])


def test_gzip_may_be_packed_twice_but_not_without_end() -> None:
    twice = gzip.compress(gzip.compress(EVENT))
    assert text_of(twice, "a.csv.gz") == EVENT
    assert text_of(gzip.compress(twice)) == gzip.compress(EVENT)


@pytest.mark.parametrize("encoding", [None, "", "gzip"])
def test_an_objects_encoding_changes_nothing_if_it_is_gzip(encoding: str | None) -> None:
    for stored in (EVENT, gzip.compress(EVENT)):
        with decompressed(io.BytesIO(stored), "a.csv", encoding) as text:
            assert text.read() == EVENT


def test_another_encoding_is_refused_by_name() -> None:
    words = r"^gs://b/a\.csv has the Content-Encoding 'br', .* Upload it again without an encoding"
    with pytest.raises(ContractError, match=words), decompressed(io.BytesIO(EVENT), "gs://b/a.csv", "br"):
        pass


def test_plain_text_stays_as_it_is_however_short() -> None:
    for content in (b"", b"\x1f", b"a", EVENT):
        assert text_of(content) == content


@pytest.mark.parametrize(
    "stored",
    [gzip.compress(os.urandom(100_000))[:-20], gzip.compress(EVENT)[:9], b"\x1f\x8b", b"\x1f\x8bxx"],
    ids=["cut in its end", "cut in its head", "two bytes", "no header"],
)
def test_damaged_gzip_is_an_error_that_names_the_file(stored: bytes) -> None:
    with pytest.raises(ContractError, match=r"^gs://b/a\.csv is damaged or cut short: .* Upload it again\.$"):
        text_of(stored, "gs://b/a.csv")


@pytest.mark.parametrize("stored", [EVENT, bz2.compress(EVENT)])
def test_a_file_called_gz_that_is_none_is_an_error(stored: bytes) -> None:
    with pytest.raises(ContractError, match=r"a\.csv\.gz is damaged or cut short: it starts with b'.."):
        text_of(stored, "a.csv.gz")


def test_the_stored_stream_is_closed_in_the_end() -> None:
    for content in (EVENT, gzip.compress(EVENT)):
        stored = io.BytesIO(content)
        with decompressed(stored, "a.csv"):
            pass
        assert stored.closed


@pytest.mark.parametrize("blank", [b"", b"\n", b"\r\n\n", UTF8_BOM + b"\r\n", b"\n" * 200])
def test_a_header_is_read_over_and_blank_lines_before_it(blank: bytes) -> None:
    shuffled = ",".join(COLUMN_NAMES[::-1]).encode() + b"\r\n"
    assert header_of(blank + shuffled + EVENT) == Header(COLUMN_NAMES[::-1], shuffled, len(blank))
    assert header_of(blank + HEADER + EVENT).body_start == len(blank) + len(HEADER)
    assert header_of(blank + EVENT) == Header(COLUMN_NAMES, b"", len(blank))


def test_a_byte_order_mark_belongs_to_the_header_line() -> None:
    assert header_of(UTF8_BOM + HEADER) == Header(COLUMN_NAMES, UTF8_BOM + HEADER, 0)
    assert header_of(UTF8_BOM + EVENT) == Header(COLUMN_NAMES, b"", 0)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\n\r", UTF8_BOM])
def test_a_file_without_a_line_is_an_error_that_says_what_an_empty_day_is(content: bytes) -> None:
    with pytest.raises(ContractError, match=r"a\.csv: the file holds no event.*only the header"):
        header_of(content)


def test_a_range_inside_a_line_that_goes_on_past_it_is_read_no_further() -> None:
    text = io.BytesIO(EVENT + b"x" * 100 * MAX_LINE_BYTES + b"\n" + EVENT)
    start = 10 * MAX_LINE_BYTES
    assert list(read_pieces(text, start, start + 10)) == []
    assert text.tell() <= start + 10 + MAX_LINE_BYTES
    assert [piece.data for piece in read_pieces(text, start, 200 * MAX_LINE_BYTES)] == [EVENT]


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"\r")), max_size=30),
    cuts=st.lists(st.integers(0, 1000), max_size=5),
    block_bytes=st.integers(1, 100),
)
@settings(deadline=None)
def test_every_line_is_read_once_whatever_the_cuts(
    lines: list[bytes], cuts: list[int], block_bytes: int
) -> None:
    content = b"\n".join(lines)
    edges = sorted({0, *(cut for cut in cuts if cut < len(content)), len(content)})
    blocks = [
        block
        for start, end in pairwise(edges)
        for block in read_blocks(io.BytesIO(content), start, end, block_bytes)
    ]
    assert b"".join(block.data for block in blocks) == content
    assert [block.offset for block in blocks] == offsets_of(block.data for block in blocks)
    assert all(block.data.endswith(b"\n") for block in blocks[:-1])
    assert not any(block.skipped_bytes for block in blocks)


@pytest.mark.parametrize("block_bytes", [100, 100_000])
def test_a_line_that_never_ends_goes_on_in_pieces_of_bounded_size(block_bytes: int) -> None:
    endless = b"x" * (5 * MAX_LINE_BYTES)
    content = EVENT + endless + b"\n" + EVENT + endless
    pieces = list(read_pieces(io.BytesIO(content), 0, block_bytes=block_bytes))
    assert b"".join(piece.data for piece in pieces) == content
    assert [piece.offset for piece in pieces] == offsets_of(piece.data for piece in pieces)
    assert max(len(piece.data) for piece in pieces) <= block_bytes + MAX_LINE_BYTES + 1
    for before, piece in zip([Piece(b"\n", 0, True), *pieces], pieces, strict=False):
        assert piece.begins_line == before.data.endswith(b"\n")

    blocks = list(read_blocks(io.BytesIO(content), 0, block_bytes=block_bytes))
    assert [block.offset for block in blocks] == [piece.offset for piece in pieces if piece.begins_line]
    assert sum(len(block.data.removesuffix(b"\n")) + block.skipped_bytes for block in blocks) == (
        len(content) - sum(block.data.endswith(b"\n") for block in blocks) - (content.count(b"x\n") > 0)
    )


@pytest.mark.parametrize("start", [b"", UTF8_BOM, UTF8_BOM * 2])
def test_a_later_header_of_other_columns_is_refused_by_file_and_offset(start: bytes) -> None:
    swapped = HEADER.replace(b"product_id", b"-").replace(b"user_id", b"product_id").replace(b"-", b"user_id")
    for other in (swapped, swapped.upper(), HEADER.replace(b"brand", b"make"), HEADER[:-1] + b",colour\r\n"):
        with pytest.raises(ContractError, match=r"^b\.csv: the line at byte 77 is a header of other columns"):
            refuse_other_header(start + other, COLUMN_NAMES, "b.csv", 77)
    for same in (HEADER, HEADER.upper(), EVENT, b"bad", b"x,brand,y", b"\xff,\0", b""):
        refuse_other_header(start + same, COLUMN_NAMES, "b.csv", 77)


def test_a_block_gives_the_start_of_a_line() -> None:
    block = Block(EVENT + b"x" * (MAX_LINE_BYTES + 5), 100)
    assert block.raw(100, len(EVENT) - 1) == EVENT[:-1]
    assert block.raw(100 + len(EVENT), 10**9) == b"x" * MAX_LINE_BYTES


@pytest.mark.parametrize("module", ["contract", "manifest", "lines"])
def test_what_both_sides_share_needs_only_the_standard_library(module: str) -> None:
    told = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys, beam_jobs.{module}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    foreign = {name.partition(".")[0] for name in told.stdout.split()} - sys.stdlib_module_names
    assert foreign <= {"beam_jobs", "__main__"}


def offsets_of(parts: Iterable[bytes]) -> list[int]:
    offsets, offset = [], 0
    for part in parts:
        offsets.append(offset)
        offset += len(part)
    return offsets


@pytest.mark.parametrize(
    "data", [b"x\n" * 100, b"\n" * 100, b"x" * 300 + b"\n" * 50, b"\n" * 50 + b"x" * 300, b""]
)
@pytest.mark.parametrize("block_bytes", [7, 1000])
def test_a_block_has_few_lines_however_short_they_are(
    data: bytes, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_BLOCK_LINES", 8)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 50)
    pieces = list(read_pieces(io.BytesIO(data), 0, block_bytes=block_bytes))
    assert b"".join(piece.data for piece in pieces) == data
    assert max((piece.data.count(b"\n") for piece in pieces), default=0) <= 8
    places = [piece.offset for piece in pieces]
    assert places == [sum(len(piece.data) for piece in pieces[:number]) for number in range(len(pieces))]
    starts = [piece.offset for piece in pieces if piece.begins_line]
    assert all(start == 0 or data[start - 1 : start] == b"\n" for start in starts)


class CountingReader(io.BufferedReader):
    reads = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().readline(size)


@pytest.mark.parametrize("blank", [b"\n", b"\r\n"])
def test_a_file_may_begin_with_millions_of_blank_lines(blank: bytes) -> None:
    text = CountingReader(io.BytesIO(blank * 2_000_000 + HEADER + EVENT))
    assert read_header(text, "a.csv").start == len(blank) * 2_000_000
    assert text.reads < 10_000


@pytest.mark.parametrize("line", [b"EVENT_TIME,b_r_A_n_d\n", b'"Price",x,"user_Id"', b"\xff,brand, price "])
def test_a_header_in_any_form_is_seen_at_first_sight(line: bytes) -> None:
    assert may_be_header(line)
    assert not may_be_header(line.replace(b",", b"-"))


def test_a_line_of_carriage_returns_is_not_blank() -> None:
    with pytest.raises(ContractError, match="the first line is neither an event nor a header"):
        read_header(io.BufferedReader(io.BytesIO(b"\n\r\n\r\r\n" + EVENT)), "a.csv")
