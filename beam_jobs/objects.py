"""Messages that are JSON objects to an event's fields as text.

In an object each value is text, a number or null, and a number counts as the text it was written as, so that
35.70 is the same price in both forms. A missing field is an empty one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

from beam_jobs.contract import COLUMN_NAMES
from beam_jobs.parse import excerpt

JSON_SPACE = b" \t\r\n"

# Pairs, so that repeated names are seen; numbers as text, so that 35.70 stays so and none is too large.
_JSON = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)
_NAMES = frozenset(COLUMN_NAMES)
_TEXT_OR_NULL = frozenset((str, type(None)))
_NAMES_SHOWN = 5
_OBJECTS_AT_ONCE = 32
"""So many cost little more each than thousands; and if one of them is bad, the others are soon read again."""


class BadMessage(ValueError):
    """A message that holds no event's fields: the contract's reason code, and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def fields_of_objects(texts: Sequence[bytes]) -> list[dict[str, str | None] | BadMessage]:
    """Return of each JSON object, which begins with `{` or white space and `{`, what `fields_of_object` does.

    Where that would raise, the error stands in the fields' place.
    """
    found: list[dict[str, str | None] | BadMessage] = []
    for start in range(0, len(texts), _OBJECTS_AT_ONCE):
        some = texts[start : start + _OBJECTS_AT_ONCE]
        found += _fields_of_good_objects(some) or map(_fields_or_fault, some)
    return found


def _fields_of_good_objects(texts: Sequence[bytes]) -> list[dict[str, str | None]] | None:
    """Return the fields of objects, read as one array; None if any of them may be bad.

    No text in JSON holds a newline as it is, and in an object no `{` follows a comma. So if what was read are
    objects without arrays or objects in them, each joint is between two of them; and if there are as many as
    there should be, each is one of `texts`.
    """
    try:
        objects = _JSON.decode((b"[" + b",\n".join(texts) + b"]").decode())
    except (ValueError, RecursionError):
        return None
    if len(objects) != len(texts) or {*map(type, objects)} != {tuple}:
        return None
    fields = list(map(dict, objects))
    values = chain.from_iterable(map(dict.values, fields))
    if (
        sum(map(len, fields)) < sum(map(len, objects))
        or not _NAMES.issuperset(chain.from_iterable(fields))
        or not _TEXT_OR_NULL.issuperset(map(type, values))
    ):
        return None
    return fields


def _fields_or_fault(text: bytes) -> dict[str, str | None] | BadMessage:
    try:
        return fields_of_object(text)
    except BadMessage as bad:
        return bad


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
    fields = dict(pairs)
    if (
        len(fields) < len(pairs)
        or not _NAMES.issuperset(fields)
        or not _TEXT_OR_NULL.issuperset(map(type, fields.values()))
    ):
        raise BadMessage("bad_json", _bad_fields(pairs))
    return fields


def _bad_fields(pairs: tuple[tuple[str, Any], ...]) -> str:
    counts = Counter(name for name, _ in pairs)
    if unknown := [name for name in counts if name not in _NAMES]:
        return (
            f"The object has unknown fields: {_named(unknown)}; the contract has {', '.join(COLUMN_NAMES)}."
        )
    if repeated := [name for name, count in counts.items() if count > 1]:
        return f"The object has fields more than once: {_named(repeated)}."
    name, value = next((name, value) for name, value in pairs if type(value) not in _TEXT_OR_NULL)
    return f"{name} is {_kind(value)}; expected text, a number or null."


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
