"""The tasks of build_summaries and build_summaries_intraday: one for each table, and the dry run."""

# google.cloud.bigquery takes seconds to import, which parsing a DAG file should not: so the tasks import it.
from __future__ import annotations

import logging
from datetime import date, timedelta
from typing import Any

from airflow.sdk import TaskGroup, task

from shopstream.alerts import filled_day_failed
from shopstream.assets import SUMMARIES_BUILT
from shopstream.days import NOTHING_CHANGED, days_of_run, intraday_window, is_dry_run, summary_days, told_days
from shopstream.gcp.clients import bigquery_client
from shopstream.lineage import lineage
from shopstream.settings import settings
from shopstream.tables.folder import built_in_order, load_table
from shopstream.tables.names import CHECK_RESULTS

GROUP_ID = "summaries"

log = logging.getLogger(__name__)


def build_all(days: Any, execution_timeout: timedelta) -> TaskGroup:
    """Make a task for each summary and each table made for them, after those that it reads.

    `days` is a task's list of YYYY-MM-DD.
    """
    tasks: dict[str, Any] = {}
    with TaskGroup(GROUP_ID) as group:
        for name, reads in built_in_order(settings().sql_dir).items():
            named = lineage(name, CHECK_RESULTS)
            made = task(task_id=name.partition(".")[2], execution_timeout=execution_timeout, **named)(build)
            tasks[name] = made(name, days)
            for read in reads:
                tasks[read] >> tasks[name]
    return group


def resolve_days(**context: Any) -> list[str]:
    """Return the days to build, in order, as YYYY-MM-DD; see shopstream.days."""
    from shopstream.tables.published import days_published

    return days_of_run(summary_days(context, lambda *moments: days_published(bigquery_client(), *moments)))


def resolve_intraday_days(**context: Any) -> list[str]:
    """Return the unpublished of yesterday and today, and late days that are due, in order, as YYYY-MM-DD."""
    from shopstream.summaries.build import intraday_days

    env = settings()
    today, since, collect_since = intraday_window(context, env.late_days_hours)
    return days_of_run(intraday_days(bigquery_client(), today, since, collect_since, env.late_days_share))


def dry_or_real(**context: Any) -> str:
    """Return what is to run: the task `dry_run`, or the tasks that build."""
    is_dry = is_dry_run(context)
    log.info(
        "This is %s.", "a dry run, which changes nothing" if is_dry else "no dry run: the days are built"
    )
    return "dry_run" if is_dry else GROUP_ID


def build(table_name: str, days: list[str], **context: Any) -> int:
    """Replace the days' rows of one table, then check each day; returns the rows of these days.

    A day that it fills and that fails a check is told, and fails nothing: what reads the table is built.
    """
    from shopstream.summaries import build as summaries

    table, wanted = load_table(settings().sql_dir, table_name), [date.fromisoformat(day) for day in days]
    try:
        rows = summaries.build(bigquery_client(), table, wanted)
    except summaries.FilledDayFailed as failed:
        filled_day_failed(context, str(failed))
        rows = failed.rows
    log.info(
        "%s is built for %s, and checked; rows of all days built: %s.",
        *(table_name, told_days(wanted), f"{rows:,}"),
    )
    return rows


def tell_built(days: list[str], **context: Any) -> None:
    """Tell by the asset SUMMARIES_BUILT which days' summaries were built."""
    context["outlet_events"][SUMMARIES_BUILT].extra = {"days": days}
    log.info(
        "It is told that the summaries of %s are built.", told_days([date.fromisoformat(day) for day in days])
    )


def dry_run(days: list[str]) -> dict[str, int]:
    """Log what building all summaries of the days would read and change; returns the sums."""
    from shopstream.summaries import build as summaries

    sql_dir = settings().sql_dir
    tables = [load_table(sql_dir, name) for name in built_in_order(sql_dir)]
    changes = summaries.dry_run(bigquery_client(), tables, [date.fromisoformat(day) for day in days])
    log.info("A build would do this:\n%s", summaries.describe(changes))
    sums = {
        "bytes_read": sum(change.bytes_read for change in changes),
        "rows_gone": sum(change.rows_gone for change in changes),
        "rows_new": sum(change.rows_new for change in changes),
    }
    log.info(
        "Builds: %d, which would take %s rows away and bring %s. %s",
        *(len(changes), f"{sums['rows_gone']:,}", f"{sums['rows_new']:,}", NOTHING_CHANGED),
    )
    return sums
