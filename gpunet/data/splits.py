"""Which rows train and which rows judge: reproducible splits, and a fingerprint that tells whether the data changed."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import rng
from ..errors import ConfigError, DataError, ShapeError
from .record import Dataset
from .sparse import Csr
from .table import Column, Table

Indices = npt.NDArray[np.int64]


def split(
    n: int, fractions: Sequence[float], *, seed: int, stratify: npt.ArrayLike | None = None
) -> tuple[Indices, ...]:
    """range(n) in random order, cut into parts of these fractions, which add up to 1.

    The sizes are n * fractions, rounded by largest remainder. With `stratify`, a class label for each row, this holds
    in every class; what a class could not give a part, the next class makes up for, so the parts keep their sizes. A
    class with one row goes to the first part, with a warning.
    """
    shares = np.asarray(fractions, np.float64)
    if shares.ndim != 1 or not len(shares) or not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ConfigError(f"fractions {list(fractions)}: numbers from 0 to 1 that add up to 1 are expected")
    order = rng.permutation(n, seed=seed, stream=rng.stream("split"))
    classes = np.zeros(n, np.int64) if stratify is None else _class_codes(stratify, n)
    counts = np.bincount(classes, minlength=1)
    by_class = np.split(order[np.argsort(classes[order], kind="stable")], np.cumsum(counts)[:-1])
    sizes = _sizes(counts, shares / shares.sum())
    pieces = [np.split(rows, np.cumsum(size)[:-1]) for rows, size in zip(by_class, sizes, strict=True)]
    part = np.empty(n, np.int64)
    for k in range(len(shares)):
        part[np.concatenate([piece[k] for piece in pieces])] = k
    return tuple(order[part[order] == k] for k in range(len(shares)))


def _class_codes(stratify: npt.ArrayLike, n: int) -> Indices:
    labels = np.asarray(stratify)
    if labels.shape != (n,):
        raise ShapeError(f"split: {n:,} rows and stratify of shape {labels.shape}; ({n},) is expected")
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    once = [str(label) for label in classes[counts == 1]]
    if len(once) == len(classes) > 1:
        raise DataError(f"split: each of the {len(classes):,} classes has one row, which no split can stratify")
    if once and len(classes) > 1:
        listed = ", ".join(once[:5]) + (", ..." if len(once) > 5 else "")
        warnings.warn(f"{len(once)} classes with one row go to the first part: {listed}", stacklevel=3)
    return codes.astype(np.int64)


def _sizes(counts: Indices, shares: npt.NDArray[np.float64]) -> list[Indices]:
    """How many rows of each class each part gets: the quota rounded down or up, who is owed most first."""
    owed, sizes = np.zeros(len(shares)), []
    for count in counts:
        quota = np.round(count * shares, 9)
        size = np.floor(quota).astype(np.int64)
        rest = int(count - size.sum())
        if count == 1 and len(counts) > 1:
            sizes.append(np.eye(1, len(shares), dtype=np.int64)[0])
            continue
        has_remainder = quota > size
        first = np.argsort(np.where(has_remainder, -(quota - size + owed), np.inf), kind="stable")
        size[first[:rest]] += 1
        owed += quota - size
        sizes.append(size)
    return sizes


def fingerprint(data: Dataset) -> str:
    """32 hexadecimal digits of the content (inputs, targets, column names), the same on every machine."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("x", "y", "test_x", "test_y"):
        part = getattr(data, name)
        digest.update(f"{name}:{type(part).__name__}".encode())
        if isinstance(part, Table):
            for column in part.columns:
                _add_column(digest, column)
        elif isinstance(part, Csr):
            for array in (part.starts, part.columns, part.values):
                _add_array(digest, array)
        elif part is not None:
            _add_array(digest, part)
    return digest.hexdigest()


def _add_column(digest: Any, column: Column) -> None:
    digest.update(f"{len(column.name)}:{column.name}:{column.kind}".encode())
    if column.kind == "numeric":
        _add_array(digest, np.where(column.missing, np.nan, column.values))  # one NaN of the many
    else:
        texts, codes = column.cells.coded
        spelt = [text or "" for text in texts]
        sizes = np.fromiter(map(len, spelt), np.int64, len(spelt))[codes]
        _add_array(digest, np.where(column.missing, -1, sizes))
        digest.update("".join(map(spelt.__getitem__, codes.tolist())).encode("utf-8", "surrogatepass"))


def _add_array(digest: Any, array: npt.NDArray[Any]) -> None:
    digest.update(f"{array.dtype.kind}{array.dtype.itemsize}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
