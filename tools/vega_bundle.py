"""Make plugins/shopstream/charts/vega.js, the chart library that each report carries inside it.

    python -m tools.vega_bundle

The library comes out of the pinned PyPI package vl-convert-python, so that it needs no network, is no
third-party code in this repository, and is of the versions with which `png` draws.
`make install` runs this; a deployment copies the file with the rest of plugins/.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert

from local.root import ROOT

LIBRARY = ROOT / "plugins" / "shopstream" / "charts" / "vega.js"
VEGA_LITE = "6.4"
GLOBALS = "window.vegaEmbed = vegaEmbed;"


def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that may stand inside an HTML script element.

    Raises:
        ValueError: the script holds a character that HTML would change, so that its hash would not fit.
    """
    notice = (
        f"/* Vega {vl_convert.get_vega_version()}, Vega-Lite {VEGA_LITE}, "
        f"Vega-Embed {vl_convert.get_vega_embed_version()} and what they import, from vl-convert-python "
        f"{version('vl-convert-python')}. Vega: copyright University of Washington Interactive Data Lab, "
        "BSD-3-Clause; D3: copyright Mike Bostock, ISC. */\n"
    )
    script = notice + vl_convert.javascript_bundle(snippet=GLOBALS, vl_version=VEGA_LITE)
    # Inside a string or a regular expression, where alone they can stand, these mean the same.
    script = script.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    for character in ("\r", "\0"):
        if character in script:
            raise ValueError(f"the bundle holds {character!r}, which HTML changes; strip it in {__file__}")
    return script


def png(spec: dict[str, Any]) -> bytes:
    """Draw a Vega-Lite specification that holds its data, at 2 pixels a point.

    Figures are rounded by Vega's own `format`, and not as charts/draw.js does.
    """
    return vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=2)


def write(path: Path = LIBRARY) -> None:
    """Write the script to `path`, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(javascript(), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    write()
    print(f"wrote {LIBRARY} ({LIBRARY.stat().st_size:,} bytes)")
