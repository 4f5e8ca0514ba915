"""The device seam: what the step loop asks of whatever runs the model. `Runner` owns weights and KV tensors, nothing
else.

KV memory is paged: ``num_blocks`` blocks of ``block_size`` tokens. A block holds them for one *group* of layers
(`engine.model.kv_groups`), so a sequence has a table of blocks for each group; most models have one. A token's *slot*
in a group is block * block_size + offset. The scheduler hands out blocks; a runner reads and writes the slots it is
told.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fsm.rows import RowPool
from kernels.sampling import SamplingBatch, SamplingResult

Logits = Any
"""[R, vocab_size]: a C-contiguous float32 array, or what the runner's own `SamplingKernel` takes: a tensor on its
device. Rows can be indexed by an array. Valid until the next step."""


@dataclass(slots=True)
class StepBatch:
    """One forward pass over a ragged batch. Sequence i owns tokens ``query_start[i] : query_start[i + 1]``.

    A decode sequence has one new token, a prefill chunk several; both may share a batch. Arrays are int32 and may be
    views of persistent buffers: valid until the next step only."""

    tokens: NDArray[np.int32]
    """[T] token ids of all new tokens, sequence after sequence."""
    positions: NDArray[np.int32]
    """[T] position of each in its sequence."""
    slots: NDArray[np.int32]
    """[G, T] KV slot each token's key and value are written to, in each group of layers."""
    query_start: NDArray[np.int32]
    """[B + 1] offsets into tokens."""
    context_lens: NDArray[np.int32]
    """[B] tokens in the KV cache after this step (old + new)."""
    block_tables: NDArray[np.int32]
    """[G, B, M] block ids of each sequence in order; entries past its length are undefined."""
    logit_rows: NDArray[np.int32]
    """[R] indices into tokens whose logits are wanted, ascending."""


class Runner(Protocol):
    """Runs a decoder. Not thread-safe: one step loop calls it."""

    vocab_size: int
    context_length: int
    num_blocks: int
    block_size: int
    windows: tuple[int, ...]
    """[G] tokens that the layers of each group see at most, the newest included; 0 for all."""

    def forward(self, batch: StepBatch) -> Logits:
        """Logits of ``batch.logit_rows``. Writes the new tokens' keys and values."""
        ...

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block's keys and values (copy on write)."""
        ...

    def nbytes(self) -> dict[str, int]:
        """Memory held: {"weights": ..., "kv": ...}."""
        ...


class HostMemory(Protocol):
    """The second tier of a runner's KV memory, in the host's: ``num_blocks`` places of one block each."""

    num_blocks: int

    def move(self, stores: list[tuple[int, int]], loads: list[tuple[int, int]]) -> None:
        """Copy the keys and values of all layers: blocks to places (block, place), then places to blocks (place,
        block). What is launched on the device afterwards finds them there."""
        ...

    def nbytes(self) -> int:
        """Bytes of the host's memory that are held."""
        ...


class SamplingKernel(Protocol):
    """Draws the tokens of a step from a runner's logits (`kernels/sampling.py`); not thread-safe."""

    def sample(self, logits: Logits, pool: RowPool, batch: SamplingBatch, out: SamplingResult) -> None:
        """One token for each row of ``logits`` into ``out``, which the host may read on return."""
        ...


OK, REFUSED, MISS = range(3)
"""Status of one sequence in a batch call of `Masks`."""


class Masks(Protocol):
    """What the step loop asks of constraints, in batch form (`fsm.runtime.Runtime` implements it; `program` 0 is the
    null object that allows everything and whose only state is 0, so the loop never branches on "has a constraint").

    MISS means that a static state is not expanded yet: the sequence is parked until the grammar worker's delta
    arrives; asking again is then enough. All calls are nogil inside and allocate nothing per sequence.
    """

    pool: RowPool

    def start(self, program: int) -> int:
        """Initial state of a program."""
        ...

    def advance(
        self,
        programs: NDArray[np.int32],
        states: NDArray[np.int32],
        tokens: NDArray[np.int32],
        out: NDArray[np.int32],
        status: NDArray[np.uint8],
    ) -> None:
        """out[i] = state after tokens[i]; unchanged where status[i] is REFUSED or MISS. End-of-sequence ids are not
        advanced over."""
        ...

    def rows(
        self,
        programs: NDArray[np.int32],
        states: NDArray[np.int32],
        out: NDArray[np.int32],
        status: NDArray[np.uint8],
    ) -> None:
        """out[i] = row id of the tokens allowed in states[i]; status OK or MISS."""
        ...

    def way(self, program: int, state: int) -> Generator[bool, None, tuple[int, ...] | None]:
        """Search for tokens that complete a sentence of a program other than 0 from ``state``: returns them, or None
        where it gave up. Yields True where it must wait for an expansion, False now and then to let others work."""
        ...

    def accepting(self, programs: NDArray[np.int32], states: NDArray[np.int32], out: NDArray[np.bool_]) -> None:
        """out[i] = the text so far is a complete sentence (always True for program 0)."""
        ...
