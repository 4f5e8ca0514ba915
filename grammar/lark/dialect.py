r"""What llguidance writes that Lark does not, rewritten into Lark's own notation (llguidance, docs/syntax.md).

    %json {...}                    a terminal of its own, whose texts are a JSON Schema's values
    %regex {"substring_words": …}  a regular expression: a run of consecutive chunks
    name[lazy]: ...                a terminal that ends as soon as it can
    name[suffix="x"]: ...          the same, with the suffix after it
    name[capture]: ...             nothing: there are no captures
    expr{2,5}                      expr~2..5
    <|name|>, <[7]>, <[7-9,12]>    a terminal of its own: a control token by its name, or one of some ids
    %llguidance {}                 nothing

What cannot be kept is refused by name: ``stop``, which takes back text that was written; limits and temperatures of
parts. Lines stay where they were, so that places in errors are places in the text that was sent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from grammar.errors import ConstraintError, UnsupportedConstraint
from grammar.regex.syntax import line_column

_MAX_CHUNKS = 200
"""Chunks of a %regex: its regular expression grows with their square."""

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\\n])*"i?)
      | (?P<regexp>/(?!/)(?:\\/|\\\\|[^/])*?/[imslux]*)
      | (?P<comment>(?://|\#)[^\n]*)
      | (?P<head>^[ \t]*[?!]*(?P<name>[a-z_][a-z0-9_]*)
          \[(?P<options>(?:"(?:\\.|[^"\\\n])*"|/(?:\\/|[^/\n])*/|[^]"/])*)\]
          (?P<priority>\.-?\d+)?[ \t]*:)
      | (?P<json>%json\b\s*) | (?P<regex>%regex\b\s*) | (?P<options_line>%llguidance\b\s*)
      | (?P<nested>%lark\b) | (?P<special><[^<>\s][^<>\n]*>) | (?P<reference>@[A-Za-z_0-9]+)
      | (?P<repeat>\{\s*\d*\s*,?\s*\d*\s*\})""",
    re.VERBOSE | re.MULTILINE,
)

_OPTION = re.compile(r'\s*([a-z_]+)\s*(?:=\s*("(?:\\.|[^"\\\n])*"|/(?:\\/|[^/\n])*/|[^,\s]+))?\s*(?:,|$)')
_NO_EFFECT = ("capture", "stop_capture")
_REFUSED = {
    "stop": "`stop` takes back what was written; ask for a `suffix`, or write `lazy` and the text after it",
    "max_tokens": "`max_tokens` of a part is not supported",
    "temperature": "`temperature` of a part is not supported",
}


@dataclass
class Dialect:
    """A grammar in Lark's notation. ``schemas``: for each terminal that stands for JSON the schema's text and its
    place; ``controls``: for each that stands for a control token how it is written, and its place; ``lazy``:
    terminals that end as soon as they can; ``runs``: regular expressions of `%regex`, whose alternatives are all
    equal."""

    text: str
    schemas: dict[str, tuple[str, str]] = field(default_factory=dict)
    controls: dict[str, tuple[str, str]] = field(default_factory=dict)
    lazy: set[str] = field(default_factory=set)
    runs: list[str] = field(default_factory=list)


def translate(text: str) -> Dialect:
    """ConstraintError or UnsupportedConstraint with ``line:column`` for what has no translation."""
    found = Dialect("")
    parts: list[str] = []
    appended: list[str] = []
    position = 0
    while match := _TOKEN.search(text, position):
        parts.append(text[position : match.start()])
        position = match.end()
        place = line_column(text, match.start(match.lastgroup or 0))
        match match.lastgroup:
            case "json" | "regex" | "options_line":
                value, end = _json_after(text, position)
                parts.append(_directive(match.lastgroup, text[position:end], value, place, found, text))
                parts.append("\\\n" * text.count("\n", match.start(), end))
                position = end
            case "head":
                parts.append(_head(match, place, found, appended, text))
            case "repeat":
                parts.append(_repeat(match[0], place))
            case "special":
                name = _unused("CONTROL", len(found.controls), text)
                found.controls[name] = (match[0], place)
                parts.append(f" {name} ")
            case "nested":
                raise UnsupportedConstraint("`%lark` inside a grammar is not supported", place)
            case "reference":
                raise UnsupportedConstraint(f"`{match[0]}`: there are no other grammars to refer to", place)
            case _:
                parts.append(match[0])
    parts.append(text[position:])
    appended += [f"%declare {name}" for name in (*found.schemas, *found.controls)]
    found.text = "".join(parts) + "".join(f"\n{line}" for line in appended)
    return found


