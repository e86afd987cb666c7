"""translate: what a header makes certain becomes plain CSV, and whatever else is wrong stays wrong."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.contract import COLUMN_NAMES, ContractError
from beam_jobs.lines import Block
from beam_jobs.parse import parse_block
from shopstream.landing.translate import Translation, translation

HEADER = ",".join(COLUMN_NAMES).encode()
EVENT = b"2019-11-01 00:00:00 UTC,view,1,2,a.b,sony,3.50,4,s-1"
PLACE = "gs://b/exports/e.csv"


def form(first_line: bytes, times_are_utc: bool = False) -> Translation:
    found = translation(first_line, PLACE, times_are_utc)
    assert found is not None
    return found


def semicolons(line: bytes) -> bytes:
    return line.replace(b",", b";")


@pytest.mark.parametrize(
    "first_line",
    [
        HEADER,
        b"\xef\xbb\xbf" + HEADER + b"\r\n",
        HEADER.upper(),
        EVENT,
        semicolons(EVENT),
        b"0," + EVENT,
        b"id," + HEADER,
        b",," + HEADER,
        HEADER + b",",
        semicolons(HEADER) + b",",
        semicolons(HEADER).replace(b"brand", b"make"),
        HEADER.replace(b",", b"|"),
        b"hello",
        b'"' + HEADER,
    ],
)
def test_what_is_plain_or_not_certain_is_not_translated(first_line: bytes) -> None:
    assert translation(first_line, PLACE, False) is None


@pytest.mark.parametrize(
    ("header", "lines", "plain", "told"),
    [
        (
            semicolons(HEADER),
            semicolons(EVENT).replace(b"3.50", b"3,50"),
            EVENT,
            ["fields separated by semicolons", "prices with a decimal comma: 1"],
        ),
        (semicolons(HEADER).title(), semicolons(EVENT), EVENT, ["fields separated by semicolons"]),
        (
            HEADER.replace(b",", b"\t"),
            EVENT.replace(b",", b"\t").replace(b"sony", b"black, decker"),
            EVENT.replace(b"sony", b'"black, decker"'),
            ["fields separated by tabs"],
        ),
        (b"," + HEADER, b"17," + EVENT, EVENT, ["a first column without a name, left out"]),
        (b"Unnamed: 0," + HEADER, b"17," + EVENT, EVENT, ["a first column without a name, left out"]),
        (b'"",' + HEADER, b'"17",' + EVENT, EVENT, ["a first column without a name, left out"]),
        (
            b";" + semicolons(HEADER),
            b"0;" + semicolons(EVENT),
            EVENT,
            ["fields separated by semicolons", "a first column without a name, left out"],
        ),
        (
            semicolons(HEADER),
            semicolons(EVENT).replace(b"sony", b'"so;ny ""x"""'),
            EVENT.replace(b"sony", b'"so;ny ""x"""'),
            ["fields separated by semicolons"],
        ),
    ],
)
def test_lines_become_plain_lines_and_what_was_done_is_told(
    header: bytes, lines: bytes, plain: bytes, told: list[str]
) -> None:
    for end in (b"\n", b"\r\n"):
        found = form(header + end)
        assert found.lines(header + end).lower() == HEADER + end
        assert found.lines(b"\xef\xbb\xbf" + lines + end + end + lines) == (
            b"\xef\xbb\xbf" + plain + end + end + plain
        ).replace(b"\xef\xbb\xbf" + end, b"")
    assert [sentence.partition(": ")[0] for sentence in found.told] == [
        sentence.partition(": ")[0] for sentence in told
    ]


@pytest.mark.parametrize(
    ("time", "plain"),
    [
        (b"2019-11-01 00:00:00", b"2019-11-01 00:00:00 UTC"),
        (b"2019-11-01T00:00:00.250", b"2019-11-01 00:00:00.250 UTC"),
        (b"2019-11-01 00:00:00 UTC", b"2019-11-01 00:00:00 UTC"),
        (b"2019-11-01T00:00:00+02:00", b"2019-11-01T00:00:00+02:00"),
        (b"01/11/2019 00:00:00", b"01/11/2019 00:00:00"),
        (b"2019-11-01", b"2019-11-01"),
    ],
)
def test_times_without_a_zone_are_utc_if_the_form_says_so(time: bytes, plain: bytes) -> None:
    turned = b",".join(HEADER.split(b",")[::-1])
    for first_line, line, expected in (
        (HEADER, EVENT, EVENT),
        (EVENT, EVENT, EVENT),
        (turned, b",".join(EVENT.split(b",")[::-1]), b",".join(EVENT.split(b",")[::-1])),
    ):
        before = line.replace(b"2019-11-01 00:00:00 UTC", time)
        after = expected.replace(b"2019-11-01 00:00:00 UTC", plain)
        assert form(first_line, times_are_utc=True).lines(before + b"\n") == after + b"\n"


