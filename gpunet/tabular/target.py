"""What is to be predicted: classes and their codes, or values and their scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..data.table import Column
from ..errors import ConfigError, DataError, ShapeError, did_you_mean
from .columns import as_texts, number_of
from .phrases import listed, plural, rows_where
from .scaling import moments, standardised

Array = npt.NDArray[Any]
Task = Literal["classification", "multilabel", "regression"]

MOST_NUMBERED_CLASSES = 20


@dataclass(frozen=True)
class Target:
    """Fitted on the answers of the training rows.

    Without being told (`task="auto"`): text and booleans are classes; so are whole numbers, if they are at most
    MOST_NUMBERED_CLASSES different ones with two rows each on average; all other numbers are values. `reason` says so.

    "multilabel" has to be asked for: [N, k] of 0 and 1, any number of which may be 1 in a row.

    Attributes:
        classes: sorted, numbers by size, as they were in the data; of labels, their places; None for values.
        center, scale: of each of the k columns of values. `flat`: values were [N] and not [N, k].
        low, high: the range of the training values, as a net gives them.
        link: "log" where a net gives logarithms of what is to be predicted (rates), in units of their mean.
    """

    task: Task
    reason: str
    classes: list[Any] | None = None
    center: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    flat: bool = True
    notes: list[str] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    link: Literal["identity", "log"] = "identity"

    @classmethod
    def fit(cls, values: npt.ArrayLike, *, task: Literal["auto"] | Task = "auto", link: str = "identity") -> Target:
        """Learn the classes or the scale of values [N] (or [N, k] for regression and labels).

        Raises:
            DataError: no rows, a missing or infinite value, only one class, or text where values are asked for.
        """
        array = _typed(values)
        _check(array)
        reason = f"{task} was asked for"
        if task == "auto":
            task, reason = _told_by(array)
        if task == "classification":
            return cls._of_classes(array, reason)
        if task == "regression":
            return cls._of_rates(_numbers(array), reason) if link == "log" else cls._of_values(_numbers(array), reason)
        if task == "multilabel":
            return cls("multilabel", reason, list(range(_labels(array).shape[1])))
        raise ConfigError(f'no task "{task}".{did_you_mean(task, ("auto", *get_args(Task)))}')

    @classmethod
    def _of_classes(cls, array: Array, reason: str) -> Target:
        cells = _one_column(array).tolist()
        counts = Counter(_whole(cell) for cell in cells)
        classes = sorted(counts)
        if len(classes) == 1:
            raise DataError(f"every row has the class {listed(classes)}: two classes at least are needed to learn from")
        once = [c for c in classes if counts[c] == 1]
        notes = [f"classes with a single row, which is trained on: {listed(once)}"] if once else []
        return cls("classification", reason, classes, notes=notes)

    @classmethod
    def _of_values(cls, array: Array, reason: str) -> Target:
        values = array.reshape(len(array), -1).astype(np.float64)
        center, scale = moments(values)
        if not scale.any():
            raise DataError(f"every row has the value {listed(center.tolist())}: there is nothing to learn")
        constant = (np.flatnonzero(scale == 0) + 1).tolist()
        notes = [f"target columns that are always the same: {listed(constant)} (the first is 1)"] if constant else []
        ends = [standardised(end(values, axis=0), center, scale).tolist() for end in (np.min, np.max)]
        return cls("regression", reason, None, center.tolist(), scale.tolist(), array.ndim == 1, notes, *ends)

    @classmethod
    def _of_rates(cls, array: Array, reason: str) -> Target:
        values = array.reshape(len(array), -1).astype(np.float64)
        if (values < 0).any():
            raise DataError(f"counts are at least 0; below in {rows_where(values < 0)} of the target")
        mean, top = values.mean(axis=0), values.max(axis=0)
        if not mean.all():
            raise DataError("every row has the value 0: there is nothing to learn")
        low = np.full(len(mean), -np.log(2 * len(values)))  # half an event in all rows
        return cls(
            "regression", reason, center=[0.0] * len(mean), scale=mean.tolist(), flat=array.ndim == 1,
            low=low.tolist(), high=np.log(top / mean).tolist(), link="log",
        )  # fmt: skip

    @property
    def outputs(self) -> int:
        """How many numbers a net gives for a row."""
        return len(self.center) if self.classes is None else len(self.classes)

    def encode(self, values: npt.ArrayLike) -> Array:
        """int64 codes [N] of classes, float32 labels [N, k], or standardised float32 values [N, k].

        Raises:
            DataError: a class that training did not have, a missing or infinite value, or text where values are wanted.
        """
        array = _typed(values)
        _check(array, empty=True)
        if self.task == "multilabel":
            return _labels(array, self.outputs).astype(np.float32)
        if self.classes is not None:
            return _codes(_one_column(array), self.classes)
        numbers = _numbers(array)
        matrix = numbers[:, None] if numbers.ndim == 1 else numbers
        if matrix.shape[1] != len(self.center):
            raise ShapeError(f"the target has {plural(len(self.center), 'column')}, got values of shape {array.shape}")
        return standardised(matrix, self.center, self.scale)

    @cached_property
    def _class_array(self) -> Array:
        return _array_of(self.classes or [])

    def decode(self, codes: npt.ArrayLike) -> Array:
        """The classes of codes [N], in the type they had."""
        if self.classes is None:
            raise DataError("decode is for classes; this target has values. Use decode_values")
        return self._class_array[np.asarray(codes)]

    def decode_values(self, z: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What a net gives, [N, k], in the values' own unit; [N] if they came so."""
        return self.restore(np.exp(np.asarray(z, np.float64)) if self.link == "log" else z)

    def restore(self, encoded: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What `encode` made of values, in their own unit."""
        values = np.asarray(encoded, np.float64).reshape(-1, len(self.center)) * self.scale + self.center
        return values[:, 0] if self.flat else values

    def config(self) -> dict[str, Any]:
        """All it knows, as JSON."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Target:
        return cls(**config)


# ---------------------------------------------------------------- answers as they come


def _typed(values: npt.ArrayLike) -> Array:
    """Numbers or booleans as they are, anything else as an object array of str, None where missing."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "U":  # which cuts a NUL at the end, and has made text of the numbers in a mixed list
            array = np.asarray(values, object)
    except ValueError as error:
        raise DataError(f"the target is no array of classes or values: {error}") from None
    if array.dtype.kind in "biuf":
        return array
    if array.dtype.kind not in "OT":
        raise DataError(f"the target holds {array.dtype}; classes are text, booleans or numbers")
    array = _one_column(array.astype(object))
    cells = [None if _is_missing(cell) else cell for cell in array]
    present = [cell for cell in cells if cell is not None]
    if all(isinstance(cell, str) for cell in present):
        return _array_of(cells, object)
    text = next((cell for cell in present if isinstance(cell, str)), None)
    if text is not None:
        other = next(cell for cell in present if not isinstance(cell, str))
        raise DataError(f'the target mixes text ("{text}") and {type(other).__name__} ({other}): make it one of them')
    if len(present) == len(cells) and all(isinstance(cell, (bool, np.bool_)) for cell in cells):
        return np.array(cells, np.bool_)
    return Column.from_values("target", [float(c) if isinstance(c, bool) else c for c in cells]).values


def _is_missing(cell: Any) -> bool:
    nan = isinstance(cell, (float, np.floating)) and np.isnan(cell)
    return bool(nan) or cell is None or type(cell).__name__ in ("NAType", "NaTType")


def _array_of(cells: list[Any], dtype: Any = None) -> Array:
    """A 1-D array: of objects if they are text, which a string dtype would cut at a NUL."""
    array = np.empty(len(cells), object if dtype or any(isinstance(c, str) for c in cells) else np.array(cells).dtype)
    array[:] = cells
    return array


def _labels(array: Array, columns: int | None = None) -> Array:
    """[N, k] of 0 and 1."""
    if array.ndim != 2 or columns not in (None, array.shape[1]) or array.dtype == object:
        raise ShapeError(f"labels are a matrix [N, {columns or 'k'}] of 0 and 1, got {array.dtype} of {array.shape}")
    other = (array != 0) & (array != 1)
    if other.any():
        value = array[other][0]
        raise DataError(
            f"labels are 0 or 1; {rows_where(other)} of the target: {value}. Several classes in several columns: "
            "one classifier for each column, as sklearn.multioutput.MultiOutputClassifier makes them"
        )
    return array


def _one_column(array: Array) -> Array:
    if array.ndim == 1 or array.ndim == 2 and array.shape[1] == 1:
        return array.reshape(-1)
    raise ShapeError(f"classes are one column [N], got shape {array.shape}")


def _check(array: Array, *, empty: bool = False) -> None:
    """Refuses rows without an answer and, unless they may be `empty`, no rows at all."""
    if array.ndim not in (1, 2):
        raise ShapeError(f"a target [N] or [N, k] is expected, got shape {array.shape}")
    if not array.size and not empty:
        raise DataError(f"the target has no rows to learn from: shape {array.shape}")
    missing = np.array([cell is None for cell in array], np.bool_) if array.dtype == object else np.isnan(array)
    if missing.any():
        count, where = plural(int(missing.sum()), "missing value"), rows_where(missing)
        raise DataError(f"the target has {count}: {where}. Leave such rows out, or fill them in")
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise DataError(f"the target is infinite in {rows_where(np.isinf(array))}. Leave such rows out")


def _told_by(array: Array) -> tuple[Task, str]:
    """The task that the answers themselves suggest, and why."""
    if array.dtype == object:
        return "classification", "the target is text"
    if array.dtype.kind == "b":
        return "classification", "the target is true or false"
    if array.ndim == 2 and array.shape[1] > 1:
        return "regression", "the target has several columns"
    distinct = np.unique(array)
    if (distinct != np.floor(distinct)).any():
        return "regression", "the target has fractions"
    if len(distinct) > MOST_NUMBERED_CLASSES:
        many = f"{len(distinct):,} different whole numbers"
        return "regression", f"the target has {many}, more than {MOST_NUMBERED_CLASSES}"
    if 2 * len(distinct) > array.size:
        return "regression", f"the target has {plural(len(distinct), 'whole number')}, fewer than two rows for each"
    return "classification", f"the target has {plural(len(distinct), 'different whole number')}"


def _whole(cell: Any) -> Any:
    """5.0 as 5, for a column of a table holds floats only; beyond 2**53 a float is no sure integer."""
    return int(cell) if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53 else cell


def _numbers(array: Array) -> Array:
    """The answers as numbers; of texts, if all of them read as such."""
    if array.dtype != object:
        return array
    typed = Column.from_strings("target", array.tolist())
    if typed.kind == "text":
        row = next(i for i, cell in enumerate(array) if number_of(cell) is None)
        raise DataError(f'values are numbers; row {row + 1} of the target is "{array[row]}" (the first is 1)')
    return typed.values


def _as_classes(array: Array, classes: list[Any]) -> Array:
    """The cells in the type of the classes: a column of a table may be text in one file and numbers in another."""
    text = isinstance(classes[0], str)
    if text and array.dtype != object:
        return as_texts(Column("target", "numeric", array.astype(np.float64)), classes).cells
    if not text and array.dtype == object:
        return _array_of([cell if (number := number_of(cell)) is None else number for cell in array], object)
    return array


def _codes(array: Array, classes: list[Any]) -> npt.NDArray[np.int64]:
    cells, place = _as_classes(array, classes).tolist(), {c: code for code, c in enumerate(classes)}
    codes = np.fromiter((place.get(cell, -1) for cell in cells), np.int64, len(cells))
    if (codes < 0).any():
        unknown = _whole(cells[int(np.argmin(codes))])
        where = f"{rows_where(codes < 0)} of the target"
        raise DataError(f"no class {listed([unknown])} in training: {where}.{did_you_mean(str(unknown), classes)}")
    return codes
