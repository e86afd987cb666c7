"""One statement, run on the BigQuery emulator."""

from __future__ import annotations

import datetime as dt
import os
import random
from collections.abc import Iterator

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, Forbidden, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api
from google.cloud.storage import Bucket

from shopstream.gcp import bigquery
from tests.faults import Storm, way

DAY = dt.date(2019, 11, 1)
NEXT_DAY = dt.date(2019, 11, 2)


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
    job = bigquery.run(bigquery_clean, sql, params, job_id_prefix="test", maximum_bytes_billed=10**7)
    assert job.state == "DONE"
    assert job.job_id.startswith("test-")
    assert job.maximum_bytes_billed == 10**7
    assert [dict(row) for row in job.result()] == [params]


@pytest.mark.integration
def test_run_tells_at_once_what_bigquery_refused(bigquery_clean: bigquery_api.Client) -> None:
    with pytest.raises(BadRequest, match="nothing_such"):
        bigquery.run(
            bigquery_clean, "SELECT nothing_such", {}, job_id_prefix="test", maximum_bytes_billed=10**7
        )


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
    bigquery.run(forgetful, insert, {}, job_id_prefix="test", maximum_bytes_billed=10**7)
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
        bigquery.run(nobody, "SELECT 1", {}, job_id_prefix="test", maximum_bytes_billed=10**7)


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
