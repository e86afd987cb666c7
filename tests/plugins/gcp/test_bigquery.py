"""One statement, run on the BigQuery emulator."""

from __future__ import annotations

import datetime as dt

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, Forbidden, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery as bigquery_api

from shopstream.gcp import bigquery

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
