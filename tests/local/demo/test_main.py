"""What the demo refuses at once, and a whole run of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import pytest
from google.cloud.storage import Bucket

from local.demo import __main__ as demo
from local.stack import control as stack
from local.stack import emulators, services
from local.stack.airflow_client import RunFailed
from tests.bad_input import HEADER, line


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.csv", "is no file"),
        ("events.txt", "must end in one of .csv, .csv.gz, .zip"),
        ("part[1].csv", "may have none of"),
    ],
)
def test_an_input_that_cannot_be_loaded_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    if name != "missing.csv":
        (tmp_path / name).touch()

    with pytest.raises(SystemExit):
        demo.main(["--input", str(tmp_path / name), "--out", str(tmp_path / "out")])

    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no events\n", "the first line is neither an event nor a header"),
        (HEADER + line(price="free") * 2, "reject each of its first 2 lines: bad_price 2"),
    ],
)
def test_an_input_without_an_event_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    with pytest.raises(SystemExit):
        demo.main(["--input", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")])

    assert sentence in capsys.readouterr().err


def test_what_is_in_an_input_and_the_memory_that_it_takes_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(HEADER + line(event_time="2019-11-01 08:00:00 UTC") * 500)
    demo._parse(["--input", str(file)])
    assert capsys.readouterr().out.splitlines() == [
        "a.csv: all 9 columns, 500 rows of 1 day: 2019-11-01 (500 rows), some 3 MB in the Spanner emulator"
    ]


def test_a_wrong_input_does_not_wait_for_what_only_a_run_needs() -> None:
    code = "import sys; from local.demo import __main__; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_may_be_asked_of_the_demo_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        demo.main(["--help"])
    assert "let 5% of a day's lines be bad" in " ".join(capsys.readouterr().out.split())


def test_a_bad_day_in_a_file_of_the_users_own_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--bad-day", "--input", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")])

    assert "give no INPUT with it" in capsys.readouterr().err


@pytest.mark.integration
def test_what_a_running_stack_has_landed_of_the_inputs_days_is_deleted_only_if_told(
    bucket: Bucket,
) -> None:
    theirs, others = "landing/events/2019-11-01/theirs.csv", "landing/events/2019-11-02/theirs.csv"
    for name in (theirs, others):
        bucket.blob(name).upload_from_string(b"")

    with pytest.raises(RunFailed, match=r"has landed 2019-11-01 already, .* Give REPLACE=1"):
        demo._clear_days(bucket, [date(2019, 11, 1)], replace=False)
    assert len(list(bucket.list_blobs())) == 2

    demo._clear_days(bucket, [date(2019, 11, 1)], replace=True)
    assert [blob.name for blob in bucket.list_blobs()] == [others]


def test_a_file_of_more_rows_than_the_memory_holds_is_refused_with_both_numbers(tmp_path: Path) -> None:
    file = tmp_path / "events.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("events.csv", b" " * 1_330_000)

    assert demo._too_large(file, free_bytes=4_500 * 10_000) is None
    assert "about 10,000 rows" in (demo._too_large(file, free_bytes=4_500 * 9_999) or "")
    assert "room for about 9,999" in (demo._too_large(file, free_bytes=4_500 * 9_999) or "")


def test_a_stack_that_cannot_start_is_told_once_and_last_in_its_own_sentence_and_without_empty_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (stack, services):
        monkeypatch.setattr(module, "STATE", tmp_path / "stack")
    monkeypatch.setenv("SHOPSTREAM_SPANNER_EMULATOR", "/nowhere/emulator_main")
    monkeypatch.setenv("SHOPSTREAM_KEEP_ALIVE_SECONDS", "15")  # else the demo sets it for all tests after
    for variable in services.DEFAULT_PORTS:
        monkeypatch.setenv(variable, str(emulators.free_port()))

    assert demo.main(["--keep", "--out", str(tmp_path / "out")]) == 1

    told = capsys.readouterr().out
    assert told.partition("BROKEN ")[2].startswith("SHOPSTREAM_SPANNER_EMULATOR names /nowhere/emulator_main")
    assert told.endswith("emulator's file.\n")
    assert told.count("/nowhere/emulator_main") == 1
    assert "What came of each landing day" not in told
    assert "Rows of the summaries" not in told


@pytest.mark.integration
@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_demo_with_a_bad_day_asks_about_it_answers_and_tells_who_had_it_published(tmp_path: Path) -> None:
    ports = {variable: str(emulators.free_port()) for variable in services.DEFAULT_PORTS}
    variables = {**os.environ, **ports, "SHOPSTREAM_STACK_DIR": str(tmp_path / "stack")}
    command = [sys.executable, "-m", "local.demo", "--bad-day", "--out", str(tmp_path / "out")]
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    finally:
        subprocess.run([sys.executable, "-m", "local.stack", "down"], env=variables, check=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert re.search(rf"{demo.BAD_DAY}, load \S+: [\d,]+ of [\d,]+ lines \(\d\.\d\d%\) were rejected", told)
    assert f"admin: {demo.BAD_DAY_REASON}" in told
