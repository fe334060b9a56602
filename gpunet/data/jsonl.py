"""JSON lines: one object a line, its keys the columns. A file that is one JSON array of objects is taken too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Literal

from ..errors import DataError, FormatError
from .files import check_fits, existing, read_bytes
from .table import Column, Table

MOST_COLUMNS = 100_000
Rows = list[tuple[int, dict[str, Any]]]  # line, or place in the array, and the object


def read_jsonl(path: str | os.PathLike[str], *, on_bad_row: Literal["error", "skip"] = "error") -> Table:
    """The table of the objects; a key that an object lacks, and null, are missing.

    A line that is no object of plain values is a DataError that names it, or, with on_bad_row="skip", left out and counted
    in `Table.notes`.
    """
    place = existing(path)
    data = read_bytes(place)
    check_fits(path, 0, 0, at_least=3 * len(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{path} line {line:,}: byte 0x{data[error.start]:02x} is not UTF-8") from None
    rows: Rows = []
    bad: list[int] = []
    for number, found in _array(path, text) if text.lstrip().startswith("[") else _lines(text):
        problem = found if isinstance(found, str) else _problem(found)
        if problem and on_bad_row == "error":
            raise DataError(f"{path} line {number:,}: {problem}; --on-bad-row skip (on_bad_row=\"skip\") leaves such rows out")
        if problem:
            bad.append(number)
        else:
            rows.append((number, found))
    if not rows:
        raise DataError(f"{path}: there is no row in it")
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    if not 0 < len(names) <= MOST_COLUMNS:
        raise DataError(f"{path}: {len(names):,} columns; 1 to {MOST_COLUMNS:,} are taken")
    check_fits(path, len(rows), len(names))
    columns = [Column.from_values(name, [row.get(name) for _, row in rows]) for name in names]
    listed = ", ".join(f"{line:,}" for line in bad[:5]) + (", ..." if len(bad) > 5 else "")
    return Table.from_columns(columns, [f"{len(bad):,} rows left out that are no objects of plain values: line {listed}"] if bad else [])


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    """(line number, object, or what is wrong with it)."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _parsed(line)


def _array(path: object, text: str) -> Iterator[tuple[int, Any]]:
    found = _parsed(text)
    if not isinstance(found, list):
        raise FormatError(f"{path}: {found if isinstance(found, str) else 'not a JSON array'}")
    yield from enumerate(found, start=1)


def _parsed(text: str) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error})"
    return "a JSON text, where an object is expected" if isinstance(found, str) else found


def _problem(found: Any) -> str:
    if not isinstance(found, dict):
        return f"a JSON {type(found).__name__}, where an object is expected"
    for name, value in found.items():
        if isinstance(value, (dict, list)):
            return f'"{name}" is a {"list" if isinstance(value, list) else "nested object"}; plain values are taken'
    return ""
