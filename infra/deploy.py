"""Deploys a version of shopstream to a Google Cloud project that infra/ has set up, or takes one back.

    make deploy ENV=small PROJECT=my-shop            DRY_RUN=1 prints every command and runs none
    make rollback ENV=small PROJECT=my-shop VERSION=...

A version is a commit, named by git describe. Everything of it is put under its own name first (images,
templates/<version>/, releases/<version>/) and is then switched to, so that a rollback is only the switch. The
stream comes last: keep_stream_alive updates it once the schemas are as the version needs them.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.imports import airflow_files
from local.root import ROOT
from shopstream import layout
from shopstream.settings import pipeline_image
from shopstream.stream import decide as stream

ENVIRONMENTS = ("small", "medium", "production")
ENVIRONMENT = "shopstream"
"""The name of the Composer environment; composer.tf gives it."""
PLACEHOLDER_PROJECT = "your-project-id"
"""Stands for the project in a dry run that is given none."""
KEEP_LIVENESS_DAG = r"--exclude=^airflow_monitoring\.py$"
"""Composer puts this DAG into dags/ itself and takes the scheduler for dead without it."""
VERSION_VARIABLE = "SHOPSTREAM_TEMPLATE_VERSION"
STREAM_VARIABLE = "shopstream_stream"
"""The Airflow Variable with the desired state of the stream; see shopstream.stream.tasks."""

DAG_TIMEOUT_SECONDS = 900
"""Airflow finds a new DAG within a minute or two of its file."""
SCHEMAS_TIMEOUT_SECONDS = 3600
AWAY_SECONDS = 300
"""Airflow's web server may be away for a minute or two after a restart."""
CALL_SECONDS = 60
VARIABLE_WRITES = 3
NOT_LET_IN = (302, 401, 403)
"""302 leads a browser to Google's login."""
POLL_SECONDS = 20

_INSTALL = {
    "curl": "https://curl.se/download.html",
    "docker": "https://docs.docker.com/engine/install/",
    "gcloud": "https://cloud.google.com/sdk/docs/install",
    "git": "https://git-scm.com/downloads",
    "terraform": "https://developer.hashicorp.com/terraform/install",
}


class Refused(Exception):
    """Nothing more is done; the message is one sentence that says what is wrong and what to do."""


@dataclass(frozen=True)
class Target:
    """Where a version goes. The names are those that infra/*.tf gives; a test holds the two together."""

    project: str
    region: str
    sizes: dict[str, Any]

    @property
    def bucket(self) -> str:
        """The data bucket's URI."""
        return f"gs://{self.project}-shopstream"

    @property
    def temp_bucket(self) -> str:
        """The URI of the bucket for Dataflow's own files."""
        return f"gs://{self.project}-shopstream-dataflow"

    @property
    def composer_bucket(self) -> str:
        """The Composer environment's bucket's URI."""
        return f"gs://{self.project}-shopstream-composer"

    @property
    def registry_host(self) -> str:
        """The host to which docker pushes."""
        return self.image("", "").partition("/")[0]

    @property
    def subnetwork(self) -> str:
        """The subnetwork of Dataflow's workers."""
        return f"regions/{self.region}/subnetworks/shopstream-dataflow"

    def image(self, pipeline: str, version: str) -> str:
        """The image of a pipeline."""
        return pipeline_image(self.region, self.project, pipeline, version)

    def service_account(self, role: str) -> str:
        """The service account of a role of accounts.tf."""
        return f"shopstream-{role}@{self.project}.iam.gserviceaccount.com"


class Shell:
    """Runs commands, each printed before; a dry one only prints them."""

    def __init__(self, *, dry: bool) -> None:
        """`dry` is whether to only print."""
        self.dry = dry

    def say(self, text: str) -> None:
        """Print what comes next, as a shell's comment."""
        print(f"# {text}", flush=True)

    def run(self, *command: str) -> None:
        """Run a command.

        Raises:
            Refused: it fails. It has printed why.
        """
        self._print(command)
        if not self.dry and (code := subprocess.run(command, cwd=ROOT, check=False).returncode):
            raise Refused(f"{shlex.join(command[:4])} ... ended with exit code {code}; its output says why.")

    def output(self, *command: str) -> str:
        """Run a command and return what it prints, stripped; "" when dry.

        Raises:
            Refused: it fails.
        """
        self._print(command)
        if self.dry:
            return ""
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Refused(
                f"{shlex.join(command)} ended with exit code {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout.strip()

    def answer(self, *command: str, given: str) -> tuple[str, str]:
        """Run a command with `given` on its standard input, and return what it prints in its two streams.

        However it ends. In a dry run ("", "").
        """
        self._print(command)
        if self.dry:
            return "", ""
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, input=given)
        return done.stdout, done.stderr

    def succeeds(self, *command: str) -> bool:
        """Tell whether a command succeeds; False when dry."""
        self._print(command)
        return (
            not self.dry
            and not subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode
        )

    def _print(self, command: Sequence[str]) -> None:
        print(shlex.join(command), flush=True)


