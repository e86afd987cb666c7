"""A customer is forgotten in every store, and nobody else is, as an operator does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from beam_jobs.pseudonyms import Pseudonyms
from shopstream.forget.customers import read_key
from shopstream.forget.files import MIN_OBJECT_BYTES
from tests.airflow_home import Run, load_dag, run_dag
from tests.dags.shop import DAY, Shop, line
from tests.plugins.day_loads import start_run
from tests.sql.events import fill, stream_event

ID, OTHER, LIST = 520088904, 500_000_007, "forget/2019-11-08.txt"


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "forget.key"
    file.write_text("0123456789abcdef" * 2)
    monkeypatch.setenv("SHOPSTREAM_FORGET_KEY", str(file))
    return file


def answer(api: TestClient, option: str, asked: list[dict[str, Any]]) -> Any:
    """Answers the run's question over REST."""

    def when_asked(run_id: str, task_id: str) -> None:
        path = f"/api/v2/dags/forget_customer/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        asked.append(api.get(path).json())
        given = {"chosen_options": [option], "params_input": {"reason": "request 17"}}
        assert api.patch(path, json=given).status_code == 200

    return when_asked


def forget(
    shop: Shop,
    when_asked: Any = None,
    before_task: Callable[[str], None] = lambda task_id: None,
    **conf: Any,
) -> Run:
    return run_dag(load_dag("forget_customer"), conf, before_task, when_asked=when_asked)


def holds(shop: Shop, user_id: int) -> dict[str, int]:
    """How many rows and lines each store holds of a customer, asked in other ways than the product does."""
    bucket = {
        blob.name.split("/")[0]: 0
        for blob in shop.bucket.list_blobs()
        if not blob.name.startswith("templates")
    }
    for blob in shop.bucket.list_blobs():
        if blob.name.startswith(("landing/", "exports/")):
            bucket[blob.name.split("/")[0]] += blob.download_as_bytes().count(str(user_id).encode())
    with shop.database.snapshot() as snapshot:
        [[spanner]] = snapshot.execute_sql(f"SELECT COUNT(*) FROM loaded_events WHERE user_id = {user_id}")
    tables = {
        table: shop.query(f"SELECT COUNT(*) FROM {table} WHERE user_id = {user_id}")[0][0]
        for table in (
            "shop_raw.events_batch",
            "shop_raw.events_stream",
            "shop.events",
            "shop.customer_purchases",
        )
    }
    [[rejects]] = shop.query(
        "SELECT COUNT(*) FROM shop.rejected_events "
        f"WHERE STRPOS(TO_HEX(raw), '{str(user_id).encode().hex()}') > 0"
    )
    return {
        "spanner": spanner,
        **tables,
        "rejects": rejects,
        "landing": bucket["landing"],
        "exports": bucket["exports"],
    }


