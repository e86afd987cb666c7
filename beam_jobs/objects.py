"""Messages that are JSON objects to an event's fields as text.

In an object each value is text, a number or null, and a number counts as the text it was written as, so that
35.70 is the same price in both forms. A missing field is an empty one.

One program writes its objects alike: the same fields in the same order with the same spaces, and nothing
escaped. So `plain_objects` reads an object by the form of the one before it, with one regular expression for
the whole; what has another form, or may be no object of an event, is left to `fields_of_object`.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from beam_jobs.contract import COLUMN_NAMES
from beam_jobs.parse import RAW_SCHEMA, excerpt, is_utf8

JSON_SPACE = b" \t\r\n"

# Pairs, so that repeated names are seen; numbers as text, so that 35.70 stays so and none is too large.
_JSON = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)
_NAMES_SHOWN = 5

_TEXT = rb'(?:"([^"\\\x00-\x1f\x7f]*+)"|null)'
_NUMBER = rb"(?:(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)|null)"
_MEMBER = re.compile(
    rb'([ \t\r\n]*"([a-z_]++)"[ \t\r\n]*:[ \t\r\n]*)(?:(-?[0-9][0-9.eE+-]*+)|"[^"\\]*+"|null)([ \t\r\n]*[,}])'
)


class BadMessage(ValueError):
    """A message that holds no event's fields: the contract's reason code, and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Plain(NamedTuple):
    """The objects of one form: the names of their fields in order, a pattern with a group for each, and those
    found so far, by their places and the texts of their fields.
    """

    names: tuple[str, ...]
    pattern: re.Pattern[bytes]
    places: list[int]
    rows: list[tuple[bytes, ...]]


def plain_objects(texts: Sequence[bytes]) -> tuple[pa.Table, list[int]]:
    """Read those objects that are plain; return their fields in RAW_SCHEMA, and which of `texts` they are.

    Of an object that is read here `fields_of_object` says the same, and none has a control character.
    """
    all_utf8 = is_utf8(b"\n".join(texts))
    by_form: dict[bytes, _Plain] = {}
    plain: _Plain | None = None
    for place, text in enumerate(texts):
        read = plain and plain.pattern.fullmatch(text)
        if not read:
            plain = _plain_form(text, by_form)
            read = plain and plain.pattern.fullmatch(text)
        if plain and read and (all_utf8 or is_utf8(text)):
            plain.places.append(place)
            plain.rows.append(read.groups(b""))
    found = [plain for plain in by_form.values() if plain.places]
    return (
        pa.concat_tables([RAW_SCHEMA.empty_table(), *map(_table, found)]),
        [place for plain in found for place in plain.places],
    )


def fields_of_object(text: bytes) -> dict[str, str | None]:
    """Return the fields of a JSON object; a number is the text that it was written as.

    Raises:
        BadMessage: it is no such object, or not UTF-8.
    """
    try:
        pairs = _JSON.decode(text.decode())
    except UnicodeDecodeError as error:
        raise BadMessage(
            "invalid_utf8",
            f"Byte 0x{text[error.start]:02x} at place {error.start} of the message is not UTF-8 "
            f"({error.reason}).",
        ) from None
    except ValueError as error:
        raise BadMessage("bad_json", f"The message is not JSON: {error}.") from None
    except RecursionError:
        raise BadMessage("bad_json", "The message is JSON that is nested too deep.") from None
    return _checked_fields(pairs)


def _plain_form(text: bytes, by_form: dict[bytes, _Plain]) -> _Plain | None:
    """Return what has the form of this object, if that is a plain one of fields of the contract."""
    members = _MEMBER.findall(text, 1)
    names = tuple(name.decode() for _, name, _, _ in members)
    if len(set(names)) < len(names) or not set(names).issubset(COLUMN_NAMES):
        return None
    if [after[-1:] for *_, after in members] != [b","] * (len(members) - 1) + [b"}"]:
        return None
    values = [
        re.escape(before) + (_NUMBER if number else _TEXT) + re.escape(after)
        for before, _, number, after in members
    ]
    form = rb"\{" + b"".join(values)
    if form not in by_form:
        by_form[form] = _Plain(names, _compiled(form), [], [])
    return by_form[form]


@functools.lru_cache(maxsize=100)
def _compiled(form: bytes) -> re.Pattern[bytes]:
    return re.compile(form)


def _table(plain: _Plain) -> pa.Table:
    texts = dict(zip(plain.names, zip(*plain.rows, strict=True), strict=True))
    none = pa.repeat(pa.scalar(""), len(plain.rows))
    columns = [pa.array(texts[name], pa.string()) if name in texts else none for name in COLUMN_NAMES]
    return pa.Table.from_arrays(columns, schema=RAW_SCHEMA)


def _checked_fields(pairs: tuple[tuple[str, Any], ...]) -> dict[str, str | None]:
    counts = Counter(name for name, _ in pairs)
    if unknown := [name for name in counts if name not in COLUMN_NAMES]:
        raise BadMessage(
            "bad_json",
            f"The object has unknown fields: {_named(unknown)}; the contract has {', '.join(COLUMN_NAMES)}.",
        )
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise BadMessage("bad_json", f"The object has fields more than once: {_named(repeated)}.")
    fields = dict(pairs)
    for name, value in fields.items():
        if value is not None and not isinstance(value, str):
            raise BadMessage("bad_json", f"{name} is {_kind(value)}; expected text, a number or null.")
    return fields


def _named(names: list[str]) -> str:
    shown = ", ".join(excerpt(name) for name in names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"


def _kind(value: object) -> str:
    # bool before float: the only floats are those for which JSON has no number.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "NaN or infinite"
    return "an object" if isinstance(value, tuple) else "an array"
