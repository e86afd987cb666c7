"""Messages to events and rejects: one event in any form is the same event, and no message is a danger."""

from __future__ import annotations

import csv
import io
import itertools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.contract import (
    CATEGORY_LEVELS,
    COLUMN_NAMES,
    EVENT_TYPES,
    INT64_MAX,
    MAX_LINE_BYTES,
    REASONS,
)
from beam_jobs.identity import event_id
from beam_jobs.lines import Block
from beam_jobs.messages import STREAM_SCHEMA, Judged, Message, judge
from beam_jobs.parse import parse_block
from beam_jobs.validate import ACCEPTED_SCHEMA, validate
from tests.beam_jobs.samples import FIELDS, LINE, POISON, as_json

PUBLISHED = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def of(*data: bytes) -> list[Message]:
    return [Message(one, f"m{number}", PUBLISHED, {}) for number, one in enumerate(data)]


def as_csv(fields: dict[str, str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([fields[name] for name in COLUMN_NAMES])
    return text.getvalue().encode()


def accepted(data: bytes) -> dict[str, Any]:
    """The event that a message is, without what Pub/Sub told of it."""
    judged = judge(of(data))
    assert judged.rejects == []
    [row] = judged.events.select(ACCEPTED_SCHEMA.names).to_pylist()
    return row


def rejected(data: bytes) -> tuple[str, str]:
    """The reason and detail for which a message is rejected."""
    judged = judge(of(data))
    assert len(judged.events) == 0
    [reject] = judged.rejects
    assert reject.message.data is data
    assert reject.reason in REASONS
    return reject.reason, reject.detail


def verdicts(judged: Judged) -> dict[str | None, object]:
    """What became of each message, by its id; each once."""
    found: dict[str | None, object] = {}
    rows = judged.events.to_pylist()
    assert len(rows) == len(judged.messages)
    for row, message in zip(rows, judged.messages, strict=True):
        assert row["message_id"] == message.message_id
        assert message.message_id not in found
        found[message.message_id] = row
    for reject in judged.rejects:
        assert reject.message.message_id not in found
        found[reject.message.message_id] = (reject.reason, reject.detail)
    return found


def test_an_event_keeps_what_pubsub_told_of_its_message() -> None:
    judged = judge([Message(LINE, "17", PUBLISHED, {"a": "b"})])

    assert judged.events.schema == STREAM_SCHEMA
    [row] = judged.events.to_pylist()
    assert (row["message_id"], row["publish_time"]) == ("17", PUBLISHED)
    assert judged.messages[0].attributes == {"a": "b"}


def test_a_batch_of_nothing_is_nothing() -> None:
    judged = judge([])
    assert (len(judged.events), judged.messages, judged.rejects) == (0, [], [])


@pytest.mark.parametrize(
    "data",
    [
        LINE + b"\n",
        LINE + b"\r\n",
        LINE + b"\r",
        b"\xef\xbb\xbf" + LINE,
        ",".join(f'"{value}"' for value in FIELDS.values()).encode(),
        as_json(),
        as_json() + b"\r\n",
        b" \n\t" + as_json(),
        b"\xef\xbb\xbf" + as_json(),
        json.dumps(FIELDS, indent=2).encode(),
        json.dumps(dict(reversed(FIELDS.items()))).encode(),
        as_json(product_id=1, category_id=2, user_id=4, price=3.5),
    ],
    ids=[
        "newline",
        "CRLF",
        "CR",
        "byte order mark",
        "quoted",
        "JSON",
        "JSON, CRLF",
        "JSON after white space",
        "JSON after a byte order mark",
        "JSON on lines",
        "JSON in another order",
        "JSON with numbers",
    ],
)
def test_an_event_may_be_written_in_several_ways(data: bytes) -> None:
    assert accepted(data) == accepted(LINE)


@pytest.mark.parametrize("marks", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"])
def test_byte_order_marks_before_a_message_belong_to_no_value(marks: bytes) -> None:
    for data in (LINE, as_json()):
        assert accepted(marks + data) == accepted(data)
        assert len(judge(of(data, marks + data, data)).events) == 3


@pytest.mark.parametrize("price", ["35.70", "35.7", "0.1", "100", "0", "0.000000001", "9" * 12])
def test_a_price_as_a_json_number_keeps_each_of_its_digits(price: str) -> None:
    as_number = as_json(price=0).replace(b'"price": 0', b'"price": ' + price.encode())

    assert accepted(as_number)["price"] == Decimal(price)
    assert accepted(as_number) == accepted(as_csv(FIELDS | {"price": price}))


def test_the_largest_id_is_exact_as_a_json_number() -> None:
    assert accepted(as_json(user_id=INT64_MAX))["user_id"] == INT64_MAX


@pytest.mark.parametrize("empty", [None, ""])
def test_null_empty_text_and_a_missing_field_are_alike(empty: str | None) -> None:
    without = {name: value for name, value in FIELDS.items() if name != "brand"}
    assert accepted(json.dumps(without).encode()) == accepted(as_json(brand=empty))
    assert accepted(as_json(brand=empty))["brand"] is None
    assert rejected(as_json(user_id=empty)) == ("missing_value", "user_id is empty; every event needs one.")


@pytest.mark.parametrize("name", POISON)
def test_a_message_that_is_no_event_is_rejected_with_its_reason(name: str) -> None:
    data, reason, told = POISON[name]
    found, detail = rejected(data)
    assert found == reason
    assert told in detail
    assert len(detail) < 2000
    detail.encode()


def test_a_line_of_just_the_allowed_length_is_no_overlong_message() -> None:
    long = LINE + b"x" * (MAX_LINE_BYTES - len(LINE))
    assert rejected(long + b"\n")[0] == "too_long"
    assert rejected(long + b"x\n")[0] == "line_too_long"


def test_good_messages_are_accepted_beside_all_poison() -> None:
    data = [data for data, _, _ in POISON.values()]
    judged = judge(of(LINE, *data, as_json(), *reversed(data), LINE))

    assert [message.data for message in judged.messages] == [LINE, LINE, as_json()]
    assert len(judged.rejects) == 2 * len(POISON)
    assert len(verdicts(judged)) == 3 + 2 * len(POISON)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=20)
CODES = st.lists(st.text("abc_", max_size=4), max_size=6).map(".".join)
DIGITS = st.from_regex(r"\A-?[0-9]{1,20}\Z")
EVENTS = st.fixed_dictionaries(
    {
        "event_time": st.one_of(
            st.datetimes().map(lambda when: f"{when.replace(microsecond=0).isoformat(' ')} UTC"),
            st.sampled_from(["2019-11-01", "2019-02-30 00:00:00 UTC", ""]),
        ),
        "event_type": st.sampled_from(["view", "cart", "purchase", "click", ""]),
        "product_id": DIGITS,
        "category_id": DIGITS,
        "category_code": CODES | TEXT,
        "brand": TEXT,
        "price": st.from_regex(r"\A-?[0-9]{1,30}(\.[0-9]{1,10})?\Z") | TEXT,
        "user_id": DIGITS,
        "user_session": TEXT,
    }
)


@given(EVENTS, st.data())
def test_an_event_is_the_same_as_json_as_csv_and_in_a_landed_file(
    fields: dict[str, str], data: st.DataObject
) -> None:
    line = as_csv(fields)
    in_file = validate(parse_block(Block(LINE + b"\n" + line + b"\n", 0), COLUMN_NAMES), None)
    as_line = judge(of(line))
    as_object = judge(of(json.dumps(fields, ensure_ascii=data.draw(st.booleans())).encode()))

    assert as_line.events.select(ACCEPTED_SCHEMA.names) == in_file.accepted[1:]
    assert as_object.events == as_line.events
    in_file_reasons = in_file.rejected["reason"].to_pylist()
    assert [reject.reason for reject in as_line.rejects] == in_file_reasons
    assert [reject.reason for reject in as_object.rejects] == in_file_reasons


def texts(max_chars: int) -> st.SearchStrategy[str]:
    """Texts of the contract, empty ones too: any characters but control characters, with many quotes."""
    characters = st.characters(exclude_categories=["Cc", "Cs"])
    return st.text(characters | st.sampled_from("\"',{ "), max_size=max_chars).filter(is_plain)


def is_plain(text: str) -> bool:
    return text == text.strip().lower() and text not in ("null", "none", r"\n", "nan")


LEVELS = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="."), min_size=1, max_size=9
).filter(is_plain)
IDS = st.integers(0, INT64_MAX).flatmap(
    lambda number: st.integers(len(str(number)), 19).map(lambda width: f"{number:0{width}d}")
)
PRICES = st.from_regex(r"\A0{0,3}(0|[1-9][0-9]{0,8})(\.[0-9]{0,5}0{1,4})?\Z")
VALID_EVENTS = st.fixed_dictionaries(
    {
        "event_time": st.datetimes().map(
            lambda when: f"{when.isoformat(' ')} UTC",
        ),
        "event_type": st.sampled_from(EVENT_TYPES),
        "product_id": IDS,
        "category_id": IDS,
        "category_code": st.lists(LEVELS, max_size=CATEGORY_LEVELS).map(".".join),
        "brand": texts(20),
        "price": PRICES,
        "user_id": IDS,
        "user_session": texts(20),
    }
)


