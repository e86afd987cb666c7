"""The dashboard inside Airflow's API server: made at its first request, guarded by Airflow's own check.

Airflow does not authenticate what plugins mount: each route depends on a logged-in user who may see plugins,
as Airflow itself asks it. Whatever keeps the dashboard from being made is answered with 503 and told in the
log, and harms nothing else of Airflow.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/shopstream"
PAGES = {"": "purchasing", "live": "live", "customer": "customer", "pipelines": "pipelines"}
"""The pages that Airflow's navigation links, by their paths."""
BROKEN = b"The dashboard could not be started; the log of Airflow's API server says why."

log = logging.getLogger(__name__)


def address() -> str:
    """Where the dashboard is on Airflow's host, below the path of its base URL."""
    from airflow.configuration import conf

    return f"{urlsplit(conf.get('api', 'base_url', fallback='')).path.rstrip('/')}{PREFIX}/"


class InAirflow:
    """An ASGI application that makes the dashboard when it is first asked for, and passes requests on."""

    def __init__(self) -> None:
        self._app: FastAPI | None = None
        self._lock = threading.Lock()

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request."""
        from anyio.to_thread import run_sync
        from starlette.responses import PlainTextResponse

        try:
            app: Any = self._app or await run_sync(self._make)
        except Exception:
            log.exception("The dashboard could not be made.")
            app = PlainTextResponse(BROKEN, status_code=503)
        await app(scope, receive, send)

    def _make(self) -> FastAPI:
        with self._lock:
            if self._app is None:
                self._app = make()
            return self._app


def make() -> FastAPI:
    """Make the dashboard, guarded by Airflow."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import get_user, requires_access_view
    from fastapi import Depends

    from shopstream.dashboard.app import create_app
    from shopstream.dashboard.stores import BigQueryStore, SpannerStore
    from shopstream.gcp.clients import bigquery_client, spanner_database
    from shopstream.settings import settings

    may_see_plugins = requires_access_view(AccessView.PLUGINS)

    def guard(user: Any = Depends(get_user), _: None = Depends(may_see_plugins)) -> str:  # noqa: B008
        return str(user.get_name())

    stores = BigQueryStore(bigquery_client), SpannerStore(spanner_database)
    # While the browser fetches the page's files.
    stores[0].warm()
    return create_app(guard, *stores, address().removesuffix(f"{PREFIX}/"), settings().currency)
