"""The dashboard on its own, without Airflow: `python -m shopstream.dashboard`.

It finds its stores by the variables that shopstream.settings reads, with application default credentials.
With SHOPSTREAM_DASHBOARD_IAP_AUDIENCE it serves everybody whom Identity-Aware Proxy vouches for. Without, it
serves this machine, and whoever has the token of the address that it prints.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from contextlib import suppress

import uvicorn

from shopstream.dashboard.app import create_app
from shopstream.dashboard.guards import iap_guard, token_guard
from shopstream.dashboard.stores import BigQueryStore, SpannerStore
from shopstream.settings import settings


def main() -> None:
    """Serve until it is stopped.

    Raises:
        ValueError: the port or the token is none, or something listens on the port.
    """
    env = settings()
    if env.dashboard_iap_audience:
        host, guard = "0.0.0.0", iap_guard(env.dashboard_iap_audience)  # noqa: S104 (IAP is before it)
    else:
        token = env.dashboard_token or secrets.token_urlsafe(24)
        # Another address only in a container, whose ports are published on 127.0.0.1.
        host, guard = os.environ.get("SHOPSTREAM_LISTEN", "127.0.0.1"), token_guard(token)
    door = _door(host, env.dashboard_port)
    if not env.dashboard_iap_audience:
        print(f"The dashboard: http://127.0.0.1:{env.dashboard_port}/?token={token}", flush=True)
    bigquery = BigQueryStore(_bigquery_client)
    bigquery.warm()
    config = uvicorn.Config(
        create_app(
            guard,
            bigquery,
            SpannerStore(_spanner_database),
            env.dashboard_airflow_url,
            env.currency,
        ),
        # The token is in an address.
        access_log=False,
        log_level="warning",
        server_header=False,
    )
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run([door])
    if not server.started:
        sys.exit("The dashboard did not start; the lines above say why.")


def _door(host: str, port: int) -> socket.socket:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((host, port))
    except OSError as error:
        raise ValueError(
            f"Port {port} is not to be had ({error.strerror}): stop what listens there, or set "
            "SHOPSTREAM_DASHBOARD_PORT to a free port."
        ) from error
    return door


def _bigquery_client():  # type: ignore[no-untyped-def]  # the import takes seconds
    from google.cloud import bigquery

    env = settings()
    return bigquery.Client(project=env.project, location=env.region)


def _spanner_database():  # type: ignore[no-untyped-def]
    from google.cloud import spanner

    env = settings()
    client = spanner.Client(project=env.project)
    return client.instance(env.spanner_instance).database(env.spanner_database)


if __name__ == "__main__":
    main()
