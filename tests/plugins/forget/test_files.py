"""Customers are taken out of the bucket's files, on the Cloud Storage emulator."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow.parquet as pq
import pytest
from google.cloud import storage

from beam_jobs.contract import COLUMN_NAMES, ContractError
from shopstream.forget import files
from shopstream.forget.customers import RANGE_DETAIL
from shopstream.forget.files import LANDED, ChangedMeanwhile, sift_events
from shopstream.layout import ACCEPTED, EXPORTS, LANDING, REJECTED
from shopstream.retries import Refused
from tests.dags.shop import line
from tests.plugins.load.landed import parquet, rejected
from tests.sql.events import batch_event

ID, OTHER = 520088904, 7
HEADER = ",".join(COLUMN_NAMES) + "\n"
DAY = f"{LANDING}2019-11-08"


def count(client: storage.Client, bucket: str, prefix: str, ids: set[int]) -> int:
    return files.count(client, bucket, [prefix], ids)[prefix]


def rewrite(client: storage.Client, bucket: str, prefix: str, ids: set[int]) -> int:
    return files.rewrite(client, bucket, [prefix], ids)[prefix]


def sifted(text: bytes) -> tuple[bytes, int]:
    """What is left of a file of events, and how many lines are gone."""
    pieces = list(sift_events(io.BufferedReader(io.BytesIO(text)), "gs://b/a.csv", {ID}))
    return b"".join(kept for kept, _ in pieces), sum(removed for _, removed in pieces)


def lines(*user_ids: Any, **fields: Any) -> bytes:
    return "".join(
        line(number, user_id=user_id, **fields) for number, user_id in enumerate(user_ids)
    ).encode()


@pytest.mark.parametrize("header", [b"", HEADER.encode()], ids=["no header", "header"])
@pytest.mark.parametrize("block_bytes", [1, 150, 2**20])
def test_each_line_but_theirs_stays_as_it_is(
    header: bytes, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", block_bytes)
    text = header + lines(OTHER, ID, OTHER, ID, ID, 520088905, f"{ID}.0")
    kept = [part for part in text.splitlines(keepends=True) if b",520088904" not in part]
    assert sifted(text) == (b"".join(kept), 4)
    assert sifted(b"".join(kept)) == (b"".join(kept), 0)
    # The last line needs no newline.
    assert sifted(text.rstrip(b"\n")) == (b"".join(kept), 4)


def test_a_line_that_nobody_reads_to_its_end_goes_as_a_whole_or_is_refused_by_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    whole = lines(OTHER, OTHER)
    long = lines(ID, user_session="x" * 200_000)
    assert sifted(whole + long + whole) == (whole + whole, 1)
    other = lines(OTHER, brand="x" * 200_000)
    assert sifted(whole + other + whole) == (whole + other + whole, 0)
    with pytest.raises(
        ContractError, match=r"gs://b/a.csv: a line of more than 65,536 bytes.*Delete the line"
    ):
        sifted(whole + other.rstrip(b"\n") + b",520088904\n" + whole)


def test_an_export_of_another_program_is_understood_as_land_export_does() -> None:
    header = b";" + HEADER.replace(",", ";").encode()
    theirs = b"0;" + lines(ID, price="x").replace(b",", b";").replace(b";x;", b";12,5;")
    others = b"1;" + lines(OTHER, product_id=ID, price="x").replace(b",", b";").replace(b";x;", b";12.5;")
    assert sifted(header + theirs + others) == (header + others, 1)


def packed(pack: str, text: bytes) -> bytes:
    if pack == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("2019-Nov.csv", text)
        return file.getvalue()
    for _ in range({"plain": 0, "gzip": 1, "twice": 2}[pack]):
        text = gzip.compress(text)
    return text


def unpacked(pack: str, data: bytes) -> bytes:
    if pack == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            assert archive.namelist() == ["2019-Nov.csv"]
            return archive.read("2019-Nov.csv")
    for _ in range({"plain": 0, "gzip": 1, "twice": 2}[pack]):
        data = gzip.decompress(data)
    return data


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "pack"),
    [
        (f"{DAY}/a.csv", "plain"),
        (f"{DAY}/a.csv", "gzip"),
        (f"{DAY}/a.csv.gz", "twice"),
        (f"{EXPORTS}2019-Nov.csv.zip", "zip"),
        (f"{EXPORTS}2019-Nov.csv.gz", "gzip"),
    ],
)
def test_an_object_is_written_anew_as_it_was_without_their_lines(
    bucket: storage.Bucket, name: str, pack: str
) -> None:
    blob = bucket.blob(name)
    blob.metadata, blob.storage_class = {"from": "the shop"}, "NEARLINE"
    if pack == "twice":
        blob.content_encoding = "gzip"
    text = HEADER.encode() + lines(OTHER, ID, OTHER)
    blob.upload_from_string(packed(pack, text), content_type="text/csv")
    bucket.blob(f"{DAY}/other.csv").upload_from_string(lines(OTHER))
    bucket.blob(f"{DAY}/_SUCCESS").upload_from_string(b"")
    before = {one.name: one.generation for one in bucket.list_blobs()}
    prefix = name.rpartition("/")[0]

    assert count(bucket.client, bucket.name, prefix, {ID}) == 1
    assert {one.name: one.generation for one in bucket.list_blobs()} == before
    assert rewrite(bucket.client, bucket.name, prefix, {ID}) == 1

    assert count(bucket.client, bucket.name, prefix, {ID}) == 0
    after = {one.name: one.generation for one in bucket.list_blobs()}
    assert {one for one in after if after[one] != before[one]} == {name}
    written = bucket.get_blob(name)
    assert (written.content_type, written.content_encoding) == ("text/csv", blob.content_encoding)
    assert (written.metadata, written.storage_class) == ({"from": "the shop"}, "NEARLINE")
    left = [one for one in text.splitlines(keepends=True) if b",520088904," not in one]
    assert unpacked(pack, written.download_as_bytes(raw_download=True)) == b"".join(left)

    assert rewrite(bucket.client, bucket.name, prefix, {ID}) == 0
    assert {one.name: one.generation for one in bucket.list_blobs()} == after


@pytest.mark.integration
def test_a_file_of_nobody_else_keeps_a_header_so_that_its_day_can_be_loaded(bucket: storage.Bucket) -> None:
    bucket.blob(f"{DAY}/a.csv").upload_from_string(lines(ID, ID))
    assert rewrite(bucket.client, bucket.name, LANDING, {ID}) == 2
    assert bucket.blob(f"{DAY}/a.csv").download_as_bytes() == HEADER.encode()


@pytest.mark.integration
def test_accepted_rows_and_rejected_lines_go_too(bucket: storage.Bucket) -> None:
    rows = [batch_event(event_id=f"e{number}", user_id=user_id) for number, user_id in enumerate((7, ID, 8))]
    parquet(bucket, "events/2019-11-01/1/a", rows)
    parquet(bucket, "events/2019-11-01/1/b", rows[1:2])
    raws = [lines(OTHER, price="x"), b"7;" + lines(ID, price="x"), b"\xff", b"520088904"]
    rejected(bucket, "events/2019-11-01/1/a", raws)
    rejected(bucket, "events/2019-11-01/1/b", raws[3:])

    for prefix, found in ((ACCEPTED, 2), (REJECTED, 3)):
        assert count(bucket.client, bucket.name, prefix, {ID}) == found
        assert rewrite(bucket.client, bucket.name, prefix, {ID}) == found
        assert count(bucket.client, bucket.name, prefix, {ID}) == 0

    def table(name: str) -> Any:
        return pq.read_table(
            io.BytesIO(bucket.blob(f"{ACCEPTED}2019-11-01/1/{name}.parquet").download_as_bytes())
        )

    assert table("a")["event_id"].to_pylist() == ["e0", "e2"]
    assert table("b").schema == table("a").schema
    assert table("b").num_rows == 0
    left = bucket.blob(f"{REJECTED}2019-11-01/1/a.jsonl").download_as_text().splitlines()
    assert [json.loads(one)["byte_offset"] for one in left] == [0, 2]
    assert bucket.blob(f"{REJECTED}2019-11-01/1/b.jsonl").download_as_bytes() == b""


@pytest.mark.integration
def test_of_a_range_whose_first_line_is_theirs_only_that_line_goes_and_the_others_are_still_counted(
    bucket: storage.Bucket,
) -> None:
    rejected(bucket, "events/2019-11-01/1/a", [lines(ID, price="x"), lines(OTHER, price="x")], lines=1_001)
    name = f"{REJECTED}2019-11-01/1/a.jsonl"
    before, others = map(json.loads, bucket.blob(name).download_as_text().splitlines())
    assert count(bucket.client, bucket.name, REJECTED, {ID}) == 1
    for found in (1, 0):
        assert rewrite(bucket.client, bucket.name, REJECTED, {ID}) == found
        left, same = map(json.loads, bucket.blob(name).download_as_text().splitlines())
        assert left == before | {"raw": "", "detail": RANGE_DETAIL}
        assert same == others
    # The sentence itself is nobody's, whatever the number.
    assert count(bucket.client, bucket.name, REJECTED, set(range(1_000))) == 1


@pytest.mark.integration
def test_what_is_not_understood_is_refused_by_name_and_all_else_is_done(bucket: storage.Bucket) -> None:
    bucket.blob(f"{EXPORTS}2019-Nov.csv").upload_from_string(b"PAR1 520088904")
    bucket.blob(f"{DAY}/b.csv.gz").upload_from_string(gzip.compress(lines(ID))[:-9])
    bucket.blob(f"{DAY}/c.csv").upload_from_string(lines(OTHER, ID))
    for work in (files.count, files.rewrite):
        with pytest.raises(
            Refused, match=r"(?s)correct or delete each.*2019-Nov.csv: the first line.*b.csv.gz is damaged"
        ):
            work(bucket.client, bucket.name, LANDED, {ID})
    assert bucket.blob(f"{DAY}/c.csv").download_as_bytes() == lines(OTHER)


@pytest.mark.integration
def test_there_are_as_many_parts_as_the_objects_are_large_one_at_least_and_not_too_many(
    bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.parts(bucket.client, bucket.name) == [(0, 1)]
    for number, name in enumerate(("exports/a.csv", f"{DAY}/b.csv")):
        bucket.blob(name).upload_from_string(bytes(2**20 + number))
    for part_bytes, number in ((2**21 + 1, 1), (2**21, 2), (1, files.MAX_PARTS)):
        monkeypatch.setattr(files, "PART_BYTES", part_bytes)
        assert len(files.parts(bucket.client, bucket.name)) == number


@pytest.mark.integration
def test_each_object_is_in_one_part_whichever_it_is(
    bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        bucket.blob(f"{DAY}/{number}.csv").upload_from_string(lines(OTHER, ID))
    # However small, each counts as a mebibyte.
    monkeypatch.setattr(files, "PART_BYTES", 7 * 2**20)
    parts = files.parts(bucket.client, bucket.name)
    assert parts == [(0, 3), (1, 3), (2, 3)]
    for work in (files.count, files.rewrite):
        found = [work(bucket.client, bucket.name, [LANDING], {ID}, part)[LANDING] for part in parts]
        assert sum(found) == 20
        assert min(found) > 0
    assert count(bucket.client, bucket.name, LANDING, {ID}) == 0


@pytest.mark.integration
@pytest.mark.parametrize("when", ["before the first part is sent", "before the last part is sent"])
def test_what_somebody_else_writes_meanwhile_stays_and_the_next_try_reads_it(
    bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    theirs = lines(ID, OTHER)
    name = f"{DAY}/a.csv"
    # More than a part of an upload.
    bucket.blob(name).upload_from_string(lines(*range(1, 5_001), ID) if "last" in when else theirs)
    monkeypatch.setattr(files, "UPLOAD_CHUNK_BYTES", 2**18)
    real = files._anew

    @contextmanager
    def interrupted(blob: storage.Blob, gzip_layers: int = 0) -> Iterator[Any]:
        with real(blob, gzip_layers) as out:
            yield out
            bucket.blob(name).upload_from_string(theirs)

    monkeypatch.setattr(files, "_anew", interrupted)
    with pytest.raises(ChangedMeanwhile, match="was written by somebody else meanwhile"):
        rewrite(bucket.client, bucket.name, LANDING, {ID})
    assert bucket.blob(name).download_as_bytes() == theirs

    monkeypatch.undo()
    assert rewrite(bucket.client, bucket.name, LANDING, {ID}) == 1


@pytest.mark.integration
def test_an_object_stays_as_it_was_if_it_cannot_be_written_to_its_end(
    bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = lines(*range(1, 5_001), ID)
    bucket.blob(f"{DAY}/a.csv.gz").upload_from_string(gzip.compress(text))
    monkeypatch.setattr(files, "UPLOAD_CHUNK_BYTES", 2**18)
    real: Callable[..., Any] = files._sifted
    passes: list[None] = []

    def dies(*arguments: Any) -> Iterator[Any]:
        passes.append(None)
        yield from real(*arguments)
        if len(passes) == 2:
            raise MemoryError

    monkeypatch.setattr(files, "_sifted", dies)
    with pytest.raises(MemoryError):
        rewrite(bucket.client, bucket.name, LANDING, {ID})
    assert gzip.decompress(bucket.blob(f"{DAY}/a.csv.gz").download_as_bytes(raw_download=True)) == text
