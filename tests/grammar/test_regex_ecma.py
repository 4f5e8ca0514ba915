"""ECMA-262's dialect: tables where it differs from Python, `re` where it does not, refusals with their places."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammar.errors import ConstraintError, ConstraintTooLarge, UnsatisfiableConstraint, UnsupportedConstraint
from grammar.fuel import Fuel
from grammar.regex.ecma import parse_ecma
from grammar.regex.language import Pattern, text_dfa
from grammar.utf8 import raw_spelling
from tests.grammar.test_regex_python import SPELLABLE, TEXTS, modes, quantifiers

DATA = Path(__file__).parents[3] / "shared" / "data"


def found(pattern: str, text: str) -> bool:
    """Whether JSON Schema's `pattern` would accept ``text``."""
    try:
        dfa = text_dfa([Pattern(pattern, "ecma", "search")], raw_spelling([True] * 256), Fuel(50_000))
    except UnsatisfiableConstraint:
        return False
    return dfa.accepts(text.encode())


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        (r"^\d$", ["0", "9"], ["٣", "a"]),
        (r"^\w$", ["a", "_"], ["é", "-"]),
        (r"^\s$", [" ", "\ufeff", "\u3000", "\u2028"], ["\x1c", "\x85", "a"]),
        (r"^.$", ["a", "😀", "\x85"], ["\n", "\r", "\u2028", "\u2029"]),
        (r"^a$", ["a"], ["a\n"]),
        (r"^[^]$", ["a", "\n"], ["", "ab"]),
        (r"a[]|b", ["b"], ["a"]),
        (r"^[]$", [], ["", "]"]),
        (r"^\u0041\x42\cJ\0\t\v\f\/$", ["AB\n\0\t\v\f/"], []),
        (r"^\u{1F600}\uD83D\uDE00$", ["😀😀"], ["😀"]),
        (r"^[\uD83D\uDE00-\u{1F603}]$", ["😀", "😃"], ["😄"]),
        (r"^[\ud800-\udfffa]$", ["a"], ["b"]),
        (r"^[\b]$", ["\b"], ["b"]),
        (r"\bfoo\b", ["foo", "a foo.", "éfooé"], ["afoo", "foo_"]),
        (r"^\Bo|o\B", ["oa"], ["o", "-o-"]),
        (r"^(?<year>\d{4})-(?:\d{2})$", ["2024-01"], ["2024-1"]),
        (r"^a{2,3}?$", ["aa", "aaa"], ["a", "aaaa"]),
        (r"^a{,3}$", ["a{,3}"], ["aa"]),
        (r"^{a}x{$", ["{a}x{"], []),
        (r"^]}$", ["]}"], []),
        (r"^[\w-.]$", ["a", "-", "."], ["+", "/"]),
        (r"^[a-\d]$", ["a", "-", "5"], ["b"]),
        (r"^[-a\-z]$", ["-", "a", "z"], ["b"]),
        (r"^\-\_\@\"\ \#$", ['-_@" #'], []),
        (r"^\p{Lu}\p{Script=Greek}\P{L}$", ["Aα1"], ["aα1", "Aa1"]),
        (r"^[\p{L}\d]+$", ["é9"], ["é-"]),
        (r"^(?i:k)l$", ["kl", "Kl", "\u212al"], ["KL"]),
        (r"^(?i:[^k])$", ["l"], ["k", "K", "\u212a"]),
        (r"^(?s:.)(?-s:.)$", ["\na"], ["a\n"]),
        (r"(?m:^a$)", ["a", "b\na\nc", "b\u2028a"], ["ba"]),
        (r"^(?!.*--)[a-z-]+$", ["a-b", "-"], ["a--b", ""]),
        (r"^(?=.*\d)(?=.*[a-z]).{4,6}$", ["abc1", "1bcdef"], ["abcd", "1a", "1bcdefg"]),
        (r"(?<=\$)\d+(?!\d|\.)", ["$42"], ["42", "$4.2"]),
        (r"(?<!a+)b", ["b", "cb"], ["ab", "aab"]),
        (r"^(?:(?=a)a|b)*$", ["", "abab"], ["c"]),
        (r"(?=a)*b", ["b"], ["a"]),
        (r"^$", [""], ["a"]),
        (r"", ["", "anything"], []),
    ],
)
def test_what_patterns_accept(pattern: str, inside: list[str], outside: list[str]) -> None:
    assert [text for text in inside if not found(pattern, text)] == []
    assert [text for text in outside if found(pattern, text)] == []


