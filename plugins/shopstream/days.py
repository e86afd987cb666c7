"""Which days is this run for? The one answer, for scheduled, backfilled, manual and asset-triggered runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.sdk import Param
from jinja2 import pass_context

from shopstream.assets import EVENTS_PUBLISHED

MAX_SUMMARY_DAYS = 400
LATE_ROWS = timedelta(hours=1)
"""How long after its publication an event may be written by the stream and still be seen as new."""


def day_param(title: str, description: str) -> Param:
    """A parameter that may be left empty; the trigger form shows a date picker."""
    return Param(None, type=["null", "string"], format="date", title=title, description=description)


def landing_day(context: Mapping[str, Any]) -> date:
    """Return the landing day of a run.

    It is the parameter landing_day if given. Else it is the day on which the data interval starts, which a
    scheduled or backfilled run always has, and a run by hand if it was given a logical date: then it is the
    last complete day before that. Else it is the last complete day before the run was asked for. All in UTC.

    Raises:
        ValueError: the parameter is no date.
    """
    if chosen := context["params"].get("landing_day"):
        return _parse(chosen, "landing_day")
    if start := context.get("data_interval_start"):
        return _utc_day(start)
    return _last_complete_day(context)


@pass_context
def landing_day_macro(context: Mapping[str, Any]) -> str:
    """`{{ landing_day() }}` in a template: the landing day as YYYY-MM-DD."""
    return landing_day(context).isoformat()


def summary_days(context: Mapping[str, Any]) -> list[date]:
    """Return the days to summarise, in order. The calling task needs the inlet EVENTS_PUBLISHED.

    They are the parameters' range if given (first_day alone is one day). Else, in a run started by the asset
    EVENTS_PUBLISHED, they are all days of its events and those since: one run may follow several loads. Else,
    for a run by hand, it is the last complete day (UTC) before its logical date or before it was asked for.

    Raises:
        ValueError: the range is reversed, longer than MAX_SUMMARY_DAYS or lacks its first day, a parameter is
            no date, an asset event names no days, or Airflow no longer has the run's asset events.
    """
    first, last = context["params"].get("first_day"), context["params"].get("last_day")
    if first or last:
        return _range(first, last)
    if triggers := context["triggering_asset_events"].get(EVENTS_PUBLISHED):
        # While a run is active (max_active_runs), Airflow queues the DAG once, at the first event, and hands
        # the next run no later event: the others would wait for the next load. So all since are taken.
        since = min(event.timestamp for event in triggers)
        events = context["inlet_events"][EVENTS_PUBLISHED].after(since.isoformat())
        return sorted({day for event in events for day in _event_days(event)})
    if context["dag_run"].run_type == "asset_triggered":
        raise ValueError("this run's asset events are gone; trigger this DAG with first_day and last_day")
    return [_last_complete_day(context)]


def intraday_window(context: Mapping[str, Any]) -> tuple[date, datetime]:
    """Return today, as of when the run was scheduled or asked for (UTC), and since when events are new to it.

    That is LATE_ROWS before the scheduled run that last succeeded, or before the hour until this run.
    """
    asked = _asked(context)
    since = asked - timedelta(hours=1)
    if previous := context.get("prev_data_interval_end_success"):
        since = min(since, previous)
    return _utc_day(asked), since - LATE_ROWS


def is_dry_run(context: Mapping[str, Any]) -> bool:
    """Tell whether the run shall change nothing: by hand as its parameter says, after a load never."""
    return bool(context["params"]["dry_run"]) and context["dag_run"].run_type != "asset_triggered"


def _range(first: str | None, last: str | None) -> list[date]:
    if not first:
        raise ValueError(f"last_day is {last} but first_day is empty; give first_day too")
    start = _parse(first, "first_day")
    end = _parse(last, "last_day") if last else start
    length_days = (end - start).days + 1
    if length_days < 1:
        raise ValueError(f"first_day {start} is after last_day {end}; swap them")
    if length_days > MAX_SUMMARY_DAYS:
        raise ValueError(
            f"{start} to {end} are {length_days} days; give at most {MAX_SUMMARY_DAYS} a run, in several runs"
        )
    return [start + timedelta(days=n) for n in range(length_days)]


def _event_days(event: Any) -> list[date]:
    days = event.extra.get("days")
    if not isinstance(days, list) or not days:
        raise ValueError(
            f"an event of {EVENTS_PUBLISHED.uri} has the extra {event.extra!r}, which names no days; "
            'give {"days": ["2019-11-01"]}, or trigger this DAG with first_day and last_day'
        )
    return [_parse(day, "a day of the asset event") for day in days]


def _parse(text: Any, what: str) -> date:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {text!r}; give a day such as 2019-11-01") from None


def _last_complete_day(context: Mapping[str, Any]) -> date:
    return _utc_day(_asked(context)) - timedelta(days=1)


def _asked(context: Mapping[str, Any]) -> datetime:
    return context.get("logical_date") or context["dag_run"].run_after


def _utc_day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
