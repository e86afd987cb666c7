"""app: who may not read sees nothing, questions are checked, and the page's numbers are the tables'."""

from __future__ import annotations

import csv
import datetime as dt
import io
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any

import pytest
import requests
import vl_convert
from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1.database import Database

from shopstream.charts import DRAW, LIBRARY, chart_names, read_spec, read_theme
from shopstream.dashboard.app import MAX_DAYS, SQL_DIR, STATIC_DIR, THREADS, create_app
from shopstream.dashboard.stores import BigQueryStore, SpannerStore, StoreFailed
from tests.plugins.dashboard.browser import serving
from tests.plugins.dashboard.small_shop import HOSTILE, fill_shop
from tests.sql.events import fill, stream_event
from tools.vega_bundle import VEGA_LITE

BOTH = {"first_day": "2019-11-01", "last_day": "2019-11-02"}


def refuse() -> str:
    raise HTTPException(401, "Not authenticated")


def no_store() -> bigquery_api.Client:
    raise ConnectionError("there is no BigQuery here, of project secret-project")


@pytest.fixture(scope="session")
def strangers_app() -> FastAPI:
    return create_app(refuse, BigQueryStore(no_store), SpannerStore(no_store))


@pytest.fixture(scope="session")
def alone() -> TestClient:
    """The application for somebody who may read, without any store."""
    return TestClient(create_app(lambda: "a reader", BigQueryStore(no_store), SpannerStore(no_store)))


@pytest.fixture(scope="module")
def shop(bigquery_tables_of_file: bigquery_api.Client) -> TestClient:
    """The application over two days of events, summarised."""
    bigquery = bigquery_tables_of_file
    fill_shop(bigquery)
    return TestClient(create_app(lambda: "a reader", BigQueryStore(lambda: bigquery), SpannerStore(no_store)))


