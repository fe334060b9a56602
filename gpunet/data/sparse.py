"""A sparse matrix by rows (CSR): kept as it is in memory, and dense only for the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import ops
from ..devices import Device
from ..engine import Tensor
from ..errors import DataError

CELLS = 1 << 24  # dense at a time, when many rows are evaluated


@dataclass(frozen=True, eq=False)
class Csr:
    """The entries of row i are values[starts[i]:starts[i + 1]], in different `columns`; all others are 0."""

    values: npt.NDArray[Any]
    columns: npt.NDArray[Any]
    starts: npt.NDArray[np.int64]
    width: int

    @classmethod
    def read(cls, matrix: Any) -> Csr:
        """Of any sparse matrix or array of SciPy, which is left as it is.

        Raises:
            DataError: entries that are no real numbers, or not finite.
        """
        if matrix.ndim != 2:
            raise DataError(f"a sparse array [rows, columns] is expected, got shape {matrix.shape}")
        csr = matrix.tocsr(copy=True)
        if csr.dtype.kind not in "biuf":
            raise DataError(f"Complex data not supported: numbers are expected in a sparse matrix, got {csr.dtype}")
        csr.sum_duplicates()
        csr.eliminate_zeros()
        values = csr.data.astype(csr.dtype if csr.dtype.kind == "f" else np.float64)
        made = cls(values, csr.indices, csr.indptr.astype(np.int64), int(csr.shape[1]))
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            row = int(np.searchsorted(made.starts, wrong[0], side="right"))
            raise DataError(
                f"sparse matrix: {values[wrong[0]]} in row {row}, column {csr.indices[wrong[0]] + 1} (the first is 1)"
            )
        return made

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.columns.nbytes + self.starts.nbytes

    @property
    def most(self) -> int:
        """Entries in the fullest row."""
        return int(np.diff(self.starts).max(initial=0))

    @property
    def at_once(self) -> int:
        """How many rows may be dense together."""
        return max(1, CELLS // max(self.width, 1))

    def __getitem__(self, rows: Any) -> Csr:
        return self.take(rows)

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


class SparseRows:
    """A Csr on a device, for Batches: rows become dense when they are taken."""

    def __init__(self, csr: Csr, device: Device, dtype: Any) -> None:
        self.device, self.width, self.most, self.rows = device, csr.width, csr.most, len(csr)
        self.at_once = csr.at_once
        parts = csr.values.astype(dtype), csr.columns, csr.starts
        self.values, self.columns, self.starts = (Tensor(device.upload(np.ascontiguousarray(p)), device) for p in parts)

    def __len__(self) -> int:
        return self.rows

    def take(self, rows: Tensor) -> Tensor:
        return ops.csr_rows(self.values, self.columns, self.starts, rows, width=self.width, most=self.most)

    def between(self, begin: int, end: int) -> Tensor:
        return self.take(Tensor(self.device.upload(np.arange(begin, min(end, self.rows))), self.device))

    def first(self, rows: int) -> SparseRows:
        part = object.__new__(SparseRows)
        part.__dict__ = {**vars(self), "rows": min(rows, self.rows)}
        return part
