from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.contract import COLUMN_NAMES, INT64_MAX, REASONS
from beam_jobs.identity import event_id
from beam_jobs.lines import Block
from beam_jobs.parse import REJECTED_SCHEMA, parse_block, parse_fields
from beam_jobs.validate import ACCEPTED_SCHEMA, Validated, validate

EVENT = b"2019-11-01 00:00:00 UTC,view,1,2,a.b,sony,3.50,4,s-1"
FIELDS = dict(zip(COLUMN_NAMES, EVENT.decode().split(","), strict=True))
LANDING_DAY = date(2019, 11, 1)


def validated(*lines: str | bytes, landing_day: date | None = LANDING_DAY) -> Validated:
    data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    return validate(parse_block(Block(data, 0), COLUMN_NAMES), landing_day)


def with_field(name: str, value: str) -> str:
    return ",".join({**FIELDS, name: value}.values())


def accepted(name: str, value: str) -> object:
    """Return what an accepted line's field is taken for."""
    result = validated(EVENT, with_field(name, value), EVENT)
    assert result.rejected.to_pylist() == []
    first, row, last = result.accepted.to_pylist()
    assert first == last
    return row[name]


def rejected(line: str) -> tuple[str, str]:
    """Validate a good line, `line` and a good line; return the reason and detail of the reject that it is."""
    result = validated(EVENT, line, EVENT)
    assert result.accepted.num_rows == 2
    assert result.offsets.tolist() == [0, len(EVENT) + 1 + len(line.encode()) + 1]
    [reject] = result.rejected.to_pylist()
    assert reject["byte_offset"] == len(EVENT) + 1
    assert reject["line_bytes"] == len(line.encode())
    assert reject["raw"] == line.encode()
    assert reject["reason"] in REASONS
    return reject["reason"], reject["detail"]


