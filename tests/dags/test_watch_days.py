"""watch_days names what no load will read."""

from __future__ import annotations

import pytest

from tests.dags.shop import Shop, alerts_of

pytestmark = pytest.mark.integration


def test_events_beside_the_landing_days_fail_the_look_which_names_them(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.bucket.blob("landing/events/2019-11-8/a.csv").upload_from_string(b"")
    run = shop.run("watch_days")
    assert run.states["name_missing_days"] == "failed"
    told = alerts_of(caplog)["name_missing_days"]
    assert "so that no load reads it: landing/events/2019-11-8/. If these are events, move them" in told
