"""What `make compose-proof` reads and tells, without its engine."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tools import compose_proof


def test_the_proof_reads_dockers_times() -> None:
    told = "2026-09-01T12:30:05.123456789Z"
    assert compose_proof._timestamp(told) == datetime(2026, 9, 1, 12, 30, 5, tzinfo=UTC).timestamp()


def test_a_program_that_the_proof_lacks_is_named() -> None:
    with pytest.raises(compose_proof.Failed, match="no-such-program is missing: install it"):
        compose_proof._run("no-such-program", "--version")


def graph(**changed: Any) -> dict[str, Any]:
    """What the proof looks at in a job graph of the load."""
    image = "us-central1-docker.pkg.dev/shopstream-local/shopstream/load_events:local"
    return {
        "name": "load-events-2019-11-01",
        "type": "JOB_TYPE_BATCH",
        "environment": {
            "experiments": ["use_runner_v2"],
            "workerPools": [{"sdkHarnessContainerImages": [{"containerImage": image}]}],
        },
        **changed,
    }


@pytest.mark.usefixtures("bare_environment")
def test_only_the_jobs_own_graph_proves_a_launch() -> None:
    compose_proof.check_graph(graph(), "load_events")
    other_image = {"workerPools": [{"sdkHarnessContainerImages": [{"containerImage": "apache/beam"}]}]}
    for wrong in (
        graph(name="load-events"),
        graph(type="JOB_TYPE_STREAMING"),
        graph(environment=graph()["environment"] | other_image),
        graph(environment=graph()["environment"] | {"experiments": []}),
    ):
        with pytest.raises(compose_proof.Failed, match="should have"):
            compose_proof.check_graph(wrong, "load_events")


def test_the_launchers_steps_write_where_it_does_and_print_the_graph_alone(tmp_path: Path) -> None:
    script = compose_proof.AS_THE_LAUNCHER.replace("/var/", f"{tmp_path}/")
    pipeline = "import sys; print('told'); open(sys.argv[-1].partition('=')[2], 'w').write(sys.argv[1])"
    (tmp_path / "main.py").write_text(pipeline)
    command = ["sh", "-c", script, "launcher", "--name=value with spaces"]
    variables = {"FLEX_TEMPLATE_PYTHON_PY_FILE": str(tmp_path / "main.py"), "PATH": "/usr/bin:/bin"}
    command[2] = script.replace("python ", "python3 ")

    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)

    assert (ended.stdout, ended.stderr) == ("--name=value with spaces", "told\n")
    assert (tmp_path / "log/dataflow/template_launcher/runner-json.log").is_file()
