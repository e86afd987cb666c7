"""Files, values and messages as other programs and accidents make them, each with what must become of it."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES

DAY = "2019-11-01"
HEADER = ",".join(COLUMN_NAMES).encode() + b"\n"
FIELDS = dict(
    zip(
        COLUMN_NAMES,
        f"{DAY} 08:00:00 UTC,view,1001,2053,electronics.phone,acme,10.50,512,s-1".split(","),
        strict=True,
    )
)


def line(**changes: str) -> bytes:
    """An event as a CSV line; a value with a comma or quote must come quoted."""
    return ",".join((FIELDS | changes).values()).encode() + b"\n"


EVENT = line()
OTHER = line(user_id="513")
SWAPPED = HEADER.replace(b"product_id", b"-").replace(b"user_id", b"product_id").replace(b"-", b"user_id")
BOM = b"\xef\xbb\xbf"
LONG = b"x" * 10_000_000
LATE, EARLY = line(event_time="2019-10-24 23:59:59 UTC"), line(event_time="2019-11-02 00:00:00 UTC")
LATE_TOO = line(event_time="2019-10-25 00:00:00 UTC")


@dataclass(frozen=True)
class File:
    """A file of events, and what every path must make of it.

    `accepted` rows and `rejected` by reason; or `refused`, words of the error that refuses the whole file.
    `door`, `door_accepted` and `door_rejected` are land_export's where its answer is another, for it lands
    each line on its own day, translates what a header makes certain, and refuses a file without an event.
    `json_rejected` is what becomes of the rejects as JSON, which is longer. `name` is the file's. `load_only`
    are the reasons that come from the landing day, which a stream has not.
    """

    content: bytes
    accepted: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""
    door: str = ""
    door_accepted: int | None = None
    door_rejected: Mapping[str, int] | None = None
    json_rejected: Mapping[str, int] | None = None
    name: str = "a.csv"
    load_only: frozenset[str] = frozenset({"too_late", "after_landing_day"})


def zipped(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def csv(*lines: bytes, header: bytes = HEADER) -> bytes:
    return header + b"".join(lines)


WRONG_COUNT = {"wrong_column_count": 1}

FILES: dict[str, File] = {
    # Encodings.
    "a byte order mark": File(BOM + csv(EVENT), 1),
    "byte order marks of joined files": File(csv(EVENT) + BOM + csv(EVENT), 2, {"repeated_header": 1}),
    "a byte order mark inside a value": File(csv(EVENT, line(brand="\ufeffacme")), 2),
    "Latin-1": File(csv(EVENT, EVENT.replace(b"acme", b"k\xe4rcher")), 1, {"invalid_utf8": 1}),
    "UTF-16": File(csv(EVENT).decode().encode("utf-16"), refused="This is text in UTF-16"),
    "UTF-8, cut in a character": File(csv(EVENT) + line(user_session="s-é")[:-2], 1, {"invalid_utf8": 1}),
    "an overlong form of a character": File(
        csv(EVENT, EVENT.replace(b"acme", b"\xc0\xaf")), 1, {"invalid_utf8": 1}
    ),
    "a surrogate in UTF-8": File(csv(EVENT, EVENT.replace(b"acme", b"\xed\xa0\x80")), 1, {"invalid_utf8": 1}),
    "a value of other scripts": File(csv(EVENT, line(brand="日本🛒")), 2),
    # Line ends.
    "Windows line ends": File(csv(EVENT, OTHER).replace(b"\n", b"\r\n"), 2),
    "old Mac line ends": File(
        csv(EVENT, OTHER).replace(b"\n", b"\r"), refused="the header has extra columns 'user_session"
    ),
    "two carriage returns": File(csv(EVENT, EVENT.replace(b"\n", b"\r\r\n")), 1, {"control_character": 1}),
    "a carriage return inside": File(csv(EVENT, line(brand="ac\rme")), 1, {"control_character": 1}),
    "no newline at the end": File(csv(EVENT) + OTHER[:-1], 2),
    "a carriage return at the end": File(csv(EVENT) + OTHER[:-1] + b"\r", 2),
    "blank lines": File(b"\n\r\n" + csv(b"\n", EVENT, b"\n\n\r\n", OTHER, b"\n"), 2),
    "a line of spaces": File(csv(EVENT, b"   \n"), 1, WRONG_COUNT),
    "a line separator of Unicode": File(csv(EVENT, line(brand="ac\u2028me")), 2),
    # Quotes.
    "all fields quoted": File(
        csv(b",".join(b'"%b"' % value for value in EVENT.strip().split(b",")) + b"\n"), 1
    ),
    "a comma in quotes": File(csv(line(brand='"acme, inc"')), 1),
    "a quote in quotes": File(csv(line(brand='"ac""me"')), 1),
    "a newline in quotes": File(csv(EVENT, line(brand='"ac\nme"')), 1, {"bad_quoting": 2}),
    "a quote that is not closed": File(csv(EVENT, line(brand='"acme'), OTHER), 2, {"bad_quoting": 1}),
    "a quote inside a plain value": File(csv(EVENT, line(brand='5"disk')), 1, {"bad_quoting": 1}),
    "a quote with a backslash": File(csv(EVENT, line(brand='"ac\\"me"')), 1, {"bad_quoting": 1}),
    "single quotes": File(csv(EVENT, line(brand="'acme, inc'")), 1, WRONG_COUNT),
    "quoted lines over the borders of ranges": File(csv(*[line(brand='"a,""b"') for _ in range(40)]), 40),
    # Columns.
    "a column too few": File(csv(EVENT, EVENT.replace(b",acme", b"")), 1, WRONG_COUNT),
    "a column too many": File(csv(EVENT, EVENT.replace(b"acme", b"acme,inc")), 1, WRONG_COUNT),
    "a header without a column": File(HEADER.replace(b",brand", b""), refused="missing columns brand"),
    "a header with a column more": File(
        csv(header=HEADER.replace(b"\n", b",colour\n")), refused="extra columns 'colour'"
    ),
    "a header with a column twice": File(
        csv(header=HEADER.replace(b"user_id", b"price")), refused="repeated columns price"
    ),
    "columns in another order": File(
        csv(
            b",".join(EVENT.strip().split(b",")[::-1]) + b"\n",
            header=b",".join(HEADER.strip().split(b",")[::-1]) + b"\n",
        ),
        1,
    ),
    "ids swapped by the header": File(csv(line(product_id="512", user_id="1001"), header=SWAPPED), 1),
    "a header in capitals": File(csv(line(product_id="512", user_id="1001"), header=SWAPPED.upper()), 1),
    "a header in camel case": File(csv(EVENT, header=HEADER.title().replace(b"_", b"")), 1),
    "a header of another language": File(
        csv(EVENT, header=b"zeit,art,a,b,c,d,e,f,g\n"), refused="neither an event nor a header"
    ),
    "no header": File(EVENT + OTHER, 2),
    "the header again": File(csv(EVENT) + csv(OTHER), 2, {"repeated_header": 1}),
    "a header of another order further on": File(
        csv(EVENT) + csv(OTHER, header=SWAPPED), refused="is a header of other columns"
    ),
    "100,000 columns": File(
        csv(EVENT, b",".join([b"1"] * 30_000) + b"\n", b"," * 99_999 + b"\n"),
        1,
        {"wrong_column_count": 1, "line_too_long": 1},
    ),
    "100,000 columns in the header": File(
        b"a," * 100_000 + b"\n" + EVENT, refused="neither an event nor a header"
    ),
    "a first line of letters without end": File(b"a" * 10_000_000, refused="neither an event nor a header"),
    "semicolons and decimal commas": File(
        csv(line(price="10#50")).replace(b",", b";").replace(b"#", b","),
        refused="separated by semicolons",
        door_accepted=1,
    ),
    "tabs": File(
        csv(EVENT).replace(b",", b"\t"), refused="separated by tabs: separate them by commas", door_accepted=1
    ),
    "an index column": File(
        csv(b"0," + EVENT, header=b"," + HEADER), refused="extra columns ''", door_accepted=1
    ),
    "an index column that a row lacks": File(
        csv(b"0," + EVENT, EVENT, header=b"," + HEADER),
        refused="extra columns ''",
        door_accepted=1,
        door_rejected=WRONG_COUNT,
    ),
    "pipes": File(csv(EVENT).replace(b",", b"|"), refused="separated by pipes"),
    # Long lines, and characters that are no text.
    "a line of 10 MB": File(csv(EVENT, LONG + b"\n", OTHER), 2, {"line_too_long": 1}),
    "a line of 10 MB without end": File(csv(EVENT) + LONG, 1, {"line_too_long": 1}),
    "a line one byte too long": File(
        csv(EVENT, line(brand="x" * (MAX_LINE_BYTES + 6 - len(EVENT)))), 1, {"line_too_long": 1}
    ),
    "a line of the greatest length": File(
        csv(EVENT, line(brand="x" * (MAX_LINE_BYTES + 5 - len(EVENT)))),
        1,
        {"too_long": 1},
        json_rejected={"line_too_long": 1},
    ),
    "a NUL": File(csv(EVENT, line(brand="ac\0me")), 1, {"control_character": 1}),
    "lines of NULs": File(csv(EVENT, b"\0" * 100 + b"\n"), 1, {"control_character": 1}),
    "an escape sequence": File(csv(EVENT, line(brand="\x1b[31macme")), 1, {"control_character": 1}),
    "a tab inside": File(csv(EVENT, line(brand="ac\tme")), 1, {"control_character": 1}),
    "the separator of ids": File(csv(EVENT, line(brand="ac\x1fme")), 1, {"control_character": 1}),
    # What is no file of events.
    "an empty object": File(b"", refused="holds no event"),
    "blank lines alone": File(b"\n" * 1000, refused="holds no event"),
    "a header alone": File(HEADER, 0, {}, door="holds no event"),
    "a page of HTML": File(b"<!DOCTYPE html>\n<html></html>\n", refused="This is a page of HTML"),
    "a Git LFS pointer": File(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
        refused="This is a pointer of Git LFS",
    ),
    "Parquet": File(b"PAR1\x15\x04\x15\x10", refused="This is Parquet: export it as CSV"),
    "a PNG": File(b"\x89PNG\r\n\x1a\n\0\0", refused="neither an event nor a header"),
    "a workbook": File(zipped(("xl/workbook.xml", b"<x/>")), refused="This is a workbook of Excel"),
    "JSON lines": File(json.dumps(FIELDS).encode() + b"\n", refused="This is JSON"),
    # Compression.
    "gzip": File(gzip.compress(csv(EVENT)), 1, name="a.csv.gz"),
    "gzip that is called .csv": File(gzip.compress(csv(EVENT)), 1),
    "gzip in gzip": File(gzip.compress(gzip.compress(csv(EVENT))), 1, name="a.csv.gz"),
    "gzip of several members": File(
        gzip.compress(csv(EVENT)[:120]) + gzip.compress(csv(EVENT, OTHER)[120:]), 2, name="a.csv.gz"
    ),
    "gzip cut short": File(
        gzip.compress(csv(EVENT * 50))[:-20], refused="damaged or cut short", name="a.csv.gz"
    ),
    "gzip with rubbish behind": File(
        gzip.compress(csv(EVENT)) + b"rubbish", refused="damaged or cut short", name="a.csv.gz"
    ),
    "gzip with a wrong checksum": File(
        gzip.compress(csv(EVENT))[:-8] + b"\0" * 8, refused="damaged or cut short", name="a.csv.gz"
    ),
    "plain text that is called .gz": File(csv(EVENT), refused="damaged or cut short", name="a.csv.gz"),
    "a gzip bomb": File(
        gzip.compress(csv(EVENT) + b"x" * 50_000_000), 1, {"line_too_long": 1}, name="a.csv.gz"
    ),
    # Days.
    "seven days late and eight": File(
        csv(EVENT, LATE_TOO, LATE, EARLY),
        2,
        {"too_late": 1, "after_landing_day": 1},
        door_accepted=4,
        door_rejected={},
    ),
    "years that no shop has seen": File(
        csv(EVENT, line(event_time="0001-01-01 00:00:00 UTC"), line(event_time="9999-12-31 23:59:59 UTC")),
        1,
        {"too_late": 1, "after_landing_day": 1},
    ),
    "an offset that changes the day": File(
        csv(EVENT, line(event_time="2019-11-01T23:00:00-02:00")),
        1,
        {"after_landing_day": 1},
        door_accepted=2,
        door_rejected={},
    ),
}
"""What lies in a landing folder, or in exports/ as one object."""

ARCHIVES: dict[str, tuple[bytes, str]] = {
    "a zip with two files": (zipped(("a.csv", csv(EVENT)), ("b.csv", csv(EVENT))), "must hold one .csv file"),
    "a zip with another file that is packed": (
        zipped(("a.csv", csv(EVENT)), ("b.csv.gz", gzip.compress(csv(EVENT)))),
        r"but holds 'a.csv', 'b.csv.gz'\. Zip one",
    ),
    "a zip with a file that has no ending": (
        zipped(("a.csv", csv(EVENT)), ("part-00001", csv(EVENT))),
        "'part-00001'",
    ),
    "a zip with a zip": (zipped(("a.csv", csv(EVENT)), ("b.zip", zipped(("b.csv", EVENT)))), "'b.zip'"),
    "a zip with events among the shadows of macOS": (
        zipped(("a.csv", csv(EVENT)), ("__MACOSX/b.csv", EVENT)),
        "'__MACOSX/b.csv'",
    ),
    "a zip with shadows of macOS": (
        zipped(("a/a.csv", csv(EVENT)), ("a/.DS_Store", b"Bud1"), ("__MACOSX/a/._a.csv", b"\0\5\x16\7")),
        "",
    ),
    "a zip with 10,000 tiny files": (
        zipped(*((f"{number:05}.csv", EVENT) for number in range(10_000))),
        "'00004.csv' and 9,995 more",
    ),
    "two zips that are joined": (
        zipped(("a.csv", csv(EVENT))) + zipped(("b.csv", csv(EVENT))),
        "other bytes stand before or behind it",
    ),
    "a zip with lines behind it": (zipped(("a.csv", csv(EVENT))) + EVENT, "other bytes stand before"),
    "a zip without a file": (zipped(), "but holds nothing"),
    "a zip with text alone": (zipped(("a.txt", EVENT)), "but holds 'a.txt'"),
    "a zip cut short": (zipped(("a.csv", csv(EVENT)))[:-30], "damaged or cut short"),
    "a zip that is none": (csv(EVENT), "damaged or cut short"),
    "a zip with a path that climbs": (zipped(("../../etc/a.csv", csv(EVENT))), ""),
    "a zip with a bomb": (zipped(("a.csv", csv(EVENT) + b"x" * 50_000_000)), ""),
}
"""Zip files, which only land_export takes, and words of the error; "" if its one event is landed."""

VALUES: list[tuple[str, str, str]] = [
    # Numbers.
    *(
        ("user_id", text, "bad_integer")
        for text in ("-1", "+1", "1.5", "0x1f", "1_000", "1 000", " 1", "1 ", "inf")
    ),
    *(
        ("user_id", text, "bad_integer")
        for text in ("nan", "NULL", "\u0661\u0662", "9223372036854775808", "9" * 40)
    ),
    *(("category_id", text, "rounded_number") for text in ("2.05301E+18", "2e18", "2053013555631882655.0")),
    *(("product_id", text, "") for text in ("1001.0", "0001001", "1001.000")),
    *(
        ("price", text, "bad_price")
        for text in ("1e3", "1E-05", "inf", "-inf", "nan", "NULL", ".5", "5.", "+5")
    ),
    *(
        ("price", text, "bad_price")
        for text in ("1 000", "$5", "5 EUR", "0x10", "1.2.3", "9" * 13, "0.0000000001")
    ),
    *(("price", text, "bad_price") for text in ("10.500000000000002", "1.234.567", "\uff11\uff10")),
    *(("price", text, "negative_price") for text in ("-1", "-0", "-0.000000000")),
    *(("price", text, "") for text in ("10.5", "0010.50", "10.5000000000000")),
    *(("price", text, "") for text in ("10.500000000",)),
    # Times.
    *(
        ("event_time", text, "time_without_zone")
        for text in (f"{DAY} 08:00:00", f"{DAY}T08:00:00", f"{DAY}T08:00:00.000")
    ),
    *(
        ("event_time", text, "ambiguous_date")
        for text in (
            "05/11/2019 00:00:00",
            "13/11/2019 00:00:00",
            "01/11/2019 08:00:00 UTC",
            "11-01-19 08:00",
        )
    ),
    ("event_time", "2019-31-10 08:00:00 UTC", "bad_event_time"),
    *(
        ("event_time", text, "bad_event_time")
        for text in (f"{DAY} 08:00:60 UTC", f"{DAY} 24:00:00 UTC", f"{DAY} 08:00 UTC")
    ),
    *(
        ("event_time", text, "bad_event_time")
        for text in ("2019-02-29 08:00:00 UTC", "0000-01-01 00:00:00 UTC", "43770.33")
    ),
    *(
        ("event_time", text, "bad_event_time")
        for text in ("1572595200", "1572595200000", f"{DAY}", "NULL", f"{DAY} 08:00:00 CET")
    ),
    *(
        ("event_time", text, "bad_event_time")
        for text in (f"{DAY} 08:00:00+14:30", f"{DAY}T08:00:00.0000001Z")
    ),
    *(
        ("event_time", text, "bad_event_time")
        for text in ("10000-01-01 00:00:00 UTC", f" {DAY} 08:00:00 UTC")
    ),
    *(
        ("event_time", text, "")
        for text in (f"{DAY}T08:00:00Z", f"{DAY}T08:00:00.000Z", f"{DAY} 08:00:00+00:00")
    ),
    *(
        ("event_time", text, "")
        for text in (f"{DAY}T10:00:00+02:00", f"{DAY} 00:00:00-0800", f"{DAY} 08:00:00.000000 UTC")
    ),
    # Types and texts.
    *(
        ("event_type", text, "bad_event_type")
        for text in ("VIEW", "remove_from_cart", " view", "view ", "1", "NULL")
    ),
    *((name, "", "missing_value") for name in ("event_time", "event_type", "product_id", "price", "user_id")),
    *(("brand", text, "") for text in ("acme", "ACME", " acme", "acme ", "Acme\u00a0")),
    *(("category_code", text, "") for text in ("Electronics.Phone", " electronics.phone")),
    ("user_session", " s-1 ", ""),
    ("brand", "b" * 257, "too_long"),
    ("category_code", "a" * 257, "too_long"),
    ("user_session", "\U0001f6d2" * 129, "too_long"),
    *(("category_code", text, "bad_category_code") for text in ("a..b", ".a", "a.", ".", "a.b.c.d.e")),
]
"""A column, a value of it, and the reason of its reject; "" if it is the plain event written otherwise."""

NOTHING: list[tuple[str, str]] = [
    (column, word)
    for column in ("category_code", "brand", "user_session")
    for word in (" ", "NULL", "null", "None", r"\N", "NaN")
    if (column, word) != ("brand", "NaN")
]
"""A column and a word that means nothing in it."""
