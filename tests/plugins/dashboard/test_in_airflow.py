"""in_airflow: the dashboard is for those whom Airflow lets see plugins, and only for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from shopstream.dashboard import in_airflow
from tests.airflow_server import header

pytestmark = pytest.mark.integration


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


def test_a_browser_that_is_not_logged_in_is_shown_where_to(airflow: TestClient) -> None:
    shown = airflow.get("/shopstream/live", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (shown.status_code, shown.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
    assert '<a href="/">log in there</a>' in shown.text
    assert airflow.get("/shopstream/live").json() == {"detail": "Not authenticated"}


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
    airflow_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    assert in_airflow.address() == path
