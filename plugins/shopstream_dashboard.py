"""The dashboard as a plugin of Airflow: mounted beside its pages, and linked in its navigation.

The one file of this folder that Airflow reads as a plugin; every component of Airflow does, so that it
imports nothing that takes long.
"""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from shopstream.dashboard.in_airflow import PAGES, PREFIX, InAirflow, address


class ShopstreamDashboard(AirflowPlugin):
    """Mounts the dashboard and links it."""

    name = "shopstream_dashboard"
    fastapi_apps = [  # noqa: RUF012 (Airflow's own form)
        {"name": "shopstream dashboard", "app": InAirflow(), "url_prefix": PREFIX}
    ]
    # Without url_route, pages of their own: in Airflow's frame a browser would refuse their downloads.
    # More than one, since of a single one Airflow 3.3 makes a button that leads nowhere.
    external_views = [  # noqa: RUF012
        {"name": f"Shop: {title}", "href": f"{address()}{page}", "destination": "nav"}
        for page, title in PAGES.items()
    ]
