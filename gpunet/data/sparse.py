"""A sparse matrix by rows (CSR), kept as it is in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Csr:
    """The entries of row i are values[starts[i]:starts[i + 1]], in different `columns`; all others are 0."""

    values: npt.NDArray[Any]
    columns: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    def take(self, rows: Any) -> Csr:
        """The rows at these indices (or a slice, or where a mask is true), in that order."""
        rows = np.arange(len(self))[rows]
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(self.starts[rows] - starts[:-1], lengths) + np.arange(starts[-1])
        return Csr(self.values[at], self.columns[at], starts, self.width)

    def dense(self) -> npt.NDArray[Any]:
        out = np.zeros(self.shape, self.values.dtype)
        out[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.columns] = self.values
        return out
