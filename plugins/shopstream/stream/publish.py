"""Publish the events of a landing day, or of one file, to a Pub/Sub topic, as if they happened now.

Each line becomes one message, in the order of event_time: the CSV line in the contract's order, or a JSON
object of the contract's fields. A line that cannot be split into its fields is published as it is, in its
place: to reject it is the stream's part.

Messages are sent in batches, one request after the other. So Pub/Sub gets them in order, at most one batch is
not acknowledged yet, and memory does not grow with the files. The batching of Google's client sends its
requests side by side and takes twenty times the CPU for a message.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
import logging
import math
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.cloud import pubsub_v1, storage
from google.pubsub_v1 import PublisherClient as PublisherApi
from google.pubsub_v1 import types as pubsub

from beam_jobs.contract import COLUMN_NAMES, TIME_FORMAT, ContractError
from beam_jobs.lines import (
    Block,
    decompressed,
    event_files,
    is_events_file,
    read_blocks,
    read_header,
    refuse_other_header,
)
from beam_jobs.parse import parse_block
from beam_jobs.values import MICROS, times
from shopstream.gcp.storage import open_object
from shopstream.retries import Refused

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

FORMATS = ("csv", "json")
MAX_BATCH_MESSAGES = 1000
"""As many as Pub/Sub takes in one request."""
MAX_BATCH_BYTES = 5_000_000
"""Half of what Pub/Sub takes in one request; a line adds at most BLOCK_BYTES and some to it."""
BLOCK_BYTES = 2**20
STORAGE_CHUNK_BYTES = 4 * 2**20
MAX_FILES = 200
"""All files of a folder are open at once, to be merged by time, and each may hold STORAGE_CHUNK_BYTES."""
REQUEST_TIMEOUT_SECONDS = 30.0
RETRY_SECONDS = 120.0
"""How long a batch is sent again while Pub/Sub is busy or away."""
PROGRESS_SECONDS = 10.0
SLEEP_SECONDS = 0.2
"""The longest sleep between two looks at whether to stop."""

log = logging.getLogger(__name__)

_IS_TRANSIENT = if_exception_type(
    exceptions.Aborted,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ServiceUnavailable,
    exceptions.TooManyRequests,
    exceptions.Unknown,
)
_PLAIN_TIME = re.compile(rb'(?<=\A)\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|(?<=\A{"event_time": ")[^"]+ UTC')
_Message, _Request = pubsub.PubsubMessage.pb(), pubsub.PublishRequest.pb()
"""The bare protobuf classes: the wrapped ones take ten times as long to make."""

Line = tuple[float, bytes]
"""When a line is due, in seconds since 1970 (-inf: before all others), and its message."""


@dataclass(slots=True)
class Published:
    """What was done: `lines` were taken from the files, `published` of them were acknowledged by Pub/Sub.

    `event_time` is how far the acknowledged events reach. `seconds` is the time it took, `behind_seconds` how
    far behind the wanted pace the last request was.
    """

    lines: int = 0
    published: int = 0
    event_time: datetime | None = None
    seconds: float = 0.0
    behind_seconds: float = 0.0
    stopped: bool = False

    @property
    def failed(self) -> int:
        """Lines taken, but not acknowledged."""
        return self.lines - self.published

    def __str__(self) -> str:
        reached = f", up to {self.event_time.strftime(TIME_FORMAT)}" if self.event_time else ""
        behind = f", {self.behind_seconds:,.1f} s behind" if self.behind_seconds >= 1 else ""
        rate = self.published / self.seconds if self.seconds else 0
        return f"{self.published:,} events published{reached}: {self.seconds:,.1f} s, {rate:,.0f}/s{behind}"


class PublishFailed(Refused):
    """Pub/Sub did not take a batch, for good; `published` tells what it took before."""

    def __init__(self, message: str, published: Published) -> None:
        super().__init__(message)
        self.published = published


def publish(
    source: str,
    topic: str,
    *,
    message_format: str = "csv",
    speed: float | None = None,
    limit: int | None = None,
    max_gap_seconds: float = math.inf,
    times_of_now: bool = False,
    credentials: Credentials | None = None,
    stopping: Callable[[], bool] = lambda: False,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Published:
    """Publish the lines of `source` in the order of their event_time.

    Args:
        source: a file .csv or .csv.gz, or a folder of such files; local or gs://.
        topic: projects/P/topics/T.
        message_format: one of FORMATS.
        speed: how many seconds of event time pass in one second; 1 is real time, None as fast as possible.
        limit: publish at most so many lines.
        max_gap_seconds: of event time, between a line and the next; what is longer is cut to it, and told.
        times_of_now: give each event the moment of its publication for its event_time, if that is written in
            the plain form; its day, hour and id are then others than the file's.
        credentials: for Pub/Sub and Cloud Storage; None for those of the environment.
        stopping: asked at least each SLEEP_SECONDS; once true, what was taken is sent, and no more is taken.
        now: a clock, in seconds.
        sleep: waits so many seconds of that clock.

    Raises:
        ContractError: there is no file, a header breaks the contract, or a .gz file is damaged.
        PublishFailed: the topic does not exist, may not be published to, or was away for RETRY_SECONDS.
        ValueError: an argument is out of range.
    """
    _check_arguments(topic, message_format, speed, limit)
    sender = Sender(topic, credentials, stopping, now, sleep)
    last_due, passed_seconds = None, 0.0
    try:
        for due, message in islice(read_lines(source, message_format, credentials), limit):
            if speed and due > -math.inf:
                if last_due is not None:
                    passed_seconds += _bounded_gap(last_due, due, max_gap_seconds)
                last_due = due
                sender.wait_until(sender.started + passed_seconds / speed)
            if stopping():
                sender.done.stopped = True
                break
            sender.take(due, _of_now(message) if times_of_now else message)
        sender.send()
    finally:
        sender.report()
    return sender.done


def _of_now(message: bytes) -> bytes:
    """The message with the present second in place of a plain event_time, which stands first in it."""
    return _PLAIN_TIME.sub(datetime.now(UTC).strftime(TIME_FORMAT).encode(), message, count=1)


def _bounded_gap(last_due: float, due: float, max_gap_seconds: float) -> float:
    """The seconds of event time to let pass between two lines; tells where fewer pass than lie between."""
    gap_seconds = due - last_due
    if gap_seconds > max_gap_seconds:
        log.warning(
            "Nothing is due between %s and %s: %.0f s of event time pass instead of %.0f "
            "(SHOPSTREAM_MAX_PUBLISH_GAP_SECONDS).",
            _clock(last_due),
            _clock(due),
            max_gap_seconds,
            gap_seconds,
        )
    return min(gap_seconds, max_gap_seconds)


def read_lines(
    source: str, message_format: str = "csv", credentials: Credentials | None = None
) -> Iterator[Line]:
    """Yield each line of `source` as a message, and when it is due.

    A file keeps its order, for it should be sorted by event_time; several files of a folder are merged. A
    time that cannot be right is left out of account, and the line goes with the one before it: one later than
    the line after it, the first of a file with a warning, or, in a folder that has the name of a day, one of
    another day.

    Raises:
        ContractError: there is no file, or more than MAX_FILES; a header breaks the contract, or a file is
            damaged or of an encoding that is not read.
    """
    with ExitStack() as opened:
        files = [
            opened.enter_context(closing(_read_file(file, message_format, credentials)))
            for file in _list_files(source, credentials)
        ]
        yield from heapq.merge(*files, key=lambda line: line[0])


class Sender:
    """Collects messages to batches and sends them, one request at a time; `done` tells how far it is.

    Its arguments are those of `publish`; `take` and `send` raise PublishFailed as that does.
    """

    def __init__(
        self,
        topic: str,
        credentials: Credentials | None,
        stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.done = Published()
        self.started = now()
        self._topic = topic
        self._stopping = stopping
        self._now = now
        self._sleep = sleep
        self._reported = self.started
        self._wanted_at: float | None = None
        self._messages: list[pubsub.PubsubMessage] = []
        self._bytes = 0
        self._due = -math.inf
        # Of this client only the choice between Google's service and the emulator is used.
        self._client = pubsub_v1.PublisherClient(credentials=credentials)

    def take(self, due: float, message: bytes, attributes: Mapping[str, str] | None = None) -> None:
        """Add a message to the batch, which is sent when it is full."""
        self._messages.append(_Message(data=message, attributes=attributes))
        self._bytes += len(message)
        self._due = max(self._due, due)
        self.done.lines += 1
        if len(self._messages) == MAX_BATCH_MESSAGES or self._bytes >= MAX_BATCH_BYTES:
            self.send()

    def wait_until(self, wanted_at: float) -> None:
        """Wait until `wanted_at`, a time of the clock, or for the stop; what was due before is sent first."""
        if wanted_at > self._now():
            self.send()
        while (left_seconds := wanted_at - self._now()) > 0 and not self._stopping():
            self._report_at_times()
            self._sleep(min(left_seconds, SLEEP_SECONDS))
        if not self._messages:
            self._wanted_at = wanted_at

    def send(self) -> None:
        """Send the batch, if there is any, and wait until Pub/Sub has acknowledged it."""
        if not self._messages:
            return
        if self._wanted_at is not None:
            self.done.behind_seconds = max(0.0, self._now() - self._wanted_at)
        request = pubsub.PublishRequest.wrap(_Request(topic=self._topic, messages=self._messages))
        retry = Retry(_IS_TRANSIENT, initial=0.1, maximum=5.0, timeout=RETRY_SECONDS, on_error=self._tried)
        try:
            PublisherApi.publish(self._client, request, retry=retry, timeout=REQUEST_TIMEOUT_SECONDS)
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise PublishFailed(
                f"Pub/Sub did not take {len(self._messages)} events for {self._topic}: {error}. "
                f"Before that, {self.done.published:,} were published. Look at the topic and its permissions "
                "and publish again: an event that comes twice is shown once.",
                self.done,
            ) from error
        self.done.published += len(self._messages)
        if self._due > -math.inf:
            self.done.event_time = datetime.fromtimestamp(self._due, UTC)
        self._messages, self._bytes = [], 0
        self._report_at_times()

    def report(self) -> None:
        """Log how far it is."""
        self._reported = self._now()
        self.done.seconds = self._reported - self.started
        log.info("%s.", self.done)

    def _report_at_times(self) -> None:
        if self._now() - self._reported >= PROGRESS_SECONDS:
            self.report()

    def _tried(self, error: Exception) -> None:
        if self._stopping():
            raise error
        log.warning("Pub/Sub did not take a batch, which is sent again: %s", error)


def _check_arguments(topic: str, message_format: str, speed: float | None, limit: int | None) -> None:
    if not re.fullmatch(r"projects/[^/]+/topics/[^/]+", topic):
        raise ValueError(f"topic is {topic!r}; give projects/<project>/topics/<topic>")
    if message_format not in FORMATS:
        raise ValueError(f"format is {message_format!r}; give one of {', '.join(FORMATS)}")
    if speed is not None and not 0 < speed < math.inf:
        raise ValueError(
            f"speed is {speed}; give a factor above 0, such as 60, or none for as fast as possible"
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; give 1 or more lines")


def _list_files(source: str, credentials: Credentials | None) -> list[str]:
    """Return `source` itself if it is a file, else the files in it, by name."""
    if is_events_file(source):
        return [source]
    if source.startswith("gs://"):
        bucket, prefix = _bucket_and_name(source.rstrip("/") + "/")
        client = storage.Client(credentials=credentials)
        names = [blob.name for blob in client.list_blobs(bucket, prefix=prefix)]
        found = [f"gs://{bucket}/{name}" for name in names]
    else:
        found = [str(path) for path in Path(source).rglob("*") if path.is_file()]
    files = event_files(source, found)
    if not files:
        raise ContractError(f"{source} is neither a file .csv or .csv.gz nor a folder with such files in it.")
    if len(files) > MAX_FILES:
        raise ContractError(
            f"{source} has {len(files):,} files; at most {MAX_FILES} are merged by time at once. Join them "
            "to fewer, or publish them one by one."
        )
    return files


def _bucket_and_name(uri: str) -> tuple[str, str]:
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    return bucket, name


@contextmanager
def _open(file: str, credentials: Credentials | None) -> Iterator[io.BufferedIOBase]:
    if file.startswith("gs://"):
        name, object_name = _bucket_and_name(file)
        bucket = storage.Client(credentials=credentials).bucket(name)
        with (
            open_object(bucket, object_name, chunk_bytes=STORAGE_CHUNK_BYTES) as (stored, encoding),
            decompressed(stored, file, encoding) as text,
        ):
            yield text
        return
    if not Path(file).is_file():
        raise ContractError(f"{file} does not exist. Give another file.")
    with decompressed(Path(file).open("rb"), file) as text:
        yield text


def _read_file(
    file: str, message_format: str, credentials: Credentials | None
) -> Generator[Line, None, None]:
    with _open(file, credentials) as text:
        header = read_header(text, file)
        blocks = read_blocks(text, header.body_start, block_bytes=BLOCK_BYTES)
        lines = chain.from_iterable(
            _messages(block, header.columns, message_format, file) for block in blocks
        )
        yield from _when_due(lines, _day_window(file), file)


def _when_due(
    lines: Iterator[tuple[float | None, bytes]], window: tuple[float, float], file: str
) -> Iterator[Line]:
    due = -math.inf
    is_sorted = True
    following = next(lines, None)
    number = 0
    while following:
        (seconds, message), following = following, next(lines, None)
        next_seconds = following[0] if following else None
        number += 1
        if _is_within(seconds, window) and _is_within(next_seconds, window) and seconds > next_seconds:
            if is_sorted:
                log.warning(
                    "%s is not sorted by event_time: its event %d, of %s, is later than the next, of %s. Its "
                    "events keep the file's order, and such a one goes with the event before it.",
                    file,
                    number,
                    _clock(seconds),
                    _clock(next_seconds),
                )
                is_sorted = False
        elif _is_within(seconds, window):
            due = seconds
        yield due, message


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(TIME_FORMAT)


def _day_window(file: str) -> tuple[float, float]:
    """Return the seconds since 1970 that times in a file may have: those of the day that its folder is."""
    try:
        day = datetime.combine(date.fromisoformat(file.split("/")[-2]), datetime.min.time(), UTC)
    except (IndexError, ValueError):
        return -math.inf, math.inf
    return day.timestamp(), (day + timedelta(days=1)).timestamp()


def _is_within(seconds: float | None, window: tuple[float, float]) -> TypeGuard[float]:
    return seconds is not None and window[0] <= seconds < window[1]


def _messages(
    block: Block, columns: Sequence[str], message_format: str, file: str
) -> list[tuple[float | None, bytes]]:
    """Return the event_time, in seconds since 1970, and the message of each line of a block, in its order."""
    parsed = parse_block(block, columns)

    def raw(offset: int, length: int) -> bytes:
        # Not Block.raw, which cuts a line that is too long to one that is not.
        start = offset - block.offset
        return block.data[start : start + length]

    offsets, lengths, rows = parsed.offsets.tolist(), parsed.lengths.tolist(), parsed.rows
    if message_format == "json":
        messages = [_as_json(event) for event in rows.to_pylist()]
    elif tuple(columns) == COLUMN_NAMES:
        messages = list(map(raw, offsets, lengths))
    else:
        messages = [_as_csv(event.values()) for event in rows.to_pylist()]
    found = times(rows["event_time"].combine_chunks())
    seconds = [
        None if bad else micros / MICROS
        for micros, bad in zip(found.micros.tolist(), found.bad.tolist(), strict=True)
    ]
    undated = [(offsets[row], lengths[row]) for row, known in enumerate(seconds) if known is None]
    lines = list(zip(offsets, seconds, messages, strict=True))
    if len(parsed.rejected):
        columns_of_rejects = (parsed.rejected[name].to_pylist() for name in ("byte_offset", "line_bytes"))
        rejects = list(zip(*columns_of_rejects, strict=True))
        undated += rejects
        lines += [(offset, None, raw(offset, length)) for offset, length in rejects]
        lines.sort(key=lambda line: line[0])
    for offset, length in undated:
        refuse_other_header(block.raw(offset, length), columns, file, offset)
    return [(known, message) for _, known, message in lines]


def _as_json(event: dict[str, str]) -> bytes:
    """Values stay text, so that nothing is rounded or put right on the way."""
    return json.dumps({name: text or None for name, text in event.items()}, ensure_ascii=False).encode()


def _as_csv(fields: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue().encode()
