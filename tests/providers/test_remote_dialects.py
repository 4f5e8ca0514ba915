"""What goes out in each dialect, held against the types of the official SDKs, and what comes back in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from anthropic.types import message_create_params as anthropic_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from providers.base import Call, GenerateRequest, Message, ProviderError, Tool, Tools, Usage
from providers.remote.dialect import BrokenAnswer
from providers.remote.openai_chat import ChatReader
from schemas.constraint import JsonObjectSpec, JsonSchemaSpec
from schemas.engine import Sampling
from schemas.providers import RemoteModel
from tests.providers.fault_server import Act, Api, FaultServer
from tests.providers.remote_cases import APIS, MODEL, asking, hear, provider_for

SCHEMA = '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}'
VALID = '{"a": 1}'
TALK = (
    Message("system", "Be brief."),
    Message("user", "What is 1 + 1?", "Ann"),
    Message("assistant", "I ask.", calls=(Call("call:1", "add", {"a": 1}), Call("call:2", "add", {"a": 2}))),
    Message("tool", "2", "add", call_id="call:1"),
    Message("tool", "3", "add", call_id="call:2"),
    Message("user", "And?"),
)
TOOLS = Tools((Tool("add", SCHEMA, "Adds."), Tool("hidden", SCHEMA)), ("add",), required=True, parallel=False)
PARAMS: dict[Api, Any] = {
    "chat": chat_params.CompletionCreateParamsStreaming,
    "responses": response_create_params.ResponseCreateParamsStreaming,
    "messages": anthropic_params.MessageCreateParamsStreaming,
}
SAMPLING: dict[Api, Sampling] = {
    "chat": Sampling(0.5, 0.9, seed=3, presence_penalty=0.1, frequency_penalty=0.2, logit_bias={5: 1.0}, logprobs=2),
    "responses": Sampling(0.5, 0.9, logprobs=2),
    "messages": Sampling(),
    "gemini": Sampling(0.5, 0.9, top_k=4, seed=3, presence_penalty=0.1, frequency_penalty=0.2),
}


def sent(api: Api, request: GenerateRequest, act: Act | None = None, **changes: Any) -> dict[str, Any]:
    """The body of the request's one call."""

    async def run() -> dict[str, Any]:
        async with FaultServer(lambda *_: act or Act()).running() as server:
            provider = provider_for(server, api, **changes)
            await hear(provider, request)
            await provider.aclose()
            (asked,) = server.log
            return asked.body

    return asyncio.run(run())


