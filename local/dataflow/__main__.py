"""Serve the local Dataflow on 127.0.0.1 (SHOPSTREAM_LISTEN) until SIGTERM or Ctrl-C, which end its jobs too.

Environment: SHOPSTREAM_DATAFLOW_PORT (8091), SHOPSTREAM_DATAFLOW_STATE (build/stack/dataflow),
SHOPSTREAM_DATAFLOW_MAX_RUNNING (2; more batch jobs wait), SHOPSTREAM_DATAFLOW_PRELOAD (modules, with a comma
between, that are imported once for all jobs), STORAGE_EMULATOR_HOST, where the template specifications are,
and PUBSUB_EMULATOR_HOST, whose subscriptions the Monitoring API's figure is about.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import uvicorn

from local.dataflow.api import application
from local.dataflow.jobs import Jobs, TableInUse
from local.stack.emulators import LISTEN

STOP_SECONDS = 2


def main() -> None:
    """Serve until a signal ends it."""
    env = os.environ
    if not env.get("STORAGE_EMULATOR_HOST"):
        sys.exit("STORAGE_EMULATOR_HOST is not set; give the Cloud Storage emulator's URL, with http://.")
    port = int(env.get("SHOPSTREAM_DATAFLOW_PORT", "8091"))
    state_dir = Path(env.get("SHOPSTREAM_DATAFLOW_STATE", "build/stack/dataflow"))
    max_running = int(env.get("SHOPSTREAM_DATAFLOW_MAX_RUNNING", "2"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # The workers inherit the block: a request to drain waits until the stream's driver takes it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    # A worker that dies has printed all it had to say.
    env["PYTHONUNBUFFERED"] = "1"
    preload = [name for name in env.get("SHOPSTREAM_DATAFLOW_PRELOAD", "").split(",") if name]
    try:
        jobs = Jobs(state_dir, max_running, preload)
    except TableInUse as error:
        sys.exit(str(error))
    uvicorn.run(
        application(jobs), host=LISTEN, port=port, log_level="warning", timeout_graceful_shutdown=STOP_SECONDS
    )


if __name__ == "__main__":
    main()
