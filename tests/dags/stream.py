"""What tests of the stream's DAGs do: run them, change what the stream's jobs do, look at what came of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.cloud.bigquery import Client as BigQueryClient
from google.cloud.storage import Bucket

from local.dataflow.jobs import running_workers
from shopstream.stream.decide import DESIRED_STATE, STREAM_JOB
from shopstream.stream.tasks import DESCRIPTION
from tests.airflow_home import Run, load_dag, run_dag
from tests.local.dataflow.service import Service, upload_template
from tests.sql.events import fill, stream_event

PARAMETERS = tuple({"name": name} for name in ("subscription", "events_table", "rejected_table"))


@dataclass
class Stream:
    """The stream of one test, whose jobs are tests/local/dataflow/pipelines/stream.py."""

    dataflow: Service
    bucket: Bucket
    bigquery: BigQueryClient
    folder: Path

    def start(self) -> Run:
        """Run keep_stream_alive by hand."""
        return run_dag(load_dag("keep_stream_alive"), {})

    def check(self) -> Run:
        """Run keep_stream_alive as scheduled."""
        return run_dag(load_dag("keep_stream_alive"), {}, by_hand=False)

    def stop(self, how: str = "drain") -> Run:
        """Run stop_stream by hand."""
        return run_dag(load_dag("stop_stream"), {"how": how})

    def deploy(self, version: str) -> None:
        """Put the stream's template of this version where deployments put it."""
        path = f"templates/{version}/stream_events.json"
        module = "tests.local.dataflow.pipelines.stream"
        upload_template(self.bucket, module, *PARAMETERS, streaming=True, path=path)

    def launch(self, name: str = STREAM_JOB, version: str = "local") -> str:
        """Launch a job past Airflow, and return its id."""
        values = {parameter["name"]: parameter["name"] for parameter in PARAMETERS}
        template = f"gs://{self.bucket.name}/templates/{version}/stream_events.json"
        labels = {"additionalUserLabels": {"template_version": version}}
        return str(self.dataflow.launch(name, template, parameters=values, environment=labels)["id"])

    def jobs(self, name: str = STREAM_JOB, kind: str = "UNKNOWN") -> list[tuple[str, str]]:
        """(id, state) of the jobs, ended ones too unless `kind` is ACTIVE, oldest first."""
        found = self.dataflow.list(name=name, filter=kind).get("jobs", [])
        return sorted((job["id"], job["currentState"].removeprefix("JOB_STATE_")) for job in found)

    def active(self) -> list[str]:
        """The ids of the active jobs of the stream's name."""
        return [job_id for job_id, _ in self.jobs(kind="ACTIVE")]

    def kill(self, job_id: str) -> None:
        """End a job's process by SIGKILL, and wait until Dataflow has seen it."""
        os.kill(running_workers(self.dataflow.state_dir)[job_id].pid, signal.SIGKILL)
        self.dataflow.await_state(job_id, "JOB_STATE_FAILED")

    def tell(self, name: str, text: str | None) -> None:
        """Tell the stream's jobs by a file what to do."""
        path = self.folder / name
        if text is None:
            path.unlink(missing_ok=True)
        else:
            new = path.with_name(f"{name}.new")
            new.write_text(text)
            new.replace(path)

    def hold_message(self, age: timedelta) -> None:
        """Let the running job hold a message that was published so long ago."""
        self.tell("oldest", (datetime.now(UTC) - age).isoformat())

    def want(self, **state: Any) -> None:
        """Set the desired state as somebody does who edits the Variable."""
        write_variable(json.dumps(state))

    def checks(self) -> list[Mapping[str, Any]]:
        """The rows of stream_checks, oldest first."""
        rows = self.bigquery.query_and_wait("SELECT * FROM shop_ops.stream_checks ORDER BY checked_at")
        return [dict(row) for row in rows]

    def fill(self, accepted: Sequence[timedelta] = (), rejected: Sequence[timedelta] = ()) -> None:
        """Let the tables hold what the stream wrote of messages published so long ago each."""
        now = datetime.now(UTC)
        fill(
            self.bigquery,
            "shop_raw.events_stream",
            [
                stream_event(event_id=f"{n:032x}", event_time=now - age, publish_time=now - age)
                for n, age in enumerate(accepted)
            ],
        )
        fill(
            self.bigquery,
            "shop_raw.rejected_events_stream",
            [
                {
                    "source": "stream",
                    "rejected_date": (now - age).date(),
                    "raw": "?",
                    "reason": "bad_json",
                    "detail": "it is no JSON",
                    "rejected_at": now,
                    "publish_time": now - age,
                }
                for age in rejected
            ],
        )


def write_variable(text: str | None) -> None:
    """Set the Airflow Variable of the desired state, or delete it."""
    from airflow.models.variable import Variable

    if text is None:
        Variable.delete(DESIRED_STATE)
    else:
        Variable.set(DESIRED_STATE, text, DESCRIPTION)


def read_variable() -> Any:
    """The desired state as Airflow keeps it."""
    from airflow.models.variable import Variable

    return json.loads(Variable.get(DESIRED_STATE))
