"""The local stack: everything that stands in for Google Cloud on one machine, and Airflow, under supervisor.

Every `up` starts empty, since the Spanner and BigQuery emulators keep their rows in memory. Whatever the
stack starts, and whatever that starts, carries SHOPSTREAM_STACK_ID in its environment; so `down` finds all of
it, even what made a process group of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import xmlrpc.client  # nosec B411 (what answers is our own supervisord)
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from local.root import ROOT
from local.stack import airflow_settings
from local.stack.emulators import HOST, NotReady, Program
from local.stack.services import DEFAULT_PORTS, STATE, chosen_ports, environment_for, services
from shopstream.dashboard.in_airflow import PREFIX

STACK_ID = "SHOPSTREAM_STACK_ID"
NEEDED_TO_PROVISION = {"spanner", "pubsub", "gcs"}
NEEDED_LAST = {"dataflow", "triggerer"}
"""By tasks that load or wait, and not by those that apply the schemas."""
UP_TIMEOUT_SECONDS = 300
FIRST_SECONDS = 20
STOP_SECONDS = 1
FIRST_LOOKS = 50
KERNEL_PIDS = (0, 2)
MAX_SOCKET_PATH_BYTES = 107

Progress = Callable[[str], None]
_interrupted = threading.Event()


def take_interrupts() -> None:
    """Let Ctrl-C and SIGTERM end what this process does, `up` too."""

    def interrupt(*_: object) -> None:
        # Also kept, since Python drops what is raised while it closes a forgotten socket: each question to
        # supervisor forgets one, and Python handles a signal when it next enters a function, which after such
        # a question is often the one that closes.
        _interrupted.set()
        raise KeyboardInterrupt

    # SIGINT too: a shell may have whatever it starts in the background ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def up(progress: Progress = print, meanwhile: Callable[[], object] | None = None) -> bool:
    """Start everything and wait until all of it is healthy; after a failure nothing is left running.

    `meanwhile` is called as soon as all but NEEDED_LAST is; that starts only then, so that it takes no core
    from what is waited for. It must return soon.

    Returns:
        Whether it was down.

    Raises:
        NotReady: a port is taken, a program is missing or does not stay up; the message says what to do.
        KeyboardInterrupt: by Ctrl-C, once everything that was started has been stopped.
    """
    with _lock(progress):
        if is_up():
            progress(f"The stack is up already: {airflow_url()}")
            return False
        _stop_everything(progress)  # what a killed stack left
        ports = chosen_ports()
        try:
            _start(ports, progress, meanwhile)
        except BaseException:
            with no_interrupts():
                _stop_everything(progress)
            raise
        return True


def down(progress: Progress = print) -> None:
    """Stop everything that the stack started; harmless when nothing runs."""
    with _lock(progress), no_interrupts():
        if not _stop_everything(progress):
            progress("The stack is down already.")
            return
        progress(f"Its rows, objects and Airflow's runs are gone; logs and login stay in {STATE}.")


def is_up() -> bool:
    """Whether the stack's supervisor runs."""
    return _supervisor_pid() is not None


def environment() -> dict[str, str]:
    """The variables with which Google's clients, shopstream and Airflow reach the running stack.

    Raises:
        NotReady: the stack is down.
    """
    if not is_up():
        raise NotReady("The local stack is down: run `make up`.")
    kept: dict[str, str] = json.loads(_environment_file().read_text())
    return {name: value for name, value in kept.items() if name != STACK_ID}  # whoever reads it is no member


def airflow_url() -> str:
    """Where Airflow's pages and REST API are."""
    return environment()["AIRFLOW__API__BASE_URL"]


def dashboard_url() -> str:
    """Where the dashboard is in Airflow."""
    return f"{airflow_url()}{PREFIX}/"


def airflow_login() -> tuple[str, str]:
    """Airflow's user name and password."""
    return airflow_settings.USERNAME, _password()


def describe() -> str:
    """The running stack's pages and login, for a person."""
    username, password = airflow_login()
    variables = environment()
    return "\n".join(
        [
            f"Airflow   {airflow_url()}   login {username} / {password}",
            f"Dashboard {dashboard_url()}",
            f"Dataflow  {variables['SHOPSTREAM_DATAFLOW_ENDPOINT']}",
            f"Objects   {variables['SHOPSTREAM_OBJECT_URL']}/{variables['SHOPSTREAM_BUCKET']}/",
            f"Logs      {logs_dir()}",
            "Stop it with `make down`.",
        ]
    )


