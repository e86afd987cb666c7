"""The chart library, made once for all tests that draw or write a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shopstream.report import page
from tests.plugins.dashboard.browser import browser as browser
from tools import vega_bundle


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The library made anew, so that no older one is tested, and found by pages in its place."""
    path = tmp_path_factory.mktemp("library") / "vega.js"
    vega_bundle.write(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "LIBRARY", path)
        yield path
