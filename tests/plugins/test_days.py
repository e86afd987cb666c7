"""days: which days a run is for, asked in real DAG runs of every type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, task
from google.cloud import bigquery as bigquery_api

from shopstream.assets import EVENTS_PUBLISHED, SUMMARIES_BUILT
from shopstream.days import day_param, intraday_window, landing_day, summary_days
from shopstream.defaults import START_DATE
from shopstream.retries import Refused
from tests.airflow_home import airflow_home, load_dag, run_task, store, stored  # noqa: F401
from tests.plugins.load.landed import audit

pytestmark = pytest.mark.usefixtures("airflow_home")


def asking_dag() -> DAG:
    """A DAG scheduled as load_events_daily is, whose one task answers with the run's landing day."""
    with DAG(
        "ask",
        schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
        start_date=START_DATE,
        catchup=False,
        params={"landing_day": day_param("Landing day", "The day")},
    ) as dag:

        @task
        def answer(**context: Any) -> str:
            return str(landing_day(context))

        answer()
    store(dag)
    return dag


@pytest.fixture
def ask() -> DAG:
    return asking_dag()


def create_run(dag: DAG, run_type: str, **options: Any) -> str:
    """Create a run as Airflow does for this type, and return its id."""
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    run_id = f"{run_type}-{datetime.now(UTC).timestamp()}"
    stored(dag).create_dagrun(
        run_id=run_id,
        run_type=DagRunType(run_type),
        triggered_by=DagRunTriggeredByType.TEST,
        state="running",
        **({"run_after": datetime.now(UTC)} | options),
    )
    return run_id


def landing_day_of(dag: DAG, run_id: str) -> str:
    return run_task(dag, run_id, "answer")


def test_a_scheduled_run_is_for_the_day_that_has_just_ended(ask: DAG) -> None:
    from airflow.timetables.base import TimeRestriction

    before = datetime.now(UTC)
    info = stored(ask).timetable.next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(earliest=ask.start_date, latest=None, catchup=False),
    )
    run_id = create_run(
        ask,
        "scheduled",
        logical_date=info.logical_date,
        data_interval=info.data_interval,
        run_after=info.run_after,
    )
    # Of the day that began last, which may have begun while this runs.
    assert info.run_after.time() == time.min
    assert before - timedelta(days=1) < info.run_after <= datetime.now(UTC)
    assert landing_day_of(ask, run_id) == str((info.run_after - timedelta(days=1)).date())


def test_a_backfill_has_a_run_for_each_day_from_the_first_to_the_last(ask: DAG) -> None:
    from airflow.models import DagRun
    from airflow.models.backfill import ReprocessBehavior, _create_backfill
    from airflow.utils.session import create_session
    from sqlalchemy import select

    _create_backfill(
        dag_id=ask.dag_id,
        from_date=datetime(2019, 11, 1, tzinfo=UTC),
        to_date=datetime(2019, 11, 3, tzinfo=UTC),
        max_active_runs=1,
        reverse=False,
        dag_run_conf={},
        triggering_user_name="tester",
        reprocess_behavior=ReprocessBehavior.NONE,
    )
    with create_session() as session:
        runs = select(DagRun.run_id).where(DagRun.dag_id == ask.dag_id, DagRun.run_type == "backfill")
        run_ids = list(session.scalars(runs.order_by(DagRun.logical_date)))
    assert [landing_day_of(ask, run_id) for run_id in run_ids] == ["2019-11-01", "2019-11-02", "2019-11-03"]


def test_a_run_by_hand_is_for_the_day_of_its_form(ask: DAG) -> None:
    run_id = create_run(ask, "manual", conf={"landing_day": "2019-11-05"})
    assert landing_day_of(ask, run_id) == "2019-11-05"


def test_the_form_comes_before_the_data_interval(ask: DAG) -> None:
    moment = pendulum.datetime(2019, 12, 1)
    run_id = create_run(
        ask,
        "manual",
        conf={"landing_day": "2019-11-05"},
        logical_date=moment,
        data_interval=stored(ask).timetable.infer_manual_data_interval(run_after=moment),
    )
    assert landing_day_of(ask, run_id) == "2019-11-05"


@pytest.mark.parametrize(
    ("asked", "day"),
    [("2019-11-05T00:00+00:00", "2019-11-04"), ("2019-11-05T23:59+00:00", "2019-11-04")],
)
def test_a_run_by_hand_without_a_day_is_for_the_last_complete_day_before_its_logical_date(
    ask: DAG, asked: str, day: str
) -> None:
    moment = pendulum.parse(asked)
    interval = stored(ask).timetable.infer_manual_data_interval(run_after=moment)
    run_id = create_run(ask, "manual", logical_date=moment, data_interval=interval)
    assert landing_day_of(ask, run_id) == day


