"""Two days of a small shop, summarised: what the pages and their routes are tested on."""

from __future__ import annotations

import datetime as dt
from typing import Any

from google.cloud import bigquery as bigquery_api
from google.cloud.spanner_v1 import COMMIT_TIMESTAMP
from google.cloud.spanner_v1.database import Database

from beam_jobs.identity import shard
from shopstream.settings import settings
from shopstream.tables.day import build_day
from shopstream.tables.folder import load_table
from tests.sql.events import BUILT, batch_event, build_tables_read, fill

WEEK_BEFORE, DAY, NEXT = dt.date(2019, 10, 25), dt.date(2019, 11, 1), dt.date(2019, 11, 2)
HOSTILE = "=cmd()</script><script>alert(1)</script>"


def fill_shop(bigquery: bigquery_api.Client) -> None:
    """Fill and build those two days in empty tables; a load has published the first."""

    def at(day: dt.date, hour: int, kind: str, user: int, **given: Any) -> dict[str, Any]:
        time = dt.datetime.combine(day, dt.time(hour))
        event_id = f"{day}{hour}{kind}{user}{given}"
        return batch_event(
            event_id=event_id, event_time=time, event_type=kind, user_id=user, user_session=f"{user}", **given
        )

    fill(
        bigquery,
        "shop_raw.events_batch",
        [
            at(WEEK_BEFORE, 9, "purchase", 1),
            at(DAY, 9, "view", 1),
            at(DAY, 10, "cart", 1),
            at(DAY, 11, "purchase", 1, price="100.25"),
            at(DAY, 11, "purchase", 1, product_id=3, category_code="appliances.kitchen", price="0"),
            at(DAY, 9, "view", 2, product_id=2, brand=HOSTILE),
            at(DAY, 12, "purchase", 2, product_id=2, brand=HOSTILE, price="7"),
            at(DAY, 9, "view", 3, product_id=3, category_code="appliances.kitchen", brand=None),
            at(NEXT, 9, "view", 1),
            at(NEXT, 9, "cart", 4, product_id=4, category_code=None),
        ],
    )
    purchases = load_table(settings().sql_dir, "shop.customer_purchases")
    build_tables_read(bigquery, purchases, [WEEK_BEFORE])
    build_day(bigquery, purchases, WEEK_BEFORE)
    for name in BUILT:
        for day in (DAY, NEXT):
            build_day(bigquery, load_table(settings().sql_dir, name), day)
    promise = {"objective": "fresh_days", "good": 1, "total": 2, "promised_share": 0.95}
    fill(
        bigquery,
        "shop_ops.objectives",
        [{"event_date": day, "budget_left": left, **promise} for day, left in ((DAY, 1), (NEXT, -9))],
    )
    usual = {
        "value": 0,
        "usual": 100,
        "expected_low": 70,
        "expected_high": 130,
        "found_at": "2019-11-02T07:00:00Z",
    }
    finding = {"event_date": DAY, "figure": "purchases", "finding": f"purchases of {HOSTILE} is 0"}
    fill(bigquery, "shop_ops.figure_findings", [finding | usual])
    fields = {field.name: 1 for field in bigquery.get_table("shop_ops.loads").schema} | {
        "landing_day": DAY,
        "load_id": "20191101-aaaaaaaa",
        "job_id": "j",
        "event_dates": None,
        "approved_by": "maria",
        "approval_reason": HOSTILE,
        "loaded_at": "2019-11-02T06:12:00Z",
    }
    fields.pop("event_dates")
    bigquery.query_and_wait("DELETE FROM shop_ops.loads WHERE landing_day >= '2000-01-01'")
    bigquery.query_and_wait(
        "INSERT INTO shop_ops.loads ("
        + ", ".join(fields)
        + ", event_dates) VALUES ("
        + ", ".join(f"'{value}'" if not isinstance(value, int) else str(value) for value in fields.values())
        + ", [DATE '2019-11-01'])"
    )


def write_journey(
    database: Database,
    *events: tuple[int, dt.datetime, str],
    load_id: str = "load",
    is_published: bool = True,
) -> None:
    """Write events of customers: whose, when, and the last character of the id."""
    columns = (
        *("shard", "user_id", "event_date", "event_time", "event_id", "landing_day", "event_type"),
        *("product_id", "category_id", "price", "load_id"),
    )
    rows = [
        [shard(user), user, time.date(), time, last.rjust(32, "0"), time.date(), "view", 1, 2, 3, load_id]
        for user, time, last in events
    ]
    loads = [[day, load_id, COMMIT_TIMESTAMP] for day in {time.date() for _, time, _ in events}]
    with database.batch() as batch:
        batch.insert_or_update("loaded_events", columns, rows)
        if is_published:
            batch.insert_or_update("published_loads", ("landing_day", "load_id", "published_at"), loads)
