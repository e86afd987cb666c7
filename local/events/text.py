"""The text of events: a CSV line each, some of them broken on purpose."""

from __future__ import annotations

import datetime as dt
import functools
from collections import Counter

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.contract import CATEGORY_LEVELS, COLUMN_NAMES, LATENESS_DAYS, MAX_LINE_BYTES
from local.events.catalogue import catalogue
from local.events.sessions import MAX_LATE_DAYS, Events

HEADER = (",".join(COLUMN_NAMES) + "\n").encode()
EVENT_TYPE_TEXTS = pa.array(["view,", "cart,", "purchase,"])
HEX_PAIRS = np.frombuffer("".join(f"{number:02x}" for number in range(256)).encode(), np.uint16)
UUID_GROUPS = ((1, 0, 8), (10, 8, 12), (15, 12, 16), (20, 16, 20), (25, 20, 32))
"""Where the session's text holds which of a UUID's hexadecimal digits: begin, first digit, last digit + 1."""
BAD_REASONS = (
    "invalid_utf8",
    "control_character",
    "bad_quoting",
    "wrong_column_count",
    "repeated_header",
    "missing_value",
    "too_long",
    "time_without_zone",
    "ambiguous_date",
    "bad_event_time",
    "bad_event_type",
    "rounded_number",
    "bad_integer",
    "bad_price",
    "negative_price",
    "bad_category_code",
    "too_late",
    "after_landing_day",
)
"""Reasons that bad rows take in turn. A day's first bad row is one more: line_too_long."""


def event_lines(day: dt.date, events: Events) -> pa.StringArray:
    """Return each event's CSV line, with its line end."""
    dates = pa.array([str(day - dt.timedelta(days)) for days in range(MAX_LATE_DAYS + 1)])
    return pc.binary_join_element_wise(
        dates.take(pa.array(events.days_late)),
        _time_texts().take(pa.array(events.second)),
        EVENT_TYPE_TEXTS.take(pa.array(events.event_type)),
        catalogue().texts.take(pa.array(events.product)),
        pc.cast(pa.array(events.user), pa.string()),
        _session_texts(events.session_high, events.session_low),
        "",
    )


def with_broken_rows(
    lines: pa.StringArray, rows: list[int], broken_before: int, day: dt.date
) -> tuple[bytes, dict[str, int]]:
    """Return the text of the lines, those in `rows` broken, and how many were broken for which reason."""
    text = memoryview(lines.buffers()[2])
    offsets = np.frombuffer(lines.buffers()[1], np.int32)[lines.offset :]
    parts: list[bytes | memoryview] = []
    reasons: Counter[str] = Counter()
    done = int(offsets[0])
    for number, row in enumerate(rows, broken_before):
        reason = "line_too_long" if number == 0 else BAD_REASONS[(number - 1) % len(BAD_REASONS)]
        reasons[reason] += 1
        begin, end = int(offsets[row]), int(offsets[row + 1])
        parts += [text[done:begin], _broken(bytes(text[begin:end]), reason, number // len(BAD_REASONS), day)]
        done = end
    parts.append(text[done : int(offsets[len(lines)])])
    return b"".join(parts), dict(reasons)


@functools.cache
def _time_texts() -> pa.StringArray:
    return pa.array(
        f" {hour:02d}:{minute:02d}:{second:02d} UTC,"
        for hour in range(24)
        for minute in range(60)
        for second in range(60)
    )


def _session_texts(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> pa.StringArray:
    """Return `,<uuid>` and a line end for each session name, without a UUID where the name is 0."""
    octets = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    digits = HEX_PAIRS[octets].view(np.uint8)
    text = np.full((len(high), 38), ord("-"), np.uint8)
    text[:, 0], text[:, 37] = ord(","), ord("\n")
    for begin, first, last in UUID_GROUPS:
        text[:, begin : begin + last - first] = digits[:, first:last]
    offsets = np.arange(len(high) + 1, dtype=np.int32) * text.shape[1]
    names = pa.StringArray.from_buffers(len(high), pa.py_buffer(offsets), pa.py_buffer(text))
    return names if low.all() else pc.if_else(pa.array(low != 0), names, ",\n")


def _broken(line: bytes, reason: str, turn: int, day: dt.date) -> bytes:
    """Return a line that is rejected for this reason; `turn` chooses between the ways to earn it."""
    fields = dict(zip(COLUMN_NAMES, line.decode().rstrip("\n").split(","), strict=True))

    def pick(*ways: str) -> str:
        return ways[turn % len(ways)]

    match reason:
        case "line_too_long":
            fields["brand"] = "x" * MAX_LINE_BYTES
        case "invalid_utf8":
            fields["brand"] = "caf\udce9"
        case "control_character":
            fields["brand"] = pick("sam\tsung", "sam\0sung", "sam\x1bsung")
        case "bad_quoting":
            fields["brand"] = pick('"samsung', 'sam"sung')
        case "wrong_column_count":
            if turn % 2:
                del fields["user_session"]
            else:
                fields["user_session"] += ",1"
        case "repeated_header":
            return HEADER
        case "missing_value":
            fields[pick("event_time", "event_type", "product_id", "category_id", "price", "user_id")] = ""
        case "too_long":
            fields["brand"] = "x" * 300
        case "time_without_zone":
            fields["event_time"] = pick(f"{day} 00:00:00", f"{day}T00:00:00.000")
        case "ambiguous_date":
            fields["event_time"] = pick(f"{day:%d/%m/%Y} 00:00:00 UTC", f"{day:%m-%d-%y} 00:00")
        case "bad_event_time":
            fields["event_time"] = pick("yesterday", f"{day} 24:00:00 UTC", "2019-02-30 00:00:00 UTC")
        case "bad_event_type":
            fields["event_type"] = pick("remove", "VIEW", "click")
        case "rounded_number":
            fields[pick("category_id", "user_id")] = pick("2.05301E+18", "2053013555631882655.0")
        case "bad_integer":
            fields[pick("user_id", "product_id", "category_id")] = pick(
                "9223372036854775808", "-1", "12a3", "1.5", "id"
            )
        case "bad_price":
            fields["price"] = pick("free", "1e3", "1.2.3", "12.1234567891", "$5")
        case "negative_price":
            fields["price"] = "-" + pick("1.00", "35.79", "0.01")
        case "bad_category_code":
            fields["category_code"] = pick(
                "electronics..smartphone", ".smartphone", "electronics.", "a" + ".a" * CATEGORY_LEVELS
            )
        case "too_late":
            fields["event_time"] = f"{day - dt.timedelta(LATENESS_DAYS + 1 + turn % 30)} 12:00:00 UTC"
        case "after_landing_day":
            fields["event_time"] = f"{day + dt.timedelta(1 + turn % 3)} 00:00:00 UTC"
        case _:
            raise ValueError(f"no line is known that earns the reason {reason!r}")
    return ",".join(fields.values()).encode(errors="surrogateescape") + b"\n"
