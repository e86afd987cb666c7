"""static: the pages in a real browser over real stores; what a reader sees, when stores fail too."""

from __future__ import annotations

import csv
import datetime as dt
import re
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1.database import Database
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route, expect

from local.root import ROOT
from shopstream.charts import chart_names, read_spec, read_sql, read_theme, runnable_sql
from shopstream.dashboard import stores
from shopstream.dashboard.app import create_app
from shopstream.dashboard.guards import token_guard
from shopstream.dashboard.stores import BigQueryStore, SpannerStore
from shopstream.rounding import percent, rounded
from shopstream.settings import settings
from tests.plugins.dashboard.browser import TOKEN, Reader, Valve, colours_on_paper, serving, valve_before
from tests.plugins.dashboard.small_shop import HOSTILE, fill_shop, write_journey
from tests.sql.events import fill, stream_event

pytestmark = pytest.mark.integration

BOTH = "first_day=2019-11-01&last_day=2019-11-02"
AIRFLOW = "https://airflow.example/base"
PAGES = ("", "live", "customer?user_id=1", "pipelines")


@pytest.fixture(scope="module")
def small_shop(bigquery_tables_of_file: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with two days of a shop."""
    fill_shop(bigquery_tables_of_file)
    return bigquery_tables_of_file


@pytest.fixture(scope="module")
def valve(small_shop: bigquery_api.Client) -> Iterator[Valve]:
    """Between the pages and BigQuery."""
    [host] = [small_shop._connection.API_BASE_URL]
    with valve_before(host.rstrip("/")) as made:
        yield made


@pytest.fixture
def bigquery_store(valve: Valve, monkeypatch: pytest.MonkeyPatch) -> BigQueryStore:
    """That BigQuery behind its valve, with nothing kept."""
    monkeypatch.setattr(stores, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr("shopstream.dashboard.app.LIVE_KEPT_SECONDS", 0.0)
    client = bigquery_api.Client(
        project=settings().project,
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=valve.url),
    )
    return BigQueryStore(lambda: client)


def no_spanner() -> Database:
    raise ConnectionError


@pytest.fixture
def server(bigquery_store: BigQueryStore, valve: Valve) -> Iterator[str]:
    """The application over that BigQuery; Spanner is away."""
    with serving(application(bigquery_store)) as url:
        yield url
    valve.how.clear()


def application(bigquery: BigQueryStore, spanner: Callable[[], Database] = no_spanner) -> FastAPI:
    return create_app(token_guard(TOKEN), bigquery, SpannerStore(spanner), AIRFLOW, "EUR")


def rows_shown(page: Page, card: str) -> list[list[str]]:
    """The cells of a card's table, its heading first; it is opened unless it is open."""
    button = page.locator(f"#{card} button:text-is('Table')")
    if button.get_attribute("aria-expanded") == "false":
        button.click()
    return [row.locator("th, td").all_text_contents() for row in page.locator(f"#{card} tr").all()]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_breaks_no_rule_of_accessibility_and_its_console_is_silent(
    server: str, browser: Browser, path: str, theme: str
) -> None:
    with Reader(browser, server, theme) as reader:
        page = reader.open(f"/{path}" if path else f"/?{BOTH}")
        assert reader.broken_rules() == []
        if not path:
            assert page.locator(".chart:not(:has(svg))").all_inner_texts() == []
            assert page.locator(".chart svg").count() == len(chart_names())
        if not path.startswith("customer"):  # whose store is away
            assert reader.console == []


def test_on_a_phone_no_page_is_wider_than_its_window(server: str, browser: Browser) -> None:
    with Reader(browser, server, width=390) as reader:
        for path in (f"?{BOTH}", *PAGES[1:]):
            page = reader.open(f"/{path}")
            assert page.evaluate("document.documentElement.scrollWidth") == 390, path


def test_below_another_servers_path_the_pages_find_their_files_their_answers_and_each_other(
    bigquery_store: BigQueryStore, browser: Browser
) -> None:
    host = FastAPI()
    host.mount("/a/b/shopstream", application(bigquery_store))
    with serving(host) as url, Reader(browser, url) as reader:
        page = reader.open(f"/a/b/shopstream/?{BOTH}")
        expect(page.locator(".chart svg")).to_have_count(len(chart_names()))
        for name in ("Pipelines", "Live", "Customer", "Purchasing"):
            page.get_by_role("link", name=name, exact=True).click()
            expect(page.locator("nav [aria-current]")).to_have_text(name)
            reader.settle()
            assert page.url.startswith(f"{url}/a/b/shopstream/")
        assert reader.console == []


def test_every_card_has_its_definition_its_query_and_its_chart_as_a_picture(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        for name in chart_names():
            card = page.locator(f"#{name}")
            expect(card.locator(".definition")).to_have_text(read_spec(name)["title"]["subtitle"])
            card.get_by_role("button", name="SQL").click()
            shown = runnable_sql(read_sql(name), dt.date(2019, 11, 1), dt.date(2019, 11, 2))
            assert card.locator("pre").inner_text().strip() == shown.strip()
            with page.expect_download() as download:
                card.get_by_role("button", name="PNG").click()
            assert download.value.suggested_filename == f"{name}_2019-11-01_2019-11-02.png"
            chart = card.locator(".chart svg").bounding_box()
            assert chart
            with Image.open(download.value.path()) as picture:
                assert picture.format == "PNG"
                # Twice as fine as it is shown, on a screen of many dots.
                assert picture.width >= 2 * int(chart["width"])
                assert len(picture.convert("RGB").getcolors(2**24) or ()) > 2
        assert reader.console == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_is_printed_light_with_all_its_charts_and_is_then_as_it_was(
    server: str, browser: Browser, theme: str
) -> None:
    with Reader(browser, server, theme) as reader:
        page = reader.open(f"/?{BOTH}")
        bar = page.locator("#most_visited_subcategories path[aria-roledescription=bar]").first
        drawn = bar.get_attribute("fill")
        paper, dark_paper = "#ffffff", "#12181f"
        light = {"#0072b2", "#e69f00", "#007f5f"}
        dark = {"#56b4e9", "#f0b94a", "#3cc49a", "#e8edf2", "#1a222b", dark_paper}
        printed = colours_on_paper(page)
        assert {paper, *light} <= printed
        assert not dark & printed
        expect(bar).to_have_attribute("fill", drawn)
        assert (drawn == "#0072b2") == (theme == "light")
        expect(page.locator(".chart svg")).to_have_count(len(chart_names()))
        assert reader.console == []


def test_the_table_and_the_file_of_a_card_have_the_rows_of_its_answer_and_a_filter_narrows_all(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        products = rows_shown(page, "product_performance")
        assert {row[0] for row in products[1:]} == {"1", "2", "3", "4"}
        with page.expect_download() as download:
            page.click("#product_performance button:text-is('CSV')")
        assert download.value.suggested_filename == "product_performance_2019-11-01_2019-11-02.csv"
        lines = list(csv.reader(download.value.path().read_text(encoding="utf-8").splitlines()))
        assert [line[0] for line in lines[1:]] == [row[0] for row in products[1:]]

        page.fill("label:has-text('Brand') input", HOSTILE)
        page.press("label:has-text('Brand') input", "Enter")
        page.wait_for_selector(".chip")
        reader.settle()
        assert "brand=" in page.url
        assert [row[0] for row in rows_shown(page, "product_performance")[1:]] == ["2"]
        assert f"brand {HOSTILE}" in page.locator(".chip").inner_text()
        # A card whose table knows no brands says so before its answer.
        for card, filtered in (("product_performance", True), ("daily_event_count", False)):
            said = page.locator(f"#{card} .answer").inner_text()
            assert ("Not filtered by brand." in said) != filtered
        # And comes after all whose table does.
        apart = ["Not filtered" in said for said in page.locator(".card .answer").all_inner_texts()]
        assert apart == sorted(apart)
        assert set(apart) == {True, False}
        page.go_back()
        page.wait_for_selector(".chip", state="detached")
        reader.settle()
        assert len(rows_shown(page, "product_performance")) == len(products)
        assert reader.console == []


def test_a_day_that_will_change_is_hatched_and_money_has_its_currency(server: str, browser: Browser) -> None:
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        # On the second day nothing was bought: stripes of no height would keep the picture from being made.
        for card, bars, of_the_second_day in (("daily_event_count", 8, 2), ("revenue_daily", 2, 0)):
            fills = [
                bar.get_attribute("fill") or ""
                for bar in page.locator(f"#{card} path[aria-roledescription=bar]").all()
            ]
            assert len(fills) == bars
            # Which no load has published.
            assert sum(fill.startswith("url(") for fill in fills) == of_the_second_day
        assert page.locator(".figure:has-text('Revenue') .big").inner_text() == "EUR\N{NO-BREAK SPACE}107"
        assert "revenue (EUR)" in rows_shown(page, "revenue_daily")[0]
        assert page.locator("#revenue_daily .answer").inner_text() == (
            "Most on 1 Nov 2019: EUR 107 from 2 orders."
        )


def test_a_half_is_rounded_alike_in_a_sentence_at_a_bar_and_in_a_figure(
    server: str, browser: Browser
) -> None:
    amounts, shares = [772.5, 648.5, 922.5, 0.5, 1.005], [0.125, 57 / 200, 0.0125, 0.9995]
    with Reader(browser, server) as reader:
        page = reader.open("/live")
        told = page.evaluate(
            """async ([amounts, shares]) => {
              const format = await import(new URL("static/format.js", document.baseURI).href);
              const { percent, price, short } = format;
              const drawn = async (values, form) => {
                const place = document.createElement("div");
                const y = { field: "at", type: "ordinal", axis: null };
                const encoding = { y, text: { field: "of", format: form } };
                const data = { values: values.map((of, at) => ({ of, at })) };
                const { view } = await drawInto(place, { data, mark: "text", encoding });
                const texts = [...place.querySelectorAll("text")].map((text) => text.textContent);
                view.finalize();
                return texts;
              };
              return {
                bars: await drawn(amounts, ",.0f"),
                tips: await drawn(amounts, ",.2f"), cells: amounts.map(price),
                labels: await drawn(shares, ".0%"), parts: shares.map((share) => percent(share, 0)),
                figures: [772.5, 57.5 + 0.1 + 0.2 + 714.7, 1_005_000].map(short),
              };
            }""",
            [amounts, shares],
        )
    assert told["bars"] == [f"{rounded(amount):,}" for amount in amounts] == ["773", "649", "923", "1", "1"]
    assert told["tips"] == told["cells"] == [f"{rounded(amount, 2):,}" for amount in amounts]
    assert told["labels"] == [percent(share, 0) for share in shares]
    assert told["parts"] == [label.replace("%", " %") for label in told["labels"]]
    assert told["figures"] == ["773", "773", "1.01\N{NO-BREAK SPACE}M"]


def test_a_chart_that_draws_none_of_its_rows_says_so(server: str, browser: Browser) -> None:
    pair: dict[str, object] = {"item_a": "1", "item_b": "2", "baskets": 1, "lift": 9}
    free: dict[str, object] = {"revenue": 0, "purchases": 0, "views": 5}
    rows = {
        "bought_together": pair | {"kind": "product"},
        "brand_performance": free | {"brand": "apple"},
        "product_performance": free | {"product_id": 7, "brand": None, "category_code": None},
        "revenue_by_subcategory": free | {"subcategory": "audio"},
    }

    def shown(row: dict[str, dict[str, object]]) -> dict[str, str]:
        specs = [read_spec(name) | {"datasets": {name: [row[name]]}} for name in row]
        told: dict[str, str] = page.evaluate(
            """async (specs) => {
              const shown = {};
              for (const { title, ...spec } of specs) {
                const place = document.createElement("div");
                await drawInto(place, fitted({ ...spec }, 600));
                shown[spec.data.name] = place.querySelector("svg") ? "a chart" : place.textContent;
              }
              return shown;
            }""",
            [spec | {"config": read_theme()} for spec in specs],
        )
        return told

    with Reader(browser, server) as reader:
        page = reader.open("/live")
        assert shown(rows) == {name: read_spec(name)["usermeta"]["undrawn"] for name in rows}
        drawn = {name: row | {"revenue": 1, "kind": "subcategory"} for name, row in rows.items()}
        assert set(shown(drawn).values()) == {"a chart"}


def test_a_click_on_a_columns_heading_orders_the_table_by_it_and_a_second_one_the_other_way(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        headings, *rows = rows_shown(page, "product_performance")
        assert [row[0] for row in rows] == ["1", "2", "3", "4"]  # by revenue
        heading = page.locator("#product_performance th", has_text="product")
        for order, products in (("descending", ["4", "3", "2", "1"]), ("ascending", ["1", "2", "3", "4"])):
            heading.locator("button").click()
            assert heading.get_attribute("aria-sort") == order
            assert [row[0] for row in rows_shown(page, "product_performance")[1:]] == products
        # A product that nobody viewed has no purchases per view, and is last in either order.
        share = page.locator("#product_performance th", has_text="purchases per view")
        for _ in range(2):
            share.locator("button").click()
            row = rows_shown(page, "product_performance")[-1]
            assert (row[0], row[headings.index("purchases per view")]) == ("4", "\N{EN DASH}")
        assert heading.get_attribute("aria-sort") is None
        assert reader.broken_rules() == []


def test_a_question_is_gone_to_and_a_click_on_a_day_shows_that_day_alone(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        page.get_by_label("Question").select_option("What is bought together?")
        expect(page.locator("#bought_together")).to_be_focused()
        expect(page.locator("#bought_together h2")).to_be_in_viewport()
        assert page.locator(".change").count() == 0  # there is nothing before to compare with
        page.locator("#revenue_daily path[aria-roledescription=bar]").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Purchasing behaviour, Friday 1 Nov 2019")
        reader.settle()
        assert page.locator(".figure dt").all_inner_texts()[1] == "Viewers"
        assert page.locator("#revenue_daily .answer").inner_text() == (
            "On 1 Nov 2019: EUR\N{SPACE}107 from 2 orders."
        )


def test_a_period_of_which_days_are_missing_is_not_compared_with_and_not_asked_for(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        asked: list[str] = []
        reader.page.on("request", lambda request: asked.append(request.url))
        page = reader.open("/?first_day=2019-11-02&last_day=2019-11-04")
        assert "Not compared with 30 Oct to 1 Nov 2019, of which 1 of 3 days have events." in (
            page.locator("main").inner_text()
        )
        assert not [url for url in asked if "first_day=2019-10-30" in url]
        asked.clear()
        reader.open("/?first_day=2019-11-02&last_day=2019-11-02")
        assert "Compared with 1 Nov 2019." in page.locator("main").inner_text()
        assert [url for url in asked if "api/headline?first_day=2019-11-01" in url]
        # The day before, as a line above or below the bar.
        assert page.locator("#daily_event_count path[aria-roledescription=tick]").count() == 2


def test_pipelines_tells_who_approved_a_load_which_promises_are_broken_and_where_something_can_be_done(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        page = reader.open("/pipelines")
        verdict = page.locator(".verdict").inner_text()
        assert "figures not as usual: 1 Nov" in verdict
        assert "promises broken: days published within 6 hours of their end." in verdict

        def card(question: str) -> Locator:
            return page.locator(f"section:has(h2:text-is('{question}'))")

        loads = card("Was every day loaded?")
        assert loads.locator(".findings li").all_inner_texts() == [
            f"1 Nov 2019: 100.00 % rejected, published by maria: {HOSTILE}"
        ]
        assert card("Which figures were not as usual?").locator("li").all_inner_texts() == [
            f"purchases of {HOSTILE} is 0"
        ]
        assert card("Are the promises kept?").locator("li").all_inner_texts() == [
            "Days published within 6 hours of their end: 1 of 2, 50.00 %; promised are 95 %. "
            "Broken: 10 times what may go wrong."
        ]
        links = {link.get_attribute("href") for link in page.locator("main a").all()}
        assert f"{AIRFLOW}/dags/load_events_daily/required_actions" in links
        linked = {re.sub(r".*/dags/([^/]+).*", r"\1", link or "") for link in links}
        assert linked <= {path.stem for path in (ROOT / "dags").glob("*.py")}
        assert {
            "land_export",
            "load_events_daily",
            "build_summaries",
            "simulate_stream",
            "stop_stream",
        } <= linked


def test_pipelines_are_well_but_for_what_a_check_warns_of(
    server: str, browser: Browser, small_shop: bigquery_api.Client
) -> None:
    loads = "UPDATE shop_ops.loads SET rejected = {} WHERE TRUE"
    aside = "UPDATE shop_ops.{} SET event_date = DATE_ADD(event_date, INTERVAL {} DAY) WHERE TRUE"
    tables = ("figure_findings", "objectives")
    warned = {
        "event_date": dt.date(2019, 11, 1),
        "table_name": "shop.most_visited_subcategories",
        "check_name": "ten_subcategories",
        "severity": "warn",
        "found_rows": 1,
        "finding": "Fewer than ten sub-categories were viewed.",
        "checked_at": "2019-11-02T07:00:00Z",
    }
    passed = warned | {"check_name": "unique_grain", "severity": "fail", "found_rows": 0, "finding": None}
    for statement in (loads.format(0), *(aside.format(table, -90) for table in tables)):
        small_shop.query_and_wait(statement)
    fill(small_shop, "shop_ops.check_results", [warned, passed])
    try:
        with Reader(browser, server) as reader:
            page = reader.open("/pipelines")
            verdict = page.locator(".verdict").inner_text()
            assert verdict.startswith("~ Well, but 1 check warns (1 Nov): 1 Nov 2019 was published ")
            assert page.locator(".strip .amber").count() == 1
            assert "All well" not in verdict
    finally:
        for statement in (loads.format(1), *(aside.format(table, 90) for table in tables)):
            small_shop.query_and_wait(statement)
        fill(small_shop, "shop_ops.check_results", [])


def test_without_built_summaries_no_figure_is_said_to_be_as_usual(
    server: str, browser: Browser, small_shop: bigquery_api.Client
) -> None:
    aside = (
        "UPDATE shop_ops.figure_findings SET event_date = DATE_ADD(event_date, INTERVAL {} DAY) WHERE TRUE"
    )
    small_shop.query_and_wait(aside.format(-90))
    try:
        with Reader(browser, server) as reader:
            page = reader.open("/pipelines")
            told = page.locator(
                "section:has(h2:text-is('Which figures were not as usual?')) .empty"
            ).inner_text()
            assert told.startswith("No summaries were built in these days")
    finally:
        small_shop.query_and_wait(aside.format(90))


def test_of_the_newest_day_the_lines_that_were_rejected_are_told(
    server: str, browser: Browser, small_shop: bigquery_api.Client
) -> None:
    small_shop.query_and_wait(
        "INSERT INTO shop_ops.loads SELECT * REPLACE (DATE '2019-11-02' AS landing_day, 30 AS `read`, "
        "2 AS rejected, [DATE '2019-11-02'] AS event_dates) FROM shop_ops.loads"
    )
    try:
        with Reader(browser, server) as reader:
            page = reader.open("/")
            expect(page.locator("#freshness")).to_contain_text(
                "Data to 2 Nov 2019, complete since 2 Nov 2019 06:12 UTC, but for 2 of 30 lines, which were "
                "rejected"
            )
    finally:
        small_shop.query_and_wait("DELETE FROM shop_ops.loads WHERE landing_day = '2019-11-02'")


@pytest.mark.parametrize("how", ["refuse", "slow", "down"])
def test_a_store_that_fails_one_question_fails_one_card_and_says_what_to_do(
    server: str, browser: Browser, valve: Valve, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how != "refuse":
        # Long enough for all other cards, which a busy machine asks for together.
        monkeypatch.setattr(stores, "QUERY_SECONDS", 12.0)
        monkeypatch.setattr(valve, "seconds", 15.0)
    valve.how["brand_performance"] = how
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        [alert] = page.locator("[role=alert]").all()
        assert page.locator("#brand_performance [role=alert]").count() == 1
        assert alert.locator("p").inner_text().startswith("BigQuery: BigQuery ")
        assert "secret-project" not in page.content()
        assert page.locator(".chart svg").count() == len(chart_names()) - 1
        valve.how.clear()
        alert.locator("button").click()
        page.wait_for_selector("#brand_performance .chart svg")


def test_a_question_that_the_network_has_lost_is_asked_again(server: str, browser: Browser) -> None:
    lost: list[str] = []

    def lose(route: Route) -> None:
        # Not by `times`: what is asked while the route is then taken away might never be answered.
        if len(lost) == 3:
            route.continue_()
        else:
            lost.append(route.request.url)
            route.abort("connectionreset")

    with Reader(browser, server) as reader:
        reader.page.route("**/api/charts/*", lose)
        page = reader.open(f"/?{BOTH}")
        assert len(lost) == 3
        assert page.locator("[role=alert]").all_inner_texts() == []
        assert page.locator(".chart svg").count() == len(chart_names())


def test_a_store_that_fails_all_questions_leaves_the_pages_standing(
    server: str, browser: Browser, valve: Valve
) -> None:
    valve.how[""] = "refuse"
    with Reader(browser, server) as reader:
        for path in ("", "pipelines", "live"):
            page = reader.open(f"/{path}")
            assert "BigQuery: BigQuery refused" in page.locator("[role=alert]").first.inner_text()
            assert page.locator("nav a").count() == len(PAGES)
        page = reader.open("/customer?user_id=1")
        expect(page.locator("[role=alert]")).to_contain_text("Spanner: Spanner could not be reached")
        assert page.locator(".verdict").inner_text() == "Customer 1: not read."


def test_days_without_events_say_so_and_are_not_drawn(server: str, browser: Browser) -> None:
    with Reader(browser, server) as reader:
        page = reader.open("/?first_day=2019-12-01&last_day=2019-12-02")
        assert page.locator("dl .note").inner_text() == "No events in these days."
        assert "2 of 2 days without events: 1 Dec, 2 Dec." in page.locator("main").inner_text()
        assert page.locator(".chart svg").count() < len(chart_names()) / 2
        assert reader.console == []


def test_what_is_published_while_live_is_seen_shows_by_itself(
    server: str, browser: Browser, small_shop: bigquery_api.Client
) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0, tzinfo=None)
    event = stream_event(event_id="a", event_time=now)
    fill(small_shop, "shop_raw.events_stream", [event])
    with Reader(browser, server) as reader:
        reader.page.clock.install()
        page = reader.open("/live")
        assert page.locator(".figure .big").first.inner_text() == "1"
        # One minute of the hour, at its end.
        bar = page.locator(".chart svg path[aria-roledescription=bar]").bounding_box()
        chart = page.locator(".chart svg").bounding_box()
        assert bar
        assert chart
        assert 0.5 < 60 * bar["width"] / chart["width"] < 1.5
        assert bar["x"] > chart["x"] + 0.9 * chart["width"]
        minutes = page.locator("section", has_text="The numbers").locator("tbody td").all_inner_texts()
        assert minutes == [f"{now:%H:%M} UTC", "view", "1", "1", "0.00"]
        fill(small_shop, "shop_raw.events_stream", [event, {**event, "event_id": "b"}])
        page.clock.fast_forward(15_000)
        expect(page.locator(".figure .big").first).to_have_text("2")
        assert reader.console == []
    fill(small_shop, "shop_raw.events_stream", [])


def test_live_asks_nothing_while_nobody_sees_it_and_at_once_when_somebody_does(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        reader.page.clock.install()
        page = reader.open("/live")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.partition("/api/")[2]))
        page.evaluate("Object.defineProperty(document, 'hidden', { get: () => window.isAway })")
        look = "(away) => { window.isAway = away; document.dispatchEvent(new Event('visibilitychange')); }"
        page.evaluate(look, True)
        page.clock.fast_forward(60_000)
        # Whatever was asked before this has been seen when this is answered.
        page.evaluate("fetch('api/links').then((answer) => answer.text())")
        assert asked == ["links"]
        with page.expect_response("**/api/live/minutes"):
            page.evaluate(look, False)


def test_a_journey_is_of_both_stores_goes_on_to_older_days_and_odd_numbers_are_answered_kindly(
    bigquery_store: BigQueryStore,
    small_shop: bigquery_api.Client,
    spanner_database: Database,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stores, "MAX_ROWS", 2)  # so that a page holds one of the days
    noon = dt.datetime(2019, 11, 2, 12, tzinfo=dt.UTC)
    before = [noon - dt.timedelta(hours=hours) for hours in (0, 1, 24)]
    write_journey(spanner_database, *((7, time, last) for time, last in zip(before, "abc", strict=True)))
    in_stream = {"user_id": 7, "event_time": noon.replace(hour=13, tzinfo=None), "event_type": "purchase"}
    both = [stream_event(event_id=last.rjust(32, "0"), **in_stream) for last in ("a", "d")]
    fill(small_shop, "shop_raw.events_stream", both)
    with (
        serving(application(bigquery_store, lambda: spanner_database)) as url,
        Reader(browser, url) as reader,
    ):
        page = reader.open("/customer")
        number, show = (
            page.get_by_label("Customer's number"),
            page.get_by_role("button", name="Show the journey"),
        )
        number.fill("7")
        show.click()
        told = page.locator(".verdict")
        expect(told).to_have_text(
            "Customer 7: first seen 2 Nov 2019, last 2 Nov 2019 "
            "· 2 sessions · 3 events · 1 order · EUR\N{NO-BREAK SPACE}10.50"
        )
        expect(page.get_by_text("from the stream")).to_have_count(1)
        expect(page.get_by_text("Spanner answered in")).to_be_visible()
        page.get_by_role("button", name="The 90 days before").click()
        expect(told).to_contain_text("first seen 1 Nov 2019, last 2 Nov 2019 · 2 sessions · 4 events")
        expect(page.get_by_role("button", name="The 90 days before")).to_be_hidden()

        number.fill("9")
        show.click()
        expect(told).to_contain_text("No event of customer 9 is in what was read: the days ")
        number.fill("9" * 19)
        show.click()
        expect(page.get_by_role("alert")).to_contain_text("is no customer's number")
        reader.open("/customer?user_id=Maria")
        expect(page.get_by_role("alert")).to_contain_text("“Maria” is no customer's number")
        assert reader.console == []
    fill(small_shop, "shop_raw.events_stream", [])


def test_live_names_the_products_that_bring_money_with_all_their_columns(
    server: str, browser: Browser, small_shop: bigquery_api.Client
) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0, tzinfo=None)
    view = stream_event(event_id="a", event_time=now, category_code="furniture.living_room.cabinet")
    bought = view | {"event_id": "b", "event_type": "purchase", "price": "1234.5", "product_id": 44600062}
    with Reader(browser, server, width=1300) as reader:
        fill(small_shop, "shop_raw.events_stream", [view])
        page = reader.open("/live")
        assert (
            "Nothing was bought for money in the last 60 minutes." in page.locator("#products").inner_text()
        )
        fill(small_shop, "shop_raw.events_stream", [view, bought])
        page = reader.open("/live")
        assert page.locator("#products tbody td:first-child").all_inner_texts() == ["44600062"]
        assert page.locator("#products .scroll").evaluate("(one) => one.scrollWidth <= one.clientWidth")
        fill(small_shop, "shop_raw.events_stream", [])
        page = reader.open("/live")
        assert "make stream DAY=" in page.locator(".note").inner_text()


def test_a_login_that_ends_while_the_page_is_open_is_told_and_nothing_more_is_shown(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        reader.end_login()
        page.select_option("label:has-text('Days') select >> nth=0", "all")
        reader.settle()
        told = page.locator("[role=alert]").all_inner_texts()
        assert len(told) > len(chart_names())
        assert all("Your login has ended. Log in again and reload this page." in text for text in told)
        assert page.locator(".chart svg").count() == 0
        answer = page.goto(f"{server}/pipelines")
        assert answer is not None
        assert answer.status == 401


def test_a_chart_that_is_drawn_when_its_answer_is_no_longer_wanted_is_not_shown(
    server: str, browser: Browser
) -> None:
    with Reader(browser, server) as reader:
        page = reader.open(f"/?{BOTH}")
        # A slow browser: what is to be drawn from now on is drawn when it is released.
        page.evaluate(
            "() => { const draw = window.drawInto;"
            " const held = new Promise((go) => { window.release = go; });"
            " window.drawInto = (...given) => held.then(() => draw(...given)); }"
        )
        choice = page.locator("label:has-text('Days') select").first
        with page.expect_response("**/api/charts/daily_event_count?*"):
            choice.select_option("30")
        page.wait_for_load_state("networkidle")
        reader.end_login()
        choice.select_option("1")
        expect(page.locator(".failed[role=alert]")).to_have_count(len(chart_names()))
        page.evaluate("() => { window.release(); return new Promise((done) => setTimeout(done, 500)); }")
        expect(page.locator(".failed[role=alert]")).to_have_count(len(chart_names()))
