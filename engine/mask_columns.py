"""Sequences in the form `Masks` takes them: columns in, columns out, one call a batch.

The columns are made once and grow only when more sequences are asked about at a time than ever before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.base import OK, REFUSED, Masks
from engine.sequence import Sequence


class _Columns(NamedTuple):
    programs: NDArray[np.int32]
    states: NDArray[np.int32]
    tokens: NDArray[np.int32]
    out: NDArray[np.int32]
    status: NDArray[np.uint8]


class MaskColumns:
    """The constraints of one vocabulary, with its end-of-sequence ids. Lists follow the order of the sequences."""

    def __init__(self, masks: Masks, eos_ids: frozenset[int], capacity: int) -> None:
        self._masks = masks
        self._eos_ids = eos_ids
        self._int32: NDArray[np.int32] = np.zeros((4, capacity), np.int32)
        self._status: NDArray[np.uint8] = np.zeros(capacity, np.uint8)

    def start(self, program: int) -> int:
        return self._masks.start(program)

    def advance(self, sequences: list[Sequence], tokens: list[int]) -> tuple[list[int], list[int]]:
        """States after the tokens, and the status of each: OK, REFUSED or MISS."""
        columns = self._columns(sequences)
        columns.tokens[:] = tokens
        self._masks.advance(columns.programs, columns.states, columns.tokens, columns.out, columns.status)
        return columns.out.tolist(), columns.status.tolist()

    def rows(self, sequences: list[Sequence]) -> tuple[list[int], list[int], set[int]]:
        """Rows of the next tokens, the status of each, and the places of those that allow nothing but an end.

        Status REFUSED marks a row that allows nothing at all where the text is not complete: no sound machine leads
        there. (Where it is, the model has no id that could say so.)
        """
        columns = self._columns(sequences)
        self._masks.rows(columns.programs, columns.states, columns.out, columns.status)
        rows, ends = columns.out.tolist(), self._only_ends(columns.out, columns.status)
        empty = [i for i in ends if self._masks.pool.count[rows[i]] == 0]
        if empty:
            complete = np.empty(len(sequences), np.bool_)
            self._masks.accepting(columns.programs, columns.states, complete)
            columns.status[[i for i in empty if not complete[i]]] = REFUSED
        return rows, columns.status.tolist(), ends

    def accepting(self, sequences: list[Sequence]) -> list[bool]:
        """Whether each text so far is a complete sentence."""
        columns = self._columns(sequences)
        out = np.empty(len(sequences), np.bool_)
        self._masks.accepting(columns.programs, columns.states, out)
        return out.tolist()

    def _columns(self, sequences: list[Sequence]) -> _Columns:
        n = len(sequences)
        if n > len(self._status):
            self._int32, self._status = np.zeros((4, 2 * n), np.int32), np.zeros(2 * n, np.uint8)
        programs, states, tokens, out = self._int32[:, :n]
        programs[:] = [s.group.program for s in sequences]
        states[:] = [s.state for s in sequences]
        return _Columns(programs, states, tokens, out, self._status[:n])

    def _only_ends(self, rows: NDArray[np.int32], status: NDArray[np.uint8]) -> set[int]:
        """Nearly all rows drop out by their count alone."""
        pool = self._masks.pool
        ends: set[int] = set()
        for i in np.flatnonzero((status == OK) & (pool.count[rows] <= len(self._eos_ids))).tolist():
            at, count = pool.start[rows[i]], pool.count[rows[i]]
            if self._eos_ids.issuperset(pool.ids[at : at + count].tolist()):
                ends.add(i)
        return ends
