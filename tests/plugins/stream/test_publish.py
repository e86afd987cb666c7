"""Publishing files as a stream: the order and pace of lines, and what the Pub/Sub emulator got."""

from __future__ import annotations

import gzip
import json
import math
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from google.cloud import pubsub_v1
from google.cloud.storage import Bucket

from beam_jobs.contract import COLUMN_NAMES, MAX_LINE_BYTES, ContractError
from beam_jobs.messages import Message, judge
from local.root import ROOT
from local.stack import emulators
from shopstream.settings import settings
from shopstream.stream import publish as publish_events
from shopstream.stream.publish import PublishFailed, publish, read_lines

HEADER = ",".join(COLUMN_NAMES)
DAY_START = 1572566400.0
"""2019-11-01 00:00:00 UTC"""


def line(clock: str = "00:00:00", day: str = "2019-11-01", **fields: str) -> str:
    """One event as a CSV line, without its end."""
    values = {
        "event_time": f"{day} {clock} UTC",
        "event_type": "view",
        "product_id": "1003461",
        "category_id": "2053013555631882655",
        "category_code": "electronics.smartphone",
        "brand": "",
        "price": "35.70",
        "user_id": "520088904",
        "user_session": "4d3b30da",
    }
    return ",".join((values | fields)[name] for name in COLUMN_NAMES)


def write(path: Path, lines: Iterable[str | bytes], header: bool = True) -> str:
    """Write a file, gzipped if it is called so, and return its path."""
    texts = [text if isinstance(text, bytes) else text.encode() for text in lines]
    content = b"".join(text + b"\n" for text in ([HEADER.encode()] if header else []) + texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def clocks(source: str) -> list[str]:
    """The times of day of a source's lines, in the order in which they are published."""
    return [message[11:19].decode() for _, message in read_lines(source)]


def due_seconds(source: str) -> list[float]:
    """When the source's lines are due, in seconds since the day's start."""
    return [due - DAY_START for due, _ in read_lines(source)]


# What is read, in which order


def test_a_file_with_or_without_a_header_gives_its_lines(tmp_path: Path) -> None:
    lines = [line("00:00:01"), line("00:00:02")]
    for name, header in (("a.csv", True), ("b.csv", False), ("c.csv.gz", True)):
        source = write(tmp_path / name, lines, header)
        assert [message.decode() for _, message in read_lines(source)] == lines
        assert due_seconds(source) == [1, 2]


def test_the_files_of_a_day_are_merged_by_time(tmp_path: Path) -> None:
    write(tmp_path / "2019-11-01" / "a.csv", [line("10:00:00"), line("10:00:03"), line("10:00:04")])
    write(tmp_path / "2019-11-01" / "b.csv.gz", [line("10:00:01"), line("10:00:02"), line("10:00:05")])
    write(tmp_path / "2019-11-01" / "_SUCCESS", [], header=False)
    assert clocks(str(tmp_path / "2019-11-01")) == [f"10:00:0{second}" for second in range(6)]


@pytest.mark.parametrize(
    ("times", "place"),
    [
        (["10:00:00", "10:00:05", "10:00:01", "10:00:06", "10:00:02"], (2, "10:00:05", "10:00:01")),
        (["10:00:09", "10:00:08", "10:00:07"], (1, "10:00:09", "10:00:08")),
    ],
)
def test_a_file_that_is_not_sorted_keeps_its_order_with_one_warning_of_the_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, times: list[str], place: tuple[int, str, str]
) -> None:
    source = write(tmp_path / "a.csv", map(line, times))

    assert clocks(source) == times

    [warning] = caplog.messages
    number, later, earlier = place
    assert warning.startswith(
        f"{source} is not sorted by event_time: its event {number}, of 2019-11-01 {later} UTC, is later than "
        f"the next, of 2019-11-01 {earlier} UTC."
    )


def test_a_sorted_file_is_not_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clocks(write(tmp_path / "a.csv", map(line, ["10:00:00", "10:00:00", "10:00:01"])))
    assert caplog.messages == []


