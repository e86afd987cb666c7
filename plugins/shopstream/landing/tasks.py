"""The task of land_export."""

# NumPy takes long to import, which parsing a DAG file should not: so the task imports it.
from __future__ import annotations

from typing import Any

from shopstream.gcp.clients import storage_client
from shopstream.settings import settings


def split_into_days(**context: Any) -> dict[str, Any]:
    """Write the landing days of the export that the parameter `object` names; returns the rows of each.

    Raises:
        ContractError: the export is not as it must be; the error says what to correct.
    """
    from shopstream.landing.split import land

    return land(storage_client(), settings().bucket, context["params"]["object"])