@given(VALID_EVENTS, st.sampled_from(["", None, "missing"]))
def test_an_event_is_accepted_in_both_forms_with_the_id_that_the_batch_gives_it(
    fields: dict[str, str], empty: str | None
) -> None:
    line = as_csv(fields)
    content = {name: text or empty for name, text in fields.items()}
    if empty == "missing":
        content = {name: text for name, text in fields.items() if text}
    in_file = validate(parse_block(Block(line + b"\n", 0), COLUMN_NAMES), None)
    assert in_file.rejected.to_pylist() == []
    [batch] = in_file.accepted.to_pylist()

    assert accepted(line) == batch
    assert accepted(json.dumps(content).encode()) == batch

    assert batch["event_id"] == event_id(
        datetime.fromisoformat(fields["event_time"].replace(" UTC", "+00:00")),
        fields["event_type"],
        int(fields["product_id"]),
        int(fields["category_id"]),
        fields["category_code"] or None,
        fields["brand"] or None,
        Decimal(fields["price"]),
        int(fields["user_id"]),
        fields["user_session"] or None,
    )


@given(
    st.integers(0, INT64_MAX),
    st.decimals(0, 10**11, places=4, allow_nan=False) | st.integers(0, 10**11).map(Decimal),
)
def test_numbers_give_the_same_event_as_their_text(number: int, price: Decimal) -> None:
    as_text = FIELDS | {"user_id": str(number), "price": f"{price:f}"}
    template = json.dumps(as_text | {"user_id": 0, "price": 0})
    as_numbers = template.replace('"user_id": 0', f'"user_id": {number}').replace(
        '"price": 0', f'"price": {price:f}'
    )

    assert accepted(as_numbers.encode()) == accepted(as_csv(as_text))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)
