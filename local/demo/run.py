"""One run of the demo: its steps and seconds, what came of it, and whether what must always hold does."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from google.cloud import bigquery, spanner
from rich.console import Console
from rich.table import Table
from rich.text import Text

from local.demo.stream import StreamedDay
from local.hand.shop import clients, counted, rejects
from shopstream import layout
from shopstream.gcp.bigquery import SMALL_MAX_BYTES
from shopstream.gcp.bigquery import run as run_statement
from shopstream.report.page import CHARTS, chart_specs
from shopstream.rounding import percent
from shopstream.settings import settings
from shopstream.tables.folder import Headline, load_table, summaries_in_order
from shopstream.tables.names import LOADS
from tools.vega_bundle import png

SENTENCES = (
    ("daily_event_count",),
    ("revenue_daily", "brand_performance"),
    ("most_visited_subcategories",),
    ("purchase_funnels", "cart_abandonment"),
)
"""The summaries whose headlines make one sentence each of what customers did."""
MAX_REASONS = 8
"""So many are told with a place, the most frequent first: the end is a page of a terminal."""
MIN_SAMPLE = 100
"""A share of fewer is no headline."""
console = Console(width=max(100, Console().width))


@dataclass
class Run:
    """One demo: what it was given, what it did and what came of it."""

    out: Path
    """Where the results are: until all is well not yet in `final`."""
    final: Path
    landed: dict[str, dict[str, int]] = field(default_factory=dict)
    """What was landed, by landing day, as the landing side counted it: rows and, when known, more."""
    seconds: dict[str, float] = field(default_factory=dict)
    days: list[dict[str, Any]] = field(default_factory=list)
    summaries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rejects: list[tuple[str, int, str]] = field(default_factory=list)
    """Reason, lines and the place of one of them, the most frequent first."""
    stores: dict[str, Any] = field(default_factory=dict)
    """What else was counted in BigQuery: rejected lines by landing day, and the rows of shop.events."""
    asked: str = ""
    """What a load asked a person, who had it published."""
    approvals: list[str] = field(default_factory=list)
    """The loads that were published by approval, in words, as their audit rows tell."""
    stream: StreamedDay | None = None
    streamed: dict[str, Any] | None = None
    broken: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def into(cls, out: Path) -> Run:
        """A demo whose results go into the folder `out`; what is there stays until they are whole."""
        unfinished = out.with_name(f"{out.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        return cls(unfinished, final=out)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Announce a step and keep its seconds."""
        console.print(f"[bold]{what}[/bold]", highlight=False)
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 1)

    def collect(self, launched: list[dict[str, str]]) -> None:
        """Read what the loads left in the stores, write each summary's file, and tell what is broken."""
        spanner_client, bigquery_client, storage_client = clients()
        touched = self._count_days(spanner_client, bigquery_client, launched)
        charted = {f"shop.{table}" for table in CHARTS}
        with ThreadPoolExecutor(1) as background:
            names = summaries_in_order(settings().sql_dir)
            for table in sorted(names, key=lambda table: table not in charted):
                self._fetch_summary(bigquery_client, table, touched)
                if len(self.summaries) == len(charted):
                    drawn = background.submit(self._draw_charts)
            [seen] = _query(bigquery_client, _SEEN, days=sorted(touched))
        self.stores |= dict(seen.items())
        self.rejects = rejects([load["load_id"] for load in launched])
        drawn.result()
        bucket = storage_client.bucket(os.environ["SHOPSTREAM_BUCKET"])
        bucket.blob(layout.LATEST_REPORT).download_to_filename(self.out / "report.html")
        self.broken += broken_invariants(self)
        if self.stream:
            self.streamed, sentences = self.stream.result()
            self.broken += sentences

    def _count_days(
        self, spanner_client: spanner.Client, client: bigquery.Client, launched: list[dict[str, str]]
    ) -> set[date]:
        """Count each landing day in both stores; return the days whose events changed."""
        database = spanner_client.instance(os.environ["SHOPSTREAM_SPANNER_INSTANCE"]).database(
            os.environ["SHOPSTREAM_SPANNER_DATABASE"]
        )
        with database.snapshot() as snapshot:
            in_spanner = {
                str(day): rows
                for day, rows in snapshot.execute_sql(
                    "SELECT landing_day, COUNT(*) FROM loaded_events "
                    "JOIN published_loads USING (landing_day, load_id) GROUP BY landing_day"
                )
            }
        in_bigquery = {str(row["landing_day"]): row["events"] for row in _query(client, _IN_BIGQUERY)}
        touched: set[date] = set()
        for load in sorted(launched, key=lambda load: load["landing_day"]):
            day, load_id = load["landing_day"], load["load_id"]
            audits = _query(client, _AUDIT, day=date.fromisoformat(day), load_id=load_id)
            if not audits:
                self.broken.append(f"{day}: load {load_id} has no audit row in shop_ops.loads.")
                continue
            [audit] = audits
            touched |= set(audit["event_dates"])
            if audit["approved_by"]:
                self.approvals.append(
                    f"{day}: {percent(audit['rejected'] / audit['read'], 2)} rejected, published by "
                    f"{audit['approved_by']}: {audit['approval_reason']}"
                )
            counts = {
                "landing_day": day,
                "spanner_rows": in_spanner.get(day, 0),
                "bigquery_rows": in_bigquery.get(day, 0),
            }
            self.days.append({name: counts.get(name, audit.get(name)) for name in day_columns()})
            [rejected] = _query(client, _REJECTED, load_id=load_id)
            self.stores.setdefault("rejected", {})[day] = rejected["lines"]
        return touched

    def _fetch_summary(self, client: bigquery.Client, full_name: str, touched: set[date]) -> None:
        """Keep a summary's rows of the days touched, and write them as CSV."""
        # One text a row: for 14 values a row the client and the emulator take four times as long.
        rows = _query(
            client,
            f"SELECT TO_JSON_STRING(t) AS row_json FROM {full_name} AS t "  # noqa: S608 - names of our own
            "WHERE event_date IN UNNEST(@days)",
            days=sorted(touched),
        )
        names = [column.name for column in client.get_table(f"{client.project}.{full_name}").schema]
        table = full_name.removeprefix("shop.")
        texts = sorted(row["row_json"] for row in rows)
        self.summaries[table] = [json.loads(text, parse_float=Decimal) for text in texts]
        with (self.out / f"{table}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(
                {name: _plain(value) for name, value in row.items()} for row in self.summaries[table]
            )

    def _draw_charts(self) -> None:
        """Draw the report's charts as PNGs, once their tables are fetched."""
        for name, spec in chart_specs({table: self.summaries[table] for table in CHARTS}).items():
            (self.out / f"{name}.png").write_bytes(png(spec))

    def tell(self) -> int:
        """Print the table and the headlines, write result.json; 1 when anything is broken."""
        if self.days:
            table = Table(title="What came of each landing day")
            columns = day_columns()
            for name in columns:
                table.add_column(name, justify="left" if name == "landing_day" else "right")
            for day in self.days:
                table.add_row(
                    *(f"{day[name]:,}" if isinstance(day[name], int) else str(day[name]) for name in columns)
                )
            console.print(table)
        if self.rejects:
            told_rejects = Table(title="Rejected lines")
            for name in ("reason", "lines", "such as"):
                told_rejects.add_column(name, justify="right" if name == "lines" else "left")
            for reason, lines, place in self.rejects[:MAX_REASONS]:
                told_rejects.add_row(reason, f"{lines:,}", Text(place))
            console.print(told_rejects)
            if others := self.rejects[MAX_REASONS:]:
                told = ", ".join(f"{reason} {lines:,}" for reason, lines, _ in others)
                more = counted("  and {others:,} reasons more: {told}", others=len(others), told=told)
                console.print(more, highlight=False)
        if self.asked or self.approvals:
            console.print("[bold]What a load asked a person[/bold]")
            for sentence in filter(None, (self.asked, *self.approvals)):
                console.print(f"  {sentence}", highlight=False, markup=False)
        if told_customers := [*filter(None, map(self._sentence, SENTENCES))]:
            console.print("[bold]What customers did[/bold]")
            for sentence in told_customers:
                console.print(f"  {sentence}", highlight=False, markup=False)
        if self.summaries:
            rows_told = ", ".join(f"{name} {len(rows):,}" for name, rows in self.summaries.items())
            console.print(f"[bold]Rows of the summaries[/bold]: {rows_told}", highlight=False)
        if self.streamed:
            console.print(f"[bold]Stream[/bold]: {told_stream(self.streamed)}", highlight=False)
        report = self.out / "report.html"
        where = self.out if self.broken else self.final
        result = {
            "days": self.days,
            "approvals": self.approvals,
            "stream": self.streamed,
            "summaries": {name: len(rows) for name, rows in self.summaries.items()},
            "seconds": self.seconds,
            "report": str((where / report.name).resolve()) if report.exists() else None,
        }
        (self.out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        if not self.broken:
            shutil.rmtree(self.final, ignore_errors=True)
            self.out.rename(self.final)
            self.out = self.final
        console.print(
            f"Seconds: {', '.join(f'{name} {seconds:g}' for name, seconds in self.seconds.items())}; "
            f"in all {time.monotonic() - self.began:.0f}",
            highlight=False,
        )
        console.print(f"Result: {self.out / 'result.json'}", highlight=False)
        if (self.out / report.name).exists():
            console.print(f"Report: {self.out / report.name}", highlight=False)
        for sentence in self.broken:
            console.print(f"[red]BROKEN[/red] {sentence}", highlight=False)
        return 1 if self.broken else 0

    def _sentence(self, tables: tuple[str, ...]) -> str:
        """The headlines of some summaries as one sentence; "" if none has one."""
        told = []
        for name in tables:
            wanted = load_table(settings().sql_dir, f"shop.{name}").metadata.headline
            if rows := self.summaries.get(name):
                told.append(headline(wanted, rows))
        sentence = "; ".join(filter(None, told))
        return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _plain(value: Any) -> Any:
    """A value as a person writes it: a decimal without an exponent and without zeros at its end."""
    return f"{value.normalize():f}" if isinstance(value, Decimal) else value


_IN_BIGQUERY = """
SELECT landing_day, COUNT(DISTINCT event_id) AS events FROM shop_raw.events_batch
WHERE event_date >= '0001-01-01' GROUP BY landing_day
"""
_AUDIT = "SELECT * FROM shop_ops.loads WHERE landing_day = @day AND load_id = @load_id"
_REJECTED = """
SELECT COALESCE(SUM(lines), 0) AS lines FROM shop.rejected_events
WHERE rejected_date >= '0001-01-01' AND source = 'batch' AND load_id = @load_id
"""
_SEEN = """
SELECT COUNT(*) AS events, COUNT(DISTINCT event_id) AS distinct_events
FROM shop.events WHERE event_date IN UNNEST(@days)
"""


def broken_invariants(run: Run) -> list[str]:
    """Every sentence of docs/guarantees.md that this run's counts contradict."""
    broken = []
    for day in run.days:
        name, landed = day["landing_day"], run.landed[day["landing_day"]]
        distinct = day["accepted"] - day["duplicates"]
        checks = {
            "rows read = accepted + rejected": (day["read"], day["accepted"] + day["rejected"]),
            "rows landed = rows read": (landed["rows"], day["read"]),
            "Spanner's rows = accepted - duplicates": (day["spanner_rows"], distinct),
            "BigQuery's rows = accepted - duplicates": (day["bigquery_rows"], distinct),
            "lines kept in rejected_events = rejected": (run.stores["rejected"][name], day["rejected"]),
        }
        for count in ("rejected", "duplicates", "late"):
            if count in landed:
                checks[f"{count} landed = {count} counted"] = (landed[count], day[count])
        broken += [
            f"{name}: {rule}: {left:,} is not {right:,}"
            for rule, (left, right) in checks.items()
            if left != right
        ]
    if missing := sorted(set(run.landed) - {day["landing_day"] for day in run.days}):
        broken.append(f"landed but not loaded: {', '.join(missing)}")
    if run.asked and not run.approvals:
        broken.append(f"asked: {run.asked}; no audit row tells who approved it")
    seen = run.stores["events"]
    if seen != run.stores["distinct_events"]:
        broken.append(f"shop.events shows {run.stores['distinct_events']:,} events in {seen:,} rows")
    for table in ("daily_event_count", "purchase_conversion_volume", "hourly_price_by_event_type"):
        counted = sum(row["events"] for row in run.summaries[table])
        if counted != seen:
            broken.append(f"{table} counts {counted:,} events, shop.events has {seen:,}")
    return broken


def day_columns() -> list[str]:
    """What is told of a landing day: the day, and all that its audit row counts."""
    loads = load_table(settings().sql_dir, LOADS)
    counts = [column.name for column in loads.schema if column.type == "INT64"]
    return ["landing_day", *counts]


def told_stream(streamed: Mapping[str, Any]) -> str:
    """What came of the stream, as StreamedDay.result tells it, in a sentence."""
    told = ["{published:,} messages published: {stream_rows:,} rows of {distinct_in_view:,} events"]
    told.append("{rejected:,} messages rejected")
    if streamed["kills"]:
        told.append("killed {kills:,} times")
    if streamed["seconds_to_recover"] is not None:
        told.append("the next message {seconds_to_recover} s later")
    if streamed["keep_alive_seconds"] is not None:
        told.append("a look of keep_stream_alive {keep_alive_seconds} s")
    return f"{counted(', '.join(told), **streamed)}."


def headline(wanted: Headline | None, rows: list[dict[str, Any]]) -> str:
    """What a reader of a summary looks for first, as its metadata.yaml words it; "" if it does not."""
    if not rows:
        return "no rows"
    if not wanted:
        return ""
    if wanted.latest_day:
        last = max(row["event_date"] for row in rows)
        rows = [row for row in rows if row["event_date"] == last]
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        if wanted.by and row[wanted.by] is None:  # What has no brand is no brand.
            continue
        if all(row[name] == value for name, value in wanted.where.items()):
            groups.setdefault(wanted.by and row[wanted.by], []).append(row)
    told = []
    for value, group in groups.items():
        figures = {name: sum(row[name] for row in group) for name in wanted.summed}
        if "share" in wanted.fields:
            whole = sum(row[wanted.most] for row in rows if not wanted.by or row[wanted.by] == value)
            if whole < MIN_SAMPLE:
                continue
            figures["share"] = figures[wanted.most] / whole
        others = {wanted.by: value, "rows": len(group), "currency": f"{settings().currency} ".lstrip()}
        told.append((figures, counted(wanted.text, **figures, **others)))
    if wanted.most:
        told.sort(key=lambda one: -one[0][wanted.most])
    return ", ".join(text for _, text in told[: wanted.first or None])


def _query(client: bigquery.Client, sql: str, **params: Any) -> list[bigquery.Row]:
    """The rows of a query with these parameters."""
    job = run_statement(client, sql, params, job_id_prefix="demo", maximum_bytes_billed=SMALL_MAX_BYTES)
    return list(job.result())
