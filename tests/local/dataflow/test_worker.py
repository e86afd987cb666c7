"""A job is run by one process: the first that claims it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local.dataflow.worker import WORKER_FILE, claim, running


def test_the_first_to_claim_a_job_runs_it(tmp_path: Path) -> None:
    assert running(tmp_path) is None
    assert claim(tmp_path, os.getpid())
    assert not claim(tmp_path, os.getppid())

    worker = running(tmp_path)

    assert worker
    assert worker.pid == os.getpid()
    assert [path.name for path in tmp_path.iterdir()] == [WORKER_FILE]


def test_a_worker_that_comes_after_the_job_was_claimed_runs_nothing(tmp_path: Path) -> None:
    claim(tmp_path, os.getpid())
    late = (
        "import pathlib; from local.dataflow import worker; "
        f"worker.start(pathlib.Path({str(tmp_path)!r}), 'none', [])"
    )

    ended = subprocess.run([sys.executable, "-c", late], check=False)

    assert ended.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == [WORKER_FILE]


def test_a_process_that_was_given_the_id_of_a_worker_later_is_not_it(tmp_path: Path) -> None:
    (tmp_path / WORKER_FILE).write_text(f'{{"pid": {os.getpid()}, "started": 0.0}}')

    assert running(tmp_path) is None
