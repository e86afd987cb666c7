"""The tasks of backfill_days: plan a range of days, trigger its runs, and tell what came of them."""

# google.cloud.bigquery takes seconds to import, which parsing a DAG file should not: so the tasks import it.
from __future__ import annotations

import logging
from datetime import date
from typing import TYPE_CHECKING, Any

from shopstream.backfill.plan import (
    LOAD,
    REFUSE,
    SUMMARIES_DAG,
    WHAT,
    Run,
    Step,
    decide,
    describe,
    runs_of,
    sample_day,
    with_bytes,
)
from shopstream.days import NOTHING_CHANGED, is_dry_run, is_real, summary_days
from shopstream.gcp.clients import bigquery_client, storage_client
from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.tables.folder import Table, built_in_order, load_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.cloud.bigquery import Client

__all__ = ["WHAT", "have_ended", "is_real", "plan", "tell_outcome"]

log = logging.getLogger(__name__)


def plan(**context: Any) -> dict[str, Any]:
    """Find out what there is of each day, and log what becomes of it.

    Returns:
        {"days": a dict a day, of what the log's table says, "bytes_read": int, or None if nobody knows,
        "runs": Run.to_xcom of each run to trigger, "refused": {day: why}}

    Raises:
        Refused: the days cannot be meant; or the run is no dry run, and what it would trigger is paused.
    """
    from shopstream.backfill.look import find_days
    from shopstream.tables.published import published_days

    params = context["params"]
    days = summary_days(context, lambda since, until: ())
    sql_dir = settings().sql_dir
    tables = [load_table(sql_dir, name) for name in built_in_order(sql_dir)]
    client = bigquery_client()
    published = published_days(client)
    steps = decide(
        find_days(client, storage_client(), tables, days, published), params["what"], params["again"]
    )
    events = {day: load.events for day, load in published.items()}
    steps, other_bytes = _with_bytes(client, tables, steps, events)
    runs = runs_of(steps, context["dag_run"].run_id)
    log.info(
        "%s, %s to %s. A backfill would do this:\n%s",
        *(params["what"], days[0], days[-1], describe(steps, other_bytes)),
    )
    _refuse_paused(context, runs)
    log.info("%s", _next(is_dry_run(context), runs))
    known = [step.bytes_read for step in steps if step.bytes_read is not None]
    return {
        "days": [step.told() for step in steps],
        "bytes_read": sum(known) + other_bytes if known else None,
        "runs": [run.to_xcom() for run in runs],
        "refused": {str(step.found.day): step.why for step in steps if step.does == REFUSE},
    }


def have_ended(planned: Mapping[str, Any], **context: Any) -> bool:
    """Trigger the next of the plan's runs, and tell whether all have ended."""
    from shopstream.backfill import runs

    params = context["params"]
    planned_runs = [Run.from_xcom(texts) for texts in planned["runs"]]
    note = f"Triggered by {context['dag'].dag_id}, run {context['dag_run'].run_id}"
    # Builds one after the other, lest the days just published wait for both places of build_summaries.
    at_once = params["at_once"] if params["what"] == LOAD else 1
    return runs.have_ended(context["ti"], planned_runs, at_once, params["stop_at_failure"], note)


def tell_outcome(planned: Mapping[str, Any], **context: Any) -> dict[str, str]:
    """Log what came of each run of the plan.

    Returns:
        The state of each run, by its days.

    Raises:
        Refused: some have not succeeded, or days of the plan could not be meant; the message names each.
    """
    from shopstream.backfill.runs import describe as describe_outcomes
    from shopstream.backfill.runs import outcomes
    from shopstream.summaries.build import summarised_events
    from shopstream.tables.published import published_days

    runs = [Run.from_xcom(texts) for texts in planned["runs"]]
    client = bigquery_client()
    if context["params"]["what"] == LOAD:
        events = {day: load.events for day, load in published_days(client).items()}
    else:
        events = summarised_events(client, [date.fromisoformat(day["day"]) for day in planned["days"]])
    found = outcomes(context["ti"], runs, events)
    if runs:
        log.info("What came of each run:\n%s", describe_outcomes(found))
    succeeded, after = sum(one.is_success for one in found), "" if runs else " There was nothing to do."
    log.info("Runs that succeeded: %d of %d.%s", succeeded, len(runs), after)
    faults = [f"{day}: {why}" for day, why in planned["refused"].items()]
    faults += [f"{one.run.days}: {one.state}, {one.url}" for one in found if not one.is_success]
    if faults:
        raise Refused(
            "These days are not done, all others are:\n" + "\n".join(faults) + "\nMend them and clear their "
            "runs; or trigger this DAG again, which does what is missing."
        )
    return {one.run.days: one.state for one in found}


def _with_bytes(
    client: Client, tables: Sequence[Table], steps: list[Step], events: Mapping[date, int]
) -> tuple[list[Step], int]:
    """See plan.with_bytes; as they are if no day is published, or BigQuery does not tell, as an emulator."""
    from shopstream.backfill.look import bytes_of_build, days_built

    doing = [step.found.day for step in steps if step.does in WHAT]
    sample = sample_day(doing, events) if doing else None
    if sample is None:
        return steps, 0
    read = bytes_of_build(client, tables, sample)
    if not any(read.values()):
        return steps, 0
    return with_bytes(steps, read, days_built(client, tables, doing), events, sample)


def _refuse_paused(context: Mapping[str, Any], runs: Sequence[Run]) -> None:
    """Check that what the plan triggers would run; a load also wants its summaries.

    Raises:
        Refused: the DAG is paused, and the run is no dry run.
    """
    wanted = {run.dag_id for run in runs} | ({SUMMARIES_DAG} if runs else set())
    paused = sorted(dag_id for dag_id in wanted if context["ti"].get_dag(dag_id).is_paused)
    if not paused:
        return
    words = f"{' and '.join(paused)} {'is' if len(paused) == 1 else 'are'} paused"
    if is_dry_run(context):
        log.warning("%s: unpause before the real run.", words)
        return
    raise Refused(
        f"{words}: runs would wait, and summaries would not hear of loads. Unpause, and clear this task."
    )


def _next(is_dry: bool, runs: Sequence[Run]) -> str:
    after = NOTHING_CHANGED if is_dry else ""
    if not runs:
        after = "There is nothing to do."
    return f"Runs to be triggered: {len(runs)}. {after}".rstrip()
