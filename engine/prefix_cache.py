"""Prefix cache: full KV blocks found again by what they hold.

A block's digest covers the model, the tenant and every token up to the block's end, because a key or value depends on
all of them. Digests are chained:

    chain[0]     = H(model, tenant)
    chain[j + 1] = H(chain[j] ‖ tokens of block j, int32)          H = BLAKE2b, 128 bits (RFC 7693)

The hash is cryptographic because a collision would answer one caller from another's prompt; Python's own hash, which
engines have used here, can be made to collide on purpose (CVE-2025-25183). The tenant in the root keeps tenants apart:
not even the time to the first token tells one what another has asked.

A block that is reused may live on in the host's memory (`engine.host_tier`), under the same digest.

Where layers lie in several groups (`engine.model.kv_groups`), each has a block for a stretch of tokens, a *column*, and
a group with a window has kept its last ones only. A prefix is found where all is there that will be looked at after it.

Only full blocks are shared, and never the one with the sequence's last token: its logits are needed, so at least that
token is computed again, into a block of the sequence's own.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from hashlib import blake2b

from engine.blocks import BlockPool
from engine.host_tier import HostTier
from engine.sequence import Sequence

DIGEST_SIZE = 16


@dataclass(frozen=True, slots=True)
class Match:
    """The first ``columns`` blocks of a sequence were found. ``labels`` and ``blocks``, group by group: the last of
    these columns that the group will look at; None is a block that only the host's memory holds."""

    columns: int
    labels: list[list[bytes]]
    blocks: list[list[int | None]]

    @property
    def absent(self) -> int:
        """Blocks that the device does not hold."""
        return sum(blocks.count(None) for blocks in self.blocks)

    @property
    def claimed(self) -> list[int]:
        return [block for blocks in self.blocks for block in blocks if block is not None]

    @property
    def lost(self) -> set[int]:
        """Columns of which the device does not hold everything."""
        return {
            self.columns - len(blocks) + i
            for blocks in self.blocks
            for i, block in enumerate(blocks)
            if block is None
        }  # fmt: skip


class PrefixCache:
    """Labels the blocks of one pool with the digests of one model's token prefixes. ``host``: keeps content that the
    pool forgets. ``windows``: as of `engine.base.Runner`."""

    def __init__(
        self, pool: BlockPool, model: str, host: HostTier | None = None, windows: tuple[int, ...] = (0,)
    ) -> None:
        self.pool = pool
        self.model = model
        self.windows = windows
        self.host = HostTier(0) if host is None else host
        self.hit_tokens = 0
        self.asked_tokens = 0
        self.restored_tokens = 0

    def root(self, tenant: str, group: str | None = None) -> bytes:
        """The first link of the chains of a tenant, or of all tenants of a sharing group."""
        model = self.model.encode()
        owner = b"t" + tenant.encode() if group is None else b"g" + group.encode()
        return blake2b(len(model).to_bytes(4, "little") + model + owner, digest_size=DIGEST_SIZE).digest()

    def extend(self, chain: list[bytes], tokens: list[int], blocks: int) -> None:
        """Lengthen ``chain`` in place until it covers the first ``blocks`` full blocks of ``tokens``."""
        size = self.pool.block_size
        for start in range((len(chain) - 1) * size, blocks * size, size):
            text = array("i", tokens[start : start + size]).tobytes()
            chain.append(blake2b(chain[-1] + text, digest_size=DIGEST_SIZE).digest())

    def match(self, chain: list[bytes], tokens: list[int]) -> Match:
        """Claim the longest cached prefix of ``tokens``: columns, short of the last token's. Lengthens ``chain``."""
        reusable = (len(tokens) - 1) // self.pool.block_size
        self.extend(chain, tokens, reusable)
        columns = self._reach(chain, reusable)
        labels = self._labels(chain, columns)
        return Match(columns, labels, [[self.pool.claim(label) for label in wanted] for wanted in labels])

    def _reach(self, chain: list[bytes], columns: int) -> int:
        """The longest prefix of at most ``columns`` of which the cache has all that would be looked at."""
        reach, runs = 0, [0] * len(self.windows)
        for column in range(1, columns + 1):
            for group, window in enumerate(self.windows):
                label = _label(chain[column], group)
                runs[group] = runs[group] + 1 if self.pool.knows(label) or label in self.host else 0
                if not window and not runs[group]:
                    return reach
            if all(run >= column - first for run, first in zip(runs, self._firsts(column), strict=True)):
                reach = column
        return reach

    def _firsts(self, columns: int) -> list[int]:
        """Of each group, the first column that is looked at once ``columns`` are computed."""
        size = self.pool.block_size
        return [min(columns, first_seen(columns * size, window) // size) for window in self.windows]

    def _labels(self, chain: list[bytes], columns: int) -> list[list[bytes]]:
        """What the blocks are called that will be looked at once ``columns`` are computed, group by group."""
        return [
            [_label(digest, group) for digest in chain[first + 1 : columns + 1]]
            for group, first in enumerate(self._firsts(columns))
        ]

    def restore(self, found: Match) -> list[list[int]]:
        """The tables of what `match` found: what lies in the host's memory gets a block, to be loaded in this step."""
        named = [list(zip(*group, strict=True)) for group in zip(found.labels, found.blocks, strict=True)]
        for label in (label for group in named for label, block in group if block is None):
            self.host.hold(label)
        return [[self._load(label) if block is None else block for label, block in group] for group in named]

    def _load(self, label: bytes) -> int:
        block = self.pool.allocate()
        self.host.load(label, block)
        return block

    def claim(self, chain: list[bytes], columns: int) -> list[int]:
        """Hold what the device has of a prefix of whole columns, once more."""
        claimed = (self.pool.claim(label) for group in self._labels(chain, columns) for label in group)
        return [block for block in claimed if block is not None]

    def count(self, hit: int, restored: int, asked: int) -> None:
        """Record that an admitted sequence found ``hit`` of its ``asked`` tokens, ``restored`` of them in the host's
        memory."""
        self.hit_tokens += hit
        self.restored_tokens += restored
        self.asked_tokens += asked

    def publish(self, sequence: Sequence, columns: int) -> None:
        """Offer the first ``columns`` of a sequence's tables, all computed."""
        self.extend(sequence.chain, sequence.tokens, columns)
        for group, (table, passed) in enumerate(zip(sequence.tables, sequence.passed, strict=True)):
            for column in range(max(sequence.published, passed), columns):
                self.pool.label(table[column], _label(sequence.chain[column + 1], group))
        sequence.published = columns


def first_seen(computed: int, window: int) -> int:
    """The first token that the next one looks at, after ``computed``; ``window``: 0 for all."""
    return max(0, computed - window + 1) if window else 0


def _label(digest: bytes, group: int) -> bytes:
    """The content of one group's block."""
    return digest + bytes([group]) if group else digest
