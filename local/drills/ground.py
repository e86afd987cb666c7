"""What a drill stands on: a running stack, days of its own, an operator's hands, the counts at the end."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil
from google.cloud import bigquery, spanner, storage
from google.cloud.spanner_v1 import param_types

from local.events.files import write_landing_day
from local.stack import control
from local.stack.airflow_client import AirflowClient, RunFailed
from shopstream import layout
from shopstream.settings import settings

SEED = 20200301
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 900.0

_IN_SPANNER = """
SELECT COUNT(*), COUNT(DISTINCT event_id)
FROM loaded_events
JOIN published_loads USING (landing_day, load_id)
WHERE event_date = @day AND landing_day = @day
"""


class DrillFailed(RuntimeError):
    """The trouble did not come as it should, or did not go by what the runbook says."""


@dataclass
class Ground:
    """A running stack and what one operator does in it, with days of its own from `first_day` on.

    Days have `events` events; a store is away for `away_seconds`. `told` holds what was done, in order.
    """

    airflow: AirflowClient
    bigquery: bigquery.Client
    spanner: spanner.Client
    bucket: storage.Bucket
    progress: Callable[[str], None]
    events: int
    away_seconds: float
    first_day: date
    told: list[str] = field(default_factory=list)
    trouble_at: float | None = None
    """When the trouble was there, by time.monotonic()."""

    def __post_init__(self) -> None:
        """Begin at the first day."""
        self.days = (self.first_day + timedelta(days=number) for number in range(4))

    def do(self, what: str) -> None:
        """Tell what has happened or was done; the first thing told is the trouble."""
        self.trouble_at = self.trouble_at or time.monotonic()
        self.told.append(what)
        self.progress(what)

    # The operator's hands

    def land(self, day: date, *, bad_share: float = 0.0) -> int:
        """Land a generated day without late events; return how many good distinct events it holds."""
        with tempfile.TemporaryDirectory() as folder:
            truth = write_landing_day(Path(folder), day, self.events, SEED, bad_share=bad_share)
            for path in (Path(folder) / str(day)).glob("*.csv"):
                self.bucket.blob(f"{layout.landing(day)}/{path.name}").upload_from_filename(path)
        self.bucket.blob(f"{layout.landing(day)}/{layout.SUCCESS}").upload_from_string(b"")
        return int(truth["distinct"])

    def load(self, day: date) -> str:
        """Trigger a load; return its run id."""
        return self.airflow.trigger("load_events_daily", {"landing_day": str(day)})

    def ends_well(self, dag_id: str, run_id: str) -> None:
        """Wait for a run's success.

        Raises:
            DrillFailed: it fails.
        """
        try:
            self.airflow.wait_for_success({(dag_id, run_id): dag_id}, self.progress)
        except RunFailed as error:
            raise DrillFailed(str(error)) from error

    def fails(self, dag_id: str, run_id: str, task_id: str, words: str) -> None:
        """Wait until a run has failed at this task with these words in its error.

        Raises:
            DrillFailed: it ends otherwise.
        """
        [state] = self.airflow.wait({(dag_id, run_id): dag_id}, self.progress).values()
        if state != "failed" or self.airflow.task(dag_id, run_id, task_id)["state"] != "failed":
            raise DrillFailed(f"{dag_id} should have failed at {task_id}; it ended as {state}.")
        if words not in (why := self.airflow.explain(dag_id, run_id)):
            raise DrillFailed(f"{task_id} should have told {words!r}; it told: {why}")

    def await_task(self, dag_id: str, run_id: str, task_id: str, *states: str) -> None:
        """Wait until a task is in one of these states."""
        self.until(
            lambda: self.airflow.task(dag_id, run_id, task_id)["state"] in states,
            f"{task_id} to be {' or '.join(states)}",
        )

    def until(self, holds: Callable[[], Any], what: str) -> None:
        """Wait until something holds.

        Raises:
            DrillFailed: it does not within PATIENCE_SECONDS.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise DrillFailed(f"Waited {PATIENCE_SECONDS:.0f} s for {what}.")
            time.sleep(POLL_SECONDS)

    # The trouble

    @contextmanager
    def away(self, service: str) -> Iterator[None]:
        """Keep a service of the stack from answering, with all that it holds in memory."""
        processes = _with_children(control.process(service))
        for one in processes:
            one.suspend()
        try:
            yield
        finally:
            for one in processes:
                one.resume()

    def set_next_run(self, dag_id: str, day: date) -> None:
        """Let the next run of a daily schedule be that of a day that has ended.

        So it is after midnights without a scheduler: of the days that they ended, only the last gets its run.
        """
        path = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].removeprefix("sqlite:///")
        begin, end = (f"{midnight} 00:00:00.000000" for midnight in (day, day + timedelta(days=1)))
        with closing(sqlite3.connect(path, timeout=60)) as database, database:
            database.execute(
                "UPDATE dag SET next_dagrun = :begin, next_dagrun_data_interval_start = :begin, "
                "next_dagrun_data_interval_end = :end, next_dagrun_create_after = :end "
                "WHERE dag_id = :dag_id",
                {"begin": begin, "end": end, "dag_id": dag_id},
            )

    # What came of it

    def count_day(self, day: date, expected: int) -> tuple[int, int]:
        """Return how many of a landed day's events are lost, and how many are double, in the worst store."""
        env = settings()
        database = self.spanner.instance(env.spanner_instance).database(env.spanner_database)
        types = {"day": param_types.DATE}
        with database.snapshot() as snapshot:
            [(rows, distinct)] = snapshot.execute_sql(_IN_SPANNER, {"day": day}, types)
        found = [(rows, distinct)]
        for rows_of_day in (
            "shop_raw.events_batch WHERE landing_day = @day AND event_date = @day",
            "shop.events WHERE event_date = @day",
        ):
            sql = f"SELECT COUNT(*) AS found_rows, COUNT(DISTINCT event_id) AS events FROM {rows_of_day}"  # noqa: S608
            [row] = self.query(sql, day)
            found.append((row["found_rows"], row["events"]))
        return (
            max(max(0, expected - events) for _, events in found),
            max(rows - events for rows, events in found),
        )

    def query(self, sql: str, day: date) -> list[bigquery.Row]:
        """The rows of a query with the parameter @day."""
        config = bigquery.QueryJobConfig(query_parameters=[bigquery.ScalarQueryParameter("day", "DATE", day)])
        return list(self.bigquery.query(sql, job_config=config).result())


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]
