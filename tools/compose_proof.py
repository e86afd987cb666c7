"""Prove docker-compose.yaml and the Dockerfile by running them, also where no image can be pulled.

    make compose-proof        as root, on Debian 12 with the gcloud SDK and its emulators

It starts a Docker engine of its own, with nothing in it, and gives it stand-ins under the official images'
names, made of Debian packages and of this machine's gcloud SDK (docs/compose.md says what that leaves
unproven). In a copy of what is committed it starts the stack, which builds its image, runs the demo, edits a
DAG, kills the main process of each container in turn, stops the stack and starts it again together with the
demo, and builds and tries the Flex Templates' images. At its end nothing is left: no container, volume, image
or engine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name

from local.root import ROOT
from local.stack.airflow_client import AirflowClient
from local.stack.compose import PROVISIONED
from local.stack.emulators import free_port
from local.stack.services import DEFAULT_PORTS

PACKAGES = {
    "dockerd": "docker.io",
    "docker-compose": "docker-compose",
    "debootstrap": "debootstrap",
    "tini": "tini",
}
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ENGINE_SECONDS = 60
RESTART_SECONDS = 60
HEALTHY_SECONDS = 600
DEMO_SECONDS = 3600
EDIT_SECONDS = 60
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
PIPELINES = ("load_events", "stream_events")
PROJECT = "proof"
"""Docker-compose's own, by which it names the network of the stack."""

POSTGRES_STAND_IN = """
FROM {python}
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql gosu
COPY entrypoint.sh /usr/local/bin/
ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
"""
POSTGRES_ENTRYPOINT = """\
#!/bin/bash
# As the official image does: a first start makes the database, with the password out of the file.
set -euo pipefail
export PGPASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
mkdir -p "$PGDATA" /var/run/postgresql
chown postgres "$PGDATA" /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  install --owner=postgres --mode=600 "$POSTGRES_PASSWORD_FILE" /tmp/password
  gosu postgres initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  gosu postgres pg_ctl start --wait --options="-c listen_addresses=''"
  if [ "$POSTGRES_DB" != postgres ]; then
    createdb --host=/var/run/postgresql --username="$POSTGRES_USER" "$POSTGRES_DB"
  fi
  gosu postgres pg_ctl stop --wait
fi
exec gosu postgres postgres -c "listen_addresses=*"
"""
PUBSUB_STAND_IN = """
FROM {python}
RUN apt-get update && apt-get install --yes --no-install-recommends default-jre-headless
COPY google-cloud-sdk /google-cloud-sdk
ENV PATH=/google-cloud-sdk/bin:$PATH
"""
SDK_PARTS = (".install", "bin/gcloud", "data", "lib", "platform/pubsub-emulator", "properties", "VERSION")
PLACEHOLDER = "#!/bin/sh\necho 'A stand-in: this program is only in the official image.' >&2\nexit 1\n"


class Failed(Exception):
    """What was to be proven does not hold."""


def main(argv: list[str] | None = None) -> int:
    """Run the proof; 0 when all of it holds."""
    parser = argparse.ArgumentParser(prog="make compose-proof", description=__doc__)
    parser.parse_args(argv)
    if os.geteuid() != 0:
        sys.exit("A Docker engine needs root: run it as root.")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    try:
        _install_packages()
        with tempfile.TemporaryDirectory(prefix="compose-proof-") as folder, _engine(Path(folder)):
            checkout = _checkout(Path(folder))
            images = _images(checkout)
            _make_stand_ins(Path(folder), images)
            _prove(Path(folder), checkout)
    except FAILURES as error:
        _say(f"FAILED after {time.monotonic() - began:.0f} s: {error}")
        return 1
    _say(f"Proven in {time.monotonic() - began:.0f} s; nothing is left of it.")
    return 0


