"""How well a model predicts a text, and how fast it writes: the two numbers a quantization is judged by."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence

import numpy as np

from engine.base import Runner
from engine.quantization.calibration import window_batch

CHUNK = 128
"""Tokens a forward pass: bounds the memory that logits take."""


def perplexity(runner: Runner, windows: Sequence[Sequence[int]]) -> float:
    """e to the mean negative log-likelihood of every token but the first of each window, given those before it."""
    total, count = 0.0, 0
    for window in windows:
        targets = np.array(window[1:], np.int64)
        for start in range(0, len(targets), CHUNK):
            wanted = targets[start : start + CHUNK]
            logits = runner.forward(window_batch(window[start : start + len(wanted)], start)).astype(np.float64)
            logits -= logits.max(1, keepdims=True)
            likelihood = logits[np.arange(len(wanted)), wanted] - np.log(np.exp(logits).sum(1))
            total -= float(likelihood.sum())
            count += len(wanted)
    return math.exp(total / count)


def decode_rate(runner: Runner, window: Sequence[int], steps: int = 32) -> float:
    """Tokens a second of one sequence: the median of ``steps`` single tokens after the rest of ``window``."""
    start = len(window) - steps
    runner.forward(window_batch(window[:start]))
    times: list[float] = []
    for position in range(start, len(window)):
        began = time.perf_counter()
        runner.forward(window_batch(window[position : position + 1], position))
        times.append(time.perf_counter() - began)
    return 1 / statistics.median(times)
