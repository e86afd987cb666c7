"""An event's identity and its shard, alike in Python, Spanner SQL and BigQuery SQL.

The canonical form of an event is its nine fields as text, in contract order, joined by SEPARATOR: the time
as `2019-11-01 00:00:00 UTC`, with a fraction as in `00.5` only where that is not zero, ids as digits without
leading zeros, the price without leading zeros, trailing zeros or a trailing point (`35.7`, `100`, `0`), NULL
as nothing. No field may hold SEPARATOR (a control character), so two events with the same form are the same
event. The event id is the first 16 bytes of the form's SHA-256, in hex.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.contract import SHARDS

SEPARATOR = "\x1f"
EVENT_ID_BYTES = 16

_CANONICAL_SQL = (
    # %Y writes year 1 as 1 in some engines; MICROSECOND counts from the minute in some.
    "CONCAT(LPAD(FORMAT_TIMESTAMP('%Y-%m-%d %H:%M:%S', event_time, 'UTC'), 19, '0'), "
    "RTRIM(RTRIM(CONCAT('.', LPAD(CAST(MOD(EXTRACT(MICROSECOND FROM event_time), 1000000) AS STRING), 6, "
    "'0')), '0'), '.'), ' UTC')",
    "event_type",
    "CAST(product_id AS STRING)",
    "CAST(category_id AS STRING)",
    "COALESCE(category_code, '')",
    "COALESCE(brand, '')",
    # Some engines write NUMERIC with all its nine decimals.
    "IF(STRPOS(CAST(price AS STRING), '.') > 0, "
    "RTRIM(RTRIM(CAST(price AS STRING), '0'), '.'), CAST(price AS STRING))",
    "CAST(user_id AS STRING)",
    "COALESCE(user_session, '')",
)
_SEPARATOR_SQL = f", CODE_POINTS_TO_STRING([{ord(SEPARATOR)}]), "
EVENT_ID_SQL = (
    f"SUBSTR(TO_HEX(SHA256(CONCAT({_SEPARATOR_SQL.join(_CANONICAL_SQL)}))), 1, {2 * EVENT_ID_BYTES})"
)
"""The event id as an expression over the contract's columns, for Spanner and BigQuery alike."""

SHARD_SQL = f"MOD(DIV(MOD(user_id, 2147483648) * 2654435761, 65536), {SHARDS})"
"""The shard as an expression over user_id, for Spanner and BigQuery alike."""


def event_ids(canonical: Sequence[pa.Array]) -> pa.StringArray:
    """Return the ids of n events from their nine columns in canonical text, in contract order.

    Each column has length n; null counts as empty.
    """
    joined = pc.binary_join_element_wise(
        *canonical, pa.scalar(SEPARATOR, canonical[0].type), null_handling="replace", null_replacement=""
    )
    count = len(joined)
    _, offsets_buffer, text_buffer = joined.buffers()
    bounds = np.frombuffer(offsets_buffer, np.int32, count + 1, joined.offset * 4).tolist()
    text = text_buffer.to_pybytes() if text_buffer else b""
    sha256 = hashlib.sha256
    digests = b"".join([sha256(text[start:end]).digest() for start, end in pairwise(bounds)])
    ids = np.frombuffer(digests, np.uint8).reshape(-1, sha256().digest_size)[:, :EVENT_ID_BYTES].tobytes()
    id_offsets = np.arange(count + 1, dtype=np.int32) * (2 * EVENT_ID_BYTES)
    return pa.StringArray.from_buffers(count, pa.py_buffer(id_offsets), pa.py_buffer(ids.hex().encode()))


def event_id(
    event_time: datetime,
    event_type: str,
    product_id: int,
    category_id: int,
    category_code: str | None,
    brand: str | None,
    price: Decimal,
    user_id: int,
    user_session: str | None,
) -> str:
    """Return the id of one event; `event_time` is aware."""
    canonical = (
        canonical_time(event_time),
        event_type,
        str(product_id),
        str(category_id),
        category_code or "",
        brand or "",
        canonical_price(price),
        str(user_id),
        user_session or "",
    )
    return hashlib.sha256(SEPARATOR.join(canonical).encode()).digest()[:EVENT_ID_BYTES].hex()


def canonical_time(time: datetime) -> str:
    """Return a time, which is aware, in its shortest plain form, such as `2019-11-01 00:00:00.5 UTC`."""
    text = time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    return f"{text.rstrip('0').rstrip('.')} UTC"


def canonical_price(price: Decimal) -> str:
    """Return a price of 0 or more in its shortest plain form, such as `35.7` for 35.70."""
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shards(user_ids: np.ndarray, count: int = SHARDS) -> np.ndarray:
    """Return the shard, in [0, count), of each user id; int64 in and out."""
    return (user_ids % 2147483648) * 2654435761 // 65536 % count


def shard(user_id: int) -> int:
    """Return the shard, in [0, SHARDS), of one user id."""
    return user_id % 2147483648 * 2654435761 // 65536 % SHARDS
