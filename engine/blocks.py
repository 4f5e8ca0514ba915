"""Blocks of KV memory: who holds them, which are free, and what a free one still remembers.

    allocate ─▶ held (references ≥ 1) ─release─▶ free ─allocate─▶ held by somebody else
                     ▲    │ label                  │
                     │    ▼                        │
                     └─ labelled ◀──── claim ──────┘     the content named by the label is still there

One queue is both the free list and the cache's LRU list: unlabelled blocks stand at the front and are handed out first,
labelled ones are appended as they are released, so that the one unused for longest is reused first and only then
forgotten. Nothing is evicted ahead of need, and no setting says how much of the memory is "cache" (as in vLLM).
The pool knows numbers only; keys and values live in the runner.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable


class OutOfBlocks(RuntimeError):
    """A block was asked for while none was free. The scheduler makes room first, so this is a fault in it."""


class BlockPool:
    """Reference counts, free queue and labels of ``num_blocks`` blocks of ``block_size`` tokens, all O(1).

    ``forgotten(block, label)`` is told of labelled blocks that are allocated anew, while their content is still there.
    """

    def __init__(
        self, num_blocks: int, block_size: int, forgotten: Callable[[int, bytes], None] = lambda block, label: None
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._forgotten = forgotten
        self.references: list[int] = [0] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._labels: list[bytes | None] = [None] * num_blocks
        self._by_label: dict[bytes, int] = {}

    @property
    def n_free(self) -> int:
        return len(self._free)

    @property
    def n_used(self) -> int:
        return self.num_blocks - len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold ``tokens`` tokens."""
        return -(-tokens // self.block_size)

    def allocate(self) -> int:
        """A block with one reference and undefined content. `OutOfBlocks` when none is free."""
        if not self._free:
            raise OutOfBlocks(f"all {self.num_blocks} blocks are held")
        block, _ = self._free.popitem(last=False)
        label = self._labels[block]
        if label is not None:
            del self._by_label[label]
            self._labels[block] = None
            self._forgotten(block, label)
        self.references[block] = 1
        return block

    def retain(self, block: int) -> None:
        """One more holder of a held block."""
        self.references[block] += 1

    def release(self, block: int) -> None:
        """One holder fewer; the last one frees the block, whose label stays valid until it is reused."""
        references = self.references[block] - 1
        assert references >= 0, f"block {block} is released by nobody's holder"
        self.references[block] = references
        if references == 0:
            self._free[block] = None
            if self._labels[block] is None:
                self._free.move_to_end(block, last=False)

    def release_all(self, blocks: list[int]) -> None:
        """Release a sequence's blocks, last first: of a chain of cached blocks the head is worth more than the tail."""
        for block in reversed(blocks):
            self.release(block)

    def label(self, block: int, label: bytes) -> None:
        """Name the content of a held block, which nobody may write any more. A label stays with its first block."""
        if label not in self._by_label and self._labels[block] is None:
            self._by_label[label] = block
            self._labels[block] = label

    def knows(self, label: bytes) -> bool:
        """Some block has this content."""
        return label in self._by_label

    def claim(self, label: bytes) -> int | None:
        """The block with this content, held once more, whether it was held or free; None when no block has it."""
        block = self._by_label.get(label)
        if block is not None:
            if self.references[block] == 0:
                del self._free[block]
            self.references[block] += 1
        return block

    def check(self, tables: Iterable[list[int]] = ()) -> None:
        """Compare with the block tables of all living sequences (idle: none). AssertionError names the first fault."""
        holders = Counter(block for table in tables for block in table)
        for block, references in enumerate(self.references):
            assert references == holders[block], f"block {block}: {references} references, {holders[block]} holders"
            assert (references == 0) == (block in self._free), f"block {block}: {references} references, free or not"
            label = self._labels[block]
            assert label is None or self._by_label.get(label) == block, f"block {block}: label found elsewhere"
        labelled = sum(label is not None for label in self._labels)
        assert labelled == len(self._by_label), f"{len(self._by_label)} labels for {labelled} labelled blocks"
