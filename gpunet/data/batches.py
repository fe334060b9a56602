"""Rows of a data set on the device, gathered by index: no Python per row."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import ops, rng
from ..devices import Device
from ..engine import Tensor
from ..errors import DataError, ShapeError


class Batches:
    """x [n, ...], y [n, ...] or None, weight [n] or None as Tensors on `device`, in a new order every epoch.

    `order` and `cursor` are Tensors too, so that a step that reads them can be traced once and run for every batch.
    """

    def __init__(
        self, x: Any, y: Any = None, weight: Any = None, *, device: Device, dtype: Any = np.float32, seed: int = 0
    ) -> None:
        arrays = {"x": x, "y": y, "weight": weight}
        lengths = {name: len(a) for name, a in arrays.items() if a is not None}
        if len(set(lengths.values())) != 1:
            raise ShapeError(f"the data differ in their number of rows: {lengths}")
        self.rows, self.device, self.seed = lengths["x"], device, seed
        if not self.rows:
            raise DataError("no rows to train on or evaluate")
        self.x, self.y, self.weight = (self._load(a, dtype) for a in arrays.values())
        self.order = Tensor(device.upload(np.arange(self.rows)), device)
        self.cursor = Tensor(device.upload(np.zeros((), np.int64)), device)

    def _load(self, array: Any, dtype: Any) -> Tensor | None:
        return None if array is None else load(array, self.device, dtype)

    def shuffle(self, epoch: int) -> None:
        """The order of this epoch: from the seed and the epoch alone."""
        order = rng.permutation(self.rows, seed=self.seed, stream=rng.stream("shuffle"), step=epoch)
        self.order.value[...] = self.device.upload(order)  # in place: a program that holds the array has nothing to adopt
        self.rewind()

    def rewind(self, row: int = 0) -> None:
        """Go to this place in the order."""
        self.cursor.value[...] = row

    def sizes(self, batch_size: int, *, drop_last: bool = False, smallest: int = 1) -> list[int]:
        """The lengths of an epoch's batches; a tail below `smallest` rows joins the batch before it."""
        full, tail = divmod(self.rows, batch_size)
        sizes = [batch_size] * full
        if tail and not (drop_last and sizes):
            sizes.append(tail)
        if len(sizes) > 1 and sizes[-1] < smallest:
            sizes[-2:] = [sizes[-2] + sizes[-1]]
        return sizes

    def next(self, size: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The next `size` rows in order; moves the cursor on. Made of ops alone."""
        rows = ops.slice_rows(self.order, self.cursor, size=size)
        self.cursor.assign(self.cursor + size)
        x, y, weight = (None if t is None else ops.gather(t, rows) for t in (self.x, self.y, self.weight))
        assert x is not None
        return x, y, weight

    def first(self, rows: int) -> Batches:
        """The first rows as they lie, in the same memory."""
        part = copy.copy(self)
        part.rows = min(rows, self.rows)
        part.x, part.y, part.weight = (
            None if t is None else Tensor(t.value[:rows], t.device) for t in (self.x, self.y, self.weight)
        )
        return part

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """All rows as they lie, `size` at a time: for evaluation."""
        for start in range(0, self.rows, size):
            part = slice(start, start + size)
            assert self.x is not None
            yield (
                Tensor(self.x.value[part], self.device),
                None if self.y is None else Tensor(self.y.value[part], self.device),
            )


def load(array: Any, device: Device, dtype: Any) -> Tensor:
    """Rows on the device: floats in the model's dtype; integers (classes, codes, pixels) as they are."""
    host = np.ascontiguousarray(array.numpy() if isinstance(array, Tensor) else array)
    if host.dtype.kind not in "fiub":
        raise DataError(f"numbers wanted, got an array of {host.dtype}. Tables with text go through gpunet.tabular")
    if not len(host):
        raise DataError("no rows to train on or evaluate")
    if host.dtype.kind == "b" or (host.dtype.kind == "f" and host.dtype != dtype):
        host = host.astype(dtype)
    return Tensor(device.upload(host), device)
