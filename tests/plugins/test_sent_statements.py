"""What is sent to BigQuery, taken from the HTTP requests: right by Google's analyzer, and limited in cost."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import bigquery as bigquery_api
from google.cloud import storage

from shopstream.backfill.look import days_built, find_days
from shopstream.charts import chart_names, query_params, read_sql
from shopstream.dashboard.app import SQL_DIR
from shopstream.dashboard.stores import BigQueryStore
from shopstream.forget import stores
from shopstream.forget.audit import write_rows
from shopstream.forget.customers import Customers, Key
from shopstream.gcp.bigquery import SMALL_MAX_BYTES, Limit, TooManyBytes
from shopstream.load.publish import (
    count_published,
    drop_staging,
    load_rejected,
    publish_day,
    stage_load,
)
from shopstream.questions import Approval
from shopstream.replay.judge import Tally
from shopstream.replay.kept import Asked, judge_day, open_days, write_replay
from shopstream.report import tasks as report
from shopstream.settings import Limits, settings
from shopstream.stream import completeness
from shopstream.stream.checks import stream_figures, write_stream_check
from shopstream.summaries import build as summaries
from shopstream.tables import folder as tables
from shopstream.tables import limits
from shopstream.tables.day import build_day, run_checks
from shopstream.tables.folder import Column, Table
from shopstream.tables.limits import most_events
from shopstream.tables.names import BATCH, STREAM
from shopstream.tables.published import published_days
from shopstream.watch.digest import read_day
from shopstream.watch.figures import Finding
from shopstream.watch.read import read_counts, told_before, write_findings
from tests.plugins.load.landed import audit, manifest_of, parquet, rejected
from tests.sql.events import apply_all, batch_event, fill, stream_event
from tools.googlesql.analyzer import Analyzer, running_analyzer
from tools.googlesql.reads import reads_of

pytestmark = pytest.mark.integration

DAY = dt.date(2019, 11, 1)
NOON = dt.datetime(2019, 11, 1, 12, tzinfo=dt.UTC)
LOAD_ID = "20191101-aaaaaaaa"
FORGOTTEN = 77
TABLES = {table.full_name: table for table in tables.all_tables(settings().sql_dir)}
BUILT = [table for table in TABLES.values() if table.query]


OLDER_TYPE_NAMES = {"BOOL": "BOOLEAN", "FLOAT64": "FLOAT", "INT64": "INTEGER"}


class Recorder(AuthorizedSession):
    """A session that keeps what it sends, and hears types of columns by the older names that BigQuery gives.

    The emulator gives them as they were sent.
    """

    def __init__(self) -> None:
        super().__init__(AnonymousCredentials())
        self.sent: list[tuple[str, str, dict[str, Any]]] = []

    def request(self, method: str, url: str, data: Any = None, **options: Any) -> Any:
        if isinstance(data, str):
            self.sent.append((method, url, json.loads(data)))
        response = super().request(method, url, data=data, **options)
        if method == "GET" and "/tables/" in url and response.ok:
            answer = response.json()
            for field in answer["schema"]["fields"]:
                field["type"] = OLDER_TYPE_NAMES.get(field["type"], field["type"])
            response._content = json.dumps(answer).encode()
        return response

    @property
    def query_jobs(self) -> list[dict[str, Any]]:
        """The configurations of the query jobs."""
        configurations = [body.get("configuration", {}) for _, _, body in self.sent]
        return [configuration for configuration in configurations if "query" in configuration]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def filled(bigquery_tables_of_file: bigquery_api.Client) -> bigquery_api.Client:
    """BigQuery with all tables, and events in the raw ones."""
    bigquery = bigquery_tables_of_file
    forgotten = batch_event(event_id="c", user_id=FORGOTTEN, landing_day=dt.date(2019, 11, 2))
    events = [batch_event(event_id="a"), batch_event(event_id="b"), forgotten]
    fill(bigquery, "shop_raw.events_batch", events)
    fill(bigquery, "shop_raw.events_stream", [stream_event(event_id="a")])
    fill(bigquery, "shop_ops.loads", [])
    return bigquery


@pytest.fixture
def client(filled: bigquery_api.Client, recorder: Recorder) -> bigquery_api.Client:
    """A client that records."""
    url = filled._connection.API_BASE_URL
    return bigquery_api.Client(
        project=filled.project, _http=recorder, client_options=ClientOptions(api_endpoint=url)
    )


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Analyzer]:
    with running_analyzer(TABLES.values(), tmp_path_factory.mktemp("googlesql") / "log") as running:
        yield running


def test_applying_the_schemas_again_changes_no_table_but_only_makes_the_views_anew(
    client: bigquery_api.Client, recorder: Recorder
) -> None:
    apply_all(client)
    changed = {
        url.partition("?")[0].rpartition("/")[2] for method, url, _ in recorder.sent if method == "PATCH"
    }
    assert changed == {table.name for table in TABLES.values() if table.view}


def test_a_view_names_the_project_of_each_table_that_it_reads(
    client: bigquery_api.Client, recorder: Recorder
) -> None:
    """BigQuery resolves a view's names in the project of whoever asks it, unless they are complete."""
    apply_all(client)
    statements = [job["query"]["query"] for job in recorder.query_jobs]
    named = {
        re.split(r"\s+", sql)[4]: set(re.findall(r"(?:FROM|JOIN)\s+(\S+\.\S+)", sql)) for sql in statements
    }
    assert named == {
        table.full_name: {f"`{client.project}.{name}`" for name in table.metadata.reads}
        for table in TABLES.values()
        if table.view
    }


