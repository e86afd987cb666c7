"""What the demo's stream asks of Airflow for the benchmark alone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from unittest.mock import create_autospec

from google.cloud import bigquery, storage

from local.demo.stream import StreamedDay
from local.stack.airflow_client import AirflowClient
from tests.airflow_server import served


async def refuses_all_but_a_login(scope: Any, receive: Any, send: Any) -> None:
    """Airflow's API as it is when it answers nothing that is asked."""
    status = 201 if scope["path"] == "/auth/token" else 404
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b'{"access_token": "a"}'})


def test_an_airflow_that_refuses_to_tell_how_long_a_look_took_breaks_no_demo() -> None:
    with served(refuses_all_but_a_login) as url:
        stream = StreamedDay(
            AirflowClient(url, "", ""),
            create_autospec(bigquery.Client),
            create_autospec(storage.Bucket),
            date(2019, 11, 1),
            print,
            datetime.now(UTC),
        )
        assert stream._seconds_of_an_idle_look() is None
