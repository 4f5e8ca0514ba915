"""Constrained likelihood: how likely a model is to write each of some texts, if it must write one of them.

The texts form a trie of tokens, and only where it branches does the model choose:

    "bill" ─┬─ "ing" ─── end        P(billing) = P(bill) · P(ing)
            └─ end                  P(bill)    = P(bill) · P(end)
    "other" ─── end                 P(other)   = P(other)

At each node the children's probabilities are made to add up to 1. These are the probabilities with which a constrained
answer comes out at temperature 1. A node costs one score: the prompt and the path to it, of which the prefix cache has
all but the last tokens once the root is known.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from schemas.engine import Scored

END = -1
"""The end of a text, where tokens are ids."""

T = TypeVar("T")
Text = tuple[int, ...]
Ask = Callable[[str, list[int], list[int]], Awaitable[Scored]]
"""(id, prompt, candidates) → their log-probabilities"""


async def weigh(
    ask: Ask, prompts: Sequence[list[int]], options: Sequence[Sequence[Text]], eos_ids: Sequence[int]
) -> tuple[tuple[tuple[float, ...], ...], int]:
    """For each prompt the probabilities of its options; and the tokens of the first one that were in the prefix cache.
    The first prompt is computed before the others, so that they find what they share with it."""
    first, cached = await _distribution(ask, "0", prompts[0], options[0], eos_ids)
    rest = [
        _distribution(ask, str(i), prompt, texts, eos_ids)
        for i, (prompt, texts) in enumerate(zip(prompts[1:], options[1:], strict=True), 1)
    ]
    others = await _all(rest)
    return (first, *(distribution for distribution, _ in others)), cached


@dataclass(frozen=True, slots=True)
class Branch:
    """A place where options differ: after ``path`` they go on with the tokens of ``ways``, each with the numbers of the
    options that do."""

    path: Text
    ways: dict[int, list[int]]


def branches(options: Sequence[Text]) -> list[Branch]:
    """Where ``options``, which are different, part from each other; the shortest path first. There are fewer of them
    than options, and finding them takes time in proportion to the options' tokens."""
    found: list[Branch] = []
    together = [(list(range(len(options))), 0)]
    while together:
        numbers, depth = together.pop()
        ways: dict[int, list[int]] = {}
        for number in numbers:
            option = options[number]
            ways.setdefault(option[depth] if depth < len(option) else END, []).append(number)
        if len(ways) > 1:
            found.append(Branch(options[numbers[0]][:depth], ways))
        together += [(same, depth + 1) for same in ways.values() if len(same) > 1]
    return sorted(found, key=lambda branch: len(branch.path))


async def _distribution(
    ask: Ask, id: str, prompt: list[int], options: Sequence[Text], eos_ids: Sequence[int]
) -> tuple[tuple[float, ...], int]:
    places = branches(options)

    async def choose(number: int) -> tuple[dict[int, float], int]:
        place = places[number]
        candidates = [token for token in place.ways if token != END]
        ends = list(eos_ids) if END in place.ways else []
        scored = await ask(f"{id}-{number}", [*prompt, *place.path], candidates + ends)
        weights = dict(zip(candidates, scored.logprobs, strict=False))
        if ends:
            weights[END] = _log_sum(scored.logprobs[len(candidates) :])
        total = _log_sum(weights.values())
        return {token: weight - total for token, weight in weights.items()}, scored.cached

    first, cached = await choose(0)
    others = await _all([choose(number) for number in range(1, len(places))])
    logs = [0.0] * len(options)
    for place, weights in zip(places, (first, *(weights for weights, _ in others)), strict=True):
        for token, numbers in place.ways.items():
            for number in numbers:
                logs[number] += weights[token]
    return tuple(map(math.exp, logs)), cached


def _log_sum(logs: Collection[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs))


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, which run together; the first failure ends the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
