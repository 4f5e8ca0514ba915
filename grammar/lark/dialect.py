r"""What llguidance writes that Lark does not, rewritten into Lark's own notation (llguidance, docs/syntax.md).

    %json {...}                    a terminal of its own, whose texts are a JSON Schema's values
    %regex {"substring_words": …}  a regular expression: a run of consecutive chunks
    name[lazy]: ...                a terminal that ends as soon as it can
    name[suffix="x"]: ...          the same, with the suffix after it
    name[stop="x"]: ...            the same, where an "x" stands behind each use of the name: it is written once
    name[capture]: ...             nothing: there are no captures
    expr{2,5}, expr{2,}            expr~2..5, (expr~2 expr*)
    a-name                         a name that Lark takes
    <|name|>, <[7]>, <[7-9,12]>    a terminal of its own: a control token by its name, or one of some ids
    <[*]>*, <[^7]>+                text, and control tokens that are not excluded
    @name                          a rule: the `start` of the grammar of that name, imported
    %llguidance {...}              nothing, or `Dialect.skips_first`

What cannot be kept is refused by name: a ``stop`` that takes back text that was written; limits and temperatures of
parts; `<[*]>` by itself, since a grammar does not see where one token of text ends. Lines stay where they were, so that
places in errors are places in the text that was sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from grammar.errors import ConstraintError, UnsupportedConstraint
from grammar.regex.syntax import line_column

_MAX_CHUNKS = 200
"""Chunks of a %regex: its regular expression grows with their square."""

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\\n])*"i?)
      | (?P<regexp>/(?!/)(?:\\/|\\\\|[^/])*?/[imslux]*)
      | (?P<comment>(?://|\#)[^\n]*)
      | (?P<head>^[ \t]*[?!]*(?P<name>[a-z_][a-z0-9_-]*)
          \[(?P<options>(?:"(?:\\.|[^"\\\n])*"|/(?:\\/|[^/\n])*/|[^]"/])*)\]
          (?P<priority>\.-?\d+)?[ \t]*:)
      | (?P<json>%json\b\s*) | (?P<regex>%regex\b\s*) | (?P<options_line>%llguidance\b\s*)
      | (?P<nested>%lark\b) | (?P<special><[^<>\s][^<>\n]*>) | (?P<reference>@[A-Za-z_0-9]+)
      | (?P<repeat>\{\s*\d*\s*,?\s*\d*\s*\}) | (?P<hyphened>[A-Za-z_]\w*(?:-\w+)+)""",
    re.VERBOSE | re.MULTILINE,
)

_OPTION = re.compile(r'\s*([a-z_]+)\s*(?:=\s*("(?:\\.|[^"\\\n])*"|/(?:\\/|[^/\n])*/|[^,\s]+))?\s*(?:,|$)')
_NO_EFFECT = ("capture", "stop_capture")
_REFUSED = {
    "max_tokens": "`max_tokens` of a part is not supported: a grammar reads text, however many tokens spell it; "
    "bound the text, /(.|\\n){0,200}/",
    "temperature": "`temperature` of a part is not supported: it is the request's",
}
_OPTIONS = {"no_forcing": (False,), "allow_invalid_utf8": (False,), "allow_initial_skip": (True, False)}
"""Of `%llguidance`, with the values that hold here or take effect."""

_UNLIMITED = re.compile(r"\s*(\*|\+|\{\s*[01]?\s*,\s*\})")


@dataclass
class Dialect:
    """A grammar in Lark's notation. ``schemas``: for each terminal that stands for JSON the schema's text and its
    place; ``controls``: for each that stands for a control token how it is written, and its place; ``lazy``:
    terminals that end as soon as they can; ``stops``: for each rule with a ``stop`` the terminal that it stops at, and
    its place; ``runs``: regular expressions of `%regex`, whose alternatives are all equal; ``skips_first``: ignored
    text may come before the first token; ``references``: the grammars that are asked for as ``@name``, and where;
    ``texts``: how many were taken in."""

    text: str
    schemas: dict[str, tuple[str, str]] = field(default_factory=dict)
    controls: dict[str, tuple[str, str]] = field(default_factory=dict)
    lazy: set[str] = field(default_factory=set)
    stops: dict[str, tuple[str, str]] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    skips_first: bool = True
    references: dict[str, str] = field(default_factory=dict)
    texts: int = 0

    def take(self, other: Dialect, mangle: Callable[[str], str], within: tuple[str, ...]) -> None:
        """Take in what another text has, under the names that it has here. ``within``: the grammars that it lies in,
        which places begin with; only the outermost one says whether it skips."""

        def at(place: str) -> str:
            return ":".join((*within, place))

        self.schemas |= {mangle(name): (text, at(place)) for name, (text, place) in other.schemas.items()}
        self.controls |= {mangle(name): (text, at(place)) for name, (text, place) in other.controls.items()}
        self.lazy |= set(map(mangle, other.lazy))
        self.stops |= {mangle(rule): (mangle(stop), at(place)) for rule, (stop, place) in other.stops.items()}
        self.runs += other.runs
        self.texts += 1
        if not within:
            self.skips_first = other.skips_first


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
                parts += _repeat(match[0], parts, place)
            case "hyphened":
                parts.append(_plain(match[0], text))
            case "special":
                name = _unused("CONTROL", len(found.controls), text)
                found.controls[name] = (match[0], place)
                if match[0].startswith(("<[*", "<[^")):
                    written, position = _wildcard(name, text, position, place, appended)
                    parts.append(written)
                else:
                    parts.append(f" {name} ")
            case "nested":
                raise UnsupportedConstraint("`%lark` inside a grammar is not supported", place)
            case "reference":
                parts.append(_reference(match[0], place, found, appended, text))
            case _:
                parts.append(match[0])
    parts.append(text[position:])
    appended += [f"%declare {name}" for name in (*found.schemas, *found.controls)]
    found.text = "".join(parts) + "".join(f"\n{line}" for line in appended)
    return found


