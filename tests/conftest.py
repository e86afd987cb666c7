"""Fixtures that start the real emulators on free ports, each only when a test first asks for it."""

from __future__ import annotations

import gc
import json
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud import spanner, storage
from google.cloud.spanner_v1.database import Database
from google.cloud.spanner_v1.instance import Instance
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import local.stack.seldom_gc  # noqa: F401 (before all that the tests import)
from local.root import ROOT
from local.stack import emulators
from shopstream.settings import settings
from shopstream.tables.migrations import apply_migrations
from tests.docs.guarantees import PAGE, promises
from tests.faults import Front
from tests.sql.events import apply_all, drop_all, empty

# A folder for each of the processes that run the tests.
LOGS = ROOT / "build" / "test-logs" / os.environ.get("PYTEST_XDIST_WORKER", "")

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Each run of the suite tries the same examples; `make test-long` looks for others. How long it takes to make
# one says more of the machine than of the test.
ANY_PACE: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
hypothesis_settings.register_profile("suite", max_examples=50, derandomize=True, **ANY_PACE)
hypothesis_settings.register_profile("long", max_examples=500, **ANY_PACE)
hypothesis_settings.load_profile("suite")

# No test runs for so long that Java's dearer compiler is worth it to the Pub/Sub emulator.
os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"

# Google's clients would otherwise look for a metadata server, for seconds, and Beam for credentials. Only
# tests/sql/real_bigquery.py needs true ones.
if "SHOPSTREAM_TEST_BIGQUERY_PROJECT" not in os.environ:
    os.environ["NO_GCE_CHECK"] = "true"
    os.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(ROOT / "local" / "google_credentials.json")