def test_a_customer_is_forgotten_in_every_store_once_a_person_has_said_so_and_a_reload_brings_nothing_back(
    shop: Shop, api: TestClient, key: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_JOB_LOOK_SECONDS", "1")
    # So there are several parts, however small the objects are.
    monkeypatch.setattr("shopstream.forget.files.PART_BYTES", 2 * MIN_OBJECT_BYTES)
    lines = [line(n, user_id=ID if n % 10 == 0 else OTHER) for n in range(200)]
    lines += [line(200, user_id=ID, price="free"), line(201, user_id=OTHER, product_id=ID)]
    shop.land(lines)
    assert shop.load().errors == {}
    shop.bucket.blob("exports/2019-Nov.csv").upload_from_string("".join(lines))
    streamed = [stream_event(event_id=f"s{user_id}", user_id=user_id) for user_id in (ID, OTHER)]
    fill(shop.bigquery, "shop_raw.events_stream", streamed)
    purchases = shop.bigquery.get_table("shop.customer_purchases").schema
    values = {"INT64": 1, "DATE": DAY, "NUMERIC": "1", "TIMESTAMP": f"{DAY} 00:00:00", "STRING": "x"}
    row = {field.name: values.get(field.field_type) for field in purchases}
    fill(shop.bigquery, "shop.customer_purchases", [row | {"user_id": user_id} for user_id in (ID, OTHER)])
    before, others = holds(shop, ID), holds(shop, OTHER)
    assert all(before.values())
    shop.bucket.blob(LIST).upload_from_string(f"{ID}\n")

    dry = forget(shop, customers=LIST)
    assert (dry.state, dry.states["approve"], dry.states["prove"]) == ("success", "skipped", "skipped")
    assert len(dry.returned["divide_files"]) == 2
    found = dry.returned["count"]["found"]
    assert found["Spanner loaded_events"] == before["spanner"] == 20
    assert found["BigQuery shop_raw.events_batch"] == 20
    assert found["Cloud Storage landing/events/"] == found["Cloud Storage exports/"] == 21
    assert found["Cloud Storage accepted/events/"] == 20
    assert found["BigQuery shop_raw.rejected_events_batch"] == found["Cloud Storage rejected/events/"] == 1
    assert holds(shop, ID) == before

    asked: list[dict[str, Any]] = []
    left = forget(shop, answer(api, "Leave everything", asked), customers=LIST, dry_run=False)
    assert left.state == "failed"
    assert "operator refused it: request 17. Nothing was changed" in left.errors["approve"]
    assert holds(shop, ID) == before

    looks: list[str] = []

    def build_meanwhile(task_id: str) -> None:
        if task_id == "await_runs":
            looks.append(task_id)
            if len(looks) == 1:
                looks.append(start_run(load_dag("build_summaries")))
            else:
                path = f"/api/v2/dags/build_summaries/dagRuns/{looks[1]}"
                assert api.patch(path, json={"state": "success"}).status_code == 200

    run = forget(shop, answer(api, "Forget", asked), build_meanwhile, customers=LIST, dry_run=False)
    assert run.errors == {}
    assert len(looks) == 3
    assert "Customers to forget: 1, listed in generation" in asked[1]["subject"]
    assert "| `Spanner loaded_events` | 20 |" in asked[1]["body"]
    # The other's line of a product that has the same number.
    gone = holds(shop, ID)
    assert (gone.pop("landing"), gone.pop("exports")) == (1, 1)
    assert set(gone.values()) == {0}
    assert holds(shop, OTHER) == others
    [stays] = [text for text in run.returned["write_audit_rows"] if text.startswith("Cloud Storage")]
    assert "soft-deleted, until" in stays
    assert not shop.bucket.blob(LIST).exists()
    [[customer, count, by_store, who, why]] = shop.query(
        "SELECT customer, found, found_by_store, approved_by, reason FROM shop_ops.forgotten_customers"
    )
    assert customer == read_key(str(key)).hash(ID)
    assert (count, json.loads(by_store), who, why) == (sum(found.values()), found, "operator", "request 17")
    # Nothing of whom: no log, alert or XCom.
    assert str(ID) not in caplog.text
    assert str(ID) not in json.dumps([dry.returned, left.errors, run.returned, asked], default=str)

    # A second run finds nothing; but the proof finds what comes back meanwhile, which a third takes away.
    shop.bucket.blob(LIST).upload_from_string(f"{ID}\n")
    files = {blob.name: blob.generation for blob in shop.bucket.list_blobs(prefix="landing/")}
    late = shop.bucket.blob(f"landing/events/{DAY}/late.csv")

    def land_late(task_id: str) -> None:
        if task_id == "count_in_files_again":
            late.upload_from_string(line(300, user_id=ID))

    again = forget(shop, answer(api, "Forget", asked), land_late, customers=LIST, dry_run=False)
    assert set(again.returned["count"]["found"].values()) == {0}
    assert {blob.name: blob.generation for blob in shop.bucket.list_blobs(prefix="landing/")} == files | {
        late.name: late.generation
    }
    assert (
        "There is still something of them in\n  Cloud Storage landing/events/: 1\n" in again.errors["prove"]
    )
    assert again.states["write_audit_rows"] == "upstream_failed"
    third = forget(shop, answer(api, "Forget", asked), customers=LIST, dry_run=False)
    assert third.errors == {}
    assert shop.query("SELECT found FROM shop_ops.forgotten_customers ORDER BY found") == [(1,), (count,)]

    # A load of the day brings nothing back.
    assert shop.load().errors == {}
    gone = holds(shop, ID)
    assert (gone.pop("landing"), gone.pop("exports")) == (1, 1)
    assert set(gone.values()) == {0}
    assert holds(shop, OTHER) == others


def test_a_customer_of_pseudonyms_is_forgotten_under_each_of_them_and_in_what_was_landed(
    shop: Shop, api: TestClient, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [tmp_path / "new.key", tmp_path / "old.key"]
    for number, file in enumerate(keys):
        file.write_text(f"{number}" * 32)
    new, old = (Pseudonyms(file.read_bytes()) for file in keys)
    monkeypatch.setenv("SHOPSTREAM_PSEUDONYM_KEYS", ",".join(map(str, keys)))
    lines = [line(n, user_id=ID if n % 10 == 0 else OTHER) for n in range(200)]
    shop.land(lines)
    assert shop.load().errors == {}
    shop.bucket.blob("exports/2019-Nov.csv").upload_from_string("".join(lines))
    of_the_old = [stream_event(event_id=f"s{user}", user_id=old.user(user)) for user in (ID, OTHER)]
    fill(shop.bigquery, "shop_raw.events_stream", of_the_old)
    plain = holds(shop, ID)
    assert {store for store in plain if plain[store]} == {"landing", "exports"}
    before, others = holds(shop, new.user(ID)), holds(shop, new.user(OTHER))
    assert (before["spanner"], before["shop_raw.events_batch"]) == (20, 20)

    run = forget(shop, answer(api, "Forget", []), user_id=str(ID), dry_run=False)
    assert run.errors == {}
    for user_id in (ID, new.user(ID), old.user(ID)):
        assert set(holds(shop, user_id).values()) == {0}
    assert holds(shop, new.user(OTHER)) == others
    assert holds(shop, old.user(OTHER))["shop_raw.events_stream"] == 1
    [[customer]] = shop.query("SELECT customer FROM shop_ops.forgotten_customers")
    assert customer == read_key(str(key)).hash(ID)


def test_nobody_is_asked_without_a_key(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOPSTREAM_FORGET_KEY", raising=False)
    run = forget(shop, user_id=str(ID), dry_run=False)
    assert "SHOPSTREAM_FORGET_KEY is None" in run.errors["read_whom"]
    assert run.states["approve"] == "upstream_failed"