@pytest.mark.parametrize(
    ("pattern", "error", "pointer"),
    [
        (r"(a)\1", UnsupportedConstraint, "1:4"),
        (r"(?<n>a)\k<n>", UnsupportedConstraint, "1:8"),
        ("a\n\\p{Script=Klingon}", UnsupportedConstraint, "2:1"),
        (r"x(?<=(?=a))b", UnsupportedConstraint, "1:2"),
        (r"\a", ConstraintError, "1:1"),
        (r"^\S\Z", ConstraintError, "1:4"),
        (r"(?P<n>a)", ConstraintError, "1:1"),
        (r"a(?i)b", ConstraintError, "1:2"),
        (r"(?ii:a)", ConstraintError, "1:1"),
        (r"(?<1>a)", ConstraintError, "1:1"),
        (r"(a", ConstraintError, "1:1"),
        (r"a)", ConstraintError, "1:2"),
        (r"a|*", ConstraintError, "1:3"),
        (r"a**", ConstraintError, "1:3"),
        (r"^*", ConstraintError, "1:2"),
        (r"\b+", ConstraintError, "1:3"),
        (r"a{3,2}", ConstraintError, "1:2"),
        (r"{2}", ConstraintError, "1:1"),
        (r"[b-a]", ConstraintError, "1:2"),
        (r"x[a", ConstraintError, "1:2"),
        (r"[\1]", ConstraintError, "1:2"),
        (r"\01", ConstraintError, "1:1"),
        (r"\x4", ConstraintError, "1:1"),
        (r"\u{110000}", ConstraintError, "1:1"),
        (r"\u{", ConstraintError, "1:4"),
        (r"\c1", ConstraintError, "1:1"),
        (r"\p", ConstraintError, "1:1"),
        ("a\\", ConstraintError, "1:2"),
        ("(" * 120 + ")" * 120, ConstraintTooLarge, "1:66"),
        (r"a{99999999999}", ConstraintTooLarge, "1:2"),
    ],
)
def test_refusals_name_the_place(pattern: str, error: type[ConstraintError], pointer: str) -> None:
    with pytest.raises(error) as caught:
        parse_ecma(pattern)
    assert type(caught.value) is error
    assert caught.value.pointer == pointer


atoms = st.sampled_from(
    ["a", "b", "é", "ab", "[ab]", "[^a]", r"\w", r"[\Sb]", r"\n", r"\b", r"\B(?=[^])", "(?=a)", "(?!ab)"]
)
common = st.recursive(atoms, lambda inner: st.one_of(
    st.builds("{}{}".format, inner, inner),
    st.builds("(?:{}|{})".format, inner, inner),
    st.builds("(?:a{}){}".format, inner, quantifiers),
    st.builds("(?:^{}|{}$)".format, inner, inner),
), max_leaves=6)  # fmt: skip


@settings(max_examples=80)
@given(common, modes)
def test_where_the_dialects_agree_so_does_re(pattern: str, mode: str) -> None:
    # `$` is the end of the text alone, `[^]` any character, \w is ASCII.
    compiled = re.compile(pattern.replace("$", r"\Z").replace("[^]", "(?s:.)"), re.ASCII)
    expected = {text for text in TEXTS if (compiled.fullmatch(text) if mode == "full" else compiled.search(text))}
    try:
        asked = Pattern(pattern, "ecma", "full" if mode == "full" else "search")
        dfa = text_dfa([asked], raw_spelling(SPELLABLE), Fuel(20_000))
    except UnsatisfiableConstraint:
        assert not expected
        return
    assert {text for text in TEXTS if dfa.accepts(text.encode())} == expected


def patterns_of(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(patterns_of, schema))
    if not isinstance(schema, dict):
        return set()
    inside = set().union(*map(patterns_of, schema.values()))
    if isinstance(schema.get("pattern"), str):
        inside.add(schema["pattern"])
    if isinstance(schema.get("patternProperties"), dict):
        inside |= set(schema["patternProperties"])
    return inside


def test_patterns_of_real_schemas_compile() -> None:
    source = DATA / "maskbench.jsonl.gz"
    if not source.exists():
        pytest.skip(f"the corpus of real schemas is not at {source}")
    with gzip.open(source, "rt") as lines:
        patterns = sorted(set().union(*(patterns_of(json.loads(line)) for line in lines)))
    assert len(patterns) > 300
    for pattern in patterns:
        dfa = text_dfa([Pattern(pattern, "ecma", "search")], raw_spelling([True] * 256), Fuel(100_000))
        assert dfa.edges(dfa.start) or dfa.accepting(dfa.start)
