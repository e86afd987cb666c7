"""
### Purpose
Take a customer, or a list of them, out of every store: Spanner, all tables and summaries of BigQuery that
have a user_id or a rejected line, landing, accepted and rejected files, and exports. A dry run only counts. A
real run counts, asks a person (*Required Actions*), rewrites and deletes, counts again, fails if anything is
left, writes `shop_ops.forgotten_customers`, which names nobody, and says what stays and until when.

Prefer a list, an object such as `forget/2019-11-08.txt` with one user_id a line, which the run deletes at
its end: a user_id in the form stays in Airflow's database. The shop must have stopped sending the events.

### How to rerun
Clear the run from any task on, or trigger it anew: what is gone is not found again, and a second run changes
nothing. Cleared from `rewrite_landed` on, it does not ask again.

### When it fails
Each message says what is left, and what to do. An object that is not understood is named, and all others are
done. `delete_in_bigquery` looks again every ten minutes while rows were streamed in within the last 30 to 90
minutes. `prove` fails if a load or an export that was under way has brought something back. A load that was
between its job and its audit row refuses to publish: load its day again.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from shopstream.defaults import DAG_DEFAULTS
from shopstream.forget import tasks
from shopstream.layout import LIST_PATTERN, USER_ID_PATTERN
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Take customers out of every store",
    schedule=None,
    max_active_runs=1,
    # The question's 24 hours, and all files read four times, with retries.
    dagrun_timeout=timedelta(days=5),
    params={
        "user_id": Param(
            None,
            type=["null", "string"],
            pattern=USER_ID_PATTERN,
            title="User id",
            description="One customer, such as 520088904. Airflow keeps it with the run; a list does not.",
        ),
        "customers": Param(
            None,
            type=["null", "string"],
            pattern=LIST_PATTERN,
            title="List",
            description="Instead: an object of the bucket with one user_id a line, at most 1,000, such as "
            "forget/2019-11-08.txt. It is deleted at the end.",
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description="Change nothing, only count in every store.",
        ),
    },
    tags=[Tag.BATCH, Tag.STREAM],
)
def forget_customer() -> None:
    reads_all = {"execution_timeout": timedelta(hours=4), "retries": 2}
    counted: Any = task(multiple_outputs=False, **reads_all)(tasks.count)()
    approve = tasks.Approve(task_id="approve", counted=counted)
    approval: Any = approve.output
    landed = task(**reads_all)(tasks.rewrite_landed)(counted, approval)
    waited = task(tasks.await_loads)(landed)
    loaded = task(**reads_all)(tasks.rewrite_loaded)(counted)
    deleted = [task(tasks.delete_in_spanner)(counted), task(tasks.delete_in_bigquery)(counted)]
    proved: Any = task(**reads_all)(tasks.prove)(counted)
    audited = task(multiple_outputs=False)(tasks.write_audit_rows)(counted, approval, proved)
    counted >> task.short_circuit(tasks.is_real)() >> approve
    waited >> loaded >> deleted >> proved >> audited


forget_customer()
