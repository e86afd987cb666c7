"""What runs in Composer imports only what is there, and sets nothing that Composer keeps for itself."""

from __future__ import annotations

import re
import sys
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from infra.imports import airflow_files, imported_modules
from local.root import ROOT
from tests.infra.terraform import requirements

SITE = Path(sysconfig.get_path("purelib"))
OWN = {"beam_jobs", "shopstream"}
RESERVED = {
    "AIRFLOW_HOME", "C_FORCE_ROOT", "CONTAINER_NAME", "DAGS_FOLDER", "GCP_PROJECT", "GCS_BUCKET",
    "GKE_CLUSTER_NAME", "GOOGLE_APPLICATION_CREDENTIALS", "PROJECT_ID", "SQL_DATABASE", "SQL_INSTANCE",
    "SQL_PASSWORD", "SQL_PROJECT", "SQL_REGION", "SQL_USER",
}  # fmt: skip


def is_accepted(line: str) -> bool:
    return re.fullmatch(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[0-9][a-z0-9.+!]*", line) is not None


@cache
def in_the_image() -> frozenset[str]:
    """The packages that the image is known to hold, and all that they require."""
    known = (ROOT / "infra" / "composer-image-packages.txt").read_text().splitlines()
    waiting = [Requirement(line).name for line in known if line and not line.startswith("#")]
    found: set[str] = set()
    while waiting:
        name = normal(waiting.pop())
        if name in found:
            continue
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [one.name for one in map(Requirement, required) if not one.marker or one.marker.evaluate()]
    return frozenset(found)


def normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


@cache
def owners() -> dict[Path, str]:
    """The package of each installed Python file."""
    found = {}
    for one in metadata.distributions():
        name = normal(one.metadata["Name"])
        found.update({Path(file): name for file in one.files or () if file.suffix in {".py", ".so"}})
    return found


def package_of(module: str) -> str | None:
    """The package that a module comes from; None for a name in a module, or a bare namespace."""
    path = Path(*module.split("."))
    compiled = [
        Path(file.parent.relative_to(SITE), file.name)
        for file in (SITE / path).parent.glob(f"{path.name}.*.so")
    ]
    for candidate in (path / "__init__.py", path.with_suffix(".py"), *compiled):
        if candidate in owners():
            return owners()[candidate]
    return None


def foreign(path: Path) -> set[str]:
    """The modules a file imports that are neither its own, the standard library's nor in the image."""
    allowed = in_the_image() | {normal(re.split(r"\[|==", line)[0]) for line in requirements()}
    found = set()
    for module in imported_modules(path):
        top = module.partition(".")[0]
        if top in OWN or top in sys.stdlib_module_names:
            continue
        package = package_of(module)
        if package is None and package_of(module.rpartition(".")[0]) is not None:
            continue
        if package is None and (SITE / Path(*module.split("."))).is_dir():
            continue
        if package not in allowed:
            found.add(module)
    return found


@pytest.mark.parametrize("path", airflow_files(), ids=str)
def test_each_file_imports_only_what_composer_has(path: Path) -> None:
    assert foreign(ROOT / path) == set()


@pytest.mark.parametrize("module", ["duckdb", "supervisor", "nowhere.to.be.found"])
def test_an_import_of_something_else_is_found(tmp_path: Path, module: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"def run():\n    import {module}\n")
    assert foreign(path) == {module}


def test_the_image_is_known_to_hold_what_the_loads_need() -> None:
    assert {
        "apache-airflow-task-sdk",
        "google-cloud-bigquery",
        "google-cloud-storage",
        "jinja2",
    } <= in_the_image()
    assert "duckdb" not in in_the_image()


def test_composer_accepts_each_line_of_its_requirements() -> None:
    assert [line for line in requirements() if not is_accepted(line)] == []


def test_no_package_is_added_to_the_image() -> None:
    assert requirements() == []


@pytest.mark.parametrize(
    "line",
    ["pandas", "pandas>=2", "-c constraints.txt", "--extra-index-url x", "git+https://x/y.git", "a == 1"],
)
def test_what_composer_does_not_take_is_known(line: str) -> None:
    assert not is_accepted(line)
    assert is_accepted("pandas==2.2.0")
    assert is_accepted("google-cloud-spanner[tracing]==3.5.0")


@pytest.mark.parametrize("path", airflow_files(), ids=str)
def test_no_file_reads_or_sets_a_variable_that_composer_keeps_for_itself(path: Path) -> None:
    assert reserved_names((ROOT / path).read_text()) == set()


def test_infra_sets_no_variable_that_composer_keeps_for_itself() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "infra").glob("*.tf*"))
    assert reserved_names(text) == set()


def test_a_reserved_variable_is_found() -> None:
    text = 'os.environ["GCS_BUCKET"] = AIRFLOW__CORE__PARALLELISM; SHOPSTREAM_GCS_BUCKET'
    assert reserved_names(text) == {"GCS_BUCKET", "AIRFLOW__CORE__PARALLELISM"}


def reserved_names(text: str) -> set[str]:
    words = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", text))
    return {word for word in words if word in RESERVED or word.startswith("AIRFLOW__")}
