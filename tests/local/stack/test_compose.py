"""What docker-compose.yaml and the Dockerfile promise, as written; `make compose-proof` runs them."""

from __future__ import annotations

import json
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

import local.stack.provision
from local.root import ROOT
from local.stack import compose, services
from shopstream.settings import settings

MAX_MEMORY_MIB = 8 * 1024
SECRET_WORDS = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
UNITS_MIB = {"m": 1, "g": 1024}

TEXT = (ROOT / "docker-compose.yaml").read_text()
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def is_one_shot(service: dict[str, Any]) -> bool:
    return service["restart"] == "no"


@each_service
def test_ports_are_published_on_127_0_0_1_only(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{SHOPSTREAM_[A-Z_]+_PORT:-\d+\}:\d+", port)


def test_the_published_ports_are_those_of_make_up_and_of_the_dashboard() -> None:
    published = {
        variable: int(inside)
        for service in SERVICES.values()
        for port in service.get("ports", [])
        for variable, outside, inside in [re.findall(r"\{(\w+):-(\d+)\}:(\d+)", port)[0]]
        if outside == inside
    }
    assert published == {**services.DEFAULT_PORTS, "SHOPSTREAM_DASHBOARD_PORT": services.DASHBOARD_PORT}
    assert settings().dashboard_port == services.DASHBOARD_PORT


@each_service
def test_no_service_shares_the_machines_network_or_privileges(service: dict[str, Any]) -> None:
    assert not service.keys() & {"network_mode", "privileged", "pid", "ipc", "cap_add", "devices"}


def test_no_constant_looks_like_a_password() -> None:
    told = [
        f"{name}={value}"
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if SECRET_WORDS.search(name) and not name.endswith("_FILE")
    ]
    assert told == []
    assert not re.search(r"://[^/\s]*:[^/\s$]*@", TEXT + DOCKERFILE)  # a password in a URL


@each_service
def test_every_service_has_a_health_check_or_is_a_one_shot(service: dict[str, Any]) -> None:
    if is_one_shot(service):
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"


@each_service
def test_a_service_waits_for_the_health_or_the_end_of_what_it_needs(service: dict[str, Any]) -> None:
    for needed, how in service.get("depends_on", {}).items():
        ends = is_one_shot(SERVICES[needed])
        assert how == {"condition": "service_completed_successfully" if ends else "service_healthy"}


def test_the_memory_of_all_services_that_run_at_once_is_limited_to_8_gb() -> None:
    first_steps = {
        needed
        for service in SERVICES.values()
        for needed, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert first_steps == {"charts", "keys", "migrate"}
    limits = {name: re.fullmatch(r"(\d+)([mg])", service["mem_limit"]) for name, service in SERVICES.items()}
    assert all(limits.values())
    at_once = [limit for name, limit in limits.items() if name not in first_steps]
    assert sum(int(limit[1]) * UNITS_MIB[limit[2]] for limit in at_once if limit) <= MAX_MEMORY_MIB


def test_every_image_is_pinned() -> None:
    images = {service["image"] for service in SERVICES.values()}
    images |= set(re.findall(r"^ARG \w+_IMAGE=(\S+)$", DOCKERFILE, re.MULTILINE))
    assert len(images) == 7
    for image in images:
        assert re.search(r":[\w.-]*\d+\.\d+[\w.-]*$|[:_]\d{8}_RC\d+$", image), image
    named = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert all(re.fullmatch(r"\$\{\w+_IMAGE\}|python", name) for name in named)


def test_the_images_hold_the_versions_that_are_locked() -> None:
    requirements = (ROOT / "requirements.txt").read_text().split()
    [airflow] = re.findall(r"shopstream-local:airflow-([\d.]+)", TEXT)
    [beam] = re.findall(r"beam_python3\.11_sdk:([\d.]+)", DOCKERFILE)
    assert {f"apache-airflow=={airflow}", f"apache-beam=={beam}"} <= set(requirements)
    [uv] = re.findall(r"^ARG UV_VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert f"UV_VERSION := {uv}\n" in (ROOT / "Makefile").read_text()


def test_no_image_is_run_by_root_but_the_template_as_dataflow_needs_it() -> None:
    stages = re.split(r"^FROM .* AS ", DOCKERFILE, flags=re.MULTILINE)[1:]
    users = {
        stage.split()[0]: re.findall(r"^USER (\S+)$", stage, re.MULTILINE)[-1:]
        for stage in stages
        if "ENTRYPOINT" in stage
    }
    assert users == {"local": ["shopstream"], "dashboard": ["shopstream"], "flex-template": ["root"]}


@each_service
def test_the_code_is_mounted_and_cannot_be_changed_from_inside(service: dict[str, Any]) -> None:
    if not service["image"].startswith("shopstream-local") or service.get("user") == "root":
        return
    for folder in ("beam_jobs", "dags", "local", "plugins", "sql", "tools"):
        assert f"./{folder}:/app/{folder}:ro" in service["volumes"]


@each_service
def test_each_module_that_a_service_runs_is_mounted(service: dict[str, Any]) -> None:
    words = [*service.get("entrypoint", []), *service.get("healthcheck", {}).get("test", [])]
    for flag, module in pairwise(words):
        if flag == "-m":
            room = module.partition(".")[0]
            assert f"./{room}:/app/{room}:ro" in service["volumes"]


def test_named_volumes_are_declared() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {source for source, *_ in mounts if not source.startswith("./")} == FILE["volumes"].keys()


def test_a_build_is_given_what_the_dockerfile_copies_and_nothing_else() -> None:
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert set(kept) == copied


@pytest.mark.usefixtures("bare_environment")
def test_the_secrets_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "KEYS", tmp_path)
    monkeypatch.setattr(services, "STATE", tmp_path / "state")
    compose.make_keys()
    first = compose.environment()
    compose.make_keys()
    again = compose.environment()
    assert all(first[name] == again[name] for name in compose.GENERATED)
    password = (tmp_path / "postgres_password").read_text()
    assert f":{password}@postgres/" in first["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert json.loads((tmp_path / "passwords.json").read_text()).keys() == {"admin"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in tmp_path.iterdir() if file.is_file())


def test_without_secrets_one_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compose, "KEYS", tmp_path)
    assert compose.main(["run", "scheduler"]) == 1
    [sentence] = capsys.readouterr().err.splitlines()
    assert sentence == (
        f"{tmp_path}/keys.json is missing: start the stack by `docker compose up`, whose first step makes it."
    )


@pytest.mark.usefixtures("bare_environment")
@pytest.mark.parametrize("fails", [False, True])
def test_provision_is_healthy_only_while_it_succeeds(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NextRound(Exception):
        pass

    def provision(env: Any) -> None:
        if fails:
            raise ConnectionError("the emulator is away")

    def sleep(seconds: float) -> None:
        raise NextRound

    monkeypatch.setattr(compose, "KEYS", tmp_path)
    monkeypatch.setattr(services, "STATE", tmp_path / "state")
    monkeypatch.setattr(compose, "PROVISIONED", tmp_path / "provisioned")
    monkeypatch.setattr(compose.time, "sleep", sleep)
    monkeypatch.setattr(local.stack.provision, "provision", provision)
    monkeypatch.setattr(compose.os, "environ", dict(os.environ))
    compose.make_keys()
    compose.PROVISIONED.touch()  # of an earlier round
    with pytest.raises(NextRound):
        compose.keep_provisioned()
    assert compose.is_ready("provision") is not fails


@pytest.mark.usefixtures("bare_environment")
def test_in_a_container_every_service_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "KEYS", tmp_path)
    monkeypatch.setattr(services, "STATE", tmp_path / "state")
    compose.make_keys()
    variables = compose.environment()
    assert variables["SPANNER_EMULATOR_HOST"] == "spanner:9010"
    assert variables["SHOPSTREAM_DATAFLOW_ENDPOINT"] == "http://dataflow:8091"
    ours = {
        name: value
        for name, value in variables.items()
        if name in services.environment_for(services.DEFAULT_PORTS)
    }
    elsewhere = {name for name, value in ours.items() if "127.0.0.1" in value}
    # A browser's, which docker-compose.yaml sets, and where the API server listens.
    assert elsewhere <= {"AIRFLOW__API__BASE_URL", "AIRFLOW__API__HOST"}
