"""Pub/Sub messages to typed, valid events, and rejects with their reasons; whole batches at a time.

A message is one event: a JSON object of the contract's fields, or one CSV line in the contract's order. What
starts with `{` is JSON. In an object each value is text, a number or null, and a number counts as the text it
was written as, so that 35.70 is the same price in both forms. A missing field is an empty one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_jobs.contract import COLUMN_NAMES, COLUMNS, MAX_LINE_BYTES
from beam_jobs.lines import Block, past_bom
from beam_jobs.parse import ParsedBlock, excerpt, parse_block, parse_fields
from beam_jobs.pseudonyms import Pseudonyms
from beam_jobs.validate import ACCEPTED_SCHEMA, validate

STREAM_SCHEMA = pa.schema(
    [
        *ACCEPTED_SCHEMA,
        pa.field("publish_time", pa.timestamp("us", tz="UTC")),
        pa.field("message_id", pa.string()),
    ]
)
"""An accepted event of the stream: a row of shop_raw.events_stream."""

# Pairs, so that repeated names are seen; numbers as text, so that 35.70 stays so and none is too large.
_JSON = json.JSONDecoder(object_pairs_hook=tuple, parse_int=str, parse_float=str)
_JSON_SPACE = b" \t\r\n"
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Message:
    """What Pub/Sub delivered. `publish_time` has its time zone."""

    data: bytes
    message_id: str | None = None
    publish_time: datetime | None = None
    attributes: Mapping[str, str] | None = None


class Reject(NamedTuple):
    """A message that is no event: the contract's reason code, and a sentence that names the value."""

    message: Message
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The messages of a batch, each either an event or a reject.

    `events` has STREAM_SCHEMA; row i is the event of `messages[i]`. Their order is not the batch's.
    """

    events: pa.Table
    messages: list[Message]
    rejects: list[Reject]


class _BadMessage(ValueError):
    """A message that holds no event's fields."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def judge(messages: Sequence[Message], pseudonyms: Pseudonyms | None = None) -> Judged:
    """Parse and validate messages by the rules of the batch, but for lateness. Never raises for a message.

    With `pseudonyms` the events have these; rejects are as they came.
    """
    lines: list[bytes] = []
    line_messages: list[Message] = []
    objects: list[dict[str, str | None]] = []
    object_texts: list[bytes] = []
    object_messages: list[Message] = []
    rejects: list[Reject] = []
    for message in messages:
        text = message.data[past_bom(message.data, 0) :].removesuffix(b"\n")
        try:
            if len(text) > MAX_LINE_BYTES:
                raise _BadMessage(
                    "line_too_long",
                    f"The message has {len(message.data)} bytes; at most {MAX_LINE_BYTES} are allowed.",
                )
            if text.lstrip(_JSON_SPACE).startswith(b"{"):
                objects.append(_fields_of_object(text))
                object_texts.append(text)
                object_messages.append(message)
            else:
                lines.append(_one_line(text))
                line_messages.append(message)
        except _BadMessage as bad:
            rejects.append(Reject(message, bad.reason, bad.detail))

    block = Block(b"\n".join(lines), 0)
    line_starts = _starts([len(line) + 1 for line in lines])
    object_starts = _starts([len(text) for text in object_texts])
    of_lines = _judge_parsed(parse_block(block, COLUMN_NAMES), line_starts, line_messages, pseudonyms)
    of_objects = _judge_parsed(
        parse_fields(objects, object_texts), object_starts, object_messages, pseudonyms
    )
    return Judged(
        pa.concat_tables([of_lines.events, of_objects.events]),
        of_lines.messages + of_objects.messages,
        rejects + of_lines.rejects + of_objects.rejects,
    )


def _judge_parsed(
    parsed: ParsedBlock, starts: np.ndarray, messages: list[Message], pseudonyms: Pseudonyms | None
) -> Judged:
    """Validate a block made of messages; message i starts at `starts[i]` in it."""
    checked = validate(parsed, None, pseudonyms)
    accepted = [messages[i] for i in np.searchsorted(starts, checked.offsets).tolist()]
    rejected_at = np.searchsorted(starts, checked.rejected["byte_offset"].to_numpy()).tolist()
    reasons, details = (checked.rejected[name].to_pylist() for name in ("reason", "detail"))
    events = checked.accepted.append_column(
        STREAM_SCHEMA.field("publish_time"),
        pa.array([message.publish_time for message in accepted], STREAM_SCHEMA.field("publish_time").type),
    ).append_column(
        STREAM_SCHEMA.field("message_id"), pa.array([message.message_id for message in accepted], pa.string())
    )
    rejects = [
        Reject(messages[i], reason, detail)
        for i, reason, detail in zip(rejected_at, reasons, details, strict=True)
    ]
    return Judged(events, accepted, rejects)


def _starts(lengths: list[int]) -> np.ndarray:
    ends = np.cumsum(np.array(lengths, np.int64))
    return ends - np.array(lengths, np.int64)


def _one_line(text: bytes) -> bytes:
    if text in (b"", b"\r"):
        raise _BadMessage(
            "wrong_column_count", f"The message is empty; it should be an event of {len(COLUMNS)} fields."
        )
    if b"\n" in text:
        raise _BadMessage(
            "several_lines",
            f"The message has {text.count(10) + 1} lines; publish each event as a message of its own.",
        )
    return text


def _fields_of_object(text: bytes) -> dict[str, str | None]:
    """Return the fields of a JSON object; a number is the text that it was written as.

    Raises:
        _BadMessage: it is no such object, or not UTF-8.
    """
    try:
        pairs = _JSON.decode(text.decode())
    except UnicodeDecodeError as error:
        raise _BadMessage(
            "invalid_utf8",
            f"Byte 0x{text[error.start]:02x} at place {error.start} of the message is not UTF-8 "
            f"({error.reason}).",
        ) from None
    except ValueError as error:
        raise _BadMessage("bad_json", f"The message is not JSON: {error}.") from None
    except RecursionError:
        raise _BadMessage("bad_json", "The message is JSON that is nested too deep.") from None
    return _checked_fields(pairs)


def _checked_fields(pairs: tuple[tuple[str, Any], ...]) -> dict[str, str | None]:
    counts = Counter(name for name, _ in pairs)
    if unknown := [name for name in counts if name not in COLUMN_NAMES]:
        raise _BadMessage(
            "bad_json",
            f"The object has unknown fields: {_named(unknown)}; the contract has {', '.join(COLUMN_NAMES)}.",
        )
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise _BadMessage("bad_json", f"The object has fields more than once: {_named(repeated)}.")
    fields = dict(pairs)
    for name, value in fields.items():
        if value is not None and not isinstance(value, str):
            raise _BadMessage("bad_json", f"{name} is {_kind(value)}; expected text, a number or null.")
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
