"""The encoder of a sparse matrix: each column divided by its largest absolute value in training, so that 0 stays 0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.sparse import Csr
from ..data.table import default_names
from ..errors import DataError, ShapeError
from .encoder import ENCODERS, Rows
from .phrases import plural


class SparseEncoder:
    """Makes a scaled float32 Csr of a Csr. Columns that were empty in training stay empty."""

    kind = "sparse"
    odd: tuple[str, ...] = ()

    def __init__(self, scale: npt.ArrayLike) -> None:
        self.scale = np.asarray(scale, np.float64)
        self._factor = np.divide(1.0, self.scale, out=np.zeros_like(self.scale), where=self.scale > 0)

    @classmethod
    def fit(cls, x: Csr, *, rows: Rows = None) -> SparseEncoder:
        training = x if rows is None else x.take(rows)
        scale = np.zeros(x.width)
        np.maximum.at(scale, training.columns, np.abs(training.values))
        if not scale.any():
            raise DataError(
                f"the sparse matrix is empty in {plural(len(training), 'training row')}: nothing to learn from"
            )
        return cls(scale)

    @property
    def columns(self) -> int:
        return len(self.scale)

    @property
    def output_names(self) -> list[str]:
        return default_names(self.columns)

    @property
    def notes(self) -> list[str]:
        empty = int((self.scale == 0).sum())
        return [f"{plural(empty, 'column')} without an entry in training, left out"] if empty else []

    def describe(self) -> list[tuple[str, str, str]]:
        return [(plural(self.columns, "column"), "sparse", "divided by the largest absolute value in training")]

    def transform(self, x: Csr) -> Csr:
        if x.width != self.columns:
            raise ShapeError(f"the model reads {plural(self.columns, 'column')}, got {x.width:,}")
        return Csr((x.values * self._factor[x.columns]).astype(np.float32), x.columns, x.starts, x.width)

    def config(self) -> dict[str, Any]:
        return {"kind": self.kind, "scale": self.scale.tolist()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SparseEncoder:
        return cls(config["scale"])


ENCODERS[SparseEncoder.kind] = SparseEncoder
