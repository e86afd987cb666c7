"""A stream whose steps are not told as they should be: its last argument says what happens instead."""

from __future__ import annotations

import sys
import threading
import time


def steps(argv: list[str]) -> list[str]:
    if argv[-1] == "--exit=silently":
        sys.exit(3)
    if argv[-1] == "--hang=before":
        time.sleep(600)
    threading.Thread(target=time.sleep, args=(600,)).start()
    return ["Read"]
