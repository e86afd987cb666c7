"""Hold the stream against the daily loads: what one has of a day's events and the other lacks."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shopstream.gcp.bigquery import SMALL_MAX_BYTES, run
from shopstream.retries import Refused
from shopstream.rounding import percent
from shopstream.settings import Limits
from shopstream.tables.day import build_day
from shopstream.tables.folder import Table

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

LEVELS = ("ok", "absent", "warn", "fail")
"""From good to bad. A day is absent when there was no stream yet."""

log = logging.getLogger(__name__)


class StreamIncomplete(Refused):
    """The stream lacks more events of some days than it may; the message names each day and type."""


def compare_days(client: Client, table: Table, days: Sequence[dt.date], missing: Limits) -> dict[str, str]:
    """Compare each day, replace its rows in `table` (shop_ops.stream_completeness), and log them.

    `missing` tells from which share of a type's events on, that the loads brought and the stream did not, a
    day is at level warn or fail.

    Returns:
        Each day, as YYYY-MM-DD, that has events, and the worst level of its types.

    Raises:
        StreamIncomplete: some days are at level fail. The rows of all days are written before.
    """
    rows: list[Any] = []
    for day in days:
        shares = {"warn_share": missing.warn, "fail_share": missing.fail}
        build_day(client, table, day, shares)
        rows += _read_day(client, table, day)
    log.info("%s\n%s", table.full_name, _as_text(rows, days))
    if failed := [row for row in rows if row["level"] == "fail"]:
        raise StreamIncomplete(
            "\n".join(
                f"{row['event_date']}: the stream lacks {row['only_in_batch']:,} of {row['batch_events']:,} "
                f"{row['event_type']} events ({_share(row)}; at most {percent(missing.fail, 2)} may "
                "be missing)."
                for row in failed
            )
            + "\nLook at the checks of keep_stream_alive on these days; compare again when the stream has "
            "caught up. Nothing is missing in shop.events, which shows what came either way."
        )
    return {
        str(day): max((row["level"] for row in of_day), key=LEVELS.index)
        for day in days
        if (of_day := [row for row in rows if row["event_date"] == day])
    }


def _read_day(client: Client, table: Table, day: dt.date) -> list[Any]:
    sql = f"""
        SELECT {", ".join(table.column_names)}
        FROM {table.full_name}
        WHERE event_date = @day
        ORDER BY batch_events DESC, event_type"""  # noqa: S608 (names of our own files)
    job = run(
        client,
        sql,
        {"day": day},
        job_id_prefix=f"read-{table.name}-{day:%Y%m%d}",
        maximum_bytes_billed=SMALL_MAX_BYTES,
    )
    return [dict(row) for row in job.result()]


def _as_text(rows: Iterable[Any], days: Iterable[dt.date]) -> str:
    columns = ("batch_events", "stream_events", "only_in_batch", "only_in_stream")
    lines = [f"event_date  event_type  {'  '.join(columns)}  missing  level"]
    seen = set()
    for row in rows:
        seen.add(row["event_date"])
        numbers = "  ".join(f"{row[name]:{len(name)},}" for name in columns)
        lines.append(
            f"{row['event_date']}  {row['event_type']:10}  {numbers}  {_share(row):>7}  {row['level']}"
        )
    lines += [f"{day}  neither the loads nor the stream have an event" for day in days if day not in seen]
    return "\n".join(lines)


def _share(row: Any) -> str:
    """The share of the loads' events that the stream lacks, in percent."""
    return percent(row["only_in_batch"] / row["batch_events"] if row["batch_events"] else 0, 2)
