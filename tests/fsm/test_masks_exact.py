"""Masks equal brute force: over finite languages a token is allowed exactly when some sentence begins with the text and
the token.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fsm.program import Program, compile_constraint
from fsm.tokens import TokenTable
from grammar.constraint import JsonSchema
from grammar.errors import UnsatisfiableConstraint
from tests.fsm.languages import NAMES, language, viable

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
ALPHABET = bytes(range(0x20, 0x7F)) + "é".encode()

STRINGS = st.sampled_from(
    [
        {"type": "string", "maxLength": 2, "pattern": "^[ab]*$"},
        {"type": "string", "minLength": 1, "maxLength": 2, "pattern": "^a?b*$"},
        {"enum": ["a", "ab", 'q"', "é"]},
        {"const": "ba"},
    ]
)
NUMBERS = st.sampled_from(
    [
        {"type": "integer", "minimum": -2, "maximum": 12},
        {"type": "integer", "exclusiveMinimum": 0, "maximum": 3},
        {"enum": [1, 2, 12]},
        {"const": 7},
    ]
)
SCALARS = st.one_of(
    STRINGS, NUMBERS, st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"enum": [None, True, "b"]}])
)
# What a value two levels down may be: its universe is smaller.
LEAVES = st.sampled_from([{"type": "null"}, {"enum": [1, 2]}, {"const": "a"}, {"enum": ["a", "ab", True]}])


def objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.lists(st.sampled_from(["a", "b", "ab"]), unique=True, max_size=2)

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        properties = {name: draw(parts) for name in draw(names)}
        required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return build()


def arrays(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    @st.composite
    def build(draw: st.DrawFn) -> Any:
        low = draw(st.integers(0, 2))
        return {"type": "array", "items": draw(parts), "minItems": low, "maxItems": draw(st.integers(low, 2))}

    return build()


NESTED = st.one_of(LEAVES, objects(LEAVES), arrays(LEAVES))
SINGLE = st.one_of(SCALARS, objects(LEAVES), arrays(LEAVES))
# Alternatives only in free order: with declared order the oracle would need to know which alternative a value came
# from.
UNIONS = st.lists(st.one_of(SCALARS, objects(LEAVES), arrays(LEAVES)), min_size=2, max_size=3).map(
    lambda b: {"anyOf": b}
)


def vocabulary(sentences: set[bytes], cuts: list[tuple[int, int, int]]) -> TokenTable:
    """Every byte of the alphabet, and longer tokens cut out of the sentences."""
    ordered = sorted(sentences)
    tokens: list[bytes | None] = [bytes([b]) for b in ALPHABET]
    for which, start, length in cuts:
        if ordered:
            sentence = ordered[which % len(ordered)]
            start %= max(len(sentence), 1)
            tokens.append(sentence[start : start + 2 + length])
    tokens += [b'","', b'"}', b"],", b'":', b"zz", None]
    return TokenTable.from_bytes([t or None for t in tokens], [len(tokens) - 1])


def check(program: Program, sentences: set[bytes], budget: int = 400) -> None:
    """Compare masks with brute force at every viable prefix reachable by tokens, up to ``budget`` of them."""
    table, prefixes = program.table, viable(sentences)
    eos = table.eos_ids[0]
    todo, known = [(program.matcher(), b"")], {b""}
    while todo and budget:
        matcher, text = todo.pop()
        budget -= 1
        expected = {i for i in range(table.vocab_size) if (piece := table.bytes_of(i)) and text + piece in prefixes}
        if text in sentences:
            expected.add(eos)
        assert set(matcher.allowed().tolist()) == expected, text
        assert matcher.accepting == (text in sentences), text
        for token in expected - {eos}:
            longer = text + (table.bytes_of(token) or b"")
            after = matcher.fork()
            assert after.advance(token), (text, token)
            if longer not in known:
                known.add(longer)
                todo.append((after, longer))
        refused = next((i for i in range(table.vocab_size) if i not in expected), None)
        if refused is not None:
            assert not matcher.fork().advance(refused)


@pytest.mark.parametrize("bounds", [{}, {"minLength": 1}, {"maxLength": 3}, {"minLength": 1, "maxLength": 2}])
@pytest.mark.parametrize("but", [{"pattern": "b$"}, {"const": "a"}, {"enum": ["", "ab"]}, {"pattern": "^a|b"}])
def test_strings_told_by_what_they_are_not(bounds: dict[str, Any], but: dict[str, Any]) -> None:
    table = TokenTable.from_bytes([*(bytes([b]) for b in ALPHABET), None], [len(ALPHABET)])
    program = compile_constraint(JsonSchema({"type": "string", "not": but, **bounds}), table)
    low, high = bounds.get("minLength", 0), bounds.get("maxLength", 9)
    for text in ("", "a", "b", "ab", "ba", "bb", "aba", "abab", "c"):
        matcher = program.matcher()
        written = all(matcher.advance(ALPHABET.index(byte)) for byte in f'"{text}"'.encode())
        excluded = re.search(but["pattern"], text) if "pattern" in but else text in but.get("enum", [but.get("const")])
        assert (written and matcher.accepting) == (low <= len(text) <= high and not excluded), text


def test_every_end_of_sequence_id_is_allowed_where_the_text_may_end() -> None:
    ends = [0, 2, len(ALPHABET) + 2]
    table = TokenTable.from_bytes([None, b"zz", None, *(bytes([b]) for b in ALPHABET[1:]), None], ends)
    matcher = compile_constraint(JsonSchema({"const": 1}), table).matcher()
    assert matcher.advance(next(i for i in range(table.vocab_size) if table.bytes_of(i) == b"1"))
    assert matcher.allowed().tolist() == ends


CUTS = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 20), st.integers(0, 6)), max_size=12)


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(schema=st.one_of(SINGLE, objects(NESTED), arrays(NESTED)), order=st.sampled_from(["schema", "any"]), cuts=CUTS)
def test_masks_of_single_shapes(schema: Any, order: str, cuts: list[tuple[int, int, int]]) -> None:
    _compare(schema, order, cuts)


@settings(max_examples=60, deadline=None, phases=PHASES)
@given(schema=UNIONS, cuts=CUTS)
def test_masks_of_unions(schema: Any, cuts: list[tuple[int, int, int]]) -> None:
    _compare(schema, "any", cuts)


@st.composite
def classed(draw: st.DrawFn) -> Any:
    """Objects whose names are told by patterns with few texts, and counted."""
    patterns = st.sampled_from(["^[ab]$", "^a", "b$", "^(a|b)b?$", "^a?b$", "^b?a$"])
    names = st.lists(st.sampled_from(["a", "b", "ab"]), unique=True, max_size=2)
    tiny = st.sampled_from([{"type": "null"}, {"const": 1}, {"enum": [1, "a"]}, False])
    properties = {name: draw(tiny) for name in draw(names)}
    known = st.sampled_from(sorted(properties)) if properties else st.nothing()
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "patternProperties": draw(st.dictionaries(patterns, tiny, max_size=2)),
        "propertyNames": {"pattern": "^[ab]{1,2}$"},
        "required": draw(st.lists(known, unique=True)),
        "additionalProperties": False,
    }
    schema |= draw(
        st.fixed_dictionaries({}, optional={"minProperties": st.integers(0, 3), "maxProperties": st.integers(0, 3)})
    )
    several = [
        name for name in NAMES if name in properties or any(re.search(p, name) for p in schema["patternProperties"])
    ]
    if len(several) > 3:  # the oracle enumerates all orders
        schema.setdefault("maxProperties", 3)
    return schema


@settings(max_examples=80, deadline=None, phases=PHASES)
@given(schema=classed(), order=st.sampled_from(["schema", "any"]), cuts=CUTS)
def test_masks_of_names_in_classes(schema: Any, order: str, cuts: list[tuple[int, int, int]]) -> None:
    _compare(schema, order, cuts)


DIFFERENT = st.sampled_from(
    [
        {"type": "boolean"},
        {"enum": [1, 2, 12]},
        {"type": "integer", "minimum": 8, "maximum": 11},
        {"type": ["null", "boolean"]},
        {"enum": ["a", "ab", 1, None]},
        {"enum": [[1], [True], [], "a"]},
        {"enum": [{"a": 1}, {"a": 2, "b": None}, {}]},
        {"type": "array", "items": {"enum": [1, "a"]}, "maxItems": 2},
        {"type": "array", "prefixItems": [{"type": "boolean"}], "items": {"const": "b"}, "minItems": 1, "maxItems": 2},
        {"anyOf": [{"type": "integer", "minimum": -1, "maximum": 1}, {"enum": [0, "a", None]}]},
    ]
)
# Objects among unique items are written in declared order, so that the oracle enumerates no others.
CLOSED = st.sampled_from(
    [
        {"properties": {"a": {"type": "boolean"}, "b": {"const": 1}}, "required": ["b"]},
        {"properties": {"a": {"enum": [1, "a"]}, "b": {"type": "null"}}, "minProperties": 1},
        {"properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}, "maxProperties": 1},
    ]
).map(lambda o: {**o, "type": "object", "additionalProperties": False})


@settings(max_examples=120, deadline=None, phases=PHASES)
@given(schema=arrays(DIFFERENT | CLOSED), most=st.integers(2, 3), cuts=CUTS)
def test_masks_of_unique_items(schema: Any, most: int, cuts: list[tuple[int, int, int]]) -> None:
    _compare({**schema, "maxItems": most, "uniqueItems": True}, "schema", cuts)


@settings(max_examples=40, deadline=None, phases=PHASES)
@given(
    schema=arrays(STRINGS | st.just({"anyOf": [{"pattern": "^a?b?$", "type": "string"}, {"enum": ["a", "bb"]}]})),
    cuts=CUTS,
)
def test_masks_of_unique_strings(schema: Any, cuts: list[tuple[int, int, int]]) -> None:
    _compare({**schema, "uniqueItems": True}, "any", cuts)


COUNTED = st.sampled_from(
    [
        {"contains": {"const": 1}},
        {"contains": {"const": 1}, "minContains": 2},
        {"contains": {"type": ["integer", "null"]}, "maxContains": 1},
        {"contains": {"type": "string"}, "minContains": 1, "maxContains": 2},
        {"contains": {"enum": ["a", 1]}, "minContains": 0, "maxContains": 1},
        {"contains": {"items": {"const": "a"}, "type": "array"}},
        {"contains": {"minItems": 1, "type": "array"}, "maxContains": 0},
        {"not": {"contains": {"enum": [1, None]}}},
        {"not": {"contains": {"type": "string"}, "minContains": 2}},
        {"not": {"contains": {"type": "string"}, "maxContains": 1}},
        {"not": {"prefixItems": [True], "items": {"type": "integer"}}},
        {"anyOf": [{"contains": {"const": 2}}, {"minItems": 3}]},
        {"if": {"contains": {"const": 1}}, "then": {"contains": {"const": "a"}}, "else": {"maxItems": 2}},
    ]
)


@st.composite
def counted(draw: st.DrawFn) -> Any:
    items = st.sampled_from([{"enum": [1, 2, "a"]}, {"enum": [1, None]}, {"type": "null"}, {"enum": [["a"], [], 1]}])
    prefix = draw(st.lists(items, max_size=2))
    schema: dict[str, Any] = {
        "type": "array",
        "items": draw(items | st.just(False)),
        "minItems": draw(st.integers(0, 2)),
        "maxItems": draw(st.integers(1, 3)),
        "allOf": draw(st.lists(COUNTED, min_size=1, max_size=2)),
    }
    return {**schema, "prefixItems": prefix} if prefix else schema


@settings(max_examples=120, deadline=None, phases=PHASES)
@given(schema=counted(), cuts=CUTS)
def test_masks_of_counted_items(schema: Any, cuts: list[tuple[int, int, int]]) -> None:
    _compare(schema, "any", cuts)


LOGIC = st.sampled_from(
    [
        {"not": {"required": ["a"]}},
        {"not": {"properties": {"a": {"const": 1}}}},
        {"not": {"additionalProperties": {"const": 1}}},
        {"not": {"maxProperties": 1}},
        {"not": {"propertyNames": {"pattern": "^a"}}},
        {"if": {"properties": {"a": {"const": 1}}, "required": ["a"]}, "then": {"required": ["b"]}},
        {"if": {"required": ["b"]}, "then": {"properties": {"a": {"const": "a"}}}, "else": {"minProperties": 1}},
        {"dependentRequired": {"a": ["b"], "ab": ["a"]}},
        {"dependentSchemas": {"b": {"properties": {"a": {"type": "null"}}}}},
        {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"oneOf": [{"maxProperties": 1}, {"required": ["ab"]}, {"patternProperties": {"^a": {"const": 1}}}]},
    ]
)


@settings(max_examples=80, deadline=None, phases=PHASES)
@given(schema=classed(), logic=st.lists(LOGIC, min_size=1, max_size=2), cuts=CUTS)
def test_masks_of_logic(schema: Any, logic: list[Any], cuts: list[tuple[int, int, int]]) -> None:
    _compare({**schema, "allOf": logic}, "any", cuts)


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(branches=st.lists(classed(), min_size=2, max_size=2), cuts=CUTS)
def test_masks_of_unions_of_classes(branches: list[Any], cuts: list[tuple[int, int, int]]) -> None:
    _compare({"anyOf": branches}, "any", cuts)


@settings(max_examples=30, deadline=None, phases=PHASES)
@given(branches=st.lists(st.one_of(objects(LEAVES), arrays(LEAVES)), min_size=2, max_size=2), cuts=CUTS)
def test_verdicts_reach_the_parent(branches: list[Any], cuts: list[tuple[int, int, int]]) -> None:
    """Alternatives that only the inside of a value tells apart, below an object that must know which it was."""
    schema = {
        "anyOf": [
            {
                "type": "object",
                "properties": {"a": branch, "b": {"const": i + 1}},
                "required": ["a", "b"],
                "additionalProperties": False,
            }
            for i, branch in enumerate(branches)
        ]
    }
    _compare(schema, "any", cuts)


def _compare(schema: Any, order: str, cuts: list[tuple[int, int, int]]) -> None:
    sentences = language(schema, order)
    table = vocabulary(sentences, cuts)
    constraint = JsonSchema(schema, property_order=order, whitespace="compact")  # type: ignore[arg-type]
    if not sentences:
        with pytest.raises(UnsatisfiableConstraint):
            compile_constraint(constraint, table)
        return
    check(compile_constraint(constraint, table), sentences)


def test_a_key_that_is_begun_is_not_spelled_again_by_its_own_token() -> None:
    """A mask that was found under another key says nothing about a token that ends `name` and begins it again."""
    table = TokenTable.from_bytes([*(bytes([b]) for b in range(256)), b'":5,"name"', None], [257])
    program = compile_constraint(JsonSchema({"additionalProperties": {"type": "integer"}}, whitespace="compact"), table)
    allowed: dict[bytes, bool] = {}
    for key in (b"other", b"name", b"nam", b"na"):
        matcher = program.matcher()
        for byte in b'{"' + key:
            assert matcher.advance(byte)
        allowed[key] = 256 in matcher.allowed().tolist()
        assert allowed[key] == matcher.advance(256)
    assert allowed == {b"other": True, b"name": False, b"nam": True, b"na": True}