def test_an_event_is_typed_and_given_its_id_day_and_category_levels() -> None:
    [row] = validated(EVENT).accepted.to_pylist()
    when = datetime(2019, 11, 1, tzinfo=UTC)
    assert row == {
        "event_id": event_id(when, "view", 1, 2, "a.b", "sony", Decimal("3.5"), 4, "s-1"),
        "event_date": date(2019, 11, 1),
        "event_time": when,
        "event_type": "view",
        "product_id": 1,
        "category_id": 2,
        "category_code": "a.b",
        "category_level_1": "a",
        "category_level_2": "b",
        "category_level_3": None,
        "category_level_4": None,
        "brand": "sony",
        "price": Decimal("3.500000000"),
        "user_id": 4,
        "user_session": "s-1",
    }


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (
            ",".join(COLUMN_NAMES[::-1]),
            "repeated_header",
            "The column names stand here again, as if another file began.",
        ),
        (",,,,,,,,", "missing_value", "event_time is empty; every event needs one."),
        (
            with_field("brand", "b" * 257),
            "too_long",
            f"brand is '{'b' * 100}'...; expected at most 256 characters.",
        ),
        (
            with_field("event_time", "2019-11-31 00:00:00 UTC"),
            "bad_event_time",
            "event_time is '2019-11-31 00:00:00 UTC'; expected a time such as 2019-11-01 00:00:00 UTC or "
            "2019-11-01T00:00:00.5+02:00, to the microsecond.",
        ),
        (
            with_field("event_time", "2019-11-01 00:00:00"),
            "time_without_zone",
            "event_time is '2019-11-01 00:00:00'; expected a zone behind it, such as UTC, Z or +02:00; write "
            "it, or tell land_export that it is UTC.",
        ),
        (
            with_field("event_time", "05/11/2019 00:00:00 UTC"),
            "ambiguous_date",
            "event_time is '05/11/2019 00:00:00 UTC'; expected year, month and day in this order, such as "
            "2019-11-05.",
        ),
        (
            with_field("category_id", "2.05301E+18"),
            "rounded_number",
            "category_id is '2.05301E+18'; expected all digits; save ids as text or whole numbers, not in a "
            "spreadsheet and not as floats.",
        ),
        (
            with_field("event_type", " view"),
            "bad_event_type",
            "event_type is ' view'; expected one of view, cart, purchase.",
        ),
        (
            with_field("user_id", "9223372036854775808"),
            "bad_integer",
            "user_id is '9223372036854775808'; expected a whole number from 0 to 9223372036854775807.",
        ),
        (
            with_field("price", "1e3"),
            "bad_price",
            "price is '1e3'; expected a plain decimal number such as 35.79, at most 12 digits before and 9 "
            "after the point.",
        ),
        (
            with_field("price", "-0.01"),
            "negative_price",
            "price is '-0.01'; expected 0 or more, without a sign.",
        ),
        (
            with_field("category_code", "a..b"),
            "bad_category_code",
            "category_code is 'a..b'; expected 1 to 4 levels joined by single dots.",
        ),
        (
            with_field("event_time", "2019-10-24 23:59:59 UTC"),
            "too_late",
            "event_time is '2019-10-24 23:59:59 UTC'; expected a day at most 7 days before the landing day "
            "2019-11-01.",
        ),
        (
            with_field("event_time", "2019-11-02 00:00:00 UTC"),
            "after_landing_day",
            "event_time is '2019-11-02 00:00:00 UTC'; expected a day up to the landing day 2019-11-01.",
        ),
    ],
    ids=lambda value: value if value in REASONS else "",
)
def test_a_line_that_earns_a_reason_is_rejected_with_it(line: str, reason: str, detail: str) -> None:
    assert rejected(line) == (reason, detail)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *((name, "", "missing_value") for name in ("event_time", "event_type", "product_id", "category_id")),
        *((name, "", "missing_value") for name in ("price", "user_id")),
        ("category_code", "a" * 257, "too_long"),
        ("category_code", "." * 257, "too_long"),
        ("user_session", "é" * 129, "too_long"),
        ("event_time", "2019-11-01 00:00:00 utc", "bad_event_time"),
        ("event_time", " 019-11-01 00:00:00 UTC", "bad_event_time"),
        ("event_time", "+019-11-01 00:00:00 UTC", "bad_event_time"),
        ("event_time", "0000-11-01 00:00:00 UTC", "bad_event_time"),
        ("event_time", "2019-00-01 00:00:00 UTC", "bad_event_time"),
        ("event_time", "2019-13-01 00:00:00 UTC", "bad_event_time"),
        ("event_time", "2019-11-00 00:00:00 UTC", "bad_event_time"),
        ("event_time", "2019-02-29 00:00:00 UTC", "bad_event_time"),
        ("event_time", "1900-02-29 00:00:00 UTC", "bad_event_time"),
        ("event_time", "2020-02-30 00:00:00 UTC", "bad_event_time"),
        ("event_time", "2019-11-01 24:00:00 UTC", "bad_event_time"),
        ("event_time", "2019-11-01 00:60:00 UTC", "bad_event_time"),
        ("event_time", "2016-12-31 23:59:60 UTC", "bad_event_time"),
        ("event_time", "\uff12019-11-01 00:00:00U", "bad_event_time"),
        ("event_time", "1572566400", "bad_event_time"),
        ("event_type", "VIEW", "bad_event_type"),
        ("event_type", "remove_from_cart", "bad_event_type"),
        ("product_id", "-1", "bad_integer"),
        ("product_id", "+1", "bad_integer"),
        ("product_id", "0x1f", "bad_integer"),
        ("product_id", "1.5", "bad_integer"),
        ("product_id", "1_0", "bad_integer"),
        ("product_id", " 1", "bad_integer"),
        ("product_id", "\u0661", "bad_integer"),
        ("category_id", "99999999999999999999", "bad_integer"),
        ("category_id", "0" * 19 + "1", "bad_integer"),
        ("price", ".5", "bad_price"),
        ("price", "5.", "bad_price"),
        ("price", "+5", "bad_price"),
        ("price", "1 000", "bad_price"),
        ("price", "1.000.000", "bad_price"),
        ("price", "inf", "bad_price"),
        ("price", "nan", "bad_price"),
        ("price", "0x1f", "bad_price"),
        ("price", "1" * 13, "bad_price"),
        ("price", "0.0000000001", "bad_price"),
        ("price", "-.5", "bad_price"),
        ("price", "-inf", "bad_price"),
        ("price", "-0", "negative_price"),
        ("price", "-0.00", "negative_price"),
        ("category_code", ".", "bad_category_code"),
        ("category_code", "a.", "bad_category_code"),
        ("category_code", ".a", "bad_category_code"),
        ("category_code", "a.b.c.d.e", "bad_category_code"),
    ],
)
def test_a_field_that_breaks_the_contract_rejects_its_line(name: str, value: str, reason: str) -> None:
    assert rejected(with_field(name, value))[0] == reason


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("event_time", "0001-01-01 00:00:00 UTC", datetime(1, 1, 1, tzinfo=UTC)),
        ("event_time", "9999-12-31 23:59:59 UTC", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("event_time", "2020-02-29 12:34:56 UTC", datetime(2020, 2, 29, 12, 34, 56, tzinfo=UTC)),
        ("event_time", "1969-12-31 23:59:59 UTC", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_any_time_of_the_calendar_is_taken_in_a_stream(name: str, value: str, expected: datetime) -> None:
    [row] = validated(with_field(name, value), landing_day=None).accepted.to_pylist()
    assert (row["event_time"], row["event_date"]) == (expected, expected.date())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("event_type", "purchase", "purchase"),
        ("product_id", "0", 0),
        ("product_id", "0000000000000000007", 7),
        ("user_id", str(INT64_MAX), INT64_MAX),
        ("price", "0", 0),
        ("price", "0.00", 0),
        ("price", "100", 100),
        ("price", "007.50", Decimal("7.5")),
        ("price", "0.000000001", Decimal("0.000000001")),
        ("price", "9" * 12 + "." + "9" * 9, Decimal("9" * 12 + "." + "9" * 9)),
        ("brand", "", None),
        ("brand", "nan", "nan"),
        ("brand", " ", None),
        ("brand", " " * 300 + "é" * 256, "é" * 256),
        ("brand", "é" * 256, "é" * 256),
        ("user_session", "", None),
        ("category_code", "", None),
        ("category_code", "a.b.c.d", "a.b.c.d"),
        ("category_code", "a .b c", "a .b c"),
    ],
)
def test_a_field_within_the_contract_is_taken_as_it_is(name: str, value: str, expected: object) -> None:
    assert accepted(name, value) == expected


