"""Chat completions through the official client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pydantic
import pytest

from providers.base import Admission, Delta, Finished, GenerateRequest, GenerationEvent, Message, Usage
from tests.gateway.fakes import MODEL, TEXT, FakeProvider

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


def test_plain_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**ASK)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", TEXT, "stop")
    assert choice.message.refusal is None and choice.logprobs is None
    assert answer.id.startswith("chatcmpl-") and answer.model == MODEL and answer.object == "chat.completion"
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens == 7 + len(TEXT)
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


def test_streamed_answer_is_the_plain_one(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASK, n=3, stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    for index in range(3):
        mine = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert (mine[0].delta.role, mine[0].delta.content) == ("assistant", "")
        assert "".join(choice.delta.content or "" for choice in mine) == TEXT
        assert all(choice.delta.role is None for choice in mine[1:])
        assert [choice.finish_reason for choice in mine] == [None] * (len(mine) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_last_and_only_when_asked_for(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response
    text = raw.create(**ASK, stream=True, stream_options={"include_usage": True}).http_response.read().decode()
    *events, done = text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]" and all(event.startswith("data: {") for event in events)
    assert all('"usage":null' in event for event in events[:-1])
    assert '"choices":[]' in events[-1] and f'"completion_tokens":{len(TEXT)}' in events[-1]
    plain = raw.create(**ASK, stream=True).http_response
    assert "usage" not in plain.read().decode()
    assert plain.headers["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(client: openai.OpenAI, stream: bool) -> None:
    if stream:
        chunks = client.chat.completions.create(**ASK, stream=True, logprobs=True, top_logprobs=2)
        entries = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    else:
        answer = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)
        entries = [choice.logprobs for choice in answer.choices if choice.logprobs]
    tokens = [token for entry in entries for token in entry.content or []]
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == TEXT
    assert "".join(token.token for token in tokens) == TEXT
    for token in tokens:
        best, other = token.top_logprobs
        assert (best.token, best.logprob) == (token.token, -0.5)
        assert (other.token, other.bytes, other.logprob) == ("\\xf0\\x9f", [0xF0, 0x9F], -9999.0)


def test_logprobs_without_runners_up(client: openai.OpenAI, provider: FakeProvider) -> None:
    answer = client.chat.completions.create(**ASK, logprobs=True)
    assert provider.last.sampling.logprobs == 0
    assert answer.choices[0].logprobs is not None and answer.choices[0].logprobs.content is not None
    assert all(token.top_logprobs == [] for token in answer.choices[0].logprobs.content)


def test_messages_reach_the_template_as_text(client: openai.OpenAI, provider: FakeProvider) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
            {"role": "assistant", "content": "c"},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "user", "content": ""},
        ],
    )
    assert provider.last.prompt == (
        Message("system", "Be brief."),
        Message("user", "a\nb", "Ann"),
        Message("assistant", "c"),
        Message("assistant", "no"),
        Message("user", ""),
    )


def test_an_answer_can_be_sent_back(client: openai.OpenAI, provider: FakeProvider) -> None:
    message = client.chat.completions.create(**ASK).choices[0].message
    for form in (message, message.model_dump(), message.model_dump(exclude_none=True)):
        client.chat.completions.create(model=MODEL, messages=[*ASK["messages"], form])  # type: ignore[list-item]
        assert provider.last.prompt == (Message("user", "Hello"), Message("assistant", TEXT))


class Person(pydantic.BaseModel):
    name: str
    age: int


async def ann(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, '{"name":"Ann",')
    yield Delta(0, '"age":7}')
    yield Finished(0, "stop")
    yield Usage(1, 0, 2)


async def cut(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
    yield Delta(0, '{"name":"Ann",')
    yield Finished(0, "length")
    yield Usage(1, 0, 1)


def test_parse_into_a_model(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = ann
    provider.admission = Admission(1, "engine", "exact")
    answer = client.chat.completions.parse(**ASK, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ann", age=7)
    with client.chat.completions.stream(**ASK, response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Person(name="Ann", age=7)


def test_cut_json_never_finishes_with_stop(client: openai.OpenAI, provider: FakeProvider) -> None:
    provider.script = cut
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**ASK, response_format=Person)


def test_service_tier_is_named_when_asked_for(client: openai.OpenAI) -> None:
    assert client.chat.completions.create(**ASK, service_tier="auto").service_tier == "default"
    assert client.chat.completions.create(**ASK).service_tier is None


@pytest.mark.parametrize("stream", [False, True])
def test_headers_say_what_was_enforced(client: openai.OpenAI, provider: FakeProvider, stream: bool) -> None:
    free = client.chat.completions.with_raw_response.create(**ASK, stream=stream)
    assert free.headers["x-sluice-enforced"] == "none" and "x-sluice-contract" not in free.headers
    provider.admission = Admission(7, "engine", "sound_subset", ("numbers have at most 19 digits – §4",))
    held = client.chat.completions.with_raw_response.create(
        **ASK, stream=stream, extra_body={"guided_json": {"type": "integer"}}
    )
    assert held.headers["x-sluice-enforced"] == "engine"
    assert held.headers["x-sluice-contract"] == "sound_subset"
    assert held.headers["x-sluice-contract-reasons"] == '["numbers have at most 19 digits \\u2013 \\u00a74"]'
    assert held.headers["x-sluice-deprecated"] == "guided_json"
    ids = {response.headers["x-request-id"] for response in (free, held)}
    assert len(ids) == 2 and int(held.headers["openai-processing-ms"]) >= 0
    free.http_response.read()
    held.http_response.read()


def test_what_a_remote_api_counts_besides_is_told(client: openai.OpenAI, provider: FakeProvider) -> None:
    async def thinking(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        yield Delta(0, "4")
        yield Finished(0, "stop")
        yield Usage(10, 3, 8, written=2, reasoning=7)

    provider.script = thinking
    usage = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "2 + 2?"}]).usage
    assert usage is not None and usage.prompt_tokens_details and usage.completion_tokens_details
    assert (usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens_details.cache_write_tokens) == (3, 2)
    assert usage.completion_tokens_details.reasoning_tokens == 7