def _prove(folder: Path, checkout: Path) -> None:
    stack = Stack(checkout, folder / "network-host.yaml")
    # What is wrong in a step need not be wrong in the next: one run tells all that it can.
    failures: list[str] = []
    try:
        with _step("up, which builds"):
            stack.compose("up", "--detach")
            stack.wait_until_healthy()
            stack.show()
        with _step("demo", failures):
            stack.compose("run", "--rm", "demo", show=True)
        with _step("memory", failures):
            stack.show_memory()
            stack.refuse_exhausted()
        with _step("edit", failures):
            _prove_edit(stack, checkout)
        for service in stack.long_running():
            with _step(f"kill {service}", failures):
                _prove_healing(stack, service)
        with _step("down, and up with the demo", failures):
            stack.compose("down")
            stack.compose("--profile", "demo", "up", "--detach")
            stack.wait_for_success("demo", DEMO_SECONDS)
            stack.wait_until_healthy()
        with _step("memory", failures):
            stack.show_memory()
            stack.refuse_exhausted()
        with _step("images of the Flex Templates", failures):
            _prove_flex_templates(stack, checkout)
        if failures:
            raise Failed("; ".join(failures))
    except BaseException:
        stack.show()
        print(stack.compose("logs", "--no-color", "--tail=15", check=False))
        raise
    finally:
        with _step("down"):
            stack.compose("--profile", "demo", "down", "--volumes", check=False)


def _prove_edit(stack: Stack, checkout: Path) -> None:
    """A new DAG file, and then its edit, show in Airflow's API within seconds."""
    file = checkout / "dags" / "edited.py"
    airflow = stack.airflow()
    for what, dag_id in (("a new DAG file", "before_the_edit"), ("its edit", "after_the_edit")):
        file.write_text(f'from airflow.sdk import DAG\n\ndag = DAG("{dag_id}", schedule=None)\n')
        began = time.monotonic()
        airflow.wait_for_dags([dag_id], EDIT_SECONDS)
        _say(f"{what} showed after {time.monotonic() - began:.0f} s")
    file.unlink()


def _prove_healing(stack: Stack, service: str) -> None:
    """A service whose main process was killed comes back by itself, and DAGs run again."""
    before = stack.inspect(service)
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    began, killed_at = time.monotonic(), time.time()
    _wait(
        lambda: stack.inspect(service)["RestartCount"] > before["RestartCount"],
        RESTART_SECONDS,
        f"{service} was not started again",
    )
    stack.wait_until_healthy(killed_at)
    healthy, healthy_at = time.monotonic(), time.time()
    # The state of before the kill counts as provisioned too, until the next look.
    _wait(lambda: stack.provisioned_at() > healthy_at, HEALTHY_SECONDS, "nothing was provisioned anew")
    provisioned = time.monotonic()
    # After an emulator this makes the tables again; after the others it shows that Airflow works.
    stack.airflow().run("apply_schemas", {}, lambda line: None)
    _say(
        f"all healthy after {healthy - began:.0f} s, provisioned {provisioned - healthy:.0f} s later, "
        f"apply_schemas green {time.monotonic() - provisioned:.0f} s later"
    )


def _prove_flex_templates(stack: Stack, checkout: Path) -> None:
    for pipeline in PIPELINES:
        image = f"flex-template:{pipeline}"
        with _step(f"image {image}"):
            argument = f"--build-arg=PIPELINE={pipeline}"
            _run("docker", "build", "--quiet", "--network=host", argument, "--tag", image, ".", cwd=checkout)
            _prove_flex_template(image, checkout)
            _prove_launch(stack, checkout, pipeline, image)


def _prove_flex_template(image: str, checkout: Path) -> None:
    """The image holds what the lock file pins, and its pipeline takes its options."""
    run = ("docker", "run", "--rm", "--network=none", "--entrypoint")
    pinned = _packages((checkout / "requirements.txt").read_text())
    installed = _packages(_run(*run, "pip", image, "freeze"))
    if unpinned := sorted(installed - pinned):
        raise Failed(f"{image} holds what requirements.txt does not pin: {', '.join(unpinned)}")
    told = _run(*run, "python", image, "/template/main.py", "--help").split("\n\n")[0]
    _say(f"{len(installed)} packages, each as pinned; {_run(*run, 'pip', image, 'check').strip()}")
    print(textwrap.indent(told, "          "))


