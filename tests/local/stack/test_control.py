"""The local stack on free ports in a folder of its own, driven by its command line as a developer does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from local.stack import control as stack
from local.stack import emulators, services

pytestmark = pytest.mark.integration

UP_TIMEOUT_SECONDS = 250


def stack_environment(state: Path) -> dict[str, str]:
    """The environment of a stack of its own."""
    ports = {variable: str(emulators.free_port()) for variable in services.DEFAULT_PORTS}
    return {**os.environ, **ports, "SHOPSTREAM_STACK_DIR": str(state)}


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run one command of the stack's command line to its end."""
    return subprocess.run(
        [sys.executable, "-m", "local.stack", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=UP_TIMEOUT_SECONDS,
    )


def processes(environment: dict[str, str]) -> list[tuple[list[str], dict[str, str]]]:
    """The command and the environment of each process that belongs to the stack."""
    found = []
    for candidate in psutil.process_iter():
        with suppress(psutil.Error):
            variables = stack.variables_of(candidate)
            if variables.get(stack.STACK_ID) == environment["SHOPSTREAM_STACK_DIR"]:
                found.append((candidate.cmdline(), variables))
    return found


def members(environment: dict[str, str]) -> list[str]:
    """The command lines of all processes that belong to the stack."""
    return [" ".join(command) for command, _ in processes(environment)]


UP = """if True:
    import time
    from local.stack import control

    def tell():
        # On a busy machine one that is healthy may once answer too late.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            states = control.status()
            if all(states[name] == "healthy" for name in states.keys() - control.NEEDED_LAST):
                break
        print("meanwhile", *(name for name, state in states.items() if state == "healthy"))

    print("was down:", control.up(meanwhile=tell))
"""


@pytest.fixture(scope="module")
def ups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The environment of a running stack, and what each of the two `up` said that started it at once."""
    environment = stack_environment(tmp_path_factory.mktemp("stack"))
    up = [sys.executable, "-c", UP]
    try:
        both = [subprocess.Popen(up, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [starting.communicate(timeout=UP_TIMEOUT_SECONDS)[0] for starting in both]
        assert [starting.returncode for starting in both] == [0, 0], said
        yield environment, said
    finally:
        run(environment, "down")


@pytest.fixture(scope="module")
def broken() -> list[str]:
    """What tests have done to the stack since it was last started."""
    return []


@pytest.fixture
def environment(ups: tuple[dict[str, str], list[str]], broken: list[str]) -> dict[str, str]:
    """The environment of a running stack, started anew if a test before has broken it."""
    if broken:
        run(ups[0], "down")
        assert run(ups[0], "up").returncode == 0
        broken.clear()
    return ups[0]


def test_of_two_ups_at_once_one_waits_and_finds_the_stack_up(
    ups: tuple[dict[str, str], list[str]],
) -> None:
    first, second = sorted(ups[1], key=lambda said: "up already" in said)

    assert "scheduler is ready" in first
    assert second.startswith("Waiting for another")
    assert "is ready" not in second
    assert [said.splitlines()[-1] for said in (first, second)] == ["was down: True", "was down: False"]


def test_what_needs_neither_dataflow_nor_triggerer_is_done_while_these_start(
    ups: tuple[dict[str, str], list[str]],
) -> None:
    [told] = [
        line.split()[1:] for said in ups[1] for line in said.splitlines() if line.startswith("meanwhile")
    ]
    assert {"spanner", "bigquery", "api-server", "scheduler", "dag-processor"} <= set(told)
    assert not {"dataflow", "triggerer"} & set(told)


def test_the_api_server_alone_gives_up_early_on_another_processs_write(environment: dict[str, str]) -> None:
    gives_up_early = {
        name: variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].endswith("?timeout=1")
        for command, variables in processes(environment)
        for name in ("api-server", "scheduler", "dag-processor", "triggerer")
        if name in " ".join(command).replace("_", "-")  # the API server calls itself api_server
    }
    assert gives_up_early == {
        "api-server": True,
        "scheduler": False,
        "dag-processor": False,
        "triggerer": False,
    }


def test_after_up_every_service_is_healthy(environment: dict[str, str]) -> None:
    told = run(environment, "status")

    assert told.returncode == 0, told.stdout
    states = dict(line.split() for line in told.stdout.splitlines())
    assert set(states.values()) == {"healthy"}
    assert set(states) == {
        "spanner",
        "pubsub",
        "gcs",
        "bigquery",
        "dataflow",
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
    }


def test_up_says_where_airflow_is_and_its_login_works(environment: dict[str, str]) -> None:
    told = run(environment, "up").stdout
    page, login = next(line for line in told.splitlines() if line.startswith("Airflow")).split("login")
    username, password = login.split(" / ")

    answer = requests.post(
        f"{page.split()[1]}/auth/token",
        json={"username": username.strip(), "password": password.strip()},
        timeout=30,
    )

    assert answer.status_code == requests.codes.created
    assert answer.json()["access_token"]


def test_each_address_that_up_prints_opens_in_a_browser_to_a_page(environment: dict[str, str]) -> None:
    addresses = re.findall(r"https?://\S+", run(environment, "up").stdout)
    assert len(set(addresses)) >= 3
    for address in addresses:
        answer = requests.get(address, headers={"Accept": "text/html,*/*"}, timeout=30)
        kind = answer.headers["Content-Type"].partition(";")[0]
        # The dashboard says to log in to Airflow.
        wanted = requests.codes.unauthorized if address.endswith("/shopstream/") else requests.codes.ok
        assert (answer.status_code, kind) == (wanted, "text/html"), address
        assert "<title>" in answer.text


def test_up_makes_the_bucket_and_the_templates(environment: dict[str, str]) -> None:
    gcs = f"http://{emulators.HOST}:{environment['SHOPSTREAM_GCS_PORT']}"

    template = requests.get(f"{gcs}/{services.BUCKET}/templates/local/load_events.json", timeout=30)

    assert template.json()["image"] == "python://beam_jobs.load_events"


def test_passwords_and_keys_are_readable_for_their_owner_only(environment: dict[str, str]) -> None:
    state = Path(environment["SHOPSTREAM_STACK_DIR"])

    for name in ("password", "environment.json", "airflow/passwords.json"):
        assert (state / name).stat().st_mode & 0o077 == 0, name


def test_a_second_up_changes_nothing(environment: dict[str, str]) -> None:
    before = members(environment)

    again = run(environment, "up")

    assert again.returncode == 0
    assert "up already" in again.stdout
    assert members(environment) == before


@pytest.mark.drill
def test_a_drill_carries_out_its_runbook_on_the_running_stack_and_leaves_it_up(
    environment: dict[str, str],
) -> None:
    command = [sys.executable, "-m", "local.drills", "gate", "--events", "1000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "was told to refuse it: Landing day" in done.stdout
    assert "triggered load_events_daily for the day" in done.stdout
    assert run(environment, "status").returncode == 0


def test_a_killed_emulator_is_told_by_status_and_not_started_empty(
    environment: dict[str, str], broken: list[str]
) -> None:
    broken.append("an emulator is killed")
    for candidate in psutil.process_iter():
        with suppress(psutil.Error):
            if f"--port={environment['SHOPSTREAM_PUBSUB_PORT']}" in candidate.cmdline():
                candidate.kill()
                candidate.wait()

    # Supervisor learns of it a moment later.
    deadline = time.monotonic() + 30
    while (told := run(environment, "status")).returncode == 0 and time.monotonic() < deadline:
        pass

    assert told.returncode == 1
    assert "pubsub         exited" in told.stdout


def test_down_leaves_no_process_not_even_one_in_a_session_of_its_own(
    ups: tuple[dict[str, str], list[str]], broken: list[str]
) -> None:
    # Whether an emulator was killed before is all one.
    environment, _ = ups
    broken.append("the stack is down")
    marked = {**os.environ, stack.STACK_ID: environment["SHOPSTREAM_STACK_DIR"]}
    stray = subprocess.Popen(["sleep", "600"], env=marked, start_new_session=True)

    ended = run(environment, "down")

    assert ended.returncode == 0, ended.stderr
    assert members(environment) == []
    assert stray.wait(30) == -signal.SIGTERM
    assert run(environment, "down").stdout == "The stack is down already.\n"
    assert run(environment, "status").stdout == "The stack is down.\n"


def test_a_taken_port_is_told_in_one_sentence_that_names_its_variable(tmp_path: Path) -> None:
    environment = stack_environment(tmp_path)
    with socket.socket() as taken:
        taken.bind((emulators.HOST, 0))
        taken.listen()
        port = environment["SHOPSTREAM_GCS_PORT"] = str(taken.getsockname()[1])

        ended = run(environment, "up")

    assert ended.returncode == 1
    assert ended.stderr == (
        f"Port {port} is taken: stop what listens there, or set SHOPSTREAM_GCS_PORT to a free port.\n"
    )
    assert members(environment) == []


def test_a_missing_program_is_told_in_one_sentence(tmp_path: Path) -> None:
    environment = {**stack_environment(tmp_path), "SHOPSTREAM_SPANNER_EMULATOR": "/nowhere/emulator_main"}
    # A dashboard of before, which is none of the stack's, is not in its way.
    with socket.socket() as dashboard:
        dashboard.bind((emulators.HOST, 0))
        dashboard.listen()
        environment["SHOPSTREAM_DASHBOARD_PORT"] = str(dashboard.getsockname()[1])

        ended = run(environment, "up")

    assert ended.returncode == 1
    assert ended.stderr == (
        "SHOPSTREAM_SPANNER_EMULATOR names /nowhere/emulator_main, which is no file; "
        "name the Spanner emulator's file.\n"
    )
    assert members(environment) == []


def test_a_service_that_does_not_stay_up_is_told_with_its_log_and_all_others_are_stopped(
    tmp_path: Path,
) -> None:
    environment = {**stack_environment(tmp_path), "SHOPSTREAM_SPANNER_EMULATOR": "/bin/false"}

    ended = run(environment, "up")

    assert ended.returncode == 1
    assert "spanner does not stay up" in ended.stderr
    assert str(tmp_path / "logs" / "spanner.log") in ended.stderr
    assert members(environment) == []


def test_ctrl_c_during_up_leaves_no_process(tmp_path: Path) -> None:
    environment = stack_environment(tmp_path)
    starting = subprocess.Popen(
        [sys.executable, "-u", "-m", "local.stack", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert starting.stdout is not None
    for line in starting.stdout:
        if "is ready" in line:
            break
    assert members(environment)

    starting.send_signal(signal.SIGINT)
    _, stderr = starting.communicate(timeout=UP_TIMEOUT_SECONDS)
    left = members(environment)
    run(environment, "down")

    assert starting.returncode == 130
    assert stderr == "Stopped.\n"
    assert left == []


def test_a_process_of_the_stack_is_found_as_soon_as_it_has_begun(tmp_path: Path) -> None:
    """Its environment can be read somewhat later: on one core who began it mostly looks sooner."""
    program = """if True:
        import os, psutil, subprocess
        from local.stack import control

        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        for _ in range(20):
            begun = subprocess.Popen(["sleep", "60"], env={control.STACK_ID: str(control.STATE)})
            # On a busy machine it may be looked at as soon as this: here, before all others.
            psutil.process_iter = lambda: [psutil.Process(begun.pid)]
            found = control._members()
            begun.kill()
            begun.wait()
            assert [member.pid for member in found] == [begun.pid]
    """
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=stack_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_ctrl_c_that_python_drops_ends_up_too(tmp_path: Path) -> None:
    """As it drops one that comes while it closes a socket: what is raised there is lost."""
    environment = stack_environment(tmp_path)
    program = (
        "import os, signal, sys; from local.stack import control; from local.stack.__main__ import main; "
        "Closed = type('Closed', (), {'__del__': lambda self: os.kill(os.getpid(), signal.SIGINT)}); "
        "control._check_start = lambda *_: Closed() and None; "
        "sys.exit(main(['up']))"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    left = members(environment)
    run(environment, "down")

    assert ended.returncode == 130, ended.stderr
    assert "Exception ignored in" in ended.stderr
    assert ended.stderr.endswith("Stopped.\n")
    assert left == []
