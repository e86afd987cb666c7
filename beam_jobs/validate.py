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
    PRICE_INTEGER_DIGITS,
    first_event_day,
    is_header,
)
from beam_jobs.identity import event_ids
from beam_jobs.parse import ParsedBlock, Verdicts, excerpt
from beam_jobs.pseudonyms import Pseudonyms
from beam_jobs.values import (
    MICROS,
    NUMERIC,
    Codes,
    Integers,
    Prices,
    Times,
    bounds,
    codes,
    integers,
    mask,
    prices,
    texts,
    times,
)

EPOCH = date(1970, 1, 1)
DAY_MICROS = 86_400 * MICROS
LEVEL_NAMES = tuple(f"category_level_{level}" for level in range(1, CATEGORY_LEVELS + 1))

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

_EVENT_TYPES = pa.array(EVENT_TYPES)
_COLUMN = {column.name: column for column in COLUMNS}
_TIME_FORM = "a time such as 2019-11-01 00:00:00 UTC or 2019-11-01T00:00:00.5+02:00, to the microsecond"
_TIME_WITH_ZONE = "a zone behind it, such as UTC, Z or +02:00; write it, or tell land_export that it is UTC"
_DATE_FORM = "year, month and day in this order, such as 2019-11-05"
_ALL_DIGITS = "all digits; save ids as text or whole numbers, not in a spreadsheet and not as floats"
_PRICE_FORM = (
    f"a plain decimal number such as 35.79, at most {PRICE_INTEGER_DIGITS} digits before "
    f"and {NUMERIC_FRACTION_DIGITS} after the point"
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


@dataclass(frozen=True, slots=True)
class Checked:
    """The n rows of a block, read, and what is wrong with them.

    `raw` are the columns as text, `time`, `ids` (by column), `price` and `code` what they say; of bad rows
    they mean nothing. `good` is a mask of the rows without a fault; `rejected` has parse.REJECTED_SCHEMA, and
    first the rejects of parsing.
    """

    raw: dict[str, pa.StringArray]
    time: Times
    ids: dict[str, Integers]
    price: Prices
    code: Codes
    good: np.ndarray
    rejected: pa.Table


def validate(
    parsed: ParsedBlock, landing_day: date | None, pseudonyms: Pseudonyms | None = None
) -> Validated:
    """Type and check the rows of a block, and give the good ones their ids.

    Without `landing_day`, as in a stream, lateness is not checked. With `pseudonyms` the events have these,
    and ids that are made of these. Never raises for a bad row.
    """
    checked = check(parsed, landing_day)
    typed, canonical = _columns(checked)
    good = checked.good
    if not good.all():
        kept = pa.array(good)
        canonical = {name: array.filter(kept) for name, array in canonical.items()}
        typed = {name: array.filter(kept) for name, array in typed.items()}
    if pseudonyms:
        user_ids, sessions = pseudonyms.users(typed["user_id"]), pseudonyms.sessions(typed["user_session"])
        typed = {**typed, "user_id": user_ids, "user_session": sessions}
        canonical = {**canonical, "user_id": user_ids.cast(pa.string()), "user_session": sessions}
    typed = {**typed, "event_id": event_ids([canonical[name] for name in COLUMN_NAMES])}
    return Validated(
        accepted=pa.Table.from_arrays(
            [typed[name] for name in ACCEPTED_SCHEMA.names], schema=ACCEPTED_SCHEMA
        ),
        offsets=parsed.offsets[good],
        lengths=parsed.lengths[good],
        rejected=checked.rejected,
    )


def check(parsed: ParsedBlock, landing_day: date | None) -> Checked:
    """Read and check the rows of a block, as `validate` does."""
    raw = {name: _whole(parsed.rows[name]) for name in COLUMN_NAMES}
    lengths = {name: np.diff(bounds(array)) for name, array in raw.items()}
    verdicts = Verdicts(parsed.block, parsed.offsets, parsed.lengths, parsed.max_rejects)

    def note(column: str, bad: np.ndarray, reason: str, expected: str) -> None:
        verdicts.note(bad, reason, _value_detail(column, raw[column], expected))

    time = times(raw["event_time"])
    if time.bad.any():
        # A repeated header's event_time is no time, so only such rows are looked at.
        headers = np.zeros(len(time.bad), bool)
        headers[time.bad] = [
            is_header(list(row.values())) for row in parsed.rows.filter(pa.array(time.bad)).to_pylist()
        ]
        verdicts.note(
            headers,
            "repeated_header",
            lambda _: "The column names stand here again, as if another file began.",
        )
    for column in COLUMNS:
        if column.required:
            verdicts.note(lengths[column.name] == 0, "missing_value", _missing_detail(column.name))
    for column in COLUMNS:
        # As many bytes are as many characters, or fewer.
        if column.kind == "string" and (lengths[column.name] > column.max_chars).any():
            chars = pc.fill_null(pc.utf8_length(texts(raw[column.name], column)), 0)
            too_long = mask(pc.greater(chars, column.max_chars))
            note(column.name, too_long, "too_long", f"at most {column.max_chars} characters")
    note("event_time", time.without_zone, "time_without_zone", _TIME_WITH_ZONE)
    note("event_time", time.ambiguous, "ambiguous_date", _DATE_FORM)
    note("event_time", time.bad, "bad_event_time", _TIME_FORM)
    bad_type = ~mask(pc.is_in(raw["event_type"], _EVENT_TYPES))
    note("event_type", bad_type, "bad_event_type", "one of " + ", ".join(EVENT_TYPES))
    ids = {column.name: integers(raw[column.name]) for column in COLUMNS if column.kind == "int64"}
    for name, number in ids.items():
        note(name, number.rounded, "rounded_number", _ALL_DIGITS)
    for name, number in ids.items():
        note(name, number.bad, "bad_integer", f"a whole number from 0 to {INT64_MAX}")
    price = prices(raw["price"])
    note("price", price.bad & ~price.negative, "bad_price", _PRICE_FORM)
    note("price", price.negative, "negative_price", "0 or more, without a sign")
    code = codes(raw["category_code"], _COLUMN["category_code"])
    note(
        "category_code", code.bad, "bad_category_code", f"1 to {CATEGORY_LEVELS} levels joined by single dots"
    )
    if landing_day is not None:
        days = time.micros // DAY_MICROS
        landed, earliest = ((day - EPOCH).days for day in (landing_day, first_event_day(landing_day)))
        note(
            "event_time",
            days < earliest,
            "too_late",
            f"a day at most {LATENESS_DAYS} days before the landing day {landing_day}",
        )
        note("event_time", days > landed, "after_landing_day", f"a day up to the landing day {landing_day}")
    return Checked(
        raw, time, ids, price, code, verdicts.good, pa.concat_tables([parsed.rejected, verdicts.rejected()])
    )


def _columns(checked: Checked) -> tuple[dict[str, pa.Array], dict[str, pa.Array]]:
    """Return the columns of ACCEPTED_SCHEMA but event_id, and the texts that the id is made of."""
    raw, time, code = checked.raw, checked.time, checked.code
    strings = {
        "category_code": code.distinct.take(code.which),
        **{name: texts(raw[name], _COLUMN[name]) for name in ("brand", "user_session")},
    }
    canonical = {
        "event_time": time.text,
        "event_type": raw["event_type"],
        **{name: number.text for name, number in checked.ids.items()},
        **strings,
        "price": checked.price.texts.take(checked.price.which),
    }
    typed = {
        "event_date": pa.array((time.micros // DAY_MICROS).astype(np.int32)).cast(pa.date32()),
        "event_time": pa.array(time.micros).cast(pa.timestamp("us", tz="UTC")),
        "event_type": raw["event_type"],
        **{name: number.values for name, number in checked.ids.items()},
        **strings,
        **{name: level.take(code.which) for name, level in zip(LEVEL_NAMES, code.levels, strict=True)},
        "price": checked.price.distinct.take(checked.price.which),
    }
    return typed, canonical


def _whole(column: pa.ChunkedArray) -> pa.StringArray:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _missing_detail(column: str) -> Callable[[int], str]:
    return lambda _: f"{column} is empty; every event needs one."


def _value_detail(column: str, text: pa.StringArray, expected: str) -> Callable[[int], str]:
    return lambda row: f"{column} is {excerpt(text[row].as_py())}; expected {expected}."