@pytest.mark.parametrize("price", [b"1.234,50", b"1,234,50", b"-", b"1,5 "])
def test_a_price_that_is_no_decimal_comma_stays_what_it_is(price: bytes) -> None:
    line = form(semicolons(HEADER)).lines(semicolons(EVENT).replace(b"3.50", price))
    [row] = parse_block(Block(line, 0), COLUMN_NAMES).rows.to_pylist()
    assert row["price"] == price.decode()


def test_prices_with_commas_and_points_are_refused() -> None:
    found = form(semicolons(HEADER))
    found.lines(semicolons(EVENT).replace(b"3.50", b"1,234") + b"\n")
    with pytest.raises(ContractError, match=rf"{PLACE}: of its prices 1 have a comma and 1 a point"):
        found.lines(semicolons(EVENT))


@pytest.mark.parametrize(
    ("header", "line", "reason"),
    [
        (b"," + HEADER, EVENT, "wrong_column_count"),
        (b"," + HEADER, b"1,2," + EVENT, "wrong_column_count"),
        (b"," + HEADER, b"1", "wrong_column_count"),
        (semicolons(HEADER), EVENT, "wrong_column_count"),
        (semicolons(HEADER), semicolons(EVENT) + b";", "wrong_column_count"),
        (semicolons(HEADER), EVENT.replace(b"sony", b'"so;ny"'), "bad_quoting"),
        (semicolons(HEADER), semicolons(EVENT).replace(b"sony", b'"sony'), "bad_quoting"),
        (semicolons(HEADER), semicolons(EVENT).replace(b"sony", b"so\tny"), "control_character"),
        (semicolons(HEADER), semicolons(EVENT).replace(b"sony", b"so\xffny"), "invalid_utf8"),
        (semicolons(HEADER), b"x;" * 40_000, "line_too_long"),
        (HEADER.replace(b",", b"\t"), EVENT, "wrong_column_count"),
    ],
)
def test_a_broken_line_stays_one_line_that_is_rejected(header: bytes, line: bytes, reason: str) -> None:
    plain = form(header).lines(line + b"\n")
    parsed = parse_block(Block(plain, 0), COLUMN_NAMES)
    assert parsed.rows.num_rows == 0
    assert parsed.rejected["reason"].to_pylist() == [reason]


def test_a_broken_line_of_an_export_whose_times_are_utc_alone_is_left_as_it_is() -> None:
    for line in (b"rubbish", EVENT + b",", b'"' + EVENT, b"\xff"):
        assert form(HEADER, times_are_utc=True).lines(line) == line


FIELD = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12) | st.sampled_from(
    ["1,5", '"', ";", ",", '";"', "\ufeff"]
)


@given(st.lists(st.lists(FIELD, min_size=9, max_size=9), max_size=8), st.sampled_from(";\t"), st.booleans())
@settings(deadline=None)
def test_what_a_csv_writer_writes_keeps_its_values(
    rows: list[list[str]], separator: str, has_index: bool
) -> None:
    written = io.StringIO()
    writer = csv.writer(written, delimiter=separator, lineterminator="\n")
    index = [""] if has_index else []
    # A byte order mark before a line belongs to no value, and a comma in a price is a decimal one.
    rows = [["time" + row[0], *row[1:6], "7", *row[7:]] for row in rows]
    writer.writerows([[*index, *COLUMN_NAMES], *([*index, *row] for row in rows)])
    first_line, _, rest = written.getvalue().encode().partition(b"\n")
    parsed = parse_block(Block(form(first_line).lines(rest), 0), COLUMN_NAMES)
    assert [list(row.values()) for row in parsed.rows.to_pylist()] == rows


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b";", b",", b'"', b"\xef\xbb\xbf", b"a", EVENT])).map(b"".join)
)
@settings(deadline=None)
def test_any_bytes_stay_as_many_lines_of_which_none_is_lost(data: bytes) -> None:
    plain = form(semicolons(HEADER)).lines(data)
    assert plain.count(b"\n") == data.count(b"\n")

    def lines(text: bytes) -> int:
        parsed = parse_block(Block(text, 0), COLUMN_NAMES)
        return parsed.rows.num_rows + parsed.rejected.num_rows

    assert lines(plain) == lines(data)
