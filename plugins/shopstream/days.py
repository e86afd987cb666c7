"""Which days is this run for? The one answer, for scheduled, backfilled, manual and asset-triggered runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, Param
from jinja2 import pass_context

from shopstream.assets import EVENTS_PUBLISHED
from shopstream.retries import Refused

MAX_SUMMARY_DAYS = 400
AUDITED_BEFORE_EVENT = timedelta(minutes=5)
"""A load's audit row is written before its asset event, by the end of one task."""
CLEARED_RUN_REACH = timedelta(hours=2)
"""So long after it was due a run that is cleared still takes loads for its own."""
NOTHING_CHANGED = "This was a dry run, and nothing is changed. Trigger it again without, to do it."
LATE_ROWS = timedelta(hours=1)
"""How long after its publication an event may be written by the stream and still be seen as new."""

log = logging.getLogger(__name__)

Published = Callable[[datetime, datetime], Iterable[date]]


def day_param(title: str, description: str) -> Param:
    """A parameter that may be left empty; the trigger form shows a date picker."""
    example = f"{description} A day of UTC, such as 2019-11-01."
    return Param(None, type=["null", "string"], format="date", title=title, description=example)


def days_params(first: str, last: str) -> dict[str, Param]:
    """The parameters of a range of days; `first` and `last` say what each is, and `first` what is without."""
    most = f"{last}, at most {MAX_SUMMARY_DAYS} days in all. Empty: the first day alone."
    return {"first_day": day_param("First day", first), "last_day": day_param("Last day", most)}


def dry_run_param(instead: str) -> Param:
    """The parameter of a dry run, which is the default; `instead` says what it does."""
    return Param(True, type="boolean", title="Dry run", description=f"Change nothing, only {instead}")


def landing_day(context: Mapping[str, Any]) -> date:
    """Return the landing day of a run.

    It is the parameter landing_day if given. Else, for a scheduled or backfilled run, it is the day on which
    its data interval starts. Else, for a run by hand, it is the day before its logical date, or before it was
    asked for if it has none: the same however it was triggered, which the data interval that Airflow gives
    such a run is not. All in UTC.

    Raises:
        Refused: the parameter is no date.
    """
    if chosen := context["params"].get("landing_day"):
        return _parse(chosen, "landing_day")
    if context["dag_run"].run_type != "manual":
        return _utc_day(context["data_interval_start"])
    return _day_before(context)


@pass_context
def landing_day_macro(context: Mapping[str, Any]) -> str:
    """`{{ landing_day() }}` in a template: the landing day as YYYY-MM-DD."""
    return landing_day(context).isoformat()


def summary_days(
    context: Mapping[str, Any], published: Published, asset: Asset = EVENTS_PUBLISHED
) -> list[date]:
    """Return the days to summarise, or what else follows from `asset`, in order.

    They are the parameters' range if given (first_day alone is one day). Else, in a run started by the asset,
    they are the days of the events that started it, and those of the loads published since:
    while a run is active (max_active_runs), Airflow queues the DAG once, at the first event, and hands the
    next run no later event. A run that is cleared takes only loads of its own time, up to CLEARED_RUN_REACH
    after it was due: those after have had runs of their own. Else, for a run by hand, it is the day before
    its logical date or before it was asked for (UTC).

    Args:
        published: gives the days whose events loads published between two moments may have changed. Not
            Airflow's own list of the asset's events, which cannot be read while any run that they started is
            queued (apache/airflow #71360).

    Raises:
        Refused: the range is reversed, longer than MAX_SUMMARY_DAYS or lacks its first day, a parameter is
            no date, an asset event names no days, or Airflow no longer has the run's asset events.
    """
    first, last = context["params"].get("first_day"), context["params"].get("last_day")
    if first or last:
        return _range(first, last)
    run = context["dag_run"]
    if triggers := context["triggering_asset_events"].get(asset):
        since = min(event.timestamp for event in triggers) - AUDITED_BEFORE_EVENT
        until = run.run_after + CLEARED_RUN_REACH if run.clear_number else datetime.now(UTC)
        return sorted(
            {day for event in triggers for day in _event_days(event, asset)} | set(published(since, until))
        )
    if run.run_type == "asset_triggered":
        raise Refused("this run's asset events are gone; trigger this DAG with first_day and last_day")
    return [_day_before(context)]


