"""Chat templates: Jinja programs that models carry to turn messages into a prompt.

Templates come with downloaded models, so they are foreign code: they run in Jinja's immutable sandbox and see plain
data only. What they may use is what transformers offers them (`apply_chat_template`): trimmed blocks, loop controls,
`raise_exception`, `strftime_now`, a `tojson` that does not escape for HTML, and the `generation` tag, which marks
training targets and prints its body here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import msgspec
from jinja2 import meta
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.model.errors import ChatTemplateError, ModelFileError
from engine.model.gguf import GgufFile

_TOOL_USE = "tool_use"
"""What transformers calls a template that is for requests with tools alone."""

_GGUF_TOKENS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}


class ChatTemplate:
    """A compiled template. Stateless: may be rendered from several threads at once."""

    def __init__(self, source: str, tokens: Mapping[str, str], tool_use: str | None = None) -> None:
        """``tokens``: variables that spell special tokens, such as {"bos_token": "<s>"}. ``tool_use``: another
        template, for requests with tools, where a model has one. ChatTemplateError: not valid Jinja.
        """
        self.source = source
        self.with_tools = self if tool_use is None else ChatTemplate(tool_use, tokens)
        self.tokens = dict(tokens)
        try:
            self._template = _ENVIRONMENT.from_string(source)
            self.variables = frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))
            """Names that the template takes from its context, such as "tools" where it knows tools."""
        except jinja2.TemplateSyntaxError as error:
            raise ChatTemplateError(f"the chat template is invalid at line {error.lineno}: {error.message}") from error

    @classmethod
    def from_gguf(cls, file: GgufFile) -> ChatTemplate | None:
        """The file's template, or None where it has none."""
        source = file.metadata.get("tokenizer.chat_template")
        if source is None:
            return None
        spelling = file.metadata.get("tokenizer.ggml.tokens", [])
        ids = {name: file.metadata[key] for name, key in _GGUF_TOKENS.items() if key in file.metadata}
        tokens = {name: spelling[i] for name, i in ids.items() if i < len(spelling)}
        return cls(source, tokens, file.metadata.get(f"tokenizer.chat_template.{_TOOL_USE}"))

    @classmethod
    def from_folder(cls, folder: str) -> ChatTemplate | None:
        """The template of `chat_template.jinja` or `tokenizer_config.json`, with the one for tools where there is one
        beside it; None where there is none."""
        path = os.path.join(folder, "tokenizer_config.json")
        config = _TokenizerConfig()
        if os.path.exists(path):
            with open(path, "rb") as file:
                try:
                    config = msgspec.json.decode(file.read(), type=_TokenizerConfig)
                except msgspec.DecodeError as error:
                    raise ModelFileError(f"{path}: {error}") from error
        named = config.named()
        for name, path in (
            ("default", os.path.join(folder, "chat_template.jinja")),
            (_TOOL_USE, os.path.join(folder, "additional_chat_templates", f"{_TOOL_USE}.jinja")),
        ):
            if os.path.exists(path):
                with open(path, encoding="utf-8") as file:
                    named[name] = file.read()
        source = named.get("default")
        return None if source is None else cls(source, config.tokens(), named.get(_TOOL_USE))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for ``messages`` (plain JSON values), which holds special tokens as text.

        ``variables`` go to the template as they are (`chat_template_kwargs`). ChatTemplateError: the template refuses
        these messages (its own words are in the error) or breaks on them.
        """
        context = {
            **self.tokens,
            **(variables or {}),
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return self._template.render(context)
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the chat template refuses these messages: {error.message}") from error
        except Exception as error:
            # A template is foreign code: any operation in it can fail on messages of a shape it did not expect.
            raise ChatTemplateError(
                f"the chat template cannot render these messages: {type(error).__name__}: {error}"
            ) from error


class _NamedTemplate(msgspec.Struct):
    name: str
    template: str


class _SpecialToken(msgspec.Struct):
    """A token that carries its matching flags; only the spelling matters here."""

    content: str


class _TokenizerConfig(msgspec.Struct):
    """What `tokenizer_config.json` says about templates."""

    chat_template: str | list[_NamedTemplate] | None = None
    bos_token: str | _SpecialToken | None = None
    eos_token: str | _SpecialToken | None = None
    unk_token: str | _SpecialToken | None = None
    pad_token: str | _SpecialToken | None = None

    def named(self) -> dict[str, str]:
        """The templates by their names."""
        match self.chat_template:
            case None:
                return {}
            case str(source):
                return {"default": source}
            case several:
                return {one.name: one.template for one in several}

    def tokens(self) -> dict[str, str]:
        found = {name: getattr(self, name) for name in _GGUF_TOKENS}
        return {name: t if isinstance(t, str) else t.content for name, t in found.items() if t is not None}


class _GenerationTag(Extension):
    """``{% generation %}…{% endgeneration %}`` prints its body."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it as an instance variable)

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


_ENVIRONMENT = _environment()
