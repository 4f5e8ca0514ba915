"""Weights of options against an oracle that enumerates what constrained decoding would write."""

from __future__ import annotations

import asyncio
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from providers.weighing import END, Text, branches, weigh
from schemas.engine import Scored

VOCAB = 6
EOS = (6, 7)
texts = st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=4).map(tuple), min_size=2, max_size=12, unique=True)


def logits(prompt: list[int]) -> list[float]:
    draw = random.Random(str(prompt))
    return [draw.uniform(-3, 3) for _ in range(VOCAB + len(EOS))]


class Model:
    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    async def score(self, id: str, prompt: list[int], candidates: list[int]) -> Scored:
        await asyncio.sleep(0)
        self.asked.append(tuple(prompt))
        scores = logits(prompt)
        total = math.log(sum(map(math.exp, scores)))
        return Scored(id, [scores[token] - total for token in candidates], 5)


def likelihood(prompt: list[int], option: Text, options: list[Text]) -> float:
    """Of drawing ``option`` token by token, where only what begins some option may be drawn."""
    found = 1.0
    for i, token in enumerate((*option, END)):
        allowed = {(*other, END)[i] for other in options if other[:i] == option[:i]}
        scores = logits([*prompt, *option[:i]])
        weights = {t: math.exp(scores[t]) if t != END else sum(math.exp(scores[e]) for e in EOS) for t in allowed}
        found *= weights[token] / sum(weights.values())
    return found


@settings(max_examples=60, deadline=None)
@given(prompts=st.lists(st.lists(st.integers(0, VOCAB - 1), max_size=3), min_size=1, max_size=3), options=texts)
def test_weights_are_those_of_constrained_decoding(prompts: list[list[int]], options: list[Text]) -> None:
    model = Model()
    weights, cached = asyncio.run(weigh(model.score, prompts, [options] * len(prompts), EOS))
    assert cached == 5 and len(weights) == len(prompts)
    for prompt, found in zip(prompts, weights, strict=True):
        assert math.isclose(sum(found), 1.0)
        for option, weight in zip(options, found, strict=True):
            assert math.isclose(weight, likelihood(prompt, option, options), rel_tol=1e-9)


@given(options=texts)
def test_only_branches_are_asked_about(options: list[Text]) -> None:
    model = Model()
    asyncio.run(weigh(model.score, [[0]], [options], EOS))
    nodes = branches(options)
    assert len(model.asked) == len(nodes) < len(options)
    assert model.asked[0] == (0, *min(nodes, key=len))


def test_a_failure_ends_all() -> None:
    async def fail(id: str, prompt: list[int], candidates: list[int]) -> Scored:
        if len(prompt) > 1:
            raise ValueError(id)
        return Scored(id, [0.0] * len(candidates), 0)

    async def run() -> int:
        try:
            await weigh(fail, [[0], [0]], [[(0, 1), (0, 2), (1, 1), (1, 2)]] * 2, EOS)
        except ValueError:
            return len(asyncio.all_tasks())
        raise AssertionError("nothing failed")

    assert asyncio.run(run()) == 1
