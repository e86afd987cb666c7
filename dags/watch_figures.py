"""
### Purpose
Hold the business figures of each published day (events, views, viewers, purchases, buyers, orders, revenue,
purchases per view, abandoned carts, events without a category; of the whole shop and of its most visited
sub-categories) against the same weekday of the last 8 weeks. What is not as usual is a row of
`shop_ops.figure_findings`, a sentence with figure, expected range and the days it was held against, and an
alert. Starts when `build_summaries` has built. The limits and the holidays are in
`plugins/shopstream/watch/figures.yaml`.

### How to rerun
Clear the run, or trigger it by hand with `first_day` and `last_day`, at most 400 days a run. The rows of each
day are replaced, and what a day's rows have told already is not told again.

### When it fails
A finding fails nothing; it alerts, with `"kind": "figures_found"`: see docs/runbooks/figure-calls.md. A
failed task has judged nothing. The log says which days and figures were not judged and why: a day that no
load has published, a holiday, or fewer than two such weekdays before it.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from shopstream.alerts import due_after_the_usual
from shopstream.assets import SUMMARIES_BUILT
from shopstream.days import days_params
from shopstream.defaults import DAG_DEFAULTS
from shopstream.lineage import lineage
from shopstream.tags import Tag
from shopstream.watch import tasks


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Tell which business figures of a day are not as usual",
    schedule=[SUMMARIES_BUILT],
    # One at a time, so that two runs with a day in common tell of it once.
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=6),
    deadline=due_after_the_usual(
        "Judging a day's figures takes at most 2 hours longer than usual", timedelta(hours=2)
    ),
    params={
        **days_params(
            "The first day to judge. Empty: the days just built, or yesterday in a run by hand.",
            "The last day to judge",
        ),
    },
    tags=[Tag.SUMMARIES],
)
def watch_figures() -> None:
    days: Any = task(inlets=[SUMMARIES_BUILT])(tasks.resolve_days)()
    task(multiple_outputs=False, **lineage("shop_ops.figure_findings"))(tasks.judge_figures)(days)


watch_figures()
