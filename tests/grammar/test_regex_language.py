"""Conjunctions, exclusions and lengths, inside JSON strings: against `re` and `json`, and against interegular."""

from __future__ import annotations

import json
import re
import string

import interegular
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.errors import ConstraintTooLarge, UnsatisfiableConstraint
from grammar.fuel import Fuel
from grammar.regex import lengths
from grammar.regex.dfa import LazyDfa
from grammar.regex.language import Pattern, text_dfa
from grammar.utf8 import json_spelling, raw_spelling
from tests.grammar.test_regex_python import LETTERS, TEXTS, check_no_dead_ends, patterns, plain_patterns, windows

SPELLABLE = [chr(byte) in 'abn\\"' or byte in (0xC3, 0xA9) for byte in range(256)]
"""LETTERS inside a JSON string: the newline is written as an escape, é as UTF-8."""


def search(*texts: str) -> list[Pattern]:
    return [Pattern(text, "python", "search") for text in texts]


@settings(max_examples=60)
@given(st.lists(patterns, max_size=3), st.lists(plain_patterns, max_size=1), windows)
def test_strings_meet_all_conditions_and_none_excluded(
    wanted: list[str], excluded: list[str], window: tuple[int, int | None]
) -> None:
    lo, hi = window
    expected = {
        text
        for text in TEXTS
        if all(re.search(p, text) for p in wanted)
        and not any(re.search(p, text) for p in excluded)
        and lo <= len(text)
        and (hi is None or len(text) <= hi)
    }
    try:
        dfa = text_dfa(
            search(*wanted),
            json_spelling(SPELLABLE),
            Fuel(30_000),
            excluded=search(*excluded),
            min_length=lo,
            max_length=hi,
        )
    except UnsatisfiableConstraint:
        assert not expected
        return
    inside = {text: json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in TEXTS}
    assert {text for text in TEXTS if dfa.accepts(inside[text])} == expected
    check_no_dead_ends(dfa)


@pytest.mark.parametrize(
    ("pattern", "lo", "hi"),
    [
        (r"^[a-z]+$", 0, 100_000),
        (r"^(ab)*$", 99_999, 100_001),
        (r"^.{0,5000}$", 10, 4000),
        (r"^(?=.*[A-Z])(?=.*[0-9]).{8,64}$", 0, 20),
        (r"^(?!foo)[a-z]+$", 0, 50_000),
        (r"^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$", 4, None),
    ],
)
def test_large_windows_stay_cheap(pattern: str, lo: int, hi: int | None) -> None:
    fuel = Fuel(40_000)
    asked = [Pattern(pattern, "ecma", "search")]
    dfa = text_dfa(asked, json_spelling([True] * 256), fuel, min_length=lo, max_length=hi)
    state = dfa.start
    for _ in range(200):
        state = dfa.edges(state)[-1][2] if dfa.edges(state) else state
    assert fuel.left > 0


def test_lengths_that_no_text_has_are_unsatisfiable() -> None:
    for pattern, lo, hi in ((r"^(abc)*\Z", 100_000, 100_001), (r"^a{3}\Z", 4, None), ("^(?=aa)", 0, 1), ("", 3, 2)):
        with pytest.raises(UnsatisfiableConstraint):
            text_dfa(search(pattern), raw_spelling([True] * 256), Fuel(10_000), min_length=lo, max_length=hi)


@pytest.mark.parametrize(
    "asked",
    [search("^a$", "^b$"), search("^a(?!.*b)", "^.*b$"), search("[^\x00-\U0010ffff]"), search("a^b"), search("$a")],
)
def test_contradictions_are_unsatisfiable(asked: list[Pattern]) -> None:
    with pytest.raises(UnsatisfiableConstraint):
        text_dfa(asked, raw_spelling([True] * 256), Fuel(10_000))


def test_what_cannot_be_spelled_is_not_offered() -> None:
    only_a = [byte == ord("a") for byte in range(256)]
    dfa = text_dfa([Pattern("[ab]c?")], raw_spelling(only_a), Fuel(100))
    assert dfa.edges(dfa.start) == [(97, 97, 1)] and dfa.edges(1) == [] and dfa.accepting(1)
    with pytest.raises(UnsatisfiableConstraint):
        text_dfa([Pattern("b")], raw_spelling(only_a), Fuel(100))
    # Inside JSON what UTF-8 cannot write, an escape can.
    ascii_only = [byte < 0x80 for byte in range(256)]
    dfa = text_dfa([Pattern("[é😀]")], json_spelling(ascii_only), Fuel(100))
    assert dfa.accepts(rb"\u00e9") and dfa.accepts(rb"\ud83d\ude00") and not dfa.accepts("é".encode())


@pytest.mark.parametrize("pattern", [r"[ab]*a[ab]{13}", r"(.*a.{20})", r"((a|b){0,30}c){0,1000}", r".{0,100000}"])
def test_large_automata_are_built_only_where_they_are_walked(pattern: str) -> None:
    fuel = Fuel(3_000)
    dfa = text_dfa([Pattern(pattern)], raw_spelling([True] * 256), fuel)
    state = dfa.start
    for byte in b"abaabbabab" * 6:
        state = next((target for lo, hi, target in dfa.edges(state) if lo <= byte <= hi), dfa.start)
    assert dfa.n_states < 1_000 and fuel.left > 0