def _reference(written: str, place: str, found: Dialect, appended: list[str], text: str) -> str:
    """The rule that ``@name`` stands for: where the grammar of that name starts."""
    name = written[1:]
    rule = _unused("at", 0, text) + f"_{name}".lower()
    if name not in found.references:
        found.references[name] = place
        appended.append(f"%import {name}.start -> {rule}")
    return rule


def _json_after(text: str, start: int) -> tuple[object, int]:
    try:
        return json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise ConstraintError(f"not JSON: {error.msg}", line_column(text, error.pos)) from None


def _directive(kind: str, raw: str, value: object, place: str, found: Dialect, text: str) -> str:
    if kind == "options_line":
        _set_options(value, place, found)
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
    rule = _plain(match["name"], text)
    options: dict[str, str | None] = {}
    for option in _OPTION.finditer(match["options"]):
        options[option[1]] = option[2]
    for name in options:
        if name in _REFUSED:
            raise UnsupportedConstraint(_REFUSED[name], place)
        if name not in (*_NO_EFFECT, "lazy", "suffix", "stop"):
            raise UnsupportedConstraint(f"`{name}` is no option of a rule that is known here", place)
    if options.get("stop") == '""':
        del options["stop"]  # The end of the text stops it, too: where nothing follows, it may end there anyway.
    if options.keys() >= {"stop", "suffix"}:
        raise ConstraintError("a rule has a `stop` or a `suffix`, not both", place)
    if not options.keys() & {"lazy", "suffix", "stop"}:
        return f"{rule}{match['priority'] or ''}:"
    number = len(found.lazy)
    lazy = _unused("LAZY", number, text)
    found.lazy.add(lazy)
    appended.append(f"{rule}{match['priority'] or ''}: {lazy}")
    ending = options.get("suffix") or options.get("stop")
    if ending is None:
        return f"{lazy}:"
    body = _unused("BODY", number, text)
    appended.append(f"{lazy}: {body} {ending}")
    if "stop" in options:
        stop = _unused("STOP", number, text)
        appended.append(f"{stop}: {ending}")
        found.stops[rule] = (stop, place)
    return f"{body}:"


def _wildcard(name: str, text: str, position: int, place: str, appended: list[str]) -> tuple[str, int]:
    """What stands for any number of tokens, and where it ends in the text. ``name``: the control tokens among them."""
    repeated = _UNLIMITED.match(text, position)
    if repeated is None:
        reason = "stands for text too, and a grammar does not see where one token of text ends: repeat it, <[*]>*"
        written = text[text.rindex("<", 0, position) : position]
        raise UnsupportedConstraint(f"`{written}` {reason}", place)
    free = _unused("FREE", 0, text)
    if f"{free}: /(?s:.)+/" not in appended:
        appended.append(f"{free}: /(?s:.)+/")
    some = repeated[1][0] == "+" or "1" in repeated[1]
    return (f"({free} | ({free}? {name})+ {free}?)" if some else f"(({free}? {name})* {free}?)"), repeated.end()


def _set_options(value: object, place: str, found: Dialect) -> None:
    if not isinstance(value, dict):
        raise ConstraintError("`%llguidance` takes a JSON object", place)
    options: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType]
    for name, said in options.items():
        if name not in _OPTIONS:
            raise UnsupportedConstraint(f"`{name}` is no option of `%llguidance` that is known here", place)
        if said not in _OPTIONS[name]:
            raise UnsupportedConstraint(f"`%llguidance` with `{name}`: {json.dumps(said)} is not supported", place)
    found.skips_first = options.get("allow_initial_skip", found.skips_first) is True


def _plain(name: str, text: str) -> str:
    """A name without hyphens in place of one with them."""
    plain = name.replace("-", "_")
    while "-" in name and re.search(rf"(?<!\w){plain}(?!\w)", text):
        plain += "_"
    return plain


def _repeat(braces: str, before: list[str], place: str) -> list[str]:
    """What stands for ``{least,most}``; where there is no most, what it repeats is taken from ``before``."""
    least, comma, most = (part.strip() for part in braces[1:-1].partition(","))
    if not comma:
        return [f"~{least}" if least else braces]
    if most:
        return [f"~{least or 0}..{most}"]
    if int(least or 0) < 2:
        return ["+" if int(least or 0) else "*"]
    repeated = _operand(before, place)
    return [f"({repeated}~{least} {repeated}*)"]


def _operand(before: list[str], place: str) -> str:
    """Takes what a repetition repeats off the end of a text in parts: a string, a regular expression, a name or what
    stands in brackets. Strings and regular expressions are parts of their own."""
    taken, depth = "", 0
    while before and (depth or not taken.strip()):
        part = before.pop()
        if part[:1] in ('"', "/"):
            taken = part + taken
            continue
        while part and (depth or not taken.strip()):
            cut = len(part) - 1
            if part[cut].isalnum() or part[cut] == "_":
                cut = re.search(r"\w+\Z", part).start()  # type: ignore[union-attr]
            depth += (part[cut] in ")]}") - (part[cut] in "([{")
            part, taken = part[:cut], part[cut:] + taken
            if depth == 0 and taken[0] == "{":  # the arguments of a template
                taken, part = "".join(re.findall(r"\w+\Z", part)) + taken, re.sub(r"\w+\Z", "", part)
        if part:
            before.append(part)
    if depth or not re.match(r"[\w(\[\"/]", taken.strip()):
        raise ConstraintError("there is nothing that could be repeated", place)
    return taken.strip()


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
