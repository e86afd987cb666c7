"""Raw text to typed, valid events, and rejects with their reasons; whole columns at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.contract import (
    CATEGORY_LEVELS,
    COLUMN_NAMES,
    COLUMNS,
    EVENT_TYPES,
    INT64_MAX,
    LATENESS_DAYS,
    NUMERIC_FRACTION_DIGITS,
    NUMERIC_INTEGER_DIGITS,
    PRICE_INTEGER_DIGITS,
    first_event_day,
    is_header,
)
from beam_jobs.identity import event_ids
from beam_jobs.parse import ParsedBlock, Verdicts, excerpt

EPOCH = date(1970, 1, 1)
LEVEL_NAMES = tuple(f"category_level_{level}" for level in range(1, CATEGORY_LEVELS + 1))
NUMERIC = pa.decimal128(NUMERIC_INTEGER_DIGITS + NUMERIC_FRACTION_DIGITS, NUMERIC_FRACTION_DIGITS)

ACCEPTED_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_date", pa.date32(), nullable=False),
        pa.field("event_time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("product_id", pa.int64(), nullable=False),
        pa.field("category_id", pa.int64(), nullable=False),
        pa.field("category_code", pa.string()),
        *(pa.field(name, pa.string()) for name in LEVEL_NAMES),
        pa.field("brand", pa.string()),
        pa.field("price", NUMERIC, nullable=False),
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("user_session", pa.string()),
    ]
)
"""An accepted event; a load adds landing_day and load_id."""

_MAX_INT64_DIGITS = len(str(INT64_MAX))
_TIME_TEMPLATE = np.frombuffer(b"0000-00-00 00:00:00 UTC", np.uint8)
_TIME_LIMITS = np.array([9 if octet == ord("0") else 0 for octet in _TIME_TEMPLATE], np.uint8)
_PLAIN_DECIMAL = rf"[0-9]{{1,{PRICE_INTEGER_DIGITS}}}(\.[0-9]{{1,{NUMERIC_FRACTION_DIGITS}}})?"
_PRICE_FORM = (
    f"a plain decimal number such as 35.79, at most {PRICE_INTEGER_DIGITS} digits before "
    f"and {NUMERIC_FRACTION_DIGITS} after the point"
)
_LEVELS = r"^(?P<level_1>[^.]+)" + "".join(
    rf"(?:\.(?P<level_{level}>[^.]+))?" for level in range(2, CATEGORY_LEVELS + 1)
)


@dataclass(frozen=True, slots=True)
class Validated:
    """The rows of a block, judged.

    `accepted` has ACCEPTED_SCHEMA; row i is the line at `offsets[i]` in the file, `lengths[i]` bytes long.
    `rejected` has parse.REJECTED_SCHEMA: first the block's rejects of parsing, then those of validating.
    """

    accepted: pa.Table
    offsets: np.ndarray
    lengths: np.ndarray
    rejected: pa.Table


def validate(parsed: ParsedBlock, landing_day: date | None) -> Validated:
    """Type and check the rows of a block.

    Without `landing_day`, as in a stream, lateness is not checked. Never raises for a bad row.
    """
    text = {name: _whole(parsed.rows[name]) for name in COLUMN_NAMES}
    lengths = {name: np.diff(_bounds(array)) for name, array in text.items()}
    verdicts = Verdicts(parsed.block, parsed.offsets, parsed.lengths, parsed.max_rejects)

    def note(column: str, bad: np.ndarray, reason: str, expected: str) -> None:
        verdicts.note(bad, reason, _value_detail(column, text[column], expected))

    seconds, bad_time = _times(text["event_time"])
    days = seconds // 86_400
    # A repeated header's event_time is no time, so only such rows are looked at.
    headers = np.zeros(len(bad_time), bool)
    headers[bad_time] = [
        is_header(list(row.values())) for row in parsed.rows.filter(pa.array(bad_time)).to_pylist()
    ]
    verdicts.note(
        headers, "repeated_header", lambda _: "The column names stand here again, as if another file began."
    )
    for column in COLUMNS:
        if column.required:
            verdicts.note(lengths[column.name] == 0, "missing_value", _missing_detail(column.name))
    for column in COLUMNS:
        if column.kind == "string" and (lengths[column.name] > column.max_chars).any():
            too_long = _mask(pc.greater(pc.utf8_length(text[column.name]), column.max_chars))
            note(column.name, too_long, "too_long", f"at most {column.max_chars} characters")
    note("event_time", bad_time, "bad_event_time", "a UTC time such as 2019-11-01 00:00:00 UTC")
    bad_type = ~_mask(pc.is_in(text["event_type"], pa.array(EVENT_TYPES)))
    note("event_type", bad_type, "bad_event_type", "one of " + ", ".join(EVENT_TYPES))
    integers = {}
    for column in COLUMNS:
        if column.kind == "int64":
            integers[column.name], bad = _integers(text[column.name], lengths[column.name])
            note(column.name, bad, "bad_integer", f"a whole number from 0 to {INT64_MAX}")
    price, price_text, bad_price, negative = _prices(text["price"])
    note(
        "price",
        bad_price & ~negative,
        "bad_price",
        _PRICE_FORM,
    )
    note("price", negative, "negative_price", "0 or more, without a sign")
    code = _empty_to_null(text["category_code"], lengths["category_code"])
    levels, bad_code = _category_levels(code)
    note(
        "category_code", bad_code, "bad_category_code", f"1 to {CATEGORY_LEVELS} levels joined by single dots"
    )
    if landing_day is not None:
        landed, earliest = ((day - EPOCH).days for day in (landing_day, first_event_day(landing_day)))
        note(
            "event_time",
            days < earliest,
            "too_late",
            f"a day at most {LATENESS_DAYS} days before the landing day {landing_day}",
        )
        note("event_time", days > landed, "after_landing_day", f"a day up to the landing day {landing_day}")

    canonical = {**text, **{name: values.cast(pa.string()) for name, values in integers.items()}}
    canonical["price"] = price_text
    typed = {
        "event_date": pa.array(days.astype(np.int32)).cast(pa.date32()),
        "event_time": pa.array(seconds * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
        "event_type": text["event_type"],
        **integers,
        "category_code": code,
        **dict(zip(LEVEL_NAMES, levels, strict=True)),
        "brand": _empty_to_null(text["brand"], lengths["brand"]),
        "price": price,
        "user_session": _empty_to_null(text["user_session"], lengths["user_session"]),
    }
    good = verdicts.good
    if not good.all():
        mask = pa.array(good)
        canonical = {name: array.filter(mask) for name, array in canonical.items()}
        typed = {name: array.filter(mask) for name, array in typed.items()}
    typed["event_id"] = event_ids([canonical[name] for name in COLUMN_NAMES])
    return Validated(
        accepted=pa.Table.from_arrays(
            [typed[name] for name in ACCEPTED_SCHEMA.names], schema=ACCEPTED_SCHEMA
        ),
        offsets=parsed.offsets[good],
        lengths=parsed.lengths[good],
        rejected=pa.concat_tables([parsed.rejected, verdicts.rejected()]),
    )


def _times(text: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds since 1970 of times written exactly as in the contract, and a mask of the others.

    Strict: a day that the calendar has, hours to 23, minutes and seconds to 59, years 0001 to 9999.
    """
    bounds = _bounds(text)
    seconds = np.zeros(len(text), np.int64)
    bad = np.diff(bounds) != len(_TIME_TEMPLATE)
    if len(text) == 0 or bad.all():
        return seconds, bad
    octets = np.frombuffer(text.buffers()[2], np.uint8)
    right = np.flatnonzero(~bad)
    if len(right) == len(text):
        written = octets[bounds[0] : bounds[-1]].reshape(-1, len(_TIME_TEMPLATE))
    else:
        written = octets[bounds[right, None] + np.arange(len(_TIME_TEMPLATE))]
    # Unsigned, so that whatever is below "0" or not the template's character comes out above 9 or above 0.
    from_template = written - _TIME_TEMPLATE
    good = (from_template <= _TIME_LIMITS).all(axis=1)

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


