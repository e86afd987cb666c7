"""Look at each page of the dashboard in a real browser, beside the running stack, and keep the pictures.

    python -m tools.screenshots --out DIR [--user ID] [--only PAGE]

Fails if a page reports an error, a card failed, or a chart was not drawn. Chromium (Debian: chromium) is
found on PATH or named by SHOPSTREAM_CHROMIUM.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from local.stack.emulators import NotReady
from shopstream.charts import chart_names
from shopstream.dashboard.guards import COOKIE

PATIENCE_MS = 60_000


class Shot(NamedTuple):
    """One picture: its file, the page's address, what must be in the page how often, and the window.

    With a height the picture is of what a window shows, without one of the whole page.
    """

    name: str
    path: str
    sign: str
    least: int
    width: int
    height: int = 0
    dark: bool = False


def shots(user_id: str, days: str) -> list[Shot]:
    """The pictures of all pages, wide and narrow, light and dark; `days` are parameters of the first page."""
    # Who comes back is told from the second week on.
    charts = len(chart_names()) - 1
    return [
        Shot("purchasing", f"/?{days}", ".chart svg", charts, 1400, 1400),
        Shot("purchasing-dark", f"/?{days}", ".chart svg", charts, 1400, 1400, dark=True),
        Shot("purchasing-phone", f"/?{days}", ".chart svg", charts, 390, 1700),
        Shot("pipelines", "/pipelines", ".verdict", 1, 1300, 1400),
        Shot("customer", f"/customer?user_id={user_id}", "details", 1 if user_id else 0, 1200, 800),
        Shot("live", "/live", "h1", 1, 1300, 1200),
    ]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pictures into")
    parser.add_argument("--user", default="", help="a customer whose journey is shown")
    parser.add_argument("--only", default="", help="the pictures whose names begin so, as live does")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    faults = []
    try:
        with served() as (url, token), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_program(), args=["--no-sandbox"])
            for shot in shots(options.user, published_days(url, token)):
                if shot.name.startswith(options.only):
                    faults += look(browser, shot, url, token, options.out)
            browser.close()
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(faults) or f"The pictures are in {options.out}; no page reported an error.")
    return 1 if faults else 0


def published_days(url: str, token: str) -> str:
    """Return the days that loads have published, as parameters of a page: the stream's may be years later."""
    rows = asked(f"{url}/api/days", token)["rows"]
    days = [row["event_date"] for row in rows if not row["is_provisional"]]
    return f"first_day={days[-1]}&last_day={days[0]}" if days else "range=all"


def look(browser: Browser, shot: Shot, url: str, token: str, out: Path) -> list[str]:
    """Make one picture; return what is wrong with the page."""
    picture = out / f"dashboard-{shot.name}.png"
    faults: list[str] = []
    with browser.new_context(
        viewport={"width": shot.width, "height": shot.height or 1000},
        color_scheme="dark" if shot.dark else "light",
    ) as context:
        context.add_cookies([{"name": COOKIE, "value": token, "url": url}])
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{url}{shot.path}")
        page.wait_for_load_state("networkidle")
        expect(page.locator(".waiting")).to_have_count(0, timeout=PATIENCE_MS)
        page.screenshot(path=picture, full_page=not shot.height)
        faults += page.get_by_role("alert").all_text_contents()
        if (there := page.locator(shot.sign).count()) < shot.least:
            faults.append(f"{shot.sign!r} is there {there} times, not {shot.least}")
    with Image.open(picture) as drawn:
        # A third of the bytes; by coverage, since others would mix the thin lines' colours.
        few = drawn.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    few.save(picture, optimize=True)
    return [f"{shot.name}: {fault}" for fault in faults]


@contextmanager
def served() -> Iterator[tuple[str, str]]:
    """Serve the dashboard beside the running stack, in a process of its own; its URL and token.

    Raises:
        NotReady: the stack is down.
    """
    server = subprocess.Popen([sys.executable, "-m", "tools.dashboard"], stdout=subprocess.PIPE, text=True)
    try:
        told = server.stdout.readline() if server.stdout else ""
        found = re.search(r"(http://\S+)/\?token=(\S+)", told)
        if not found:
            raise NotReady("The dashboard did not start.")
        yield found[1], found[2]
    finally:
        server.terminate()
        server.wait()


def asked(url: str, token: str) -> Any:
    """Ask the server of `served`, which may not listen yet."""
    question = urllib.request.Request(  # noqa: S310 (our own server)
        url, headers={"Authorization": f"Bearer {token}"}
    )
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while True:
        try:
            with urllib.request.urlopen(question) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def chromium_program() -> str:
    """Where the browser is.

    Raises:
        NotReady: it is not installed.
    """
    found = (shutil.which(name) for name in ("chromium", "google-chrome"))
    program = os.environ.get("SHOPSTREAM_CHROMIUM") or next(filter(None, found), None)
    if program is None:
        raise NotReady(
            "Chromium is missing: install it (Debian: chromium) or name it in SHOPSTREAM_CHROMIUM."
        )
    return program


if __name__ == "__main__":
    sys.exit(main())
