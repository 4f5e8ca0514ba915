"""Models whose every layer has a window: what they say does not depend on whether blocks behind it are released."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cpu_runner import CpuRunner
from engine.decoder import TorchRunner
from engine.loop import StepLoop
from engine.model.files import open_model
from engine.scheduler import Limits
from engine.service import _window  # pyright: ignore[reportPrivateUsage]
from fsm.runtime import Runtime
from fsm.tokens import TokenTable
from schemas.engine import Sampling, Submit, Tokens
from tests.engine.families import VOCAB, WINDOW, make


@pytest.mark.parametrize("runner", [TorchRunner, CpuRunner])
def test_released_blocks_change_nothing(runner: type[TorchRunner] | type[CpuRunner], tmp_path: Path) -> None:
    make("mistral", num_hidden_layers=2).save_pretrained(tmp_path)
    files = open_model(tmp_path)
    assert _window(files.config) == WINDOW
    table = TokenTable.from_bytes([bytes([i]) for i in range(VOCAB)], [])
    said: list[dict[str, list[int]]] = []
    for window in (0, WINDOW):
        loop = StepLoop(
            runner.load(files, num_blocks=40),
            Runtime(table),
            model="m",
            eos_ids=[],
            limits=Limits(4, 20),
            window=window,
        )
        texts: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        for n, id in enumerate(texts):
            prompt = [(7 * i + n) % VOCAB for i in range(30 + 20 * n)]
            loop.submit(Submit(id, "m", prompt, 60, sampling=Sampling(seed=n)))
        while not loop.idle:
            for event in loop.step():
                if isinstance(event, Tokens):
                    texts[event.id] += event.ids
            loop.check()
        said.append(texts)
    assert said[0] == said[1] and all(len(text) == 60 for text in said[0].values())
