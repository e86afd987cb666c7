"""The task that writes the report to Cloud Storage, and its button in Airflow's UI."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, BaseOperatorLink

from shopstream.charts import chart_names, query_params, read_sql
from shopstream.gcp.clients import bigquery_client, storage_client
from shopstream.layout import LATEST_REPORT, REPORTS
from shopstream.lineage import lineage
from shopstream.report.page import Rows, render
from shopstream.settings import settings
from shopstream.tables.folder import summaries_in_order

if TYPE_CHECKING:
    from google.cloud.bigquery import Client
    from google.cloud.storage import Blob

HISTORY_DAYS = 31
"""A report shows at least this many days up to its last, so that a single new day is seen in its context."""

LAST_DAY = "last_day"
"""The key, in a report object's metadata, of the last day that it shows."""


class ReportLink(BaseOperatorLink):
    """The button that opens the report that a task has written.

    Airflow's worker asks for the link when the task ends and stores it; the web server needs no code of ours.
    """

    name = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the report's URL, or nothing if the task wrote none."""
        from airflow.sdk.execution_time.xcom import XCom

        return (XCom.get_value(ti_key=ti_key, key="return_value") or {}).get("url", "")


class WriteReport(BaseOperator):
    """Write the report of the days just built, and of at least HISTORY_DAYS, to Cloud Storage.

    Objects: reports/events/<first>_<last>.html, and reports/events/latest.html, which always shows the newest
    days that any report has shown: a rebuild of older days refreshes it, but never takes it back in time.

    Args:
        first_day, last_day: The first and the last day built, as YYYY-MM-DD; templated.

    Returns (XCom): {"uri": "gs://...", "url": "https://..."} of the first of these objects.
    """

    template_fields = ("first_day", "last_day")
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, first_day: str, last_day: str, **kwargs: Any) -> None:
        # Each summary has a chart.
        shown = lineage(reads=summaries_in_order(settings().sql_dir), writes=[REPORTS])
        super().__init__(**shown, **kwargs)
        self.first_day = first_day
        self.last_day = last_day

    def execute(self, context: Any) -> dict[str, str]:
        """Read the summaries, write the report."""
        last_day = date.fromisoformat(self.last_day)
        first_day = min(date.fromisoformat(self.first_day), _history_start(last_day))
        name = f"{REPORTS}{first_day}_{last_day}.html"
        bucket = storage_client().bucket(settings().bucket)
        latest_day = max(last_day, last_day_shown(bucket.get_blob(LATEST_REPORT)) or last_day)
        days_shown = {name: (first_day, last_day), LATEST_REPORT: (_history_start(latest_day), latest_day)}

        client = bigquery_client()
        pages = {
            days: render(read_summaries(client, *days), *days, datetime.now(UTC), settings().currency)
            for days in set(days_shown.values())
        }
        for object_name, days in days_shown.items():
            blob = bucket.blob(object_name)
            blob.metadata = {LAST_DAY: days[1].isoformat()}
            blob.cache_control = "no-cache"
            blob.upload_from_string(pages[days], content_type="text/html")
            self.log.info("Wrote gs://%s/%s of %s to %s.", bucket.name, object_name, *days)
        return {"uri": f"gs://{bucket.name}/{name}", "url": f"{settings().object_url}/{bucket.name}/{name}"}


def read_summaries(client: Client, first_day: date, last_day: date) -> dict[str, Rows]:
    """Return what the queries of the charts answer of `first_day` to `last_day`, by the charts' names.

    Rows are dicts, in no set order. The client's project and location are the tables'.
    """
    # Here, since it takes seconds to import, which parsing a DAG file should not.
    from shopstream.gcp.bigquery import run
    from shopstream.tables.limits import limit_of, most_events

    events = most_events(client) * ((last_day - first_day).days + 1)
    datasets = {}
    for table in chart_names():
        sql = read_sql(table)
        job = run(
            client,
            sql,
            query_params(sql, first_day, last_day),
            job_id_prefix=f"report-{table}",
            maximum_bytes_billed=limit_of(f"ask {table}", events),
        )
        datasets[table] = [dict(row.items()) for row in job.result()]
    return datasets


def last_day_shown(report: Blob | None) -> date | None:
    """Return the last day that a report shows, as its object's metadata say."""
    shown = (report.metadata or {}).get(LAST_DAY) if report else None
    return date.fromisoformat(shown) if shown else None


def _history_start(last_day: date) -> date:
    return last_day - timedelta(days=HISTORY_DAYS - 1)
