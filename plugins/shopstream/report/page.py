"""The report's page: one self-contained HTML file of all charts over the summary tables.

The charts are the Vega-Lite specifications in charts/. CHARTS, the five of the mission, are each named after
the table of dataset shop that they read, which is also their `data.name`, and are drawn from a table's rows
alone. Their `usermeta` says what of the table they need: `keys` to group by, `sums` to add up over the days;
and for the page, `figures`, the columns of the table of numbers below the chart. FURTHER are drawn from the
rows of their queries, as in the dashboard. `beside_px` is the width of everything beside a plot. A browser
draws them with the library charts/vega.js, which the page carries inside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import jinja2

from beam_jobs.contract import EVENT_TYPES
from shopstream.charts import CHARTS_DIR, DRAW, LIBRARY, chart_names, read_spec, read_theme
from shopstream.retries import Refused
from shopstream.rounding import percent, rounded

CHARTS = (
    "daily_event_count",
    "most_visited_subcategories",
    "hourly_price_by_event_type",
    "purchase_conversion_volume",
    "purchase_conversion_rate",
)
FURTHER = tuple(name for name in chart_names() if name not in CHARTS)
MOST_LINES = 50
"""So many lines has a table of numbers of FURTHER at most."""
SMALL_SAMPLE = 30
"""A share of fewer says nothing, and is not told in the headline."""
NOTHING = "\N{EN DASH}"

Rows = list[dict[str, Any]]


def chart_specs(datasets: Mapping[str, Rows]) -> dict[str, dict[str, Any]]:
    """Return each chart as a Vega-Lite specification that holds its data and the common theme.

    `datasets` holds the rows of each summary table, by table name, and what the queries of FURTHER answered,
    by their names; a chart without rows is left out.

    Raises:
        ValueError: a table's rows are missing.
    """
    config = read_theme()
    charts = {}
    for name in CHARTS:
        spec = read_spec(name)
        if rows := _totals(spec, datasets):
            charts[name] = spec | {"config": config, "datasets": {name: rows}}
    for name in FURTHER:
        if rows := [{key: _plain(value) for key, value in row.items()} for row in datasets.get(name, ())]:
            charts[name] = read_spec(name) | {"config": config, "datasets": {name: rows}}
    return charts


def render(
    datasets: Mapping[str, Rows],
    first_day: date,
    last_day: date,
    written_at: datetime | None = None,
    currency: str = "",
) -> str:
    """Return the report of the days from `first_day` to `last_day` as one HTML page; same input, same bytes.

    `datasets` holds the rows of each summary table for these days, by table name, as dicts of (at least) the
    chart's `keys` and `sums`; and the rows of the queries of FURTHER that are to be shown, by their names.
    `currency` is in which the shop's prices are, "" if that is not known.

    Raises:
        ValueError: a table's rows are missing.
        Refused: the chart library has not been made.
    """
    specs = chart_specs(datasets)
    charts = []
    for name in (*CHARTS, *(name for name in FURTHER if name in datasets)):
        spec = read_spec(name)
        header: list[str] = []
        rows: list[list[str]] = []
        key_columns = 0
        if name in CHARTS and name in specs:
            header, rows = _numbers(specs[name], currency)
            key_columns = len(header) - len(spec["usermeta"]["figures"])
        elif name in specs:
            header, rows, key_columns = _numbers_as_answered(datasets[name], currency)
        charts.append(
            {
                "name": name,
                "title": spec["title"]["text"],
                "definition": spec["title"]["subtitle"],
                "key_columns": key_columns,
                "header": header,
                "rows": rows,
            }
        )
    days = sorted({str(row["event_date"]) for row in datasets["daily_event_count"]})
    style = (CHARTS_DIR / "report.css").read_text(encoding="utf-8")
    script = "".join(path.read_text(encoding="utf-8") for path in (DRAW, CHARTS_DIR / "report.js"))
    library = _library() if specs else ""
    # The page's own title and definition take the place of the picture's, since they wrap on a narrow screen.
    drawn = {name: _without(spec, "title", "$schema") for name, spec in specs.items()}
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(CHARTS_DIR), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return pages.get_template("report.html.j2").render(
        title=f"Shop events, {_span(days[0], days[-1]) if days else _span(first_day, last_day)}",
        coverage=f"Days with events: {len(days):,} of {(last_day - first_day).days + 1:,} "
        f"({_span(first_day, last_day)}). Days and hours are UTC.",
        asked=_span(first_day, last_day),
        headline=_headline(specs, len(days), currency) if days else [],
        charts=charts if days else [],
        policy=f"default-src 'none'; script-src {_hash(library)} {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        specs=_json_in_html(drawn) if specs else "",
        library=library,
        script=script,
        written_at=f"{written_at:%Y-%m-%d %H:%M %Z}".strip() if written_at else "",
    )


def _totals(spec: dict[str, Any], datasets: Mapping[str, Rows]) -> Rows:
    """Add up a table's rows over everything but the chart's keys; rows in order of the keys."""
    table = spec["data"]["name"]
    if table not in datasets:
        raise ValueError(f"the rows of summary table {table} are missing; there are {sorted(datasets)}")
    keys, sums = spec["usermeta"]["keys"], spec["usermeta"]["sums"]
    totals: dict[tuple[Any, ...], list[Any]] = {}
    for row in datasets[table]:
        key = tuple(_plain(row[name]) for name in keys)
        so_far = totals.setdefault(key, [0] * len(sums))
        totals[key] = [total + row[name] for total, name in zip(so_far, sums, strict=True)]
    return [
        dict(zip([*keys, *sums], [*key, *map(_plain, figures)], strict=True))
        for key, figures in sorted(totals.items())
    ]


def _plain(value: Any) -> Any:
    """Return a value of BigQuery as one of JSON."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value.isoformat() if isinstance(value, date) else value


