"""The Makefile: what people type reaches a command as they typed it."""

from __future__ import annotations

import os
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
