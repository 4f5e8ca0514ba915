"""`&` and `~` in terminals against sets of texts, written out."""

from __future__ import annotations

import random
from itertools import product

import pytest

from grammar.constraint import Lark
from grammar.errors import ConstraintError, UnsatisfiableConstraint
from grammar.lark.compile import compile_lark
from tests.fsm.parsing import Heads

LONGEST = 4
TEXTS = frozenset("".join(letters) for n in range(LONGEST + 1) for letters in product("ab", repeat=n))
NAMED = {"X": ("/b|ab*/", {t for t in TEXTS if t == "b" or (t[:1] == "a" and set(t[1:]) <= {"b"})})}
NAMED |= {"Y": ('("a" | "b")+ & ~/.*bb.*/', {t for t in TEXTS if t and "bb" not in t})}
LEAVES = {'"a"': {"a"}, '"ab"': {"ab"}, '"a".."b"': {"a", "b"}, "/a|bb/": {"a", "bb"}, '"B"i': {"b"}, "/.*/": TEXTS}
LEAVES |= {name: texts for name, (_, texts) in NAMED.items()}


def joined(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    return frozenset(a + b for a in one for b in other if len(a) + len(b) <= LONGEST)


def repeated(once: frozenset[str], least: int, most: int) -> frozenset[str]:
    found, level = set[str](), frozenset(("",))
    for count in range(most + 1):
        found |= level if count >= least else frozenset()
        level = joined(level, once)
    return frozenset(found)


REPEATS = {"": (1, 1), "+": (1, 9), "*": (0, 9), "?": (0, 1), "~2": (2, 2), " ~ 1..2": (1, 2)}


def options(rng: random.Random, depth: int) -> tuple[str, frozenset[str]]:
    """What is written, and the texts that it matches."""
    written, texts = zip(*(conjunction(rng, depth) for _ in range(rng.choice((1, 1, 2)))), strict=True)
    return " | ".join(written), frozenset[str]().union(*texts)


def conjunction(rng: random.Random, depth: int) -> tuple[str, frozenset[str]]:
    written, texts = zip(*(sequence(rng, depth) for _ in range(rng.choice((1, 2, 3)))), strict=True)
    return rng.choice((" & ", "&")).join(written), TEXTS.intersection(*texts)


def sequence(rng: random.Random, depth: int) -> tuple[str, frozenset[str]]:
    written, texts = "", frozenset(("",))
    for _ in range(rng.choice((1, 1, 2))):
        part, matched = operand(rng, depth)
        written, texts = f"{written} {part}", joined(texts, matched)
    return written, texts


def operand(rng: random.Random, depth: int) -> tuple[str, frozenset[str]]:
    if depth and rng.random() < 0.4:
        inside, matched = options(rng, depth - 1)
        written, texts = f"({inside})", matched
    else:
        written = rng.choice(sorted(LEAVES))
        texts = frozenset(LEAVES[written])
    if rng.random() < 0.4:
        written, texts = f"~{written}", TEXTS - texts
    count = rng.choice(sorted(REPEATS))
    return written + count, repeated(texts, *REPEATS[count])


def compiled(grammar: str) -> Heads:
    return Heads(compile_lark(Lark(grammar), [True] * 256, 100_000)[0])


def test_generated_definitions() -> None:
    rng = random.Random(1)
    found = 0
    for _ in range(150):
        definition, texts = options(rng, 1)
        named = "".join(f"\n{name}: {written}" for name, (written, _) in NAMED.items())
        grammar = f'start: "<" (A) ">" ("<" A ">")?{named}\nA: {definition}'
        try:
            heads = compiled(grammar)
        except UnsatisfiableConstraint:
            assert not texts, grammar
            continue
        found += 1
        here = heads.run(b"<")
        accepted = {text for text in TEXTS if heads.accepting(heads.run(f"{text}>".encode(), here))}
        assert accepted == texts, grammar
    assert found > 100


LINES = "start: LINES\nLINES: /[a-z \\n]*/ & ~/(?s:.*)\\n\\n(?s:.*)/"
"""llguidance's own example: no two newlines in a row."""


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (LINES, ["", "a\nb\n", "\na"], ["a\n\nb", "A"]),
        ('start: NAME "=" NAME\nNAME: /[a-z]+/ & ~("if" | "in")', ["i=int", "iff=x"], ["if=x", "x=in"]),
        ('start: T "é"\nT: ~/[^é]*é/ & /../', ["ééé", "abé"], ["éé", "aéé"]),
        ('start: C\nC: "/*" ~/(.|\\n)*\\*\\/(.|\\n)*/ "*/"', ["/**/", "/* & ~ */"], ["/*/", "/* */ */"]),
        ('start: t "b"\nt[lazy]: T\nT: /[ab]*/ & ~"a" & /.*b/', ["bb", "abb"], ["b", "abbb", "a"]),
        ('start: A B | "z"\nA: "a" // & ~ \nB: "&~" & /[&~]+/', ["a&~", "z"], ["a"]),
        ("start: A\nA: B & C | B & D\nB: /[abc]/\nC: /a|c/\nD: /b|c/", ["a", "b", "c"], ["", "d"]),
    ],
)
def test_texts(grammar: str, good: list[str], bad: list[str]) -> None:
    heads = compiled(grammar)
    assert [text for text in good + bad if heads.accepting(heads.run(text.encode()))] == good


@pytest.mark.parametrize(
    ("grammar", "place", "word"),
    [
        ('start: "a" & "b"', "1:12", "definition of a terminal"),
        ('start: ~"a"', "1:8", "definition of a terminal"),
        ('start: A\n%ignore A & "b"\nA: "a"', "2:11", "definition of a terminal"),
        ('start: A\nA: "a" &', "2:8", "between two"),
        ('start: A\nA: & "a"', "2:4", "between two"),
        ("start: A\nA: ~", "2:4", "negate"),
        ('start: A\nA: "a" & "b"', "1:8", "no text"),
        ('start: A\nA: /a(?=b)/ & "ab"', "1:8", "assertion"),
        ('start: A\nA: "a" & "\U000f0001"', "2:11", "plane 15"),
        ('start: A\nA: "a" & /[\\U000F0001]/', "2:12", "plane 15"),
        (f'start: A\nA: {"(" * 70}"a" & "a"{")" * 70}', "2:68", "nested"),
        ("start: A\nA: ~/(.|\\n)*a.{30}/", "1:8", "states"),
    ],
)
def test_refused_with_its_place(grammar: str, place: str, word: str) -> None:
    with pytest.raises(ConstraintError) as refusal:
        compile_lark(Lark(grammar), [True] * 256, 10_000)
    assert refusal.value.pointer == place
    assert word in refusal.value.reason


def test_contextual_has_no_operators() -> None:
    with pytest.raises(ConstraintError, match="dynamic_complete"):
        compile_lark(Lark('start: A\nA: ~"a"', semantics="contextual"), [True] * 256, 10_000)