ANY_DATA = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=100).map(lambda tail: b"{" + tail),
    st.text(st.characters()).map(lambda text: text.encode("utf-8", "surrogatepass")),
    EVENTS.map(as_csv),
    EVENTS.map(lambda fields: json.dumps(fields).encode()),
    st.dictionaries(st.sampled_from(COLUMN_NAMES) | st.text(), JSON_VALUES).map(
        lambda content: json.dumps(content).encode()
    ),
    st.tuples(st.integers(0, len(LINE)), st.binary(max_size=5)).map(
        lambda cut: LINE[: cut[0]] + cut[1] + LINE[cut[0] :]
    ),
)


@given(st.lists(ANY_DATA, max_size=6))
def test_each_message_ends_as_one_event_or_one_reject_whatever_comes_with_it(data: list[bytes]) -> None:
    messages = of(*data)

    together = verdicts(judge(messages))

    alone: dict[str | None, object] = {}
    for message in messages:
        alone |= verdicts(judge([message]))
    assert together == alone
    assert set(together) == {message.message_id for message in messages}
    for reject in judge(messages).rejects:
        assert reject.reason in REASONS
        reject.detail.encode()


def cpu_seconds(data: list[bytes]) -> float:
    """The least CPU of five judgements of a batch."""
    messages = of(*data)
    taken = []
    for _ in range(5):
        start = time.process_time()
        judge(messages)
        taken.append(time.process_time() - start)
    return min(taken)


