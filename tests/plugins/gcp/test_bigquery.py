"""One statement, run on the BigQuery emulator."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as JobTimeoutError
from typing import Any

import pytest
import requests
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, Forbidden, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud.storage import Bucket

from shopstream.gcp import bigquery
from tests.faults import Storm, way

DAY = dt.date(2019, 11, 1)
NEXT_DAY = dt.date(2019, 11, 2)
LIMIT = bigquery.Limit(10**7, "chosen", "choose another")


@pytest.mark.integration
def test_run_returns_the_finished_job_and_passes_parameters(bigquery_clean: bigquery_api.Client) -> None:
    params = {
        "day": DAY,
        "moment": dt.datetime(2019, 11, 1, 10, tzinfo=dt.UTC),
        "number": 7,
        "text": "it's",
        "days": [DAY, NEXT_DAY],
    }
    sql = "SELECT @day AS day, @moment AS moment, @number AS number, @text AS text, @days AS days"
    job = bigquery.run(bigquery_clean, sql, params, job_id_prefix="test", maximum_bytes_billed=LIMIT)
    assert job.state == "DONE"
    assert job.job_id.startswith("test-")
    assert job.maximum_bytes_billed == LIMIT.max_bytes
    assert [dict(row) for row in job.result()] == [params]


@pytest.mark.integration
def test_run_tells_at_once_what_bigquery_refused(bigquery_clean: bigquery_api.Client) -> None:
    with pytest.raises(BadRequest, match="nothing_such"):
        bigquery.run(
            bigquery_clean, "SELECT nothing_such", {}, job_id_prefix="test", maximum_bytes_billed=LIMIT
        )


@pytest.mark.integration
def test_a_statement_that_would_read_more_than_its_limit_is_refused_with_what_to_do(
    bigquery_clean: bigquery_api.Client,
) -> None:
    bigquery_clean.create_dataset("shop")
    bigquery_clean.query_and_wait(
        "CREATE TABLE shop.counted AS SELECT n FROM UNNEST(GENERATE_ARRAY(1, 1000)) AS n"
    )
    limit = bigquery.Limit(7_999, "3 times 2.7 bytes an event of 1,000 events", "raise it")
    more = "INSERT INTO shop.counted (n) SELECT n FROM shop.counted"
    with pytest.raises(bigquery.TooManyBytes) as refused:
        bigquery.run(bigquery_clean, more, {}, job_id_prefix="more", maximum_bytes_billed=limit)
    assert str(refused.value) == (
        "more: BigQuery has read nothing, since it would bill more than the limit of 7,999 bytes (Query "
        "exceeded limit for bytes billed: 7999. 8000 or higher required.). "
        "That limit is 3 times 2.7 bytes an event of 1,000 events. Look at the statement: if no condition on "
        "its days was lost, raise it, then clear this task."
    )
    enough = limit._replace(max_bytes=8_000)
    assert (
        bigquery.run(
            bigquery_clean, more, {}, job_id_prefix="more", maximum_bytes_billed=enough
        ).num_dml_affected_rows
        == 1_000
    )


@pytest.mark.integration
def test_a_table_that_a_statement_reaches_twice_is_read_with_all_the_columns_named_of_it(
    bigquery_clean: bigquery_api.Client,
) -> None:
    bigquery_clean.create_dataset("shop")
    bigquery_clean.query_and_wait(
        "CREATE TABLE shop.counted AS SELECT n, n AS m FROM UNNEST(GENERATE_ARRAY(1, 100)) AS n"
    )
    bigquery_clean.query_and_wait("CREATE VIEW shop.seen AS SELECT m FROM shop.counted")
    both = "SELECT MAX(counted.n) FROM shop.counted CROSS JOIN shop.seen"
    limit = bigquery.Limit(1_599, "chosen", "raise it")
    with pytest.raises(bigquery.TooManyBytes, match="1600 or higher required"):
        bigquery.run(bigquery_clean, both, {}, job_id_prefix="both", maximum_bytes_billed=limit)


@pytest.fixture
def forgetful(bigquery_clean: bigquery_api.Client) -> Iterator[bigquery_api.Client]:
    """A client of a BigQuery with the table shop.counted, which begins the first job and answers 503."""
    bigquery_clean.create_dataset("shop")
    bigquery_clean.query_and_wait("CREATE TABLE shop.counted (n INT64)")
    with way(os.environ["BIGQUERY_EMULATOR_HOST"].removeprefix("http://")) as there:
        there.errors.storm = Storm(503, random.Random(1), most=1, of="POST .*/jobs", done=1.0)
        yield bigquery_api.Client(
            project=bigquery_clean.project,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=there.url),
        )
        assert there.errors.storm.failed == 1


@pytest.mark.integration
def test_a_statement_whose_answer_is_lost_is_carried_out_once(
    forgetful: bigquery_api.Client, bigquery_clean: bigquery_api.Client
) -> None:
    insert = "INSERT INTO shop.counted (n) VALUES (1)"
    bigquery.run(forgetful, insert, {}, job_id_prefix="test", maximum_bytes_billed=LIMIT)
    assert [row.n for row in bigquery_clean.query_and_wait("SELECT n FROM shop.counted")] == [1]


@pytest.mark.integration
def test_files_are_loaded_once_though_the_answer_is_lost(
    forgetful: bigquery_api.Client, bigquery_clean: bigquery_api.Client, bucket: Bucket
) -> None:
    bucket.blob("counted.jsonl").upload_from_string('{"n": 1}\n')
    bigquery.load_files(
        forgetful,
        [f"gs://{bucket.name}/counted.jsonl"],
        bigquery_api.TableReference.from_string(f"{bigquery_clean.project}.shop.counted"),
        bigquery_api.LoadJobConfig(
            source_format=bigquery_api.SourceFormat.NEWLINE_DELIMITED_JSON,
            write_disposition=bigquery_api.WriteDisposition.WRITE_EMPTY,
        ),
        job_id_prefix="test",
    )
    assert [row.n for row in bigquery_clean.query_and_wait("SELECT n FROM shop.counted")] == [1]


def test_run_gives_up_on_a_bigquery_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bigquery, "REQUEST_TIMEOUT_SECONDS", 1.0)
    nobody = bigquery_api.Client(
        project="nobody",
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint="http://127.0.0.1:1"),
    )
    with pytest.raises(RetryError, match=r"Timeout of 1\.0s exceeded"):
        bigquery.run(nobody, "SELECT 1", {}, job_id_prefix="test", maximum_bytes_billed=LIMIT)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (BadRequest("Could not serialize access to table shop.x due to concurrent update"), True),
        (Forbidden("slow down", errors=[{"reason": "jobRateLimitExceeded"}]), True),
        (BadRequest("Syntax error", errors=[{"reason": "invalidQuery"}]), False),
        (Forbidden("no", errors=[{"reason": "accessDenied"}]), False),
        (ValueError("ours"), False),
    ],
)
def test_a_job_is_run_again_only_after_an_error_that_passes(error: Exception, again: bool) -> None:
    assert bigquery._is_transient(error) is again


# Statements that never run beside themselves

INSERT = "INSERT INTO shop.found (n) SELECT 1"


def insert_once(client: bigquery_api.Client, sql: str = INSERT, **options: Any) -> bigquery_api.QueryJob:
    return bigquery.run(
        client, sql, {}, job_id_prefix="insert-it", maximum_bytes_billed=LIMIT, once=True, **options
    )


@pytest.mark.integration
def test_of_two_that_ask_for_a_statement_at_once_one_runs_it_and_the_other_waits_for_it(
    bigquery_clean: bigquery_api.Client,
) -> None:
    bigquery_clean.create_dataset("shop")
    bigquery_clean.query_and_wait("CREATE TABLE shop.found (n INT64)")
    both_there = threading.Barrier(2)

    def ask() -> str:
        both_there.wait(30)
        return str(insert_once(bigquery_clean).job_id)

    with ThreadPoolExecutor(2) as threads:
        first, second = [asked.result() for asked in (threads.submit(ask), threads.submit(ask))]
    assert first == second
    assert first.startswith("insert-it-")
    assert [row.n for row in bigquery_clean.query_and_wait("SELECT n FROM shop.found")] == [1]

    assert insert_once(bigquery_clean).job_id == first[:-1] + "2", "the first has ended long since"
    with pytest.raises(BadRequest):
        insert_once(bigquery_clean, "INSERT INTO shop.found (n) SELECT CAST('x' AS INT64)")
    assert len(list(bigquery_clean.query_and_wait("SELECT n FROM shop.found"))) == 2


def insert_alone(client: bigquery_api.Client) -> bigquery_api.QueryJob:
    return bigquery.run(client, INSERT, {}, job_id_prefix="insert-it", maximum_bytes_billed=LIMIT, alone=True)


@pytest.mark.integration
def test_of_two_that_run_a_statement_alone_each_runs_it_and_one_begins_when_the_other_has_ended(
    bigquery_clean: bigquery_api.Client,
) -> None:
    bigquery_clean.create_dataset("shop")
    bigquery_clean.query_and_wait("CREATE TABLE shop.found (n INT64)")
    both_there = threading.Barrier(2)

    def ask() -> bigquery_api.QueryJob:
        both_there.wait(30)
        return insert_alone(bigquery_clean)

    with ThreadPoolExecutor(2) as threads:
        jobs = [asked.result() for asked in (threads.submit(ask), threads.submit(ask))]
    first, second = sorted(jobs, key=lambda job: str(job.job_id))
    assert (first.job_id, second.job_id) == ("insert-it-1", "insert-it-2")
    assert first.ended <= second.started
    # However many there were, the next id is found.
    assert [insert_alone(bigquery_clean).job_id for _ in range(9)] == [f"insert-it-{n}" for n in range(3, 12)]
    assert len(list(bigquery_clean.query_and_wait("SELECT n FROM shop.found"))) == 11


def test_a_statement_that_runs_alone_waits_for_what_a_killed_task_has_left_running_and_then_runs() -> None:
    answering = Running(there=True, looks=2)
    assert insert_alone(answering.client).job_id == "insert-it-2"
    assert answering.begun == ["insert-it-1", "insert-it-2"]
    assert answering.state_when_begun == ["RUNNING", "DONE"]


class Running(requests.Session):
    """A BigQuery with one job, which ends, as `ending` says, when it is cancelled or after `looks` looks.

    The emulator's jobs have always ended.
    """

    def __init__(self, *, there: bool, looks: int | None = None, **ending: Any) -> None:
        super().__init__()
        self.there, self.looks, self.ending = there, looks, ending
        self.begun: list[str] = []
        """The ids that were asked for: the first of them is taken, if there is a job."""
        self.state_when_begun: list[str] = []
        self.state = "RUNNING"
        self.is_mtls = False

    def request(self, method: str, url: str, *_: Any, **sent: Any) -> requests.Response:  # type: ignore[override]
        path = url.partition("?")[0].partition("/projects/p/")[2]
        answer = requests.Response()
        answer.request = requests.Request(method, url).prepare()
        answer.status_code, answer._content = 200, json.dumps(self._answer(method, path, sent)).encode()
        answer.headers["Content-Type"] = "application/json"
        if (method, path) == ("POST", "jobs") and self.there and len(self.begun) == 1:
            answer.status_code = 409
        elif path.startswith("jobs/insert-it-") and path.split("/")[1] not in self.begun:
            answer.status_code = 404
        return answer

    def _answer(self, method: str, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        name = path.split("/")[1] if "/" in path else "insert-it"
        reference = {"projectId": "p", "jobId": name, "location": "EU"}
        if method == "GET":
            self.looks = self.looks and self.looks - 1
            if self.looks == 0:
                self.state = "DONE"
        if path.startswith("queries/"):
            ended = {"totalRows": "0", "schema": {"fields": []}} if self.state == "DONE" else {}
            return {"jobReference": reference, "jobComplete": self.state == "DONE", **ended}
        if path == "jobs":
            self.begun.append(json.loads(sent["data"])["jobReference"]["jobId"])
            self.state_when_begun.append(self.state)
            reference["jobId"] = self.begun[-1]
        elif path.endswith("/cancel"):
            self.state = "DONE"
        job = {
            "jobReference": reference,
            "configuration": {"query": {"query": INSERT}},
            "status": {"state": self.state, **(self.ending if self.state == "DONE" else {})},
        }
        return {"job": job} if path.endswith("/cancel") else job

    @property
    def client(self) -> bigquery_api.Client:
        return bigquery_api.Client(project="p", _http=self)


def test_a_job_that_a_killed_task_has_left_running_is_waited_for() -> None:
    answering = Running(there=True, looks=2)
    assert insert_once(answering.client).state == "DONE"
    assert len(answering.begun) == 1


STOPPED = {"reason": "stopped", "message": "Job execution was cancelled: User requested cancellation"}


def test_a_job_that_does_not_end_in_time_is_cancelled_and_its_end_awaited() -> None:
    answering = Running(there=False, errorResult=STOPPED, errors=[STOPPED])
    with pytest.raises(JobTimeoutError):
        insert_once(answering.client, timeout_seconds=0.1)
    assert answering.state == "DONE"


def test_a_job_that_ended_well_before_it_was_cancelled_has_ended_well() -> None:
    answering = Running(there=False)
    assert insert_once(answering.client, timeout_seconds=0.1).state == "DONE"
