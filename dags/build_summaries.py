"""
### Purpose
Build the summaries of `shop` for the days whose events changed, one task a table, a table after those that it
reads, and before them `shop_raw.events_deduplicated`, which most read, with its two parts: each day's rows
are replaced in one statement and then checked. A summary that looks back, such as
`customer_value` on 90 days, is also built for the later days that look back on the changed ones. At last
write the report to Cloud Storage; task `write_report` links to it. Starts when `load_events_daily` publishes;
loads that end close together are built in one run.

### How to rerun
Clear the run or any of its tasks. For other days, say after a change of a summary's SQL, trigger it by hand
with `first_day` and `last_day`, at most 400 days a run: first as a **dry run**, which is the default by hand.
Its task `dry_run` changes nothing and logs a table: for each summary and day the bytes that its query reads,
and how many rows would go and come. Then trigger it again without. The dry run itself reads as much as the
build would. A line marked * is a lower bound: that summary reads another one, and is counted from its rows as
they are now.

### When it fails
The events are there; a summary whose task failed still shows its days as they were before, or fresh rows
that a check found wrong: the error names the check, the day and what it found. The report is not written. On
a day that no load has published yet, checks against other tables only warn, since events stream in meanwhile.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from shopstream.alerts import due_after_the_usual
from shopstream.assets import EVENTS_PUBLISHED, SUMMARIES_BUILT
from shopstream.days import days_params, dry_run_param
from shopstream.defaults import DAG_DEFAULTS
from shopstream.report.tasks import WriteReport
from shopstream.summaries import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Build the summaries of changed days, and the report",
    schedule=[EVENTS_PUBLISHED],
    # Two, so that building many old days by hand does not hold up the days just published.
    max_active_runs=2,
    dagrun_timeout=timedelta(hours=130),
    deadline=due_after_the_usual("Summaries take at most 2 hours longer than usual", timedelta(hours=2)),
    params={
        **days_params(
            "The first day to build. Empty: the days just published, or yesterday in a run by hand.",
            "The last day to build",
        ),
        "dry_run": dry_run_param(
            "log what a build would read and change. A run that a load starts is never one."
        ),
    },
    tags=[Tag.SUMMARIES],
)
def build_summaries() -> None:
    days: Any = task(inlets=[EVENTS_PUBLISHED])(tasks.resolve_days)()
    built = tasks.build_all(days, timedelta(hours=6))
    (
        days
        >> task.branch(tasks.dry_or_real)()
        >> [task(execution_timeout=timedelta(hours=6))(tasks.dry_run)(days), built]
    )
    built >> [
        task(outlets=[SUMMARIES_BUILT])(tasks.tell_built)(days),
        WriteReport(
            task_id="write_report",
            first_day="{{ ti.xcom_pull(task_ids='resolve_days')[0] }}",
            last_day="{{ ti.xcom_pull(task_ids='resolve_days')[-1] }}",
        ),
    ]


build_summaries()