_LABELS = {
    "event_date": "day",
    "event_hour": "hour",
    "weekday_name": "weekday",
    "subcategory": "sub-category",
    "event_type": "type",
    "cart_hour": "hour",
    "product_id": "product",
    "category_code": "category",
    "cohort_week": "first bought in the week of",
    "active_customers": "bought again",
    "retention_rate": "share",
    "share_of_viewed": "of those that viewed",
    "orders_each": "orders",
    "converted_sessions": "of them bought",
    "abandonment_rate": "share abandoned",
}
# Figures below a chart: the heading, and the text for a row whose sub-category has so many events in all.
_FIGURES: dict[str, tuple[str, Callable[[dict[str, Any], int], str]]] = {
    "events": ("events", lambda row, _: f"{row['events']:,}"),
    "users": ("users", lambda row, _: f"{row['users']:,}"),
    "sessions": ("sessions", lambda row, _: f"{row['sessions']:,}"),
    "views": ("views", lambda row, _: f"{row['views']:,}"),
    "price_sum": ("sum of prices", lambda row, _: _money(row["price_sum"])),
    "price_average": ("average price", lambda row, _: _ratio(row["price_sum"], row["events"], _money)),
    "share_of_events": ("share", lambda row, whole: _ratio(row["events"], whole, _share)),
}


def _numbers_as_answered(rows: Rows, currency: str) -> tuple[list[str], list[list[str]], int]:
    """Return heading, lines and how many columns are texts, of the rows of a query, its first MOST_LINES."""
    names = [name for name in rows[0] if name not in ("weekday", "step_number")]
    is_text = {
        name: name.endswith("_id") or not any(isinstance(row[name], int | float | Decimal) for row in rows)
        for name in names
    }
    names.sort(key=lambda name: not is_text[name])
    header = [
        _with_currency(_LABELS.get(name, name.replace("_", " ")), currency if _is_money(name, rows) else "")
        for name in names
    ]
    lines = [[_cell(name, row[name]) for name in names] for row in rows[:MOST_LINES]]
    return header, lines, sum(is_text.values())


def _is_money(name: str, rows: Rows) -> bool:
    return not _is_share(name) and any(isinstance(row[name], Decimal) for row in rows)


def _is_share(name: str) -> bool:
    return name.endswith(("_rate", "_per_view")) or "share" in name


