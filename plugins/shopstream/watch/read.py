"""What the watching asks BigQuery and writes there."""

# ruff: noqa: S608
# Only names from our own code become part of a statement; values are query parameters.

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shopstream.gcp.bigquery import SMALL_MAX_BYTES, run
from shopstream.tables.day import replace_statement, rows_given
from shopstream.tables.names import FIGURE_FINDINGS
from shopstream.watch.figures import COUNTS, Counts, Finding

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

FIGURES_SQL = Path(__file__).with_name("figures.sql")

CountsOfDays = dict[dt.date, Counts]


def read_counts(
    client: Client, first_day: dt.date, last_day: dt.date
) -> tuple[CountsOfDays, dict[str, CountsOfDays]]:
    """Return the counts of the final days between two, of the whole shop and of each sub-category."""
    job = run(
        client,
        FIGURES_SQL.read_text(encoding="utf-8"),
        {"first_day": first_day, "last_day": last_day},
        job_id_prefix=f"figures-{first_day:%Y%m%d}-{last_day:%Y%m%d}",
        maximum_bytes_billed=SMALL_MAX_BYTES,
    )
    shop: CountsOfDays = {}
    parts: dict[str, CountsOfDays] = defaultdict(dict)
    for row in job.result():
        days = shop if row["subcategory"] is None else parts[row["subcategory"]]
        days[row["event_date"]] = {name: float(row[name]) for name in COUNTS}
    return shop, dict(parts)


def told_before(client: Client, days: Sequence[dt.date]) -> set[tuple[dt.date, str, str | None, bool]]:
    """Return which findings of these days the table has: day, figure, sub-category, and whether too high."""
    sql = f"""
        SELECT event_date, figure, subcategory, value > expected_high AS is_high
        FROM {FIGURE_FINDINGS}
        WHERE event_date BETWEEN @first_day AND @last_day"""
    params = {"first_day": min(days), "last_day": max(days)}
    job = run(client, sql, params, job_id_prefix="told-findings", maximum_bytes_billed=SMALL_MAX_BYTES)
    return {(row["event_date"], row["figure"], row["subcategory"], row["is_high"]) for row in job.result()}


def write_findings(client: Client, days: Sequence[dt.date], findings: Sequence[Finding]) -> None:
    """Write what was found on the days that were judged, in place of what the table has of them."""
    rows, params = rows_given(
        {
            "event_date": ("DATE", [finding.day for finding in findings]),
            "figure": ("STRING", [finding.figure for finding in findings]),
            # BigQuery has no NULL in an array.
            "subcategory": ("STRING", [finding.subcategory or "" for finding in findings]),
            "value": ("FLOAT64", [finding.value for finding in findings]),
            "usual": ("FLOAT64", [finding.usual for finding in findings]),
            "expected_low": ("FLOAT64", [finding.expected_low for finding in findings]),
            "expected_high": ("FLOAT64", [finding.expected_high for finding in findings]),
            "finding": ("STRING", [finding.sentence for finding in findings]),
        },
        {"subcategory": "NULLIF(subcategory, '')", "found_at": "CURRENT_TIMESTAMP()"},
    )
    statement = replace_statement(
        FIGURE_FINDINGS,
        [*params, "found_at"],
        rows,
        "target.event_date BETWEEN @first_day AND @last_day AND target.event_date IN UNNEST(@judged)",
    )
    given = {**params, "judged": list(days), "first_day": min(days), "last_day": max(days)}
    run(client, statement, given, job_id_prefix="figure-findings", maximum_bytes_billed=SMALL_MAX_BYTES)
