"""How figures are rounded wherever people read them: half up, as written on paper.

Python's own forms round halves to even, and judge a float by its binary digits: 772.5 would be 772 and 773.5
be 774. Pages round by `written` in dashboard/static/format.js, charts by the format in charts/draw.js: alike.
Alone the demo's PNGs, for which no function can be given, round as Vega does.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

_ENOUGH = Context(prec=60)
"""BigQuery's NUMERIC has 38 digits."""


def rounded(value: Decimal | float, digits: int = 0) -> Decimal:
    """Return the value with so many decimals, by its own digits: of a float those that it is written with."""
    return Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP, _ENOUGH)


def percent(share: Decimal | float, digits: int = 1) -> str:
    """Write a share of 1 in percent."""
    return f"{rounded(100 * Decimal(str(share)), digits):,}%"
