"""The second tier of the prefix cache: what blocks of KV memory held when they were reused, kept in the host's memory.

    device   labelled ─reused─▶ store ─────┐         forward pass of the step
                                           ▼        ▲
    host                     kept, by digest ─load─┘  the block of a sequence that asks for the same tokens

A block that is about to be written by somebody else is copied out first, and its content copied back when a prompt, or
a preempted sequence, needs it again: the copy takes a small part of the time that computing it would. Both tiers know
content by the same digests (`engine.prefix_cache`), so that tenants are kept apart here as there. What comes back stays
here too, least recently used first to go, so that it need not be copied out twice.

Moves are planned with a step and done before its forward pass, stores before loads; `settle` says that they are done.
Numbers only: the bytes are moved by the runner's `engine.base.HostMemory`.
"""

from __future__ import annotations

from collections import OrderedDict

Moves = list[tuple[int, int]]
"""From where, to where."""


class HostTier:
    """``num_blocks`` places in the host's memory; 0 where there is none."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.stored = 0
        """Blocks copied out since the start."""
        self.loaded = 0
        """Blocks copied back since the start."""
        self._free = list(range(num_blocks))
        self._places: OrderedDict[bytes, int] = OrderedDict()
        self._storing: dict[bytes, tuple[int, int]] = {}
        self._loading: dict[bytes, Moves] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def __len__(self) -> int:
        return len(self._places)

    def store(self, block: int, digest: bytes) -> None:
        """Plan to keep the content of a block that is going to be written. Does nothing where all places are needed for
        this step's loads."""
        if digest in self._places:
            self._places.move_to_end(digest)
            return
        place = self._free.pop() if self._free else self._reuse()
        if place is not None:
            self._storing[digest] = block, place

    def hold(self, digest: bytes) -> None:
        """Do not forget ``digest`` in this step: `load` is going to follow."""
        self._loading.setdefault(digest, [])
        self._places.move_to_end(digest)

    def load(self, digest: bytes, block: int) -> None:
        """Plan to copy what was kept into a block."""
        self._loading[digest].append((self._places[digest], block))

    def moves(self) -> tuple[Moves, Moves]:
        """What is planned: stores (block, place), to be done first, and loads (place, block)."""
        return list(self._storing.values()), [move for moves in self._loading.values() for move in moves]

    def settle(self) -> None:
        """All that was planned has been done."""
        self._places |= {digest: place for digest, (_, place) in self._storing.items()}
        self.stored += len(self._storing)
        self.loaded += sum(map(len, self._loading.values()))
        self._storing.clear()
        self._loading.clear()

    def abandon(self) -> None:
        """What was planned and not settled will not be done."""
        self._free += [place for _, place in self._storing.values()]
        self._storing.clear()
        self._loading.clear()

    def check(self) -> None:
        """AssertionError: a place is lost, or kept twice."""
        places = [*self._free, *self._places.values(), *(place for _, place in self._storing.values())]
        assert sorted(places) == list(range(self.num_blocks)), f"places of the host tier: {sorted(places)}"

    def _reuse(self) -> int | None:
        """The place that was not used for longest, unless it is to be loaded from."""
        oldest = next(iter(self._places), None)
        return None if oldest is None or oldest in self._loading else self._places.pop(oldest)
