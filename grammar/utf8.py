r"""How code points are spelled in bytes: plain UTF-8, or inside a JSON string.

A `Spelling` turns a set of code points into a small acyclic byte automaton (`ByteNode`): from its root, each path to
`DONE` is the spelling of one member. Every code point has exactly one spelling, and no spelling is a prefix of
another:

    raw     UTF-8 (RFC 3629)
    json    RFC 8259 §7: UTF-8 where JSON allows the character as it is, else the short escape \" \\ \b \f \n \r \t,
            else \u00xx in lower case. What the vocabulary cannot spell as UTF-8 falls back to \uxxxx, a surrogate
            pair above FFFF.

Both UTF-8 and \u escapes are numbers written in mixed radix (a lead byte and six-bit digits; four-bit digits), so one
splitter of number ranges into digit ranges builds them all (the idea of Russ Cox's "Regular Expression Matching in
the Wild", utf8-ranges).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, reduce
from itertools import pairwise
from math import prod

from grammar.charset import ANY, ASCII, EMPTY, CharSet
from grammar.tables import ByteWords

Ranges = list[tuple[int, int]]


class ByteNode:
    """A state inside a code point. ``edges``: (lo, hi, next) with disjoint byte ranges, ascending."""

    __slots__ = ("edges",)

    def __init__(self, edges: tuple[tuple[int, int, ByteNode], ...]) -> None:
        self.edges = edges


DONE = ByteNode(())
"""The end of a code point."""

_SHORT_ESCAPES = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_MUST_ESCAPE = CharSet.from_ranges([(0, 0x1F)]) | CharSet.of('"\\')


_FIRST_BYTES: tuple[tuple[int, CharSet], ...] = (
    *((byte, CharSet.from_ranges([(byte, byte)])) for byte in range(0x80)),
    *((byte, CharSet.from_ranges([((byte & 0x1F) << 6, (byte & 0x1F) << 6 | 0x3F)])) for byte in range(0xC2, 0xE0)),
    *(
        (byte, CharSet.from_ranges([(max((byte & 0xF) << 12, 0x800), (byte & 0xF) << 12 | 0xFFF)]))
        for byte in range(0xE0, 0xF0)
    ),
    *(
        (byte, CharSet.from_ranges([(max((byte & 7) << 18, 0x10000), min((byte & 7) << 18 | 0x3FFFF, 0x10FFFF))]))
        for byte in range(0xF0, 0xF5)
    ),
)
"""Each byte that begins characters in UTF-8, and these."""


class _Digit:
    """One digit of a mixed-radix number: ``radix`` values, each written as a byte of ``alphabet``."""

    def __init__(self, alphabet: Iterable[int]) -> None:
        self.alphabet = bytes(alphabet)
        self.radix = len(self.alphabet)

    def byte_ranges(self, lo: int, hi: int) -> Ranges:
        """The bytes of values lo..hi as inclusive ranges."""
        out: Ranges = []
        for byte in self.alphabet[lo : hi + 1]:
            if out and byte == out[-1][1] + 1:
                out[-1] = (out[-1][0], byte)
            else:
                out.append((byte, byte))
        return out


_CONTINUATION = _Digit(range(0x80, 0xC0))
_HEX = _Digit(b"0123456789abcdef")
_BACKSLASH, _U = _Digit(b"\\"), _Digit(b"u")

_UTF8: tuple[tuple[int, int, tuple[_Digit, ...]], ...] = (
    (0, 0x7F, (_Digit(range(0x80)),)),
    (0x80, 0x7FF, (_Digit(range(0xC0, 0xE0)), _CONTINUATION)),
    (0x800, 0xFFFF, (_Digit(range(0xE0, 0xF0)), _CONTINUATION, _CONTINUATION)),
    (0x10000, 0x10FFFF, (_Digit(range(0xF0, 0xF8)), _CONTINUATION, _CONTINUATION, _CONTINUATION)),
)
"""(first, last, digits): the number written is the code point."""

_ESCAPES: tuple[tuple[int, int, int, tuple[_Digit, ...]], ...] = (
    (0, 0xFFFF, 0, (_BACKSLASH, _U, _HEX, _HEX, _HEX, _HEX)),
    # D800 + ten high bits, DC00 + ten low bits: d [89ab] x x  d [cdef] x x.
    (0x10000, 0x10FFFF, 0x10000, (
        _BACKSLASH, _U, _Digit(b"d"), _Digit(b"89ab"), _HEX, _HEX,
        _BACKSLASH, _U, _Digit(b"d"), _Digit(b"cdef"), _HEX, _HEX,
    )),
)  # fmt: skip
"""(first, last, offset, digits): the number written is the code point - offset."""


class Spelling:
    """The spelling of text for one vocabulary. Immutable, and cached by `raw_spelling` and `json_spelling`.

    ``alphabet``: the code points that can be written at all.
    """

    def __init__(self, spellable: Sequence[bool], json: bool) -> None:
        self._json = json
        self._spellable = CharSet.from_ranges((b, b) for b in range(256) if spellable[b])
        utf8 = EMPTY
        for first, last, digits in _UTF8:
            utf8 |= CharSet.from_ranges(self._writable(first, last, 0, digits))
        self._verbatim = utf8 - _MUST_ESCAPE if json else utf8
        short = [c for c, letter in _SHORT_ESCAPES.items() if json and self._can_write(b"\\" + letter.encode())]
        self._short = CharSet.of(short)
        self._escaped = EMPTY
        if json:
            rest = ANY - self._verbatim - self._short
            for first, last, offset, digits in _ESCAPES:
                self._escaped |= rest & CharSet.from_ranges(self._writable(first, last, offset, digits))
        self.alphabet = self._verbatim | self._short | self._escaped
        self.root: Callable[[CharSet], ByteNode] = lru_cache(maxsize=2048)(self._root)
        """The automaton of a set of code points; those outside the alphabet are left out."""
        self.first_bytes: Callable[[CharSet, CharSet], tuple[ByteWords, ByteWords]]
        self.first_bytes = lru_cache(maxsize=2048)(self._first_bytes)
        """(members, used): the bytes that begin, in UTF-8 as it is, characters of ``members`` only; and those that
        begin none of ``used``, neither so nor as an escape."""

    def spell(self, text: str) -> bytes | None:
        """``text`` in bytes, or None when one of its characters cannot be written."""
        out = bytearray()
        for char in text:
            node = self.root(CharSet.of(char))
            if not node.edges:
                return None
            while node is not DONE:
                byte, _, node = node.edges[0]
                out.append(byte)
        return bytes(out)

    def _first_bytes(self, members: CharSet, used: CharSet) -> tuple[ByteWords, ByteWords]:
        passing, dead = [0, 0, 0], [0, 0, 0]
        members, used = members & self._verbatim, used & self._verbatim
        escapes = CharSet.of('"\\') if self._json else EMPTY
        for byte, characters in _FIRST_BYTES:
            word, bit = (byte >> 6, byte & 63) if byte < 0x80 else (2, byte - 0xC0)
            if characters <= members:
                passing[word] |= 1 << bit
            elif not characters & (used | escapes):
                dead[word] |= 1 << bit
        return (passing[0], passing[1], passing[2]), (dead[0], dead[1], dead[2])

    def _can_write(self, data: bytes) -> bool:
        return all(b in self._spellable for b in data)

    def _writable(self, first: int, last: int, offset: int, digits: tuple[_Digit, ...]) -> Ranges:
        """The code points first..last all of whose digits are spellable bytes."""
        values: Ranges = [(0, 0)]
        for digit in digits:
            good = CharSet.from_ranges((v, v) for v, b in enumerate(digit.alphabet) if b in self._spellable)
            if len(good) == digit.radix:
                values = [(lo * digit.radix, hi * digit.radix + digit.radix - 1) for lo, hi in values]
            else:
                values = [
                    (value * digit.radix + lo, value * digit.radix + hi)
                    for start, stop in values
                    for value in range(start, stop + 1)
                    for lo, hi in good.ranges()
                ]
        moved = [(lo + offset, hi + offset) for lo, hi in values]
        return [(max(lo, first), min(hi, last)) for lo, hi in moved if hi >= first and lo <= last]

    def _root(self, members: CharSet) -> ByteNode:
        pool: dict[tuple[tuple[int, int, ByteNode], ...], ByteNode] = {}
        verbatim = members & self._verbatim
        node = ByteNode(tuple((lo, hi, DONE) for lo, hi in (verbatim & ASCII).ranges()))
        if verbatim and verbatim.bounds[-1] > len(ASCII):
            for first, last, digits in _UTF8[1:]:
                node = _union(node, _numbers(verbatim, first, last, 0, digits, pool))
        if verbatim == members:
            return node
        for code_point in (members & self._short).code_points():
            letter = ord(_SHORT_ESCAPES[chr(code_point)])
            node = _union(node, ByteNode(((0x5C, 0x5C, ByteNode(((letter, letter, DONE),))),)))
        for first, last, offset, digits in _ESCAPES:
            node = _union(node, _numbers(members & self._escaped, first, last, offset, digits, pool))
        return node


def _numbers(
    members: CharSet,
    first: int,
    last: int,
    offset: int,
    digits: tuple[_Digit, ...],
    pool: dict[tuple[tuple[int, int, ByteNode], ...], ByteNode],
) -> ByteNode:
    """The automaton of the members within first..last, each written as the number (member - offset)."""

    def build(ranges: Ranges, depth: int) -> ByteNode:
        if depth == len(digits):
            return DONE
        size = prod(digit.radix for digit in digits[depth + 1 :])
        # (first digit, last digit, what may follow each of them)
        cells: list[tuple[int, int, Ranges]] = []

        def add(lo: int, hi: int, rest: tuple[int, int]) -> None:
            if cells and cells[-1][1] == lo == hi:
                cells[-1][2].append(rest)
            else:
                cells.append((lo, hi, [rest]))

        for lo, hi in ranges:
            (a, a_rest), (b, b_rest) = divmod(lo, size), divmod(hi, size)
            if a == b:
                add(a, b, (a_rest, b_rest))
                continue
            if a_rest:
                add(a, a, (a_rest, size - 1))
                a += 1
            whole = b if b_rest == size - 1 else b - 1
            if a <= whole:
                add(a, whole, (0, size - 1))
            if whole < b:
                add(b, b, (0, b_rest))
        edges: list[tuple[int, int, ByteNode]] = []
        for lo, hi, rest in cells:
            child = build(rest, depth + 1)
            edges += [(byte_lo, byte_hi, child) for byte_lo, byte_hi in digits[depth].byte_ranges(lo, hi)]
        key = tuple(sorted(edges, key=_first_byte))
        return pool.setdefault(key, ByteNode(key))

    inside = members & CharSet.from_ranges([(first, last)])
    return build([(lo - offset, hi - offset) for lo, hi in inside.ranges()], 0)


def _first_byte(edge: tuple[int, int, ByteNode]) -> int:
    return edge[0]


def _union(one: ByteNode, two: ByteNode) -> ByteNode:
    """The automaton of both languages, which are disjoint and have no spelling that is a prefix of another."""
    edges = sorted(one.edges + two.edges, key=_first_byte)
    if all(left[1] < right[0] for left, right in pairwise(edges)):
        return ByteNode(tuple(edges))
    merged: list[tuple[int, int, ByteNode]] = []
    cuts = sorted({point for lo, hi, _ in edges for point in (lo, hi + 1)})
    for lo, stop in pairwise(cuts):
        children = [node for first, last, node in edges if first <= lo <= last]
        if children:
            merged.append((lo, stop - 1, reduce(_union, children)))
    return ByteNode(tuple(merged))


@lru_cache(maxsize=16)
def _spelling(spellable: bytes, json: bool) -> Spelling:
    return Spelling([bool(b) for b in spellable], json)


def raw_spelling(spellable: Sequence[bool]) -> Spelling:
    """Plain UTF-8 in the given bytes (bool[256])."""
    return _spelling(bytes(map(bool, spellable)), False)


def json_spelling(spellable: Sequence[bool]) -> Spelling:
    """Inside a JSON string, in the given bytes (bool[256])."""
    return _spelling(bytes(map(bool, spellable)), True)
