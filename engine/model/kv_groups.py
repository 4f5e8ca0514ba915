"""Which layers share a block of KV memory: layers with the same window, in groups of equal size.

    layer     0 1 2 3 4 5 6 7 8 9            a block holds 16 tokens of all layers of one group, so that all blocks are
    window    w w w w 0 w w w w 0            of one size and any group can use any of them. Every group has a table of
    group     1 1 2 2 0 3 3 4 4 0            its own: the blocks of groups 1 to 4 are given back once they have left
    place     0 1 0 1 0 0 1 0 1 1            the window, those of group 0 stay

One table for all layers would keep what most layers never look at again: of Gemma 3's layers five in six see 1,024
tokens at most. This is vLLM's hybrid KV cache manager (docs.vllm.ai, design/hybrid_kv_cache_manager), but for the size
of the groups, which is the one that leaves the fewest places empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.model.config import ModelConfig

MOST = 8
"""Groups at most: each is a table that every step fills."""


@dataclass(frozen=True, slots=True)
class KvGroups:
    """``windows``: tokens that the layers of each group see, 0 for all. ``places``: layers that a block has room for.
    ``layers``: group and place of each layer."""

    windows: tuple[int, ...]
    places: int
    layers: tuple[tuple[int, int], ...]

    def group(self, layer: int) -> int:
        return self.layers[layer][0]

    def place(self, layer: int) -> int:
        return self.layers[layer][1]

    @classmethod
    def one(cls, config: ModelConfig) -> KvGroups:
        """All layers in one group, which keeps everything."""
        return cls((0,), config.layers, tuple((0, layer) for layer in range(config.layers)))

    @classmethod
    def by_window(cls, config: ModelConfig) -> KvGroups:
        """Layers that see all come first."""
        kinds: dict[int, list[int]] = {}
        for layer in range(config.layers):
            kinds.setdefault(config.window(layer), []).append(layer)
        counts = [len(layers) for layers in kinds.values()]
        sizes = [size for size in range(1, max(counts) + 1) if _groups(counts, size) <= max(MOST, len(kinds))]
        places = min(sizes, key=lambda size: (_groups(counts, size) * size, -size))
        windows: list[int] = []
        found: dict[int, tuple[int, int]] = {}
        for window, layers in sorted(kinds.items()):
            for i, layer in enumerate(layers):
                found[layer] = len(windows) + i // places, i % places
            windows += [window] * -(-len(layers) // places)
        return cls(tuple(windows), places, tuple(found[layer] for layer in range(config.layers)))


def _groups(counts: list[int], size: int) -> int:
    return sum(-(-count // size) for count in counts)