@pytest.mark.parametrize("interval_of", ["logical date", "now", "none"])
def test_a_run_by_hand_with_a_logical_date_is_for_the_same_day_however_it_was_triggered(
    ask: DAG, interval_of: str
) -> None:
    """The command line and TriggerDagRunOperator give it the data interval of now, REST that of its date."""
    noon = pendulum.datetime(2019, 11, 5, 12, len(interval_of))
    options: dict[str, Any] = {"logical_date": noon}
    if interval_of != "none":
        moment = noon if interval_of == "logical date" else pendulum.now("UTC")
        options["data_interval"] = stored(ask).timetable.infer_manual_data_interval(run_after=moment)
    assert landing_day_of(ask, create_run(ask, "manual", **options)) == "2019-11-04"


def test_a_run_triggered_on_the_command_line_with_a_logical_date_is_for_the_day_before_it(ask: DAG) -> None:
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.utils.types import DagRunTriggeredByType

    run = trigger_dag(
        dag_id=ask.dag_id,
        triggered_by=DagRunTriggeredByType.CLI,
        run_id="by-the-command-line",
        logical_date=pendulum.datetime(2019, 11, 5, 12),
    )
    assert run is not None
    assert landing_day_of(ask, run.run_id) == "2019-11-04"


def test_a_run_by_hand_without_any_date_is_for_the_last_complete_day_before_it_was_asked_for(
    ask: DAG,
) -> None:
    run_id = create_run(ask, "manual", run_after=datetime(2019, 11, 9, 0, 30, tzinfo=UTC))
    assert landing_day_of(ask, run_id) == "2019-11-08"


@pytest.mark.parametrize("day", ["yesterday", "2019-02-30"])
def test_the_form_refuses_what_is_no_date(ask: DAG, day: str) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    dag = asking_dag()
    with pytest.raises(ParamValidationError):
        dag.params["landing_day"] = day


@pytest.fixture
def summaries() -> DAG:
    """The real DAG; its task resolve_days is run."""
    return load_dag("build_summaries")


def days_of(dag: DAG, run_id: str) -> list[str]:
    return run_task(dag, run_id, "resolve_days")


def test_summaries_by_hand_are_for_the_range_of_the_form(summaries: DAG) -> None:
    run_id = create_run(summaries, "manual", conf={"first_day": "2019-11-01", "last_day": "2019-11-03"})
    assert days_of(summaries, run_id) == ["2019-11-01", "2019-11-02", "2019-11-03"]


def test_summaries_by_hand_with_only_a_first_day_are_for_that_day(summaries: DAG) -> None:
    run_id = create_run(summaries, "manual", conf={"first_day": "2020-02-29"})
    assert days_of(summaries, run_id) == ["2020-02-29"]


def test_summaries_by_hand_without_a_day_are_for_the_last_complete_day(summaries: DAG) -> None:
    run_id = create_run(summaries, "manual", run_after=datetime(2019, 11, 9, 0, 30, tzinfo=UTC))
    assert days_of(summaries, run_id) == ["2019-11-08"]


def publish(*days: str, asset: Asset = EVENTS_PUBLISHED) -> None:
    """Emit the event that load_events_daily emits, or that of another asset."""
    from airflow.assets.manager import asset_manager
    from airflow.serialization.definitions.assets import SerializedAssetUniqueKey
    from airflow.utils.session import create_session

    key = SerializedAssetUniqueKey(name=asset.name, uri=asset.uri)
    with create_session() as session:
        asset_manager.register_asset_change(asset=key, extra={"days": list(days)}, session=session)


def start_by_asset(dag: DAG) -> str:
    """Let the scheduler create and start the run that the events so far have queued; returns its id."""
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models import DagModel, DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        scheduler = SchedulerJobRunner(Job())
        models = session.scalars(select(DagModel).where(DagModel.dag_id == dag.dag_id)).all()
        scheduler._create_dag_runs_asset_triggered(dag_models=models, session=session)
    with create_session() as session:
        newest = select(DagRun).where(DagRun.dag_id == dag.dag_id).order_by(DagRun.id.desc())
        run = session.scalars(newest).first()
        assert run is not None
        assert run.run_type == "asset_triggered"
        run.state, run.start_date = "running", datetime.now(UTC)
        return run.run_id


