"""The kept rejects that no replay has sent yet, read from BigQuery, and the row that tells what one sent."""

# ruff: noqa: S608
# Only names from our own code become part of a statement; values are query parameters.

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from beam_jobs.contract import ContractError
from beam_jobs.lines import decompressed, read_header
from shopstream.gcp.bigquery import get_table, run
from shopstream.gcp.storage import open_object
from shopstream.replay.judge import Kept, Tally, judge_lines, judge_messages
from shopstream.tables.day import replace_row
from shopstream.tables.limits import limit_of_tables
from shopstream.tables.names import BATCH, REJECTED_EVENTS_BATCH, REJECTED_EVENTS_STREAM, REPLAYS, STREAM

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.storage import Client as StorageClient

REJECTS_AT_ONCE = 1_000
"""Of up to 65,536 bytes each. So many are judged, sent and written down: a task that is killed sends at most
these again."""
HEADER_CHUNK_BYTES = 2**18

log = logging.getLogger(__name__)

_TABLES = {BATCH: REJECTED_EVENTS_BATCH, STREAM: REJECTED_EVENTS_STREAM}
# What a replay closes. A message may have been delivered, and so rejected, more than once.
_CLOSING = {BATCH: "load_id", STREAM: "COALESCE(message_id, TO_HEX(SHA256(raw)))"}
_ONCE = {
    BATCH: "",
    STREAM: f"QUALIFY ROW_NUMBER() OVER (PARTITION BY {_CLOSING[STREAM]} ORDER BY rejected_at DESC) = 1",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was asked for: whose rejects (BATCH or STREAM), of which reason (None: all), and by whom."""

    source: str
    reason: str | None
    run_id: str
    by: str | None = None


def open_days(client: Client, asked: Asked, first_day: dt.date, last_day: dt.date) -> list[dt.date]:
    """Return the days between two, in order, that have rejects which no replay has sent."""
    sql = f"""
        SELECT DISTINCT rejected_date
        FROM {_TABLES[asked.source]}
        WHERE {_open(asked)} AND rejected_date BETWEEN @first_day AND @last_day
        ORDER BY rejected_date"""
    return [row.rejected_date for row in _read(client, sql, asked, first_day, last_day)]


def judge_day(
    client: Client, storage: StorageClient, asked: Asked, day: dt.date
) -> Iterator[tuple[list[Kept], list[str]]]:
    """Yield the day's rejects that no replay has sent, with verdicts, at most REJECTS_AT_ONCE at a time.

    Those of a load are also yielded to the run that has sent them itself, which then repeats what it did.
    """
    columns_of = cache(partial(_columns, storage))
    for kept in _open_rejects(client, asked, day):
        if asked.source == STREAM:
            yield kept, judge_messages(kept, asked.reason)
            continue
        of_files: dict[str, list[Kept]] = {}
        for reject in kept:
            of_files.setdefault(reject.file or "", []).append(reject)
        for file, rejects in of_files.items():
            yield rejects, judge_lines(rejects, columns_of(file), day, asked.reason)


def write_replay(
    client: Client,
    asked: Asked,
    day: dt.date,
    tally: Tally,
    reject_ids: Sequence[str],
    load_run_id: str | None = None,
) -> None:
    """Write the row of shop_ops.replays that tells what was sent, and so closes it."""
    row = {
        "rejected_date": day,
        "source": asked.source,
        "run_id": asked.run_id,
        "replayed_at": dt.datetime.now(dt.UTC),
        "replayed_by": asked.by,
        "reason": asked.reason,
        "judged": tally.judged,
        "passed": tally.passed,
        "verdicts": json.dumps(tally.verdicts, sort_keys=True),
        "reject_ids": list(reject_ids),
        "load_run_id": load_run_id,
    }
    # Messages are sent in parts, each with a row of its own; a load is triggered once.
    keys = ("rejected_date", "source", "run_id") + (("replayed_at",) if asked.source == STREAM else ())
    replace_row(client, REPLAYS, row, keys, job_id_prefix="replay")


def _open(asked: Asked) -> str:
    """The condition that a reject is of the wanted reason, and sent by no run; of a load, by no other run."""
    others = "AND run_id != @run_id" if asked.source == BATCH else ""
    return f"""(@reason = '' OR reason = @reason)
            AND {_CLOSING[asked.source]} NOT IN (
                SELECT reject_id
                FROM {REPLAYS}, UNNEST(reject_ids) AS reject_id
                WHERE rejected_date BETWEEN @first_day AND @last_day AND source = @source {others}
            )"""


def _read(client: Client, sql: str, asked: Asked, first_day: dt.date, last_day: dt.date) -> Any:
    params = {
        "first_day": first_day,
        "last_day": last_day,
        "reason": asked.reason or "",
        "source": asked.source,
        **({"run_id": asked.run_id} if asked.source == BATCH else {}),
    }
    limit = limit_of_tables(*(get_table(client, name) for name in (_TABLES[asked.source], REPLAYS)))
    job = run(client, sql, params, job_id_prefix="open-rejects", maximum_bytes_billed=limit)
    return job.result(page_size=REJECTS_AT_ONCE)


def _kept(row: Any) -> Kept:
    if row.lines > 1:
        # line_bytes are the range's. Of its first line all bytes are there, unless it was too long, or none,
        # if it was a customer's who was forgotten.
        is_whole = row.reason != "line_too_long" and bool(row.raw)
    else:
        is_whole = row.line_bytes is not None and len(row.raw) >= row.line_bytes
    return Kept(row.closing, row.reason, row.raw, is_whole, row.lines, row.file)


def _open_rejects(client: Client, asked: Asked, day: dt.date) -> Iterator[list[Kept]]:
    sql = f"""
        SELECT {_CLOSING[asked.source]} AS closing, reason, raw, line_bytes, COALESCE(lines, 1) AS lines, file
        FROM {_TABLES[asked.source]}
        WHERE {_open(asked)} AND rejected_date BETWEEN @first_day AND @last_day
        {_ONCE[asked.source]}"""
    rows = iter(_read(client, sql, asked, day, day))
    while kept := [_kept(row) for row in islice(rows, REJECTS_AT_ONCE)]:
        yield kept


def _columns(storage: StorageClient, file: str) -> tuple[str, ...] | None:
    """Return the columns of a landing file in their order; None if it is gone, or does not tell them."""
    bucket, _, name = file.removeprefix("gs://").partition("/")
    if not name:
        return None
    try:
        with (
            open_object(storage.bucket(bucket), name, chunk_bytes=HEADER_CHUNK_BYTES) as (stored, encoding),
            decompressed(stored, file, encoding) as text,
        ):
            return read_header(text, file).columns
    except ContractError as error:
        log.warning("The rejects of a file are not judged: %s", error)
        return None
