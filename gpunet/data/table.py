"""A typed table: named columns of numbers (NaN where missing) or of text (None where missing).

The one typing rule, for every cell that comes as a string, whatever file or frame it comes from:
- white space around a cell does not count; a cell in `MISSING` is missing, in quotes or not;
- a number is plain decimal or scientific notation (5, -0.5, +.5, 5., 1e-3) or inf, infinity in any case. Leading zeros
  do not count (007 is 7); 1e400 is inf and 1e-400 is 0, as IEEE 754 rounds them. 1_000, 1,000, 0x1f, 1d5, 50%, True
  and digits that are not ASCII are no numbers;
- a column is numeric if every cell that is not missing is a number, also if all are missing; otherwise it is text.
"""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import DataError, DTypeError, ShapeError, did_you_mean
from .texts import Texts, encode

Kind = Literal["numeric", "text"]
FEW_ROWS = 64  # a request for an answer, say: what is done once for each column then costs more than the cells

# fmt: off
MISSING = frozenset((
    "", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "null", "NULL", "None",
))
# fmt: on
# float() takes more than numbers are here (1_000, nan, digits of other scripts); none of it is spelt so.
_LETTERS_OF_NUMBERS = re.compile(r"[0-9+\-.eEiInNfFtTyY]*")
_TAKEN = "numbers, text, booleans and dates are taken"
_BLANKS = ("NoneType", "NAType", "NaTType")  # the last two are pandas' own, which need not be installed
_SCALARS = (str, numbers.Number, decimal.Decimal, np.generic, datetime.date, datetime.time, datetime.timedelta)


@dataclass(frozen=True, eq=False)
class Column:
    """One named column: float64 with NaN for missing ("numeric"), or Texts ("text"; an object array of str and None will do).

    `asked` is whether the user said what kind it is.
    """

    name: str
    kind: Kind
    cells: Any
    asked: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.cells, Texts) and self.kind == "text":
            return
        dtype = {"numeric": np.float64, "text": np.object_}.get(self.kind)
        array = np.asarray(self.cells)
        if dtype is None or array.dtype != dtype or array.ndim != 1:
            got = f"{array.dtype} of shape {array.shape}"
            raise DTypeError(f'column "{self.name}": kind {self.kind!r} holds a 1-D float64 or object array, got {got}')
        object.__setattr__(self, "cells", Texts.of_cells(array) if self.kind == "text" else array)

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def values(self) -> npt.NDArray[Any]:
        """float64 with NaN for missing, or an object array of str and None, made when it is first asked for."""
        values: npt.NDArray[Any] = self.cells.cells if self.kind == "text" else self.cells
        return values

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """True where the cell is missing."""
        return np.isnan(self.cells) if self.kind == "numeric" else self.cells.missing

    def take(self, rows: Any) -> Column:
        """The cells at these indices (or a slice, or where a mask is true), in that order."""
        return replace(self, cells=self.cells.take(rows) if self.kind == "text" else self.cells[rows])

    @classmethod
    def from_strings(cls, name: str, cells: Sequence[str]) -> Column:
        """A column typed by the rule at the top of this file."""
        return cls.from_codes(name, *encode(cells))

    @classmethod
    def from_codes(cls, name: str, distinct: Sequence[str], codes: npt.NDArray[np.integer[Any]]) -> Column:
        """Cell i is distinct[codes[i]]: the rule looks at each different string once."""
        found = _numbers([cell.strip() for cell in distinct])
        return cls.categories(name, distinct, codes) if found is None else cls(name, "numeric", found[codes])

    @classmethod
    def categories(cls, name: str, distinct: Sequence[str], codes: npt.NDArray[np.integer[Any]]) -> Column:
        """Cell i is distinct[codes[i]], text whatever it looks like."""
        return cls(name, "text", Texts.of_codes(texts_of(distinct), codes))

    @classmethod
    def from_values(cls, name: str, values: Any) -> Column:
        """A column of Python or NumPy values: numbers stay numbers, all else is typed as the strings it prints as."""
        array = values if isinstance(values, np.ndarray) else _object_array(name, values)
        if array.ndim != 1:
            raise ShapeError(f'column "{name}": a 1-D sequence is expected, got shape {array.shape}')
        if array.dtype.kind in "iuf":
            return cls(name, "numeric", array.astype(np.float64))
        if array.dtype.kind == "m":  # how long: seconds
            return cls(name, "numeric", np.where(np.isnat(array), math.nan, array / np.timedelta64(1, "s")))
        if array.dtype.kind == "M":
            return cls.from_strings(name, np.where(np.isnat(array), "", array.astype(str)).tolist())
        if array.dtype.kind in "bOTU":
            return cls._from_objects(name, array.tolist())
        raise DataError(f'column "{name}" holds {array.dtype}; {_TAKEN}')

    @classmethod
    def _from_objects(cls, name: str, cells: list[Any]) -> Column:
        kinds = dict.fromkeys(map(type, cells))
        for kind in kinds:
            if kind.__name__ not in _BLANKS and (not issubclass(kind, _SCALARS) or issubclass(kind, (complex, bytes))):
                raise DataError(f'column "{name}" holds {kind.__name__}; {_TAKEN}')
        if kinds.keys() <= {str, float, type(None)}:  # mostly: text, and what stands where there is none
            texts = ["" if cell is None or cell != cell else cell for cell in cells]
            if set(map(type, texts)) <= {str}:
                return cls.from_strings(name, texts)
        cells = [None if _is_missing(cell) else cell for cell in cells]
        if all(cell is None or _is_number(cell) for cell in cells):
            return cls(name, "numeric", np.array([math.nan if c is None else _float(c) for c in cells], np.float64))
        return cls.from_strings(name, ["" if cell is None else str(cell) for cell in cells])