def test_an_event_may_be_seven_days_late() -> None:
    assert accepted("event_time", "2019-10-25 00:00:00 UTC") == datetime(2019, 10, 25, tzinfo=UTC)


def test_of_several_reasons_the_contracts_first_is_given() -> None:
    bad = {**FIELDS, "event_time": "x", "event_type": "", "brand": "b" * 300, "price": "-1", "user_id": "x"}
    good = {
        "event_type": "view",
        "brand": "",
        "event_time": FIELDS["event_time"],
        "user_id": "1",
        "price": "1",
    }
    reasons = []
    for name, value in good.items():
        reasons.append(rejected(",".join(bad.values()))[0])
        bad[name] = value
    assert reasons == ["missing_value", "too_long", "bad_event_time", "bad_integer", "negative_price"]


def test_the_ids_of_accepted_rows_do_not_depend_on_rejected_neighbours() -> None:
    lines = [with_field("user_id", str(user)) for user in range(9)]
    alone = [validated(line).accepted["event_id"][0].as_py() for line in lines]
    mixed = validated(*(line for good in lines for line in ("bad", with_field("price", "x"), good)))
    assert mixed.accepted["event_id"].to_pylist() == alone
    assert mixed.rejected.num_rows == 18


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("price", ["3.5", "003.500000000", "3.5000000000000"]),
        ("user_id", ["004", "4.0"]),
        ("event_time", ["2019-11-01T00:00:00.000Z", "2019-11-01 02:00:00+02:00"]),
        ("brand", ["Sony", "SONY", " sony", "sony\u00a0"]),
        ("category_code", ["A.B", " a.b "]),
        ("user_session", [" s-1 "]),
    ],
)
def test_equal_values_written_differently_are_the_same_event(name: str, values: list[str]) -> None:
    found = validated(EVENT, *(with_field(name, value) for value in values)).accepted
    assert found.num_rows == 1 + len(values)
    assert found == pa.concat_tables([validated(EVENT).accepted] * (1 + len(values))).combine_chunks()


