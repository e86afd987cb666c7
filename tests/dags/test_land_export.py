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
    }
    landed = bucket.blob(f"landing/events/{DAY}/week-00000.csv").download_as_text()
    assert landed == HEADER + lines[0] + lines[1]


def test_an_export_that_is_none_fails_once_and_says_what_to_correct(bucket: Bucket) -> None:
    bucket.blob("exports/prices.csv").upload_from_string("sku,price\n1,2\n")
    run = run_dag(load_dag("land_export"), {"object": "exports/prices.csv"})
    assert run.states == {"split_into_days": "failed"}
    assert "the first line is neither an event nor a header" in run.errors["split_into_days"]


@pytest.mark.parametrize(
    "name", ["", "2019-Nov.csv", "exports/a/b.csv", "exports/2019-Nov.xlsx", "exports/_a.csv"]
)
def test_the_form_refuses_what_cannot_be_an_export(airflow_home: Path, name: str) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        load_dag("land_export").params["object"] = name


def test_the_form_needs_an_export(airflow_home: Path) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError, match="No value passed"):
        load_dag("land_export").params.validate()
