"""Completions through the official client."""

from __future__ import annotations

import openai
import pytest

from tests.gateway.fakes import MODEL, TEXT, VOCAB, FakeProvider


def test_plain_and_streamed(client: openai.OpenAI, provider: FakeProvider) -> None:
    answer = client.completions.create(model=MODEL, prompt="Hello")
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (TEXT, "stop")
    assert answer.id.startswith("cmpl-") and answer.object == "text_completion"
    assert provider.last.prompt == "Hello" and provider.last.max_tokens == 16
    chunks = list(client.completions.create(model=MODEL, prompt="Hello", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_kinds_of_prompt(client: openai.OpenAI, provider: FakeProvider, prompt: object, prompts: list[object]) -> None:
    answer = client.completions.create(model=MODEL, prompt=prompt, n=2)  # type: ignore[arg-type]
    assert [request.prompt for request in provider.requests] == prompts
    assert len({request.id for request in provider.requests}) == len(prompts)
    assert [choice.index for choice in answer.choices] == list(range(2 * len(prompts)))
    assert all(choice.text == TEXT for choice in answer.choices)
    assert answer.usage is not None and answer.usage.prompt_tokens == 7 * len(prompts)
    assert answer.usage.completion_tokens == 2 * len(TEXT) * len(prompts)
    assert not provider.open


def test_streams_of_several_prompts(client: openai.OpenAI) -> None:
    texts = dict.fromkeys(range(6), "")
    stream = client.completions.create(
        model=MODEL, prompt=["a", "b", "c"], n=2, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert set(texts.values()) == {TEXT}
    assert last.usage is not None and last.usage.completion_tokens == 6 * len(TEXT)


@pytest.mark.parametrize(
    "prompt", [["a", 1], [1, [2]], ["a", [1]], [], "", [""], [[]], [VOCAB], [[-1]], [True], None, ["a"] * 65]
)
def test_prompts_that_are_refused(client: openai.OpenAI, provider: FakeProvider, prompt: object) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.completions.create(model=MODEL, prompt=prompt)  # type: ignore[arg-type]
    assert (refusal.value.param or "").startswith("prompt")
    assert not provider.requests


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_count_offsets_over_the_whole_text(client: openai.OpenAI, stream: bool) -> None:
    if stream:
        chunks = list(client.completions.create(model=MODEL, prompt="Hello", logprobs=1, stream=True))
        entries = [chunk.choices[0].logprobs for chunk in chunks]
    else:
        entries = [client.completions.create(model=MODEL, prompt="Hello", logprobs=1).choices[0].logprobs]
    tokens = [token for entry in entries if entry for token in entry.tokens or []]
    offsets = [offset for entry in entries if entry for offset in entry.text_offset or []]
    top = [best for entry in entries if entry for best in entry.top_logprobs or []]
    assert "".join(tokens) == TEXT and offsets == list(range(len(TEXT)))
    assert top == [{token: -0.5} for token in tokens]
