"""KV memory of the sequences of a step loop: which blocks each of them holds, in every group of layers.

    group that sees all      a b c d e f        column j of a sequence's tables holds its tokens j · size …; a column
    group with a window      d' d' d' d' e' f'  is allocated, copied and shared as one, and passed group by group
                             ───passed──

Blocks that have left their group's window are released while the sequence goes on. What is masked is still read, so in
their places of the table stands a block of the sequence's own, never one that others write. The cache finds a prefix
where the groups that see all hold all of it, and the others what their windows show of its end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engine.blocks import BlockPool
from engine.prefix_cache import Match, PrefixCache, first_seen
from engine.sequence import Sequence

Copies = list[tuple[int, int]]
"""Blocks (source, target) to copy before the forward pass, in order."""


class KvMemory:
    """``slots``: rows of ``tables``, int32[G, slots, width]; row `Sequence.slot` mirrors `Sequence.tables`."""

    def __init__(self, pool: BlockPool, cache: PrefixCache, slots: int, width: int) -> None:
        self.pool = pool
        self.cache = cache
        self.groups = len(cache.windows)
        self.tables: NDArray[np.int32] = np.zeros((self.groups, slots, min(width, pool.num_blocks)), np.int32)
        self.pinned: list[list[int]] = []
        """Blocks that are kept for good."""
        self._passing = [(group, window) for group, window in enumerate(cache.windows) if window]

    @property
    def n_free(self) -> int:
        return self.pool.n_free

    @property
    def pinned_blocks(self) -> int:
        return sum(map(len, self.pinned))

    @property
    def room(self) -> int:
        """Tokens that all blocks but the pinned ones hold."""
        return (self.pool.num_blocks - self.pinned_blocks) // self.groups * self.pool.block_size

    def unpinnable(self, tokens: int) -> str | None:
        """Why a prefix of this length cannot be kept for good beside those that are, or None: half of the memory is
        left to requests."""
        size, held = self.pool.block_size, self.pinned_blocks
        if held + self.groups * (tokens // size) <= self.pool.num_blocks // 2:
            return None
        return (
            f"{tokens} tokens, with {held // self.groups * size} that are pinned already, exceed half of the KV memory "
            f"of {self.pool.num_blocks // self.groups * size} tokens"
        )

    def blocks_for(self, tokens: int) -> int:
        """Blocks that ``tokens`` tokens take, before any of them are passed."""
        return self.groups * self.pool.blocks_for(tokens)

    # Coming and going

    def find(self, sequence: Sequence) -> tuple[Match, int]:
        """Claim what the cache has of a sequence's tokens; and how many blocks it needs beyond that."""
        found = self.cache.match(sequence.chain, sequence.tokens)
        rest = self.pool.blocks_for(len(sequence.tokens)) - found.columns
        return found, self.groups * rest + found.absent

    def place(self, sequence: Sequence, found: Match) -> None:
        """Give a sequence all blocks of its tokens, beginning with what was found."""
        size = self.pool.block_size
        fresh = self.pool.blocks_for(len(sequence.tokens)) - found.columns
        tables = self.cache.restore(found)
        sequence.computed = found.columns * size
        sequence.restored = len(found.lost) * size
        sequence.published = min(found.lost, default=found.columns)
        sequence.passed = [found.columns - len(table) for table in tables]
        for table, passed in zip(tables, sequence.passed, strict=True):
            table += [self.pool.allocate() for _ in range(fresh)]
            table[:0] = [table[0]] * passed
        sequence.tables = tables
        sequence.room = len(sequence.blocks) * size
        self.cache.count(sequence.computed, sequence.restored, len(sequence.tokens))

    def give_up(self, found: Match) -> None:
        """Let go of what was claimed."""
        self.pool.release_all(found.claimed)

    def share(self, twin: Sequence) -> None:
        """A fork holds the blocks of the sequence it was split off."""
        for block in held_blocks(twin):
            self.pool.retain(block)

    def drop(self, sequence: Sequence) -> None:
        """Release all that a sequence holds."""
        for table, passed in zip(sequence.tables, sequence.passed, strict=True):
            self.pool.release_all(table[passed:])
        sequence.forget()

    def enter(self, sequence: Sequence) -> None:
        """Write down the tables of a sequence at its slot."""
        for mirror, table in zip(self.tables, sequence.tables, strict=True):
            mirror[sequence.slot, : len(table)] = table

    def pin(self, sequence: Sequence) -> int:
        """Keep the full blocks of a computed sequence for good, as far as windows will look back at them; returns how
        many tokens they hold."""
        self.pinned.append(self.cache.claim(sequence.chain, sequence.published))
        return sequence.published * self.pool.block_size

    # One step

    def lacks_column(self, sequence: Sequence) -> bool:
        """The next token has no block to go to that is the sequence's own."""
        room = len(sequence.blocks) * self.pool.block_size
        if len(sequence.tokens) > room or self._writes_shared(sequence):
            return True
        sequence.room = room
        return False

    def grow(self, sequence: Sequence) -> Copies:
        """Give a sequence that lacks one a column: a new one, or a copy of the last. As many blocks as there are
        groups must be free."""
        if not self._writes_shared(sequence):
            sequence.room = (len(sequence.blocks) + 1) * self.pool.block_size
            for mirror, table in zip(self.tables, sequence.tables, strict=True):
                table.append(self.pool.allocate())
                mirror[sequence.slot, len(table) - 1] = table[-1]
            return []
        copies: Copies = []
        for mirror, table in zip(self.tables, sequence.tables, strict=True):
            shared, table[-1] = table[-1], self.pool.allocate()
            mirror[sequence.slot, len(table) - 1] = table[-1]
            self.pool.release(shared)
            copies.append((shared, table[-1]))
        return copies

    def computed(self, sequences: list[Sequence], lengths: list[int]) -> None:
        """So many more tokens of each are computed: offer full columns to the cache, and let go what was passed."""
        size = self.pool.block_size
        for sequence, length in zip(sequences, lengths, strict=True):
            sequence.computed += length
            if sequence.computed >= (sequence.published + 1) * size:
                self.cache.publish(sequence, sequence.computed // size)
        for group, window in self._passing:
            for sequence in sequences:
                self._pass(sequence, group, first_seen(sequence.computed, window) // size)

    def _pass(self, sequence: Sequence, group: int, passed: int) -> None:
        """Release the columns before ``passed``, unless nothing of the sequence's own would be left."""
        table, before = sequence.tables[group], sequence.passed[group]
        if before < passed < len(table):
            self.pool.release_all(table[before:passed])
            table[:passed] = [table[passed]] * passed
            self.tables[group, sequence.slot, :passed] = table[passed]
            sequence.passed[group] = passed

    def _writes_shared(self, sequence: Sequence) -> bool:
        """The next token goes to a column that other choices have too: the last one, as full ones are never written."""
        blocks = sequence.blocks
        return sequence.computed < len(blocks) * self.pool.block_size and self.pool.references[blocks[-1]] > 1


def held_blocks(sequence: Sequence) -> Iterator[int]:
    """The blocks that a sequence holds, group by group."""
    return (
        block
        for table, passed in zip(sequence.tables, sequence.passed, strict=True)
        for block in table[passed:]
    )  # fmt: skip
