"""report: the task reads the summaries of BigQuery and leaves a page and its link."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from airflow.sdk import DAG
from google.cloud import bigquery as bigquery_api
from google.cloud import storage

from shopstream.charts import chart_names
from shopstream.defaults import START_DATE
from shopstream.gcp.clients import bigquery_client
from shopstream.layout import LATEST_REPORT
from shopstream.report.page import CHARTS
from shopstream.report.tasks import WriteReport
from shopstream.settings import settings
from shopstream.tables.folder import load_table
from tests.airflow_home import airflow_home, run_task, store, stored  # noqa: F401
from tests.plugins.report.summary_rows import summaries
from tests.sql.events import fill

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("airflow_home", "library")]

NOVEMBER = {date(2019, 11, day): (1000 + day, 50 + day, 10 + day) for day in (1, 2, 3)}


@pytest.fixture(autouse=True)
def tables(bigquery_tables: bigquery_api.Client) -> bigquery_api.Client:
    """The summary tables; those of CHARTS with rows of 1 to 3 November 2019, the others empty."""
    client = bigquery_client()
    for name, rows in summaries(NOVEMBER).items():
        table = load_table(settings().sql_dir, f"shop.{name}")
        # Columns that no chart reads still need a value.
        full = [dict.fromkeys(("price_average", "share_of_events"), 0.5) | row for row in rows]
        # In DML, not streamed: rows that were just streamed in could be neither deleted nor replaced.
        fill(client, table.full_name, full)
    return client


@pytest.fixture(scope="module")
def reporting(airflow_home: Any) -> DAG:  # noqa: F811
    """A DAG that writes the report of the days in a run's conf."""
    with DAG("report_days", schedule=None, start_date=START_DATE) as dag:
        WriteReport(
            task_id="write_report",
            first_day="{{ dag_run.conf['first_day'] }}",
            last_day="{{ dag_run.conf['last_day'] }}",
        )
    store(dag)
    return dag


def write_report(dag: DAG, first_day: str, last_day: str) -> tuple[str, Any]:
    """Run the task for these days; return the run's id and what the task returned."""
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    run_id = f"manual-{datetime.now(UTC).timestamp()}"
    stored(dag).create_dagrun(
        run_id=run_id,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state="running",
        run_after=datetime.now(UTC),
        conf={"first_day": first_day, "last_day": last_day},
    )
    return run_id, run_task(dag, run_id, "write_report")


def charts_of(bucket: storage.Bucket, name: str) -> dict[str, Any]:
    """The specifications inside a written page."""
    html = bucket.blob(name).download_as_text()
    return json.loads(html.partition('id="specs">')[2].partition("</script>")[0])


def test_a_report_shows_the_days_built_and_a_month_before_them(
    reporting: DAG, bucket: storage.Bucket
) -> None:
    _, returned = write_report(reporting, "2019-11-03", "2019-11-03")
    name = "reports/events/2019-10-04_2019-11-03.html"
    assert returned["uri"] == f"gs://{bucket.name}/{name}"
    specs = charts_of(bucket, name)
    assert set(specs) == set(CHARTS)
    html = bucket.blob(name).download_as_text()
    assert all(f'id="{chart}_title"' in html for chart in chart_names())
    daily = specs["daily_event_count"]["datasets"]["daily_event_count"]
    assert [row["events"] for row in daily if row["event_type"] == "view"] == [1001, 1002, 1003]
    blob = bucket.get_blob(name)
    assert blob is not None
    assert blob.content_type == "text/html"


def test_a_report_of_more_days_than_a_month_shows_all_of_them(reporting: DAG, bucket: storage.Bucket) -> None:
    _, returned = write_report(reporting, "2019-08-01", "2019-11-02")
    assert returned["uri"].endswith("/2019-08-01_2019-11-02.html")


def test_the_button_in_airflows_ui_opens_the_report(reporting: DAG, bucket: storage.Bucket) -> None:
    from airflow.models.taskinstancekey import TaskInstanceKey

    run_id, returned = write_report(reporting, "2019-11-01", "2019-11-03")
    [link] = stored(reporting).task_dict["write_report"].operator_extra_links
    assert link.name == "Report"
    key = TaskInstanceKey(reporting.dag_id, "write_report", run_id)
    assert link.get_link(stored(reporting).task_dict["write_report"], ti_key=key) == returned["url"]
    assert returned["url"].startswith(f"{settings().object_url}/{bucket.name}/reports/events/")


def test_the_latest_report_is_refreshed_but_never_goes_back_in_time(
    reporting: DAG, bucket: storage.Bucket, tables: bigquery_api.Client
) -> None:
    write_report(reporting, "2019-11-02", "2019-11-03")
    latest = bucket.get_blob(LATEST_REPORT)
    assert latest is not None
    first_written = latest.generation
    tables.query("DELETE FROM shop.daily_event_count WHERE event_date = '2019-11-01'").result()

    write_report(reporting, "2019-11-01", "2019-11-01")

    latest = bucket.get_blob(LATEST_REPORT)
    assert latest is not None
    assert latest.generation != first_written
    rows = charts_of(bucket, LATEST_REPORT)["daily_event_count"]["datasets"]["daily_event_count"]
    assert {row["event_date"] for row in rows} == {"2019-11-02", "2019-11-03"}


def test_a_report_written_again_takes_the_place_of_the_one_before(
    reporting: DAG, bucket: storage.Bucket
) -> None:
    write_report(reporting, "2019-11-01", "2019-11-03")
    write_report(reporting, "2019-11-01", "2019-11-03")
    names = {blob.name for blob in bucket.list_blobs(prefix="reports/")}
    assert names == {"reports/events/2019-10-04_2019-11-03.html", LATEST_REPORT}
