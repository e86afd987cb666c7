"""Which files of beam_jobs/ go to Composer is computed from imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.imports import airflow_files, imported_modules


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_files_that_dags_and_plugins_import_are_found_also_through_each_other(tmp_path: Path) -> None:
    write(
        tmp_path,
        dags__load="from shopstream import task\n",
        plugins__shopstream__task="def run():\n    from beam_jobs import publish\n",
        beam_jobs__publish="from beam_jobs.parse import line\nimport beam_jobs.contract\n",
        beam_jobs__parse="import csv\n",
        beam_jobs__contract="",
        beam_jobs__pipeline="import apache_beam\n",
    )
    (tmp_path / "beam_jobs" / "__init__.py").touch()
    assert [str(path) for path in airflow_files(tmp_path)] == [
        "beam_jobs/__init__.py",
        "beam_jobs/contract.py",
        "beam_jobs/parse.py",
        "beam_jobs/publish.py",
        "dags/load.py",
        "plugins/shopstream/task.py",
    ]


def test_what_only_a_type_checker_imports_is_left_out(tmp_path: Path) -> None:
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import csv\nelse:\n    import json\n"
    write(tmp_path, module=text)
    assert imported_modules(tmp_path / "module.py") == {"typing", "typing.TYPE_CHECKING", "json"}


def test_a_relative_import_is_refused_since_its_file_would_not_be_found(tmp_path: Path) -> None:
    write(tmp_path, module="from . import sibling\n")
    with pytest.raises(ValueError, match="line 1 has a relative import"):
        imported_modules(tmp_path / "module.py")
