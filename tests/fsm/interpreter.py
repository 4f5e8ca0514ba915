"""The oracle of `fsm.steps`: the byte machine of `grammar.tables`, run in plain Python from its description.

A configuration is (state, stack); the stack is a tuple of `Frame`, innermost last. Nothing is hash-consed, saturated or
cached.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from grammar import tables as t


@dataclass(frozen=True)
class Frame:
    ret: int
    hi: int
    lo: int
    ext: frozenset[int]
    seen: frozenset[bytes] = frozenset()
    text: bytes = b""
    record: bytes | None = None
    """What the frame above has read, if that is to be a part of an item's text."""


Configuration = tuple[int, tuple[Frame, ...]]


def value_text(text: bytes) -> bytes:
    """One text for all spellings of a JSON value, between bytes that no text has."""

    def plain(value: Any) -> str:
        if isinstance(value, list):
            return "[" + ",".join(map(plain, value)) + "]"
        if isinstance(value, dict):
            return "{" + ",".join(sorted(f"{json.dumps(name)}:{plain(member)}" for name, member in value.items())) + "}"
        return str(value) if isinstance(value, Fraction) else json.dumps(value)

    value = json.loads(text, parse_int=Fraction, parse_float=Fraction)
    return b"\xfe" + plain(value).encode() + b"\xff"


