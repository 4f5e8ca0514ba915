"""Constraints that no API enforces: judged by the same automata that the engine masks with, in a process of their
own; and JSON, whose oracle is another validator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from providers.base import ProviderError, Tool, Tools
from providers.custom_tools import PARAMETERS
from providers.remote import recognition
from providers.remote.provider import RemoteProvider
from providers.remote.recognition import Recogniser
from providers.remote.validation import ChoiceCheck, InvalidJson, JsonCheck, decode, validator_of
from schemas.constraint import (
    ChoiceSpec,
    ConstraintSpec,
    JsonObjectSpec,
    JsonSchemaSpec,
    LarkSpec,
    RegexSpec,
    StructuralTagSpec,
)
from tests.grammar.json_schema.schemas import schemas, values
from tests.providers.fault_server import Act, FaultServer
from tests.providers.remote_cases import asking, hear, settings_for

TAG = {
    "type": "tag",
    "begin": "<a>",
    "content": {"type": "json_schema", "json_schema": {"type": "integer"}},
    "end": "</a>",
}
DRAFT = "http://json-schema.org/draft"
LARK = 'start: NAME "=" NUMBER\nNAME: /[a-z]+/\nNUMBER: /[0-9]+/'


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop, and in it one process that judges."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def recogniser(loop: asyncio.Runner) -> Iterator[Recogniser]:
    async def made() -> Recogniser:
        return Recogniser()

    recogniser = loop.run(made())
    yield recogniser
    recogniser.close()


def answered(
    loop: asyncio.Runner,
    recogniser: Recogniser,
    act: Act,
    ask: Callable[[RemoteProvider], Awaitable[Any]],
    **changes: Any,
) -> Any:
    async def run() -> Any:
        async with FaultServer(lambda *_: act).running() as server:
            provider = RemoteProvider(settings_for(server, "chat", **changes), recogniser)
            try:
                return await ask(provider)
            finally:
                await provider.aclose()

    return loop.run(run())


SENTENCES: list[tuple[ConstraintSpec, str, str]] = [
    (RegexSpec("[0-9]{3}-[a-z]+"), "123-abc", "123-"),
    (RegexSpec("é+"), "éé", "e"),
    (LarkSpec(LARK), "abc=12", "abc=x"),
    (StructuralTagSpec(json.dumps({"type": "structural_tag", "format": TAG})), "<a>12</a>", "<a>x</a>"),
    (ChoiceSpec(["yes", "no way"]), "no way", "maybe"),
    (ChoiceSpec(["yes", "no way"]), '{"value": "no way"}', '{"value": 1}'),
    (JsonObjectSpec(), '```json\n{"a": 1}\n```', "[1]"),
    (JsonSchemaSpec('{"type": "integer"}', whitespace="compact"), '{"value": 12}', '{"value": 1.5}'),
]
DELIVERED = {'{"value": "no way"}': "no way", '```json\n{"a": 1}\n```': '{"a": 1}', '{"value": 12}': "12"}


@pytest.mark.parametrize(("constraint", "valid", "invalid"), SENTENCES)
def test_what_is_asked_for_is_what_is_delivered(
    loop: asyncio.Runner, recogniser: Recogniser, constraint: ConstraintSpec, valid: str, invalid: str
) -> None:
    request = asking(constraint=constraint)
    heard = answered(loop, recogniser, Act((valid,)), lambda provider: hear(provider, request))
    assert heard.choices[0].text == DELIVERED.get(valid, valid)
    assert heard.enforcement in ("validated", "provider-strict")
    with pytest.raises(ProviderError) as refused:
        answered(loop, recogniser, Act((invalid,)), lambda provider: hear(provider, request))
    assert (refused.value.kind, refused.value.elsewhere) == ("invalid_answer", True)


def test_who_promises_what(loop: asyncio.Runner, recogniser: Recogniser) -> None:
    whole, weaker = JsonSchemaSpec('{"enum": ["a", 1]}'), JsonSchemaSpec('{"type": "string", "maxLength": 3}')
    cases: list[tuple[str, ConstraintSpec | None, str | None]] = [
        ("openai", None, None),
        ("openai", whole, "provider-strict"),
        ("openai", weaker, "validated"),
        ("anthropic", whole, "validated"),
        ("openai", RegexSpec("a"), "validated"),
        ("sluice", RegexSpec("a"), "provider-strict"),
        ("vllm", RegexSpec("a"), "validated"),
        ("openai", ChoiceSpec(["a"]), "provider-strict"),
        ("openai", JsonObjectSpec(), "validated"),
        ("openai-compatible", whole, "validated"),
        ("text", whole, "validated"),
    ]
    for profile, constraint, expected in cases:
        held = answered(
            loop, recogniser, Act(), lambda p, c=constraint: p.enforcement(asking(constraint=c)), profile=profile
        )
        assert held == expected, (profile, constraint)


REFUSED: list[tuple[ConstraintSpec, str, str]] = [
    (RegexSpec("(a"), "invalid_constraint", "1:"),
    (LarkSpec("start: missing"), "invalid_constraint", ""),
    (
        StructuralTagSpec('{"type": "structural_tag", "format": {"type": "nonsense"}}'),
        "unsupported_constraint",
        "/format",
    ),
    (JsonSchemaSpec('{"type": "strin"}'), "invalid_constraint", "/type"),
    (JsonSchemaSpec('{"a": 1, "a": 2}'), "invalid_constraint", ""),
    (JsonSchemaSpec('{"$ref": "https://example.org/schema.json"}'), "invalid_constraint", ""),
    (JsonSchemaSpec('{"$schema": "https://example.org/dialect"}'), "invalid_constraint", ""),
    (JsonSchemaSpec('{"properties": {"a/b": {"pattern": "("}}}'), "invalid_constraint", "/properties/a~1b/pattern"),
    (ChoiceSpec([]), "invalid_constraint", ""),
]


@pytest.mark.parametrize(("constraint", "kind", "pointer"), REFUSED)
def test_a_constraint_that_is_none_is_refused_with_its_place_before_anything_is_sent(
    loop: asyncio.Runner, recogniser: Recogniser, constraint: ConstraintSpec, kind: str, pointer: str
) -> None:
    with pytest.raises(ProviderError) as refused:
        answered(loop, recogniser, Act(), lambda provider: provider.generate(asking(constraint=constraint)))
    assert refused.value.kind == kind
    assert refused.value.pointer.startswith(pointer)


def test_a_tool_whose_schema_is_none_is_named(loop: asyncio.Runner, recogniser: Recogniser) -> None:
    tools = Tools((Tool("f", '{"type":"object"}'), Tool("g", '{"type":"object","required":3}')), ("f", "g"))
    with pytest.raises(ProviderError) as refused:
        answered(loop, recogniser, Act(), lambda provider: provider.generate(asking(tools=tools)))
    assert (refused.value.tool, refused.value.pointer) == (1, "/required")


def test_custom_tools_get_texts_that_match(loop: asyncio.Runner, recogniser: Recogniser) -> None:
    tool = Tool("run", PARAMETERS, custom=True, grammar=RegexSpec('[a-z"]+'))
    request = asking(tools=Tools((tool,), ("run",)))
    called = Act(("",), (("run", '{"input": "a\\"b"}'),))
    heard = answered(loop, recogniser, called, lambda provider: hear(provider, request))
    assert heard.choices[0].calls == [["run", 'a"b']]
    wrong = Act(("",), (("run", '{"input": "A"}'),))
    with pytest.raises(ProviderError, match="In the arguments of run"):
        answered(loop, recogniser, wrong, lambda provider: hear(provider, request))


def test_what_takes_too_long_is_ended_and_others_go_on(
    loop: asyncio.Runner, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loop.run(recogniser.accepts(RegexSpec("a*"), "aaa"))
    with monkeypatch.context() as patch:
        patch.setattr(recognition, "DEADLINE_S", 0.05)
        with pytest.raises(ProviderError) as slow:
            loop.run(recogniser.accepts(RegexSpec("(a|b)*"), "ab" * 100_000))
        assert slow.value.kind == "constraint_too_large"
    assert loop.run(recogniser.accepts(RegexSpec("a*"), "aaa"))
    with pytest.raises(ProviderError, match="longer than"):
        loop.run(recogniser.accepts(RegexSpec("a*"), "a" * (recognition.MAX_TEXT + 1)))


@given(schemas(), values)
@settings(max_examples=120)
def test_answers_are_judged_as_another_validator_does(schema: Any, value: Any) -> None:
    try:
        validator_of(json.dumps(schema), "assert")
    except ProviderError:
        return  # a reference in a circle
    try:
        expected = Draft202012Validator(schema).is_valid(value)
    except RecursionError:
        return
    judged = asyncio.run(JsonCheck(json.dumps(schema)).judge(json.dumps(value)))
    assert (not judged.errors) == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '[{"a":{"b":1,"b":1}}]',
        "NaN",
        "[Infinity]",
        '"\\ud800"',
        '{"\\udfff":1}',
        "",
        "1 2",
        "[" * 100_000,
    ],
)
def test_text_that_is_no_json_or_json_with_two_meanings(text: str) -> None:
    with pytest.raises(InvalidJson):
        decode(text)


@pytest.mark.parametrize(
    ("schema", "formats", "text", "valid"),
    [
        ('{"format":"date"}', "assert", '"2024-02-30"', False),
        ('{"format":"date"}', "annotate", '"2024-02-30"', True),
        (f'{{"$schema":"{DRAFT}-04/schema#","maximum":3,"exclusiveMaximum":true}}', "assert", "3", False),
        (f'{{"$schema":"{DRAFT}-07/schema#","$ref":"#/definitions/a","definitions":{{"a":{{}}}},"not":{{}}}}',
         "assert", "3", True),
        ('{"type":"integer"}', "assert", "1.0", True),
        ('{"maximum":9007199254740993}', "assert", "9007199254740994", False),
        ('{"pattern":"^(a+)+$"}', "assert", '"' + "a" * 40 + '!"', False),
        ('{"pattern":"^(?=(a+)+$)"}', "assert", '"' + "a" * 60 + '!"', False),
    ],
)  # fmt: skip
def test_dialects_formats_and_numbers(schema: str, formats: str, text: str, valid: bool) -> None:
    judged = asyncio.run(JsonCheck(schema, formats).judge(text))
    assert (not judged.errors) == valid


def test_a_value_that_would_overflow_the_stack_is_no_answer() -> None:
    chain = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}]} for i in range(1000)}
    ring = {"$ref": "#/$defs/a0", "$defs": {**chain, "a1000": {"items": {"$ref": "#/$defs/a0"}}}}
    shallow, deep = ("[" * depth + "]" * depth for depth in (90, 150))
    check = JsonCheck(json.dumps(ring))
    assert not asyncio.run(check.judge(shallow)).errors
    assert asyncio.run(check.judge(deep)).errors == ("the text is nested too deeply to be judged.",)


def test_a_text_that_is_passed_on_is_judged_as_it_is() -> None:
    fenced = '```json\n{"a": 1}\n```'
    assert asyncio.run(JsonCheck("{}").judge(fenced)).text == '{"a": 1}'
    assert asyncio.run(JsonCheck("{}").judge(fenced, plain=True)).errors
    assert asyncio.run(ChoiceCheck(frozenset({"a"}), False).judge(" a\n")).text == "a"
    assert asyncio.run(ChoiceCheck(frozenset({"a"}), False).judge(" a\n", plain=True)).errors


def test_compact_answers_lose_white_space_outside_of_strings_alone() -> None:
    judged = asyncio.run(JsonCheck("{}", compact=True).judge('{ "a b" :\n [1, "x \\" y"] }'))
    assert judged.text == '{"a b":[1,"x \\" y"]}'
