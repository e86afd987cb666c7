"""Airflow's pages on a running stack, in Chromium: forms as an operator fills them in, and the dashboard."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, Response, expect

from local.drills.ground import SEED, Ground
from local.events.files import write_landing_day
from local.hand.shop import clients
from local.root import ROOT
from local.stack import control, emulators, services
from local.stack.airflow_client import ANSWER_AFTER_SECONDS, AirflowClient
from shopstream import layout
from shopstream.dashboard.in_airflow import PAGES, PREFIX
from shopstream.settings import settings
from tests.airflow_home import check_last_words
from tests.plugins.dashboard.browser import Reader
from tests.plugins.dashboard.browser import browser as browser
from tests.sql.events import fill, rows_of, stream_event

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(2400)]

LOADED, MISSING, BAD, EXPORTED = (dt.date(2020, 3, day) for day in (1, 2, 3, 4))
EVENTS = 1_000
PICTURES = ROOT / "build" / "airflow-pages"
PATIENCE_MS = 120_000
PRESSES = 5
OURS = re.compile(r"(^|\.)(shopstream|beam_jobs)\.")
DAGS = sorted(file.stem for file in (ROOT / "dags").glob("*.py"))
GOOD_MESSAGE = b"2020-02-29 08:00:00 UTC,view,7,2,,,1.00,520088904,s"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A stack of its own, with one small day loaded and summarised, and two others landed."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    folder = tmp_path_factory.mktemp("stack")
    ports = {variable: str(emulators.free_port()) for variable in services.DEFAULT_PORTS}
    variables = {**os.environ, **ports, "SHOPSTREAM_STACK_DIR": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        try:
            subprocess.run([sys.executable, "-m", "local.hand", "up"], env=variables, check=True)
            patch.setattr(control, "STATE", folder)
            for name, value in control.environment().items():
                patch.setenv(name, value)
            yield _filled()
        finally:
            subprocess.run([sys.executable, "-m", "local.stack", "down"], env=variables, check=True)


def _filled() -> Ground:
    airflow = AirflowClient(control.airflow_url(), *control.airflow_login())
    airflow.wait_for_dags(DAGS)
    spanner, bigquery, storage = clients()
    bucket = storage.bucket(settings().bucket)
    ground = Ground(airflow, bigquery, spanner, bucket, print, EVENTS, 0.0, LOADED)
    for day, bad_share in ((LOADED, 0.005), (BAD, 0.05), (MISSING, 0.0)):
        ground.land(day, bad_share=bad_share)
    ground.ends_well("load_events_daily", ground.load(LOADED))
    ground.until(
        lambda: rows_of(bigquery, f"SELECT 1 FROM shop_ops.check_results WHERE event_date = '{LOADED}'"),
        "the summaries of the day",
    )
    return ground


class Operator:
    """Somebody at Airflow's pages, who leaves a picture of each step in PICTURES."""

    def __init__(self, reader: Reader, ground: Ground) -> None:
        self.reader, self.page, self.ground = reader, reader.page, ground
        reader.context.set_default_timeout(PATIENCE_MS)

    def log_in(self) -> None:
        """Log in as a person does, by the page on which Airflow puts a stranger."""
        username, password = control.airflow_login()
        self.page.goto(control.airflow_url())
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.picture("login")
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Plugins").wait_for()

    def trigger(self, dag_id: str, **values: Any) -> str:
        """Fill in a DAG's form and submit it; returns the run's id."""
        self.open_form(dag_id)
        for name, value in values.items():
            self.fill(name, value)
        self.picture(f"{dag_id}-form")
        answered = self.press(self.page.get_by_test_id("trigger-dag-submit"), rf"/dags/{dag_id}/dagRuns$")
        told = answered.json()
        assert answered.ok, told
        # The page goes to the run by itself.
        self.page.wait_for_url(re.compile(rf"/dags/{dag_id}/runs/"))
        return str(told["dag_run_id"])

    def press(self, button: Locator, path: str) -> Response:
        """Press a button that asks Airflow at this path, and again as long as it says that it has failed.

        On SQLite it does so when two of its threads wait for each other's write.
        """
        for _ in range(PRESSES):
            with self.page.expect_response(re.compile(path)) as answered:
                button.click()
            if answered.value.status < requests.codes.server_error:
                break
        return answered.value

    def refused(self, dag_id: str, **values: Any) -> str:
        """Submit a form that should not be taken; returns what the page says."""
        self.open_form(dag_id)
        for name, value in values.items():
            self.fill(name, value)
        self.page.get_by_test_id("trigger-dag-submit").click()
        told = self.page.get_by_role("dialog").get_by_text("Invalid input for param")
        expect(told).to_be_visible(timeout=PATIENCE_MS)
        self.picture(f"{dag_id}-refused")
        return told.inner_text()

    def open_form(self, dag_id: str) -> None:
        """Open the form behind the button Trigger of a DAG's page."""
        self.page.goto(f"{control.airflow_url()}/dags/{dag_id}")
        self.page.get_by_test_id("trigger-dag-button").click()
        self.page.get_by_test_id("trigger-dag-submit").wait_for()

    def fill(self, name: str, value: Any) -> None:
        """Fill in one field of the form that is open; its label is bound to it in none of Airflow's kinds."""
        field = self.page.locator(f"[name=element_{name}]")
        choice = self.page.locator(f"#element_{name} [role=combobox]")
        if isinstance(value, bool):
            if field.is_checked() != value:
                self.page.locator("label").filter(has=field).click()
        elif choice.count():
            choice.fill(value)
            self.page.get_by_role("option", name=value, exact=True).click()
        else:
            field.fill(str(value))

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, reason: str) -> str:
        """Open the question on the run's page and answer it; returns what is asked there."""
        self.ground.await_task(dag_id, run_id, task_id, "awaiting_input")
        time.sleep(ANSWER_AFTER_SECONDS)  # no person reads faster
        self.page.goto(f"{control.airflow_url()}/dags/{dag_id}/runs/{run_id}")
        self.page.get_by_role("button", name=re.compile("Required Actions")).click()
        question = self.page.get_by_role("dialog")
        chosen = question.get_by_role("button", name=option)
        expect(chosen).to_be_disabled(timeout=PATIENCE_MS)
        self.picture(f"{dag_id}-question")
        self.fill("reason", reason)
        self.picture(f"{dag_id}-answer")
        asked = question.inner_text()
        window, button = question.bounding_box(), question.get_by_role("button").last.bounding_box()
        assert window
        assert button
        assert button["x"] + button["width"] <= window["x"] + window["width"]
        answered = self.press(chosen, "/hitlDetails$")
        assert (answered.request.method, answered.status) == ("PATCH", 200)
        return asked

    def ends_well(self, dag_id: str, run_id: str) -> None:
        """Wait for the run's success."""
        self.ground.ends_well(dag_id, run_id)

    def reads(self, dag_id: str, run_id: str, task_id: str, words: str | re.Pattern[str]) -> None:
        """Read these words in a task's log, on its page."""
        self.page.goto(f"{control.airflow_url()}/dags/{dag_id}/runs/{run_id}/tasks/{task_id}")
        line = self.page.get_by_text(words).first
        expect(line).to_be_visible(timeout=PATIENCE_MS)
        self.picture(f"{dag_id}-{task_id}-log")

    def picture(self, name: str) -> None:
        """Keep what the page looks like."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        number = len(list(PICTURES.glob("[0-9]*.png")))
        self.page.screenshot(path=PICTURES / f"{number:02} {name}.png", animations="disabled")


@pytest.fixture
def operator(browser: Browser, ground: Ground) -> Iterator[Operator]:
    """Somebody who has logged in."""
    with operating(browser, ground) as somebody:
        somebody.log_in()
        yield somebody


@contextmanager
def operating(browser: Browser, ground: Ground) -> Iterator[Operator]:
    """Somebody at a browser that knows nothing yet."""
    with Reader(browser, control.airflow_url()) as reader:
        reader.end_login()
        yield Operator(reader, ground)


def test_a_day_with_many_bad_lines_is_published_by_the_answer_on_its_page_with_its_reason(
    operator: Operator, ground: Ground
) -> None:
    run_id = operator.trigger("load_events_daily", landing_day=BAD)
    asked = operator.answer("load_events_daily", run_id, "gate", "Publish anyway", "lines of a test shop")
    operator.ends_well("load_events_daily", run_id)
    [row] = ground.query("SELECT * FROM shop_ops.loads WHERE landing_day = @day", BAD)
    assert (row["approved_by"], row["approval_reason"]) == ("admin", "lines of a test shop")
    assert f"{row['rejected']:,} of {row['read']:,} lines" in asked
    assert "bad_" in asked
    assert ground.count_day(BAD, row["accepted"] - row["duplicates"]) == (0, 0)
    operator.reads("load_events_daily", run_id, "gate", "admin has it published: lines of a test shop")


def test_an_export_is_landed_by_its_form_and_again_as_the_same_files_and_what_lies_beside_them_is_named(
    operator: Operator, ground: Ground, tmp_path: Path
) -> None:
    truth = write_landing_day(tmp_path, EXPORTED, EVENTS, SEED)
    ground.bucket.blob("exports/march.csv").upload_from_filename(tmp_path / str(EXPORTED) / "events.csv")

    def landed() -> dict[str, bytes]:
        blobs = ground.bucket.list_blobs(prefix=f"{layout.landing(EXPORTED)}/")
        return {blob.name.rpartition("/")[2]: blob.download_as_bytes() for blob in blobs}

    assert "exports/ and a name that ends in .csv" in operator.refused("land_export", object="march.csv")
    assert landed() == {}
    found = []
    for _ in range(2):
        run_id = operator.trigger("land_export", object="exports/march.csv")
        operator.ends_well("land_export", run_id)
        found.append(landed())
    operator.reads("land_export", run_id, "split_into_days", re.compile(f"rows: {truth['rows']:,}, days: 1,"))
    assert sorted(found[0]) == [layout.SUCCESS, "march-00000.csv"]
    assert found[0] == found[1]

    beside = ground.bucket.blob("landing/events/2020-3-5/a.csv")
    beside.upload_from_string(b"")
    looked = operator.trigger("watch_days")
    ground.fails("watch_days", looked, "name_missing_days", beside.name.rpartition("/")[0])
    operator.reads("watch_days", looked, "name_missing_days", re.compile("so that no load reads it"))
    beside.delete()
    looked = operator.trigger("watch_days")
    operator.ends_well("watch_days", looked)
    operator.reads("watch_days", looked, "name_missing_days", re.compile("Every day .* is loaded as it was"))


def test_missing_days_are_planned_then_loaded_and_then_there_is_nothing_to_do(
    operator: Operator, ground: Ground
) -> None:
    days = {"what": "load", "first_day": LOADED, "last_day": MISSING}

    def loads() -> list[tuple[Any, ...]]:
        sql = "SELECT landing_day, load_id FROM shop_ops.loads WHERE landing_day <= @day ORDER BY landing_day"
        return [tuple(row.values()) for row in ground.query(sql, MISSING)]

    before = loads()
    dry = operator.trigger("backfill_days", **days)
    operator.ends_well("backfill_days", dry)
    operator.reads("backfill_days", dry, "plan", "This was a dry run, and nothing is changed.")
    assert loads() == before

    real = operator.trigger("backfill_days", **days, dry_run=False)
    operator.ends_well("backfill_days", real)
    operator.reads("backfill_days", real, "tell_outcome", str(MISSING))
    after = loads()
    assert [day for day, _ in after] == [LOADED, MISSING]
    assert after[:1] == before

    again = operator.trigger("backfill_days", **days, dry_run=False)
    operator.ends_well("backfill_days", again)
    operator.reads("backfill_days", again, "tell_outcome", "There was nothing to do.")
    assert loads() == after


def test_summaries_are_built_and_judged_and_the_day_is_told_by_their_forms(
    operator: Operator, ground: Ground
) -> None:
    def counted() -> list[tuple[Any, ...]]:
        sql = "SELECT * FROM shop.daily_event_count WHERE event_date = @day ORDER BY event_type"
        return [tuple(row.values()) for row in ground.query(sql, LOADED)]

    before = counted()
    ground.bigquery.query_and_wait(f"DELETE FROM shop.daily_event_count WHERE event_date = '{LOADED}'")
    dry = operator.trigger("build_summaries", first_day=LOADED)
    operator.ends_well("build_summaries", dry)
    operator.reads("build_summaries", dry, "dry_run", re.compile("bring [1-9].* nothing is changed"))
    assert counted() == []
    for _ in range(2):
        real = operator.trigger("build_summaries", first_day=LOADED, dry_run=False)
        operator.ends_well("build_summaries", real)
        assert counted() == before
    told = f"shop.daily_event_count is built for 1 day, {LOADED}, and checked"
    operator.reads("build_summaries", real, "summaries.daily_event_count", told)

    judged = operator.trigger("watch_figures", first_day=LOADED)
    operator.ends_well("watch_figures", judged)
    operator.reads("watch_figures", judged, "judge_figures", "Days looked at: 1; figures not as usual: 0")
    digest = operator.trigger("tell_digest", landing_day=LOADED)
    operator.ends_well("tell_digest", digest)
    operator.reads("tell_digest", digest, "digest", re.compile(f"SHOPSTREAM DIGEST .* {LOADED}: loaded "))


def test_a_message_that_passes_now_is_replayed_once(operator: Operator, ground: Ground) -> None:
    reject = {
        "source": "stream",
        "rejected_date": LOADED,
        "raw": GOOD_MESSAGE,
        "line_bytes": len(GOOD_MESSAGE),
        "reason": "bad_price",
        "detail": "as an older contract had it",
        "rejected_at": dt.datetime(2020, 3, 1, 8, tzinfo=dt.UTC),
        "message_id": "1",
    }
    fill(ground.bigquery, "shop_raw.rejected_events_stream", [reject])
    asked = {"path": "stream", "first_day": LOADED, "reason": "bad_price"}

    def replays() -> list[dict[str, Any]]:
        return rows_of(ground.bigquery, "SELECT * FROM shop_ops.replays WHERE source = 'stream'")

    dry = operator.trigger("replay_rejected_events", **asked)
    operator.ends_well("replay_rejected_events", dry)
    operator.reads("replay_rejected_events", dry, "replay", "Of 1, 1 would pass now.")
    assert replays() == []

    real = operator.trigger("replay_rejected_events", **asked, dry_run=False)
    operator.ends_well("replay_rejected_events", real)
    operator.reads("replay_rejected_events", real, "replay", "Published again: 1 of 1 messages.")
    [row] = replays()
    assert (row["run_id"], row["replayed_by"], row["judged"], row["passed"]) == (real, "admin", 1, 1)

    again = operator.trigger("replay_rejected_events", **asked, dry_run=False)
    operator.ends_well("replay_rejected_events", again)
    operator.reads("replay_rejected_events", again, "replay", "There is no reject of these days")
    assert replays() == [row]


def test_the_dashboard_opens_from_the_navigation_and_its_numbers_are_the_tables(
    operator: Operator,
    ground: Ground,
    browser: Browser,
) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0, tzinfo=None)
    fill(ground.bigquery, "shop_raw.events_stream", [stream_event(event_id="live", event_time=now)])
    [customer] = ground.query(
        "SELECT user_id, COUNT(*) AS events FROM shop.events WHERE event_date >= @day GROUP BY user_id "
        "ORDER BY events DESC, user_id LIMIT 1",
        LOADED,
    )
    asked: list[str] = []
    said: list[str] = []

    def open_page(name: str) -> Page:
        operator.page.goto(control.airflow_url())
        operator.page.get_by_role("button", name="Plugins").click()
        entry = operator.page.get_by_role("menuitem", name=f"Shop: {name}")
        expect(entry).to_be_visible(timeout=PATIENCE_MS)
        with operator.reader.context.expect_page() as opened:
            entry.click()
        page = opened.value
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda told: said.append(told.text) if told.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.reload()
        page.wait_for_load_state("networkidle", timeout=PATIENCE_MS)
        expect(page.locator(".waiting")).to_have_count(0, timeout=PATIENCE_MS)
        return page

    def picture(page: Page, name: str) -> None:
        page.screenshot(path=PICTURES / f"dashboard {name}.png", full_page=True)

    page = open_page("purchasing")
    picture(page, "purchasing")
    days = [page.get_by_label(label, exact=True).input_value() for label in ("From", "To")]
    shown = {
        figure.locator("dt").inner_text(): figure.locator(".big").get_attribute("title")
        for figure in page.locator(".figure").all()
    }
    [true] = rows_of(
        ground.bigquery,
        "SELECT COUNT(*) AS events, COUNT(DISTINCT IF(event_type = 'purchase', "
        "CONCAT(event_date, '/', user_id, '/', user_session), NULL)) AS orders, "
        "SUM(IF(event_type = 'purchase', price, 0)) AS revenue FROM shop.events "
        f"WHERE event_date BETWEEN '{days[0]}' AND '{days[1]}'",
    )
    assert true["orders"] > 0
    assert shown["Events"] == f"{true['events']:,}"
    assert shown["Orders"] == f"{true['orders']:,}"
    assert shown["Revenue"] == f"USD\N{NO-BREAK SPACE}{true['revenue']:,.2f}".removesuffix(".00")

    page = open_page("live")
    expect(page.get_by_role("heading", name="The last 60 minutes")).to_be_visible()
    expect(page.locator(".figure").first).to_be_visible()
    picture(page, "live")

    page = open_page("customer")
    page.get_by_label("Customer's number (user_id)").fill(str(customer["user_id"]))
    page.get_by_role("button", name="Show the journey").click()
    told = page.locator(".verdict")
    expect(told).to_contain_text(f"· {customer['events']} events ·", timeout=PATIENCE_MS)
    picture(page, "customer")

    page = open_page("pipelines")
    expect(page.get_by_role("heading", name="Was every day loaded?")).to_be_visible()
    expect(page.get_by_role("heading", name="Are the promises kept?")).to_be_visible()
    picture(page, "pipelines")
    assert said == []

    ours = sorted({url for url in asked if f"{PREFIX}/" in url})
    assert len(ours) > 20
    assert {f"{control.airflow_url()}{PREFIX}/{name}" for name in PAGES} <= set(ours)
    with operating(browser, ground) as stranger:
        refused = {url: stranger.reader.context.request.get(url).status for url in ours}
        assert set(refused.values()) == {401}, refused
        answer = stranger.page.goto(ours[0])
        assert answer is not None
        assert answer.status == 401


def test_a_customer_is_counted_then_forgotten_by_an_answer_and_then_found_nowhere(
    operator: Operator, ground: Ground
) -> None:
    [customer] = ground.query(
        "SELECT CAST(user_id AS STRING) AS user_id, COUNT(*) AS events FROM shop.events "
        "WHERE event_date = @day GROUP BY user_id ORDER BY events DESC, user_id LIMIT 1",
        LOADED,
    )
    user_id = customer["user_id"]

    def rows() -> int:
        sql = f"SELECT COUNT(*) AS found FROM shop.events WHERE event_date >= @day AND user_id = {user_id}"
        return int(ground.query(sql, LOADED)[0]["found"])

    before = rows()
    assert "digits alone, such as 520088904" in operator.refused("forget_customer", user_id="Maria")
    dry = operator.trigger("forget_customer", user_id=user_id)
    operator.ends_well("forget_customer", dry)
    operator.reads("forget_customer", dry, "count", "Customers: 1. Found of them:")
    assert rows() == before > 0

    real = operator.trigger("forget_customer", user_id=user_id, dry_run=False)
    asked = operator.answer("forget_customer", real, "approve", "Forget", "request 17")
    assert "Spanner" in asked
    operator.ends_well("forget_customer", real)
    operator.reads("forget_customer", real, "prove", "holds nothing of them")
    assert rows() == 0
    [row] = rows_of(ground.bigquery, "SELECT * FROM shop_ops.forgotten_customers")
    assert (row["run_id"], row["approved_by"], row["reason"]) == (real, "admin", "request 17")
    assert user_id not in str(dict(row))

    again = operator.trigger("forget_customer", user_id=user_id)
    operator.ends_well("forget_customer", again)
    found = ground.airflow.returned("forget_customer", again, "count")["found"]
    assert set(found.values()) == {0}


def test_the_stream_is_started_fed_held_against_a_days_load_and_stopped_by_their_forms(
    operator: Operator, ground: Ground
) -> None:
    def count(table: str, condition: str = "event_date = @day", what: str = "DISTINCT event_id") -> int:
        sql = f"SELECT COUNT({what}) AS found FROM {table} WHERE {condition}"
        return int(ground.query(sql, LOADED)[0]["found"])

    started = operator.trigger("keep_stream_alive")
    operator.ends_well("keep_stream_alive", started)
    told = re.compile("shop-stream running, .* as asked by hand")
    operator.reads("keep_stream_alive", started, "keep_alive", told)
    played = operator.trigger("simulate_stream", landing_day=LOADED, speed="")
    operator.ends_well("simulate_stream", played)
    operator.reads("simulate_stream", played, "publish_events", re.compile(f"published, up to {LOADED}"))
    loaded = count("shop_raw.events_batch")
    ground.until(lambda: count("shop_raw.events_stream") == loaded, "the stream to bring the day")
    for _ in range(2):
        compared = operator.trigger("compare_stream_with_batch", first_day=LOADED)
        operator.ends_well("compare_stream_with_batch", compared)
        rows = ground.query("SELECT * FROM shop_ops.stream_completeness WHERE event_date = @day", LOADED)
        assert sum(row["stream_events"] for row in rows) == loaded
        assert {(row["level"], row["only_in_batch"], row["only_in_stream"]) for row in rows} == {("ok", 0, 0)}
    operator.reads("compare_stream_with_batch", compared, "compare", re.compile("by their levels: ok 1"))

    now = f"event_date > '{EXPORTED}'"
    expected = count("shop_raw.events_stream", now, "*") + 60
    played = operator.trigger("simulate_stream", landing_day=MISSING, speed="", times_of_now=True, limit=60)
    operator.ends_well("simulate_stream", played)
    ground.until(
        lambda: count("shop_raw.events_stream", now, "*") >= expected, "the stream to bring what is now"
    )
    built = operator.trigger("build_summaries_intraday")
    operator.ends_well("build_summaries_intraday", built)
    told = re.compile("shop.daily_event_count is built for .*, and checked")
    operator.reads("build_summaries_intraday", built, "summaries.daily_event_count", told)
    [row] = rows_of(ground.bigquery, f"SELECT SUM(events) AS events FROM shop.daily_event_count WHERE {now}")
    assert row["events"] == count("shop.events", now) > 0

    for how, active in (("drain", "DRAINED"), ("cancel", "0 jobs were active")):
        stopped = operator.trigger("stop_stream", how=how)
        operator.ends_well("stop_stream", stopped)
        told = re.compile(f"The stream is stopped: .*{active}")
        operator.reads("stop_stream", stopped, "wait_for_end", told)
    assert json.loads(str(ground.airflow.variable("shopstream_stream")))["desired"] == "stopped"


def test_each_task_of_these_runs_told_what_it_did_in_a_sentence_and_nothing_personal_and_no_library_warned(
    ground: Ground,
) -> None:
    walked, faults = set(), []
    seen = ground.query(
        "SELECT DISTINCT user_id, user_session FROM shop.events WHERE event_date >= @day", LOADED
    )
    # What is as short may be a count: the generator's are longer, only messages of single tests are not.
    customers = {text for row in seen for value in dict(row).values() if len(text := str(value)) > 5}
    assert len(customers) > EVENTS / 10
    for dag_id in DAGS:
        for run_id in ground.airflow.runs(dag_id, since=""):
            for task in ground.airflow.tasks(dag_id, run_id):
                entries = ground.airflow.log(task) if task["try_number"] else []
                words = {word for entry in entries for word in re.split(r"\\.|[^\w-]+", json.dumps(entry))}
                faults += [f"{dag_id} {task['task_id']} names {known}" for known in words & customers]
                if task["state"] != "success":
                    continue
                entries = [entry for entry in entries if entry.get("logger")]
                ours = [entry for entry in entries if OURS.search(entry["logger"])]
                walked.add((dag_id, task["task_id"]))
                faults += [
                    f"{dag_id} {task['task_id']}: {entry['event']}"
                    for entry in entries
                    if entry not in ours and entry["level"] not in ("debug", "info")
                ]
                if task["task_id"] != "load_days":  # Airflow's own operator
                    check_last_words(task["task_id"], [entry["event"] for entry in ours])
    assert faults == []
    assert sorted({dag_id for dag_id, _ in walked}) == DAGS
