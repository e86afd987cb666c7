"""
### Purpose
Split an export, such as a month's file from Kaggle, into landing days:
`landing/events/<day>/<export>-<part>.csv` and, once all days are whole, `_SUCCESS` in each. Upload the
export to `exports/` first; it is read as a stream, so its size does not matter (.csv, .csv.gz, or a .zip
with one .csv and nothing else inside).

Each line is judged by the rules of the load. If no line of the beginning is an event, the export is refused
at once, with the reason and what to do. Else the log and the task's result say by day which lines will be
rejected, and why. What a header makes certain is translated, and said: `;` (with decimal commas) or tabs as
separators, a first column without a name.

Then load the days: `backfill_days` from the first day to the last.

### How to rerun
Trigger it again with the same export, or clear the task: the same parts are written again, and those that
an earlier run of this export left are deleted. Days already loaded must be loaded again only if the export
changed.

### When it fails
The export's days have no `_SUCCESS`, so no load reads half a day; loads of other days are not touched.
Another export does not complete such a day as long as it has `_UNFINISHED-<export>`: land the one that broke
off again, or delete its parts and these marks. An error about the export itself (damaged, wrong columns) is
not retried and says what to correct.
"""

from datetime import timedelta

from airflow.sdk import Param, dag, task

from shopstream.defaults import DAG_DEFAULTS
from shopstream.landing import tasks
from shopstream.layout import EXPORT_PATTERN, EXPORTS, LANDING, MAX_OBJECT_CHARS
from shopstream.lineage import lineage
from shopstream.tags import Tag


@dag(
    **DAG_DEFAULTS,
    doc_md=__doc__,
    description="Split an export into landing days",
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=26),
    params={
        "object": Param(
            type="string",
            expected="exports/ and a name that ends in .csv, .csv.gz or .zip",
            pattern=EXPORT_PATTERN,
            maxLength=MAX_OBJECT_CHARS,
            title="Export",
            description="The object in the bucket, such as exports/2019-Nov.csv.zip: .csv, .csv.gz, or .zip "
            "with one .csv and nothing else inside.",
        ),
        "times_are_utc": Param(
            False,
            type="boolean",
            title="Times without a zone are UTC",
            description="Such as 2019-11-01 00:00:00. Without this they are rejected, since nobody knows "
            "which hour they are.",
        ),
    },
    tags=[Tag.BATCH],
)
def land_export() -> None:
    moved = lineage(reads=[EXPORTS], writes=[LANDING])
    task(execution_timeout=timedelta(hours=6), multiple_outputs=False, **moved)(tasks.split_into_days)()


land_export()
