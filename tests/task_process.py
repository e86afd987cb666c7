"""Runs one task of a DAG run in a process of its own, as an Airflow worker does; run as a module."""

from __future__ import annotations

import sys

from tests.airflow_home import load_dag, run_task

if __name__ == "__main__":
    dag_id, run_id, task_id = sys.argv[1:]
    run_task(load_dag(dag_id), run_id, task_id)