def _prove_launch(stack: Stack, checkout: Path, pipeline: str, image: str) -> None:
    """The image does what Dataflow's launcher does in it, up to the job graph that the launcher sends."""
    arguments = launcher_arguments(example_launch(pipeline))
    own_by_root = [f"--mount=type=tmpfs,destination={folder},tmpfs-mode=0755" for folder in LAUNCHER_FOLDERS]
    printed = _run(
        "docker", "run", "--rm", f"--network={stack.network}", *own_by_root,
        "--volume", f"{checkout / 'local' / 'google_credentials.json'}:/google_credentials.json:ro",
        "--env=GOOGLE_APPLICATION_CREDENTIALS=/google_credentials.json", "--env=NO_GCE_CHECK=true",
        "--env=STORAGE_EMULATOR_HOST=http://gcs:4443",
        "--entrypoint", "sh", image, "-c", AS_THE_LAUNCHER, "launcher", *arguments,
    )  # fmt: skip
    graph = json.loads(printed)
    check_graph(graph, pipeline)
    _say(f"the job graph of {graph['name']} is built, as Dataflow's launcher builds it")


LAUNCHER_FOLDERS = ("/var/log/dataflow", "/var/opt")
AS_THE_LAUNCHER = """\
set -e
mkdir -p /var/log/dataflow/template_launcher /var/opt/google
: >/var/log/dataflow/template_launcher/runner-json.log
python "$FLEX_TEMPLATE_PYTHON_PY_FILE" "$@" --template_location=/var/opt/google/job_object >&2
cat /var/opt/google/job_object
"""


def example_launch(pipeline: str) -> dict[str, Any]:
    """The launchParameter (v1b3) that a DAG sends for a pipeline of PIPELINES, as the settings are."""
    # Airflow takes seconds to import.
    from shopstream.load.launch import load_events_launch, new_load_id
    from shopstream.settings import settings
    from shopstream.stream.jobs import stream_events_launch

    if pipeline == "stream_events":
        return stream_events_launch(settings(), "v1", update=False)
    day = date(2019, 11, 1)
    return load_events_launch(settings(), day, new_load_id(day, datetime(2019, 11, 2, tzinfo=UTC)))


def launcher_arguments(launch: Mapping[str, Any]) -> list[str]:
    """The options that Dataflow's launcher gives the pipeline for a launchParameter (v1b3).

    Without --template_location, the file that the launcher has the job graph written to.
    """
    from shopstream.settings import settings

    environment = launch["environment"]
    given = {
        "runner": "DataflowRunner",
        "project": settings().project,
        "region": settings().region,
        "job_name": launch["jobName"],
        "temp_location": environment["tempLocation"],
        "staging_location": environment["stagingLocation"],
        "sdk_container_image": environment["sdkContainerImage"],
        **launch["parameters"],
    }
    return [
        *(f"--{name}={value}" for name, value in given.items()),
        *(["--enable_streaming_engine"] if environment.get("enableStreamingEngine") else []),
    ]


def check_graph(graph: Mapping[str, Any], pipeline: str) -> None:
    """See that a job graph is the one that Dataflow is to run.

    Raises:
        Failed: it is of another job, or its workers would be of another image or other than Runner v2.
    """
    launch = example_launch(pipeline)
    environment = graph["environment"]
    [workers] = environment["workerPools"]
    found = {
        "name": graph["name"],
        "type": graph["type"],
        "image": [image["containerImage"] for image in workers["sdkHarnessContainerImages"]],
        "Runner v2": "use_runner_v2" in environment["experiments"],
    }
    expected = {
        "name": launch["jobName"],
        "type": "JOB_TYPE_STREAMING" if pipeline == "stream_events" else "JOB_TYPE_BATCH",
        "image": [launch["environment"]["sdkContainerImage"]],
        "Runner v2": True,
    }
    if found != expected:
        raise Failed(f"the job graph of {pipeline} has {found}, and should have {expected}")


FAILURES = (Failed, RuntimeError, OSError, subprocess.SubprocessError)


def _packages(listed: str) -> set[str]:
    """The lines of a requirements file that name a version, each name in its normal form."""
    pairs = (line.split("==") for line in listed.splitlines() if "==" in line)
    return {f"{canonicalize_name(name)}=={version}" for name, version in pairs}