@pytest.mark.parametrize(
    ("asked", "excluded"),
    [
        ([r"a.{14}b", r"b.{14}a"], []),
        ([], [r"^[a-z0-9_-]{0,250}$"]),
        ([r"^https://.*\.example\.com/"], [r"[0-9]{12}", r"([ab].{3}){9}"]),
    ],
)
def test_products_of_conditions_are_built_only_where_they_are_walked(asked: list[str], excluded: list[str]) -> None:
    fuel = Fuel(1_500)
    conditions = [Pattern(text, "ecma", "search") for text in asked]
    others = [Pattern(text, "ecma", "search") for text in excluded]
    dfa = text_dfa(conditions, json_spelling([True] * 256), fuel, excluded=others)
    for _ in range(3):
        assert dfa.edges(dfa.start)
    assert fuel.left > 0


def test_what_nothing_fulfils_is_cut_off_behind_what_something_does() -> None:
    # c leads to a text; behind a and b the conditions contradict each other, which takes the whole of their product.
    asked = search("^(c|[ab]{9}a[ab]{5}$)", "^(c|[ab]{9}b[ab]{5}$)")
    dfa = text_dfa(asked, raw_spelling([True] * 256), Fuel(10_000))
    assert [(lo, hi) for lo, hi, _ in dfa.edges(dfa.start)] == [(ord("c"), ord("c"))]
    check_no_dead_ends(dfa)


def test_conditions_that_meet_in_too_many_ways_are_refused() -> None:
    """Each of 26 letters must come within 30: the search for a text meets most subsets of them."""
    pattern = "^" + "".join(f"(?=.*{letter})" for letter in string.ascii_lowercase) + ".{26,30}$"
    fuel = Fuel(20_000)
    with pytest.raises(ConstraintTooLarge):
        text_dfa([Pattern(pattern, "ecma", "search")], json_spelling([True] * 256), fuel)


def test_a_pattern_is_not_longer_than_can_be_read_at_once() -> None:
    text_dfa([Pattern("ab" * 5_000)], raw_spelling([True] * 256), Fuel(20_000))
    with pytest.raises(ConstraintTooLarge, match="100,000"):
        text_dfa([Pattern("(a|" * 40_000)], raw_spelling([True] * 256), Fuel(20_000))


def test_fuel_is_spent_deterministically() -> None:
    def spend() -> tuple[int, int]:
        fuel = Fuel(500)
        dfa = text_dfa([Pattern(r"(.*a.{20})")], raw_spelling([True] * 256), fuel)
        state = 0
        with pytest.raises(ConstraintTooLarge):
            while True:
                dfa.edges(state)
                state += 1
        return state, dfa.n_states

    assert spend() == spend()


@settings(max_examples=40)
@given(plain_patterns, plain_patterns)
def test_intersections_are_equivalent_to_interegulars(one: str, two: str) -> None:
    # interegular has no inline flags, no \S inside classes, no lazy quantifiers, and its \w is ASCII.
    one, two = (re.sub(r"\(\?[is]:(.)\)|(\?)\?", r"\1\2", p).replace(r"[\S\n]", "[ab]") for p in (one, two))
    theirs = interegular.parse_pattern(one).to_fsm() & interegular.parse_pattern(two).to_fsm()
    spelling = raw_spelling([byte < 0x80 or byte in (0xC3, 0xA9) for byte in range(256)])
    try:
        ours = text_dfa([Pattern(f"(?a:{one})"), Pattern(f"(?a:{two})")], spelling, Fuel(20_000))
    except UnsatisfiableConstraint:
        assert theirs.empty()
        return
    # Walk both: equal acceptance and equal liveness in all reachable pairs proves them equal on these letters.
    pending = [(ours.start, theirs.initial)]
    seen = set(pending)
    while pending:
        state, other = pending.pop()
        assert ours.accepting(state) == (other in theirs.finals)
        for letter in LETTERS:
            after = walk(ours, state, letter.encode())
            key = theirs.alphabet[letter]
            after_theirs = None if key is None else theirs.map.get(other, {}).get(key)
            assert (after is None) == (after_theirs is None or not theirs.islive(after_theirs))
            if after is not None and after_theirs is not None and (after, after_theirs) not in seen:
                seen.add((after, after_theirs))
                pending.append((after, after_theirs))


def walk(dfa: LazyDfa, state: int | None, data: bytes) -> int | None:
    for byte in data:
        if state is None:
            return None
        state = next((target for lo, hi, target in dfa.edges(state) if lo <= byte <= hi), None)
    return state


sets = st.sets(st.integers(0, 12), max_size=5)


@given(sets, sets, st.integers(0, 4), st.one_of(st.none(), st.integers(0, 4)), st.integers(1, 30))
def test_length_sets_add_up(one: set[int], two: set[int], lo: int, more: int | None, cap: int) -> None:
    def bits(numbers: set[int]) -> int:
        return sum(1 << n for n in {min(n, cap) for n in numbers})

    assert lengths.add(bits(one), bits(two), cap) == bits({a + b for a in one for b in two})
    total, expected = {0}, set[int]()
    # Beyond cap + lo iterations every member above 0 has reached the cap.
    for count in range(cap + lo + 1 if more is None else lo + more + 1):
        if count >= lo:
            expected |= total
        total = {min(a + b, cap) for a in total for b in one}
    assert lengths.times(bits(one), lo, None if more is None else lo + more, cap) == bits(expected)
