"""One day of the pipelines in plain words, from what they wrote of themselves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopstream.gcp.bigquery import SMALL_MAX_BYTES, run
from shopstream.rounding import percent

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

DIGEST_SQL = Path(__file__).with_name("digest.sql")


def read_day(client: Client, day: dt.date) -> dict[str, Any]:
    """Return the one row of digest.sql: what loads, the stream, checks and figures were on that day."""
    sql = DIGEST_SQL.read_text(encoding="utf-8")
    prefix = f"digest-{day:%Y%m%d}"
    [row] = run(
        client, sql, {"day": day}, job_id_prefix=prefix, maximum_bytes_billed=SMALL_MAX_BYTES
    ).result()
    return dict(row)


def in_words(day: dt.date, row: Mapping[str, Any]) -> str:
    """Tell the row of a day in sentences: its loads, the stream, checks, findings, and what is promised."""
    told = [f"{day}:"]
    if row["lines_read"] is None:
        told.append("not published.")
    else:
        share = row["rejected"] / row["lines_read"] if row["lines_read"] else 0
        told.append(
            f"loaded {row['accepted']:,} of {row['lines_read']:,} lines, rejected {row['rejected']:,} "
            f"({percent(share, 2)}), late {row['late']:,}."
        )
    if row["batch_events"]:
        missing = row["only_in_batch"] / row["batch_events"]
        told.append(
            f"The stream lacked {row['only_in_batch']:,} of the loads' events ({percent(missing, 2)})."
        )
    else:
        told.append("The stream was not held against the loads.")
    if row["looks"]:
        told.append(f"It was not well at {row['bad_looks']:,} of {row['looks']:,} looks.")
    else:
        told.append("Nobody looked after it.")
    told.append(
        f"Of {row['checks']:,} checks {row['failed_checks']:,} failed and {row['warned_checks']:,} warned."
        if row["checks"]
        else "No check ran."
    )
    told.append(f"Not as usual: {row['figures']}." if row["findings"] else "No figure called.")
    told.append(f"Left of what may go wrong in 30 days: {row['budgets']}.")
    return " ".join(told)
