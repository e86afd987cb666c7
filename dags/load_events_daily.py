"""
### Purpose
Load one landing day of events: wait until it is landed whole, run the Dataflow job (rows to Spanner,
accepted rows as Parquet, rejected lines with their reasons), check that nothing was lost, ask a person if
many lines were rejected, count in both stores against the job's counters, publish (replace the day in
`shop_raw.events_batch`, show the load to Spanner's readers), and write the audit row, which starts
`build_summaries` for the days whose events changed. In the list of runs a scheduled one has the midnight at
the end of its landing day in its id; of one by hand see `conf`. `publish` logs whether it is a reload.

### How to rerun
Run the day again: trigger with `landing_day`, clear the run from `launch_load` on, or start a backfill for
many days. Each is safe at any time: a load replaces its landing day in all stores, and cancels the day's job
that still runs. To correct a day, correct its landing files and run it again. After a failed `reconcile` or
`publish` clear from `reconcile` on.

### When it fails
Readers of both stores see the day as the load before left it, or not at all; other days are not touched.
A run by hand for a day that is not landed fails at once and says what is there.

When more than 1 % (SHOPSTREAM_MAX_REJECTED_SHARE) of the lines were rejected, `gate` waits up to 24 hours for
a person, and an alert says so: open the run's *Required Actions*, which show counts, reasons and what is
usual, and answer. `Publish anyway` wants a reason, kept in `shop_ops.loads` with your name; `Refuse`, or no
answer, fails the run. The lines are in `shop.rejected_events` either way.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from shopstream.alerts import due_after_the_day
from shopstream.assets import EVENTS_PUBLISHED
from shopstream.days import day_param, landing_day_macro
from shopstream.defaults import DAG_DEFAULTS
from shopstream.layout import ACCEPTED
from shopstream.lineage import lineage
from shopstream.load import tasks
from shopstream.settings import settings
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Load a landing day of events into Spanner and BigQuery",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    # Days that wait for their files take no place of one that is landed: how many load at once is
    # SHOPSTREAM_MAX_LOADS.
    max_active_runs=100,
    # The files' 24 hours, the load's 12, the question's 24, and the steps' own.
    dagrun_timeout=timedelta(hours=96),
    deadline=due_after_the_day("A day's events are published 6 hours after its end", timedelta(hours=6)),
    params={
        "landing_day": day_param(
            "Landing day",
            "The day to load. Empty: the run's own day; by hand the day before its logical date or today.",
        ),
        "wait": Param(
            False,
            type="boolean",
            title="Wait",
            description="Wait up to 24 hours for the day's files. Without it a run by hand fails at once if "
            "the day is not landed, and says what is there.",
        ),
    },
    user_defined_macros={"landing_day": landing_day_macro, "settings": settings},
    tags=[Tag.BATCH],
)
def load_events_daily() -> None:
    wait = task.sensor(
        task_id="wait_for_landing",
        mode="reschedule",
        poke_interval=timedelta(minutes=5),
        timeout=timedelta(hours=24),
    )
    # In one run at a time, so that no two take the last place (SHOPSTREAM_MAX_LOADS).
    launched = tasks.LaunchLoadEvents(
        task_id="launch_load", landing_day="{{ landing_day() }}", max_active_tis_per_dag=1
    )
    ended = tasks.WaitForLoad(
        task_id="wait_for_load",
        load=launched.output,
        # A retry only looks again: Airflow loses a look now and then that ends as the next one is queued.
        retry_delay=timedelta(seconds=5),
    )

    # The load that ended well: not the launched one, if that failed and was launched anew.
    load: Any = ended.output
    gated = tasks.Gate(task_id="gate", load=load)
    # Hours, for a large day.
    large: dict[str, Any] = {"multiple_outputs": False, "execution_timeout": timedelta(hours=6)}
    reconciled = task(task_id="reconcile", **large)(tasks.reconcile_stores)(load)
    replaced = lineage("shop_raw.events_batch", reads=[ACCEPTED])
    published = task(**large, **replaced)(tasks.publish)(load, reconciled)
    told = lineage("shop_ops.loads", writes=[EVENTS_PUBLISHED])
    audited = task(**told)(tasks.write_audit_row)(load, gated.output, reconciled, published)
    wait(tasks.has_landed)() >> launched >> ended >> gated >> reconciled >> published >> audited


load_events_daily()
