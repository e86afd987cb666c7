"""The probes of Spanner, Dataflow and what a project has: against emulators and answers of HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from google.cloud.spanner_v1.database import Database

from local.root import ROOT
from shopstream.settings import settings
from tests.dags.shop import Shop
from tests.local.dataflow.service import Service, until, upload_template
from tools.cloud_proof import of_google
from tools.cloud_proof.ground import Ground
from tools.cloud_proof.probe import Open, Otherwise, Probe, Verdict, prove

PROBES = {probe.name: probe for probe in of_google.PROBES}


def upload_stream_template(shop: Shop, *more: dict[str, Any]) -> None:
    metadata = json.loads((ROOT / "beam_jobs" / "templates" / "stream_events.json").read_text())
    upload_template(
        shop.bucket,
        "beam_jobs.stream_events",
        *metadata["parameters"],
        *more,
        streaming=True,
        path="templates/local/stream_events.json",
    )


@pytest.mark.integration
def test_spanner_counts_in_parts_by_data_boost(ground: Ground, spanner_database: Database) -> None:
    assert told(PROBES["data-boost"], ground) == "accepted, no row"
    # The emulator takes no notice of Data Boost, nor of who may use it.
    [outcome] = prove([PROBES["data-boost"]], ground, run=True)
    assert outcome.verdict is Verdict.NEEDS_GOOGLE


@pytest.mark.integration
def test_dataflow_takes_both_launches_and_runs_neither(ground: Ground, shop: Shop, dataflow: Service) -> None:
    upload_stream_template(shop)
    before = len(dataflow.list().get("jobs", []))
    probes = [PROBES["launch-load"], PROBES["launch-stream"]]
    assert [(outcome.verdict, outcome.found) for outcome in prove(probes, ground, run=True)] == [
        (Verdict.AS_EXPECTED, "accepted")
    ] * 2
    assert len(dataflow.list().get("jobs", [])) == before


@pytest.mark.integration
def test_a_launch_that_dataflow_refuses_is_told_with_its_reason(ground: Ground, shop: Shop) -> None:
    upload_stream_template(shop, {"name": "forgotten", "label": "Forgotten", "helpText": "A new parameter."})
    [outcome] = prove([PROBES["launch-stream"]], ground, run=True)
    assert outcome.verdict is Verdict.OTHERWISE
    assert outcome.found.startswith("400: ")
    assert "forgotten" in outcome.found


@pytest.mark.integration
def test_defaults_that_a_launch_does_not_take_are_told_and_its_job_is_cancelled(
    ground: Ground, shop: Shop, dataflow: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The local Dataflow takes none; so only here it is asked, of a job that does not end by itself."""
    path = "templates/local/load_events.json"
    template = json.loads(shop.bucket.blob(path).download_as_bytes())
    waits = "python://tests.local.dataflow.pipelines.wait_for_file"
    option = {"name": "until", "label": "Until", "helpText": "A file.", "isOptional": True}
    template["image"] = waits
    template["metadata"]["parameters"].append(option)
    template["defaultEnvironment"] = {
        "serviceAccountEmail": "shopstream-batch@my-shop.iam.gserviceaccount.com"
    }
    shop.bucket.blob(path).upload_from_string(json.dumps(template))
    launch = of_google.load_events_launch

    def with_a_file(*given: Any) -> dict[str, Any]:
        launched = launch(*given)
        launched["parameters"]["until"] = str(tmp_path / "ended")
        return launched

    monkeypatch.setattr(of_google, "load_events_launch", with_a_file)
    monkeypatch.setattr(of_google, "LAUNCHED_SECONDS", 3)
    monkeypatch.setattr(of_google, "POLL_SECONDS", 0.5)
    undo = ExitStack()
    with pytest.raises(Otherwise, match="account is not told, the template's shopstream-batch@"):
        of_google.template_defaults(ground, undo)
    assert of_google.is_active(ground.dataflow(), ground.name)
    undo.close()
    until(lambda: not of_google.is_active(ground.dataflow(), ground.name), "the job to be cancelled")
    assert [job for job in dataflow.list()["jobs"] if job["name"] == ground.name]


def told(probe: Probe, ground: Ground) -> str:
    return probe.run(ground, ExitStack())


