"""The decision about the stream, in every combination; its desired state, its budget."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from googleapiclient import discovery

from shopstream.stream.decide import (
    Action,
    Desired,
    DesiredState,
    How,
    MalformedDesiredState,
    StreamJob,
    decide,
    desired_state_text,
    keep_to_budget,
    keep_to_key,
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
PAUSING               | alert      | alert  | alert   | cancel      | cancel
PAUSED                | alert      | alert  | alert   | cancel      | cancel
OF_TOMORROW           | alert      | alert  | alert   | drain       | cancel
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
    assert set(TABLE) - {"OF_TOMORROW"} == {state.removeprefix("JOB_STATE_") for state in states} - ENDED


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


@pytest.mark.parametrize(("seen", "wanted"), [("none", "2"), ("1", "2"), ("2", "1"), ("2", "none")])
def test_a_job_with_another_key_of_pseudonyms_than_loads_is_an_alert_and_is_not_updated(
    seen: str, wanted: str
) -> None:
    for version in VERSIONS:
        jobs = [job(version=version, pseudonym_key=seen)]
        decision = decide(DesiredState(), DEPLOYED, jobs)
        assert keep_to_key(decision, jobs, seen) == decision
        alert = keep_to_key(decision, jobs, wanted)
        assert (alert.action, alert.jobs) == (Action.ALERT, ())
        assert f"job job-1 is {seen} and that of loads {wanted}" in alert.reason
        assert "stop the stream by stop_stream with how = drain" in alert.reason


def test_a_stop_a_launch_and_a_wait_go_on_whatever_key_of_pseudonyms_a_job_has() -> None:
    for state, wanted in itertools.product(TABLE, WANTED):
        for jobs in ([], [job(state, OTHER, pseudonym_key="1")]):
            decision = decide(wanted, DEPLOYED, jobs)
            if decision.action not in (Action.UPDATE, Action.NOTHING) or not jobs:
                assert keep_to_key(decision, jobs, "2") == decision


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


def test_an_update_is_kept_back_once_the_hours_updates_are_used_up() -> None:
    update = decide(DesiredState(), DEPLOYED, [job(version=OTHER)])
    four, five = launched(4, 14, 24, 34, replaces="job-9"), launched(4, 14, 24, 34, 44, replaces="job-9")
    assert keep_to_budget(update, [*four, *launched(1, 2)], DesiredState(), 5, NOW) is update
    kept_back = keep_to_budget(update, five, DesiredState(), 5, NOW)
    assert (kept_back.action, kept_back.jobs) == (Action.ALERT, ())
    assert "updated 5 times within the last hour" in kept_back.reason
    assert "stays as it is until 10:16:00 UTC" in kept_back.reason
    begun_anew = DesiredState(since=NOW - timedelta(minutes=10))
    assert keep_to_budget(update, five, begun_anew, 5, NOW) is update


def test_an_alert_about_a_job_that_does_not_run_names_its_state_and_what_to_do() -> None:
    paused, unknown = (decide(DesiredState(), DEPLOYED, [job(state)]) for state in ("PAUSED", "OF_TOMORROW"))
    assert "job-1 is PAUSED and processes nothing; resume it at Dataflow" in paused.reason
    assert "job-1 is in the state OF_TOMORROW, which is not known here" in unknown.reason


def test_the_budget_keeps_nothing_back_but_launches_and_updates() -> None:
    spent = launched(1, 2, 3, 4, 5)
    for wanted, (one,) in itertools.product(WANTED, jobs_of(1)):
        decision = decide(wanted, DEPLOYED, [one])
        assert keep_to_budget(decision, spent, wanted, 5, NOW) is decision
