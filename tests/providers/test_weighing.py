"""Weights of options against an oracle that enumerates what constrained decoding would write."""

from __future__ import annotations

import asyncio
import math
import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.loop import StepLoop
from engine.scheduler import Limits
from providers.weighing import END, Text, branches, weigh
from schemas.engine import Score, Scored
from tests.engine.fakes import EOS as ENGINE_EOS
from tests.engine.fakes import FakeMasks, HashRunner, logits_of

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
    parting = {
        option[:i] for option in options for i in range(len(option) + 1) if len(following(option[:i], options)) > 1
    }
    assert sorted(model.asked) == sorted((0, *path) for path in parting) and len(parting) < len(options)
    assert model.asked[0] == (0, *min(parting, key=len))
    for branch in branches(options):
        assert set(branch.ways) == following(branch.path, options)


def following(path: Text, options: list[Text]) -> set[int]:
    return {(*option, END)[len(path)] for option in options if option[: len(path)] == path}


def test_long_options_are_told_apart_in_linear_time() -> None:
    common = tuple(range(200_000))
    assert [branch.path for branch in branches([common, (*common, 1), (*common, 1, 2)])] == [common, (*common, 1)]


class Engine:
    """The step loop behind `weigh`, with what it was asked to compute."""

    def __init__(self, blocks: int, block_size: int, context: int) -> None:
        self.runner = HashRunner(blocks, block_size, context)
        limits = Limits(max_sequences=32, max_batch_tokens=256)
        self.loop = StepLoop(self.runner, FakeMasks(), model="fake", eos_ids=ENGINE_EOS, limits=limits)
        self.waiting: dict[str, asyncio.Future[Scored]] = {}
        self.at_once = asyncio.Semaphore(32)

    async def score(self, id: str, prompt: list[int], candidates: list[int]) -> Scored:
        async with self.at_once:
            self.waiting[id] = asyncio.get_running_loop().create_future()
            self.loop.score(Score(id, "fake", prompt, candidates))
            return await self.waiting[id]

    async def run(self) -> None:
        while True:
            for event in self.loop.step() if self.loop.can_step else []:
                if isinstance(event, Scored):
                    self.waiting.pop(event.id).set_result(event)
            await asyncio.sleep(0)


@settings(max_examples=10, deadline=None)
@given(
    shared=st.integers(0, 400),
    questions=st.integers(1, 60),
    seed=st.integers(0, 99),
    options=texts,
    size=st.sampled_from([4, 16]),
)
def test_what_questions_share_is_computed_once(
    shared: int, questions: int, seed: int, options: list[Text], size: int
) -> None:
    """A question computes itself, and each branch of its options at most a block and the way to it."""
    draw = random.Random(seed)
    prefix = [draw.randrange(VOCAB) for _ in range(shared)]
    own = [[draw.randrange(VOCAB) for _ in range(draw.randint(1, 30))] for _ in range(questions)]
    prompts = [[*prefix, *question] for question in own]

    async def run() -> tuple[int, tuple[tuple[float, ...], ...]]:
        engine = Engine(4096, size, 512)
        running = asyncio.create_task(engine.run())
        weights, _ = await weigh(engine.score, prompts, [options] * questions, ENGINE_EOS)
        running.cancel()
        return engine.runner.tokens_run, weights

    computed, weights = asyncio.run(run())
    paths = [len(branch.path) for branch in branches(options)]
    a_question = sum(size + length for length in paths)
    assert computed <= shared + sum(map(len, own)) + questions * a_question
    for prompt, found in zip(prompts, weights, strict=True):
        alone = asyncio.run(weigh(exact, [prompt], [options], ENGINE_EOS))[0][0]
        assert all(math.isclose(one, other, rel_tol=1e-4) for one, other in zip(found, alone, strict=True))


async def exact(id: str, prompt: list[int], candidates: list[int]) -> Scored:
    """What the hashing model thinks, without an engine."""
    scores = logits_of(prompt).astype(float)
    total = math.log(np.exp(scores).sum())
    return Scored(id, [scores[token] - total for token in candidates], 0)


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