LONG: dict[str, Callable[[int], bytes]] = {
    "spaces in an object": lambda size: b"{" + b" " * size + b"}",
    "newlines before no name": lambda size: b'{"user_id":1,' + b"\n" * size + b"x",
    "spaces and no end": lambda size: b'{"user_id":1' + b" " * size,
    "tabs before no colon": lambda size: b'{"user_id"' + b"\t" * size + b"x",
    "minus signs": lambda size: b'{"user_id":' + b"-" * size + b"}",
    "digits": lambda size: b'{"user_id":' + b"1" * size + b"}",
    "text without an end": lambda size: b'{"brand":"' + b"x" * size,
    "backslashes": lambda size: b'{"brand":"' + b"\\" * size + b'"}',
    "objects": lambda size: b'{"a":' * (size // 5),
    "a field again and again": lambda size: b'{"price":1' + b',"price":1' * (size // 10) + b"}",
    "a line of digits": lambda size: b"1" * size,
    "commas": lambda size: b"1" + b"," * size,
    "quotes": lambda size: b'1,"' + b'"' * size,
    "byte order marks": lambda size: b"\xef\xbb\xbf" * (size // 3),
    "lines": lambda size: b"1\n" * (size // 2),
    "levels": lambda size: LINE.replace(b"a.b", b"." * size),
    "spaces in a field": lambda size: LINE.replace(b"sony", b" " * size + b"x"),
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_message_takes_no_more_cpu_than_as_many_bytes_in_short_ones(name: str) -> None:
    """Where the time grows with the square of the length, it is sixteen times as much."""
    size = MAX_LINE_BYTES - 100
    assert cpu_seconds([LONG[name](size)]) < 5 * cpu_seconds([LONG[name](size // 16)] * 16)


def test_objects_that_are_written_in_many_ways_take_hardly_more_cpu_than_ones_that_are_alike() -> None:
    """Where each way is remembered, it is five to fifty times as much."""
    orders = list(itertools.islice(itertools.permutations(FIELDS), 0, 40_000, 80))
    alike = cpu_seconds([as_json()] * len(orders))
    varied = [json.dumps({name: FIELDS[name] for name in order}).encode() for order in orders]
    optional = ("category_code", "brand")
    omitting = [
        json.dumps({name: FIELDS[name] for name in FIELDS if name not in optional[: number % 3]}).encode()
        for number in range(len(orders))
    ]
    padded = [b"{" + b" " * number + as_json()[1:] for number in range(len(orders))]
    for texts in (varied, omitting, padded):
        assert len(judge(of(*texts)).events) == len(orders)
        assert cpu_seconds(texts) < 2.5 * alike


def test_messages_without_id_or_publish_time_are_events_too() -> None:
    events = judge([Message(LINE), Message(as_json())]).events
    assert (
        events.select(["publish_time", "message_id"]).to_pylist()
        == [{"publish_time": None, "message_id": None}] * 2
    )
    assert pa.Table.equals(events.slice(0, 1), events.slice(1, 1))
