"""What fits: how many sequences of how many tokens have room beside a model's weights, and how fast they go at best.

    free      = memory - reserve - weights
    a block   = block size · bytes a token, and a sequence of C tokens has ⌈C / block size⌉ blocks
    sequences = ⌊⌊free / block⌋ / ⌈C / block size⌉⌋
    a step of B sequences of C tokens reads  weights + B · C · bytes a token,  and gives B tokens:
    tokens a second ≤ B · bandwidth / (weights + B · C · bytes a token)

The last is the roofline's memory side (Williams et al., CACM 2009): arithmetic, launches and everything else only cost
more. Published servers reach 40 to 70 % of it at batch 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.model.footprint import WeightBytes
from gateway.planning.machines import Machine
from gateway.planning.problem import PlanProblem


@dataclass(frozen=True, slots=True)
class Room:
    """A model on a machine. ``reserve``: bytes that neither weights nor cache may have: the driver's context,
    activations, captured graphs. ``token_bytes``: of the cache, a token."""

    machine: Machine
    weights: WeightBytes
    token_bytes: int
    block_size: int
    reserve: int

    @property
    def free(self) -> int:
        """Bytes for the cache. Raises `PlanProblem` where there are none."""
        free = self.machine.memory - self.reserve - self.weights.total
        if free < self.token_bytes * self.block_size:
            raise PlanProblem(
                f"{self.machine.name} has {self.machine.memory / 2**30:.1f} GiB; the weights need "
                f"{self.weights.total / 2**30:.1f}, {self.reserve / 2**30:.1f} are kept aside, and not one block of "
                "cache fits beside them"
            )
        return free

    @property
    def blocks(self) -> int:
        return self.free // (self.token_bytes * self.block_size)

    def sequences(self, context: int) -> int:
        """The most of ``context`` tokens each."""
        return self.blocks // -(-context // self.block_size)

    def context(self, sequences: int) -> int:
        """The most tokens that each of so many sequences can have."""
        return self.blocks // sequences * self.block_size

    def tokens_per_s(self, sequences: int, context: int) -> float:
        """No decoding is faster than this, all sequences together; 0 where the bandwidth is not known."""
        read = self.weights.read + sequences * context * self.token_bytes
        return sequences * self.machine.bandwidth / read
