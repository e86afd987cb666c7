"""How well the stream is, by each figure and its limits."""

from __future__ import annotations

import pytest

from shopstream.settings import Limits, settings
from shopstream.stream.decide import Desired
from shopstream.stream.health import Figures, Level, assess, duration


def level(
    waiting: float | None = 0,
    row: float | None = 10,
    accepted: int = 1000,
    rejected: int = 0,
    desired: Desired = Desired.RUNNING,
    job_age_seconds: float | None = 100_000,
) -> Level:
    return assess(Figures(waiting, row, accepted, rejected), desired, job_age_seconds, settings()).level


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, "ok"), (0, "ok"), (299, "ok"), (300, "warn"), (1799, "warn"), (1800, "fail")],
)
def test_messages_that_wait_are_judged_by_the_oldest(seconds: float | None, expected: str) -> None:
    assert str(level(waiting=seconds)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, "ok"), (899, "ok"), (900, "warn"), (3599, "warn"), (3600, "fail")]
)
def test_the_newest_row_is_judged_while_messages_wait(seconds: float | None, expected: str) -> None:
    assert str(level(waiting=60, row=seconds)) == expected


@pytest.mark.parametrize("waiting", [0, 59])
def test_an_old_newest_row_is_no_trouble_when_nothing_waits(waiting: float | None) -> None:
    assert level(waiting=waiting, row=10**6) is Level.OK


def test_an_old_newest_row_is_trouble_when_monitoring_does_not_tell_whether_messages_wait() -> None:
    assert level(waiting=None, row=30 * 3600) is Level.FAIL
    assert level(waiting=None, row=30 * 3600, job_age_seconds=60) is Level.WARN
    assert level(waiting=None, row=899) is Level.OK


@pytest.mark.parametrize(
    ("accepted", "rejected", "expected"),
    [(0, 0, "ok"), (991, 9, "ok"), (990, 10, "warn"), (901, 99, "warn"), (900, 100, "fail"), (0, 99, "ok")],
)
def test_the_share_of_rejected_is_judged_from_a_hundred_messages_on(
    accepted: int, rejected: int, expected: str
) -> None:
    assert str(level(accepted=accepted, rejected=rejected)) == expected


@pytest.mark.parametrize("job_age_seconds", [None, 0, 599])
def test_a_young_job_still_catches_up_so_that_ages_only_warn(job_age_seconds: float | None) -> None:
    assert level(waiting=10**5, row=10**5, job_age_seconds=job_age_seconds) is Level.WARN
    assert level(accepted=0, rejected=100, job_age_seconds=job_age_seconds) is Level.FAIL


def test_a_stopped_stream_is_not_judged() -> None:
    assert level(10**6, 10**6, accepted=0, rejected=1000, desired=Desired.STOPPED) is Level.OK


def test_the_worst_figure_counts_and_each_is_told_with_the_limit_it_passed() -> None:
    figures = Figures(oldest_unacked_seconds=2000, newest_row_seconds=1000, accepted=97, rejected=3)
    health = assess(figures, Desired.RUNNING, 100_000, settings())
    assert health.level is Level.FAIL
    assert health.phrases == (
        "the oldest unacknowledged message is 33 min 20 s old [fail: from 30 min on]",
        "the newest row of events_stream was published 16 min 40 s ago [warn: from 15 min on]",
        "3 of 100 messages of the last hour were rejected (3.0%) [warn: from 1.0% on]",
    )


def test_a_share_of_rejected_messages_is_rounded_half_up() -> None:
    figures = Figures(oldest_unacked_seconds=None, newest_row_seconds=None, accepted=237, rejected=3)
    told = assess(figures, Desired.RUNNING, 100_000, settings()).phrases
    assert "3 of 240 messages of the last hour were rejected (1.3%) [warn: from 1.0% on]" in told


def test_a_stream_of_which_nothing_can_be_measured_is_told_so() -> None:
    health = assess(Figures(None, None, 0, 0), Desired.RUNNING, None, settings())
    assert health.level is Level.OK
    assert health.phrases == (
        "Monitoring has no age of the oldest unacknowledged message",
        "events_stream has no row",
        "no message of the last hour has come through",
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.4, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (93_780, "1 d 2 h")],
)
def test_durations_are_said_by_their_two_greatest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_levels_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_UNACKED_WARN_SECONDS", "20")
    monkeypatch.setenv("SHOPSTREAM_UNACKED_FAIL_SECONDS", "40")
    assert settings().unacked_seconds == Limits(20, 40)
    assert [str(level(waiting=age)) for age in (19, 20, 40)] == ["ok", "warn", "fail"]
