"""Airflow's LocalExecutor, whose fork server is there before the first task."""

from __future__ import annotations

from multiprocessing import forkserver

from airflow.executors import local_executor


class LocalExecutor(local_executor.LocalExecutor):
    """Lets the fork server import what tasks need while the rest of Airflow starts."""

    def start(self) -> None:
        """Start, and do not wait for the server."""
        super().start()
        # Else the first task starts it, and waits for all of its imports.
        forkserver.ensure_running()
