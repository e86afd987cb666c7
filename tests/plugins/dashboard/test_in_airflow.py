"""in_airflow: the dashboard is for those whom Airflow lets see plugins, and only for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from shopstream.dashboard import in_airflow
from tests.airflow_home import airflow_home  # noqa: F401

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def airflow(airflow_home: Path) -> Iterator[TestClient]:  # noqa: F811
    """Airflow's API server with the plugins of this repository, for a stranger."""
    from airflow.api_fastapi import app

    _forget()
    yield TestClient(app.create_app(apps="core"), raise_server_exceptions=False)
    _forget()


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


def dashboard(client: TestClient) -> FastAPI:
    """The dashboard that Airflow has mounted, made."""
    client.get("/shopstream/")
    [mounted] = [route.app for route in client.app.routes if route.path == in_airflow.PREFIX]  # type: ignore[attr-defined]
    assert mounted._app is not None
    app: FastAPI = mounted._app
    return app


def paths(client: TestClient) -> list[tuple[str, str]]:
    """Method and path of each route of the dashboard, as the application lists them."""
    routes: list[Any] = list(dashboard(client).routes)
    found = [
        (method, re.sub(r"\{name\}", "main.js", route.path).replace("{path:path}", "nowhere"))
        for route in routes
        for method in route.methods
    ]
    return [(method, f"{in_airflow.PREFIX}{path}") for method, path in found]


def test_airflow_has_the_plugin_and_links_it(airflow: TestClient) -> None:
    told = airflow.get("/api/v2/plugins", headers=header("admin")).json()
    [plugin] = [plugin for plugin in told["plugins"] if plugin["name"] == "shopstream_dashboard"]
    links = [view["href"] for view in plugin["external_views"]]
    assert links == ["/shopstream/", "/shopstream/live", "/shopstream/customer", "/shopstream/pipelines"]
    assert {airflow.get(link, headers=header("viewer")).status_code for link in links} == {200}
    assert airflow.get("/api/v2/plugins/importErrors", headers=header("admin")).json()["total_entries"] == 0


@pytest.mark.parametrize(("role", "seconds", "status"), [("", 0, 401), ("admin", -60, 401), (None, 60, 403)])
def test_strangers_ended_logins_and_users_without_rights_are_refused_on_every_route(
    airflow: TestClient, role: str | None, seconds: int, status: int
) -> None:
    headers = {} if role == "" else header(role, seconds)
    for method, path in [*paths(airflow), ("GET", "/shopstream/docs"), ("GET", "/shopstream/openapi.json")]:
        answer = airflow.request(method, path, headers=headers)
        assert answer.status_code == status, (method, path)
        assert "shopstream" not in answer.text


def test_a_cookie_that_is_no_token_is_refused(airflow: TestClient) -> None:
    assert airflow.get("/shopstream/", headers={"Cookie": "_token=forged"}).status_code == 403


def test_whoever_may_see_plugins_sees_the_page_by_header_or_by_the_cookie_of_airflows_login(
    airflow: TestClient,
) -> None:
    by_header = airflow.get("/shopstream/", headers=header("viewer"))
    token = header("viewer")["Authorization"].removeprefix("Bearer ")
    by_cookie = airflow.get("/shopstream/", headers={"Cookie": f"_token={token}"})
    assert (by_header.status_code, by_cookie.status_code) == (200, 200)
    assert 'src="static/main.js"' in by_cookie.text
    assert airflow.get("/shopstream/static/main.js", headers=header("viewer")).status_code == 200


def test_a_dashboard_that_cannot_be_made_harms_nothing_else(
    airflow: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> FastAPI:
        raise FileNotFoundError("vega.js is missing, of secret-project")

    dashboard(airflow)
    [mounted] = [route.app for route in airflow.app.routes if route.path == in_airflow.PREFIX]  # type: ignore[attr-defined]
    monkeypatch.setattr(mounted, "_app", None)
    monkeypatch.setattr(in_airflow, "make", fail)
    answer = airflow.get("/shopstream/", headers=header("admin"))
    assert answer.status_code == 503
    assert answer.text == in_airflow.BROKEN.decode()
    assert airflow.get("/api/v2/version").status_code == 200


def test_a_plugin_whose_module_is_broken_is_told_by_airflow_which_goes_on(tmp_path: Path) -> None:
    from airflow.plugins_manager import _load_plugins_from_plugin_directory

    (tmp_path / "shopstream_dashboard.py").write_text("raise ImportError('broken')")
    plugins, errors = _load_plugins_from_plugin_directory(str(tmp_path), load_examples=False)
    assert not plugins
    assert "broken" in next(iter(errors.values()))


@pytest.mark.parametrize(
    ("base_url", "path"),
    [("http://localhost:8080", "/shopstream/"), ("https://host/a/b/", "/a/b/shopstream/")],
)
def test_the_link_is_below_the_base_path(
    base_url: str,
    path: str,
    airflow_home: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    assert in_airflow.address() == path
