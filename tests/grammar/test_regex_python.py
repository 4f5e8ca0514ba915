"""Python's dialect against `re` itself: on every short text over a small alphabet, on texts the automaton writes."""

from __future__ import annotations

import random
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import grammar.regex.dfa
from grammar.charset import MAX_CODE_POINT
from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.fuel import Fuel
from grammar.regex.dfa import LazyDfa
from grammar.regex.language import Pattern, parse, text_dfa
from grammar.regex.python import parse_python
from grammar.regex.syntax import Chars, Repeat
from grammar.utf8 import raw_spelling

LETTERS = "ab\né"
TEXTS = ["".join(letters) for length in range(6) for letters in product(LETTERS, repeat=length)]
SPELLABLE = [bytes((byte,)) in (b"a", b"b", b"\n", b"\xc3", b"\xa9") for byte in range(256)]
"""Exactly the letters, so that a text that exists is among TEXTS if it is short."""

atoms = st.sampled_from(
    ["a", "b", "é", "ab", ".", "[ab]", "[^a]", r"\w", r"\W", r"\s", r"[\S\n]", "(?i:A)", "(?s:.)", ""]
)
anchors = st.sampled_from(["^", "$", r"\A", r"\Z", r"\b", r"\B", "(?m:^)", "(?m:$)", r"(?a:\b)"])
lookbehinds = st.sampled_from(["(?<=a)", "(?<!a)", "(?<=[^b])", "(?<=ab)", "(?<!^a)", "(?<=^)", r"(?<!b\Z)"])
quantifiers = st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}", "*?", "{1,3}?"])


def combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}{}".format, inner, inner),
        st.builds("{}{}{}".format, inner, inner, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("({}){}".format, inner, quantifiers),
        st.builds("(?={})".format, inner),
        st.builds("(?!{})".format, inner),
    )


plain_patterns = st.recursive(atoms, lambda inner: st.one_of(
    st.builds("{}{}".format, inner, inner),
    st.builds("(?:{}|{})".format, inner, inner),
    st.builds("({}){}".format, inner, quantifiers),
), max_leaves=8)  # fmt: skip
patterns = st.recursive(st.one_of(atoms, anchors, lookbehinds), combine, max_leaves=8)
modes = st.sampled_from(["full", "search"])
windows = st.one_of(st.just((0, None)), st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(2, 6))))


def matching(pattern: str, mode: str) -> set[str]:
    compiled = re.compile(pattern)
    return {text for text in TEXTS if (compiled.fullmatch(text) if mode == "full" else compiled.search(text))}


def check_no_dead_ends(dfa: LazyDfa, limit: int = 300) -> None:
    """Every state met can still reach acceptance: an offered byte has a completion."""
    state = 0
    while state < min(dfa.n_states, limit):
        dfa.edges(state)
        state += 1
    sources: dict[int, list[int]] = {}
    for source in range(state):
        for _, _, target in dfa.edges(source):
            sources.setdefault(target, []).append(source)
    # States beyond the limit count as alive.
    pending = [s for s in range(dfa.n_states) if s >= state or dfa.accepting(s)]
    alive = set(pending)
    while pending:
        for source in sources.get(pending.pop(), ()):
            if source not in alive:
                alive.add(source)
                pending.append(source)
    assert len(alive) == dfa.n_states


def check(pattern: str, mode: str, lo: int, hi: int | None) -> None:
    expected = {text for text in matching(pattern, mode) if lo <= len(text) and (hi is None or len(text) <= hi)}
    asked = Pattern(pattern, "python", "full" if mode == "full" else "search")
    try:
        dfa = text_dfa([asked], raw_spelling(SPELLABLE), Fuel(20_000), min_length=lo, max_length=hi)
    except UnsatisfiableConstraint:
        assert not expected
        return
    assert {text for text in TEXTS if dfa.accepts(text.encode())} == expected
    check_no_dead_ends(dfa)


