"""The automata of JSON strings, shared by all schemas: hand-made, because every answer spends most of its time in them.

    plain   what RFC 8259 §7 calls a string, less lone surrogates (no Unicode text has them)
    key     the one canonical spelling of each text: UTF-8, and an escape only where JSON requires one

Both are byte automata over the inside of a string; the closing quote is not theirs. UTF-8 follows RFC 3629 §4, so
overlong forms and surrogates are refused byte by byte. A vocabulary that cannot spell some byte loses the characters
that need it: transitions that lead nowhere are cut here, once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Range = tuple[int, int, int]
"""(first byte, last byte, next state)"""

BETWEEN = 0
"""The state between two characters, where a string may end."""

_UTF8 = {
    # state: what may follow; BETWEEN ends the character
    1: [(0x80, 0xBF, BETWEEN)],
    2: [(0x80, 0xBF, 1)],
    3: [(0xA0, 0xBF, 1)],
    4: [(0x80, 0x9F, 1)],
    5: [(0x80, 0xBF, 2)],
    6: [(0x90, 0xBF, 2)],
    7: [(0x80, 0x8F, 2)],
}
_LEADS = [
    (0xC2, 0xDF, 1), (0xE0, 0xE0, 3), (0xE1, 0xEC, 2), (0xED, 0xED, 4), (0xEE, 0xEF, 2),
    (0xF0, 0xF0, 6), (0xF1, 0xF3, 5), (0xF4, 0xF4, 7),
]  # fmt: skip
_RAW = [(0x20, 0x21, BETWEEN), (0x23, 0x5B, BETWEEN), (0x5D, 0x7F, BETWEEN)]
_BACKSLASH, _U = 0x5C, ord("u")


def _chars(text: str, state: int) -> list[Range]:
    return [(ord(c), ord(c), state) for c in text]


def _hex(state: int) -> list[Range]:
    return [(0x30, 0x39, state), (0x41, 0x46, state), (0x61, 0x66, state)]


# plain: 8 after a backslash, 9..12 the digits of \uXXXX, 13.. the second half of a surrogate pair.
_PLAIN: dict[int, list[Range]] = {
    BETWEEN: [*_RAW, (_BACKSLASH, _BACKSLASH, 8), *_LEADS],
    **_UTF8,
    8: [*_chars('"\\/bfnrt', BETWEEN), (_U, _U, 9)],
    9: [(0x30, 0x39, 10), (0x41, 0x43, 10), (0x45, 0x46, 10), (0x61, 0x63, 10), (0x65, 0x66, 10), *_chars("dD", 13)],
    10: _hex(11),
    11: _hex(12),
    12: _hex(BETWEEN),
    13: [(0x30, 0x37, 11), *[(lo, hi, 14) for lo, hi in ((0x38, 0x39), (0x41, 0x42), (0x61, 0x62))]],
    14: _hex(15),
    15: _hex(16),
    16: [(_BACKSLASH, _BACKSLASH, 17)],
    17: [(_U, _U, 18)],
    18: _chars("dD", 19),
    19: [(0x43, 0x46, 11), (0x63, 0x66, 11)],
}

# key: 8 after a backslash, 9..12 inside \u00xx of the controls without a short escape.
_KEY: dict[int, list[Range]] = {
    BETWEEN: [*_RAW, (_BACKSLASH, _BACKSLASH, 8), *_LEADS],
    **_UTF8,
    8: [*_chars('"\\bfnrt', BETWEEN), (_U, _U, 9)],
    9: _chars("0", 10),
    10: _chars("0", 11),
    11: [*_chars("0", 12), *_chars("1", 13)],
    12: [(0x30, 0x37, BETWEEN), *_chars("bef", BETWEEN)],
    13: [(0x30, 0x39, BETWEEN), (0x61, 0x66, BETWEEN)],
}


class Lexicon:
    """One of the two automata, cut to what a vocabulary can spell. ``table[state]``: its ranges, sorted, disjoint."""

    start = BETWEEN

    def __init__(self, table: dict[int, list[Range]], spellable: Sequence[bool]) -> None:
        cut = {state: [r for piece in ranges for r in _spelled(piece, spellable)] for state, ranges in table.items()}
        alive = {BETWEEN}
        while True:
            more = {state for state, ranges in cut.items() if any(r[2] in alive for r in ranges)} | alive
            if more == alive:
                break
            alive = more
        self.table = {
            state: sorted(r for r in ranges if r[2] in alive) for state, ranges in cut.items() if state in alive
        }
        self._after = {
            (state, b): to for state, ranges in self.table.items() for lo, hi, to in ranges for b in range(lo, hi + 1)
        }

    def edges(self, state: int) -> list[Range]:
        return self.table[state]

    def after(self, state: int, byte: int) -> int:
        """The state after a byte; KeyError if the byte is not allowed."""
        return self._after[state, byte]

    def accepting(self, state: int) -> bool:
        return state == BETWEEN


def plain_strings(spellable: Sequence[bool]) -> Lexicon:
    return Lexicon(_PLAIN, spellable)


def key_strings(spellable: Sequence[bool]) -> Lexicon:
    return Lexicon(_KEY, spellable)


def _spelled(piece: Range, spellable: Sequence[bool]) -> list[Range]:
    """The parts of a range whose bytes can be spelled."""
    lo, hi, to = piece
    parts: list[Range] = []
    start: int | None = None
    for b in range(lo, hi + 2):
        good = b <= hi and spellable[b]
        if good and start is None:
            start = b
        elif not good and start is not None:
            parts.append((start, b - 1, to))
            start = None
    return parts


_SHORT = {0x08: b"\\b", 0x09: b"\\t", 0x0A: b"\\n", 0x0C: b"\\f", 0x0D: b"\\r", 0x22: b'\\"', 0x5C: b"\\\\"}

_ITSELF = re.compile(r"[ !#-\[\]-~]*")
"""ASCII that is spelled as it is."""


def spell(text: str, spellable: Sequence[bool]) -> bytes:
    """The canonical spelling of a text inside a JSON string; characters that the vocabulary cannot spell in UTF-8 are
    escaped."""
    if _ITSELF.fullmatch(text):
        raw = text.encode()
        if all(spellable[b] for b in set(raw)):
            return raw
    out = bytearray()
    for char in text:
        code = ord(char)
        if code in _SHORT:
            out += _SHORT[code]
        elif code < 0x20:
            out += b"\\u%04x" % code
        else:
            raw = char.encode("utf-8", "surrogatepass")
            if 0xD800 <= code <= 0xDFFF or not all(spellable[b] for b in raw):
                raw = b"".join(b"\\u%04x" % unit for unit in _utf16(code))
            out += raw
    return bytes(out)


def _utf16(code: int) -> tuple[int, ...]:
    if code < 0x10000:
        return (code,)
    return 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + ((code - 0x10000) & 0x3FF)
