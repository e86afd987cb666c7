"""Look at each page of the dashboard in a real browser, beside the running stack, and keep the pictures.

    python -m tools.screenshots --out DIR [--user ID]

Fails if a page reports an error, a card failed, or a chart was not drawn. Chromium (Debian: chromium) is
found on PATH or named by SHOPSTREAM_CHROMIUM.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from local.stack.emulators import NotReady
from shopstream.charts import chart_names

PATIENCE_MS = 30_000
"""Of the page's own clock, which stands still while it waits for an answer."""
TIMEOUT_SECONDS = 180


class Shot(NamedTuple):
    """One picture: its file, the page's address, what must be in the page how often, and the window."""

    name: str
    path: str
    sign: str
    least: int
    width: int
    height: int
    dark: bool = False


def shots(user_id: str) -> list[Shot]:
    """The pictures of all pages, wide and narrow, light and dark."""
    charts = len(chart_names())
    return [
        Shot("purchasing", "/?range=all", 'class="marks"', charts - 1, 1400, 1400),
        Shot("purchasing-dark", "/?range=all", 'class="marks"', charts - 1, 1400, 1400, dark=True),
        Shot("purchasing-phone", "/?range=all", 'class="marks"', charts - 1, 500, 1800),
        Shot("pipelines", "/pipelines", 'class="verdict', 1, 1300, 1400),
        Shot("customer", f"/customer?user_id={user_id}", "<details", 1 if user_id else 0, 1200, 800),
        Shot("live", "/live", "The last 60 minutes", 1, 1300, 700),
    ]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pictures into")
    parser.add_argument("--user", default="", help="a customer whose journey is shown")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen([sys.executable, "-m", "tools.dashboard"], stdout=subprocess.PIPE, text=True)
    try:
        told = server.stdout.readline() if server.stdout else ""
        found = re.search(r"(http://\S+)/\?token=(\S+)", told)
        if not found:
            raise NotReady("The dashboard did not start.")
        faults = []
        for shot in shots(options.user):
            faults += look(shot, found[1], found[2], options.out)
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        server.terminate()
        server.wait()
    print("\n".join(faults) or f"The pictures are in {options.out}; no page reported an error.")
    return 1 if faults else 0


def look(shot: Shot, url: str, token: str, out: Path) -> list[str]:
    """Make one picture; return what is wrong with the page."""
    address = f"{url}{shot.path}{'&' if '?' in shot.path else '?'}token={token}"
    picture = f"--screenshot={out / f'dashboard-{shot.name}.png'}"
    size = f"--window-size={shot.width},{shot.height}"
    shown = chromium(address, picture, size, *(["--force-dark-mode"] if shot.dark else []))
    page = chromium(address, "--dump-dom", size)
    with Image.open(out / f"dashboard-{shot.name}.png") as drawn:
        few = drawn.convert("RGB").quantize(256)  # a third of the bytes, and all colours stay what they are
    few.save(out / f"dashboard-{shot.name}.png", optimize=True)
    faults = re.findall(r"CONSOLE.*?(Uncaught.*|Refused to.*|Failed to load.*)", shown.stderr + page.stderr)
    faults += re.findall(r'role="alert">(.*?)</', page.stdout)
    if page.stdout.count(shot.sign) < shot.least:
        faults.append(f"{shot.sign!r} is there {page.stdout.count(shot.sign)} times, not {shot.least}")
    return [f"{shot.name}: {fault}" for fault in faults]


def chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the browser once, with a profile of its own.

    Raises:
        NotReady: it is not installed.
    """
    program = os.environ.get("SHOPSTREAM_CHROMIUM") or shutil.which("chromium")
    if program is None:
        raise NotReady(
            "Chromium is missing: install it (Debian: chromium) or name it in SHOPSTREAM_CHROMIUM."
        )
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [
                *(program, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--enable-logging=stderr"),
                *(f"--user-data-dir={profile}", f"--virtual-time-budget={PATIENCE_MS}", *arguments),
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )


if __name__ == "__main__":
    sys.exit(main())