@settings(max_examples=80)
@given(plain_patterns, modes, windows)
def test_plain_patterns_match_what_re_matches(pattern: str, mode: str, window: tuple[int, int | None]) -> None:
    check(pattern, mode, *window)


@settings(max_examples=160)
@given(patterns, modes, windows)
def test_anchors_and_lookarounds_match_what_re_matches(pattern: str, mode: str, window: tuple[int, int | None]) -> None:
    check(pattern, mode, *window)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^a|b$", r"(^a|b)*$", r"(a$|b)+", r"a(?=b)[ab]*", r"(?=.*a)(?=.*b).{3,4}", r"(?!.*aa)[ab]*",
        r"(?!(?=a)ab)[ab]+", r"(?<=^a)b",
        r"\b\w+\b", r"a$\n", r"(a|$)\n?", r"((?=a)a?){2,3}", r"(?:(?=a)|b)*a", r"(?!^a)[ab]+", r"^$|^a$",
        r"(^a){2}|b", r"(a$){1,2}", r"(?m:^a$)", r"(?x) a  b # a comment", r"(?s).", r"\Aa\Z|b", r"(?:^|b)a(?:$|b)",
        r"(?!$)[ab]*", r"(?!a*$)[ab]*", r"(?=a*\Z)[ab]*", r"\B", r"(?<!a)b(?!b)",
    ],
)  # fmt: skip
def test_patterns_with_a_twist(pattern: str) -> None:
    for mode in ("full", "search"):
        check(pattern, mode, 0, None)


counts = st.tuples(st.integers(0, 4), st.none() | st.integers(1, 5)).filter(lambda c: c[1] is None or c[0] <= c[1])


@settings(max_examples=200)
@given(counts, st.booleans(), counts, st.booleans(), st.sampled_from(["a", "(?:a|b)", "(?:(?=a)ab?)"]))
def test_repeats_of_repeats(
    inner: tuple[int, int | None], lazy: bool, outer: tuple[int, int | None], lazier: bool, body: str
) -> None:
    def repeated(body: str, count: tuple[int, int | None], lazy: bool) -> str:
        lo, hi = count
        return f"(?:{body}{{{lo},{'' if hi is None else hi}}}{'?' if lazy else ''})"

    check(repeated(repeated(body, inner, lazy), outer, lazier), "full", 0, None)


counted = st.recursive(st.sampled_from(["a", "b", "ab", "[ab]", "b?"]), lambda inner: st.one_of(
    st.builds("{}{}".format, inner, inner),
    st.builds("(?:{}|{})".format, inner, inner),
    st.builds("(?:{}){}".format, inner, st.sampled_from(["{1,3}", "{0,4}", "{2,}", "{2,3}?", "{3}", "*"])),
), max_leaves=4)  # fmt: skip


@settings(max_examples=60)
@given(counted, counted)
def test_places_that_others_make_up_for_are_left_out(one: str, two: str) -> None:
    """`re` would take for ever over such patterns."""
    pattern = Pattern(f"(?:(?:{one}){{1,3}}(?:{two})?){{0,3}}")
    accepted: list[set[str]] = []
    for many in (0, 1_000_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grammar.regex.dfa, "_MANY_PLACES", many)
            dfa = text_dfa([pattern], raw_spelling(SPELLABLE), Fuel(100_000))
            accepted.append({text for text in TEXTS if dfa.accepts(text.encode())})
    assert accepted[0] == accepted[1]


@pytest.mark.parametrize(
    "pattern", ["([ab]{1,100}n?){1,100}", "((a{1,50}b?){1,50}c?){1,50}d", "((a|aa|aaa|aaaa)*b?){0,200}"]
)
def test_many_places_at_once_are_few_that_matter(pattern: str) -> None:
    """A text of 60 letters may be at thousands."""
    fuel = Fuel(100_000)
    automaton = text_dfa([Pattern(pattern)], raw_spelling([True] * 256), fuel)
    state = automaton.start
    for byte in b"a" * 30 + b"ab" * 15:
        state = next(to for lo, hi, to in automaton.edges(state) if lo <= byte <= hi)
    assert fuel.left > 50_000
    assert len(automaton._states[state]) < 300


