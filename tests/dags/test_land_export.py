"""land_export, as real DAG runs on the Cloud Storage emulator."""

from __future__ import annotations

import gzip
from datetime import timedelta
from pathlib import Path

import pytest
from google.cloud.storage import Bucket

from beam_jobs.contract import COLUMN_NAMES
from tests.airflow_home import load_dag, run_dag
from tests.dags.shop import DAY, line

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("airflow_home")]

HEADER = ",".join(COLUMN_NAMES) + "\n"


def test_an_export_becomes_landing_days(bucket: Bucket) -> None:
    lines = [line(1), line(2), line(3, day=DAY + timedelta(days=1))]
    bucket.blob("exports/week.csv.gz").upload_from_string(gzip.compress((HEADER + "".join(lines)).encode()))
    run = run_dag(load_dag("land_export"), {"object": "exports/week.csv.gz"})
    assert run.errors == {}
    assert run.returned["split_into_days"] == {
        "export": f"gs://{bucket.name}/exports/week.csv.gz",
        "rows": 3,
        "days": {str(DAY): 2, str(DAY + timedelta(days=1)): 1},
        "rejected": {},
        "translated": [],
    }
    landed = bucket.blob(f"landing/events/{DAY}/week-00000.csv").download_as_text()
    assert landed == HEADER + lines[0] + lines[1]


def test_an_export_that_another_program_has_saved_lands_as_plain_lines(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    saved = "".join(f"{n},{line(n).replace(' UTC', '')}" for n in range(200)) + "200,rubbish\n"
    bucket.blob("exports/saved.csv").upload_from_string(f",{HEADER}{saved}")
    run = run_dag(load_dag("land_export"), {"object": "exports/saved.csv"})
    assert (
        "the load would reject each of its first 201 lines: time_without_zone 200"
        in (run.errors["split_into_days"])
    )
    assert not list(bucket.list_blobs(prefix="landing/"))

    run = run_dag(load_dag("land_export"), {"object": "exports/saved.csv", "times_are_utc": True})
    assert run.errors == {}
    returned = run.returned["split_into_days"]
    assert returned["rejected"] == {str(DAY): {"wrong_column_count": 1}}
    assert returned["translated"] == [
        "a first column without a name, left out",
        "times without a zone, taken for UTC: 200",
    ]
    landed = bucket.blob(f"landing/events/{DAY}/saved-00000.csv").download_as_text()
    assert landed == HEADER + "".join(line(n) for n in range(200)) + '"200,rubbish"\n'


def test_an_export_that_is_none_fails_once_and_says_what_to_correct(bucket: Bucket) -> None:
    bucket.blob("exports/prices.csv").upload_from_string("sku,price\n1,2\n")
    run = run_dag(load_dag("land_export"), {"object": "exports/prices.csv"})
    assert run.states == {"split_into_days": "failed"}
    assert "the first line is neither an event nor a header" in run.errors["split_into_days"]


@pytest.mark.parametrize("name", ["", "2019-Nov.csv", "exports/a/b.csv", "exports/2019-Nov.xlsx"])
def test_the_form_refuses_what_cannot_be_an_export(airflow_home: Path, name: str) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        load_dag("land_export").params["object"] = name


def test_the_form_needs_an_export(airflow_home: Path) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError, match="No value passed"):
        load_dag("land_export").params.validate()
