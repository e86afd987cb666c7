"""
### Purpose
Tell once a day how the day before was, in plain words and where the alerts are told: what was loaded,
rejected and late, what the stream lacked, what checks found, which figures were not as usual, and what is
left of the budgets of 30 days. These are the rows of `shop_ops.objectives`, one for each promise: days
published within 6 hours of their end (95 %), events of the loads that the stream had too (99.9 %), lines
accepted (99 %), and checks passed (99 %).

### How to rerun
Clear the run, or trigger it by hand with `landing_day`: the rows of the day are replaced, and it is told
again.

### When it fails
Nothing is lost; the day is told when the run is cleared.
"""

from datetime import timedelta

from airflow.sdk import CronDataIntervalTimetable, dag, task

from shopstream.days import day_param
from shopstream.defaults import DAG_DEFAULTS
from shopstream.lineage import lineage
from shopstream.tags import Tag
from shopstream.watch import tasks


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Tell in plain words how the day before was, and what is left of the promises",
    # Two hours after a day should have been published.
    schedule=CronDataIntervalTimetable("0 8 * * *", timezone="UTC"),
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=3),
    params={
        "landing_day": day_param(
            "Day", "The day to tell of. Empty: the day before the run, as when it runs by its schedule."
        ),
    },
    tags=[Tag.BATCH, Tag.STREAM, Tag.SUMMARIES],
)
def tell_digest() -> None:
    task(**lineage("shop_ops.objectives"))(tasks.digest)()


tell_digest()
