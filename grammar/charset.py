"""Immutable sets of Unicode code points.

A set is an inversion list: ``bounds = (b0, e0, b1, e1, ...)``, strictly ascending, stands for the union of the
half-open ranges ``[b0, e0), [b1, e1), ...``. Boolean operations are one merge of two lists. The universe is 0..10FFFF
without the surrogates D800..DFFF: those are no characters, and no UTF-8 text contains them.

Case folding is Unicode's *simple* one (CaseFolding.txt, status C and S): a code point folds to one code point.
Properties (categories, scripts) are in `grammar.regex.properties`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import islice

MAX_CODE_POINT = 0x10FFFF
_SURROGATES = (0xD800, 0xE000)


class CharSet:
    """A set of code points; hashable, ordered operations return new sets."""

    __slots__ = ("_hash", "bounds")

    def __init__(self, bounds: tuple[int, ...]) -> None:
        """``bounds`` must be a valid inversion list inside the universe; `from_ranges` makes one from anything."""
        self.bounds = bounds
        self._hash = hash(bounds)

    @staticmethod
    def from_ranges(ranges: Iterable[tuple[int, int]]) -> CharSet:
        """The union of inclusive ranges in any order; surrogates are left out."""
        bounds: list[int] = []
        for lo, hi in sorted(ranges):
            if bounds and lo <= bounds[-1]:
                bounds[-1] = max(bounds[-1], hi + 1)
            elif lo <= hi:
                bounds += (lo, hi + 1)
        return CharSet(tuple(bounds)) & ANY

    @staticmethod
    def of(text: Iterable[str]) -> CharSet:
        """The characters of ``text``."""
        if isinstance(text, str) and len(text) == 1:
            return _single(ord(text))
        return CharSet.from_ranges((ord(c), ord(c)) for c in text)

    def __or__(self, other: CharSet) -> CharSet:
        return _merge(self, other, 1)

    def __and__(self, other: CharSet) -> CharSet:
        a, b = self.bounds, other.bounds
        if not a or not b or a[-1] <= b[0] or b[-1] <= a[0]:
            return EMPTY
        return _merge(self, other, 2)

    def __sub__(self, other: CharSet) -> CharSet:
        return self & ~other

    def __invert__(self) -> CharSet:
        bounds = (0, *_SURROGATES, MAX_CODE_POINT + 1)
        return CharSet(_odd(sorted(bounds + self.bounds)))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, CharSet) and self.bounds == other.bounds)

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return bool(self.bounds)

    def __contains__(self, code_point: int) -> bool:
        return bool(bisect_right(self.bounds, code_point) & 1)

    def __len__(self) -> int:
        return sum(self.bounds[1::2]) - sum(self.bounds[::2])

    def __le__(self, other: CharSet) -> bool:
        return (self & other) == self

    def __repr__(self) -> str:
        shown = [f"{lo:X}..{hi:X}" if lo < hi else f"{lo:X}" for lo, hi in islice(self.ranges(), 8)]
        return f"CharSet({' '.join(shown)}{' ...' if len(self.bounds) > 16 else ''})"

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Inclusive ranges, ascending and apart."""
        for i in range(0, len(self.bounds), 2):
            yield self.bounds[i], self.bounds[i + 1] - 1

    def code_points(self) -> Iterator[int]:
        for lo, hi in self.ranges():
            yield from range(lo, hi + 1)

    def case_closure(self) -> CharSet:
        """All code points that fold to what a member folds to: what the members match when case is ignored."""
        fold, unfold, cased = _folding()
        targets = {fold.get(c, c) for c in (self & cased).code_points()}
        return self | CharSet.from_ranges((c, c) for t in targets for c in (t, *unfold[t]))


@lru_cache(maxsize=512)
def _single(code_point: int) -> CharSet:
    return CharSet.from_ranges([(code_point, code_point)])


def _odd(points: list[int]) -> tuple[int, ...]:
    """The ascending points that occur an odd number of times."""
    kept: list[int] = []
    for point in points:
        if kept and kept[-1] == point:
            kept.pop()
        else:
            kept.append(point)
    return tuple(kept)


@lru_cache(maxsize=4096)
def _merge(one: CharSet, two: CharSet, needed: int) -> CharSet:
    """The code points that at least ``needed`` of the two sets contain."""
    a, b = one.bounds, two.bounds
    if a == b:
        return one
    out: list[int] = []
    i = j = 0
    # At any point i is odd inside a range of a, j is odd inside a range of b.
    while i < len(a) or j < len(b):
        point = a[i] if j == len(b) or (i < len(a) and a[i] <= b[j]) else b[j]
        was = (i & 1) + (j & 1) >= needed
        if i < len(a) and a[i] == point:
            i += 1
        if j < len(b) and b[j] == point:
            j += 1
        if ((i & 1) + (j & 1) >= needed) != was:
            out.append(point)
    return CharSet(tuple(out))


@lru_cache(maxsize=1024)
def refine(sets: tuple[CharSet, ...]) -> list[tuple[CharSet, tuple[int, ...]]]:
    """Split the universe into cells that no set of ``sets`` divides: (cell, indices of the sets that contain it)."""
    events = sorted((point, i) for i, s in enumerate((ANY, *sets)) for point in s.bounds)
    inside = 0
    pieces: dict[int, list[tuple[int, int]]] = {}
    previous = 0
    for point, i in events:
        if inside & 1 and point > previous:
            pieces.setdefault(inside, []).append((previous, point - 1))
        inside ^= 1 << i
        previous = point
    return [
        (CharSet.from_ranges(ranges), tuple(i for i in range(len(sets)) if mask >> (i + 1) & 1))
        for mask, ranges in pieces.items()
    ]


EMPTY = CharSet(())
ANY = CharSet((0, *_SURROGATES, MAX_CODE_POINT + 1))
ASCII = CharSet((0, 0x80))


@cache
def _folding() -> tuple[dict[int, int], dict[int, list[int]], CharSet]:
    """Simple case folding where it changes something, its inverse, and all code points that either names."""
    fold: dict[int, int] = {}
    # No cased character lies above plane 1 (a test holds Unicode to it).
    for c in range(0x20000):
        char = chr(c)
        folded = char.casefold()
        if len(folded) > 1:
            # Full folding where simple folding lowers (U+1E9E to U+00DF) or, like U+0130, does nothing.
            folded = char.lower() if len(char.lower()) == 1 else char
        if folded != char:
            fold[c] = ord(folded)
    unfold: dict[int, list[int]] = {}
    for c, folded_to in fold.items():
        unfold.setdefault(folded_to, []).append(c)
    return fold, unfold, CharSet.from_ranges((c, c) for c in (*fold, *unfold))
