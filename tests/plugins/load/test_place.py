"""place: a rejected line is told by its file, its line number and its offset."""

from __future__ import annotations

import gzip

import pytest
from google.cloud.storage import Bucket

from beam_jobs.pseudonyms import masked
from shopstream.load import place as places
from shopstream.load.place import place

pytestmark = pytest.mark.integration

TEXT = b"header\r\n\n2019,view\nbad\nlast"


@pytest.mark.parametrize("stored", [TEXT, gzip.compress(TEXT)], ids=["plain", "gzip"])
def test_a_line_is_told_by_its_number_which_an_editor_shows_in_plain_files_and_in_gzip(
    bucket: Bucket, stored: bytes
) -> None:
    bucket.blob("day/e.csv").upload_from_string(stored)
    file = f"gs://{bucket.name}/day/e.csv"
    for number, raw in ((1, b"header"), (3, b"2019,view"), (4, b"bad"), (5, b"last")):
        offset = TEXT.index(raw)
        assert place(bucket.client, file, offset, raw) == f"{file} line {number} (byte {offset})"


def test_a_line_that_was_kept_masked_is_found_too(bucket: Bucket) -> None:
    bucket.blob("day/e.csv").upload_from_string(TEXT)
    file, offset = f"gs://{bucket.name}/day/e.csv", TEXT.index(b"2019")
    assert place(bucket.client, file, offset, masked(b"2019,view")) == f"{file} line 3 (byte {offset})"
    assert place(bucket.client, file, offset, masked(b"2019,cart!")) == f"{file} at byte {offset}"


def test_a_line_is_counted_over_many_reads(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "CHUNK_BYTES", 7)
    bucket.blob("e.csv").upload_from_string(TEXT)
    assert "line 4" in place(bucket.client, f"gs://{bucket.name}/e.csv", TEXT.index(b"bad"), b"bad")


def test_of_a_line_that_is_not_there_any_more_or_far_on_the_offset_alone_is_told(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, offset = f"gs://{bucket.name}/e.csv", TEXT.index(b"bad")
    told = f"{file} at byte {offset}"
    assert place(bucket.client, file, offset, b"bad") == told
    for content in (b"corrected\n", TEXT.replace(b"bad", b"mad"), gzip.compress(TEXT)[:20]):
        bucket.blob("e.csv").upload_from_string(content)
        assert place(bucket.client, file, offset, b"bad") == told
    bucket.blob("e.csv").upload_from_string(TEXT)
    monkeypatch.setattr(places, "COUNTED_BYTES", offset - 1)
    assert place(bucket.client, file, offset, b"bad") == told
