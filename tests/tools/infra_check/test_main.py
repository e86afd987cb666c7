"""The offline check of infra/ finds what the Google provider would refuse, and says where."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from local.root import ROOT
from tests.infra.terraform import Check

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of infra/ that a test may spoil."""
    return Path(shutil.copytree(ROOT / "infra", tmp_path / "infra"))


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_infra_is_right_and_each_size_can_be_planned(check: Check) -> None:
    done = check()
    assert done.returncode == 0, done.stdout
    for size in ("small", "medium", "production"):
        assert f"plan of {size}: " in done.stdout
    assert "are right by the schema of hashicorp/google 6.50.0" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        pytest.param(
            "pubsub.tf",
            "ack_deadline_seconds       = 60",
            "ack_deadline_secs          = 60",
            [
                "on pubsub.tf line",
                'in resource "google_pubsub_subscription" "events_stream"',
                '"ack_deadline_secs"',
            ],
            id="an argument that the resource type does not have",
        ),
        pytest.param(
            "spanner.tf",
            '  config       = "regional-${var.region}"\n',
            "",
            [
                "on spanner.tf line",
                'in resource "google_spanner_instance" "shopstream"',
                '"config" is required',
            ],
            id="a required argument left out",
        ),
        pytest.param(
            "storage.tf",
            "retention_duration_seconds = 7 * 24 * 3600",
            'retention_duration_seconds = "a week"',
            ["on storage.tf line", 'in resource "google_storage_bucket" "data"', "a number is required"],
            id="a value of the wrong type",
        ),
        pytest.param(
            "alerts.tf",
            'severity              = "ERROR"\n  notification_channels = local.channels\n\n  conditions {\n'
            '    display_name = "Airflow logged',
            'severity              = "LOUD"\n  notification_channels = local.channels\n\n  conditions {\n'
            '    display_name = "Airflow logged',
            [
                'resource "google_monitoring_alert_policy" "dag_failed"',
                "'LOUD' is no possible value of severity",
            ],
            id="a value that the provider does not document",
        ),
        pytest.param(
            "network.tf",
            'resource "google_compute_network" "shopstream"',
            'resource "google_compute_vpc" "shopstream"',
            ["on network.tf line", 'does not support resource type "google_compute_vpc"'],
            id="a resource type that does not exist",
        ),
        pytest.param(
            "outputs.tf",
            "config[0].airflow_uri",
            "config[0].airflow_url",
            ["on outputs.tf line", '"airflow_url"'],
            id="a reference to an attribute that does not exist",
        ),
        pytest.param(
            "small.tfvars",
            "{ min = 100, max = 100 }",
            "{ min = 100, max = 500 }",
            ["on small.tfvars line", "min of at least 1000"],
            id="sizes that do not go together",
        ),
        pytest.param(
            "registry.tf",
            'format        = "DOCKER"',
            'format = "DOCKER"',
            ["registry.tf", "terraform fmt"],
            id="another format than Terraform's",
        ),
    ],
)
def test_the_check_fails_and_names_the_place_of(
    check: Check, folder: Path, file: str, old: str, new: str, found: list[str]
) -> None:
    replace_once(folder / file, old, new)
    done = check("--folder", folder)
    assert done.returncode == 1
    for text in found:
        assert text in " ".join(done.stdout.split()), done.stdout
