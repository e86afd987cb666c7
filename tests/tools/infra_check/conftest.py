"""The check as it is run by hand."""

from __future__ import annotations

from tests.infra.terraform import check  # noqa: F401