def test_a_header_in_another_order_gives_lines_in_the_order_of_the_contract(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    fields = line(brand="o'neill").split(",")
    source.write_text(",".join(COLUMN_NAMES[::-1]) + "\n" + ",".join(fields[::-1]) + "\n")
    assert [message.decode() for _, message in read_lines(str(source))] == [line(brand="o'neill")]
    source.write_text(
        ",".join(COLUMN_NAMES[::-1]) + '\ns,1,2.5,"a ""b"", c",,1,1,view,2019-11-01 00:00:00 UTC\n'
    )
    [(_, message)] = read_lines(str(source))
    assert message.decode() == '2019-11-01 00:00:00 UTC,view,1,1,,"a ""b"", c",2.5,1,s'


def test_json_messages_hold_the_fields_as_text_and_null_for_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", [line(category_code='"x, y"', user_session="né")])
    [(_, message)] = read_lines(source, "json")
    event = json.loads(message)
    assert tuple(event) == COLUMN_NAMES
    assert (event["category_code"], event["brand"], event["price"], event["user_session"]) == (
        "x, y",
        None,
        "35.70",
        "né",
    )


@pytest.mark.parametrize("message_format", ["csv", "json"])
@pytest.mark.parametrize(
    "bad",
    [
        b"no event at all",
        line().encode() + b",too,many",
        line(brand='sam"sung').encode(),
        line(brand="caf").encode().replace(b"caf", b"caf\xe9"),
        line(brand="sam\tsung").encode(),
        line(brand="x" * (MAX_LINE_BYTES + 1)).encode(),
    ],
    ids=["words", "columns", "quote", "utf8", "control", "long"],
)
def test_a_line_that_cannot_be_parsed_is_published_as_it_is_in_its_place(
    tmp_path: Path, bad: bytes, message_format: str
) -> None:
    source = write(tmp_path / "a.csv", [line("00:00:01"), bad, line("00:00:02")])
    lines = list(read_lines(source, message_format))
    assert lines[1] == (DAY_START + 1, bad)
    assert len(lines) == 3


def test_a_line_without_end_is_cut_but_stays_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_events, "BLOCK_BYTES", 1000)
    long = "x" * (3 * MAX_LINE_BYTES)
    first, cut, last = (
        message for _, message in read_lines(write(tmp_path / "a.csv", [line(), long, line()]))
    )
    assert first.decode() == last.decode() == line()
    assert MAX_LINE_BYTES < len(cut) < MAX_LINE_BYTES + 2000
    assert cut == b"x" * len(cut)


