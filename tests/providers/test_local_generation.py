"""What the engine's events become for those who asked."""

from __future__ import annotations

import asyncio
from typing import cast

from engine.client import EngineClient
from providers.base import CacheHits, Usage
from providers.choice_text import ChoiceText
from providers.local import LocalGeneration
from schemas.engine import Finished, Tokens
from tests.providers.bytewise import byte_tokenizer


async def test_the_usage_tells_the_tiers_apart() -> None:
    """The first frame of the first choice to speak says what was found, whichever that is."""
    tokenizer = byte_tokenizer("<end>")
    events = asyncio.Queue[object]()
    for event in (
        Tokens("r", 1, tokenizer.encode("a"), cached=20, restored=8),
        Tokens("r", 0, tokenizer.encode("bc")),
        Finished("r", 1, "stop"),
        Finished("r", 0, "length"),
    ):
        events.put_nowait(event)
    texts = [ChoiceText(i, tokenizer, (), constrained=False, reader=None) for i in range(2)]
    generation = LocalGeneration(cast(EngineClient, None), "r", 30, cast(asyncio.Queue, events), texts)
    *_, usage = [event async for event in generation]
    assert usage == Usage(30, 20, 3, hits=CacheHits(12, 8))
    assert isinstance(usage, Usage) and usage + usage == Usage(60, 40, 6, hits=CacheHits(24, 16))
    assert usage + Usage(5, 1, 0) == Usage(35, 21, 3, hits=CacheHits(12, 8)) == Usage(5, 1, 0) + usage
