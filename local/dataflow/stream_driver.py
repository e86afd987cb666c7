"""Runs the stream on one machine: what beam_jobs.stream_events does, over messages pulled in small batches.

    python -m local.dataflow.stream_driver --subscription projects/P/subscriptions/S ...

It takes the options of beam_jobs.stream_events and calls the functions that its steps are made of; Beam's own
local reading acknowledges messages before they are written (docs/adr/0007). Here a message is acknowledged
after its row was written, so that killing the driver at any moment loses nothing: what it held is delivered
again when its acknowledgement deadline has passed.

SIGUSR1 drains: what was pulled is written and acknowledged, then the driver ends. SIGTERM ends it at once.
"""

from __future__ import annotations

import functools
import logging
import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import apache_beam as beam
import grpc
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from google.api_core import grpc_helpers
from google.api_core.exceptions import (
    Aborted,
    DeadlineExceeded,
    InternalServerError,
    NotFound,
    ServiceUnavailable,
    TooManyRequests,
    Unknown,
)
from google.api_core.retry import Retry, if_exception_type
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import AcknowledgeRequest, ModifyAckDeadlineRequest, PullRequest, PullResponse

import local.stack.seldom_gc  # noqa: F401 (of each message objects are made, and go with its batch)
from beam_jobs.bigquery_sink import BigQuerySink
from beam_jobs.messages import Message, judge
from beam_jobs.pseudonyms import pseudonyms_by
from beam_jobs.stream_events import (
    StreamOptions,
    build,
    parse_options,
    streaming_options,
    write_events,
    write_rejects,
)
from local.dataflow import backlog

PULL_MESSAGES = 100
"""As many as the emulator gives at most."""
PULL_TIMEOUT_SECONDS = 4.0
"""The emulator answers a second before, if there is no message; a drain waits for that."""
BATCH_MESSAGES = 4000
BATCH_BYTES = 32 * 2**20
BATCH_SECONDS = 0.25
"""So long a batch waits for more, while each pull is full: then more waits in Pub/Sub. To judge and write a
batch takes milliseconds, however small it is; and events that come one by one are written at once.
"""
MAX_HELD_MESSAGES = 10_000
MAX_HELD_BYTES = 64 * 2**20
"""With so much pulled and not yet acknowledged, nothing more is pulled."""
ACK_DEADLINE_SECONDS = 20
"""So long after a driver's death what it held is delivered again."""
EXTEND_SECONDS = 5.0
ACK_IDS = 1000
"""Ids in one request; Pub/Sub takes at most 512 KiB of them."""
TICK_SECONDS = 0.5
PROGRESS_SECONDS = 10.0
OUTAGE_SECONDS = 120.0
"""How long pulling may fail before the job does."""

_TRANSIENT = (Aborted, DeadlineExceeded, InternalServerError, ServiceUnavailable, TooManyRequests, Unknown)
"""What passes by waiting, as cloud.google.com/pubsub/docs/reference/error-codes says."""

_log = logging.getLogger(__name__)


class Pulled(NamedTuple):
    """What one pull brought: at least one message, and for each the id by which it is acknowledged."""

    messages: list[Message]
    ack_ids: list[str]
    data_bytes: int


