"""landing: an export of any size becomes landing days, and no line is lost."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage

from beam_jobs.contract import COLUMN_NAMES, ContractError
from shopstream.landing import split as landing

HEADER = ",".join(COLUMN_NAMES) + "\n"
PLACE = "gs://b/exports/e.csv"


def event(day: str, n: int = 0) -> str:
    return f"{day} 00:00:{n % 60:02d} UTC,view,{n},2053013555631882655,appliances.kitchen,nan,1.5,5,s-{n}\n"


class Part(io.BytesIO):
    """Keeps its bytes after it is closed."""

    def __init__(self, kept: dict[tuple[str, int], bytes], key: tuple[str, int]) -> None:
        super().__init__()
        self.kept, self.key = kept, key

    def close(self) -> None:
        if not self.closed:
            self.kept[self.key] = self.getvalue()
        super().close()


def split(export: bytes | str) -> tuple[dict[str, int], dict[tuple[str, int], bytes]]:
    """Return the rows of each day, and the parts as {(day, number): bytes}."""
    source = io.BytesIO(export.encode() if isinstance(export, str) else export)
    kept: dict[tuple[str, int], bytes] = {}
    landed = landing.split(
        source, PLACE, lambda day, number: Part(kept, (str(day), number)), lambda *counters: None
    )
    return {str(day): count for day, count in landed.rows.items()}, kept


def text_of(parts: dict[tuple[str, int], bytes], day: str) -> str:
    return "".join(parts[key].decode() for key in sorted(parts) if key[0] == day)


def test_each_day_gets_its_lines_under_the_exports_header() -> None:
    first, second = event("2019-11-01", 1), event("2019-11-02", 2)
    rows, parts = split(HEADER + first + second + second)
    assert rows == {"2019-11-01": 1, "2019-11-02": 2}
    assert parts == {
        ("2019-11-01", 0): (HEADER + first).encode(),
        ("2019-11-02", 0): (HEADER + second + second).encode(),
    }


def test_an_export_without_header_gives_parts_without_header() -> None:
    rows, parts = split(event("2019-11-01") + event("2019-11-02"))
    assert rows == {"2019-11-01": 1, "2019-11-02": 1}
    assert parts["2019-11-02", 0].decode() == event("2019-11-02")


def test_a_byte_order_mark_stays_in_front_and_hides_no_day() -> None:
    line = event("2019-11-01")
    assert split("\ufeff" + line)[1] == {("2019-11-01", 0): ("\ufeff" + line).encode()}
    assert split("\ufeff" + HEADER + line)[1] == {("2019-11-01", 0): ("\ufeff" + HEADER + line).encode()}


@pytest.mark.parametrize("block_bytes", [64, 100_000])
def test_byte_order_marks_of_joined_files_hide_no_day(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", block_bytes)
    one, two, three = event("2019-11-01"), event("2019-11-02"), event("2019-11-03")
    export = (
        HEADER
        + one
        + "\ufeff"
        + HEADER
        + two
        + "\ufeff\n"
        + "\ufeff\ufeff"
        + three
        + '\ufeff"'
        + one[:10]
        + '"\n'
    )
    rows, parts = split(export)
    assert rows == {"2019-11-01": 2, "2019-11-02": 1, "2019-11-03": 2}
    assert text_of(parts, "2019-11-01") == HEADER + one + "\ufeff" + HEADER


@pytest.mark.parametrize("block_bytes", [64, 100_000])
@pytest.mark.parametrize("start", ["", "\ufeff", "\ufeff\ufeff"])
def test_a_header_of_other_columns_further_on_is_refused_by_name_and_place(
    start: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", block_bytes)
    swapped = HEADER.replace("product_id", "-").replace("user_id", "product_id").replace("-", "user_id")
    before = HEADER + event("2019-11-01") * 3
    place = len((before + start).encode()) - len(start.encode())
    for other in (swapped, swapped.title(), HEADER.replace("brand", "make"), HEADER.strip() + ",colour\n"):
        with pytest.raises(
            ContractError, match=rf"{PLACE}: the line at byte {place} is a header of other columns"
        ):
            split(before + start + other + event("2019-11-02"))
    assert split(before + start + HEADER.upper() + event("2019-11-02"))[0] == {
        "2019-11-01": 4,
        "2019-11-02": 1,
    }


def test_windows_line_ends_are_kept() -> None:
    export = (HEADER + event("2019-11-01") * 2).replace("\n", "\r\n").encode()
    assert split(export) == ({"2019-11-01": 2}, {("2019-11-01", 0): export})


def test_a_line_without_a_readable_day_goes_with_the_line_before_it() -> None:
    bad = "yesterday,view\n"
    rows, parts = split(event("2019-11-01") + bad + event("2019-11-02") + bad + bad)
    assert rows == {"2019-11-01": 2, "2019-11-02": 3}
    assert text_of(parts, "2019-11-02") == event("2019-11-02") + bad + bad


def test_first_lines_without_a_readable_day_go_with_the_first_line_that_has_one() -> None:
    bad = event("yesterday") + "y\n"
    rows, parts = split(bad + event("2019-11-05"))
    assert rows == {"2019-11-05": 3}
    assert text_of(parts, "2019-11-05") == bad + event("2019-11-05")


@pytest.mark.parametrize("block_bytes", [64, 100_000])
@pytest.mark.parametrize("blank", ["\n", "\r\n"])
def test_blank_lines_are_no_rows(blank: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", block_bytes)
    one, two = event("2019-11-01"), event("2019-11-02")
    rows, _ = split(one + blank * 3 + two + blank + two + "\r\r\n" + blank * 100 + "\r")
    assert rows == {"2019-11-01": 1, "2019-11-02": 3}


@pytest.mark.parametrize("block_bytes", [64, 100_000])
@pytest.mark.parametrize("start", ["\n", "\r\n\n", "\ufeff\r\n", "\n" * 200])
def test_a_header_is_found_after_blank_lines_also_when_its_columns_are_permuted(
    start: str, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", block_bytes)
    header = ",".join(COLUMN_NAMES[::-1]) + "\n"
    lines = [",".join(event(day).strip().split(",")[::-1]) + "\n" for day in ("2019-11-02", "2019-11-03")]
    rows, parts = split(start + header + "".join(lines))
    assert rows == {"2019-11-02": 1, "2019-11-03": 1}
    assert text_of(parts, "2019-11-03") == header + lines[1]


@pytest.mark.parametrize(
    "day", ["2019-11-31", "1999-12-31", "2100-01-01", "0000-00-00", "2019-1-01", "2019/11/01"]
)
def test_an_impossible_or_implausible_day_is_not_a_day(day: str) -> None:
    rows, _ = split(event("2019-11-01") + event(day))
    assert rows == {"2019-11-01": 2}


def test_event_time_may_be_any_column() -> None:
    header = (
        "event_type,brand," + ",".join(c for c in COLUMN_NAMES if c not in ("event_type", "brand")) + "\n"
    )
    days = ["2019-11-01", "2019-11-02", "2019-11-01"]
    lines = [f"view,b{i},{day} 00:00:00 UTC,1,2,,3,4,s\n" for i, day in enumerate(days)]
    rows, parts = split(header + "".join(lines) + "view,short\n")
    assert rows == {"2019-11-01": 3, "2019-11-02": 1}
    assert text_of(parts, "2019-11-01") == header + lines[0] + lines[2] + "view,short\n"


def test_a_comma_inside_quotes_before_event_time_ends_no_field() -> None:
    header = (
        "brand,event_time," + ",".join(c for c in COLUMN_NAMES if c not in ("event_time", "brand")) + "\n"
    )
    lines = [
        '"black, decker",2019-11-02 00:00:00 UTC,view,1,2,,3,4,s\n',
        'plain,"2019-11-03 00:00:00 UTC",view,1,2,,3,4,s\n',
        '"not closed,2019-11-04 00:00:00 UTC,view,1,2,,3,4,s\n',
    ]
    rows, _ = split(header + "".join(lines))
    assert rows == {"2019-11-02": 1, "2019-11-03": 2}


def test_a_quoted_event_time_is_read() -> None:
    assert split('"2019-11-02 00:00:00 UTC","view",1,2,,,3,4,\n')[0] == {"2019-11-02": 1}


def test_a_missing_final_newline_loses_nothing() -> None:
    _, parts = split(event("2019-11-01") + event("2019-11-01").rstrip("\n"))
    assert text_of(parts, "2019-11-01") == event("2019-11-01") + event("2019-11-01").rstrip("\n")


@pytest.mark.parametrize("block_bytes", [64, 200, 1000, 100_000])
def test_any_block_size_gives_the_same_lines_in_the_same_order(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a block is smaller than a line."""
    choose = random.Random(7)
    lines = [event(f"2019-11-{choose.randint(1, 5):02d}", n) for n in range(300)]
    lines[50:50] = ["bad\n", "\n", "x" * 500 + "\n"]
    monkeypatch.setattr(landing, "BLOCK_BYTES", block_bytes)
    rows, parts = split(event("2019-11-01") + "".join(lines))

    expected: dict[str, str] = {}
    day = "2019-11-01"
    for line in [event("2019-11-01"), *lines]:
        day = line[:10] if line.startswith("2019") else day
        expected[day] = expected.get(day, "") + line
    assert {day: text_of(parts, day) for day in rows} == expected
    assert rows == {day: len(list(filter(None, text.split("\n")))) for day, text in sorted(expected.items())}


