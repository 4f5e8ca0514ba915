"""A second Sluice as the provider of the first, over HTTP on loopback: nothing is lost between the two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from gateway import logs
from providers.base import (
    Admission,
    CallBegun,
    CallDelta,
    Delta,
    Finished,
    GenerateRequest,
    GenerationEvent,
    Message,
    ProviderError,
    Tool,
    Tools,
    Usage,
)
from providers.remote.provider import RemoteProvider
from providers.remote.recognition import Recogniser
from schemas.config import Settings
from schemas.constraint import ChoiceSpec, ConstraintSpec, JsonSchemaSpec, LarkSpec, RegexSpec
from schemas.engine import Sampling
from schemas.providers import Kind, ProviderSettings, RemoteModel, Retries
from tests.gateway.fakes import MODEL, TEXT, FakeProvider, Script, serving
from tests.providers.remote_cases import Books, Heard, hear

SCHEMA = '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}'
TALK = (Message("system", "Be brief."), Message("user", "Hello?"))


@dataclass
class Second:
    """``fake``: what the server at the other end answers with."""

    url: str
    fake: FakeProvider
    provider: RemoteProvider
    recogniser: Recogniser
    runner: asyncio.Runner

    def ask(self, request: GenerateRequest) -> Heard:
        """Raises `ProviderError`."""
        return self.runner.run(hear(self.provider, request))


@pytest.fixture(scope="module")
def running() -> Iterator[Second]:
    logs.configure("error")
    fake = FakeProvider()
    with serving(fake, Settings()) as url, asyncio.Runner() as runner:
        settings = ProviderSettings(
            name="second",
            kind="openai-compatible",
            profile="sluice",
            base_url=f"{url}/v1",
            models=(RemoteModel(name="ours", upstream=MODEL),),
            hosting="self_hosted",
            retries=Retries(attempts=1, repairs=0),
        )
        recogniser = Recogniser()
        provider = RemoteProvider(settings, recogniser)
        yield Second(url, fake, provider, recogniser, runner)
        runner.run(provider.aclose())
        recogniser.close()


@pytest.fixture
def second(running: Second) -> Second:
    running.fake.reset()
    return running


def saying(text: str, *calls: tuple[str, str]) -> Script:
    async def script(request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        yield Delta(0, text)
        for number, (name, arguments) in enumerate(calls):
            yield CallBegun(0, number, name)
            yield CallDelta(0, number, arguments)
        yield Finished(0, "stop")
        yield Usage(7, 4, 3)

    return script


def test_every_parameter_arrives(second: Second) -> None:
    books = Books()
    sampling = Sampling(0.5, 0.9, 7, 0.05, 11, 0.1, 0.2, 1.1, {3: 1.5}, 2)
    request = GenerateRequest(
        "r",
        "ours",
        TALK,
        sampling,
        stop=("END",),
        stop_token_ids=(5,),
        max_tokens=40,
        n=2,
        ignore_eos=True,
        meter=books,
    )
    heard = second.ask(request)
    assert [choice.text for choice in heard.choices] == [TEXT, TEXT]
    got = second.fake.last
    assert (got.prompt, got.sampling, got.stop, got.stop_token_ids) == (TALK, sampling, ("END",), (5,))
    assert (got.max_tokens, got.n, got.ignore_eos) == (40, 2, True)
    assert books.legs[0].usage == Usage(7, 4, 2 * len(TEXT))


CONSTRAINTS: list[tuple[ConstraintSpec, str]] = [
    (JsonSchemaSpec(SCHEMA), '{"a": 1}'),
    (RegexSpec("[a-z]+"), "abc"),
    (ChoiceSpec(["yes", "no"]), "no"),
    (LarkSpec('start: "a"+'), "aaa"),
]


@pytest.mark.parametrize(("constraint", "valid"), CONSTRAINTS)
def test_every_constraint_arrives_and_is_judged_all_the_same(
    second: Second, constraint: ConstraintSpec, valid: str
) -> None:
    second.fake.admission = Admission(7, "engine", "exact")
    second.fake.script = saying(valid)
    heard = second.ask(GenerateRequest("r", "ours", TALK, constraint=constraint))
    assert second.fake.last.constraint == constraint
    assert (heard.choices[0].text, heard.enforcement) == (valid, "provider-strict")
    second.fake.script = saying("Nonsense!")
    with pytest.raises(ProviderError) as refused:
        second.ask(GenerateRequest("r", "ours", TALK, constraint=constraint))
    assert refused.value.kind == "invalid_answer"


def test_that_an_answer_may_not_be_cut_arrives(second: Second) -> None:
    second.fake.script = saying('{"a": 1}')
    second.fake.admission = Admission(7, "engine", "exact")
    second.ask(GenerateRequest("r", "ours", TALK, constraint=JsonSchemaSpec(SCHEMA), close=True, max_tokens=9))
    assert second.fake.last.close
    second.fake.script = saying("abc")
    second.ask(GenerateRequest("r", "ours", TALK, constraint=RegexSpec("[a-z]+")))
    assert not second.fake.last.close


def test_calls_arrive(second: Second) -> None:
    second.fake.script = saying("", ("f", '{"a": 1}'), ("f", '{"a": 2}'))
    tools = Tools((Tool("f", SCHEMA, "Does it."),), ("f",))
    heard = second.ask(GenerateRequest("r", "ours", TALK, tools=tools))
    assert heard.choices[0].calls == [["f", '{"a": 1}'], ["f", '{"a": 2}']]
    assert second.fake.last.tools is not None and second.fake.last.tools.offered[0].parameters == SCHEMA


def test_its_refusals_are_told(second: Second) -> None:
    second.fake.refusal = ProviderError("context_length", "The prompt is longer than that.")
    with pytest.raises(ProviderError, match="longer than that") as refused:
        second.ask(GenerateRequest("r", "ours", TALK))
    assert refused.value.kind == "context_length"
    second.fake.refusal = ProviderError("overloaded", "The queue is full.", retry_after=3)
    with pytest.raises(ProviderError) as refused:
        second.ask(GenerateRequest("r", "ours", TALK))
    assert (refused.value.kind, refused.value.retry_after) == ("overloaded", 3)


FACES: tuple[Kind, ...] = ("openai", "openai-responses", "anthropic")


@pytest.mark.parametrize("kind", FACES)
def test_its_other_faces_are_understood_too(second: Second, kind: Kind) -> None:
    settings = ProviderSettings(
        name="face",
        kind=kind,
        base_url=f"{second.url}/v1",
        models=(RemoteModel(name="ours", upstream=MODEL, max_output=500),),
        hosting="self_hosted",
        retries=Retries(attempts=1, repairs=0),
    )

    async def ask(request: GenerateRequest) -> Heard:
        provider = RemoteProvider(settings, second.recogniser)
        try:
            return await hear(provider, request)
        finally:
            await provider.aclose()

    plain = second.runner.run(ask(GenerateRequest("r", "ours", TALK)))
    assert (plain.choices[0].text, plain.usage.prompt, plain.usage.completion) == (TEXT, 7, len(TEXT))
    second.fake.script = saying('{"a": 1}')
    second.fake.admission = Admission(7, "engine", "exact")
    held = second.runner.run(ask(GenerateRequest("r", "ours", TALK, constraint=JsonSchemaSpec(SCHEMA))))
    assert held.choices[0].text == '{"a": 1}'
    assert isinstance(second.fake.last.constraint, JsonSchemaSpec)
    second.fake.script = saying("", ("f", '{"a": 1}'))
    tools = Tools((Tool("f", SCHEMA, "Does it."),), ("f",), required=True, parallel=False)
    called = second.runner.run(ask(GenerateRequest("r", "ours", TALK, tools=tools)))
    assert called.choices[0].calls == [["f", '{"a": 1}']]
    assert second.fake.last.tools is not None and second.fake.last.tools.required
    second.fake.refusal = ProviderError("overloaded", "The queue is full.", retry_after=3)
    with pytest.raises(ProviderError) as refused:
        second.runner.run(ask(GenerateRequest("r", "ours", TALK)))
    assert (refused.value.kind, refused.value.retry_after) == ("overloaded", 3)