def test_counters_are_looked_for_under_the_names_of_the_alerts(
    ground: Ground, google: Callable[[Any], str]
) -> None:
    series = {"read": 1, "accepted": 1, "rejected": 1}
    asked = []

    def answer(path: str, query: dict[str, str]) -> tuple[int, Any]:
        asked.append((path, query["filter"]))
        [name] = [name for name in series if f'"{name}"' in query["filter"]]
        return 200, {"timeSeries": [{}] * series[name]} if series[name] else {}

    google(answer)
    assert told(PROBES["counters"], ground) == "read: 1 series, accepted: 1 series, rejected: 1 series"
    assert {path for path, _ in asked} == {f"/v3/projects/{settings().project}/timeSeries"}
    alerts = (ROOT / "infra" / "alerts.tf").read_text()
    assert (
        'job_user_counter{monitored_resource=\\"dataflow_job\\",job_name=\\"shop-stream\\",metric_name='
        in alerts
    )
    assert all(
        '"dataflow.googleapis.com/job/user_counter"' in text and '"shop-stream"' in text for _, text in asked
    )
    series["accepted"] = 0
    with pytest.raises(Otherwise, match="accepted: 0 series"):
        told(PROBES["counters"], ground)
    series.update(read=0, rejected=0)
    with pytest.raises(Open, match="start the stream"):
        told(PROBES["counters"], ground)


def test_the_image_is_looked_for_among_all_that_the_region_offers(
    ground: Ground, google: Callable[[Any], str]
) -> None:
    pages: dict[str, dict[str, Any]] = {
        "": {
            "imageVersions": [{"imageVersionId": "composer-3-airflow-3.3.10-build.0"}],
            "nextPageToken": "2",
        },
        "2": {"imageVersions": [{"imageVersionId": "composer-3-airflow-3.3.1-build.4"}]},
    }
    google(lambda path, query: (200, pages[query.get("pageToken", "")]))
    assert told(PROBES["composer-image"], ground) == "composer-3-airflow-3.3.1-build.4"
    del pages["2"]["imageVersions"]
    with pytest.raises(
        Otherwise, match=r"1 images, none of composer-3-airflow-3\.3\.1; the newest is composer-3-air"
    ):
        told(PROBES["composer-image"], ground)


def test_quotas_are_held_against_the_most_workers_of_the_loads_and_the_stream_at_once(
    ground: Ground, google: Callable[[Any], str]
) -> None:
    quota = {"metric": "N2_CPUS", "limit": 36}
    google(lambda path, query: (200, {"quotas": [quota, {"metric": "CPUS", "limit": 1}]}))
    # small.tfvars: three loads of 4 workers, one launched anew, and a stream of 2, of 2 CPUs each.
    assert told(PROBES["quotas"], ground) == "N2_CPUS: 36 of 36 needed"
    quota["limit"] = 35
    with pytest.raises(Otherwise, match="N2_CPUS: 35 of 36 needed"):
        told(PROBES["quotas"], ground)


def test_a_dashboard_that_is_not_there_leaves_its_door_open_and_one_that_lets_anybody_in_is_told(
    ground: Ground, google: Callable[[Any], str]
) -> None:
    address = ""

    def answer(path: str, query: dict[str, str]) -> tuple[int, Any]:
        return (
            (200, {"uri": f"{address}/page"})
            if address or path == "/page"
            else (404, {"error": {"code": 404}})
        )

    address = ""
    url = google(answer)
    with pytest.raises(Open, match="there is no dashboard in Cloud Run"):
        told(PROBES["dashboard-door"], ground)
    address = url
    with pytest.raises(Otherwise, match=r"^200 $"):
        told(PROBES["dashboard-door"], ground)


def test_the_lineage_of_a_summary_is_asked_for_airflows_task_beside_bigquerys_own_jobs(
    ground: Ground, google: Callable[[Any], str]
) -> None:
    place = f"/v1/projects/{settings().project}/locations/{settings().region}"
    origins = {"job": "BIGQUERY", "task": "COMPOSER"}
    is_on = True

    def answer(path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        if not is_on:
            return 403, {"error": {"code": 403, "details": [{"reason": "SERVICE_DISABLED"}]}}
        if path == f"{place}:searchLinks":
            name = f"bigquery:{settings().project}.shop.daily_event_count"
            assert asked["target"] == {"fullyQualifiedName": name}
            return 200, {"links": [{"name": "a-link"}]} if origins else {}
        if path == f"{place}:batchSearchLinkProcesses":
            assert asked["links"] == ["a-link"]
            return 200, {"processLinks": [{"process": f"{place[4:]}/processes/{name}"} for name in origins]}
        return 200, {"origin": {"sourceType": origins[path.removeprefix(f"{place}/processes/")]}}

    google(answer)
    found = "shop.daily_event_count is fed by 2 processes of BIGQUERY, COMPOSER"
    assert told(PROBES["lineage"], ground) == found
    del origins["task"]
    with pytest.raises(Otherwise, match=r"fed by 1 processes of BIGQUERY$"):
        told(PROBES["lineage"], ground)
    origins.clear()
    with pytest.raises(Open, match="load a day"):
        told(PROBES["lineage"], ground)
    is_on = False
    with pytest.raises(Open, match="Data Lineage API is off"):
        told(PROBES["lineage"], ground)
