"""load_events_daily, as real DAG runs against the emulators and the real pipeline: what always holds."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from local.dataflow.jobs import running_workers
from shopstream.assets import EVENTS_PUBLISHED
from shopstream.load.launch import RELAUNCHES
from tests.airflow_home import Run
from tests.dags.shop import DAY, Shop, alerts_of, days_told, line
from tests.local.dataflow.service import serving, until, upload_template
from tests.spanner_reader import reading
from tests.spanner_valve import valve

pytestmark = pytest.mark.integration

TASKS = [
    "wait_for_landing",
    "launch_load",
    "wait_for_load",
    "gate",
    "reconcile",
    "publish",
    "write_audit_row",
]


def products(rows: list[tuple[int, str, str]]) -> list[int]:
    return [product - 1_000_000 for product, _, _ in rows]


def test_a_day_goes_from_landing_files_to_both_stores_the_audit_row_and_the_asset(shop: Shop) -> None:
    shop.land([line(n) for n in range(300)] + [line(7), line(300, price="free")])
    run = shop.load()
    assert run.errors == {}
    assert run.states == dict.fromkeys(TASKS, "success")
    assert shop.audit() == [(str(DAY), 302, 301, 1, 1, 0, 300, 300)]
    assert products(shop.spanner()) == list(range(300))
    assert shop.spanner() == shop.published()
    assert shop.query("SELECT source, reason FROM shop.rejected_events") == [("batch", "bad_price")]
    assert days_told(EVENTS_PUBLISHED, run) == [str(DAY)]
    assert not [table for table in shop.bigquery.list_tables("shop_raw") if "staging" in table.table_id]


def test_a_repeated_load_leaves_the_same_rows(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.land([line(n) for n in range(200)] + [line(n, event_type="gift") for n in range(2)])
    first, second = shop.load(), shop.load()
    told = [text for text in caplog.messages if text.startswith(f"Landing day {DAY} is published ")]
    assert ["for the first time: 200 events" in text for text in told] == [True, False]
    assert "published anew, in place of the load of 20" in told[1]
    assert (first.state, second.state) == ("success", "success")
    load_ids = [run.returned["launch_load"]["load_id"] for run in (first, second)]
    assert products(shop.spanner()) == list(range(200))
    assert shop.spanner() == shop.published()
    assert {load_id for _, _, load_id in shop.published()} == {load_ids[1]}
    assert [row[1:] for row in shop.audit()] == [(202, 200, 2, 0, 0, 200, 200)] * 2
    assert shop.query("SELECT COUNT(*), COUNT(DISTINCT load_id) FROM shop.rejected_events") == [(2, 1)]


def test_a_load_killed_halfway_and_run_again_loses_and_doubles_nothing(
    shop: Shop, spanner_emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.land(line(n) for n in range(6_000))
    killed: set[str] = set()
    with (
        # Some two of its commits come through.
        valve(spanner_emulator, open_bytes=1_000_000) as spanner,
        serving(tmp_path, environment={"SPANNER_EMULATOR_HOST": spanner.host}) as dataflow,
        monkeypatch.context() as patch,
    ):
        patch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", dataflow.url)

        def kill_halfway(task_id: str) -> None:
            if task_id == "wait_for_load":
                until(spanner.shut.is_set, "the load to be held")
                until(shop.count_spanner, "the first rows in Spanner")
                active = {job["id"] for job in dataflow.list(filter="ACTIVE").get("jobs", [])}
                for job_id in active - killed:
                    until(partial(running_workers, dataflow.state_dir), "a worker")[job_id].kill()
                killed.update(active)

        died = shop.load(before_task=kill_halfway)
    assert died.state == "failed"
    assert died.states["wait_for_load"] == "failed"
    assert len(killed) == 1 + RELAUNCHES
    assert 0 < shop.count_spanner() < 6_000
    assert shop.published() == []

    again = shop.load()
    assert again.errors == {}
    assert products(shop.spanner()) == list(range(6_000))
    assert shop.spanner() == shop.published()
    assert {load_id for _, _, load_id in shop.spanner()} == {again.returned["launch_load"]["load_id"]}


def test_a_reload_from_a_corrected_file_leaves_exactly_the_corrected_rows(shop: Shop) -> None:
    before = DAY - timedelta(days=2)
    shop.land([line(n) for n in range(100)] + [line(n, day=before) for n in range(100, 120)])
    assert shop.load().state == "success"

    shop.land(line(n) for n in range(50, 150))
    with reading(shop.database, lambda: time.sleep(0.1)) as reader:
        run = shop.load()
    assert run.errors == {}
    assert reader.seen == [
        {(1_000_000 + n, "nan") for n in numbers} for numbers in (range(120), range(50, 150))
    ]
    assert products(shop.spanner()) == list(range(50, 150))
    assert shop.spanner() == shop.published()
    # The day that the correction emptied is rebuilt too.
    assert days_told(EVENTS_PUBLISHED, run) == [str(before), str(DAY)]


def test_another_days_rows_stay_when_a_day_is_reloaded_even_of_the_same_events(shop: Shop) -> None:
    other = DAY + timedelta(days=1)
    shop.land((line(n) for n in range(10)), day=other)
    shop.land(line(n) for n in range(10))
    assert shop.load(other).state == "success"
    assert shop.load().state == "success"
    shop.land([line(11)])
    assert shop.load().state == "success"
    assert products(shop.spanner()) == [11]
    assert products(shop.spanner(other)) == products(shop.published(other)) == list(range(10))
    assert shop.query("SELECT COUNT(*) FROM shop.events") == [(11,)]


def test_late_events_are_loaded_under_their_own_day_and_that_day_is_rebuilt(shop: Shop) -> None:
    late, too_late = DAY - timedelta(days=7), DAY - timedelta(days=8)
    shop.land([*(line(n) for n in range(200)), line(200, day=late), line(201, day=too_late)])
    run = shop.load()
    assert run.errors == {}
    assert shop.audit() == [(str(DAY), 202, 201, 1, 0, 1, 201, 201)]
    assert shop.published()[-1][:2] == (1_000_200, str(late))
    assert days_told(EVENTS_PUBLISHED, run) == [str(late), str(DAY)]
    assert shop.query("SELECT reason FROM shop.rejected_events") == [("too_late",)]


def test_a_day_with_too_many_rejected_lines_is_not_published_but_keeps_all_its_lines(shop: Shop) -> None:
    shop.land(line(n) for n in range(100))
    assert shop.load().state == "success"
    published = shop.published()

    bad = [*(line(n, price="free") for n in range(200, 203)), line(203, user_id="")]
    shop.land([*(line(n) for n in range(196)), *bad])

    def let_24_hours_pass(run_id: str, task_id: str) -> None:
        from airflow.jobs.job import Job
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            ti = session.scalars(select(TaskInstance).filter_by(run_id=run_id, task_id=task_id)).one()
            assert timedelta(hours=23) < ti.trigger_timeout - datetime.now(UTC) < timedelta(hours=24)
            ti.trigger_timeout = datetime.now(UTC)
        SchedulerJobRunner(job=Job()).check_awaiting_input_timeouts()

    run = shop.load(when_asked=let_24_hours_pass)
    assert run.state == "failed"
    assert (run.states["gate"], run.tries["gate"]) == ("failed", 1)
    assert run.states["publish"] == "upstream_failed"
    assert "nobody answered within 24 hours" in run.errors["gate"]
    assert shop.published() == published
    assert len(shop.audit()) == 1
    # The good rows are served, and the rejected lines kept.
    assert set(range(196)) <= set(products(shop.spanner()))
    assert shop.query("SELECT COUNT(*) FROM shop.rejected_events") == [(4,)]

    shop.land([*(line(n) for n in range(196)), line(200)])
    assert shop.load().state == "success"
    assert products(shop.spanner()) == [*range(196), 200]
    assert shop.spanner() == shop.published()
    assert shop.query("SELECT COUNT(*) FROM shop.rejected_events") == [(0,)]


def test_a_day_with_too_many_rejected_lines_is_published_when_a_person_says_so_and_the_audit_row_says_who(
    shop: Shop, api: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    shop.land([*(line(n) for n in range(196)), *(line(n, price="free") for n in range(196, 200))])
    asked: list[dict[str, Any]] = []

    def clear_and_then_answer(run_id: str, task_id: str) -> None:
        path = f"/api/v2/dags/load_events_daily/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        asked.append(api.get(path).json())
        if len(asked) == 1:
            clear(api, run_id, "gate")
            return
        answer = {"chosen_options": ["Publish anyway"], "params_input": {"reason": "a test shop's lines"}}
        assert api.patch(path, json=answer, headers={"Authorization": ""}).status_code == 401
        assert api.patch(path, json=answer | {"chosen_options": ["Yes"]}).status_code == 400
        assert api.patch(path, json=answer).status_code == 200
        assert api.patch(path, json=answer).status_code == 409

    run = shop.load(when_asked=clear_and_then_answer)
    assert run.errors == {}
    assert products(shop.spanner()) == list(range(196))
    assert shop.spanner() == shop.published()
    assert shop.query("SELECT rejected, approved_by, approval_reason FROM shop_ops.loads") == [
        (4, "operator", "a test shop's lines")
    ]
    assert len(asked) == 2
    assert "4 of 200 lines (2.00%) were rejected" in asked[1]["subject"]
    assert "bad_price: 4, such as" in asked[1]["body"]
    assert asked[1]["options"] == ["Publish anyway", "Refuse"]
    # The alert came with each question.
    assert len([text for text in caplog.messages if '"kind": "answer_wanted"' in text]) == 2

    # Another run of the day that nobody need be asked about; it tells what is usual.
    shop.land([*(line(n) for n in range(99)), line(99, price="free")])
    assert shop.load().errors == {}
    assert shop.query("SELECT rejected, approved_by FROM shop_ops.loads ORDER BY load_id") == [
        (4, "operator"),
        (1, None),
    ]


def test_a_load_that_lost_a_line_is_refused_and_nobody_is_asked_though_many_were_rejected(shop: Shop) -> None:
    shop.land([*(line(n) for n in range(50)), *(line(n, price="free") for n in range(50, 100))])

    def lose_a_line(task_id: str) -> None:
        if task_id == "gate":
            [manifest] = shop.bucket.list_blobs(prefix="loads/")
            counted = json.loads(manifest.download_as_bytes())
            manifest.upload_from_string(json.dumps(counted | {"read": counted["read"] + 1}))

    run = shop.load(before_task=lose_a_line)
    assert (run.states["gate"], run.tries["gate"]) == ("failed", 1)
    assert "read is 101, but accepted + rejected = 50 + 50 = 100" in run.errors["gate"]
    assert (shop.published(), shop.journeys(), shop.audit()) == ([], [], [])


def test_an_answer_is_never_taken_for_another_load_than_the_one_that_was_shown(
    shop: Shop, api: TestClient
) -> None:
    shop.land([*(line(n) for n in range(97)), *(line(n, price="free") for n in range(97, 100))])

    asked: list[str] = []

    def land_other_bad_lines_and_load_anew(run_id: str, task_id: str) -> None:
        assert not asked, "the same question was asked of another load"
        asked.append(task_id)
        shop.land(line(n, price="free" if n else "1") for n in range(100))
        clear(api, run_id, "launch_load")

    run = shop.load(when_asked=land_other_bad_lines_and_load_anew)
    assert run.states["gate"] == "failed"
    assert "99 of 100 lines (99.00%) were rejected" in run.errors["gate"]
    assert "Airflow would show an earlier question" in run.errors["gate"]
    assert "3 of 100 lines (3.00%) were rejected" in run.errors["gate"]
    assert shop.published() == []


def clear(api: TestClient, run_id: str, task_id: str) -> None:
    """Clear a task and those after it, as the runbooks say."""
    answer = api.post(
        "/api/v2/dags/load_events_daily/clearTaskInstances",
        json={
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [task_id],
            "include_downstream": True,
            "only_failed": False,
        },
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("cleared", ["gate", "reconcile", "publish"])
def test_a_load_that_a_newer_one_has_overtaken_changes_nothing(shop: Shop, cleared: str) -> None:
    shop.land([*(line(n) for n in range(200)), line(200, price="free")])
    newer: list[Run] = []

    def overtake(task_id: str) -> None:
        if task_id == cleared and not newer:
            shop.land(line(n) for n in range(10, 220))
            newer.append(shop.load())

    overtaken = shop.load(before_task=overtake)
    assert newer[0].errors == {}
    assert overtaken.states[cleared] == "failed"
    assert "is a newer load of the same day" in overtaken.errors[cleared]
    assert products(shop.spanner()) == list(range(10, 220))
    assert shop.spanner() == shop.published()
    assert {load_id for _, _, load_id in shop.published()} == {newer[0].returned["launch_load"]["load_id"]}
    assert shop.query("SELECT COUNT(*) FROM shop.rejected_events") == [(0,)]


def test_a_load_that_spanner_does_not_hold_whole_is_refused_and_readers_see_nothing_of_it(shop: Shop) -> None:
    shop.land(line(n) for n in range(20))

    def lose_a_row(task_id: str) -> None:
        if task_id == "reconcile":
            shop.database.execute_partitioned_dml("DELETE FROM loaded_events WHERE product_id = 1000007")

    run = shop.load(before_task=lose_a_row)
    assert run.states["reconcile"] == "failed"
    assert "20 distinct events, but Spanner holds 19" in run.errors["reconcile"]
    assert shop.published() == []
    assert shop.journeys() == []


def test_staged_rows_that_are_gone_before_they_are_published_leave_readers_of_both_stores_the_day_as_it_was(
    shop: Shop,
) -> None:
    shop.land(line(n) for n in range(10))
    assert shop.load().state == "success"
    shop.land(line(n) for n in range(20))
    before = shop.published()

    def lose_all_rows(task_id: str) -> None:
        if task_id == "publish":
            [staging] = [
                table for table in shop.bigquery.list_tables("shop_raw") if "staging" in table.table_id
            ]
            shop.query(f"DELETE FROM shop_raw.{staging.table_id} WHERE TRUE")

    run = shop.load(before_task=lose_all_rows)
    assert "holds 0 events, and not the 20 that reconcile has compared" in run.errors["publish"]
    assert shop.published() == before
    assert shop.journeys() == [1_000_000 + n for n in range(10)]


def test_a_run_by_hand_for_a_day_that_is_not_landed_fails_at_once_and_says_what_is_there(shop: Shop) -> None:
    nothing = shop.load()
    assert (nothing.state, nothing.states["wait_for_landing"]) == ("failed", "failed")
    assert f"landing/events/{DAY}/ holds nothing" in nothing.errors["wait_for_landing"]

    shop.bucket.blob(f"landing/events/{DAY}/events.csv").upload_from_string(line(1))
    half = shop.load()
    assert "holds events.csv. Once the day's files are complete" in half.errors["wait_for_landing"]
    assert half.states["launch_load"] == "upstream_failed"


def test_a_day_that_spanner_would_delete_while_it_is_loaded_is_refused_with_the_setting(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_EVENTS_KEEP_DAYS", "60")
    shop.land([line(1)])
    refused = shop.load()
    assert refused.states["wait_for_landing"] == "failed"
    assert "since SHOPSTREAM_EVENTS_KEEP_DAYS is 60" in refused.errors["wait_for_landing"]


def test_a_run_by_hand_waits_for_its_day_if_it_is_told_to(shop: Shop) -> None:
    looks = 0

    def land_before_the_second_look(task_id: str) -> None:
        nonlocal looks
        looks += task_id == "wait_for_landing"
        if looks == 2 and task_id == "wait_for_landing":
            shop.land([line(1)])

    run = shop.load(before_task=land_before_the_second_look, wait=True)
    assert run.errors == {}
    assert products(shop.spanner()) == [1]


def test_a_load_waits_for_a_place_while_as_many_others_run_as_may(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_MAX_LOADS", "1")
    monkeypatch.setenv("SHOPSTREAM_JOB_LOOK_SECONDS", "1")
    until_there = {"name": "until", "label": "Until", "helpText": "Runs until this file exists."}
    module = "tests.local.dataflow.pipelines.wait_for_file"
    other = upload_template(shop.bucket, module, until_there, path="templates/local/other.json")
    stop = tmp_path / "stop"
    shop.dataflow.launch("load-events-2019-10-01", other, parameters={"until": str(stop)})
    launches = 0

    def end_the_other_before_the_third_try(task_id: str) -> None:
        nonlocal launches
        launches += task_id == "launch_load"
        if launches == 3 and not stop.exists():
            stop.touch()
            until(lambda: not shop.dataflow.list(filter="ACTIVE").get("jobs"), "the other load to end")

    shop.land([line(1)])
    run = shop.load(before_task=end_the_other_before_the_third_try)
    assert run.errors == {}
    assert launches == 3
    assert products(shop.spanner()) == [1]


def test_a_run_that_is_given_an_unknown_parameter_loads_nothing_and_names_the_nearest(shop: Shop) -> None:
    shop.land([line(1)])
    run = shop.run("load_events_daily", landingday=str(DAY))
    assert run.states["wait_for_landing"] == "failed"
    assert (
        "'landingday', which is no parameter of load_events_daily. Did you mean landing_day?"
        in (run.errors["wait_for_landing"])
    )
    assert shop.audit() == []


def test_a_template_that_is_not_deployed_fails_the_launch_in_its_first_try(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SHOPSTREAM_TEMPLATE_VERSION", "not-there")
    shop.land([line(1)])
    run = shop.load()
    assert (run.states["launch_load"], run.tries["launch_load"]) == ("failed", 1)
    assert "templates/not-there/load_events.json" in alerts_of(caplog)["launch_load"]
    assert "deploy it" in alerts_of(caplog)["launch_load"]