def rows(shop: TestClient, chart: str, **params: str) -> list[dict[str, Any]]:
    answer = shop.get(f"/api/charts/{chart}", params=BOTH | params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["rows"]
    return found


def test_a_stranger_is_refused_on_every_route_by_every_method_and_where_there_is_none(
    strangers_app: FastAPI,
) -> None:
    stranger = TestClient(strangers_app)
    asked = {
        ("GET", path)
        for path in ("/docs", "/redoc", "/openapi.json", "/static/", "/a/b", "/static/../app.py")
    }
    for route in strangers_app.routes:
        path = re.sub(r"\{name\}", "vega.js", route.path).replace("{path:path}", "nowhere")  # type: ignore[attr-defined]
        asked |= {(method, path) for method in route.methods}  # type: ignore[attr-defined]
    assert len(asked) > 20
    for method, path in asked:
        answer = stranger.request(method, path)
        assert answer.status_code == 401, (method, path)
        assert answer.text in ("", '{"detail":"Not authenticated"}'), (method, path)


def test_every_route_depends_on_the_guard_itself(strangers_app: FastAPI) -> None:
    """A mounted application, such as one of static files, would not."""
    for route in strangers_app.routes:
        calls = [dependency.call for dependency in route.dependant.dependencies]  # type: ignore[attr-defined]
        assert refuse in calls, route


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/charts", "/api/days", "/nowhere"])
def test_every_answer_forbids_foreign_and_inline_scripts_and_being_kept(alone: TestClient, path: str) -> None:
    headers = alone.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "private, no-cache"


class Parsed(HTMLParser):
    """The elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_the_page_names_only_files_that_there_are_relative_to_wherever_it_is(alone: TestClient) -> None:
    elements = Parsed(alone.get("/").text).elements
    files = [attrs.get("src") or attrs["href"] for tag, attrs in elements if tag in ("script", "link")]
    scripts = [attrs for tag, attrs in elements if tag == "script"]
    assert all("src" in attrs for attrs in scripts)
    assert not [
        attrs for _, attrs in elements if "style" in attrs or any(name.startswith("on") for name in attrs)
    ]
    named = [file for file in files if file and file != "data:,"]
    # All of them, so that the browser fetches no script only once another that imports it has come.
    assert {file.removeprefix("static/") for file in named} == {
        path.name for path in (*STATIC_DIR.iterdir(), LIBRARY, DRAW) if path.suffix != ".html"
    }
    assert len(named) == len(set(named))
    for file in named:
        assert file.startswith("static/")
        assert alone.get(f"/{file}").status_code == 200


def test_the_files_of_a_page_weigh_less_than_1200_kilobytes_and_are_sent_compressed(
    alone: TestClient,
) -> None:
    names = ["vega.js", "draw.js", *(path.name for path in STATIC_DIR.iterdir())]
    answers = [alone.get(f"/static/{name}", headers={"Accept-Encoding": "gzip"}) for name in names]
    assert sum(len(answer.content) for answer in answers) < 1_200_000
    assert answers[0].headers["Content-Encoding"] == "gzip"


def test_a_file_that_a_browser_has_is_not_sent_again(alone: TestClient) -> None:
    tag = alone.get("/static/vega.js").headers["ETag"]
    again = alone.get("/static/vega.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_no_script_makes_html_of_a_text() -> None:
    for path in STATIC_DIR.glob("*.js"):
        forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
        assert not re.findall(forbidden, path.read_text()), path.name


@pytest.mark.parametrize(
    ("path", "params", "status", "told"),
    [
        (
            "/api/charts/daily_event_count",
            {"first_day": "2019-11-02", "last_day": "2019-11-01"},
            422,
            "swap them",
        ),
        (
            "/api/charts/daily_event_count",
            {"first_day": "2019-01-01", "last_day": "2020-11-01"},
            422,
            f"{MAX_DAYS} days",
        ),
        (
            "/api/charts/daily_event_count",
            {"first_day": "yesterday", "last_day": "2019-11-01"},
            422,
            "valid date",
        ),
        ("/api/charts/daily_event_count", {"first_day": "2019-11-01"}, 422, "last_day"),
        (
            "/api/charts/daily_event_count",
            BOTH | {"sub_category": "audio"},
            422,
            "sub_category is no parameter here",
        ),
        ("/api/charts/daily_event_count", BOTH | {"brand": "x" * 201}, 422, "200 characters"),
        ("/api/charts/events", BOTH, 404, "there is no chart 'events'"),
        ("/api/charts/events.csv", BOTH, 404, "there is no chart 'events'"),
        ("/api/headline", {"first_day": "2019-11-02", "last_day": "2019-11-01"}, 422, "swap them"),
        ("/api/pipelines/raw", BOTH, 404, "there are checked, checks, completeness"),
        ("/static/app.py", {}, 404, "no such file"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_the_reason(
    alone: TestClient, path: str, params: dict[str, str], status: int, told: str
) -> None:
    answer = alone.get(path, params=params)
    assert answer.status_code == status
    assert told in answer.text


def test_a_store_that_fails_is_named_in_its_card_and_what_it_said_is_for_the_log(alone: TestClient) -> None:
    answer = alone.get("/api/charts/daily_event_count", params=BOTH)
    assert answer.status_code == 503
    assert answer.json()["store"] == "BigQuery"
    assert "secret-project" not in answer.text
    assert alone.get("/api/charts").status_code == 200


def test_questions_that_wait_for_a_store_hold_up_nothing_else() -> None:
    go, waiting = threading.Event(), threading.Semaphore(0)

    def stuck() -> Database:
        waiting.release()
        go.wait(60)
        raise ConnectionError

    app = create_app(lambda: "a reader", BigQueryStore(no_store), SpannerStore(stuck))
    with serving(app) as url, ThreadPoolExecutor() as readers:
        question = f"{url}/api/customer?user_id=7&last_day=2019-11-02"
        asked = [readers.submit(requests.get, question, timeout=60) for _ in range(2 * THREADS)]
        try:
            assert waiting.acquire(timeout=20)
            assert requests.get(f"{url}/static/main.js", timeout=20).status_code == 200
        finally:
            go.set()
        assert {answer.result().status_code for answer in asked} == {503}


def test_spanners_client_is_begun_to_be_made_with_the_page_of_customers_alone() -> None:
    asked = threading.Event()

    def no_spanner() -> Database:
        asked.set()
        raise ConnectionError

    reader = TestClient(create_app(lambda: "a reader", BigQueryStore(no_store), SpannerStore(no_spanner)))
    reader.get("/pipelines")
    assert not asked.wait(0.1)
    assert reader.get("/customer").status_code == 200
    assert asked.wait(10)


def test_every_chart_is_described_with_its_specification_and_filters(alone: TestClient) -> None:
    told = alone.get("/api/charts").json()
    assert [chart["name"] for chart in told["charts"]] == chart_names()
    filters = {chart["name"]: chart["filters"] for chart in told["charts"]}
    assert filters["product_performance"] == ["subcategory", "brand"]
    assert filters["purchase_funnels"] == ["subcategory"]
    assert filters["daily_event_count"] == []


@pytest.mark.integration
@pytest.mark.parametrize("chart", chart_names())
def test_every_chart_answers_with_the_query_that_made_its_rows(shop: TestClient, chart: str) -> None:
    told = shop.get(f"/api/charts/{chart}", params=BOTH).json()
    # The second day, whose state these show, had no purchase; the first one's customers still have bought.
    assert told["rows"]
    assert list(told["rows"][0]) == list(told["types"])
    assert "shop_raw" not in told["sql"]
    assert told["age_seconds"] >= 0
    spec = read_spec(chart) | {"config": read_theme(), "datasets": {chart: told["rows"]}}
    drawn = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    assert len(re.findall(r'aria-roledescription="(?:bar|point|rect mark|text mark)', drawn)) > 0
    for axis in re.findall(r"role-axis-label.*?</g>", drawn, re.DOTALL):
        numbers = re.findall(r">([\d,.]+\w*)</text>", axis)
        assert len(numbers) == len(set(numbers)), "a number stands at an axis twice"
        assert not [number for number in numbers if number.endswith("m")], "thousandths"


@pytest.mark.integration
@pytest.mark.parametrize("chart", ["brand_performance", "product_performance", "daily_event_count"])
def test_the_query_of_a_card_runs_as_it_is_and_names_what_makes_its_tables(
    shop: TestClient, bigquery: bigquery_api.Client, chart: str
) -> None:
    for chosen in ({}, {"brand": HOSTILE}, {"brand": 'a"b\\c\nd@brand'}):
        told = shop.get(f"/api/charts/{chart}", params=BOTH | chosen).json()
        made_by = f"-- shop.{chart} is made by sql/bigquery/shop/{chart}/"
        assert told["sql"].splitlines()[0] == made_by
        assert [list(row.keys()) for row in bigquery.query_and_wait(told["sql"])] == [
            list(row) for row in told["rows"]
        ]


@pytest.mark.integration
def test_the_numbers_are_those_of_the_events(shop: TestClient) -> None:
    events = {
        (row["event_date"], row["event_type"]): row["events"] for row in rows(shop, "daily_event_count")
    }
    assert events == {
        ("2019-11-01", "view"): 3,
        ("2019-11-01", "cart"): 1,
        ("2019-11-01", "purchase"): 3,
        ("2019-11-02", "view"): 1,
        ("2019-11-02", "cart"): 1,
    }
    assert [row["revenue"] for row in rows(shop, "revenue_daily")] == [107.25, 0]
    steps = {(row["funnel"], row["step"]): row["sessions"] for row in rows(shop, "purchase_funnels")}
    assert steps == {
        ("view, cart, purchase", "viewed"): 4,
        ("view, cart, purchase", "then put into the cart"): 1,
        ("view, cart, purchase", "then purchased"): 1,
        ("view, purchase", "viewed"): 4,
        ("view, purchase", "then purchased"): 1,
    }
    assert [(row["subcategory"], row["views"]) for row in rows(shop, "most_visited_subcategories")] == [
        ("smartphone", 3),
        ("kitchen", 1),
    ]
    carts = {
        row["subcategory"]: (row["carts"], row["abandoned_carts"])
        for row in rows(shop, "cart_abandonment_by_subcategory")
    }
    assert carts == {"smartphone": (1, 0), "no sub-category": (1, 1)}
    assert [row["customers"] for row in rows(shop, "customer_purchases")] == [2]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("day", "recency", "segments"),
    [
        # Of ten the best two bought yesterday, and the others today.
        ("2020-03-01", (1, 0), {"loyal": 2, "recent": 8}),
        # The same two have not been there for a month.
        ("2020-03-02", (30, 0), {"at risk": 2, "recent": 8}),
        # All are long gone, the two not as long: none of them bought lately.
        ("2020-03-03", (40, 80), {"loyal": 2, "others": 8}),
    ],
)
def test_whoever_bought_in_the_last_30_days_is_not_at_risk_and_nobody_else_is_recent(
    shop: TestClient,
    bigquery: bigquery_api.Client,
    day: str,
    recency: tuple[int, int],
    segments: dict[str, int],
) -> None:
    best, rest = recency
    for user in range(10):
        days, often = (best, 5) if user < 2 else (rest, 1)
        score = 5 if days < max(recency) else 1
        bigquery.query_and_wait(
            "INSERT INTO shop.customer_value (event_date, user_id, last_purchase_date, recency_days, orders, "
            "revenue, recency_score, frequency_score, monetary_score) VALUES "
            f"('{day}', {user}, DATE_SUB('{day}', INTERVAL {days} DAY), {days}, 1, 10, {score}, {often}, 1)"
        )
    told = rows(shop, "customer_value", first_day=day, last_day=day)
    assert {row["segment"]: row["customers"] for row in told} == segments


@pytest.mark.integration
def test_the_headline_counts_a_buyer_once(shop: TestClient) -> None:
    told = shop.get("/api/headline", params=BOTH).json()["rows"]
    assert [(row["events"], row["orders"], row["revenue"]) for row in told] == [(7, 2, 107.25), (2, 0, 0)]
    assert {row["buyers_of_the_range"] for row in told} == {2}
    assert [(row["viewing_sessions"], row["converted_sessions"]) for row in told] == [(3, 2), (1, 0)]


@pytest.mark.integration
def test_a_filter_shows_its_products_alone(shop: TestClient) -> None:
    products = rows(shop, "product_performance", subcategory="kitchen")
    assert [row["product_id"] for row in products] == [3]
    assert [row["product_id"] for row in rows(shop, "product_performance", brand=HOSTILE)] == [2]
    steps = rows(shop, "purchase_funnels", subcategory="kitchen")
    assert {row["sessions"] for row in steps if row["step"] == "viewed"} == {1}
    [headline] = shop.get("/api/headline", params=BOTH | {"brand": HOSTILE}).json()["rows"]
    assert (headline["views"], headline["purchases"], headline["revenue"]) == (1, 1, 7)


@pytest.mark.integration
def test_days_are_told_with_whether_they_will_change(shop: TestClient) -> None:
    told = shop.get("/api/days").json()["rows"]
    assert [(row["event_date"], row["is_provisional"]) for row in told] == [
        ("2019-11-02", True),
        ("2019-11-01", False),
    ]


@pytest.mark.integration
def test_a_name_out_of_the_data_is_text_in_json_and_no_formula_in_csv(shop: TestClient) -> None:
    answer = shop.get("/api/charts/brand_performance", params=BOTH)
    assert answer.headers["Content-Type"] == "application/json"
    assert HOSTILE in [row["brand"] for row in answer.json()["rows"]]
    told = shop.get("/api/charts/brand_performance.csv", params=BOTH)
    assert told.headers["Content-Type"].startswith("text/csv")
    assert told.headers["Content-Disposition"] == (
        'attachment; filename="brand_performance_2019-11-01_2019-11-02.csv"'
    )
    lines = list(csv.DictReader(io.StringIO(told.text)))
    assert {line["brand"] for line in lines} == {"apple", f"'{HOSTILE}"}
    assert [line["revenue"] for line in lines] == ["100.25", "7"]


@pytest.mark.integration
def test_the_choices_are_the_names_of_these_days(shop: TestClient) -> None:
    told = shop.get("/api/choices", params=BOTH).json()["rows"]
    assert [row["choice"] for row in told if row["kind"] == "subcategory"] == ["smartphone", "kitchen"]
    assert {row["choice"] for row in told if row["kind"] == "brand"} == {"apple", HOSTILE}


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(path.stem for path in (SQL_DIR / "pipelines").iterdir()))
def test_what_the_pipelines_wrote_of_themselves_is_told(shop: TestClient, name: str) -> None:
    assert shop.get(f"/api/pipelines/{name}", params=BOTH).status_code == 200


@pytest.mark.integration
def test_the_promises_are_told_as_of_the_newest_day_and_the_findings_of_all_days(shop: TestClient) -> None:
    [promise] = shop.get("/api/pipelines/objectives", params=BOTH).json()["rows"]
    assert (promise["event_date"], promise["share_of_budget_left"]) == ("2019-11-02", -9)
    [finding] = shop.get("/api/pipelines/figures", params=BOTH).json()["rows"]
    assert (finding["event_date"], finding["figure"]) == ("2019-11-01", "purchases")


@pytest.mark.integration
def test_of_a_day_the_newest_load_is_told(shop: TestClient) -> None:
    [load] = shop.get("/api/pipelines/loads", params=BOTH).json()["rows"]
    assert (load["landing_day"], load["loaded_at"]) == ("2019-11-01", "2019-11-02T06:12:00Z")


@pytest.mark.integration
def test_lines_as_they_came_are_told_as_bytes_cut_after_300(
    shop: TestClient, bigquery: bigquery_api.Client
) -> None:
    raw = b"<script>\xff" + b"x" * 400
    bigquery.query_and_wait("TRUNCATE TABLE shop_raw.rejected_events_batch")
    bigquery.query_and_wait(
        "INSERT INTO shop_raw.rejected_events_batch "
        "(source, rejected_date, raw, reason, detail, rejected_at) "
        f"VALUES ('batch', DATE '2019-11-02', FROM_HEX('{raw.hex()}'), 'bad_price', 'no number', "
        "CURRENT_TIMESTAMP())"
    )
    [sample] = shop.get("/api/pipelines/samples", params=BOTH | {"first_day": "2019-11-02"}).json()["rows"]
    assert bytes.fromhex(sample["raw_start_in_hex"]) == raw[:300]
    [reason] = shop.get("/api/pipelines/rejects", params=BOTH | {"first_day": "2019-11-02"}).json()["rows"]
    assert (reason["reason"], reason["lines_rejected"]) == ("bad_price", 1)


@pytest.mark.parametrize("url", [None, "https://airflow.example"])
def test_links_lead_to_airflow_where_that_is_known(url: str | None) -> None:
    app = TestClient(create_app(lambda: "a reader", BigQueryStore(no_store), SpannerStore(no_store), url))
    assert app.get("/api/links").json() == {"airflow": url}


@pytest.mark.integration
def test_a_lookup_is_logged_with_who_asked_and_without_the_customers_number(
    spanner_database: Database, bigquery: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    stores = BigQueryStore(lambda: bigquery), SpannerStore(lambda: spanner_database)
    app = TestClient(create_app(lambda: "reader@example.com", *stores))
    with caplog.at_level(logging.INFO, "shopstream"):
        answer = app.get("/api/customer", params={"user_id": "520088904", "last_day": "2019-11-02"})
    assert answer.json()["rows"] == []
    assert answer.json()["milliseconds"] > 0
    [told] = [text for text in caplog.messages if "looked up" in text]
    assert told.startswith("reader@example.com looked up customer ")
    assert "520088904" not in told


@pytest.mark.integration
def test_what_the_stream_has_of_a_customer_since_the_newest_loaded_day_is_told(
    shop: TestClient, bigquery: bigquery_api.Client
) -> None:
    today = dt.datetime.now(dt.UTC).replace(microsecond=0, tzinfo=None)
    times = {
        "before": dt.datetime.combine(dt.date(2019, 10, 31), dt.time(23, 59)),
        "the day before": dt.datetime.combine(dt.date(2019, 11, 1), dt.time()),
        "since": dt.datetime.combine(dt.date(2019, 11, 20), dt.time(12)),
        "today": today,
    }
    events = [stream_event(event_id=name, event_time=time, user_id=5) for name, time in times.items()]
    fill(bigquery, "shop_raw.events_stream", [*events, events[-1]])
    params = {"user_id": "5", "last_day": "2019-11-02"}
    told = shop.get("/api/customer/streamed", params=params).json()["rows"]
    assert [row["event_id"] for row in told] == ["today", "since", "the day before"]
    fill(bigquery, "shop_raw.events_stream", [])


@pytest.mark.parametrize("user_id", ["0", "-5", "x", "9223372036854775808", "1.5", "", "1 OR 1=1"])
def test_what_is_no_customers_number_is_refused(alone: TestClient, user_id: str) -> None:
    answer = alone.get("/api/customer", params={"user_id": user_id, "last_day": "2019-11-02"})
    assert answer.status_code == 422


def test_spanner_being_down_is_said_of_spanner(alone: TestClient) -> None:
    answer = alone.get("/api/customer", params={"user_id": "5", "last_day": "2019-11-02"})
    assert (answer.status_code, answer.json()["store"]) == (503, "Spanner")


@pytest.mark.integration
def test_the_last_hour_is_asked_anew_after_a_moment(
    shop: TestClient, bigquery: bigquery_api.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shopstream.dashboard.app.LIVE_KEPT_SECONDS", 3600.0)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0, tzinfo=None)
    fill(bigquery, "shop_raw.events_stream", [stream_event(event_id="a", event_time=now)])
    [minute] = shop.get("/api/live/minutes").json()["rows"]
    assert (minute["event_type"], minute["events"]) == ("view", 1)
    fill(bigquery, "shop_raw.events_stream", [])
    assert len(shop.get("/api/live/minutes").json()["rows"]) == 1
    monkeypatch.setattr("shopstream.dashboard.app.LIVE_KEPT_SECONDS", 0.0)
    assert shop.get("/api/live/minutes").json()["rows"] == []
    assert shop.get("/api/live/products").json()["rows"] == []
    assert shop.get("/api/live/nothing").status_code == 404


def test_a_failure_names_its_store() -> None:
    assert StoreFailed("Spanner", "down").store == "Spanner"
