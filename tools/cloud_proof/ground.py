"""How probes reach a shop: its stores, its Airflow and Google's APIs, by the endpoints of the environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import google.auth
import google_auth_httplib2
import httplib2
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import bigquery, storage
from google.cloud.spanner_v1.database import Database
from googleapiclient.discovery import build

from infra.deploy import ENVIRONMENT, Target
from local.hand import shop
from local.stack import control
from local.stack.airflow_client import AirflowClient, ComposerClient
from local.stack.emulators import NotReady
from shopstream.settings import settings

AIRFLOW_VARIABLE = "AIRFLOW__API__BASE_URL"
"""Is set where Airflow is not Composer's."""
REQUEST_SECONDS = 60
OURS = "SHOPSTREAM_"
OF_COMPOSER = {"SHOPSTREAM_SQL_DIR", "SHOPSTREAM_FORGET_KEY"}
"""Variables of the environment that are about its own machines."""
EMULATED = re.compile(r"\w+_EMULATOR_HOST|SHOPSTREAM_(DATAFLOW|MONITORING)_ENDPOINT")
"""Variables that lead elsewhere than to Google."""


@dataclass
class Ground:
    """A shop to probe. `environment` is its size: small, medium or production; "" on the local stack."""

    environment: str
    airflow: Callable[[], AirflowClient]
    progress: Callable[[str], None] = print
    name: str = field(default_factory=lambda: f"proof-{uuid.uuid4().hex[:8]}")
    """For what the probes make, so that two proofs at once do not meet."""

    @property
    def bigquery(self) -> bigquery.Client:
        """A client of BigQuery."""
        return shop.clients()[1]

    @property
    def spanner(self) -> Database:
        """The Spanner database."""
        env = settings()
        return shop.clients()[0].instance(env.spanner_instance).database(env.spanner_database)

    @property
    def bucket(self) -> storage.Bucket:
        """The data bucket."""
        return shop.clients()[2].bucket(settings().bucket)

    def dataset(self, undo: ExitStack) -> str:
        """Make a dataset of this proof's own, which is dropped with all in it; return its name."""
        client, name = self.bigquery, self.name.replace("-", "_")
        undo.callback(client.delete_dataset, name, delete_contents=True, not_found_ok=True)
        dataset = bigquery.Dataset(f"{client.project}.{name}")
        dataset.location = settings().region
        # If this machine goes away too.
        dataset.default_table_expiration_ms = 3_600_000
        client.create_dataset(dataset, exists_ok=True)
        return name

    def google(self, api: str, version: str, endpoint: str | None = None) -> Any:
        """A client of one of Google's REST APIs, from the discovery document that the library holds."""
        http = google_auth_httplib2.AuthorizedHttp(
            _credentials(endpoint), http=httplib2.Http(timeout=REQUEST_SECONDS)
        )
        options = ClientOptions(api_endpoint=endpoint) if endpoint else None
        return build(api, version, http=http, client_options=options, cache_discovery=False)

    def dataflow(self) -> Any:
        """Dataflow's projects.locations, by v1b3."""
        return self.google("dataflow", "v1b3", settings().dataflow_endpoint).projects().locations()


def local_ground() -> Ground:
    """The running local stack.

    Raises:
        NotReady: it is down.
    """
    os.environ.update(control.environment())
    return Ground("", lambda: AirflowClient(control.airflow_url(), *control.airflow_login()))


def real_ground(target: Target, environment: str) -> Ground:
    """A project, as the deployment has set up its Composer environment and as who is logged in.

    Raises:
        NotReady: a variable of the shell names an emulator, which would answer for Google; or gcloud is
            missing, or does not tell of the environment, and the message is its own.
    """
    if emulated := sorted(name for name in os.environ if EMULATED.fullmatch(name) and os.environ[name]):
        told = ", ".join(f"{name}={os.environ[name]}" for name in emulated)
        raise NotReady(
            f"{told} would answer for the project {target.project}: run `unset {' '.join(emulated)}`, "
            "or ask from another shell."
        )
    os.environ.update(
        SHOPSTREAM_PROJECT=target.project,
        SHOPSTREAM_REGION=target.region,
        SHOPSTREAM_BUCKET=target.bucket.removeprefix("gs://"),
    )
    config = describe_composer(target)["config"]
    deployed = config["softwareConfig"].get("envVariables", {})
    os.environ.update(
        {name: value for name, value in deployed.items() if name.startswith(OURS) and name not in OF_COMPOSER}
    )
    return Ground(environment, lambda: ComposerClient(config["airflowUri"]))


def describe_composer(target: Target) -> dict[str, Any]:
    """The Composer environment, as gcloud describes it."""
    command = ["gcloud", "composer", "environments", "describe", ENVIRONMENT, "--format=json"]
    command += [f"--project={target.project}", f"--location={target.region}"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NotReady("gcloud is needed to find the project's Composer; it is not on the PATH.") from None
    except subprocess.CalledProcessError as error:
        raise NotReady(error.stderr.strip()) from error
    described: dict[str, Any] = json.loads(told.stdout)
    return described


def _credentials(endpoint: str | None) -> Credentials:
    if endpoint:
        return AnonymousCredentials()
    credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    return credentials
