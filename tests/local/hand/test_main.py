"""The shop by hand: what is refused at once, and the walk of docs/local.md as a newcomer does it."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.api_core.exceptions import Conflict
from google.cloud import storage

from infra.deploy import read_target
from local.dataflow.worker import WORKER_FILE
from local.hand import __main__ as hand
from local.hand import shop as shop_of_hand
from local.root import ROOT
from local.stack import emulators, services
from local.stack.airflow_client import ComposerClient
from shopstream.load.gate import PUBLISH
from shopstream.questions import ANSWER_WITHIN
from shopstream.settings import settings
from shopstream.stream.decide import STREAM_JOB
from tests.airflow_home import airflow_home, load_dag, run_dag  # noqa: F401
from tests.airflow_server import served
from tests.bad_input import FIELDS, HEADER, line
from tests.dags.conftest import dataflow, shop  # noqa: F401
from tests.dags.shop import DAY, Shop
from tests.local.dataflow.service import until
from tools.cloud_proof.__main__ import PROBES

WALK = ROOT / "docs" / "local.md"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """What Ctrl-C and SIGTERM do, which a command takes for itself, is as before afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["load", "1.11.2019"], "'1.11.2019' is no day such as 2019-11-01"),
        (["load", "2019-11-01", "--env", "small"], "a real project has both ENV= and PROJECT="),
        (["load", "2019-11-01", "--project", "my-shop"], "a real project has both ENV= and PROJECT="),
        (
            ["sql", "SELECT 1", "--store", "mysql"],
            "STORE is 'mysql'; give STORE=bigquery or STORE=spanner.\n",
        ),
        (["put", ""], "Give FILE=events.csv, a file of click events.\n"),
        (["load", ""], "Give DAY=2019-11-01, or another day.\n"),
        (["stream", ""], "Give DAY=2019-11-01, or another day.\n"),
        (["summaries", "2019-11-01", "--last-day", "2019"], "'2019' is no day such as 2019-11-01\n"),
        (
            ["put", "a.csv", "--replace"],
            "REPLACE=1 is for DAY=, the landing day that is to hold this file alone\n",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_the_words_of_make(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        hand.main(arguments)
    told = capsys.readouterr().err
    assert told.startswith(words)
    assert "usage" not in told


def test_make_up_waits_for_no_client_of_google_to_be_imported() -> None:
    code = "import local.hand.__main__, sys; print(*sys.modules)"
    imported = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    clients = {"google.cloud.bigquery", "google.cloud.spanner", "google.cloud.storage", "pandas", "pyarrow"}
    assert not clients & set(imported)


@pytest.mark.parametrize(
    ("environment", "project", "words"),
    [
        ("test", "my-shop", "ENV is 'test'; give ENV=small, ENV=medium or ENV=production."),
        ("small", "My Shop", "PROJECT is 'My Shop'; give the Google Cloud project's id."),
    ],
)
def test_a_real_project_that_cannot_be_is_refused_in_words(
    environment: str, project: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["load", "2019-11-01"], ["sql", "SELECT 1"], ["contract-whatif", "2019-11-01"]):
        assert hand.main([*command, "--env", environment, "--project", project]) == 1
        assert capsys.readouterr().err == f"{words}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no.csv is no file; name a file of click events."),
        (b"nothing of ours\n", "the first line is neither an event nor a header"),
        (HEADER + line(event_time="2019-11-01 08:00:00") * 3, "time_without_zone 3"),
    ],
)
def test_a_file_that_would_not_land_is_refused_before_anything_is_uploaded(
    content: bytes | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no.csv"
    if content is not None:
        file.write_bytes(content)
    assert hand.main(["put", str(file)]) == 1
    assert words in capsys.readouterr().err


def test_a_stack_that_is_down_is_told_with_the_command_that_starts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hand.control, "STATE", tmp_path)
    for arguments in (["status"], ["sql", "SELECT 1"], ["load", "2019-11-01"], ["kill-stream"]):
        assert hand.main(arguments) == 1
    told = capsys.readouterr()
    assert "The stack is down. Start it: make up" in told.out
    assert told.err.count("The local stack is down: run `make up`.") == 3


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a stack of its own, which is down in the end."""
    ports = {variable: str(emulators.free_port()) for variable in services.DEFAULT_PORTS}
    # No table is so wide that its lines are folded.
    variables = {**os.environ, **ports, "SHOPSTREAM_STACK_DIR": str(tmp_path), "COLUMNS": "120"}
    yield variables
    subprocess.run([sys.executable, "-m", "local.stack", "down"], env=variables, check=True)


IS_BACK = (
    'SELECT COUNTIF(decision = "launch") = 2 AND EXISTS(SELECT 1 FROM shop_raw.events_stream) AS is_back '
    "FROM shop_ops.stream_checks"
)


@pytest.mark.integration
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_walk_of_the_docs_shows_what_they_say(environment: dict[str, str], tmp_path: Path) -> None:
    blocks = re.findall(r"^```\n(.*?)^```$", WALK.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    commands = [command for block in blocks for command in block.splitlines()]
    told: dict[str, str] = {}

    def done(command: str) -> str:
        ended = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            # make's own variables of the run that started the tests are not meant for these.
            env={name: value for name, value in environment.items() if not name.startswith("MAKE")},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    for command in commands:
        told[command] = told.get(command, "") + done(command.replace("build/look", str(tmp_path)))
        if command == "make kill-stream":
            deadline = time.monotonic() + 300
            while done(f"make sql Q='{IS_BACK}'") != "is_back\nTrue\n":
                assert time.monotonic() < deadline
                time.sleep(5)

    def after(start: str) -> str:
        [text] = [text for command, text in told.items() if command.startswith(start)]
        return text

    assert "make put FILE=" in after("make up")
    first, second = after("make put").split("landed in ")[:2]
    assert re.search(r"6,000 rows of \d days: .*2019-11-01 \(2,9\d\d rows\)", first)
    assert re.search(r"the load will reject \d", first)
    assert "the load will reject none" in second
    first, second = after("make load DAY=2019-11-01").split("2019-11-01 is loaded: ")[1:]
    rejected = int(re.search(r"([\d,]+) rejected", first)[1].replace(",", ""))  # type: ignore[index]
    assert rejected > 0
    assert " 0 rejected." in second
    assert re.search(r"bad_\w+ +│ +\d+ │ 2019-11-01/shop-00000\.csv line [\d,]+ \(byte [\d,]+\)", first)
    loads = after("make sql Q='SELECT landing_day").splitlines()
    assert loads[0] == "landing_day,accepted,rejected,duplicates,spanner_rows,bigquery_rows"
    assert f",{rejected}," in next(row for row in loads if row.startswith("2019-11-01"))
    whatif = after("make contract-whatif")
    assert f"Of {rejected}, 0 would pass now." in whatif
    assert "all would pass again, as the same events" in whatif
    assert len(after("make sql Q='SELECT reason").splitlines()) >= 6
    assert after("make sql Q='SELECT COUNT(*) AS rejected_lines").split() == ["rejected_lines", "0"]
    assert "The summaries of 2019-11-01 are built anew." in after("make summaries")
    assert "2019-11-01," in after("make sql Q='SELECT event_date, views")
    assert ",purchase," in after("make sql STORE=spanner")
    proof = after("make cloud-proof")
    rows = [line.split(" | ") for line in proof.splitlines() if line.startswith("| ")][1:]
    assert {row[0].removeprefix("| "): row[3] for row in rows} == {
        probe.name: "needs Google" if probe.needs else "as expected" for probe in PROBES
    }
    assert "The stream runs, and the events of 2019-11-01 come in" in after("make stream")
    assert after("make kill-stream") == (
        "Killed.\nkeep_stream_alive looks each 60 s and launches it anew; no event is lost.\n"
    )
    assert re.fullmatch(r"streamed\n[1-9]\d*\n", after("make sql Q='SELECT COUNT(DISTINCT"))
    assert "Jobs that run: shop-stream\n" in after("make status")
    assert "shop_ops.loads             3" in after("make status")
    assert "Its rows, objects and Airflow's runs are gone" in after("make down")


def test_the_docs_name_each_variable_of_a_second_stack() -> None:
    rows = re.findall(r"^\| `(SHOPSTREAM_\w+_PORT)` \| (\d+)", WALK.read_text(encoding="utf-8"), re.MULTILINE)
    named = {**services.DEFAULT_PORTS, "SHOPSTREAM_DASHBOARD_PORT": settings().dashboard_port}
    assert {name: int(port) for name, port in rows} == named


class Project:
    """A real project for who has only its name: stores, Airflow and Google's login are where they tell."""

    def __init__(self, shop: Shop, folder: Path, airflow_url: str, token: str) -> None:  # noqa: F811
        self.shop, self.airflow_url, self.token = shop, airflow_url, token
        self.bin = folder / "bin"
        self.key = folder / "key.json"
        self.bin.mkdir()

    def lay_out(self, login_url: str) -> None:
        """Put a gcloud on the PATH that knows the project's environment, and a key whose login is known."""
        target = read_target("small", self.shop.bucket.client.project)
        asked = (
            f"composer environments describe shopstream --project={target.project} "
            f"--location={target.region} --format=value(config.airflowUri)"
        )
        gcloud = self.bin / "gcloud"
        gcloud.write_text(
            f"#!/bin/sh\n[ \"$*\" = '{asked}' ] && echo {self.airflow_url} && exit\n"
            'echo "ERROR: (gcloud) NOT_FOUND: $*" >&2; exit 1\n'
        )
        gcloud.chmod(0o755)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.key.write_text(
            json.dumps(
                {
                    "type": "service_account",
                    "client_email": f"somebody@{target.project}.iam.gserviceaccount.com",
                    "private_key": pem.decode(),
                    "token_uri": login_url,
                }
            )
        )

    @property
    def options(self) -> list[str]:
        """Which project is meant."""
        return ["--env", "small", "--project", self.shop.bucket.client.project]

    def start(self, *arguments: str, program: Sequence[str] = ("-m", "local.hand")) -> subprocess.Popen[str]:
        """Start a command of the shop by hand, for this project."""
        return subprocess.Popen(
            [sys.executable, *program, *arguments, *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def bucket(gcs_emulator: str, spanner_emulator: str, monkeypatch: pytest.MonkeyPatch) -> storage.Bucket:
    """The empty bucket of the name that infra/ gives it; the shop by hand asks Spanner beside it."""
    monkeypatch.setenv("SHOPSTREAM_PROJECT", settings().project)
    client = shop_of_hand.clients()[2]
    name = read_target("small", client.project).bucket.removeprefix("gs://")
    monkeypatch.setenv("SHOPSTREAM_BUCKET", name)
    try:
        return client.create_bucket(name)
    except Conflict:
        made = client.bucket(name)
        for blob in made.list_blobs():
            blob.delete()
        return made


@contextmanager
def standing(state: Path, **variables: str) -> Iterator[dict[str, str]]:
    """The environment of a stack that is up as its folder tells, with these variables and no service."""
    supervisor = subprocess.Popen(["sleep", "600"], env={**os.environ, hand.control.STACK_ID: str(state)})
    # A process has its environment a moment after it has begun.
    until(lambda: hand.control.STACK_ID in psutil.Process(supervisor.pid).environ(), "the stack to stand")
    (state / "supervisor.pid").write_text(str(supervisor.pid))
    (state / "environment.json").write_text(json.dumps(variables))
    try:
        yield {**os.environ, "SHOPSTREAM_STACK_DIR": str(state)}
    finally:
        supervisor.kill()
        supervisor.wait()


def refused(environment: dict[str, str], *arguments: str) -> str:
    """What a command of the shop by hand says on standard error while it fails."""
    ended = subprocess.run(
        [sys.executable, "-m", "local.hand", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


@pytest.mark.integration
def test_a_day_that_is_not_landed_is_refused_before_a_stream_is_started_for_it(
    bucket: storage.Bucket, tmp_path: Path
) -> None:
    away = f"http://{emulators.HOST}:{emulators.free_port()}"
    with standing(tmp_path, AIRFLOW__API__BASE_URL=away) as environment:
        told = refused(environment, "stream", str(DAY))
    folder = f"gs://{bucket.name}/landing/events/{DAY}"
    assert told.startswith(f"Landing day {DAY} is not landed whole: {folder}/ holds nothing.")
    assert told.endswith("By hand: make put FILE=events.csv\n")
    bucket.blob(f"landing/events/{DAY}/_SUCCESS").upload_from_string(b"")
    shop_of_hand.refuse_unlanded(bucket, DAY)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("share_of_the_stack", "is_real", "asks"),
    [("0.01", False, True), ("0.5", False, False), ("0.5", True, True)],
)
def test_whether_a_load_will_ask_is_told_by_the_share_of_the_shop_and_not_of_this_shell(
    share_of_the_stack: str, is_real: bool, asks: bool, bucket: storage.Bucket, tmp_path: Path
) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(HEADER + line() * 3 + line(price="free"))
    meant = ["--env", "small", "--project", bucket.client.project] if is_real else []
    with standing(tmp_path, SHOPSTREAM_MAX_REJECTED_SHARE=share_of_the_stack) as environment:
        told = subprocess.run(
            [sys.executable, "-m", "local.hand", "put", str(file), "--day", str(DAY), *meant],
            env=environment | {"SHOPSTREAM_MAX_REJECTED_SHARE": "0.5" if asks else "0.01"},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
    assert ("so that the load will ask you" in told) == asks


@contextmanager
def airflow_that_knows(variable: dict[str, Any] | None, *, is_paused: bool) -> Iterator[str]:
    """The URL of an Airflow's REST API, as far as it is asked what is wanted of the stream."""

    class Airflow(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.tell({"access_token": "ours"})

        def do_GET(self) -> None:
            if self.path == "/api/v2/dags/keep_stream_alive":
                self.tell({"is_paused": is_paused})
            elif self.path == "/api/v2/variables/shopstream_stream" and variable:
                self.tell({"value": json.dumps(variable)})
            else:
                self.tell({"detail": "not found"}, 404)

        def tell(self, answer: dict[str, Any], code: int = 200) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    airflow = http.server.ThreadingHTTPServer((emulators.HOST, 0), Airflow)
    threading.Thread(target=airflow.serve_forever, daemon=True).start()
    try:
        yield f"http://{emulators.HOST}:{airflow.server_port}"
    finally:
        airflow.shutdown()
        airflow.server_close()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("variable", "is_paused", "words"),
    [
        (None, False, "The stream does not run at this moment: keep_stream_alive looks each 60 s and"),
        ({"desired": "running", "version": None}, False, "The stream does not run at this moment:"),
        ({"desired": "stopped"}, False, "No stream runs. Start it: make stream DAY=2019-11-01"),
        (None, True, "No stream runs. Start it: make stream DAY=2019-11-01"),
        ({"desired": "perhaps"}, False, "perhaps"),
    ],
)
def test_where_no_stream_can_be_killed_it_is_told_whether_it_comes_back(
    variable: dict[str, str] | None,
    is_paused: bool,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in (hand, hand.control):
        monkeypatch.setattr(module, "STATE", tmp_path)
    with airflow_that_knows(variable, is_paused=is_paused) as url:
        variables = {"AIRFLOW__API__BASE_URL": url, "SHOPSTREAM_KEEP_ALIVE_SECONDS": "60"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)  # which the command does too, and for good
        with standing(tmp_path, **variables):
            assert hand.main(["kill-stream"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err


@contextmanager
def running_stream(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The worker of a job of the stream, which is laid out in the folder of a stack."""
    worker = subprocess.Popen(["sleep", "600"])
    now = datetime.now(UTC).isoformat()
    job = {"id": "a", "name": STREAM_JOB, "currentState": "JOB_STATE_RUNNING"}
    job |= {"createTime": now, "currentStateTime": now}
    folder = state / "dataflow" / "a"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"resource": job}))
    started = psutil.Process(worker.pid).create_time()
    (folder / WORKER_FILE).write_text(json.dumps({"pid": worker.pid, "started": started}))
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.integration
def test_the_jobs_that_run_are_those_that_have_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand, "STATE", tmp_path)
    assert hand._running_jobs() == []
    with running_stream(tmp_path):
        assert hand._running_jobs() == [STREAM_JOB]
    assert hand._running_jobs() == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("most", "desired", "words"),
    [
        ("2", "running", "keep_stream_alive looks each 60 s and launches it anew; no event is lost."),
        (
            "1",
            "running",
            "launched once within the last hour, and SHOPSTREAM_STREAM_MAX_LAUNCHES allows 1",
        ),
        ("2", "stopped", "It was to stop, or is not kept alive; no event is lost."),
    ],
)
def test_of_a_killed_stream_it_is_told_whether_it_comes_back(
    most: str, desired: str, words: str, tmp_path: Path
) -> None:
    variables = {"SHOPSTREAM_KEEP_ALIVE_SECONDS": "60", "SHOPSTREAM_STREAM_MAX_LAUNCHES": most}
    with (
        running_stream(tmp_path) as worker,
        airflow_that_knows({"desired": desired}, is_paused=False) as url,
        standing(tmp_path, AIRFLOW__API__BASE_URL=url, **variables) as environment,
    ):
        told = subprocess.run(
            [sys.executable, "-m", "local.hand", "kill-stream"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        assert worker.wait(10) == -signal.SIGKILL
    assert told.startswith("Killed.\n")
    assert words in told


@pytest.fixture
def project(
    shop: Shop,  # noqa: F811
    airflow_home: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A project with a real Airflow, whose runs the test carries out."""
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    load_dag("load_events_daily")
    load_dag("land_export")
    with served(create_app("core")) as url:
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role="op"))
        made = Project(shop, tmp_path, url, token)

        class Login(http.server.BaseHTTPRequestHandler):
            """Google's token endpoint, which gives who has the key what Airflow lets in."""

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps({"access_token": made.token, "expires_in": 3600}).encode())

            def log_message(self, *_: Any) -> None:
                pass

        login = http.server.ThreadingHTTPServer((emulators.HOST, 0), Login)
        threading.Thread(target=login.serve_forever, daemon=True).start()
        made.lay_out(f"http://{emulators.HOST}:{login.server_port}/token")
        monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(made.key))
        monkeypatch.setenv(
            "SHOPSTREAM_REGION", settings().region
        )  # which a command sets, and nothing takes back
        yield made
        login.shutdown()
        login.server_close()


def triggered(dag_id: str) -> str:
    """Wait until a run of the DAG is queued; its id."""
    from airflow.models import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with create_session() as session:
            found = session.scalars(select(DagRun).filter_by(dag_id=dag_id, state="queued")).all()
            if found:
                return found[0].run_id
        time.sleep(0.1)
    raise AssertionError(f"no run of {dag_id} was triggered")


@pytest.mark.integration
def test_a_real_project_is_put_into_loaded_and_asked_as_the_local_stack_is(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = project.shop.bucket.client.project
    file = tmp_path / "mine.csv"
    events = [line(event_time=f"{DAY} 08:00:0{n} UTC", product_id=str(1_000 + n)) for n in range(3)]
    file.write_bytes(HEADER + b"".join(events))

    put = project.start("put", str(file))
    run_id = triggered("land_export")
    assert run_dag(load_dag("land_export"), {}, run_id=run_id).state == "success"
    told, errors = put.communicate(timeout=60)
    assert put.returncode == 0, errors
    assert f"3 rows of 1 day: {DAY} (3 rows)" in told
    assert f"landed in gs://{name}-shopstream/landing/events/" in told
    assert f"  make load DAY={DAY} ENV=small PROJECT={name}\n" in told
    assert errors.startswith("Not Google, but BIGQUERY_EMULATOR_HOST=")

    load = project.start("load", str(DAY))
    run_id = triggered("load_events_daily")
    assert run_id.startswith(f"manual__{DAY}__")
    assert project.shop.load(run_id=run_id).state == "success"
    told, errors = load.communicate(timeout=60)
    assert load.returncode == 0, errors
    assert f"{DAY} is loaded: 3 lines read, 3 accepted (0 of them double, 0 late), 0 rejected." in told
    assert "3 rows in Spanner, 3 in BigQuery." in told

    capsys.readouterr()
    for asked in (
        ["SELECT product_id FROM shop.events ORDER BY 1"],
        ["SELECT product_id FROM loaded_events ORDER BY 1", "--store", "spanner"],
    ):
        assert hand.main(["sql", *asked, *project.options]) == 0
        assert capsys.readouterr().out == "product_id\n1000\n1001\n1002\n"


# For the wait of the client of Airflow alone a second is three hours.
HOURS_A_SECOND = """
import sys, time, types
from local.stack import airflow_client
airflow_client.time = types.SimpleNamespace(sleep=time.sleep, monotonic=lambda: 3 * 3600 * time.monotonic())
from local.hand.__main__ import main
sys.exit(main())
"""


@pytest.mark.integration
def test_a_load_that_asks_says_what_and_where_and_is_followed_until_it_ends(project: Project) -> None:
    events = [line(event_time=f"{DAY} 08:00:0{n} UTC", product_id=str(1_000 + n)) for n in range(3)]
    project.shop.land([*(event.decode() for event in events), line(price="free").decode()])
    load = project.start("load", str(DAY), program=("-c", HOURS_A_SECOND))
    assert load.stdout
    told: list[str] = []

    def read_and_answer(run_id: str, task_id: str) -> None:
        for text in load.stdout or ():
            told.append(text.strip())
            if "Ctrl-C" in text:
                break
        ComposerClient(project.airflow_url).answer("load_events_daily", run_id, task_id, PUBLISH, "a trial")

    run_id = triggered("load_events_daily")
    assert project.shop.load(run_id=run_id, when_asked=read_and_answer).errors == {}
    asks = told.index("load_events_daily: gate asks you:")
    assert told[asks + 1].endswith("1 of 4 lines (25.00%) were rejected.")
    page = f"{project.airflow_url}/dags/load_events_daily/runs/{quote(run_id)}/tasks/gate/required_actions"
    assert told[asks + 2] == f"Answer at {page}"
    hours = f"{ANSWER_WITHIN / timedelta(hours=1):g}"
    assert told[asks + 3] == (
        f"It waits {hours} hours; no answer is the answer 'Refuse'. "
        "Ctrl-C ends this command, and not the run."
    )
    rest, errors = load.communicate(timeout=60)
    assert load.returncode == 0, errors
    assert f"{DAY} is loaded: 4 lines read, 3 accepted" in rest


@pytest.mark.integration
def test_a_load_that_nobody_follows_any_more_goes_on_and_its_page_is_told(project: Project) -> None:
    project.shop.land([line(event_time=f"{DAY} 08:00:00 UTC").decode()])
    load = project.start("load", str(DAY))
    run_id = triggered("load_events_daily")
    page = f"{project.airflow_url}/dags/load_events_daily/runs/{quote(run_id)}"
    assert load.stdout
    assert load.stderr
    assert load.stdout.readline() == f"  load_events_daily: {page}\n"
    load.send_signal(signal.SIGINT)
    told, errors = load.stdout.read(), load.stderr.read()
    assert (load.wait(60), errors.splitlines()[-1]) == (130, "Stopped.")
    assert told.splitlines()[-1] == f"  The run goes on: {page}"
    assert project.shop.load(run_id=run_id).state == "success"


@pytest.mark.integration
def test_what_bars_the_way_to_a_real_project_is_told_in_words(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def errors_of_a_load() -> str:
        assert hand.main(["load", str(DAY), *project.options]) == 1
        return capsys.readouterr().err

    with monkeypatch.context() as patch:
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        told = errors_of_a_load()
        assert "none.json was not found" in told
        assert told.endswith("Log in: gcloud auth application-default login\n")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert "gcloud is needed to find the project's Airflow; it is not on the PATH." in errors_of_a_load()

    project.token = "of nobody"
    told = errors_of_a_load()
    assert f"Airflow at {project.airflow_url} does not let this login in. Its account needs " in told

    gcloud, away = project.bin / "gcloud", f"http://{emulators.HOST}:{emulators.free_port()}"
    gcloud.write_text(f"#!/bin/sh\necho {away}\n")
    assert f"Airflow at {away} cannot be reached. See whether the environment runs" in errors_of_a_load()
    gcloud.write_text("#!/bin/sh\necho 'ERROR: there is no such environment' >&2; exit 1\n")
    assert errors_of_a_load().splitlines()[-1] == "ERROR: there is no such environment"


def test_a_value_is_printed_as_csv_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    hand._print_rows(list(FIELDS), iter([list(FIELDS.values())]), as_csv=True)
    assert capsys.readouterr().out == ",".join(FIELDS) + "\n" + ",".join(FIELDS.values()) + "\n"


def test_more_rows_than_a_person_reads_are_cut_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    hand._print_rows(["n"], iter([[n] for n in range(1001)]), as_csv=False)
    told = capsys.readouterr().out
    assert "999" in told
    assert "1000" not in told.replace("1,000", "")
    assert "These are the first 1,000 rows; as CSV all are printed." in told
