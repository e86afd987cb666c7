"""Every run and every task may be cleared at any time, as the runbooks say: over Airflow's REST API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from local.root import ROOT
from tests.airflow_home import airflow_home, load_dag, stored  # noqa: F401

DAG_IDS = sorted(path.stem for path in (ROOT / "dags").glob("*.py"))


@pytest.fixture(scope="module", params=DAG_IDS)
def dag(airflow_home: Path, request: pytest.FixtureRequest) -> Any:  # noqa: F811
    return load_dag(request.param)


def run_in_state(dag: Any, state: str) -> str:
    """Make a run whose deadline has not passed, and all of whose tasks are in this state; return its id."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    now = datetime.now(UTC)
    run_id = f"{state}-{now.timestamp()}"
    # Its logical date is not the day before: the deadline of a day's load is then six hours away at least.
    stored(dag).create_dagrun(
        run_id=run_id,
        run_after=now,
        logical_date=now,
        data_interval=(now - timedelta(days=1), now),
        run_type=DagRunType.SCHEDULED,
        triggered_by=DagRunTriggeredByType.TEST,
        # So it has a deadline from the moment at which it was queued, if its DAG counts from that.
        state="queued",
        conf={"object": "exports/a.csv"} if dag.dag_id == "land_export" else {},
    )
    with create_session() as session:
        run = session.scalars(select(DagRun).where(DagRun.run_id == run_id)).one()
        for ti in run.get_task_instances(session=session):
            ti.state = state
            ti.start_date = now
        run.state, run.start_date = state, now
    return run_id


@pytest.mark.parametrize("state", ["failed", "success", "running"])
def test_a_task_of_a_run_may_be_cleared_with_the_run(api: TestClient, dag: Any, state: str) -> None:
    run_id = run_in_state(dag, state)
    answer = api.post(
        f"/api/v2/dags/{dag.dag_id}/clearTaskInstances",
        json={
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [dag.task_ids[-1]],
            "only_failed": False,
            "reset_dag_runs": True,
        },
    )
    assert answer.status_code == 200, answer.text
    assert [ti["task_id"] for ti in answer.json()["task_instances"]] == [dag.task_ids[-1]]
    assert state_of(api, dag, run_id) in ("queued", "running")


@pytest.mark.parametrize("state", ["failed", "success", "running"])
def test_a_whole_run_may_be_cleared(api: TestClient, dag: Any, state: str) -> None:
    run_id = run_in_state(dag, state)
    answer = api.post(
        f"/api/v2/dags/{dag.dag_id}/dagRuns/{run_id}/clear", json={"dry_run": False, "only_failed": False}
    )
    assert answer.status_code == 200, answer.text
    assert state_of(api, dag, run_id) in ("queued", "running")


def state_of(api: TestClient, dag: Any, run_id: str) -> str:
    answer = api.get(f"/api/v2/dags/{dag.dag_id}/dagRuns/{run_id}")
    assert answer.status_code == 200, answer.text
    state: str = answer.json()["state"]
    return state
