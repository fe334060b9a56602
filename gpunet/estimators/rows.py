"""The rows an estimator is given: checked, named, and put in an order that depends on what is in them.

A fit depends on its rows as a set. Their order does not matter; a row of weight 0 is no row; and where all weights are
whole numbers, a row of weight 3 is that row three times. So the rows are sorted by a hash of their content before
anything else is done: what a seed then draws (which rows validate, which come first) it draws for the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.sparse import Csr
from ..data.table import Column, Table
from ..errors import DataError, DTypeError, ShapeError
from ..tabular.columns import check_finite

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

MOST_SPARSE_COLUMNS = 100_000
MOST_REPEATED = 4  # whole-number weights are repeated up to so many rows for each row given


class CellError(DataError, DTypeError):
    """A cell that is no number, text, boolean or date."""


@dataclass(frozen=True)
class Rows:
    """x, and where they are known y and weights; `source` says which of the rows given each one was."""

    x: Any  # Table, Csr, or an array of pixels
    y: Array
    weight: npt.NDArray[np.float64] | None
    source: Indices

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: Indices) -> Rows:
        x = self.x[rows] if isinstance(self.x, np.ndarray) else self.x.take(rows)
        return Rows(x, self.y[rows], None if self.weight is None else self.weight[rows], self.source[rows])

    def weighted(self, by: npt.NDArray[np.float64]) -> Rows:
        return replace(self, weight=by if self.weight is None else self.weight * by)


# ---------------------------------------------------------------- x


def read_x(x: Any, owner: str) -> Any:
    """A Table of a frame, of a dict of columns or of an array; an array of bytes (pixels) stays one.

    Raises:
        DataError, ShapeError: no rows, no columns, one dimension, complex numbers, cells that are no values.
    """
    if isinstance(x, (Table, Csr)):
        return x
    if hasattr(x, "tocsr"):
        return _sparse(x, owner)
    if hasattr(x, "collect") and not isinstance(x, np.ndarray):
        raise DataError(f"a {type(x).__name__} holds no rows yet: give {owner} its .collect()")
    if is_frame(x):
        return _table(lambda: Table.from_frame(x))
    array = _array(x)
    if array.dtype.kind == "c":
        raise DataError(f"Complex data not supported: {owner} takes numbers and text, got {array.dtype}")
    if array.ndim < 2:
        what = f"Expected 2D array, got {'scalar' if array.ndim == 0 else '1D'} array instead of shape {array.shape}"
        raise ShapeError(
            f"{what}. Reshape your data either using array.reshape(-1, 1) if your data has a single feature "
            "or array.reshape(1, -1) if it contains a single sample."
        )
    array = array.reshape(len(array), -1) if array.size else array.reshape(len(array), int(np.prod(array.shape[1:])))
    _check_shape(array.shape, owner)
    if array.dtype == np.uint8:
        return array
    return _table(lambda: Table.from_array(array))


def _sparse(x: Any, owner: str) -> Csr:
    csr = Csr.read(x)
    _check_shape(csr.shape, owner)
    if csr.width > MOST_SPARSE_COLUMNS:
        raise DataError(
            f"{csr.width:,} columns: {owner} takes at most {MOST_SPARSE_COLUMNS:,}, for a batch of rows is made dense. "
            "Hash them to fewer (sklearn.feature_extraction.FeatureHasher), choose (sklearn.feature_selection.SelectKBest) "
            "or project (sklearn.decomposition.TruncatedSVD)"
        )
    return csr


def check_finite_cells(x: Any) -> None:
    """Refuse infinite cells, by column and row, while rows lie as they were given."""
    if isinstance(x, Table):
        for column in x.columns:
            if column.kind == "numeric":
                check_finite(column.name, column.values)


def is_frame(x: Any) -> bool:
    """pandas, polars, pyarrow, or a dict of columns."""
    is_plain = isinstance(x, np.ndarray)
    return isinstance(x, (Table, Mapping)) or not is_plain and (hasattr(x, "columns") or hasattr(x, "column_names"))


def names_of(x: Any) -> list[str] | None:
    """A frame's column names, if all of them are text; as scikit-learn's feature_names_in_ has them."""
    if not is_frame(x):
        return None
    names = x.names if isinstance(x, Table) else list(x) if isinstance(x, Mapping) else None
    names = list(getattr(x, "column_names", None) or x.columns) if names is None else names
    return list(names) if all(isinstance(name, str) for name in names) else None


def columns_of(x: Any) -> int:
    return len(x.names) if isinstance(x, Table) else int(x.shape[1])


def rows_of(x: Any) -> int:
    return x.rows if isinstance(x, Table) else len(x)


def _check_shape(shape: tuple[int, ...], owner: str) -> None:
    for count, what in zip(shape, ("sample", "feature"), strict=False):
        if not count:
            raise DataError(
                f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is required by {owner}."
            )


def _array(x: Any, name: str = "X") -> Array:
    try:
        return np.asarray(x)
    except ValueError as error:
        raise ShapeError(f"{name} is no array, its rows differ in length: {error}") from None


def _table(make: Any) -> Table:
    try:
        table: Table = make()
    except DataError as error:
        if " holds " not in str(error):
            raise
        raise CellError(f"{error}: each argument must be a string, a number, a boolean or a date") from None
    _check_shape((table.rows, len(table.names)), "the estimator")
    return table


# ---------------------------------------------------------------- y and weights


def read_y(y: Any, rows: int, owner: str) -> Array:
    """The answers [n] or [n, k], k > 1, as an array."""
    if y is None:
        raise DataError(f"{owner} requires y to be passed, but the target y is None")
    if hasattr(y, "toarray"):  # labels in a sparse matrix
        y = y.toarray()
    array = _array(y, "y")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "c":
        raise DataError(f"Complex data not supported: y is {array.dtype}")
    if array.ndim not in (1, 2):
        raise ShapeError(f"y should be a 1d array, or [rows, outputs]; got an array of shape {array.shape} instead")
    if len(array) != rows:
        raise ShapeError(
            f"Found input variables with inconsistent numbers of samples: X has {rows:,}, y {len(array):,}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        what = "NaN" if np.isnan(array).any() else "infinity or a value too large for dtype('float64')"
        row = int(np.flatnonzero(~np.isfinite(array.reshape(rows, -1)).all(axis=1))[0]) + 1
        raise DataError(f"Input y contains {what}. First in row {row} (the first is 1). Leave such rows out")
    return array


def read_weight(weight: Any, rows: int) -> npt.NDArray[np.float64] | None:
    """One number for each row, not negative and not all zero."""
    if weight is None:
        return None
    try:
        weights = np.asarray(weight, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"sample_weight: numbers are expected ({error})") from None
    if weights.ndim == 0:
        weights = np.full(rows, weights)
    if weights.shape != (rows,):
        raise ShapeError(f"sample_weight must have the shape ({rows},), got {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise DataError("sample_weight: finite numbers of at least 0 are expected")
    if not weights.any():
        raise DataError("Sample weights must contain at least one non-zero number; all of sample_weight is zero")
    return weights


# ---------------------------------------------------------------- order


def canonical(rows: Rows, codes: Array) -> Rows:
    """The rows with weight, repeated where weights are whole, sorted by content; codes are y as numbers."""
    weight = rows.weight
    if weight is None:
        return rows.take(np.argsort(_content(rows.x, codes), kind="stable"))
    kept = np.flatnonzero(weight)
    counts = weight[kept]
    whole = (counts == np.round(counts)).all() and counts.sum() <= MOST_REPEATED * len(kept)
    if whole:
        kept = np.repeat(kept, counts.astype(np.int64))
    chosen = replace(rows.take(kept), weight=None if whole or (counts == counts[0]).all() else weight[kept])
    keys = [_content(chosen.x, codes[kept])] + ([] if chosen.weight is None else [chosen.weight])
    return chosen.take(np.lexsort(keys[::-1]))


def _content(x: Any, codes: Array) -> npt.NDArray[np.uint64]:
    """64 bits for each row, of its cells and its answer: equal rows have equal ones on every machine."""
    answers = np.ascontiguousarray(codes.reshape(len(codes), -1), np.float64)
    if isinstance(x, Table):
        bits = [_bits(column) for column in x.columns]
    else:
        bits = [_sparse_bits(x) if isinstance(x, Csr) else _pixel_bits(x)]
    total = np.zeros(len(codes), np.uint64)
    for column in [*bits, *(_float_bits(a) for a in answers.T)]:
        total = _mixed(total * np.uint64(0x9E3779B97F4A7C15) + column)
    return total


def _bits(column: Column) -> npt.NDArray[np.uint64]:
    if column.kind == "numeric":
        return _float_bits(column.values)
    return column.cells.each(_text_bits, np.uint64)


def _text_bits(text: str | None) -> int:
    spelt = "\0" if text is None else text
    return int.from_bytes(hashlib.blake2b(spelt.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _float_bits(values: Array) -> npt.NDArray[np.uint64]:
    plain = np.where(np.isnan(values), np.nan, values + 0.0)  # one NaN and one zero of the many
    return _mixed(np.ascontiguousarray(plain, np.float64).view(np.uint64))


def _pixel_bits(pixels: Array) -> npt.NDArray[np.uint64]:
    places = _mixed(np.arange(1, pixels.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    total = np.zeros(len(pixels), np.uint64)
    for begin in range(0, len(pixels), 4096):
        total[begin : begin + 4096] = pixels[begin : begin + 4096].astype(np.uint64) @ places
    return total


def _sparse_bits(x: Csr) -> npt.NDArray[np.uint64]:
    """The sum over the entries, so that it takes no notice of the order they lie in."""
    entries = _mixed(_float_bits(x.values) + x.columns.astype(np.uint64))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(entries, dtype=np.uint64)])
    return sums[x.starts[1:]] - sums[x.starts[:-1]]


def _mixed(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of the result depends on every bit of z (the end of splitmix64; Steele et al. 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
