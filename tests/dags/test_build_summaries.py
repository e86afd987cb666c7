"""build_summaries, as real DAG runs against the emulators, after real loads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shopstream.assets import SUMMARIES_BUILT
from shopstream.settings import settings
from shopstream.tables.folder import built_in_order
from tests.dags.shop import DAY, Shop, alerts_of, days_told, line

pytestmark = pytest.mark.integration

BUILT = list(built_in_order(settings().sql_dir))


def test_the_days_of_a_load_are_summarised_and_reported_and_a_day_built_again_is_replaced(shop: Shop) -> None:
    late = DAY - timedelta(days=1)
    # Two purchases in one session, for the pairs.
    pair = [line(n, user_session="pair", user_id=1) for n in (26, 29)]
    shop.land(
        [*(line(n) for n in range(30) if n not in (26, 29)), *pair, line(31, day=late), line(31, day=late)]
    )
    assert shop.load().state == "success"

    # By hand it is dry unless told otherwise, and then changes nothing.
    run = shop.run("build_summaries", first_day=str(DAY))
    assert run.state == "success"
    done = {"resolve_days", "dry_or_real", "dry_run"}
    assert run.states == {task: "success" if task in done else "skipped" for task in run.states}
    assert run.returned["dry_run"]["rows_gone"] == 0
    assert run.returned["dry_run"]["rows_new"] > len(BUILT)
    for table in BUILT:
        assert shop.query(f"SELECT COUNT(*) FROM {table}") == [(0,)], table
    assert not list(shop.bucket.list_blobs(prefix="reports/"))

    run = shop.run("build_summaries", first_day=str(late), last_day=str(DAY), dry_run=False)
    assert run.errors == {}
    counts = "SELECT CAST(event_date AS STRING), event_type, events FROM shop.daily_event_count ORDER BY 1, 2"
    assert shop.query(counts) == [
        (str(late), "cart", 1),
        (str(DAY), "cart", 10),
        (str(DAY), "purchase", 10),
        (str(DAY), "view", 10),
    ]
    for table in BUILT:
        [(days,)] = shop.query(f"SELECT COUNT(DISTINCT event_date) FROM {table}")
        assert days in (1, 2), table
    assert days_told(SUMMARIES_BUILT, run) == [str(late), str(DAY)]
    written = run.returned["write_report"]["uri"]
    page = shop.bucket.blob(written.removeprefix(f"gs://{shop.bucket.name}/")).download_as_text()
    assert "8 November 2019" in page

    shop.land(line(n) for n in range(3))
    assert shop.load().state == "success"
    assert shop.run("build_summaries", first_day=str(DAY), dry_run=False).errors == {}
    counts = f"SELECT SUM(events) FROM shop.daily_event_count WHERE event_date = '{DAY}'"
    assert shop.query(counts) == [(3,)]


def test_days_that_cannot_be_meant_fail_in_the_first_try_and_say_what_to_give(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    run = shop.run("build_summaries", first_day="2019-11-02", last_day="2019-11-01")
    assert (run.states["resolve_days"], run.tries["resolve_days"]) == ("failed", 1)
    reason = "first_day 2019-11-02 is after last_day 2019-11-01; swap them"
    assert alerts_of(caplog) == {"resolve_days": reason}
