"""The decision about the stream, in every combination; its desired state, its budget, its health."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from googleapiclient import discovery

from shopstream.settings import Levels, settings
from shopstream.stream import (
    Action,
    Desired,
    DesiredState,
    Figures,
    How,
    Level,
    MalformedDesiredState,
    StreamJob,
    decide,
    desired_state_text,
    duration,
    judge,
    keep_to_budget,
    launches_counted,
    parse_desired_state,
)

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
DEPLOYED, OTHER = "v2", "v1"
VERSIONS = (DEPLOYED, OTHER, None)
ENDED = {"DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED"}

# What is decided about one active job, by its state; and by its version, if a stream is wanted.
ONE_JOB = """
state                 | wanted: v2 | v1     | unknown | stop: drain | cancel
RUNNING               | nothing    | update | update  | drain       | cancel
PAUSING               | nothing    | update | update  | drain       | cancel
PAUSED                | nothing    | update | update  | drain       | cancel
UNKNOWN               | nothing    | wait   | wait    | cancel      | cancel
STOPPED               | nothing    | wait   | wait    | cancel      | cancel
PENDING               | nothing    | wait   | wait    | cancel      | cancel
QUEUED                | nothing    | wait   | wait    | cancel      | cancel
DRAINING              | wait       | wait   | wait    | wait        | cancel
RESOURCE_CLEANING_UP  | wait       | wait   | wait    | wait        | cancel
CANCELLING            | wait       | wait   | wait    | wait        | wait
"""
COLUMNS = (
    (DesiredState(), DEPLOYED),
    (DesiredState(), OTHER),
    (DesiredState(), None),
    (DesiredState(Desired.STOPPED), None),
    (DesiredState(Desired.STOPPED, how=How.CANCEL), None),
)
TABLE = {
    cells[0]: cells[1:]
    for line in ONE_JOB.strip().splitlines()[1:]
    for cells in [[cell.strip() for cell in line.split("|")]]
}
WANTED = (
    DesiredState(),
    DesiredState(version=OTHER),
    DesiredState(Desired.STOPPED),
    DesiredState(Desired.STOPPED, how=How.CANCEL),
)


def job(
    state: str = "RUNNING",
    version: str | None = DEPLOYED,
    number: int = 1,
    age_minutes: float = 5,
    **links: str,
) -> StreamJob:
    moment = NOW - timedelta(minutes=age_minutes)
    return StreamJob(f"job-{number}", f"JOB_STATE_{state}", version, moment, moment, **links)


def jobs_of(count: int) -> Iterator[tuple[StreamJob, ...]]:
    """Each combination of states and versions of so many jobs, none of which replaces another."""
    kinds = list(itertools.product(TABLE, VERSIONS))
    for combination in itertools.product(kinds, repeat=count):
        yield tuple(job(state, version, n) for n, (state, version) in enumerate(combination))


# The decision


def test_the_table_has_every_state_of_dataflow_that_is_no_end() -> None:
    document = discovery.build("dataflow", "v1b3", http=None, developerKey="unused")._rootDesc
    states = document["schemas"]["Job"]["properties"]["currentState"]["enum"]
    assert set(TABLE) == {state.removeprefix("JOB_STATE_") for state in states} - ENDED


@pytest.mark.parametrize("state", TABLE)
@pytest.mark.parametrize("column", range(len(COLUMNS)))
def test_one_job_is_treated_by_its_state_and_version(state: str, column: int) -> None:
    wanted, version = COLUMNS[column]
    for version_seen in (version,) if wanted.desired is Desired.RUNNING else VERSIONS:
        decision = decide(wanted, DEPLOYED, [job(state, version_seen)])
        assert decision.action == TABLE[state][column]
        acts = decision.action in (Action.UPDATE, Action.DRAIN, Action.CANCEL)
        assert decision.jobs == ((job(state, version_seen),) if acts else ())


@pytest.mark.parametrize("state", TABLE)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_pinned_version_is_wanted_in_place_of_the_deployed_one(state: str, version: str | None) -> None:
    pinned = decide(DesiredState(version=OTHER), DEPLOYED, [job(state, version)])
    deployed = decide(DesiredState(), OTHER, [job(state, version)])
    assert pinned == deployed


def test_without_any_job_one_is_launched_if_a_stream_is_wanted() -> None:
    actions = [decide(wanted, DEPLOYED, []).action for wanted in WANTED]
    assert actions == [Action.LAUNCH, Action.LAUNCH, Action.NOTHING, Action.NOTHING]


def test_more_than_one_job_is_an_alert_in_every_combination_if_a_stream_is_wanted() -> None:
    for wanted, jobs in itertools.product(WANTED[:2], jobs_of(2)):
        assert decide(wanted, DEPLOYED, jobs).action is Action.ALERT
    assert decide(WANTED[0], DEPLOYED, [job(number=n) for n in range(3)]).action is Action.ALERT


@pytest.mark.parametrize("link", ["replaces", "replaced_by", "both"])
def test_two_jobs_of_which_one_replaces_the_other_are_an_update_under_way(link: str) -> None:
    for old, new in jobs_of(2):
        replaces = {"replaces": old.id} if link != "replaced_by" else {}
        replaced_by = {"replaced_by": new.id} if link != "replaces" else {}
        pair = [linked(old, **replaced_by), linked(new, **replaces)]
        for wanted in WANTED[:2]:
            assert decide(wanted, DEPLOYED, pair).action is Action.WAIT


def test_a_third_job_beside_an_update_is_an_alert() -> None:
    jobs = [job(number=1), job(number=2, replaces="job-1"), job(number=3)]
    assert decide(DesiredState(), DEPLOYED, jobs).action is Action.ALERT
    chain = [job(number=1), job(number=2, replaces="job-1"), job(number=3, replaces="job-2")]
    assert decide(DesiredState(), DEPLOYED, chain).action is Action.WAIT


@pytest.mark.parametrize("state", TABLE)
def test_a_job_that_is_being_replaced_by_one_not_yet_seen_is_left_alone(state: str) -> None:
    replaced = job(state, OTHER, replaced_by="job-2")
    assert decide(DesiredState(), DEPLOYED, [replaced]).action is Action.WAIT


def test_a_stop_asks_each_job_to_end_as_it_can_and_never_launches() -> None:
    for wanted, jobs in itertools.product(WANTED[2:], jobs_of(2)):
        decision = decide(wanted, DEPLOYED, jobs)
        table = {
            one: TABLE[one.state.removeprefix("JOB_STATE_")][3 if wanted.how is How.DRAIN else 4]
            for one in jobs
        }
        assert decision.action in (Action.DRAIN, Action.CANCEL, Action.WAIT)
        assert {table[one] for one in decision.jobs} <= {decision.action}
        # Until all are on their way to an end, it asks at least one.
        assert bool(decision.jobs) == (set(table.values()) != {"wait"})


def test_a_stop_in_an_update_cancels_the_successor_that_has_not_begun() -> None:
    old, new = job(replaced_by="job-2"), job("QUEUED", number=2, replaces="job-1")
    decision = decide(DesiredState(Desired.STOPPED), DEPLOYED, [old, new])
    assert (decision.action, decision.jobs) == (Action.CANCEL, (new,))


def linked(one: StreamJob, **links: Any) -> StreamJob:
    return StreamJob(one.id, one.state, one.version, one.created, one.state_since, **links)


# The desired state


def test_a_desired_state_is_read_as_it_was_written() -> None:
    for desired, version, how, since in itertools.product(Desired, (None, "v-1_b"), How, (None, NOW)):
        state = DesiredState(desired, version, how, since)
        assert parse_desired_state(desired_state_text(state)) == state


def test_without_a_desired_state_the_stream_should_run_with_the_deployed_version() -> None:
    assert parse_desired_state(None) == DesiredState(Desired.RUNNING, None, How.DRAIN, None)
    assert parse_desired_state('{"desired": "stopped"}') == DesiredState(Desired.STOPPED)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("running", "Expecting value"),
        ("[]", "no object with the key desired"),
        ("{}", "no object with the key desired"),
        ({"desired": "paused"}, "'paused' is not a valid Desired"),
        ({"desired": True}, "True is not a valid Desired"),
        ({"desired": "stopped", "how": "kill"}, "'kill' is not a valid How"),
        ({"desired": "running", "version": ""}, "the template version is ''"),
        ({"desired": "running", "version": "1.2"}, "the template version is '1.2'"),
        ({"desired": "running", "version": 2}, "the template version is 2"),
        ({"desired": "running", "verison": "v2"}, "unknown keys verison"),
        ({"desired": "running", "since": "today"}, "Invalid isoformat string: 'today'"),
        ({"desired": "running", "since": 5}, "argument must be str"),
        ({"desired": "running", "since": "2026-11-22T10:00:00"}, "without a time zone"),
    ],
)
def test_a_malformed_desired_state_is_told_with_its_value_and_the_right_form(value: Any, words: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(MalformedDesiredState) as raised:
        parse_desired_state(text)
    assert words in str(raised.value)
    assert repr(text) in str(raised.value)
    assert '"desired": "running" or "stopped"' in str(raised.value)


# The restart budget


def launched(*ages_minutes: float, **links: str) -> list[StreamJob]:
    return [job("FAILED", number=n, age_minutes=age, **links) for n, age in enumerate(ages_minutes)]


def test_a_launch_is_kept_back_once_the_hours_launches_are_used_up() -> None:
    launch = decide(DesiredState(), DEPLOYED, [])
    four, five = launched(4, 14, 24, 34), launched(4, 14, 24, 34, 44)
    assert keep_to_budget(launch, four, DesiredState(), 5, NOW) is launch
    kept_back = keep_to_budget(launch, five, DesiredState(), 5, NOW)
    assert kept_back.action is Action.ALERT
    assert "launched 5 times within the last hour" in kept_back.reason
    assert "until 10:16:00 UTC" in kept_back.reason
    assert "trigger keep_stream_alive by hand" in kept_back.reason


def test_launches_of_more_than_an_hour_ago_and_updates_do_not_count() -> None:
    jobs = [*launched(59, 61, 300), *launched(1, 2, replaces="job-9")]
    assert launches_counted(jobs, DesiredState(), NOW) == [NOW - timedelta(minutes=59)]


def test_a_start_by_hand_begins_a_new_count() -> None:
    state = DesiredState(since=NOW - timedelta(minutes=10))
    assert len(launches_counted(launched(5, 15, 25), state, NOW)) == 1


def test_the_budget_keeps_nothing_back_but_launches() -> None:
    spent = launched(1, 2, 3, 4, 5)
    for wanted, (one,) in itertools.product(WANTED, jobs_of(1)):
        decision = decide(wanted, DEPLOYED, [one])
        assert keep_to_budget(decision, spent, wanted, 5, NOW) is decision


# Health


def level(
    waiting: float | None = 0,
    row: float | None = 10,
    accepted: int = 1000,
    rejected: int = 0,
    desired: Desired = Desired.RUNNING,
    job_age_seconds: float | None = 100_000,
) -> Level:
    return judge(Figures(waiting, row, accepted, rejected), desired, job_age_seconds, settings()).level


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


@pytest.mark.parametrize("waiting", [None, 0, 59])
def test_an_old_newest_row_is_no_trouble_when_nothing_waits(waiting: float | None) -> None:
    assert level(waiting=waiting, row=10**6) is Level.OK


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
    health = judge(figures, Desired.RUNNING, 100_000, settings())
    assert health.level is Level.FAIL
    assert health.phrases == (
        "the oldest unacknowledged message is 33 min 20 s old [fail: from 30 min on]",
        "the newest row of events_stream was published 16 min 40 s ago [warn: from 15 min on]",
        "3 of 100 messages of the last hour were rejected (3.0%) [warn: from 1.0% on]",
    )


def test_a_stream_of_which_nothing_can_be_measured_is_told_so() -> None:
    health = judge(Figures(None, None, 0, 0), Desired.RUNNING, None, settings())
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


# The settings


def test_the_levels_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSTREAM_UNACKED_WARN_SECONDS", "20")
    monkeypatch.setenv("SHOPSTREAM_UNACKED_FAIL_SECONDS", "40")
    assert settings().unacked_seconds == Levels(20, 40)
    assert [str(level(waiting=age)) for age in (19, 20, 40)] == ["ok", "warn", "fail"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SHOPSTREAM_KEEP_ALIVE_SECONDS", "4", "a whole number from 5 to 86,400"),
        ("SHOPSTREAM_KEEP_ALIVE_SECONDS", "10 minutes", "a whole number from 5 to 86,400"),
        ("SHOPSTREAM_KEEP_ALIVE_SECONDS", "7.5", "a whole number from 5 to 86,400"),
        ("SHOPSTREAM_STREAM_MAX_LAUNCHES", "0", "a whole number from 1 to 1,000"),
        ("SHOPSTREAM_STREAM_REJECTED_FAIL_SHARE", "10%", "a share from 0 to 1"),
        ("SHOPSTREAM_STREAM_REJECTED_FAIL_SHARE", "nan", "a share from 0 to 1"),
        ("SHOPSTREAM_NEWEST_ROW_WARN_SECONDS", "-1", "seconds from 1 to"),
        ("SHOPSTREAM_STREAM_WRITE_METHOD", "file_loads", "one of streaming_inserts, storage_write_api"),
        ("SHOPSTREAM_UNACKED_WARN_SECONDS", "3000", "a warn level that is not above the fail level"),
    ],
)
def test_a_setting_out_of_its_range_is_told_with_its_range(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as raised:
        settings()
    assert name in str(raised.value)
    assert value in str(raised.value)
    assert words in str(raised.value)
