"""make drill: what it tells of a drill, and all drills on a stack of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local.drills.__main__ import Result, main
from local.drills.drills import DRILLS
from local.stack import emulators, services

WELL = Result("gate", "docs/runbooks/rejected-rows.md", ("gate refused a day",), 40.0, 0, 0, "")


@pytest.mark.parametrize("change", [{"lost": 1}, {"double": 1}, {"error": "gate passed"}])
def test_a_drill_is_well_only_without_an_error_and_with_each_event_once(change: dict[str, object]) -> None:
    assert WELL.is_well
    assert not replace(WELL, **change).is_well  # type: ignore[arg-type]


def test_a_drill_that_there_is_not_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["gaet"])
    assert f"there is no drill gaet; give some of {', '.join(DRILLS)}" in capsys.readouterr().err


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a stack of its own, which is down in the end."""
    ports = {variable: str(emulators.free_port()) for variable in services.DEFAULT_PORTS}
    variables = {**os.environ, **ports, "SHOPSTREAM_STACK_DIR": str(tmp_path)}
    yield variables
    subprocess.run([sys.executable, "-m", "local.stack", "down"], env=variables, check=True)


# One of them `make test` carries out on a stack that is up: tests/local/stack/test_control.py.
@pytest.mark.integration
@pytest.mark.drill
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_drill_ends_as_its_runbook_says_with_each_event_once(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "local.drills", "--events", "1000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in DRILLS)
