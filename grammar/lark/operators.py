r"""``A & B`` and ``~A`` in the definition of a terminal, as llguidance has them: what both match, what one does not.

Lark composes terminals out of other terminals, strings and patterns, and knows no such operators. So its loader gets
*marks* in their place, strings of one character each that no text has, and what it has composed is read with them:

    A: WORD & ~"if" | "0"   ──▶   A: ("⟦" WORD~1 "∧" ("¬" "if" "⟧") "⟧") | "0"   ──▶   (?:⟦(?:\w+){1}∧¬if⟧⟧|0)

`&` binds tighter than `|` and looser than one thing after another; `~` binds tighter than `+`, `*` and `?`. Each mark
is a character of its own (of a plane for private use), since Python's parser takes a common beginning out of options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from grammar.charset import CharSet
from grammar.errors import ConstraintError, UnsupportedConstraint
from grammar.fuel import Fuel
from grammar.regex.derivatives import Automaton, Derivatives, Term
from grammar.regex.python import parse_python
from grammar.regex.syntax import MAX_DEPTH, Alt, Chars, Node, Repeat, Seq, line_column

_TOKEN = re.compile(
    r"""(?P<head>^[ \t]*(?:%(?:override|extend)[ \t]+)?[?!]*(?P<name>\w+)(?:\{[^{}\n]*\})?(?:\.-?\d+)?[ \t]*:)
      | (?P<directive>^[ \t]*%\w+)
      | (?P<atom>"(?:\\.|[^"\\\n])*"i?(?:\s*\.\.\s*"(?:\\.|[^"\\\n])*")?
          | /(?!/)(?:\\/|\\\\|[^/])*?/[imslux]* | \w+)
      | (?P<comment>(?://|\#)[^\n]*)
      | (?P<count>[+*?]|~\s*[+-]?\d+(?:\s*\.\.\s*[+-]?\d+)?)
      | (?P<operator>[&~]) | (?P<bar>\|) | (?P<open>[(\[]) | (?P<close>[)\]])""",
    re.VERBOSE | re.MULTILINE,
)

_PLANE = 0xF0000
_MARKS = 0xFFFD
"""Marks of one grammar, at most."""
_KINDS = 4
_BOTH, _AND, _NOT, _CLOSE = range(_KINDS)
_WRITTEN = re.compile(r"[\U000F0000-\U000FFFFF]|\\U000[fF]")


class _Piece(NamedTuple):
    kind: str
    text: str
    place: int


@dataclass
class Marks:
    """How many have been made, of all texts of a grammar."""

    count: int = 0


def mark(text: str, marks: Marks) -> str:
    """A grammar with marks for its operators, everything in the line where it was. ConstraintError or
    UnsupportedConstraint with ``line:column``."""
    pieces = list(_pieces(text))
    if not any(piece.kind == "operator" for piece in pieces):
        return text
    if found := _WRITTEN.search(text):
        reason = "a character of plane 15 cannot stand in a grammar with `&` or `~`"
        raise UnsupportedConstraint(reason, line_column(text, found.start()))
    return _Marking(text, pieces, marks).text()


def _pieces(text: str) -> Iterator[_Piece]:
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() > end:
            yield _Piece("space", text[end : match.start()], end)
        kind = match.lastgroup if match["name"] is None else "terminal" if match["name"].isupper() else "rule"
        yield _Piece(kind or "", match[0], match.start())
        end = match.end()
    yield _Piece("space", text[end:], end)


class _Marking:
    """Reads the definitions of terminals by recursive descent, and writes them down again with marks."""

    def __init__(self, text: str, pieces: list[_Piece], marks: Marks) -> None:
        self._text = text
        self._pieces = pieces
        self._at = 0
        self._depth = 0
        self._marks = marks

    def text(self) -> str:
        written: list[str] = []
        marked = False
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            if piece.kind == "operator":
                reason = f"`{piece.text}` has no meaning here; it joins terminals, in the definition of a terminal"
                raise UnsupportedConstraint(reason, line_column(self._text, piece.place))
            written.append(piece.text)
            self._at += 1
            if piece.kind == "terminal":
                marked = self._has_operators()
            if marked and piece.kind in ("terminal", "bar"):
                written.append(self._options())
        return "".join(written)

    def _has_operators(self) -> bool:
        """Whether the definition that begins here has any."""
        for piece in self._pieces[self._at :]:
            if piece.kind in ("terminal", "rule", "directive"):
                return False
            if piece.kind == "operator":
                return True
        return False

    def _options(self) -> str:
        """Options, as far as they go."""
        written = self._conjunction()
        while self._kind() == "bar":
            written += self._take() + self._conjunction()
        return written

    def _conjunction(self) -> str:
        operands = [self._sequence()]
        while self._kind() == "operator" and self._pieces[self._at].text == "&":
            place = self._pieces[self._at].place
            self._take()
            operands.append(self._sequence())
            if not (operands[-1].strip() and operands[-2].strip()):
                raise ConstraintError("`&` stands between two terminals", line_column(self._text, place))
        if len(operands) == 1:
            return operands[0]
        last = operands[-1].rstrip()
        space = operands[-1][len(last) :]
        joined = f" {self._mark(_AND)} ".join([*operands[:-1], last])
        return f" ({self._mark(_BOTH)} {joined} {self._mark(_CLOSE)}){space}"

    def _sequence(self) -> str:
        written = ""
        while (kind := self._kind()) not in ("", "bar", "close", "terminal", "rule", "directive"):
            if kind in ("space", "comment", "count"):
                written += self._take()
            elif kind == "operator" and self._pieces[self._at].text == "&":
                break
            else:
                written += self._operand()
        return written

    def _operand(self) -> str:
        """A string, a pattern, a name or a group, with `~` before it or without."""
        if self._kind() != "operator":
            # Once: Lark would not keep the options of a pattern together.
            once = "~1" if self._kind() == "atom" and self._next_kind() != "count" else ""
            return self._atom() + once
        place = self._pieces[self._at].place
        self._take()
        while self._kind() == "space":
            self._take()
        if self._kind() not in ("atom", "open"):
            raise ConstraintError("there is nothing behind `~` that it could negate", line_column(self._text, place))
        return f"({self._mark(_NOT)} {self._atom()}~1 {self._mark(_CLOSE)})"

    def _atom(self) -> str:
        if self._kind() == "atom":
            return self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            place = line_column(self._text, self._pieces[self._at].place)
            raise ConstraintError(f"groups are nested deeper than {MAX_DEPTH}", place)
        written = self._take() + self._options()
        self._depth -= 1
        return written + self._take() if self._kind() == "close" else written

    def _kind(self) -> str:
        return self._pieces[self._at].kind if self._at < len(self._pieces) else ""

    def _next_kind(self) -> str:
        """Behind the piece that is next, spaces aside."""
        rest = self._pieces[self._at + 1 : self._at + 3]
        return next((piece.kind for piece in rest if piece.kind != "space" or piece.text.strip(" \t")), "")

    def _take(self) -> str:
        self._at += 1
        return self._pieces[self._at - 1].text

    def _mark(self, kind: int) -> str:
        number = self._marks.count * _KINDS + kind
        if number >= _MARKS:
            raise UnsupportedConstraint(f"more than {_MARKS // _KINDS} operators", "1:1")
        self._marks.count += 1
        return f'"{chr(_PLANE + number)}"'


def marked(pattern: str) -> bool:
    """Whether a terminal's pattern has marks."""
    return _WRITTEN.search(pattern) is not None


def combined(pattern: str, alphabet: CharSet, fuel: Fuel) -> Automaton:
    """What a pattern with marks matches, of the texts over ``alphabet``. UnsupportedConstraint for a pattern with an
    assertion; UnsatisfiableConstraint when nothing matches."""
    terms = Derivatives(alphabet, fuel)
    return terms.automaton(_read(parse_python(pattern), terms))


def _read(node: Node, terms: Derivatives) -> Term:
    match node:
        case Chars(members):
            return terms.chars(members)
        case Seq(items):
            return _read_sequence(items, terms)
        case Alt(options):
            return terms.alt([_read(option, terms) for option in options])
        case Repeat(body, lo, hi):
            return terms.repeat(_read(body, terms), lo, hi)
        case _:
            raise UnsupportedConstraint("an assertion cannot stand in a terminal with `&` or `~`")


def _read_sequence(items: tuple[Node, ...], terms: Derivatives) -> Term:
    """One thing after another, in which marks open and close others."""
    open_marks: list[int] = []
    parts: list[list[list[Term]]] = [[[]]]
    for item in items:
        kind = _kind_of(item)
        if kind is None:
            parts[-1][-1].append(_read(item, terms))
        elif kind == _AND:
            parts[-1].append([])
        elif kind != _CLOSE:
            open_marks.append(kind)
            parts.append([[]])
        else:
            operands = [terms.seq(operand) for operand in parts.pop()]
            closed = terms.both(operands) if open_marks.pop() == _BOTH else terms.negation(operands[0])
            parts[-1][-1].append(closed)
    return terms.seq(parts[0][0])


def _kind_of(node: Node) -> int | None:
    """The kind of mark that a node is, None for one that is none."""
    if isinstance(node, Chars) and len(node.set) == 1 and _PLANE <= node.set.bounds[0] <= _PLANE + _MARKS:
        return (node.set.bounds[0] - _PLANE) % _KINDS
    return None
