"""The public face of the core: `compile_constraint`, `Program`, `Matcher` (docs/architecture.md, DESIGN §2).

    table   = TokenTable.from_tokenizer(tokenizer)
    program = compile_constraint(JsonSchema(schema), table)      # ConstraintError: JSON pointer, reason
    m = program.matcher()                                        # one cursor per sequence
    m.mask(); m.advance(token); m.accepting; m.forced(); m.fork(); m.rollback(n)

In one process the machine's owner is the caller: a miss is answered in place. The engine uses the same `Runtime` in
batch form and lets a grammar worker answer (engine/programs.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fsm import steps
from fsm.image import Image
from fsm.runtime import LONGEST_FORCED, Runtime
from fsm.tokens import TokenTable
from grammar.compile import Compiled, answer_misses, compile_machine, expand_ahead
from grammar.constraint import Constraint, Contract


class _Batch(NamedTuple):
    """A batch of one sequence: made once, so that a step allocates nothing."""

    programs: NDArray[np.int32]
    states: NDArray[np.int32]
    tokens: NDArray[np.int32]
    out: NDArray[np.int32]
    status: NDArray[np.uint8]


class Program:
    """A compiled constraint over one vocabulary. Matchers of one program share its states and rows; not thread-safe."""

    def __init__(self, compiled: Compiled, table: TokenTable, runtime: Runtime | None = None) -> None:
        self.table = table
        self.contract: Contract = compiled.contract
        self.reasons: tuple[str, ...] = compiled.reasons
        self.limits: dict[str, int | str] = dict(compiled.limits)
        self.machine = compiled.machine
        self.runtime = runtime or Runtime(table)
        self.image = Image(self.machine.start, table.max_token_bytes)
        self.image.apply(self.machine.tables.delta())
        self.number = self.runtime.add(self.image)
        number = np.array([self.number], np.int32)
        self._one = _Batch(number, number.copy(), number.copy(), number.copy(), np.zeros(1, np.uint8))

    def matcher(self) -> Matcher:
        """A cursor at the start of the text."""
        return Matcher(self)

    def expand_ahead(self, states: int = 256) -> None:
        """Expand up to so many of the next states now, rather than when masks need them."""
        expand_ahead(self.machine, [self.machine.start], states)
        self.runtime.apply(self.number, self.machine.tables.delta())

    def row(self, state: int) -> int:
        """Row of the tokens allowed in a state, in ``runtime.pool``."""
        one = self._one
        one.states[0] = state
        while True:
            self.runtime.rows(one.programs, one.states, one.out, one.status)
            if one.status[0] == steps.OK:
                return int(one.out[0])
            self.answer_misses()

    def after(self, state: int, token: int) -> int:
        """The state after a token; -1 if it is not allowed."""
        one = self._one
        one.states[0], one.tokens[0] = state, token
        while True:
            self.runtime.advance(one.programs, one.states, one.tokens, one.out, one.status)
            if one.status[0] == steps.OK:
                return int(one.out[0])
            if one.status[0] != steps.MISS:
                return -1
            self.answer_misses()

    def accepts(self, state: int) -> bool:
        """Whether a text that has led to ``state`` is a complete sentence."""
        self.row(state)  # which expands all that the answer needs
        one = self._one
        one.states[0] = state
        complete = np.empty(1, np.bool_)
        self.runtime.accepting(one.programs, one.states, complete)
        return bool(complete[0])

    def way(self, state: int) -> tuple[int, ...] | None:
        """Tokens that complete a text which has led to ``state`` (`Matcher.completion`)."""
        search = self.runtime.way(self.number, state)
        try:
            while True:
                if next(search):
                    self.answer_misses()
        except StopIteration as found:
            return found.value

    def forced(self, state: int) -> bytes:
        """The bytes that every completion starts with from ``state``."""
        text = b""
        while True:
            while (piece := self.runtime.forced(self.number, state)) is None:
                self.answer_misses()
            text += piece
            if len(piece) < LONGEST_FORCED:
                return text
            state = self.runtime.after_text(self.number, state, piece)

    def answer_misses(self) -> None:
        """Do what a grammar worker would: expand what is missing, and some of what lies behind it."""
        answer_misses(self.machine, self.runtime.take_misses(self.number))
        self.runtime.apply(self.number, self.machine.tables.delta())


class Matcher:
    """One sequence's place in a program: an immutable state id and the states before it.

    Token ids outside the vocabulary, special tokens and padding are never allowed; end-of-sequence ids are allowed in
    `mask` exactly when `accepting`, and are not advanced over."""

    __slots__ = ("_past", "_program", "_state")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._state = program.image.start
        self._past: tuple[int, object] | None = None

    @property
    def state(self) -> int:
        """The token FSM's state id; equal ids mean equal futures."""
        return self._state

    @property
    def accepting(self) -> bool:
        """Whether the text so far is a complete sentence."""
        return self._program.accepts(self._state)

    @property
    def row(self) -> int:
        """`mask` by its number in the row pool of the program's runtime."""
        return self._program.row(self._state)

    def mask(self) -> NDArray[np.uint32]:
        """uint32[ceil(V / 32)]: bit i % 32 of word i // 32 set <=> token i keeps a valid completion reachable."""
        return self._program.runtime.pool.mask(self.row)

    def allowed(self) -> NDArray[np.int64]:
        """The ids that `mask` allows, ascending."""
        bits = np.unpackbits(self.mask().view(np.uint8), bitorder="little")
        return np.flatnonzero(bits[: self._program.table.vocab_size])

    def advance(self, token: int) -> bool:
        """Append a token. False, and no change, if it is not allowed."""
        state = self._program.after(self._state, token)
        if state < 0:
            return False
        self._past = (self._state, self._past)
        self._state = state
        return True

    def forced(self) -> bytes:
        """The bytes that every completion starts with from here; empty where the text may end or branch."""
        return self._program.forced(self._state)

    def completion(self) -> tuple[int, ...] | None:
        """Tokens that complete the text from here, about as few as can be (none where it is complete); None where none
        were found with the fuel there is (`fsm.closing`)."""
        return self._program.way(self._state)

    def advance_within(self, token: int, budget: int) -> bool:
        """As `advance`, where ``budget`` tokens with this one suffice to complete the text."""
        state = self._program.after(self._state, token)
        way = None if state < 0 else self._program.way(state)
        return way is not None and len(way) < budget and self.advance(token)

    def fork(self) -> Matcher:
        """An independent cursor at the same place, O(1)."""
        other = Matcher(self._program)
        other._state, other._past = self._state, self._past
        return other

    def rollback(self, n: int) -> None:
        """Undo the last ``n`` tokens. ValueError if there are fewer."""
        for _ in range(n):
            if self._past is None:
                raise ValueError(f"cannot roll back {n} tokens: fewer were advanced")
            self._state, self._past = self._past  # type: ignore[assignment]


def compile_constraint(
    constraint: Constraint, table: TokenTable, *, runtime: Runtime | None = None, fuel: int | None = None
) -> Program:
    """Compile ``constraint`` for a vocabulary. Programs that share a ``runtime`` share their rows.

    Raises ConstraintError with the JSON pointer (or line:column) of what cannot be enforced.
    """
    compiled = compile_machine(constraint, table.spellable.tolist(), fuel=fuel, controls=table.controls)
    return Program(compiled, table, runtime)
