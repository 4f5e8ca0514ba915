"""Rotary positions (Su et al., arXiv:2104.09864): how fast every pair of a head turns, and how a long context slows it.

    Linear    every frequency divided by one factor                       kaiokendev's position interpolation
    Llama3    low frequencies divided, a bend in between                  arXiv:2407.21783
    Yarn      low frequencies divided, a ramp between two pairs           arXiv:2309.00071
    Divided   a divisor a pair, as LongRoPE found them by search          arXiv:2402.13753; also GGUF's `rope_freqs`

A head may turn in part (its first ``dim`` numbers) or not at all (``dim`` 0). The decoder always turns pairs
(i, i + half a head): `engine.model.layout` moves what does not turn to the ends of the two halves, where the frequency
is 0. So every kernel knows one kind of rotation.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray


class Linear(msgspec.Struct, frozen=True):
    factor: float


class Llama3(msgspec.Struct, frozen=True):
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


class Yarn(msgspec.Struct, frozen=True, kw_only=True):
    factor: float
    original_max_position_embeddings: int
    attention_factor: float | None = None
    """What cosines and sines are multiplied by; None for 0.1 ln(factor) + 1."""
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    """Whether the ramp begins and ends at whole pairs."""


class Divided(msgspec.Struct, frozen=True):
    divisors: tuple[float, ...]
    """[dim / 2]"""
    magnitude: float = 1.0
    """What cosines and sines are multiplied by."""


class Rotary(msgspec.Struct, frozen=True):
    """One rotation of a model. ``dim``: numbers of a head that turn."""

    theta: float
    dim: int
    scaling: Linear | Llama3 | Yarn | Divided | None = None

    def frequencies(self, head_dim: int) -> NDArray[np.float32]:
        """[head_dim / 2] radians a position, zeros after the first dim / 2.

        Rounded to float32 at each step, as transformers does, since a model was trained with those angles.
        """
        frequencies = np.zeros(head_dim // 2, np.float32)
        if self.dim:
            frequencies[: self.dim // 2] = self._scaled(self._plain())
        return frequencies

    def tables(self, positions: int, head_dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines, [positions, head_dim / 2] each."""
        angles = np.arange(positions, dtype=np.float32)[:, None] * self.frequencies(head_dim)
        cosines, sines = np.cos(angles), np.sin(angles)
        if self.magnitude != 1:
            cosines[:, : self.dim // 2] *= np.float32(self.magnitude)
            sines[:, : self.dim // 2] *= np.float32(self.magnitude)
        return cosines, sines

    @property
    def magnitude(self) -> float:
        """What the turned part of queries and of keys grows by."""
        match self.scaling:
            case Divided(magnitude=magnitude):
                return magnitude
            case Yarn(attention_factor=float(factor)):
                return factor
            case Yarn(factor=factor) if factor > 1:
                return 0.1 * math.log(factor) + 1
            case _:
                return 1.0

    def _plain(self) -> NDArray[np.float32]:
        exponents = np.arange(0, self.dim, 2, dtype=np.float32) / np.float32(self.dim)
        return (np.float32(1) / np.float32(self.theta) ** exponents).astype(np.float32)

    def _scaled(self, frequencies: NDArray[np.float32]) -> NDArray[np.float32]:
        match self.scaling:
            case None:
                return frequencies
            case Linear(factor=factor):
                return frequencies / np.float32(factor)
            case Divided(divisors=divisors):
                return frequencies / np.array(divisors, np.float32)
            case Llama3() as bend:
                # A wave shorter than the first bound is kept, one longer than the second is stretched by the whole
                # factor; the bend in between is linear in waves per original context.
                waves = np.float32(bend.original_max_position_embeddings) * frequencies / np.float32(2 * math.pi)
                kept = (waves - bend.low_freq_factor) / (bend.high_freq_factor - bend.low_freq_factor)
                return _mixed(frequencies, kept, bend.factor)
            case Yarn() as ramp:
                low, high = (self._pair_turning(turns, ramp) for turns in (ramp.beta_fast, ramp.beta_slow))
                if ramp.truncate:
                    low, high = math.floor(low), math.ceil(high)
                low, high = max(low, 0), min(high, self.dim - 1)
                pairs = np.arange(self.dim // 2, dtype=np.float32)
                return _mixed(frequencies, 1 - (pairs - low) / max(high - low, 0.001), ramp.factor)

    def _pair_turning(self, turns: float, ramp: Yarn) -> float:
        """The (fractional) pair that makes ``turns`` turns within the original context."""
        waves = math.log(ramp.original_max_position_embeddings / (turns * 2 * math.pi))
        return self.dim * waves / (2 * math.log(self.theta))


def _mixed(frequencies: NDArray[np.float32], kept: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Frequencies, of each the share ``kept`` (cut to 0..1) as it is and the rest divided by ``factor``."""
    kept = np.clip(kept, 0, 1).astype(np.float32)
    return (frequencies * (kept + (1 - kept) / np.float32(factor))).astype(np.float32)
