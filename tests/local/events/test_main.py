"""The command line of the generator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local.events.__main__ import main


def test_the_command_writes_days_and_what_they_hold(tmp_path: Path) -> None:
    counts_file = tmp_path / "counts.json"
    arguments = ["--events", "2000", "--late-share", "0.05", "--bad-share", "--counts", str(counts_file)]
    assert main([*arguments, "--out", str(tmp_path)]) == 0

    held = json.loads(counts_file.read_text())
    assert [day["landing_day"] for day in held] == ["2019-11-01", "2019-11-02", "2019-11-03"]
    assert [day["rejected"] for day in held] == [6, 6, 6]
    assert held[0]["late"] == 0, "no day of this run is before the first"
    lines = (tmp_path / "2019-11-02" / "events.csv").read_bytes().splitlines()
    assert sum(line.startswith(b"2019-11-01 ") for line in lines) == pytest.approx(held[1]["late"], abs=6)


def test_an_export_holds_all_days_under_one_header(tmp_path: Path) -> None:
    export = tmp_path / "2019-Nov.csv"
    assert main(["--days", "3", "--events", "500", "--out", str(export)]) == 0

    lines = export.read_text().splitlines()
    assert len(lines) == 1 + 3 * 500
    assert sum(line.startswith("event_time") for line in lines) == 1
    assert lines[1:] == sorted(lines[1:], key=lambda line: line[:19])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--events", "-1"), "events is -1; give 0 or more"),
        (("--seed", "-1"), "seed is -1; give 0 or more"),
        (("--bad-share", "0.9"), "bad_share is 0.9; give a share from 0 to 0.5"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(
    option: tuple[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*option, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