class Airflow:
    """Airflow's REST API on Composer's web server, called by curl.

    Who calls is told by a Google access token. It is given to curl on its standard input, since everybody
    sees arguments, and it lives for an hour at most, so each call takes a new one.
    """

    def __init__(self, shell: Shell, address: str) -> None:
        """`address` is the environment's config.airflowUri."""
        self.shell = shell
        self.address = address

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, unless: int | None = None
    ) -> dict[str, Any] | None:
        """Call /api/v2/<path> and return the answer, None if its status is `unless`, {} in a dry run.

        While there is no answer, or not Airflow's, the call is repeated.

        Raises:
            Refused: the web server lets nobody in, Airflow refuses, or both stay away.
        """
        deadline = time.monotonic() + AWAY_SECONDS
        while True:
            status, said = self._ask(method, path, body)
            if self.shell.dry:
                return {}
            answer = _json_object(said)
            if answer is not None and status == unless:
                return None
            if answer is not None and 200 <= status < 300:
                return answer
            if status in NOT_LET_IN:
                raise Refused(
                    f"Airflow's web server does not let this account in for {method} {path} ({status}: "
                    f"{said[:300]}); docs/deployment.md says which roles it needs."
                )
            if (answer is not None and status < 500) or time.monotonic() > deadline:
                raise Refused(f"Airflow answers {method} {path} with {status or 'nothing'}: {said[:500]}.")
            time.sleep(POLL_SECONDS)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
        """The answer's status and text; 0 and curl's error if there is none."""
        token = self.shell.output("gcloud", "auth", "print-access-token")
        content = ["--header", "Content-Type: application/json", "--data", json.dumps(body)] if body else []
        printed, error = self.shell.answer(
            "curl", "--silent", "--show-error", "--fail-with-body", "--max-time", str(CALL_SECONDS),
            "--header", "@-", "--write-out", r"\n%{http_code}",
            "--request", method, *content, f"{self.address}/api/v2/{path}",
            given=f"Authorization: Bearer {token}",
        )  # fmt: skip
        said, _, status = printed.rpartition("\n")
        return int(status or 0), said or error.strip().rpartition("\n")[2]


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def deploy(shell: Shell, target: Target, version: str, now: datetime) -> None:
    """Put a version under its name, switch to it, apply its schemas, and let the stream follow.

    May be repeated after a failure, at whichever step.

    Raises:
        Refused: a step fails; the steps before it stay.
    """
    shell.say(f"Version {version} to {target.project}. Check it.")
    shell.run("make", "check", "infra-check")
    shell.say("Build the images, once a version, and the templates that launch them.")
    shell.run("gcloud", "auth", "configure-docker", target.registry_host, "--quiet")
    for metadata in sorted((ROOT / "beam_jobs" / "templates").glob("*.json")):
        _build_image(shell, target, metadata.stem, version)
        shell.run(*template_command(target, metadata, version))
    shell.say("Keep the DAGs, and what they import and read, under the version's name.")
    release = assemble(ROOT, ROOT / "build" / "deploy" / version)
    shell.run(*_sync(f"{release.relative_to(ROOT)}", f"{target.bucket}/releases/{version}"))
    shell.say("The last of the version, by which a rollback knows that all of it is there.")
    marker = release.with_name(f"{version}.complete")
    marker.write_text(f"{version}\n", encoding="utf-8")
    shell.run("gcloud", "storage", "cp", f"{marker.relative_to(ROOT)}", _marker(target, version))
    _switch(shell, target, version)
    airflow = _airflow(shell, target)
    _apply_schemas(airflow, version, now)
    _set_stream_version(airflow, version)


