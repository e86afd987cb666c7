"""The charts: what each shows, and the query that makes its rows; for the report and for the dashboard.

A chart is two files of one name here. `<name>.vl.json` is its Vega-Lite specification, whose `data.name` is
the chart's name. `<name>.sql` is one SELECT over the summary tables, of the days from @first_day to
@last_day; one that takes @subcategory or @brand shows only that one unless it is NULL. `usermeta` of the
specification says `place`, in what order the page shows it, and `beside_px`, the width of everything beside
its plot; `wide` is there if it needs the page's whole width. `click` says in words what a click on a mark
does on the page, `empty` what is to be said without rows, if there is more to say than that, and `undrawn`
what is to be said where the chart draws none of its rows. Of a chart of the report it says more: see
shopstream.report.page. A further chart is two further files.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

CHARTS_DIR = Path(__file__).parent
LIBRARY = CHARTS_DIR / "vega.js"
DRAW = CHARTS_DIR / "draw.js"
FILTERS = ("subcategory", "brand")
"""What a query may be narrowed by, as its parameters are named."""


def chart_names() -> list[str]:
    """Return the names of all charts, in the order in which the page shows them."""
    names = [path.name.removesuffix(".vl.json") for path in CHARTS_DIR.glob("*.vl.json")]
    return sorted(names, key=lambda name: read_spec(name)["usermeta"]["place"])


def read_spec(name: str) -> dict[str, Any]:
    """Read the specification of a chart, without rows and theme."""
    spec: dict[str, Any] = json.loads((CHARTS_DIR / f"{name}.vl.json").read_text(encoding="utf-8"))
    return spec


def read_sql(name: str) -> str:
    """Read the query of a chart."""
    return (CHARTS_DIR / f"{name}.sql").read_text(encoding="utf-8").strip()


def read_theme() -> dict[str, Any]:
    """Read the configuration that all charts share, of the light theme."""
    theme: dict[str, Any] = json.loads((CHARTS_DIR / "theme.json").read_text(encoding="utf-8"))
    return theme


def filters_of(sql: str) -> tuple[str, ...]:
    """Return which of FILTERS a query takes."""
    return tuple(name for name in FILTERS if f"@{name}" in sql)


def query_params(sql: str, first_day: date, last_day: date, **chosen: str | None) -> dict[str, Any]:
    """Return the parameters of a query: the days, and of FILTERS those that it takes, NULL unless chosen."""
    # Here, since it takes seconds to import, which parsing a DAG file should not.
    from google.cloud.bigquery import ScalarQueryParameter

    narrowed = {
        name: ScalarQueryParameter(name, "STRING", chosen.get(name) or None) for name in filters_of(sql)
    }
    return {"first_day": first_day, "last_day": last_day, **narrowed}


def runnable_sql(sql: str, first_day: date, last_day: date, **chosen: str | None) -> str:
    """Return a query that runs as it is, its parameters' values in it; above it, what makes its tables."""
    values = {"first_day": f"DATE '{first_day}'", "last_day": f"DATE '{last_day}'"}
    for name in filters_of(sql):
        value = chosen.get(name)
        # What JSON escapes in a text means the same in GoogleSQL.
        values[name] = json.dumps(value, ensure_ascii=False) if value else "CAST(NULL AS STRING)"
    tables = sorted(set(re.findall(r"(?:FROM|JOIN) shop\.(\w+)", sql)))
    sources = "".join(f"-- shop.{table} is made by sql/bigquery/shop/{table}/\n" for table in tables)
    return sources + re.sub(r"@(\w+)", lambda param: values[param[1]], sql)
