"""What loads have made is rewritten once no load can make more of what was; tests/dags runs all the rest."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRescheduleException
from google.cloud import storage

from shopstream.forget.tasks import CLOCKS_APART, await_loads, delete_list, read_whom
from shopstream.retries import Refused
from tests.local.dataflow.service import Service
from tests.plugins.day_loads import start_run, succeed


@pytest.mark.integration
def test_the_list_that_was_read_is_deleted_once_and_one_that_was_written_since_stays(
    bucket: storage.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True}}
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps(connection))
    blob = bucket.blob("forget/a.txt")
    blob.upload_from_string("7\n")
    counted = {"generation": bucket.get_blob(blob.name).generation}
    for _ in range(2):
        delete_list(counted, params={"customers": blob.name})
        assert not blob.exists()
    blob.upload_from_string("8\n")
    delete_list(counted, params={"customers": blob.name})
    assert blob.download_as_bytes() == b"8\n"


@pytest.mark.parametrize("dry_run", [True, False])
def test_nobody_is_asked_and_nothing_counted_without_each_key_of_pseudonyms(
    dry_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, old = tmp_path / "forget.key", tmp_path / "old.key"
    for file in (audit, old):
        file.write_text("0" * 32)
    monkeypatch.setenv("SHOPSTREAM_FORGET_KEY", str(audit))
    monkeypatch.setenv("SHOPSTREAM_PSEUDONYM_KEYS", f"{old},{tmp_path}/none.key")
    with pytest.raises(Refused, match=r"SHOPSTREAM_PSEUDONYM_KEYS: .*none\.key cannot be read: No such file"):
        read_whom(params={"user_id": "7", "customers": None, "dry_run": dry_run})


def test_a_load_that_may_have_read_a_file_as_it_was_is_waited_for_and_a_later_one_is_not(
    loading: DAG, dataflow: Service
) -> None:
    before = [(datetime.now(UTC) - CLOCKS_APART).isoformat()]
    await_loads(before)
    load: Any = succeed(loading, start_run(loading), "launch")
    await_loads(before)
    # By a worker's clock that is behind.
    after = [*before, (datetime.now(UTC) - CLOCKS_APART / 2).isoformat(), *before]
    with pytest.raises(AirflowRescheduleException):
        await_loads(after)

    assert load["job_id"]
    dataflow.cancel_all()
    await_loads(after)
