"""Figures of a step loop for /metrics and /ready: counters since the start, observations since the last report."""

from __future__ import annotations

from collections import Counter, deque

from schemas.engine import Report

KEPT_OBSERVATIONS = 10_000
"""Of each kind, the latest ones are kept; nobody may ask for a long time."""


class Figures:
    """Counters: ``prompt_tokens`` admitted, ``cached_tokens`` of them found in the prefix cache, ``restored_tokens`` of
    those in the host's memory, ``generated_tokens`` drawn, ``forced_tokens`` appended without, ``mask_misses``,
    ``preemptions``, ``displaced`` (preempted or paused for somebody who waited), ``host_stored_blocks`` and
    ``host_loaded_blocks`` (copied out to the host's memory, and back), choices by how they ended
    (``finished_stop``, ``finished_length``, ``finished_cancelled``), ``scored_prompts``, and requests ``failed``.
    Observations, in seconds: ``queue_time`` (submitted → admitted) and ``ttft`` (submitted → first token) of a request,
    ``time_per_output_token`` (mean after the first) of a choice.
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter(
            dict.fromkeys(
                (
                    "prompt_tokens",
                    "cached_tokens",
                    "restored_tokens",
                    "generated_tokens",
                    "forced_tokens",
                    "mask_misses",
                    "preemptions",
                    "finished_stop",
                    "finished_length",
                    "finished_cancelled",
                    "scored_prompts",
                    "failed",
                ),
                0,
            )
        )
        self.observations: dict[str, deque[float]] = {
            name: deque(maxlen=KEPT_OBSERVATIONS) for name in ("queue_time", "ttft", "time_per_output_token")
        }

    def observe(self, name: str, seconds: float) -> None:
        self.observations[name].append(seconds)

    def report(self, id: str, gauges: dict[str, float]) -> Report:
        """The figures with ``gauges`` beside them; observations are handed over and forgotten."""
        observations = {name: list(values) for name, values in self.observations.items()}
        for values in self.observations.values():
            values.clear()
        return Report(id, gauges, {name: float(count) for name, count in self.counters.items()}, observations)