@pytest.fixture(scope="session")
def spanner_emulator() -> Iterator[str]:
    """The Spanner emulator's host:port."""
    host = f"{emulators.HOST}:{emulators.free_port()}"
    program = emulators.spanner(int(host.rpartition(":")[2]))
    with emulators.running(program, LOGS / "spanner.log"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPANNER_EMULATOR_HOST", host)
        yield host


@pytest.fixture(scope="session")
def spanner_instance(spanner_emulator: str) -> Instance:
    """The emulator's one instance."""
    client = spanner.Client(project=settings().project, credentials=AnonymousCredentials())
    config = f"projects/{settings().project}/instanceConfigs/emulator-config"
    instance = client.instance(settings().spanner_instance, configuration_name=config, node_count=1)
    instance.create().result(timeout=30)
    return instance


@pytest.fixture
def spanner_database(spanner_instance: Instance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A fresh database of a unique name with sql/spanner applied and nothing in it."""
    database = spanner_instance.database(f"test-{uuid.uuid4().hex[:12]}")
    database.create().result(timeout=30)
    apply_migrations(database, settings().sql_dir / "spanner")
    monkeypatch.setenv("SHOPSTREAM_SPANNER_DATABASE", database.database_id)
    yield database
    database.drop()


@pytest.fixture
def way_to_spanner(
    spanner_database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Front, Database]]:
    """A database as `spanner_database`, and the way to it, which may be shut."""
    front = Front(os.environ["SPANNER_EMULATOR_HOST"])
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", f"{emulators.HOST}:{front.port}")
    client = spanner.Client(project=settings().project, credentials=AnonymousCredentials())
    yield (
        front,
        client.instance(settings().spanner_instance).database(spanner_database.database_id),
    )
    front.close()


@pytest.fixture(scope="session")
def gcs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the Cloud Storage emulator keeps objects as files."""
    return tmp_path_factory.mktemp("gcs")


@pytest.fixture(scope="session")
def gcs_emulator(gcs_dir: Path) -> Iterator[str]:
    """The Cloud Storage emulator's URL."""
    port = emulators.free_port()
    url = f"http://{emulators.HOST}:{port}"
    with (
        emulators.running(emulators.gcs(port, gcs_dir), LOGS / "gcs.log"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        patch.setenv("SHOPSTREAM_OBJECT_URL", url)
        yield url


@pytest.fixture
def bucket(gcs_emulator: str, monkeypatch: pytest.MonkeyPatch) -> storage.Bucket:
    """A fresh empty bucket of a unique name."""
    client = storage.Client(project=settings().project, credentials=AnonymousCredentials())
    fresh = client.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
    monkeypatch.setenv("SHOPSTREAM_BUCKET", fresh.name)
    return fresh


@pytest.fixture(scope="session")
def bigquery(gcs_emulator: str, gcs_dir: Path) -> Iterator[bigquery_api.Client]:
    """A client of the BigQuery emulator, which reads gs:// URIs out of the Cloud Storage emulator.

    Datasets are shared by all tests; `bigquery_clean` starts without any.
    """
    port, storage_port = emulators.free_port(), emulators.free_port()
    url = f"http://{emulators.HOST}:{port}"
    program = emulators.bigquery(port, storage_port, gcs_dir, settings().project)
    with emulators.running(program, LOGS / "bigquery.log"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", url)
        patch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", f"{emulators.HOST}:{storage_port}")
        yield bigquery_api.Client(
            project=settings().project,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=url),
        )


@pytest.fixture
def bigquery_clean(bigquery: bigquery_api.Client) -> Iterator[bigquery_api.Client]:
    """The BigQuery emulator's client, with no dataset left; nor is one afterwards, of whatever form."""
    drop_all(bigquery)
    yield bigquery
    drop_all(bigquery)


@pytest.fixture(scope="session")
def tables_as_made() -> dict[str, tuple[object, ...]]:
    """What BigQuery tells of its tables when they have just been made; empty before that."""
    return {}


@pytest.fixture
def bigquery_tables(
    bigquery: bigquery_api.Client, tables_as_made: dict[str, tuple[object, ...]]
) -> bigquery_api.Client:
    """The BigQuery emulator's client, with all tables and views of sql/bigquery, and no rows."""
    _make_tables(bigquery, tables_as_made)
    return bigquery


@pytest.fixture(scope="module")
def bigquery_tables_of_file(
    bigquery: bigquery_api.Client, tables_as_made: dict[str, tuple[object, ...]]
) -> bigquery_api.Client:
    """The same for all tests of a file, of which the first begins without rows."""
    _make_tables(bigquery, tables_as_made)
    return bigquery


def _make_tables(bigquery: bigquery_api.Client, tables_as_made: dict[str, tuple[object, ...]]) -> None:
    """Have all tables and views, and no rows.

    They are made anew only if a test before has changed or dropped one, or streamed into one; else they are
    emptied.
    """
    there = _tables(bigquery)
    if tables_as_made:
        for name in there.keys() - tables_as_made.keys():
            bigquery.delete_table(name)
            del there[name]
    if there and there == tables_as_made:
        stored = [name for name, (kind, *_) in there.items() if kind == "TABLE"]
        # Not of rows that were streamed in: BigQuery does not delete those for a while.
        with suppress(BadRequest):
            empty(bigquery, stored)
            return
    drop_all(bigquery)
    apply_all(bigquery)
    tables_as_made.clear()
    tables_as_made.update(_tables(bigquery))


def _tables(client: bigquery_api.Client) -> dict[str, tuple[object, ...]]:
    """The kind of each table, and what changes with it, but not with its rows."""
    found: dict[str, tuple[object, ...]] = {}
    # Without Google's client, which takes twice the CPU of the emulator, for forty tables before each test.
    with closing(HTTPConnection(urlsplit(os.environ["BIGQUERY_EMULATOR_HOST"]).netloc)) as connection:
        for dataset in client.list_datasets():
            for listed in client.list_tables(dataset.reference):
                connection.request("GET", f"/bigquery/v2{listed.reference.path}")
                table = json.load(connection.getresponse())
                name = f"{listed.dataset_id}.{listed.table_id}"
                found[name] = (table["type"], table["etag"], table["creationTime"], table["lastModifiedTime"])
    return found


@pytest.fixture(scope="session")
def pubsub_emulator() -> Iterator[str]:
    """The Pub/Sub emulator's host:port."""
    port = emulators.free_port()
    with (
        emulators.running(emulators.pubsub(port), LOGS / "pubsub.log"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PUBSUB_EMULATOR_HOST", f"{emulators.HOST}:{port}")
        yield f"{emulators.HOST}:{port}"


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables by which the emulators and Airflow of other tests are found."""
    for name in list(os.environ):
        if name.startswith(("SHOPSTREAM_", "AIRFLOW_")) or name.endswith("_EMULATOR_HOST"):
            monkeypatch.delenv(name)


def pytest_configure(config: pytest.Config) -> None:
    """Let processes that Ctrl-C ends stop their emulators, however busy the machine is."""
    if config.pluginmanager.has_plugin("dsession"):
        from xdist.workermanage import NodeManager

        NodeManager.EXIT_TIMEOUT = 60


def pytest_collection_finish() -> None:
    """Have the garbage collector not look again and again through what is imported and collected by now."""
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with an Airflow of their own, which takes seconds to make, and those of promises.

    Of several processes each is given the short files last, so that all end at the same time; xdist keeps
    this order with --no-loadscope-reorder alone.
    """
    named = {test for promise in promises(PAGE) for test in promise.tests}
    for item in items:
        if item.nodeid.partition("[")[0] in named:
            item.add_marker(pytest.mark.guarantee)
        if "airflow_home" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.integration)
    if "PYTEST_XDIST_WORKER" in os.environ:
        long = {item.path for item in items if item.get_closest_marker("integration")}
        items.sort(key=lambda item: item.path not in long)


def pytest_keyboard_interrupt() -> None:
    """Let a second Ctrl-C, which xdist sends after five seconds, not stop the stopping of the emulators."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell why a run with CI set fails in which no test failed."""
    for skipped in _unexpected_skips(terminalreporter):
        terminalreporter.write_line(f"With CI set no test may be skipped: {skipped}", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run with CI set in which a test was skipped: there, everything that tests need is installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and _unexpected_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unexpected_skips(reporter: pytest.TerminalReporter) -> list[str]:
    """Skipped tests by name; those that need real BigQuery may be skipped."""
    if not os.environ.get("CI"):
        return []
    return [
        report.nodeid for report in reporter.stats.get("skipped", []) if "bigquery" not in report.keywords
    ]
