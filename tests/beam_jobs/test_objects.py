"""JSON objects to fields: what is read by the form of another object is what a reader of JSON reads."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from beam_jobs.contract import COLUMN_NAMES
from beam_jobs.objects import BadMessage, fields_of_object, plain_objects
from beam_jobs.parse import RAW_SCHEMA, parse_fields
from tests.beam_jobs.samples import FIELDS, POISON, as_json

VALUES = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.sampled_from(["2019-11-01 00:00:00 UTC", "view", "null", "é", "\\", '"', "a,b", "{}", "\x7f"]),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.lists(st.none(), max_size=1),
)
NAMES = st.sampled_from(COLUMN_NAMES) | st.text("abc_", max_size=3)
OBJECTS = st.builds(
    lambda fields, spaces, is_ascii, indent: json.dumps(
        dict(fields), separators=spaces, ensure_ascii=is_ascii, indent=indent
    ).encode("utf-8", "surrogatepass"),
    st.permutations([(name, FIELDS[name]) for name in COLUMN_NAMES]).flatmap(
        lambda whole: st.lists(st.tuples(NAMES, VALUES), max_size=4).map(lambda more: whole + more)
    )
    | st.lists(st.tuples(NAMES, VALUES), max_size=9),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,", "\t:")]),
    st.booleans(),
    st.sampled_from([None, 2]),
)
NUMBERS = st.sampled_from(
    ["-0", "00", "01", "1.", ".5", "1.50", "1e5", "1E+05", "+1", "1e", "--1", "9" * 30, "0x1", "NaN", "nul"]
)
DAMAGED = st.builds(
    lambda text, start, length, put: (
        text[: start % (len(text) + 1)] + put + text[start % (len(text) + 1) + length :]
    ),
    OBJECTS,
    st.integers(0, 300),
    st.integers(0, 3),
    st.binary(max_size=2)
    | st.sampled_from([b"}", b"{", b'"', b",", b":", b" ", b"\n", b"null", b"\xff", b"\xed\xa0\x80"]),
)
NUMBERED = st.builds(
    lambda number: as_json(price=0).replace(b'"price": 0', b'"price": ' + number.encode()), NUMBERS
)


def plainly(texts: list[bytes]) -> dict[int, list[str]]:
    """The fields of those that a reader of JSON takes, one by one, by their places."""
    found = {}
    for place, text in enumerate(texts):
        try:
            fields = fields_of_object(text)
        except BadMessage:
            continue
        found[place] = [fields.get(name) or "" for name in COLUMN_NAMES]
    return found


@given(st.lists(OBJECTS | DAMAGED | NUMBERED, max_size=8))
@example([b'{"brand":"a"}"price":1}'])
@example([b'{"brand":"a","brand":"b"}', b'{"brand":"a",}', b"{}", b'{"brand":"a"'])
@example([b'{"brand":"\xc3"}', b'{"brand":"\xa9"}'])
def test_what_is_read_by_the_form_of_another_object_is_what_a_reader_of_json_reads(
    texts: list[bytes],
) -> None:
    rows, places = plain_objects(texts)

    assert rows.schema == RAW_SCHEMA
    assert len(set(places)) == len(places)
    all_fields = plainly(texts)
    for place, row in zip(places, rows.to_pylist(), strict=True):
        assert list(row.values()) == all_fields[place]
        # Nothing that is looked for in other objects is in a plain one.
        raw = texts[place]
        fields = dict(zip(COLUMN_NAMES, all_fields[place], strict=True))
        assert parse_fields([fields], [raw]).rows.to_pylist() == [row]


def test_objects_of_one_program_are_all_plain() -> None:
    with_numbers = {**FIELDS, "product_id": 1, "price": 3.5}
    for spaces in ((",", ":"), (", ", ": ")):
        texts = [
            json.dumps(fields, separators=spaces, ensure_ascii=False).encode()
            for fields in (
                with_numbers,
                {**with_numbers, "brand": None, "price": 1e-7},
                {**with_numbers, "brand": "né", "product_id": None},
            )
        ]
        rows, places = plain_objects(texts)
        assert places == [0, 1, 2]
        assert rows["brand"].to_pylist() == [FIELDS["brand"], "", "né"]
        assert rows["price"].to_pylist() == ["3.5", "1e-07", "3.5"]


def test_objects_of_several_programs_are_plain_in_any_order() -> None:
    one, other = as_json(), json.dumps({"user_id": 7, "event_type": "cart"}).encode()
    rows, places = plain_objects([one, other, one, other, other])

    assert sorted(places) == list(range(5))
    users = dict(zip(places, rows["user_id"].to_pylist(), strict=True))
    assert [users[place] for place in range(5)] == [FIELDS["user_id"], "7", FIELDS["user_id"], "7", "7"]


def test_what_no_reader_takes_is_never_plain() -> None:
    texts = [data for data, reason, _ in POISON.values() if reason in ("bad_json", "invalid_utf8")]
    assert texts
    assert plain_objects([as_json(), *texts])[1] == [0]


def test_an_object_with_an_escape_or_a_control_character_is_not_plain_beside_one_that_is() -> None:
    odd = [json.dumps({**FIELDS, "brand": brand}).encode() for brand in ('a"b', "\\", "é", "a\tb", "\x7f")]
    raw = [
        as_json(brand="a").replace(b'"a"', b'"' + octet + b'"') for octet in (b"\x7f", b"\t", b"\n", b"\xff")
    ]
    for text in odd + raw:
        assert plain_objects([as_json(), text, as_json()])[1] == [0, 2]
