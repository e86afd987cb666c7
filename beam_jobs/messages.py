"""Pub/Sub messages to typed, valid events, and rejects with their reasons; whole batches at a time.

A message is one event: a JSON object of the contract's fields (beam_jobs/objects.py), or one CSV line in the
contract's order. What starts with `{` is JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import compress
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from beam_jobs.contract import COLUMN_NAMES, COLUMNS, MAX_LINE_BYTES
from beam_jobs.lines import Block, past_bom
from beam_jobs.objects import JSON_SPACE, BadMessage, fields_of_objects
from beam_jobs.parse import ParsedBlock, parse_block, parse_fields
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
_NO_EVENTS = STREAM_SCHEMA.empty_table()

T = TypeVar("T")


class Message(NamedTuple):
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


def judge(messages: Sequence[Message], pseudonyms: Pseudonyms | None = None) -> Judged:
    """Parse and validate messages by the rules of the batch, but for lateness. Never raises for a message.

    With `pseudonyms` the events have these; rejects are as they came.
    """
    # Of one that is too long no more is copied or looked at than shows that it is.
    texts = [message.data[: MAX_LINE_BYTES + 2].removesuffix(b"\n") for message in messages]
    is_line, is_object = _plain_forms(texts)
    lines, line_messages = _chosen(texts, is_line), _chosen(messages, is_line)
    objects, object_messages = _chosen(texts, is_object), _chosen(messages, is_object)
    rejects: list[Reject] = []
    for message in _chosen(messages, ~(is_line | is_object)):
        try:
            text = _text(message.data)
            if text.lstrip(JSON_SPACE).startswith(b"{"):
                objects.append(text)
                object_messages.append(message)
            else:
                lines.append(_one_line(text))
                line_messages.append(message)
        except BadMessage as bad:
            rejects.append(Reject(message, bad.reason, bad.detail))

    # Each part costs a millisecond, however few are in it.
    parts = []
    if lines:
        parsed = parse_block(Block(b"\n".join(lines), 0), COLUMN_NAMES)
        parts.append(_judge_parsed(parsed, _starts(lines, 1), line_messages, pseudonyms))
    if objects:
        parts.append(_judge_objects(objects, object_messages, pseudonyms))
    return Judged(
        pa.concat_tables([_NO_EVENTS, *(part.events for part in parts)]),
        [message for part in parts for message in part.messages],
        rejects + [reject for part in parts for reject in part.rejects],
    )


def _plain_forms(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of those that are a line which begins with a digit, and of those that begin as objects.

    None of them is too long. Of the others one by one is to be found out what they are.
    """
    is_allowed = np.fromiter((len(text) <= MAX_LINE_BYTES for text in texts), bool, len(texts))
    is_line = np.fromiter((text[:1].isdigit() and b"\n" not in text for text in texts), bool, len(texts))
    is_object = np.fromiter((text[:1] == b"{" for text in texts), bool, len(texts))
    return is_allowed & is_line, is_allowed & is_object


def _chosen(of: Sequence[T], mask: np.ndarray) -> list[T]:
    return list(of) if mask.all() else list(compress(of, mask.tolist()))


def _judge_objects(texts: list[bytes], messages: list[Message], pseudonyms: Pseudonyms | None) -> Judged:
    fields, raws, of, rejects = [], [], [], []
    for text, message, found in zip(texts, messages, fields_of_objects(texts), strict=True):
        if isinstance(found, BadMessage):
            rejects.append(Reject(message, found.reason, found.detail))
        else:
            fields.append(found)
            raws.append(text)
            of.append(message)
    judged = _judge_parsed(parse_fields(fields, raws), _starts(raws, 0), of, pseudonyms)
    return replace(judged, rejects=rejects + judged.rejects)


def _judge_parsed(
    parsed: ParsedBlock, starts: np.ndarray, messages: list[Message], pseudonyms: Pseudonyms | None
) -> Judged:
    """Validate a block made of messages; message i starts at `starts[i]` in it."""
    checked = validate(parsed, None, pseudonyms)
    accepted = messages
    rejects = []
    if len(checked.accepted) < len(messages):
        accepted = [messages[i] for i in np.searchsorted(starts, checked.offsets).tolist()]
        rejected_at = np.searchsorted(starts, checked.rejected["byte_offset"].to_numpy()).tolist()
        reasons, details = (checked.rejected[name].to_pylist() for name in ("reason", "detail"))
        rejects = [
            Reject(messages[i], reason, detail)
            for i, reason, detail in zip(rejected_at, reasons, details, strict=True)
        ]
    times, ids = (STREAM_SCHEMA.field(name) for name in ("publish_time", "message_id"))
    events = checked.accepted.append_column(
        times, pa.array([message.publish_time for message in accepted], times.type)
    ).append_column(ids, pa.array([message.message_id for message in accepted], ids.type))
    return Judged(events, accepted, rejects)


def _starts(texts: Sequence[bytes], gap: int) -> np.ndarray:
    """Return where each text starts, if they stand one after the other with so many bytes between them."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + gap
    return np.cumsum(lengths) - lengths


def _text(data: bytes) -> bytes:
    """Return a message without byte order marks and without the newline at its end.

    Raises:
        BadMessage: it is too long.
    """
    text = data[past_bom(data, 0) :].removesuffix(b"\n")
    if len(text) > MAX_LINE_BYTES:
        raise BadMessage(
            "line_too_long", f"The message has {len(data)} bytes; at most {MAX_LINE_BYTES} are allowed."
        )
    return text


def _one_line(text: bytes) -> bytes:
    if text in (b"", b"\r"):
        raise BadMessage(
            "wrong_column_count", f"The message is empty; it should be an event of {len(COLUMNS)} fields."
        )
    if b"\n" in text:
        raise BadMessage(
            "several_lines",
            f"The message has {text.count(10) + 1} lines; publish each event as a message of its own.",
        )
    return text