class Stack:
    """The stack of one checkout in the running engine."""

    def __init__(self, checkout: Path, network_host: Path) -> None:
        self._checkout = checkout
        self._services = yaml.safe_load((checkout / "docker-compose.yaml").read_text())["services"]
        # Containers of a build reach the internet by the machine's network here, and by Docker's elsewhere.
        network_host.write_text("services: {keys: {build: {network: host}}}\n")
        # Another stack may have the usual ports.
        os.environ.update(
            {variable: str(free_port()) for variable in (*DEFAULT_PORTS, "SHOPSTREAM_DASHBOARD_PORT")}
        )
        self._files = ("--file", "docker-compose.yaml", "--file", str(network_host))
        self.network = f"{PROJECT}_default"

    def compose(self, *arguments: str, check: bool = True, show: bool = False) -> str:
        """Run docker-compose; with `show` its output is passed on."""
        command = ("docker-compose", "--project-name", PROJECT, *self._files, *arguments)
        return _run(*command, cwd=self._checkout, check=check, show=show)

    def long_running(self) -> list[str]:
        """The services that have a health check, in the file's order."""
        return [name for name, service in self._services.items() if "healthcheck" in service]

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows about the service's container."""
        container = self.compose("ps", "--quiet", service).strip()
        described: dict[str, Any] = json.loads(_run("docker", "inspect", container))[0]
        return described

    def wait_until_healthy(self, since: float = 0) -> float:
        """Wait until every service with a health check is healthy; return the seconds.

        A health check must have succeeded that began after the time `since`: what Docker calls healthy may
        have died up to three checks ago.
        """
        unhealthy: list[str] = []

        def all_are_healthy() -> bool:
            unhealthy[:] = [name for name in self.long_running() if not self._is_healthy(name, since)]
            return not unhealthy

        return _wait(all_are_healthy, HEALTHY_SECONDS, lambda: f"not healthy: {', '.join(unhealthy)}")

    def _is_healthy(self, service: str, since: float) -> bool:
        health = self.inspect(service)["State"]["Health"]
        if health["Status"] != "healthy":
            return False
        last = health["Log"][-1]
        return last["ExitCode"] == 0 and _timestamp(last["Start"]) > since

    def provisioned_at(self) -> float:
        """When bucket, database, topics and templates were last seen or made; 0 when never."""
        told = self.compose("exec", "-T", "provision", "stat", "--format=%Y", str(PROVISIONED), check=False)
        return float(told.strip() or 0)

    def wait_for_success(self, service: str, seconds: float) -> None:
        """Wait until the service, a single step, ended.

        Raises:
            Failed: it ended with another code than 0, or not in time.
        """
        _wait(
            lambda: self.inspect(service)["State"]["Status"] == "exited",
            seconds,
            f"{service} has not ended",
        )
        print(self.compose("logs", "--no-color", "--no-log-prefix", service))
        if code := self.inspect(service)["State"]["ExitCode"]:
            raise Failed(f"{service} ended with {code}.")

    def show(self) -> None:
        """Print the services' states."""
        print(self.compose("ps", "--all", check=False))

    def show_memory(self) -> None:
        """Print what each container takes of its limit."""
        print(
            _run("docker", "stats", "--no-stream", "--format", "table {{.Name}}\t{{.MemUsage}}\t{{.MemPerc}}")
        )

    def refuse_exhausted(self) -> None:
        """See that no container came to its limit of memory.

        Raises:
            Failed: some did; a process in each was killed for it.
        """
        states = {name: self.inspect(name) for name in self.long_running()}
        if exhausted := [name for name, state in states.items() if state["State"]["OOMKilled"]]:
            raise Failed(f"killed for want of memory: {', '.join(exhausted)}")

    def airflow(self) -> AirflowClient:
        """A session with the stack's Airflow, as anybody has on this machine."""
        command = ("python", "-m", "local.stack.compose", "login")
        login = self.compose("exec", "-T", "api-server", *command).split()
        url, username, _, password = login
        return AirflowClient(url, username, password)


