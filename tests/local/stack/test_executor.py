"""The executor of the local stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.stack import airflow_settings


@pytest.mark.integration
def test_the_fork_server_has_begun_its_imports_when_the_executor_has_started_and_no_task_is_there(
    tmp_path: Path,
) -> None:
    run = (
        "import multiprocessing, psutil\n"
        "from airflow.executors.executor_loader import ExecutorLoader\n"
        "from airflow.utils.process_utils import set_component_mp_start_method\n"
        "set_component_mp_start_method('scheduler')\n"
        "executor = ExecutorLoader.get_default_executor()\n"
        "executor.start()\n"
        "for child in psutil.Process().children(): print(' '.join(child.cmdline()))\n"
        "executor.end()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", run],
        env=os.environ | airflow_settings.environment(tmp_path, 8080, "project"),
        capture_output=True,
        text=True,
        check=True,
    )
    [server] = [line for line in done.stdout.splitlines() if "multiprocessing.forkserver" in line]
    assert str(list(airflow_settings.PRELOADED)) in server
