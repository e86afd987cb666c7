"""The task of simulate_stream: publishes landed events to the stream's topic, as if they happened now."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from shopstream import layout
from shopstream.days import landing_day
from shopstream.retries import Refused
from shopstream.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class PublishEvents(BaseOperator):
    """Publishes a landing day, or one object of the bucket, as the run's parameters say.

    They are landing_day, object (instead of a landing day), speed (None: as fast as possible), format, limit
    (None: all) and times_of_now. Killing the task stops it in order: what was read is sent, and the log says
    how far it came.

    Returns {"source", "lines", "published", "event_time"}.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Make the task; what it publishes is the run's choice."""
        super().__init__(**kwargs)
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish.

        Raises:
            ContractError: there is no such file, or it is none of events.
            PublishFailed: Pub/Sub refuses the events.
            Refused: the task was killed.
        """
        from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

        from shopstream.stream.publish import publish

        env, params = settings(), context["params"]
        name = params["object"] or layout.landing(landing_day(context))
        source, topic = f"gs://{env.bucket}/{name}", f"projects/{env.project}/topics/{env.topic}"
        self.log.info("Publishing %s to %s", source, topic)
        _warn_if_stopped()
        done = publish(
            source,
            topic,
            message_format=params["format"],
            speed=params["speed"],
            limit=params["limit"],
            max_gap_seconds=env.max_publish_gap_seconds,
            times_of_now=params["times_of_now"],
            credentials=GoogleBaseHook().get_credentials(),
            stopping=lambda: self._killed,
        )
        if done.stopped:
            raise Refused(f"Stopped since the task was killed: {done}.")
        return {
            "source": source,
            "lines": done.lines,
            "published": done.published,
            "event_time": done.event_time and done.event_time.isoformat(),
        }

    def on_kill(self) -> None:
        """Let the publisher send what it has read, and end."""
        self._killed = True


def _warn_if_stopped() -> None:
    """Say that nobody reads what is published, if the stream shall be stopped."""
    from shopstream.stream.decide import Desired
    from shopstream.stream.tasks import StreamNotWell, read_desired_state

    # That the desired state cannot be read is for keep_stream_alive to tell.
    with suppress(StreamNotWell):
        if read_desired_state().desired is Desired.STOPPED:
            log.warning(
                "The stream is stopped: messages wait in the subscription %s, as long as it retains them. "
                "To start it, trigger keep_stream_alive.",
                settings().subscription,
            )