def _integers(text: pa.StringArray, lengths: np.ndarray) -> tuple[pa.Int64Array, np.ndarray]:
    """Return whole numbers from 0 to INT64_MAX, and a mask of what is none (0 there)."""
    bad = ~_mask(pc.ascii_is_decimal(text)) | (lengths > _MAX_INT64_DIGITS)
    if bad.any():
        text = pc.if_else(pa.array(bad), "0", text)
    try:
        return text.cast(pa.int64()), bad
    except pa.ArrowInvalid:  # At least one number has 19 digits and is above INT64_MAX.
        above = _mask(pc.greater(pc.ascii_lpad(text, _MAX_INT64_DIGITS, "0"), str(INT64_MAX)))
        return pc.if_else(pa.array(above), "0", text).cast(pa.int64()), bad | above


def _prices(text: pa.StringArray) -> tuple[pa.Decimal128Array, pa.StringArray, np.ndarray, np.ndarray]:
    """Return prices as NUMERIC, their canonical text, a mask of bad ones (0 there), a mask of negative ones.

    A price is digits, or digits, a point and digits. With a minus sign it is negative, and bad, even if -0.
    """
    bad = ~_mask(pc.match_substring_regex(text, f"^{_PLAIN_DECIMAL}$"))
    negative = bad
    if bad.any():
        negative = _mask(pc.match_substring_regex(text, f"^-{_PLAIN_DECIMAL}$"))
        text = pc.if_else(pa.array(bad), "0", text)
    price = text.cast(NUMERIC)
    has_point = pc.match_substring(text, ".")
    canonical = pc.if_else(has_point, pc.ascii_rtrim(pc.ascii_rtrim(text, "0"), "."), text)
    if pc.any(pc.match_substring_regex(canonical, "^0[0-9]")).as_py():
        canonical = pc.replace_substring_regex(canonical, "^0+([0-9])", r"\1")
    return price, canonical, bad, negative


