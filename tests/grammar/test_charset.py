"""Sets of code points against Python sets, properties against `unicodedata` and `re`, spellings against `json`."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.charset import ANY, MAX_CODE_POINT, CharSet, refine
from grammar.regex.properties import ecma_space, python_class, unicode_property
from grammar.utf8 import DONE, ByteNode, Spelling, json_spelling, raw_spelling

CODE_POINTS = [*range(0xD800), *range(0xE000, MAX_CODE_POINT + 1)]
ALL_SPELLABLE = [True] * 256

# Small numbers collide often; the rest sits at the seams of UTF-8 and around the surrogates.
SEAMS = [
    0x1F,
    0x20,
    0x7F,
    0x80,
    0x7FF,
    0x800,
    0xD7FF,
    0xD800,
    0xDFFF,
    0xE000,
    0xFFFF,
    0x10000,
    0x3FFFF,
    0x40000,
    0x10FFFF,
]
points = st.one_of(st.integers(0, 12), st.sampled_from(SEAMS), st.integers(0, MAX_CODE_POINT))
ranges = st.lists(
    st.tuples(points, st.integers(0, 40)).map(lambda r: (r[0], min(r[0] + r[1], MAX_CODE_POINT))), max_size=6
)


def members(pairs: list[tuple[int, int]]) -> set[int]:
    return {c for lo, hi in pairs for c in range(lo, hi + 1) if not 0xD800 <= c <= 0xDFFF}


@given(ranges, ranges)
def test_boolean_operations_are_those_of_sets(one: list[tuple[int, int]], two: list[tuple[int, int]]) -> None:
    a, b = CharSet.from_ranges(one), CharSet.from_ranges(two)
    sa, sb = members(one), members(two)
    assert set(a.code_points()) == sa and len(a) == len(sa)
    assert set((a | b).code_points()) == sa | sb
    assert set((a & b).code_points()) == sa & sb
    assert set((a - b).code_points()) == sa - sb
    assert (a <= b) == (sa <= sb)
    assert ~a & a == CharSet(()) and ~a | a == ANY
    assert all(c in a for c in sa) and not any(c in a for c in sb - sa)
    # One set has one representation.
    assert (a == b) == (sa == sb)


@given(st.lists(ranges, max_size=4))
def test_refine_splits_the_universe_into_undivided_cells(many: list[list[tuple[int, int]]]) -> None:
    sets = tuple(CharSet.from_ranges(pairs) for pairs in many)
    cells = refine(sets)
    assert sum(len(cell) for cell, _ in cells) == len(ANY)
    assert len({holding for _, holding in cells}) == len(cells)
    for cell, holding in cells:
        for i, s in enumerate(sets):
            assert (cell <= s) if i in holding else not (cell & s)


def test_case_closure_is_equality_of_simple_folding() -> None:
    assert set(CharSet.of("k").case_closure().code_points()) == set(map(ord, "kK\u212a"))
    assert set(CharSet.of("ß").case_closure().code_points()) == set(map(ord, "ßẞ"))
    assert CharSet.of("İ1-").case_closure() == CharSet.of("İ1-")
    letters = unicode_property("Lu") | unicode_property("Ll")
    assert letters.case_closure().case_closure() == letters.case_closure()


def test_unicode_is_as_the_scans_assume() -> None:
    for c in CODE_POINTS:
        char = chr(c)
        if c >= 0x20000:
            assert char.casefold() == char.lower() == char.upper() == char
        if 0x40000 <= c < 0xE0000:
            assert unicodedata.category(char) == "Cn"
        if c >= 0xE1000:
            assert not char.isalnum() and not char.isspace()


@pytest.mark.parametrize("escape", [r"\d", r"\w", r"\s"])
def test_python_classes_are_those_of_re(escape: str) -> None:
    text = "".join(map(chr, CODE_POINTS))
    assert set(python_class(escape, False).code_points()) == set(map(ord, re.findall(escape, text)))
    ascii_only = set(map(ord, re.findall(escape, text, re.ASCII)))
    assert set(python_class(escape, True).code_points()) == ascii_only


def test_ecma_space_is_the_standards_list() -> None:
    listed = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
    assert set(ecma_space().code_points()) == set(map(ord, listed))


def test_general_categories_partition_the_universe() -> None:
    by_category: dict[str, set[int]] = {}
    for c in CODE_POINTS:
        by_category.setdefault(unicodedata.category(chr(c)), set()).add(c)
    for name, expected in by_category.items():
        assert set(unicode_property(name).code_points()) == expected
    letters = set().union(*(by_category[name] for name in ("Lu", "Ll", "Lt", "Lm", "Lo")))
    for spelled in (unicode_property("L"), unicode_property("Letter"), unicode_property("gc", "L")):
        assert set(spelled.code_points()) == letters


@pytest.mark.parametrize(
    ("name", "value", "inside", "outside"),
    [
        ("Script", "Greek", "αΩ", "aа1"),
        ("sc", "Cyrl", "аЯ", "aα"),
        ("Script", "Han", "漢字", "かa"),
        ("Emoji_Presentation", None, "😀", "a1"),
        ("Uppercase", None, "AÉⓐ".upper(), "aé1"),
        ("ASCII_Hex_Digit", None, "0fF", "gG"),
        ("White_Space", None, " \x85\u3000", "\u200b\x1c"),
    ],
)
def test_properties(name: str, value: str | None, inside: str, outside: str) -> None:
    found = unicode_property(name, value)
    assert all(ord(c) in found for c in inside)
    assert not any(ord(c) in found for c in outside)


@pytest.mark.parametrize(
    ("name", "value"), [("Nope", None), ("Script", "Klingon"), ("gc", "Greek"), ("Block", "Latin")]
)
def test_unknown_properties_are_refused(name: str, value: str | None) -> None:
    with pytest.raises(KeyError):
        unicode_property(name, value)


# Spellings


def spelled(node: ByteNode, before: bytes = b"") -> Iterator[bytes]:
    if node is DONE:
        yield before
    for lo, hi, child in node.edges:
        for byte in range(lo, hi + 1):
            yield from spelled(child, before + bytes((byte,)))


def canonical_json(char: str, spellable: list[bool]) -> bytes | None:
    """The rule of `grammar.utf8` again, by way of `json.dumps`."""
    verbatim = json.dumps(char, ensure_ascii=False)[1:-1].encode()
    candidates = [verbatim, "".join(f"\\u{unit:04x}" for unit in utf16(char)).encode()]
    return next((data for data in candidates if all(spellable[b] for b in data)), None)


def utf16(char: str) -> list[int]:
    data = char.encode("utf-16-be")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


@settings(max_examples=40)
@given(ranges, st.sets(st.sampled_from([0x22, 0x5C, 0x75, 0x7F, 0x85, 0xC3, 0xE2, 0xED, 0xF1, 0xF2])))
def test_spellings_are_canonical_and_the_alphabet_is_exact(pairs: list[tuple[int, int]], missing: set[int]) -> None:
    spellable = [byte not in missing for byte in range(256)]
    chosen = CharSet.from_ranges(pairs)
    json_way, raw_way = json_spelling(spellable), raw_spelling(spellable)
    expected_json = {canonical_json(chr(c), spellable) for c in chosen.code_points()} - {None}
    utf8 = [chr(c).encode() for c in chosen.code_points()]
    expected_raw = [data for data in utf8 if all(spellable[b] for b in data)]
    assert sorted(spelled(json_way.root(chosen))) == sorted(data for data in expected_json if data is not None)
    assert sorted(spelled(raw_way.root(chosen))) == sorted(expected_raw)
    assert len(chosen & json_way.alphabet) == len(expected_json)
    assert len(chosen & raw_way.alphabet) == len(expected_raw)


@given(st.text())
def test_spelled_text_reads_back(text: str) -> None:
    inside = json_spelling(ALL_SPELLABLE).spell(text)
    assert inside is not None and json.loads(b'"' + inside + b'"') == text
    assert raw_spelling(ALL_SPELLABLE).spell(text) == text.encode()


def test_bytes_of_a_node_are_disjoint_and_ascending() -> None:
    def check(node: ByteNode) -> None:
        for (_, hi, _), (lo, _, _) in zip(node.edges, node.edges[1:], strict=False):
            assert hi < lo
        for _, _, child in node.edges:
            check(child)

    missing = [byte not in (0xF1, 0xF2, 0xE2, 0x01) for byte in range(256)]
    spelling: Spelling = json_spelling(missing)
    for members in (ANY, python_class(r"\w", False), CharSet.from_ranges([(0xD7FF, 0xE000), (0x40000, 0x40400)])):
        check(spelling.root(members))


def test_what_cannot_be_spelled_in_any_way_is_outside_the_alphabet() -> None:
    no_backslash = [byte != 0x5C for byte in range(256)]
    assert json_spelling(no_backslash).spell("\n") is None
    assert json_spelling(no_backslash).spell("n") == b"n"
