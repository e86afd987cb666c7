"""watch_days names what no load will read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shopstream import layout
from shopstream.load import landed
from shopstream.load.launch import new_load_id
from tests.dags.shop import Shop, alerts_of
from tests.plugins.load.landed import audit

pytestmark = pytest.mark.integration


def test_events_beside_the_landing_days_fail_the_look_which_names_them(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.bucket.blob("landing/events/2019-11-8/a.csv").upload_from_string(b"")
    run = shop.run("watch_days")
    assert run.states["name_missing_days"] == "failed"
    told = alerts_of(caplog)["name_missing_days"]
    assert "so that no load reads it: landing/events/2019-11-8/. If these are events, move them" in told


def test_a_day_that_was_landed_anew_while_its_load_ran_is_named(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landed, "LOADING", timedelta(0))
    day = datetime.now(UTC).date() - timedelta(days=3)
    shop.bucket.blob(f"{layout.landing(day)}/{layout.SUCCESS}").upload_from_string(b"")
    # It has waited for a person since: its audit row is newer than what was landed meanwhile.
    load_id = new_load_id(day, datetime.now(UTC) - timedelta(hours=5))
    audit(shop.bigquery, load_id, landing_day=day)
    run = shop.run("watch_days")
    assert run.states["name_missing_days"] == "failed"
    assert f"{day} was landed anew at" in alerts_of(caplog)["name_missing_days"]
