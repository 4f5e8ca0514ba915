"""Custom tools: functions whose argument is a text, free or of a grammar (OpenAI's `custom` tools).

To the model such a tool is a function of one string, and it is called as models are trained to call functions:
``{"input": "..."}``. The string ends at its first bare quote, whatever the grammar is, so a call can be read back
without knowing it; and the caller gets the text that the string spells.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from providers.base import Tool
from schemas.constraint import LarkSpec, RegexSpec

PARAMETERS = (
    '{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)
"""The schema of a custom tool's arguments, as the model sees it."""

_QUOTES_BEFORE = 3
"""Two around the key, and the one that begins the value."""


def input_format(grammar: RegexSpec | LarkSpec) -> dict[str, Any]:
    """The arguments of a tool with a grammar, as a format of structural tags."""
    content: dict[str, Any]
    match grammar:
        case RegexSpec(pattern):
            content = {"type": "regex", "pattern": pattern}
        case LarkSpec(text, start, semantics, indenter, imports):
            content = {"type": "lark", "grammar": text, "start": start, "semantics": semantics}
            if indenter is not None:
                content["indenter"] = msgspec.structs.asdict(indenter)
            if imports:
                content["imports"] = dict(imports)
    begin, end = ({"type": "const_string", "value": text} for text in ('{"input": ', "}"))
    return {"type": "sequence", "elements": [begin, {"type": "json_string", "content": content}, end]}


def described(tool: Tool) -> str | None:
    """What the model is told about a tool; of a grammar, all of it."""
    match tool.grammar:
        case None:
            return tool.description
        case RegexSpec(pattern):
            told = f"The input matches this regular expression: {pattern}"
        case LarkSpec(grammar, imports=imports):
            told = f"The input is a sentence of this Lark grammar:\n{grammar}"
            told += "".join(f"\nIt imports `{name}`:\n{text}" for name, text in imports)
    return f"{tool.description}\n{told}" if tool.description else told


class InputReader:
    """The input of one call, as the JSON of its arguments grows."""

    def __init__(self) -> None:
        self._quotes = 0
        self._escape = ""

    def feed(self, arguments: str) -> str:
        """The text that is new; half an escape is held back."""
        out: list[str] = []
        for char in arguments:
            if self._quotes != _QUOTES_BEFORE:
                self._quotes += char == '"'
            elif self._escape or char == "\\":
                self._escape += char
                if self._whole():
                    out.append(json.loads(f'"{self._escape}"'))
                    self._escape = ""
            elif char == '"':
                self._quotes += 1
            else:
                out.append(char)
        return "".join(out)

    def _whole(self) -> bool:
        """An escape has two characters, six with a `u`, and twelve where a second half must follow (RFC 8259, §7)."""
        if not self._escape.startswith("\\u"):
            return len(self._escape) == 2
        surrogate = len(self._escape) >= 6 and "d800" <= self._escape[2:6].lower() <= "dbff"
        return len(self._escape) == (12 if surrogate else 6)
