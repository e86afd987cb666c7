"""
### Purpose
Compare what the stream had of a day's events with what the daily load brought, by event id: one row for each
day and event type in `shop_ops.stream_completeness`, and the same as a table in the log. Starts when
`load_events_daily` publishes. Late events make their own day be compared again.

### How to rerun
Clear the run, or trigger it by hand with `first_day` and `last_day`, at most 400 days a run. The rows of each
day are replaced.

### When it fails
The rows are written. A day is at level warn when the stream lacks 0.1 % or more of the events of a type
(SHOPSTREAM_STREAM_MISSING_WARN_SHARE), or the loads lack as many of the stream's; it fails from 1 % on
(SHOPSTREAM_STREAM_MISSING_FAIL_SHARE). `shop.events` shows what came either way, so no analysis lacks the
events now; while the stream was down, the live figures did. Look at `shop_ops.stream_checks` of that day. On
its first day a new stream lacks what happened before it began: that is one failure and no loss. A day before
there was a stream is at level absent, and does not fail.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from shopstream.alerts import due_after_the_usual
from shopstream.assets import EVENTS_PUBLISHED
from shopstream.days import days_params
from shopstream.defaults import DAG_DEFAULTS
from shopstream.lineage import lineage
from shopstream.stream import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Compare the stream's events with those of the daily load",
    schedule=[EVENTS_PUBLISHED],
    # One at a time, so that two runs with a day in common do not replace it at the same moment.
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=20),
    deadline=due_after_the_usual(
        "Comparing the stream takes at most 2 hours longer than usual", timedelta(hours=2)
    ),
    params={
        **days_params(
            "The first day to compare. Empty: the days just published, or yesterday in a run by hand.",
            "The last day to compare",
        ),
    },
    tags=[Tag.STREAM],
)
def compare_stream_with_batch() -> None:
    days: Any = task(inlets=[EVENTS_PUBLISHED])(tasks.resolve_days)()
    made = lineage("shop_ops.stream_completeness")
    task(execution_timeout=timedelta(hours=4), multiple_outputs=False, **made)(tasks.compare)(days)


compare_stream_with_batch()
