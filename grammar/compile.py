"""Constraint → byte machine. What a grammar worker runs; `fsm.compile_constraint` runs it in place."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from grammar.constraint import Choice, Constraint, Contract, JsonObject, JsonSchema, Lark, Regex, StructuralTag
from grammar.errors import ConstraintError
from grammar.json_schema.formats import FORMATS
from grammar.json_schema.machine import compile_json_object, compile_json_schema
from grammar.lark.compile import compile_lark
from grammar.literals import ChoiceMachine
from grammar.regex.machine import RegexMachine
from grammar.structural.machine import StructuralMachine
from grammar.tables import Machine

DEFAULT_FUEL = 100_000
"""States, disjuncts and nodes that one constraint may create. Deterministic: the same schema succeeds or fails
everywhere."""

AHEAD = 4
"""States expanded before anybody asks: what the first mask of nearly all schemas needs. Expanding is a good part of the
work of a compile, so the rest waits until it is needed, or until there is time for it."""

AHEAD_IN_A_CHOICE = 4096
"""The same of a choice, where a state costs a tenth: a first mask has met 3,000 of them."""

BEHIND = 32
"""States expanded together with those that are missing, however many these are: a walk may miss hundreds at a time."""


@dataclass(frozen=True)
class Compiled:
    """A machine, its first states expanded, and what it promises."""

    machine: Machine
    contract: Contract = Contract.EXACT
    reasons: tuple[str, ...] = ()
    limits: Mapping[str, int | str] = field(default_factory=dict)


def compile_machine(
    constraint: Constraint,
    spellable: Sequence[bool],
    *,
    fuel: int | None = None,
    ahead: int = AHEAD,
    controls: Mapping[str, int] | None = None,
) -> Compiled:
    """Compile ``constraint`` to a machine over the bytes that the vocabulary can spell (bool[256]), and its control
    tokens (`grammar.controls`).

    Raises ConstraintError with the place of what cannot be enforced.
    """
    with _without_collections():
        return _compile(constraint, spellable, DEFAULT_FUEL if fuel is None else fuel, ahead, controls or {})


@contextmanager
def _without_collections() -> Iterator[None]:
    """A compile makes many small objects, keeps most and is bounded by its fuel. A collection in its midst would find
    nothing, and take longer than most compiles where the process holds much else."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _compile(
    constraint: Constraint, spellable: Sequence[bool], fuel: int, ahead: int, controls: Mapping[str, int]
) -> Compiled:
    match constraint:
        case JsonSchema():
            machine, reasons = compile_json_schema(constraint, spellable, fuel)
            compiled = Compiled(machine, Contract.SOUND_SUBSET if reasons else Contract.EXACT, reasons, machine.limits)
        case JsonObject():
            machine = compile_json_object(constraint, spellable, fuel)
            compiled = Compiled(machine, limits=machine.limits)
        case Regex():
            compiled = Compiled(RegexMachine(constraint.pattern, constraint.dialect, spellable, fuel))
        case Choice():
            compiled = Compiled(ChoiceMachine(constraint.options, spellable))
            ahead = max(ahead, AHEAD_IN_A_CHOICE)
        case StructuralTag():
            tags = StructuralMachine(constraint.document, spellable, fuel)
            contract = Contract.SOUND_SUBSET if tags.reasons else Contract.EXACT
            compiled = Compiled(tags, contract, tags.reasons, tags.limits)
        case Lark():
            parser, reasons = compile_lark(constraint, spellable, fuel, controls)
            contract = Contract.SOUND_SUBSET if reasons else Contract.EXACT
            compiled = Compiled(parser, contract, reasons, parser.limits)
    expand_ahead(compiled.machine, [compiled.machine.start], ahead)
    compiled.machine.admit()
    return compiled


def prepare(spellable: Sequence[bool]) -> None:
    """Read the patterns of all formats and Unicode's categories, so that the first schemas that use them need not wait
    for it."""
    texts = [*({"format": name} for name in FORMATS), {"pattern": r"\s\p{L}"}]
    every = {"anyOf": [{"type": "string", **text} for text in texts]}
    with suppress(ConstraintError):  # of a vocabulary that can spell none of them
        compile_machine(JsonSchema(every), spellable)


def answer_misses(machine: Machine, misses: Sequence[tuple[int, int]]) -> None:
    """Expand what is missing, (state, 0) or (ret, verdict above 0), and some of what lies behind it."""
    states = [machine.resume(where, verdict) if verdict else where for where, verdict in misses]
    expand_ahead(machine, states, len(states) + BEHIND)


def expand_ahead(machine: Machine, states: Iterable[int], budget: int) -> None:
    """Expand ``states``, then what they lead to, breadth first, until ``budget`` states are expanded or none is
    left."""
    tables = machine.tables
    queue = deque(states)
    queued = set(queue)
    while queue:
        state = queue.popleft()
        if not tables.expanded(state):
            if budget <= 0:
                return
            machine.expand(state)
            budget -= 1
        for successor in tables.successors(state):
            if successor not in queued:
                queued.add(successor)
                queue.append(successor)
