"""
### Purpose
Feed the stream with landed events, as if they happened now: publish a landing day, or one file of the bucket,
to the topic that the streaming job reads. In the order of event_time, at real-time pace, at a speed factor,
or as fast as possible. Where nothing happened for more than an hour of event time
(SHOPSTREAM_MAX_PUBLISH_GAP_SECONDS), one hour passes, and the log tells so. Lines that break the contract are
published too, and the stream rejects them. If the stream is stopped, the log says so: the messages wait.

### How to rerun
Trigger it again: an event that was published twice is in `shop.events` once. A retry begins from the start.
To stop it, mark the task failed: what was read is still sent, and the log says how far it came.

### When it fails
What was published before stays published; the error says how much that is. Not retried, since a retry begins
from the start: a file that is missing, damaged or has wrong columns; a batch that Pub/Sub did not take,
because the topic is missing, may not be published to, or was away for 2 minutes; a task that was killed. The
error says what to correct; then trigger it again. All else, such as Cloud Storage not answering, is retried.
"""

from datetime import timedelta

from airflow.sdk import Param, dag

from shopstream.days import day_param
from shopstream.defaults import DAG_DEFAULTS
from shopstream.layout import MAX_OBJECT_CHARS, OBJECT_PATTERN
from shopstream.stream import tasks
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Publish landed events to the stream's topic, as if they happened now",
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=30),
    params={
        "landing_day": day_param(
            "Landing day",
            "The landing day to publish. Empty: yesterday, unless an object is given.",
        ),
        "object": Param(
            None,
            type=["null", "string"],
            expected="a name below exports/ or landing/events/ that ends in .csv or .csv.gz",
            pattern=OBJECT_PATTERN,
            maxLength=MAX_OBJECT_CHARS,
            title="Object",
            description="A .csv or .csv.gz of the bucket, such as exports/2019-Nov.csv.gz, instead of a day.",
        ),
        "speed": Param(
            60,
            type=["null", "number"],
            exclusiveMinimum=0,
            maximum=86_400,
            title="Speed",
            description="Seconds of event time that pass in one second, such as 60, which plays a day in 24 "
            "minutes; 1 is real time. Empty: as fast as possible.",
        ),
        "times_of_now": Param(
            False,
            type="boolean",
            title="Times of now",
            description="Give each event the moment of its publication for its event_time, so that the live "
            "views and the page Live fill. They are then other events than the landed ones: for a stack to "
            "look at, not for a shop's own.",
        ),
        "format": Param(
            "csv",
            type="string",
            enum=["csv", "json"],
            title="Format",
            description="Of the messages: lines in the contract's order, or objects of its fields.",
        ),
        "limit": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=1_000_000_000,
            title="Limit",
            description="Publish at most so many lines, such as 1000. Empty: all.",
        ),
    },
    tags=[Tag.STREAM],
)
def simulate_stream() -> None:
    # A day at real-time pace, and something more.
    tasks.PublishEvents(task_id="publish_events", execution_timeout=timedelta(hours=26))


simulate_stream()
