"""
### Purpose
Build the summaries of today and yesterday from what has streamed in, every hour, until the daily load of the
day has published it; from then on the day belongs to `build_summaries`. Also build each day of the 7 before
today of which the stream brought late events, which no load may ever bring: every 6 hours, from midnight UTC
(SHOPSTREAM_LATE_DAYS_HOURS), or at once if those since the run before are more than 1 % of the day's events
(SHOPSTREAM_LATE_DAYS_SHARE). An event that the stream wrote more than an hour after its publication may be
missed by this, until its day is built again. A day that no load has published is provisional: `shop.days`
says so, and a query that joins it on `event_date` can leave it out or mark it. For the last 60 minutes ask
the views `shop.live_events_by_minute` and `shop.live_top_products`, which need no build.

### How to rerun
There is no need to: the next run builds the days anew. Clearing a run is harmless. For a day
that a late event of the stream may have missed, run `build_summaries` by hand.

### When it fails
The days stay as the run before left them. A check found rows that cannot be, such as two of one
grain; the error names the check, the day and what it found. On a provisional day checks against other tables
only warn, since events stream in between the build and its check.
"""

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, task

from shopstream.alerts import due_after_the_usual
from shopstream.defaults import DAG_DEFAULTS
from shopstream.summaries import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Build the summaries of today, yesterday and days with new late events every hour",
    schedule=CronTriggerTimetable("5 * * * *", timezone="UTC"),
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=13),
    deadline=due_after_the_usual(
        "Today's summaries take at most 2 hours longer than usual", timedelta(hours=2)
    ),
    tags=[Tag.SUMMARIES],
)
def build_summaries_intraday() -> None:
    days = task(task_id="resolve_days")(tasks.resolve_intraday_days)()
    # Few days, so that a task that takes long is stuck.
    tasks.build_all(days, timedelta(minutes=30))


build_summaries_intraday()
