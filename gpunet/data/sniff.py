"""Finds out how a delimited text is laid out: its delimiter, the fields of a row, whether it begins with a header."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..errors import DataError, FormatError
from .table import Column

DELIMITERS = "\t;|,"  # the comma last: it also stands inside numbers and texts
SAMPLE_LINES, SAMPLE_BYTES = 100, 4 << 20
NO_CELLS = Column.from_strings("", [])


@dataclass(frozen=True)
class Layout:
    """`width` fields a row, as in line `line`; `header` says that the first such row holds the names.

    `numeric` are the places of the columns that look like numbers from here, which all rows must confirm.
    """

    delimiter: str
    width: int
    line: int
    header: bool
    numeric: frozenset[int] = frozenset()

    def __str__(self) -> str:
        mark = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}.get(self.delimiter, repr(self.delimiter))
        return f"delimiter {mark}, {f'names in line {self.line:,}' if self.header else 'no header'}"


def records(data: bytes, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line it begins in, fields) of each row of this UTF-8 text; a line of no character is no row.

    Quotes as in RFC 4180, lenient beyond it. Raises FormatError where a quote is never closed and where a field is
    longer than `csv.field_size_limit()`.
    """
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield from io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
        ended = True

    reader, line = csv.reader(lines(), delimiter=delimiter, skipinitialspace=True), 1
    try:
        for row in reader:
            if ended:  # the reader ran out of lines inside a row
                raise FormatError(f"line {line:,}: a quote is opened in this row and never closed")
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(f"line {line:,}: {error}") from error


def is_blank(row: list[str], width: int) -> bool:
    """A line of nothing but white space, which is one empty field, is no row where rows have several fields."""
    return width > 1 and len(row) == 1 and not row[0].strip()


def find_layout(data: bytes, *, header: bool | None, delimiter: str | None, whole: bool = True) -> Layout | None:
    """The layout by the first 100 lines, or None where there is no row at all (with whole=False: in the first lines).

    Delimiter: the one of tab ; | , that splits most rows into the same number of fields (two or more), the first of
    them where equal; a comma where none does. Width: that of most rows. Header: see `_has_header`.
    """
    sample = first_lines(data)
    if not whole and sample is data:  # one line, longer than what is here of it
        return None
    sampled = _rows_by_delimiter(sample, delimiter) or (_rows_by_delimiter(data, delimiter) if whole else {})
    widths = {mark: Counter(len(row) for _, row in rows).most_common(1)[0] for mark, rows in sampled.items()}
    splitting = [mark for mark in widths if widths[mark][0] > 1]
    best = max(splitting, key=lambda mark: widths[mark][1]) if splitting else delimiter or ","
    if best not in widths:
        return None
    width = widths[best][0]
    fitting = [(line, row) for line, row in sampled[best] if len(row) == width]
    first, *below = [row for _, row in fitting]
    pairs = list(zip(_typed([first], width), _typed(below, width), strict=True))
    if header is None:
        header = _has_header(pairs)
    numeric = frozenset(
        i
        for i, (above, column) in enumerate(pairs)
        if column.kind == "numeric" and (above.kind == "numeric" or header)
    )
    return Layout(best, width, fitting[0][0], header, numeric)


def _typed(rows: list[list[str]], width: int) -> list[Column]:
    return [Column.from_strings("", cells) for cells in zip(*rows, strict=True)] or [NO_CELLS] * width


def first_lines(data: bytes) -> bytes:
    """The first 100 lines, whole ones, and no more than can be read quickly; `data` itself where it has no more."""
    ends = [match.end() for match in islice(re.finditer(rb"\r\n?|\n", data[:SAMPLE_BYTES]), SAMPLE_LINES)]
    is_all = len(data) <= SAMPLE_BYTES and len(ends) < SAMPLE_LINES
    return data if is_all or not ends else data[: ends[-1]]


def _rows_by_delimiter(sample: bytes, delimiter: str | None) -> dict[str, list[tuple[int, list[str]]]]:
    """The rows by each delimiter that is possible, as far as they can be read: the sample may end inside quotes."""
    found: dict[str, list[tuple[int, list[str]]]] = {}
    for mark in delimiter or [mark for mark in DELIMITERS if mark == "," or mark.encode() in sample]:
        with suppress(DataError):
            for row in records(sample, mark):
                found.setdefault(mark, []).append(row)
    return found


def _has_header(pairs: list[tuple[Column, Column]]) -> bool:
    """Whether the first row holds names rather than data, by each column's first cell and those below it.

    It does if none of its texts comes again in its column, and a column of numbers begins with a text, or the first
    column counts the rows and begins with a blank; or, in a table without any number, if none of its texts comes again.
    A header that is all numbers cannot be told: say header=True.
    """
    first = [cell for cell, _ in pairs]
    if any(cell.kind == "text" and cell.values[0] in column.values.tolist() for cell, column in pairs):
        return False
    above_numbers = [cell for cell, column in pairs if column.kind == "numeric" and not column.missing.all()]
    if above_numbers:
        if first[0].missing[0] and _counts_rows(pairs[0][1]):
            return True
        return any(cell.kind == "text" for cell in above_numbers)
    return any(cell.kind == "text" for cell in first) and all(cell.kind == "text" or cell.missing[0] for cell in first)


def _counts_rows(column: Column) -> bool:
    """Whether this is the index that dataframes write in front: 0, 1, 2, ... or 1, 2, 3, ..."""
    return column.kind == "numeric" and any(
        np.array_equal(column.values, np.arange(start, start + len(column.values))) for start in (0, 1)
    )
