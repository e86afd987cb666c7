"""python -m shopstream.dashboard: it serves this machine alone, tells where, and needs little."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from importlib import metadata

import psutil
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local.root import ROOT
from local.stack import emulators

pytestmark = pytest.mark.integration


def test_the_printed_address_logs_in_and_without_it_nobody_is() -> None:
    port = emulators.free_port()
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
        "SHOPSTREAM_DASHBOARD_PORT": str(port),
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "shopstream.dashboard"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        told = server.stdout.readline()
        [address] = re.findall(rf"http://127\.0\.0\.1:{port}/\?token=\S{{32}}", told)
        while not emulators.accepts(port):
            assert server.poll() is None
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/")
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"static/main.js" in opener.open(address).read()
        listening = psutil.Process(server.pid).net_connections()
        assert {there.laddr.ip for there in listening if there.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    finally:
        server.terminate()
        server.wait()


def test_a_port_that_is_taken_is_told_with_the_variable_that_names_another() -> None:
    with socket.create_server((emulators.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [sys.executable, "-m", "tools.dashboard", "--project", "shopstream-nowhere"],
            env=os.environ | {"SHOPSTREAM_DASHBOARD_PORT": str(port)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"Port {port} is not to be had (Address already in use): stop what listens there, or set "
        "SHOPSTREAM_DASHBOARD_PORT to a free port.\n"
    )


# Imports are refused of all that the image would not hold; then the stores are asked, and fail as stores.
ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {absent!r}:
            raise ModuleNotFoundError(name + " is not in the image", name=name)
sys.meta_path.insert(0, Refuse())
from datetime import date
from google.auth import crypt
assert crypt.EsVerifier
from shopstream.dashboard import stores
from shopstream.dashboard.__main__ import _bigquery_client, _spanner_database
from shopstream.dashboard.app import create_app
stores.QUERY_SECONDS = stores.JOURNEY_SECONDS = 0.3
bigquery, spanner = stores.BigQueryStore(_bigquery_client), stores.SpannerStore(_spanner_database)
create_app(lambda: "reader", bigquery, spanner)
for ask in (lambda: bigquery.ask("a", "SELECT 1", {{}}), lambda: spanner.journey(7, date(2019, 11, 1))):
    try:
        ask()
    except stores.StoreFailed as error:
        print(type(error.__cause__).__name__, error.__cause__)
"""


def test_the_image_of_the_dashboard_holds_all_that_it_imports() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    [installed] = re.findall(r"--constraints requirements\.txt \\\n +(.+fastapi.+)$", dockerfile, re.M)
    held = _with_what_they_need(installed.split())
    absent = sorted(
        module
        for module, packages in metadata.packages_distributions().items()
        if held.isdisjoint(map(canonicalize_name, packages)) and not module.startswith("_")
    )
    assert {"airflow", "apache_beam", "pandas"} <= set(absent)
    nowhere = f"127.0.0.1:{emulators.free_port()}"
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(absent=absent)],
        env=os.environ
        | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
            "BIGQUERY_EMULATOR_HOST": f"http://{nowhere}",
            "SPANNER_EMULATOR_HOST": nowhere,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2, done.stdout + done.stderr
    assert "ModuleNotFoundError" not in done.stdout + done.stderr


def _with_what_they_need(names: list[str]) -> set[str]:
    """The normal names of these packages and of all that they require here, without extras."""
    held: set[str] = set()
    waiting = [(name, "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (canonical := canonicalize_name(name)) not in held or extra:
            held.add(canonical)
            for text in metadata.requires(name) or ():
                need = Requirement(text)
                if need.marker is None or need.marker.evaluate({"extra": extra}):
                    waiting += [(need.name, one) for one in ("", *need.extras)]
    return held
