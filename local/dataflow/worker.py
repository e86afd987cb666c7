"""The child process of one job: runs a pipeline module and leaves how it ended.

    python -m local.dataflow.worker JOB_DIR MODULE ARGUMENT...

MODULE has `run(argv)`, which returns a Beam PipelineResult, or for a local stream driver something with the
same `wait_until_finish()`. Left in JOB_DIR: exit.json ({"error": null, or the exception's last line}),
written whole or not at all. A worker that was killed, or whose pipeline exits, as argparse does, leaves none.
JOB_DIR is in the environment as SHOPSTREAM_JOB_DIR, for what a stream tells while it runs (see backlog.py).

SIGTERM cancels: it ends the process at once. SIGUSR1 asks a stream to drain; it is blocked from before the
start, so that it waits until the driver takes it: `signal.sigtimedwait([signal.SIGUSR1], 0)` between batches.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

EXIT_FILE = "exit.json"
DONE_STATES = ("DONE", "DRAINED")


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


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
