"""Lets Google's clients say what they wait for: they try again by themselves, and tell it at DEBUG alone."""

from __future__ import annotations

import logging

_RETRIES = logging.getLogger("google.api_core.retry")
_log = logging.getLogger(__name__)


def tell_waiting() -> None:
    """Log each request that is tried again, with its error and the wait, as a warning from now on."""
    _RETRIES.setLevel(logging.DEBUG)
    _RETRIES.addFilter(_tell)


def _tell(record: logging.LogRecord) -> bool:
    # By a logger of ours, since what those below "google" tell does not reach the root's handlers.
    _log.warning("%s", record.getMessage())
    return False
