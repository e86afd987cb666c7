"""backfill_days, as real DAG runs: its plan, and the loads and builds that it triggers, a few at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.airflow_home import Run, load_dag, run_dag
from tests.dags.shop import DAY, Shop, line
from tests.plugins.load.landed import audit

pytestmark = pytest.mark.integration

DAYS = [DAY + timedelta(days=number) for number in range(5)]
RANGE = {"first_day": str(DAYS[0]), "last_day": str(DAYS[-1])}
LOAD_DAG, SUMMARIES_DAG = "load_events_daily", "build_summaries"


def backfill(
    look: Callable[[], object] = lambda: None,
    run_id: str | None = None,
    paused: Sequence[str] = (),
    **conf: Any,
) -> Run:
    """Run backfill_days to its end; `look` is called before each look at what it has triggered."""
    load_dag(LOAD_DAG)
    load_dag(SUMMARIES_DAG)
    dag = load_dag("backfill_days")
    pause(paused)
    dag.get_task("run_days").poke_interval = 0.1

    def before(task_id: str) -> None:
        if task_id == "run_days":
            look()

    return run_dag(dag, RANGE | conf, before, run_id=run_id)


def pause(dag_ids: Sequence[str]) -> None:
    from airflow.models import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id.in_(dag_ids)).values(is_paused=True))


def clear(api: TestClient, run: Run, *task_ids: str) -> None:
    """Clear the run, or these tasks of it, as Airflow's page does."""
    asked: dict[str, Any] = {"dry_run": False, "only_failed": False}
    if task_ids:
        asked |= {"dag_run_id": run.run_id, "task_ids": task_ids, "reset_dag_runs": True}
    path = "clearTaskInstances" if task_ids else f"dagRuns/{run.run_id}/clear"
    answer = api.post(f"/api/v2/dags/backfill_days/{path}", json=asked)
    assert answer.status_code == 200, answer.text


def triggered(dag_id: str = LOAD_DAG) -> dict[str, str]:
    """The state of each run that a DAG has triggered of this one, by its id."""
    return {run.run_id: str(run.state) for run in _runs(dag_id)}


def end(state: str, dag_id: str = LOAD_DAG) -> list[date]:
    """Let each active run that was triggered end in this state, as the scheduler would; return their days."""
    active = [run for run in _runs(dag_id) if run.state in ("queued", "running")]
    for run in active:
        set_state(run.run_id, state)
    return [date.fromisoformat(run.conf.get("landing_day") or run.conf["first_day"]) for run in active]


def set_state(run_id: str, state: str) -> None:
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalars(select(DagRun).filter_by(run_id=run_id)).one()
        run.state = state
        run.start_date = run.end_date = run.run_after


def _runs(dag_id: str) -> Sequence[Any]:
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        wanted = select(DagRun).filter_by(dag_id=dag_id, run_type="operator_triggered").order_by(DagRun.id)
        return session.scalars(wanted).all()


