"""rounding: halves go up, by the digits that people see."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from local.root import ROOT
from shopstream.rounding import percent, rounded


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (Decimal("772.50"), 0, "773"),
        (772.5, 0, "773"),
        (773.5, 0, "774"),
        (-0.5, 0, "-1"),
        (1.005, 2, "1.01"),
        (1234.4999, 0, "1,234"),
        (0, 2, "0.00"),
        (Decimal("99999999999999999999999999999.999999999"), 2, "100,000,000,000,000,000,000,000,000,000.00"),
    ],
)
def test_a_half_is_rounded_up(value: Decimal | float, digits: int, text: str) -> None:
    assert f"{rounded(value, digits):,}" == text


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [(1 / 8, 0, "13%"), (57 / 200, 0, "29%"), (0.0125, 1, "1.3%"), (12, 2, "1,200.00%")],
)
def test_a_share_is_rounded_as_it_is_written_in_percent(share: float, digits: int, text: str) -> None:
    assert percent(share, digits) == text


OWN_PERCENT = re.compile(r":[^{}\"]*\.\d%")


def test_no_program_writes_a_share_by_pythons_own_form() -> None:
    assert OWN_PERCENT.search("{share:7.2%}")
    assert OWN_PERCENT.search("{:+,.1%}")
    files = [path for room in ("dags", "plugins", "local", "tools") for path in (ROOT / room).rglob("*.py")]
    assert len(files) > 100
    own = [str(path.relative_to(ROOT)) for path in files if OWN_PERCENT.search(path.read_text("utf-8"))]
    assert own == []
