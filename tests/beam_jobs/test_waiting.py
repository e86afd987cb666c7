"""What a client waits for is in the logs."""

from __future__ import annotations

import logging

import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.api_core.retry import Retry

from beam_jobs.waiting import tell_waiting


def test_a_request_that_is_tried_again_is_told_as_a_warning_with_what_was_answered(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [ServiceUnavailable("the store is away")]

    def ask() -> str:
        if answers:
            raise answers.pop()
        return "here"

    # As the clients leave it.
    monkeypatch.setattr(logging.getLogger("google"), "propagate", False)
    caplog.set_level(logging.WARNING)
    tell_waiting()
    tell_waiting()
    assert Retry(initial=0.001)(ask)() == "here"
    [told] = caplog.records
    assert told.levelname == "WARNING"
    assert "503 the store is away" in told.getMessage()
