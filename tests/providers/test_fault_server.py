"""The server that misbehaves speaks the real APIs where it does not: their official clients read it."""

from __future__ import annotations

import asyncio

import anthropic
import openai

from tests.providers.fault_server import Act, FaultServer

CALL = ("f", '{"a": 1}')


def test_official_clients_read_what_it_says() -> None:
    async def run() -> None:
        async with FaultServer(lambda *_: Act(("Grüße 🦆",), (CALL,), piece=2)).running() as server:
            async with openai.AsyncOpenAI(base_url=server.url("chat"), api_key="k", max_retries=0) as client:
                await chat(client)
                await responses(client)
            url = server.url("messages").removesuffix("/v1")
            async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as claude:
                await messages(claude)

    asyncio.run(run())


async def chat(client: openai.AsyncOpenAI) -> None:
    async with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "?"}]) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    assert message.content == "Grüße 🦆"
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls or ()] == [CALL]


async def responses(client: openai.AsyncOpenAI) -> None:
    answer = await client.responses.create(model="m", input="?")
    assert answer.output_text == "Grüße 🦆" and answer.usage is not None
    kinds = [event.type async for event in await client.responses.create(model="m", input="?", stream=True)]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"


async def messages(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}]) as stream:
        message = await stream.get_final_message()
    text, called = message.content
    assert text.type == "text" and text.text == "Grüße 🦆"
    assert called.type == "tool_use" and called.input == {"a": 1}
    assert message.stop_reason == "tool_use" and message.usage.output_tokens > 1
