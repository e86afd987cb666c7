"""The event contract: what a click event is, everywhere in shopstream.

The parser, the Spanner columns and the BigQuery schemas follow from this file or are checked against it.
It needs nothing but the standard library, so that DAG code may read it too.

Source of the format: Kaggle, "eCommerce behavior data from multi category store" (REES46).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the CSV file.

    `kind` is one of timestamp (UTC, microseconds), event_type, int64 (0 or more), numeric (0 or more),
    string. `max_chars` is a limit of its own for a string; of the other kinds it is what their form allows.

    Outer spaces belong to no string. `nothing` are the words, in lower case, that mean in any letter case the
    same as an empty one: what programs write for a value that is missing. A string of a column in
    `lower_case` is the same in any letter case.
    """

    name: str
    kind: str
    required: bool
    max_chars: int
    description: str
    lower_case: bool = False
    nothing: tuple[str, ...] = ()


NO_VALUE = ("null", "none", r"\n")
"""What SQL, Python and the text dumps of databases write where there is no value."""
NO_NUMBER = "nan"
"""What pandas writes there. It is also a brand: among 67 million real events it has 5,843."""

COLUMNS: tuple[Column, ...] = (
    Column("event_time", "timestamp", True, 30, "When it happened, UTC, to the microsecond."),
    Column("event_type", "event_type", True, 8, "view, cart or purchase."),
    Column("product_id", "int64", True, 19, "The product."),
    Column("category_id", "int64", True, 19, "The product's category."),
    Column(
        "category_code",
        "string",
        False,
        256,
        "The category's path in lower case, its levels joined by dots.",
        lower_case=True,
        nothing=(*NO_VALUE, NO_NUMBER),
    ),
    Column(
        "brand",
        "string",
        False,
        256,
        "The brand in lower case; `nan` is a brand.",
        lower_case=True,
        nothing=NO_VALUE,
    ),
    Column("price", "numeric", True, 22, "The price in the shop's currency; 0 is valid."),
    Column("user_id", "int64", True, 19, "The customer."),
    Column(
        "user_session",
        "string",
        False,
        128,
        "The customer's session; anew after each long pause.",
        nothing=(*NO_VALUE, NO_NUMBER),
    ),
)
COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)
EVENT_TYPES: tuple[str, ...] = ("view", "cart", "purchase")

TIME_FORMAT = "%Y-%m-%d %H:%M:%S UTC"
INT64_MAX = 2**63 - 1
NUMERIC_INTEGER_DIGITS = 29
NUMERIC_FRACTION_DIGITS = 9
PRICE_INTEGER_DIGITS = 12
"""A price has fewer than NUMERIC holds, for sums of prices must fit too: two faulty prices of 29 digits would
let every sum of their day fail. Of 12 digits it takes 10**17 of them."""
CATEGORY_LEVELS = 4
SHARDS = 16
"""Spanner's key starts with shard, in [0, SHARDS): writes of one moment spread over as many splits."""

LATENESS_DAYS = 7
"""An event may be landed up to this many days after its own day; later ones are rejected."""

MAX_LINE_BYTES = 65_536
"""A longer line is rejected, and only its first MAX_LINE_BYTES bytes are kept as raw."""

LINE_CHARS_SHOWN = 100
NAMES_SHOWN = 5
"""What an error quotes of a line that is no header, and of a header's columns."""
KEPT_HEADERS = 16
"""The files of a day mostly begin with the same line."""

REASONS: dict[str, str] = {
    "line_too_long": f"The line is longer than {MAX_LINE_BYTES} bytes.",
    "several_lines": "The message holds more than one line; a message is one event.",
    "invalid_utf8": "The line is not UTF-8.",
    "control_character": "The line holds a control character: a NUL byte, a tab, a stray carriage return.",
    "bad_quoting": "A double quote is opened and not closed, or stands inside an unquoted field.",
    "wrong_column_count": f"The line has fewer or more than {len(COLUMNS)} fields.",
    "repeated_header": "The line is a header, but not the file's first line.",
    "bad_json": "The message is not a JSON object of the contract's fields with text or number values.",
    "missing_value": "A required field is empty.",
    "too_long": "A text field has more characters than the contract allows.",
    "time_without_zone": "event_time does not say its zone, so nobody knows which hour it is.",
    "ambiguous_date": "event_time begins with day and month in an order that nobody says.",
    "bad_event_time": "event_time is not a time of the calendar such as 2019-11-01 00:00:00 UTC.",
    "bad_event_type": "event_type is not one of view, cart, purchase.",
    "rounded_number": "An id was a floating point number, or in a spreadsheet, and may have lost digits.",
    "bad_integer": "An id is not a whole number from 0 to 9223372036854775807.",
    "bad_price": "price is not a plain decimal number of at most 12 digits before and 9 after the point.",
    "negative_price": "price is below 0.",
    "bad_category_code": f"category_code is not 1 to {CATEGORY_LEVELS} levels joined by single dots.",
    "too_late": f"The event's day is more than {LATENESS_DAYS} days before its landing day.",
    "after_landing_day": "The event's day is after its landing day.",
    "refused_by_spanner": "Spanner refused the row; detail holds its reason.",
    "refused_by_bigquery": "BigQuery refused the row; detail holds its reason.",
}
"""Every reason code a rejected row may carry. A row has one: the first that holds, in this order."""


class ContractError(ValueError):
    """A whole file, not a row, breaks the contract: the message names it, what was found and what to do."""


def first_event_day(landing_day: date) -> date:
    """Return the earliest day that events landed on `landing_day` may be of."""
    return landing_day - timedelta(days=LATENESS_DAYS)


