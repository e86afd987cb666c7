"""Every way into the shop makes the same of bad input: load, land_export, publisher and stream.

A case goes through the functions that the jobs and tasks are made of; one load of all cases at once, through
the pipeline and Spanner, shows that they are what the pipeline does.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import partialmethod
from pathlib import Path
from typing import IO

import pytest
from apache_beam.io.gcp.gcsio import GcsIO
from google.cloud.spanner_v1.database import Database
from google.cloud.storage import Bucket
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs import load_events
from beam_jobs.contract import MAX_LINE_BYTES, ContractError
from beam_jobs.files import count_lines, list_files, plan_ranges, read_range
from beam_jobs.lines import BLOCK_BYTES, refuse_other_header
from beam_jobs.load_events import MAX_REJECTS
from beam_jobs.messages import Message, judge
from beam_jobs.parse import parse_block
from beam_jobs.stream_events import BATCH_MESSAGES
from beam_jobs.validate import validate
from local.root import ROOT
from shopstream.landing import split as landing
from shopstream.settings import settings as shop_settings
from shopstream.stream import publish
from tests.bad_input import ARCHIVES, DAY, EVENT, FIELDS, FILES, HEADER, NOTHING, SWAPPED, VALUES, File, line
from tests.beam_jobs.samples import POISON

pytestmark = pytest.mark.corpus

LANDING_DAY = date.fromisoformat(DAY)
WHOLE = 2**40


@dataclass
class Outcome:
    """What a way made of its input: the ids of the events accepted, and the rejects by reason."""

    accepted: list[str] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.accepted = sorted(self.accepted)


def loaded(
    folder: Path, range_bytes: int, block_bytes: int = BLOCK_BYTES, day: date = LANDING_DAY
) -> Outcome:
    """Load the files of a folder; each reject is found again at its offset, and nothing is lost."""
    outcome = Outcome()
    for file in list_files(str(folder)):
        for part in plan_ranges(file, range_bytes):
            for block in read_range(part, block_bytes):
                checked = validate(parse_block(block, part.columns), day)
                assert count_lines(block) == len(checked.accepted) + len(checked.rejected)
                for reject in checked.rejected.to_pylist():
                    assert block.raw(reject["byte_offset"], reject["line_bytes"]) == reject["raw"]
                    refuse_other_header(reject["raw"], part.columns, part.path, reject["byte_offset"])
                outcome.accepted += checked.accepted["event_id"].to_pylist()
                outcome.rejected.update(checked.rejected["reason"].to_pylist())
    outcome.accepted.sort()
    return outcome


def streamed(messages: list[bytes]) -> Outcome:
    judged = judge([Message(data) for data in messages])
    return Outcome(judged.events["event_id"].to_pylist(), Counter(reject.reason for reject in judged.rejects))


def published(path: Path, message_format: str) -> Outcome:
    return streamed([message for _, message in publish.read_lines(str(path), message_format)])


def landed(export: bytes, name: str, folder: Path) -> tuple[landing.Landed, Outcome]:
    """Land an export's days in `folder`; return what the door said of them and what their loads come to."""

    def open_part(day: date, number: int) -> IO[bytes]:
        (folder / str(day)).mkdir(exist_ok=True, parents=True)
        return (folder / str(day) / f"part-{number:05d}.csv").open("wb")

    with landing.open_export(io.BytesIO(export), name) as source:
        told = landing.split(source, name, open_part, lambda *_: None)
    outcome = Outcome()
    for day in sorted(folder.iterdir()):
        of_day = loaded(day, WHOLE, BLOCK_BYTES, date.fromisoformat(day.name))
        outcome.accepted += of_day.accepted
        outcome.rejected += of_day.rejected
    outcome.accepted.sort()
    return told, outcome


