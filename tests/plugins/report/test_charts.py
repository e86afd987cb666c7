"""charts: the specifications are valid, lean on columns that exist, and draw the numbers they should."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import vl_convert
from PIL import Image

from beam_jobs.contract import EVENT_TYPES
from shopstream.charts import CHARTS_DIR, DRAW, chart_names, read_spec, read_sql, read_theme
from shopstream.report.page import CHARTS, chart_specs
from shopstream.rounding import rounded
from shopstream.settings import settings
from shopstream.tables.folder import all_tables, load_table, summaries_in_order
from tests.plugins.report.summary_rows import MONTH, NO_DAY, ONE_DAY, THREE_DAYS, summaries
from tools import vega_bundle

each_chart = pytest.mark.parametrize("name", CHARTS)


def spec_of(name: str) -> dict[str, Any]:
    return read_spec(name)


def inside(value: Any, key: str) -> Iterator[Any]:
    """Every value that stands anywhere in a specification under this key."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield item
            yield from inside(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from inside(item, key)


def texts(spec: dict[str, Any]) -> list[str]:
    """Every text in the chart's picture, without the title and the definition."""
    svg = vl_convert.vegalite_to_svg(spec | {"title": ""}, vl_version=vega_bundle.VEGA_LITE)
    return [unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_each_chart_is_of_a_summary_table() -> None:
    assert {f"shop.{name}" for name in CHARTS} <= set(summaries_in_order(settings().sql_dir))
    assert set(CHARTS) <= set(chart_names())


def test_a_chart_is_a_specification_and_a_query_of_one_name() -> None:
    for kind in ("vl.json", "sql"):
        assert {f"{name}.{kind}" for name in chart_names()} == {
            path.name for path in CHARTS_DIR.glob(f"*.{kind}")
        }
    assert {read_spec(name)["data"]["name"] for name in chart_names()} == set(chart_names())


def test_each_chart_has_a_place_of_its_own_on_the_page() -> None:
    places = [read_spec(name)["usermeta"]["place"] for name in chart_names()]
    assert places == list(range(1, len(places) + 1))


def test_every_summary_has_a_chart() -> None:
    shown = {name for chart in chart_names() for name in re.findall(r"FROM (shop\.\w+)", read_sql(chart))}
    views = {table.full_name for table in all_tables(settings().sql_dir) if table.view}
    assert shown - views == set(summaries_in_order(settings().sql_dir))


@each_chart
def test_a_chart_reads_only_columns_that_its_table_has(name: str) -> None:
    spec = spec_of(name)
    assert spec["data"]["name"] == name
    columns = {*spec["usermeta"]["keys"], *spec["usermeta"]["sums"]}
    assert columns <= set(load_table(settings().sql_dir, f"shop.{name}").column_names)
    derived = {alias for alias in inside(spec["transform"], "as") if isinstance(alias, str)}
    read = {field for field in inside(spec, "field") if isinstance(field, str)}
    grouped = {field for fields in inside(spec["transform"], "groupby") for field in fields}
    # The dashboard puts the figure of the period before beside each day's.
    assert (read | grouped) - derived - {"earlier"} <= columns


@each_chart
def test_a_chart_names_nothing_to_fetch(name: str) -> None:
    spec = chart_specs(summaries(THREE_DAYS))[name]
    assert not list(inside(spec, "url"))
    assert not list(inside(spec, "href"))
    del spec["$schema"]
    assert "://" not in json.dumps(spec)


@each_chart
def test_a_chart_has_a_title_a_definition_and_words_for_a_screen_reader(name: str) -> None:
    spec = spec_of(name)
    assert spec["title"]["text"]
    assert spec["title"]["subtitle"].endswith(".")
    assert spec["description"].endswith(".")


def test_an_event_type_has_the_same_colour_in_all_charts() -> None:
    domains = [
        channel["scale"]["domain"]
        for name in CHARTS
        for channel in inside(spec_of(name), "color")
        if isinstance(channel, dict) and channel.get("type") == "nominal"
    ]
    assert len(domains) == 5
    assert all(domain == list(EVENT_TYPES) for domain in domains)
    assert len(json.loads((CHARTS_DIR / "theme.json").read_text())["range"]["category"]) == 3


@each_chart
@pytest.mark.parametrize("days", [ONE_DAY, THREE_DAYS, MONTH], ids=["one day", "three days", "a month"])
def test_a_chart_compiles_and_draws_a_picture(name: str, days: dict[date, tuple[int, int, int]]) -> None:
    spec = chart_specs(summaries(days))[name]
    assert vl_convert.vegalite_to_vega(spec, vl_version=vega_bundle.VEGA_LITE)["marks"]
    picture = Image.open(io.BytesIO(vega_bundle.png(spec)))
    assert picture.width > 1200
    assert picture.height > 400
    assert len(picture.convert("RGB").getcolors(maxcolors=1 << 24) or ()) > 20


@each_chart
def test_a_chart_draws_the_same_from_the_tables_rows_as_from_their_totals(name: str) -> None:
    rows = summaries(MONTH)[name]
    spec = chart_specs({**summaries(NO_DAY), name: rows})[name]
    as_json = json.loads(json.dumps(rows, default=lambda v: float(v) if isinstance(v, Decimal) else str(v)))
    assert len(as_json) >= len(spec["datasets"][name])
    assert sorted(texts(spec | {"datasets": {name: as_json}})) == sorted(texts(spec))


@each_chart
def test_a_chart_without_rows_is_left_out(name: str) -> None:
    assert name not in chart_specs(summaries(NO_DAY))


def test_a_day_without_purchases_is_drawn_as_zero() -> None:
    days = {date(2019, 11, 14): (500, 20, 5), date(2019, 11, 15): (900, 40, 0)}
    drawn = texts(chart_specs(summaries(days))["daily_event_count"])
    assert drawn.count("0") > texts(chart_specs(summaries(THREE_DAYS))["daily_event_count"]).count("0")


def test_a_single_day_is_drawn_with_its_numbers() -> None:
    drawn = texts(chart_specs(summaries(ONE_DAY))["daily_event_count"])
    assert {"9,240", "443", "148"} <= set(drawn)
    assert drawn.count("1 Oct") == 1


def test_more_than_a_week_is_drawn_without_a_number_at_each_point() -> None:
    assert "68,001" in texts(chart_specs(summaries(THREE_DAYS))["daily_event_count"])
    assert "72,000" not in texts(chart_specs(summaries(MONTH))["daily_event_count"])


def test_the_ten_most_visited_subcategories_come_largest_first() -> None:
    views: Counter[str] = Counter()
    for row in summaries(THREE_DAYS)["most_visited_subcategories"]:
        views[row["subcategory"]] += row["views"]
    top_ten = sorted(views.items(), key=lambda item: (-item[1], item[0]))[:10]
    drawn = texts(chart_specs(summaries(THREE_DAYS))["most_visited_subcategories"])
    names = [name.replace("_", " ") for name, _ in top_ten]
    assert [text for text in drawn if text in names] == names
    assert {text for text in drawn if "," in text} == {f"{count:,}" for _, count in top_ten}


def test_an_hour_is_labelled_with_the_sum_of_prices_of_all_days_and_the_number_of_events() -> None:
    sums: Counter[tuple[int, str]] = Counter()
    events: Counter[tuple[int, str]] = Counter()
    for row in summaries(THREE_DAYS)["hourly_price_by_event_type"]:
        sums[row["event_hour"], row["event_type"]] += row["price_sum"]
        events[row["event_hour"], row["event_type"]] += row["events"]
    drawn = texts(chart_specs(summaries(THREE_DAYS))["hourly_price_by_event_type"])
    assert [text for text in drawn if ":" in text] == [f"{hour:02}:00" for hour in range(24)]
    assert {f"{rounded(sums[hour]):,} from {events[hour]:,}" for hour in sums} <= set(drawn)
    narrow = chart_specs(summaries(THREE_DAYS))["hourly_price_by_event_type"] | {"width": 300}
    assert {f"{rounded(price_sum):,}" for price_sum in sums.values()} <= set(texts(narrow))


def test_hours_of_few_events_have_neither_colours_nor_a_legend_of_them() -> None:
    def drawn(events: int) -> str:
        hour = {"event_hour": 8, "event_type": "view", "events": events, "price_sum": 90}
        spec = read_spec("hourly_price_by_event_type") | {"config": read_theme(), "title": ""}
        spec["datasets"] = {"hourly_price_by_event_type": [hour, hour | {"event_hour": 9, "price_sum": 95}]}
        return vl_convert.vegalite_to_svg(spec, vl_version=vega_bundle.VEGA_LITE)

    legend = re.compile(r"<text[^>]*opacity=\"0\"[^>]*>Average price")
    assert "NaN" not in drawn(29)
    assert legend.search(drawn(29))
    assert not legend.search(drawn(30))


def test_weekdays_come_from_monday_to_sunday_though_only_three_had_events() -> None:
    drawn = texts(chart_specs(summaries(THREE_DAYS))["purchase_conversion_volume"])
    weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    assert [text for text in drawn if text in weekdays] == weekdays
    assert {"1,400,001", "1,400,002", "1,400,003"} <= set(drawn)


def test_the_top_five_subcategories_show_the_shares_of_their_own_events() -> None:
    rows = summaries(THREE_DAYS)["purchase_conversion_rate"]
    events: Counter[tuple[str, str]] = Counter()
    wholes: Counter[str] = Counter()
    for row in rows:
        events[row["subcategory"], row["event_type"]] += row["events"]
        wholes[row["subcategory"]] += row["events"]
    top_five = [name for name, _ in wholes.most_common(5)]
    drawn = texts(chart_specs(summaries(THREE_DAYS))["purchase_conversion_rate"])
    assert [text for text in drawn if text in wholes] == top_five
    for kind in ("view", "cart", "purchase"):
        shares = [f"{events[name, kind] / wholes[name]:.2%}" for name in top_five]
        assert set(shares) <= set(drawn)


def test_a_subcategory_never_bought_shows_a_share_of_zero() -> None:
    tables = summaries({date(2019, 11, 1): (1000, 50, 10)})
    tables["purchase_conversion_rate"] = [
        row
        for row in tables["purchase_conversion_rate"]
        if (row["subcategory"], row["event_type"]) != ("shoes", "purchase")
    ]
    assert "0.00%" in texts(chart_specs(tables)["purchase_conversion_rate"])


def test_one_session_is_told_as_one() -> None:
    paths = [
        {"path": f"view {name}", "sessions": n, "purchasing_sessions": 0} for name, n in (("a", 1), ("b", 2))
    ]
    spec = read_spec("session_paths") | {"config": read_theme(), "datasets": {"session_paths": paths}}
    assert {"1 session: view a", "2 sessions: view b"} <= set(texts(spec))


def test_the_library_may_stand_inside_a_script_element(library: Path) -> None:
    script = library.read_text(encoding="utf-8")
    assert "window.vegaEmbed" in script
    assert "</script" not in script
    assert "<!--" not in script
    assert [path.name for path in library.parent.iterdir()] == ["vega.js"]


def test_the_library_is_made_where_pages_look_for_it() -> None:
    assert vega_bundle.LIBRARY == CHARTS_DIR / "vega.js"


NAMED_BY_DATA = (
    "brand_performance",
    "cart_abandonment_by_subcategory",
    "most_visited_subcategories",
    "product_performance",
    "purchase_conversion_rate",
)


@pytest.mark.parametrize("name", ["constructor", "__proto__", "toString", "hasOwnProperty"])
def test_a_name_from_the_data_that_javascript_has_taken_blanks_no_chart(name: str) -> None:
    def rows(named: str) -> list[dict[str, Any]]:
        names = dict.fromkeys(("subcategory", "brand", "name", "label", "label_of_row"), named)
        numbers = {"rank": 1, "views": 9, "carts": 8, "abandoned_carts": 3, "abandonment_rate": 0.4}
        money = {"abandoned_value": 12, "revenue": 100, "purchases": 5, "lower": 0.2, "upper": 0.6}
        shares = {"event_type": "view", "events": 10, "all_events": 20, "share": 0.5}
        return [names | numbers | money | shares]

    specs = {
        f"{chart} {named}": read_spec(chart) | {"config": read_theme(), "datasets": {chart: rows(named)}}
        for chart in NAMED_BY_DATA
        for named in (name, "smartphone")
    }
    script = DRAW.read_text() + (
        "const specs = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "for (const name of Object.keys(specs)) specs[name] = fitted(specs[name], 800);"
        "console.log(JSON.stringify(specs));"
    )
    ran = subprocess.run(
        ["node", "--eval", script], input=json.dumps(specs), capture_output=True, text=True, check=True
    )
    drawn = {
        key: vl_convert.vegalite_to_svg(spec, vl_version=vega_bundle.VEGA_LITE)
        for key, spec in json.loads(ran.stdout).items()
    }
    mark = re.compile(r'aria-roledescription="(?:bar|point|rect mark|text mark)')
    for chart in NAMED_BY_DATA:
        taken, other = drawn[f"{chart} {name}"], drawn[f"{chart} smartphone"]
        assert len(mark.findall(taken)) == len(mark.findall(other)) > 0, chart
        assert name.strip("_") in taken, chart
