"""
### Purpose
Judge the kept rejects of some days anew, by the contract as it is now: how many would pass, how many not, by
reason, in the log of `replay`. Without `dry_run`, what passes goes the ordinary way. Stream: the message is
published to the topic again. Batch: `load_events_daily` is triggered for each landing day of which some line
would pass; it reads the day's files again and replaces the day. What does not pass stays where it is. What
was sent is in `shop_ops.replays`, and is not sent again.

### How to rerun
Trigger it again: what was sent before is left out. After a killed task up to 1,000 messages may be published
twice, which `shop.events` shows once. A reject is judged if all its bytes were kept, and, of a line, if its
landing file is still there, whose header tells the order of the columns.

### When it fails
Messages that were sent are written down, and the next run goes on from there. Batch: clear this run, from the
task that failed; another run takes days for sent that `load_days` has not triggered yet. Not retried: days
that cannot be meant, a stream that runs with another version than this contract, a topic that may not be
published to; the error says what to do. A reload that it triggered is a run of `load_events_daily` of its
own, named `replay__` and the load that rejected the lines: if that fails, clear it there.
"""

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, task

from shopstream.days import days_params, dry_run_param
from shopstream.defaults import DAG_DEFAULTS
from shopstream.lineage import lineage
from shopstream.replay import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Judge rejected events by today's contract, and send what passes again",
    schedule=None,
    # One at a time, so that no two send the same.
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=36),
    params={
        "path": Param(
            "batch",
            type="string",
            enum=tasks.PATHS,
            title="Path",
            description="Whose rejects: batch, the lines of landing files, or stream, messages of the topic.",
        ),
        **days_params(
            "Batch: the first landing day. Stream: the first day of publication. Empty: yesterday.",
            "The last such day",
        ),
        "reason": Param(
            tasks.ALL_REASONS,
            type="string",
            enum=tasks.CHOICES,
            title="Reason",
            description="Only rejects of this reason, such as bad_price, which shop.rejected_events has. "
            "What a store refused, and not the contract, is sent only if its reason is chosen here.",
        ),
        "dry_run": dry_run_param("log what would pass now."),
    },
    tags=[Tag.BATCH, Tag.STREAM],
)
def replay_rejected_events() -> None:
    made = lineage("shop_ops.replays")
    loads: Any = task(execution_timeout=timedelta(hours=6), **made)(tasks.replay)()
    TriggerDagRunOperator.partial(
        task_id="load_days",
        trigger_dag_id="load_events_daily",
        logical_date=None,
        # A task that is tried again finds the run that it has triggered.
        skip_when_already_exists=True,
    ).expand_kwargs(loads)


replay_rejected_events()
