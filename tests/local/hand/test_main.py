"""The shop by hand: what is refused at once, and the walk of docs/local.md as a newcomer does it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.hand import __main__ as hand
from local.root import ROOT
from local.stack import emulators, services
from tests.bad_input import FIELDS, HEADER, line
from tools.cloud_proof.__main__ import PROBES

WALK = ROOT / "docs" / "local.md"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["load", "1.11.2019"], "'1.11.2019' is no day such as 2019-11-01"),
        (["load", "2019-11-01", "--env", "small"], "a real project has both ENV= and PROJECT="),
        (["sql", "SELECT 1", "--store", "mysql"], "invalid choice: 'mysql'"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        hand.main(arguments)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no.csv is no file; name a file of click events."),
        (b"nothing of ours\n", "the first line is neither an event nor a header"),
        (HEADER + line(event_time="2019-11-01 08:00:00") * 3, "time_without_zone 3"),
    ],
)
def test_a_file_that_would_not_land_is_refused_before_anything_is_uploaded(
    content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no.csv"
    if content is not None:
        file.write_bytes(content)
    assert hand.main(["put", str(file)]) == 1
    assert words in capsys.readouterr().err


def test_a_stack_that_is_down_is_told_with_the_command_that_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hand.control, "STATE", tmp_path)
    for arguments in (["status"], ["sql", "SELECT 1"], ["load", "2019-11-01"], ["kill-stream"]):
        assert hand.main(arguments) == 1
    told = capsys.readouterr()
    assert "The stack is down. Start it: make up" in told.out
    assert told.err.count("The local stack is down: run `make up`.") == 3


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a stack of its own, which is down in the end."""
    ports = {variable: str(emulators.free_port()) for variable in services.DEFAULT_PORTS}
    variables = {**os.environ, **ports, "SHOPSTREAM_STACK_DIR": str(tmp_path)}
    yield variables
    subprocess.run([sys.executable, "-m", "local.stack", "down"], env=variables, check=True)


@pytest.mark.integration
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_walk_of_the_docs_shows_what_they_say(environment: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"^```\n(.*?)^```$", WALK.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    commands = [command for block in blocks for command in block.splitlines()]
    told: dict[str, str] = {}
    for command in commands:
        # The stream takes minutes beside other tests; the demo starts and kills one.
        if command.startswith(("make stream", "make kill-stream")):
            continue
        done = subprocess.run(
            # make's own variables of the run that started the tests are not meant for these.
            command.replace("build/look", str(tmp_path)),
            shell=True,
            cwd=ROOT,
            env={name: value for name, value in environment.items() if not name.startswith("MAKE")},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        told[command] = told.get(command, "") + done.stdout

    def after(start: str) -> str:
        [text] = [text for command, text in told.items() if command.startswith(start)]
        return text

    assert "make put FILE=" in after("make up")
    first, second = after("make put").split("landed in ")[:2]
    assert re.search(r"6,000 rows of \d days: .*2019-11-01 \(2,9\d\d rows\)", first)
    assert "the load will reject" in first
    assert "the load will reject" not in second
    first, second = after("make load DAY=2019-11-01").split("2019-11-01 is loaded: ")[1:]
    rejected = int(re.search(r"([\d,]+) rejected", first)[1].replace(",", ""))  # type: ignore[index]
    assert rejected > 0
    assert " 0 rejected." in second
    assert re.search(r"bad_\w+ +│ +\d+ │ 2019-11-01/shop-00000\.csv line [\d,]+ \(byte [\d,]+\)", first)
    loads = after("make sql Q='SELECT landing_day").splitlines()
    assert loads[0] == "landing_day,accepted,rejected,duplicates,spanner_rows,bigquery_rows"
    assert f",{rejected}," in next(row for row in loads if row.startswith("2019-11-01"))
    whatif = after("make contract-whatif")
    assert f"Of {rejected}, 0 would pass now." in whatif
    assert "all would pass again, as the same events" in whatif
    assert len(after("make sql Q='SELECT reason").splitlines()) >= 6
    assert after("make sql Q='SELECT COUNT(*) AS rejected_lines").split() == ["rejected_lines", "0"]
    assert ",purchase," in after("make sql STORE=spanner")
    proof = after("make cloud-proof")
    rows = [line.split(" | ") for line in proof.splitlines() if line.startswith("| ")][1:]
    assert {row[0].removeprefix("| "): row[3] for row in rows} == {
        probe.name: "needs Google" if probe.needs else "as expected" for probe in PROBES
    }
    assert re.fullmatch(r"streamed\n\d+\n", after("make sql Q='SELECT COUNT(DISTINCT"))
    assert "shop_ops.loads             3" in after("make status")
    assert "Its rows and objects are gone" in after("make down")


def test_a_value_is_printed_as_csv_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    hand._print_rows(list(FIELDS), iter([list(FIELDS.values())]), as_csv=True)
    assert capsys.readouterr().out == ",".join(FIELDS) + "\n" + ",".join(FIELDS.values()) + "\n"


def test_more_rows_than_a_person_reads_are_cut_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    hand._print_rows(["n"], iter([[n] for n in range(1001)]), as_csv=False)
    told = capsys.readouterr().out
    assert "999" in told
    assert "1000" not in told.replace("1,000", "")
    assert "These are the first 1,000 rows; as CSV all are printed." in told
