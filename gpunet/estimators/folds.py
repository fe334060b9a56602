"""Which rows train a net, and which judge it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.splits import split
from ..errors import ConfigError, DataError

Indices = npt.NDArray[np.int64]
Fold = tuple[Indices, Indices | None]  # the rows that train, and those that judge; None where others do or nobody

MOST_VALIDATION_ROWS = 10_000


def one(rows: int, share: float, seed: int, strata: Any) -> Fold:
    """All rows but a share of them, which judges."""
    share = min(share, MOST_VALIDATION_ROWS / rows)
    train, other = _split(rows, (1 - share, share), seed, strata)
    return train, other if len(other) else None


def several(cv: Any, source: Indices, seed: int, strata: Any) -> list[Fold]:
    """The folds of a number of parts, of a splitter, or of pairs of row numbers.

    Args:
        source: which of the rows given each row was, for what the user says of these.
    """
    every = np.arange(len(source))
    if isinstance(cv, (int, np.integer)):
        if not 2 <= cv <= len(source):
            raise ConfigError(f"cv: from 2 to the number of rows ({len(source):,}), got {cv}")
        parts = _split(len(source), [1 / int(cv)] * int(cv), seed, strata)
        return [(np.setdiff1d(every, part), np.sort(part)) for part in parts if len(part)]
    pairs = cv.split(np.zeros((int(source.max()) + 1, 1))) if hasattr(cv, "split") else cv
    folds: list[Fold] = []
    for train, test in pairs:
        inside, outside = (np.flatnonzero(np.isin(source, part)) for part in (train, test))
        folds.append((inside, outside if len(outside) else None))
    if not folds or not all(len(train) for train, _ in folds):
        raise ConfigError("cv: pairs (training rows, other rows) are expected, with rows in each training part")
    return folds


def _split(n: int, fractions: Sequence[float], seed: int, strata: Any) -> tuple[Indices, ...]:
    """`split`; its warning of classes with one row is the target's note."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return split(n, fractions, seed=seed, stratify=strata)
    except DataError:  # every class has one row
        return split(n, fractions, seed=seed)
