"""Each drill: a trouble is made, then the runbook's steps are done through Airflow, until all is well.

A drill returns what is lost and what is double. Its first line names the runbook that it follows.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from local.drills.ground import SEED, DrillFailed, Ground
from local.events.files import write_landing_day
from local.root import ROOT
from local.stack import control
from shopstream import layout
from shopstream.load.gate import REFUSE
from shopstream.stream.decide import DESIRED_STATE

COUNTS = "shop.daily_event_count"
Drill = Callable[[Ground], tuple[int, int]]


def a_load_refused_by_the_gate(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/rejected-rows.md"""
    day = next(ground.days)
    ground.land(day, bad_share=0.05)
    run_id = ground.load(day)
    asked = ground.airflow.answer("load_events_daily", run_id, "gate", REFUSE, "the file is wrong")
    ground.do(f"gate asked about a day with 5 % bad lines, and was told to refuse it: {asked['subject']}")
    ground.fails("load_events_daily", run_id, "gate", "refused it: the file is wrong")
    expected = ground.land(day)
    ground.do("landed the corrected file, and triggered load_events_daily for the day")
    ground.ends_well("load_events_daily", ground.load(day))
    return ground.count_day(day, expected)


def a_store_away_during_a_load(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/load-failed.md"""
    day = next(ground.days)
    expected = ground.land(day)
    run_id = ground.load(day)
    ground.await_task("load_events_daily", run_id, "launch_load", "success")
    with ground.away("spanner"):
        ground.do(f"Spanner does not answer for {ground.away_seconds:.0f} s while the job runs")
        time.sleep(ground.away_seconds)
    _clear_if_failed(ground, run_id)
    return ground.count_day(day, expected)


def a_store_away_during_a_build(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/summary-check-failed.md"""
    day = next(ground.days)
    expected = ground.land(day)
    ground.ends_well("load_events_daily", ground.load(day))
    conf = {"first_day": str(day), "dry_run": False}
    run_id = ground.airflow.trigger("build_summaries", conf)
    ground.await_task("build_summaries", run_id, "dry_or_real", "success")
    with ground.away("bigquery"):
        ground.do(f"BigQuery does not answer for {ground.away_seconds:.0f} s while summaries are built")
        time.sleep(ground.away_seconds)
    [state] = ground.airflow.wait({("build_summaries", run_id): "build"}, ground.progress).values()
    if state == "failed":
        ground.airflow.clear("build_summaries", run_id, "resolve_days")
        ground.do("cleared the run")
        ground.ends_well("build_summaries", run_id)
    return _count_summary(ground, day, expected)


def an_export_that_broke_off(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/load-failed.md"""
    day = next(ground.days)
    name, whole, expected = _export_of(ground, day)
    export = ground.bucket.blob(name)
    export.upload_from_string(whole[: len(whole) // 2])
    run_id = ground.airflow.trigger("land_export", {"object": name})
    ground.fails("land_export", run_id, "split_into_days", "Upload it again")
    if ground.bucket.blob(f"{layout.landing(day)}/{layout.SUCCESS}").exists():
        raise DrillFailed(f"{day} was marked as landed, though its export broke off.")
    ground.do("land_export refused an export that was cut in half")
    export.upload_from_string(whole)
    ground.do("uploaded it whole, triggered land_export and load_events_daily")
    ground.ends_well("land_export", ground.airflow.trigger("land_export", {"object": name}))
    ground.ends_well("load_events_daily", ground.load(day))
    return ground.count_day(day, expected)


def a_stream_whose_new_version_does_not_start(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/stream-unhealthy.md"""
    day = next(ground.days)
    name, whole, expected = _export_of(ground, day)
    ground.bucket.blob(name).upload_from_string(whole)
    ground.airflow.unpause("keep_stream_alive")
    ground.ends_well("keep_stream_alive", ground.airflow.trigger("keep_stream_alive", {}))
    template = json.loads(ground.bucket.blob(layout.template("local", "stream_events")).download_as_text())
    broken = json.dumps(template).replace("local.dataflow.stream_driver", "local.dataflow.no_such_driver")
    ground.bucket.blob(layout.template("broken", "stream_events")).upload_from_string(broken)
    ground.airflow.set_variable(DESIRED_STATE, json.dumps({"desired": "running", "version": "broken"}))
    run_id = ground.airflow.trigger("keep_stream_alive", {})
    ground.fails("keep_stream_alive", run_id, "keep_alive", "no_such_driver")
    ground.do("a version whose worker does not start was deployed; keep_stream_alive failed and told why")
    published = ground.airflow.trigger("simulate_stream", {"object": name, "speed": None})
    ground.ends_well("simulate_stream", published)
    ground.do("events were published meanwhile")
    ground.airflow.set_variable(DESIRED_STATE, json.dumps({"desired": "running", "version": None}))
    ground.do("set the version back and triggered keep_stream_alive")
    ground.ends_well("keep_stream_alive", ground.airflow.trigger("keep_stream_alive", {}))
    return _caught_up(ground, day, expected)


def a_store_away_during_the_stream(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/stream-unhealthy.md"""
    day = next(ground.days)
    name, whole, expected = _export_of(ground, day)
    ground.bucket.blob(name).upload_from_string(whole)
    ground.airflow.unpause("keep_stream_alive")
    ground.ends_well("keep_stream_alive", ground.airflow.trigger("keep_stream_alive", {}))
    with ground.away("bigquery"):
        ground.do(f"BigQuery does not answer for {ground.away_seconds:.0f} s while events are published")
        published = ground.airflow.trigger("simulate_stream", {"object": name, "speed": None})
        time.sleep(ground.away_seconds)
    ground.ends_well("simulate_stream", published)
    # It starts a job that has given up meanwhile, and fails while what has waited is still being read.
    run_id = ground.airflow.trigger("keep_stream_alive", {})
    ground.airflow.wait({("keep_stream_alive", run_id): "keep_stream_alive"}, ground.progress)
    ground.do("triggered keep_stream_alive")
    return _caught_up(ground, day, expected)


def stores_that_lost_everything(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/stores-lost.md"""
    days = [next(ground.days) for _ in range(2)]
    expected = [ground.land(day) for day in days]
    for day in days:
        ground.ends_well("load_events_daily", ground.load(day))
    for service in ("spanner", "bigquery"):
        control.restart(service)
    ground.do("Spanner and BigQuery were killed, and are back with nothing in them")
    provision = [sys.executable, "-m", "local.stack.provision"]
    subprocess.run(provision, cwd=ROOT, check=True, capture_output=True)
    ground.do("made the instance and the database anew, as Terraform does")
    ground.ends_well("apply_schemas", ground.airflow.trigger("apply_schemas", {}))
    ground.do("triggered apply_schemas, backfill_days for loads and for summaries")
    ground.airflow.unpause("backfill_days")
    form = {"first_day": str(days[0]), "last_day": str(days[-1]), "dry_run": False}
    for what in ("load", "summaries"):
        ground.ends_well("backfill_days", ground.airflow.trigger("backfill_days", form | {"what": what}))
    counts = [ground.count_day(day, events) for day, events in zip(days, expected, strict=True)]
    return sum(lost for lost, _ in counts), sum(double for _, double in counts)


def a_summary_that_fails_in_the_middle_of_a_rebuild(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/summary-check-failed.md"""
    day = next(ground.days)
    expected = ground.land(day)
    ground.ends_well("load_events_daily", ground.load(day))
    ground.bigquery.delete_table("shop.revenue_daily")
    last = day + timedelta(days=29)
    conf = {"first_day": str(day), "last_day": str(last), "dry_run": False}
    run_id = ground.airflow.trigger("build_summaries", conf)
    ground.fails("build_summaries", run_id, "summaries.revenue_daily", "revenue_daily")
    ground.do("a month was rebuilt, and the statement of one summary failed, for its table was gone")
    ground.ends_well("apply_schemas", ground.airflow.trigger("apply_schemas", {}))
    ground.airflow.clear("build_summaries", run_id, "summaries.revenue_daily")
    ground.do("triggered apply_schemas, cleared the failed task and those after it")
    ground.ends_well("build_summaries", run_id)
    [built] = ground.query("SELECT COUNT(*) AS days FROM shop.revenue_daily WHERE event_date = @day", day)
    if not built["days"]:
        raise DrillFailed(f"shop.revenue_daily has no row of {day}.")
    return _count_summary(ground, day, expected)


def a_scheduler_that_was_killed(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/load-failed.md"""
    day = next(ground.days)
    expected = ground.land(day)
    run_id = ground.load(day)
    ground.await_task("load_events_daily", run_id, "launch_load", "success")
    control.process("scheduler").kill()
    ground.do("the scheduler was killed in the middle of a load, and supervisor started it again")
    _clear_if_failed(ground, run_id)
    return ground.count_day(day, expected)


def a_scheduler_that_was_down_over_two_midnights(ground: Ground) -> tuple[int, int]:
    """docs/runbooks/load-failed.md"""
    today = datetime.now(UTC).date()
    before, missed, yesterday = (today - timedelta(days=number) for number in (3, 2, 1))
    expected = {before: ground.land(before)}
    ground.ends_well("load_events_daily", ground.load(before))
    scheduler = control.process("scheduler")
    scheduler.suspend()
    expected[yesterday] = ground.land(yesterday)
    ground.airflow.forget_scheduled_runs("load_events_daily")
    ground.set_next_run("load_events_daily", yesterday)
    scheduler.kill()
    ground.do("the scheduler was down over two midnights, and supervisor started it again")
    ground.until(lambda: ground.airflow.scheduled_runs("load_events_daily"), "the scheduled run")
    [run_id] = ground.airflow.scheduled_runs("load_events_daily")
    ground.ends_well("load_events_daily", run_id)
    ground.fails("watch_days", ground.airflow.trigger("watch_days", {}), "name_missing_days", str(missed))
    expected[missed] = ground.land(missed)
    ground.do(f"watch_days named {missed}, which nobody had landed and no run was for; landed and loaded it")
    ground.ends_well("load_events_daily", ground.load(missed))
    ground.ends_well("watch_days", ground.airflow.trigger("watch_days", {}))
    counts = [ground.count_day(day, events) for day, events in expected.items()]
    return max(lost for lost, _ in counts), max(double for _, double in counts)


DRILLS: dict[str, Drill] = {
    "gate": a_load_refused_by_the_gate,
    "load-away": a_store_away_during_a_load,
    "build-away": a_store_away_during_a_build,
    "export": an_export_that_broke_off,
    "stream-version": a_stream_whose_new_version_does_not_start,
    "stream-away": a_store_away_during_the_stream,
    "lost-stores": stores_that_lost_everything,
    "summary": a_summary_that_fails_in_the_middle_of_a_rebuild,
    "scheduler": a_scheduler_that_was_killed,
    "midnight": a_scheduler_that_was_down_over_two_midnights,
}
"""By the name that `make drill ARGS=name` takes."""


def _clear_if_failed(ground: Ground, run_id: str) -> None:
    """Do as the runbook of a failed load says: clear from launch_load on."""
    [state] = ground.airflow.wait({("load_events_daily", run_id): "load"}, ground.progress).values()
    if state == "failed":
        ground.airflow.clear("load_events_daily", run_id, "launch_load")
        ground.do("cleared from launch_load on")
        ground.ends_well("load_events_daily", run_id)


def _caught_up(ground: Ground, day: date, expected: int) -> tuple[int, int]:
    """Wait until the stream has brought the day's events and is well; stop it, and count them."""
    sql = (
        "SELECT COUNT(*) AS found_rows, COUNT(DISTINCT event_id) AS events "
        "FROM shop.events WHERE event_date = @day"
    )
    ground.until(lambda: ground.query(sql, day)[0]["events"] >= expected, "the stream to catch up")
    ground.ends_well("keep_stream_alive", ground.airflow.trigger("keep_stream_alive", {}))
    [row] = ground.query(sql, day)
    ground.airflow.pause("keep_stream_alive")
    ground.ends_well("stop_stream", ground.airflow.trigger("stop_stream", {"how": "drain"}))
    return max(0, expected - row["events"]), row["found_rows"] - row["events"]


def _count_summary(ground: Ground, day: date, expected: int) -> tuple[int, int]:
    [row] = ground.query(f"SELECT SUM(events) AS events FROM {COUNTS} WHERE event_date = @day", day)  # noqa: S608
    counted = row["events"] or 0
    return max(0, expected - counted), max(0, counted - expected)


def _export_of(ground: Ground, day: date) -> tuple[str, bytes, int]:
    """A generated day as a compressed export: its name in the bucket, its bytes, its distinct good events."""
    with tempfile.TemporaryDirectory() as folder:
        truth = write_landing_day(Path(folder), day, ground.events, SEED)
        text = (Path(folder) / str(day) / "events.csv").read_bytes()
    return f"{layout.EXPORTS}drill-{day}.csv.gz", gzip.compress(text), int(truth["distinct"])