@pytest.fixture
def no_loads(airflow_home: Path, bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:  # noqa: F811
    """BigQuery without a load, and Airflow without an event of one."""
    from airflow.models.asset import AssetDagRunQueue, AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(AssetDagRunQueue))
        session.execute(delete(AssetEvent))
    return bigquery_tables


def load(client: bigquery_api.Client, *days: str) -> None:
    """Do what the last task of load_events_daily does: write the audit row, emit the event."""
    dates = [date.fromisoformat(day) for day in days]
    audit(client, f"{dates[0]:%Y%m%d}-00000000", landing_day=dates[0], event_dates=dates)
    publish(*days)


@pytest.mark.integration
def test_summaries_after_loads_are_for_all_days_that_they_touched(
    summaries: DAG, no_loads: bigquery_api.Client
) -> None:
    load(no_loads, "2019-11-02", "2019-11-01")
    assert days_of(summaries, start_by_asset(summaries)) == ["2019-11-01", "2019-11-02"]


@pytest.mark.integration
def test_summaries_miss_no_load_that_ends_while_another_run_is_active(
    summaries: DAG, no_loads: bigquery_api.Client
) -> None:
    """Airflow queues the DAG at the first event, and hands over no event after it."""
    load(no_loads, "2019-11-03")
    load(no_loads, "2019-11-04", "2019-11-03")
    load(no_loads, "2019-11-05")
    assert days_of(summaries, start_by_asset(summaries)) == ["2019-11-03", "2019-11-04", "2019-11-05"]


@pytest.mark.integration
def test_figures_are_watched_of_the_days_built_and_of_those_whose_event_came_while_a_run_was_active(
    no_loads: bigquery_api.Client,
) -> None:
    dag = load_dag("watch_figures")
    load(no_loads, "2019-11-03")
    load(no_loads, "2019-11-04")
    publish("2019-11-02", "2019-11-03", asset=SUMMARIES_BUILT)
    publish("2019-11-04", asset=SUMMARIES_BUILT)
    assert days_of(dag, start_by_asset(dag)) == ["2019-11-02", "2019-11-03", "2019-11-04"]


@pytest.mark.integration
@pytest.mark.parametrize("dag_id", ["build_summaries", "compare_stream_with_batch"])
def test_a_run_that_is_cleared_takes_no_loads_of_long_after_it(
    dag_id: str, no_loads: bigquery_api.Client
) -> None:
    dag = load_dag(dag_id)
    load(no_loads, "2019-11-03")
    run_id = start_by_asset(dag)
    three_hours_ago = datetime.now(UTC) - timedelta(hours=3)
    change_run(dag, run_id, run_after=three_hours_ago, clear_number=1)
    load(no_loads, "2019-11-04")
    assert days_of(dag, run_id) == ["2019-11-03"]


@pytest.mark.integration
def test_a_run_that_is_queued_keeps_no_other_from_its_days(
    summaries: DAG, no_loads: bigquery_api.Client
) -> None:
    """Airflow cannot list an asset's events while one of the runs that they started is queued."""
    other = load_dag("compare_stream_with_batch")
    load(no_loads, "2019-11-03")
    run_id = start_by_asset(summaries)
    change_run(other, start_by_asset(other), state="queued", start_date=None)
    assert days_of(summaries, run_id) == ["2019-11-03"]


def change_run(dag: DAG, run_id: str, **columns: Any) -> None:
    """Change a run's row in Airflow's database."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        which = (DagRun.dag_id == dag.dag_id, DagRun.run_id == run_id)
        session.execute(update(DagRun).where(*which).values(**columns))


def skipped_after_choosing(dag: DAG, run_id: str) -> set[str]:
    """Run the task that chooses between a dry run and a build, and return which tasks it left out."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    run_task(dag, run_id, "dry_or_real")
    with create_session() as session:
        skipped = select(TaskInstance.task_id).where(
            TaskInstance.dag_id == dag.dag_id, TaskInstance.run_id == run_id, TaskInstance.state == "skipped"
        )
        return set(session.scalars(skipped))


def test_a_run_by_hand_is_dry_unless_told_otherwise(summaries: DAG) -> None:
    dry = create_run(summaries, "manual", conf={"first_day": "2019-11-01"})
    real = create_run(summaries, "manual", conf={"first_day": "2019-11-01", "dry_run": False})
    assert "summaries.events_deduplicated" in skipped_after_choosing(summaries, dry)
    assert skipped_after_choosing(summaries, real) == {"dry_run"}


def test_a_run_that_a_load_starts_is_never_dry(summaries: DAG) -> None:
    publish("2019-11-01")
    assert skipped_after_choosing(summaries, start_by_asset(summaries)) == {"dry_run"}


