"""Prefix cache: full KV blocks found again by what they hold.

A block's digest covers the model, the tenant and every token up to the block's end, because a key or value depends on
all of them. Digests are chained:

    chain[0]     = H(model, tenant)
    chain[j + 1] = H(chain[j] ‖ tokens of block j, int32)          H = BLAKE2b, 128 bits (RFC 7693)

The hash is cryptographic because a collision would answer one caller from another's prompt; Python's own hash, which
engines have used here, can be made to collide on purpose (CVE-2025-25183). The tenant in the root keeps tenants apart:
not even the time to the first token tells one what another has asked.

A block that is reused may live on in the host's memory (`engine.host_tier`), under the same digest.

Only full blocks are shared, and never the one with the sequence's last token: its logits are needed, so at least that
token is computed again, into a block of the sequence's own.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

from engine.blocks import BlockPool
from engine.host_tier import HostTier

DIGEST_SIZE = 16


class PrefixCache:
    """Labels the blocks of one pool with the digests of one model's token prefixes. ``host``: keeps content that the
    pool forgets."""

    def __init__(self, pool: BlockPool, model: str, host: HostTier | None = None) -> None:
        self.pool = pool
        self.model = model
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

    def match(self, chain: list[bytes], tokens: list[int]) -> list[int | None]:
        """Claim the longest cached prefix of ``tokens``: whole blocks, short of the last token; None for those that the
        host's memory holds. Lengthens ``chain``."""
        reusable = (len(tokens) - 1) // self.pool.block_size
        self.extend(chain, tokens, reusable)
        blocks: list[int | None] = []
        for digest in chain[1 : reusable + 1]:
            block = self.pool.claim(digest)
            if block is None and digest not in self.host:
                break
            blocks.append(block)
        return blocks

    def restore(self, chain: list[bytes], found: list[int | None]) -> list[int]:
        """The blocks of what `match` found: those in the host's memory get a block each, to be loaded in this step."""
        absent = [digest for digest, block in zip(chain[1:], found, strict=False) if block is None]
        for digest in absent:
            self.host.hold(digest)
        blocks: list[int] = []
        for digest, block in zip(chain[1:], found, strict=False):
            if block is None:
                block = self.pool.allocate()
                self.host.load(digest, block)
            blocks.append(block)
        return blocks

    def count(self, hit: int, restored: int, asked: int) -> None:
        """Record that an admitted sequence found ``hit`` of its ``asked`` tokens, ``restored`` of them in the host's
        memory."""
        self.hit_tokens += hit
        self.restored_tokens += restored
        self.asked_tokens += asked

    def publish(self, chain: list[bytes], tokens: list[int], table: list[int], first: int, last: int) -> None:
        """Offer blocks ``first : last`` of a sequence's table, all computed. Lengthens ``chain``."""
        self.extend(chain, tokens, last)
        for j in range(first, last):
            self.pool.label(table[j], chain[j + 1])
