import csv
import io
from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES
from beam_jobs.lines import UTF8_BOM, Block
from beam_jobs.parse import (
    RAW_SCHEMA,
    REJECTED_SCHEMA,
    ParsedBlock,
    parse_block,
    parse_fields,
    parse_fields_one_by_one,
    parse_line_by_line,
)
from beam_jobs.validate import validate

EVENT = b"2019-11-01 00:00:00 UTC,view,1,2,a.b,sony,3.00,4,s-1"
FIELDS = dict(zip(COLUMN_NAMES, EVENT.decode().split(","), strict=True))
IN_A_FILE = 1_000
"""An offset at which a block may start that is not the file's first."""


def parse(data: bytes, columns: Sequence[str] = COLUMN_NAMES, offset: int = IN_A_FILE) -> ParsedBlock:
    return parse_block(Block(data, offset), columns)


def with_field(name: str, value: str) -> bytes:
    return ",".join({**FIELDS, name: value}.values()).encode()


def reject_of(data: bytes) -> dict[str, object]:
    """Parse a good line, `data` and a good line; return the reject that `data` is."""
    parsed = parse(EVENT + b"\n" + data + b"\n" + EVENT)
    assert parsed.rows.to_pylist() == [FIELDS, FIELDS]
    [reject] = parsed.rejected.to_pylist()
    assert reject["byte_offset"] == IN_A_FILE + len(EVENT) + 1
    assert reject["line_bytes"] == len(data)
    assert reject["raw"] == data[:MAX_LINE_BYTES]
    return reject


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"x" * 65_537, "line_too_long", "The line has 65537 bytes; at most 65536 are allowed."),
        (b"\xff", "invalid_utf8", "Byte 0xff at place 0 of the line is not UTF-8 (invalid start byte)."),
        (b"\0", "control_character", r"The character U+0000 is at place 0: '\x00'."),
        (b'"', "bad_quoting", "A double quote is not closed or is inside a plain field: '\"'."),
        (b"a", "wrong_column_count", "The line has 1 fields; it should have 9."),
    ],
)
def test_the_smallest_line_that_earns_a_reason_is_rejected_with_it(
    line: bytes, reason: str, detail: str
) -> None:
    reject = reject_of(line)
    assert (reject["reason"], reject["detail"]) == (reason, detail)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (EVENT.replace(b"sony", b"so\xc3ny"), "invalid_utf8"),
        (EVENT.replace(b"sony", b"\xed\xa0\x80"), "invalid_utf8"),
        (EVENT.replace(b"sony", b"\xc0\xaf"), "invalid_utf8"),
        (EVENT.replace(b"sony", b"so\tny"), "control_character"),
        (EVENT.replace(b"sony", b"so\x7fny"), "control_character"),
        (EVENT.replace(b"sony", b"so\x1fny"), "control_character"),
        (EVENT.replace(b"sony", b"so\rny"), "control_character"),
        (EVENT + b"\r\r", "control_character"),
        (EVENT.replace(b"sony", b'so"ny'), "bad_quoting"),
        (EVENT.replace(b"sony", b'"so"ny'), "bad_quoting"),
        (EVENT.replace(b"sony", b'"so"ny"'), "bad_quoting"),
        (EVENT.replace(b"sony", b'"sony'), "bad_quoting"),
        (EVENT.replace(b"sony", b' "sony"'), "bad_quoting"),
        (EVENT + b",", "wrong_column_count"),
        (EVENT.replace(b",sony", b""), "wrong_column_count"),
        (EVENT.replace(b",sony", b',"so""ny","x"'), "wrong_column_count"),
        (EVENT.replace(b",sony", b";sony"), "wrong_column_count"),
    ],
)
def test_a_line_that_cannot_be_split_is_rejected(line: bytes, reason: str) -> None:
    assert reject_of(line)["reason"] == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'\xff\0"' + b"x" * MAX_LINE_BYTES, "line_too_long"),
        (b'\xff\0"', "invalid_utf8"),
        (b'\0"', "control_character"),
        (b'",,', "bad_quoting"),
    ],
)
def test_of_several_reasons_the_contracts_first_is_given(line: bytes, reason: str) -> None:
    assert reject_of(line)["reason"] == reason


def test_a_quoted_field_is_unquoted() -> None:
    line = EVENT.replace(b"sony", b'"so""ny, inc"').replace(b"view", b'"view"').replace(b"s-1", b'""')
    [row] = parse(line).rows.to_pylist()
    assert row == {**FIELDS, "brand": 'so"ny, inc', "user_session": ""}


def test_a_newline_within_quotes_makes_two_rejects() -> None:
    first, second = with_field("brand", '"so\nny"').split(b"\n")
    parsed = parse(first + b"\n" + second + b"\n")
    assert parsed.rows.num_rows == 0
    assert parsed.rejected["raw"].to_pylist() == [first, second]
    assert parsed.rejected["reason"].to_pylist() == ["bad_quoting", "bad_quoting"]


