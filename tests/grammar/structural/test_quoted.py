"""Regexes and grammars inside JSON strings: what is written decodes to what `re` and Lark accept, and nothing else."""

from __future__ import annotations

import json
import random
import re
from itertools import product
from typing import Any

import lark
import lark.indenter
import pytest

from fsm import TokenTable, compile_constraint
from grammar import ConstraintError, Contract, StructuralTag, UnsupportedConstraint
from tests.grammar.structural.test_structural_tags import BOOLEAN, BYTES, const, document, machine_accepts, tag

LETTERS = 'ab"\\\n'
TEXTS = ["".join(letters) for n in range(5) for letters in product(LETTERS, repeat=n)]
PATTERNS = ["a*", '"[^"]*"', r"(?:a\\|\n)+", r'[^a]{1,2}"?', "", r"(ab|a)b?\\*"]
GRAMMARS = [
    'start: "a" start "b" | "\\""',
    'start: start start | "a" | "\\\\"',
    "start: WORD (NL WORD)*\nWORD: /[ab]+/\nNL: /\\n/",
    'start: e\ne: e "\\"" e | /a/ | /b/\n%ignore /\\n/',
    'start: a b a\na: "a"?\nb: a c?\nc: "\\"" a | a',
    'start: /a(?!b)/ "b"? | /b+/ "\\""',
]
# As many tokens of several bytes as a vocabulary has where escapes and quotes meet.
TOKENS = [bytes([b]) for b in range(256)] + [b'\\"', b'"}', b'a"', b'\\\\"', b"\\nb", b'"}<', b"ab", b'\\n"}']
TABLE = TokenTable.from_bytes([*TOKENS, None], [len(TOKENS)])


def quoted(content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_string", "content": content}


def regex(pattern: str) -> dict[str, Any]:
    return quoted({"type": "regex", "pattern": pattern})


def sentence(grammar: str) -> dict[str, Any]:
    return quoted({"type": "lark", "grammar": grammar})


def parser(grammar: str) -> lark.Lark:
    return lark.Lark(grammar, parser="earley", lexer="dynamic_complete", ambiguity="resolve")


def parses(accepting: lark.Lark, text: str) -> bool:
    try:
        accepting.parse(text)
    except lark.exceptions.LarkError:
        return False
    return True


@pytest.fixture(autouse=True)
def no_collision_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lark.lexer, "has_interegular", False)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_value_of_a_string_matches_a_regex(pattern: str) -> None:
    program = compile_constraint(StructuralTag(document(regex(pattern))), BYTES)
    assert program.contract is Contract.EXACT
    for text in TEXTS:
        spelled = json.dumps(text, ensure_ascii=False)
        assert machine_accepts(program, spelled) == bool(re.fullmatch(pattern, text)), text


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_the_value_of_a_string_is_a_sentence(grammar: str) -> None:
    program = compile_constraint(StructuralTag(document(sentence(grammar))), BYTES)
    oracle = parser(grammar)
    for text in random.Random(1).sample(TEXTS, 150):
        spelled = json.dumps(text, ensure_ascii=False)
        assert machine_accepts(program, spelled) == parses(oracle, text), text
        assert not machine_accepts(program, spelled[:-1])


CONTEXTUAL = [
    (r'start: ("a" NL | NL "b" "\"")* WORD?' + "\nWORD: /[ab]+/\nNL: /\\n/", LETTERS, None),
    (
        'start: line+\nline: "a" _NL | "b" _NL _INDENT line+ _DEDENT\n%declare _INDENT _DEDENT\n_NL: /(\\n[ \\t]*)+/',
        "ab\n \t",
        {"newline": "_NL", "tab_len": 2},
    ),
]


@pytest.mark.parametrize(("grammar", "letters", "indenter"), CONTEXTUAL)
def test_the_value_is_a_sentence_as_a_lexer_reads_it(
    grammar: str, letters: str, indenter: dict[str, Any] | None
) -> None:
    """An Indenter counts the columns of the text, not of its escapes."""
    told = {"type": "lark", "grammar": grammar, "semantics": "contextual", "indenter": indenter}
    program = compile_constraint(StructuralTag(document(quoted(told))), BYTES)
    assert ("indentation_columns" in program.limits) == bool(indenter)
    known = type("Known", (lark.indenter.PythonIndenter,), {"NL_type": "_NL", "tab_len": 2})
    oracle = lark.Lark(grammar, parser="lalr", postlex=known() if indenter else None)
    right = 0
    texts = ["".join(chars) for n in range(5) for chars in product(letters, repeat=n)]
    texts += ["b\n" + "".join(chars) for n in range(3, 5) for chars in product(letters, repeat=n)]
    for text in texts:
        accepted = parses(oracle, text)
        right += accepted
        assert machine_accepts(program, json.dumps(text)) == accepted, text
    assert right > 10


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_calls_of_grammars_and_of_json_in_one_text(grammar: str) -> None:
    """Walked at random, a text of calls ends, and each call is what its tag says."""
    tags = [
        tag("<g>", {"type": "sequence", "elements": [const('{"input": '), sentence(grammar), const("}")]}, "</>"),
        tag("<j>", BOOLEAN, "</>"),
    ]
    calls = {"type": "tags_with_separator", "tags": tags, "separator": "\n", "at_least_one": True}
    form = {"type": "sequence", "elements": [{"type": "any_text", "excludes": ["<"]}, calls]}
    program, oracle, dice = compile_constraint(StructuralTag(document(form)), TABLE), parser(grammar), random.Random(2)
    ended = 0
    for _ in range(12):
        matcher, text = program.matcher(), b""
        for _ in range(80):
            allowed = [
                t for t in matcher.allowed().tolist() if t >= 256 or chr(t) in LETTERS + '<>gj/{}input": trufals'
            ]
            if matcher.accepting or not allowed:
                break
            token = dice.choice(allowed)
            assert matcher.advance(token)
            text += TOKENS[token]
        if not matcher.accepting:
            continue
        ended += 1
        for call in re.findall(r"<([gj])>(.*?)</>", text.decode(), re.DOTALL):
            value = json.loads(call[1])
            assert isinstance(value, bool) if call[0] == "j" else parses(oracle, value["input"])
    assert ended


def test_a_grammar_may_be_empty_and_repeated() -> None:
    grammar = sentence('start: "a"*\n%ignore " "')
    form = {"type": "plus", "content": grammar}
    program = compile_constraint(StructuralTag(document(form)), BYTES)
    for text, right in [('""', True), ('" "', True), ('" a a""aa"', True), ('"', False), ("", False), ('"b"', False)]:
        assert machine_accepts(program, text) == right


@pytest.mark.parametrize(
    ("asked", "kind", "pointer"),
    [
        (sentence("start: b"), ConstraintError, "/format/content/grammar"),
        (sentence('start: %json {"type": "string"}'), UnsupportedConstraint, "/format/content/grammar"),
        (regex("("), ConstraintError, "/format/content/pattern"),
        (quoted({"type": "any_text"}), UnsupportedConstraint, "/format/content/type"),
        ({"type": "lark", "grammar": 'start: "a"'}, UnsupportedConstraint, "/format/type"),
    ],
)
def test_what_is_wrong_is_named(asked: Any, kind: type[ConstraintError], pointer: str) -> None:
    with pytest.raises(kind) as caught:
        compile_constraint(StructuralTag(document(asked)), BYTES)
    assert caught.value.pointer == pointer
