import gzip
import io
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
from apache_beam.coders import FastPrimitivesCoder
from apache_beam.io.filesystem import FileMetadata
from google.cloud import storage
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from beam_jobs import files as files_module
from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError
from beam_jobs.files import (
    RANGE_BYTES,
    ByteRange,
    LandingFile,
    LandingFiles,
    UnpackedBlock,
    Work,
    check_unchanged,
    count_lines,
    list_files,
    plan_ranges,
    plan_work,
    read_range,
    read_work,
)
from beam_jobs.lines import BLOCK_BYTES, Block, read_blocks
from beam_jobs.parse import parse_block
from beam_jobs.validate import validate

HEADER = ",".join(COLUMN_NAMES).encode() + b"\n"
EVENT = b"2019-11-01 00:00:00 UTC,view,1,2,,,3.00,4,\n"


def test_files_are_listed_by_path_with_their_headers_read(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(EVENT)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(HEADER + EVENT))
    (tmp_path / "a.csv").write_bytes(HEADER + EVENT)
    (tmp_path / "_SUCCESS").touch()

    def stored(name: str) -> tuple[str, int, float]:
        path = tmp_path / name
        return str(path), path.stat().st_size, path.stat().st_mtime

    assert list_files(str(tmp_path)) == [
        LandingFile(*stored("a.csv"), COLUMN_NAMES, True, len(HEADER), False),
        LandingFile(*stored("b.csv"), COLUMN_NAMES, False, 0, False),
        LandingFile(*stored("c.csv.gz"), COLUMN_NAMES, True, len(HEADER), True),
    ]


def test_a_header_is_found_after_a_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    start = b"\xef\xbb\xbf\r\n\n" + HEADER
    (tmp_path / "a.csv").write_bytes(start + EVENT)
    [file] = list_files(str(tmp_path))
    assert (file.has_header, file.body_start) == (True, len(start))


@pytest.mark.parametrize("content", [HEADER, HEADER[:-1], HEADER[:-1] + b"\r\n"])
def test_a_header_alone_holds_no_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(content))
    assert [_lines_of(file) for file in list_files(str(tmp_path))] == [{}, {}]


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\n\r", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_file_without_even_a_header_is_an_error_that_says_what_an_empty_day_is(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER + EVENT)
    (tmp_path / f"b{suffix}").write_bytes(gzip.compress(content) if suffix == ".csv.gz" else content)
    with pytest.raises(ContractError, match=r"b\.csv.*: the file .*a day without events, .* only the header"):
        list_files(str(tmp_path))


def test_files_that_changed_since_they_were_listed_are_an_error_that_names_them(tmp_path: Path) -> None:
    for name in ("same.csv", "longer.csv", "rewritten.csv", "gone.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress(EVENT) if name.endswith(".gz") else EVENT)
    files = list_files(str(tmp_path))
    check_unchanged(str(tmp_path), files)

    (tmp_path / "_SUCCESS").touch()
    check_unchanged(str(tmp_path), files)
    (tmp_path / "longer.csv").write_bytes(EVENT * 2)
    (tmp_path / "rewritten.csv").write_bytes(EVENT.replace(b"view", b"cart"))
    os.utime(tmp_path / "rewritten.csv", (0, 0))
    (tmp_path / "gone.csv.gz").unlink()
    (tmp_path / "new.csv").write_bytes(EVENT)
    with pytest.raises(ContractError, match="files changed while they were loaded") as caught:
        check_unchanged(str(tmp_path), files)
    found = str(caught.value)
    assert [name for name in ("same", "longer", "rewritten", "gone", "new") if f"/{name}.csv" in found] == [
        "longer",
        "rewritten",
        "gone",
        "new",
    ]


@pytest.mark.parametrize(
    ("data", "offset", "lines"),
    [
        (b"", 0, 0),
        (b"a", 0, 1),
        (b"a\n", 0, 1),
        (b"a\r\nb\r\n", 0, 2),
        (b"\n\n\na\n\n\nb\n\n", 7, 2),
        (b"\r\na\r\n\r\nb\n\r", 7, 2),
        (b"\r", 7, 0),
        (b"a\n\r\r\n\rb\n", 7, 3),
        (b'"a\nb"\n', 0, 2),
        (b"\xef\xbb\xbf\na\n", 0, 1),
        (b"\xef\xbb\xbf\na\n", 9, 1),
        (b"a\n\xef\xbb\xbf\xef\xbb\xbf\r\n\xef\xbb\xbfb\xef\xbb\xbf\n", 9, 2),
    ],
)
def test_lines_that_are_not_blank_are_counted(data: bytes, offset: int, lines: int) -> None:
    assert count_lines(Block(data, offset)) == lines


@given(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b'"', b"\xef\xbb\xbf", b"\0"])), st.integers(0, 1)
)
def test_the_count_of_lines_is_that_of_the_rows_and_rejects_that_the_parser_makes(
    pieces: list[bytes], offset: int
) -> None:
    block = Block(b"".join(pieces), offset)
    parsed = parse_block(block, COLUMN_NAMES)
    assert count_lines(block) == len(parsed.rows) + len(parsed.rejected)


PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b",",
        b'"',
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"bad",
        HEADER,
        EVENT,
        EVENT.replace(b"4", b"5"),
    ]
)


@given(
    pieces=st.one_of(st.lists(PIECES, max_size=30), st.lists(st.binary(), max_size=3)),
    cuts=st.lists(st.integers(0, 500), max_size=4),
    block_bytes=st.integers(1, 200),
)
@settings(deadline=None)
def test_whatever_the_bytes_and_the_cuts_what_is_read_is_accepted_or_rejected_and_always_the_same(
    pieces: list[bytes], cuts: list[int], block_bytes: int
) -> None:
    content = b"".join(pieces)

    def outcome(edges: list[int], block_bytes: int) -> tuple[dict[int, str], dict[int, str]]:
        accepted: dict[int, str] = {}
        rejected: dict[int, str] = {}
        for start, end in pairwise(edges):
            for block in read_blocks(io.BytesIO(content), start, end, block_bytes):
                checked = validate(parse_block(block, COLUMN_NAMES), None)
                assert count_lines(block) == len(checked.accepted) + len(checked.rejected)
                ids = checked.accepted["event_id"].to_pylist()
                accepted |= zip(checked.offsets.tolist(), ids, strict=True)
                places = checked.rejected["byte_offset"].to_pylist()
                rejected |= zip(places, checked.rejected["reason"].to_pylist(), strict=True)
        return accepted, rejected

    whole = outcome([0, len(content)], len(content) + 1)
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    assert outcome(edges, block_bytes) == whole
    bodies = [
        line.removesuffix(b"\r") for line in re.sub(rb"(?m)^(\xef\xbb\xbf)+", b"", content).split(b"\n")
    ]
    assert len(whole[0]) + len(whole[1]) == sum(map(bool, bodies))


def test_a_directory_without_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "_SUCCESS").touch()
    with pytest.raises(ContractError, match=r"there is no file \*\.csv or \*\.csv\.gz"):
        list_files(str(tmp_path))


@pytest.mark.parametrize("name", ["b.zip", "hour/b.csv", "b"])
def test_a_directory_with_a_file_that_nobody_would_read_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.CSV").write_bytes(EVENT)
    files = list_files(str(tmp_path))
    assert [file.path for file in files] == [str(tmp_path / "a.CSV")]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    for look in (lambda: list_files(str(tmp_path)), lambda: check_unchanged(str(tmp_path), files)):
        with pytest.raises(ContractError, match=rf"holds what is neither events nor a known mark: {name}\."):
            look()


def test_a_header_with_extra_columns_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER[:-1] + b",colour\n")
    with pytest.raises(ContractError, match=r"a\.csv: the header has extra columns 'colour'"):
        list_files(str(tmp_path))


def test_a_file_is_compressed_if_its_bytes_are_and_then_it_is_not_cut(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(HEADER + EVENT * 100))
    [file] = list_files(str(tmp_path))
    assert file.is_compressed
    assert list(_lines_of(file, range_bytes=10).values()) == [EVENT[:-1]] * 100


