"""tell_digest, as a real DAG run against BigQuery."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from google.cloud import bigquery as bigquery_api

from shopstream import alerts
from shopstream.settings import settings
from tests.airflow_home import load_dag, run_dag

pytestmark = pytest.mark.integration


def test_a_day_is_told_in_one_line_that_calls_nobody(
    airflow_home: Path, bigquery_tables: bigquery_api.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run = run_dag(load_dag("tell_digest"), {"landing_day": "2019-11-15"})
    assert run.errors == {}
    [line] = [record for record in caplog.records if record.name == alerts.log.name]
    assert line.levelno == logging.INFO
    words = run.returned["digest"]
    assert line.getMessage() == f"{alerts.DIGEST_PREFIX} {settings().alert_id} {words}"
    assert words.startswith("2019-11-15: not published.")
    assert "\n" not in words
