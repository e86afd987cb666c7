"""The probe of a whole day, by real runs of the DAGs against the emulators: it passes, and leaves nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from local.stack.airflow_client import RunFailed
from shopstream.settings import settings
from shopstream.tables.folder import all_tables
from tests.airflow_home import Run
from tests.airflow_server import header
from tests.dags.shop import Shop
from tools.cloud_proof import of_airflow
from tools.cloud_proof.ground import AIRFLOW_VARIABLE, Ground
from tools.cloud_proof.probe import Verdict, prove

pytestmark = pytest.mark.integration

PROBES = {probe.name: probe for probe in of_airflow.PROBES}


class InThisProcess:
    """An Airflow whose runs are real, one after the other in this process, asked as AirflowClient is."""

    def __init__(self, shop: Shop, before: Callable[[str], None] = lambda dag_id: None) -> None:
        self.shop, self.before = shop, before
        self.paused: set[str] = set()
        self.ended: dict[tuple[str, str], Run] = {}

    def is_paused(self, dag_id: str) -> bool:
        return dag_id in self.paused

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        self.before(dag_id)
        run = self.shop.load(**conf, day=conf.pop("landing_day")) if "landing_day" in conf else None
        run = run or self.shop.run(dag_id, **conf)
        self.ended[dag_id, run.run_id] = run
        return run.run_id

    def wait_for_success(
        self, runs: dict[tuple[str, str], str], progress: Callable[[str], None], timeout_seconds: float = 0
    ) -> None:
        for key in runs:
            if self.ended[key].state != "success":
                raise RunFailed(f"{key} failed: {self.ended[key].errors}")

    def run(self, dag_id: str, conf: dict[str, Any], progress: Callable[[str], None]) -> str:
        run_id = self.trigger(dag_id, conf)
        self.wait_for_success({(dag_id, run_id): dag_id}, progress)
        return run_id

    def page_of(self, dag_id: str, run_id: str) -> str:
        return f"the page of {run_id}"

    def returned(self, dag_id: str, run_id: str, task_id: str) -> Any:
        return self.ended[dag_id, run_id].returned[task_id]

    def runs(self, dag_id: str, since: str) -> list[str]:
        return [run_id for of_dag, run_id in self.ended if of_dag == dag_id]

    def wait(self, runs: dict[tuple[str, str], str], progress: Callable[[str], None]) -> dict[Any, str]:
        return {key: self.ended[key].state for key in runs}

    def delete_run(self, dag_id: str, run_id: str) -> None:
        del self.ended[dag_id, run_id]


def left_of(shop: Shop) -> dict[str, Any]:
    """All objects but the template, and the rows of all tables."""
    stored = [table.full_name for table in all_tables(settings().sql_dir) if not table.view]
    rows = {name: shop.query(f"SELECT COUNT(*) FROM {name}")[0][0] for name in stored}
    rows |= {"spanner": shop.count_spanner(), "journeys": len(shop.journeys(of_airflow.DAY))}
    reports = [blob.name for blob in shop.bucket.list_blobs() if not blob.name.startswith("templates/")]
    return {"objects": reports} | {name: count for name, count in rows.items() if count}


def test_a_day_goes_from_its_file_to_both_stores_and_the_summaries_and_is_taken_away_again(
    ground: Ground, shop: Shop
) -> None:
    airflow = InThisProcess(shop)
    ground.airflow = lambda: airflow  # type: ignore[assignment,return-value]
    [outcome] = prove([PROBES["day"]], ground, run=True)
    assert (outcome.verdict, outcome.left) == (Verdict.AS_EXPECTED, ""), outcome
    assert outcome.found.startswith("of 4")
    assert left_of(shop) == {"objects": []}


def test_a_wait_that_fails_is_told_and_the_rest_of_the_day_is_taken_away_and_no_newer_report_is(
    ground: Ground, shop: Shop
) -> None:
    class Lost(InThisProcess):
        def wait(self, runs: dict[tuple[str, str], str], progress: Callable[[str], None]) -> Any:
            raise RunFailed("Still not done after 3600 s: build_summaries.")

    airflow = Lost(shop)
    ground.airflow = lambda: airflow  # type: ignore[assignment,return-value]
    latest = shop.bucket.blob("reports/events/latest.html")
    latest.metadata = {"last_day": "2001-01-03"}
    latest.upload_from_string("of a newer day")
    [outcome] = prove([PROBES["day"]], ground, run=True)
    assert outcome.verdict is Verdict.AS_EXPECTED, outcome
    assert outcome.left == ("wait for followers: RunFailed: Still not done after 3600 s: build_summaries.")
    assert left_of(shop) == {"objects": ["reports/events/latest.html"]}


def test_a_day_that_is_broken_off_by_ctrl_c_is_taken_away_as_far_as_it_came(
    ground: Ground, shop: Shop
) -> None:
    seen: dict[str, Any] = {}

    def break_off(dag_id: str) -> None:
        if dag_id == "build_summaries":
            seen.update(left_of(shop))
            raise KeyboardInterrupt

    airflow = InThisProcess(shop, break_off)
    ground.airflow = lambda: airflow  # type: ignore[assignment,return-value]
    [outcome] = prove([PROBES["day"]], ground, run=True)
    assert (outcome.verdict, outcome.left) == (Verdict.STOPPED, ""), outcome
    assert {"objects", "spanner", "journeys", "shop_raw.events_batch", "shop_ops.loads"} <= seen.keys()
    assert left_of(shop) == {"objects": []}


def test_a_day_that_is_somebodys_and_dags_that_are_paused_are_left_alone(ground: Ground, shop: Shop) -> None:
    airflow = InThisProcess(shop)
    ground.airflow = lambda: airflow  # type: ignore[assignment,return-value]
    airflow.paused = {"build_summaries"}
    [outcome] = prove([PROBES["day"]], ground, run=True)
    assert (outcome.verdict, outcome.found) == (
        Verdict.OPEN,
        "build_summaries is paused: unpause it, and run this probe again",
    )
    airflow.paused = set()
    shop.land(["a line"], of_airflow.DAY)
    [outcome] = prove([PROBES["day"]], ground, run=True)
    assert outcome.verdict is Verdict.OPEN
    assert "the probe's day is somebody's" in outcome.found
    assert (
        f"delete gs://{shop.bucket.name}/landing/events/{of_airflow.DAY}/ and run this one" in outcome.found
    )
    assert [blob.name for blob in shop.bucket.list_blobs(prefix="landing/")]


def test_the_dashboard_of_the_web_server_answers_from_both_stores_and_lets_no_stranger_in(
    ground: Ground, shop: Shop, airflow: TestClient
) -> None:
    class Reader:
        def __init__(self, headers: dict[str, str]) -> None:
            self.headers = headers

        def page(self, path: str) -> Any:
            return airflow.get(path, headers=self.headers)

    ground.airflow = lambda: Reader(header("user"))  # type: ignore[assignment,return-value]
    [outcome] = prove([PROBES["web-server"]], ground, run=True)
    assert outcome.verdict is Verdict.AS_EXPECTED, outcome
    assert re.fullmatch(r"BigQuery [\d.]+ s, Spanner [\d.]+ s", outcome.found)
    ground.airflow = lambda: Reader({})  # type: ignore[assignment,return-value]
    [outcome] = prove([PROBES["web-server"]], ground, run=True)
    assert outcome.verdict is Verdict.OTHERWISE
    assert outcome.found.startswith("BigQuery: 401")


def test_who_is_let_in_by_composer_and_what_calls_a_person_need_google(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AIRFLOW_VARIABLE, "http://127.0.0.1:8080")
    probes = [PROBES["deployer"], PROBES["alert"]]
    assert {outcome.verdict for outcome in prove(probes, ground, run=True)} == {Verdict.NEEDS_GOOGLE}