def status() -> dict[str, str]:
    """Each service's state: healthy, not ready or exited. Empty when the stack is down."""
    if not is_up():
        return {}
    ports = {name: int(value) for name, value in environment().items() if name in DEFAULT_PORTS}
    states = {info["name"]: info["statename"].lower() for info in _supervisor().getAllProcessInfo()}

    def told(service: Program) -> str:
        # Supervisor has three words for what ended, by how soon it ended; a person needs one.
        # What is stopped is to start later: `up` is not done yet.
        if states[service.name] not in ("starting", "running", "stopped"):
            return "exited"
        return "healthy" if service.is_ready() else "not ready"

    return {service.name: told(service) for service in services(ports)}


def process(name: str) -> psutil.Process:
    """The process of a service of the running stack."""
    return psutil.Process(_supervisor().getProcessInfo(name)["pid"])


def restart(name: str) -> None:
    """Stop a service and start it again, as empty as it starts; return when it is healthy.

    Raises:
        NotReady: it is not, UP_TIMEOUT_SECONDS later.
    """
    ports = {variable: int(value) for variable, value in environment().items() if variable in DEFAULT_PORTS}
    [service] = [service for service in services(ports) if service.name == name]
    _supervisor().stopProcess(name)
    _supervisor().startProcess(name, False)
    deadline = time.monotonic() + UP_TIMEOUT_SECONDS
    while not service.is_ready():
        if time.monotonic() > deadline:
            raise NotReady(f"{name} is not healthy after {UP_TIMEOUT_SECONDS} seconds.")
        time.sleep(0.2)


def _start(
    ports: Mapping[str, int], progress: Progress, meanwhile: Callable[[], object] | None = None
) -> None:
    began = time.monotonic()
    _refuse_taken_ports(ports)
    wanted = services(ports)
    for folder in ("gcs", "dataflow", "logs"):
        shutil.rmtree(STATE / folder, ignore_errors=True)
        (STATE / folder).mkdir(parents=True)
    variables = {
        **environment_for(ports),
        STACK_ID: str(STATE),
        # Without it setproctitle overwrites the environment in which `down` looks for SHOPSTREAM_STACK_ID.
        "SPT_NOENV": "1",
    }
    _write_private(_environment_file(), json.dumps(variables, indent=1))
    progress("Laying out Airflow's database")
    airflow_settings.lay_out(STATE / "airflow", _password(), variables)

    later = NEEDED_LAST if meanwhile else set()
    _write_private(_config_file(), _supervisor_config(wanted, later))
    with (logs_dir() / "supervisor.log").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--configuration", _config_file()],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a Ctrl-C meant for `up` reaches `up` alone
        )
    waiting = {service.name: service for service in wanted}
    provisioned = False
    while waiting:
        for service in list(waiting.values()):
            if service.is_ready():
                del waiting[service.name]
                progress(f"{service.name} is ready ({time.monotonic() - began:.0f} s)")
        if not provisioned and not waiting.keys() & NEEDED_TO_PROVISION:
            _provision(variables)
            provisioned = True
            progress(f"bucket, database, topics and templates are made ({time.monotonic() - began:.0f} s)")
        if meanwhile and not waiting.keys() - later:
            for name in sorted(later):
                _supervisor().startProcess(name, False)
            meanwhile()
            meanwhile = None
        if supervisor.poll() is not None:
            raise NotReady(f"supervisor ended at its start; read {logs_dir() / 'supervisor.log'}.")
        _check_start(waiting.values(), time.monotonic() - began)
        if _interrupted.is_set():
            raise KeyboardInterrupt
        time.sleep(0.2)


