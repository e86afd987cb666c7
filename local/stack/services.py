"""What the local stack is made of: its services, their ports, and the variables by which all are found."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from local.root import ROOT
from local.stack import airflow_settings, emulators
from local.stack.emulators import HOST, NotReady, Program

STATE = Path(os.environ.get("SHOPSTREAM_STACK_DIR") or ROOT / "build" / "stack").resolve()
PROJECT = "shopstream-local"
BUCKET = "shopstream-local"

DEFAULT_PORTS = {
    "SHOPSTREAM_AIRFLOW_PORT": 8080,
    "SHOPSTREAM_DATAFLOW_PORT": 8091,
    "SHOPSTREAM_SPANNER_PORT": 9010,
    "SHOPSTREAM_PUBSUB_PORT": 8085,
    "SHOPSTREAM_BIGQUERY_PORT": 9050,
    "SHOPSTREAM_BIGQUERY_STORAGE_PORT": 9060,
    "SHOPSTREAM_GCS_PORT": 4443,
}
DASHBOARD_PORT = 8092
"""Of the dashboard in its container. On its own it is none of `make up`, and lives on after `make down`."""

PRELOAD = (
    "local.stack.seldom_gc",
    "apache_beam.runners.portability.fn_api_runner.fn_runner",
    "google.cloud.bigquery_storage_v1",
    "google.cloud.pubsub_v1",
    "google.cloud.spanner",
    "google.cloud.storage",
    "pyarrow.parquet",
)
"""What the pipelines import of others, which takes longer than a small job; see local.dataflow.worker."""


def services(ports: Mapping[str, int]) -> list[Program]:
    """All services of `make up` on these ports, in the order of their start.

    Raises:
        NotReady: a program is missing; the message says what to do.
    """
    return [
        emulators.spanner(ports["SHOPSTREAM_SPANNER_PORT"]),
        emulators.pubsub(ports["SHOPSTREAM_PUBSUB_PORT"]),
        emulators.gcs(ports["SHOPSTREAM_GCS_PORT"], STATE / "gcs"),
        bigquery(ports, STATE / "gcs"),
        *dataflow_and_airflow(
            ports,
            f"http://{HOST}:{ports['SHOPSTREAM_AIRFLOW_PORT']}",
            airflow_settings.api_server_environment(STATE / "airflow"),
        ),
    ]


def bigquery(ports: Mapping[str, int], storage_dir: Path) -> Program:
    """The BigQuery emulator, with the Cloud Storage emulator's folder."""
    rest, storage = ports["SHOPSTREAM_BIGQUERY_PORT"], ports["SHOPSTREAM_BIGQUERY_STORAGE_PORT"]
    return emulators.bigquery(rest, storage, storage_dir, PROJECT)


def dataflow_and_airflow(
    ports: Mapping[str, int],
    airflow_url: str,
    api_server_environment: Mapping[str, str] = MappingProxyType({}),
) -> list[Program]:
    """The local Dataflow and Airflow's components, whose health the API server at `airflow_url` tells."""
    airflow = (sys.executable, "-m", "local.stack.airflow_program")
    dataflow_port = ports["SHOPSTREAM_DATAFLOW_PORT"]

    def airflow_is_healthy(component: str) -> Callable[[], bool]:
        return lambda: _airflow_health(airflow_url).get(component, {}).get("status") == "healthy"

    return [
        Program(
            "dataflow",
            (sys.executable, "-m", "local.dataflow"),
            lambda: emulators.answers(f"http://{HOST}:{dataflow_port}/healthz"),
            keeps_state=True,
        ),
        # The first request to the API of the tasks takes seconds; made here, no task waits for it.
        Program(
            "api-server",
            (*airflow, "api-server"),
            lambda: emulators.answers(f"{airflow_url}/execution/health"),
            api_server_environment,
            keeps_state=True,
        ),
        *(
            Program(name, (*airflow, name, *options), airflow_is_healthy(component), keeps_state=True)
            for name, component, options in (
                ("scheduler", "scheduler", ("--skip-serve-logs",)),
                ("dag-processor", "dag_processor", ()),
                ("triggerer", "triggerer", ("--skip-serve-logs",)),
            )
        ),
    ]


def dashboard() -> Program:
    """The dashboard on its own; `make up` does not start it, Airflow has it too."""
    return Program(
        "dashboard",
        (sys.executable, "-m", "shopstream.dashboard"),
        lambda: emulators.accepts(DASHBOARD_PORT),
        keeps_state=True,
    )