def test_blank_lines_and_a_byte_order_mark_are_no_messages(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    for header in ("", HEADER + "\r\n"):
        source.write_text(f"\ufeff{header}\n\r\n{line()}\r\n\n{line()}")
        assert [message.decode().rstrip("\r") for _, message in read_lines(str(source))] == [line()] * 2


@pytest.mark.parametrize("message_format", ["csv", "json"])
def test_byte_order_marks_of_joined_files_belong_to_no_value(tmp_path: Path, message_format: str) -> None:
    plain = write(tmp_path / "a.csv", [line("00:00:01"), HEADER, line("00:00:02")])
    joined = tmp_path / "b.csv"
    joined.write_text(
        f"\ufeff{HEADER}\n{line('00:00:01')}\n\ufeff{HEADER}\n\ufeff\ufeff{line('00:00:02')}\n\ufeff\n"
    )
    lines = list(read_lines(str(joined), message_format))
    assert lines == list(read_lines(plain, message_format))
    judged = judge([Message(message) for _, message in lines])
    assert len(judged.events) == 2
    assert [reject.reason for reject in judged.rejects] == ["repeated_header"]


@pytest.mark.parametrize("message_format", ["csv", "json"])
def test_a_header_of_other_columns_further_on_is_refused_by_name_and_place(
    tmp_path: Path, message_format: str
) -> None:
    swapped = HEADER.replace("product_id", "-").replace("user_id", "product_id").replace("-", "user_id")
    for other in (swapped, swapped.upper(), HEADER + ",colour"):
        source = write(tmp_path / "a.csv", [line(), other, line()])
        place = len(HEADER) + 1 + len(line()) + 1
        with pytest.raises(ContractError, match=rf"a\.csv: the line at byte {place} is a header of other"):
            list(read_lines(source, message_format))


@pytest.mark.parametrize("block_bytes", [1, 100, 150, 1000])
def test_blocks_cut_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(publish_events, "BLOCK_BYTES", block_bytes)
    times = [f"00:00:{second:02d}" for second in range(30)]
    for name in ("a.csv", "a.csv.gz"):
        assert clocks(write(tmp_path / name, map(line, times))) == times


def test_a_time_later_than_the_next_is_no_time_to_wait_for(tmp_path: Path) -> None:
    lines = [line("00:00:01"), line("00:00:00", day="2019-11-09"), line("00:00:02"), line("00:00:03")]
    assert due_seconds(write(tmp_path / "a.csv", lines)) == [1, 1, 2, 3]


def test_a_time_in_another_form_is_due_when_it_happened(tmp_path: Path) -> None:
    times = ["2019-11-01T00:00:00.25Z", "2019-11-01 02:00:01+02:00", "2019-11-01 00:00:02 UTC"]
    source = write(tmp_path / "a.csv", [line(event_time=time) for time in times])
    assert due_seconds(source) == [0.25, 1, 2]


def test_times_of_other_days_are_left_out_of_account_in_a_folder_of_a_day(tmp_path: Path) -> None:
    lines = [
        line("12:00:00", day="2019-10-30"),
        line("00:00:01"),
        line("00:00:00", day="2019-11-09"),
        line("00:00:00", day="2019-11-09"),
        line("12:00:00", day="2019-10-30"),
        line("00:00:02"),
    ]
    source = write(tmp_path / "2019-11-01" / "a.csv", lines)
    assert due_seconds(source) == [-math.inf, 1, 1, 1, 1, 2]


def test_a_folder_with_a_file_that_nobody_would_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.CSV", [line()])
    assert len(list(read_lines(str(tmp_path)))) == 1
    write(tmp_path / "hour" / "b.csv", [line()])
    with pytest.raises(ContractError, match=r"neither events nor a known mark: hour/b\.csv\. If"):
        list(read_lines(str(tmp_path)))


def test_more_files_than_may_be_open_at_once_are_refused_before_one_is(tmp_path: Path) -> None:
    for number in range(publish_events.MAX_FILES):
        write(tmp_path / f"{number:03d}.csv", [line()])
    assert len(clocks(str(tmp_path))) == publish_events.MAX_FILES
    write(tmp_path / "more.csv", [line()])
    with pytest.raises(ContractError, match=rf"{tmp_path} has 201 files; at most 200 .* Join them to fewer"):
        next(read_lines(str(tmp_path)))


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    for source, words in (
        (str(tmp_path / "none"), "neither a file .csv or .csv.gz nor a folder"),
        (str(tmp_path / "no.csv"), "no.csv does not exist"),
        (write(tmp_path / "prices.csv", ["sku,price,event_time,event_type"], False), "the header has extra"),
    ):
        with pytest.raises(ContractError, match=words):
            list(read_lines(source))


def test_a_damaged_gzip_file_is_refused_by_its_name(tmp_path: Path) -> None:
    write(tmp_path / "b.csv", [line()] * 9)
    whole = Path(write(tmp_path / "a.csv.gz", [line(brand=str(n)) for n in range(999)])).read_bytes()
    (tmp_path / "a.csv.gz").write_bytes(whole[:-9])
    with pytest.raises(ContractError, match=r"a\.csv\.gz is damaged or cut short"):
        list(read_lines(str(tmp_path)))


# What Pub/Sub gets


@dataclass
class Channel:
    """A topic of the emulator and a subscription to it."""

    topic: str
    subscription: str
    subscriber: pubsub_v1.SubscriberClient = field(default_factory=pubsub_v1.SubscriberClient)

    def received(self, count: int) -> list[bytes]:
        """The next messages, in the order in which the emulator took them, at least `count` of them."""
        messages: dict[int, bytes] = {}
        deadline = time.monotonic() + 30
        while len(messages) < count and time.monotonic() < deadline:
            answer = self.subscriber.pull(subscription=self.subscription, max_messages=1000, timeout=10)
            messages |= {int(got.message.message_id): got.message.data for got in answer.received_messages}
            if answer.received_messages:
                ack_ids = [got.ack_id for got in answer.received_messages]
                self.subscriber.acknowledge(subscription=self.subscription, ack_ids=ack_ids)
        return [messages[number] for number in sorted(messages)]


@pytest.fixture
def channel(pubsub_emulator: str) -> Iterator[Channel]:
    """A topic of its own."""
    name = f"projects/{settings().project}/{{}}/test-{uuid.uuid4().hex[:12]}"
    fresh = Channel(name.format("topics"), name.format("subscriptions"))
    pubsub_v1.PublisherClient().create_topic(name=fresh.topic)
    fresh.subscriber.create_subscription(name=fresh.subscription, topic=fresh.topic)
    yield fresh
    fresh.subscriber.close()


@dataclass
class Clock:
    """A clock that only sleeping moves on."""

    seconds: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept.append(seconds)


def seconds_of_day(count: int) -> list[str]:
    """One event for each of the first seconds of the day."""
    return [line(time.strftime("%H:%M:%S", time.gmtime(n)), brand=str(n)) for n in range(count)]


@pytest.mark.integration
def test_every_line_is_published_once_and_in_order(channel: Channel, tmp_path: Path) -> None:
    lines = seconds_of_day(2500)
    for message_format, source in (
        ("csv", write(tmp_path / "a.csv", lines)),
        ("json", write(tmp_path / "a.csv.gz", lines)),
    ):
        done = publish(source, channel.topic, message_format=message_format)
        assert (done.lines, done.published, done.failed, done.stopped) == (2500, 2500, 0, False)
        assert str(done.event_time) == "2019-11-01 00:41:39+00:00"
        assert channel.received(2500) == [message for _, message in read_lines(source, message_format)]


@pytest.mark.integration
def test_events_get_the_moment_of_their_publication_if_asked_for(channel: Channel, tmp_path: Path) -> None:
    # The last is no event; a time in another form stays as it is.
    lines = [*seconds_of_day(3), line("00:00:03").replace(" 00:00:03 UTC", "T00:00:03Z"), "rubbish"]
    for message_format in ("csv", "json"):
        before = datetime.now(UTC).replace(microsecond=0)
        source = write(tmp_path / "a.csv", lines)
        publish(source, channel.topic, message_format=message_format, times_of_now=True)
        judged = judge([Message(data) for data in channel.received(5)])
        *moved, kept = judged.events["event_time"].to_pylist()
        assert all(before <= moment <= datetime.now(UTC) for moment in moved)
        assert len(moved) == 3
        assert kept == datetime(2019, 11, 1, 0, 0, 3, tzinfo=UTC)
        assert judged.events["brand"].to_pylist()[:3] == ["0", "1", "2"]
        assert len(judged.rejects) == 1


@pytest.mark.integration
def test_a_day_is_published_from_cloud_storage(channel: Channel, bucket: Bucket) -> None:
    for name, second in (("a.csv", 1), ("b.csv", 0)):
        bucket.blob(f"landing/events/2019-11-01/{name}").upload_from_string(line(f"00:00:0{second}"))
    bucket.blob("landing/events/2019-11-01/_SUCCESS").upload_from_string("")
    folder = f"gs://{bucket.name}/landing/events/2019-11-01"
    for source in (folder, f"{folder}/"):
        assert publish(source, channel.topic).published == 2
        assert channel.received(2) == [line("00:00:00").encode(), line("00:00:01").encode()]
    assert publish(f"{folder}/a.csv", channel.topic).published == 1
    with pytest.raises(ContractError, match=r"no\.csv does not exist"):
        publish(f"{folder}/no.csv", channel.topic)
    bucket.blob("landing/events/2019-11-01/other/c.csv").upload_from_string(line())
    with pytest.raises(ContractError, match=r"neither events nor a known mark: other/c\.csv\. If"):
        publish(folder, channel.topic)


@pytest.mark.integration
def test_an_object_with_an_encoding_of_its_own_is_read_as_what_it_holds(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_events, "STORAGE_CHUNK_BYTES", 1000)
    lines = seconds_of_day(5000)
    blob = bucket.blob("a.csv")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress("\n".join(lines).encode()), content_type="text/csv")
    assert [message.decode() for _, message in read_lines(f"gs://{bucket.name}/a.csv")] == lines

    blob.content_encoding = "br"
    blob.upload_from_string("\n".join(lines), content_type="text/csv")
    with pytest.raises(ContractError, match=r"a\.csv has the Content-Encoding 'br'"):
        list(read_lines(f"gs://{bucket.name}/a.csv"))


