"""
### Purpose
Keep the stream's Dataflow job `shop-stream` as it should be, every 10 minutes
(SHOPSTREAM_KEEP_ALIVE_SECONDS): launch it when it is gone, update it when another template version is
deployed, drain it when a stop is wanted. Then look at its health: how long messages wait, how old the newest
row is, how many were rejected. One paragraph in the task's log tells what was seen, done and why, and one row
in `shop_ops.stream_checks`.

**Start the stream again:** trigger this DAG by hand. A run by hand sets the desired state to running before
it looks, and its launches are counted anew; a scheduled run never changes the desired state. Stop it with
`stop_stream`.

The desired state is the Airflow Variable `shopstream_stream`, JSON such as
`{"desired": "running", "version": null, "how": "drain"}`; without it the stream should run. `version` null is
the deployed template version (SHOPSTREAM_TEMPLATE_VERSION), another value pins that one until it is null
again.

### How to rerun
There is no need to: the next run looks anew. Clearing a run is harmless; it does not undo a start or stop
that was asked for after it.

### When it fails
A person must look; the error says at what, also when the health could not be measured in any try. Messages
wait in the subscription meanwhile, so nothing is lost before its retention ends. After 5 launches within an
hour (SHOPSTREAM_STREAM_MAX_LAUNCHES) the stream stays down: mend what ends its jobs, then trigger this DAG by
hand. In a new project run `apply_schemas` first.
"""

from datetime import timedelta

from airflow.sdk import dag, task

from shopstream.defaults import DAG_DEFAULTS
from shopstream.lineage import lineage
from shopstream.settings import settings
from shopstream.stream import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Keep the stream as it should be, and watch its health",
    schedule=timedelta(seconds=settings().keep_alive_seconds),
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    tags=[Tag.STREAM],
)
def keep_stream_alive() -> None:
    # Twice as long as it may take to launch a job and watch its start.
    made = lineage("shop_ops.stream_checks")
    task(execution_timeout=timedelta(minutes=12), multiple_outputs=False, **made)(tasks.keep_alive)()


keep_stream_alive()