def test_rows_with_and_without_quotes_keep_the_files_order() -> None:
    lines = [with_field("brand", f'"b{i}"' if i % 3 else f"b{i}") for i in range(10)]
    parsed = parse(b"\n".join(lines))
    assert parsed.rows["brand"].to_pylist() == [f"b{i}" for i in range(10)]
    assert [parsed.block.raw(*place) for place in zip(parsed.offsets, parsed.lengths, strict=True)] == lines


def test_windows_line_endings_belong_to_no_field() -> None:
    parsed = parse(EVENT + b"\r\n" + EVENT.replace(b"sony", b'"sony"') + b"\r\n" + EVENT + b"\r")
    assert parsed.rows.to_pylist() == [FIELDS] * 3
    assert parsed.rejected.num_rows == 0
    assert parsed.lengths.tolist() == [len(EVENT) + 1, len(EVENT) + 3, len(EVENT) + 1]


def test_a_missing_final_newline_loses_nothing() -> None:
    assert parse(EVENT + b"\n" + EVENT).rows.to_pylist() == [FIELDS, FIELDS]


def test_a_truncated_last_line_is_rejected() -> None:
    parsed = parse(EVENT + b"\n" + EVENT[:30])
    assert parsed.rows.num_rows == 1
    assert parsed.rejected["raw"].to_pylist() == [EVENT[:30]]
    assert parsed.rejected["reason"].to_pylist() == ["wrong_column_count"]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n\r\n", b"\r"])
def test_blank_lines_are_no_rows(data: bytes) -> None:
    parsed = parse(data)
    assert (parsed.rows.num_rows, parsed.rejected.num_rows) == (0, 0)


def test_blank_lines_between_rows_do_not_move_offsets() -> None:
    parsed = parse(b"\n" + EVENT + b"\n\r\n\n" + EVENT + b"\n\n")
    assert parsed.rows.to_pylist() == [FIELDS, FIELDS]
    assert parsed.offsets.tolist() == [IN_A_FILE + 1, IN_A_FILE + 1 + len(EVENT) + 4]


def test_a_byte_order_mark_at_the_files_start_is_skipped_and_counted() -> None:
    parsed = parse(UTF8_BOM + EVENT + b"\n" + EVENT, offset=0)
    assert parsed.rows.to_pylist() == [FIELDS, FIELDS]
    assert parsed.offsets.tolist() == [3, 3 + len(EVENT) + 1]
    assert parse(UTF8_BOM + b"\r\n", offset=0).rows.num_rows == 0


@pytest.mark.parametrize("before", [b"", EVENT + b"\n", b"bad\n", UTF8_BOM + b"\n\n"])
@pytest.mark.parametrize("marks", [1, 2])
def test_a_byte_order_mark_at_a_lines_start_belongs_to_no_field(before: bytes, marks: int) -> None:
    quoted = EVENT.replace(b"2019-11-01 00:00:00 UTC", b'"2019-11-01 00:00:00 UTC"')
    for event in (EVENT, quoted):
        parsed = parse(before + UTF8_BOM * marks + event + b"\r\n" + EVENT)
        assert parsed.rows.to_pylist()[-2:] == [FIELDS, FIELDS]
        start = IN_A_FILE + len(before) + 3 * marks
        assert parsed.offsets.tolist()[-2:] == [start, start + len(event) + 2]
        assert parsed.lengths.tolist()[-2] == len(event) + 1


def test_a_byte_order_mark_inside_a_line_is_part_of_its_field() -> None:
    parsed = parse(with_field("brand", "\ufeffsony"))
    assert parsed.rows["brand"].to_pylist() == ["\ufeffsony"]


def test_columns_may_stand_in_any_order() -> None:
    reverse = COLUMN_NAMES[::-1]
    line = ",".join(FIELDS[name] for name in reverse).encode()
    parsed = parse(line + b"\n" + line.replace(b"sony", b'"sony"'), reverse)
    assert parsed.rows.to_pylist() == [FIELDS, FIELDS]
    assert parsed.rows.schema == RAW_SCHEMA


@pytest.mark.parametrize(
    "brand", ["nan", "NULL", "N/A", "null", "", " ", "#N/A", "-inf", "\\", "'", "ÅÄÖ", "日本"]
)
def test_a_field_is_taken_as_it_is(brand: str) -> None:
    assert parse(with_field("brand", brand)).rows["brand"].to_pylist() == [brand]


def test_a_line_of_the_greatest_length_is_a_row() -> None:
    brand = "b" * (MAX_LINE_BYTES - len(with_field("brand", "")))
    parsed = parse(with_field("brand", brand) + b"\n" + EVENT)
    assert parsed.rows["brand"].to_pylist() == [brand, "sony"]


