"""The table of parameters is complete, is what the page says, and is what happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from openai.types import completion_create_params, decision_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from gateway.body import understand
from gateway.errors import ApiError
from schemas.anthropic.messages import CountRequest, MessageRequest
from schemas.engine import Sampling
from schemas.openai.chat import ChatRequest
from schemas.openai.completions import CompletionRequest
from schemas.openai.decisions import DecisionRequest
from schemas.openai.responses import ResponseRequest
from schemas.parameters import ALL, ANTHROPIC, DECISIONS, GUARDED, PARAMETERS, Endpoint, Parameter, page
from tests.gateway.fakes import MODEL, FakeProvider

STRUCTS: dict[Endpoint, type[msgspec.Struct]] = {
    "chat": ChatRequest,
    "completions": CompletionRequest,
    "responses": ResponseRequest,
    "decisions": DecisionRequest,
    "messages": MessageRequest,
    "count_tokens": CountRequest,
}
SDK: dict[Endpoint, Any] = {
    "chat": chat_create_params.CompletionCreateParamsStreaming,
    "completions": completion_create_params.CompletionCreateParamsStreaming,
    "responses": response_create_params.ResponseCreateParamsStreaming,
    "decisions": decision_create_params.DecisionCreateParams,
    "messages": message_create_params.MessageCreateParamsStreaming,
    "count_tokens": message_count_tokens_params.MessageCountTokensParams,
}
LEAST: dict[Endpoint, dict[str, Any]] = {
    "chat": {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]},
    "completions": {"model": MODEL, "prompt": "Hello"},
    "responses": {"model": MODEL, "input": "Hello"},
    "decisions": {"model": MODEL, "input": "Hello", "questions": [{"type": "predicate", "instructions": "?"}]},
    "messages": {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 9},
    "count_tokens": {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]},
}
EVERY: tuple[Endpoint, ...] = (*ALL, *DECISIONS, *ANTHROPIC)
DECODERS: dict[Endpoint, msgspec.json.Decoder[Any]] = {end: msgspec.json.Decoder(STRUCTS[end]) for end in EVERY}
EACH = [pytest.param(p, end, id=f"{end}-{p.name}") for p in PARAMETERS for end in p.endpoints]
OTHERS = (True, 2, 0.5, "other", {"a": 1}, [{"a": 1}], ["text", "audio"])


def decode(endpoint: Endpoint, **fields: Any) -> Any:
    return understand(msgspec.json.encode({**LEAST[endpoint], **fields}), DECODERS[endpoint], endpoint)


@pytest.mark.parametrize("endpoint", EVERY)
def test_every_parameter_of_the_sdk_is_classified(endpoint: Endpoint) -> None:
    names = {p.name for p in PARAMETERS if endpoint in p.endpoints}
    assert set(SDK[endpoint].__annotations__) - names == set()


@pytest.mark.parametrize("endpoint", EVERY)
def test_table_and_struct_have_the_same_names(endpoint: Endpoint) -> None:
    names = [p.name for p in PARAMETERS if endpoint in p.endpoints]
    assert len(set(names)) == len(names)
    assert set(STRUCTS[endpoint].__struct_fields__) == set(names)


def test_the_page_is_current() -> None:
    path = Path(__file__).parents[2] / "docs" / "parameters.md"
    assert path.read_text() == page(), "run: python -m schemas.parameters > docs/parameters.md"


@pytest.mark.parametrize(("parameter", "endpoint"), EACH)
def test_guarded_values(parameter: Parameter, endpoint: Endpoint) -> None:
    """What the table lets pass does pass; everything else is refused under the parameter's own name."""
    if parameter.kind == "refused":
        assert parameter.only is not None
    if parameter not in GUARDED[endpoint]:
        return
    assert parameter.only is not None
    for value in (None, *parameter.only):
        decode(endpoint, **{parameter.name: value})
    for value in OTHERS:
        if value in parameter.only:
            continue
        with pytest.raises(ApiError) as refusal:
            decode(endpoint, **{parameter.name: value})
        assert refusal.value.status == 400
        assert (refusal.value.param or "").startswith(parameter.name)


@pytest.mark.parametrize("endpoint", EVERY)
@pytest.mark.parametrize("name", ["min_tokens", "beam_width", "Temperature", "mes\u200bsages", "a.b"])
def test_unknown_parameters_are_refused_by_name(endpoint: Endpoint, name: str) -> None:
    with pytest.raises(ApiError) as refusal:
        decode(endpoint, **{name: None})
    assert (refusal.value.param, refusal.value.code) == (name, "unknown_parameter")


NEUTRAL = {
    "user": "u",
    "safety_identifier": "u",
    "metadata": {"a": "b"},
    "store": False,
    "service_tier": "default",
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "verbosity": "medium",
    "reasoning_effort": "none",
    "modalities": ["text"],
    "tools": [],
    "tool_choice": "none",
}


