"""libsvm files: targets and sparse rows, kept sparse."""

from __future__ import annotations

import math
import os
import re
from typing import Literal

import numpy as np

from ..errors import DataError, FormatError
from .files import check_fits, existing, read_bytes
from .record import Dataset
from .sparse import Csr

MOST_COLUMNS = 1 << 26
LIBSVM = re.compile(rb"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?(?:\s+qid:\d+)?(?:[ \t]+\d+:[-+.\deEinfaINFA]+)+[ \t]*(?:#[^\n]*)?\r?(?:\n|$)")


def read_libsvm(path: str | os.PathLike[str], *, on_bad_row: Literal["error", "skip"] = "error") -> Dataset:
    """x (Csr) and y of a libsvm file: a line is `target index:value index:value ...`, indices from 1, rising."""
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
    x = Csr(np.array(values), np.array(columns, np.int64), starts, max(columns) + 1)
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
