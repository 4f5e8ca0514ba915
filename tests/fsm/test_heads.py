"""The kernels of LR machines against the plain interpreter: configurations, masks, and masks found again."""

from __future__ import annotations

import random
from typing import Literal

import pytest

from fsm.program import Program, compile_constraint
from fsm.tokens import TokenTable
from grammar.constraint import Lark
from grammar.lark.compile import compile_lark
from tests.fsm.parsing import Heads

GRAMMARS = {
    "lists": (
        'start: "[" (start ("," start)*)? "]" | NUMBER\nNUMBER: /[0-9]+(\\.[0-9]+)?/\n%ignore /[ \\n]+/',
        "[], 1.\n",
    ),
    "right recursion": ('start: "a" start "b" | "c" start | "c"', "abc"),
    "expressions": (
        '?start: start "+" term | term\n?term: term "*" atom | atom\n?atom: NAME | "(" start ")"\nNAME: /[a-z]+/',
        "ab+*()",
    ),
    "ambiguous": ('start: start "+" start | start "*" start | "(" start ")" | "a"', "a+*()"),
    "palindromes": ('start: "a" start "a" | "b" start "b" | "a" | "b" | "c" start', "abc"),
    "empty and split": ('start: e w* e\ne: "x"? w?\nw: W\nW: /[ab]+/\n%ignore / +/', "abx "),
    "corners": ('start: t t "a"\nt: A* | "a" W\nW.2: "ab"\nA: "a"\n%ignore " "', "ab "),
    "keywords": ('start: ("if" NAME | "in" | NAME "!")+\nNAME: /[a-z]+/\n%ignore " "', "ifn! "),
}


def vocabulary(alphabet: str, rng: random.Random) -> TokenTable:
    """The alphabet's characters and longer tokens of them."""
    tokens: list[bytes | None] = [char.encode() for char in alphabet]
    tokens += ["".join(rng.choices(alphabet, k=rng.randint(2, 5))).encode() for _ in range(60)]
    return TokenTable.from_bytes([*tokens, None], [len(tokens)])


def check(program: Program, heads: Heads, rng: random.Random, steps: int = 40) -> None:
    """A random walk, every mask on it held against the interpreter."""
    table, eos = program.table, program.table.eos_ids[0]
    matcher, here = program.matcher(), heads.start
    for _ in range(steps):
        pieces = {i: table.bytes_of(i) for i in range(table.vocab_size) if table.bytes_of(i)}
        expected = {i for i, piece in pieces.items() if heads.run(piece or b"", here)}
        accepting = heads.accepting(here)
        assert set(matcher.allowed().tolist()) == expected | ({eos} if accepting else set())
        assert matcher.accepting == accepting
        if not expected:
            return
        token = rng.choice(sorted(expected))
        assert matcher.advance(token)
        here = heads.run(pieces[token] or b"", here)


NOT_LALR = ("ambiguous", "palindromes", "empty and split")
CASES = [(name, "dynamic_complete") for name in GRAMMARS]
CASES += [(name, "contextual") for name in GRAMMARS if name not in NOT_LALR]


@pytest.mark.parametrize(("name", "semantics"), CASES)
def test_masks_equal_the_interpreter(name: str, semantics: Literal["dynamic_complete", "contextual"]) -> None:
    grammar, alphabet = GRAMMARS[name]
    rng = random.Random(name)
    constraint = Lark(grammar, semantics=semantics)
    program = compile_constraint(constraint, vocabulary(alphabet, rng))
    heads = Heads(compile_lark(constraint, [True] * 256, 100_000)[0])
    for _ in range(6):
        check(program, heads, rng, steps=8 if name in NOT_LALR else 20)


def test_ambiguity_costs_a_stack_and_no_more() -> None:
    """120 operators can be read in more ways than there are atoms; the stacks of all share what they can."""
    program = compile_constraint(
        Lark(GRAMMARS["ambiguous"][0]), TokenTable.from_bytes([b"a", b"+", b"*", b"(", b")"], [])
    )
    matcher = program.matcher()
    for _ in range(60):
        for token in (0, 1, 0, 2):
            assert matcher.advance(token)
    assert matcher.allowed().tolist() == [0, 3]
    assert program.image.n_configurations < 40_000


def test_a_parser_is_one_before_its_first_rule_ends() -> None:
    """However far that is: ways to the end are searched among heads from the beginning."""
    letters = "abcdefghijklmnop"
    grammar = "start: " + " ".join(f'"{letter}"' for letter in letters)
    program = compile_constraint(Lark(grammar), TokenTable.from_bytes([letter.encode() for letter in letters], []))
    assert program.matcher().completion() == tuple(range(len(letters)))


def test_equal_situations_share_their_masks() -> None:
    """Deeper in a list the mask is the same, and known without another walk."""
    grammar, _ = GRAMMARS["lists"]
    program = compile_constraint(
        Lark(grammar, semantics="contextual"), TokenTable.from_bytes([bytes([b]) for b in range(256)], [])
    )
    matcher = program.matcher()
    for byte in b"[1,[1,[1,":
        matcher.mask()
        assert matcher.advance(byte)
    cold = program.runtime.figures.cold
    for byte in b"[1,[1,[1,[1,":
        matcher.mask()
        assert matcher.advance(byte)
    assert program.runtime.figures.cold == cold