REQUESTS: dict[str, tuple[Callable[[Api], GenerateRequest], Act]] = {
    "plain": (lambda api: asking(), Act()),
    "everything": (
        lambda api: GenerateRequest(
            "r", MODEL, TALK, SAMPLING[api], stop=() if api == "responses" else ("END",), max_tokens=50
        ),
        Act(),
    ),
    "tools": (lambda api: GenerateRequest("r", MODEL, TALK, tools=TOOLS), Act(("",), (("add", VALID),))),
    "schema": (lambda api: asking(constraint=JsonSchemaSpec(SCHEMA)), Act((VALID,))),
    "object": (lambda api: asking(constraint=JsonObjectSpec()), Act((VALID,))),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("api", PARAMS)
def test_requests_are_of_the_official_types(api: Api, name: str) -> None:
    ask, act = REQUESTS[name]
    body = sent(api, ask(api), act)
    hints = get_type_hints(PARAMS[api])
    assert set(body) <= set(hints)
    TypeAdapter(PARAMS[api]).validate_python(body)


def test_a_conversation_in_each_dialect() -> None:
    ask, act = REQUESTS["tools"]
    chat, responses = sent("chat", ask("chat"), act), sent("responses", ask("responses"), act)
    messages, gemini = sent("messages", ask("messages"), act), sent("gemini", ask("gemini"), act)
    assert [m["role"] for m in chat["messages"]] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert chat["messages"][1]["name"] == "Ann"
    assert [item.get("type", item.get("role")) for item in responses["input"]] == [
        "system", "user", "assistant", "function_call", "function_call",
        "function_call_output", "function_call_output", "user",
    ]  # fmt: skip
    assert messages["system"] == "Be brief."
    assert [m["role"] for m in messages["messages"]] == ["user", "assistant", "user"]
    assert [b["type"] for b in messages["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
    uses, results = messages["messages"][1]["content"][1:], messages["messages"][2]["content"][:2]
    assert [use["id"] for use in uses] == [result["tool_use_id"] for result in results]
    assert [turn["role"] for turn in gemini["contents"]] == ["user", "model", "user"]
    assert gemini["contents"][0]["parts"] == [{"text": "Ann: What is 1 + 1?"}]
    assert "thoughtSignature" in gemini["contents"][1]["parts"][1]
    assert gemini["contents"][2]["parts"][0]["functionResponse"] == {"name": "add", "response": {"output": "2"}}


def test_one_call_that_must_come_is_asked_for_by_name_and_others_are_not_offered() -> None:
    ask, act = REQUESTS["tools"]
    chat = sent("chat", ask("chat"), act)
    assert [tool["function"]["name"] for tool in chat["tools"]] == ["add"]
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert chat["parallel_tool_calls"] is False
    messages = sent("messages", ask("messages"), act)
    assert messages["tool_choice"] == {"type": "tool", "name": "add", "disable_parallel_tool_use": True}
    assert sent("gemini", ask("gemini"), act)["toolConfig"]["functionCallingConfig"]["mode"] == "ANY"


def test_neutral_parameters_are_left_to_the_api_unless_its_defaults_may_differ() -> None:
    assert not {"temperature", "top_p", "seed"} & set(sent("chat", asking()))
    local = sent("chat", asking(), kind="openai-compatible")
    assert (local["temperature"], local["top_p"], "seed" in local) == (1.0, 1.0, False)


def test_the_most_likely_token_is_asked_for_as_temperature_0_where_there_is_no_top_k() -> None:
    assert sent("chat", asking(sampling=Sampling(top_k=1)))["temperature"] == 0.0
    assert sent("gemini", asking(sampling=Sampling(top_k=1)))["generationConfig"]["topK"] == 1


def test_what_servers_that_are_only_compatible_differ_in() -> None:
    schema = asking(constraint=JsonSchemaSpec(SCHEMA))
    given, anything = json.loads(SCHEMA), asking(constraint=JsonObjectSpec())
    assert sent("chat", schema, Act((VALID,)), profile="tgi")["response_format"] == {"type": "json", "value": given}
    assert "response_format" not in sent("chat", anything, Act((VALID,)), profile="tgi")
    assert sent("chat", anything, Act((VALID,)), profile="groq")["response_format"] == {"type": "json_object"}
    routed = sent("chat", schema, Act((VALID,)), profile="openrouter")
    assert routed["provider"] == {"require_parameters": True} and routed["response_format"]["type"] == "json_schema"
    for profile, turn in [
        ("together", {"role": "user", "content": "What is 1 + 1?", "name": "Ann"}),
        ("groq", {"role": "user", "content": "Ann: What is 1 + 1?"}),
    ]:
        assert sent("chat", GenerateRequest("r", MODEL, TALK), profile=profile)["messages"][1] == turn


def test_an_operator_knows_better_than_the_table() -> None:
    older = {"parameters": ["temperature", "top_k"], "max_stops": 1}
    body = sent("messages", asking(sampling=Sampling(temperature=0.5, top_k=4)), capabilities=older)
    assert (body["temperature"], body["top_k"]) == (0.5, 4)
    model = RemoteModel(name=MODEL, max_output=9, capabilities={"max_tokens_field": "max_tokens"})
    assert sent("chat", asking(), models=(model,))["max_tokens"] == 9


UNFIT: list[tuple[Api, dict[str, Any], str]] = [
    ("chat", {"sampling": Sampling(min_p=0.1)}, "min_p"),
    ("chat", {"sampling": Sampling(top_k=5)}, "top_k"),
    ("chat", {"sampling": Sampling(repetition_penalty=1.1)}, "repetition_penalty"),
    ("chat", {"stop": tuple("abcde")}, "stop"),
    ("chat", {"stop_token_ids": (1,)}, "stop_token_ids"),
    ("chat", {"ignore_eos": True}, "ignore_eos"),
    ("chat", {"close": True}, "sluice.close"),
    ("chat", {"sampling": Sampling(seed=2**63)}, "seed"),
    ("responses", {"stop": ("a",)}, "stop"),
    ("responses", {"sampling": Sampling(seed=1)}, "seed"),
    ("messages", {"sampling": Sampling(seed=1)}, "seed"),
    ("messages", {"sampling": Sampling(temperature=0.5)}, "temperature"),
    ("messages", {"sampling": Sampling(top_k=1)}, "top_k"),
    ("messages", {"sampling": Sampling(logprobs=0)}, "logprobs"),
    ("messages", {"sampling": Sampling(frequency_penalty=1.0)}, "frequency_penalty"),
    ("gemini", {"sampling": Sampling(logit_bias={1: 1.0})}, "logit_bias"),
    ("gemini", {"sampling": Sampling(seed=2**31)}, "seed"),
    ("gemini", {"prompt": "Once"}, "prompt"),
    ("gemini", {"prompt": [1, 2]}, "prompt"),
]


@pytest.mark.parametrize(("api", "fields", "param"), UNFIT)
def test_what_a_dialect_cannot_say_is_refused_by_name_before_anything_is_sent(
    api: Api, fields: dict[str, Any], param: str
) -> None:
    async def run() -> None:
        async with FaultServer().running() as server:
            provider = provider_for(server, api)
            request = GenerateRequest(**{"id": "r", "model": MODEL, "prompt": TALK, **fields})
            assert provider.supports(request)
            with pytest.raises(ProviderError) as refusal:
                await provider.generate(request)
            error = refusal.value
            assert (error.kind, error.param, error.elsewhere) == ("invalid_request", param, True)
            assert not server.log

    asyncio.run(run())


def test_tokens_beyond_what_a_model_writes_are_refused_or_cut_as_asked() -> None:
    with pytest.raises(ProviderError) as refusal:
        sent("chat", asking(max_tokens=1001))
    assert refusal.value.kind == "context_length"
    assert sent("chat", asking(max_tokens=1001, clip=True))["max_completion_tokens"] == 1000


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("whole", [False, True])
def test_answers_are_the_same_whole_and_streamed(api: Api, whole: bool) -> None:
    act = Act(("Grüße 🦆",), (("add", VALID), ("add", '{"a":2}')), piece=1, whole=whole)

    async def run() -> None:
        async with FaultServer(lambda *_: act).running() as server:
            provider = provider_for(server, api, models=(RemoteModel(name=MODEL, max_output=9, stream=not whole),))
            heard = await hear(provider, asking(tools=Tools(TOOLS.offered, ("add",))))
            await provider.aclose()
            assert server.log[0].body.get("stream", api == "gemini") is (not whole if api != "gemini" else True)
        (choice,) = heard.choices
        assert choice.text == "Grüße 🦆"
        assert [(name, json.loads(arguments)) for name, arguments in choice.calls] == [
            ("add", {"a": 1}),
            ("add", {"a": 2}),
        ]
        assert heard.usage == Usage(10_001, 1, len("Grüße 🦆") + 1)

    asyncio.run(run())


@pytest.mark.parametrize("api", APIS)
def test_log_probabilities_cut_answers_and_refusals(api: Api) -> None:
    async def run() -> None:
        async with FaultServer(lambda *_: Act(("Half an ans",), end="length")).running() as server:
            provider = provider_for(server, api)
            (choice,) = (await hear(provider, asking())).choices
            assert choice.end is not None and (choice.text, choice.end.reason) == ("Half an ans", "length")
            (choice,) = (await hear(provider, asking(constraint=JsonSchemaSpec(SCHEMA)))).choices
            assert choice.end is not None and (choice.text, choice.end.reason) == ("", "length")
            server.script = lambda *_: Act(("No.",), end="declined")
            with pytest.raises(ProviderError) as refusal:
                await hear(provider, asking(constraint=JsonSchemaSpec(SCHEMA)))
            assert (refusal.value.kind, refusal.value.elsewhere) == ("declined", True)
            await provider.aclose()

    asyncio.run(run())


def chunk(choice: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, **choice}], **fields}).encode()


def read(*chunks: bytes, n: int = 1) -> list[Any]:
    reader = ChatReader(n)
    events = [event for data in chunks for event in reader.event(data)]
    reader.end()
    return events


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    calls = [{"index": 0, "id": f"c{i}", "function": {"name": f"f{i}", "arguments": "{}"}} for i in range(2)]
    events = read(*(chunk({"delta": {"tool_calls": [call]}}) for call in calls), chunk({"finish_reason": "stop"}))
    assert [(event.number, event.name) for event in events if hasattr(event, "name")] == [(0, "f0"), (1, "f1")]


BROKEN: list[tuple[bytes, ...]] = [
    (b"{",),
    (b"[]",),
    (chunk({"delta": {"content": 3}}),),
    (chunk({"finish_reason": "tired"}),),
    (chunk({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}}),),
    (chunk({"finish_reason": "stop"}), chunk({"delta": {"content": "more"}})),
    (chunk({"index": 1, "delta": {"content": "more"}}),),
    (chunk({"delta": {"content": "no end"}}),),
]


@pytest.mark.parametrize("chunks", BROKEN)
def test_what_is_no_answer_is_said_to_be_none(chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(BrokenAnswer):
        read(*chunks)