def header_columns(line: str, file: str) -> tuple[str, ...] | None:
    """Return the column order that a file's first line declares, or None if that line is an event.

    It is an event if, in the contract's order, at least three of its time, type, ids and price look like
    such: they begin with a digit, or are one of the types. So it may be a bad event, with a price or a time
    that is none, too long or cut off; and no header is taken for one, for no name begins with a digit.
    Any other line must be the header: the contract's names in any order. Letter case and underscores do not
    matter, so that Event_Time and eventTime are event_time. `file` is its name, for errors.

    Raises:
        ContractError: the line is neither, or the header has extra, missing or repeated columns.
    """
    names = header_names(line)
    if names and len(names) == len(COLUMN_NAMES) and set(names) == set(COLUMN_NAMES):
        return names
    if names is None and _is_event(_split(line)):
        return None
    wanted = f"Give exactly these columns, in any order: {', '.join(COLUMN_NAMES)}."
    if names is None:
        neither = f"{file}: the first line is neither an event nor a header"
        # Of a file of another kind the line would say nothing to a person.
        if kind := _other_kind(line):
            raise ContractError(f"{neither}. This is {kind}. {wanted}")
        raise ContractError(f"{neither}: {_without_numbers(line)!r}. {_what_instead(line)} {wanted}")
    problems = []
    if extra := [name for name in names if name not in COLUMN_NAMES]:
        more = f" and {len(extra) - NAMES_SHOWN:,} more" if len(extra) > NAMES_SHOWN else ""
        shown = ", ".join(repr(name[:LINE_CHARS_SHOWN]) for name in extra[:NAMES_SHOWN])
        problems.append(f"extra columns {shown}{more}")
    if missing := [name for name in COLUMN_NAMES if name not in names]:
        problems.append(f"missing columns {', '.join(missing)}")
    if repeated := sorted(name for name in COLUMN_NAMES if names.count(name) > 1):
        problems.append(f"repeated columns {', '.join(repeated)}")
    raise ContractError(f"{file}: the header has {'; '.join(problems)}. {wanted}")


def _without_numbers(line: str) -> str:
    """Return a line's start for people to see: of a word with a digit, as an id is, only its shape."""

    def shape(word: re.Match[str]) -> str:
        return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", word[0]))

    # Of words without an end this takes the square of their length, so most of a long line is cut off before.
    return re.sub(r"\w*\d\w*", shape, line.strip()[: 10 * LINE_CHARS_SHOWN])[:LINE_CHARS_SHOWN]


def _other_kind(line: str) -> str | None:
    """Name what a file is that begins so, and what to do with it; None if it may be a CSV."""
    start = line.lstrip("\ufeff \t\r\n")
    for called, begins in _OTHER_FILES.items():
        if start.startswith(begins) or start.lower().startswith(begins):
            return called
    if "\0" in line and header_names(line.replace("\0", "").lstrip("\ufffd")):
        return "text in UTF-16 or UTF-32: save it as UTF-8"
    return None


def _what_instead(line: str) -> str:
    """Say what to do with a CSV whose first line is this."""
    for separator, called in {";": "semicolons", "\t": "tabs", "|": "pipes"}.items():
        text = line.replace(separator, ",")
        if separator in line and (header_names(text) or _is_event(_split(text))):
            return f"Its fields are separated by {called}: separate them by commas."
    return "Put a header there, in UTF-8 and with commas."


@lru_cache(KEPT_HEADERS)
def header_names(line: str) -> tuple[str, ...] | None:
    """Return the names in a line that is a header, the contract's as the contract writes them; else None.

    A header is no event, and has two column names of the contract or more; one alone may be a brand.
    """
    fields = _split(line)
    names = tuple(_NAMES.get(_folded(field), field.strip()) for field in fields)
    return names if len(set(names) & set(COLUMN_NAMES)) >= 2 and not _is_event(fields) else None


def is_header(fields: Sequence[str]) -> bool:
    """Tell whether the fields of a line are all the contract's column names, in any order and letter case."""
    return sorted(map(_folded, fields)) == sorted(_NAMES)


def _split(line: str) -> list[str]:
    text = line.lstrip("\ufeff").rstrip("\r\n")
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return text.split(",")


def _folded(name: str) -> str:
    return name.strip().replace("_", "").lower()


def _is_event(fields: Sequence[str]) -> bool:
    looks_like_one = [
        field in EVENT_TYPES if column.kind == "event_type" else field.lstrip("-")[:1].isdecimal()
        for column, field in zip(COLUMNS, fields, strict=False)
        if column.kind != "string"
    ]
    return sum(looks_like_one) >= 3


_NAMES = {_folded(name): name for name in COLUMN_NAMES}
_OTHER_FILES = {
    "a page of HTML, as a failed download leaves: get the file again": (
        "<!doctype",
        "<html",
        "<head",
        "<body",
    ),
    "XML, as a refused download leaves: get the file again, or export it as CSV": ("<?xml", "<error"),
    "JSON: publish it as messages, or export it as CSV": ("{", "["),
    "Parquet: export it as CSV": ("PAR1",),
    "ORC: export it as CSV": ("ORC",),
    "Avro: export it as CSV": ("Obj\1",),
    "PDF: export it as CSV": ("%PDF",),
    "a workbook of Excel or another zip: save the sheet as CSV in UTF-8, or unpack it": ("PK\3\4",),
    "a workbook of old Excel: save the sheet as CSV in UTF-8": ("\ufffd\ufffd\x11\u0871",),
    "packed by another than gzip: unpack it": ("BZh", "\ufffd7zXZ", "(\ufffd/\ufffd", "7z\ufffd\ufffd"),
    "a pointer of Git LFS and not the file: `git lfs pull` gets that": ("version https://git-lfs",),
}
"""How other files begin than those of events, as text in UTF-8 with what is none replaced."""
