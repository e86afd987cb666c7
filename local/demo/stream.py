"""The demo's stream: a day through Pub/Sub while its job is killed once, and kept alive by Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from statistics import median
from typing import Any

from google.cloud import bigquery, storage

from local.dataflow.jobs import running_workers
from local.stack.airflow_client import AirflowClient, AirflowRefused, RunFailed
from local.stack.services import STATE
from shopstream import layout
from shopstream.gcp.bigquery import SMALL_MAX_BYTES, run
from shopstream.settings import settings
from shopstream.stream.decide import STREAM_JOB, Action

KILL_AT_SHARE = 0.2
"""The job is killed when so much of what is published has come through."""
STALL_SECONDS = 240
"""Beside a keep-alive interval, without one more message come through, for so long: the stream is broken."""
POLL_SECONDS = 1.0

_THROUGH = """
SELECT
  (SELECT COUNT(DISTINCT message_id) FROM shop_raw.events_stream
   WHERE event_date = @day AND publish_time >= @began) AS stream_rows,
  (SELECT COUNT(DISTINCT message_id) FROM shop.rejected_events
   WHERE rejected_date >= DATE(@began) AND source = 'stream' AND publish_time >= @began) AS rejected
"""
_IN_VIEW = """
SELECT
  COUNT(DISTINCT stream.event_id) AS streamed_ids,
  COUNT(viewed.event_id) AS found_rows,
  COUNT(DISTINCT viewed.event_id) AS found_ids
FROM (
  SELECT DISTINCT event_id FROM shop_raw.events_stream WHERE event_date = @day AND publish_time >= @began
) AS stream
LEFT JOIN (SELECT event_id FROM shop.events WHERE event_date = @day) AS viewed
  ON viewed.event_id = stream.event_id
