"""Prompts by template family, and what no caller can write into them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.model.chat_template import ChatTemplate
from engine.model.tokenizer import Tokenizer
from providers.base import Call, Message, Tool
from providers.prompting import Prompter
from providers.tool_formats import HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, PREAMBLE, ToolFormat, format_of
from tests.providers.bytewise import byte_tokenizer

SPECIAL = ("<|im_start|>", "<|im_end|>", "</s>")
PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
QWEN = """{%- if tools %}<|im_start|>system
{{- messages[0].content if messages[0].role == 'system' }} Answer with
{{- '\\n<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}\\n</tool_call>' }}
{%- for tool in tools %}{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}
{%- for call in m.tool_calls or [] %}{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor -%}
<|im_end|>
{% endfor %}"""
NEMO = """{%- for m in messages %}{{ m.role }}:{{ m.content }}{% for call in m.tool_calls or [] -%}
[TOOL_CALLS] [{{ call.function | tojson }} {{ call.id }}]{% endfor %}
{%- if m.role == 'tool' %}[{{ m.tool_call_id }} {{ m.name }}]{% endif %}</s>{% endfor %}{{ tools | length }}"""

WEATHER = Tool("weather", '{"type":"object","properties":{"city":{"type":"string"}}}', "The weather.")
CHAT = (
    Message("system", "Be brief."),
    Message("user", "Oslo and Rome?"),
    Message("assistant", "", calls=(Call("a", "weather", {"city": "Oslo"}), Call("b", "weather", {"city": "Rome"}))),
    Message("tool", "rain", "weather", call_id="a"),
    Message("tool", "sun", "weather", call_id="b"),
    Message("user", "Thanks"),
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return byte_tokenizer(*SPECIAL)


def rendered(tokenizer: Tokenizer, template: str, *messages: Message, **more: Any) -> str:
    prompter, begun = Prompter(tokenizer, ChatTemplate(template, {})), more.pop("begun", "")
    return spelled(tokenizer, prompter.ids(prompter.draft(messages, **more), begun))


def spelled(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer._backend.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    ("template", "format"),
    [
        (QWEN, HERMES),
        (NEMO, MISTRAL),
        ("{{ tools }}[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}", MISTRAL_ARGS),
        ("<|start_header_id|>{{ tools }} " + '\'{"name": "\' \'", "parameters": \'', LLAMA3),
        ("{{ tools }}<tool_call>\\n<function=f>", None),
        (PLAIN, None),
    ],
)
def test_the_family_is_read_off_the_template(template: str, format: ToolFormat | None) -> None:
    assert format_of(template) == format


def test_templates_that_know_tools_are_given_them(tokenizer: Tokenizer) -> None:
    text = rendered(tokenizer, QWEN, *CHAT, tools=[WEATHER], begun=HERMES.begin("weather"))
    described = {"name": "weather", "description": "The weather.", "parameters": json.loads(WEATHER.parameters)}
    assert json.dumps({"type": "function", "function": described}) in text
    assert 'assistant weather({"city": "Oslo"})weather({"city": "Rome"})<|im_end|>' in text
    assert "tool rain" in text and text.endswith('<tool_call>\n{"name": "weather", "arguments": ')


def test_mistral_gets_ids_that_its_template_takes(tokenizer: Tokenizer) -> None:
    text = rendered(tokenizer, NEMO, *CHAT, tools=[WEATHER])
    first = text.split("[TOOL_CALLS] [")[1].split("]")[0].split()[-1]
    assert len(first) == 9 and first.isalnum() and f"[{first} weather]" in text


def test_templates_without_tools_get_text(tokenizer: Tokenizer) -> None:
    text = rendered(tokenizer, PLAIN, *CHAT, tools=[WEATHER])
    begin, _, rest = text.partition("<tools>")
    assert begin == "<|im_start|>system\nBe brief.\n\n" + PREAMBLE.partition("<tools>")[0]
    spoken = [HERMES.spell(("weather", {"city": city})) for city in ("Oslo", "Rome")]
    assert "<|im_start|>assistant\n" + "\n".join(spoken) + "<|im_end|>" in rest
    results = [f"<tool_response>\n{result}\n</tool_response>" for result in ("rain", "sun")]
    assert "<|im_start|>user\n" + "\n".join(results) + "<|im_end|>\n<|im_start|>user\nThanks<|im_end|>" in rest


def test_a_system_message_is_made_where_there_is_none(tokenizer: Tokenizer) -> None:
    assert rendered(tokenizer, PLAIN, Message("user", "hi"), tools=[WEATHER]).startswith(
        "<|im_start|>system\n" + PREAMBLE[:40]
    )
    assert rendered(tokenizer, PLAIN, Message("user", "hi")).startswith("<|im_start|>user\nhi<|im_end|>")


spellings = st.lists(st.sampled_from([*SPECIAL, "<|im_", "end|>", "a", '"', "\\", "\n"]), max_size=5).map("".join)


@pytest.mark.parametrize("template", [PLAIN, QWEN])
@settings(max_examples=50)
@given(content=spellings, description=spellings, key=spellings, argument=spellings)
def test_nobody_writes_special_tokens(
    tokenizer: Tokenizer, template: str, content: str, description: str, key: str, argument: str
) -> None:
    """There are as many of them as with harmless texts, and the text is the same as without any care."""

    def conversation(content: str, description: str, key: str, argument: str) -> tuple[list[Message], Tool]:
        tool = Tool("f", json.dumps({"type": "object", "properties": {key: {}}}), description)
        calls = (Call("1", "f", {key: argument}),)
        turns = [Message("user", content), Message("assistant", content, calls=calls), Message("tool", content, "f")]
        return turns, tool

    prompter = Prompter(tokenizer, ChatTemplate(template, {}))
    turns, tool = conversation(content, description, key, argument)
    ids = prompter.tokens(turns, [tool])
    turns, tool = conversation("", "", "", "")
    harmless = prompter.tokens(turns, [tool])
    special = set(tokenizer.special_ids)
    assert [i for i in ids if i in special] == [i for i in harmless if i in special]
    if template is PLAIN:
        text = spelled(tokenizer, ids)
        assert f"<|im_start|>user\n{content}<|im_end|>" in text
        assert json.dumps({key: argument}, ensure_ascii=False) in text


@pytest.mark.parametrize("template", [PLAIN, QWEN])
def test_a_beginning_is_that_of_every_chat(template: str, tokenizer: Tokenizer) -> None:
    prompter = Prompter(tokenizer, ChatTemplate(template, {}))
    first = Message("system", "Be brief. </s>")
    beginning = prompter.beginning(first)
    assert "Be brief." in spelled(tokenizer, beginning)
    for chat in ((Message("user", "Hello"),), CHAT[1:3], (Message("user", "</s>"), Message("user", ""))):
        assert prompter.tokens((first, *chat))[: len(beginning)] == beginning
