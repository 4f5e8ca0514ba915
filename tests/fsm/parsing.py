"""The oracle of `fsm.heads`: a nondeterministic LR machine of `grammar.tables`, run in plain Python.

A configuration is a set of (state, stack), every stack written out as a tuple of returns, innermost last: no sharing,
no merging, no numbers for anything.
"""

from __future__ import annotations

import numpy as np

from grammar import tables as t

Head = tuple[int, tuple[int, ...]]
Configuration = frozenset[Head]


class Heads:
    """Runs a machine, reading its tables through their deltas as any other consumer must."""

    def __init__(self, machine: t.Machine) -> None:
        self.machine = machine
        self.edges: dict[int, list[t.Edge]] = {}
        self._flat: list[t.Edge] = []
        self._returns: dict[tuple[int, int], int] = {}
        self._read()
        self.start: Configuration = frozenset({(machine.start, ())})

    def _read(self) -> None:
        delta = self.machine.tables.delta()
        self._flat += [tuple(e) for e in np.frombuffer(delta.edges, np.int32).reshape(-1, 7).tolist()]  # type: ignore[misc]
        for ret, verdict, state in np.frombuffer(delta.returns, np.int32).reshape(-1, 3).tolist():
            self._returns[ret, verdict] = state
        for state, first, count, _ in np.frombuffer(delta.defined, np.int32).reshape(-1, 4).tolist():
            self.edges[state] = self._flat[first : first + count]

    def _taking(self, state: int, byte: int) -> list[t.Edge]:
        if state not in self.edges:
            self.machine.expand(state)
            self._read()
        return [edge for edge in self.edges[state] if edge[0] <= byte <= edge[1]]

    def _after(self, ret: int, verdict: int) -> int:
        if (ret, verdict) not in self._returns:
            self.machine.resume(ret, verdict)
            self._read()
        return self._returns[ret, verdict]

    def step(self, configuration: Configuration, byte: int) -> Configuration:
        """The heads after a byte; none if it is refused."""
        after: set[Head] = set()
        todo, seen = list(configuration), set(configuration)
        while todo:
            state, stack = todo.pop()
            for _, _, op, target, a, b, _ in self._taking(state, byte):
                if op == t.GOTO:
                    after.add((target, stack))
                    continue
                if op == t.PUSH:
                    after.add((target, (*stack, a)))
                    continue
                if op == t.SHIFT:
                    head = (target, (*stack, a))
                else:
                    assert op == t.REDUCE
                    kept = stack[: len(stack) - b]
                    head = (self._after(kept[-1], a), kept)
                if head not in seen:
                    seen.add(head)
                    todo.append(head)
        return frozenset(after)

    def run(self, text: bytes, configuration: Configuration | None = None) -> Configuration:
        configuration = self.start if configuration is None else configuration
        for byte in text:
            configuration = self.step(configuration, byte)
        return configuration

    def accepting(self, configuration: Configuration) -> bool:
        return bool(self.step(configuration, t.END_OF_TEXT))

    def viable_until(self, text: bytes) -> int:
        """How many bytes of a text are taken."""
        configuration = self.start
        for n, byte in enumerate(text):
            configuration = self.step(configuration, byte)
            if not configuration:
                return n
        return len(text)
