r"""Python's `re` dialect, parsed by the standard library's own parser, so that flags, escapes and quirks are exactly
Python's.

Groups describe the same texts as without capture. Refused, because what matches
depends on how an earlier part matched: backreferences, conditionals, atomic groups and possessive quantifiers.
The parser's tree carries no positions; for a refusal `_locate` finds the construct in the source.
"""

from __future__ import annotations

import _sre  # pyright: ignore
import re
import sys
import warnings
from functools import cache
from re import _casefix, _constants, _parser  # pyright: ignore
from typing import Any

from grammar.charset import CharSet
from grammar.errors import ConstraintError, ConstraintTooLarge, UnsupportedConstraint
from grammar.regex.properties import NEWLINE, python_class
from grammar.regex.syntax import (
    ANY_CHAR,
    EMPTY_SET,
    END,
    MAX_DEPTH,
    START,
    Ahead,
    Behind,
    Chars,
    Node,
    alt,
    boundary,
    chars,
    has_lookaround,
    line_column,
    repeat,
    seq,
)

_UNSUPPORTED = {
    "GROUPREF": "a backreference",
    "GROUPREF_EXISTS": "a conditional group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive quantifier",
}

_SOURCE = re.compile(
    r"""(?P<GROUPREF>\\[1-9]|\(\?P=)
      | (?P<GROUPREF_EXISTS>\(\?\((?!\?))
      | (?P<ATOMIC_GROUP>\(\?>)
      | (?P<POSSESSIVE_REPEAT>[*+?}]\+)
      | (?P<ASSERT>\(\?<[=!])
      | (?P<skipped>\\.|\[\^?\]?(?:\\.|[^]\\])*\]|\(\?\#[^)]*\))""",
    re.VERBOSE | re.DOTALL,
)


def parse_python(pattern: str) -> Node:
    """The syntax tree of ``pattern``. ConstraintError or UnsupportedConstraint with ``line:column``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern)
            tree = _parser.parse(pattern)
    except re.error as error:
        place = line_column(pattern, error.pos) if error.pos is not None else _locate(pattern, "ASSERT")
        raise ConstraintError(f"not a regular expression of Python: {error.msg}", place) from None
    except (OverflowError, RecursionError) as error:
        raise ConstraintTooLarge(f"the pattern is too large for Python's parser: {error}", "1:1") from None
    return _Converter(pattern).sequence(tree, tree.state.flags, 0)


def _locate(pattern: str, construct: str) -> str:
    """Line and column of the first ``construct`` in the source."""
    for match in _SOURCE.finditer(pattern):
        if match.lastgroup == construct:
            return line_column(pattern, match.start())
    return "1:1"


class _Converter:
    """Turns the standard library's tree into ours."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def sequence(self, tree: Any, flags: int, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise ConstraintTooLarge(f"groups are nested more than {MAX_DEPTH} deep", "1:1")
        return seq([self.node(str(op), argument, flags, depth + 1) for op, argument in tree])

    def node(self, op: str, argument: Any, flags: int, depth: int) -> Node:
        match op:
            case "LITERAL" | "NOT_LITERAL" | "IN":
                return chars(_class(op, argument, flags))
            case "ANY":
                return ANY_CHAR if flags & re.DOTALL else Chars(~NEWLINE)
            case "BRANCH":
                return alt([self.sequence(branch, flags, depth) for branch in argument[1]])
            case "SUBPATTERN":
                _, added, removed, body = argument
                if added & (re.ASCII | re.UNICODE):
                    flags &= ~(re.ASCII | re.UNICODE)
                return self.sequence(body, (flags | added) & ~removed, depth)
            case "MAX_REPEAT" | "MIN_REPEAT":
                lo, hi, body = argument
                most = None if hi is _constants.MAXREPEAT else hi
                return repeat(self.sequence(body, flags, depth), lo, most, lazy=op == "MIN_REPEAT")
            case "ASSERT" | "ASSERT_NOT":
                direction, tree = argument
                body = self.sequence(tree, flags, depth)
                if direction == 1:
                    return Ahead(body, negated=op == "ASSERT_NOT")
                if has_lookaround(body):
                    place = _locate(self.pattern, "ASSERT")
                    raise UnsupportedConstraint("a lookaround inside a lookbehind is not supported", place)
                return Behind(body, negated=op == "ASSERT_NOT")
            case "AT":
                return _anchor(str(argument), flags)
            case "FAILURE":
                return EMPTY_SET
            case _:
                what = _UNSUPPORTED.get(op, op)
                raise UnsupportedConstraint(f"{what} is not supported", _locate(self.pattern, op))


