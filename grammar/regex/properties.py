r"""Character classes with names: ``\d \w \s`` of both dialects, and Unicode properties ``\p{...}``.

General categories follow the Unicode version of the running Python; scripts and emoji are `grammar.regex.unicode_data`.
What Python's classes match is asked of `re` itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from itertools import groupby

from grammar.charset import ANY, ASCII, MAX_CODE_POINT, CharSet
from grammar.regex.unicode_data import EMOJI, SCRIPTS

_LAST_ASSIGNED = 0x3FFFF
"""No character is assigned between here and plane 14 (a test holds Unicode to it), so scans leave that out."""

ECMA_DIGIT = CharSet.of("0123456789")
ECMA_WORD = CharSet.from_ranges([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
LINE_TERMINATOR = CharSet.of("\n\r\u2028\u2029")
NEWLINE = CharSet.of("\n")


@cache
def ecma_space() -> CharSet:
    r"""``\s`` of ECMA-262: WhiteSpace and LineTerminator (§12.2, §12.3)."""
    return CharSet.of("\t\v\f\ufeff") | LINE_TERMINATOR | _category("Zs")


@cache
def python_class(escape: str, ascii_only: bool) -> CharSet:
    r"""What ``\d``, ``\w`` or ``\s`` matches in a Python pattern over str."""
    if ascii_only:
        return CharSet.of(c for c in map(chr, range(128)) if re.match(escape, c, re.ASCII))
    return _scan(escape)


def unicode_property(name: str, value: str | None = None) -> CharSet:
    r"""The set of ``\p{name}`` or ``\p{name=value}``, named as in ECMA-262 §22.2.1. KeyError when it is unknown."""
    if value is None:
        short = _LONG_CATEGORIES.get(name, name)
        if short in _SHORT_CATEGORIES:
            return _category(short)
        if name in EMOJI:
            return _decode(EMOJI[name])
        return _BINARY[name]()
    if name in ("General_Category", "gc"):
        short = _LONG_CATEGORIES.get(value, value)
        if short in _SHORT_CATEGORIES:
            return _category(short)
    if name in ("Script", "sc"):
        return _decode(SCRIPTS[_SHORT_SCRIPTS.get(value, value)])
    raise KeyError(name)


@cache
def _decode(inversion_list: str) -> CharSet:
    return CharSet(tuple(int(point, 16) for point in inversion_list.split()))


def _scan(escape: str) -> CharSet:
    """The characters of planes 0 to 3 and 14 that ``escape`` matches."""
    ranges: list[tuple[int, int]] = []
    for start, stop in ((0, 0xD800), (0xE000, _LAST_ASSIGNED + 1), (0xE0000, 0xE1000)):
        for run in re.finditer(escape + "+", "".join(map(chr, range(start, stop)))):
            ranges.append((start + run.start(), start + run.end() - 1))
    return CharSet.from_ranges(ranges)


@cache
def _categories() -> dict[str, CharSet]:
    """The general categories by their two-letter names. Cs is missing: surrogates are outside the universe."""
    pieces: dict[str, list[tuple[int, int]]] = {}
    for start, stop in ((0, 0xD800), (0xE000, _LAST_ASSIGNED + 1), (0xE0000, MAX_CODE_POINT + 1)):
        position = start
        names = map(unicodedata.category, map(chr, range(start, stop)))
        for name, run in groupby(names):
            length = sum(1 for _ in run)
            pieces.setdefault(name, []).append((position, position + length - 1))
            position += length
    pieces["Cn"].append((_LAST_ASSIGNED + 1, 0xDFFFF))
    return {name: CharSet.from_ranges(ranges) for name, ranges in pieces.items()}


@cache
def _category(name: str) -> CharSet:
    names = ("Lu", "Ll", "Lt") if name == "LC" else [c for c in _categories() if c.startswith(name)]
    union = CharSet(())
    for member in names:
        union |= _categories()[member]
    return union


_SHORT_CATEGORIES = frozenset(
    "L LC Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Cs Co Cn".split()
)

_LONG_CATEGORIES = {
    "Letter": "L", "Cased_Letter": "LC", "Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll", "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm", "Other_Letter": "Lo", "Mark": "M", "Combining_Mark": "M", "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc", "Enclosing_Mark": "Me", "Number": "N", "Decimal_Number": "Nd", "digit": "Nd",
    "Letter_Number": "Nl", "Other_Number": "No", "Punctuation": "P", "punct": "P", "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd", "Open_Punctuation": "Ps", "Close_Punctuation": "Pe", "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf", "Other_Punctuation": "Po", "Symbol": "S", "Math_Symbol": "Sm", "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk", "Other_Symbol": "So", "Separator": "Z", "Space_Separator": "Zs", "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp", "Other": "C", "Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Surrogate": "Cs",
    "Private_Use": "Co", "Unassigned": "Cn",
}  # fmt: skip

_SHORT_SCRIPTS = {
    "Arab": "Arabic", "Armn": "Armenian", "Beng": "Bengali", "Bopo": "Bopomofo", "Cyrl": "Cyrillic",
    "Deva": "Devanagari", "Geor": "Georgian", "Grek": "Greek", "Hani": "Han", "Hang": "Hangul", "Hebr": "Hebrew",
    "Hira": "Hiragana", "Kana": "Katakana", "Latn": "Latin", "Taml": "Tamil", "Telu": "Telugu",
}  # fmt: skip


@cache
def _from_predicate(predicate: Callable[[str], bool]) -> CharSet:
    """Characters of planes 0 and 1 for which a str method holds: cased ones, spaces."""
    return CharSet.of(c for c in map(chr, range(0x20000)) if predicate(c))


_BINARY: dict[str, Callable[[], CharSet]] = {
    "Any": lambda: ANY,
    "ASCII": lambda: ASCII,
    "Assigned": lambda: ~_category("Cn"),
    "ASCII_Hex_Digit": lambda: CharSet.of("0123456789abcdefABCDEF"),
    "AHex": lambda: CharSet.of("0123456789abcdefABCDEF"),
    # CPython derives isupper and islower of a single character from these two properties of DerivedCoreProperties.txt.
    "Uppercase": lambda: _from_predicate(str.isupper),
    "Upper": lambda: _from_predicate(str.isupper),
    "Lowercase": lambda: _from_predicate(str.islower),
    "Lower": lambda: _from_predicate(str.islower),
    "White_Space": lambda: CharSet.of("\t\n\v\f\r\x85\u2028\u2029") | _category("Zs"),
    "space": lambda: CharSet.of("\t\n\v\f\r\x85\u2028\u2029") | _category("Zs"),
}
