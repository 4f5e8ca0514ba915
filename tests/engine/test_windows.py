"""Models whose layers have windows: what they say does not depend on how their layers share blocks, nor on what was
released or found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.cpu_runner import CpuRunner
from engine.decoder import TorchRunner
from engine.loop import StepLoop
from engine.model.config import ModelConfig
from engine.model.files import open_model
from engine.model.kv_groups import MOST, KvGroups
from engine.model.rotary import Rotary
from engine.scheduler import Limits
from fsm.runtime import Runtime
from fsm.tokens import TokenTable
from schemas.engine import Sampling, Submit, Tokens
from tests.engine.decoding import Feeder
from tests.engine.driver import Driver, ask
from tests.engine.fakes import generate_alone
from tests.engine.families import VOCAB, WINDOW, make
from tests.engine.test_decoder import prompts
from tests.engine.test_triton_runner import loaded

TABLE = TokenTable.from_bytes([bytes([i]) for i in range(VOCAB)], [])


def config(windows: tuple[int, ...]) -> ModelConfig:
    return ModelConfig(
        vocab_size=8, hidden=32, ffn=32, layers=len(windows), heads=1, kv_heads=1, head_dim=32, context_length=64,
        norm_eps=1e-5, rotaries=(Rotary(1e4, 32),), windows=windows,
    )  # fmt: skip


@given(st.lists(st.sampled_from([0, 8, 8, 8, 16]), min_size=1, max_size=70).map(tuple))
def test_groups_hold_layers_of_one_window_each_in_a_place_of_its_own(windows: tuple[int, ...]) -> None:
    groups = KvGroups.by_window(config(windows))
    assert len(set(groups.layers)) == len(groups.layers) == len(windows)
    assert all(groups.windows[group] == window for (group, _), window in zip(groups.layers, windows, strict=True))
    assert all(place < groups.places for _, place in groups.layers)
    assert {group for group, _ in groups.layers} == set(range(len(groups.windows)))
    assert len(groups.windows) <= MOST and sorted(groups.windows) == list(groups.windows)


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [("gemma 2, 2B: 13 and 13", (2, 13)), ("gemma 3, 1B: 4 and 22", (7, 4)), ("gemma 3, 27B: 10 and 52", (5, 13))],
)
def test_little_is_left_empty(pattern: str, shape: tuple[int, int]) -> None:
    every, windowed = (int(word) for word in pattern.split(": ")[1].split(" and "))
    groups = KvGroups.by_window(config((0,) * every + (8,) * windowed))
    assert (len(groups.windows), groups.places) == shape


@pytest.mark.parametrize("family", ["mistral", "gemma 2", "gemma 3"])
@pytest.mark.parametrize("runner", [TorchRunner, CpuRunner])
def test_released_blocks_change_nothing(
    runner: type[TorchRunner] | type[CpuRunner], family: str, tmp_path: Path
) -> None:
    make(family).save_pretrained(tmp_path)
    files = open_model(tmp_path)
    grouped = KvGroups.by_window(files.config)
    assert WINDOW in grouped.windows
    said: list[dict[str, list[int]]] = []
    most: list[float] = []
    for groups in (KvGroups.one(files.config), grouped):
        tables = len(groups.windows)
        loop = StepLoop(
            runner.load(files, num_blocks=60 * tables, groups=groups),
            Runtime(TABLE),
            model="m",
            eos_ids=[],
            limits=Limits(4, 20),
        )
        texts: dict[str, list[int]] = {"a": [], "b": [], "c": [], "again": []}
        used: list[float] = []
        for n, id in enumerate(texts):
            prompt = [(7 * i + n % 3) % VOCAB for i in range(30 + 20 * (n % 3))]
            loop.submit(Submit(id, "m", prompt, 60, sampling=Sampling(seed=n % 3)))
            while not loop.idle and (id == "c" or id == "again"):
                for event in loop.step():
                    if isinstance(event, Tokens):
                        texts[event.id] += event.ids
                loop.check()
                used.append(loop.report().gauges["kv_blocks_used"] / tables)
        said.append(texts)
        most.append(max(used))
    assert said[0] == said[1] and all(len(text) == 60 for text in said[0].values())
    assert said[0]["again"] == said[0]["a"] and most[1] < most[0]


def test_groups_share_a_block_on_gpus(tmp_path: Path, device: torch.device) -> None:
    make("gemma 2", num_hidden_layers=3).save_pretrained(tmp_path)
    files = open_model(tmp_path)
    groups = KvGroups.by_window(files.config)
    assert groups.windows == (0, WINDOW, WINDOW)
    texts = prompts(1, [WINDOW + 2, WINDOW + 12])
    found, wanted = (
        Feeder(loaded(files, device, num_blocks=24, groups=given)).run(texts, [WINDOW + 1, WINDOW + 11])
        for given in (groups, KvGroups.one(files.config))
    )
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)


WINDOWS = (0, 8)


def test_a_windowed_group_gives_back_what_it_has_passed() -> None:
    driver = Driver(num_blocks=64, windows=WINDOWS)
    request = ask("a", list(range(10)), 50, n=2, sampling=Sampling(seed=3), ignore_eos=True)
    driver.loop.submit(request)
    for _ in range(40):
        driver.step()
    # The prompt's two full blocks are shared; of the group with the window there are 8 tokens that may lie anywhere.
    everything = 2 + 2 * (-(-49 // 4) - 2)
    assert everything < driver.loop.report().gauges["kv_blocks_used"] <= everything + 2 * 3
    driver.drain()
    assert driver.heard["a"].answers == {c: generate_alone(request, c, None, windows=WINDOWS) for c in range(2)}


def test_a_prefix_is_found_while_the_end_of_its_windows_is_there() -> None:
    """Of the windowed group's blocks those that were passed first are reused first; the last ones suffice."""
    driver = Driver(num_blocks=28, windows=WINDOWS)
    prompt = [i % 40 for i in range(41)]
    first = ask("first", prompt, 1, ignore_eos=True)
    again = ask("again", prompt, 1, ignore_eos=True)
    assert driver.run((first, 0))[0].cached == 0
    driver.run((ask("other", [45] * 10, 1, ignore_eos=True), 0))
    (found,) = driver.run((again, 0))
    assert found.cached == 40
    assert found.answers[0] == generate_alone(again, 0, None, windows=WINDOWS)


def test_a_prefix_whose_windows_were_lost_is_not_found() -> None:
    """The group that sees all has everything of the text still, the windowed one no longer the place where it ends."""
    driver = Driver(num_blocks=24, windows=WINDOWS)
    prompt = [i % 40 for i in range(17)]
    (long,) = driver.run((ask("long", prompt, 20, ignore_eos=True, sampling=Sampling(seed=1)), 0))
    driver.run((ask("other", [45] * 21, 1, ignore_eos=True), 0))
    whole = ask("whole", prompt + long.answers[0].ids, 2, ignore_eos=True)
    short = ask("short", prompt, 3, ignore_eos=True)
    for request, cached in ((whole, 36), (short, 0)):
        (heard,) = driver.run((request, 0))
        assert heard.cached == cached
        assert heard.answers[0] == generate_alone(request, 0, None, windows=WINDOWS)
