"""The dashboard's pages in headless Chromium: served as on their own, with a valve before BigQuery."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from local.root import ROOT
from local.stack import emulators
from shopstream.dashboard.guards import COOKIE
from tools.screenshots import chromium_program

TOKEN = "of-tests-only-0123456789"
AXE = ROOT / "tools" / "googlesql" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a module: while Playwright runs, nothing else may run an event loop."""
    try:
        program = chromium_program()
    except emulators.NotReady as error:
        pytest.skip(str(error))
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve the application in this process, on a free port; its URL."""
    port = emulators.free_port()
    config = uvicorn.Config(app, host=emulators.HOST, port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://{emulators.HOST}:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Reader:
    """Somebody with the token at a browser; what the browser's console says is kept in `console`."""

    def __init__(self, browser: Browser, url: str, theme: str = "light", width: int = 1400) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": 1000},
            color_scheme="dark" if theme == "dark" else "light",
            accept_downloads=True,
        )
        self.context.add_cookies([{"name": COOKIE, "value": TOKEN, "url": url}])
        self.context.set_default_timeout(PATIENCE_MS)
        self.console: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.console.append(str(error)))

    def _note(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.console.append(said.text)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def open(self, path: str) -> Page:
        """Open a page and wait until every card has its answer."""
        self.page.goto(f"{self.url}{path}")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until nothing is waited for."""
        self.page.wait_for_load_state("networkidle")
        # A busy browser may be idle on the network before it has run a line of the page.
        expect(self.page.locator("main h1")).to_be_visible(timeout=PATIENCE_MS)
        # Not by wait_for_function, whose looks the page's Content-Security-Policy refuses as eval.
        expect(self.page.locator(".waiting")).to_have_count(0)

    def end_login(self) -> None:
        """What the server sees of a reader whose login has ended."""
        self.context.clear_cookies()

    def broken_rules(self) -> list[str]:
        """What axe-core finds wrong with the page, each with the element's beginning."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate(
            "async () => (await axe.run(document, {resultTypes: ['violations']})).violations.flatMap("
            "({id, nodes}) => nodes.map((node) => id + ': ' + node.html.slice(0, 200) + ' '"
            " + node.any.map((one) => one.message).join('; ')))"
        )
        return list(found)


def colours_on_paper(page: Page) -> set[str]:
    """The colours, as #rrggbb, with which the page is printed, backgrounds too."""
    pdf = page.pdf(print_background=True)
    drawn = [
        zlib.decompress(stream)
        for stream in re.findall(rb"/Filter /FlateDecode.*?stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    ]
    found = re.findall(rb"(?<=\s)([\d.]+) ([\d.]+) ([\d.]+) (?:rg|RG)\b", b"\n".join(drawn))
    return {"#" + "".join(f"{round(255 * float(part)):02x}" for part in parts) for parts in found}


@dataclass
class Valve:
    """What happens to the requests of some queries, by their names: `refuse`, `slow` or `down`."""

    url: str = ""
    how: dict[str, str] = field(default_factory=dict)
    seconds: float = 8.0

    def of(self, text: str) -> str:
        """What happens to a request with this text in its path or body."""
        return next((how for name, how in self.how.items() if f"dashboard-{name}" in text), "")


@contextmanager
def valve_before(bigquery_url: str) -> Iterator[Valve]:
    """Pass requests on to BigQuery, but for those that the valve holds."""
    valve = Valve()

    class Between(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            how = valve.of(f"{self.path} {body.decode(errors='replace')}")
            if how == "slow":
                time.sleep(valve.seconds)
            if how == "down":
                self.close_connection = True
                return
            if how == "refuse":
                self._answer(403, b'{"error": {"code": 403, "message": "secret-project"}}')
                return
            headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
            request = urllib.request.Request(
                f"{bigquery_url}{self.path}", body or None, headers, method=self.command
            )
            try:
                with urllib.request.urlopen(request) as answer:
                    self._answer(answer.status, answer.read())
            except urllib.error.HTTPError as error:
                self._answer(error.code, error.read())

        def _answer(self, status: int, content: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # whoever asked has given up

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((emulators.HOST, 0), Between)
    server.daemon_threads = True
    valve.url = f"http://{emulators.HOST}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield valve
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
