"""The browser and Airflow's API server, for all tests of this room."""

from __future__ import annotations

from tests.airflow_home import airflow_home as airflow_home
from tests.airflow_server import airflow as airflow
from tests.plugins.dashboard.browser import browser as browser
