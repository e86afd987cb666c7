"""The manifest of a load: its counters and its files, written last by the load and read by the DAG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class LandedFile:
    """A file that was loaded; `header` tells whether its first line was one."""

    uri: str
    bytes: int
    header: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished load came to: rows by what became of them, and the files that it read and wrote.

    If nothing was lost, read = accepted + rejected, and accepted = distinct + duplicates. `late` counts the
    accepted rows of days before the landing day, `event_dates` all accepted rows by their day.
    """

    landing_day: date
    load_id: str
    finished_at: datetime
    read: int = 0
    accepted: int = 0
    rejected: int = 0
    distinct: int = 0
    duplicates: int = 0
    late: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)
    event_dates: Mapping[date, int] = field(default_factory=dict)
    files: tuple[LandedFile, ...] = ()
    accepted_files: tuple[str, ...] = ()
    rejected_files: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as a JSON object; days and times in ISO form."""
        value = {one.name: getattr(self, one.name) for one in fields(self)}
        value["event_dates"] = {day.isoformat(): rows for day, rows in self.event_dates.items()}
        value["files"] = [{"uri": one.uri, "bytes": one.bytes, "header": one.header} for one in self.files]
        return json.dumps(value, indent=2, default=_as_text) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is no such object; the message names what is missing, unknown or malformed.
        """
        value = json.loads(text)
        names = {one.name for one in fields(cls)}
        if not isinstance(value, dict) or value.keys() != names:
            found = sorted(value) if isinstance(value, dict) else value
            raise ValueError(f"a manifest has {', '.join(sorted(names))}; this has {found}")
        return cls(**value | _typed(value))


def _typed(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "landing_day": date.fromisoformat(value["landing_day"]),
        "event_dates": {date.fromisoformat(day): rows for day, rows in value["event_dates"].items()},
        "files": tuple(LandedFile(**file) for file in value["files"]),
        "accepted_files": tuple(value["accepted_files"]),
        "rejected_files": tuple(value["rejected_files"]),
        "finished_at": datetime.fromisoformat(value["finished_at"]),
    }


def _as_text(value: object) -> str:
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    raise TypeError(f"{value!r} is nothing that a manifest holds")
