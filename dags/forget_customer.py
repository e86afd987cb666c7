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
nothing. Cleared from `rewrite_landed` on, it does not ask again. Its last task deletes the list: after that
nothing of it can be run again; upload the list and trigger a new run.

### When it fails
Each message says what is left, and what to do. Objects that are not understood are named, and all others in
the same folders are done; correct or delete them and clear it. `delete_in_bigquery` looks again every ten
minutes while BigQuery refuses rows that insertAll wrote within 30 minutes. `await_loads` and `await_runs`
wait for what may have read somebody before; `prove` fails if it has brought somebody back. A load between
its job and its audit row refuses to publish: load its day again.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from shopstream.days import dry_run_param
from shopstream.defaults import DAG_DEFAULTS
from shopstream.forget import tasks
from shopstream.layout import LIST_PATTERN, USER_ID_PATTERN
from shopstream.lineage import lineage
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
            expected="digits alone, such as 520088904",
            pattern=USER_ID_PATTERN,
            title="User id",
            description="One customer, such as 520088904. Airflow keeps it with the run; a list does not.",
        ),
        "customers": Param(
            None,
            type=["null", "string"],
            expected="forget/ and a name of letters, digits, dots and dashes, such as forget/2019-11-08.txt",
            pattern=LIST_PATTERN,
            title="List",
            description="Instead: an object of the bucket with one user_id a line, at most 1,000, such as "
            "forget/2019-11-08.txt. It is deleted at the end.",
        ),
        "dry_run": dry_run_param("count in every store."),
    },
    tags=[Tag.BATCH, Tag.STREAM],
)
def forget_customer() -> None:
    reads: dict[str, Any] = {"execution_timeout": timedelta(hours=4), "retries": 2}
    in_parts = reads | {"max_active_tis_per_dagrun": 4}
    whom: Any = task(multiple_outputs=False)(tasks.read_whom)()
    files: Any = task(tasks.divide_files)()

    def count_everywhere(suffix: str = "") -> tuple[list[Any], Any]:
        def named(body: Any) -> Any:
            return task(task_id=body.__name__ + suffix, multiple_outputs=False, **in_parts)(body)

        in_stores = [named(body)(whom) for body in (tasks.count_in_spanner, tasks.count_in_bigquery)]
        return in_stores, named(tasks.count_in_files).partial(whom=whom).expand(part=files)

    counted: Any = task(multiple_outputs=False)(tasks.count)(whom, *count_everywhere())
    approve = tasks.Approve(task_id="approve", counted=counted)
    landed = task(**in_parts)(tasks.rewrite_landed).partial(counted=counted, approval=approve.output)
    waited = task(tasks.await_loads)(landed.expand(part=files))
    loaded = task(**in_parts)(tasks.rewrite_loaded).partial(counted=counted).expand(part=files)
    deletes = (tasks.delete_in_spanner, tasks.delete_in_bigquery)
    deleted = [task(**reads)(delete)(counted) for delete in deletes]
    left_in_stores, left_in_files = count_everywhere("_again")
    proved: Any = task(tasks.prove)(left_in_stores, left_in_files)
    made = lineage("shop_ops.forgotten_customers")
    audited = task(multiple_outputs=False, **made)(tasks.write_audit_rows)(counted, approve.output, proved)
    whom >> files
    counted >> task.short_circuit(tasks.is_real)() >> approve
    waited >> loaded >> deleted >> task(tasks.await_runs)() >> [*left_in_stores, left_in_files]
    audited >> task(tasks.delete_list)(counted)


forget_customer()
