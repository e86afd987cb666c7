"""The shop by hand: look at a file, land it, load a day, ask the stores."""

from __future__ import annotations

import math
import os
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, spanner, storage

from beam_jobs.contract import NAMES_SHOWN, ContractError, first_event_day
from beam_jobs.lines import is_events_file
from local.stack.airflow_client import AirflowClient, RunFailed
from local.stack.emulators import NotReady
from shopstream.landing.judge import DAYS_TOLD, Landed
from shopstream.landing.split import is_part, open_export, split, stem_of
from shopstream.layout import EXPORTS, SUCCESS, landing
from shopstream.load.landed import describe_missing, landed_objects
from shopstream.load.place import place
from shopstream.rounding import percent, rounded
from shopstream.settings import settings

MAX_BYTES_BILLED = 20 * 2**30
"""Of one statement by hand, so that a slip over the raw tables of a year costs nothing."""

DAY_FILES = (".csv", ".csv.gz")
"""How a file's name may end that is landed as it is, as all of a day."""
_REJECTS = """
SELECT
    reason,
    SUM(lines) AS lines,
    MIN_BY(file, byte_offset) AS file,
    MIN(byte_offset) AS byte_offset,
    MIN_BY(raw, byte_offset) AS raw
FROM shop.rejected_events
WHERE rejected_date >= '0001-01-01' AND source = 'batch' AND load_id IN UNNEST(@load_ids)
GROUP BY reason
ORDER BY lines DESC, reason
"""

Progress = Callable[[str], None]


def clients() -> tuple[spanner.Client, bigquery.Client, storage.Client]:
    """Clients of what the environment names: emulators, or Google's services as who is logged in."""
    project, emulator = os.environ["SHOPSTREAM_PROJECT"], os.environ.get("BIGQUERY_EMULATOR_HOST")
    credentials = AnonymousCredentials() if emulator else None
    return (
        spanner.Client(project=project, credentials=credentials),
        bigquery.Client(
            project=project,
            credentials=credentials,
            location=settings().region,
            client_options=ClientOptions(api_endpoint=emulator) if emulator else None,
        ),
        storage.Client(project=project, credentials=credentials),
    )


def look(file: Path, *, times_are_utc: bool = False) -> Landed:
    """Judge a file as `land_export` does, without landing it.

    Raises:
        ContractError: no day would be landed; the message says why and what to do.
    """
    with file.open("rb") as stored, open_export(stored, str(file)) as source:
        nowhere = Path(os.devnull)
        return split(source, str(file), lambda *_: nowhere.open("wb"), lambda *_: None, times_are_utc)


def describe(landed: Landed, day: date | None = None) -> list[str]:
    """What is in a file, in lines for a person: its days and rows, what is translated, what is rejected.

    With a `day` it is to be all of that landing day, and else of the days of its events.
    """
    first = sorted(landed.rows.items())[:8]
    days = ", ".join(counted("{day} ({rows:,} rows)", day=day, rows=rows) for day, rows in first)
    more = f" and {len(landed.rows) - 8} more" if len(landed.rows) > 8 else ""
    whole = counted("{rows:,} rows of {days:,} days: ", rows=landed.rows.total(), days=len(landed.rows))
    return [
        whole + days + more,
        *(f"translated to plain CSV: {what}" for what in landed.translated),
        *(f"the load will reject {share}" for share in (as_day(landed, day) if day else landed).shares()),
    ]


def as_day(landed: Landed, day: date) -> Landed:
    """What a file comes to as all of one landing day: events too late for it, or after it, are rejected."""
    reasons = sum(landed.rejected.values(), Counter[str]())
    for event_day, rows in landed.rows.items():
        good = rows - landed.rejected.get(event_day, Counter()).total()
        if event_day > day:
            reasons["after_landing_day"] += good
        elif event_day < first_event_day(day):
            reasons["too_late"] += good
    rejected = {day: +reasons} if reasons.total() else {}
    return Landed(Counter({day: landed.rows.total()}), rejected, landed.translated)


def counted(text: str, /, **values: Any) -> str:
    """Format a text as str.format does; what {count:,} counts loses its s if it is one: 1 row, not 1 rows."""
    counts = re.compile(r"(\{(\w+):,\} [\w{}]+)s\b")
    singular = counts.sub(lambda found: found[1] if values[found[2]] == 1 else found[0], text)
    return _HalfUp().vformat(singular, (), values)


