"""The launch of the stream fits its template, its pipeline and its image."""

from __future__ import annotations

import json

import pytest

from beam_jobs import stream_events
from infra.deploy import read_target
from local.dataflow import spec
from local.dataflow.templates import check_parameters, parse_template
from local.root import ROOT
from shopstream.settings import settings
from shopstream.stream.jobs import stream_events_launch, stream_job


def test_workers_run_the_image_that_a_deployment_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    deployed = read_target("small", "my-shop")
    monkeypatch.setenv("SHOPSTREAM_PROJECT", "my-shop")
    monkeypatch.setenv("SHOPSTREAM_REGION", deployed.region)

    stream = stream_events_launch(settings(), "v-2", update=False)

    assert stream["environment"]["sdkContainerImage"] == deployed.image("stream_events", "v-2")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("projects/p/secrets/s/versions/12,projects/p/secrets/s/versions/3", "12"),
        ("/k/versions/a.key", "file"),
        ("/versions/7/a.key", "file"),
        ("", "none"),
    ],
)
def test_a_job_tells_by_its_labels_which_key_of_pseudonyms_it_was_launched_with(
    keys: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSTREAM_PSEUDONYM_KEYS", keys)
    launch = stream_events_launch(settings(), "v-1", update=False)
    moment = "2026-11-22T10:00:00Z"
    job = {"id": "1", "currentState": "JOB_STATE_RUNNING", "createTime": moment, "currentStateTime": moment}

    labels = launch["environment"]["additionalUserLabels"]
    assert stream_job(job | {"labels": labels}).pseudonym_key == told
    # Launched by an earlier version.
    assert stream_job(job).pseudonym_key == "none"


def test_the_launch_and_the_template_of_the_stream_agree_on_the_parameters() -> None:
    metadata = json.loads((ROOT / "beam_jobs" / "templates" / "stream_events.json").read_text())
    template = parse_template(json.dumps(spec(metadata, "beam_jobs.stream_events")).encode(), "")
    launch = stream_events_launch(settings(), "v-1", update=False)

    check_parameters(template, launch["parameters"])
    options = [f"--{name}={value}" for name, value in launch["parameters"].items()]
    _, not_known = stream_events.parse_options(options)

    assert not_known == []
    assert template.streaming
    assert launch["jobName"] == "shop-stream"
    assert launch["containerSpecGcsPath"].endswith("/templates/v-1/stream_events.json")
    assert launch["environment"]["additionalUserLabels"] == {
        "app": "shopstream",
        "template_version": "v-1",
        "pseudonym_key": "none",
    }
    assert launch["environment"]["sdkContainerImage"].endswith("/stream_events:v-1")
    assert "update" not in launch
    assert stream_events_launch(settings(), "v-1", update=True) == launch | {"update": True}