def test_repeats_of_repeats_are_one() -> None:
    """(a{0,1000}){0,1000} would have a place for every way to have got there."""
    for pattern in ("(a{0,1000}){0,1000}", "((a?){500}){2000}", "((a{1,10}){10}){10000}"):
        match parse(Pattern(pattern)):
            case Repeat(Chars(), lo, hi):
                assert hi == 1_000_000
                assert lo == (100_000 if "1,10" in pattern else 0)
            case other:
                raise AssertionError(other)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i)k", r"(?i)[k-m]", r"(?i)ſ", r"(?i)[^s]", r"(?i)ß", r"(?i)[à-þ]",
        r"(?i)ǆ", r"(?i)µ", r"(?i)[\W]", r"(?i)[\dk]",
        r"(?ai)k", r"(?ai)[^K-M\d]", r"(?i)[Ⴀ-Ⴥ]", r"(?i)[𐐀-𐐧]", r"[\W\d]", r"(?a)[\w.]",
        r"[^\s]", r".", r"(?i)\u0130", r"(?i)İ",
        r"(?i)[^ı]", r"(?i)Σ", r"(?i)[ΐ-ΰ]",
    ],
)  # fmt: skip
def test_classes_have_the_members_that_re_gives_them(pattern: str) -> None:
    node = parse_python(pattern)
    assert isinstance(node, Chars)
    text = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x20000), MAX_CODE_POINT)))
    found = {ord(c) for c in re.findall(pattern, text)}
    assert {c for c in node.set.code_points() if c < 0x20000 or c == MAX_CODE_POINT} == found


@settings(max_examples=60)
@given(plain_patterns, st.randoms(use_true_random=False))
def test_texts_that_the_automaton_writes_match(pattern: str, rng: random.Random) -> None:
    try:
        dfa = text_dfa([Pattern(pattern)], raw_spelling([True] * 256), Fuel(50_000))
    except UnsatisfiableConstraint:
        return
    for _ in range(5):
        state, data = dfa.start, bytearray()
        while not (dfa.accepting(state) and (rng.random() < 0.3 or not dfa.edges(state))) and len(data) < 60:
            lo, hi, state = rng.choice(dfa.edges(state))
            data.append(rng.randint(lo, hi))
        if dfa.accepting(state):
            text = data.decode()
            assert re.fullmatch(pattern, text), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "error", "pointer"),
    [
        (r"(a)\1", UnsupportedConstraint, "1:4"),
        ("x\n (a)(?P=n)".replace("(a)", "(?P<n>a)"), UnsupportedConstraint, "2:10"),
        (r"(a)?(?(1)b|c)", UnsupportedConstraint, "1:5"),
        (r"[(?>](?>a)", UnsupportedConstraint, "1:6"),
        (r"\++a++", UnsupportedConstraint, "1:5"),
        (r"(?<=(?=a))b", UnsupportedConstraint, "1:1"),
        (r"(?<=a*)b", ConstraintError, "1:1"),
        ("ab\n(c", ConstraintError, "2:1"),
        (r"a{3,2}", ConstraintError, "1:3"),
        (r"*a", ConstraintError, "1:1"),
        (r"[b-a]", ConstraintError, "1:2"),
        (r"\p{L}", ConstraintError, "1:1"),
        ("(" * 120 + ")" * 120, ConstraintTooLarge, "1:1"),
        ("(" * 9000 + ")" * 9000, ConstraintTooLarge, "1:1"),
    ],
)
def test_refusals_name_the_place(pattern: str, error: type[ConstraintError], pointer: str) -> None:
    with pytest.raises(error) as caught:
        parse_python(pattern)
    assert type(caught.value) is error
    assert caught.value.pointer == pointer