def test_a_fraction_of_a_second_makes_another_event_with_the_id_that_its_time_has() -> None:
    [row] = validated(with_field("event_time", "2019-11-01T00:00:00.250Z")).accepted.to_pylist()
    when = datetime(2019, 11, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert row["event_time"] == when
    assert row["event_id"] == event_id(when, "view", 1, 2, "a.b", "sony", Decimal("3.5"), 4, "s-1")


def test_the_day_of_a_time_with_an_offset_is_that_of_utc() -> None:
    [row] = validated(with_field("event_time", "2019-11-02T00:30:00+01:00")).accepted.to_pylist()
    assert row["event_date"] == LANDING_DAY


def test_sessions_and_brands_of_words_that_mean_nothing_are_null() -> None:
    words = ["NULL", "null", "None", r"\N", " ", ""]
    lines = [with_field(name, word) for name in ("user_session", "brand", "category_code") for word in words]
    found = validated(*lines).accepted
    for number, name in enumerate(("user_session", "brand", "category_code")):
        ids = found["event_id"].to_pylist()[number * len(words) : (number + 1) * len(words)]
        assert len(set(ids)) == 1
        assert found[name].to_pylist()[number * len(words)] is None
        assert found[name].null_count == len(words)


def test_no_lines_make_empty_tables() -> None:
    result = validated()
    assert result.accepted.schema == ACCEPTED_SCHEMA
    assert result.rejected.schema == REJECTED_SCHEMA
    assert (result.accepted.num_rows, result.rejected.num_rows) == (0, 0)


def test_a_block_of_bad_lines_alone_is_rejected_whole() -> None:
    result = validated(*["a,b"] * 3, *[",,,,,,,,"] * 25_000)
    assert result.accepted.num_rows == 0
    assert result.rejected["reason"].to_pylist() == ["wrong_column_count"] * 3 + ["missing_value"] * 25_000


def test_a_message_gets_the_id_that_its_line_gets() -> None:
    streamed = validate(parse_fields([{**FIELDS}], [b"{}"]), None)
    assert streamed.accepted.equals(validated(EVENT).accepted)


def test_a_message_gets_the_reason_that_its_line_gets() -> None:
    streamed = validate(parse_fields([{**FIELDS, "price": "-1", "brand": None}], [b"{}"]), None)
    assert streamed.rejected.select(["raw", "reason"]).to_pylist() == [
        {"raw": b"{}", "reason": "negative_price"}
    ]


PRINTABLE = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=',"'), min_size=1, max_size=20
).filter(lambda text: text == text.strip().lower() and text not in ("null", "none", r"\n", "nan"))
EVENTS = st.fixed_dictionaries(
    {
        "event_time": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001
            lambda time: time.replace(tzinfo=UTC)
        ),
        "event_type": st.sampled_from(["view", "cart", "purchase"]),
        "product_id": st.integers(0, INT64_MAX),
        "category_id": st.integers(0, INT64_MAX),
        "category_code": st.none()
        | st.lists(st.text("abc_é", min_size=1), min_size=1, max_size=4).map(".".join),
        "brand": st.none() | PRINTABLE,
        "price": st.decimals(0, 10**11, places=9) | st.integers(0, 10**11).map(Decimal),
        "user_id": st.integers(0, INT64_MAX),
        "user_session": st.none() | PRINTABLE,
    }
)


@given(st.lists(EVENTS, max_size=20))
@settings(deadline=None)
def test_valid_events_are_read_back_with_their_values_and_ids(events: list[dict]) -> None:
    lines = []
    for event in events:
        time = event["event_time"].replace(tzinfo=None).isoformat(" ") + " UTC"
        texts = {**event, "event_time": time, "price": f"{event['price']:f}"}
        lines.append(",".join("" if texts[name] is None else str(texts[name]) for name in COLUMN_NAMES))
    result = validated(*lines, landing_day=None)
    assert result.rejected.to_pylist() == []
    assert result.accepted.select(COLUMN_NAMES).to_pylist() == events
    assert result.accepted["event_id"].to_pylist() == [event_id(**event) for event in events]


FIELD_TEXTS = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1",
        "view",
        "a.b",
        "2019-11-01 00:00:00 UTC",
        "2019-99-99 00:00:00 UTC",
        "9" * 19,
        "é" * 12,
    ]
) | st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=',"'))


@given(
    st.lists(st.lists(FIELD_TEXTS, min_size=9, max_size=9), max_size=10), st.sampled_from([LANDING_DAY, None])
)
@settings(deadline=None)
def test_arbitrary_text_never_raises_and_every_row_is_accepted_or_rejected(
    rows: list[list[str]], landing_day: date | None
) -> None:
    result = validated(*(",".join(row) for row in rows), landing_day=landing_day)
    assert result.accepted.num_rows + result.rejected.num_rows == len(rows)
    assert len(result.offsets) == len(result.lengths) == result.accepted.num_rows
    result.accepted.validate(full=True)
