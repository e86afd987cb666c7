"""A real Airflow for tests: the local stack's settings, a database of its own, DAG runs in this process."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import local.stack.seldom_gc  # noqa: F401 (before Airflow, also where another process imports this)
from local.root import ROOT
from local.stack import airflow_settings, emulators
from shopstream.settings import settings

PASSWORD = "of-tests-only"
CUSTOMERS, SESSIONS = range(500_000_000, 500_000_097), "5e5510"
"""The customers of whom tests land events, and how their sessions begin."""
WITHOUT_COUNT = {"is_real", "dry_or_real"}
"""The tasks that only tell which others run."""


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty Airflow database, which this process's Airflow uses from now on."""
    home = tmp_path_factory.mktemp("airflow") / "home"
    environment = airflow_settings.environment(home, emulators.free_port(), settings().project)
    airflow_settings.lay_out(home, PASSWORD, {**os.environ, **environment})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        from airflow import settings as airflow

        # Other tests may have imported Airflow, with the settings of its default home.
        airflow.configure_vars()
        airflow.dispose_orm()
        airflow.configure_orm()
        yield home
        airflow.dispose_orm()


def store(*dags: Any) -> None:
    """Write DAGs to the database, as the DAG processor does with what it has parsed, and unpause them."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)
    bag = DagBag(dag_folder=os.devnull)
    for dag in dags:
        bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=False))


def stored(dag: Any) -> Any:
    """Return a stored DAG as scheduler and web server know it."""
    from airflow.models.serialized_dag import SerializedDagModel

    row = SerializedDagModel.get(dag.dag_id)
    assert row is not None
    return row.dag


def load_dag(dag_id: str) -> Any:
    """Parse the DAG file of this name and store the DAG."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(ROOT / "dags" / f"{dag_id}.py"))
    assert not bag.import_errors
    dag = bag.dags[dag_id]
    store(dag)
    return dag


def run_task(dag: Any, run_id: str, task_id: str) -> Any:
    """Run one task of an existing DAG run in this process, and return what it returned.

    Raises:
        AssertionError: the task did not succeed.
    """
    from airflow.models import DagRun
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        run = session.scalar(select(DagRun).where(DagRun.dag_id == dag.dag_id, DagRun.run_id == run_id))
        assert run is not None
        ti = run.get_task_instance(task_id, session=session)
        session.expunge_all()
    result = _run_task(ti=ti, task=dag.task_dict[task_id])
    assert result is not None
    assert ti.state == "success", result.error
    with create_session() as session:
        return session.merge(ti).xcom_pull(task_ids=task_id, session=session)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What the code of this repository tells meanwhile in logs, as `shopstream` modules and operators do."""
    import structlog

    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name.startswith("shopstream."):
                told.append(record.getMessage())

    def listen(logger: Any, method: str, event: Any) -> Any:
        # An operator's logger, which does not pass through Python's own.
        if ".shopstream." in (getattr(logger, "name", None) or ""):
            told.append(str(event["event"]))
        return event

    handler, root = Listener(logging.INFO), logging.getLogger()
    ours, processors = logging.getLogger("shopstream"), structlog.get_config()["processors"]
    level = ours.level
    ours.setLevel(logging.INFO)
    root.addHandler(handler)
    processors.insert(0, listen)
    try:
        yield told
    finally:
        processors.remove(listen)
        root.removeHandler(handler)
        ours.setLevel(level)


def _check_last_words(task: Any, told: list[str]) -> None:
    """A task of ours that succeeds ends its log with a sentence of what it did, with a count."""
    function = getattr(task, "python_callable", type(task))
    if function.__module__.startswith("shopstream."):
        check_last_words(task.task_id, told)


def named_in(texts: Iterable[str]) -> list[str]:
    """Which customers of tests and which of their sessions stand in texts that may name nobody."""
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    people = {str(customer) for customer in CUSTOMERS}
    return sorted(word for word in words if word in people or re.fullmatch(SESSIONS + r"[0-9a-f]{26}", word))


def check_last_words(task_id: str, told: list[str]) -> None:
    """Hold what a task of ours has told in its log against what it must end with."""
    last = told[-1] if told else ""
    assert re.fullmatch(r"[^\n]*\.", last), f"the log of {task_id} does not end with a sentence: {last!r}"
    assert re.search(r"\d", last) or task_id in WITHOUT_COUNT, f"{task_id} counts nothing: {last!r}"


@dataclass
class Run:
    """A DAG run that has ended: its state, each task's state, tries, return value and, if failed, error."""

    run_id: str
    state: str
    states: dict[str, str]
    tries: dict[str, int]
    returned: dict[str, Any]
    errors: dict[str, str]


