"""Spanner's client, while Spanner does not answer."""

from __future__ import annotations

import logging

import pytest
from google.api_core.exceptions import RetryError
from google.cloud.spanner_v1 import KeySet
from google.cloud.spanner_v1.database import Database

from shopstream.gcp.clients import with_waiting_reads
from tests.faults import Front


@pytest.mark.integration
def test_a_read_waits_for_a_spanner_that_does_not_answer_tells_it_and_gives_up_in_the_end(
    way_to_spanner: tuple[Front, Database], caplog: pytest.LogCaptureFixture
) -> None:
    front, database = way_to_spanner
    with_waiting_reads(database, seconds=12)

    def read() -> list[list[object]]:
        with database.snapshot() as snapshot:
            return list(snapshot.read("published_loads", ("load_id",), KeySet(all_=True)))

    assert read() == []
    caplog.set_level(logging.DEBUG, "google.api_core.retry")
    front.refuse(2)
    assert read() == []
    tries = [text for text in caplog.messages if "Retrying due to 503" in text]
    assert 1 <= len(tries) <= 10
    front.close()
    with pytest.raises(RetryError, match=r"Timeout of 12\.0s exceeded"):
        read()
