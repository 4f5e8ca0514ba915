"""Contextual parsers whose stacks decide what can be completed: as Lark reads them, and without a dead end."""

from __future__ import annotations

import random
from pathlib import Path

import lark
import lark.lexer
import pytest

from fsm.program import compile_constraint
from fsm.tokens import TokenTable
from grammar.constraint import Lark
from grammar.errors import UnsatisfiableConstraint
from grammar.lark.compile import compile_lark
from grammar.lark.completion import CompletingMachine
from tests.fsm.parsing import Configuration, Heads
from tests.grammar.lark.test_semantics import CALC, JSON, accepts, completion, machine, oracle, texts

GRAMMARS = {
    "a token that always wins over the one that the stack needs": (
        'start: t t "a"\nt: A* | "a" W\nW.2: "ab"\nA: "a"\n%ignore " "',
        "ab ",
    ),
    "a conflict settled against all that could follow": ('start: x "b"\nx: "a" x? y?\ny: "b" "b"', "ab"),
    "a shadow that only some stacks get rid of": (
        'start: "(" n ")" | "[" n M "]"\nn: N\nN: /1(-1)?/\nM: /-1/',
        "()[]1-",
    ),
    "a dangling else": ('start: s\ns: "i" s "e" s | "i" s | "x"', "iex"),
    "empty rules behind a shadow": ("start: (A b)+ C\nA: /a+/\nb: | B\nB: /ab/\nC: /c|ac/", "abc"),
    "blocks within blocks": ('start: b+\nb: "{" b* "}" | "<" b* A ">"\nA: "}"', "{}<>"),
}


@pytest.fixture(autouse=True)
def no_collision_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lark.lexer, "has_interegular", False)


@pytest.mark.parametrize("name", GRAMMARS)
def test_what_lark_accepts_and_no_dead_end(name: str) -> None:
    grammar, alphabet = GRAMMARS[name]
    parser, heads = oracle(grammar, "contextual"), machine(grammar, "contextual")
    done: set[Configuration] = set()
    sentences = 0
    for text, here in texts(heads, alphabet, 7, budget=150):
        accepted = accepts(parser, text)
        sentences += accepted
        assert heads.accepting(here) == accepted, text
        assert not here or here in done or completion(heads, here, alphabet, done), text
    assert sentences


def test_the_stack_is_looked_at_where_there_is_a_doubt() -> None:
    doubtful = [GRAMMARS[name][0] for name in list(GRAMMARS)[:2]]
    found = [compile_lark(Lark(g, semantics="contextual"), [True] * 256, 100_000)[0] for g in [*doubtful, JSON, CALC]]
    assert [isinstance(machine, CompletingMachine) for machine in found] == [True, True, False, False]


def test_every_walk_ends_in_a_sentence() -> None:
    """Through the kernels: from wherever a walk at random comes to, the way to the end is known and taken."""
    dice = random.Random(3)
    for name, (grammar, alphabet) in GRAMMARS.items():
        tokens = [*alphabet, *("".join(dice.choices(alphabet, k=2)) for _ in range(12))]
        table = TokenTable.from_bytes([*(token.encode() for token in tokens), None], [len(tokens)])
        program = compile_constraint(Lark(grammar, semantics="contextual"), table)
        parser = oracle(grammar, "contextual")
        for _ in range(6):
            matcher, text = program.matcher(), ""
            for _ in range(dice.randint(0, 5)):
                allowed = [token for token in matcher.allowed().tolist() if token < len(tokens)]
                if not allowed:
                    break
                token = dice.choice(allowed)
                assert matcher.advance(token)
                text += tokens[token]
            rest = matcher.completion()
            assert rest is not None, (name, text)
            assert accepts(parser, text + "".join(tokens[token] for token in rest)), (name, text)


@pytest.mark.parametrize("grammar", ['start: A "a"\nA: /a+/', 'start: "x" t\nt: A B\nA.2: /[ab]+/\nB: "b"'])
def test_no_sentence_at_all(grammar: str) -> None:
    with pytest.raises(UnsatisfiableConstraint, match="never comes to an end"):
        compile_lark(Lark(grammar, semantics="contextual"), [True] * 256, 100_000)


def test_what_is_too_large_is_decided_from_parser_states() -> None:
    """Lark's grammar of itself: a comment in the midst of a rule leaves little that may follow it."""
    text = Path(lark.__file__).with_name("grammars").joinpath("lark.lark").read_text()
    found, _ = compile_lark(Lark(text, semantics="contextual"), [True] * 256, 100_000)
    assert not isinstance(found, CompletingMachine)
    heads = Heads(found)
    assert heads.accepting(heads.run(b'start: "a" // b\n  | B\n'))
    assert not heads.run(b"start: (// b\n a")
