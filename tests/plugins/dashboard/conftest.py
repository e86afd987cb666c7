"""The browser, for all tests of this room."""

from __future__ import annotations

from tests.plugins.dashboard.browser import browser as browser
