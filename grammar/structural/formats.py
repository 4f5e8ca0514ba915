"""What a structural tag is made of: text around and between constrained regions.

The formats are xgrammar's, as vLLM and SGLang take them (``{"type": "structural_tag", "format": ...}``); `document.py`
reads them. Each is a plain value; what they mean together is in `machine.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from grammar.constraint import JsonSchema, Lark, Regex


@dataclass(frozen=True)
class ConstString:
    """Exactly ``value``."""

    value: str


@dataclass(frozen=True)
class Json:
    """A JSON value that validates. ``pointer``: where the schema stands in the document, for errors."""

    constraint: JsonSchema
    pointer: str


@dataclass(frozen=True)
class Pattern:
    """Text that matches as a whole."""

    constraint: Regex
    pointer: str


@dataclass(frozen=True)
class Sentence:
    """A sentence of a Lark grammar, whose end its quotes tell."""

    constraint: Lark
    pointer: str


@dataclass(frozen=True)
class Quoted:
    """A JSON string, whose value is ``content``; with an escape only where JSON requires one."""

    content: Pattern | Sentence


@dataclass(frozen=True)
class Joined:
    """All ``elements``, one after another."""

    elements: tuple[Format, ...]


@dataclass(frozen=True)
class Either:
    """One of ``elements``."""

    elements: tuple[Format, ...]


@dataclass(frozen=True)
class Repeated:
    """``content`` from ``least`` to ``most`` times (None: no limit)."""

    content: Format
    least: int
    most: int | None


@dataclass(frozen=True)
class Tag:
    """``begin``, ``content``, and one of ``ends``. Free text in the content stops at the first of them."""

    begin: str
    content: Format
    ends: tuple[str, ...]


@dataclass(frozen=True)
class FreeText:
    """Any text in which none of ``excludes`` is found, and in which every trigger is followed by what it promises.

    ``triggered``: (trigger, what must follow it). After that free text goes on, unless ``stop_after_first``.
    ``at_least_one``: the first trigger stands at the very beginning. Without triggers, just text.
    """

    triggered: tuple[tuple[str, Format], ...] = ()
    excludes: tuple[str, ...] = ()
    at_least_one: bool = False
    stop_after_first: bool = False
    pointer: str = field(default="", compare=False)


@dataclass(frozen=True)
class Separated:
    """Some of ``tags``, ``separator`` between them, nothing else."""

    tags: tuple[Format, ...]
    separator: str
    at_least_one: bool
    stop_after_first: bool


Format = ConstString | Json | Pattern | Quoted | Joined | Either | Repeated | Tag | FreeText | Separated


def has_sentences(format: Format) -> bool:
    """Whether a grammar stands somewhere in it."""
    match format:
        case Quoted(content):
            return isinstance(content, Sentence)
        case Joined(parts) | Either(parts) | Separated(parts):
            return any(map(has_sentences, parts))
        case Repeated(content) | Tag(content=content):
            return has_sentences(content)
        case FreeText(triggered):
            return any(has_sentences(content) for _, content in triggered)
        case _:
            return False
