"""The plan of a backfill: what becomes of a day, what it reads and costs, and which runs it makes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from shopstream.backfill.plan import (
    LOAD,
    SUMMARIES,
    Found,
    Run,
    Step,
    decide,
    describe,
    runs_of,
    sample_day,
    with_bytes,
)

FIRST = date(2019, 11, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(4)]
NOON = datetime(2019, 12, 1, 12, tzinfo=UTC)
EARLIER, LATER = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
HALF_AN_HOUR, MINUTE = timedelta(minutes=30), timedelta(minutes=1)
NOTHING = Found(FIRST, lacks="its folder holds nothing")
LANDED = Found(FIRST, files=1, landed_bytes=1330, landed_at=EARLIER)
PUBLISHED = replace(LANDED, launched_at=NOON - HALF_AN_HOUR, published_at=NOON, events=8)
SUMMARISED = replace(PUBLISHED, summarised_at=LATER)


def on(day: date, found: Found = LANDED) -> Found:
    return replace(found, day=day)


@pytest.mark.parametrize(
    ("found", "again", "does", "why"),
    [
        (NOTHING, False, "cannot", "its folder holds nothing"),
        (NOTHING, True, "cannot", "its folder holds nothing"),
        (LANDED, False, "load", ""),
        (PUBLISHED, False, "leave", ""),
        (PUBLISHED, True, "load", ""),
        (replace(PUBLISHED, landed_at=LATER), False, "load", "it was landed anew at 2019-12-01 13:00 UTC"),
        (
            replace(PUBLISHED, landed_at=NOON - MINUTE),
            False,
            "load",
            "it was landed anew at 2019-12-01 11:59 UTC",
        ),
        (replace(PUBLISHED, lacks="no _SUCCESS", landed_at=None), False, "leave", ""),
        (replace(PUBLISHED, lacks="no _SUCCESS", landed_at=None), True, "cannot", "no _SUCCESS"),
        (replace(PUBLISHED, lacks="a stranger", landed_at=LATER), False, "cannot", "a stranger"),
    ],
)
def test_a_day_is_loaded_if_it_is_landed_and_not_yet_loaded_so_or_if_it_is_asked_for_again(
    found: Found, again: bool, does: str, why: str
) -> None:
    [step] = decide([found], LOAD, again)
    assert step.does == does
    assert step.why.startswith(why)
    assert bool(step.why) == bool(why)


@pytest.mark.parametrize(
    ("found", "again", "does"),
    [
        (LANDED, False, "cannot"),
        (replace(LANDED, summarised_at=NOON), False, "leave"),
        (replace(LANDED, summarised_at=NOON), True, "cannot"),
        (PUBLISHED, False, "summaries"),
        (SUMMARISED, False, "leave"),
        (SUMMARISED, True, "summaries"),
        (replace(PUBLISHED, summarised_at=EARLIER), False, "summaries"),
    ],
)
def test_summaries_are_built_of_a_published_day_unless_they_were_since_or_if_it_is_asked_for_again(
    found: Found, again: bool, does: str
) -> None:
    [step] = decide([found], SUMMARIES, again)
    assert step.does == does


def test_the_events_of_a_day_that_is_not_loaded_are_told_by_the_bytes_of_its_files() -> None:
    [step] = decide([LANDED], LOAD, False)
    assert (step.events, step.is_estimate) == (10, True)
    # The loaded days of the range tell better, compressed ones too.
    packed = replace(LANDED, day=DAYS[1], is_compressed=True, landed_bytes=3990)
    [_, step] = decide([PUBLISHED, packed], LOAD, False)
    assert (step.events, step.is_estimate) == (24, True)
    # What nobody can tell is not guessed.
    [step] = decide([packed], LOAD, False)
    assert step.events is None
    [step] = decide([PUBLISHED], LOAD, True)
    assert (step.events, step.is_estimate) == (8, False)


def test_a_run_is_one_day_to_load_or_an_unbroken_range_to_summarise_and_is_named_after_the_backfill() -> None:
    found = [on(day) for day in DAYS]
    assert runs_of(decide(found, LOAD, False), "manual__1") == [
        Run("load_events_daily", f"backfill__{day}__manual__1", day, day) for day in DAYS
    ]
    published = [on(day, SUMMARISED if day == DAYS[2] else PUBLISHED) for day in DAYS]
    assert runs_of(decide(published, SUMMARIES, False), "r") == [
        Run("build_summaries", f"backfill__{DAYS[0]}_{DAYS[1]}__r", DAYS[0], DAYS[1]),
        Run("build_summaries", f"backfill__{DAYS[3]}__r", DAYS[3], DAYS[3]),
    ]
    assert runs_of(decide([NOTHING, SUMMARISED], LOAD, False), "r") == []


def test_a_run_crosses_tasks_as_texts() -> None:
    run = Run("build_summaries", "backfill__2019-11-01__r", DAYS[0], DAYS[1])
    assert Run.from_xcom(run.to_xcom()) == run
    assert run.conf == {"first_day": "2019-11-01", "last_day": "2019-11-02", "dry_run": False}
    assert Run("load_events_daily", "x", FIRST, FIRST).conf == {"landing_day": "2019-11-01"}


def test_the_bytes_are_told_by_the_nearest_published_day_that_has_events() -> None:
    events = {FIRST - timedelta(days=9): 5, FIRST - timedelta(days=2): 0, DAYS[3] + timedelta(days=3): 7}
    assert sample_day(DAYS, events) == DAYS[3] + timedelta(days=3)
    assert sample_day(DAYS, events | {DAYS[2]: 1}) == DAYS[2]
    assert sample_day(DAYS, {FIRST: 0}) is None


def test_a_day_reads_as_much_as_its_events_are_and_other_days_that_look_at_it_are_counted_apart() -> None:
    steps = decide([on(DAYS[0], PUBLISHED), on(DAYS[1], replace(PUBLISHED, events=16))], SUMMARIES, False)
    after, far = DAYS[1] + timedelta(days=1), DAYS[1] + timedelta(days=2)
    built = {"shop.a": [*DAYS[:2], after, far], "shop.b": DAYS[:2]}
    events = {DAYS[0]: 8, DAYS[1]: 16, after: 4}
    told, others = with_bytes(steps, {"shop.a": 800, "shop.b": 80}, built, events, DAYS[0])
    assert [step.bytes_read for step in told] == [880, 1760]
    assert others == 400 + 800


def test_the_plan_is_a_table_with_sums_a_price_and_what_is_refused() -> None:
    steps = [
        replace(step, bytes_read=2**39 if step.does == LOAD else None)
        for step in decide(
            [
                LANDED,
                on(DAYS[1], PUBLISHED),
                on(DAYS[2], NOTHING),
                on(DAYS[3], replace(PUBLISHED, landed_at=LATER)),
            ],
            LOAD,
            False,
        )
    ]
    text = describe(steps, other_bytes=2**40)
    assert text.splitlines() == [
        "day         files   MB  landed  published         events  summaries      MB read  does",
        "2019-11-01      1  0.0  yes     no                    ~8  no           549,755.8  load",
        "2019-11-02      1  0.0  yes     2019-12-01 12:00       8  no                      leave",
        "2019-11-03      0  0.0  no      no                        no                      cannot",
        "2019-11-04      1  0.0  yes     2019-12-01 12:00      ~8  no           549,755.8  load again",
        "4 days          3  0.0                                16             2,199,023.3  2 days",
        "The summaries' statements and checks will read 2,199,023.3 MB (1,099,511.6 of other days, that look "
        "at these): 12.50 US dollars at 6.25 a TiB.",
        "2019-11-03: its folder holds nothing",
        "2019-11-04: it was landed anew at 2019-12-01 13:00 UTC, after its load had begun",
    ]


def test_what_nobody_can_tell_of_the_bytes_is_said() -> None:
    assert "is not known: no day is published yet" in describe(decide([LANDED], LOAD, False))
    known = Step(LANDED, LOAD, "", 10, True, bytes_read=10**6)
    unknown = Step(on(DAYS[1]), LOAD, "", None, True)
    assert "will read at least 1.0 MB: at least 0.00 US dollars" in describe([known, unknown])
