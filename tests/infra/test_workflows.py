"""The workflows run what `make help` lists, hold no key, and deploy only where somebody approves."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.deploy import ENVIRONMENTS
from local.root import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
MAKEFILE = (ROOT / "Makefile").read_text()


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 takes the key `on` for true.
    text = (ROOT / ".github" / "workflows" / f"{name}.yaml").read_text()
    return {("on" if key is True else key): value for key, value in yaml.safe_load(text).items()}


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def test_there_are_workflows_for_pull_requests_for_each_night_and_for_deployment() -> None:
    assert [path.stem for path in WORKFLOWS] == ["deploy", "nightly", "pull-request"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_make_target_of_a_workflow_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
    for step in steps(path.stem):
        words = shlex.split(step.get("run", ""))
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_action_is_of_a_named_version(path: Path) -> None:
    for step in steps(path.stem):
        assert re.search(r"@v\d+", step.get("uses", "@v1"))


def test_a_pull_request_runs_checks_tests_and_the_compose_proof_and_may_only_read() -> None:
    run = {step.get("run") for step in steps("pull-request")}
    assert {"make check", "make infra-check", "make test", "make compose-proof"} <= run
    assert workflow("pull-request")["permissions"] == {"contents": "read"}


def test_a_pull_request_prints_what_it_makes_dearer_than_main_and_much_of_it_needs_a_reason() -> None:
    job = workflow("pull-request")["jobs"]["cost"]
    *_, bill, of_main, difference = (step.get("run", "") for step in job["steps"])
    assert bill == "make cost"
    assert "origin/main" in of_main
    assert "-m tools.cost --json ../main-cost.json" in of_main
    assert "--against build/main-cost.json --at-most $at_most" in difference
    assert "$GITHUB_STEP_SUMMARY" in difference
    assert "grep '^Dearer: '" in difference


@pytest.mark.integration
@pytest.mark.soak
def test_the_steps_that_compare_a_pull_request_with_main_run_as_they_stand(tmp_path: Path) -> None:
    checkout, summary = tmp_path / "checkout", tmp_path / "summary"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    subprocess.run(["git", "update-ref", "refs/remotes/origin/main", "HEAD"], cwd=checkout, check=True)
    for installed in (".venv", ".venv-emulators", "tools/googlesql/node_modules"):
        (checkout / installed).symlink_to((ROOT / installed).resolve())
    *_, of_main, difference = (step["run"] for step in workflow("pull-request")["jobs"]["cost"]["steps"][-3:])
    for script in (of_main, difference):
        subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=checkout,
            env={**os.environ, "GITHUB_STEP_SUMMARY": str(summary)},
            check=True,
        )
    assert "No item has changed." in summary.read_text()


def test_what_a_pull_request_has_no_time_for_runs_each_night() -> None:
    assert {"make test-long", "make audit"} <= {step.get("run") for step in steps("nightly")}
    assert workflow("nightly")["on"]["schedule"]
    assert workflow("nightly")["permissions"] == {"contents": "read"}


def test_the_compose_proof_runs_where_it_can() -> None:
    job = workflow("pull-request")["jobs"]["compose"]
    assert job["container"]["image"] == "debian:12", "whose packages tools/compose_proof.py installs"
    assert "--privileged" in job["container"]["options"], "a Docker engine"
    assert f"{job['env']['TMPDIR']}" in {volume.partition(":")[2] for volume in job["container"]["volumes"]}
    assert job["timeout-minutes"] >= 120
    names = [step.get("uses", step.get("run")).partition("@")[0] for step in job["steps"]]
    assert names[-2:] == ["google-github-actions/setup-gcloud", "make compose-proof"]
    assert {"cloud-spanner-emulator", "pubsub-emulator"} <= set(
        job["steps"][-2]["with"]["install_components"].split(",")
    )


def test_deployment_signs_in_without_a_key_in_an_environment() -> None:
    deployment = workflow("deploy")
    assert deployment["permissions"] == {"contents": "read", "id-token": "write"}
    [job] = deployment["jobs"].values()
    assert job["environment"] == "${{ inputs.environment || 'production' }}"
    [signing_in] = [
        step for step in job["steps"] if step.get("uses", "").startswith("google-github-actions/auth")
    ]
    assert {"workload_identity_provider", "service_account"} <= signing_in["with"].keys()
    for path in WORKFLOWS:
        assert "credentials_json" not in path.read_text()
        assert "secrets." not in path.read_text()


def test_deployment_offers_each_environment_and_a_way_back() -> None:
    inputs = workflow("deploy")["on"]["workflow_dispatch"]["inputs"]
    assert inputs["environment"]["options"] == list(ENVIRONMENTS)
    run = {step.get("run"): step.get("if") for step in steps("deploy") if "run" in step}
    assert run == {
        "make deploy": "${{ !inputs.rollback_to }}",
        "make rollback": "${{ inputs.rollback_to }}",
    }


def test_deployments_to_one_place_wait_for_each_other() -> None:
    assert workflow("deploy")["concurrency"]["cancel-in-progress"] is False


def test_the_terraform_of_the_workflows_is_one_that_infra_allows() -> None:
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    [version] = set(re.findall(r"terraform_version: ([\d.]+)", text))
    required = re.search(r'required_version = ">= ([\d.]+)"', (ROOT / "infra" / "versions.tf").read_text())
    assert required
    assert tuple(map(int, version.split("."))) >= tuple(map(int, required[1].split(".")))