def intraday_window(context: Mapping[str, Any], collect_hours: int) -> tuple[date, datetime, datetime | None]:
    """Return today, since when events are new to the run, and since when late events wait for it.

    Today is of when the run was scheduled or asked for (UTC). Late events wait for the first run that
    succeeds in these `collect_hours` of the day; for others None.

    New is LATE_ROWS before the scheduled run that last succeeded, or before the hour until this run. Late
    events wait from LATE_ROWS before the hours in which that was: so none is missed if a run fails.
    """
    asked = _asked(context)
    since = asked - timedelta(hours=1)
    if previous := context.get("prev_data_interval_end_success"):
        since = min(since, previous)
    collected = _start_of_hours(since, collect_hours)
    is_due = collected < _start_of_hours(asked, collect_hours)
    return _utc_day(asked), since - LATE_ROWS, collected - LATE_ROWS if is_due else None


def _start_of_hours(moment: datetime, hours: int) -> datetime:
    """Return when the `hours` of the day (UTC) began in which a moment is: with 6 at 0, 6, 12 or 18."""
    moment = moment.astimezone(UTC)
    return datetime(moment.year, moment.month, moment.day, moment.hour // hours * hours, tzinfo=UTC)


def is_dry_run(context: Mapping[str, Any]) -> bool:
    """Tell whether the run shall change nothing: by hand as its parameter says, after a load never."""
    return bool(context["params"]["dry_run"]) and context["dag_run"].run_type != "asset_triggered"


def is_real(**context: Any) -> bool:
    """Tell whether the run is no dry run: the body of a task that lets the others run."""
    is_dry = is_dry_run(context)
    log.info("%s", NOTHING_CHANGED if is_dry else "This is no dry run: the tasks after this one are run.")
    return not is_dry


def days_of_run(days: Sequence[date]) -> list[str]:
    """Log which days, in order, a run is for; return them as YYYY-MM-DD."""
    log.info("This run is for %s.", told_days(days))
    return [day.isoformat() for day in days]


def told_days(days: Sequence[date]) -> str:
    """Days, which are in order, in words for a sentence."""
    if not days:
        return "0 days"
    return f"1 day, {days[0]}" if len(days) == 1 else f"{len(days)} days, {days[0]} to {days[-1]}"


def _range(first: str | None, last: str | None) -> list[date]:
    if not first:
        raise Refused(f"last_day is {last} but first_day is empty; give first_day too")
    start = _parse(first, "first_day")
    end = _parse(last, "last_day") if last else start
    length_days = (end - start).days + 1
    if length_days < 1:
        raise Refused(f"first_day {start} is after last_day {end}; swap them")
    if length_days > MAX_SUMMARY_DAYS:
        raise Refused(
            f"{start} to {end} are {length_days} days; give at most {MAX_SUMMARY_DAYS} a run, in several runs"
        )
    return [start + timedelta(days=n) for n in range(length_days)]


def _event_days(event: Any, asset: Asset) -> list[date]:
    days = event.extra.get("days")
    if not isinstance(days, list) or not days:
        raise Refused(
            f"an event of {asset.uri} has the extra {event.extra!r}, which names no days; "
            'give {"days": ["2019-11-01"]}, or trigger this DAG with first_day and last_day'
        )
    return [_parse(day, "a day of the asset event") for day in days]


def _parse(text: Any, what: str) -> date:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        raise Refused(f"{what} is {text!r}; give a day such as 2019-11-01") from None


def _day_before(context: Mapping[str, Any]) -> date:
    return _utc_day(_asked(context)) - timedelta(days=1)


def _asked(context: Mapping[str, Any]) -> datetime:
    return context.get("logical_date") or context["dag_run"].run_after


def _utc_day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
