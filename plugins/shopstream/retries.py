"""Which errors another try would meet again, and what to do about them instead.

Airflow's own rule is to try any failed task again. By the retry policy that every task has (defaults.py), one
fails at once where that is certain not to help. Whatever is not certain is tried again.
"""

# Airflow takes seconds to import, and tools read tables without it.
from __future__ import annotations

from typing import Any

_MAY_PASS = ("Not found: Job", "serialize access", "streaming buffer")
"""BigQuery's words for what waiting mends, though the answer has the code of a wrong request."""
_LIMITS = {"quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded"}
"""Reasons of a 403 that is no lack of permission."""
_WRONG = {"badRequest", "invalidArgument", "invalidQuery"}
_SCHEMA_WORDS = ("Table", "Dataset", "Database", "Instance", "Column", "Unrecognized name")


class Refused(Exception):
    """Another try would not change it, and none is made. The message says what is wrong and what to do."""


def next_step(error: BaseException) -> str | None:
    """Return what to do about an error that another try would meet again; None where one may help.

    It is empty where the error says it itself.
    """
    from google.api_core.exceptions import GoogleAPICallError, InvalidArgument
    from googleapiclient.errors import HttpError

    from beam_jobs.contract import ContractError

    if isinstance(error, Refused | ContractError):
        return ""
    if isinstance(error, GoogleAPICallError):
        reasons = _reasons(error.errors)
        if isinstance(error, InvalidArgument):
            reasons.add("invalidArgument")
        return _after_answer(error.code, reasons, str(error))
    if isinstance(error, HttpError):
        reasons = _reasons(error.error_details) or {"badRequest"}
        return _after_answer(error.resp.status, reasons, str(error))
    return None


def _reasons(details: Any) -> set[str]:
    """The reasons that an answer's details name; there may be none, or a text."""
    if not isinstance(details, list):
        return set()
    return {str(item["reason"]) for item in details if isinstance(item, dict) and "reason" in item}


def _after_answer(code: int | None, reasons: set[str], text: str) -> str | None:
    """What to do after an answer of a Google service, by its HTTP code and the reasons that it names."""
    if any(words in text for words in _MAY_PASS):
        return None
    is_lack = code == 404 or (code == 400 and ("not found" in text or "Unrecognized name" in text))
    if is_lack and "_staging_" in text:
        return "The load's staging table is gone: clear the run from reconcile on, which makes it anew."
    if is_lack and "bucket does not exist" in text:
        return "Make the bucket by infra/terraform, or correct SHOPSTREAM_BUCKET; then clear this task."
    if is_lack and any(word in text for word in _SCHEMA_WORDS):
        return "Trigger apply_schemas, which makes tables and columns that are missing; then clear this task."
    if code == 404:
        return (
            "What the error names is not there: make it again or correct the settings; then clear this task."
        )
    if code == 403 and not reasons & _LIMITS:
        return "Grant Airflow's service account what docs/permissions.md lists; then clear this task."
    if code == 400 and reasons & _WRONG:
        return "The request itself is refused: correct what the error names, deploy it, then clear this task."
    return None
