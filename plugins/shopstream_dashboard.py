"""The dashboard as a plugin of Airflow: mounted beside its pages, and linked in its navigation.

The one file of this folder that Airflow reads as a plugin; every component of Airflow does, so that it
imports nothing that takes long.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from shopstream.dashboard.in_airflow import PREFIX, InAirflow, address


class ShopstreamDashboard(AirflowPlugin):
    """Mounts the dashboard and links it."""

    name = "shopstream_dashboard"
    fastapi_apps = [  # noqa: RUF012 (Airflow's own form)
        {"name": "shopstream dashboard", "app": InAirflow(), "url_prefix": PREFIX}
    ]
    # Without url_route it is a page of its own: in Airflow's frame a browser would refuse its downloads.
    external_views = [  # noqa: RUF012
        {"name": "Shop dashboard", "href": address(), "destination": "nav"}
    ]
