"""python -m shopstream.dashboard: it serves this machine alone, and tells where and by which token."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

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