def _cell(name: str, value: Any) -> str:
    if value is None:
        return NOTHING
    if name.endswith("_hour"):
        return f"{value:02}:00"
    if _is_share(name):
        return _share(value)
    if name.endswith("_id") or isinstance(value, str | date):
        return str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _money(value) if isinstance(value, Decimal | float) else f"{value:,}"


def _with_currency(label: str, currency: str) -> str:
    return f"{label} ({currency})" if currency else label


def _numbers(spec: dict[str, Any], currency: str) -> tuple[list[str], list[list[str]]]:
    """Return the heading and the lines of a chart's table of numbers.

    Sub-categories come with the largest first, everything else in the order of its key.
    """
    meta, rows = spec["usermeta"], spec["datasets"][spec["data"]["name"]]
    wholes: Counter[str] = Counter()
    for row in rows:
        wholes[row.get("subcategory", "")] += row[meta["sums"][0]]

    def order(row: dict[str, Any]) -> list[Any]:
        key = [EVENT_TYPES.index(row[name]) if name == "event_type" else row[name] for name in meta["keys"]]
        return [-wholes[row["subcategory"]], *key] if "subcategory" in row else key

    keys = [name for name in meta["keys"] if name in _LABELS]
    figures = [_FIGURES[name] for name in meta["figures"]]
    header = [
        *(_LABELS[name] for name in keys),
        *(_with_currency(title, currency if "price" in title else "") for title, _ in figures),
    ]
    lines = [
        [_label(name, row[name]) for name in keys]
        + [text(row, wholes[row.get("subcategory", "")]) for _, text in figures]
        for row in sorted(rows, key=order)
    ]
    return header, lines


def _label(key: str, value: Any) -> str:
    return f"{value:02}:00" if key == "event_hour" else str(value)


def _ratio(part: float, whole: float, write: Callable[[float], str]) -> str:
    return write(part / whole) if whole else NOTHING


def _money(amount: Decimal | float) -> str:
    return f"{rounded(amount, 2):,}"


def _share(share: Decimal | float) -> str:
    return percent(share, 2)


def _headline(specs: Mapping[str, dict[str, Any]], days: int, currency: str) -> list[tuple[str, str]]:
    """Return the page's headline figures as (name, text), out of the rows that the charts show."""
    daily, hourly = (
        specs[name]["datasets"][name] if name in specs else []
        for name in ("daily_event_count", "hourly_price_by_event_type")
    )

    def total(rows: Rows, kind: str, measure: str) -> float:
        return sum(row[measure] for row in rows if row["event_type"] == kind)

    a_day = "" if days == 1 else ", average day"
    views, purchases = total(daily, "view", "events"), total(daily, "purchase", "events")
    return [
        ("Events", f"{sum(row['events'] for row in daily):,}"),
        ("Purchases", f"{purchases:,}"),
        ("Purchases per view", _ratio(purchases, views if views >= SMALL_SAMPLE else 0, _share)),
        (
            "Sum of purchase prices",
            f"{currency} ".lstrip() + _money(total(hourly, "purchase", "price_sum")),
        ),
        (f"Viewers{a_day}", f"{rounded(total(daily, 'view', 'users') / days):,}"),
        (f"Buyers{a_day}", f"{rounded(total(daily, 'purchase', 'users') / days):,}"),
    ]


def _library() -> str:
    try:
        return LIBRARY.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Refused(
            f"{LIBRARY} is missing, the library that draws the report's charts. Make it with "
            "`python -m tools.vega_bundle`, as `make install` does, and deploy it with the rest of plugins/."
        ) from None


def _hash(text: str) -> str:
    """Name an inline script or style in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json_in_html(value: Any) -> str:
    """Write JSON that can neither end the script element around it nor begin a comment in it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _without(spec: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name not in names}


def _long(day: date | str) -> str:
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return f"{day.day} {day:%B %Y}"


def _span(first_day: date | str, last_day: date | str) -> str:
    return _long(first_day) if first_day == last_day else f"{_long(first_day)} to {_long(last_day)}"
