"""Airflow as the local stack runs it: LocalExecutor and SQLite, tuned for two cores and a waiting person."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from local.root import ROOT
from local.stack.emulators import HOST, LISTEN

AIRFLOW = Path(sys.executable).with_name("airflow")
USERNAME = "admin"
PARALLEL_TASKS = 6
PRELOADED = (
    "local.stack.seldom_gc",
    "airflow.__main__",
    "airflow.dag_processing.bundles.local",
    "airflow.dag_processing.dagbag",
    "airflow.executors.local_executor",
    "airflow.providers.common.compat.lineage.entities",
    "airflow.providers.google.cloud.hooks.bigquery",
    "airflow.providers.google.cloud.hooks.dataflow",
    "airflow.providers.google.cloud.hooks.gcs",
    "airflow.providers.openlineage.plugins.openlineage",
    "airflow.providers.standard.decorators.branch_python",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.decorators.sensor",
    "airflow.providers.standard.decorators.short_circuit",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.hitl",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
    "airflow.sdk.bases.operatorlink",
    "airflow.sdk.definitions.asset.metadata",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.definitions.retry_policy",
    "airflow.sdk.execution_time.cache",
    "airflow.sdk.execution_time.task_runner",
    "airflow.timetables.trigger",
    "google.cloud.spanner",
    "google_crc32c",
    "googleapiclient.discovery_cache",
    "jinja2.ext",
)
"""What tasks and those that start them import; of this repository only the first: edits take effect."""

QUIET = ",".join(
    (
        "ignore:GitWildMatchPattern:DeprecationWarning",
        "ignore:The `airflow.utils.operator_helpers.determine_kwargs` attribute:UserWarning",
    )
)
"""What Airflow and its providers warn themselves of in each task's log; infra/composer.tf says the same."""


def environment(home: Path, port: int, project: str) -> dict[str, str]:
    """The variables of an Airflow with its home folder in `home`, served on `port`, with new secrets."""
    url = f"http://{HOST}:{port}"
    google = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": project}}
    settings: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": ROOT / "dags",
            "plugins_folder": ROOT / "plugins",
            "load_examples": False,
            "executor": "local.stack.executor.LocalExecutor",
            "parallelism": PARALLEL_TASKS,
            "execution_api_server_url": f"{url}/execution/",
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "simple_auth_manager_users": f"{USERNAME}:admin",
            "simple_auth_manager_passwords_file": _passwords_file(home),
        },
        # It is laid out migrated. Each component would else look whether it is: a quarter of a second of CPU.
        "database": {"sql_alchemy_conn": f"sqlite:///{_database_file(home)}", "check_migrations": False},
        "api": {
            "host": LISTEN,
            "port": port,
            "base_url": url,
            "workers": 1,
            "secret_key": secrets.token_hex(32),
            "instance_name": "shopstream, local",
        },
        "api_auth": {"jwt_secret": secrets.token_hex(32)},
        "scheduler": {
            # With the default a task waits up to a second for each step of its way; with 0.2, looking for
            # something to do takes a quarter of a core.
            "scheduler_idle_sleep_time": 0.4,
            # Tasks are forked from one server that has imported what all of them need.
            "mp_start_method": "forkserver",
            "mp_forkserver_preload": ",".join(PRELOADED),
        },
        # An edited file is parsed at once and a new one within seconds; an unchanged one only now and then,
        # since a parse costs a core's second.
        "dag_processor": {
            "refresh_interval": 5,
            "min_file_process_interval": 600,
            "stale_dag_threshold": 660,
        },
        "workers": {
            # A machine under load answers late; asking again would only add to it.
            "execution_api_timeout": 30,
            # Whoever runs a task often sees only at its next heartbeat that the task has ended, by default
            # five seconds later, and keeps its slot until then. As many seconds without an answer as by
            # default still end a task.
            "min_heartbeat_interval": 1,
            "max_failed_heartbeats": 15,
        },
        "logging": {"base_log_folder": home / "logs", "colored_console_log": False},
    }
    return {
        "AIRFLOW_HOME": str(home),
        "PYTHONWARNINGS": QUIET,
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": json.dumps(google),
        **{
            f"AIRFLOW__{section.upper()}__{option.upper()}": str(value)
            for section, options in settings.items()
            for option, value in options.items()
        },
    }


def api_server_environment(home: Path) -> dict[str, str]:
    """What the API server alone has beside that: it waits one second for another's write, not five.

    It writes its audit log on its event loop, without which a request that holds the write lock cannot end.
    So such a wait lasts to its end, and nobody else can write meanwhile. The answer is 500 then, after which
    tasks and the demo ask again.
    """
    return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_database_file(home)}?timeout=1"}


def lay_out(home: Path, password: str, environment: Mapping[str, str]) -> None:
    """Lay a home folder anew: a migrated database without any run in it, and the login's password.

    Migrating takes long, so it is done once for each version of Airflow and then copied.
    """
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    passwords = _passwords_file(home)
    passwords.touch(mode=0o600)
    passwords.write_text(json.dumps({USERNAME: password}))
    migrated = ROOT / "build" / f"airflow-{version('apache-airflow')}.db"
    migrated.parent.mkdir(parents=True, exist_ok=True)
    # Whoever needs it at the same time waits for it.
    with migrated.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not migrated.is_file():
            _migrate(migrated, environment)
    shutil.copyfile(migrated, _database_file(home))


def _migrate(target: Path, environment: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as home:
        database = _database_file(Path(home))
        changed = {"AIRFLOW_HOME": home, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"}
        subprocess.run(
            [AIRFLOW, "db", "migrate"],
            env={**os.environ, **environment, **changed},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
        with contextlib.closing(sqlite3.connect(database)) as connection:
            # Kept in the file: readers and the writer no longer lock each other out.
            connection.execute("PRAGMA journal_mode=WAL")
        database.rename(target)


def _database_file(home: Path) -> Path:
    return home / "airflow.db"


def _passwords_file(home: Path) -> Path:
    return home / "passwords.json"
