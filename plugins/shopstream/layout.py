"""The layout of the buckets: the names of their objects, in one place."""

from __future__ import annotations

from datetime import date

from beam_jobs import lines

EXPORTS = "exports/"
LANDING = "landing/events/"
_STEM = r"(?!_)[^/*?#\[\]\x00-\x1f]+(?<!\.csv)(?<!\.gz)(?<!\.zip)"
_END = r"$(?!\n)"  # as Python's $ alone is also before a last line break
EXPORT_PATTERN = rf"^{EXPORTS}{_STEM}\.(csv|csv\.gz|csv\.zip|zip){_END}"
"""No sub-folders, and no ending twice, so that a part's name, made of the export's, is of one export; no
underscore first, as marks have it; no wildcards, for Beam."""
OBJECT_PATTERN = rf"^({EXPORTS}|{LANDING})(?!.*\.\./)[^*?#\[\]\x00-\x1f]+\.csv(\.gz)?{_END}"
"""A file of events where these are kept, and by no way around; elsewhere a customer is not looked for."""
MAX_OBJECT_CHARS = 1024
"""Of any object's name, by Cloud Storage; it counts bytes."""
ACCEPTED = "accepted/events/"
REJECTED = "rejected/events/"
REPORTS = "reports/events/"
LATEST_REPORT = f"{REPORTS}latest.html"
LOADS = "loads/"
FORGET = "forget/"
"""Lists of the customers whom somebody has asked to forget."""
LIST_PATTERN = rf"^{FORGET}[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}{_END}"
USER_ID_PATTERN = rf"^[0-9]{{1,19}}{_END}"
TEMP, STAGING = "temp", "staging"

SUCCESS, UNFINISHED = lines.SUCCESS, lines.UNFINISHED
"""The marks in a landing day's folder, which the load passes over."""


def landing(day: date) -> str:
    """The folder of a landing day's files."""
    return f"{LANDING}{day}"


def accepted(day: date, load_id: str) -> str:
    """The folder of the Parquet files that a load accepted."""
    return f"{ACCEPTED}{day}/{load_id}"


def rejected(day: date, load_id: str) -> str:
    """The folder of the JSON lines that a load rejected."""
    return f"{REJECTED}{day}/{load_id}"


def manifest(day: date, load_id: str) -> str:
    """The object with a load's counters."""
    return f"{LOADS}{day}/{load_id}.json"


def template(version: str, pipeline: str) -> str:
    """The Flex Template of a pipeline, of a deployed version."""
    return f"templates/{version}/{pipeline}.json"
