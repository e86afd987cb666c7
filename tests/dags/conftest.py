"""A shop for the DAGs' tests: the emulators, a local Dataflow and Airflow; runs are real DAG runs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud import pubsub_v1
from google.cloud.spanner_v1.database import Database
from google.cloud.storage import Bucket

from local.root import ROOT
from local.stack.services import PRELOAD
from shopstream.settings import settings
from shopstream.stream import jobs
from tests.airflow_home import airflow_home  # noqa: F401
from tests.dags.shop import Shop
from tests.dags.stream import Stream, write_variable
from tests.local.dataflow.service import Service, serving, upload_template


# Of a file, since others make Airflow's server anew, with their plugins and secrets.
@pytest.fixture(scope="module")
def api(airflow_home: Path) -> Iterator[TestClient]:  # noqa: F811
    """Airflow's API, asked as a user who may clear runs and answer questions."""
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    with TestClient(create_app("core")) as client:
        user = SimpleAuthManagerUser(username="operator", role="op")
        client.headers["Authorization"] = f"Bearer {get_auth_manager().generate_jwt(user)}"
        yield client


@pytest.fixture(scope="session")
def dataflow(
    spanner_emulator: str, gcs_emulator: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A local Dataflow, whose jobs use the emulators."""
    state_dir: Path = tmp_path_factory.mktemp("dataflow")
    environment = {"SHOPSTREAM_DATAFLOW_PRELOAD": ",".join(PRELOAD)}
    with serving(state_dir, environment=environment) as service:
        yield service


def _end_runs_that_others_left() -> None:
    """End each run of a test before: some DAGs wait until none of another runs."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.state.in_(("queued", "running"))).values(state="failed"))


@pytest.fixture
def shop(
    airflow_home: Path,  # noqa: F811
    dataflow: Service,
    bucket: Bucket,
    spanner_database: Database,
    bigquery_tables: bigquery_api.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shop]:
    """An empty shop: a bucket with the job's template, and the tables as apply_schemas makes them."""
    # Each module that imports the fixture of the local Dataflow has one of its own.
    monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", dataflow.url)
    _end_runs_that_others_left()
    template = ROOT / "beam_jobs" / "templates" / "load_events.json"
    parameters: list[dict[str, Any]] = json.loads(template.read_text())["parameters"]
    upload_template(bucket, "beam_jobs.load_events", *parameters, path="templates/local/load_events.json")
    yield Shop(bucket, spanner_database, bigquery_tables, dataflow)
    dataflow.cancel_all()


@pytest.fixture(scope="session")
def stream_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tells the stream's jobs of tests what to do."""
    return tmp_path_factory.mktemp("stream")


@pytest.fixture(scope="session")
def stream_dataflow(
    gcs_emulator: str,
    pubsub_emulator: str,
    stream_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A local Dataflow for streams, and the subscription that they read."""
    publisher = pubsub_v1.PublisherClient(credentials=AnonymousCredentials())
    topic = publisher.topic_path(settings().project, settings().topic)
    publisher.create_topic(name=topic, timeout=30)
    subscriber = pubsub_v1.SubscriberClient(credentials=AnonymousCredentials())
    subscription = subscriber.subscription_path(settings().project, settings().subscription)
    subscriber.create_subscription(name=subscription, topic=topic, timeout=30)
    environment = {"STREAM_DIR": str(stream_folder)}
    with serving(tmp_path_factory.mktemp("stream-dataflow"), environment=environment) as service:
        yield service


@pytest.fixture
def stream(
    airflow_home: Path,  # noqa: F811
    stream_dataflow: Service,
    stream_folder: Path,
    bigquery_tables_of_file: bigquery_api.Client,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stream]:
    """A deployed stream that nobody has started or stopped, in empty tables."""
    # A region of its own, in which no test before has launched anything.
    monkeypatch.setenv("SHOPSTREAM_REGION", f"test-{uuid.uuid4().hex[:8]}")
    monkeypatch.setenv("SHOPSTREAM_DATAFLOW_ENDPOINT", stream_dataflow.url)
    monkeypatch.setenv("SHOPSTREAM_MONITORING_ENDPOINT", stream_dataflow.url)
    # Jobs of tests run or die within a second.
    monkeypatch.setattr(jobs, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(jobs, "LAUNCH_PAUSES_SECONDS", (0.5, 0.5, 0.5))
    stream = Stream(stream_dataflow, bucket, bigquery_tables_of_file, stream_folder)
    stream.deploy("local")
    stream.fill()
    bigquery_tables_of_file.query_and_wait("TRUNCATE TABLE shop_ops.stream_checks")
    write_variable(None)
    # What jobs of tests before have told of what they held is asked for until those of this test tell theirs.
    for path in (*stream_folder.iterdir(), *stream_dataflow.state_dir.glob("*/backlog.json")):
        path.unlink()
    yield stream
    stream_dataflow.cancel_all()
