"""What both dialects parse to: regular expressions over code points, with zero-width assertions.

    Chars(set)            one character of a set; EMPTY_SET of none
    Seq(items)            one after the other; EPSILON is the empty sequence
    Alt(options)          any of them
    Repeat(body, lo, hi)  lo to hi times, hi None = no limit; ``lazy``: few rather than many
    START, END            the position is the first, the last of the text
    Ahead(body, negated)  some (no) text from here on matches body
    Behind(body, negated) some (no) text up to here matches body

Everything else is written in these; ``\\b`` and multi-line anchors are lookarounds of one character. Laziness and the
order of options do not change which texts match as a whole, only how much of a longer text a match prefers to take:
lexers ask (`grammar.lark.lexemes`), nobody else does. Nodes compare by identity. The functions `seq`, `alt`, `repeat`
simplify: an empty set never stays below another node, so a node without assertions is *productive*: it matches
something unless it is EMPTY_SET itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from grammar.charset import ANY, EMPTY, CharSet

MAX_DEPTH = 64
"""Nesting of groups in a pattern. The passes over the tree recurse."""


@dataclass(frozen=True, eq=False)
class Chars:
    set: CharSet


@dataclass(frozen=True, eq=False)
class Seq:
    items: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Alt:
    options: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Repeat:
    body: Node
    lo: int
    hi: int | None
    lazy: bool = False


@dataclass(frozen=True, eq=False)
class Start:
    pass


@dataclass(frozen=True, eq=False)
class End:
    pass


@dataclass(frozen=True, eq=False)
class Ahead:
    body: Node
    negated: bool


@dataclass(frozen=True, eq=False)
class Behind:
    body: Node
    negated: bool


Node = Chars | Seq | Alt | Repeat | Start | End | Ahead | Behind

EMPTY_SET = Chars(EMPTY)
EPSILON = Seq(())
START, END = Start(), End()


def chars(members: CharSet) -> Node:
    return Chars(members) if members else EMPTY_SET


def literal(text: str) -> Node:
    return seq(Chars(CharSet.of(c)) for c in text)


def seq(items: Iterable[Node]) -> Node:
    flat: list[Node] = []
    for item in items:
        if item is EMPTY_SET:
            return EMPTY_SET
        if isinstance(item, Seq):
            flat += item.items
        else:
            flat.append(item)
    if len(flat) == 1:
        return flat[0]
    return Seq(tuple(flat)) if flat else EPSILON


def alt(options: Iterable[Node]) -> Node:
    flat: list[Node] = []
    for option in options:
        for node in option.options if isinstance(option, Alt) else (option,):
            if isinstance(node, Chars) and flat and isinstance(flat[-1], Chars):
                flat[-1] = Chars(flat[-1].set | node.set)
            elif node is not EMPTY_SET:
                flat.append(node)
    if len(flat) == 1:
        return flat[0]
    return Alt(tuple(flat)) if flat else EMPTY_SET


def optional(node: Node) -> Node:
    return repeat(node, 0, 1)


def repeat(body: Node, lo: int, hi: int | None, lazy: bool = False) -> Node:
    """``body`` lo to hi times.

    A plain body is made to consume, (ab?c?|){2,9} is (ab?c?){0,9}, so that no repeat spins in place.
    """
    if body is EMPTY_SET:
        return EPSILON if lo == 0 else EMPTY_SET
    if hi == 0 or body is EPSILON:
        return EPSILON
    if plain(body) and nullable(body):
        body, lo = _consuming(body), 0
        if body is EMPTY_SET:
            return EPSILON
    if lo == 1 and hi == 1:
        return body
    if isinstance(body, Repeat) and body.lazy == lazy and (body.lo <= 1 or lo == hi):
        # No number is left out between those that the repeats of repeats add up to.
        most = None if hi is None or body.hi is None else body.hi * hi
        return repeat(body.body, body.lo * lo, most, lazy)
    return Repeat(body, lo, hi, lazy)


def plain(node: Node) -> bool:
    """Whether the node has no assertion."""
    match node:
        case Chars():
            return True
        case Seq(items):
            return all(map(plain, items))
        case Alt(options):
            return all(map(plain, options))
        case Repeat(body):
            return plain(body)
        case _:
            return False


def has_lookaround(node: Node) -> bool:
    match node:
        case Seq(parts) | Alt(parts):
            return any(map(has_lookaround, parts))
        case Repeat(body):
            return has_lookaround(body)
        case _:
            return isinstance(node, Ahead | Behind)


def nullable(node: Node) -> bool:
    """Whether a plain node matches the empty text."""
    match node:
        case Seq(items):
            return all(map(nullable, items))
        case Alt(options):
            return any(map(nullable, options))
        case Repeat(body, lo):
            return lo == 0 or nullable(body)
        case _:
            return False


def _consuming(node: Node) -> Node:
    """The plain node without the empty text."""
    match node:
        case Seq(items):
            # The first item that consumes anything is item i; those before it are skipped, those after it are free.
            options: list[Node] = []
            for i, item in enumerate(items):
                options.append(seq((_consuming(item), *items[i + 1 :])))
                if not nullable(item):
                    break
            return alt(options)
        case Alt(choices):
            return alt(map(_consuming, choices))
        case Repeat(body, lo, hi, lazy):
            return repeat(body, max(lo, 1), hi, lazy)
        case _:
            return node


ANY_CHAR = Chars(ANY)
ANY_TEXT = Repeat(ANY_CHAR, 0, None)


def line_column(pattern: str, offset: int) -> str:
    """The place of a character of a pattern as ``line:column``, both from 1."""
    before = pattern[:offset]
    return f"{before.count(chr(10)) + 1}:{offset - before.rfind(chr(10))}"


def boundary(word: CharSet, negated: bool) -> Node:
    r"""``\b`` or ``\B``: exactly one side, or both or neither, is a character of ``word``."""
    inside = Chars(word)
    return alt(
        seq((Behind(inside, negated=not left), Ahead(inside, negated=not right)))
        for left in (True, False)
        for right in (True, False)
        if (left == right) == negated
    )
