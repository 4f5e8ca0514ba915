"""Money on the wire and in settings: US dollars as decimal text, an integer of nano-dollars everywhere else.

A nano-dollar is a billionth of a dollar. The price of one token of the cheapest model there is has several hundred of
them, so sums are exact and nothing is a float.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Annotated

from msgspec import Meta

NANO = 1_000_000_000

Usd = Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$")]
"""Dollars as decimal text, such as "0.0125": up to a billion, with up to nine decimals."""


def nano_usd(dollars: Decimal | str) -> int:
    """Nano-dollars, rounded up."""
    return int((Decimal(dollars) * NANO).to_integral_value(ROUND_CEILING))


def usd_text(nano: int) -> str:
    """Dollars as decimal text, without trailing zeros; the inverse of `nano_usd`.

    >>> usd_text(12_500_000), usd_text(2_000_000_000)
    ('0.0125', '2')
    """
    whole, rest = divmod(nano, NANO)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")