def stored(folder: Path, case: File) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / case.name).write_bytes(case.content)
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_same_by_every_way_or_refused_by_name(name: str, tmp_path: Path) -> None:
    case = FILES[name]
    folder = stored(tmp_path / DAY, case)
    many = max(len(case.content) // 50, 37)
    ways: dict[str, Callable[[], Outcome]] = {
        "one range": lambda: loaded(folder, WHOLE),
        "many ranges": lambda: loaded(folder, many, many),
        "csv messages": lambda: published(folder / case.name, "csv"),
        "json messages": lambda: published(folder / case.name, "json"),
    }
    if case.refused:
        for way in ways.values():
            with pytest.raises(ContractError, match=case.refused) as caught:
                way()
            assert case.name in str(caught.value)
    else:
        outcome = ways["one range"]()
        assert (len(outcome.accepted), outcome.rejected) == (case.accepted, case.rejected)
        assert ways["many ranges"]() == outcome
        of_stream = {reason: n for reason, n in case.rejected.items() if reason not in case.load_only}
        for form in publish.FORMATS:
            found = ways[f"{form} messages"]()
            assert found.rejected == (of_stream if form == "csv" else case.json_rejected or of_stream)
            assert Counter(found.accepted) >= Counter(outcome.accepted)
            assert len(found.accepted) == case.accepted + sum(case.rejected.values()) - sum(
                of_stream.values()
            )


@pytest.mark.parametrize("name", FILES)
def test_land_export_says_before_what_the_loads_will_say(name: str, tmp_path: Path) -> None:
    case = FILES[name]
    accepted = case.accepted if case.door_accepted is None else case.door_accepted
    if not accepted:
        with pytest.raises(ContractError, match=case.door or case.refused) as caught:
            landed(case.content, case.name, tmp_path / "landing")
        assert case.name in str(caught.value)
        assert not list(tmp_path.rglob("*.csv"))
        return
    told, outcome = landed(case.content, case.name, tmp_path / "landing")
    rejected = case.rejected if case.door_rejected is None else case.door_rejected
    assert (len(outcome.accepted), outcome.rejected) == (accepted, rejected)
    assert sum(told.rejected.values(), Counter()) == rejected
    assert told.rows.total() == accepted + sum(rejected.values())
    if not case.refused and case.door_rejected is None:
        assert outcome == loaded(stored(tmp_path / DAY, case), WHOLE)


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_zip_holds_one_file_of_events_or_is_refused(name: str, tmp_path: Path) -> None:
    content, words = ARCHIVES[name]
    if words:
        with pytest.raises(ContractError, match=words):
            landed(content, "a.zip", tmp_path / "landing")
        return
    _, outcome = landed(content, "a.zip", tmp_path / "landing")
    assert outcome.accepted == loaded(stored(tmp_path / DAY, File(HEADER + EVENT)), WHOLE).accepted
    assert sorted(path.name for path in tmp_path.iterdir()) == [DAY, "landing"]


@pytest.mark.parametrize(
    ("column", "value", "reason"), VALUES, ids=[f"{column}={value[:30]!r}" for column, value, _ in VALUES]
)
def test_a_value_is_the_same_by_every_way(column: str, value: str, reason: str, tmp_path: Path) -> None:
    outcome = of_value(column, value, tmp_path)
    assert outcome.rejected == ({reason: 1} if reason else {})
    # The value of an event written otherwise makes that event, and no other.
    assert len(set(outcome.accepted)) == 1


@pytest.mark.parametrize(("column", "word"), NOTHING)
def test_a_word_that_means_nothing_is_an_empty_field_by_every_way(
    column: str, word: str, tmp_path: Path
) -> None:
    (tmp_path / "word").mkdir()
    (tmp_path / "empty").mkdir()
    assert of_value(column, word, tmp_path / "word") == of_value(column, "", tmp_path / "empty")


def of_value(column: str, value: str, folder: Path) -> Outcome:
    """What all ways make of the plain event, one with this value, and the plain event again."""
    changed = line(**{column: value})
    content = HEADER + EVENT + changed + EVENT
    path = stored(folder / DAY, File(content)) / "a.csv"
    outcome = loaded(path.parent, WHOLE)
    assert loaded(path.parent, 50, 50) == outcome
    assert published(path, "csv") == published(path, "json") == outcome
    objects = [json.dumps(event).encode() for event in (FIELDS, FIELDS | {column: value}, FIELDS)]
    assert streamed(objects) == streamed([EVENT, changed, EVENT]) == outcome
    told, of_days = landed(content, "a.csv", folder / "landing")
    assert of_days == outcome
    assert sum(told.rejected.values(), Counter()) == outcome.rejected
    return outcome


@pytest.mark.parametrize("name", POISON)
def test_a_message_that_is_no_event_is_one_reject_beside_its_neighbours(name: str) -> None:
    data, reason, _ = POISON[name]
    outcome = streamed([EVENT, data, EVENT])
    assert outcome.rejected == {reason: 1}
    assert outcome.accepted == streamed([EVENT, EVENT]).accepted


def test_a_day_of_300_tiny_files_is_loaded_whole_and_refused_by_the_publisher(tmp_path: Path) -> None:
    many_tiny_files(tmp_path, 300)
    outcome = loaded(tmp_path, WHOLE)
    assert (len(outcome.accepted), outcome.rejected) == (294, {"wrong_column_count": 6})
    with pytest.raises(ContractError, match=r"has 300 files; at most 200 .* Join them"):
        list(publish.read_lines(str(tmp_path)))
    for path in sorted(tmp_path.iterdir())[200:]:
        path.unlink()
    messages = [message for _, message in publish.read_lines(str(tmp_path))]
    assert streamed(messages) == loaded(tmp_path, WHOLE)


def many_tiny_files(folder: Path, count: int) -> None:
    """Of each 50 files the first has a header and a bad line, the others have an event each."""
    for number in range(count):
        event = line(user_id=str(number))
        (folder / f"{number:05d}.csv").write_bytes(event if number % 50 else HEADER + b"rubbish\n")


@pytest.mark.integration
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_day_of_10_000_tiny_files_is_loaded_whole_and_refused_by_the_publisher(
    tmp_path: Path, spanner_database: Database
) -> None:
    """Its files are local: the Cloud Storage emulator lists all its objects anew in a file at each write."""
    day, made = tmp_path / DAY, tmp_path / "made"
    day.mkdir()
    many_tiny_files(day, 10_000)
    load(str(day), str(made), spanner_database)
    manifest = json.loads((made / "load.json").read_bytes())
    assert manifest["rejected_by_reason"] == {"wrong_column_count": 200}
    counts = ("read", "accepted", "distinct", "rejected")
    assert [manifest[name] for name in counts] == [10_000, 9_800, 9_800, 200]
    assert len(manifest["files"]) == 10_000
    with pytest.raises(ContractError, match=r"has 10,000 files; at most 200 .* Join them"):
        list(publish.read_lines(str(day)))


@pytest.mark.integration
@pytest.mark.parametrize("then", ["written anew", "deleted"])
@pytest.mark.parametrize("way", ["load", "land_export", "publish"])
def test_an_object_that_changes_while_it_is_read_is_refused_by_name_by_every_way(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, way: str, then: str
) -> None:
    """Of each way the requests are so small that the object is not in memory after the first."""
    name = "exports/a.csv" if way == "land_export" else f"landing/events/{DAY}/a.csv"
    former, latter = (
        b"".join(line(user_id=str(number)) for number in range(first, first + 5000)) for first in (1000, 7000)
    )
    bucket.blob(name).upload_from_string(former)
    changed = False

    def change(*_: object) -> None:
        nonlocal changed
        if not changed and then == "deleted":
            bucket.blob(name).delete()
        elif not changed:
            bucket.blob(name).upload_from_string(latter)
        changed = True

    def read_on(pieces: Iterable[object]) -> None:
        for _ in pieces:
            change()

    words = rf"gs://{bucket.name}/{name}"
    if way == "load":
        monkeypatch.setattr(GcsIO, "open", partialmethod(GcsIO.open, read_buffer_size=10_000))
        [file] = list_files(f"gs://{bucket.name}/landing/events/{DAY}")
        [part] = plan_ranges(file)
        with pytest.raises(ContractError, match=f"files changed while they were loaded: {words}"):
            read_on(read_range(part, 1000))
    elif way == "land_export":
        monkeypatch.setattr(landing, "BLOCK_BYTES", 10_000)
        monkeypatch.setattr(landing, "_log_progress", lambda _: change)
        with pytest.raises(ContractError, match=f"{words} was written anew or deleted while it was read"):
            landing.land(bucket.client, bucket.name, name)
    else:
        monkeypatch.setattr(publish, "STORAGE_CHUNK_BYTES", 10_000)
        monkeypatch.setattr(publish, "BLOCK_BYTES", 1000)
        with pytest.raises(ContractError, match=f"{words} was written anew or deleted while it was read"):
            read_on(publish.read_lines(f"gs://{bucket.name}/{name}"))
    assert changed


REMEDIES = {
    "time_without_zone": "write it, or tell land_export that it is UTC",
    "ambiguous_date": "such as 2019-11-05",
    "bad_event_time": "a time such as 2019-11-01 00:00:00 UTC",
    "rounded_number": "save ids as text or whole numbers",
}


def test_a_file_of_bad_lines_alone_is_rejected_by_the_load_and_refused_by_the_door_with_its_remedy(
    tmp_path: Path,
) -> None:
    tried = set()
    for column, value, reason in VALUES:
        if reason in REMEDIES:
            content = HEADER + line(**{column: value}) * 3
            folder = stored(tmp_path / DAY, File(content))
            assert loaded(folder, WHOLE).rejected == {reason: 3}
            words = rf"reject each of its first 3 lines: {reason} 3\. {column} is .*{REMEDIES[reason]}"
            with pytest.raises(ContractError, match=words):
                landed(content, "a.csv", tmp_path / "landing")
            tried.add(reason)
    assert tried == REMEDIES.keys()
    assert not (tmp_path / "landing").exists()


# VmHWM and not resource.getrusage, in which a child starts with the peak of its parent. Each way imports what
# it needs alone: Beam takes seconds.
PEAK = """
import re, sys
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
folder, way, at_once, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 0
if way == "load":
    from datetime import date
    from beam_jobs.files import list_files, plan_ranges, read_range
    from beam_jobs.lines import BLOCK_BYTES
    from beam_jobs.parse import parse_block
    from beam_jobs.validate import validate
    at_first = peak()
    for part in plan_ranges(list_files(str(folder))[0]):
        for block in read_range(part, BLOCK_BYTES):
            judged = validate(parse_block(block, part.columns, at_once), date(2019, 11, 1))
            rows += sum(judged.rejected["lines"].to_pylist())
elif way == "stream":
    from itertools import islice
    from beam_jobs.messages import Message, judge
    from shopstream.stream.publish import read_lines
    at_first = peak()
    lines = read_lines(str(folder / "a.csv"))
    while batch := [Message(data) for _, data in islice(lines, at_once)]:
        judged = judge(batch)
        rows += len(judged.rejects) + len(judged.messages)
elif way == "messages":
    from beam_jobs.messages import Message, judge
    messages = [Message(path.read_bytes()) for path in folder.iterdir()]
    judge([Message(b"x"), Message(b"{}")])
    at_first = peak()
    judged = judge(messages)
    rows = len(judged.rejects) + len(judged.messages)
else:
    from shopstream.landing import split
    at_first = peak()
    with (folder / "a.csv").open("rb") as export:
        landed = split.split(export, "a.csv", lambda *_: (folder / "part").open("wb"), lambda *_: None)
        rows = landed.rows.total()
print(rows, peak() - at_first)
"""


@pytest.mark.parametrize(
    ("way", "at_once", "begins", "bad", "lines", "rows", "peak_mebibytes"),
    [
        ("load", MAX_REJECTS, HEADER, b"x\n", 2**20, 2**20, 50),
        ("door", 0, b"", b"\n", 20 * 2**20, 1, 100),
        ("door", 0, HEADER + EVENT, b"x\n", 2**20, 2**20 + 2, 150),
        ("stream", BATCH_MESSAGES, HEADER, b"x\n", 2**18, 2**18 + 1, 120),
    ],
    ids=["load", "newlines", "door", "publisher and stream"],
)
def test_memory_does_not_grow_with_bad_lines(
    tmp_path: Path,
    way: str,
    at_once: int,
    begins: bytes,
    bad: bytes,
    lines: int,
    rows: int,
    peak_mebibytes: int,
) -> None:
    """Where a block's lines are not bounded the load takes 90 MiB, the door 350, the stream 150."""
    ends = b"" if way == "load" else EVENT
    (tmp_path / "a.csv").write_bytes(begins + bad * lines + ends)
    found, peak = rows_and_peak(tmp_path, way, at_once)
    assert found == rows
    assert peak < peak_mebibytes


@pytest.mark.parametrize(
    ("messages", "peak_mebibytes"),
    [
        ([b"\n" * 9_900_000] * 2, 25),
        ([b"1" * 9_900_000] * 2, 25),
        ([b"{" * 9_900_000] * 2, 25),
        ([b"\n" * MAX_LINE_BYTES] * 250, 50),
        ([b"{" + b" " * (MAX_LINE_BYTES - 400 - more) + b'"user_id":1}' for more in range(160)], 100),
    ],
    ids=[
        "newlines, too long",
        "digits, too long",
        "braces, too long",
        "newlines",
        "objects padded otherwise",
    ],
)
def test_the_memory_of_a_batch_of_bad_messages_is_bounded(
    tmp_path: Path, messages: list[bytes], peak_mebibytes: int
) -> None:
    for number, data in enumerate(messages):
        (tmp_path / f"{number}.message").write_bytes(data)
    found, peak = rows_and_peak(tmp_path, "messages", 0)
    assert found == len(messages)
    assert peak < peak_mebibytes


def rows_and_peak(folder: Path, way: str, at_once: int) -> tuple[int, int]:
    """How many rows a way reads of a folder in a process of its own, and the MiB that it takes for that."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder), way, str(at_once)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found, peak = map(int, done.stdout.split())
    return found, peak


PIECES = st.sampled_from(
    [
        *(b"\n", b"\r\n", b",", b'"', b"\0", b"\xff", b"\xef\xbb\xbf", b"bad", HEADER, SWAPPED, EVENT),
        EVENT.replace(b"512", b"513"),
        EVENT.replace(b"acme", b'"acme"'),
        EVENT.replace(b" UTC", b"+02:00"),
    ]
)


@given(
    st.one_of(st.lists(PIECES, max_size=20).map(b"".join), st.binary(max_size=200)),
    st.sampled_from([b"", HEADER, SWAPPED]),
    st.integers(1, 300),
)
def test_no_accepted_row_has_a_value_that_is_not_in_its_line_under_that_columns_name(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, header: bytes, size: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    content = header + body
    (folder / "a.csv").write_bytes(content)
    try:
        whole = loaded(folder, WHOLE)
    except ContractError:
        with pytest.raises(ContractError, match=r"a\.csv"):
            loaded(folder, size, size)
        return
    assert loaded(folder, size, size) == whole
    for part in plan_ranges(list_files(str(folder))[0], size):
        for block in read_range(part, size):
            checked = validate(parse_block(block, part.columns), LANDING_DAY)
            events = checked.accepted.to_pylist()
            for event, start, length in zip(events, checked.offsets, checked.lengths, strict=True):
                text = content[start : start + length].decode().removesuffix("\r")
                fields = dict(zip(part.columns, next(csv.reader([text])), strict=True))
                assert {name: str(event[name]) for name in IDS} == {name: fields[name] for name in IDS}
                assert (event["brand"] or "") == fields["brand"].strip().lower()


IDS = ("product_id", "category_id", "user_id")


@pytest.mark.integration
def test_a_load_of_all_cases_together_counts_what_each_counts(
    bucket: Bucket, spanner_database: Database
) -> None:
    expected: Counter[str] = Counter()
    accepted = 0
    for number, case in enumerate(FILES.values()):
        if not case.refused:
            name = f"landing/events/{DAY}/{number:03d}-{case.name}"
            bucket.blob(name).upload_from_string(case.content)
            expected.update(case.rejected)
            accepted += case.accepted
    values = b"".join(line(**{column: value}) for column, value, _ in VALUES)
    bucket.blob(f"landing/events/{DAY}/values.csv").upload_from_string(HEADER + values)
    expected.update(reason for _, _, reason in VALUES if reason)
    accepted += sum(not reason for _, _, reason in VALUES)

    load(f"gs://{bucket.name}/landing/events/{DAY}", f"gs://{bucket.name}", spanner_database)
    manifest = json.loads(bucket.blob("load.json").download_as_bytes())
    assert manifest["rejected_by_reason"] == dict(sorted(expected.items()))
    assert (manifest["accepted"], manifest["rejected"]) == (accepted, expected.total())
    assert manifest["read"] == accepted + expected.total()


def load(landing: str, made: str, database: Database) -> None:
    """Run the load of a folder of landed files; what it makes goes to the folder `made`."""
    load_events.run(
        [
            f"--landing_day={DAY}",
            "--load_id=20191101-00000001",
            f"--landing={landing}",
            f"--accepted={made}/accepted",
            f"--rejected={made}/rejected",
            f"--manifest={made}/load.json",
            f"--spanner_project={shop_settings().project}",
            f"--spanner_instance={shop_settings().spanner_instance}",
            f"--spanner_database={database.database_id}",
            "--range_bytes=200000",
            "--runner=FnApiRunner",
        ]
    ).wait_until_finish()