def _provision(variables: Mapping[str, str]) -> None:
    """In a process of its own, since Google's clients read the emulators' addresses from the environment."""
    log_file = logs_dir() / "provision.log"
    with log_file.open("wb") as log:
        ended = subprocess.run(
            [sys.executable, "-m", "local.stack.provision"],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode:
        raise NotReady(
            f"Making the bucket and the database failed: {_last_line(log_file)!r}; read {log_file}."
        )


def _check_start(waiting: Iterable[Program], seconds: float) -> None:
    """Raise NotReady when a service will not come up, or not in time."""
    try:
        states = {info["name"]: info["statename"] for info in _supervisor().getAllProcessInfo()}
    except OSError:  # supervisor's own socket is not there yet
        states = {}
    for service in waiting:
        log = logs_dir() / f"{service.name}.log"
        if states.get(service.name) in ("BACKOFF", "EXITED", "FATAL"):
            raise NotReady(f"{service.name} does not stay up: {_last_line(log)!r}; read {log}.")
        if seconds > UP_TIMEOUT_SECONDS:
            raise NotReady(f"{service.name} is not healthy after {UP_TIMEOUT_SECONDS} seconds; read {log}.")


def _stop_everything(progress: Progress) -> bool:
    """Ask supervisor to stop, then end whatever of the stack still runs; whether there was anything."""
    members = _members()
    if not members:
        return False
    progress("Stopping the stack")
    supervisor_pid = _supervisor_pid()
    with contextlib.suppress(OSError, xmlrpc.client.Fault):
        _supervisor().shutdown()
    # Tasks and jobs are in process groups of their own, which supervisor's signal does not reach.
    for member in members:
        if member.pid != supervisor_pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while members := _members():
        if time.monotonic() > deadline:
            for member in members:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        time.sleep(0.1)
    for leftover in (_environment_file(), _socket_file()):
        leftover.unlink(missing_ok=True)
    progress("The stack is down.")
    return True


def _members() -> list[psutil.Process]:
    """Every process of this stack, found by the variable that all of them inherited."""
    found = []
    for candidate in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if variables_of(candidate).get(STACK_ID) == str(STATE) and candidate.pid != os.getpid():
                found.append(candidate)
    return found


def variables_of(process: psutil.Process) -> dict[str, str]:
    """The environment of a process.

    One that has just begun a program shows neither it nor its command line for a moment, and kernel threads
    never do.
    """
    for _ in range(FIRST_LOOKS):
        if variables := process.environ():
            return variables
        # What shows its command line has begun, and shows what environment it has.
        if process.cmdline() or process.ppid() in KERNEL_PIDS:
            return process.environ()
        time.sleep(0.01)
    return {}


def _supervisor_config(wanted: Sequence[Program], later: Collection[str] = ()) -> str:
    """Supervisor's configuration; it does not start what is to start `later` by itself."""
    lines = [
        "[supervisord]",
        f"pidfile={_escape(STATE / 'supervisor.pid')}",
        "logfile=/dev/stdout",
        "logfile_maxbytes=0",
        "[unix_http_server]",
        f"file={_escape(_socket_file())}",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for service in wanted:
        extra = ",".join(f'{name}="{_escape(value)}"' for name, value in service.environment.items())
        lines += [
            f"[program:{service.name}]",
            "command=" + " ".join(f'"{_escape(part)}"' for part in service.command),
            f"environment={extra}",
            f"stdout_logfile={_escape(logs_dir() / (service.name + '.log'))}",
            "stdout_logfile_maxbytes=50MB",
            "stdout_logfile_backups=1",
            "redirect_stderr=true",
            "stopasgroup=true",
            "killasgroup=true",
            f"autostart={'false' if service.name in later else 'true'}",
            f"autorestart={'unexpected' if service.keeps_state else 'false'}",
            # Whoever ends this soon will not stay up: supervisor then gives up at once, and `up` tells why.
            f"startsecs={FIRST_SECONDS}",
            "startretries=0",
        ]
    return "\n".join(lines) + "\n"


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")


def _supervisor() -> Any:
    transport = SupervisorTransport(None, None, f"unix://{_socket_file()}")
    return xmlrpc.client.ServerProxy("http://localhost", transport).supervisor


def _supervisor_pid() -> int | None:
    try:
        pid = int((STATE / "supervisor.pid").read_text())
        running = psutil.Process(pid)
        if running.environ().get(STACK_ID) == str(STATE) and running.status() != psutil.STATUS_ZOMBIE:
            return pid
    except (OSError, ValueError, psutil.Error):
        pass
    return None


def _refuse_taken_ports(ports: Mapping[str, int]) -> None:
    for variable, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise NotReady(
                    f"Port {port} is taken: stop what listens there, or set {variable} to a free port."
                ) from error


@contextlib.contextmanager
def _lock(progress: Progress) -> Iterator[None]:
    """Keep two runs of `up` or `down` apart: the second waits for the first."""
    if len(os.fsencode(_socket_file())) > MAX_SOCKET_PATH_BYTES:
        raise NotReady(
            f"The path {STATE} is too long for a socket: set SHOPSTREAM_STACK_DIR to a shorter one."
        )
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("Waiting for another `up` or `down` to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def no_interrupts() -> Iterator[None]:
    """Let Ctrl-C and a termination not stop what ends or clears away something."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _password() -> str:
    """The login's password, made once and kept, so that a browser's saved login stays good."""
    file = STATE / "password"
    if not file.is_file():
        _write_private(file, secrets.token_urlsafe(12))
    return file.read_text()


def _write_private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(text)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else ""


def logs_dir() -> Path:
    """Where each service writes its log."""
    return STATE / "logs"


def _config_file() -> Path:
    return STATE / "supervisord.conf"


def _socket_file() -> Path:
    return STATE / "supervisor.sock"


def _environment_file() -> Path:
    return STATE / "environment.json"