"""
_BOTH_WAYS = """
SELECT COUNTIF(stream.event_id IS NULL) AS only_in_batch, COUNTIF(batch.event_id IS NULL) AS only_in_stream
FROM (
  SELECT DISTINCT event_id FROM shop_raw.events_batch WHERE event_date = @day AND landing_day = @day
) AS batch
FULL OUTER JOIN (
  SELECT DISTINCT event_id FROM shop_raw.events_stream WHERE event_date = @day AND publish_time >= @began
) AS stream ON stream.event_id = batch.event_id
"""


@dataclass
class StreamedDay:
    """One day's way through the stream."""

    airflow: AirflowClient
    client: bigquery.Client
    bucket: storage.Bucket
    day: date
    progress: Callable[[str], None]
    began: datetime
    published: int = 0
    kills: int = 0
    seconds_to_recover: float | None = None

    @classmethod
    def start(
        cls,
        airflow: AirflowClient,
        client: bigquery.Client,
        bucket: storage.Bucket,
        day: date,
        progress: Callable[[str], None],
    ) -> StreamedDay:
        """Start the stream through its DAG, as a user would."""
        stream = cls(airflow, client, bucket, day, progress, datetime.now(UTC))
        for dag_id in ("simulate_stream", "stop_stream", "keep_stream_alive"):
            airflow.unpause(dag_id)
        airflow.run("keep_stream_alive", {}, progress)
        return stream

    def publish_and_kill(self) -> None:
        """Publish the landed day, kill the job in its midst, and wait until all has come through.

        A job of another machine or container cannot be killed from here, and lives. At the end
        keep_stream_alive is paused.

        Raises:
            RunFailed: nothing came through for STALL_SECONDS and an interval; the message has the counts.
        """
        name = f"{layout.EXPORTS}stream-{self.day}.csv"
        lines = list(self._lines_of_the_day())
        self.published = len(lines) - 1  # the first is the header
        self.bucket.blob(name).upload_from_string(b"".join(lines))
        run_id = self.airflow.trigger("simulate_stream", {"object": name, "speed": None})
        self._wait_for(int(self.published * KILL_AT_SHARE))
        for worker in running_workers(STATE / "dataflow", STREAM_JOB).values():
            worker.kill()
            self.kills += 1
        if self.kills:
            self._see_the_job_recover()
        self.airflow.wait_for_success({("simulate_stream", run_id): "simulate_stream"}, self.progress)
        self.published = self.airflow.returned("simulate_stream", run_id, "publish_events")["published"]
        self._wait_for(self.published)
        # Its looks every few seconds would take the rest of the demo's CPU.
        self.airflow.pause("keep_stream_alive")

    def _see_the_job_recover(self) -> None:
        killed = time.monotonic()
        time.sleep(POLL_SECONDS)  # what the job had sent when it was killed may still arrive
        seen = sum(self._through())
        self.progress(f"killed job {STREAM_JOB} with SIGKILL when {seen:,} messages had come through")
        if seen < self.published:
            self._wait_for(seen + 1)
            self.seconds_to_recover = round(time.monotonic() - killed, 1)
            self.progress(f"the next message came through {self.seconds_to_recover:.1f} s after the kill")

    def result(self) -> tuple[dict[str, Any], list[str]]:
        """What came of it, counted in BigQuery, and what must hold of it and does not."""
        stream_rows, rejected = self._through()
        [in_view] = self._query(_IN_VIEW)
        sentences = []
        if stream_rows + rejected != self.published:
            sentences.append(
                f"stream: {self.published:,} messages were published, but {stream_rows:,} are in "
                f"events_stream and {rejected:,} in rejected_events"
            )
        if not in_view["streamed_ids"] == in_view["found_ids"] == in_view["found_rows"]:
            sentences.append(
                f"stream: of {in_view['streamed_ids']:,} streamed events shop.events shows "
                f"{in_view['found_ids']:,} in {in_view['found_rows']:,} rows"
            )
        [both] = self._query(_BOTH_WAYS)
        if both["only_in_batch"] or both["only_in_stream"]:
            sentences.append(
                f"{self.day}, which came both ways: {both['only_in_batch']:,} events only by batch, "
                f"{both['only_in_stream']:,} only by stream"
            )
        result = {
            "published": self.published,
            "stream_rows": stream_rows,
            "rejected": rejected,
            "distinct_in_view": in_view["found_ids"],
            "kills": self.kills,
            "seconds_to_recover": self.seconds_to_recover,
            "keep_alive_seconds": self._seconds_of_an_idle_look(),
        }
        return result, sentences

    def _seconds_of_an_idle_look(self) -> float | None:
        """What a look of keep_stream_alive took that had nothing to do, the median; None if untold."""
        try:
            run_ids = self.airflow.scheduled_runs("keep_stream_alive")
            looks = [("keep_stream_alive", run_id, "keep_alive") for run_id in run_ids]
            ended = {look: task for look in looks if (task := self.airflow.task(*look))["state"] == "success"}
            idle = [
                task["duration"]
                for look, task in ended.items()
                if self.airflow.returned(*look)["decision"] == Action.NOTHING
            ]
        except AirflowRefused:
            return None
        return round(median(idle), 1) if idle else None

    def stop(self) -> None:
        """Stop the stream through its DAG."""
        self.airflow.pause("keep_stream_alive")
        self.airflow.run("stop_stream", {"how": "drain"}, self.progress)

    def _lines_of_the_day(self) -> Iterator[bytes]:
        """The landed lines, but for those that only a landing day makes late or early: a stream has none."""
        header_seen = False
        for blob in self.bucket.client.list_blobs(self.bucket, prefix=f"{layout.landing(self.day)}/"):
            if not blob.name.endswith(".csv"):
                continue
            with blob.open("rb") as lines:
                for line in lines:
                    is_header = line.startswith(b"event_time,")
                    if is_header and header_seen:
                        continue
                    header_seen |= is_header
                    if _day_of(line) in (None, self.day):
                        yield line if line.endswith(b"\n") else line + b"\n"

    def _wait_for(self, messages: int) -> None:
        patience = STALL_SECONDS + settings().keep_alive_seconds
        most, moved, told = 0, time.monotonic(), 0.0
        while (through := sum(self._through())) < messages:
            now = time.monotonic()
            if through > most:
                most, moved = through, now
            if now - moved > patience:
                raise RunFailed(
                    f"The stream: {through:,} of {self.published:,} messages came through, and no more "
                    f"within {patience} s."
                )
            if now - told > 5:
                told = now
                self.progress(f"{through:,} of {self.published:,} messages have come through")
            time.sleep(POLL_SECONDS)

    def _through(self) -> tuple[int, int]:
        [row] = self._query(_THROUGH)
        return row["stream_rows"], row["rejected"]

    def _query(self, sql: str) -> list[bigquery.Row]:
        params = {"day": self.day, "began": self.began}
        job = run(self.client, sql, params, job_id_prefix="demo", maximum_bytes_billed=SMALL_MAX_BYTES)
        return list(job.result())


def _day_of(line: bytes) -> date | None:
    try:
        return date.fromisoformat(line[:10].decode())
    except ValueError:
        return None
