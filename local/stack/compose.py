"""The local stack in containers: what the services of docker-compose.yaml run. See docs/compose.md.

    python -m local.stack.compose keys           make the secrets that all share, unless they are there
    python -m local.stack.compose migrate        lay out Airflow's database, or bring it up to date
    python -m local.stack.compose run NAME       become one service of the stack
    python -m local.stack.compose ready NAME     tell by the exit code whether this service is healthy
    python -m local.stack.compose provision      keep bucket, database, topics and templates made
    python -m local.stack.compose login          print Airflow's address and login
    python -m local.stack.compose demo           load generated days and print what came of them

The settings are those of `make up`, but for the hosts (a service has its own, of its name), the database, the
secrets, which lie in a volume, and how many tasks run at once. A variable that docker-compose.yaml sets wins.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

from local.stack import airflow_settings, emulators, services
from local.stack.emulators import NotReady, Program

KEYS = Path(os.environ.get("SHOPSTREAM_KEYS_DIR", "/keys"))
API_SERVER = "http://api-server:8080"
GENERATED = (
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
)
"""Secrets of Airflow that all its components must share."""
PARALLEL_TASKS = 4
PROVISION_SECONDS = 10
PROVISIONED = Path("/tmp/provisioned")  # noqa: S108 (the container's own)
RESULTS = services.STATE / "demo"


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when what was asked for holds."""
    commands = {
        "keys": lambda name: make_keys(),
        "migrate": lambda name: migrate(),
        "run": run,
        "ready": lambda name: 0 if is_ready(name) else 1,
        "provision": lambda name: keep_provisioned(),
        "login": lambda name: print_login(),
        "demo": lambda name: demo(),
    }
    parser = argparse.ArgumentParser(prog="python -m local.stack.compose", description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("name", nargs="?", default="", help="of a service, for run and ready")
    options = parser.parse_args(argv)
    try:
        return commands[options.command](options.name)
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1


def environment() -> dict[str, str]:
    """The environment of every service.

    Raises:
        NotReady: there are no secrets yet.
    """
    keys = _keys()
    return {
        **services.environment_for(services.DEFAULT_PORTS, host_of=str),
        **{name: keys[name] for name in GENERATED},
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{API_SERVER}/execution/",
        # A task that runs takes some 220 MiB of the scheduler's container.
        "AIRFLOW__CORE__PARALLELISM": str(PARALLEL_TASKS),
        # A report given up too soon is repeated, and the repetition refused: the task would be killed.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(KEYS / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
            f"postgresql+psycopg2://airflow:{keys['postgres']}@postgres/airflow"
        ),
        **os.environ,
    }


def make_keys() -> int:
    """Make the secrets, once for the life of the volume, and the folders that services share."""
    for folder in ("gcs", "dataflow", "airflow/logs"):
        (services.STATE / folder).mkdir(parents=True, exist_ok=True)
    if _keys_file().is_file():
        print("The secrets are there.")
        return 0
    airflow = services.environment_for(services.DEFAULT_PORTS)
    keys = {
        "postgres": secrets.token_urlsafe(24),
        "login": secrets.token_urlsafe(12),
        **{name: airflow[name] for name in GENERATED},
    }
    _write_private(KEYS / "postgres_password", keys["postgres"])
    _write_private(KEYS / "passwords.json", json.dumps({airflow_settings.USERNAME: keys["login"]}))
    _write_private(_keys_file(), json.dumps(keys))  # the last: with it all are there
    print("Made the secrets.")
    return 0


def migrate() -> int:
    """Lay out Airflow's database, or bring it up to date."""
    command = [str(airflow_settings.AIRFLOW), "db", "migrate"]
    return subprocess.run(command, env=environment(), check=False).returncode


def run(name: str) -> int:
    """Become the service; returns only by an error.

    Raises:
        NotReady: there is no such service; the message names those that are.
    """
    program = _program(name)
    os.execve(program.command[0], program.command, {**environment(), **program.environment})  # noqa: S606


def is_ready(name: str) -> bool:
    """Whether the service in this container, started by `run` or `provision`, is healthy."""
    if name == "provision":
        return PROVISIONED.exists() and time.time() - PROVISIONED.stat().st_mtime < 6 * PROVISION_SECONDS
    return _program(name).is_ready()


def keep_provisioned() -> int:
    """Make what is missing in the emulators, again and again, since a restarted emulator is empty."""
    os.environ.update(environment())
    # Google's libraries take seconds to import, and read the environment.
    from local.stack.provision import provision
    from shopstream.settings import settings

    while True:
        try:
            provision(settings())
        except Exception as error:
            PROVISIONED.unlink(missing_ok=True)
            print(f"Not provisioned, trying again: {error!r}"[:300], file=sys.stderr, flush=True)
        else:
            if not PROVISIONED.exists():
                print("Bucket, database, topics and templates are made.", flush=True)
            PROVISIONED.touch()
        time.sleep(PROVISION_SECONDS)


def print_login() -> int:
    """Print Airflow's address and login, for a person."""
    print(f"{environment()['AIRFLOW__API__BASE_URL']}   {airflow_settings.USERNAME} / {_keys()['login']}")
    return 0


def demo() -> int:
    """Load and analyse generated days in the running stack; 0 when all that must hold does."""
    os.environ.update(environment())
    from local.demo import __main__ as demo
    from local.stack.airflow_client import AirflowClient

    airflow = AirflowClient(API_SERVER, airflow_settings.USERNAME, _keys()["login"])
    return demo.run_in_running_stack(airflow, RESULTS)


def _program(name: str) -> Program:
    ports = services.DEFAULT_PORTS
    objects = services.STATE / "gcs"
    programs = [
        emulators.spanner(ports["SHOPSTREAM_SPANNER_PORT"]),
        emulators.gcs(ports["SHOPSTREAM_GCS_PORT"], objects),
        services.bigquery(ports, objects),
        *services.dataflow_and_airflow(ports, API_SERVER),
        services.dashboard(),
    ]
    for program in programs:
        if program.name == name:
            return program
    known = ", ".join(program.name for program in programs)
    raise NotReady(f"There is no service {name!r}; there are {known}.")


def _keys() -> dict[str, str]:
    try:
        keys: dict[str, str] = json.loads(_keys_file().read_text())
    except FileNotFoundError:
        raise NotReady(
            f"{_keys_file()} is missing: start the stack by `docker compose up`, whose first step makes it."
        ) from None
    return keys


def _keys_file() -> Path:
    return KEYS / "keys.json"


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
