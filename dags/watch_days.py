"""
### Purpose
Look once an hour whether every day of the last three weeks is loaded as it was landed, and name each that is
not: one that should have been landed by now (6 hours after its end), one that is landed and was never
published, one whose `_SUCCESS` was written anew after its load had begun. Also when no run was ever made for
it, as while the scheduler was down or `load_events_daily` was paused. Days before the first of which anything
was landed or loaded are no days of the shop. What lies beside the days' folders, as in one of a misspelt day,
is named too, for no load reads it.

### How to rerun
There is no need to: the next run looks anew.

### When it fails
The error names each day and what to do: land it, or trigger `load_events_daily` for it; and what to move
into a day's folder or delete. It is told each hour until then.
"""

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

from shopstream.defaults import DAG_DEFAULTS
from shopstream.load import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Name the days that are not loaded as they were landed",
    schedule=CronTriggerTimetable("15 * * * *", timezone="UTC"),
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    tags=[Tag.BATCH],
)
def watch_days() -> None:
    task(tasks.name_missing_days)()


watch_days()
