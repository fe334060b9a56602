"""What every reader gives: inputs, targets and, where the file has one, the test set that belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FormatError
from .table import Table

Array = npt.NDArray[Any]


@dataclass
class Dataset:
    """x is a Table, a Csr, or an array [N, D] in the file's own dtype (uint8 images stay uint8); y has N rows or is None.

    `classes` are the names of the integer targets 0, 1, ... if the file gives them. `image_shape` says how a row of x
    lies in memory: (height, width) or (height, width, channels). `notes` says what the reader left out or assumed.
    """

    name: str
    x: Any
    y: Array | None = None
    test_x: Any = None
    test_y: Array | None = None
    classes: list[str] | None = None
    image_shape: tuple[int, ...] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.x.rows if isinstance(self.x, Table) else len(self.x)


def check_pair(source: object, x: Array, y: Array | None) -> None:
    """Refuses inputs without a number, and targets that do not belong to them row by row."""
    if not x.size:
        raise FormatError(f"{source}: inputs of shape {x.shape} hold nothing")
    if y is not None and len(x) != len(y):
        raise FormatError(f"{source}: {len(x):,} inputs and {len(y):,} targets do not belong together")


def flatten(x: Array) -> tuple[Array, tuple[int, ...] | None]:
    """[N, ...] as [N, D], and the shape of an image if a row was one."""
    if x.ndim < 3:
        return (x if x.ndim == 2 else x[:, None]), None
    return x.reshape(len(x), int(np.prod(x.shape[1:]))), x.shape[1:] if x.ndim <= 4 else None