def _anchor(where: str, flags: int) -> Node:
    newline = Chars(NEWLINE)
    match where:
        case "AT_BEGINNING":
            return alt((START, Behind(newline, negated=False))) if flags & re.MULTILINE else START
        case "AT_BEGINNING_STRING":
            return START
        case "AT_END":
            # Without MULTILINE, `$` also stands before a newline that ends the text.
            last = newline if flags & re.MULTILINE else seq((newline, END))
            return alt((END, Ahead(last, negated=False)))
        case "AT_END_STRING":
            return END
        case _:
            word = python_class(r"\w", bool(flags & re.ASCII))
            edge = boundary(word, negated=where == "AT_NON_BOUNDARY")
            if where == "AT_NON_BOUNDARY" and sys.version_info < (3, 14):
                # Until 3.14, \B did not match in the empty text.
                return seq((alt((Behind(ANY_CHAR, negated=False), Ahead(ANY_CHAR, negated=False))), edge))
            return edge


def _class(op: str, argument: Any, flags: int) -> CharSet:
    items: list[tuple[Any, Any]] = argument if op == "IN" else [(_constants.LITERAL, argument)]
    negated = op == "NOT_LITERAL"
    ranges: list[tuple[int, int]] = []
    categories = CharSet(())
    for kind, value in items:
        match str(kind):
            case "LITERAL":
                ranges.append((value, value))
            case "RANGE":
                ranges.append(value)
            case "NEGATE":
                negated = True
            case _:
                categories |= _category(str(value), flags)
    if flags & re.IGNORECASE:
        members = _ignoring_case(CharSet.from_ranges(ranges), categories, bool(flags & re.ASCII))
    else:
        members = CharSet.from_ranges(ranges) | categories
    return ~members if negated else members


def _category(name: str, flags: int) -> CharSet:
    kind = name.removeprefix("CATEGORY_")
    members = python_class({"D": r"\d", "S": r"\s", "W": r"\w"}[kind.removeprefix("NOT_")[0]], bool(flags & re.ASCII))
    return ~members if kind.startswith("NOT_") else members


@cache
def _cases(ascii_only: bool) -> tuple[dict[int, int], CharSet, CharSet]:
    """Case as `re` sees it: lower case where it differs; the characters that have a different one; the cased ones."""
    lower = _sre.ascii_tolower if ascii_only else _sre.unicode_tolower
    iscased = _sre.ascii_iscased if ascii_only else _sre.unicode_iscased
    # No cased character lies above plane 1 (a test holds Unicode to it).
    scanned = range(128 if ascii_only else 0x20000)
    lowered = {c: lower(c) for c in scanned if lower(c) != c}
    cased = CharSet.from_ranges((c, c) for c in scanned if iscased(c))
    return lowered, CharSet.from_ranges((c, c) for c in lowered), cased


def _ignoring_case(members: CharSet, categories: CharSet, ascii_only: bool) -> CharSet:
    """What a class matches under IGNORECASE: characters whose lower case is that of a member, or what `re` takes for
    the same letter (its table of extra cases). If any member is cased, categories see the lower case too."""
    lower, changing, cased = _cases(ascii_only)
    if not members & cased:
        return members | categories
    targets = members - changing | CharSet.from_ranges((lower[c], lower[c]) for c in (members & changing).code_points())
    if not ascii_only:
        extra = [same for low, others in _casefix._EXTRA_CASES.items() if low in targets for same in others]
        targets |= CharSet.from_ranges((c, c) for c in extra)
    targets |= categories
    return targets - changing | CharSet.from_ranges((c, c) for c in changing.code_points() if lower[c] in targets)
