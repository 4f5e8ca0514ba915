"""How models spell tool calls in text: one row of a table for each family of chat templates.

A call is ``head NAME middle ARGUMENTS tail``, and everything but the name and the arguments is fixed:

    hermes         <tool_call>⏎{"name": "NAME", "arguments": ARGUMENTS}⏎</tool_call>     Qwen 2.5 and 3, Hermes, SmolLM
    llama3         {"name": "NAME", "parameters": ARGUMENTS}                             Llama 3.1 to 3.3
    mistral        [TOOL_CALLS][{"name": "NAME", "arguments": ARGUMENTS}, ...]           Mistral 7B v0.3 to Small 3.1
    mistral_args   [TOOL_CALLS]NAME[ARGS]ARGUMENTS                                       Mistral Small 3.2 and later

The family is read off the template's source. A template without tools, or with a spelling that is not in the table,
gets `PREAMBLE` as a system message, and its model is asked for the Hermes spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """``trigger``: what calls alone begin with, from which on they are enforced. ``several``: one answer may have more
    than one call; then ``openings`` (any of them) stands before the first, ``separator`` between two, and ``closing``
    after the last."""

    family: str
    trigger: str
    head: str
    middle: str
    tail: str
    several: bool
    openings: tuple[str, ...] = ("",)
    separator: str = "\n"
    closing: str = ""

    def begin(self, name: str) -> str:
        """The text of a call of ``name`` up to its arguments."""
        return f"{self.head}{name}{self.middle}"

    def open(self, name: str) -> str:
        """`begin` of the first call."""
        return self.openings[0] + self.begin(name)

    def spell(self, *calls: tuple[str, Any]) -> str:
        """All calls of an answer: names, and arguments as decoded JSON values."""
        spelled = (f"{self.begin(name)}{json.dumps(given, ensure_ascii=False)}{self.tail}" for name, given in calls)
        return f"{self.openings[0]}{self.separator.join(spelled)}{self.closing}"


HERMES = ToolFormat("hermes", "<tool_call>", '<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>", True)
LLAMA3 = ToolFormat("llama3", '{"name": "', '{"name": "', '", "parameters": ', "}", False)
MISTRAL = ToolFormat(
    "mistral",
    "[TOOL_CALLS]",
    '{"name": "',
    '", "arguments": ',
    "}",
    several=True,
    # Tokenizers of SentencePiece put a space there, and Tekken's does not.
    openings=("[TOOL_CALLS][", "[TOOL_CALLS] ["),
    separator=", ",
    closing="]",
)
MISTRAL_ARGS = ToolFormat("mistral_args", "[TOOL_CALLS]", "[TOOL_CALLS]", "[ARGS]", "", True)

_SIGNS = (
    # Quotes and line ends may stand escaped in the string literals of a template.
    (re.compile(r'<tool_call>(?:\\n|\s)*\{\\*["\']'), HERMES),
    (re.compile(r"\[TOOL_CALLS\].*\[ARGS\]", re.DOTALL), MISTRAL_ARGS),
    (re.compile(r"\[TOOL_CALLS\]"), MISTRAL),
    (re.compile(r"<\|start_header_id\|>.*\\*\"parameters\\*\":", re.DOTALL), LLAMA3),
)


def format_of(template: str) -> ToolFormat | None:
    """The format that a template (Jinja source) teaches its model, None where it teaches none that is known."""
    return next((format for sign, format in _SIGNS if sign.search(template)), None)


PREAMBLE = """\
You can call functions. These are the functions, one JSON object a line:
<tools>
{tools}
</tools>
To call a function, write its name and its arguments as JSON inside of <tool_call></tool_call>:
<tool_call>
{{"name": "the function's name", "arguments": {{"an argument": "its value"}}}}
</tool_call>
The results come back inside of <tool_response></tool_response>."""

RESPONSE = "<tool_response>\n{result}\n</tool_response>"
"""A tool's result in the user's turn, for templates that know no tools."""


def preamble(tools: Sequence[dict[str, Any]]) -> str:
    """`PREAMBLE` about ``tools``, each in the form of the API's ``tools[i]``."""
    return PREAMBLE.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
