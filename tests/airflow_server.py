"""Airflow's API server in the tests' process, with this repository's plugins, and what its users send."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient


@pytest.fixture(scope="module")
def airflow(airflow_home: Path) -> Iterator[TestClient]:
    """Airflow's API server with the plugins of this repository, for a stranger."""
    from airflow.api_fastapi import app

    _forget()
    yield TestClient(app.create_app(apps="core"), raise_server_exceptions=False)
    _forget()


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The URL at which a thread of this process serves an ASGI app, such as Airflow's."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _forget() -> None:
    """Drop what Airflow keeps in this process, which other tests made with other plugins and secrets."""
    from airflow import plugins_manager
    from airflow.api_fastapi import app
    from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager

    app.purge_cached_app()
    for kept in (*vars(plugins_manager).values(), *vars(BaseAuthManager).values()):
        function = getattr(kept, "__func__", kept)
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def header(role: str | None, seconds: int = 60) -> dict[str, str]:
    """What a user of this role sends along, with a token that holds for so many seconds."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    user = SimpleAuthManagerUser(username=f"a {role}", role=role)
    token = get_auth_manager().generate_jwt(user, expiration_time_in_seconds=seconds)
    return {"Authorization": f"Bearer {token}"}
