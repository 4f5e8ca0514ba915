"""Many different requests at once against too little KV memory: all are answered rightly, and nothing is left
behind.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from tests.e2e.conftest import MODEL, serve
from tests.e2e.schemas import OWN, viable
from tests.e2e.test_guarantee import validator

FEW_BLOCKS_MB = "24"
"""About 68 blocks of 16 tokens for the embedded model: some eight of the requests below at once."""


def test_thirty_two_mixed_requests_with_too_few_blocks(embedded_model: Path, tmp_path: Path) -> None:
    with serve(tmp_path / "log", SLUICE_ENGINE__KV_MEMORY_MB=FEW_BLOCKS_MB) as server:
        asyncio.run(_mixed(server.async_client()))
        deadline = time.monotonic() + 10
        while server.figure("sluice_engine_running") or server.figure("sluice_engine_kv_blocks_used"):
            assert time.monotonic() < deadline, "something still runs or holds blocks"
            time.sleep(0.05)
        assert server.figure("sluice_engine_broken_invariants_total") == 0
        assert server.figure("sluice_engine_finished_cancelled_total") >= 5


async def _mixed(client: AsyncOpenAI) -> None:
    kinds = (_constrained, _free, _streamed, _cancelled, _invalid, _choices)
    async with client:
        await asyncio.gather(*(kinds[i % len(kinds)](client, i) for i in range(32)))


def _messages(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Request {i}: " + "tell me about rivers and their bridges. " * (1 + i % 5)}]


async def _constrained(client: AsyncOpenAI, i: int) -> None:
    name = sorted(OWN)[i % len(OWN)]
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=_messages(i),  # type: ignore[arg-type]
        response_format={"type": "json_schema", "json_schema": {"name": name, "schema": OWN[name]}},
        max_tokens=120,
        seed=i,
    )
    text = answer.choices[0].message.content or ""
    if answer.choices[0].finish_reason == "stop":
        validator(OWN[name]).validate(json.loads(text))
    else:
        assert viable(OWN[name], text)


async def _free(client: AsyncOpenAI, i: int) -> None:
    answer = await client.chat.completions.create(model=MODEL, messages=_messages(i), max_tokens=60, temperature=0)  # type: ignore[arg-type]
    again = await client.chat.completions.create(model=MODEL, messages=_messages(i), max_tokens=60, temperature=0)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == again.choices[0].message.content
    assert answer.usage and answer.usage.completion_tokens <= 60


async def _streamed(client: AsyncOpenAI, i: int) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=_messages(i),  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=50,
        extra_body={"structured_outputs": {"regex": "[a-z]{3,8}( [a-z]{3,8}){2,6}\\."}},
    )
    text, reason, usage = "", None, None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    assert reason == "length" or re.fullmatch("[a-z]{3,8}( [a-z]{3,8}){2,6}\\.", text)
    assert usage is not None


async def _cancelled(client: AsyncOpenAI, i: int) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=_messages(i),  # type: ignore[arg-type]
        stream=True,
        max_tokens=400,
        extra_body={"ignore_eos": True},  # it would not do if it ended before it is cancelled
    )
    seen = 0
    async for _ in stream:
        seen += 1
        if seen == 3 + i % 7:
            break
    await stream.close()


async def _invalid(client: AsyncOpenAI, i: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}, "required": ["a"]}
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(
            model=MODEL,
            messages=_messages(i),  # type: ignore[arg-type]
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
    assert refused.value.param == "response_format"


async def _choices(client: AsyncOpenAI, i: int) -> None:
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=_messages(i),  # type: ignore[arg-type]
        n=3,
        max_tokens=10,
        extra_body={"structured_outputs": {"choice": ["north", "south", "east", "west"]}},
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert choice.finish_reason == "stop" and choice.message.content in ("north", "south", "east", "west")
