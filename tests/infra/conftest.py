"""Plans of infra/, and a real Airflow."""

from __future__ import annotations

from tests.airflow_home import airflow_home  # noqa: F401
from tests.infra.airflow_api import airflow, airflow_app, apply_schemas  # noqa: F401
from tests.infra.terraform import check, plans  # noqa: F401
