"""JSON objects to fields: how an object is written makes no difference to what is read of it."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam_jobs.contract import COLUMN_NAMES
from beam_jobs.objects import JSON_SPACE, BadMessage, fields_of_object, fields_of_objects
from tests.beam_jobs.samples import FIELDS, POISON, as_json

TEXTS = (
    st.none() | st.text(max_size=8) | st.sampled_from(["view", "null", "é", "\\", '"', "a,b", "{}", "\x7f"])
)
VALUES = TEXTS | st.integers() | st.floats() | st.booleans() | st.lists(st.none(), max_size=1)
NAMES = st.sampled_from(COLUMN_NAMES)
ANY_NAMES = NAMES | st.text("abc_", max_size=3)
STYLES = st.fixed_dictionaries(
    {
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,", "\t:"), ("\n" * 99 + ",", ":\r")]),
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 2]),
    }
)
OBJECTS = st.builds(
    lambda fields, style: json.dumps(dict(fields), **style).encode("utf-8", "surrogatepass"),
    st.lists(st.tuples(ANY_NAMES, VALUES), max_size=9),
    STYLES,
)
PUT = st.binary(max_size=2) | st.sampled_from(
    [b"}", b'"', b",", b"null", b"01", b"1.", b"\xff", b"\xed\xa0\x80"]
)
DAMAGED = st.builds(
    lambda text, start, length, put: (
        text[: start % (len(text) + 1)] + put + text[start % (len(text) + 1) + length :]
    ),
    OBJECTS,
    st.integers(0, 300),
    st.integers(0, 3),
    PUT,
)


@given(st.dictionaries(NAMES, st.none() | st.text(max_size=8)), STYLES)
def test_the_same_fields_are_read_however_an_object_is_written(
    fields: dict[str, str | None], style: dict[str, object]
) -> None:
    for names in (list(fields), sorted(fields), sorted(fields, reverse=True)):
        try:
            text = json.dumps({name: fields[name] for name in names}, **style).encode()  # type: ignore[arg-type]
        except UnicodeEncodeError:
            continue
        assert fields_of_object(text) == fields


@given(OBJECTS | DAMAGED)
@example(b'{"brand":"a"}"price":1}')
@example(b'{"brand":"a",}')
@example(b'{"brand":"\xc3"}')
@example(b'{"price":01}')
def test_what_another_reader_of_json_refuses_is_refused_and_its_texts_are_the_same(text: bytes) -> None:
    try:
        fields = fields_of_object(text)
    except BadMessage:
        return
    if "\\ud" in text.decode().lower():
        return  # The other reader refuses half a pair; here it is refused with all fields, by parse_fields.
    read = orjson.loads(text)
    assert read.keys() == fields.keys()
    for name, value in read.items():
        assert fields[name] == value if isinstance(value, str | None) else float(fields[name] or "") == value


def one_by_one(texts: list[bytes]) -> list[object]:
    found: list[object] = []
    for text in texts:
        try:
            found.append(fields_of_object(text))
        except BadMessage as bad:
            found.append((bad.reason, bad.detail))
    return found


def together(texts: list[bytes]) -> list[object]:
    found = fields_of_objects(texts)
    return [(one.reason, one.detail) if isinstance(one, BadMessage) else one for one in found]


GOOD = st.builds(
    lambda fields, style: json.dumps(fields, **style).encode(),
    st.dictionaries(NAMES, TEXTS | st.integers(), max_size=9),
    STYLES,
)
PIECES = st.lists(
    st.sampled_from([b"{", b"}", b"[", b"]", b",", b":", b'"brand"', b'"price"', b"1", b'"', b"\n", b" "]),
    max_size=12,
).map(lambda pieces: b"{" + b"".join(pieces))


@given(st.lists(GOOD, max_size=70) | st.lists(GOOD | OBJECTS | DAMAGED | PIECES, max_size=6))
@example([b'{"brand":"a"},{"brand":"b"}', b'{"brand":[1', b'{"brand":2}]}'])
@example([b'{"brand":"a"},{"brand":"b"}', b'{"brand":"c', b'{d"}'])
@example([b'{"brand":"a"},[["brand","b"]', b'{"brand":2}]'])
@example([b'{"brand":"a"},{"brand":"b"}'])
@example([b'{"brand":"a"},', b'{"brand":"b"}'])
@example([b'{"brand":"a"}],[{"brand":"b"}', b'{"brand":"c"}'])
@example([b'{"brand":"a","brand":"a"}', b'{"brand":"b"}'])
@example([b'{"brand":"a"}', b"{}", b'{"brand":{"price":1}}'])
@example([b'{"brand":"\xc3', b'\xa9"}'])
@example([b'{"a":' * 5000, b'{"brand":"b"}'])
def test_objects_that_are_read_together_have_the_fields_and_faults_of_each_alone(texts: list[bytes]) -> None:
    objects = [text for text in texts if text.lstrip(JSON_SPACE).startswith(b"{")]
    assert together(objects) == one_by_one(objects)


@pytest.mark.parametrize(
    "number", ["-0", "0.10", "1e5", "1E+05", "35.70", "9" * 30], ids=lambda number: number[:9]
)
def test_a_number_is_the_text_that_it_was_written_as(number: str) -> None:
    text = as_json(price=0).replace(b'"price": 0', b'"price": ' + number.encode())
    assert fields_of_object(text) == FIELDS | {"price": number}


def test_what_is_no_object_of_an_event_is_refused_with_its_reason() -> None:
    tried = 0
    for data, reason, told in POISON.values():
        if reason == "bad_json" and len(data) < 2**16:
            with pytest.raises(BadMessage) as caught:
                fields_of_object(data)
            assert (caught.value.reason, told in caught.value.detail) == (reason, True)
            tried += 1
    assert tried