@pytest.mark.parametrize("damage", ["truncated", "changed", "no gzip at all", "empty"])
def test_a_damaged_gzip_file_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    packed = gzip.compress(HEADER + EVENT + os.urandom(MAX_LINE_BYTES).replace(b"\n", b"") + b"\n" + EVENT)
    half = len(packed) // 2
    damaged = {
        "truncated": packed[:half],
        "changed": packed[:half] + bytes([packed[half] ^ 1]) + packed[half + 1 :],
        "no gzip at all": EVENT,
        "empty": b"",
    }
    (tmp_path / "a.csv.gz").write_bytes(damaged[damage])
    with pytest.raises(ContractError, match=r"a\.csv\.gz(: | is damaged or cut short: ).* Upload it again\."):
        list(map(_lines_of, list_files(str(tmp_path))))


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(HEADER + EVENT) + gzip.compress(EVENT))
    [file] = list_files(str(tmp_path))
    assert list(_lines_of(file).values()) == [EVENT[:-1], EVENT[:-1]]


@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"\r")), max_size=30),
    final_newline=st.booleans(),
    range_bytes=st.integers(1, 200),
    block_bytes=st.integers(1, 100),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_line_is_read_once_at_its_true_offset_whatever_the_cuts(
    tmp_path: Path, lines: list[bytes], final_newline: bool, range_bytes: int, block_bytes: int
) -> None:
    content = b"\n".join(lines) + (b"\n" if final_newline else b"")
    assume(not content.startswith(b"\x1f\x8b"))  # which is gzip
    expected, offset = {}, 0
    for line in content.split(b"\n"):
        expected[offset] = line
        offset += len(line) + 1
    if content.endswith(b"\n") or not content:
        del expected[len(content)]

    for name, packed in (("a.csv", content), ("a.csv.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(packed)
        file = LandingFile(
            str(tmp_path / name), len(packed), 0.0, COLUMN_NAMES, False, 0, name.endswith(".gz")
        )
        assert _lines_of(file, range_bytes, block_bytes) == expected


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("block_bytes", [1000, 2**20, 2**23])
@pytest.mark.parametrize("range_bytes", [1_234_567, 2**24])
def test_a_line_without_an_end_is_kept_in_part_and_read_over_in_full(
    tmp_path: Path, suffix: str, block_bytes: int, range_bytes: int
) -> None:
    endless = b"x" * 5_000_000
    content = EVENT + endless + b"\n" + EVENT + endless
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix == ".csv.gz" else content)
    [file] = list_files(str(tmp_path))
    blocks = [block for part in plan_ranges(file, range_bytes) for block in read_range(part, block_bytes)]

    found = {}
    for block in blocks:
        assert len(block.data) <= block_bytes + MAX_LINE_BYTES + 1
        found.update(_lines_in(block, keep=10))
    second = len(EVENT) + len(endless) + 1
    third = second + len(EVENT)
    assert found == {
        0: (EVENT[:10], len(EVENT) - 1),
        len(EVENT): (endless[:10], len(endless)),
        second: (EVENT[:10], len(EVENT) - 1),
        third: (endless[:10], len(endless)),
    }


def small_file(name: str, size_bytes: int = 3000, is_compressed: bool = False) -> LandingFile:
    return LandingFile(name, size_bytes, 0.0, COLUMN_NAMES, True, len(HEADER), is_compressed)


def test_of_ten_thousand_small_files_come_few_pieces_of_work_which_hold_each_file_once() -> None:
    files = [small_file(f"{number:05}.csv", is_compressed=number % 9 == 0) for number in range(10_000)]
    work = list(plan_work(files))
    assert len(work) <= 30
    assert sorted(part.path for parts in work for part in parts) == [file.path for file in files]


def test_what_crosses_workers_of_small_files_is_packed_at_once() -> None:
    coder = FastPrimitivesCoder()
    files = LandingFiles(small_file(f"{number:05}.csv") for number in range(500))
    work = next(plan_work(files))
    for crossing in (files, work):
        packed = coder.encode(crossing)
        # Item by item each names its class, its columns and all else anew.
        assert len(packed) < len(coder.encode([*crossing])) / 2
        assert coder.decode(packed) == crossing
        assert type(coder.decode(packed)) is type(crossing)


def test_files_are_read_together_that_have_the_same_columns_and_packing_and_make_one_block() -> None:
    other = small_file("c")._replace(columns=COLUMN_NAMES[::-1])
    large = small_file("e", 3 * RANGE_BYTES)
    files = [
        small_file("a"),
        small_file("b"),
        other,
        small_file("d", is_compressed=True),
        large,
        small_file("f"),
    ]
    assert [[part.path for part in parts] for parts in plan_work(files)] == [
        ["a", "b"], ["e"], ["e"], ["e"], ["f"], ["d"], ["c"],
    ]  # fmt: skip
    half = small_file("a", BLOCK_BYTES // 2 + 1000)
    assert [len(parts) for parts in plan_work([half, half, half])] == [1, 1, 1]
    assert [len(parts) for parts in plan_work([small_file("a", 1000)] * 9, range_bytes=3000)] == [3, 3, 3]


@given(
    files=st.lists(
        st.tuples(
            st.lists(st.one_of(PIECES, st.just(b"x" * (MAX_LINE_BYTES + 9))), min_size=1, max_size=6),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    ),
    range_bytes=st.sampled_from([50, 1000, RANGE_BYTES]),
    block_bytes=st.sampled_from([60, 1000, BLOCK_BYTES]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_small_files_that_are_read_together_have_the_lines_that_each_has_alone(
    tmp_path: Path, files: list[tuple[list[bytes], bool]], range_bytes: int, block_bytes: int
) -> None:
    landed = []
    for number, (pieces, is_compressed) in enumerate(files):
        path, content = tmp_path / f"{number}.csv", b"".join(pieces)
        path.write_bytes(gzip.compress(content) if is_compressed else content)
        landed.append(LandingFile(str(path), path.stat().st_size, 0.0, COLUMN_NAMES, False, 0, is_compressed))

    together: dict[tuple[str, int], bytes] = {}
    for work in plan_work(landed, range_bytes):
        for joined in read_work(work, block_bytes):
            sent = UnpackedBlock.of(joined).sent()
            assert sent == joined
            for offset, (line, length) in _lines_in(sent.block, keep=MAX_LINE_BYTES).items():
                place = sent.place(offset)
                assert place not in together
                together[place] = line + str(length).encode()
            for own, origin in zip(sent.by_origin(), sent.origins, strict=True):
                assert own.place(own.block.offset) == (origin.path, origin.offset)

    alone = {}
    for file in landed:
        for part in plan_ranges(file, range_bytes):
            for block in read_range(part, block_bytes):
                for offset, (line, length) in _lines_in(block, keep=MAX_LINE_BYTES).items():
                    alone[file.path, offset] = line + str(length).encode()
    assert together == alone


def test_an_overlong_line_that_is_kept_in_part_is_the_last_of_its_block(tmp_path: Path) -> None:
    for name, content in (("a", b"x" * 200_000), ("b", EVENT)):
        (tmp_path / name).write_bytes(content)
    work = Work(ByteRange(str(tmp_path / name), COLUMN_NAMES, 0, 10) for name in "ab")
    assert [[Path(origin.path).name for origin in block.origins] for block in read_work(work)] == [
        ["a"],
        ["b"],
    ]


@pytest.mark.integration
def test_files_in_cloud_storage_are_listed_and_read_as_local_ones_are(bucket: storage.Bucket) -> None:
    content = HEADER + b"".join(EVENT.replace(b",4,", b",%d," % user) for user in range(1000))
    day = "landing/events/2019-11-01"
    bucket.blob(f"{day}/a.csv").upload_from_string(content)
    bucket.blob(f"{day}/b.csv.gz").upload_from_string(gzip.compress(content), "application/octet-stream")
    for mark in ("_SUCCESS", "_UNFINISHED-other"):
        bucket.blob(f"{day}/{mark}").upload_from_string(b"")
    bucket.blob("landing/events/2019-11-02/c.csv").upload_from_string(content)

    files = list_files(f"gs://{bucket.name}/{day}")

    assert [file.path for file in files] == [
        f"gs://{bucket.name}/{day}/{name}" for name in ("a.csv", "b.csv.gz")
    ]
    directory = f"gs://{bucket.name}/{day}"
    check_unchanged(directory, files)
    bucket.blob(f"{day}/a.csv").upload_from_string(content)
    with pytest.raises(ContractError, match=r"files changed while they were loaded: gs://\S+/a\.csv\. "):
        check_unchanged(directory, files)

    for file in files:
        lines = _lines_of(file, range_bytes=10_000, block_bytes=3_000)
        assert list(lines.values()) == content.splitlines()[1:]

    bucket.blob(f"{day}/hour/c.csv").upload_from_string(content)
    with pytest.raises(ContractError, match=r"neither events nor a known mark: hour/c\.csv\. If"):
        list_files(directory)


@pytest.mark.integration
def test_an_object_with_an_encoding_of_its_own_is_read_as_what_it_holds(bucket: storage.Bucket) -> None:
    content = HEADER + b"".join(EVENT.replace(b",4,", b",%d," % user) for user in range(1000))
    for name, stored in (("a.csv", gzip.compress(content)), ("b.csv.gz", gzip.compress(content, 1))):
        upload(bucket, name, stored, "gzip")
    for file in list_files(f"gs://{bucket.name}/day"):
        assert (
            list(_lines_of(file, range_bytes=10_000, block_bytes=3_000).values()) == content.splitlines()[1:]
        )


@pytest.mark.integration
def test_an_object_with_another_encoding_is_refused_by_name(bucket: storage.Bucket) -> None:
    upload(bucket, "a.csv", HEADER, "br")
    with pytest.raises(ContractError, match=r"day/a\.csv has the Content-Encoding 'br'"):
        list_files(f"gs://{bucket.name}/day")
    upload(bucket, "a.csv", gzip.compress(HEADER), "gzip", "application/gzip")
    with pytest.raises(ContractError, match=r"day/a\.csv has the Content-Encoding gzip and a Content-Type"):
        list_files(f"gs://{bucket.name}/day")


def upload(
    bucket: storage.Bucket, name: str, stored: bytes, encoding: str, content_type: str = "text/csv"
) -> None:
    blob = bucket.blob(f"day/{name}")
    blob.content_encoding = encoding
    blob.upload_from_string(stored, content_type=content_type)


def _lines_of(file: LandingFile, range_bytes: int = 1000, block_bytes: int = 100) -> dict[int, bytes]:
    """Read all lines of a file by its ranges, by offset; fail if one is read twice."""
    lines: dict[int, bytes] = {}
    for part in plan_ranges(file, range_bytes):
        assert isinstance(part, ByteRange)
        for block in read_range(part, block_bytes):
            for offset, (line, _) in _lines_in(block, keep=MAX_LINE_BYTES).items():
                assert offset not in lines
                lines[offset] = line
    return lines


def _lines_in(block: Block, keep: int) -> dict[int, tuple[bytes, int]]:
    """Return the first bytes and the full length of each line of a block, by offset."""
    lines, offset = {}, block.offset
    for line in block.data.removesuffix(b"\n").split(b"\n"):
        lines[offset] = (line[:keep], len(line))
        offset += len(line) + 1
    last = max(lines)
    lines[last] = (lines[last][0], lines[last][1] + block.skipped_bytes)
    return lines


@pytest.mark.integration
def test_an_object_that_is_gone_before_its_header_is_read_is_refused_by_name(
    bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = bucket.blob("landing/events/2019-11-01/a.csv")
    blob.upload_from_string(",".join(COLUMN_NAMES) + "\n")
    match = files_module._match

    def list_and_delete(directory: str) -> list[FileMetadata]:
        found = match(directory)
        blob.delete()
        return found

    monkeypatch.setattr(files_module, "_match", list_and_delete)
    with pytest.raises(ContractError, match=r"files changed while they were loaded: gs://\S+/a\.csv\. "):
        list_files(f"gs://{bucket.name}/landing/events/2019-11-01")
