"""Chat templates: what transformers renders, we render; what a template may not do, it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from engine.model.chat_template import ChatTemplate
from engine.model.errors import ChatTemplateError, ModelFileError
from tests.engine.decoding import embedded_model, needs_model

CHATML = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- generation %}{{ message.content | trim }}{% endgeneration %}
    {{- eos_token + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

TOOLS = """
{%- set ns = namespace(first=true) -%}
{%- if tools -%}
{{ bos_token }}Tools: {{ tools | tojson(indent=2) }} {{ tools | map(attribute='name') | join(', ') }}
{% for tool in tools if tool.name != 'hidden' -%}
  {%- if loop.index > 2 %}{% break %}{% endif %}
  {{ loop.index0 }}: {{ tool.description | default('<none>') | upper }}
{% endfor -%}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.content is string -%}{{ message.content }}
  {%- else -%}{% for part in message.content %}{{ part.text }}{% endfor %}
  {%- endif -%}
  {%- if ns.first %}|{% set ns.first = false %}{% endif -%}
{%- endfor -%}
{{ messages[-1] | tojson }}{{ custom }}
"""

roles = st.sampled_from(["system", "user", "assistant"])
texts = st.text(alphabet="ab <>&'\"{}%\n\té😀", max_size=20)
conversations = st.lists(st.fixed_dictionaries({"role": roles, "content": texts}), min_size=1, max_size=5)
tool = st.fixed_dictionaries({"name": st.sampled_from(["f", "hidden", "g&h"])}, optional={"description": texts})


def by_transformers(template: str, messages: list[dict[str, Any]], generate: bool, **more: Any) -> str:
    rendered: Any = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=generate, bos_token="<s>", eos_token="</s>", **more
    )
    return rendered[0][0]


@settings(max_examples=40, deadline=None)
@given(messages=conversations, generate=st.booleans(), tools=st.none() | st.lists(tool, min_size=1, max_size=4))
@pytest.mark.parametrize("template", [CHATML, TOOLS])
def test_renders_as_transformers_does(
    template: str, messages: list[dict[str, Any]], generate: bool, tools: list[dict[str, Any]] | None
) -> None:
    ours = ChatTemplate(template, {"bos_token": "<s>", "eos_token": "</s>"})
    found = ours.render(messages, add_generation_prompt=generate, tools=tools, variables={"custom": "<&>"})
    assert found == by_transformers(template, messages, generate, tools=tools, custom="<&>")


@pytest.fixture(scope="module")
def embedded() -> ChatTemplate:
    template = embedded_model().chat_template()
    assert template is not None
    return template


@needs_model
@settings(max_examples=40, deadline=None)
@given(messages=conversations, generate=st.booleans())
def test_the_embedded_template_renders_as_transformers_does(
    embedded: ChatTemplate, messages: list[dict[str, Any]], generate: bool
) -> None:
    assert embedded.tokens == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }
    found = embedded.render(messages, add_generation_prompt=generate)
    assert found == by_transformers(embedded.source, messages, generate)


def test_the_time_is_told() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}", {}).render([]).isdigit()


def test_a_template_refuses_in_its_own_words() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(ChatTemplateError, match="refuses these messages: roles must alternate"):
        template.render([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        ("{{ messages[0].content + '!' }}", [{"content": ["parts"]}], "cannot render these messages: TypeError"),
        ("{{ messages[0].content.a.b }}", [{"content": {}}], "has no attribute 'a'"),
        ("{{ messages[3].content }}", [{}], "has no element 3"),
    ],
)
def test_messages_of_another_shape_are_an_error(template: str, messages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        ChatTemplate(template, {}).render(messages)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ range(10 ** 9) | list }}",
        "{{ '%s' | format(cycler.__init__.__globals__) }}",
    ],
)
def test_the_sandbox_holds(attack: str) -> None:
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises(ChatTemplateError):
        ChatTemplate(attack, {}).render(messages)
    assert messages == [{"role": "user", "content": "hi"}]


def test_an_invalid_template_is_named_with_its_line() -> None:
    with pytest.raises(ChatTemplateError, match="invalid at line 2: "):
        ChatTemplate("a\n{% for %}", {})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"tokenizer_config.json": {"bos_token": "<s>"}}, None),
        ({"tokenizer_config.json": {"chat_template": "A{{ bos_token }}", "bos_token": {"content": "<s>"}}}, "A<s>"),
        ({"tokenizer_config.json": {"chat_template": [{"name": "rag", "template": "R"}]}}, None),
        (
            {
                "tokenizer_config.json": {
                    "chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]
                }
            },
            "D",
        ),
        ({"tokenizer_config.json": {"chat_template": "A"}, "chat_template.jinja": "J{{ eos_token }}"}, "J"),
    ],
)
def test_a_folder_keeps_its_template_in_one_of_two_files(
    files: dict[str, Any], expected: str | None, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    template = ChatTemplate.from_folder(str(tmp_path))
    assert (template and template.render([])) == expected


USE = {"name": "tool_use", "template": "T{{ tools }}"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": {"chat_template": [{"name": "default", "template": "D"}, USE]}}, "T[]"),
        ({"chat_template.jinja": "D", "additional_chat_templates/tool_use.jinja": "T{{ tools }}"}, "T[]"),
        ({"chat_template.jinja": "D"}, "D"),
    ],
)
def test_a_model_may_have_another_template_for_tools(files: dict[str, Any], expected: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    template = ChatTemplate.from_folder(str(tmp_path))
    assert template is not None and template.render([]) == "D"
    assert template.with_tools.render([], tools=[]) == expected


def test_a_malformed_tokenizer_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": 7}')
    with pytest.raises(ModelFileError, match=r"tokenizer_config\.json: .*\$\.chat_template"):
        ChatTemplate.from_folder(str(tmp_path))
