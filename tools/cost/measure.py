"""Measure what a mean day of the shop is to BigQuery, into shop.yaml: `python -m tools.cost.measure`.

It generates a day of the shop's mean size, judges it as the load does, and computes the summaries of that day
by tools/reference.py. Kept are how many rows each table gets of a day, and the mean bytes of each text
column; all else follows from the columns' types. Some minutes and 4 GB.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from beam_jobs.files import list_files, plan_ranges, read_range
from beam_jobs.parse import parse_block
from beam_jobs.validate import validate
from local.events import november_2019
from local.events.files import write_landing_day
from shopstream.settings import settings
from shopstream.tables.folder import Table, all_tables
from tools.reference import reference_summaries

DAY = dt.date(2019, 11, 5)
EVENTS_A_DAY = round(november_2019.ROWS / 30)
LATE_SHARE, BAD_SHARE = 0.01, 0.003
SHOP = Path(__file__).parent / "shop.yaml"
TEXT = ("STRING", "BYTES")

GIVEN_BYTES = {"load_id": 17 + 2, "message_id": 17 + 2, "session_key": 16 + 2}
"""Texts that are none of an event: ours of one length, and Pub/Sub's."""
GIVEN_ROWS: Mapping[str, int] = {
    "shop.customer_value": 1_000_000,  # 441,638 customers bought in November 2019; 90 days have more
    "shop.customer_retention": 13,  # a row a cohort of the last 13 weeks
}
"""Rows a day of summaries that look back on more than a generated day."""
HEAD = """\
# What a mean day of the shop is to BigQuery. Written by `python -m tools.cost.measure`, which says how.
#
# tables: rows of one day, and the mean bytes of each text column, which are 2 and its UTF-8 length, of NULL
# 0.
"""


def main() -> None:
    """Measure, and write the file."""
    tables = {table.full_name: table for table in all_tables(settings().sql_dir)}
    with tempfile.TemporaryDirectory() as folder:
        landing = Path(folder) / "landing" / str(DAY)
        write_landing_day(landing.parent, DAY, EVENTS_A_DAY, late_share=LATE_SHARE, bad_share=BAD_SHARE)
        events = pa.concat_tables(list(accepted(landing)))
        summaries = reference_summaries([landing / "events.csv"])
    measured = {}
    for name, table in tables.items():
        if table.view:
            continue
        if "event_id" in table.column_names:
            measured[name] = of_events(table, events)
        elif name in PARTS:
            measured[name] = of_events(table, PARTS[name](events))
        elif (rows := summaries.get(table.name)) is not None and table.query:
            measured[name] = of_summary(table, rows)
    SHOP.write_text(
        HEAD + yaml.safe_dump({"events_a_day": EVENTS_A_DAY, "tables": measured}, sort_keys=False, width=110)
    )


def accepted(landing: Path) -> Iterator[pa.Table]:
    """Yield the events that a load accepts of the files."""
    for file in list_files(str(landing)):
        for part in plan_ranges(file):
            for block in read_range(part):
                yield validate(parse_block(block, part.columns), DAY).accepted


def carts_and_purchases(events: pa.Table) -> pa.Table:
    """Return the events that are no views."""
    return events.filter(pc.not_equal(events["event_type"], "view"))


def product_views(events: pa.Table) -> pa.Table:
    """Return the views of a product, by one customer in one session, as one row."""
    views = events.filter(pc.equal(events["event_type"], "view"))
    return views.group_by(["product_id", "user_id", "user_session"]).aggregate([])


PARTS: Mapping[str, Callable[[pa.Table], pa.Table]] = {
    "shop_raw.carts_and_purchases": carts_and_purchases,
    "shop_raw.product_views": product_views,
}
"""Tables that are made of some of the events."""


def of_events(table: Table, events: pa.Table) -> dict[str, Any]:
    """Measure a table that has a row for each of these events of a day."""
    texts = {}
    for column in table.schema:
        if column.type in TEXT:
            texts[column.name] = GIVEN_BYTES.get(column.name) or round(
                pc.sum(pc.add(pc.binary_length(events[column.name]), 2)).as_py() / len(events), 1
            )
    return {"rows": EVENTS_A_DAY if "event_id" in table.column_names else len(events), "texts": texts}


def of_summary(table: Table, frame: pd.DataFrame) -> dict[str, Any]:
    """Measure a summary from its rows of one day."""
    day = frame[frame[table.metadata.partition_by] == DAY]
    texts = {
        column.name: round(
            sum(len(str(text).encode()) + 2 for text in day[column.name].dropna()) / len(day), 1
        )
        for column in table.schema
        if column.type in TEXT
    }
    return {"rows": GIVEN_ROWS.get(table.full_name, len(day)), "texts": texts}


if __name__ == "__main__":
    main()
