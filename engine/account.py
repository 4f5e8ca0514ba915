"""What one tenant was given in one class of priority, in tokens over its weight: `engine.fair_queue` says what for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Account:
    """``weight``: its share, beside those of others, where tenants compete."""

    weight: float
    served: float = 0.0
    """Tokens computed, over the weight. Those found in a cache, and those computed again, count nothing."""
    owed: int = 0
    """Tokens of admitted prompts that are still to be computed."""
    running: int = 0
    """Sequences that hold a slot."""
    living: int = 0
    """Sequences that have not ended."""
    entry: tuple[float, int, int, Account] | None = None
    """Its place in the queue, while somebody of it waits."""

    @property
    def committed(self) -> float:
        """What will have been served once the prompts that were admitted are computed."""
        return self.served + self.owed / self.weight

    def charge(self, tokens: int) -> None:
        self.served += tokens / self.weight
