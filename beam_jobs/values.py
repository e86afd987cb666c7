"""Columns of raw text to typed values: the kinds of the contract's columns, and how each may be written.

Almost every value has the plain form that the contract names; that is looked for first, a whole column at a
time. Only what has not is tried in the other forms that programs write of the same value. Where such a form
leaves a doubt the value is bad, and the reason says so.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.contract import (
    CATEGORY_LEVELS,
    INT64_MAX,
    NUMERIC_FRACTION_DIGITS,
    NUMERIC_INTEGER_DIGITS,
    PRICE_INTEGER_DIGITS,
    Column,
)

NUMERIC = pa.decimal128(NUMERIC_INTEGER_DIGITS + NUMERIC_FRACTION_DIGITS, NUMERIC_FRACTION_DIGITS)
MICROS = 1_000_000
"""A second, in microseconds."""

_MAX_INT64_DIGITS = len(str(INT64_MAX))
_MAX_FLOAT_INTEGER = 2**53
"""Up to here a floating point number holds every whole number; above, it may be of another one."""
_MIN_TIME_MICROS, _MAX_TIME_MICROS = -62_135_596_800 * MICROS, 253_402_300_800 * MICROS - 1
_OFFSET_SECONDS = (-12 * 3600, 14 * 3600)
"""The clocks of the earth are so far from UTC."""

_TIME_TEMPLATE = np.frombuffer(b"0000-00-00 00:00:00 UTC", np.uint8)
_ISO_TEMPLATES = [np.frombuffer(b"0000-00-00%c00:00:00Z" % between, np.uint8) for between in b"T "]
_TIME_WITHOUT_ZONE = r"^(?P<day>\d{4}-\d\d-\d\d)[T ](?P<clock>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,6})0*)?"
_ZONE = r"(?: ?UTC|Z| ?(?P<sign>[+-])(?P<hours>\d\d)(?::?(?P<minutes>\d\d))?)$"
_DAY_OR_MONTH_FIRST = r"^\d{1,2}[./-]\d{1,2}[./-](?:\d\d){1,2}(?:\D|$)"
_FLOAT_INTEGER = r"^(?P<whole>\d{1,19})\.0+$"
_EXPONENT = r"^\d+(?:[.,]\d+)?[eE][+-]?\d+$"
_PLAIN_PRICE = rf"[0-9]{{1,{PRICE_INTEGER_DIGITS}}}(\.[0-9]{{1,{NUMERIC_FRACTION_DIGITS}}})?"
_LONG_PRICE = rf"^(?P<price>\d{{1,{PRICE_INTEGER_DIGITS}}}\.\d{{{NUMERIC_FRACTION_DIGITS}}})0+$"
_LEVELS = r"^(?P<level_1>[^.]+)" + "".join(
    rf"(?:\.(?P<level_{level}>[^.]+))?" for level in range(2, CATEGORY_LEVELS + 1)
)


class Times(NamedTuple):
    """n times: `micros` since 1970 (int64, 0 where bad), and their canonical text.

    `bad` is a mask of what is no time, `without_zone` of those of them that only lack their zone, and
    `ambiguous` of those that begin with day and month in an order that nobody says. So is 13/11/2019: it has
    one reading, but the next line of such a file has two, and lines of one file are read alike.
    """

    micros: np.ndarray
    text: pa.StringArray
    bad: np.ndarray
    without_zone: np.ndarray
    ambiguous: np.ndarray


class Integers(NamedTuple):
    """n whole numbers from 0 to INT64_MAX, 0 where bad, and their canonical text.

    `bad` is a mask of what is none, `rounded` of those of them that may have lost digits.
    """

    values: pa.Int64Array
    text: pa.StringArray
    bad: np.ndarray
    rounded: np.ndarray


class Codes(NamedTuple):
    """n category codes: each of the distinct ones, or null, and for each row which it is, or null.

    `levels` are the levels of the distinct ones, null where there is none; `bad` is a mask of the n rows.
    """

    distinct: pa.StringArray
    levels: list[pa.StringArray]
    which: pa.Int32Array
    bad: np.ndarray


class Prices(NamedTuple):
    """n prices: the distinct ones as NUMERIC, 0 where bad, their canonical texts, and for each row which.

    `bad` is a mask of the n rows that are none, `negative` of those of them that are below 0, or -0.
    """

    distinct: pa.Decimal128Array
    texts: pa.StringArray
    which: pa.Int32Array
    bad: np.ndarray
    negative: np.ndarray


def times(text: pa.StringArray) -> Times:
    """Read times: a date, a space or T, a time of day with up to microseconds, and UTC, Z or an offset.

    Strict: a day that the calendar has, hours to 23, minutes and seconds to 59, years 0001 to 9999. More
    digits of a second than six must be zeros.
    """
    # Many events are of one second.
    encoded = text.dictionary_encode()
    which = encoded.indices
    micros, canonical, *flags = times_one_by_one(encoded.dictionary)
    same = canonical is encoded.dictionary
    rows = which.to_numpy()
    return Times(micros[rows], text if same else canonical.take(which), *(flag[rows] for flag in flags))


def times_one_by_one(text: pa.StringArray) -> Times:
    """Read times as `times` does, each for itself."""
    seconds, bad = _plain_times(text)
    micros = seconds * MICROS
    without_zone, ambiguous = np.zeros((2, len(text)), bool)
    if bad.any():
        rows = np.flatnonzero(bad)
        other, other_bad = _other_times(text.take(pa.array(rows)))
        micros[rows] = other
        bad[rows] = other_bad
        if not other_bad.all():
            text = pc.replace_with_mask(
                text, pa.array(_mask_of(rows[~other_bad], len(text))), time_texts(other[~other_bad])
            )
        still_bad = rows[other_bad]
        other_text = text.take(pa.array(still_bad))
        without_zone[still_bad] = mask(pc.match_substring_regex(other_text, _TIME_WITHOUT_ZONE + "$"))
        ambiguous[still_bad] = mask(pc.match_substring_regex(other_text, _DAY_OR_MONTH_FIRST))
    return Times(micros, text, bad, without_zone, ambiguous)


def time_texts(micros: np.ndarray) -> pa.StringArray:
    """Return times, in microseconds since 1970, as canonical text; without a fraction where that is 0."""
    text = pa.array(micros).cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.ascii_rtrim(pc.ascii_rtrim(text, "0"), "."), "UTC", " ")


def integers(text: pa.StringArray) -> Integers:
    """Read whole numbers: up to 19 digits, or digits, a point and zeros, as a float is written.

    A float above 2**53 may have been another number before, and so may one with an exponent.
    """
    lengths = np.diff(bounds(text))
    bad = ~mask(pc.ascii_is_decimal(text)) | (lengths > _MAX_INT64_DIGITS)
    rounded = np.zeros(len(text), bool)
    if bad.any():
        rows = np.flatnonzero(bad)
        other = text.take(pa.array(rows))
        whole = pc.struct_field(pc.extract_regex(other, _FLOAT_INTEGER), "whole")
        values, _, above, _ = integers(pc.fill_null(whole, "0"))
        is_float = mask(pc.is_valid(whole))
        is_exact = is_float & ~above & (values.to_numpy() <= _MAX_FLOAT_INTEGER)
        rounded[rows] = (is_float & ~is_exact) | mask(pc.match_substring_regex(other, _EXPONENT))
        bad[rows[is_exact]] = False
        text = pc.replace_with_mask(
            text, pa.array(_mask_of(rows, len(text))), pc.if_else(pa.array(is_exact), whole, "0")
        )
    try:
        values = text.cast(pa.int64())
    except pa.ArrowInvalid:  # At least one number has 19 digits and is above INT64_MAX.
        above = mask(pc.greater(pc.ascii_lpad(text, _MAX_INT64_DIGITS, "0"), str(INT64_MAX)))
        bad |= above
        text = pc.if_else(pa.array(above), "0", text)
        values = text.cast(pa.int64())
    return Integers(values, values.cast(pa.string()) if _has_leading_zeros(text) else text, bad, rounded)


def _has_leading_zeros(text: pa.StringArray) -> bool:
    """Tell whether digits that begin with 0, and are not 0 alone, are among those in `text`."""
    ends = bounds(text)
    long = ends[:-1][np.diff(ends) > 1]
    return bool(len(long)) and bool((np.frombuffer(text.buffers()[2], np.uint8)[long] == ord("0")).any())


def prices(text: pa.StringArray) -> Prices:
    """Read prices: digits, or digits, a point and digits, of which those past the contract's are zeros.

    With a minus sign a price is negative, and bad, even if -0.
    """
    # A product has one price for long.
    encoded = text.dictionary_encode()
    found = prices_one_by_one(encoded.dictionary)
    rows = encoded.indices.to_numpy()
    return found._replace(which=encoded.indices, bad=found.bad[rows], negative=found.negative[rows])


def prices_one_by_one(text: pa.StringArray) -> Prices:
    """Read prices as `prices` does, each for itself."""
    bad = ~mask(pc.match_substring_regex(text, f"^{_PLAIN_PRICE}$"))
    negative = np.zeros(len(text), bool)
    if bad.any():
        rows = np.flatnonzero(bad)
        other = text.take(pa.array(rows))
        negative[rows] = mask(pc.match_substring_regex(other, f"^-{_PLAIN_PRICE}0*$"))
        price = pc.struct_field(pc.extract_regex(other, _LONG_PRICE), "price")
        bad[rows[mask(pc.is_valid(price))]] = False
        text = pc.replace_with_mask(text, pa.array(_mask_of(rows, len(text))), pc.fill_null(price, "0"))
    values = text.cast(NUMERIC)
    has_point = pc.match_substring(text, ".")
    canonical = pc.if_else(has_point, pc.ascii_rtrim(pc.ascii_rtrim(text, "0"), "."), text)
    if pc.any(pc.match_substring_regex(canonical, "^0[0-9]")).as_py():
        canonical = pc.replace_substring_regex(canonical, "^0+([0-9])", r"\1")
    return Prices(values, canonical, pa.array(np.arange(len(text), dtype=np.int32)), bad, negative)


def texts(text: pa.StringArray, column: Column) -> pa.StringArray:
    """Return the values of a text column: without outer spaces, in lower case if the column is, null for
    nothing and for the words that mean nothing in it.
    """
    trimmed = pc.utf8_trim_whitespace(text)
    lower = pc.utf8_lower(trimmed)
    is_nothing = pc.is_in(lower, _nothing(column))
    return pc.if_else(is_nothing, None, lower if column.lower_case else trimmed)


@functools.cache
def _nothing(column: Column) -> pa.StringArray:
    return pa.array(["", *column.nothing])


def codes(text: pa.StringArray, column: Column) -> Codes:
    """Read category codes, as `texts` does, with their levels.

    A shop has few codes and many events, so each code is read once.
    """
    encoded = text.dictionary_encode()
    distinct = texts(encoded.dictionary, column)
    found = pc.extract_regex(distinct, _LEVELS + "$")
    levels = [pc.if_else(pc.equal(level, ""), None, level) for level in found.flatten()]
    bad = mask(pc.and_(pc.is_null(found), pc.is_valid(distinct)))
    return Codes(distinct, levels, encoded.indices, bad[encoded.indices.to_numpy()])


def bounds(text: pa.StringArray) -> np.ndarray:
    """Return the n + 1 places in the text buffer where the n strings start and end."""
    if len(text) == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(text.buffers()[1], np.int32, len(text) + 1, text.offset * 4)


def mask(flags: pa.BooleanArray) -> np.ndarray:
    """Return flags without nulls as a NumPy mask."""
    return flags.to_numpy(zero_copy_only=False)


def _plain_times(
    text: pa.StringArray, template: np.ndarray = _TIME_TEMPLATE
) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds since 1970 of times that are the template, with any digits for its zeros, and a mask
    of the others.
    """
    ends = bounds(text)
    seconds = np.zeros(len(text), np.int64)
    bad = np.diff(ends) != len(template)
    if len(text) == 0 or bad.all():
        return seconds, bad
    octets = np.frombuffer(text.buffers()[2], np.uint8)
    right = np.flatnonzero(~bad)
    if len(right) == len(text):
        written = octets[ends[0] : ends[-1]].reshape(-1, len(template))
    else:
        written = octets[ends[right, None] + np.arange(len(template))]
    # Unsigned, so that whatever is below "0" or not the template's character comes out above 9 or above 0.
    from_template = written - template
    good = (from_template <= np.where(template == ord("0"), 9, 0)).all(axis=1)

    def number(start: int, end: int) -> np.ndarray:
        value = np.zeros(len(right), np.int64)
        for place in range(start, end):
            value = value * 10 + from_template[:, place]
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    dates = months.astype("M8[D]") + (day - 1)
    good &= (year >= 1) & (month >= 1) & (month <= 12) & (dates.astype("M8[M]") == months)
    good &= (hour <= 23) & (minute <= 59) & (second <= 59)
    value = dates.astype(np.int64) * 86_400 + hour * 3600 + minute * 60 + second
    seconds[right[good]] = value[good]
    bad[right[~good]] = True
    return seconds, bad


