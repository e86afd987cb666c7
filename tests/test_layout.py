"""The tests mirror the tree: a test file has the name of what it tests, and no module imports it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.imports import imported_modules
from local.root import ROOT

OF_NO_MODULE = {
    "tests/dags/test_clearing.py": "of each DAG whose tasks are cleared",
    "tests/dags/test_faults.py": "of loads and streams that are killed, or whose stores fail",
    "tests/dags/test_main_job.py": "of several DAGs, one after the other",
    "tests/dags/test_policy.py": "of all DAG files",
    "tests/docs/test_guarantees.py": "of docs/guarantees.md",
    "tests/docs/test_runbooks.py": "of docs/runbooks, and of every page",
    "tests/infra/test_composer_packages.py": "of what Composer has beside our code",
    "tests/infra/test_docs.py": "of docs/deployment.md and docs/permissions.md",
    "tests/infra/test_plan.py": "of the Terraform files",
    "tests/infra/test_workflows.py": "of .github/workflows",
    "tests/local/test_in_browser.py": "of Airflow's pages on the running stack",
    "tests/plugins/dashboard/test_static.py": "of the pages in plugins/shopstream/dashboard/static",
    "tests/plugins/report/test_charts.py": "of the specifications in plugins/shopstream/charts",
    "tests/plugins/test_sent_statements.py": "of every statement that the subjects send",
    "tests/test_bad_input.py": "of every way into the shop",
    "tests/test_import_rules.py": "of pyproject.toml",
    "tests/test_layout.py": "of tests/",
    "tests/test_makefile.py": "of the Makefile",
}
"""Test files that mirror nothing, with what they are of. Those of tests/sql are all of folders of SQL."""


def stray_tests(tests: Path) -> list[str]:
    """Return the test files, as paths below the folder above `tests`, that no module or DAG explains."""
    root = tests.parent
    return [
        str(path.relative_to(root))
        for path in sorted(tests.rglob("test_*.py"))
        if not any(there.exists() for there in mirrored(root, path.relative_to(tests)))
    ]


def mirrored(root: Path, test: Path) -> list[Path]:
    """Return what a test file may be of: a module, a package or its command line, whichever is there."""
    room = root / Path(*test.parts[:-1])
    if test.parts[0] == "plugins":
        room = root / "plugins" / "shopstream" / Path(*test.parts[1:-1])
    name = test.stem.removeprefix("test_")
    return [room / f"{name}.py", room / f"__{name}__.py", room / name / "__init__.py"]


def imports_of_tests(path: Path) -> list[str]:
    """Return the test modules that a Python file imports, or imports from."""
    return sorted(
        name
        for name in imported_modules(path)
        if re.fullmatch(r"tests\.(\w+\.)*test_\w+", name)
        and (ROOT / f"{name.replace('.', '/')}.py").is_file()
    )


def test_each_test_file_has_the_name_of_what_it_tests() -> None:
    stray = set(stray_tests(ROOT / "tests")) - OF_NO_MODULE.keys()
    assert {path for path in stray if not path.startswith("tests/sql/")} == set()


def test_the_named_exceptions_mirror_nothing() -> None:
    assert OF_NO_MODULE.keys() - set(stray_tests(ROOT / "tests")) == set()


def test_no_file_imports_a_test_module() -> None:
    imports = {
        str(path.relative_to(ROOT)): found
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if (found := imports_of_tests(path))
    }
    assert imports == {}


@pytest.mark.parametrize(
    ("test", "module"),
    [
        ("dags/test_load.py", "dags/load.py"),
        ("plugins/load/test_launch.py", "plugins/shopstream/load/launch.py"),
        ("local/demo/test_main.py", "local/demo/__main__.py"),
        ("tools/test_googlesql.py", "tools/googlesql/__init__.py"),
    ],
)
def test_a_test_of_what_is_gone_is_told(test: str, module: str, tmp_path: Path) -> None:
    for name in (f"tests/{test}", module):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert stray_tests(tmp_path / "tests") == []

    (tmp_path / module).unlink()

    assert stray_tests(tmp_path / "tests") == [f"tests/{test}"]


@pytest.mark.parametrize(
    "line",
    [
        "import tests.test_layout",
        "from tests.test_layout import stray_tests",
        "from tests import test_layout",
    ],
)
def test_an_import_of_a_test_module_is_told(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(f"def late() -> None:\n    {line}\n")
    assert imports_of_tests(tmp_path / "module.py") == ["tests.test_layout"]
