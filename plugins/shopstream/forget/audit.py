"""What is kept of a customer who was forgotten: that it was done, by a keyed hash that names nobody."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.cloud import bigquery

from shopstream.forget.customers import Customers, Key
from shopstream.gcp.bigquery import SMALL_MAX_BYTES, run
from shopstream.tables.day import replace_statement, rows_given
from shopstream.tables.names import FORGOTTEN_CUSTOMERS

if TYPE_CHECKING:
    from shopstream.questions import Approval

TIME_TRAVEL_DAYS = 7
FAIL_SAFE_DAYS = 7
SOFT_DELETE_DAYS = 7
SPANNER_VERSIONS_DAYS = 7
MESSAGES_DAYS = 7
LIST_DAYS = 14


def write_rows(
    client: bigquery.Client,
    run_id: str,
    run_day: dt.date,
    customers: Customers,
    key: Key,
    found: Mapping[str, int],
    approval: Approval,
    proved_at: dt.datetime,
) -> None:
    """Write a row of shop_ops.forgotten_customers for each customer, in place of what the run has written.

    Args:
        run_day: when the run was due: what it has written before, maybe on another day, is not older.
    """
    hashes = sorted(map(key.hash, customers.ids))
    # All rows of a run say the same of it.
    said: dict[str, Any] = {
        "forgotten_on": proved_at.date(),
        "run_id": run_id,
        "key_version": key.name,
        "found": sum(found.values()),
        "found_by_store": json.dumps(dict(found)),
        "approved_by": approval.approved_by,
        "reason": approval.reason,
        "proved_at": proved_at,
    }
    rows, given = rows_given({"customer": ("STRING", hashes)}, {name: f"@{name}" for name in said})
    old = "target.forgotten_on >= @run_day AND target.run_id = @run_id"
    statement = replace_statement(FORGOTTEN_CUSTOMERS, ["customer", *said], rows, old)
    run(
        client,
        statement,
        {"run_day": run_day, **said, **given},
        job_id_prefix="forgotten",
        maximum_bytes_billed=SMALL_MAX_BYTES,
    )


def what_stays(proved_at: dt.datetime, list_name: str | None) -> list[str]:
    """Say in sentences what no statement takes away, and until when."""

    def until(days: int) -> str:
        return f"until {proved_at + dt.timedelta(days=days):%Y-%m-%d %H:%M} UTC"

    asked = (
        f"{list_name} is deleted; the list's soft-deleted copy stays {until(SOFT_DELETE_DAYS)}."
        if list_name
        else "Airflow keeps the user_id in this run's conf and in its audit log: delete the run."
    )
    return [
        f"BigQuery: the deleted rows by time travel {until(TIME_TRAVEL_DAYS)}, and after that in Google's "
        f"fail-safe, which nobody can query, {until(TIME_TRAVEL_DAYS + FAIL_SAFE_DAYS)}; the user_ids as "
        "parameters of this run's statements in the job history for 180 days; cached results of other "
        "queries for 24 hours, each for whoever ran it.",
        f"Cloud Storage: the objects as they were before, soft-deleted, {until(SOFT_DELETE_DAYS)}; lists of "
        f"runs that did not come to their end, for {LIST_DAYS} days. What is neither an export nor landed, "
        "accepted or rejected is not looked at.",
        "The other rejects of a landing file that was written anew keep the byte offsets that they had "
        "before, until its day is loaded again.",
        f"Spanner: older versions of the rows {until(SPANNER_VERSIONS_DAYS)}; backups until each expires.",
        "Pub/Sub: what the stream has not read yet, until it has, at most "
        f"{until(MESSAGES_DAYS)}; if the shop still published events of the customer, run this again then.",
        "Counts that name nobody stay as they are; a build of a day's summaries makes them anew without.",
        asked,
    ]