def _other_times(text: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the microseconds since 1970 of times in any form, 0 where bad, and a mask of the bad ones."""
    # One program writes its times alike; Z is what most write who do not write UTC.
    for template in _ISO_TEMPLATES:
        seconds, bad = _plain_times(text, template)
        if not bad.any():
            return seconds * MICROS, bad
    found = pc.extract_regex(text, _TIME_WITHOUT_ZONE + _ZONE)
    part = {field.name: pc.fill_null(found.field(field.name), "") for field in found.type}

    def number(digits: pa.StringArray) -> np.ndarray:
        return pc.if_else(pc.equal(digits, ""), "0", digits).cast(pa.int64()).to_numpy()

    plain = pc.binary_join_element_wise(
        part["day"], pc.binary_join_element_wise(part["clock"], "UTC", " "), " "
    )
    seconds, bad = _plain_times(plain)
    minutes = number(part["minutes"])
    offset = number(part["hours"]) * 3600 + minutes * 60
    offset[mask(pc.equal(part["sign"], "-"))] *= -1
    micros = (seconds - offset) * MICROS + number(pc.ascii_rpad(part["fraction"], 6, "0"))
    bad |= (
        mask(pc.is_null(found))
        | (minutes > 59)
        | (offset < _OFFSET_SECONDS[0])
        | (offset > _OFFSET_SECONDS[1])
    )
    bad |= (micros < _MIN_TIME_MICROS) | (micros > _MAX_TIME_MICROS)
    micros[bad] = 0
    return micros, bad


def _mask_of(rows: np.ndarray, count: int) -> np.ndarray:
    flags = np.zeros(count, bool)
    flags[rows] = True
    return flags
