"""retries: what another try would meet again has a next step, all else none; as Google's clients raise it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import httplib2
import pytest
from google.api_core import exceptions
from google.cloud.exceptions import from_http_status
from googleapiclient.errors import HttpError

from beam_jobs.contract import ContractError
from local.root import ROOT
from shopstream.retries import Refused, next_step

MAY_HELP = {
    "ChangedMeanwhile": "the next try reads the object as somebody else has written it",
    "CheckFailed": "a load may publish between a build and its checks; the next try builds the day again",
    "JustStreamed": "is waited for by forget_customer",
    "MalformedDesiredState": "is told as StreamNotWell",
    "StoreFailed": "of the dashboard, which is no task",
}
"""Exceptions of our own that are tried again, or never reach Airflow, with the reason."""


def bigquery(code: int, reason: str, message: str) -> Exception:
    error: Exception = from_http_status(code, message, errors=[{"reason": reason, "message": message}])
    return error


def dataflow(code: int, message: str, **error: object) -> Exception:
    body = {"error": {"code": code, "message": message, **error}}
    return HttpError(httplib2.Response({"status": str(code)}), json.dumps(body).encode(), uri="https://x/")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused("first_day is after last_day; swap them"), ""),
        (ContractError("a.csv is damaged. Upload it again."), ""),
        (bigquery(404, "notFound", "Not found: Table p:shop_ops.loads was not found"), "apply_schemas"),
        (bigquery(404, "notFound", "Not found: Dataset p:shop was not found"), "apply_schemas"),
        (bigquery(400, "invalidQuery", "Unrecognized name: gift at [3:1]"), "apply_schemas"),
        (exceptions.InvalidArgument("Table not found: events"), "apply_schemas"),
        (exceptions.NotFound("Database not found: projects/p/instances/i/databases/d"), "apply_schemas"),
        (
            bigquery(404, "notFound", "Not found: Table p:shop_raw.x_staging_1"),
            "from reconcile on",
        ),
        (exceptions.NotFound("The specified bucket does not exist."), "SHOPSTREAM_BUCKET"),
        (exceptions.NotFound("No such object: shop/loads/2019-11-01/x.json"), "make it again"),
        (bigquery(403, "accessDenied", "Access Denied: Table p:shop.days"), "docs/permissions.md"),
        (exceptions.PermissionDenied("spanner.databases.select"), "docs/permissions.md"),
        (bigquery(400, "invalidQuery", "Syntax error: Unexpected end of script"), "deploy it"),
        (exceptions.InvalidArgument("Syntax error"), "deploy it"),
        (dataflow(400, "Unable to open template file: gs://shop/templates/1/x.json"), "deploy it"),
        (dataflow(403, "Permission denied", errors=[{"reason": "forbidden"}]), "docs/permissions.md"),
        (dataflow(404, "Job not there", errors=[{"reason": "notFound"}]), "make it again"),
    ],
)
def test_what_a_retry_cannot_mend_has_a_next_step(error: Exception, words: str) -> None:
    step = next_step(error)
    assert step is not None
    assert words in step
    assert bool(step) == bool(words)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("anything"),
        ConnectionError("refused"),
        bigquery(404, "notFound", "Not found: Job p:US.stage-1"),
        bigquery(400, "invalidQuery", "Could not serialize access to table p:shop.days"),
        bigquery(400, "invalidQuery", "rows in the streaming buffer, which is not supported"),
        bigquery(403, "rateLimitExceeded", "Exceeded rate limits"),
        bigquery(403, "quotaExceeded", "Quota exceeded"),
        bigquery(400, "resourcesExceeded", "Resources exceeded during query execution"),
        exceptions.FailedPrecondition("a schema change is under way"),
        exceptions.Aborted("locks"),
        exceptions.ServiceUnavailable("away"),
        exceptions.TooManyRequests("slow down"),
        exceptions.RetryError("timed out", None),
        dataflow(409, "There is an active job of this name"),
        dataflow(429, "Quota exceeded"),
        dataflow(503, "away"),
        dataflow(403, "slow down", errors=[{"reason": "rateLimitExceeded"}]),
        dataflow(400, "the job does not run", errors=[{"reason": "failedPrecondition"}]),
    ],
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    assert next_step(error) is None


def exceptions_of(folder: Path) -> dict[str, set[str]]:
    """The exception classes that are defined below a folder, and the names of their bases."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                if any(base.endswith(("Error", "Exception")) or base == "Refused" for base in bases):
                    found[node.name] = bases
    return found


def test_each_exception_of_our_own_says_whether_a_retry_helps() -> None:
    found = exceptions_of(ROOT / "plugins" / "shopstream")
    retried = {name for name, bases in found.items() if bases != {"Refused"}} - {"Refused"}
    assert retried == MAY_HELP.keys()