@pytest.mark.parametrize(
    ("asked", "previous", "today", "since"),
    [
        ("2019-11-02 00:05", None, date(2019, 11, 2), "2019-11-01 22:05"),
        ("2019-11-02 23:05", None, date(2019, 11, 2), "2019-11-02 21:05"),
        ("2019-11-02 23:05", "2019-11-02 22:05", date(2019, 11, 2), "2019-11-02 21:05"),
        # Nothing had run for ten hours.
        ("2019-11-02 23:05", "2019-11-02 13:05", date(2019, 11, 2), "2019-11-02 12:05"),
    ],
)
def test_an_intraday_run_sees_all_that_came_since_the_run_before_and_an_hour_more(
    asked: str, previous: str | None, today: date, since: str
) -> None:
    assert intraday_window(hourly_run(asked, previous), 6)[:2] == (today, utc(since))


@pytest.mark.parametrize(
    ("asked", "previous", "hours", "since"),
    [
        # At 12 those since 6, and of an hour before, which the run at 6 may have missed.
        ("2019-11-02 12:05", "2019-11-02 11:05", 6, "2019-11-02 05:00"),
        ("2019-11-02 13:05", "2019-11-02 12:05", 6, None),
        ("2019-11-02 17:05", "2019-11-02 16:05", 6, None),
        ("2019-11-02 00:05", "2019-11-01 23:05", 6, "2019-11-01 17:00"),
        # The run at 12 failed.
        ("2019-11-02 13:05", "2019-11-02 11:05", 6, "2019-11-02 05:00"),
        ("2019-11-02 13:05", "2019-11-01 04:05", 6, "2019-10-31 23:00"),
        ("2019-11-02 13:05", "2019-11-02 12:05", 1, "2019-11-02 11:00"),
        ("2019-11-02 23:05", "2019-11-02 22:05", 24, None),
        ("2019-11-03 00:05", "2019-11-02 23:05", 24, "2019-11-01 23:00"),
    ],
)
def test_late_events_wait_for_the_first_intraday_run_of_some_hours_that_succeeds(
    asked: str, previous: str, hours: int, since: str | None
) -> None:
    collected = intraday_window(hourly_run(asked, previous), hours)[2]
    assert collected == (utc(since) if since else None)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def hourly_run(asked: str, previous: str | None) -> dict[str, Any]:
    return {
        "dag_run": SimpleNamespace(run_after=utc(asked)),
        "prev_data_interval_end_success": utc(previous) if previous else None,
    }


def context_of(
    first_day: str | None = None, last_day: str | None = None, extra: Any = None
) -> dict[str, Any]:
    event = SimpleNamespace(extra=extra, timestamp=datetime(2019, 11, 9, tzinfo=UTC))
    moment = datetime(2019, 11, 9, tzinfo=UTC)
    return {
        "params": {"first_day": first_day, "last_day": last_day},
        "triggering_asset_events": {} if extra is None else {EVENTS_PUBLISHED: [event]},
        "dag_run": SimpleNamespace(run_type="asset_triggered", run_after=moment, clear_number=0),
    }


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (context_of("2019-11-02", "2019-11-01"), "first_day 2019-11-02 is after last_day 2019-11-01"),
        (context_of(None, "2019-11-01"), "first_day is empty"),
        (context_of("2019-01-01", "2020-02-05"), "are 401 days; give at most 400"),
        (context_of("soon"), "first_day is 'soon'; give a day such as 2019-11-01"),
        (context_of(extra={}), "names no days"),
        (context_of(extra={"days": []}), "names no days"),
        (context_of(extra={"days": "2019-11-01"}), "names no days"),
        (context_of(extra={"days": [20191101]}), "a day of the asset event is 20191101"),
        (context_of(), "asset events are gone"),
    ],
)
def test_what_names_no_days_is_refused_in_words(context: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        summary_days(context, lambda since, until: [])


def test_a_range_may_have_400_days() -> None:
    days = summary_days(context_of("2019-01-01", "2020-02-04"), lambda since, until: [])
    assert (len(days), days[0], days[-1]) == (400, date(2019, 1, 1), date(2020, 2, 4))


def test_a_template_may_ask_for_the_landing_day(airflow_home: Path) -> None:  # noqa: F811
    from jinja2 import Environment

    from shopstream.days import landing_day_macro

    template = Environment().from_string("landing/{{ landing_day() }}/_SUCCESS")
    rendered = template.render(landing_day=landing_day_macro, params={"landing_day": "2019-11-05"})
    assert rendered == "landing/2019-11-05/_SUCCESS"
