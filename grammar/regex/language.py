"""Which texts are asked for: patterns that must match, patterns that must not, and a length; compiled to a byte DFA.

text_dfa([Pattern("^a", "ecma", "search")], json_spelling(spellable), fuel, min_length=3)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import takewhile
from operator import and_

from grammar.charset import EMPTY, CharSet
from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint
from grammar.fuel import Fuel
from grammar.regex.anchors import Mode, whole_text
from grammar.regex.conjunction import Conjunction
from grammar.regex.dfa import LazyDfa, MeasuredDfa
from grammar.regex.ecma import parse_ecma
from grammar.regex.python import parse_python
from grammar.regex.syntax import EMPTY_SET, Ahead, Alt, Chars, Node, Repeat, Seq, plain, seq
from grammar.regex.terms import NIL, TOP, MeasuredAutomaton, PlainAutomaton, Terms
from grammar.regex.window import LengthWindow
from grammar.utf8 import Spelling

_LONGEST = 100_000
"""Characters of a pattern. Longer ones take a second to be read."""

_LONG_RUN = 16
"""Repeats of one class up to here are as well counted by states: fewer than most other strings have."""


@dataclass(frozen=True)
class Pattern:
    """``mode`` "full": the whole text matches, as regex constraints mean it; "search": some part does, as JSON Schema's
    `pattern` means it. ``dialect``: "python" or "ecma"."""

    text: str
    dialect: str = "python"
    mode: Mode = "full"


def parse(pattern: Pattern) -> Node:
    """The syntax tree. Raises ConstraintError or UnsupportedConstraint with ``line:column``."""
    if len(pattern.text) > _LONGEST:
        reason = f"the pattern has {len(pattern.text):,} characters: it may have {_LONGEST:,}"
        raise ConstraintTooLarge(reason)
    match pattern.dialect:
        case "python":
            return parse_python(pattern.text)
        case "ecma":
            return parse_ecma(pattern.text)
        case other:
            raise ConstraintError(f"`{other}` is no regex dialect: it is `python` or `ecma`")


def text_dfa(
    patterns: Sequence[Pattern],
    spelling: Spelling,
    fuel: Fuel,
    *,
    excluded: Sequence[Pattern] = (),
    min_length: int = 0,
    max_length: int | None = None,
) -> LazyDfa:
    """The texts that match all ``patterns`` and none of ``excluded`` and have min_length to max_length code points.

    Without patterns, all texts. One pattern without lookarounds is compiled lazily; in a conjunction (several patterns,
    exclusions, lookarounds) a text is searched for, now and from wherever texts go, so that no state is a dead end.
    Raises ConstraintError: malformed, unsupported, UnsatisfiableConstraint, ConstraintTooLarge.
    """
    automaton, window = _automaton(patterns, spelling, fuel, excluded, _Window(min_length, max_length))
    used = _used(patterns, spelling)
    if window.lo > 0 or window.hi is not None:
        return LazyDfa(LengthWindow(automaton, window.lo, window.hi, fuel), spelling, fuel, used)
    return LazyDfa(automaton, spelling, fuel, used)


def measured_dfa(
    patterns: Sequence[Pattern],
    spelling: Spelling,
    fuel: Fuel,
    *,
    excluded: Sequence[Pattern] = (),
    min_length: int = 0,
    max_length: int | None = None,
) -> tuple[MeasuredDfa, int, int | None]:
    """As `text_dfa`, for whoever counts code points himself: the automaton of texts of all lengths, and the bounds
    (min, max; None = no limit) that remain to be kept. Its states may be dead ends of the bounds, which the lengths of
    their completions tell."""
    automaton, window = _automaton(patterns, spelling, fuel, excluded, _Window(min_length, max_length, counted=True))
    return MeasuredDfa(automaton, spelling, fuel, _used(patterns, spelling)), window.lo, window.hi


def is_long_run(pattern: Pattern, spelling: Spelling) -> bool:
    """Whether a pattern is one class repeated, and counts more characters than states should be made for."""
    match _within(pattern, spelling.alphabet):
        case Repeat(Chars(), lo, hi):
            return max(lo, hi or 0) > _LONG_RUN
        case _:
            return False


def _automaton(
    patterns: Sequence[Pattern], spelling: Spelling, fuel: Fuel, excluded: Sequence[Pattern], window: _Window
) -> tuple[MeasuredAutomaton, _Window]:
    """The automaton of texts of all lengths, and what is left of the bounds."""
    alphabet = spelling.alphabet
    conditions = [_conditions(pattern, alphabet) for pattern in patterns]
    for pattern, condition in zip(patterns, conditions, strict=True):
        if EMPTY_SET in condition.wanted:
            raise UnsatisfiableConstraint(f"no text that can be written matches {pattern.text!r}", "1:1")
    conditions += [
        _Conditions((), (node,), _plain(pattern, alphabet))
        for pattern in excluded
        if (node := _within(pattern, alphabet)) is not EMPTY_SET
    ]
    terms = Terms(alphabet, fuel, all_plain=all(condition.plain for condition in conditions))
    wanted = [node for condition in conditions for node in condition.wanted]
    denied = [node for condition in conditions for node in condition.denied]
    if window.counted or len(wanted) + len(denied) > 1:
        wanted = [window.take(node) for node in wanted]
    goals = [terms.state(node, NIL) for node in wanted] or [TOP]
    if len(goals) == 1 and not denied and terms.plain(goals[0]):
        return PlainAutomaton(terms, goals[0]), window
    return Conjunction(terms, goals, [terms.state(node, NIL) for node in denied], fuel), window


def _used(patterns: Sequence[Pattern], spelling: Spelling) -> CharSet:
    """No text that matches all patterns has other characters."""
    return reduce(and_, (_characters(pattern, spelling.alphabet) for pattern in patterns), spelling.alphabet)


@lru_cache(maxsize=512)
def _characters(pattern: Pattern, alphabet: CharSet) -> CharSet:
    """The characters that a pattern can read. What its lookarounds read is read elsewhere, too."""
    found, stack = EMPTY, [_within(pattern, alphabet)]
    while stack:
        match stack.pop():
            case Chars(members):
                found |= members
            case Seq(nodes) | Alt(nodes):
                stack += nodes
            case Repeat(body):
                stack.append(body)
            case _:
                pass
    return found


@lru_cache(maxsize=512)
def _within(pattern: Pattern, alphabet: CharSet) -> Node:
    """The whole texts over ``alphabet`` that a pattern matches. Most patterns come again: formats, and those that
    generated schemas repeat."""
    return whole_text(parse(pattern), pattern.mode, alphabet)


@dataclass(frozen=True)
class _Conditions:
    """A pattern as what must and what must not match. ``plain``: none of it has an assertion."""

    wanted: tuple[Node, ...]
    denied: tuple[Node, ...]
    plain: bool


@lru_cache(maxsize=512)
def _conditions(pattern: Pattern, alphabet: CharSet) -> _Conditions:
    """The conditions of a pattern: lookaheads at its beginning are conditions of their own."""
    node = _within(pattern, alphabet)
    items = node.items if isinstance(node, Seq) else (node,)
    leading = list(takewhile(lambda item: isinstance(item, Ahead), items))
    asserted = [item for item in leading if isinstance(item, Ahead)]
    wanted = (*(item.body for item in asserted if not item.negated), seq(items[len(leading) :]))
    denied = tuple(item.body for item in asserted if item.negated)
    return _Conditions(wanted, denied, all(map(plain, (*wanted, *denied))))


@lru_cache(maxsize=512)
def _plain(pattern: Pattern, alphabet: CharSet) -> bool:
    return plain(_within(pattern, alphabet))


@dataclass
class _Window:
    """Lengths that are left when all conditions are counted in."""

    lo: int
    hi: int | None
    counted: bool = False
    """Whoever asks counts code points himself."""

    def take(self, node: Node) -> Node:
        """``node`` without its length if it is one class repeated, ``.{8,64}``: a length shared by all conditions costs
        nothing, while a conjunction would have to count beside every state of its other parts (but for ``.*`` and
        ``.+``, which count nothing to speak of)."""
        match node:
            case Repeat(Chars(), 0 | 1, None) if not self.counted:
                return node
            case Repeat(Chars() as body, lo, hi):
                self.lo = max(self.lo, lo)
                if hi is not None:
                    self.hi = hi if self.hi is None else min(self.hi, hi)
                return Repeat(body, 0, None)
            case _:
                return node