def test_neutral_parameters_change_nothing(client: openai.OpenAI, provider: FakeProvider) -> None:
    client.chat.completions.create(**LEAST["chat"])
    client.chat.completions.create(**LEAST["chat"], **NEUTRAL)
    plain, decorated = (msgspec.structs.asdict(request.sampling) for request in provider.requests)
    assert plain == decorated
    first, second = provider.requests
    assert (first.prompt, first.constraint, first.max_tokens) == (second.prompt, second.constraint, second.max_tokens)


HONOURED = [
    ({"temperature": 0}, Sampling(temperature=0.0)),
    ({"top_p": 0.25}, Sampling(top_p=0.25)),
    ({"top_p": 0}, Sampling(top_k=1)),
    ({"top_k": 5}, Sampling(top_k=5)),
    ({"top_k": -1}, Sampling()),
    ({"min_p": 0.1}, Sampling(min_p=0.1)),
    ({"seed": 3}, Sampling(seed=3)),
    ({"seed": -1}, Sampling(seed=2**64 - 1)),
    ({"presence_penalty": -2}, Sampling(presence_penalty=-2.0)),
    ({"frequency_penalty": 2}, Sampling(frequency_penalty=2.0)),
    ({"repetition_penalty": 1.5}, Sampling(repetition_penalty=1.5)),
    ({"logit_bias": {"3": -100, "4": 1.5}}, Sampling(logit_bias={3: -100.0, 4: 1.5})),
    ({"temperature": None, "top_p": None, "seed": None, "logit_bias": None, "n": None}, Sampling()),
]


@pytest.mark.parametrize(("fields", "sampling"), HONOURED, ids=str)
def test_sampling(client: openai.OpenAI, provider: FakeProvider, fields: dict[str, Any], sampling: Sampling) -> None:
    client.chat.completions.create(**LEAST["chat"], extra_body=fields)
    client.completions.create(**LEAST["completions"], extra_body=fields)
    assert [request.sampling for request in provider.requests] == [sampling, sampling]


def test_ends(client: openai.OpenAI, provider: FakeProvider) -> None:
    extra = {"stop_token_ids": [1, 2], "ignore_eos": True}
    client.chat.completions.create(**LEAST["chat"], stop="a", max_tokens=5, extra_body=extra)
    asked = provider.last
    assert (asked.stop, asked.stop_token_ids, asked.max_tokens, asked.ignore_eos) == (("a",), (1, 2), 5, True)
    client.chat.completions.create(**LEAST["chat"], stop=["a", "b"], max_completion_tokens=6)
    assert (provider.last.stop, provider.last.max_tokens) == (("a", "b"), 6)
    client.chat.completions.create(**LEAST["chat"])
    assert (provider.last.stop, provider.last.max_tokens, provider.last.ignore_eos) == ((), None, False)


OUT_OF_RANGE = [
    ("temperature", 2.1),
    ("temperature", -0.1),
    ("temperature", "1"),
    ("top_p", 1.1),
    ("top_k", -2),
    ("min_p", 2),
    ("seed", 2**63),
    ("seed", 1.5),
    ("presence_penalty", 3),
    ("frequency_penalty", -3),
    ("repetition_penalty", 0),
    ("n", 0),
    ("n", 129),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("stop", [""]),
    ("stop", ["a"] * 17),
    ("stop", 7),
    ("stop_token_ids", [1000]),
    ("stop_token_ids", [-1]),
    ("logit_bias", {"1000": 1}),
    ("logit_bias", {"-1": 1}),
    ("logit_bias", {"a": 1}),
    ("logit_bias", {"3": 101}),
    ("top_logprobs", 21),
    ("top_logprobs", 2),
    ("logprobs", 1),
    ("messages", []),
    ("messages", "Hello"),
    ("messages", [{"role": "tool", "content": "x", "tool_call_id": "1"}]),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]),
    ("messages", [{"role": "user"}]),
    ("messages", [{"role": "assistant"}]),
    ("messages", [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]),
    ("messages", [{"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}}]),
    ("stream_options", {"include_usage": True}),
    ("metadata", {"a": 1}),
    ("model", 3),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE, ids=str)
def test_values_out_of_range_name_the_parameter(
    client: openai.OpenAI, provider: FakeProvider, name: str, value: object
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**LEAST["chat"], extra_body={name: value})
    assert (refusal.value.param or "").startswith(name), refusal.value.body
    assert name in refusal.value.message
    assert not provider.requests


def test_two_names_of_one_limit(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="two names"):
        client.chat.completions.create(**LEAST["chat"], max_tokens=3, max_completion_tokens=3)


def test_obfuscation_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**LEAST["chat"], stream=True, stream_options={"include_obfuscation": True})
    assert refusal.value.param == "stream_options.include_obfuscation"
