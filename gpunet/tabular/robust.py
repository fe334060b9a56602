"""The encoding of RealMLP: every column scaled by its quartiles and clipped smoothly; categories one-hot or as codes.

| a column that `columns.choose` would         | becomes                                                                     |
|----------------------------------------------|-----------------------------------------------------------------------------|
| standardise                                  | (x - median) / (q75 - q25), clipped; blanks take the median, a mark says so |
| standardise, of two numbers, where `pairs`   | the same, but a mark for the net, which embeds no marks                     |
| one-hot encode, at most `one_hot` categories | 0/1 columns, then scaled and clipped as numbers are                         |
| one-hot encode, more                         | a code for each category seen in training, 0 for a blank or another         |
| leave out                                    | nothing                                                                     |

Where the quartiles are equal, half the range divides. The clip is z / sqrt(1 + (z / 3)^2), within (-3, 3).
Holzmueller et al. 2024, "Better by default", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.table import Column, Table
from .columns import TREATMENTS, Dropped, Matrix, Numeric, OneHot, Role, Treatment, _codes, choose, from_config
from .encoder import ENCODERS, Encoder, Rows
from .phrases import listed
from .scaling import standardised

BOUND = 3.0  # of the smooth clip
ONE_HOT = 8  # categories, at most; a blank does not count


def smooth_clip(z: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """z / sqrt(1 + (z / BOUND)^2): nearly z where it is small, never beyond the bound."""
    return (z / np.sqrt(1.0 + np.square(z / BOUND, dtype=np.float64))).astype(np.float32)


def spread(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Median and quartile distance of each column of [n, ...]; half the range where the quartiles are equal."""
    with np.errstate(over="ignore"):
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
        half = values.max(axis=0) * 0.5 - values.min(axis=0) * 0.5
        return median, np.where(high > low, high - low, half)


@dataclass(frozen=True)
class Robust(Numeric):
    """The center is the median, the scale the quartile distance, and what comes out is clipped smoothly."""

    kind = "robust"

    @classmethod
    def fit(cls, column: Column) -> Robust:
        present = column.values[~column.missing]
        center, scale = spread(present)
        return cls(column.name, float(center), float(scale), float(center), len(column.values) - len(present))

    def describe(self) -> str:
        return super().describe().replace("standardised", "scaled by quartiles and clipped smoothly", 1)

    @staticmethod
    def shaped(z: Matrix) -> Matrix:
        return smooth_clip(z)


@dataclass(frozen=True)
class Pair(Robust):
    """A column of two numbers: scaled as others, and then a mark, for a net has nothing to bend between two points."""

    kind = "robust pair"

    @property
    def roles(self) -> list[Role]:
        return ["mark"] * len(self.output_names)


@dataclass(frozen=True)
class Scaled(Treatment):
    """Another treatment, whose outputs are then scaled by their quartiles in training and clipped smoothly."""

    kind = "scaled"
    inner: Treatment
    center: list[float]
    scale: list[float]

    @classmethod
    def fit(cls, inner: Treatment, column: Column) -> Scaled:
        center, scale = spread(inner.transform(column, []).astype(np.float64))
        return cls(inner.name, inner, center.tolist(), scale.tolist())

    @property
    def remark(self) -> str:
        return self.inner.remark

    @property
    def output_names(self) -> list[str]:
        return self.inner.output_names

    @property
    def roles(self) -> list[Role]:
        return self.inner.roles

    def describe(self) -> str:
        return f"{self.inner.describe()}; scaled by quartiles and clipped smoothly"

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        return smooth_clip(standardised(self.inner.transform(column, notes), self.center, self.scale))

    def config(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "name": self.name, "inner": self.inner.config(), "center": self.center, "scale": self.scale,
        }  # fmt: skip

    def __post_init__(self) -> None:
        if isinstance(self.inner, Mapping):  # from a file
            object.__setattr__(self, "inner", from_config(self.inner))


@dataclass(frozen=True)
class Codes(Treatment):
    """A code for each category, 1 for the first in sorted order; 0 for a blank or one not seen in training."""

    kind = "codes"
    categories: list[str]

    @classmethod
    def fit(cls, column: Column) -> Codes:
        return cls(column.name, sorted(column.cells.counts()))

    @property
    def output_names(self) -> list[str]:
        return [f"{self.name} (code)"]

    @property
    def roles(self) -> list[Role]:
        return ["code"]

    def describe(self) -> str:
        return f"embedded: {listed(self.categories)}; blank or unseen have a row of their own"

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        return (_codes(column, self.categories, notes) + 1).astype(np.float32)[:, None]


TREATMENTS.update({treatment.kind: treatment for treatment in (Robust, Pair, Scaled, Codes)})


def robust(column: Column, *, one_hot: int | None = ONE_HOT, pairs: bool = False) -> Treatment:
    """The treatment of a column, of which only training rows are given.

    Args:
        one_hot: categories at most of a one-hot column; None never makes codes.
        pairs: whether columns of two numbers are marks, which RealMLP embeds as it does any number.
    """
    usual = choose(column)
    if isinstance(usual, Dropped):
        return usual
    if type(usual) is Numeric:
        two = pairs and len(np.unique(column.values[~column.missing])) == 2
        return (Pair if two else Robust).fit(column)
    if isinstance(usual, OneHot) and one_hot is not None and len(usual.categories) > one_hot:
        return Codes.fit(column)
    return Scaled.fit(usual, column)


class RobustEncoder(Encoder):
    """As Encoder, with numbers first, then marks, then codes: what `nn.Columns` takes."""

    kind = "robust table"

    def __init__(self, treatments: tuple[Treatment, ...]) -> None:
        super().__init__(treatments)
        roles = super().roles
        self._order = sorted(range(len(roles)), key=lambda i: ("number", "mark", "code").index(roles[i]))

    @classmethod
    def fit(  # type: ignore[override]
        cls, table: Table, *, rows: Rows = None, one_hot: int | None = ONE_HOT, pairs: bool = False
    ) -> Encoder:
        """Learn from these rows of the table (None: all); for the rest see `robust`."""
        return super().fit(table, rows=rows, choose=lambda column: robust(column, one_hot=one_hot, pairs=pairs))

    @property
    def output_names(self) -> list[str]:
        names = super().output_names
        return [names[i] for i in self._order]

    @property
    def roles(self) -> list[Role]:
        roles = super().roles
        return [roles[i] for i in self._order]

    @property
    def codes(self) -> list[int]:
        """How many codes each column of codes has, 0 among them."""
        return [len(t.categories) + 1 for t in self.treatments if isinstance(t, Codes)]

    def transform(self, table: Table) -> Matrix:
        return np.ascontiguousarray(super().transform(table)[:, self._order])


ENCODERS[RobustEncoder.kind] = RobustEncoder