def test_lines_in_any_order_of_time_keep_a_bounded_number_of_parts_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", 100)
    monkeypatch.setattr(landing, "MAX_OPEN_PARTS", 2)
    days = ["2019-11-01", "2019-11-02", "2019-11-01", "2019-11-03", "2019-11-02", "2019-11-01"]
    rows, parts = split(HEADER + "".join(event(day, n) for n, day in enumerate(days)))
    assert rows == {"2019-11-01": 3, "2019-11-02": 2, "2019-11-03": 1}
    assert sorted(parts) == [
        ("2019-11-01", 0),
        ("2019-11-01", 1),
        ("2019-11-02", 0),
        ("2019-11-02", 1),
        ("2019-11-03", 0),
    ]
    assert parts["2019-11-01", 1].decode() == HEADER + event("2019-11-01", 5)


@pytest.mark.parametrize(
    ("export", "words"),
    [
        (b"", "holds no event"),
        (HEADER.encode(), "holds no event"),
        (b"\n\r\n" * 3, "holds no event"),
        (b"\xef\xbb\xbf\r", "holds no event"),
        (b"1,view,2,3,,,4,5,\n" * 2, "reject each of its first 2 lines: bad_event_time 2. event_time is '#'"),
        (
            event("2150-11-01").encode(),
            "none of its first 1 lines has an event_time of the years 2000 to 2099",
        ),
        (
            event("2019-11-01").replace(" UTC", "").encode(),
            "time_without_zone 1. .* tell land_export that it is",
        ),
        (
            event("2019-11-01").replace("2053013555631882655", "2.05301E+18").encode(),
            "rounded_number 1. .* save ids",
        ),
        (b"time,what\n1,2\n", "the first line is neither an event nor a header: 'time,what'"),
        (b"event_time,brand,what\n1,2,3\n", "extra columns 'what'; missing columns event_type"),
        ("event_time,event_type\n".encode("utf-16"), "neither an event nor a header"),
        (b"\x89PNG\x0d\x0a\x1a\x0a\x00\x00", "neither an event nor a header"),
        (b"a,b\rc,d\r", "neither an event nor a header"),
    ],
)
def test_what_is_no_export_is_refused_before_anything_is_written(export: bytes, words: str) -> None:
    def open_part(day: date, number: int) -> Any:
        raise AssertionError("a part was opened")

    with pytest.raises(ContractError, match=words) as caught:
        landing.split(io.BytesIO(export), PLACE, open_part, lambda *counters: None)
    assert PLACE in str(caught.value)


