"""The intervals of benchmarks: they answer what is slower, not which round was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.intervals import ratio_of_quantiles

times = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=8)


@settings(max_examples=6, deadline=None)
@given(st.lists(times, min_size=2, max_size=5), st.floats(0.2, 5.0), st.sampled_from([0.5, 0.99]))
def test_a_side_that_is_slower_throughout_is_slower_for_certain(
    rounds: list[list[float]], factor: float, quantile: float
) -> None:
    found = ratio_of_quantiles([(factor * np.array(alone), alone) for alone in rounds], quantile)
    assert found == pytest.approx((factor, factor, factor))


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(times, times), min_size=2, max_size=5))
def test_sides_change_places(rounds: list[tuple[list[float], list[float]]]) -> None:
    there, back = ratio_of_quantiles(rounds, 0.5), ratio_of_quantiles([(b, a) for a, b in rounds], 0.5)
    assert there.value == pytest.approx(1 / back.value)
    assert there.low <= there.high


def test_noise_alone_leaves_one_inside() -> None:
    """Rounds that differ by up to a half, sides that do not: of 10 such benchmarks nearly all must say so."""
    held = 0
    for seed in range(10):
        draw = np.random.default_rng(seed)
        slow = draw.uniform(1, 1.5, 12)
        rounds = [(s * draw.exponential(size=150), s * draw.exponential(size=150)) for s in slow]
        found = ratio_of_quantiles(rounds, 0.9)
        held += found.low <= 1 <= found.high
        assert found.high - found.low < 0.5
    assert held >= 7
