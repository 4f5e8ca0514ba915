"""How sure a ratio of two quantiles is, where times of one round resemble each other more than those of another.

Rounds are drawn anew with replacement, whole ones, since what disturbs a machine lasts longer than a token (the block
bootstrap; Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8). Both sides of a round were measured next
to each other and stay together, so what slows both of them down leaves the ratio alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 1000
SURE = 0.9
"""Of the intervals, how many should hold the ratio."""


class Ratio(NamedTuple):
    value: float
    low: float
    high: float


def ratio_of_quantiles(rounds: Sequence[tuple[ArrayLike, ArrayLike]], quantile: float, seed: int = 0) -> Ratio:
    """The quantile of all first times over that of all second times, with an interval; ``rounds``: both sides of each,
    at least two."""
    sides = [[np.asarray(side, np.float64) for side in taken] for taken in zip(*rounds, strict=True)]
    draw = np.random.default_rng(seed)
    ratios = [_ratio(sides, draw.integers(0, len(rounds), len(rounds)), quantile) for _ in range(DRAWS)]
    low, high = np.quantile(ratios, [(1 - SURE) / 2, (1 + SURE) / 2])
    return Ratio(_ratio(sides, np.arange(len(rounds)), quantile), float(low), float(high))


def _ratio(sides: list[list[NDArray[np.float64]]], chosen: NDArray[np.int64], quantile: float) -> float:
    first, second = (np.quantile(np.concatenate([side[i] for i in chosen]), quantile) for side in sides)
    return float(first / second)
