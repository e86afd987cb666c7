"""The Makefile: what people type reaches a command as they typed it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from local.root import ROOT

TYPED = """SELECT "$1.50" AS p, '$$' AS q, `$(shell echo made)` AS r, "$HOME" AS s"""


@pytest.mark.parametrize("is_in_the_environment", [False, True])
@pytest.mark.parametrize(
    ("target", "variable"),
    [
        ("sql", "Q"),
        ("put", "FILE"),
        ("demo", "INPUT"),
        ("load", "DAY"),
        ("contract-whatif", "SEED"),
        ("cost", "JSON"),
        ("bi-link", "PROJECT"),
        ("rollback", "VERSION"),
        ("bench", "PART"),
        ("cloud-proof", "PROBE"),
        ("logs", "SERVICE"),
        ("fuzz", "SECONDS"),
    ],
)
def test_what_is_typed_for_a_variable_reaches_its_command_unchanged(
    target: str, variable: str, is_in_the_environment: bool, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    given = [] if is_in_the_environment else [f"{variable}={TYPED}"]
    nothing_is_installed = ["INSTALLED=", "ANALYZER=", f"UV={python}"]
    told = subprocess.run(
        ["make", "--no-print-directory", f"BIN={tmp_path}", *nothing_is_installed, target, *given],
        cwd=ROOT,
        env={**environment, variable: TYPED},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert TYPED in told.splitlines()


@pytest.mark.parametrize(
    ("programs", "variables", "installs"),
    [
        (["apt-get"], {}, True),
        (["apt-get", "chromium"], {}, False),
        (["apt-get", "google-chrome"], {}, False),
        (["apt-get"], {"SHOPSTREAM_CHROMIUM": "/opt/browser"}, False),
        ([], {}, False),
    ],
)
def test_the_tests_have_chromium_installed_where_there_is_none_and_root_can(
    programs: list[str], variables: dict[str, str], installs: bool, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    for name, does in {"id": "echo 0", "nproc": "echo 1", "expr": "echo 2"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
    for name in programs:
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    make = shutil.which("make")
    assert make
    subprocess.run([make, "chromium"], cwd=ROOT, env={"PATH": str(tmp_path), **variables}, check=True)
    assert log.exists() == installs
    if installs:
        assert log.read_text().splitlines()[1].endswith(" chromium")
