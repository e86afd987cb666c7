"""The child process of one job: runs a pipeline module and leaves how it ended.

The module has `run(argv)`, which returns a Beam PipelineResult, or for a local stream driver something with
the same `wait_until_finish()`. That of a stream may have `steps(argv)`, the names of its pipeline's steps.
The job's folder is in the environment as SHOPSTREAM_JOB_DIR, for what a stream tells while it runs (see
backlog.py). Left in the folder:

- worker.json, who runs it: process id and the time of its start. Only the first to write it runs the job.
- log, what it printed.
- exit.json ({"error": null, or the exception's last line}), written whole or not at all. A worker that was
  killed, or whose pipeline exits, as argparse does, leaves none.

Workers are forked from a process that has imported Beam and its like once, which takes seconds, and no
pipeline: a job runs the code that lies there when it starts.

SIGTERM cancels: it ends the process at once. SIGUSR1 asks a stream to drain; it is blocked from before the
start, so that it waits until the driver takes it: `signal.sigtimedwait([signal.SIGUSR1], 0)` between batches.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import sys
import traceback
from contextlib import redirect_stderr
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

EXIT_FILE = "exit.json"
WORKER_FILE = "worker.json"
JOB_DIR_VARIABLE = "SHOPSTREAM_JOB_DIR"
"""The folder of the job, in the environment of its worker."""
DONE_STATES = ("DONE", "DRAINED")


def start(job_dir: Path, module: str, argv: list[str]) -> None:
    """Become the worker of the job in `job_dir`: its own process group, its log; exit with its code."""
    # A group of its own: Beam's worker processes end with it, and Ctrl-C is for the service alone.
    os.setsid()
    if not claim(job_dir, os.getpid()):
        sys.exit(1)
    log = os.open(job_dir / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ[JOB_DIR_VARIABLE] = str(job_dir)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(main(job_dir, module, argv))


def claim(job_dir: Path, pid: int) -> bool:
    """Make the process `pid` the only one that may run the job; return whether it is.

    A service that was killed while it started a worker claims the job for itself when it is back, so that a
    worker which comes late does not run it.
    """
    new = job_dir / f"{WORKER_FILE}.{pid}.new"
    new.write_text(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}))
    try:
        (job_dir / WORKER_FILE).hardlink_to(new)
    except FileExistsError:
        return False
    finally:
        new.unlink()
    return True


def running(job_dir: Path) -> psutil.Process | None:
    """The live worker of the job in `job_dir`, whoever started it."""
    try:
        told = json.loads((job_dir / WORKER_FILE).read_text())
        worker = psutil.Process(told["pid"])
        # An id is given again after its process has ended, a moment later.
        is_it = abs(worker.create_time() - told["started"]) < 1 and worker.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    return worker if is_it else None


def tell_steps(sender: Connection, module: str, argv: list[str]) -> None:
    """Send the names of a pipeline's steps, None if its module tells none, and why it cannot be built, or
    None."""
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            steps = getattr(importlib.import_module(module), "steps", None)
            sender.send((steps(argv) if steps else None, None))
    except SystemExit as end:
        last_line = printed.getvalue().strip().rpartition("\n")[2]
        sender.send((None, last_line or f"The pipeline {module} exited with {end.code}."))
    except Exception as failure:
        sender.send((None, _last_line(failure)))


def main(job_dir: Path, module: str, argv: list[str]) -> int:
    """Run `module` and return the exit code: 0 if the pipeline is done."""
    error: str | None = None
    try:
        result = importlib.import_module(module).run(argv)
        state = result.wait_until_finish()
        if state not in DONE_STATES:
            error = f"The pipeline ended in the state {state}."
    except Exception as failure:
        traceback.print_exc()
        error = _last_line(failure)
    write_json(job_dir / EXIT_FILE, {"error": error})
    return 0 if error is None else 1


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that a reader finds the old or the whole new one, even if we are killed."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(content))
    new.replace(path)


def _last_line(failure: Exception) -> str:
    # Beam wraps a worker's traceback into the message; its last line is the failure itself.
    lines = "".join(traceback.format_exception_only(failure)).strip().splitlines()
    return lines[-1] if lines else repr(failure)
