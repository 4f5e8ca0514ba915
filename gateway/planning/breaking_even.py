"""When a machine of one's own costs less than an API, for a load of a given shape.

A load is multiplied by k, its mix of tokens and its peak staying what they are. With A dollars an hour for the API, H
for a machine, and one machine enough up to k = c:

    api(k)  = k · A                     own(k) = ⌈k / c⌉ · H

Where own(k) first is no more than api(k): with n machines that is k = n · H / A, if n machines are what is needed
there, (n - 1) · c < n · H / A ≤ n · c. The right side is H ≤ c · A for every n: so it is n = 1 or never, and

    break-even = H / A,  if H ≤ c · A;  else never: a full machine costs more than the API does for what it serves.

Right after each further machine the API may be ahead again. Just above k = (n - 1) · c own is n · H, and api
(n - 1) · c · A: own is no more wherever n machines are needed, if n ≥ c · A / (c · A - H). With the least such n, N,
the last place where the API is ahead lies where N - 1 machines are needed, and ends at

    for good = (N - 1) · H / A,  never where H = c · A.

How many tokens a machine is planned for is its measured or stated tokens a second times a utilisation below 1, in the
busiest hour: a queue at full utilisation has no end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

HOURS_A_MONTH = 730
"""A year's 8,760 hours, by twelve."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Multiples of the load from which a machine of one's own costs no more: at first, and whatever the load. None:
    never."""

    at: Fraction | None
    for_good: Fraction | None


def machines(scale: Fraction, carries: Fraction) -> int:
    """How many serve ``scale`` times the load, if one serves ``carries`` times; one at least."""
    return max(1, math.ceil(scale / carries))


def crossing(api: Fraction, own: Fraction, carries: Fraction) -> Crossing:
    """``api``: dollars for the load; ``own``: for one machine in the same time; ``carries``: c."""
    if api <= 0 or own > carries * api:
        return Crossing(None, None)
    at = own / api
    margin = carries * api - own
    if not margin:
        return Crossing(at, None)
    least = math.ceil(carries * api / margin)
    return Crossing(at, max(1, least - 1) * at)