def _install_packages() -> None:
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if missing:
        with _step(f"install {', '.join(missing)}"):
            _run("apt-get", "update")
            _run("apt-get", "install", "--yes", "--no-install-recommends", *missing)


@contextlib.contextmanager
def _engine(folder: Path) -> Iterator[None]:
    """A Docker engine with all it has under `folder`, to which DOCKER_HOST points meanwhile."""
    home = folder / "engine"
    home.mkdir()
    os.environ["DOCKER_HOST"] = f"unix://{home / 'socket'}"
    command = [
        "dockerd",
        f"--data-root={home / 'data'}",
        f"--exec-root={home / 'exec'}",
        f"--pidfile={home / 'pid'}",
        f"--host={os.environ['DOCKER_HOST']}",
        "--bridge=none",
        # Where a containerd of the system runs, dockerd uses that one, and another engine may too.
        "--containerd-namespace=compose-proof",
        "--containerd-plugins-namespace=compose-proof-plugins",
    ]
    with _network_as_before(), (home / "log").open("wb") as log:
        try:
            # A Ctrl-C is for us, who then stop the containers first.
            engine = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            raise Failed(f"The Docker engine cannot be started on this machine: {error}.") from error
        try:
            _wait(
                lambda: engine.poll() is not None or _engine_version() != "",
                ENGINE_SECONDS,
                "dockerd does not answer",
            )
            if engine.poll() is not None:
                raise Failed(f"dockerd ended at its start: {(home / 'log').read_text()[-500:]}")
            _say(f"engine {_engine_version()}, {_run('docker-compose', '--version').strip()}")
            yield
        finally:
            engine.terminate()
            try:
                engine.wait(ENGINE_SECONDS)
            except subprocess.TimeoutExpired:
                engine.kill()
                engine.wait()
            _unmount(home)


def _engine_version() -> str:
    """The version of the engine that DOCKER_HOST points to; empty while it does not answer."""
    return _run("docker", "version", "--format", "{{.Server.Version}}", check=False).strip()


@contextlib.contextmanager
def _network_as_before() -> Iterator[None]:
    """Give the machine's packet filter, which an engine changes and leaves so, back as it was."""
    rules = _run("iptables-save")
    forwarding = IP_FORWARD.read_text()
    try:
        yield
    finally:
        subprocess.run(["iptables-restore"], input=rules, text=True, check=True)
        IP_FORWARD.write_text(forwarding)


