"""values: what each kind of column is, in plain form and in the other forms that programs write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.contract import COLUMNS, INT64_MAX
from beam_jobs.values import (
    integers,
    prices,
    prices_one_by_one,
    texts,
    time_texts,
    times,
    times_one_by_one,
)

PLAIN = "2019-11-01 00:00:00 UTC"
NOON = datetime(2019, 11, 1, 12, tzinfo=UTC)
BY_NAME = {column.name: column for column in COLUMNS}


def beside(plain: str, *values: str) -> pa.StringArray:
    """The values between plain ones, in an array that does not begin where its buffer does."""
    return pa.array(["x", plain, *values, plain]).slice(1)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2019-11-01T12:00:00Z", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01T12:00:00 UTC", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01 12:00:00Z", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01 12:00:00UTC", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01 12:00:00+00:00", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01 12:00:00 +0000", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01 12:00:00+00", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01T12:00:00-00:00", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01T14:00:00+02:00", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01T01:30:00+0530", "2019-10-31 20:00:00 UTC"),
        ("2019-12-31T22:00:00-02:00", "2020-01-01 00:00:00 UTC"),
        ("2019-11-02T02:00:00+14:00", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01T00:00:00-12:00", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01T12:00:00.000Z", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01T12:00:00.000000000Z", "2019-11-01 12:00:00 UTC"),
        ("2019-11-01 12:00:00.5 UTC", "2019-11-01 12:00:00.5 UTC"),
        ("2019-11-01T12:00:00.500000Z", "2019-11-01 12:00:00.5 UTC"),
        ("2019-11-01T12:00:00.000001000+00:00", "2019-11-01 12:00:00.000001 UTC"),
        ("0001-01-01T14:00:00+14:00", "0001-01-01 00:00:00 UTC"),
        ("9999-12-31 23:59:59.999999 UTC", "9999-12-31 23:59:59.999999 UTC"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31 23:59:59.999999 UTC"),
    ],
)
def test_a_time_in_another_form_is_the_time_of_the_plain_form(text: str, canonical: str) -> None:
    found = times(beside(PLAIN, text))
    assert found.bad.tolist() == [False] * 3
    assert found.text.to_pylist() == [PLAIN, canonical, PLAIN]
    expected = datetime.fromisoformat(canonical.removesuffix(" UTC")).replace(tzinfo=UTC)
    assert found.micros[1] == (expected - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    ["2019-11-01 12:00:00", "2019-11-01T12:00:00", "2019-11-01T12:00:00.000", "2019-11-01 12:00:00.123456"],
)
def test_a_time_without_a_zone_is_bad_and_known_as_such(text: str) -> None:
    found = times(beside(PLAIN, text))
    assert (found.bad.tolist(), found.without_zone.tolist()) == ([False, True, False],) * 2
    assert found.micros[1] == 0


@pytest.mark.parametrize(
    "text",
    [
        "2019-11-01T12:00:00.0000001Z",
        "2019-11-01T12:00:00.Z",
        "2019-11-01T12:00:00,5Z",
        "2019-11-01T12:00Z",
        "2019-11-01T24:00:00Z",
        "2019-02-29T12:00:00Z",
        "2016-12-31T23:59:60Z",
        "2019-11-01t12:00:00z",
        "2019-11-01 12:00:00 utc",
        "2019-11-01 12:00:00 CET",
        "2019-11-01 12:00:00  UTC",
        "2019-11-01T12:00:00+14:01",
        "2019-11-01T12:00:00-12:01",
        "2019-11-01T12:00:00+01:60",
        "2019-11-01T12:00:00+1:00",
        "2019-11-01T12:00:00Z+01:00",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "20191101T120000Z",
        "2019/11/01 12:00:00 UTC",
        "2019.11.01",
        "1.11",
        "01/11",
        "192.168.2019.1",
        "2019-11-01",
        "1572566400",
        "43770.5",
        "",
        " ",
    ],
)
def test_a_time_that_leaves_a_doubt_is_bad(text: str) -> None:
    found = times(beside(PLAIN, text))
    assert found.bad.tolist() == [False, True, False]
    assert not (found.without_zone | found.ambiguous).any()


@pytest.mark.parametrize(
    "text",
    [
        "01/11/2019 12:00:00 UTC",
        "11/30/19",
        "01.11.2019 12:00:00",
        "1-11-2019T12:00:00Z",
        "5.3.19 12:00",
        "31/01/2019, 12:00",
        "13/11/2019 00:00:00",
    ],
)
def test_a_date_that_begins_with_day_and_month_is_bad_and_known_as_such(text: str) -> None:
    found = times(beside(PLAIN, text))
    assert (found.bad.tolist(), found.ambiguous.tolist()) == ([False, True, False],) * 2
    assert not found.without_zone.any()


ZONES = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.lists(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES), max_size=20))  # noqa: DTZ001
@settings(deadline=None)
def test_what_python_writes_of_a_time_is_read_as_that_time(moments: list[datetime]) -> None:
    found = times(pa.array([moment.isoformat() for moment in moments], pa.string()))
    assert not found.bad.any()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert found.micros.tolist() == [(moment - epoch) // timedelta(microseconds=1) for moment in moments]
    again = times(found.text)
    assert again.micros.tolist() == found.micros.tolist()
    assert again.text == found.text == time_texts(found.micros)


@given(
    st.sampled_from("T "),
    st.lists(
        st.datetimes().map(lambda when: when.replace(microsecond=0).isoformat("T"))
        | st.sampled_from(
            ["2019-02-29T00:00:00", "2019-11-01T24:00:00", "0000-01-01T00:00:00", "2019-11-01T00:00:60"]
        ),
        min_size=1,
    ),
)
def test_times_all_of_one_other_form_are_read_as_each_is_beside_further_forms(
    between: str, written: list[str]
) -> None:
    texts = [f"{time.replace('T', between)}Z" for time in written]

    alone = times_one_by_one(pa.array(texts))
    beside = times_one_by_one(pa.array([*texts, "2019-11-01T14:00:00+02:00"]))

    assert alone.bad.tolist() == beside.bad[:-1].tolist()
    assert alone.micros.tolist() == beside.micros[:-1].tolist()
    assert alone.text.to_pylist() == beside.text[:-1].to_pylist()
    assert not beside.bad[-1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1003461.0", 1003461),
        ("0.0", 0),
        ("7.000000", 7),
        ("007.0", 7),
        ("9007199254740992.0", 2**53),
        ("0000000000000000007", 7),
        (str(INT64_MAX), INT64_MAX),
    ],
)
def test_a_whole_number_may_be_written_as_a_float_that_holds_it(text: str, value: int) -> None:
    found = integers(beside("5", text))
    assert found.values.to_pylist() == [5, value, 5]
    assert not found.bad.any()


@pytest.mark.parametrize(
    "text",
    [
        "2.05301E+18",
        "2,05301E+18",
        "2.0530135556318825e+18",
        "2E18",
        "1e5",
        "2053013555631882655.0",
        "9007199254740993.0",
        "9999999999999999999.0",
    ],
)
def test_a_whole_number_that_may_have_lost_digits_is_bad_and_known_as_such(text: str) -> None:
    found = integers(beside("5", text))
    assert (found.bad.tolist(), found.rounded.tolist()) == ([False, True, False],) * 2
    assert found.values.to_pylist() == [5, 0, 5]


@pytest.mark.parametrize(
    "text",
    ["1.5", "1.", ".0", "-1", "-1.0", "+1", "1,000", "1.0.0", "0x1f", "e5", "1_0", " 1", "\u0661", "nan"],
)
def test_what_is_no_whole_number_is_bad(text: str) -> None:
    found = integers(beside("5", text))
    assert (found.bad.tolist(), found.rounded.tolist()) == ([False, True, False], [False] * 3)


def test_numbers_above_the_largest_are_bad_beside_other_forms() -> None:
    found = integers(pa.array(["9223372036854775808", "3.0", "4", "9" * 19]))
    assert found.values.to_pylist() == [0, 3, 4, 0]
    assert found.bad.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "price", "canonical"),
    [
        ("35.790000000000", "35.79", "35.79"),
        ("0.0000000010", "0.000000001", "0.000000001"),
        ("100.00000000000000", "100", "100"),
        ("000.50", "0.5", "0.5"),
    ],
)
def test_zeros_past_the_contracts_digits_change_no_price(text: str, price: str, canonical: str) -> None:
    found = prices(beside("1.50", text))
    assert found.distinct.take(found.which).to_pylist() == [Decimal("1.5"), Decimal(price), Decimal("1.5")]
    assert found.texts.take(found.which).to_pylist() == ["1.5", canonical, "1.5"]
    assert not found.bad.any()


@pytest.mark.parametrize(
    ("text", "negative"),
    [
        ("35.790000000000006", False),
        ("1e-05", False),
        ("1E3", False),
        ("1,5", False),
        ("1234567890123.0000000000", False),
        ("inf", False),
        ("-1.5", True),
        ("-0.0000000000", True),
    ],
)
def test_a_price_that_the_contract_cannot_hold_is_bad(text: str, negative: bool) -> None:
    found = prices(beside("1.50", text))
    assert (found.bad.tolist(), found.negative.tolist()) == ([False, True, False], [False, negative, False])
    assert found.distinct.take(found.which)[1].as_py() == 0


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        *(
            ("brand", text, "samsung")
            for text in ("samsung", "Samsung", "SAMSUNG", " samsung", "samsung\u00a0")
        ),
        *(("brand", text, "nan") for text in ("nan", "NaN", " nan ")),
        ("brand", "ÉCLAIR", "éclair"),
        ("brand", "null & co", "null & co"),
        ("category_code", "Electronics.Smartphone ", "electronics.smartphone"),
        ("category_code", "NaN", None),
        ("user_session", " 4D3B30DA-a5e4 ", "4D3B30DA-a5e4"),
        ("user_session", "nan", None),
        *(
            (column, word, None)
            for column in ("category_code", "brand", "user_session")
            for word in ("", "  ", "\u3000", "NULL", "null", "Null", "None", r"\N", " NULL ")
        ),
    ],
)
def test_spaces_case_and_words_for_nothing_mean_what_the_column_says(
    column: str, text: str, value: str | None
) -> None:
    assert texts(pa.array([text]), BY_NAME[column]).to_pylist() == [value]


def test_no_values_are_no_values() -> None:
    none = pa.array([], pa.string())
    assert len(times(none).micros) == len(integers(none).values) == len(prices(none).which) == 0
    assert texts(none, BY_NAME["brand"]).to_pylist() == []
    assert time_texts(np.array([], np.int64)).to_pylist() == []


SEVERAL_TIMES = st.sampled_from(
    [
        PLAIN,
        "2019-11-01T00:00:00.5Z",
        "2019-11-01 00:00:00",
        "01/11/2019 00:00",
        "2019-02-30 00:00:00 UTC",
        "",
        "x",
    ]
)
SEVERAL_PRICES = st.sampled_from(["35.79", "35.790", "007", "0", "0.0", "-1", "-0", "1e5", "", "x", "1" * 13])


@given(st.lists(SEVERAL_TIMES, max_size=12), st.integers(0, 3))
def test_times_that_repeat_are_read_as_each_is_by_itself(written: list[str], skipped: int) -> None:
    text = pa.array(written, pa.string()).slice(skipped)
    found, expected = times(text), times_one_by_one(text)
    assert found.micros.tolist() == expected.micros.tolist()
    for flags in ("bad", "without_zone", "ambiguous"):
        assert getattr(found, flags).tolist() == getattr(expected, flags).tolist()
    good = pa.array(~found.bad)
    assert found.text.filter(good) == expected.text.filter(good)


@given(st.lists(SEVERAL_PRICES, max_size=12), st.integers(0, 3))
def test_prices_that_repeat_are_read_as_each_is_by_itself(written: list[str], skipped: int) -> None:
    text = pa.array(written, pa.string()).slice(skipped)
    found, expected = prices(text), prices_one_by_one(text)
    for flags in ("bad", "negative"):
        assert getattr(found, flags).tolist() == getattr(expected, flags).tolist()
    good = pa.array(~found.bad)
    for of in ("distinct", "texts"):
        values, of_each = (getattr(one, of).take(one.which) for one in (found, expected))
        assert values.filter(good) == of_each.filter(good)


@given(
    st.lists(st.sampled_from(["0", "7", "07", "00", "10", "7.0", "007.0", "x", "", str(2**63)]), max_size=8)
)
def test_the_canonical_text_of_a_whole_number_is_that_of_its_value(written: list[str]) -> None:
    found = integers(pa.array(written, pa.string()))
    good = ~found.bad
    assert found.text.filter(pa.array(good)).to_pylist() == [
        str(int(float(text))) for text, ok in zip(written, good, strict=True) if ok
    ]
