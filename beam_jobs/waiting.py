"""Lets Google's clients say what they wait for: they try again by themselves, and tell it at DEBUG alone."""

from __future__ import annotations

import logging

_RETRIES = logging.getLogger("google.api_core.retry")


def tell_waiting() -> None:
    """Log each request that is tried again, with its error and the wait, as a warning from now on."""
    _RETRIES.setLevel(logging.DEBUG)
    _RETRIES.addFilter(_as_warning)


def _as_warning(record: logging.LogRecord) -> bool:
    record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True
