"""What is done to one column of a table so that a net can read it: chosen and fitted on training rows, kept as JSON.

`choose` decides, in this order:

| the training rows hold                            | treatment                                                        |
|---------------------------------------------------|------------------------------------------------------------------|
| no value                                          | left out                                                         |
| one value; with blanks                            | left out; one column: is it blank?                               |
| numbers                                           | standardised; blanks take the median, and a column marks them    |
| dates and times (ISO 8601)                        | days, standardised; their place in the year, the week, the day   |
| two texts                                         | one column of -1 and +1; 0 where blank                           |
| texts, nearly all different; with blanks          | left out; one column: is it blank?                               |
| other texts                                       | one-hot, at most MOST_CATEGORIES; all 0 where blank              |

Nearly all different: more than 20 texts and, on average, fewer than two rows for each, of which nothing can be learned.
A text not seen in training is treated as a blank, or joins the rare ones where there is a column for these.

Before that, `row_numbers` finds the columns that only number the rows, of the table as a whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.table import Column
from ..data.texts import Texts
from ..errors import DataError, FormatError, did_you_mean
from .dates import Dates, all_dates
from .phrases import listed, plural, rows_where
from .scaling import moments, standardised
from .treatment import Matrix, Role, Treatment

MOST_CATEGORIES = 100  # as AutoGluon's networks have it
FEW_TEXTS = 20
FEW_ROWS_TO_NUMBER = 500  # more than the days of a year, or the years of most records
SPARSEST = 8  # numbers of the range for each row: a table of which an eighth of the rows train


@dataclass(frozen=True)
class Dropped(Treatment):
    """A column without use; it need not even be there when predicting."""

    kind = "dropped"
    why: str

    @property
    def remark(self) -> str:
        return f"left out, {self.why}"

    @property
    def output_names(self) -> list[str]:
        return []

    def describe(self) -> str:
        return f"left out: {self.why}"

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        return np.empty((len(column), 0), np.float32)


@dataclass(frozen=True)
class Presence(Treatment):
    """A column of which only one thing is told: 1 where it is blank."""

    kind = "presence"
    why: str

    @property
    def remark(self) -> str:
        return f"{self.why}, so only whether it is blank is kept"

    @property
    def output_names(self) -> list[str]:
        return [f"{self.name} (missing)"]

    def describe(self) -> str:
        return f"only whether it is blank is kept: {self.why}"

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        return column.missing[:, None].astype(np.float32)


@dataclass(frozen=True)
class Numeric(Treatment):
    """(x - center) / scale; blanks take the median. If training rows had blanks, a second column is 1 at a blank."""

    kind = "numeric"
    center: float
    scale: float
    median: float
    blanks: int

    @classmethod
    def fit(cls, column: Column) -> Numeric:
        present = column.values[~column.missing]
        center, scale = moments(present)
        median = np.quantile(present, 0.5, method="lower")  # a value that occurs
        return cls(column.name, float(center), float(scale), float(median), len(column.values) - len(present))

    @property
    def remark(self) -> str:
        return "blanks take the median, and a column marks them" if self.blanks else ""

    @property
    def output_names(self) -> list[str]:
        return [self.name, f"{self.name} (missing)"] if self.blanks else [self.name]

    @property
    def roles(self) -> list[Role]:
        return ["number", "mark"] if self.blanks else ["number"]

    def describe(self) -> str:
        scaled = f"standardised: (x - {self.center:.6g}) / {self.scale:.6g}; a blank takes the median {self.median:.6g}"
        return f"{scaled}, and a column marks it ({self.blanks:,} in training)" if self.blanks else scaled

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        values = as_numbers(column)
        check_finite(column.name, values)
        z, blank = self.scaled(values[:, None], self.center, self.scale, self.median)
        self.tell(int(blank.sum()), notes)
        return np.concatenate([z, blank], axis=1, dtype=np.float32) if self.blanks else z

    @classmethod
    def scaled(cls, values: npt.NDArray[np.float64], center: Any, scale: Any, median: Any) -> tuple[Matrix, Any]:
        """Finite numbers and blanks (NaN) [rows, k], by numbers of these or one for each column; where they were blank."""
        blank = np.isnan(values)
        filled = np.where(blank, median, values) if blank.any() else values
        return cls.shaped(standardised(filled, center, scale)), blank

    @staticmethod
    def shaped(z: Matrix) -> Matrix:
        """What becomes of standardised numbers."""
        return z

    def tell(self, blanks: int, notes: list[str]) -> None:
        if blanks and not self.blanks:
            notes.append(
                f'column "{self.name}": blanks take the median {self.median:.6g}: {blanks:,}; training had none'
            )


@dataclass(frozen=True)
class Binary(Treatment):
    """A text column of two values: -1 and +1, and 0 for a blank."""

    kind = "binary"
    low: str
    high: str

    @property
    def output_names(self) -> list[str]:
        return [f"{self.name}={self.high}"]

    def describe(self) -> str:
        return f'"{self.low}" is -1, "{self.high}" is +1, blank or unseen is 0'

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        codes = _codes(column, [self.low, self.high], notes)
        return np.array([-1, 1, 0], np.float32)[codes][:, None]


@dataclass(frozen=True)
class OneHot(Treatment):
    """A 0/1 column for each category, in sorted order, and one more for the `rare` others there were in training."""

    kind = "one-hot"
    categories: list[str]
    rare: int

    @classmethod
    def fit(cls, name: str, counts: Mapping[str, int]) -> OneHot:
        frequent = sorted(counts, key=lambda text: (-counts[text], text))[:MOST_CATEGORIES]
        return cls(name, sorted(frequent), len(counts) - len(frequent))

    @property
    def remark(self) -> str:
        return f"{MOST_CATEGORIES} most frequent categories, and one column for all others" if self.rare else ""

    @property
    def output_names(self) -> list[str]:
        return [f"{self.name}={text}" for text in self.categories] + [f"{self.name} (other)"] * (self.rare > 0)

    def describe(self) -> str:
        if self.rare:
            frequent = f"one-hot: the {len(self.categories)} most frequent categories"
            return f"{frequent}, and a column for all others ({self.rare:,} in training); blank is all 0"
        return f"one-hot: {listed(self.categories)}; blank or unseen is all 0"

    def transform(self, column: Column, notes: list[str]) -> Matrix:
        codes = _codes(column, self.categories, notes, others=self.rare > 0)
        out = np.zeros((len(codes), len(self.output_names)), np.float32)
        known = np.flatnonzero(codes >= 0)
        out[known, codes[known]] = 1
        return out


TREATMENTS: dict[str, type[Treatment]] = {
    treatment.kind: treatment for treatment in (Dropped, Presence, Numeric, Binary, OneHot, Dates)
}


def choose(column: Column) -> Treatment:
    """The treatment for a column, of which only training rows are given, by the table at the top of this file."""
    if column.missing.all():
        return Dropped(column.name, "no value in it")
    if column.kind == "numeric":
        numeric = Numeric.fit(column)
        return numeric if numeric.scale > 0 else _useless(column, "always the same")
    counts = column.cells.counts()
    if len(counts) == 1:
        return _useless(column, "always the same")
    if all_dates(counts):
        return Dates.fit(column)
    if len(counts) == 2:
        return Binary(column.name, *sorted(counts))
    if not column.asked and len(counts) > FEW_TEXTS and 2 * len(counts) > sum(counts.values()):
        return _useless(column, "texts that are nearly all different")
    return OneHot.fit(column.name, counts)


def row_numbers(columns: Sequence[Column]) -> set[str]:
    """The columns that number the rows: whole, all different, at least an eighth of all there are in their range.

    What is measured repeats itself: n draws from fewer than SPARSEST * n numbers are all different with a probability
    below exp(-(n - 1) / (2 * SPARSEST)), e-31 for 500 rows. So they were dealt out, as numbers of rows are; or as ranks and
    places in time are, which is why fewer rows are not judged, and why columns that number the rows in different orders
    (a table of ranks) are kept, as is a column that the user calls numeric.
    """
    found = [column for column in columns if not column.asked and _is_numbering(column)]
    orders = [np.argsort(column.values) for column in found]
    agree = all(np.array_equal(order, orders[0]) or np.array_equal(order, orders[0][::-1]) for order in orders[1:])
    return {column.name for column in found} if agree else set()


def _is_numbering(column: Column) -> bool:
    values, rows = column.values, len(column.values)
    if column.kind != "numeric" or rows <= FEW_ROWS_TO_NUMBER:
        return False
    low, high = values.min(), values.max()
    if not rows <= high - low + 1 <= SPARSEST * rows:  # nor with a blank, which is NaN
        return False
    return bool((values == np.floor(values)).all()) and len(np.unique(values)) == rows


def _useless(column: Column, why: str) -> Treatment:
    return (Presence if column.missing.any() else Dropped)(column.name, why)


def from_config(config: Mapping[str, Any]) -> Treatment:
    """The treatment whose `config()` this is."""
    fields = dict(config)
    kind = fields.pop("kind")
    if kind not in TREATMENTS:
        raise FormatError(f'no treatment "{kind}" of a column.{did_you_mean(kind, TREATMENTS)}')
    return TREATMENTS[kind](**fields)


# ---------------------------------------------------------------- cells


def check_finite(name: str, values: npt.NDArray[np.float64]) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        where = rows_where(infinite)
        raise DataError(f'column "{name}": infinite in {where}. Leave the cell blank if the value is not known')


def number_of(text: str) -> float | None:
    """The number that a cell of a table reads as; None for other text."""
    typed = Column.from_strings("", [text])
    return float(typed.values[0]) if typed.kind == "numeric" and not typed.missing[0] else None


def as_numbers(column: Column) -> npt.NDArray[np.float64]:
    """The cells of a column that was numeric in training; of a text column, if they all read as numbers."""
    if column.kind == "numeric":
        return column.values
    cells = ["" if cell is None else cell for cell in column.values]
    typed = Column.from_strings(column.name, cells)
    if typed.kind == "numeric":
        return typed.values
    row = next(i for i, cell in enumerate(column.values) if cell is not None and number_of(cell) is None)
    raise DataError(f'column "{column.name}" was numeric in training; row {row + 1} is "{cells[row]}" (the first is 1)')


def as_texts(column: Column, known: Iterable[str]) -> Texts:
    """The cells of a column that was text in training. A number is taken for the known text that reads as that number.

    A column of texts and numbers is numeric where it happens to hold no text: in a file of one row, for instance.
    """
    if column.kind == "text":
        texts: Texts = column.cells
        return texts
    spelt: dict[float, str] = {}
    for text in known:
        if (number := number_of(text)) is not None:
            spelt.setdefault(number, text)
    bits, codes = np.unique(column.values.view(np.uint64), return_inverse=True)  # -0 is not 0
    values = bits.view(np.float64).tolist()
    called = [None if math.isnan(value) else spelt.get(value, repr(value).removesuffix(".0")) for value in values]
    return Texts.of_codes(called, codes)


def _codes(column: Column, known: list[str], notes: list[str], *, others: bool = False) -> npt.NDArray[np.int64]:
    """Places in `known`, -1 for a blank; a text that is not there is blank too, or len(known) if there are `others`."""
    texts, place = as_texts(column, known), {text: i for i, text in enumerate(known)}
    unknown = len(known) if others else -1
    codes = texts.each(lambda text: -1 if text is None else place.get(text, unknown), np.int64)
    if not others:
        unseen = Counter(t for t in texts.take(codes < 0).cells.tolist() if t is not None)
        if unseen:
            cells = plural(unseen.total(), "cell")
            notes.append(f'column "{column.name}": taken for blank, not seen in training: {listed(unseen)} ({cells})')
    return codes