def rollback(shell: Shell, target: Target, version: str) -> None:
    """Switch to a version that was deployed before. Schemas stay: their changes only ever add.

    Raises:
        Refused: not all of it was ever put here, or a step fails.
    """
    shell.say(f"Back to version {version} in {target.project}, if all of it is there.")
    marker = _marker(target, version)
    if not shell.succeeds("gcloud", "storage", "ls", marker) and not shell.dry:
        raise Refused(f"{marker} is not there; `gcloud storage ls {_marker(target, '*')}` lists what is.")
    _switch(shell, target, version)
    _set_stream_version(_airflow(shell, target), version)


def template_command(target: Target, metadata: Path, version: str) -> tuple[str, ...]:
    """The command that writes a template's specification; `metadata` is a file of beam_jobs/templates."""
    is_stream = json.loads(metadata.read_text(encoding="utf-8")).get("streaming", False)
    role = "stream" if is_stream else "batch"
    return (
        "gcloud", "dataflow", "flex-template", "build",
        f"{target.bucket}/templates/{version}/{metadata.name}",
        f"--project={target.project}",
        f"--image={target.image(metadata.stem, version)}",
        "--sdk-language=PYTHON",
        f"--metadata-file={metadata.relative_to(ROOT)}",
        f"--service-account-email={target.service_account(role)}",
        f"--subnetwork={target.subnetwork}",
        "--disable-public-ips",
        f"--staging-location={target.temp_bucket}/{layout.STAGING}",
        f"--temp-location={target.temp_bucket}/{layout.TEMP}",
        f"--worker-machine-type={target.sizes[f'{role}_machine_type']}",
        f"--max-workers={target.sizes[f'{role}_max_workers']}",
        *(["--enable-streaming-engine"] if is_stream else []),
    )  # fmt: skip


