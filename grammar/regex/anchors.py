r"""Rewriting ``^``, ``$`` and lookarounds in terms of whole texts, so that what remains is an ordinary regular
language.

A node with anchors is the union of four nodes without: what it matches anywhere, what it matches only at the start of
the text, only at its end, and only as the whole of it (`Parts`). Concatenation of two such unions is again one: where
an anchor meets text on its wrong side, that text must be empty. With it,

    full match      free | start | end | both
    search          .*free.* | start.* | .*end | both

and a lookahead's body becomes a statement about all text that remains, a lookbehind's about all text before.
Assertions that touch an end of the text are decided here (a final ``(?=\n)`` cannot hold); what is left of them is
`grammar.regex.conjunction`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from typing import Literal

from grammar.charset import CharSet
from grammar.errors import ConstraintTooLarge
from grammar.regex.syntax import (
    ANY_CHAR,
    ANY_TEXT,
    EMPTY_SET,
    END,
    EPSILON,
    START,
    Ahead,
    Alt,
    Behind,
    Chars,
    End,
    Node,
    Repeat,
    Seq,
    Start,
    alt,
    chars,
    optional,
    plain,
    repeat,
    seq,
)

Mode = Literal["full", "search"]

_MAX_UNROLLED = 64
"""Counted repeats around an anchor are unrolled; there is no use for large ones."""


def whole_text(node: Node, mode: Mode, alphabet: CharSet) -> Node:
    """The texts over ``alphabet`` that match ``node``, as a node whose only assertions are lookarounds of whole texts.

    In the result `Ahead.body` matches all that remains and `Behind.body` all that came before; the latter is plain.
    """
    parts = _split(_bodies(node))
    free, start, end, both = parts.free, parts.start, parts.end, parts.both
    if mode == "search":
        free, end = seq((ANY_TEXT, _and_anything(free))), seq((ANY_TEXT, end))
        matched = alt((free, _at_head(_and_anything(start)), _at_tail(end), _at_head(_at_tail(both))))
    else:
        matched = alt(_at_head(_at_tail(part)) for part in (free, start, end, both))
    return restrict(matched, alphabet)


def restrict(node: Node, alphabet: CharSet) -> Node:
    """``node`` over the characters of ``alphabet`` alone."""
    match node:
        case Chars(members):
            return node if members <= alphabet else chars(members & alphabet)
        case Seq(items):
            return seq([restrict(item, alphabet) for item in items])
        case Alt(options):
            return alt([restrict(option, alphabet) for option in options])
        case Repeat(body, lo, hi, lazy):
            return repeat(restrict(body, alphabet), lo, hi, lazy)
        case Ahead(body, negated) | Behind(body, negated):
            return _assertion(type(node), restrict(body, alphabet), negated)
        case _:
            return node


def _assertion(kind: type[Ahead] | type[Behind], body: Node, negated: bool) -> Node:
    if body is EMPTY_SET:
        return EPSILON if negated else EMPTY_SET
    return kind(body, negated)


@dataclass(frozen=True)
class Parts:
    """A node as a union: what it matches anywhere, at the start of the text, at its end, as the whole text."""

    free: Node = EMPTY_SET
    start: Node = EMPTY_SET
    end: Node = EMPTY_SET
    both: Node = EMPTY_SET

    @property
    def anchored(self) -> bool:
        return self.start is not EMPTY_SET or self.end is not EMPTY_SET or self.both is not EMPTY_SET

    def __or__(self, other: Parts) -> Parts:
        return Parts(
            alt((self.free, other.free)),
            alt((self.start, other.start)),
            alt((self.end, other.end)),
            alt((self.both, other.both)),
        )

    def then(self, other: Parts) -> Parts:
        """Concatenation."""
        if not self.anchored and not other.anchored:
            return Parts(seq((self.free, other.free)))
        a, b = self, other
        # Left of a start anchor, and right of an end anchor, there is only empty text.
        before = _standing(alt((a.free, a.start)))
        after = _standing(alt((b.free, b.end)))
        nothing = seq((_standing(alt((a.end, a.both))), _standing(alt((b.start, b.both)))))
        return Parts(
            free=seq((a.free, b.free)),
            start=alt((seq((a.start, b.free)), seq((before, b.start)))),
            end=alt((seq((a.free, b.end)), seq((a.end, after)))),
            both=alt((seq((a.start, b.end)), seq((before, b.both)), seq((a.both, after)), nothing)),
        )


def _split(node: Node) -> Parts:
    """The parts of a node whose lookarounds are of whole texts already."""
    if plain(node):
        return Parts(node)
    match node:
        case Start():
            return Parts(start=EPSILON)
        case End():
            return Parts(end=EPSILON)
        case Seq(items):
            # A run of plain items is one part, so that long literals cost nothing.
            parts = Parts(EPSILON)
            for is_plain, run in groupby(items, plain):
                for node in [seq(run)] if is_plain else run:
                    parts = parts.then(_split(node))
            return parts
        case Alt(options):
            return reduce(Parts.__or__, map(_split, options), Parts())
        case Repeat(body, lo, hi):
            parts = _split(body)
            if not parts.anchored:
                return Parts(repeat(parts.free, lo, hi))
            return _repeated(parts, lo, hi)
        case _:
            return Parts(node)


def _repeated(parts: Parts, lo: int, hi: int | None) -> Parts:
    """``parts`` lo to hi times.

    Of iterations at one anchor all but one match empty text, so an unlimited repeat needs only one at each end.
    """
    if max(lo, hi or 0) > _MAX_UNROLLED:
        raise ConstraintTooLarge(f"an anchor is repeated more than {_MAX_UNROLLED} times", "1:1")
    if hi is None:
        loop = repeat(parts.free, 0, None)
        tail = Parts(
            free=loop,
            start=seq((parts.start, loop)),
            end=seq((loop, parts.end)),
            both=alt((seq((parts.start, loop, parts.end)), parts.both)),
        )
    else:
        once = Parts(optional(parts.free), parts.start, parts.end, parts.both)
        tail = reduce(Parts.then, [once] * (hi - lo), Parts(EPSILON))
    return reduce(Parts.then, [parts] * lo, Parts(EPSILON)).then(tail)


def _standing(node: Node) -> Node:
    """The part of an unanchored node that consumes nothing: empty, EMPTY_SET, or assertions."""
    match node:
        case Chars():
            return EMPTY_SET
        case Seq(items):
            return seq(map(_standing, items))
        case Alt(options):
            return alt(map(_standing, options))
        case Repeat(body, lo):
            return EPSILON if lo == 0 else _standing(body)
        case _:
            return node


def _bodies(node: Node) -> Node:
    """``node`` with the bodies of its lookarounds turned into statements about all text on their side."""
    match node:
        case Seq(items):
            return seq(map(_bodies, items))
        case Alt(options):
            return alt(map(_bodies, options))
        case Repeat(body, lo, hi):
            return node if plain(body) else repeat(_bodies(body), lo, hi)
        case Ahead(body, negated):
            parts = _split(_bodies(body))
            near = alt((_and_anything(parts.free), _at_tail(parts.end)))
            far = alt((_and_anything(parts.start), _at_tail(parts.both)))
            return _two_sided(Ahead, near, far, START, negated)
        case Behind(body, negated):
            parts = _split(_bodies(body))
            near = alt((seq((ANY_TEXT, parts.free)), _at_head(parts.start)))
            far = alt((seq((ANY_TEXT, parts.end)), _at_head(parts.both)))
            return _two_sided(Behind, near, far, END, negated)
        case _:
            return node


def _two_sided(kind: type[Ahead] | type[Behind], near: Node, far: Node, anchor: Node, negated: bool) -> Node:
    """A lookaround of ``near`` or, where the position is at ``anchor``, of ``far``."""
    if far is EMPTY_SET:
        return _assertion(kind, near, negated)
    if not negated:
        return alt((_assertion(kind, near, False), seq((anchor, _assertion(kind, far, False)))))
    other: type[Ahead] | type[Behind] = Behind if kind is Ahead else Ahead
    elsewhere = other(repeat(ANY_CHAR, 1, None), negated=False)
    return seq((_assertion(kind, near, True), alt((elsewhere, seq((anchor, _assertion(kind, far, True)))))))


def _and_anything(node: Node) -> Node:
    """``node`` followed by any text; a final lookahead says all about that text itself."""
    match node:
        case Alt(options):
            return alt(map(_and_anything, options))
        case Seq((*items, Ahead(body, False))):
            return seq((*items, body))
        case Ahead(body, False):
            return body
        case _:
            return seq((node, ANY_TEXT))


def _at_tail(node: Node) -> Node:
    """``node`` where the text ends after it: lookaheads there are decided."""
    return _at_edge(node, Ahead)


def _at_head(node: Node) -> Node:
    """``node`` where the text begins before it: lookbehinds there are decided."""
    return _at_edge(node, Behind)


def _at_edge(node: Node, kind: type[Ahead] | type[Behind]) -> Node:
    match node:
        case Seq(items):
            kept = list(items)
            order = range(len(kept) - 1, -1, -1) if kind is Ahead else range(len(kept))
            for i in order:
                kept[i] = _at_edge(kept[i], kind)
                if _standing(kept[i]) is not kept[i]:
                    break
            return seq(kept)
        case Alt(options):
            return alt([_at_edge(option, kind) for option in options])
        case Ahead(body, negated) | Behind(body, negated) if isinstance(node, kind):
            # The text on that side is empty.
            empty = _at_edge(_standing(body), kind)
            if empty is not EMPTY_SET and empty is not EPSILON:
                return node
            return EPSILON if (empty is EPSILON) != negated else EMPTY_SET
        case _:
            return node