def test_an_overlong_line_that_was_read_in_part_is_rejected_with_its_full_length() -> None:
    line = b'x"' * MAX_LINE_BYTES
    parsed = parse_block(Block(EVENT + b"\n" + line, IN_A_FILE, skipped_bytes=9_000_000), COLUMN_NAMES)
    assert parsed.rows.num_rows == 1
    [reject] = parsed.rejected.to_pylist()
    assert reject["reason"] == "line_too_long"
    assert reject["line_bytes"] == len(line) + 9_000_000
    assert reject["raw"] == line[:MAX_LINE_BYTES]


def test_a_value_is_quoted_in_part_in_a_rejects_detail() -> None:
    detail = reject_of(b'"' + b"x" * 1000)["detail"]
    assert detail == "A double quote is not closed or is inside a plain field: '\"" + "x" * 99 + "'...."


NASTY_BYTES = st.lists(
    st.sampled_from(
        [b"\n", b"\r\n", b"\r", b",", b'"', b"\0", b"\xff", b"\xef\xbb\xbf", b"a", b",,,,,,,,", EVENT]
    )
).map(b"".join)


@given(st.one_of(NASTY_BYTES, st.binary()), st.sampled_from([0, IN_A_FILE]))
@example(b"\xef\xbb\xbf" * 2 + EVENT, 0)
def test_arbitrary_bytes_never_raise_and_no_line_is_lost(data: bytes, offset: int) -> None:
    parsed = parse(data, offset=offset)

    found = dict(zip(parsed.offsets.tolist(), parsed.lengths.tolist(), strict=True))
    rejects = parsed.rejected.to_pylist()
    found.update((reject["byte_offset"], reject["line_bytes"]) for reject in rejects)
    assert len(found) == parsed.rows.num_rows + len(rejects)
    expected, at = {}, offset
    for line in data.split(b"\n"):
        mark = 0
        while line[mark:].startswith(UTF8_BOM):
            mark += len(UTF8_BOM)
        if line[mark:] not in (b"", b"\r"):
            expected[at + mark] = line[mark:]
        at += len(line) + 1
    assert {place: parsed.block.raw(place, length) for place, length in found.items()} == expected
    assert {reject["byte_offset"]: reject["raw"] for reject in rejects}.items() <= expected.items()
    parsed.rows.validate(full=True)
    parsed.rejected.validate(full=True)
    assert parsed.rejected.schema == REJECTED_SCHEMA


FIELD_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)


@given(st.lists(st.lists(FIELD_TEXT, min_size=9, max_size=9), max_size=20), st.booleans())
def test_what_a_csv_writer_writes_is_read_back(rows: list[list[str]], quote_all: bool) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL).writerows(rows)
    parsed = parse(written.getvalue().encode())
    assert [list(row.values()) for row in parsed.rows.to_pylist()] == rows


def test_events_that_are_no_lines_become_rows_too() -> None:
    events: list[dict[str, str | None]] = [{**FIELDS, "brand": None}, {"event_type": "a,b"}]
    parsed = parse_fields(events, [b"{1}", b"{2.}"])
    empty = dict.fromkeys(COLUMN_NAMES, "")
    assert parsed.rows.to_pylist() == [{**FIELDS, "brand": ""}, {**empty, "event_type": "a,b"}]
    assert parsed.block.raw(int(parsed.offsets[1]), int(parsed.lengths[1])) == b"{2.}"


@pytest.mark.parametrize(
    ("session", "raw", "reason"),
    [
        ("so\x1fny", b"{}", "control_character"),
        ("so\nny", b"{}", "control_character"),
        ("\r", b"{}", "control_character"),
        ("so\ud800ny", b"{}", "invalid_utf8"),
        ("sony", b" " * 65_537, "line_too_long"),
    ],
)
def test_events_that_no_line_could_hold_are_rejected(session: str, raw: bytes, reason: str) -> None:
    events: list[dict[str, str | None]] = [{**FIELDS, "user_session": session}, {**FIELDS}]
    parsed = parse_fields(events, [raw, b"{good}"])
    assert parsed.rows.to_pylist() == [FIELDS]
    [reject] = parsed.rejected.to_pylist()
    assert (reject["reason"], reject["raw"]) == (reason, raw[:MAX_LINE_BYTES])


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(COLUMN_NAMES), st.none() | st.text(st.characters(), max_size=3), max_size=9
        ),
        max_size=5,
    )
)
@example([])
@example([{"brand": "é\x85"}, {"brand": "\x7f"}])
@example([{"brand": "\ud800"}, {"price": None}])
def test_events_are_brought_into_the_form_of_rows_together_as_one_by_one(
    events: list[dict[str, str | None]],
) -> None:
    raws = [b"{%d}" % number for number in range(len(events))]
    together, alone = parse_fields(events, raws), parse_fields_one_by_one(events, raws)
    assert together.rows == alone.rows
    assert together.rejected == alone.rejected
    assert together.offsets.tolist() == alone.offsets.tolist()
    assert together.lengths.tolist() == alone.lengths.tolist()
    assert together.block == alone.block


