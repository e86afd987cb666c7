"""
### Purpose
Load a range of landing days, or build the summaries of a range, by runs of `load_events_daily` or
`build_summaries`. `plan` logs a table and returns it: for each day what is landed, published and summarised,
what becomes of it, and what the summaries' statements will read, with its price. A dry run ends there. A real
run triggers the days that are missing, oldest first, a few at once, waits without holding a worker, and tells
what came of each: state, seconds, events, and a link. A load starts its summaries by itself, as always.

### How to rerun
Trigger it again: what is done is left alone, unless the form says again. Clear `run_days`, or the run: it
goes on with the days that it has not triggered, and looks at the others, whose runs are named after it.
Airflow's own backfill of `load_events_daily`, on that DAG's page, loads days too, without a plan.

### When it fails
`tell_outcome` names each day that is not done, such as one whose folder lacks `_SUCCESS`, and why; all others
are done. Mend each and clear its own run, or trigger this again. `plan` fails if a day cannot be meant, or
what it would trigger is paused. To stop it, mark it failed: runs that it has triggered go on.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from shopstream.backfill import tasks
from shopstream.days import days_params, dry_run_param
from shopstream.defaults import DAG_DEFAULTS
from shopstream.settings import settings
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Load or summarise a range of days, after a plan",
    schedule=None,
    # One at a time, so that no two trigger the same day.
    max_active_runs=1,
    dagrun_timeout=timedelta(days=16),
    params={
        "what": Param(
            tasks.WHAT[0],
            type="string",
            enum=tasks.WHAT,
            title="What",
            description="load: load_events_daily for each landing day, which starts its summaries too. "
            "summaries: build_summaries alone, such as after a change of a summary's SQL.",
        ),
        **days_params("The first day. Empty: yesterday.", "The last day"),
        "again": Param(
            False,
            type="boolean",
            title="Again",
            description="Also days that are loaded, or summarised, already, such as after a change of the "
            "contract. Without it only those that are not, and those landed anew after their load.",
        ),
        "at_once": Param(
            3,
            type="integer",
            minimum=1,
            maximum=30,
            title="Loads at once",
            description="So many loads at a time, such as 3; SHOPSTREAM_MAX_LOADS bounds them too. Summaries "
            "are built one after the other.",
        ),
        "stop_at_failure": Param(
            False,
            type="boolean",
            title="Stop at a failure",
            description="Start no further day once one has failed, such as for a first try. Without it the "
            "others go on.",
        ),
        "dry_run": dry_run_param("log the plan."),
    },
    tags=[Tag.BATCH, Tag.SUMMARIES],
)
def backfill_days() -> None:
    planned: Any = task(multiple_outputs=False)(tasks.plan)()
    run_days = task.sensor(
        task_id="run_days",
        mode="reschedule",
        poke_interval=timedelta(seconds=settings().job_look_seconds),
        timeout=timedelta(days=14),
    )(tasks.have_ended)(planned)
    told = task(multiple_outputs=False)(tasks.tell_outcome)(planned)
    planned >> task.short_circuit(tasks.is_real)() >> run_days >> told


backfill_days()
