"""One array shape: the position in the prefix is static, the items still allowed and still needed are registers.

    [ ──PUSH(hi = max - 1, lo = min - 1)──▶ First ── "]" POP (min = 0 only)
                                             │ item 0
                                             ▼
                              Item 1.. ◀─ "," COUNT ── After ── "]" POP (lo = 0)

The registers count commas: the first item is paid for by the bracket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grammar.json_schema.shapes import ArrayShape, Goal
from grammar.tables import COUNT, END_REJECT, GOTO, NONE, POP, PUSH, Edge

if TYPE_CHECKING:
    from grammar.json_schema.machine import Edges, JsonMachine


def open_array(m: JsonMachine, shape: ArrayShape, verdict: int, ret: int) -> Edge:
    """The edge on the opening bracket."""
    hi = NONE if shape.max_items is None else max(shape.max_items - 1, 0)
    registers = m.tables.registers(hi, max(shape.min_items - 1, 0))
    return ord("["), ord("["), PUSH, m.spaced(First(shape, verdict)), ret, registers, 0


def item_goal(shape: ArrayShape, position: int) -> Goal | None:
    """What the item at ``position`` must satisfy; None: there can be none."""
    if shape.max_items is not None and position >= shape.max_items:
        return None
    return shape.prefix[position] if position < len(shape.prefix) else shape.rest


@dataclass(frozen=True, slots=True)
class First:
    """After the opening bracket."""

    shape: ArrayShape
    verdict: int

    def edges(self, m: JsonMachine) -> Edges:
        edges: list[Edge] = []
        if self.shape.min_items == 0:
            edges.append((ord("]"), ord("]"), POP, 0, self.verdict, 0, 0))
        goal = item_goal(self.shape, 0)
        if goal is not None:
            after = m.flexible(After(self.shape, self.verdict, 0))
            edges += m.value(goal, after).edges(m)[0]
        return edges, END_REJECT


@dataclass(frozen=True, slots=True)
class CloseArray:
    """Only the closing bracket may come."""

    verdict: int

    def edges(self, m: JsonMachine) -> Edges:
        return [(ord("]"), ord("]"), POP, 0, self.verdict, 0, 0)], END_REJECT


@dataclass(frozen=True, slots=True)
class After:
    """After the item at ``position``; positions past the prefix are all alike."""

    shape: ArrayShape
    verdict: int
    position: int

    def edges(self, m: JsonMachine) -> Edges:
        close = CloseArray(self.verdict)
        edges = close.edges(m)[0] + m.before_close(close, NONE)
        shape, position = self.shape, self.position + 1
        # Behind the prefix the position tells nothing that the registers do not; no static bound may cut it either.
        goal = shape.prefix[position] if position < len(shape.prefix) else shape.rest
        if goal is not None:
            after = m.flexible(After(shape, self.verdict, min(position, len(shape.prefix))))
            counted = shape.max_items is not None or shape.min_items > 1
            item = m.spaced(m.value(goal, after))
            edges.append((ord(","), ord(","), COUNT if counted else GOTO, item, 0, 0, 0))
        return edges, END_REJECT