class StreamDriver:
    """A stream that runs while `wait_until_finish` does: of Beam's PipelineResult what a worker asks."""

    def __init__(self, stream: StreamOptions) -> None:
        """Connect to nothing yet.

        Raises:
            ValueError: PUBSUB_EMULATOR_HOST is not set.
        """
        host = os.environ.get("PUBSUB_EMULATOR_HOST")
        if not host:
            raise ValueError("PUBSUB_EMULATOR_HOST is not set; name the Pub/Sub emulator as HOST:PORT.")
        self._subscription = Subscription(host, stream.subscription)
        self._events = BigQuerySink(stream.events_table)
        self._rejects = BigQuerySink(stream.rejected_table)
        self._pseudonym_key = stream.pseudonym_key
        self._held = _Held()
        self._pulled: queue.SimpleQueue[Pulled | Exception | None] = queue.SimpleQueue()
        self._asked_to_drain = False
        self._draining = threading.Event()
        self._ended = threading.Event()
        self._counts: Counter[str] = Counter(read=0, accepted=0, rejected=0, refused_by_bigquery=0)

    def wait_until_finish(self) -> str:
        """Run until drained; return DRAINED. To be called in the main thread, since it takes SIGUSR1.

        Raises:
            GoogleAPIError: Pub/Sub does not answer, or there is no such subscription.
            BigQueryTableError, BigQueryUnavailable, RejectRefused: of beam_jobs; a write failed.
        """
        # Whoever starts the process may have blocked the signal, so that it waits until here.
        signal.signal(signal.SIGUSR1, self._drain)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        threading.Thread(target=self._pull, name="pull", daemon=True).start()
        keeping = threading.Thread(target=self._keep, name="keep", daemon=True)
        keeping.start()
        try:
            self._write_until_drained()
        finally:
            self._ended.set()
            self._draining.set()
        # It tells too, and what it tells must not come after, or amid, the last word.
        keeping.join()
        backlog.tell(None)
        _log.info("drained: %s", self._told())
        return "DRAINED"

    def _drain(self, *_: object) -> None:
        # No more than this: a signal comes while any line runs, and the event's lock may be held.
        self._asked_to_drain = True

    def _write_until_drained(self) -> None:
        logged, read_before = time.monotonic(), 0
        while True:
            if self._asked_to_drain and not self._draining.is_set():
                _log.info("draining: %s", self._told())
                self._draining.set()
            batch, is_last = self._next_batch()
            if batch:
                self._write(batch)
            if is_last:
                return
            if (seconds := time.monotonic() - logged) >= PROGRESS_SECONDS:
                rate = (self._counts["read"] - read_before) / seconds
                _log.info("%s; %s events/s", self._told(), f"{rate:,.0f}")
                logged, read_before = time.monotonic(), self._counts["read"]

    def _next_batch(self) -> tuple[list[Pulled], bool]:
        """Return what was pulled, up to a batch, and whether nothing comes after it."""
        batch: list[Pulled] = []
        batch_messages = batch_bytes = 0
        until = time.monotonic() + TICK_SECONDS
        while batch_messages < BATCH_MESSAGES and batch_bytes < BATCH_BYTES:
            try:
                pulled = self._pulled.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if pulled is None:
                return batch, True
            if isinstance(pulled, Exception):
                raise pulled
            if len(pulled.messages) < PULL_MESSAGES:
                until = 0.0
            elif not batch:
                until = time.monotonic() + BATCH_SECONDS
            batch.append(pulled)
            batch_messages += len(pulled.messages)
            batch_bytes += pulled.data_bytes
        return batch, False

    def _write(self, batch: Sequence[Pulled]) -> None:
        """Write a batch, and only then acknowledge it."""
        messages = [message for pulled in batch for message in pulled.messages]
        judged = judge(messages, pseudonyms_by(self._pseudonym_key))
        refused = write_events(self._events, judged)
        write_rejects(self._rejects, judged.rejects + refused, mask=self._pseudonym_key is not None)
        acknowledge = Retry(if_exception_type(*_TRANSIENT), timeout=OUTAGE_SECONDS)(
            self._subscription.acknowledge
        )
        for ack_ids in _portions([ack_id for pulled in batch for ack_id in pulled.ack_ids]):
            acknowledge(ack_ids)
        self._held.remove(batch)
        self._counts.update(
            read=len(messages),
            accepted=len(judged.messages),
            rejected=len(judged.rejects),
            refused_by_bigquery=len(refused),
        )

    def _pull(self) -> None:
        """Pull until drained, then put None; an error is put for the writing thread to raise.

        Whatever the error: else that thread would wait for ever for what nobody pulls.
        """
        try:
            self._pull_until_drained()
        except Exception as error:
            self._pulled.put(error)
        else:
            self._pulled.put(None)

    def _pull_until_drained(self) -> None:
        failing_since: float | None = None
        while not self._draining.is_set():
            if not self._held.wait_for_room(TICK_SECONDS):
                continue
            try:
                pulled = self._subscription.pull()
            except _TRANSIENT as error:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > OUTAGE_SECONDS:
                    raise
                _log.warning("Pub/Sub gave nothing; asking again: %s", error)
                self._draining.wait(TICK_SECONDS)
                continue
            except NotFound as error:
                told = f"{error.message}: {self._subscription.name}; make it with local.stack.provision."
                raise NotFound(told) from error
            failing_since = None
            if pulled:
                self._held.add(pulled)
                self._pulled.put(pulled)

    def _keep(self) -> None:
        """Keep what is held from being delivered again, and tell how old it is."""
        extended = time.monotonic()
        while not self._ended.wait(TICK_SECONDS):
            try:
                backlog.tell(self._held.oldest())
                if time.monotonic() - extended >= EXTEND_SECONDS:
                    extended = time.monotonic()
                    self._extend_deadlines()
            except Exception:
                # The next turn tries again. What is held may be delivered twice, which readers expect.
                _log.warning("what is held was not kept or told", exc_info=True)

    def _extend_deadlines(self) -> None:
        # At once, since each may take as long as a call may, and whatever becomes of the others.
        with ThreadPoolExecutor(MAX_HELD_MESSAGES // ACK_IDS) as calls:
            list(calls.map(self._subscription.extend, _portions(self._held.ack_ids())))

    def _told(self) -> str:
        oldest = self._held.oldest()
        waiting = f"{(datetime.now(UTC) - oldest).total_seconds():.1f} s" if oldest else "none"
        counts = ", ".join(f"{name} {count:,}" for name, count in self._counts.items())
        return f"{counts}; oldest unacknowledged message held: {waiting}"


class Subscription:
    """The calls of Pub/Sub on one subscription; for use by several threads.

    They are made as Google's client makes them, but without the client, which costs as much CPU a pull as all
    that the driver does with the hundred messages of it. Each call raises GoogleAPICallError as the client's
    does, and none is tried again.
    """

    def __init__(self, host: str, name: str) -> None:
        """Connect to nothing yet; `name` is projects/PROJECT/subscriptions/NAME."""
        self.name = name
        # A pull may bring several messages of 10 MB; gRPC's own limit is 4 MiB.
        channel = grpc.insecure_channel(host, options=[("grpc.max_receive_message_length", -1)])

        def method(name: str, request: Any, answer: Any) -> Any:
            path = f"/google.pubsub.v1.Subscriber/{name}"
            call = grpc_helpers.wrap_errors(
                channel.unary_unary(path, request.SerializeToString, answer.FromString)
            )
            return lambda sent: call(sent, timeout=PULL_TIMEOUT_SECONDS)

        # The messages beneath proto-plus's, whose attributes cost several times as much.
        self._pull = method("Pull", PullRequest.pb(), PullResponse.pb())
        self._acknowledge = method("Acknowledge", AcknowledgeRequest.pb(), Empty)
        self._modify = method("ModifyAckDeadline", ModifyAckDeadlineRequest.pb(), Empty)
        self._pull_request = PullRequest.pb()(subscription=name, max_messages=PULL_MESSAGES)

    def pull(self) -> Pulled | None:
        """Wait for messages, for a while; None if there are none."""
        received = self._pull(self._pull_request).received_messages
        if not received:
            return None
        messages = []
        for one in received:
            message = one.message
            at, attributes = message.publish_time, message.attributes
            # A dict made of no attributes would be a third of what this costs.
            messages.append(
                Message(
                    message.data,
                    message.message_id,
                    _time(at.seconds, at.nanos),
                    dict(attributes) if attributes else {},
                )
            )
        return Pulled(messages, [one.ack_id for one in received], sum(len(one.data) for one in messages))

    def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """Have these deliveries, at most ACK_IDS, never come again."""
        self._acknowledge(AcknowledgeRequest.pb()(subscription=self.name, ack_ids=ack_ids))

    def extend(self, ack_ids: Sequence[str]) -> None:
        """Have these deliveries, at most ACK_IDS, not come again for ACK_DEADLINE_SECONDS from now."""
        self._modify(
            ModifyAckDeadlineRequest.pb()(
                subscription=self.name, ack_ids=ack_ids, ack_deadline_seconds=ACK_DEADLINE_SECONDS
            )
        )


class _Held:
    """What was pulled and not yet acknowledged; for use by several threads."""

    def __init__(self) -> None:
        self._pulled: dict[str, Pulled] = {}
        """By the first of its ids, of which no delivery shares any."""
        self._messages = 0
        self._bytes = 0
        self._changed = threading.Condition()

    def add(self, pulled: Pulled) -> None:
        with self._changed:
            self._pulled[pulled.ack_ids[0]] = pulled
            self._messages += len(pulled.messages)
            self._bytes += pulled.data_bytes

    def remove(self, batch: Sequence[Pulled]) -> None:
        with self._changed:
            for pulled in batch:
                del self._pulled[pulled.ack_ids[0]]
                self._messages -= len(pulled.messages)
                self._bytes -= pulled.data_bytes
            self._changed.notify()

    def wait_for_room(self, timeout_seconds: float) -> bool:
        """Wait until more may be pulled; return whether it may."""

        def has_room() -> bool:
            return self._messages < MAX_HELD_MESSAGES and self._bytes < MAX_HELD_BYTES

        with self._changed:
            return self._changed.wait_for(has_room, timeout_seconds)

    def ack_ids(self) -> list[str]:
        return [ack_id for pulled in self._all() for ack_id in pulled.ack_ids]

    def oldest(self) -> datetime | None:
        """The earliest publish time."""
        times = (message.publish_time for pulled in self._all() for message in pulled.messages)
        return min(filter(None, times), default=None)

    def _all(self) -> list[Pulled]:
        with self._changed:
            return list(self._pulled.values())


def run(argv: list[str] | None = None) -> StreamDriver:
    """Return the stream that the options (default: the command line's) describe; Beam's own are left out.

    Raises:
        ValueError: PUBSUB_EMULATOR_HOST is not set.
        SystemExit: an option is missing or malformed; the message on stderr says which.
    """
    stream, _ = parse_options(argv)
    return StreamDriver(stream)


def steps(argv: list[str]) -> list[str]:
    """Return the full names of all steps of the pipeline that these options make, as Dataflow knows them.

    Raises:
        SystemExit: as `run`.
    """
    stream, beam_arguments = parse_options(argv)
    pipeline = beam.Pipeline(options=streaming_options(beam_arguments))
    build(pipeline, stream)
    names = _Names()
    pipeline.visit(names)
    return names.found


class _Names(PipelineVisitor):
    def __init__(self) -> None:
        self.found: list[str] = []

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        if transform_node.parent is not None:
            self.found.append(transform_node.full_label)

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        self.found.append(transform_node.full_label)


@functools.lru_cache(maxsize=1000)
def _time(seconds: int, nanos: int) -> datetime:
    # What was published together has one time.
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos // 1000)


def _portions(ack_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut ids into as many as one request takes."""
    for start in range(0, len(ack_ids), ACK_IDS):
        yield ack_ids[start : start + ACK_IDS]


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run().wait_until_finish()
