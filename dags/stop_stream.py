"""
### Purpose
Stop the stream and see to it that it stays stopped: set its desired state to stopped, ask Dataflow to end
the job, and wait until it has ended. Nothing is lost either way: `drain` finishes what was pulled, `cancel`
ends at once, and what was not yet written is delivered again.

Messages then wait in the subscription for as long as it retains them, 7 days unless it was made otherwise:
what is older is gone.

**Start the stream again:** trigger `keep_stream_alive` by hand.

### How to rerun
Trigger it again at any time, also with `cancel` while a drain takes too long. Clearing a run does not stop a
stream that was started after it.

### When it fails
The job has not ended after 30 minutes, or somebody has started the stream meanwhile; the error says which.
In the first case the stream is still to be stopped, and `keep_stream_alive` goes on asking for it.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from shopstream.defaults import DAG_DEFAULTS
from shopstream.settings import settings
from shopstream.stream import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Stop the stream until it is started by hand",
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=5),
    params={
        "how": Param(
            "drain",
            type="string",
            enum=["drain", "cancel"],
            title="How",
            description="drain: finish what was pulled, then end. cancel: end at once.",
        )
    },
    tags=[Tag.STREAM],
)
def stop_stream() -> None:
    requested: Any = task(tasks.request_stop)()
    wait = task.sensor(
        task_id="wait_for_end",
        mode="reschedule",
        poke_interval=timedelta(seconds=settings().job_look_seconds),
        timeout=timedelta(hours=1),
    )
    wait(tasks.has_stopped)(requested)


stop_stream()
