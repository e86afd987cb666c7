"""Messages that are events, and messages that are none; and what the stream's tables hold of them."""

from __future__ import annotations

import json
from typing import Any

from google.cloud import bigquery as bigquery_api

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES

LINE = b"2019-11-01 00:00:00 UTC,view,1,2,a.b,sony,3.50,4,s-1"
FIELDS = dict(zip(COLUMN_NAMES, LINE.decode().split(","), strict=True))


def as_json(**changes: Any) -> bytes:
    return json.dumps(FIELDS | changes).encode()


def rows_in(client: bigquery_api.Client, table: str) -> list[dict[str, Any]]:
    """The rows of a table of shop_raw, in the order of their message ids."""
    found = client.query_and_wait(f"SELECT * FROM shop_raw.{table} ORDER BY message_id")
    return [dict(row.items()) for row in found]


NESTED = 20_000
POISON: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "wrong_column_count", "The message is empty"),
    "a newline": (b"\n", "wrong_column_count", "The message is empty"),
    "a CRLF": (b"\r\n", "wrong_column_count", "The message is empty"),
    "a byte order mark": (b"\xef\xbb\xbf", "wrong_column_count", "The message is empty"),
    "spaces": (b"   ", "wrong_column_count", "has 1 fields; it should have 9"),
    "NULs": (b"\0\0\0", "control_character", "U+0000"),
    "a stray tab": (LINE.replace(b"sony", b"so\tny"), "control_character", "U+0009"),
    "not UTF-8": (LINE.replace(b"sony", b"so\xffny"), "invalid_utf8", "Byte 0xff"),
    "UTF-16": (LINE.decode().encode("utf-16"), "invalid_utf8", "Byte 0xff"),
    "a PNG": (b"\x89PNG\r\n\x1a\n\0\0", "several_lines", "The message has 3 lines"),
    "gzip": (b"\x1f\x8b\x08\0\0\0\0\0", "invalid_utf8", "Byte 0x8b"),
    "a text": (b"hello", "wrong_column_count", "has 1 fields"),
    "two lines": (LINE + b"\n" + LINE, "several_lines", "publish each event as a message of its own"),
    "a blank second line": (LINE + b"\n\n", "several_lines", "The message has 2 lines"),
    "header and line": (",".join(COLUMN_NAMES).encode() + b"\n" + LINE, "several_lines", "2 lines"),
    "a header": (",".join(COLUMN_NAMES).encode(), "repeated_header", "column names"),
    "a header in capitals": (
        ",".join(COLUMN_NAMES[::-1]).upper().encode(),
        "repeated_header",
        "column names",
    ),
    "a header in camel case": (
        ",".join(COLUMN_NAMES).title().replace("_", "").encode(),
        "repeated_header",
        "column names",
    ),
    "a header after byte order marks": (
        b"\xef\xbb\xbf\xef\xbb\xbf" + ",".join(COLUMN_NAMES).encode(),
        "repeated_header",
        "column names",
    ),
    "an open quote": (LINE.replace(b"sony", b'"sony'), "bad_quoting", "quote"),
    "10 MB": (b"x" * 10_000_000, "line_too_long", "The message has 10000000 bytes"),
    "10 MB of lines": ((LINE + b"\n") * 180_000, "line_too_long", f"at most {MAX_LINE_BYTES}"),
    "10 MB of JSON": (as_json(brand="x" * 10_000_000), "line_too_long", "at most"),
    "another event type": (LINE.replace(b"view", b"click"), "bad_event_type", "'click'"),
    "a negative price": (as_json(price=-1), "negative_price", "'-1'"),
    "a price with an exponent": (as_json(price=1e300), "bad_price", "'1e+300'"),
    "a huge integer": (
        as_json(user_id=0).replace(b'"user_id": 0', b'"user_id": ' + b"9" * 5000),
        "bad_integer",
        "999",
    ),
    "an id with a fraction": (as_json(user_id=4.5), "bad_integer", "'4.5'"),
    "an id that a float has rounded": (as_json(category_id=2.0530135556318825e18), "rounded_number", "e+18"),
    "a time without a zone": (
        as_json(event_time="2019-11-01T00:00:00"),
        "time_without_zone",
        "zone behind it",
    ),
    "an empty object": (b"{}", "missing_value", "event_time is empty"),
    "a lone brace": (b"{", "bad_json", "not JSON"),
    "two objects": (as_json() + as_json(), "bad_json", "Extra data"),
    "an array": (b"[" + as_json() + b"]", "bad_quoting", "quote"),
    "JSON, not UTF-8": (as_json().replace(b"sony", b"so\xffny"), "invalid_utf8", "Byte 0xff"),
    "JSON in UTF-16": (as_json().decode().encode("utf-16-le"), "bad_json", "not JSON"),
    "a deep array": (b'{"brand":' + b"[" * NESTED + b"]" * NESTED + b"}", "bad_json", "nested too deep"),
    "deep objects": (b'{"a":' * (NESTED // 2) + b"1" + b"}" * (NESTED // 2), "bad_json", "nested too deep"),
    "an endless array": (b'{"brand":' + b"[" * NESTED, "bad_json", "nested too deep"),
    "an object inside": (as_json(brand={"a": 1}), "bad_json", "brand is an object"),
    "an array inside": (as_json(brand=["a"]), "bad_json", "brand is an array"),
    "true": (as_json(brand=True), "bad_json", "brand is true"),
    "false": (as_json(price=False), "bad_json", "price is false"),
    "NaN": (as_json(price=float("nan")), "bad_json", "price is NaN"),
    "Infinity": (as_json(price=float("inf")), "bad_json", "price is NaN or infinite"),
    "-Infinity": (as_json(price=float("-inf")), "bad_json", "price is NaN or infinite"),
    "an unknown field": (as_json(colour="red"), "bad_json", "unknown fields: 'colour'"),
    "many unknown fields": (
        as_json(**{f"field_{n}": 1 for n in range(3000)}),
        "bad_json",
        "'field_4' and 2995 more",
    ),
    "a field twice": (as_json()[:-1] + b', "brand": "x"}', "bad_json", "more than once: 'brand'"),
    "half a surrogate pair": (as_json(brand="\ud800"), "invalid_utf8", "surrogate"),
    "an escaped NUL": (as_json(brand="\0"), "control_character", "U+0000"),
    "an escaped newline": (as_json(brand="a\nb"), "control_character", "U+000A"),
    "a surrogate as a name": (as_json(**{"\udfff": 1}), "bad_json", "unknown fields: '\\udfff'"),
}
"""Messages that are no events: data, the reason code, and what the detail says."""
