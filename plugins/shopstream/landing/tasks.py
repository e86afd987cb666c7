"""The task of land_export."""

# NumPy takes long to import, which parsing a DAG file should not: so the task imports it.
from __future__ import annotations

from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from shopstream.gcp.clients import storage_client
from shopstream.settings import settings


def split_into_days(**context: Any) -> dict[str, Any]:
    """Write the landing days of the export that the parameter `object` names; returns what `land` does.

    Raises:
        AirflowFailException: the export is not as it must be; the error says what to correct.
    """
    from beam_jobs.contract import ContractError
    from shopstream.landing.split import land

    try:
        params = context["params"]
        return land(
            storage_client(), settings().bucket, params["object"], times_are_utc=params["times_are_utc"]
        )
    except ContractError as error:
        raise AirflowFailException(str(error)) from error
