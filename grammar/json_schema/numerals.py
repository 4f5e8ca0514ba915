"""Number values: `numbers.NumberAutomaton` as locations. No byte closes a number: the one after it ends it (REDO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grammar.json_schema.numbers import NumberAutomaton
from grammar.json_schema.shapes import NumberEnum, NumberShape
from grammar.tables import END_REJECT, GOTO, PUSH, REDO, Edge

if TYPE_CHECKING:
    from grammar.json_schema.machine import ByteRanges, Edges, JsonMachine

Numbers = tuple[tuple[NumberShape | NumberEnum, int], ...]
"""(shape, bit of its verdict; 0 where nobody asks)"""


def number_edges(m: JsonMachine, shapes: Numbers, ret: int) -> list[Edge]:
    """The edges on a number's first byte."""
    automaton, bits = m.numbers(tuple(shape for shape, _ in shapes)), tuple(bit for _, bit in shapes)
    return [
        (lo, hi, PUSH, m.state(Digits(automaton, bits, state)), ret, m.tables.registers(), 0)
        for lo, hi, state in automaton.edges(automaton.start)
    ]


@dataclass(frozen=True, slots=True)
class Digits:
    """Inside a number, in one state of its automaton; ``bits``: of the verdicts of its shapes."""

    automaton: NumberAutomaton
    bits: tuple[int, ...]
    at: str

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = [
            (lo, hi, GOTO, m.state(Digits(self.automaton, self.bits, state)), 0, 0, 0)
            for lo, hi, state in self.automaton.edges(self.at)
        ]
        satisfied = self.automaton.accepting(self.at)
        if not satisfied:
            return edges, END_REJECT
        bits = 0
        for i in satisfied:
            bits |= self.bits[i]
        verdict = m.verdict(bits)
        return edges + [(lo, hi, REDO, 0, verdict, 0, 0) for lo, hi in _between(edges, m.follow)], verdict


def _between(edges: list[Edge], ranges: ByteRanges) -> list[tuple[int, int]]:
    """``ranges`` without the bytes that ``edges`` take."""
    taken = sorted(edge[:2] for edge in edges)
    left: list[tuple[int, int]] = []
    for lo, hi in ranges:
        for first, last in taken:
            if first <= hi and last >= lo:
                if lo < first:
                    left.append((lo, first - 1))
                lo = last + 1
        if lo <= hi:
            left.append((lo, hi))
    return left
