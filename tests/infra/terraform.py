"""The real check of infra/, the plans that it makes once a session, and what infra/ lists for Composer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.root import ROOT

PYTHON = ROOT / ".venv-infra" / "bin" / "python"
Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def check() -> Check:
    """Runs `python -m tools.infra_check` with arguments."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    if not PYTHON.exists():
        pytest.skip("`make infra-check` has not been run, which makes .venv-infra")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, "-m", "tools.infra_check", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def plans(check: Check, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The plan of each size, as `terraform show -json` prints it."""
    folder = tmp_path_factory.mktemp("plans")
    done = check("--plans", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def requirements() -> list[str]:
    """The lines of composer-requirements.txt that are no comment."""
    lines = (ROOT / "infra" / "composer-requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
