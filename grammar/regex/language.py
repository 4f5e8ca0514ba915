"""Which texts are asked for: patterns that must match, patterns that must not, and a length; compiled to a byte DFA.

text_dfa([Pattern("^a", "ecma", "search")], json_spelling(spellable), fuel, min_length=3)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grammar.errors import ConstraintError, UnsatisfiableConstraint
from grammar.regex.anchors import Mode, whole_text
from grammar.regex.conjunction import Conjunction
from grammar.regex.dfa import LazyDfa
from grammar.regex.ecma import parse_ecma
from grammar.regex.python import parse_python
from grammar.regex.syntax import EMPTY_SET, Fuel, Node
from grammar.regex.terms import NIL, TOP, MeasuredAutomaton, PlainAutomaton, Terms
from grammar.regex.window import LengthWindow
from grammar.utf8 import Spelling


@dataclass(frozen=True)
class Pattern:
    """``mode`` "full": the whole text matches, as regex constraints mean it; "search": some part does, as JSON Schema's
    `pattern` means it. ``dialect``: "python" or "ecma"."""

    text: str
    dialect: str = "python"
    mode: Mode = "full"


def parse(pattern: Pattern) -> Node:
    """The syntax tree. Raises ConstraintError or UnsupportedConstraint with ``line:column``."""
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

    Without patterns, all texts. One pattern without lookarounds is compiled lazily; a conjunction (several patterns,
    exclusions, lookarounds) is explored now as far as its parts can contradict each other, so that no state is a dead
    end. Raises ConstraintError: malformed, unsupported, UnsatisfiableConstraint, ConstraintTooLarge.
    """
    terms = Terms(spelling.alphabet, fuel)
    goals = [_state(pattern, terms) for pattern in patterns] or [TOP]
    denied = [_state(pattern, terms) for pattern in excluded]
    denied = [state for state in denied if state is not None]
    if None in goals:
        pattern = patterns[goals.index(None)].text
        raise UnsatisfiableConstraint(f"no text that can be written matches {pattern!r}", "1:1")
    wanted = [goal for goal in goals if goal is not None]
    automaton: MeasuredAutomaton
    if len(wanted) == 1 and not denied and terms.plain(wanted[0]):
        automaton = PlainAutomaton(terms, wanted[0])
    else:
        automaton = Conjunction(terms, wanted, denied, fuel)
    if min_length > 0 or max_length is not None:
        return LazyDfa(LengthWindow(automaton, min_length, max_length, fuel), spelling, fuel)
    return LazyDfa(automaton, spelling, fuel)


def _state(pattern: Pattern, terms: Terms) -> int | None:
    """The state that matches the pattern's texts, or None if there are none."""
    node = whole_text(parse(pattern), pattern.mode, terms.alphabet)
    return None if node is EMPTY_SET else terms.state(node, NIL)