class Interpreter:
    """Runs a `grammar.tables.Machine`, reading its tables through their deltas as any other consumer must."""

    def __init__(self, machine: t.Machine) -> None:
        import numpy as np

        self._np = np
        self.machine = machine
        self.edges: dict[int, list[t.Edge]] = {}
        self.ends: dict[int, int] = {}
        self._flat: list[t.Edge] = []
        self._registers: list[tuple[int, int, int]] = []
        self._words: list[int] = []
        self._returns: dict[tuple[int, int], int] = {}
        self._read()
        self.start: Configuration = (machine.start, (Frame(-1, -1, 0, frozenset()),))

    def _read(self) -> None:
        np, delta = self._np, self.machine.tables.delta()
        self._flat += [tuple(e) for e in np.frombuffer(delta.edges, np.int32).reshape(-1, 7).tolist()]
        self._registers += [tuple(r) for r in np.frombuffer(delta.registers, np.int32).reshape(-1, 3).tolist()]
        self._words += np.frombuffer(delta.sets, np.uint32).tolist()
        for ret, verdict, state in np.frombuffer(delta.returns, np.int32).reshape(-1, 3).tolist():
            self._returns[ret, verdict] = state
        for state, first, count, end in np.frombuffer(delta.defined, np.int32).reshape(-1, 4).tolist():
            self.edges[state] = self._flat[first : first + count]
            self.ends[state] = end

    def _expand(self, state: int) -> None:
        if state not in self.edges:
            self.machine.expand(state)
            self._read()

    def _after(self, ret: int, verdict: int) -> int:
        if verdict == 0:
            return ret
        if (ret, verdict) not in self._returns:
            self.machine.resume(ret, verdict)
            self._read()
        return self._returns[ret, verdict]

    def _set(self, key_set: int) -> frozenset[int]:
        if key_set == t.NONE:
            return frozenset()
        words = self._words[key_set : key_set + self._words[key_set - 1]]
        return frozenset(32 * w + b for w, word in enumerate(words) for b in range(32) if word >> b & 1)

    def _fits(self, lengths: int, hi: int, lo: int) -> bool:
        words = self._words[lengths : lengths + self._words[lengths - 1]]
        return any((hi < 0 or x <= hi) and y >= lo for x, y in zip(words[::2], words[1::2], strict=True))

    def step(self, configuration: Configuration, byte: int) -> Configuration | None:
        """The configuration after a byte, None if it is refused."""
        state, stack = configuration
        stack = tuple(f if f.record is None else replace(f, record=f.record + bytes([byte])) for f in stack)
        while True:
            self._expand(state)
            edge = next((e for e in self.edges[state] if e[0] <= byte <= e[1]), None)
            if edge is None:
                return None
            _, _, op, target, a, b, c = edge
            if op == t.GOTO:
                return target, stack
            if op == t.ENDING and (stack[-1].lo > 0 or stack[-1].ext & self._set(c)):
                return None
            if op == t.ENDING and stack[-2].record is not None and not self._may_end(stack):
                return None
            if op in (t.PUSH, t.ENDING):
                hi, lo, ext = self._registers[b]
                return target, (*stack, Frame(a, hi, lo, self._set(ext)))
            below, top = stack[:-1], stack[-1]
            if op in (t.POP, t.REDO, t.CLOSE):
                if top.lo > 0 or not below or (op == t.CLOSE and top.ext & self._set(b)):
                    return None
                state, stack = self._after(top.ret, a), below
                if op == t.REDO:
                    continue
                return self._kept(state, stack)
            if op == t.WITHIN and c == 0:
                return (target, stack) if self._fits(a, top.hi, top.lo) else None
            if top.hi == 0:
                return None
            counted = replace(top, hi=top.hi - 1 if top.hi > 0 else top.hi, lo=max(top.lo - 1, 0))
            may_add = op in (t.XKEY, t.MAYKEY, t.ADDED, t.FEWKEY, t.MAYFEW, t.ITEM) and not top.ext & self._set(c)
            declared = any(a <= key < b for key in top.ext)
            if op == t.COUNT or (op == t.WITHIN and self._fits(a, counted.hi, counted.lo)):
                return target, (*below, counted)
            if op == t.WITHIN:
                return None
            if op == t.RECORD:
                hi, lo, ext = self._registers[b]
                return target, (*below, replace(top, record=bytes([byte])), Frame(a, hi, lo, self._set(ext)))
            if op == t.KEY:
                return (target, stack) if declared else None
            if op == t.MAYKEY:
                return (target, stack) if declared or may_add else None
            if op == t.XKEY:
                extended = replace(top, text=top.text + bytes([byte]))
                return (target, (*below, extended)) if declared or may_add else None
            if op in (t.FEWKEY, t.MAYFEW):
                text = top.text + bytes([byte]) if op == t.FEWKEY else b""
                unseen = sum(seen.startswith(text) for seen in top.seen) < b
                if not top.ext & self._set(a) and not (may_add and unseen):
                    return None
                return target, (*below, replace(top, text=text))
            if op == t.DECLARED:
                if a not in top.ext:
                    return None
                ext = top.ext - {a} if b == t.NONE else self._set(b)
                return target, (*below, replace(counted, ext=ext, text=b""))
            assert op in (t.ADDED, t.ITEM)
            if top.text in top.seen or not may_add:
                return None
            ext = top.ext if b == t.NONE else self._set(b)
            state, stack = target, (*below, replace(counted, ext=ext, text=b"", seen=top.seen | {top.text}))
            if op == t.ADDED:
                return state, stack

    def _kept(self, state: int, stack: tuple[Frame, ...]) -> Configuration | None:
        """What a value that was just popped leads to."""
        if not stack or stack[-1].record is None:
            return state, stack
        self._expand(state)
        first, _, op, target, limit, _, _ = self.edges[state][0]
        assert (first, op) == (-1, t.KEEP)
        top = stack[-1]
        text = top.text + value_text(top.record or b"")
        if sum(seen.startswith(text) for seen in top.seen) >= limit:
            return None
        return target, (*stack[:-1], replace(top, text=text, record=None))

    def _may_end(self, stack: tuple[Frame, ...]) -> bool:
        """Whether the recorded value may end before the last byte."""
        below = stack[-2]
        assert below.record is not None
        whole = below.record[:-1] + (b"]" if below.record[:1] == b"[" else b"}")
        ret = self._after(stack[-1].ret, 0)
        return self._kept(ret, (*stack[:-2], replace(below, record=whole))) is not None

    def run(self, text: bytes, configuration: Configuration | None = None) -> Configuration | None:
        configuration = configuration or self.start
        for byte in text:
            following = self.step(configuration, byte)
            if following is None:
                return None
            configuration = following
        return configuration

    def accepting(self, configuration: Configuration) -> bool:
        state, stack = configuration
        while True:
            self._expand(state)
            end = self.ends[state]
            if end == t.END_ACCEPT:
                return len(stack) == 1
            if end < 0 or len(stack) == 1 or stack[-1].lo > 0:
                return False
            state, stack = self._after(stack[-1].ret, end), stack[:-1]