@pytest.mark.parametrize("table", BUILT, ids=[table.full_name for table in BUILT])
def test_a_build_and_its_checks_may_each_bill_three_times_their_bytes_of_the_events_of_their_days(
    client: bigquery_api.Client, recorder: Recorder, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = most_events(client)
    assert events >= 3
    monkeypatch.setattr(limits, "SMALL_MAX_BYTES", Limit(1, "the least", "nothing"))
    with suppress(TooManyBytes):  # The bytes are those of a mean shop's texts.
        build_day(client, table, DAY, dict.fromkeys(table.metadata.parameters, 0.01))
    with suppress(TooManyBytes):
        run_checks(client, table, DAY)

    # A build is asked for again under the next id, where there was one before.
    sent = [job["query"] for job in recorder.query_jobs if job["query"]["query"] != limits.ROWS]
    assert len({job["query"] for job in sent}) == 2, "all checks are one query"
    per_event = json.loads(limits.BYTES_FILE.read_text())
    known = [per_event.get(f"{verb} {table.full_name}") for verb in ("build", "check")]
    assert {int(job["maximumBytesBilled"]) for job in sent} == {
        1 if bytes_ is None else max(1, math.ceil(3 * events * bytes_)) for bytes_ in known
    }


def a_load(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    row = batch_event(event_id="a", load_id=LOAD_ID)
    manifest = manifest_of(
        DAY,
        LOAD_ID,
        accepted=[parquet(bucket, "accepted", [row])],
        rejected=[rejected(bucket, LOAD_ID, [b"bad"])],
    )
    staged = stage_load(client, manifest)
    assert staged.events.events == 1
    assert publish_day(client, manifest, staged) == (DAY,)
    assert count_published(client, DAY) == {LOAD_ID: staged.events}
    load_rejected(client, manifest)
    audit(client, LOAD_ID)


def the_stream(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    fields = {
        column.name: {"STRING": "ok", "INT64": 1, "FLOAT64": 0.5, "DATE": DAY, "TIMESTAMP": NOON}[column.type]
        for column in TABLES["shop_ops.stream_checks"].schema
    }
    write_stream_check(client, fields)
    assert stream_figures(client, NOON, dt.timedelta(hours=1))[0] is not None
    table = TABLES["shop_ops.stream_completeness"]
    completeness.compare_days(client, table, [DAY], Limits(warn=1.0, fail=1.1))


def the_report(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    report.read_summaries(client, DAY, DAY)


def the_dashboard(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    store = BigQueryStore(lambda: client)
    queries = {name: read_sql(name) for name in chart_names()}
    queries |= {path.stem: path.read_text() for path in SQL_DIR.rglob("*.sql")}
    for name, sql in queries.items():
        store.ask(name, sql, query_params(sql, DAY, DAY, subcategory="audio", brand=None) | {"user_id": 1})


def the_summaries(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    table = TABLES["shop.customer_value"]
    summaries.build(client, table, [DAY])
    summaries.dry_run(client, [table], [DAY])


def the_watch(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    read_counts(client, DAY, DAY)
    told_before(client, [DAY])
    finding = Finding(DAY, "views", None, value=1, usual=9, expected_low=8, expected_high=10, compared=())
    write_findings(client, [DAY], [finding])
    read_day(client, DAY)


def the_forgetting(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    # What loads have staged is not among the tables that are known here.
    for table in client.list_tables("shop_raw"):
        if "_staging_" in table.table_id:
            drop_staging(client, f"shop_raw.{table.table_id}")
    line = rejected(bucket, LOAD_ID, [b"77,x"])
    some = rejected(bucket, f"{LOAD_ID}-ranges", [b"77,y"], lines=1_001, byte_offset=5)
    load_rejected(client, manifest_of(DAY, LOAD_ID, rejected=[line, some]))
    datasets = {table.dataset for table in TABLES.values()}
    assert stores.count_in_bigquery(client, datasets, {FORGOTTEN})["shop_raw.rejected_events_batch"] == 2
    stores.delete_in_bigquery(client, datasets, {FORGOTTEN})
    key, approval = Key("k", b"k" * 32), Approval("operator", "request 17")
    write_rows(
        client, "run", DAY, Customers(frozenset({1, 2}), None), key, {"Spanner events": 1}, approval, NOON
    )


def the_replay(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    for source in (BATCH, STREAM):
        reject = {
            "rejected_date": DAY,
            "raw": b"?",
            "line_bytes": 1,
            "reason": "bad_json",
            "load_id": LOAD_ID,
        }
        given = {"source": source, "detail": "", "rejected_at": NOON, "message_id": "1"}
        fill(client, f"shop_raw.rejected_events_{source}", [reject | given])
        asked = Asked(source, None, "a run", "somebody")
        assert open_days(client, asked, DAY, DAY) == [DAY]
        [(kept, _)] = judge_day(client, bucket.client, asked, DAY)
        write_replay(client, asked, DAY, Tally(), [kept[0].closing])


def the_backfill(client: bigquery_api.Client, bucket: storage.Bucket) -> None:
    find_days(client, bucket.client, BUILT, [DAY], published_days(client))
    summaries.summarised_events(client, [DAY])
    assert days_built(client, BUILT, [DAY]).keys() == {table.full_name for table in BUILT}


WORKS = [
    a_load,
    the_stream,
    the_report,
    the_dashboard,
    the_summaries,
    the_watch,
    the_forgetting,
    the_replay,
    the_backfill,
]


@pytest.mark.parametrize("work", WORKS)
def test_every_statement_is_right_limited_in_cost_and_reads_no_days_before_those_it_names(
    client: bigquery_api.Client,
    recorder: Recorder,
    analyzer: Analyzer,
    bucket: storage.Bucket,
    work: Callable[[bigquery_api.Client, storage.Bucket], None],
) -> None:
    work(client, bucket)

    assert recorder.query_jobs
    known = TABLES | created_tables(recorder)
    analyzer.tell_tables(known.values())
    for job in recorder.query_jobs:
        sql = job["query"]["query"]
        if not job.get("dryRun"):  # bills nothing
            assert int(job["query"]["maximumBytesBilled"]) == SMALL_MAX_BYTES.max_bytes, sql
        if sql == limits.ROWS:  # BigQuery's own view, which the analyzer lacks
            continue
        analyzed = analyzer.analyze(sql, parameter_types(job))
        reads = reads_of(analyzed, known, lambda view: analyzer.analyze(view.view or "", {}))
        for name, read in reads.items():
            assert read.days.first or not known[name].metadata.partition_by, f"all days of {name}: {sql}"


def created_tables(recorder: Recorder) -> dict[str, Table]:
    """Return the tables that were created, such as those in which a load is staged."""
    standard_names = {older: name for name, older in OLDER_TYPE_NAMES.items()}
    created = {}
    for method, _, body in recorder.sent:
        if method == "POST" and "schema" in body:
            place = body["tableReference"]
            columns = tuple(
                Column(field["name"], standard_names.get(field["type"], field["type"]), field["mode"], "")
                for field in body["schema"]["fields"]
            )
            metadata = TABLES["shop.events"].metadata
            table = Table(place["datasetId"], place["tableId"], columns, metadata, None, None, ())
            created[table.full_name] = table
    return created


def parameter_types(job: dict[str, Any]) -> dict[str, str]:
    types = {}
    for parameter in job["query"].get("queryParameters", []):
        kind = parameter["parameterType"]
        types[parameter["name"]] = (
            f"ARRAY<{kind['arrayType']['type']}>" if "arrayType" in kind else kind["type"]
        )
    assert {name.removeprefix("ARRAY<").removesuffix(">") for name in types.values()} <= set(tables.TYPES)
    return types