def test_a_line_lands_on_its_day_in_utc_whatever_its_form() -> None:
    lines = [
        event("2019-11-02").replace("2019-11-02 00:00:00 UTC", time)
        for time in ("2019-11-01T23:59:59.5Z", "2019-11-02 00:30:00+01:00", "2019-11-01T22:00:00-02:00")
    ]
    rows, parts = split(HEADER + "".join(lines))
    assert rows == {"2019-11-01": 2, "2019-11-02": 1}
    assert parts["2019-11-01", 0].decode() == HEADER + lines[0] + lines[1]
    assert parts["2019-11-02", 0].decode() == HEADER + lines[2]


@pytest.mark.parametrize("block_bytes", [100, 100_000])
def test_lines_that_the_load_will_reject_are_told_by_day_and_reason(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", block_bytes)
    first, second = event("2019-11-01"), event("2019-11-02")
    export = [first, "rubbish\n", first.replace(",1.5,", ",free,"), "\n", second.replace(" UTC", ""), second]
    export += [event("2150-01-01"), event("1970-01-01"), "x" * 70_000 + "\n"]
    landed = landing.split(
        io.BytesIO((HEADER + "".join(export)).encode()), PLACE, lambda *_: io.BytesIO(), lambda *_: None
    )
    assert landed.rows == {date(2019, 11, 1): 3, date(2019, 11, 2): 5}
    assert landed.rejected == {
        date(2019, 11, 1): {"wrong_column_count": 1, "bad_price": 1},
        date(2019, 11, 2): {
            "time_without_zone": 1,
            "after_landing_day": 1,
            "too_late": 1,
            "line_too_long": 1,
        },
    }
    assert landed.translated == []


@pytest.mark.parametrize("block_bytes", [100, 100_000])
def test_a_translated_export_lands_as_what_it_means(
    block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", block_bytes)
    plain = event("2019-11-01", 1) + event("2019-11-02", 2)
    translated = plain.replace(".5,", "#5,").replace(",", ";").replace("#", ",").replace(" UTC", "")
    kept: dict[tuple[str, int], bytes] = {}
    landed = landing.split(
        io.BytesIO((HEADER.replace(",", ";") + translated).encode()),
        PLACE,
        lambda day, number: Part(kept, (str(day), number)),
        lambda *_: None,
        times_are_utc=True,
    )
    assert landed.rejected == {}
    assert kept == {
        ("2019-11-01", 0): (HEADER + event("2019-11-01", 1)).encode(),
        ("2019-11-02", 0): (HEADER + event("2019-11-02", 2)).encode(),
    }
    assert landed.translated == [
        "fields separated by semicolons",
        "prices with a decimal comma: 2",
        "times without a zone, taken for UTC: 2",
    ]


def test_a_header_further_on_is_told_by_its_place_in_the_stored_file() -> None:
    header = (HEADER.strip() + "\n").replace(",", ";")
    start = header + event("2019-11-01").replace(",", ";") * 2
    other = header.replace("product_id", "-").replace("user_id", "product_id").replace("-", "user_id")
    with pytest.raises(ContractError, match=f"the line at byte {len(start)} is a header of other columns"):
        split(start + other)


def test_too_many_different_days_are_an_error_and_not_ten_thousand_folders() -> None:
    many = "".join(event(str(date.fromordinal(date(2001, 1, 1).toordinal() + n))) for n in range(500))
    with pytest.raises(ContractError, match="more than 400 different days, among them 2001-01-01"):
        split(many)


def test_days_mixed_beyond_measure_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "BLOCK_BYTES", 100)
    monkeypatch.setattr(landing, "MAX_OPEN_PARTS", 1)
    monkeypatch.setattr(landing, "MAX_PARTS", 5)
    with pytest.raises(ContractError, match=r"more than 5 parts\. Sort it by event_time"):
        split("".join(event(f"2019-11-0{1 + n % 2}") for n in range(10)))


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return buffer.getvalue()


def read(stored: bytes, name: str) -> str:
    with landing.open_export(io.BytesIO(stored), name) as source:
        return source.read().decode()


def test_an_export_is_decompressed_as_its_name_says() -> None:
    text = HEADER + event("2019-11-01")
    assert read(text.encode(), "e.csv") == text
    assert read(gzip.compress(text.encode()), "e.csv.gz") == text
    assert read(gzip.compress(HEADER.encode()) + gzip.compress(b"x\n"), "e.csv.gz") == HEADER + "x\n"
    assert read(zipped(**{"folder__2019-Nov.csv": text}), "e.csv.zip") == text


@pytest.mark.parametrize(
    ("stored", "name", "words"),
    [
        (b"plain text", "e.csv.gz", "damaged or cut short"),
        (gzip.compress(b"a" * 100_000)[:-20], "e.csv.gz", "damaged or cut short"),
        (b"plain text", "e.zip", "damaged or cut short"),
        (zipped(**{"a.csv": "1", "b.csv": "2"}), "e.zip", "and nothing else, but holds 'a.csv', 'b.csv'"),
        (zipped(**{"a.txt": "1"}), "e.zip", "but holds 'a.txt'"),
        (zipped(), "e.zip", "but holds nothing"),
    ],
)
def test_a_damaged_or_ambiguous_archive_is_refused(stored: bytes, name: str, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        read(stored, name)


def test_memory_does_not_grow_with_the_export(tmp_path: Path) -> None:
    export = tmp_path / "big.csv"
    with export.open("w") as file:
        file.write(HEADER)
        for day in range(1, 9):
            file.write(event(f"2019-11-{day:02d}") * 100_000)
    assert export.stat().st_size > 60e6

    tracemalloc.start()
    with export.open("rb") as source:
        landed = landing.split(
            source, PLACE, lambda day, n: (tmp_path / f"{day}-{n}").open("wb"), lambda *counters: None
        )
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert landed.rows.total() == 800_000
    assert peak_bytes < 8 * landing.BLOCK_BYTES


def listing(bucket: storage.Bucket) -> dict[str, bytes]:
    return {
        b.name.removeprefix("landing/events/"): b.download_as_bytes()
        for b in bucket.list_blobs(prefix="landing/")
    }


@pytest.mark.integration
class TestOnCloudStorage:
    """land, on the Cloud Storage emulator."""

    @staticmethod
    def upload(bucket: storage.Bucket, name: str, stored: bytes) -> None:
        bucket.blob(name).upload_from_string(stored)

    def test_an_export_becomes_marked_landing_days(self, bucket: storage.Bucket) -> None:
        one, two = event("2019-11-01", 1), event("2019-11-02", 2)
        self.upload(bucket, "exports/2019-Nov.csv.zip", zipped(**{"2019-Nov.csv": HEADER + one + two}))
        landed = landing.land(bucket.client, bucket.name, "exports/2019-Nov.csv.zip")
        assert landed == {
            "export": f"gs://{bucket.name}/exports/2019-Nov.csv.zip",
            "rows": 2,
            "days": {"2019-11-01": 1, "2019-11-02": 1},
            "rejected": {},
            "translated": [],
        }
        assert listing(bucket) == {
            "2019-11-01/2019-Nov-00000.csv": (HEADER + one).encode(),
            "2019-11-01/_SUCCESS": b"",
            "2019-11-02/2019-Nov-00000.csv": (HEADER + two).encode(),
            "2019-11-02/_SUCCESS": b"",
        }

    def test_a_part_longer_than_an_upload_chunk_arrives_whole(
        self, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(landing, "UPLOAD_CHUNK_BYTES", 256 * 1024)
        monkeypatch.setattr(landing, "BLOCK_BYTES", 100_000)
        text = HEADER + "".join(event("2019-11-01", n) for n in range(10_000))
        self.upload(bucket, "exports/a.csv.gz", gzip.compress(text.encode()))
        assert landing.land(bucket.client, bucket.name, "exports/a.csv.gz")["rows"] == 10_000
        assert listing(bucket)["2019-11-01/a-00000.csv"] == text.encode()

    @pytest.mark.parametrize("name", ["exports/a.csv", "exports/a.csv.gz", "exports/a.zip"])
    def test_an_object_with_an_encoding_of_its_own_is_landed_whole(
        self, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(landing, "BLOCK_BYTES", 10_000)
        text = HEADER + "".join(event("2019-11-01", n) for n in range(10_000))
        export = zipped(**{"a.csv": text}) if name.endswith(".zip") else text.encode()
        blob = bucket.blob(name)
        blob.content_encoding = "gzip"
        blob.upload_from_string(gzip.compress(export), content_type="text/csv")
        assert landing.land(bucket.client, bucket.name, name)["rows"] == 10_000
        assert listing(bucket)["2019-11-01/a-00000.csv"] == text.encode()

    @pytest.mark.parametrize("then", ["written anew", "deleted"])
    def test_an_export_that_changes_while_it_is_read_lands_nothing_as_whole(
        self, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch, then: str
    ) -> None:
        monkeypatch.setattr(landing, "BLOCK_BYTES", 10_000)
        former, latter = (
            "".join(event("2019-11-01", user) for user in range(n, n + 10_000)) for n in (1000, 20_000)
        )
        self.upload(bucket, "exports/a.csv", former.encode())
        blocks = 0

        def change(*_: int) -> None:
            nonlocal blocks
            blocks += 1
            if blocks == 3 and then == "deleted":
                bucket.blob("exports/a.csv").delete()
            elif blocks == 3:
                self.upload(bucket, "exports/a.csv", latter.encode())

        monkeypatch.setattr(landing, "_log_progress", lambda uri: change)
        with pytest.raises(ContractError, match=r"exports/a\.csv was written anew or deleted while it was"):
            landing.land(bucket.client, bucket.name, "exports/a.csv")
        assert [name for name in listing(bucket) if "_" in name] == ["2019-11-01/_UNFINISHED-a"]

    def test_an_object_with_another_encoding_is_refused(self, bucket: storage.Bucket) -> None:
        blob = bucket.blob("exports/a.csv")
        blob.content_encoding = "br"
        blob.upload_from_string(event("2019-11-01").encode(), content_type="text/csv")
        with pytest.raises(ContractError, match=r"exports/a\.csv has the Content-Encoding 'br'"):
            landing.land(bucket.client, bucket.name, "exports/a.csv")
        assert listing(bucket) == {}

    def test_a_name_with_spaces_and_brackets_is_a_name(self, bucket: storage.Bucket) -> None:
        self.upload(bucket, "exports/2019-Nov (1) \u00e4.csv", event("2019-11-01").encode())
        landing.land(bucket.client, bucket.name, "exports/2019-Nov (1) \u00e4.csv")
        assert "2019-11-01/2019-Nov (1) \u00e4-00000.csv" in listing(bucket)

    def test_a_repeated_run_leaves_exactly_the_same(self, bucket: storage.Bucket) -> None:
        self.upload(bucket, "exports/a.csv", (event("2019-11-01") + event("2019-11-02")).encode())
        first = landing.land(bucket.client, bucket.name, "exports/a.csv")
        before = listing(bucket)
        assert landing.land(bucket.client, bucket.name, "exports/a.csv") == first
        assert listing(bucket) == before

    def test_a_run_that_died_leaves_no_mark_and_its_repetition_all_of_them(
        self, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(landing, "BLOCK_BYTES", 100_000)
        text = "".join(event(f"2019-11-0{1 + n // 5_000}", n) for n in range(10_000))
        export = gzip.compress(text.encode())
        self.upload(bucket, "exports/a.csv.gz", export)
        landing.land(bucket.client, bucket.name, "exports/a.csv.gz")
        complete = listing(bucket)

        self.upload(bucket, "exports/a.csv.gz", export[:-1000])
        with pytest.raises(ContractError, match="damaged or cut short"):
            landing.land(bucket.client, bucket.name, "exports/a.csv.gz")
        assert not [name for name in listing(bucket) if name.endswith("_SUCCESS")]

        self.upload(bucket, "exports/a.csv.gz", export)
        landing.land(bucket.client, bucket.name, "exports/a.csv.gz")
        assert listing(bucket) == complete

    def test_parts_that_only_an_earlier_run_of_the_export_wrote_are_deleted(
        self, bucket: storage.Bucket
    ) -> None:
        for stale in ("01/a-00007.csv", "09/a-00000.csv", "09/_SUCCESS", "08/a-00000.csv"):
            self.upload(bucket, f"landing/events/2019-11-{stale}", b"stale\n")
        for kept in ("01/b-00000.csv", "08/a-b-00000.csv", "08/_SUCCESS"):
            self.upload(bucket, f"landing/events/2019-11-{kept}", b"")
        self.upload(bucket, "exports/a.csv", event("2019-11-01").encode())
        landing.land(bucket.client, bucket.name, "exports/a.csv")
        assert sorted(listing(bucket)) == [
            "2019-11-01/_SUCCESS",
            "2019-11-01/a-00000.csv",
            "2019-11-01/b-00000.csv",
            "2019-11-08/_SUCCESS",
            "2019-11-08/a-b-00000.csv",
        ]

    def test_a_day_with_parts_of_an_export_that_broke_off_is_not_complete_until_that_one_is_landed(
        self, bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(landing, "BLOCK_BYTES", 100_000)
        text = "".join(event(f"2019-11-0{1 + n // 5_000}", n) for n in range(10_000))
        half = gzip.compress(text.encode())
        self.upload(bucket, "exports/half.csv.gz", half[: len(half) // 4])
        with pytest.raises(ContractError, match="damaged or cut short"):
            landing.land(bucket.client, bucket.name, "exports/half.csv.gz")
        [part] = [name for name in listing(bucket) if name.endswith(".csv")]
        assert part == "2019-11-01/half-00000.csv"

        self.upload(bucket, "exports/other.csv", (event("2019-11-01") + event("2019-11-09")).encode())
        with pytest.raises(ContractError, match=r"is landed, but .* 2019-11-01 \(half\)"):
            landing.land(bucket.client, bucket.name, "exports/other.csv")
        assert [name for name in listing(bucket) if "_" in name] == [
            "2019-11-01/_UNFINISHED-half",
            "2019-11-09/_SUCCESS",
        ]

        self.upload(bucket, "exports/half.csv.gz", half)
        landing.land(bucket.client, bucket.name, "exports/half.csv.gz")
        assert [name for name in listing(bucket) if "_" in name] == [
            f"2019-11-0{day}/_SUCCESS" for day in (1, 2, 9)
        ]

    def test_a_corrected_export_takes_the_mark_from_a_day_that_it_no_longer_has(
        self, bucket: storage.Bucket
    ) -> None:
        for left in (
            "08/a-00000.csv",
            "08/_UNFINISHED-a",
            "08/b-00000.csv",
            "09/a-00000.csv",
            "09/_UNFINISHED-a",
        ):
            self.upload(bucket, f"landing/events/2019-11-{left}", b"")
        self.upload(bucket, "exports/a.csv", event("2019-11-01").encode())
        landing.land(bucket.client, bucket.name, "exports/a.csv")
        assert sorted(listing(bucket)) == [
            "2019-11-01/_SUCCESS",
            "2019-11-01/a-00000.csv",
            "2019-11-08/b-00000.csv",
        ]

    @pytest.mark.parametrize(
        "name", ["_UNFINISHED-a.csv", "_SUCCESS.csv", "a.csv.csv", "a.gz.csv", "a.zip.csv", "a.csv.gz.zip"]
    )
    def test_an_export_whose_parts_would_be_marks_or_those_of_another_export_is_refused(
        self, bucket: storage.Bucket, name: str
    ) -> None:
        self.upload(bucket, "exports/a.csv", event("2019-11-01").encode())
        landing.land(bucket.client, bucket.name, "exports/a.csv")
        before = listing(bucket)
        self.upload(bucket, f"exports/{name}", event("2019-11-02").encode())
        with pytest.raises(ContractError, match=rf"exports/{name}: an export .* does not begin with _"):
            landing.land(bucket.client, bucket.name, f"exports/{name}")
        assert listing(bucket) == before

    def test_an_export_that_is_named_like_a_part_of_another_touches_none_of_its_parts(
        self, bucket: storage.Bucket
    ) -> None:
        for name in ("a.csv", "a-00000.csv", "a-00000-00000.csv", "a.csv"):
            self.upload(bucket, f"exports/{name}", event("2019-11-01").encode())
            landing.land(bucket.client, bucket.name, f"exports/{name}")
        assert sorted(listing(bucket)) == [
            "2019-11-01/_SUCCESS",
            "2019-11-01/a-00000-00000-00000.csv",
            "2019-11-01/a-00000-00000.csv",
            "2019-11-01/a-00000.csv",
        ]

    def test_a_missing_export_and_a_bad_name_say_what_to_do(self, bucket: storage.Bucket) -> None:
        with pytest.raises(ContractError, match=r"does not exist. Upload it: gcloud storage cp"):
            landing.land(bucket.client, bucket.name, "exports/none.csv")
        with pytest.raises(ContractError, match="lies directly in exports/"):
            landing.land(bucket.client, bucket.name, "exports/*.csv")
        with pytest.raises(ContractError, match="lies directly in exports/"):
            landing.land(bucket.client, bucket.name, "exports/a.csv\n")
