"""A local Dataflow, and a DAG that loads a day by it."""

from __future__ import annotations

from tests.airflow_home import airflow_home  # noqa: F401
from tests.plugins.day_loads import dataflow, loading, server, told  # noqa: F401
