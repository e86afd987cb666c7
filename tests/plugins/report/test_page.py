"""page: the report is one file that loads nothing, says what the rows say, and no name can break it."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from shopstream.report import page
from shopstream.retries import Refused
from tests.plugins.dashboard.browser import colours_on_paper
from tests.plugins.report.summary_rows import MONTH, NO_DAY, ONE_DAY, THREE_DAYS, Rows, summaries

FIRST, LAST = date(2019, 10, 4), date(2019, 11, 3)
HOSTILE = "</script><img src=x onerror=alert(1)><!-- & \"' \u2028 {{ 7 * 7 }} ]]>"


pytestmark = pytest.mark.usefixtures("library")


class Parsed(HTMLParser):
    """What a browser would make of a page: its elements, and the text by the element around it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.lines: list[list[str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.lines.append([])
        if tag in ("td", "th"):
            self.lines[-1].append("")
        {"script": self.scripts, "style": self.styles}.get(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        inner = self._open[-1] if self._open else ""
        if inner == "script":
            self.scripts[-1] += data
        elif inner == "style":
            self.styles[-1] += data
        else:
            self.text += data
            if inner in ("td", "th"):
                self.lines[-1][-1] += data

    @property
    def policy(self) -> dict[str, list[str]]:
        [content] = [attrs["content"] for tag, attrs in self.elements if "http-equiv" in attrs]
        assert content is not None
        return {part.split()[0]: part.split()[1:] for part in content.split(";")}


def rendered(tables: dict[str, Rows], written_at: datetime | None = None) -> Parsed:
    return Parsed(page.render(tables, FIRST, LAST, written_at))


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_same_rows_give_the_same_bytes_in_whatever_order_they_come() -> None:
    shuffled = summaries(THREE_DAYS)
    for rows in shuffled.values():
        random.Random(1).shuffle(rows)
    assert page.render(shuffled, FIRST, LAST) == page.render(summaries(THREE_DAYS), FIRST, LAST)


def test_the_time_of_writing_is_said_only_when_it_is_given() -> None:
    written_at = datetime(2019, 11, 4, 1, 2, tzinfo=UTC)
    assert "Written 2019-11-04 01:02 UTC." in rendered(summaries(ONE_DAY), written_at).text
    assert "Written" not in rendered(summaries(ONE_DAY)).text


def test_the_page_loads_nothing() -> None:
    parsed = rendered(summaries(THREE_DAYS))
    assert "link" not in {tag for tag, _ in parsed.elements}
    assert not [attrs for _, attrs in parsed.elements if {"src", "href", "srcset", "action"} & set(attrs)]
    assert "url(" not in "".join(parsed.styles)
    assert "@import" not in "".join(parsed.styles)
    assert parsed.policy["default-src"] == ["'none'"]


def test_the_browser_may_run_only_the_pages_own_scripts_and_evaluate_no_text() -> None:
    parsed = rendered(summaries(THREE_DAYS))
    data, *scripts = parsed.scripts
    assert json.loads(data)
    assert parsed.policy["script-src"] == [sha256(script) for script in scripts]
    assert parsed.policy["style-src"] == [sha256(style) for style in parsed.styles]


@pytest.mark.parametrize("table", ["most_visited_subcategories", "purchase_conversion_rate"])
def test_a_hostile_name_stays_text(table: str) -> None:
    tables = summaries(THREE_DAYS)
    for row in tables[table]:
        if row["subcategory"] == "smartphone":
            row["subcategory"] = HOSTILE
    parsed, harmless = rendered(tables), rendered(summaries(THREE_DAYS))
    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in harmless.elements]
    assert HOSTILE in [cell for line in parsed.lines for cell in line]
    names = {row["subcategory"] for row in json.loads(parsed.scripts[0])[table]["datasets"][table]}
    assert HOSTILE in names


def test_the_charts_data_are_the_totals_of_the_days() -> None:
    specs = json.loads(rendered(summaries(MONTH)).scripts[0])
    assert set(specs) == set(page.CHARTS)
    assert len(specs["daily_event_count"]["datasets"]["daily_event_count"]) == 89
    views = {
        row["subcategory"]: row["views"]
        for row in specs["most_visited_subcategories"]["datasets"]["most_visited_subcategories"]
    }
    assert views["smartphone"] == 30 * 600_000


def test_the_headline_adds_up_the_days() -> None:
    text = rendered(summaries(THREE_DAYS)).text
    views, carts, purchases = 4_200_006, 204_006, 66_006
    for figure in (
        f"Events{views + carts + purchases:,}",
        f"Purchases{purchases:,}",
        f"Purchases per view{purchases / views:.2%}",
        "Sum of purchase prices22,284,555.71",
        "Viewers, average day466,668",
        "Buyers, average day7,335",
    ):
        assert figure in text.replace("\n", "")


def test_the_numbers_of_every_chart_stand_below_it() -> None:
    lines = rendered(summaries(THREE_DAYS)).lines
    assert ["2019-11-01", "view", "1,400,001", "466,668", "700,001"] in lines
    assert ["smartphone", "1,680,002"] in lines
    assert ["09:00", "purchase", "33,002", "9,408,705.19", "285.09"] in lines
    assert ["Friday", "cart", "68,001"] in lines
    assert ["smartphone", "cart", "81,602", "4.56%"] in lines


def test_subcategories_are_listed_the_largest_first() -> None:
    names = [line[0] for line in rendered(summaries(THREE_DAYS)).lines if len(line) == 2]
    assert names[:7] == ["sub-category", "smartphone", "kitchen", "shoes", "audio", "notebook", "clocks"]


def test_the_title_names_the_days_with_events_and_the_line_below_it_the_days_asked_for() -> None:
    text = rendered(summaries(THREE_DAYS)).text
    assert "Shop events, 1 November 2019 to 3 November 2019" in text
    assert "Days with events: 3 of 31 (4 October 2019 to 3 November 2019)." in text


def test_a_single_day_is_reported_as_one_day() -> None:
    parsed = Parsed(page.render(summaries(ONE_DAY), date(2019, 10, 1), date(2019, 10, 1)))
    assert "Shop events, 1 October 2019\n" in parsed.text
    assert "Days with events: 1 of 1 (1 October 2019)." in parsed.text
    assert "average day" not in parsed.text


def test_days_without_events_give_a_page_that_says_so_and_runs_nothing() -> None:
    parsed = rendered(summaries(NO_DAY))
    assert "No events: 4 October 2019 to 3 November 2019." in parsed.text
    assert not parsed.scripts
    assert "section" not in {tag for tag, _ in parsed.elements}


def test_a_chart_without_rows_says_so_beside_charts_with_rows() -> None:
    tables = summaries(THREE_DAYS)
    tables["most_visited_subcategories"] = []
    parsed = rendered(tables)
    assert "No events for this chart in these days." in parsed.text
    assert len(json.loads(parsed.scripts[0])) == 4


def test_a_missing_table_is_told_by_name() -> None:
    tables = summaries(ONE_DAY)
    del tables["purchase_conversion_rate"]
    with pytest.raises(ValueError, match="purchase_conversion_rate are missing"):
        rendered(tables)


def test_a_missing_library_is_told_with_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "LIBRARY", tmp_path / "vega.js")
    with pytest.raises(Refused, match=r"python -m tools\.vega_bundle"):
        rendered(summaries(ONE_DAY))


FURTHER: dict[str, Rows] = {
    "revenue_daily": [
        {"event_date": FIRST, "orders": 2, "buyers": 2, "purchases": 3, "revenue": Decimal("0E-9")},
    ],
    "product_performance": [
        {"product_id": 1003461, "brand": None, "category_code": "electronics.audio", "views": 1200,
         "carts": 3, "purchases": 2, "revenue": Decimal("1234.5"), "viewing_sessions": 9,
         "converted_sessions": 2},
    ],
}  # fmt: skip


def test_what_further_queries_answered_is_drawn_and_told_for_people() -> None:
    parsed = Parsed(page.render(summaries(ONE_DAY) | FURTHER, FIRST, LAST, currency="USD"))
    assert set(json.loads(parsed.scripts[0])) == {*page.CHARTS, *FURTHER}
    lines = [" | ".join(line) for line in parsed.lines]
    assert "day | orders | buyers | purchases | revenue (USD)" in lines
    assert f"{FIRST} | 2 | 2 | 3 | 0.00" in lines
    assert "1003461 | \N{EN DASH} | electronics.audio | 1,200 | 3 | 2 | 1,234.50 | 9 | 2" in lines
    assert "None" not in parsed.text
    assert re.search(r"Sum of purchase prices\s*USD [\d,]+\.\d\d", parsed.text)


def test_a_share_of_a_few_is_no_headline() -> None:
    few = rendered(summaries({FIRST: (3, 2, 2)}))
    assert "66.67%" not in few.text
    assert "33.33%" in rendered(summaries({FIRST: (30, 2, 10)})).text


def test_the_report_has_the_colours_of_the_dashboard_by_day_and_by_night() -> None:
    pages = (page.CHARTS_DIR.parent / "dashboard" / "static" / "style.css").read_text()
    report = (page.CHARTS_DIR / "report.css").read_text()
    for selector in (":root {", ':root[data-theme="dark"]:not(.paper) {'):
        colours = re.findall(r"--[\w-]+: [^;]+;", pages.partition(selector)[2].partition("}")[0])
        assert len(colours) > 15
        assert [one for one in colours if one not in report] == []


@pytest.mark.integration
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_every_chart_in_the_colours_of_the_readers_scheme_and_prints_it_light(
    browser: Browser, tmp_path: Path, library: Path, scheme: Literal["light", "dark"]
) -> None:
    (tmp_path / "report.html").write_text(page.render(summaries(THREE_DAYS) | FURTHER, FIRST, LAST))
    context = browser.new_context(color_scheme=scheme)
    shown, console = context.new_page(), list[str]()
    shown.on("console", lambda said: console.extend([said.text] if said.type == "error" else []))
    shown.on("pageerror", lambda error: console.append(str(error)))
    shown.goto((tmp_path / "report.html").as_uri())
    expect(shown.locator(".chart svg")).to_have_count(len(page.CHARTS) + len(FURTHER))
    assert console == []
    bar = shown.locator("#most_visited_subcategories path[aria-roledescription=bar]").first
    colours = {"light": "#0072b2", "dark": "#56b4e9"}
    assert bar.get_attribute("fill") == colours[scheme]
    printed = colours_on_paper(shown)
    assert colours["light"] in printed
    assert colours["dark"] not in printed
    expect(bar).to_have_attribute("fill", colours[scheme])
    assert console == []
    context.close()
