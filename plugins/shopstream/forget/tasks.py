"""The tasks of forget_customer: whom it is about, each reads anew, so that no XCom holds a user_id.

Each may be repeated.
"""

# Google's clients take seconds to import, which parsing a DAG file should not: so the tasks import them.
from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRescheduleException

from beam_jobs.pseudonyms import pseudonyms_by
from shopstream.days import is_real
from shopstream.forget.customers import Customers, read_customers, read_key
from shopstream.forget.question import Approve
from shopstream.gcp.clients import bigquery_client, spanner_database, storage_client
from shopstream.questions import Approval
from shopstream.retries import Refused
from shopstream.settings import settings
from shopstream.tables.folder import all_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Approve",
    "await_loads",
    "count",
    "delete_in_bigquery",
    "delete_in_spanner",
    "is_real",
    "prove",
    "rewrite_landed",
    "rewrite_loaded",
    "write_audit_rows",
]

STREAMED_PAUSE = timedelta(minutes=10)

log = logging.getLogger(__name__)


def count(**context: Any) -> dict[str, Any]:
    """Count in every store what would be forgotten; changes nothing.

    Returns:
        {"customers": how many, "generation": of their list or None, "found": {store: rows or lines}}

    Raises:
        Refused: the form does not say whom, a store is not understood, or of a real run the key is not there.
    """
    if not context["params"]["dry_run"]:
        # Before anybody is asked.
        read_key(settings().forget_key)
    customers = read_customers(storage_client(), settings().bucket, context["params"])
    found = _count_all(customers)
    log.info("%d customers are found in\n%s", len(customers.ids), _told(found))
    return {"customers": len(customers.ids), "generation": customers.generation, "found": found}


def rewrite_landed(counted: Mapping[str, Any], approval: dict[str, str], **context: Any) -> str:
    """Write landing files and exports anew without them; returns when none was left as it had been."""
    from shopstream.forget.files import LANDED

    _rewrite(LANDED, _customers(counted, context))
    return datetime.now(UTC).isoformat()


def await_loads(rewritten_at: str) -> None:
    """Wait until no load runs that may have read a landing file as it was before.

    Raises:
        AirflowRescheduleException: there is one; Airflow runs the task again.
    """
    from shopstream.gcp.dataflow import DataflowHook, created
    from shopstream.load.launch import JOB_PREFIX

    running = [
        job["name"]
        for job in DataflowHook().active_jobs_like(JOB_PREFIX)
        if created(job) <= datetime.fromisoformat(rewritten_at)
    ]
    if running:
        log.info("These loads may have read landing files as they were before: %s.", ", ".join(running))
        raise AirflowRescheduleException(datetime.now(UTC) + timedelta(seconds=settings().job_look_seconds))


def rewrite_loaded(counted: Mapping[str, Any], **context: Any) -> None:
    """Write accepted and rejected files anew without them."""
    from shopstream.forget.files import LOADED

    _rewrite(LOADED, _customers(counted, context))


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


def prove(counted: Mapping[str, Any], **context: Any) -> str:
    """Count again in every store; returns when there was nothing left.

    Raises:
        Refused: there is something; the message says where, and how much.
    """
    found = {store: number for store, number in _count_all(_customers(counted, context)).items() if number}
    if found:
        raise Refused(
            f"There is still something of them in\n{_told(found)}\nA load or an export that was under way, "
            "or the shop itself, has brought it back. Once these have ended, clear the run from "
            "rewrite_landed on."
        )
    log.info("Every store was counted again, and holds nothing of them.")
    return datetime.now(UTC).isoformat()


def write_audit_rows(
    counted: Mapping[str, Any], approval: dict[str, str], proved_at: str, **context: Any
) -> list[str]:
    """Write the audit rows, delete the list of the customers, and say what stays and until when."""
    from shopstream.forget.audit import what_stays, write_rows

    customers, proved = _customers(counted, context), datetime.fromisoformat(proved_at)
    write_rows(
        bigquery_client(),
        context["dag_run"].run_id,
        customers,
        read_key(settings().forget_key),
        counted["found"],
        Approval(**approval),
        proved,
    )
    name = context["params"]["customers"]
    if name is not None:
        blob = storage_client().bucket(settings().bucket).blob(name)
        blob.delete(if_generation_match=customers.generation)
    stays = what_stays(proved, name)
    log.info("It is done. What stays, and until when:\n%s", "\n".join(stays))
    return stays


def _customers(counted: Mapping[str, Any], context: Mapping[str, Any]) -> Customers:
    """Whom the run is about, as it has counted them."""
    return read_customers(storage_client(), settings().bucket, context["params"], counted["generation"])


def _ids(customers: Customers) -> frozenset[int]:
    """The user_ids of these customers, and the pseudonyms that they have by each key of today and before."""
    keys = filter(None, map(pseudonyms_by, settings().pseudonym_keys))
    return customers.ids.union(*(map(key.user, customers.ids) for key in keys))


def _count_all(customers: Customers) -> dict[str, int]:
    from shopstream.forget import files, stores

    ids = _ids(customers)
    spanner = stores.count_in_spanner(spanner_database(), ids)
    bigquery = stores.count_in_bigquery(bigquery_client(), _datasets(), ids)
    return {
        **{f"Spanner {table}": number for table, number in spanner.items()},
        **{f"BigQuery {table}": number for table, number in bigquery.items()},
        **{
            f"Cloud Storage {prefix}": files.count(storage_client(), settings().bucket, prefix, ids)
            for prefix in (*files.LANDED, *files.LOADED)
        },
    }


def _rewrite(prefixes: tuple[str, ...], customers: Customers) -> None:
    from shopstream.forget import files

    for prefix in prefixes:
        removed = files.rewrite(storage_client(), settings().bucket, prefix, _ids(customers))
        log.info("%s: %s lines or rows less.", prefix, f"{removed:,}")


def _datasets() -> set[str]:
    return {table.dataset for table in all_tables(settings().sql_dir)}


def _told(found: Mapping[str, int]) -> str:
    return "\n".join(f"  {store}: {number:,}" for store, number in found.items())