def _unmount(home: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in mounts:
        if mount.startswith(f"{home}/"):
            _run("umount", mount)


def _checkout(folder: Path) -> Path:
    """A copy of what is committed, as a clone has it."""
    target = folder / "checkout"
    target.mkdir()
    _say(f"commit {_run('git', 'rev-parse', 'HEAD', cwd=ROOT).strip()}")
    archive = folder / "checkout.tar"
    _run("git", "archive", f"--output={archive}", "HEAD", cwd=ROOT)
    _run("tar", "--directory", str(target), "--extract", f"--file={archive}")
    archive.unlink()
    return target


def _images(checkout: Path) -> dict[str, str]:
    """The official images that the Dockerfile and docker-compose.yaml name."""
    arguments = re.findall(r"^ARG (\w+)_IMAGE=(\S+)$", (checkout / "Dockerfile").read_text(), re.MULTILINE)
    services = yaml.safe_load((checkout / "docker-compose.yaml").read_text())["services"]
    return {name.lower(): image for name, image in arguments} | {
        name: services[name]["image"] for name in ("postgres", "pubsub")
    }


def _make_stand_ins(folder: Path, images: dict[str, str]) -> None:
    with _step(f"stand-in for {images['python']}"):
        tree = folder / "debian"
        packages = "python3,python3-venv,python3-pip,ca-certificates,curl,procps"
        _run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(tree))
        shutil.copy(CA_BUNDLE, f"{tree}{CA_BUNDLE}")  # this machine may trust more than Debian does
        archive = subprocess.Popen(["tar", "--directory", tree, "--create", "."], stdout=subprocess.PIPE)
        change = f"ENV SSL_CERT_FILE={CA_BUNDLE} PIP_CERT={CA_BUNDLE}"
        subprocess.run(
            ["docker", "import", "--change", change, "-", images["python"]],
            stdin=archive.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        archive.wait()
        shutil.rmtree(tree)
    sdk = Path(_run("gcloud", "info", "--format=value(installation.sdk_root)").strip())

    def spanner(context: Path) -> None:
        for program in ("emulator_main", "gateway_main"):
            shutil.copy2(sdk / "bin" / "cloud_spanner_emulator" / program, context)

    def pubsub(context: Path) -> None:
        for part in SDK_PARTS:
            if not (sdk / part).exists():  # an SDK that is no Debian package may have no properties
                continue
            target = context / "google-cloud-sdk" / part
            target.parent.mkdir(parents=True, exist_ok=True)
            _run("cp", "--archive", "--dereference", str(sdk / part), str(target))

    def postgres(context: Path) -> None:
        (context / "entrypoint.sh").write_text(POSTGRES_ENTRYPOINT)
        (context / "entrypoint.sh").chmod(0o755)

    def beam(context: Path) -> None:
        _placeholder(context / "opt/apache/beam/boot")

    def launcher(context: Path) -> None:
        _placeholder(context / "opt/google/dataflow/python_template_launcher")

    from_scratch = "FROM scratch\nCOPY . /\n"
    for name, dockerfile, fill in (
        ("postgres", POSTGRES_STAND_IN, postgres),
        ("pubsub", PUBSUB_STAND_IN, pubsub),
        ("spanner", from_scratch, spanner),
        ("beam", from_scratch, beam),
        ("launcher", from_scratch, launcher),
    ):
        with _step(f"stand-in for {images[name]}"), tempfile.TemporaryDirectory(dir=folder) as context:
            fill(Path(context))
            (folder / "Dockerfile").write_text(dockerfile.format(python=images["python"]))
            _run(
                "docker",
                "build",
                "--quiet",
                "--network=host",
                "--tag",
                images[name],
                "--file",
                str(folder / "Dockerfile"),
                context,
            )


def _placeholder(program: Path) -> None:
    program.parent.mkdir(parents=True)
    program.write_text(PLACEHOLDER)
    program.chmod(0o755)


def _run(*command: str, cwd: Path | None = None, check: bool = True, show: bool = False) -> str:
    """Run a command and return its output.

    Raises:
        Failed: there is no such program, or it failed; the message has the end of what it said.
    """
    to = None if show else subprocess.PIPE
    try:
        ended = subprocess.run(command, cwd=cwd, text=True, stdout=to, stderr=to, check=False)
    except FileNotFoundError:
        raise Failed(f"{command[0]} is missing: install it and try again.") from None
    if check and ended.returncode:
        said = f"{ended.stdout or ''}\n{ended.stderr or ''}".strip()
        raise Failed(
            f"{' '.join(command)} ended with {ended.returncode}:\n{textwrap.indent(said[-3000:], '  ')}"
        )
    return ended.stdout or ""


def _wait(condition: Callable[[], bool], seconds: float, otherwise: str | Callable[[], str]) -> float:
    """Wait until `condition`; return the seconds that took, or raise Failed saying `otherwise`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise Failed(f"after {seconds:.0f} s: {otherwise if isinstance(otherwise, str) else otherwise()}")
        time.sleep(1)
    return time.monotonic() - began


def _timestamp(told: str) -> float:
    """Docker's time, whose nanoseconds Python does not read."""
    return datetime.fromisoformat(re.sub(r"\.\d+", "", told)).timestamp()


@contextlib.contextmanager
def _step(name: str, failures: list[str] | None = None) -> Iterator[None]:
    """Tell when a step begins and how long it took; with `failures`, add its failure to them and go on."""
    began = time.monotonic()
    _say(name)
    try:
        yield
    except FAILURES as error:
        if failures is None:
            raise
        failures.append(name)
        _say(f"{name}: FAILED after {time.monotonic() - began:.0f} s: {error}")
    else:
        _say(f"{name}: {time.monotonic() - began:.0f} s")


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
