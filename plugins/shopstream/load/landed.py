"""What is landed of a day, and which days are not loaded as they are landed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, NamedTuple

from beam_jobs.lines import is_mark
from shopstream import layout

if TYPE_CHECKING:
    from google.cloud.storage import Client

OBJECTS_NAMED = 5
DUE_AFTER_DAY = timedelta(hours=6)
"""So long after its end a day should be published, as the deadline of load_events_daily says."""
LOADING = timedelta(hours=1)
"""A day that was landed within this time may still be loading."""


class Landed(NamedTuple):
    """An object of a landing day's folder: when it was written, and its size as it is stored."""

    written: datetime
    size_bytes: int


def landed_objects(client: Client, bucket: str, day: date) -> dict[str, Landed]:
    """Return the objects in a landing day's folder by their names, without it."""
    folder = f"{layout.landing(day)}/"
    blobs = client.list_blobs(bucket, prefix=folder)
    return {blob.name.removeprefix(folder): Landed(blob.updated, blob.size) for blob in blobs}


def newest_landings(
    client: Client, bucket: str, first_day: date, last_day: date
) -> dict[date, datetime | None]:
    """Return when each day from `first_day` to `last_day` was completed whose folder holds anything.

    That is when its _SUCCESS was last written, None without one.
    """
    landings = {}
    for number in range((last_day - first_day).days + 1):
        day = first_day + timedelta(days=number)
        if found := landed_objects(client, bucket, day):
            success = found.get(layout.SUCCESS)
            landings[day] = success.written if success else None
    return landings


def describe_strangers(client: Client, bucket: str) -> list[str]:
    """Return a sentence if there is anything beside the landing days' folders, which no load would read."""
    found = client.list_blobs(bucket, prefix=layout.LANDING, delimiter="/")
    # The console makes an empty object of a folder's name. Prefixes are known once all is listed.
    names = {blob.name for blob in found} - {layout.LANDING} | found.prefixes
    if strangers := sorted(name for name in names if not _is_day(name.removeprefix(layout.LANDING))):
        return [
            f"gs://{bucket}/{layout.LANDING} holds what is of no landing day, so that no load reads it: "
            f"{_some(strangers)}. If these are events, move them to {layout.LANDING}YYYY-MM-DD/; else delete "
            "them."
        ]
    return []


def missing_days(
    first_day: date,
    last_day: date,
    landings: Mapping[date, datetime | None],
    loads: Mapping[date, datetime],
    now: datetime,
) -> list[str]:
    """Return a sentence for each day that is due and not loaded as it was landed.

    Days are expected from the first of them that anything was landed or loaded of: before that there was no
    shop.

    Args:
        landings: what `newest_landings` returns.
        loads: when the load was launched that each landing day is published of.
        now: with its time zone.
    """
    expected = min([*landings, *loads], default=None)
    if expected is None:
        return []
    findings = []
    for number in range((last_day - max(first_day, expected)).days + 1):
        day = max(first_day, expected) + timedelta(days=number)
        completed, loaded = landings.get(day), loads.get(day)
        if completed and now - completed < LOADING:
            continue
        again = f'Trigger load_events_daily with {{"landing_day": "{day}"}}'
        if completed and loaded and completed > loaded:
            findings.append(
                f"{day} was landed anew at {completed:%Y-%m-%d %H:%M} UTC, after its load of "
                f"{loaded:%Y-%m-%d %H:%M} had begun. {again}."
            )
        elif completed and not loaded:
            findings.append(
                f"{day} is landed since {completed:%Y-%m-%d %H:%M} UTC and not published. {again}."
            )
        elif not loaded and now >= _due(day):
            what = f"files but no {layout.SUCCESS}" if day in landings else "nothing"
            findings.append(
                f"{day} is not landed: its folder holds {what}. Land it, then it is loaded. {again}."
            )
    return findings


def describe_missing(bucket: str, day: date, found: Iterable[str]) -> str:
    """Say that a day is not landed whole, what its folder holds, and how to land it."""
    names = sorted(found)
    folder = f"gs://{bucket}/{layout.landing(day)}/"
    if not names:
        holds = "holds nothing. Upload the day's files, and at last an empty object"
    elif marks := [name for name in names if is_mark(name) and name != layout.SUCCESS]:
        stems = ", ".join(mark.removeprefix(layout.UNFINISHED) for mark in marks)
        return (
            f"Landing day {day} is not landed whole: in {folder} export {stems} is not landed to its end. "
            "Run land_export for it again, which completes the day."
        )
    else:
        holds = f"holds {_some(names)}. Once the day's files are complete, write an empty object"
    return (
        f"Landing day {day} is not landed whole: {folder} {holds} {layout.SUCCESS}; or land an export with "
        "land_export."
    )


def _is_day(folder: str) -> bool:
    try:
        return f"{date.fromisoformat(folder.removesuffix('/'))}/" == folder
    except ValueError:
        return False


def _some(names: list[str]) -> str:
    more = f" and {len(names) - OBJECTS_NAMED} more" if len(names) > OBJECTS_NAMED else ""
    return ", ".join(names[:OBJECTS_NAMED]) + more


def _due(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), UTC) + DUE_AFTER_DAY
