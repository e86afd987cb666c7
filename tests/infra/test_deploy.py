"""`make deploy` and `make rollback`: which commands they run, in which order, and when they refuse."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow._shared.module_loading.file_discovery import find_path_from_directory

from infra import deploy
from local.root import ROOT
from shopstream.stream.decide import DesiredState, How, desired_state_text, parse_desired_state
from tests.infra.airflow_api import Airflow
from tests.infra.gcloud import unknown_to_gcloud

PROJECT = "my-shop"
VERSION = "v1-2-0-3-gabc123"
NOW = datetime(2026, 9, 1, 12, 30, tzinfo=UTC)
RUN_ID = f"deploy-{VERSION}-20260901T123000Z"
TEMPLATES = sorted(path.stem for path in (ROOT / "beam_jobs" / "templates").glob("*.json"))

DEPLOYED = """\
# Version v1-2-0-3-gabc123 to my-shop. Check it.
make check infra-check
# Build the images, once a version, and the templates that launch them.
gcloud auth configure-docker us-central1-docker.pkg.dev --quiet
gcloud artifacts docker images describe us-central1-docker.pkg.dev/my-shop/shopstream/load_events:v1-2-0-3-gabc123 --project=my-shop
# Only if that fails, since there is no such image yet:
docker pull --quiet --platform=linux/amd64 gcr.io/dataflow-templates-base/python311-template-launcher-base:flex_templates_base_image_release_20260720_RC00
docker image inspect '--format={{index .RepoDigests 0}}' gcr.io/dataflow-templates-base/python311-template-launcher-base:flex_templates_base_image_release_20260720_RC00
docker build --platform=linux/amd64 --target=flex-template --build-arg=PIPELINE=load_events --build-arg=LAUNCHER_IMAGE=gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:... --label=shopstream.launcher=gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:... --tag=us-central1-docker.pkg.dev/my-shop/shopstream/load_events:v1-2-0-3-gabc123 .
docker push us-central1-docker.pkg.dev/my-shop/shopstream/load_events:v1-2-0-3-gabc123
gcloud dataflow flex-template build gs://my-shop-shopstream/templates/v1-2-0-3-gabc123/load_events.json --project=my-shop --image=us-central1-docker.pkg.dev/my-shop/shopstream/load_events:v1-2-0-3-gabc123 --sdk-language=PYTHON --metadata-file=beam_jobs/templates/load_events.json --service-account-email=shopstream-batch@my-shop.iam.gserviceaccount.com --subnetwork=regions/us-central1/subnetworks/shopstream-dataflow --disable-public-ips --staging-location=gs://my-shop-shopstream-dataflow/staging --temp-location=gs://my-shop-shopstream-dataflow/temp --worker-machine-type=n2-standard-2 --max-workers=4
gcloud artifacts docker images describe us-central1-docker.pkg.dev/my-shop/shopstream/stream_events:v1-2-0-3-gabc123 --project=my-shop
# Only if that fails, since there is no such image yet:
docker pull --quiet --platform=linux/amd64 gcr.io/dataflow-templates-base/python311-template-launcher-base:flex_templates_base_image_release_20260720_RC00
docker image inspect '--format={{index .RepoDigests 0}}' gcr.io/dataflow-templates-base/python311-template-launcher-base:flex_templates_base_image_release_20260720_RC00
docker build --platform=linux/amd64 --target=flex-template --build-arg=PIPELINE=stream_events --build-arg=LAUNCHER_IMAGE=gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:... --label=shopstream.launcher=gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:... --tag=us-central1-docker.pkg.dev/my-shop/shopstream/stream_events:v1-2-0-3-gabc123 .
docker push us-central1-docker.pkg.dev/my-shop/shopstream/stream_events:v1-2-0-3-gabc123
gcloud dataflow flex-template build gs://my-shop-shopstream/templates/v1-2-0-3-gabc123/stream_events.json --project=my-shop --image=us-central1-docker.pkg.dev/my-shop/shopstream/stream_events:v1-2-0-3-gabc123 --sdk-language=PYTHON --metadata-file=beam_jobs/templates/stream_events.json --service-account-email=shopstream-stream@my-shop.iam.gserviceaccount.com --subnetwork=regions/us-central1/subnetworks/shopstream-dataflow --disable-public-ips --staging-location=gs://my-shop-shopstream-dataflow/staging --temp-location=gs://my-shop-shopstream-dataflow/temp --worker-machine-type=n2-standard-2 --max-workers=2 --enable-streaming-engine
# Keep the DAGs, and what they import and read, under the version's name.
gcloud storage rsync --recursive --delete-unmatched-destination-objects build/deploy/v1-2-0-3-gabc123 gs://my-shop-shopstream/releases/v1-2-0-3-gabc123
# The last of the version, by which a rollback knows that all of it is there.
gcloud storage cp build/deploy/v1-2-0-3-gabc123.complete gs://my-shop-shopstream/releases/v1-2-0-3-gabc123/complete
# Switch: what DAGs import before the DAGs, then the templates that they launch.
gcloud storage rsync --recursive --delete-unmatched-destination-objects gs://my-shop-shopstream/releases/v1-2-0-3-gabc123/plugins gs://my-shop-shopstream-composer/plugins
gcloud storage rsync --recursive --delete-unmatched-destination-objects '--exclude=^airflow_monitoring\\.py$' gs://my-shop-shopstream/releases/v1-2-0-3-gabc123/dags gs://my-shop-shopstream-composer/dags
gcloud composer environments describe shopstream --project=my-shop --location=us-central1 '--format=value(config.softwareConfig.envVariables.SHOPSTREAM_TEMPLATE_VERSION)'
# Only if that prints another version. Airflow restarts, with all files in place:
gcloud composer environments update shopstream --project=my-shop --location=us-central1 --update-env-variables=SHOPSTREAM_TEMPLATE_VERSION=v1-2-0-3-gabc123
# Where Airflow's REST API is. Each call gets a token, as a header, on its standard input.
gcloud composer environments describe shopstream --project=my-shop --location=us-central1 '--format=value(config.airflowUri)'
# From here on $AIRFLOW stands for what that prints.
# Once Airflow has found the DAG, apply the schemas, and wait for the run's end.
gcloud auth print-access-token
CURL GET '$AIRFLOW/api/v2/dags/apply_schemas'
gcloud auth print-access-token
CURL PATCH JSON '{"is_paused": false}' '$AIRFLOW/api/v2/dags/apply_schemas'
gcloud auth print-access-token
CURL POST JSON '{"dag_run_id": "deploy-v1-2-0-3-gabc123-20260901T123000Z", "logical_date": null, "conf": {}}' '$AIRFLOW/api/v2/dags/apply_schemas/dagRuns'
gcloud auth print-access-token
CURL GET '$AIRFLOW/api/v2/dags/apply_schemas/dagRuns/deploy-v1-2-0-3-gabc123-20260901T123000Z'
# Let keep_stream_alive update the stream; a stopped one stays stopped.
gcloud auth print-access-token
CURL GET '$AIRFLOW/api/v2/variables/shopstream_stream'
# With what is desired otherwise as it was; this is the default. If there was none, POST it.
gcloud auth print-access-token
CURL PATCH JSON '{"key": "shopstream_stream", "value": "{\\"desired\\": \\"running\\", \\"version\\": \\"v1-2-0-3-gabc123\\", \\"how\\": \\"drain\\", \\"since\\": null}"}' '$AIRFLOW/api/v2/variables/shopstream_stream'
# Look whether it is so.
gcloud auth print-access-token
CURL GET '$AIRFLOW/api/v2/variables/shopstream_stream'
"""  # noqa: E501

ROLLED_BACK = """\
# Back to version v1-2-0-3-gabc123 in my-shop, if all of it is there.
gcloud storage ls gs://my-shop-shopstream/releases/v1-2-0-3-gabc123/complete
# Switch: what DAGs import before the DAGs, then the templates that they launch.
gcloud storage rsync --recursive --delete-unmatched-destination-objects gs://my-shop-shopstream/releases/v1-2-0-3-gabc123/plugins gs://my-shop-shopstream-composer/plugins
gcloud storage rsync --recursive --delete-unmatched-destination-objects '--exclude=^airflow_monitoring\\.py$' gs://my-shop-shopstream/releases/v1-2-0-3-gabc123/dags gs://my-shop-shopstream-composer/dags
gcloud composer environments describe shopstream --project=my-shop --location=us-central1 '--format=value(config.softwareConfig.envVariables.SHOPSTREAM_TEMPLATE_VERSION)'
# Only if that prints another version. Airflow restarts, with all files in place:
gcloud composer environments update shopstream --project=my-shop --location=us-central1 --update-env-variables=SHOPSTREAM_TEMPLATE_VERSION=v1-2-0-3-gabc123
# Where Airflow's REST API is. Each call gets a token, as a header, on its standard input.
gcloud composer environments describe shopstream --project=my-shop --location=us-central1 '--format=value(config.airflowUri)'
# From here on $AIRFLOW stands for what that prints.
# Let keep_stream_alive update the stream; a stopped one stays stopped.
gcloud auth print-access-token
CURL GET '$AIRFLOW/api/v2/variables/shopstream_stream'
# With what is desired otherwise as it was; this is the default. If there was none, POST it.
gcloud auth print-access-token
CURL PATCH JSON '{"key": "shopstream_stream", "value": "{\\"desired\\": \\"running\\", \\"version\\": \\"v1-2-0-3-gabc123\\", \\"how\\": \\"drain\\", \\"since\\": null}"}' '$AIRFLOW/api/v2/variables/shopstream_stream'
# Look whether it is so.
gcloud auth print-access-token
CURL GET '$AIRFLOW/api/v2/variables/shopstream_stream'
"""  # noqa: E501

CURL = r"curl --silent --show-error --fail-with-body --max-time 60 --header @- --write-out '\n%{http_code}' --request"  # noqa: E501
JSON = "--header 'Content-Type: application/json' --data"


def commands(said: str) -> list[list[str]]:
    """The commands in what is printed, each once."""
    text = said.replace("CURL", CURL).replace(" JSON ", f" {JSON} ")
    lines = dict.fromkeys(line for line in text.splitlines() if not line.startswith("#"))
    return [shlex.split(line) for line in lines]


COMMANDS = commands(DEPLOYED + ROLLED_BACK)


@pytest.fixture
def target() -> deploy.Target:
    return deploy.read_target("small", PROJECT)


def test_a_dry_deployment_prints_every_command(
    target: deploy.Target, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.deploy(deploy.Shell(dry=True), target, VERSION, NOW)
    assert capsys.readouterr().out == DEPLOYED.replace("CURL", CURL).replace("JSON", JSON)


def test_a_dry_rollback_prints_every_command(
    target: deploy.Target, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy.rollback(deploy.Shell(dry=True), target, VERSION)
    assert capsys.readouterr().out == ROLLED_BACK.replace("CURL", CURL).replace("JSON", JSON)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "gcloud"], ids=shlex.join)
def test_gcloud_has_each_command_and_each_of_its_flags(command: list[str]) -> None:
    assert unknown_to_gcloud(command) == set()


BETWEEN = "|"
"""What stands after each argument of a call that is noted."""


class Cloud:
    """Programs that a deployment calls; they note the calls. gcloud answers a few, curl is the real one."""

    def __init__(
        self, folder: Path, api: Airflow, token: str, failing: tuple[str, ...], launcher: str
    ) -> None:
        self.log = folder / "log"
        self.log.touch()
        self.token = token
        answers = {
            "print-access-token": token,
            "config.airflowUri": api.url,
            "config.softwareConfig.envVariables": "v1",
            "RepoDigests": launcher,
        }
        told = "\n".join(
            f"*{shlex.quote(words)}*) echo {shlex.quote(text)};;" for words, text in answers.items()
        )
        fails = "\n".join(f"*{shlex.quote(words)}*) exit 1;;" for words in failing)
        program = folder / "program"
        # Of the shell, which starts in a tenth of the time that Python takes.
        program.write_text(
            "#!/bin/sh\n"
            "name=${0##*/}\n"
            f'{{ printf \'%s{BETWEEN}\' "$name" "$@"; echo; }} >>{shlex.quote(str(self.log))}\n'
            f'[ $name != curl ] || exec {shutil.which("curl")} "$@"\n'
            "echo 'Your active configuration is: [default]' >&2\n"
            f'case "$name $*" in\n{told}\nesac\n'
            f'case "$name $*" in\n{fails}\nesac\n'
        )
        program.chmod(0o755)
        for name in ("make", "gcloud", "docker", "curl"):
            (folder / name).symlink_to(program)

    def calls(self) -> list[list[str]]:
        return [line.split(BETWEEN)[:-1] for line in self.log.read_text().splitlines()]

    def called(self, *words: str) -> bool:
        return any(all(word in call for word in words) for call in self.calls())


@pytest.fixture
def prepare(
    airflow: Airflow,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Cloud]:
    """Makes a cloud in which Airflow runs, and lets deployments call it."""

    def made(
        role: str = "op",
        failing: tuple[str, ...] = ("images describe",),
        launcher: str = "localhost/mirror@sha256:...",
    ) -> Cloud:
        airflow.find_the_dag_if_due()
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(deploy, "time", airflow)
        return Cloud(tmp_path, airflow, airflow.token(role), failing, launcher)

    return made


@pytest.mark.integration
def test_a_deployment_runs_what_a_dry_one_prints(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    cloud = prepare()
    airflow.set_variable("shopstream_stream", desired_state_text(DesiredState()))
    deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    called = [list(call) for call in dict.fromkeys(map(tuple, cloud.calls()))]
    assert called == commands(DEPLOYED.replace("$AIRFLOW", airflow.url))


@pytest.mark.integration
def test_the_first_deployment_starts_the_dag_and_makes_the_variable(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    prepare()
    deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert not airflow.is_paused()
    assert airflow.runs() == {RUN_ID: "success"}
    assert parse_desired_state(airflow.variable("shopstream_stream")) == DesiredState(version=VERSION)


@pytest.mark.integration
def test_a_token_is_in_nothing_that_is_printed_and_in_no_argument(
    target: deploy.Target,
    prepare: Callable[..., Cloud],
    capfd: pytest.CaptureFixture[str],
) -> None:
    cloud = prepare()
    deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    said = capfd.readouterr()
    assert "gcloud auth print-access-token" in said.out
    assert cloud.token not in said.out + said.err + cloud.log.read_text()


@pytest.mark.integration
def test_images_of_a_version_are_built_once(target: deploy.Target, prepare: Callable[..., Cloud]) -> None:
    cloud = prepare(failing=())
    deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert not cloud.called("docker", "build")
    assert cloud.called("flex-template", "build")


@pytest.mark.integration
def test_an_image_is_built_of_the_launcher_that_was_pulled_and_tells_its_digest(
    target: deploy.Target, prepare: Callable[..., Cloud]
) -> None:
    cloud = prepare(launcher="localhost/mirror@sha256:0a1b")
    deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    name = "gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:0a1b"
    assert cloud.called(
        "docker", "build", f"--build-arg=LAUNCHER_IMAGE={name}", f"--label=shopstream.launcher={name}"
    )


@pytest.mark.integration
def test_a_launcher_without_a_digest_is_refused(target: deploy.Target, prepare: Callable[..., Cloud]) -> None:
    prepare(launcher="")
    with pytest.raises(deploy.Refused, match=r"Docker tells no digest of gcr\.io/dataflow-templates-base/"):
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)


@pytest.mark.integration
@pytest.mark.parametrize("action", ["deploy", "rollback"])
def test_a_stream_that_was_stopped_stays_stopped(
    action: str,
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    prepare()
    stopped = parse_desired_state('{"desired": "stopped", "how": "cancel", "since": "2026-08-01T00:00:00Z"}')
    airflow.set_variable("shopstream_stream", desired_state_text(stopped))
    if action == "deploy":
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    else:
        deploy.rollback(deploy.Shell(dry=False), target, VERSION)
    wanted = DesiredState(stopped.desired, VERSION, How.CANCEL, stopped.since)
    assert parse_desired_state(airflow.variable("shopstream_stream")) == wanted


@pytest.mark.integration
def test_a_malformed_desired_state_is_refused_and_left_as_it_is(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    prepare()
    airflow.set_variable("shopstream_stream", '{"desired": "running", "colour": "red"}')
    with pytest.raises(deploy.Refused, match=r"Variable shopstream_stream: .* unknown keys colour"):
        deploy.rollback(deploy.Shell(dry=False), target, VERSION)
    assert airflow.variable("shopstream_stream") == '{"desired": "running", "colour": "red"}'


@pytest.mark.integration
@pytest.mark.parametrize("stops", [1, 3])
def test_a_stop_that_undid_the_version_meanwhile_is_seen(
    stops: int,
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare()
    stopped = parse_desired_state('{"desired": "stopped", "version": "v1"}')
    calls: list[str] = []
    call = deploy.Airflow.call

    def call_while_others_write(client: deploy.Airflow, method: str, *args: Any, **kwargs: Any) -> Any:
        answer = call(client, method, *args, **kwargs)
        calls.append(method)
        if method != "GET" and calls.count("POST") + calls.count("PATCH") <= stops:
            airflow.set_variable("shopstream_stream", desired_state_text(stopped))
        return answer

    monkeypatch.setattr(deploy.Airflow, "call", call_while_others_write)
    if stops == 1:
        deploy.rollback(deploy.Shell(dry=False), target, VERSION)
        assert calls == ["GET", "POST", "GET", "PATCH", "GET"]
        wanted = DesiredState(stopped.desired, VERSION)
        assert parse_desired_state(airflow.variable("shopstream_stream")) == wanted
    else:
        with pytest.raises(deploy.Refused, match="shopstream_stream was changed 3 times since; deploy again"):
            deploy.rollback(deploy.Shell(dry=False), target, VERSION)


@pytest.mark.integration
@pytest.mark.parametrize("knew_it_once", [False, True])
def test_a_deployment_waits_until_airflow_has_found_the_dag(
    knew_it_once: bool,
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    if knew_it_once:
        airflow.find_the_dag_if_due()
        airflow.lose_the_dag()
    airflow.finds_the_dag_after = 30
    prepare()
    deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert airflow.runs() == {RUN_ID: "success"}


@pytest.mark.integration
def test_nothing_is_triggered_when_airflow_does_not_find_the_dag(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    airflow.finds_the_dag_after = 3600
    prepare()
    monkeypatch.setattr(deploy, "DAG_TIMEOUT_SECONDS", 30)
    with pytest.raises(deploy.Refused, match="Airflow has not found the DAG apply_schemas after 30 seconds"):
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert airflow.runs() == {}
    assert airflow.variable("shopstream_stream") is None


@pytest.mark.integration
def test_nobody_is_told_to_roll_back_while_the_schemas_are_still_applied(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    airflow.run_ends_as = "running"
    prepare()
    monkeypatch.setattr(deploy, "SCHEMAS_TIMEOUT_SECONDS", 1)
    with pytest.raises(
        deploy.Refused, match=f"Run {RUN_ID} of apply_schemas is running after 1 seconds"
    ) as told:
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert "Do not roll back: wait for the run's end" in str(told.value)


@pytest.mark.integration
def test_the_stream_keeps_its_version_when_the_schemas_fail(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    airflow.run_ends_as = "failed"
    prepare()
    with pytest.raises(deploy.Refused, match=f"Run {RUN_ID} of apply_schemas is failed, so the stream keeps"):
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert airflow.variable("shopstream_stream") is None


@pytest.mark.integration
def test_a_run_that_is_there_already_is_not_started_again(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    prepare()
    for _ in range(2):
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert airflow.runs() == {RUN_ID: "success"}


@pytest.mark.integration
def test_an_airflow_that_is_away_for_a_moment_is_asked_again(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    prepare()
    stopped = parse_desired_state('{"desired": "stopped"}')
    airflow.set_variable("shopstream_stream", desired_state_text(stopped))
    airflow.is_away_until = 30
    deploy.rollback(deploy.Shell(dry=False), target, VERSION)
    wanted = DesiredState(stopped.desired, VERSION)
    assert parse_desired_state(airflow.variable("shopstream_stream")) == wanted


@pytest.mark.integration
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (None, "Airflow answers GET variables/shopstream_stream with 404: <html>no healthy upstream</html>."),
        ("http://127.0.0.1:1", "Airflow answers GET variables/shopstream_stream with nothing: curl: (7) "),
    ],
)
def test_an_airflow_that_stays_away_is_told_in_one_sentence(
    url: str | None,
    sentence: str,
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    airflow.is_away_until = 3600
    airflow.url = url or airflow.url
    prepare()
    monkeypatch.setattr(deploy, "AWAY_SECONDS", 30)
    with pytest.raises(deploy.Refused, match=re.escape(sentence)):
        deploy.rollback(deploy.Shell(dry=False), target, VERSION)


@pytest.mark.integration
def test_airflows_role_op_suffices_and_user_does_not(
    target: deploy.Target,
    airflow: Airflow,
    prepare: Callable[..., Cloud],
) -> None:
    prepare(role="user")
    with pytest.raises(deploy.Refused, match="not let this account in for GET variables/shopstream_stream"):
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    assert airflow.runs() == {RUN_ID: "success"}
    assert airflow.variable("shopstream_stream") is None


def test_a_release_holds_what_dags_import_and_read_and_nothing_else_of_the_repository(tmp_path: Path) -> None:
    release = deploy.assemble(ROOT, tmp_path / "release")
    assert sorted(path.name for path in release.iterdir()) == ["dags", "plugins"]
    assert sorted(path.name for path in (release / "plugins").iterdir()) == [
        ".airflowignore", "beam_jobs", "shopstream", "shopstream_dashboard.py", "sql"
    ]  # fmt: skip
    assert (release / "plugins" / "shopstream" / "charts" / "vega.js").exists()
    assert {path.name for path in (release / "plugins" / "beam_jobs").iterdir()} >= {
        "contract.py",
        "__init__.py",
    }
    assert not list(release.rglob("__pycache__"))


@pytest.mark.integration
def test_what_a_release_holds_can_be_imported_by_itself(tmp_path: Path) -> None:
    plugins = deploy.assemble(ROOT, tmp_path / "release") / "plugins"
    modules = [
        ".".join(path.relative_to(plugins).with_suffix("").parts).removesuffix(".__init__")
        for path in plugins.rglob("*.py")
    ]
    code = (
        "import importlib, pathlib, runpy, sys\n"
        f"for name in {sorted(modules)!r}: importlib.import_module(name)\n"
        f"for path in pathlib.Path({str(plugins)!r}, '../dags').glob('*.py'): runpy.run_path(str(path))\n"
        "from shopstream.settings import settings\n"
        "from shopstream.tables.folder import all_tables\n"
        "assert all_tables(settings().sql_dir)\n"
        "assert not [name for name in sys.modules if name.startswith('apache_beam')]\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(plugins),
        "AIRFLOW_HOME": str(tmp_path),
        "SHOPSTREAM_SQL_DIR": str(plugins / "sql"),
    }
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_airflow_takes_one_file_of_a_release_for_a_plugin(tmp_path: Path) -> None:
    plugins = deploy.assemble(ROOT, tmp_path / "release") / "plugins"
    found = find_path_from_directory(str(plugins), ".airflowignore")
    assert [Path(path).name for path in found if path.endswith(".py")] == ["shopstream_dashboard.py"]


def test_a_release_without_the_charts_library_is_refused(tmp_path: Path) -> None:
    for room in ("dags", "plugins", "sql"):
        (tmp_path / room).mkdir()
    with pytest.raises(deploy.Refused, match=r"vega\.js is not there; `make install` makes it"):
        deploy.assemble(tmp_path, tmp_path / "release")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("deploy --project my-shop", "ENV is 'not set'; give ENV=small, ENV=medium or ENV=production."),
        (
            "deploy --env test --project my-shop",
            "ENV is 'test'; give ENV=small, ENV=medium or ENV=production.",
        ),
        ("deploy --env small", "PROJECT is 'not set'; give the Google Cloud project's id."),
        (
            "deploy --env small --project 'x; rm -r /'",
            "PROJECT is 'x; rm -r /'; give the Google Cloud project's id.",
        ),
        (
            "rollback --env small --project my-shop",
            "VERSION is not set; `gcloud storage ls gs://my-shop-shopstream/releases/*/complete` lists what "
            "there is.",
        ),
        (
            "rollback --env small --project my-shop --version v1.2",
            "VERSION is 'v1.2'; give it as `make deploy` printed it.",
        ),
    ],
)
def test_a_missing_or_wrong_variable_is_refused_in_one_sentence(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.main(shlex.split(arguments)) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{sentence}\n")


@pytest.mark.parametrize("tool", ["gcloud", "docker", "terraform", "curl"])
def test_a_missing_tool_is_refused_in_one_sentence(
    tool: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in {"git", "gcloud", "docker", "terraform", "curl"} - {tool}:
        (tmp_path / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert deploy.main(["deploy", "--env", "small", "--project", PROJECT]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"{tool} is not installed; see https://\S+\.\n", said.err)


def test_a_rollback_to_what_was_never_deployed_is_refused(
    target: deploy.Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gcloud").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(deploy.Refused, match=f"/releases/{VERSION}/complete is not there"):
        deploy.rollback(deploy.Shell(dry=False), target, VERSION)


@pytest.mark.integration
@pytest.mark.parametrize("failing", ["flex-template build", "docker push", "storage rsync"])
def test_a_version_of_which_a_part_is_missing_does_not_get_the_mark_that_a_rollback_looks_for(
    failing: str, target: deploy.Target, prepare: Callable[..., Cloud]
) -> None:
    cloud = prepare(failing=("images describe", failing))
    with pytest.raises(deploy.Refused, match=failing.partition(" ")[2]):
        deploy.deploy(deploy.Shell(dry=False), target, VERSION, NOW)
    [mark] = [command[-1] for command in commands(ROLLED_BACK) if command[:3] == ["gcloud", "storage", "ls"]]
    assert not cloud.called(mark)
    assert [command[2] for command in commands(DEPLOYED) if command[-1] == mark] == ["cp"]


@pytest.mark.parametrize("arguments", ["deploy", f"rollback --version {VERSION}"])
def test_a_dry_run_needs_no_project_and_says_what_stands_for_it(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.main(shlex.split(f"{arguments} --env small --dry-run")) == 0
    said = capsys.readouterr().out
    assert said.startswith("# PROJECT is not set: your-project-id stands for it.\n")
    assert "gs://your-project-id-shopstream/releases/" in said
    assert said.endswith("\n# Nothing of this was run.\n")


@pytest.mark.parametrize(
    ("described", "version"),
    [("v1.2.0-3-gabc123", "v1-2-0-3-gabc123"), ("0a1b2c3d4e5f\n", "0a1b2c3d4e5f"), ("V2.0+rc1", "v2-0-rc1")],
)
def test_a_version_is_a_label_and_a_tag(described: str, version: str) -> None:
    assert deploy.version_of(described) == version


def test_a_description_too_long_for_a_label_is_refused() -> None:
    with pytest.raises(deploy.Refused, match="63"):
        deploy.version_of("v" * 64)


def test_each_template_has_a_command_and_runs_as_its_own_account(target: deploy.Target) -> None:
    assert TEMPLATES == ["load_events", "stream_events"]
    for name, role in zip(TEMPLATES, ("batch", "stream"), strict=True):
        command = deploy.template_command(target, ROOT / "beam_jobs" / "templates" / f"{name}.json", VERSION)
        assert f"--service-account-email=shopstream-{role}@{PROJECT}.iam.gserviceaccount.com" in command
        assert ("--enable-streaming-engine" in command) == (role == "stream")
