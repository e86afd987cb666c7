"""A row that is not accepted: how a store refuses it, and the envelope in which it is kept.

The envelope says where the row came from, its bytes, and why it was rejected.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import NamedTuple

import pyarrow as pa

from beam_jobs.contract import MAX_LINE_BYTES
from beam_jobs.messages import Reject
from beam_jobs.pseudonyms import masked, masked_detail

STREAM_REJECTS = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("rejected_date", pa.date32(), nullable=False),
        pa.field("line_bytes", pa.int64()),
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("rejected_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("message_id", pa.string()),
        pa.field("attributes", pa.string()),
        pa.field("publish_time", pa.timestamp("us", tz="UTC")),
        pa.field("lines", pa.int64()),
    ]
)
"""A rejected message: a row of shop_raw.rejected_events_stream, whose other columns tell of files."""


class Refusal(NamedTuple):
    """A row that a store will not take: its index in what the sink was given, and the store's reason."""

    row: int
    detail: str


def batch_envelopes(
    rejected: pa.Table,
    *,
    landing_day: date,
    load_id: str,
    place: Callable[[int], tuple[str, int]],
    rejected_at: datetime,
    mask: bool = False,
) -> Iterator[bytes]:
    """Yield each rejected line of landed files, or range of lines, as a line of JSON, newline included.

    Args:
        rejected: of parse.REJECTED_SCHEMA.
        place: the landed file's URI and the offset in it, of what `rejected` has at an offset.
        rejected_at: now, with its time zone.
        mask: whether nothing of a customer may be in it.
    """
    for line in rejected.to_pylist():
        raw, detail = line["raw"], line["detail"]
        file, byte_offset = place(line["byte_offset"])
        envelope = {
            "source": "batch",
            "rejected_date": landing_day.isoformat(),
            "load_id": load_id,
            "file": file,
            "byte_offset": byte_offset,
            "line_bytes": line["line_bytes"],
            "raw": base64.b64encode(masked(raw) if mask else raw).decode("ascii"),
            "reason": line["reason"],
            "detail": masked_detail(detail) if mask else detail,
            "rejected_at": rejected_at.isoformat(),
            "message_id": None,
            "attributes": None,
            "publish_time": None,
            "lines": line["lines"],
        }
        yield json.dumps(envelope, ensure_ascii=False).encode() + b"\n"


def stream_envelope(
    reject: Reject,
    *,
    rejected_at: datetime,
    raw_bytes: int = MAX_LINE_BYTES,
    detail_chars: int | None = None,
    with_attributes: bool = True,
    mask: bool = False,
) -> dict[str, object]:
    """Return a rejected message as a row of STREAM_REJECTS.

    Args:
        reject: the message, and why it was rejected.
        rejected_at: now, with its time zone.
        raw_bytes: how many bytes of the message are kept.
        detail_chars: how many characters of why are kept; all of them by default.
        with_attributes: whether its attributes are kept.
        mask: whether nothing of a customer may be in it; then its attributes are not kept.
    """
    message = reject.message
    # Before it is cut, which may part a quote.
    detail = masked_detail(reject.detail) if mask else reject.detail
    attributes = None
    if with_attributes and not mask and message.attributes is not None:
        attributes = json.dumps(dict(message.attributes), sort_keys=True, ensure_ascii=False)
    # The day of publishing, not of rejecting, so that a message delivered again stays in its partition.
    day = (message.publish_time or rejected_at).astimezone(UTC).date()
    return {
        "source": "stream",
        "rejected_date": day,
        "line_bytes": len(message.data),
        "raw": masked(message.data[:raw_bytes]) if mask else message.data[:raw_bytes],
        "reason": reject.reason,
        "detail": detail[:detail_chars],
        "rejected_at": rejected_at,
        "message_id": message.message_id,
        "attributes": attributes,
        "publish_time": message.publish_time,
        "lines": 1,
    }