def _category_levels(code: pa.StringArray) -> tuple[list[pa.StringArray], np.ndarray]:
    """Return the levels of category codes, null where there is none, and a mask of bad codes.

    A shop has few codes and many events, so each code is split once.
    """
    encoded = code.dictionary_encode()
    found = pc.extract_regex(encoded.dictionary, _LEVELS + "$")
    is_bad = pa.concat_arrays([pc.is_null(found), pa.array([False])])
    bad = _mask(is_bad.take(encoded.indices.fill_null(len(encoded.dictionary))))
    levels = []
    for level in found.flatten():
        known = pc.if_else(pc.equal(level, ""), None, level)
        levels.append(known.take(encoded.indices))
    return levels, bad


def _empty_to_null(text: pa.StringArray, lengths: np.ndarray) -> pa.StringArray:
    return pc.if_else(pa.array(lengths == 0), None, text)


def _whole(column: pa.ChunkedArray) -> pa.StringArray:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _bounds(text: pa.StringArray) -> np.ndarray:
    """Return the n + 1 places in the text buffer where the n strings start and end."""
    if len(text) == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(text.buffers()[1], np.int32, len(text) + 1, text.offset * 4)


def _mask(flags: pa.BooleanArray) -> np.ndarray:
    return flags.to_numpy(zero_copy_only=False)


def _missing_detail(column: str) -> Callable[[int], str]:
    return lambda _: f"{column} is empty; every event needs one."


def _value_detail(column: str, text: pa.StringArray, expected: str) -> Callable[[int], str]:
    return lambda row: f"{column} is {excerpt(text[row].as_py())}; expected {expected}."
