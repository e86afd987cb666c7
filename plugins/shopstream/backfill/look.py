"""What there is of the days of a backfill: asked of Cloud Storage and BigQuery, and nothing is changed."""

# ruff: noqa: S608
# Only names from our own code become part of a statement; values are query parameters.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from beam_jobs.contract import LATENESS_DAYS, ContractError
from beam_jobs.lines import event_files, is_events_file
from shopstream import layout
from shopstream.backfill.plan import Found
from shopstream.gcp.bigquery import SMALL_MAX_BYTES, bytes_read, run
from shopstream.load.landed import describe_missing, landed_objects
from shopstream.load.launch import launched_at
from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.summaries.build import LAST_LOADED, days_to_build, known_days
from shopstream.tables.day import build_statement, checks_statement
from shopstream.tables.expiration import refuse_expired
from shopstream.tables.folder import Table
from shopstream.tables.names import CHECK_RESULTS

if TYPE_CHECKING:
    from google.cloud.bigquery import Client as BigQuery
    from google.cloud.storage import Client as Storage

    from shopstream.tables.published import PublishedDay

THREADS = 8


def find_days(
    bigquery: BigQuery,
    storage: Storage,
    tables: Iterable[Table],
    days: Sequence[date],
    published: Mapping[date, PublishedDay],
) -> list[Found]:
    """Return what there is of each day.

    Args:
        tables: all summaries.
        days: in order.
        published: the days that loads have published.
    """
    summarised = _summarised(bigquery, tables, days)
    with ThreadPoolExecutor(THREADS) as threads:
        landed = list(threads.map(partial(_landed, storage), days))
    return [_with_load(found, published.get(found.day), summarised.get(found.day)) for found in landed]


def _with_load(found: Found, load: PublishedDay | None, summarised_at: datetime | None) -> Found:
    found = replace(found, summarised_at=summarised_at)
    if load is None:
        return found
    return replace(found, launched_at=launched_at(load), published_at=load.loaded_at, events=load.events)


def _summarised(client: BigQuery, tables: Iterable[Table], days: Sequence[date]) -> dict[date, datetime]:
    """When all summaries of a day were built, of the days of which all have passed their checks.

    By the checks, since a summary may rightly have no row of a day. Not of a day whose events a load has
    changed since, were it by late ones in another landing day.
    """
    sql = f"""
        WITH built AS (
            SELECT event_date, table_name, MIN(checked_at) AS checked_at
            FROM {CHECK_RESULTS}
            WHERE event_date BETWEEN @first_day AND @last_day
            GROUP BY event_date, table_name
            HAVING COUNTIF(severity = 'fail' AND found_rows > 0) = 0
        ),
        loaded AS ({LAST_LOADED})
        SELECT built.event_date, built.table_name, built.checked_at
        FROM built
        LEFT JOIN loaded ON built.event_date = loaded.event_date
        WHERE loaded.loaded_at IS NULL OR loaded.loaded_at <= built.checked_at"""
    params = {
        "first_day": days[0],
        "last_day": days[-1],
        "last_landing_day": days[-1] + timedelta(days=LATENESS_DAYS),
    }
    job = run(client, sql, params, job_id_prefix="summarised-days", maximum_bytes_billed=SMALL_MAX_BYTES)
    checked: dict[date, dict[str, datetime]] = {}
    for row in job.result():
        checked.setdefault(row.event_date, {})[row.table_name] = row.checked_at
    names = {table.full_name for table in tables if table.checks}
    return {
        day: min(of_day[name] for name in names) for day, of_day in checked.items() if names <= of_day.keys()
    }


def bytes_of_build(client: BigQuery, tables: Iterable[Table], day: date) -> dict[str, int]:
    """Return what BigQuery says that building and checking the day of each summary would read, in bytes."""
    statements = [
        (table.full_name, sql)
        for table in tables
        for sql in (build_statement(table), checks_statement(table))
    ]
    with ThreadPoolExecutor(THREADS) as threads:
        counts = list(threads.map(lambda one: bytes_read(client, one[1], {"day": day}), statements))
    read: dict[str, int] = {}
    for (name, _), count in zip(statements, counts, strict=True):
        read[name] = read.get(name, 0) + count
    return read


def days_built(client: BigQuery, tables: Sequence[Table], days: Sequence[date]) -> dict[str, list[date]]:
    """Return the days of each summary that a build of `days` replaces, by the days that are known now."""
    reach = max(tables, key=lambda table: table.metadata.lookback_days + table.metadata.lookahead_days)
    known = known_days(client, days, reach)
    return {table.full_name: days_to_build(table, days, known) for table in tables}


def _landed(storage: Storage, day: date) -> Found:
    """What the day's folder holds."""
    env = settings()
    objects = landed_objects(storage, env.bucket, day)
    success = objects.get(layout.SUCCESS)
    # The console makes an empty object of a folder's name.
    names = [name for name in objects if name]
    files, lacks = [name for name in names if is_events_file(name)], None
    try:
        refuse_expired(day, datetime.now(UTC).date(), env.events_keep_days)
        if success is None:
            lacks = describe_missing(env.bucket, day, names)
        else:
            event_files(f"gs://{env.bucket}/{layout.landing(day)}", names)
    except (ContractError, Refused) as error:
        lacks = str(error)
    return Found(
        day,
        len(files),
        sum(objects[name].size_bytes for name in files),
        any(name.lower().endswith(".gz") for name in files),
        lacks,
        success.written if success else None,
    )
