"""Number automata against exact arithmetic over all short texts, and against jsonschema."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from itertools import product

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.errors import UnsatisfiableConstraint
from grammar.json_schema.conjunction import number_shape
from grammar.json_schema.numbers import NumberAutomaton, Spelling, simplest, spell
from grammar.json_schema.shapes import NumberEnum, NumberShape
from grammar.json_schema.values import number_satisfies

Shape = NumberShape | NumberEnum

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
TEXTS = ["".join(chars) for length in range(1, 5) for chars in product("-.0125", repeat=length)]
"""Every text of at most four of these characters; a digit stands for its neighbours."""

decimals = st.builds(lambda n, places: Fraction(n, 10**places), st.integers(-1200, 1200), st.integers(0, 3))


@st.composite
def intervals(draw: st.DrawFn) -> NumberShape | NumberEnum:
    lo, hi = draw(st.none() | decimals), draw(st.none() | decimals)
    factors = draw(st.lists(decimals.map(abs).filter(bool), max_size=1))
    apart = draw(st.lists(decimals.map(abs).filter(bool) | st.sampled_from([Fraction(1), Fraction(2)]), max_size=2))
    shape = number_shape(draw(st.booleans()), lo, draw(st.booleans()), hi, draw(st.booleans()), factors, apart)
    return NumberShape() if shape is None else shape


shapes = intervals() | st.lists(decimals, min_size=1, max_size=4, unique=True).map(lambda v: NumberEnum(tuple(v)))


def read(automaton: NumberAutomaton, text: str) -> str | None:
    """The state after a text, None where it is refused."""
    state = automaton.start
    for byte in text.encode():
        following = [to for lo, hi, to in automaton.edges(state) if lo <= byte <= hi]
        assert len(following) <= 1, "edges are disjoint"
        if not following:
            return None
        state = following[0]
    return state


def may_write(text: str, shape: Shape, spelling: Spelling) -> bool:
    """The specification: whether a text without exponent is a spelling of a value of the shape, ignoring caps."""
    if not NUMBER.fullmatch(text) or not number_satisfies(shape, Fraction(text)):
        return False
    if isinstance(shape, NumberEnum):
        one = spell(Fraction(text))
        return text == one or (spelling == "free" and text == one + ".0" and "." not in one)
    if spelling == "free":
        return True
    return not (shape.integer and "." in text) and not (text.startswith("-") and not Fraction(text))


@settings(max_examples=40, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=3), st.sampled_from(["canonical", "free"]))
def test_every_short_text_is_judged_by_exact_arithmetic(parts: list[Shape], spelling: Spelling) -> None:
    automaton = NumberAutomaton(tuple(parts), spelling)
    states: dict[str, str | None] = {"": automaton.start}
    edges: dict[str, list[tuple[int, int, str]]] = {}
    for text in TEXTS:
        before = states[text[:-1]]
        if before is not None and before not in edges:
            edges[before] = automaton.edges(before)
        following = (
            [to for lo, hi, to in edges.get(before or "", []) if lo <= ord(text[-1]) <= hi]
            if before is not None
            else []
        )
        state = states[text] = following[0] if following else None
        satisfied = frozenset() if state is None else automaton.accepting(state)
        if any(may_write(text, shape, spelling) for shape in parts):
            number = Fraction(text)
            assert satisfied == {i for i, shape in enumerate(parts) if number_satisfies(shape, number)}, text
        else:
            assert not satisfied, text


@settings(max_examples=100, deadline=None)
@given(st.lists(shapes, min_size=1, max_size=2), st.data())
def test_every_walk_can_be_finished(parts: list[Shape], data: st.DataObject) -> None:
    automaton = NumberAutomaton(tuple(parts))
    text, state = "", automaton.start
    for _ in range(60):
        edges = automaton.edges(state)
        if automaton.accepting(state) and (not edges or data.draw(st.integers(0, 4)) == 0):
            break
        lo, hi, state = data.draw(st.sampled_from(edges))
        text += chr(data.draw(st.integers(lo, hi)))
    assert automaton.accepting(state), f"{text!r} is a dead end or has no end"
    assert any(number_satisfies(shape, Fraction(text)) for shape in parts)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_is_written_validates_as_a_double(data: st.DataObject) -> None:
    """A reader of doubles, with bounds as doubles, agrees about every number: the reason for the caps."""
    bounds = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: float(f"{x:.12g}"))
    low, high = sorted(data.draw(st.tuples(bounds, bounds)))
    schema = {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high}
    shape = number_shape(False, Fraction(str(low)), True, Fraction(str(high)), True, ())
    if shape is None:
        return
    automaton = NumberAutomaton((shape,))
    text, state = "", automaton.start
    while not automaton.accepting(state) or data.draw(st.integers(0, 3)):
        edges = automaton.edges(state)
        if not edges:
            break
        lo, hi, state = data.draw(st.sampled_from(edges))
        text += chr(data.draw(st.sampled_from([lo, hi])))
    jsonschema.validate(json.loads(text), schema)


@settings(max_examples=200, deadline=None)
@given(shapes)
def test_the_simplest_value_is_a_value_and_has_a_spelling(shape: Shape) -> None:
    value = simplest(shape)
    assert number_satisfies(shape, value)
    automaton = NumberAutomaton((shape,))
    state = read(automaton, spell(value))
    assert state is not None and automaton.accepting(state) == {0}


@pytest.mark.parametrize(
    "shape",
    [
        NumberShape(integer=True, lo=Fraction(10**25)),
        NumberShape(
            lo=Fraction("0.12345678901234567890"), lo_open=True, hi=Fraction("0.12345678901234567891"), hi_open=True
        ),
        NumberShape(hi=Fraction(-(10**30)), hi_open=True),
        NumberShape(lo=Fraction(0), lo_open=True, hi=Fraction(1, 10**40)),
    ],
)
def test_caps_are_raised_where_no_value_lies_within_them(shape: NumberShape) -> None:
    automaton, state = NumberAutomaton((shape,)), ""
    text = ""
    while not automaton.accepting(state):
        lo, _, state = automaton.edges(state)[0]
        text += chr(lo)
    assert number_satisfies(shape, Fraction(text))


@pytest.mark.parametrize("text", ["1e10", "1.5e-7", "-2.25e+300", "0e0", "9.9e307", "1e007", "1e30", "1e31", "1e300"])
def test_unbounded_numbers_have_an_exponent_form(text: str) -> None:
    automaton = NumberAutomaton((NumberShape(),))
    state = read(automaton, text)
    assert state is not None and automaton.accepting(state) == {0}


@pytest.mark.parametrize("text", ["1e308", "1e999", "12e5", "1e", "1e+", "1e0000", "-0e1", "1E5"])
def test_exponents_stay_finite_and_canonical(text: str) -> None:
    automaton = NumberAutomaton((NumberShape(),))
    state = read(automaton, text)
    assert state is None or not automaton.accepting(state)


def test_every_exponent_up_to_the_cap_and_none_beyond() -> None:
    automaton = NumberAutomaton((NumberShape(),))
    for exponent in range(400):
        for text in (f"1e{exponent}", f"1e-{exponent:03}"):
            state = read(automaton, text)
            assert (state is not None and bool(automaton.accepting(state))) == (exponent <= 307), text


def test_free_integers_may_be_spelled_as_floats() -> None:
    automaton = NumberAutomaton((NumberShape(integer=True),), "free")
    for text, allowed in {"1.0": True, "1e2": True, "-0": True, "1.5": False, "1e-2": False, "1.50e1": False}.items():
        state = read(automaton, text)
        assert (state is not None and bool(automaton.accepting(state))) == allowed, text


def test_an_unbounded_integer_has_one_state_a_digit() -> None:
    automaton = NumberAutomaton((NumberShape(integer=True),))
    states, stack = {""}, [""]
    while stack:
        for _, _, state in automaton.edges(stack.pop()):
            if state not in states:
                states.add(state)
                stack.append(state)
    assert len(states) == 3 + 19  # the start, after the sign, 0, and one a number of digits


def test_nothing_to_write_is_refused() -> None:
    with pytest.raises(UnsatisfiableConstraint):
        NumberAutomaton(())


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0", "0"),
        ("-2.50", "-2.5"),
        ("1e20", "1" + "0" * 20),
        ("1e21", "1e21"),
        ("0.0000001", "1e-7"),
        ("-1.25e300", "-1.25e300"),
    ],
)
def test_enumerated_numbers_are_spelled_as_javascript_does(number: str, text: str) -> None:
    assert spell(Fraction(number)) == text
    assert read(NumberAutomaton((NumberEnum((Fraction(number),)),)), text) == text