def assemble(root: Path, release: Path) -> Path:
    """Copy what Composer gets into `release`, as its folders dags/ and plugins/, and return it.

    sql/ and the files of beam_jobs/ go into plugins/, which is on Python's path on workers, DAG processor and
    web server alike.

    Raises:
        Refused: the charts' library, which git does not hold, is not made.
    """
    library = "plugins/shopstream/charts/vega.js"
    if not (root / library).is_file():
        raise Refused(f"{library} is not there; `make install` makes it.")
    shutil.rmtree(release, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for room in ("dags", "plugins"):
        shutil.copytree(root / room, release / room, ignore=ignore)
    shutil.copytree(root / "sql", release / "plugins" / "sql", ignore=ignore)
    for path in airflow_files(root):
        if path.parts[0] == "beam_jobs":
            (release / "plugins" / path.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(root / path, release / "plugins" / path)
    return release


def read_target(environment: str, project: str) -> Target:
    """The target that infra/<environment>.tfvars describes.

    Raises:
        Refused: there is no such environment, or the project's id cannot be one.
    """
    if environment not in ENVIRONMENTS:
        raise Refused(f"ENV is {environment or 'not set'!r}; give ENV=small, ENV=medium or ENV=production.")
    if not re.fullmatch("[a-z][-a-z0-9]{4,28}[a-z0-9]", project):
        raise Refused(f"PROJECT is {project or 'not set'!r}; give the Google Cloud project's id.")
    text = (ROOT / "infra" / f"{environment}.tfvars").read_text(encoding="utf-8")
    sizes = {
        name: json.loads(value)
        for name, value in re.findall(r'^(\w+) *= *("[^"]*"|[\d.]+|true|false)$', text, re.MULTILINE)
    }
    return Target(project, sizes["region"], sizes)


def version_of(description: str) -> str:
    """The version named by what git describe prints: a label of a Dataflow job and a tag of an image.

    Raises:
        Refused: it cannot be.
    """
    version = re.sub("[^a-z0-9_-]", "-", description.strip().lower())
    try:
        stream.check_version(version)
    except ValueError as error:
        raise Refused(f"{error}.") from error
    return version


def _marker(target: Target, version: str) -> str:
    return f"{target.bucket}/releases/{version}/complete"


def _build_image(shell: Shell, target: Target, pipeline: str, version: str) -> None:
    image = target.image(pipeline, version)
    if shell.succeeds(
        "gcloud", "artifacts", "docker", "images", "describe", image, f"--project={target.project}"
    ):
        return
    if shell.dry:
        shell.say("Only if that fails, since there is no such image yet:")
    launcher = _launcher(shell)
    options = (
        "--platform=linux/amd64", "--target=flex-template", f"--build-arg=PIPELINE={pipeline}",
        # Tags move: the image tells which launcher is in it.
        f"--build-arg=LAUNCHER_IMAGE={launcher}", f"--label=shopstream.launcher={launcher}",
    )  # fmt: skip
    shell.run("docker", "build", *options, f"--tag={image}", ".")
    shell.run("docker", "push", image)


def _launcher(shell: Shell) -> str:
    """Google's image of the Flex Template launcher that the Dockerfile names, by its digest."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    [image] = re.findall(r"^ARG LAUNCHER_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
    shell.run("docker", "pull", "--quiet", "--platform=linux/amd64", image)
    told = shell.output("docker", "image", "inspect", "--format={{index .RepoDigests 0}}", image)
    digest = "sha256:..." if shell.dry else told.partition("@")[2]
    if not digest:
        raise Refused(f"Docker tells no digest of {image}, but {told!r}; pull it from its registry.")
    return f"{image.rpartition(':')[0]}@{digest}"


def _switch(shell: Shell, target: Target, version: str) -> None:
    shell.say("Switch: what DAGs import before the DAGs, then the templates that they launch.")
    for folder in ("plugins", "dags"):
        source, destination = (
            f"{target.bucket}/releases/{version}/{folder}",
            f"{target.composer_bucket}/{folder}",
        )
        shell.run(*_sync(source, destination, *([KEEP_LIVENESS_DAG] if folder == "dags" else [])))
    variable = f"config.softwareConfig.envVariables.{VERSION_VARIABLE}"
    if shell.output(*_composer(target, "describe"), f"--format=value({variable})") != version:
        if shell.dry:
            shell.say("Only if that prints another version. Airflow restarts, with all files in place:")
        shell.run(*_composer(target, "update"), f"--update-env-variables={VERSION_VARIABLE}={version}")


def _airflow(shell: Shell, target: Target) -> Airflow:
    shell.say("Where Airflow's REST API is. Each call gets a token, as a header, on its standard input.")
    address = shell.output(*_composer(target, "describe"), "--format=value(config.airflowUri)")
    if shell.dry:
        shell.say("From here on $AIRFLOW stands for what that prints.")
        address = "$AIRFLOW"
    if not address:
        raise Refused(f"Environment {ENVIRONMENT} has no config.airflowUri; see how it is in the console.")
    return Airflow(shell, address)


def _apply_schemas(airflow: Airflow, version: str, now: datetime) -> None:
    shell, dag = airflow.shell, "dags/apply_schemas"
    shell.say("Once Airflow has found the DAG, apply the schemas, and wait for the run's end.")
    deadline = time.monotonic() + DAG_TIMEOUT_SECONDS
    while (found := airflow.call("GET", dag, unless=404)) is None or found.get("is_stale"):
        if time.monotonic() > deadline:
            raise Refused(
                f"Airflow has not found the DAG apply_schemas after {DAG_TIMEOUT_SECONDS} seconds; look for "
                "import errors on its page, and deploy again."
            )
        time.sleep(POLL_SECONDS)
    airflow.call("PATCH", dag, {"is_paused": False})
    run_id = f"deploy-{version}-{now:%Y%m%dT%H%M%SZ}"
    run: dict[str, Any] = {"dag_run_id": run_id, "logical_date": None, "conf": {}}
    # A call that was repeated may find its run there already: 409.
    airflow.call("POST", f"{dag}/dagRuns", run, unless=409)
    deadline = time.monotonic() + SCHEMAS_TIMEOUT_SECONDS
    while True:
        there = airflow.call("GET", f"{dag}/dagRuns/{run_id}") or {}
        state = "success" if shell.dry else there["state"]
        if state == "success":
            return
        if state == "failed":
            raise Refused(
                f"Run {run_id} of apply_schemas is {state}, so the stream keeps its version; look at its log "
                "in Airflow, mend what it says, and deploy again or roll back."
            )
        if time.monotonic() > deadline:
            # It may be taking over a large table, and drop what an earlier version reads at its end.
            raise Refused(
                f"Run {run_id} of apply_schemas is {state} after {SCHEMAS_TIMEOUT_SECONDS} seconds and goes "
                "on by itself; the stream keeps its version. Do not roll back: wait for the run's end in "
                "Airflow, then deploy again."
            )
        time.sleep(POLL_SECONDS)


def _set_stream_version(airflow: Airflow, version: str) -> None:
    shell, path = airflow.shell, f"variables/{STREAM_VARIABLE}"
    shell.say("Let keep_stream_alive update the stream; a stopped one stays stopped.")
    for _ in range(VARIABLE_WRITES):
        found = airflow.call("GET", path, unless=404)
        try:
            state = stream.parse_desired_state((found["value"] or "") if found else None)
        except stream.MalformedDesiredState as error:
            raise Refused(f"Airflow Variable {STREAM_VARIABLE}: {error}") from error
        if state.version == version:
            return
        if shell.dry:
            shell.say(
                "With what is desired otherwise as it was; this is the default. If there was none, POST it."
            )
        value = stream.desired_state_text(replace(state, version=version))
        variable = {"key": STREAM_VARIABLE, "value": value}
        if found is None:
            airflow.call("POST", "variables", variable)
        else:
            airflow.call("PATCH", path, variable)
        # No write of Airflow's fails because another was faster: a stop of meanwhile may have undone it.
        shell.say("Look whether it is so.")
        if shell.dry:
            airflow.call("GET", path)
            return
    raise Refused(
        f"Airflow Variable {STREAM_VARIABLE} was changed {VARIABLE_WRITES} times since; deploy again when "
        "nobody stops or starts the stream."
    )


def _sync(source: str, destination: str, *flags: str) -> tuple[str, ...]:
    sync = ("gcloud", "storage", "rsync", "--recursive", "--delete-unmatched-destination-objects")
    return (*sync, *flags, source, destination)


def _composer(target: Target, verb: str) -> tuple[str, ...]:
    where = (f"--project={target.project}", f"--location={target.region}")
    return ("gcloud", "composer", "environments", verb, ENVIRONMENT, *where)


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when all was done, 1 when it was refused."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.deploy", description="Deploy a version, or take one back."
    )
    parser.add_argument("action", choices=("deploy", "rollback"))
    parser.add_argument("--env", default="", help=f"one of {', '.join(ENVIRONMENTS)}")
    parser.add_argument("--project", default="", help="the Google Cloud project's id")
    parser.add_argument("--version", default="", help="for rollback: the version to switch to")
    parser.add_argument("--dry-run", action="store_true", help="print every command, run none")
    options = parser.parse_args(argv)
    try:
        _act(options)
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    return 0


def _act(options: argparse.Namespace) -> None:
    shell = Shell(dry=options.dry_run)
    if shell.dry and not options.project:
        options.project = PLACEHOLDER_PROJECT
        shell.say(f"PROJECT is not set: {PLACEHOLDER_PROJECT} stands for it.")
    target = read_target(options.env, options.project)
    if options.action == "rollback":
        if not options.version:
            raise Refused(
                f"VERSION is not set; `gcloud storage ls {_marker(target, '*')}` lists what there is."
            )
        if version_of(options.version) != options.version:
            raise Refused(f"VERSION is {options.version!r}; give it as `make deploy` printed it.")
        if not shell.dry:
            _need("gcloud", "curl")
        rollback(shell, target, options.version)
        _say_end(shell, f"version {options.version} is back")
        return
    _need("git")
    if not shell.dry:
        _need("gcloud", "docker", "terraform", "curl")
        if changed := _git("status", "--porcelain"):
            path = changed.splitlines()[0][3:]
            raise Refused(f"{path} is not committed; a version is a commit, so commit or remove it.")
    version = version_of(_git("describe", "--tags", "--always", "--abbrev=12"))
    deploy(shell, target, version, datetime.now(UTC))
    _say_end(shell, f"version {version} is deployed")


def _say_end(shell: Shell, what: str) -> None:
    if shell.dry:
        shell.say("Nothing of this was run.")
    else:
        shell.say(f"{what.capitalize()}; keep_stream_alive updates the stream at its next run.")


def _need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            raise Refused(f"{tool} is not installed; see {_INSTALL[tool]}.")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main())
