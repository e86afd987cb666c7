"""What is landed of a day, which days are named as missing, and in which words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import pytest
from google.cloud.storage import Bucket

from shopstream.load.landed import (
    LOADING,
    describe_missing,
    describe_strangers,
    landed_objects,
    missing_days,
    newest_landings,
)
from shopstream.load.launch import launched_at, new_load_id
from shopstream.tables.published import PublishedDay

MONDAY = date(2026, 11, 2)
DAYS = [MONDAY + timedelta(days=number) for number in range(4)]
THURSDAY_MORNING = datetime(2026, 11, 5, 7, tzinfo=UTC)


def at(day: date, hour: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def findings(
    landings: Mapping[date, datetime | None], loads: Mapping[date, datetime], now: datetime = THURSDAY_MORNING
) -> list[str]:
    return missing_days(DAYS[0], DAYS[2], landings, loads, now)


LOADED = {day: at(day + timedelta(days=1), 2) for day in DAYS[:3]}
LANDED: dict[date, datetime | None] = {day: at(day + timedelta(days=1), 1) for day in DAYS[:3]}


def test_days_that_are_loaded_as_they_were_landed_are_not_named() -> None:
    assert findings(LANDED, LOADED) == []


def test_a_day_that_is_landed_and_was_never_published_is_named_with_the_next_step() -> None:
    [finding] = findings(LANDED, {day: LOADED[day] for day in (DAYS[0], DAYS[2])})
    assert finding == (
        "2026-11-03 is landed since 2026-11-04 01:00 UTC and not published. "
        'Trigger load_events_daily with {"landing_day": "2026-11-03"}.'
    )


def test_a_day_landed_within_the_last_hour_may_still_be_loading() -> None:
    now = THURSDAY_MORNING
    fresh = {**LANDED, DAYS[2]: now - LOADING + timedelta(seconds=1)}
    assert findings(fresh, {day: LOADED[day] for day in DAYS[:2]}, now) == []
    assert findings(fresh, LOADED, now) == []


def test_a_load_was_launched_when_its_id_says_however_long_it_took_or_waited_for_a_person() -> None:
    launched = datetime(2026, 11, 3, 2, 30, 0, 500, tzinfo=UTC)
    published = launched + timedelta(hours=20)
    assert launched_at(PublishedDay(new_load_id(MONDAY, launched), published, 10)) == launched
    assert launched_at(PublishedDay(f"{new_load_id(MONDAY, launched)}r1", published, 10)) == launched
    assert launched_at(PublishedDay("20261102-0a1b2c3d", published, 10)) == published


def test_a_day_landed_anew_after_its_load_is_named() -> None:
    anew = {**LANDED, DAYS[1]: at(DAYS[3], 1)}
    [finding] = findings(anew, LOADED)
    assert (
        "2026-11-03 was landed anew at 2026-11-05 01:00 UTC, after its load of 2026-11-04 02:00 had begun"
        in finding
    )


@pytest.mark.parametrize(
    ("last_day", "words"), [({}, "holds nothing"), ({DAYS[2]: None}, "holds files but no _SUCCESS")]
)
def test_a_day_that_is_not_landed_is_named_from_six_hours_after_its_end(
    last_day: dict[date, datetime | None], words: str
) -> None:
    landings = {day: LANDED[day] for day in DAYS[:2]} | last_day
    loads = {day: LOADED[day] for day in DAYS[:2]}
    assert findings(landings, loads, at(DAYS[3], 5)) == []
    [finding] = findings(landings, loads, at(DAYS[3], 6))
    assert finding.startswith(f"2026-11-04 is not landed: its folder {words}.")


def test_a_day_is_named_though_no_run_was_ever_made_for_it_and_none_before_the_first_landing() -> None:
    assert len(findings({DAYS[1]: at(DAYS[2], 1)}, {})) == 2
    assert findings({}, {}) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], "holds nothing. Upload the day's files, and at last an empty object _SUCCESS"),
        (["b.csv", "a.csv"], "holds a.csv, b.csv. Once the day's files are complete, write an empty object"),
        ([f"{n}.csv" for n in range(7)], "4.csv and 2 more. Once"),
        (["a-0.csv", "_UNFINISHED-2019-Nov"], "export 2019-Nov is not landed to its end. Run land_export"),
    ],
)
def test_a_missing_landing_is_told_by_what_its_folder_holds_and_how_to_land_it(
    found: list[str], words: str
) -> None:
    told = describe_missing("shop", MONDAY, found)
    assert told.startswith("Landing day 2026-11-02 is not landed whole: ")
    assert "gs://shop/landing/events/2026-11-02/" in told
    assert words in told


@pytest.mark.integration
def test_the_bucket_tells_what_is_landed(bucket: Bucket) -> None:
    for name in (f"{DAYS[0]}/a.csv", f"{DAYS[0]}/_SUCCESS", f"{DAYS[1]}/b.csv", "2026-11-031/c.csv"):
        bucket.blob(f"landing/events/{name}").upload_from_string(b"")
    client = bucket.client
    assert landed_objects(client, bucket.name, DAYS[0]).keys() == {"a.csv", "_SUCCESS"}
    assert landed_objects(client, bucket.name, DAYS[2]) == {}
    found = newest_landings(client, bucket.name, DAYS[0], DAYS[3])
    assert set(found) == {DAYS[0], DAYS[1]}
    assert found[DAYS[0]] == bucket.get_blob(f"landing/events/{DAYS[0]}/_SUCCESS").updated
    assert found[DAYS[1]] is None


@pytest.mark.integration
def test_what_lies_beside_the_days_folders_is_named_for_no_load_reads_it(bucket: Bucket) -> None:
    days = [f"{DAYS[0]}/a.csv", f"{DAYS[0]}/_SUCCESS", f"{DAYS[1]}/hour/b.csv"]
    strangers = ["2026-11-31/c.csv", "20261102/d.csv", "a.csv", "event/2026-11-02/e.csv", "2026-11-2/f.csv"]
    for name in days:
        bucket.blob(f"landing/events/{name}").upload_from_string(b"")
    assert describe_strangers(bucket.client, bucket.name) == []
    for name in [*strangers, "x.csv"]:
        bucket.blob(f"landing/events/{name}").upload_from_string(b"")
    [sentence] = describe_strangers(bucket.client, bucket.name)
    assert "so that no load reads it: landing/events/2026-11-2/, " in sentence
    assert "landing/events/20261102/, landing/events/a.csv, landing/events/event/ and 1 more." in sentence