def run_dag(
    dag: Any,
    conf: dict[str, Any],
    before_task: Callable[[str], None] = lambda task_id: None,
    *,
    when_asked: Callable[[str, str], None] | None = None,
    by_hand: bool = True,
    run_after: datetime | None = None,
    run_id: str | None = None,
) -> Run:
    """Run a stored DAG to its end, its tasks one after another in this process, by hand or as scheduled.

    As dag.test() does, which would parse all DAG files anew each time; a task that waits for its next look or
    its retry is run as soon as it may. None of them may name a customer in what it logs, returns to others or
    fails with, as alerts tell it. `before_task` is called with a task's id each time before it runs,
    `when_asked` with the run's and the task's id each time a task waits for a person's answer. `run_after` is
    when the run was due, now unless given. With `run_id` none is made: it was triggered, or cleared.
    """
    from airflow.models import DagRun
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import select

    dag.validate()
    scheduled = stored(dag)
    now = datetime.now(UTC)
    errors: dict[str, str] = {}
    said: list[str] = []
    with create_session() as session:
        if run_id:
            run = session.scalars(select(DagRun).filter_by(dag_id=dag.dag_id, run_id=run_id)).one()
            run.state, run.start_date = "running", now
        else:
            run_id = f"test-{now.timestamp()}"
            run = scheduled.create_dagrun(
                run_id=run_id,
                run_after=run_after or now,
                start_date=now,
                conf=conf,
                run_type=DagRunType.MANUAL if by_hand else DagRunType.SCHEDULED,
                triggered_by=DagRunTriggeredByType.TEST,
                state="running",
                session=session,
            )
        run.dag = scheduled
        # To call back for a run is the DAG processor's part, which is not here.
        run.dag.has_on_failure_callback = False
        while run.state == "running":
            session.expire_all()
            ready, _ = run.update_state(session=session, execute_callbacks=False)
            for ti in ready:
                if ti.state != "up_for_reschedule":
                    ti.try_number += 1
                ti.state = "scheduled"
            session.commit()
            for task_id in [ti.task_id for ti in run.get_task_instances(["awaiting_input"], session=session)]:
                assert when_asked, f"{task_id} waits for a person's answer"
                session.commit()
                when_asked(run_id, task_id)
                # Which an answer has made it.
                ready = run.get_task_instances(["scheduled"], session=session)
            for ti in ready:
                before_task(ti.task_id)
                with _listening() as told:
                    result = _run_task(ti=ti, task=dag.task_dict[ti.task_id])
                said += told
                if ti.state == "success":
                    _check_last_words(dag.task_dict[ti.task_id], told)
                if result is not None and result.error is not None:
                    errors[ti.task_id] = str(result.error)
            if not ready:
                time.sleep(0.2)
        tis = run.get_task_instances(session=session)
        returned = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id, session=session) for ti in tis}
        states = {ti.task_id: str(ti.state) for ti in tis}
        tries = {ti.task_id: ti.try_number for ti in tis}
        assert named_in([*said, json.dumps(returned, default=str), *errors.values()]) == []
        return Run(run_id, str(run.state), states, tries, returned, errors)