class _HalfUp(string.Formatter):
    """As str.format, but halves are rounded up; see shopstream.rounding."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if found := re.fullmatch(r",?\.(\d+)([f%])", format_spec):
            value = rounded(value, int(found[1]) + (2 if found[2] == "%" else 0))
        return str(super().format_field(value, format_spec))


def to_be_asked(landed: Landed) -> list[str]:
    """Say of which days the load will stop at its gate, if this file is all of them.

    The share that nobody is asked about is that of the shop that is meant, SHOPSTREAM_MAX_REJECTED_SHARE.
    """
    most = settings().max_rejected_share
    asked, refused = [], []
    for day, reasons in sorted(landed.rejected.items()):
        if reasons.total() == landed.rows[day]:
            refused.append(day)
        elif reasons.total() > most * landed.rows[day]:
            asked.append(day)

    def told(days: list[date]) -> str:
        more = f" and {len(days) - DAYS_TOLD:,} days more" if len(days) > DAYS_TOLD else ""
        return ", ".join(map(str, days[:DAYS_TOLD])) + more

    return [
        f"{said} {told(days)}"
        for said, days in (
            (f"above {percent(most, 2)}, so that the load will ask you whether to publish the day:", asked),
            ("not a line to accept, so that the load will refuse the day:", refused),
        )
        if days
    ]


def neighbours(bucket: storage.Bucket, file: Path, landed: Landed, project: str = "") -> list[str]:
    """Say which days of an export, before it is landed, hold files that a load would read beside its own.

    `project` is what make is to be told besides, if it is not the local stack's bucket.
    """
    told, remedy = [], "To replace what another file has landed, use that file's name."
    if len(landed.rows) == 1 and not landed.translated and file.name.endswith(DAY_FILES):
        command = f"make put FILE=... DAY={min(landed.rows)} REPLACE=1{project}"
        remedy = f"To have the day hold this file alone: {command}"
    for day in sorted(landed.rows):
        names = [PurePosixPath(blob.name).name for blob in bucket.list_blobs(prefix=f"{landing(day)}/")]
        others = [n for n in names if is_events_file(n) and not is_part(n, stem_of(file.name))]
        if others:
            more = f" and {len(others) - NAMES_SHOWN:,} more" if len(others) > NAMES_SHOWN else ""
            told.append(
                f"{day} already holds {', '.join(others[:NAMES_SHOWN])}{more}; this adds to it. {remedy}"
            )
    more_days = [f"and so {len(told) - DAYS_TOLD:,} days more"] if len(told) > DAYS_TOLD else []
    return [*told[:DAYS_TOLD], *more_days]


def land_export(
    airflow: AirflowClient,
    bucket: storage.Bucket,
    file: Path,
    progress: Progress,
    *,
    times_are_utc: bool = False,
) -> dict[str, Any]:
    """Upload a file as an export and let the DAG split it into landing days; returns what the DAG does.

    Raises:
        RunFailed: the DAG refused it; the message says why.
    """
    name = f"{EXPORTS}{file.name}"
    bucket.blob(name).upload_from_filename(file)
    progress(f"uploaded {file} as gs://{bucket.name}/{name}")
    run_id = _follow(airflow, "land_export", {"object": name, "times_are_utc": times_are_utc}, progress)
    landed: dict[str, Any] = airflow.returned("land_export", run_id, "split_into_days")
    return landed


def land_day(
    bucket: storage.Bucket, file: Path, day: date, landed: Landed, *, replace: bool = False
) -> list[str]:
    """Land one plain or gzip CSV file, as it is, as all of a landing day; returns what came of it, in lines.

    `landed` is what `look` finds in it. With `replace` the day's other files are deleted.

    Raises:
        ContractError: it is no such file, or the day has other files, which a load would read too.
    """
    if not file.name.endswith(DAY_FILES):
        raise ContractError(
            f"{file}: a landing day has files *.csv and *.csv.gz; others are landed without DAY=."
        )
    if landed.translated:
        raise ContractError(
            f"{file}: with DAY= a file is landed as it is, and this one must be translated: "
            f"{'; '.join(landed.translated)}. Land it without DAY=."
        )
    name, success = f"{landing(day)}/{file.name}", f"{landing(day)}/{SUCCESS}"
    held = {blob.name: blob for blob in bucket.list_blobs(prefix=f"{landing(day)}/")}
    foreign = sorted(held.keys() - {name, success})
    if foreign and not replace:
        raise ContractError(
            f"gs://{bucket.name}/{landing(day)}/ holds other files, which a load would read too: "
            f"{', '.join(foreign)}. To delete them: REPLACE=1. To add to them, land the file without DAY=."
        )
    # The mark goes first, so that no load takes the day as it is meanwhile for whole; the others go last, so
    # that an upload that fails loses nothing.
    if success in held:
        held[success].delete()
    bucket.blob(name).upload_from_filename(file)
    for other in foreign:
        held[other].delete()
    bucket.blob(success).upload_from_string(b"")
    return [
        *(f"deleted gs://{bucket.name}/{other}" for other in foreign),
        f"landed as gs://{bucket.name}/{name}"
        f"{', in place of the one there' if name in held else ''}, and the day marked complete",
    ]


def refuse_unlanded(bucket: storage.Bucket, day: date) -> None:
    """Do nothing if a day is landed whole.

    Raises:
        ContractError: it is not; the message says what its folder holds, and how to land it.
    """
    found = landed_objects(bucket.client, bucket.name, day)
    if SUCCESS not in found:
        raise ContractError(f"{describe_missing(bucket.name, day, found)} By hand: make put FILE=events.csv")


def load(
    airflow: AirflowClient, day: date, progress: Progress, timeout_seconds: float = math.inf
) -> dict[str, Any]:
    """Load a landing day and follow the run to its end; returns its row of shop_ops.loads.

    Raises:
        RunFailed: it failed, or did not end in time; the message has the reason.
    """
    run_id = _follow(airflow, "load_events_daily", {"landing_day": str(day)}, progress, timeout_seconds)
    loaded = airflow.returned("load_events_daily", run_id, "wait_for_load")
    names, rows = ask_bigquery(
        "SELECT * FROM shop_ops.loads WHERE landing_day = @day AND load_id = @load_id",
        [
            bigquery.ScalarQueryParameter("day", "DATE", day),
            bigquery.ScalarQueryParameter("load_id", "STRING", loaded["load_id"]),
        ],
    )
    for row in rows:
        return dict(zip(names, row, strict=True))
    raise RunFailed(f"load_events_daily {run_id} has left no row in shop_ops.loads.")


def build_summaries(airflow: AirflowClient, first_day: date, last_day: date, progress: Progress) -> None:
    """Build the summaries of loaded days anew, and follow the run to its end.

    Raises:
        RunFailed: it failed; the message has the reason.
    """
    days = {"first_day": str(first_day), "last_day": str(last_day)}
    _follow(airflow, "build_summaries", {**days, "dry_run": False}, progress)


def _follow(
    airflow: AirflowClient,
    dag_id: str,
    conf: dict[str, Any],
    progress: Progress,
    timeout_seconds: float = math.inf,
) -> str:
    """Start a run and wait for its success; returns its id.

    By default however long that takes: a question waits for a day, a load may take half of one, and Airflow
    ends each.
    """
    run_id = airflow.trigger(dag_id, conf)
    page = airflow.page_of(dag_id, run_id)
    try:
        progress(f"{dag_id}: {page}")
        if airflow.is_paused(dag_id):
            progress(f"{dag_id} is paused; the run waits until it is not")
        airflow.wait_for_success({(dag_id, run_id): dag_id}, progress, timeout_seconds)
    except KeyboardInterrupt:
        progress(f"The run goes on: {page}")
        raise
    return run_id


def rejects(load_ids: Sequence[str]) -> list[tuple[str, int, str]]:
    """Why lines of loads were rejected: reason, lines, the place of one, the most frequent first."""
    _, rows = ask_bigquery(_REJECTS, [bigquery.ArrayQueryParameter("load_ids", "STRING", load_ids)])
    client = clients()[2]
    return [
        (reason, lines, place(client, file, offset, raw).rpartition("/events/")[2])
        for reason, lines, file, offset, raw in rows
    ]


def ask_bigquery(
    sql: str, parameters: Sequence[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter] = ()
) -> tuple[list[str], Iterator[Sequence[Any]]]:
    """The column names and the rows of a query in BigQuery; it costs at most MAX_BYTES_BILLED.

    Raises:
        NotReady: the statement is no query; nothing was run.
    """
    config = bigquery.QueryJobConfig(query_parameters=list(parameters), maximum_bytes_billed=MAX_BYTES_BILLED)
    looked = bigquery.QueryJobConfig(query_parameters=list(parameters), dry_run=True)
    if (kind := clients()[1].query(sql, job_config=looked).statement_type) != "SELECT":
        raise NotReady(f"This only reads, and the statement is a {kind}: nothing was run. Give one query.")
    result = clients()[1].query(sql, job_config=config).result()
    return [column.name for column in result.schema], (row.values() for row in result)


def ask_spanner(sql: str) -> tuple[list[str], Iterator[Sequence[Any]]]:
    """The column names and the rows of a query in Spanner; it only reads."""
    env = settings()
    database = clients()[0].instance(env.spanner_instance).database(env.spanner_database)

    def rows() -> Iterator[Sequence[Any]]:
        with database.snapshot() as snapshot:
            result = snapshot.execute_sql(sql)
            found = iter(result)
            first = list(islice(found, 1))  # The names of the columns come with it.
            yield [field.name for field in result.fields]
            yield from first
            yield from found

    answered = rows()
    return list(next(answered)), answered
