"""How soon the dashboard shows something, in headless Chromium beside the running stack.

Each first look is of a browser without cache at a server that has been asked nothing of what the page shows,
and whose client of BigQuery is made; each second look is the same browser's, right after. The clock is the
page's own, which begins with the navigation, and ends with the frame that shows the first chart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from shopstream.dashboard.guards import COOKIE
from tools.screenshots import asked, chromium_program, served

LOOKS = 5
PATIENCE_MS = 60_000
ADDRESS = "/?range=all"
A_DAY_WITHOUT_EVENTS = "first_day=1970-01-01&last_day=1970-01-01"
WATCH = """
new MutationObserver((_, watch) => {
  if (!document.querySelector(".chart svg")) return;
  watch.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.firstChartMs = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""
STEPS = {
    "page": "() => performance.getEntriesByType('navigation')[0].responseEnd",
    "library": "() => performance.getEntriesByName(new URL('static/vega.js', location).href)[0].responseEnd",
    "days": "() => performance.getEntriesByName(new URL('api/days', location).href)[0].responseEnd",
    "answer": "() => performance.getEntriesByType('resource').find("
    "(one) => /api\\/charts\\/./.test(one.name)).responseEnd",
    "drawn": "() => window.firstChartMs",
}
"""When each was there, in the page's milliseconds."""


def measure() -> dict[str, float]:
    """Print and return the median of LOOKS first and second looks, the best, and the bytes of a first one.

    Raises:
        NotReady: the stack or Chromium is missing.
    """
    first: list[dict[str, float]] = []
    second: list[dict[str, float]] = []
    sent: list[float] = []
    with _chromium() as browser:
        for _ in range(LOOKS):
            with _server() as (url, token), browser.new_context() as context:
                context.set_default_timeout(PATIENCE_MS)
                context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
                context.add_init_script(WATCH)
                page = context.new_page()
                counted = _counting(page)
                first.append(_look(page, url))
                page.wait_for_load_state("networkidle")
                sent.append(sum(counted))
                files = _bytes_of_files(page)
                second.append(_look(page, url))
    for name, looks in (("first", first), ("second", second)):
        for look in looks:
            steps = ", ".join(f"{step} {look[step]:,.0f}" for step in STEPS)
            print(f"  {name} look, ms: {steps}; load {look['load']:.1f}")
    return {
        "page_first_look_ms": median(look["drawn"] for look in first),
        "page_first_look_best_ms": min(look["drawn"] for look in first),
        "page_second_look_ms": median(look["drawn"] for look in second),
        "page_sent_kb": median(sent) / 1e3,
        "page_files_kb": files / 1e3,
    }


def _look(page: Page, url: str) -> dict[str, float]:
    page.goto(f"{url}{ADDRESS}")
    page.wait_for_selector(".chart svg")
    while page.evaluate("() => window.firstChartMs") is None:
        time.sleep(0.01)
    return {step: page.evaluate(told) for step, told in STEPS.items()} | {"load": os.getloadavg()[0]}


def _counting(page: Page) -> list[float]:
    """Return a list that gets the bytes of each answer as they come over the wire."""
    sizes: list[float] = []
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
    return sizes


def _bytes_of_files(page: Page) -> float:
    """Return the bytes of the page's files when they are unpacked."""
    decoded: list[Any] = page.evaluate(
        "() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".filter((one) => !one.name.includes('/api/')).map((one) => one.decodedBodySize)"
    )
    return float(sum(decoded))


@contextmanager
def _chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_program(), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def _server() -> Iterator[tuple[str, str]]:
    """A server of its own beside the running stack, which has asked BigQuery something else before."""
    with served() as (url, token):
        asked(f"{url}/api/choices?{A_DAY_WITHOUT_EVENTS}", token)
        yield url, token
