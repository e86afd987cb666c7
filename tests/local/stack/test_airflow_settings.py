"""The home folder of the local stack's Airflow."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from local.root import ROOT
from local.stack import airflow_settings


def test_a_home_is_laid_out_also_where_there_is_no_build_folder_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_settings, "ROOT", tmp_path / "clone")
    monkeypatch.setattr(airflow_settings, "AIRFLOW", "true")  # the migration itself takes half a minute
    home = tmp_path / "home"
    for password in ("first", "second"):
        airflow_settings.lay_out(home, password, {})
        assert json.loads((home / "passwords.json").read_text()) == {"admin": password}
        with sqlite3.connect(home / "airflow.db") as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    left = {path.suffix for path in (tmp_path / "clone" / "build").iterdir()}
    assert left == {".db", ".lock"}


def test_the_api_server_waits_a_second_for_another_processs_write_and_all_else_five(tmp_path: Path) -> None:
    everybody = airflow_settings.environment(tmp_path, 8080, "project")
    for environment, milliseconds in (
        (everybody, 5_000),
        (everybody | airflow_settings.api_server_environment(tmp_path), 1_000),
    ):
        engine = create_engine(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == milliseconds
            assert (
                Path(connection.exec_driver_sql("PRAGMA database_list").one()[2]) == tmp_path / "airflow.db"
            )


@pytest.mark.integration
def test_parsing_a_dag_warns_of_nothing_that_is_not_ours_locally_and_on_composer(tmp_path: Path) -> None:
    assert f'PYTHONWARNINGS = "{airflow_settings.QUIET}"' in (ROOT / "infra" / "composer.tf").read_text()
    parse = (
        "from airflow.dag_processing.dagbag import DagBag; import airflow.plugins_manager as plugins; "
        f"plugins.get_plugin_info(); print(DagBag({str(ROOT / 'dags' / 'load_events_daily.py')!r}).dag_ids)"
    )
    parsed = subprocess.run(
        [sys.executable, "-c", parse],
        env=os.environ | airflow_settings.environment(tmp_path, 8080, "project"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert parsed.stdout.endswith("['load_events_daily']\n")
    assert "deprecated" not in parsed.stdout + parsed.stderr


OWN = {"beam_jobs", "local", "shopstream", "shopstream_dashboard"}


@pytest.mark.integration
def test_of_what_the_dag_files_and_bodies_of_tasks_import_no_task_imports_again_what_is_others(
    tmp_path: Path,
) -> None:
    run = (
        "import importlib, json, pathlib, sys\n"
        f"for name in {airflow_settings.PRELOADED!r}: importlib.import_module(name)\n"
        "known = set(sys.modules)\n"
        "import airflow.plugins_manager as plugins; plugins.get_plugin_info()\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        f"assert DagBag({str(ROOT / 'dags')!r}).dag_ids\n"
        f"for path in pathlib.Path({str(ROOT / 'plugins')!r}).glob('shopstream/*/tasks.py'):\n"
        "    importlib.import_module(f'shopstream.{path.parent.name}.tasks')\n"
        "print(json.dumps(sorted(set(sys.modules) - known)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", run],
        env=os.environ | airflow_settings.environment(tmp_path, 8080, "project"),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {name for name in json.loads(done.stdout.splitlines()[-1]) if not name.startswith("unusual_")}
    packages = {name.partition(".")[0] for name in imported}
    assert packages & OWN, "the bodies of the tasks are read anew by each task, so that edits take effect"
    others = {name for name in imported if name.partition(".")[0] not in OWN | sys.stdlib_module_names}
    assert others == set()


def test_what_is_preloaded_is_there_and_none_of_it_is_what_a_dag_runs() -> None:
    for name in airflow_settings.PRELOADED:
        assert find_spec(name), f"the fork server skips {name} without a word"
        assert not name.startswith(("shopstream", "beam_jobs"))
