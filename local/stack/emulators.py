"""How each Google Cloud emulator is found and started, for the local stack and for the tests.

The Spanner and Pub/Sub emulators are Google's own, from the gcloud SDK. The BigQuery and Cloud Storage
emulators are PyPI packages in `.venv-emulators`, apart from Airflow's environment. All of them listen on
127.0.0.1 only, or where SHOPSTREAM_LISTEN says. All but the Cloud Storage emulator keep everything in memory,
so they start empty.
"""

from __future__ import annotations

import functools
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from local.root import ROOT

HOST = "127.0.0.1"
LISTEN = os.environ.get("SHOPSTREAM_LISTEN", HOST)
"""Another address than HOST only in a container, whose ports Docker publishes on 127.0.0.1."""
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 10


class NotReady(RuntimeError):
    """A program is missing, stopped too early, or was not ready in time; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that serves once it runs.

    `keeps_state` tells that it may be started again after a crash: an emulator would come back empty.
    """

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    keeps_state: bool = False


def spanner(port: int) -> Program:
    """Google's Spanner emulator, which keeps everything in memory and serves gRPC on `port`.

    Raises:
        NotReady: it is not installed.
    """
    binary = _from_gcloud_sdk(
        "Spanner", "SHOPSTREAM_SPANNER_EMULATOR", "bin/cloud_spanner_emulator/emulator_main", "cloud-spanner"
    )
    return Program("spanner", (str(binary), f"--host_port={LISTEN}:{port}"), lambda: accepts(port))


def pubsub(port: int, heap_mebibytes: int = 1024) -> Program:
    """Google's Pub/Sub emulator, which keeps everything in memory and serves gRPC and REST on `port`.

    Everything: each message that it was ever given, acknowledged or not, some 600 bytes of heap for a click
    event. With a full heap it does not fail but stands still, collecting garbage: 512 MiB after 830,000.

    Raises:
        NotReady: the emulator or Java is not installed.
    """
    jar = _from_gcloud_sdk(
        "Pub/Sub",
        "SHOPSTREAM_PUBSUB_EMULATOR",
        "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar",
        "pubsub",
    )
    java = shutil.which("java")
    if java is None:
        raise NotReady(
            "The Pub/Sub emulator needs Java: install it (Debian: default-jre-headless) and try again."
        )
    main = "com.google.cloud.pubsub.testing.v1.Main"
    # With its collector that needs no threads of its own it takes a seventh less CPU.
    options = (f"-Xmx{heap_mebibytes}m", "-XX:+UseSerialGC")
    command = (java, *options, "-cp", str(jar), main, f"--host={LISTEN}", f"--port={port}")
    return Program("pubsub", command, lambda: answers(f"http://{HOST}:{port}/"))


def gcs(port: int, storage_dir: Path) -> Program:
    """The Cloud Storage emulator on `port`, whose objects are the files `storage_dir`/<bucket>/<object>.

    Raises:
        NotReady: `.venv-emulators` is not installed.
    """
    command = _emulator("gcs_emulator.py", f"--host={LISTEN}", f"--port={port}", "--quiet")
    environment = {"STORAGE_BASE": str(storage_dir.parent), "STORAGE_DIR": storage_dir.name}
    return Program("gcs", command, lambda: answers(f"http://{HOST}:{port}/"), environment)


def bigquery(port: int, grpc_port: int, storage_dir: Path, project: str) -> Program:
    """The BigQuery emulator, which keeps everything in memory and serves REST on `port`.

    Its Storage API is served as gRPC on `grpc_port`.

    gs:// URIs are read as files under `storage_dir`, the Cloud Storage emulator's folder.

    Raises:
        NotReady: `.venv-emulators` is not installed.
    """
    where = (
        *(f"--rest-host={LISTEN}", f"--rest-port={port}"),
        *(f"--grpc-host={LISTEN}", f"--grpc-port={grpc_port}"),
    )
    command = _emulator("bigquery_emulator.py", *where, f"--project={project}", "--log-level=warning")
    environment = {
        "HOME": str(_duckdb_home()),
        "BQEMU_GCS_LOCAL_ROOT": str(storage_dir),
        # Else each start asks the internet for an extension that reads Avro.
        "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
    }
    # The Storage API is served last.
    return Program(
        "bigquery",
        command,
        lambda: answers(f"http://{HOST}:{port}/readyz") and accepts(grpc_port),
        environment,
    )


