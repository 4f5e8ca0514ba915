"""A matrix on a grid: what every integer checkpoint format holds, whatever its layout in the file.

    w[r, c] = scales[r, g] · (numbers[r, c] - zeros[r, g]),   g = the group of column c

Numbers are signed, -2^(bits-1) to 2^(bits-1) - 1; formats that count from 0 are shifted on reading, zeros and all. A
symmetric grid has zeros of 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Grid:
    bits: int
    numbers: NDArray[np.int8]
    """[rows, columns]"""
    scales: NDArray[np.float32]
    """[rows, groups]"""
    zeros: NDArray[np.int16]
    """[rows, groups]"""
    group_of: NDArray[np.int32] | None = None
    """[columns] the group of each column; None for equal runs of neighbours."""

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.numbers.shape
        return rows, columns

    @property
    def group_size(self) -> int:
        """Columns a group, where groups are runs of neighbours."""
        return self.shape[1] // self.scales.shape[1]

    def groups(self) -> NDArray[np.int32]:
        """[columns] the group of each column."""
        if self.group_of is not None:
            return self.group_of
        return (np.arange(self.shape[1]) // self.group_size).astype(np.int32)

    def dense(self) -> NDArray[np.float32]:
        """The numbers it stands for, [rows, columns]."""
        groups = self.groups()
        values = self.numbers.astype(np.float32)
        values -= self.zeros.astype(np.float32)[:, groups]
        values *= self.scales[:, groups]
        return values

    def take(self, rows: NDArray[np.intp]) -> Grid:
        """Some of the rows, in the order given."""
        return replace(self, numbers=self.numbers[rows], scales=self.scales[rows], zeros=self.zeros[rows])