def environment_for(
    ports: Mapping[str, int], host_of: Callable[[str], str] = lambda service: HOST
) -> dict[str, str]:
    """The variables of a stack on these ports, with new secrets; `host_of` names the host of a service."""

    def address(service: str) -> str:
        return f"{host_of(service)}:{ports[f'SHOPSTREAM_{service.upper()}_PORT']}"

    gcs, warehouse, dataflow = (f"http://{address(service)}" for service in ("gcs", "bigquery", "dataflow"))
    return {
        **{name: str(port) for name, port in ports.items()},
        **airflow_settings.environment(STATE / "airflow", ports["SHOPSTREAM_AIRFLOW_PORT"], PROJECT),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
        "SHOPSTREAM_PROJECT": PROJECT,
        "SHOPSTREAM_BUCKET": BUCKET,
        "SHOPSTREAM_FORGET_KEY": str(STATE / "forget.key"),
        "SHOPSTREAM_SPANNER_INSTANCE": "shopstream",
        "SHOPSTREAM_SPANNER_DATABASE": "shopstream",
        "SHOPSTREAM_TEMPLATE_VERSION": "local",
        # The job of a small day takes half a minute here, and a look no new process.
        "SHOPSTREAM_JOB_LOOK_SECONDS": "10",
        # What whoever starts the stack may set, so that others who ask the stack know it; the currency is
        # unless set that of the published data set, whose like the generator makes.
        "SHOPSTREAM_CURRENCY": os.environ.get("SHOPSTREAM_CURRENCY", "USD"),
        "SHOPSTREAM_MAX_REJECTED_SHARE": os.environ.get("SHOPSTREAM_MAX_REJECTED_SHARE", "0.01"),
        "SHOPSTREAM_STREAM_MAX_LAUNCHES": os.environ.get("SHOPSTREAM_STREAM_MAX_LAUNCHES", "5"),
        "SHOPSTREAM_KEEP_ALIVE_SECONDS": os.environ.get("SHOPSTREAM_KEEP_ALIVE_SECONDS", "60"),
        "SHOPSTREAM_DATAFLOW_ENDPOINT": dataflow,
        "SHOPSTREAM_MONITORING_ENDPOINT": dataflow,
        "SHOPSTREAM_DATAFLOW_STATE": str(STATE / "dataflow"),
        "SHOPSTREAM_DATAFLOW_PRELOAD": ",".join(PRELOAD),
        "SHOPSTREAM_OBJECT_URL": gcs,
        "SHOPSTREAM_UPLOAD_COMMAND": upload_command(gcs),
        "SPANNER_EMULATOR_HOST": address("spanner"),
        "PUBSUB_EMULATOR_HOST": address("pubsub"),
        "STORAGE_EMULATOR_HOST": gcs,
        "BIGQUERY_EMULATOR_HOST": warehouse,
        # Of the same emulator and so on the same host, at its other port.
        "BIGQUERY_STORAGE_EMULATOR_HOST": (
            f"{host_of('bigquery')}:{ports['SHOPSTREAM_BIGQUERY_STORAGE_PORT']}"
        ),
        # Google's clients would otherwise look for a metadata server, for seconds, and Beam for credentials.
        "NO_GCE_CHECK": "true",
        "GOOGLE_APPLICATION_CREDENTIALS": str(ROOT / "local" / "google_credentials.json"),
    }


def upload_command(gcs: str) -> str:
    """How a shell uploads a file to the emulator at this address: gcloud would wait for Google."""
    upload = f"{gcs}/upload/storage/v1/b/{{bucket}}/o?uploadType=media&name={{name}}"
    return f"curl --fail --data-binary @FILE '{upload}'"


def chosen_ports() -> dict[str, int]:
    """The port of each service, by the variable that chooses it.

    Raises:
        NotReady: a variable holds no port.
    """
    chosen = {}
    for variable, default in DEFAULT_PORTS.items():
        given = os.environ.get(variable, str(default))
        if not given.isdigit() or not 0 < int(given) < 65_536:
            raise NotReady(f"{variable} is {given!r}; give a port from 1 to 65535.")
        chosen[variable] = int(given)
    return chosen


def _airflow_health(url: str) -> dict[str, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 (ours)
            told: dict[str, dict[str, str]] = json.load(answer)
            return told
    except (OSError, ValueError):
        return {}
