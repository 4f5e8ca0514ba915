"""The trie over sorted strings and the choice machine against plain prefix sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammar.errors import ConstraintError, UnsatisfiableConstraint
from grammar.literals import ChoiceMachine, LiteralTrie, Node
from grammar.tables import END_ACCEPT
from tests.grammar.test_regex_machine import expand_all

ALL = [True] * 256

strings = st.sets(
    st.one_of(st.binary(max_size=4), st.lists(st.sampled_from([0, 97, 98, 255]), max_size=6).map(bytes)), min_size=1
)


@given(strings)
def test_nodes_are_the_prefixes(chosen: set[bytes]) -> None:
    ordered = sorted(chosen)
    trie = LiteralTrie(ordered)
    prefixes = {s[:n] for s in ordered for n in range(len(s) + 1)}
    seen: set[bytes] = set()

    def visit(node: Node, prefix: bytes) -> None:
        seen.add(prefix)
        below = [s for s in ordered if s.startswith(prefix)]
        lo, hi, depth = node
        assert ordered[lo:hi] == below and depth == len(prefix)
        terminal = trie.terminal(node)
        assert (terminal >= 0) == (prefix in chosen) and (terminal < 0 or ordered[terminal] == prefix)
        children = trie.children(node)
        assert [byte for byte, _ in children] == sorted({s[depth] for s in below if len(s) > depth})
        shared, end = trie.chain(node)
        assert all(s.startswith(prefix + shared) for s in below)
        assert end == (lo, hi, depth + len(shared))
        assert prefix + shared in chosen or len(trie.children(end)) > 1
        for byte, child in children:
            visit(child, prefix + bytes((byte,)))

    visit(trie.root, b"")
    assert seen == prefixes


@given(st.lists(st.text("ab\né😀", max_size=5), min_size=1, unique=True))
def test_a_choice_machine_writes_the_choices_and_nothing_else(choices: list[str]) -> None:
    rows = {state: (edges, end) for state, edges, end in expand_all(ChoiceMachine(choices, ALL))}
    written: list[bytes] = []

    def visit(state: int, text: bytes) -> None:
        edges, end = rows[state]
        if end == END_ACCEPT:
            written.append(text)
        assert edges or end == END_ACCEPT
        for lo, hi, _, target, *_ in edges:
            assert lo == hi
            visit(target, text + bytes((lo,)))

    visit(0, b"")
    assert written == sorted(choice.encode() for choice in choices)


@pytest.mark.parametrize(
    ("choices", "error", "pointer"),
    [
        ([], ConstraintError, ""),
        (["a", "b", "a", "a"], ConstraintError, "/3"),
        (["a", "\ud800"], ConstraintError, "/1"),
        (["a", "é"], UnsatisfiableConstraint, "/1"),
    ],
)
def test_refusals_name_the_choice(choices: list[str], error: type[ConstraintError], pointer: str) -> None:
    spellable = [byte != 0xC3 for byte in range(256)]
    with pytest.raises(error) as caught:
        ChoiceMachine(choices, spellable)
    assert type(caught.value) is error and caught.value.pointer == pointer


def test_the_empty_text_may_be_a_choice() -> None:
    rows = expand_all(ChoiceMachine(["", "a"], ALL))
    assert [end for _, _, end in rows] == [END_ACCEPT, END_ACCEPT]


def test_nothing_is_built_before_it_is_asked_for() -> None:
    machine = ChoiceMachine([f"choice number {n}" for n in range(100_000)], ALL)
    assert machine.tables.n_states == 1
    machine.expand(machine.start)
    assert machine.tables.n_states == 2
