"""How old the oldest unacknowledged message of a stream is, as its driver tells while it runs.

A driver calls `tell` between its batches, at least once a second; the local Dataflow reads the answer for the
metric oldest_unacked_message_age. See docs/adr/0008-desired-state-and-health.md.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from local.dataflow.worker import JOB_DIR_VARIABLE, write_json

BACKLOG_FILE = "backlog.json"


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver told: the publish time of the oldest message it held, None if it held none, and when."""

    oldest: datetime | None
    at: datetime


def tell(oldest: datetime | None) -> None:
    """Tell the publish time of the oldest message held and not yet acknowledged, None if there is none.

    Does nothing where no job's folder is named, as in a driver run by hand.
    """
    if folder := os.environ.get(JOB_DIR_VARIABLE):
        content = {"oldest": oldest and oldest.isoformat(), "at": datetime.now(UTC).isoformat()}
        write_json(Path(folder) / BACKLOG_FILE, content)


def read(job_dir: Path) -> Told | None:
    """What the job's driver told last, None if it has told nothing."""
    try:
        content = json.loads((job_dir / BACKLOG_FILE).read_text())
    except FileNotFoundError:
        return None
    oldest = content["oldest"] and datetime.fromisoformat(content["oldest"])
    return Told(oldest or None, datetime.fromisoformat(content["at"]))
