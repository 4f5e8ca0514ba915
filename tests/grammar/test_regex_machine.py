"""The machine that a regex becomes: its tables are the DFA's states, numbered deterministically."""

from __future__ import annotations

import pytest

from grammar.errors import ConstraintTooLarge
from grammar.regex.machine import RegexMachine
from grammar.tables import END_ACCEPT, GOTO, Machine

ALL = [True] * 256


def expand_all(machine: Machine) -> list[tuple[int, list[list[int]], int]]:
    """(state, edges, end) of every state, read back from the deltas as another process would."""
    found: list[tuple[int, list[list[int]], int]] = []
    state = machine.start
    while state < machine.tables.n_states:
        machine.expand(state)
        state += 1
    delta = machine.tables.delta()
    defined = memoryview(delta.defined).cast("i").tolist()
    edges = memoryview(delta.edges).cast("i").tolist()
    for i in range(0, len(defined), 4):
        number, first, count, end = defined[i : i + 4]
        found.append((number, [edges[7 * e : 7 * e + 7] for e in range(first, first + count)], end))
    return found


def test_states_and_edges_are_written_once_in_order() -> None:
    rows = expand_all(RegexMachine("a(b|c)*", "python", ALL, 100))
    assert [number for number, _, _ in rows] == list(range(len(rows)))
    by_state = {number: ([(e[0], e[1], e[2], e[3]) for e in edges], end) for number, edges, end in rows}
    assert by_state[0][0] == [(97, 97, GOTO, 1)] and by_state[0][1] != END_ACCEPT
    assert [(lo, hi) for lo, hi, _, _ in by_state[1][0]] == [(98, 99)] and by_state[1][1] == END_ACCEPT


def test_equal_machines_number_equally() -> None:
    for pattern in (r"(.*a.{5})", r"\w+@\w+", r"(?!.*aa)[ab]{0,20}"):
        one, two = (expand_all(RegexMachine(pattern, "python", ALL, 50_000)) for _ in range(2))
        assert one == two


def test_what_was_expanded_stays_when_the_fuel_is_spent() -> None:
    machine = RegexMachine(".{0,1000}", "ecma", ALL, 100)
    state = 0
    with pytest.raises(ConstraintTooLarge):
        while True:
            machine.expand(state)
            state += 1
    assert state > 3 and all(machine.tables.expanded(s) for s in range(state)) and not machine.tables.expanded(state)
