"""Derivatives against sets of texts, written out."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.charset import CharSet
from grammar.errors import ConstraintTooLarge, UnsatisfiableConstraint
from grammar.fuel import Fuel
from grammar.regex.derivatives import ANYTHING, EMPTY, NOTHING, Automaton, Derivatives, Term

ALPHABET = "abc"
LONGEST = 4
TEXTS = frozenset("".join(letters) for n in range(LONGEST + 1) for letters in product(ALPHABET, repeat=n))

Tree = tuple[object, ...]
trees: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(
        st.tuples(
            st.just("chars"), st.sets(st.sampled_from(ALPHABET), min_size=1, max_size=2).map(sorted).map("".join)
        ),
        st.tuples(st.just("empty")),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(("seq", "alt", "both")), st.lists(inner, max_size=3).map(tuple)),
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("repeat"), inner, st.integers(0, 2), st.sampled_from((None, 2, 3))),
    ),
    max_leaves=8,
)


def term_of(tree: Tree, terms: Derivatives) -> Term:
    match tree:
        case ("chars", str(members)):
            return terms.chars(CharSet.of(members))
        case ("empty",):
            return EMPTY
        case ("not", inner):
            return terms.negation(term_of(inner, terms))  # type: ignore[arg-type]
        case ("repeat", inner, int(least), most):
            return terms.repeat(term_of(inner, terms), least, most)  # type: ignore[arg-type]
        case (kind, parts):
            return getattr(terms, str(kind))([term_of(part, terms) for part in parts])  # type: ignore[attr-defined]
        case _:
            raise AssertionError(tree)


def texts_of(tree: Tree) -> frozenset[str]:
    """What a tree matches, up to `LONGEST`."""
    match tree:
        case ("chars", str(members)):
            return frozenset(members)
        case ("empty",):
            return frozenset(("",))
        case ("not", inner):
            return TEXTS - texts_of(inner)  # type: ignore[arg-type]
        case ("repeat", inner, int(least), most):
            once = texts_of(inner)  # type: ignore[arg-type]
            found, level = set[str](), frozenset(("",))
            for count in range(least + LONGEST + 1 if most is None else most + 1):  # type: ignore[operator]
                found |= level if count >= least else frozenset()
                level = joined(level, once)
            return frozenset(found)
        case ("seq", parts):
            level = frozenset(("",))
            for part in parts:  # type: ignore[attr-defined]
                level = joined(level, texts_of(part))
            return level
        case ("alt", parts):
            return frozenset[str]().union(*(texts_of(part) for part in parts))  # type: ignore[attr-defined]
        case ("both", parts):
            return TEXTS.intersection(*(texts_of(part) for part in parts))  # type: ignore[attr-defined]
        case _:
            raise AssertionError(tree)


def joined(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    return frozenset(a + b for a in one for b in other if len(a) + len(b) <= LONGEST)


def accepts(automaton: Automaton, text: str) -> bool:
    state = 0
    for char in text:
        following = [to for members, to in automaton.edges[state] if ord(char) in members]
        assert len(following) < 2
        if not following:
            return False
        state = following[0]
    return automaton.accepting[state]


@settings(max_examples=300, deadline=None)
@given(trees)
def test_an_automaton_accepts_what_its_term_matches(tree: Tree) -> None:
    terms = Derivatives(CharSet.of(ALPHABET), Fuel(10_000))
    expected = texts_of(tree)
    try:
        automaton = terms.automaton(term_of(tree, terms))
    except UnsatisfiableConstraint:
        assert not expected
        return
    assert {text for text in TEXTS if accepts(automaton, text)} == expected
    ending = [state for state, accepting in enumerate(automaton.accepting) if accepting]
    assert set(leading_to(automaton, ending)) == set(range(len(automaton.edges))), "every state has a completion"


def leading_to(automaton: Automaton, states: list[int]) -> list[int]:
    found = list(states)
    for state in found:
        found += [
            here
            for here, ways in enumerate(automaton.edges)
            if here not in found and any(to == state for _, to in ways)
        ]
    return found


def test_a_text_of_many_parts_needs_no_deep_calls() -> None:
    terms = Derivatives(CharSet.of(ALPHABET), Fuel(100_000))
    maybe = [terms.repeat(terms.chars(CharSet.of("a")), 0, 1) for _ in range(500)]
    either = terms.alt([terms.seq([*maybe, terms.chars(CharSet.of("b"))]), terms.chars(CharSet.of("c"))])
    automaton = terms.automaton(terms.seq([either, terms.chars(CharSet.of("c"))]))
    assert accepts(automaton, "a" * 500 + "bc")
    assert not accepts(automaton, "a" * 501 + "bc")
    assert terms.negation(ANYTHING) == NOTHING


def test_fuel_bounds_what_explodes() -> None:
    terms = Derivatives(CharSet.of(ALPHABET), Fuel(5_000))
    tail = terms.seq([terms.chars(CharSet.of("a")), *[terms.chars(CharSet.of("ab"))] * 20])
    with pytest.raises(ConstraintTooLarge):
        terms.automaton(terms.negation(terms.seq([ANYTHING, tail])))