HEADER = ",".join(COLUMN_NAMES).encode()


def test_of_many_lines_with_one_fault_the_first_are_rejects_and_the_others_a_range() -> None:
    block = Block(
        b"".join(b"bad %d\n" % n + (EVENT + b"\n") * (n == 7) for n in range(10)) + b"'a\tb'\n", 1000
    )
    parsed = parse_block(block, COLUMN_NAMES, max_rejects=3)
    assert len(parsed.rows) == 1
    first, second, third, control, rest = parsed.rejected.to_pylist()
    assert [one["raw"] for one in (first, second, third)] == [b"bad 0", b"bad 1", b"bad 2"]
    assert [one["lines"] for one in (first, second, third, control)] == [1] * 4
    assert control["reason"] == "control_character"
    assert (rest["byte_offset"], rest["reason"], rest["lines"]) == (1018, "wrong_column_count", 7)
    assert rest["raw"] == b"bad 3"
    assert rest["detail"].startswith("7 more lines, from here to byte ")
    # Who reads the range again finds the lines.
    start = rest["byte_offset"] - block.offset
    again = parse_block(
        Block(block.data[start : start + rest["line_bytes"]], rest["byte_offset"]), COLUMN_NAMES
    )
    assert again.rejected["raw"].to_pylist() == [b"bad %d" % n for n in range(3, 10)]
    assert again.rejected["reason"].to_pylist() == ["wrong_column_count"] * 7


def test_a_header_among_many_bad_lines_is_no_part_of_a_range() -> None:
    header = b"brand,price\n"
    parsed = parse_block(Block(b"x\n" * 9 + header + b"x\n" * 9, 0), COLUMN_NAMES, max_rejects=2)
    assert parsed.rejected["raw"].to_pylist() == [b"x", b"x", b"brand,price", b"x"]
    assert parsed.rejected["lines"].to_pylist() == [1, 1, 1, 16]


def test_rejects_of_a_block_are_few_however_many_lines_are_bad() -> None:
    bad = [b"x", b'"', b"\xff", b",,,,,,,,", b"\t", b"\xef\xbb\xbfx"]
    for line in bad:
        block = Block((line + b"\n") * 20_000, 0)
        checked = validate(parse_block(block, COLUMN_NAMES, max_rejects=100), None)
        assert len(checked.rejected) == 101
        assert sum(checked.rejected["lines"].to_pylist()) == 20_000


PLAIN_LINES = st.lists(
    st.sampled_from([EVENT, EVENT.replace(b"sony", b"s\xc3\xb6ny"), b",,,,,,,,"]), max_size=3
)
OTHER_LINE = st.one_of(
    st.sampled_from([b"", b"\r", EVENT + b"\r", EVENT + b",", EVENT.replace(b",", b"", 1), b'"' + EVENT]),
    st.sampled_from(
        [EVENT + b"\x7f", EVENT + b"\x00", UTF8_BOM + EVENT, EVENT + b"\xff", EVENT.replace(b",", b"\n")]
    ),
    st.sampled_from(
        [EVENT + b"x" * MAX_LINE_BYTES, b" ".join([EVENT] * 2), EVENT.replace(b"sony", b'"sony"')]
    ),
    NASTY_BYTES,
)


@given(
    st.tuples(PLAIN_LINES, st.lists(OTHER_LINE, max_size=1), PLAIN_LINES).map(
        lambda parts: b"\n".join(chain(*parts))
    ),
    st.booleans(),
    st.sampled_from([0, IN_A_FILE]),
    st.sampled_from([0, 0, 0, 7]),
)
@example(EVENT + b"\xff", False, 0, 0)
@settings(max_examples=300)
def test_a_block_that_is_split_as_it_is_comes_out_as_line_by_line(
    data: bytes, ends: bool, offset: int, skipped_bytes: int
) -> None:
    # A line of which bytes are left out does not end in its block.
    data += b"x" if skipped_bytes else b"\n" if ends else b""
    block = Block(data, offset, skipped_bytes)
    split, by_line = (way(block, COLUMN_NAMES, 2) for way in (parse_block, parse_line_by_line))
    assert split.rows == by_line.rows
    assert split.rejected == by_line.rejected
    assert split.rows.schema.equals(by_line.rows.schema)
    assert split.offsets.tolist() == by_line.offsets.tolist()
    assert split.lengths.tolist() == by_line.lengths.tolist()
