"""The encoder of a whole table, or of an array: what was learned about its columns in training, applied to any rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.table import FEW_ROWS, Column, Kind, Table, default_names
from ..errors import DataError, DTypeError, FormatError, ShapeError, did_you_mean
from .columns import Dropped, Matrix, Numeric, Role, Treatment, check_finite, choose, from_config, row_numbers
from .phrases import listed, plural, rows_where
from .scaling import moments, standardised

_Place = tuple[int, Any, int, int]  # of the column, its treatment, the first of its outputs and the end of them

Rows = Any  # indices, a slice or a mask, as NumPy takes them; None for all

_BLOCK = 1 << 20  # cells of an array that are float64 at a time


class Encoder:
    """Makes float32 [rows, len(output_names)] of a table, whose columns it finds by name.

    `notes` says what fitting left out or filled in, and then what was odd about the table transformed last: columns
    that were ignored, categories not seen in training.
    """

    kind = "table"

    def __init__(self, treatments: tuple[Treatment, ...]) -> None:
        self.treatments = treatments
        self._odd: list[str] = []
        self._found: _Found | None = None  # for the table transformed last

    @classmethod
    def fit(cls, table: Table, *, rows: Rows = None, choose: Callable[[Column], Treatment] = choose) -> Encoder:
        """Learn from these rows of the table (None: all). Infinite values are refused in all of them.

        choose: what decides how a column is treated; by default the table at the top of columns.py.

        Raises:
            DataError: no rows, no column that differs between them, or an infinite value.
        """
        for column in table.columns:
            if column.kind == "numeric":
                check_finite(column.name, column.values)
        training = table if rows is None else table.take(rows)
        if not training.rows:
            raise DataError("the table has no rows to learn from")
        numbers = row_numbers(training.columns)
        made = cls(tuple(_row_number(c) if c.name in numbers else choose(c) for c in training.columns))
        if numbers and not made.output_names:  # y as a function of 1, 2, 3, ...
            made = cls(tuple(choose(column) for column in training.columns))
        if not made.output_names:
            why = "; ".join(made.notes) or "it has none"
            raise DataError(f"no column of the table is left to learn from, of {plural(training.rows, 'row')}: {why}")
        return made

    @property
    def names(self) -> list[str]:
        """The columns of the table it was fitted on."""
        return [treatment.name for treatment in self.treatments]

    @property
    def odd(self) -> list[str]:
        """What was odd about the table transformed last."""
        return list(self._odd)

    @property
    def output_names(self) -> list[str]:
        return [name for treatment in self.treatments for name in treatment.output_names]

    @property
    def roles(self) -> list[Role]:
        """What each output is; see Treatment.roles."""
        return [role for treatment in self.treatments for role in treatment.roles]

    @property
    def notes(self) -> list[str]:
        return _summary(self.treatments) + self._odd

    def describe(self) -> list[tuple[str, str, str]]:
        """(column, kind, what is done to it) for each column."""
        return [(treatment.name, treatment.kind, treatment.describe()) for treatment in self.treatments]

    def transform(self, table: Table) -> Matrix:
        """The table's rows as the net gets them, C-contiguous.

        Raises:
            DataError: a column is missing, infinite, or holds text where training had numbers.
        """
        found = self._find(table)
        out, odd = np.empty((table.rows, found.width), np.float32), list(found.odd)
        few = table.rows <= FEW_ROWS
        for at, treatment, begin, end in found.others if few else found.every:
            out[:, begin:end] = treatment.transform(table.columns[at], odd)
        for alike in found.alike if few else ():
            alike.write(table, out, odd)
        self._odd = odd
        return out

    def _find(self, table: Table) -> _Found:
        """Where the columns that are read lie in a table with these names and kinds."""
        names, kinds = table.names, table.kinds
        if self._found is None or self._found.names != names or self._found.kinds != kinds:
            self._found = _Found(self.treatments, names, kinds)
        return self._found

    def config(self) -> dict[str, Any]:
        """All it knows, as JSON."""
        return {"kind": self.kind, "columns": [treatment.config() for treatment in self.treatments]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Encoder:
        return cls(tuple(from_config(column) for column in config["columns"]))


def _row_number(column: Column) -> Treatment:
    return Dropped(column.name, "it numbers the rows")


class _Found:
    """Each treatment's column in a table and its outputs' place among all, and a note of columns that are not known.

    Attributes:
        every: (place of the column, treatment, first output, end) of all. others: of those not in `alike`.
        alike: numeric columns side by side, kind by kind.
    """

    def __init__(self, treatments: Sequence[Treatment], names: list[str], kinds: list[Kind]) -> None:
        self.names, self.kinds = names, kinds
        place = {name: i for i, name in enumerate(names)}
        used = [treatment for treatment in treatments if not isinstance(treatment, Dropped)]
        missing = [treatment.name for treatment in used if treatment.name not in place]
        if missing:
            what = f'column "{missing[0]}"' if len(missing) == 1 else f"columns {listed(missing)}"
            raise DataError(f"the model reads the {what}, not in this table.{did_you_mean(missing[0], place)}")
        known = {treatment.name for treatment in treatments}
        extra = [name for name in names if name not in known]
        self.odd = [f"{plural(len(extra), 'column')} ignored, not there in training: {listed(extra)}"] if extra else []
        ends = np.cumsum([len(treatment.output_names) for treatment in used], dtype=int).tolist()
        self.width = ends[-1] if ends else 0
        self.every = list(zip([place[t.name] for t in used], used, [0, *ends[:-1]], ends, strict=True))
        self.others: list[_Place] = []
        numbers: dict[Any, list[_Place]] = {}
        for one in self.every:
            alike = isinstance(one[1], Numeric) and kinds[one[0]] == "numeric"
            (numbers.setdefault(type(one[1]), []) if alike else self.others).append(one)
        self.alike = [_SideBySide(places) for places in numbers.values()]


class _SideBySide:
    """Numeric columns of one kind, all at once: of a few rows, a call for each costs more than the numbers."""

    def __init__(self, places: list[_Place]) -> None:
        at, self.treatments, begins, _ = zip(*places, strict=True)
        self.at, self.begins = np.array(at), np.array(begins)
        self.marked = np.array([treatment.blanks > 0 for treatment in self.treatments])
        self.marks = self.begins[self.marked] + 1
        self.center, self.scale, self.median = (
            np.array([getattr(treatment, name) for treatment in self.treatments]) for name in ("center", "scale", "median")
        )

    def write(self, table: Table, out: Matrix, odd: list[str]) -> None:
        """The rows into their places of `out`."""
        values = table.matrix(self.at)
        if np.isinf(values).any():
            for at in self.at:
                check_finite(table.columns[at].name, table.columns[at].values)
        z, blank = self.treatments[0].scaled(values, self.center, self.scale, self.median)
        out[:, self.begins] = z
        if len(self.marks):
            out[:, self.marks] = blank[:, self.marked]
        if blank.any():
            for treatment, count in zip(self.treatments, blank.sum(axis=0).tolist(), strict=True):
                treatment.tell(count, odd)


def _summary(treatments: tuple[Treatment, ...]) -> list[str]:
    """A line for each remark, with the columns it is about."""
    columns: dict[str, list[str]] = {}
    for treatment in treatments:
        if treatment.remark:
            columns.setdefault(treatment.remark, []).append(treatment.name)
    return [f"{remark}: {listed(names)}" for remark, names in columns.items()]


class ArrayEncoder:
    """Makes float32 [rows, columns] of an array of numbers. There is no blank in an array: NaN is refused.

    Columns of numbers are standardised one by one, and constant ones become 0. Pixels (uint8, unless told) have one
    mean and one standard deviation for all columns, so that pixels that seldom differ stay small.
    """

    kind = "array"

    def __init__(self, columns: int, *, pixels: bool, center: npt.ArrayLike, scale: npt.ArrayLike) -> None:
        self.columns, self.pixels = columns, pixels
        self.center, self.scale = np.asarray(center, np.float64), np.asarray(scale, np.float64)
        self._divisor = np.where(self.scale > 0, self.scale, np.inf)  # constant columns become 0 without another look

    @classmethod
    def fit(cls, x: npt.ArrayLike, *, rows: Rows = None, pixels: bool | None = None) -> ArrayEncoder:
        """Learn from these rows of [N, ...] (None: all). NaN and infinite values are refused in all of them.

        Args:
            pixels: whether x are pixels, 0 to 255; None: if they are uint8.
        """
        matrix = _matrix(x)
        pixels = matrix.dtype == np.uint8 if pixels is None else pixels
        _check_finite(matrix)
        if pixels:
            _check_pixels(matrix)
        training = matrix if rows is None else matrix[rows]
        if not training.size:
            raise DataError(f"the array has no rows to learn from: {training.shape}")
        center, scale = _pixel_moments(training) if pixels else _column_moments(training)
        if not np.any(scale):
            raise DataError(f"no column differs between the {plural(len(training), 'row')}: nothing to learn from")
        return cls(matrix.shape[1], pixels=pixels, center=center, scale=scale)

    @property
    def output_names(self) -> list[str]:
        return default_names(self.columns)

    @property
    def notes(self) -> list[str]:
        constant = [default_names(self.columns)[i] for i in np.flatnonzero(self.scale == 0)]
        return [f"always the same, becomes 0: {listed(constant)}"] if constant else []

    def describe(self) -> list[tuple[str, str, str]]:
        """(columns, kind, what is done to them)."""
        if self.pixels:
            done = f"(x - {self.center:.6g}) / {self.scale:.6g}, the same for all"
            return [(plural(self.columns, "column"), "pixels", done)]
        return [(plural(self.columns, "column"), "numeric", "standardised one by one")]

    def transform(self, x: Table | npt.ArrayLike) -> Matrix:
        """The rows as the net gets them, C-contiguous."""
        matrix = _matrix(x)
        if matrix.shape[1] != self.columns:
            raise ShapeError(f"the model reads {plural(self.columns, 'column')}, got {matrix.shape[1]:,}")
        if self.pixels:
            _check_pixels(matrix)
        given = self.center, self._divisor, partial(_check_finite, matrix)
        if matrix.size <= _BLOCK:
            return standardised(matrix, *given)
        out = np.empty(matrix.shape, np.float32)
        for rows in _slices(len(matrix), self.columns):
            out[rows] = standardised(matrix[rows], *given)
        return out

    def config(self) -> dict[str, Any]:
        """All it knows, as JSON."""
        scaling = {"center": self.center.tolist(), "scale": self.scale.tolist()}
        return {"kind": self.kind, "columns": self.columns, "pixels": self.pixels, **scaling}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ArrayEncoder:
        return cls(config["columns"], pixels=config["pixels"], center=config["center"], scale=config["scale"])


def encoder_from_config(config: Mapping[str, Any]) -> Any:
    """The encoder whose `config()` this is."""
    if config["kind"] not in ENCODERS:
        raise FormatError(f'no encoder "{config["kind"]}".{did_you_mean(config["kind"], ENCODERS)}')
    return ENCODERS[config["kind"]].from_config(config)


ENCODERS: dict[str, Any] = {kind.kind: kind for kind in (Encoder, ArrayEncoder)}


# ---------------------------------------------------------------- arrays


def _matrix(x: Table | npt.ArrayLike) -> npt.NDArray[Any]:
    """[N, ...] of numbers as [N, D]."""
    if isinstance(x, Table):
        raise DataError(
            f"an array of numbers is expected, as in training; got a table of {plural(len(x.names), 'column')}"
        )
    array = np.asarray(x)
    if array.ndim < 2:
        raise ShapeError(f"an array [rows, columns] is expected, got shape {array.shape}. One row is x[None, :]")
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"an array of numbers is expected, got {array.dtype}. Text goes through Table.from_array(x)")
    return array if array.ndim == 2 else array.reshape(len(array), math.prod(array.shape[1:]))


def _check_pixels(matrix: npt.NDArray[Any]) -> None:
    if matrix.dtype != np.uint8:
        if matrix.dtype.kind not in "biu":
            raise DTypeError(f"pixels are whole numbers from 0 to 255, as in training; got {matrix.dtype}")
        if matrix.size and not (matrix.min() >= 0 and matrix.max() <= 255):
            raise DataError(f"pixels are from 0 to 255, as in training; got {matrix.min()} to {matrix.max()}")


def _check_finite(matrix: npt.NDArray[Any]) -> None:
    if matrix.dtype.kind == "f":
        for rows in _slices(*matrix.shape):
            block = matrix[rows]  # whose sum of squares is finite only if all of it is, and seldom not though all is
            if not math.isfinite(np.vdot(block, block)) and not np.isfinite(block).all():
                _refuse(~np.isfinite(matrix))


def _refuse(wrong: npt.NDArray[np.bool_]) -> None:
    """Where the first cell is that is no finite number, and what to do."""
    column = int(np.flatnonzero(wrong.any(axis=0))[0])
    where = f"column {column + 1} holds NaN or infinity in {rows_where(wrong[:, column])}"
    raise DataError(f"{where}. Drop such rows, or use gpunet.data.Table.from_array(x), in which NaN is a blank")


def _slices(rows: int, columns: int) -> list[slice]:
    """Rows in pieces of at most _BLOCK cells, or of one row."""
    step = max(1, _BLOCK // max(1, columns))
    return [slice(begin, begin + step) for begin in range(0, rows, step)]


def _pixel_moments(pixels: npt.NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, of their histogram."""
    counts = np.zeros(256, np.int64)
    for rows in _slices(*pixels.shape):
        counts += np.bincount(pixels[rows].reshape(-1), minlength=256)
    mean = float(np.average(np.arange(256), weights=counts))
    spread = float(np.average((np.arange(256) - mean) ** 2, weights=counts))
    return (mean, spread**0.5) if np.count_nonzero(counts) > 1 else (mean, 0.0)


def _column_moments(x: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of each column, some columns at a time."""
    parts = [moments(x[:, columns].astype(np.float64)) for columns in _slices(x.shape[1], len(x))]
    return np.concatenate([center for center, _ in parts]), np.concatenate([scale for _, scale in parts])
