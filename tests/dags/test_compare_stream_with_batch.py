"""compare_stream_with_batch, as real DAG runs against the emulators, after real loads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from tests.airflow_home import load_dag
from tests.dags.shop import DAY, Shop, line

pytestmark = pytest.mark.integration

COUNTED = (
    "SELECT event_type, batch_events, stream_events, only_in_batch, only_in_stream, level "
    "FROM shop_ops.stream_completeness ORDER BY event_type"
)


def stream(shop: Shop, product_ids: Iterable[int]) -> None:
    """Let the stream have brought these events of the load of DAY too."""
    ids = ", ".join(map(str, product_ids))
    columns = (
        "event_id, event_date, event_time, event_type, product_id, category_id, category_code, "
        "category_level_1, category_level_2, category_level_3, category_level_4, brand, price, user_id, "
        "user_session"
    )
    shop.query(
        f"INSERT INTO shop_raw.events_stream ({columns}, publish_time, message_id) "
        f"SELECT {columns}, TIMESTAMP '{DAY} 12:00:00 UTC', '1' FROM shop_raw.events_batch "
        f"WHERE event_date = DATE '{DAY}' AND product_id IN ({ids})"
    )


def test_a_loaded_day_is_held_against_the_stream(shop: Shop) -> None:
    shop.land(line(n) for n in range(300))
    assert shop.load().state == "success"

    run = shop.run("compare_stream_with_batch", first_day=str(DAY))
    assert run.errors == {}
    assert run.returned["compare"] == {str(DAY): "absent"}

    stream(shop, range(1_000_000, 1_000_299))
    run = shop.run("compare_stream_with_batch", first_day=str(DAY))
    assert run.states == {"resolve_days": "success", "compare": "failed"}
    assert f"{DAY}: the stream lacks 1 of 100 purchase events (1.00%" in run.errors["compare"]
    assert shop.query(COUNTED) == [
        ("cart", 100, 100, 0, 0, "ok"),
        ("purchase", 100, 99, 1, 0, "fail"),
        ("view", 100, 100, 0, 0, "ok"),
    ]

    stream(shop, [1_000_299])
    run = shop.run("compare_stream_with_batch", first_day=str(DAY), last_day=str(DAY + timedelta(days=1)))
    assert run.errors == {}
    assert run.returned["compare"] == {str(DAY): "ok"}


def test_the_levels_are_settings(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.land(line(n) for n in range(30))
    assert shop.load().state == "success"
    stream(shop, range(1_000_000, 1_000_029))
    monkeypatch.setenv("SHOPSTREAM_STREAM_MISSING_FAIL_SHARE", "0.2")
    run = shop.run("compare_stream_with_batch", first_day=str(DAY))
    assert run.returned["compare"] == {str(DAY): "warn"}


def test_it_starts_when_a_load_is_published(airflow_home: None) -> None:
    from shopstream.assets import EVENTS_PUBLISHED

    assert load_dag("compare_stream_with_batch").schedule == [EVENTS_PUBLISHED]
