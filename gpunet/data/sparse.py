"""Rows of which most cells are zero, kept as they are (CSR), and the libsvm files they come from."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import DataError, FormatError
from .files import check_fits, existing, read_bytes
from .record import Dataset

MOST_COLUMNS = 1 << 26
LIBSVM = re.compile(rb"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?(?:\s+qid:\d+)?(?:[ \t]+\d+:[-+.\deEinfaINFA]+)+[ \t]*(?:#[^\n]*)?\r?(?:\n|$)")


@dataclass(frozen=True, eq=False)
class Sparse:
    """Row i has values[starts[i] : starts[i + 1]] in columns[...] of the same places; zeros elsewhere."""

    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]
    values: npt.NDArray[Any]
    width: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    def take(self, rows: Any) -> Sparse:
        """The rows at these indices (or a slice, or where a mask is true), in that order."""
        chosen = np.arange(len(self))[rows]
        counts = np.diff(self.starts)[chosen]
        starts = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
        at = np.repeat(self.starts[:-1][chosen], counts) + within
        return Sparse(starts, self.columns[at], self.values[at], self.width)

    def dense(self, dtype: Any = np.float64) -> npt.NDArray[Any]:
        out = np.zeros(self.shape, dtype)
        out[np.repeat(np.arange(len(self)), np.diff(self.starts)), self.columns] = self.values
        return out

    def widened(self, width: int) -> Sparse:
        """The same rows with columns of zeros behind."""
        return Sparse(self.starts, self.columns, self.values, width)


def read_libsvm(path: str | os.PathLike[str], *, on_bad_row: Literal["error", "skip"] = "error") -> Dataset:
    """x (Sparse) and y of a libsvm file: a line is `target index:value index:value ...`, indices from 1, rising."""
    place = existing(path)
    data = read_bytes(place)
    check_fits(path, 0, 0, at_least=4 * len(data))
    y: list[float] = []
    counts: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    bad: list[int] = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        parts = line.split(b"#", 1)[0].split()
        if not parts:
            continue
        try:
            target, places, found = _row(parts)
        except ValueError as error:
            if on_bad_row == "error":
                raise DataError(f"{path} line {number:,}: {error}; --on-bad-row skip leaves such rows out") from None
            bad.append(number)
            continue
        y.append(target)
        counts.append(len(places))
        columns += places
        values += found
    if not y:
        raise DataError(f"{path}: there is no row in it")
    if not columns:
        raise FormatError(f"{path}: no row has a value")
    starts = np.concatenate([[0], np.cumsum(np.array(counts, np.int64))])
    x = Sparse(starts, np.array(columns, np.int64), np.array(values), max(columns) + 1)
    targets = np.array(y)
    whole = np.isfinite(targets).all() and (targets == np.floor(targets)).all()
    notes = [f"sparse: {len(values) / (len(x) * x.width):.2%} of {x.width:,} columns are not zero"]
    if bad:
        listed = ", ".join(f"{n:,}" for n in bad[:5]) + (", ..." if len(bad) > 5 else "")
        notes.append(f"{len(bad):,} rows left out that are not libsvm's: line {listed}")
    return Dataset(place.name.split(".")[0], x, targets.astype(np.int64) if whole else targets, notes=notes)


def _row(parts: list[bytes]) -> tuple[float, list[int], list[float]]:
    if b"," in parts[0]:
        raise ValueError("several targets in a row; one is expected")
    target = _number(parts[0])
    places: list[int] = []
    values: list[float] = []
    for part in parts[1:]:
        index, colon, value = part.partition(b":")
        if index == b"qid" and colon:
            continue
        if not colon or not index.isdigit():
            raise ValueError(f"index:value is expected, got {part[:40].decode('utf-8', 'replace')!r}")
        at = int(index) - 1
        if at < 0 or at >= MOST_COLUMNS:
            raise ValueError(f"index {int(index):,}; 1 to {MOST_COLUMNS:,} are expected")
        if places and at <= places[-1]:
            raise ValueError(f"index {at + 1:,} comes after {places[-1] + 1:,}; they rise in a row")
        places.append(at)
        values.append(_number(value))
    return target, places, values


def _number(text: bytes) -> float:
    try:
        found = math.nan if b"_" in text else float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"a number is expected, got {text[:40].decode('utf-8', 'replace')!r}")
    return found
