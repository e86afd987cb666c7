"""make cloud-proof: a dry run unless it is told otherwise, in the environment that is deployed."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from infra.deploy import read_target
from local.root import ROOT
from local.stack import control
from local.stack.emulators import NotReady
from shopstream.settings import settings
from tests.infra.gcloud import unknown_to_gcloud
from tools.cloud_proof import __main__ as cloud_proof
from tools.cloud_proof.ground import Ground
from tools.cloud_proof.probe import Otherwise, Probe

DEPLOYED = {
    "config": {
        "airflowUri": "https://airflow.example",
        "softwareConfig": {
            "envVariables": {
                "SHOPSTREAM_TEMPLATE_VERSION": "v1-2-0",
                "SHOPSTREAM_SQL_DIR": "/home/airflow/gcs/plugins/sql",
                "SHOPSTREAM_BATCH_SERVICE_ACCOUNT": "shopstream-batch@my-shop-dev.iam.gserviceaccount.com",
                "OTHER": "not ours",
            }
        },
    }
}
REAL = ["--env", "small", "--project", "my-shop-dev"]


@pytest.fixture(autouse=True)
def kept(bare_environment: None) -> Iterator[None]:
    """The environment, the signals and the log level, which a command may change for itself."""
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    level = logging.getLogger("shopstream").level
    yield
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, handler)
    logging.getLogger("shopstream").setLevel(level)


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gcloud that knows one Composer environment, and writes down what it is asked."""
    asked, program = tmp_path / "asked", tmp_path / "bin" / "gcloud"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho \"$@\" >> {asked}\ncat <<'END'\n{json.dumps(DEPLOYED)}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return asked


@pytest.fixture(autouse=True)
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cloud-proof.json"
    monkeypatch.setattr(cloud_proof, "RESULT", path)
    return path


def a_probe(run: Any, name: str = "one", needs: tuple[str, ...] = ()) -> Probe:
    return Probe(name, "Does it?", "it does", 0.25, run, needs)


def test_without_yes_each_probe_is_told_with_what_it_costs_and_none_is_run(
    gcloud: Path, result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cloud_proof.main(REAL) == 0

    out = capsys.readouterr().out
    for probe in cloud_proof.PROBES:
        assert f"| {probe.name} | {probe.expected} |  | not run | {probe.dollars:.2f} $ |" in out
    assert "Nothing was asked. To ask, add YES=1." in out
    told = json.loads(result.read_text())
    assert (told["project"], told["environment"]) == ("my-shop-dev", "small")
    assert {probe["verdict"] for probe in told["probes"]} == {"not run"}


def test_probes_see_what_is_deployed_but_for_what_is_about_composers_own_machines(
    gcloud: Path, result: Path
) -> None:
    seen: dict[str, Any] = {}

    def look(ground: Ground, undo: ExitStack) -> str:
        seen["settings"] = settings()
        return "it does"

    assert cloud_proof.main([*REAL, "--yes"], [a_probe(look)]) == 0

    target, env = read_target("small", "my-shop-dev"), seen["settings"]
    assert (env.project, env.region, f"gs://{env.bucket}") == (target.project, target.region, target.bucket)
    assert env.template_version == "v1-2-0"
    assert env.batch_workers.service_account == target.service_account("batch")
    assert env.sql_dir == ROOT / "sql"
    assert "OTHER" not in os.environ
    asked = gcloud.read_text().split()
    assert asked[:4] == ["composer", "environments", "describe", "shopstream"]
    os.environ["PATH"] = os.environ["PATH"].partition(":")[2]
    assert unknown_to_gcloud(["gcloud", *asked]) == set()
    [told] = json.loads(result.read_text())["probes"]
    assert told["found"] == "it does"
    assert told["at_most_dollars"] == 0.25


@pytest.mark.parametrize(
    "name",
    [
        *("SPANNER_EMULATOR_HOST", "BIGQUERY_STORAGE_EMULATOR_HOST"),
        *("SHOPSTREAM_DATAFLOW_ENDPOINT", "SHOPSTREAM_MONITORING_ENDPOINT"),
    ],
)
def test_a_shell_that_names_an_emulator_is_refused_for_a_real_project(
    gcloud: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "127.0.0.1:9010")
    assert cloud_proof.main([*REAL, "--yes"], [a_probe(lambda ground, undo: "it does")]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{name}=127.0.0.1:9010 would answer for the project my-shop-dev: ")
    assert f"run `unset {name}`" in told
    assert not gcloud.exists(), "nothing was asked"
    monkeypatch.setenv(name, "")
    assert cloud_proof.main([*REAL, "--yes"], [a_probe(lambda ground, undo: "it does")]) == 0


def test_what_was_found_otherwise_or_left_behind_fails_the_command_and_ctrl_c_ends_it_so(
    gcloud: Path, result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def otherwise(ground: Ground, undo: ExitStack) -> str:
        raise Otherwise("it does not")

    def leaves(ground: Ground, undo: ExitStack) -> str:
        undo.callback(open, "/nowhere/at/all")
        return "it does"

    def stopped(ground: Ground, undo: ExitStack) -> str:
        raise KeyboardInterrupt

    assert cloud_proof.main([*REAL, "--yes"], [a_probe(otherwise)]) == 1
    assert cloud_proof.main([*REAL, "--yes"], [a_probe(leaves)]) == 1
    out = capsys.readouterr().out
    assert "LEFT BEHIND: open /nowhere/at/all: FileNotFoundError" in out
    assert out.startswith("1 of the probes are asked, for at most 0.25 US dollars.\n")
    both = [a_probe(stopped), a_probe(otherwise, "two")]
    assert cloud_proof.main([*REAL, "--yes"], both) == 130
    assert [probe["verdict"] for probe in json.loads(result.read_text())["probes"]] == ["stopped", "not run"]
    assert cloud_proof.main([*REAL, "--yes", "one"], both[:1]) == 130


def test_a_project_without_its_size_and_a_stack_that_is_down_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        cloud_proof.main(["--project", "my-shop-dev"])
    assert "a real project has both ENV= and PROJECT=" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cloud_proof.main(["no-such-probe"])
    assert "invalid choice: 'no-such-probe'" in capsys.readouterr().err

    if control.is_up():
        pytest.skip("the local stack is up")
    with pytest.raises(NotReady):
        control.environment()
    assert cloud_proof.main([]) == 1
    assert capsys.readouterr().err == "The local stack is down: run `make up`.\n"


def test_probes_have_names_of_their_own_questions_and_bounds() -> None:
    names = [probe.name for probe in cloud_proof.PROBES]
    assert len(set(names)) == len(names)
    assert all(probe.question.endswith("?") and probe.expected for probe in cloud_proof.PROBES)
    assert sum(probe.dollars for probe in cloud_proof.PROBES) < 5