def _json_after(text: str, start: int) -> tuple[object, int]:
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ConstraintError(f"not JSON: {error.msg}", line_column(text, error.pos)) from None


def _directive(kind: str, raw: str, value: object, place: str, found: Dialect, text: str) -> str:
    if kind == "options_line":
        if value:
            raise UnsupportedConstraint("`%llguidance` with options is not supported", place)
        return ""
    if kind == "regex":
        run = _substring(value, place)
        found.runs.append(run)
        return f"/{run}/"
    name = _unused("SCHEMA", len(found.schemas), text)
    found.schemas[name] = (raw, place)
    return name


def _head(match: re.Match[str], place: str, found: Dialect, appended: list[str], text: str) -> str:
    """The head of a rule with options: what it becomes here; the rest is appended."""
    options: dict[str, str | None] = {}
    for option in _OPTION.finditer(match["options"]):
        options[option[1]] = option[2]
    for name in options:
        if name in _REFUSED:
            raise UnsupportedConstraint(_REFUSED[name], place)
        if name not in (*_NO_EFFECT, "lazy", "suffix"):
            raise UnsupportedConstraint(f"`{name}` is no option of a rule that is known here", place)
    if not options.keys() & {"lazy", "suffix"}:
        return f"{match['name']}{match['priority'] or ''}:"
    number = len(found.lazy)
    lazy = _unused("LAZY", number, text)
    found.lazy.add(lazy)
    appended.append(f"{match['name']}{match['priority'] or ''}: {lazy}")
    if options.get("suffix") is None:
        return f"{lazy}:"
    body = _unused("BODY", number, text)
    appended.append(f"{lazy}: {body} {options['suffix']}")
    return f"{body}:"


def _repeat(braces: str, place: str) -> str:
    least, comma, most = (part.strip() for part in braces[1:-1].partition(","))
    if not comma:
        return f"~{least}" if least else braces
    if not most:
        raise UnsupportedConstraint(f"`{braces}` has no upper end; write `~{least or 0}..N`, or `+` and `*`", place)
    return f"~{least or 0}..{most}"


def _substring(value: object, place: str) -> str:
    """The regular expression of a run of consecutive chunks."""
    match value:
        case {"substring_chars": str(text), **rest} if not rest:
            chunks = list(text)
        case {"substring_words": str(text), **rest} if not rest:
            chunks = re.findall(r"\w+|\W", text)
        case {"substring_chunks": [*chunks], **rest} if not rest and all(isinstance(c, str) for c in chunks):
            pass
        case _:
            reason = "`%regex` takes one of substring_chars, substring_words and substring_chunks"
            raise UnsupportedConstraint(reason, place)
    if len(chunks) > _MAX_CHUNKS:
        raise UnsupportedConstraint(f"`%regex` takes at most {_MAX_CHUNKS} chunks, not {len(chunks)}", place)
    if not any(chunks):
        raise ConstraintError("`%regex` without any text", place)
    runs: list[str] = []
    for first in range(len(chunks)):
        run = ""
        for chunk in reversed(chunks[first:]):
            run = f"(?:{_escaped(chunk)}{run})?"
        runs.append(run)
    return "|".join(runs)


def _escaped(chunk: str) -> str:
    return re.escape(chunk).replace("/", r"\/").replace("\n", "n")


def _unused(stem: str, number: int, text: str) -> str:
    name = f"{stem}_{number}"
    while name in text:
        name = f"{stem}_{name}"
    return name
