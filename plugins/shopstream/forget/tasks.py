"""The tasks of forget_customer: whom it is about, each reads anew, so that no XCom holds a user_id.

Each may be repeated.
"""

# Google's clients take seconds to import, which parsing a DAG file should not: so the tasks import them.
from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException

from beam_jobs.pseudonyms import PseudonymKeyError, Pseudonyms, pseudonyms_by
from shopstream.days import NOTHING_CHANGED, is_dry_run, is_real
from shopstream.forget.customers import Customers, read_customers, read_key
from shopstream.forget.question import Approve
from shopstream.gcp.clients import bigquery_client, spanner_database, storage_client
from shopstream.questions import Approval
from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.tables.folder import all_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shopstream.forget.files import Part

__all__ = [
    "Approve",
    "await_loads",
    "await_runs",
    "count",
    "count_in_bigquery",
    "count_in_files",
    "count_in_spanner",
    "delete_in_bigquery",
    "delete_in_spanner",
    "delete_list",
    "divide_files",
    "is_real",
    "prove",
    "read_whom",
    "rewrite_landed",
    "rewrite_loaded",
    "write_audit_rows",
]

CLOCKS_APART = timedelta(minutes=1)
"""By so much the clock of a worker may be behind Dataflow's."""
BRINGING_BACK = (
    "build_summaries",
    "build_summaries_intraday",
    "land_export",
    "replay_rejected_events",
    "simulate_stream",
)
"""The DAGs whose runs write, into tables, files or the topic, what they have read of customers."""
STREAMED_PAUSE = timedelta(minutes=10)

log = logging.getLogger(__name__)


def read_whom(**context: Any) -> dict[str, Any]:
    """Read whom the run is about.

    Returns:
        {"customers": how many, "generation": of their list or None}

    Raises:
        Refused: the form does not say whom, a key of pseudonyms is not there, or of a real run the audit's.
    """
    # The keys, before anybody is asked.
    _pseudonyms()
    if not context["params"]["dry_run"]:
        read_key(settings().forget_key)
    customers = read_customers(storage_client(), settings().bucket, context["params"])
    log.info("Customers that this run is about: %d.", len(customers.ids))
    return {"customers": len(customers.ids), "generation": customers.generation}


def divide_files() -> list[Part]:
    """Return the parts in which the bucket's objects are looked at, each by a task with its own tries."""
    from shopstream.forget.files import parts

    found = parts(storage_client(), settings().bucket)
    log.info("Parts in which the files are looked at: %d.", len(found))
    return found


def count_in_spanner(whom: Mapping[str, Any], **context: Any) -> dict[str, int]:
    """Count what would be forgotten in Spanner; changes nothing. Returns rows by table.

    Raises:
        Refused: a store is not understood.
    """
    from shopstream.forget import stores

    found = stores.count_in_spanner(spanner_database(), _ids(_customers(whom, context)))
    return _counted("Spanner", found)


def count_in_bigquery(whom: Mapping[str, Any], **context: Any) -> dict[str, int]:
    """Count what would be forgotten in BigQuery, as count_in_spanner does in Spanner."""
    from shopstream.forget import stores

    found = stores.count_in_bigquery(bigquery_client(), _datasets(), _ids(_customers(whom, context)))
    return _counted("BigQuery", found)


def count_in_files(part: Part, whom: Mapping[str, Any], **context: Any) -> dict[str, int]:
    """Count what would be forgotten in a part of the files, as count_in_spanner does in Spanner."""
    from shopstream.forget import files

    ids, prefixes = _ids(_customers(whom, context)), (*files.LANDED, *files.LOADED)
    found = files.count(storage_client(), settings().bucket, prefixes, ids, part)
    return _counted("Cloud Storage", found, _told_part(part))


def count(
    whom: Mapping[str, Any],
    in_stores: Iterable[Mapping[str, int]],
    in_files: Iterable[Mapping[str, int]],
    **context: Any,
) -> dict[str, Any]:
    """Tell what was counted: {**whom, "found": {store: rows or lines}}."""
    found = _summed(in_stores, in_files)
    log.info("Customers: %d. Found of them:\n%s", whom["customers"], _told(found))
    after = NOTHING_CHANGED if is_dry_run(context) else "Somebody is asked before anything is changed."
    log.info("In all: %s rows or lines. %s", f"{sum(found.values()):,}", after)
    return {**whom, "found": found}


def rewrite_landed(part: Part, counted: Mapping[str, Any], approval: dict[str, str], **context: Any) -> str:
    """Write landing files and exports of one part anew without them; returns when it was done."""
    from shopstream.forget.files import LANDED

    _rewrite(part, LANDED, _customers(counted, context))
    return datetime.now(UTC).isoformat()


def await_loads(rewritten_at: Iterable[str]) -> None:
    """Wait until no load runs that may have read a landing file as it was before.

    Args:
        rewritten_at: when each part was written anew, ISO 8601.

    Raises:
        AirflowRescheduleException: there is one; Airflow runs the task again.
    """
    from shopstream.gcp.dataflow import DataflowHook, created
    from shopstream.load.launch import JOB_PREFIX

    rewritten = max(map(datetime.fromisoformat, rewritten_at))
    running = [
        job["name"]
        for job in DataflowHook().active_jobs_like(JOB_PREFIX)
        if created(job) <= rewritten + CLOCKS_APART
    ]
    if running:
        log.info("These loads may have read landing files as they were before: %s.", ", ".join(running))
        raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=settings().job_look_seconds))
    log.info("Loads under way that may have read landing files as they were before: 0.")