@pytest.fixture(autouse=True)
def none_triggered(airflow_home: Any) -> None:
    """No run that an earlier test has triggered is there."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagRun).filter_by(run_type="operator_triggered"))


def test_a_range_is_planned_then_loaded_and_a_day_that_was_not_landed_is_named_and_loaded_after_a_clear(
    shop: Shop, api: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    for day in DAYS[:2]:
        shop.land([line(number, day) for number in range(20)], day)
    missing = shop.bucket.blob(f"landing/events/{DAYS[1]}/_SUCCESS")
    missing.delete()
    conf: dict[str, Any] = {"first_day": str(DAYS[0]), "last_day": str(DAYS[1])}

    run = backfill(**conf)
    assert (run.state, run.states["run_days"]) == ("success", "skipped")
    planned = run.returned["plan"]
    assert [(day["day"], day["files"], day["events"], day["does"]) for day in planned["days"]] == [
        (str(DAYS[0]), 1, 20, "load"),
        (str(DAYS[1]), 1, None, "cannot"),
    ]
    assert "This was a dry run, and nothing is changed." in caplog.text
    assert (triggered(), shop.audit()) == ({}, [])

    def load() -> None:
        for made in _runs(LOAD_DAG):
            if made.state == "queued":
                shop.load(date.fromisoformat(made.conf["landing_day"]), run_id=made.run_id)

    run = backfill(load, **conf, dry_run=False)
    assert (run.state, run.tries["tell_outcome"]) == ("failed", 1)
    assert f"{DAYS[1]}: Landing day {DAYS[1]} is not landed whole" in run.errors["tell_outcome"]
    first, second = (f"backfill__{day}__{run.run_id}" for day in DAYS[:2])
    assert triggered() == {first: "success"}
    of_first = api.get(f"/api/v2/dags/{LOAD_DAG}/dagRuns/{first}").json()
    assert of_first["note"] == f"Triggered by backfill_days, run {run.run_id}"
    assert [len(shop.published(day)) for day in DAYS[:2]] == [20, 0]

    missing.upload_from_string(b"")
    clear(api, run)
    run = backfill(load, run_id=run.run_id)
    assert (run.errors, run.returned["tell_outcome"]) == ({}, {str(DAYS[1]): "success"})
    assert triggered() == {first: "success", second: "success"}
    assert [len(shop.published(day)) for day in DAYS[:2]] == [20, 20]
    assert len(shop.audit()) == 2

    # What is done is left alone; again, it is planned with the events that there are.
    run = backfill(load, **conf, dry_run=False)
    assert (run.errors, run.returned["tell_outcome"]) == ({}, {})
    assert [day["does"] for day in run.returned["plan"]["days"]] == ["leave", "leave"]
    planned = backfill(**conf, again=True).returned["plan"]
    assert [(day["events"], day["does"]) for day in planned["days"]] == [(20, "load"), (20, "load")]
    assert len(triggered()) == 2


def land(shop: Shop) -> None:
    for day in DAYS:
        shop.land([line(1, day)], day)


def test_no_more_days_are_active_than_may_be_and_a_failed_one_does_not_stop_the_others_unless_asked(
    shop: Shop,
) -> None:
    land(shop)
    seen: list[list[date]] = []

    def fail_all() -> None:
        seen.append(end("failed"))

    run = backfill(fail_all, dry_run=False, at_once=2)
    assert [days for days in seen if days] == [DAYS[:2], DAYS[2:4], DAYS[4:]]
    assert all(f"{day}: failed, http" in run.errors["tell_outcome"] for day in DAYS)

    seen.clear()
    run = backfill(fail_all, dry_run=False, at_once=2, stop_at_failure=True)
    assert [days for days in seen if days] == [DAYS[:2]]
    assert f"{DAYS[1]}: failed" in run.errors["tell_outcome"]
    assert f"{DAYS[2]}: not started" in run.errors["tell_outcome"]


def test_a_cleared_backfill_goes_on_with_the_days_that_it_has_not_triggered(
    shop: Shop, api: TestClient
) -> None:
    land(shop)
    run = backfill(lambda: end("failed"), dry_run=False, at_once=1, stop_at_failure=True)
    [failed] = triggered()
    # Somebody mends the day, and clears its run.
    set_state(failed, "success")
    clear(api, run, "run_days", "tell_outcome")
    run = backfill(lambda: end("success"), run_id=run.run_id)
    assert (run.errors, run.returned["tell_outcome"]) == ({}, {str(day): "success" for day in DAYS})
    assert len(triggered()) == len(DAYS)


def test_summaries_are_built_of_what_is_published_in_unbroken_ranges(shop: Shop) -> None:
    for day in (DAYS[0], DAYS[1], DAYS[3]):
        audit(shop.bigquery, f"{day:%Y%m%d}-00000000", landing_day=day)

    run = backfill(lambda: end("success", SUMMARIES_DAG), what="summaries", dry_run=False)
    assert [(made.conf, made.state) for made in _runs(SUMMARIES_DAG)] == [
        ({"first_day": str(DAYS[0]), "last_day": str(DAYS[1]), "dry_run": False}, "success"),
        ({"first_day": str(DAYS[3]), "last_day": str(DAYS[3]), "dry_run": False}, "success"),
    ]
    assert f"{DAYS[2]}: no load has published it" in run.errors["tell_outcome"]
    assert triggered(LOAD_DAG) == {}


def test_a_paused_dag_is_named_before_anything_is_triggered(shop: Shop, caplog: Any) -> None:
    land(shop)
    words = "build_summaries and load_events_daily are paused"
    run = backfill(lambda: end("failed"), dry_run=False, paused=(LOAD_DAG, SUMMARIES_DAG))
    assert run.errors["plan"].startswith(words)
    assert run.tries["plan"] == 1
    assert triggered() == {}
    assert backfill(paused=(LOAD_DAG, SUMMARIES_DAG)).state == "success"
    assert f"{words}: unpause before the real run" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [("what", "both"), ("at_once", 0), ("at_once", 2.5), ("again", "yes"), ("dry_run", None)],
)
def test_the_form_refuses_what_cannot_be(name: str, value: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        load_dag("backfill_days").params[name] = value
