"""What loads have made is rewritten once no load can make more of what was; tests/dags runs all the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowRescheduleException

from shopstream.forget.tasks import await_loads
from tests.local.dataflow.service import Service
from tests.plugins.day_loads import start_run, succeed


def test_a_load_that_may_have_read_a_file_as_it_was_is_waited_for_and_a_later_one_is_not(
    loading: DAG, dataflow: Service
) -> None:
    before = datetime.now(UTC).isoformat()
    await_loads(before)
    load: Any = succeed(loading, start_run(loading), "launch")
    await_loads(before)
    after = datetime.now(UTC).isoformat()
    with pytest.raises(AirflowRescheduleException):
        await_loads(after)

    assert load["job_id"]
    dataflow.cancel_all()
    await_loads(after)
