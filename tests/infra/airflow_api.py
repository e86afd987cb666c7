"""Airflow's own REST API over HTTP, on a real Airflow database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_home import airflow_home, load_dag, store  # noqa: F401
from tests.airflow_server import served

DAG_ID = "apply_schemas"


class Airflow:
    """An Airflow with one DAG, in which time passes only while a caller waits."""

    def __init__(self, app: Any, dag: Any) -> None:
        """`app` is Airflow's API; `dag` is to be found, at once or later."""
        self.app = app
        self.dag = dag
        self.has_found_the_dag = False
        self.url = ""
        self.now = 0.0
        self.finds_the_dag_after = 0.0
        self.run_ends_as = "success"
        self.is_away_until = 0.0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as Airflow does, or as what stands before it while it is away."""
        if self.now >= self.is_away_until:
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>no healthy upstream</html>"})

    def monotonic(self) -> float:
        """For who asks for the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass: the DAG is found if it is due, and runs end."""
        from airflow.models import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import update

        self.now += seconds
        self.find_the_dag_if_due()
        with create_session() as session:
            session.execute(update(DagRun).values(state=self.run_ends_as))

    def find_the_dag_if_due(self) -> None:
        """Do what the DAG processor does, once; a DAG is paused at first, as on Composer."""
        from airflow.models import DagModel
        from airflow.utils.session import create_session
        from sqlalchemy import update

        if not self.has_found_the_dag and self.now >= self.finds_the_dag_after:
            store(self.dag)
            with create_session() as session:
                session.execute(update(DagModel).values(is_paused=True))
            self.has_found_the_dag = True

    def lose_the_dag(self) -> None:
        """Do what the DAG processor does when a DAG's file is gone: its row stays."""
        from airflow.models import DagModel
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session() as session:
            session.execute(update(DagModel).values(is_stale=True))
        self.has_found_the_dag = False

    def token(self, role: str = "op") -> str:
        """A token of a user who has this role."""
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        return get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="deployer", role=role))

    def runs(self) -> dict[str, str]:
        """The state of each run."""
        from airflow.models import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return {run.run_id: str(run.state) for run in session.scalars(select(DagRun))}

    def is_paused(self) -> bool:
        """Whether runs of the DAG wait."""
        from airflow.models import DagModel

        model = DagModel.get_dagmodel(DAG_ID)
        assert model is not None
        return bool(model.is_paused)

    def variable(self, key: str) -> str | None:
        """A Variable, as tasks get it."""
        from airflow.models.variable import Variable

        value: str | None = Variable.get(key, None)
        return value

    def set_variable(self, key: str, value: str) -> None:
        """Set a Variable, as tasks do."""
        from airflow.models.variable import Variable

        Variable.set(key, value)


@pytest.fixture(scope="module")
def airflow_app(airflow_home: Path) -> Any:  # noqa: F811
    from airflow.api_fastapi.app import create_app

    return create_app("core")


@pytest.fixture(scope="module")
def apply_schemas(airflow_home: Path) -> Any:  # noqa: F811
    dag = load_dag(DAG_ID)
    _forget_everything()
    return dag


@pytest.fixture
def airflow(airflow_app: Any, apply_schemas: Any) -> Iterator[Airflow]:
    """An Airflow that has not yet found its DAG, and has no Variable."""
    api = Airflow(airflow_app, apply_schemas)
    with served(api) as api.url:
        yield api
    _forget_everything()


def _forget_everything() -> None:
    from airflow.api.common.delete_dag import delete_dag
    from airflow.models import DagModel
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    if DagModel.get_dagmodel(DAG_ID):
        delete_dag(DAG_ID)
    with create_session() as session:
        session.execute(delete(Variable))