def texts_of(cells: Iterable[str]) -> list[str | None]:
    """The cells without white space around them, None where missing."""
    return [None if (text := cell.strip()) in MISSING else text for cell in cells]


def _numbers(cells: list[str]) -> npt.NDArray[np.float64] | None:
    """The cells as numbers, NaN where missing; None if one of them is neither."""
    present = [cell for cell in cells if cell not in MISSING]
    if not _LETTERS_OF_NUMBERS.fullmatch("".join(present)):
        return None
    try:
        return np.array([math.nan if cell in MISSING else float(cell) for cell in cells], np.float64)
    except ValueError:
        return None


def _object_array(name: str, values: Any) -> npt.NDArray[Any]:
    """The values as a 1-D array of objects, which np.asarray would turn into strings or a matrix."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise DataError(f'column "{name}": a sequence of cells is expected, got {type(values).__name__}')
    cells = list(values)
    array = np.empty(len(cells), object)
    array[:] = cells
    return array


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, (float, np.floating)):
        return math.isnan(cell)
    return type(cell).__name__ in _BLANKS


def _is_number(cell: Any) -> bool:
    """A bool is none: a CSV file has True and False as text, and a frame read from it must give the same table."""
    return isinstance(cell, (numbers.Real, decimal.Decimal)) and not isinstance(cell, (bool, np.bool_))


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except OverflowError:  # an integer beyond float64
        return math.inf if cell > 0 else -math.inf


@lru_cache(16)
def _default_names(count: int) -> tuple[str, ...]:
    return tuple(f"column_{i + 1}" for i in range(count))


def default_names(count: int) -> list[str]:
    """column_1 ... column_<count>: what columns without a name are called."""
    return list(_default_names(count))


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length with different names, in order; `notes` says what the reader left out or made up.

    `layout` says how a text was found to be laid out; empty for what is no text.
    """

    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    layout: str = ""

    def __post_init__(self) -> None:
        twice = [name for name, times in Counter(self.names).items() if times > 1]
        if twice:
            raise DataError("column names given twice: " + ", ".join(f'"{name}"' for name in twice[:10]))
        for column in self.columns:
            if len(column) != self.rows:
                got = f'{len(column):,} rows, "{self.columns[0].name}" has {self.rows:,}'
                raise ShapeError(f'column "{column.name}" has {got}')

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def kinds(self) -> list[Kind]:
        return [column.kind for column in self.columns]

    @property
    def rows(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def matrix(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """[rows, len(places)]: the columns of numbers at these places."""
        return np.stack([self.columns[i].values for i in places], axis=1)

    def renamed(self, names: Sequence[str]) -> Table:
        """The same columns by other names, one for each."""
        pairs = zip(names, self.columns, strict=True)
        return Table(tuple(replace(c, name=name) for name, c in pairs), self.notes, self.layout)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f'no column "{name}".{did_you_mean(name, self.names)}')

    def take(self, rows: Any) -> Table:
        """The rows at these indices (or a slice, or where a mask is true), in that order."""
        return Table(tuple(c.take(rows) for c in self.columns), self.notes)

    def drop(self, *names: str) -> Table:
        """The table without these columns."""
        gone = {self[name].name for name in names}
        return Table(tuple(c for c in self.columns if c.name not in gone), self.notes)

    @classmethod
    def from_columns(cls, columns: Iterable[Column], notes: Iterable[str] = ()) -> Table:
        return cls(tuple(columns), tuple(notes))

    @classmethod
    def from_array(cls, array: npt.ArrayLike, names: Sequence[str] | None = None) -> Table:
        """A table of a [rows, columns] array: of numbers (booleans as 0 and 1), or of strings and objects."""
        cells = np.asarray(array)
        if cells.ndim != 2:
            raise ShapeError(f"a table is made of a 2-D array [rows, columns], got shape {cells.shape}")
        names = default_names(cells.shape[1]) if names is None else list(names)
        if len(names) != cells.shape[1]:
            raise ShapeError(f"{len(names)} names for {cells.shape[1]} columns")
        cells = cells.astype(np.float64) if cells.dtype == np.bool_ else cells
        if len(cells) <= FEW_ROWS and cells.dtype.kind in "iuf" and len(set(names)) == len(names):
            return _Numbers(names, cells.astype(np.float64))
        return cls(tuple(Column.from_values(name, values) for name, values in zip(names, cells.T, strict=True)))

    @classmethod
    def from_frame(cls, frame: Any) -> Table:
        """A table of a dict of sequences or of a dataframe (pandas, polars, pyarrow; by narwhals).

        A categorical column is text, even if its categories look like numbers; booleans are the text True and False.
        """
        if isinstance(frame, Mapping):
            return cls(tuple(Column.from_values(str(name), values) for name, values in frame.items()))
        try:
            import narwhals
        except ImportError as error:
            raise DataError(
                f'a table of {type(frame).__name__} needs narwhals: pip install "gpunet[tabular]". '
                "Or give a dict of arrays: {name: values}"
            ) from error
        return cls(tuple(_frame_columns(narwhals, frame)))


class _Numbers(Table):
    """A few rows of numbers, as a request for an answer has them: its columns are made when somebody asks for them."""

    _names: list[str]
    _cells: npt.NDArray[np.float64]

    def __init__(self, names: Sequence[str], cells: npt.NDArray[np.float64]) -> None:
        vars(self).update(_names=list(names), _cells=cells, notes=(), layout="")

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        pairs = zip(self._names, self._cells.T, strict=True)
        return tuple(Column(name, "numeric", np.ascontiguousarray(values)) for name, values in pairs)

    @property
    def names(self) -> list[str]:
        return list(self._names)

    @property
    def kinds(self) -> list[Kind]:
        return ["numeric"] * len(self._names)

    @property
    def rows(self) -> int:
        return len(self._cells)

    def matrix(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        return self._cells[:, places]

    def renamed(self, names: Sequence[str]) -> Table:
        return _Numbers(names, self._cells)


def _frame_columns(narwhals: Any, frame: Any) -> Iterable[Column]:
    try:
        frame = narwhals.from_native(frame, eager_only=True)
        series = list(frame.iter_columns())
    except (TypeError, ValueError) as error:
        raise DataError(f"a table of {type(frame).__name__}: {error}") from error
    for column in series:
        name, dtype = str(column.name), column.dtype
        if dtype.is_numeric():
            yield Column.from_values(name, column.cast(narwhals.Float64).to_numpy().astype(np.float64))
        elif dtype == narwhals.Duration:
            yield Column.from_values(name, column.to_numpy())
        elif dtype in (narwhals.Categorical, narwhals.Enum):
            yield _categorical(name, column.to_list())
        else:
            yield Column._from_objects(name, column.to_list())


def _categorical(name: str, cells: list[Any]) -> Column:
    return Column.categories(name, *encode(["" if _is_missing(cell) else str(cell) for cell in cells]))


def joined(parts: Sequence[tuple[str, Table]]) -> Table:
    """The rows of all tables (each with the name of where it comes from), whose columns must be the same.

    Raises:
        DataError: columns are missing or too many, or hold numbers in one part and text in another.
    """
    first_name, first = parts[0]
    for name, table in parts[1:]:
        odd = [n for n in [*first.names, *table.names] if n not in table.names or n not in first.names]
        if odd:
            where = name if odd[0] in table.names else first_name
            raise DataError(f'column "{odd[0]}" is in {where} only, of {first_name} and {name}; parts have the same columns')
    columns = [_joined_column([(name, table[column.name]) for name, table in parts]) for column in first.columns]
    return Table.from_columns(columns, [f"{name}: {note}" for name, table in parts for note in table.notes])


def _joined_column(parts: Sequence[tuple[str, Column]]) -> Column:
    known = [(name, column) for name, column in parts if column.kind == "text" or not column.missing.all()]
    kinds = {column.kind: name for name, column in reversed(known)}
    if len(kinds) > 1:
        raise DataError(
            f'column "{parts[0][1].name}" holds numbers in {kinds["numeric"]} and text in {kinds["text"]}; '
            "join the files to have it as text"
        )
    name = parts[0][1].name
    if "text" not in kinds:
        return Column(name, "numeric", np.concatenate([c.cells for _, c in parts]))
    cells = [c.cells if c.kind == "text" else Texts.of_cells(np.full(len(c), None, object)) for _, c in parts]
    return Column(name, "text", Texts.joined(cells))