@pytest.mark.integration
def test_an_object_that_changes_while_it_is_read_is_not_read_on(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_events, "STORAGE_CHUNK_BYTES", 1000)
    monkeypatch.setattr(publish_events, "BLOCK_BYTES", 1000)
    former = seconds_of_day(5000)
    bucket.blob("a.csv").upload_from_string("\n".join(former), content_type="text/csv")
    lines = (message.decode() for _, message in read_lines(f"gs://{bucket.name}/a.csv"))
    assert list(islice(lines, 10)) == former[:10]
    bucket.blob("a.csv").upload_from_string("\n".join(former[::-1]), content_type="text/csv")
    with pytest.raises(ContractError, match=r"a\.csv was written anew or deleted while it was read"):
        list(lines)


@pytest.mark.integration
def test_a_limit_ends_it_early(channel: Channel, tmp_path: Path) -> None:
    done = publish(write(tmp_path / "a.csv", seconds_of_day(50)), channel.topic, limit=7)
    assert (done.lines, done.published, done.stopped) == (7, 7, False)


@pytest.mark.integration
def test_events_are_published_when_they_are_due_at_the_speed_asked_for(
    channel: Channel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, sent = Clock(), []
    original = publish_events.PublisherApi.publish

    def noting(client: object, request: object, **options: object) -> object:
        sent.append((clock.seconds - 1000, len(request.messages)))  # type: ignore[attr-defined]
        return original(client, request, **options)

    monkeypatch.setattr(publish_events.PublisherApi, "publish", noting)
    lines = [line("00:00:00"), line("00:00:00"), line("00:01:00"), "bad", line("00:10:00")]
    source = write(tmp_path / "a.csv", lines)
    done = publish(source, channel.topic, speed=60, now=clock.now, sleep=clock.sleep)
    assert [(round(seconds, 6), count) for seconds, count in sent] == [(0, 2), (1, 2), (10, 1)]
    assert max(clock.slept) <= publish_events.SLEEP_SECONDS
    assert done.seconds == pytest.approx(10)
    assert done.behind_seconds == pytest.approx(0)


@pytest.mark.integration
def test_a_last_line_of_years_later_is_not_waited_for(
    channel: Channel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    far = line("00:01:00").replace("2019-11-01", "2029-11-01")
    source = write(tmp_path / "a.csv", [line("00:00:00"), line("00:01:00"), far])
    done = publish(source, channel.topic, speed=60, max_gap_seconds=3600, now=clock.now, sleep=clock.sleep)
    assert done.published == 3
    assert done.seconds == pytest.approx(1 + 60)
    told = "between 2019-11-01 00:01:00 UTC and 2029-11-01 00:01:00 UTC: 3600 s of event time pass"
    assert told in caplog.text


@pytest.mark.integration
def test_a_publisher_that_is_too_slow_says_how_far_it_is_behind(
    channel: Channel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()

    def slow_now() -> float:
        clock.seconds += 0.01
        return clock.seconds

    source = write(tmp_path / "a.csv", seconds_of_day(2000))
    with caplog.at_level("INFO"):
        done = publish(source, channel.topic, speed=1e6, now=slow_now, sleep=clock.sleep)
    assert done.published == 2000
    assert done.behind_seconds > 1
    assert re.search(r"1,\d\d\d events published, up to 2019-11-01 .* UTC: .*/s, .* s behind", caplog.text)
    assert caplog.messages[-1].startswith("2,000 events published, up to 2019-11-01 00:33:19 UTC")


@pytest.mark.integration
def test_it_keeps_a_real_pace(channel: Channel, tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", seconds_of_day(11))
    done = publish(source, channel.topic, speed=10)
    assert 1.0 <= done.seconds < 10


@pytest.mark.integration
def test_a_stop_sends_what_was_taken_and_takes_no_more(channel: Channel, tmp_path: Path) -> None:
    clock = Clock()
    source = write(tmp_path / "a.csv", seconds_of_day(100))
    done = publish(
        source,
        channel.topic,
        speed=1,
        stopping=lambda: clock.seconds >= 1030.1,
        now=clock.now,
        sleep=clock.sleep,
    )
    assert (done.lines, done.published, done.failed, done.stopped) == (31, 31, 0, True)
    assert len(channel.received(31)) == 31


@pytest.mark.integration
def test_a_stop_at_full_speed_sends_the_batch_that_was_begun(channel: Channel, tmp_path: Path) -> None:
    asked = iter(range(10_000))
    source = write(tmp_path / "a.csv", seconds_of_day(5000))
    done = publish(source, channel.topic, stopping=lambda: next(asked) >= 1500)
    assert (done.lines, done.published, done.stopped) == (1500, 1500, True)


@pytest.mark.integration
def test_a_topic_that_does_not_exist_is_told_with_what_was_published(
    pubsub_emulator: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "a.csv", seconds_of_day(2000))
    with pytest.raises(
        PublishFailed, match=r"did not take 1000 events for projects/.*/topics/none: 404"
    ) as caught:
        publish(source, f"projects/{settings().project}/topics/none")
    done = caught.value.published
    assert (done.lines, done.published, done.failed) == (1000, 0, 1000)


@pytest.mark.integration
def test_only_what_pubsub_has_acknowledged_counts_as_published(channel: Channel, tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", seconds_of_day(2500))
    asked = 0

    def deleting() -> bool:
        nonlocal asked
        asked += 1
        if asked == 1500:
            pubsub_v1.PublisherClient().delete_topic(topic=channel.topic)
        return False

    with pytest.raises(PublishFailed, match="Before that, 1,000 were published") as caught:
        publish(source, channel.topic, stopping=deleting)
    assert (caught.value.published.published, caught.value.published.failed) == (1000, 1000)
    assert len(channel.received(1000)) == 1000


@pytest.mark.integration
def test_a_service_that_is_away_is_tried_again_and_a_stop_ends_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"{emulators.HOST}:{emulators.free_port()}")
    source = write(tmp_path / "a.csv", seconds_of_day(1000))
    began = time.monotonic()
    with pytest.raises(PublishFailed, match="did not take 1000 events") as caught:
        publish(source, "projects/p/topics/t", stopping=lambda: time.monotonic() - began > 3)
    assert caught.value.published.published == 0
    assert "which is sent again" in caplog.text
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"topic": "events"}, "give projects/<project>/topics/<topic>"),
        ({"message_format": "xml"}, "give one of csv, json"),
        ({"speed": 0.0}, "give a factor above 0"),
        ({"limit": 0}, "give 1 or more lines"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        publish(**({"source": "none", "topic": "projects/p/topics/t"} | options))  # type: ignore[arg-type]


# Not resource.getrusage, in which a child starts with the peak of its parent.
MEASURE = """
import psutil, sys
from shopstream.stream.publish import publish
me, peak, asked = psutil.Process(), 0, 0
def look():
    global peak, asked
    asked += 1
    if asked % 1000 == 0:
        peak = max(peak, me.memory_info().rss)
    return False
publish(sys.argv[1], sys.argv[2], limit=int(sys.argv[3]), stopping=look)
print(peak)
"""


@pytest.mark.integration
def test_memory_does_not_grow_with_the_file(channel: Channel, tmp_path: Path) -> None:
    # Nobody keeps the messages, so that the emulator's memory does not grow either.
    channel.subscriber.delete_subscription(subscription=channel.subscription)
    source = write(tmp_path / "a.csv.gz", seconds_of_day(80_000) * 6)

    def peak_bytes(lines: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, source, channel.topic, str(lines)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    few, many = peak_bytes(50_000), peak_bytes(480_000)
    print(f"{few:,} bytes for 50,000 lines, {many:,} bytes for 480,000")
    assert many < few * 1.1


def test_neither_beam_nor_airflow_is_imported() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, shopstream.stream.publish; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"apache_beam", "airflow"} & set(told.stdout.split())