def rewrite_loaded(part: Part, counted: Mapping[str, Any], **context: Any) -> None:
    """Write accepted and rejected files of one part anew without them."""
    from shopstream.forget.files import LOADED

    _rewrite(part, LOADED, _customers(counted, context))


def delete_in_spanner(counted: Mapping[str, Any], **context: Any) -> None:
    """Delete their rows in Spanner."""
    from shopstream.forget import stores

    stores.delete_in_spanner(spanner_database(), _ids(_customers(counted, context)))


def delete_in_bigquery(counted: Mapping[str, Any], **context: Any) -> None:
    """Delete their rows in BigQuery.

    Raises:
        AirflowRescheduleException: some were streamed in too lately; Airflow runs the task again.
    """
    from shopstream.forget import stores

    try:
        stores.delete_in_bigquery(bigquery_client(), _datasets(), _ids(_customers(counted, context)))
    except stores.JustStreamed as error:
        log.info("%s Trying again in %s.", error, STREAMED_PAUSE)
        raise AirflowRescheduleException(datetime.now(UTC) + STREAMED_PAUSE) from error


def await_runs(**context: Any) -> None:
    """Wait until no run of BRINGING_BACK is under way, which may have read a customer before they went.

    Raises:
        AirflowRescheduleException: there is one; Airflow runs the task again.
    """
    running = [dag_id for dag_id in BRINGING_BACK if context["ti"].get_dr_count(dag_id, states=["running"])]
    if running:
        log.info("A run of each of these may have read them before: %s.", ", ".join(running))
        raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=settings().job_look_seconds))
    log.info("Runs under way that may have read them before: 0.")


def prove(in_stores: Iterable[Mapping[str, int]], in_files: Iterable[Mapping[str, int]]) -> str:
    """Look at what was counted again in every store; returns when there was nothing left.

    Raises:
        Refused: there is something; the message says where, and how much.
    """
    found = {store: number for store, number in _summed(in_stores, in_files).items() if number}
    if found:
        raise Refused(
            f"There is still something of them in\n{_told(found)}\nA load or an export that was under way, "
            "or the shop itself, has brought it back. Once these have ended, clear the run from "
            "rewrite_landed on."
        )
    log.info("Every store was counted again, and holds nothing of them: 0 rows or lines.")
    return datetime.now(UTC).isoformat()


def write_audit_rows(
    counted: Mapping[str, Any], approval: dict[str, str], proved_at: str, **context: Any
) -> list[str]:
    """Write the audit rows, and say what stays and until when."""
    from shopstream.forget.audit import what_stays, write_rows

    proved, run = datetime.fromisoformat(proved_at), context["dag_run"]
    write_rows(
        bigquery_client(),
        run.run_id,
        run.run_after.date(),
        _customers(counted, context),
        read_key(settings().forget_key),
        counted["found"],
        Approval(**approval),
        proved,
    )
    stays = what_stays(proved, context["params"]["customers"])
    log.info("What stays, and until when:\n%s", "\n".join(stays))
    log.info("It is done, and written down; customers forgotten: %d.", counted["customers"])
    return stays


def delete_list(counted: Mapping[str, Any], **context: Any) -> None:
    """Delete the list of the customers, the very one that was read, if it is still there."""
    from google.api_core.exceptions import NotFound, PreconditionFailed

    name, deleted = context["params"]["customers"], 0
    if name is not None:
        blob = storage_client().bucket(settings().bucket).blob(name)
        # One that was written anew is another run's.
        with suppress(NotFound, PreconditionFailed):
            blob.delete(if_generation_match=counted["generation"])
            deleted = 1
    log.info("Lists that are deleted: %d.", deleted)


def _customers(counted: Mapping[str, Any], context: Mapping[str, Any]) -> Customers:
    """Whom the run is about, as it has counted them."""
    return read_customers(storage_client(), settings().bucket, context["params"], counted["generation"])


def _ids(customers: Customers) -> frozenset[int]:
    """The user_ids of these customers, and the pseudonyms that they have by each key of today and before."""
    return customers.ids.union(*(map(key.user, customers.ids) for key in _pseudonyms()))


def _pseudonyms() -> list[Pseudonyms]:
    """Those of each key of today and before.

    Raises:
        Refused: a key is not there, or is none.
    """
    try:
        return list(filter(None, map(pseudonyms_by, settings().pseudonym_keys)))
    except PseudonymKeyError as error:
        raise Refused(f"SHOPSTREAM_PSEUDONYM_KEYS: {error}") from error


def _counted(store: str, found: Mapping[str, int], part: str = "") -> dict[str, int]:
    log.info("%s, rows or lines of them that were found: %s.", part or store, f"{sum(found.values()):,}")
    return {f"{store} {place}": number for place, number in found.items()}


def _summed(*counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found = Counter[str]()
    for part in chain(*counts):
        found.update(part)
    return dict(found)


def _rewrite(part: Part, prefixes: tuple[str, ...], customers: Customers) -> None:
    from shopstream.forget import files

    removed = files.rewrite(storage_client(), settings().bucket, prefixes, _ids(customers), part)
    log.info("Without them, lines or rows:\n%s", _told(removed))
    log.info("%s is written anew, lines or rows gone: %s.", _told_part(part), f"{sum(removed.values()):,}")


def _told_part(part: Part) -> str:
    return f"Part {part[0] + 1} of {part[1]} of the files"


def _datasets() -> set[str]:
    return {table.dataset for table in all_tables(settings().sql_dir)}


def _told(found: Mapping[str, int]) -> str:
    return "\n".join(f"  {store}: {number:,}" for store, number in found.items())