@contextmanager
def running(program: Program, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program with its output in `log_file`, wait until it is ready, and stop it at the end.

    Raises:
        NotReady: it ended or was not ready within START_TIMEOUT_SECONDS.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            program.command, env={**os.environ, **program.environment}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not program.is_ready():
            if child.poll() is not None:
                raise NotReady(
                    f"{program.name} ended with code {child.returncode} at its start; read {log_file}."
                )
            if time.monotonic() > deadline:
                raise NotReady(
                    f"{program.name} was not ready after {START_TIMEOUT_SECONDS} seconds; read {log_file}."
                )
            time.sleep(0.1)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now.

    By lot, of those that no system gives to a connection: what it names itself it may give away right after.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            # Not by `random`, which a test may have begun anew in several processes at once.
            probe.bind((HOST, port := 10_000 + secrets.randbelow(22_768)))
            return port


def accepts(port: int) -> bool:
    """Whether something on 127.0.0.1 accepts connections on `port`."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with success."""
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 (our own http:// URLs)
            return True
    # Something else than HTTP may listen there.
    except (http.client.HTTPException, OSError):
        return False


def _from_gcloud_sdk(title: str, variable: str, pattern: str, component: str) -> Path:
    named = os.environ.get(variable)
    if named:
        if not Path(named).is_file():
            raise NotReady(f"{variable} names {named}, which is no file; name the {title} emulator's file.")
        return Path(named)
    found = sorted(sdk.glob(pattern)) if (sdk := gcloud_sdk()) else []
    if not found:
        image = {
            "cloud-spanner": "gcr.io/cloud-spanner-emulator/emulator",
            "pubsub": "google/cloud-sdk:emulators",
        }[component]
        package = {
            "cloud-spanner": "google-cloud-cli-spanner-emulator",
            "pubsub": "google-cloud-cli-pubsub-emulator",
        }[component]
        raise NotReady(
            f"The {title} emulator is missing: run `gcloud components install {component}-emulator`, "
            f"or install the Debian package {package}, "
            f"or copy {Path(pattern).name} out of the container image {image} and name it in {variable}."
        )
    return found[-1]


@functools.cache
def gcloud_sdk() -> Path | None:
    """The folder of the gcloud SDK, None without gcloud."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    # Where it lies tells it, but for a wrapper of it; asked, it takes a second.
    root = Path(gcloud).resolve().parent.parent
    if (root / "lib" / "gcloud.py").is_file():
        return root
    told = subprocess.run(
        [gcloud, "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=False
    )
    return Path(told.stdout.strip()) if told.stdout.strip() else None


def _emulator(script: str, *options: str) -> tuple[str, ...]:
    # -P keeps the modules beside the script from hiding others of their name.
    return (str(_python()), "-P", str(Path(__file__).with_name(script)), "start", *options)


def _python() -> Path:
    python = ROOT / ".venv-emulators" / "bin" / "python"
    if not python.is_file():
        raise NotReady("python is missing in .venv-emulators: run `make install`.")
    return python


def _duckdb_home() -> Path:
    """A home folder for DuckDB that holds its spatial extension, which the emulator installs at its start.

    Without the file there DuckDB would fetch it from the internet.
    """
    home = ROOT / ".venv-emulators" / "duckdb-home"
    if not home.is_dir():
        subprocess.run([_python(), "-c", _MAKE_DUCKDB_HOME, str(home)], check=True)
    return home


_MAKE_DUCKDB_HOME = """
import os, pathlib, sys, tempfile
import duckdb, duckdb_extension_spatial
version, platform = "v" + duckdb.__version__, duckdb.sql("PRAGMA platform").fetchone()[0]
home = pathlib.Path(sys.argv[1])
made = pathlib.Path(tempfile.mkdtemp(dir=home.parent))
folder = made / ".duckdb" / "extensions" / version / platform
folder.mkdir(parents=True)
package = pathlib.Path(duckdb_extension_spatial.__file__).parent
packaged = package / "extensions" / version / "spatial.duckdb_extension"
(folder / packaged.name).symlink_to(os.path.relpath(packaged, folder))  # so that a clone may be moved
try:
    made.rename(home)
except OSError:
    if not home.is_dir():  # else another start was faster
        raise
"""
