"""The import rules hold, and each one finds the breach that it is there for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from infra.imports import imported_modules
from local.root import ROOT

LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
NAMES = [contract["name"] for contract in RULES["contracts"]]
BREACHES = {
    "beam_jobs imports no Airflow and nothing of the DAGs' side": ("beam_jobs/breach.py", "airflow.sdk"),
    "contract, lines and manifest import the standard library and each other": (
        "beam_jobs/manifest.py",
        "pyarrow",
    ),
    "plugins/shopstream imports no Beam, and nothing above it": (
        "plugins/shopstream/tables/breach.py",
        "beam_jobs.load_events",
    ),
    "The rooms of plugins/shopstream: subjects above tables, above gcp, above what all share": (
        "plugins/shopstream/landing/breach.py",
        "shopstream.load.checks",
    ),
    "dags imports shopstream alone, and of a subject only its tasks": (
        "dags/breach.py",
        "shopstream.gcp.clients",
    ),
    "local and tools are imported by nobody above them": ("infra/breach.py", "local.stack.emulators"),
}
"""For each contract of pyproject.toml a file, and what it imports against that contract alone."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python files that the rules are about, in a folder of their own."""
    copy = tmp_path_factory.mktemp("checkout")
    for package in ("beam_jobs", "dags", "infra", "local", "plugins", "tools"):
        shutil.copytree(
            ROOT / package, copy / package, ignore=lambda folder, names: [*filter(is_no_python, names)]
        )
    return copy


def is_no_python(name: str) -> bool:
    return name in ("node_modules", "__pycache__") or ("." in name and not name.endswith(".py"))


def broken_rules(checkout: Path) -> list[str]:
    """Return the names of the contracts that lint-imports finds broken."""
    ran = subprocess.run(
        [LINT_IMPORTS, "--config", ROOT / "pyproject.toml", "--cache-dir", checkout / "cache"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'plugins'}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(re.findall(r"^(.+) (KEPT|BROKEN)\b.*$", ran.stdout, re.MULTILINE))
    assert list(found) == NAMES, ran.stdout + ran.stderr
    return [name for name, state in found.items() if state == "BROKEN"]


def test_each_rule_has_a_breach_here() -> None:
    assert list(BREACHES) == NAMES


def test_no_rule_is_broken(checkout: Path) -> None:
    assert broken_rules(checkout) == []


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_of_a_rule_breaks_that_rule_alone(name: str, checkout: Path) -> None:
    file, imported = BREACHES[name]
    path = checkout / file
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\nimport {imported}\n")
    try:
        assert broken_rules(checkout) == [name]
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)


def test_the_rule_of_the_standard_library_names_every_package_that_beam_jobs_imports() -> None:
    [forbidden] = [
        contract["forbidden_modules"] for contract in RULES["contracts"] if contract["name"] == NAMES[1]
    ]
    imported = set().union(*(imported_modules(path) for path in (ROOT / "beam_jobs").glob("*.py")))
    roots = {module.partition(".")[0] for module in imported} - sys.stdlib_module_names - {"beam_jobs"}
    assert roots == set(forbidden)
