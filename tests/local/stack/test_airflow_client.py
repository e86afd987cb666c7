"""The demo's way to Airflow's REST API, against Airflow's own, which at times answers as a busy one does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.stack import emulators
from local.stack.airflow_client import AirflowClient, AirflowRefused
from local.stack.airflow_settings import USERNAME
from tests.airflow_home import PASSWORD
from tests.airflow_server import served
from tests.infra.airflow_api import DAG_ID, Airflow, airflow, airflow_app, airflow_home, apply_schemas  # noqa: F401

pytestmark = pytest.mark.integration


class Busy:
    """Airflow behind a door that answers each request's first try with 500, after or before it was done."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.is_done_first = True
        self.refused: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = f"{scope['method']} {scope['path']}"
        if request in self.refused:
            await self.app(scope, receive, send)
            return
        self.refused.append(request)
        if self.is_done_first:
            await self.app(scope, receive, _nowhere)
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b'{"detail": {"reason": "Database error"}}'})


async def _nowhere(message: Any) -> None:
    pass


@pytest.fixture
def busy(airflow: Airflow) -> Iterator[tuple[Busy, str]]:  # noqa: F811
    """The busy door, and its URL."""
    airflow.find_the_dag_if_due()
    door = Busy(airflow.app)
    with served(door) as url:
        yield door, url


@pytest.mark.parametrize("is_done_first", [True, False])
def test_a_busy_airflow_is_asked_again_and_starts_one_run(
    airflow: Airflow,  # noqa: F811
    busy: tuple[Busy, str],
    is_done_first: bool,
) -> None:
    door, url = busy
    door.is_done_first = is_done_first
    client = AirflowClient(url, USERNAME, PASSWORD)

    client.unpause(DAG_ID)
    run_id = client.trigger(DAG_ID, {"landing_day": "2019-11-01"})

    assert run_id.startswith("manual__2019-11-01__")
    assert not airflow.is_paused()
    assert list(airflow.runs()) == [run_id]
    assert {request.split()[0] for request in door.refused} == {"POST", "PATCH"}


def test_a_wrong_login_is_refused_as_such_and_an_airflow_that_is_away_as_away(
    busy: tuple[Busy, str],
) -> None:
    _, url = busy
    with pytest.raises(
        AirflowRefused, match=f"Airflow at {url} does not let this login in.*password is wrong"
    ):
        AirflowClient(url, USERNAME, "not it")
    with pytest.raises(AirflowRefused, match=r"cannot be reached\. See whether it runs"):
        AirflowClient(f"http://{emulators.HOST}:{emulators.free_port()}", USERNAME, PASSWORD)


def test_a_variable_is_none_until_it_is_set_and_then_what_it_was_set_to(busy: tuple[Busy, str]) -> None:
    client = AirflowClient(busy[1], USERNAME, PASSWORD)
    assert client.variable("ours") is None
    client.set_variable("ours", '{"desired": "stopped"}')
    assert client.variable("ours") == '{"desired": "stopped"}'
