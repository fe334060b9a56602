"""Rows of a data set on the device, gathered by index: no Python per row."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import ops, rng
from ..devices import Device
from ..engine import Tensor
from ..errors import DataError, ShapeError
from .sparse import Csr, SparseRows

WHOLE = (np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64))  # integers that kernels know
RESIDENT_SHARE = 0.5  # of the device's free memory that data may take; the rest is for the net
STAGE_BYTES = 64 << 20  # of streamed rows that are sent at once


def batches(x: Any, y: Any = None, weight: Any = None, *, device: Device, dtype: Any, seed: int = 0) -> Batches:
    """The data on the device if they fit, else streamed to it; the batches are the same."""
    arrays = [None if a is None else as_rows(a, dtype) for a in (x, y, weight)]
    needed = sum(a.nbytes for a in arrays if a is not None) + 8 * len(arrays[0] if arrays[0] is not None else ())
    free = device.memory() if device.kind != "cpu" and not isinstance(arrays[0], Csr) else None
    kind = Batches if free is None or needed <= RESIDENT_SHARE * free.free else Streamed
    return kind(*arrays, device=device, dtype=dtype, seed=seed)


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
        self.rows, self.device, self.dtype, self.seed = lengths["x"], device, dtype, seed
        if not self.rows:
            raise DataError("no rows to train on or evaluate")
        self.cursor = Tensor(device.upload(np.zeros((), np.int64)), device)
        self._hold([None if a is None else as_rows(a, dtype) for a in arrays.values()])

    def _hold(self, arrays: Sequence[npt.NDArray[Any] | None]) -> None:
        self.x, self.y, self.weight = (self._upload(a) for a in arrays)
        self.order = Tensor(self.device.upload(np.arange(self.rows)), self.device)

    def _upload(self, array: Any) -> Any:
        return None if array is None else load(array, self.device, self.dtype)

    def shuffle(self, epoch: int) -> None:
        """The order of this epoch: from the seed and the epoch alone."""
        order = rng.permutation(self.rows, seed=self.seed, stream=rng.stream("shuffle"), step=epoch)
        self.order.value[...] = self.device.upload(order)  # in place: a program that holds the array has nothing to adopt
        self.rewind()

    def rewind(self) -> None:
        """Go to the first place in the order."""
        self.cursor.value[...] = 0

    def sizes(self, batch_size: int, *, drop_last: bool = False, smallest: int = 1) -> list[int]:
        """The lengths of an epoch's batches; a tail below `smallest` rows joins the batch before it."""
        full, tail = divmod(self.rows, batch_size)
        sizes = [batch_size] * full
        if tail and not (drop_last and sizes):
            sizes.append(tail)
        if len(sizes) > 1 and sizes[-1] < smallest:
            sizes[-2:] = [sizes[-2] + sizes[-1]]
        return sizes

    def begin(self, sizes: Sequence[int], at: int = 0) -> None:
        """An epoch of batches of these lengths begins, or goes on with its step `at`."""
        self.cursor.value[...] = sum(sizes[:at])

    def ready(self, at: int) -> int | None:
        """How many steps, from step `at` of the epoch on, have their rows on the device; None: all."""
        return None

    def next(self, size: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The next `size` rows in order; moves the cursor on. Made of ops alone."""
        rows = ops.slice_rows(self.order, self.cursor, size=size)
        self.cursor.assign(self.cursor + size)
        x, y, weight = (None if t is None else taken(t, rows) for t in (self.x, self.y, self.weight))
        assert x is not None
        return x, y, weight

    # ------------------------------------------------------------------ as they lie, for evaluation

    def content(self) -> list[npt.NDArray[Any] | None]:
        """The arrays of which all of this is made, in host memory; for a fingerprint."""
        x = [self.x.values, self.x.columns, self.x.starts] if isinstance(self.x, SparseRows) else [self.x]
        return [None if t is None else t.numpy() for t in (*x, self.y, self.weight)]

    @property
    def at_once(self) -> int:
        """How many rows may be taken together."""
        return self.x.at_once if isinstance(self.x, SparseRows) else self.rows

    def some(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """x[rows]."""
        return taken(self.x, Tensor(self.device.upload(rows), self.device))

    def first(self, rows: int) -> Batches:
        """The first rows as they lie, in the same memory."""
        part = copy.copy(self)
        part.rows = min(rows, self.rows)
        part.x, part.y, part.weight = (
            None if t is None else t.first(rows) if isinstance(t, SparseRows) else Tensor(t.value[:rows], t.device)
            for t in (self.x, self.y, self.weight)
        )
        return part

    def pieces(self, size: int) -> Iterator[Tensor]:
        """x, `size` rows at a time."""
        size = min(size, self.at_once)
        for start in range(0, self.rows, size):
            yield between(self.x, start, start + size)

    def answers(self) -> tuple[Tensor | None, Tensor | None]:
        """y and weight."""
        return self.y, self.weight


class Group(NamedTuple):
    """Steps whose rows are sent together: those before step `end`, `rows` rows from the epoch's `first` on."""

    end: int
    first: int
    rows: int


class Streamed(Batches):
    """Data that stay in host memory. While one half of the stage on the device is trained on, a thread gathers the next
    rows into pinned memory, from where a stream of its own copies them into the other half.

    x, y, weight are the stage: a step that reads them can be traced once, as for data that are on the device.
    """

    at_once = property(lambda self: self.rows)

    def _hold(self, arrays: Sequence[npt.NDArray[Any] | None]) -> None:
        self._host = list(arrays)
        self._order = np.arange(self.rows)
        self._capacity = 0
        self._thread = ThreadPoolExecutor(1, "gpunet-stream")
        self._groups: list[Group] = []
        self._now = -1  # the group whose rows are in the stage
        self._coming: Future[Any] | None = None

    def shuffle(self, epoch: int) -> None:
        self._order = rng.permutation(self.rows, seed=self.seed, stream=rng.stream("shuffle"), step=epoch)

    def rewind(self) -> None:
        self._order = np.arange(self.rows)

    def begin(self, sizes: Sequence[int], at: int = 0) -> None:
        if self._coming is not None:  # of an epoch that was broken off
            self._coming.result()
        self._stage(max(sizes))
        self._groups, self._ends = _groups(sizes, self._capacity), np.cumsum([0, *sizes])
        self._now = next((i for i, group in enumerate(self._groups) if at < group.end), len(self._groups)) - 1
        self._coming = self._send(self._now + 1) if self._now + 1 < len(self._groups) else None

    def ready(self, at: int) -> int:
        """Where a group begins, its rows are waited for, and those of the next are sent for."""
        if self._now < 0 or at >= self._groups[self._now].end:
            assert self._coming is not None
            self._now += 1
            half, ahead = self._now % 2, int(self._ends[at]) - self._groups[self._now].first
            self._sent[half] = self._coming.result()
            self.device.follow(self._sent[half])
            self.cursor.value[...] = half * self._capacity + ahead
            self._coming = self._send(self._now + 1) if self._now + 1 < len(self._groups) else None
        return self._groups[self._now].end - at

    def _stage(self, largest: int) -> None:
        """Memory for two halves on the device and, pinned, here."""
        row = sum(a[:1].nbytes for a in self._host if a is not None)
        wanted = min(max(largest, STAGE_BYTES // max(row, 1)), self.rows)
        if self._capacity >= largest:
            return
        self._capacity, self._sent = wanted, [None, None]
        self.order = Tensor(self.device.upload(np.arange(2 * wanted)), self.device)
        self.x, self.y, self.weight = (
            None if a is None else Tensor(self.device.empty((2 * wanted, *a.shape[1:]), a.dtype), self.device)
            for a in self._host
        )
        self._pinned = [
            [None if a is None else self.device.pinned((wanted, *a.shape[1:]), a.dtype) for a in self._host] for _ in "01"
        ]

    def _send(self, number: int) -> Future[Any]:
        return self._thread.submit(self._fill, number % 2, self._groups[number], self._order)

    def _fill(self, half: int, group: Group, order: npt.NDArray[np.int64]) -> Any:
        rows, start = order[group.first : group.first + group.rows], half * self._capacity
        self.device.wait(self._sent[half])  # what lies in the pinned memory may still be on its way
        pairs = []
        for host, pinned, stage in zip(self._host, self._pinned[half], (self.x, self.y, self.weight), strict=True):
            if host is not None and pinned is not None and stage is not None:
                np.take(host, rows, axis=0, out=pinned[: len(rows)], mode="clip")  # "raise" would copy once more
                pairs.append((stage.value[start : start + len(rows)], pinned[: len(rows)]))
        return self.device.send(pairs)

    def content(self) -> list[npt.NDArray[Any] | None]:
        return self._host

    def some(self, rows: npt.NDArray[np.int64]) -> Tensor:
        assert self._host[0] is not None
        return Tensor(self.device.upload(self._host[0][rows]), self.device)

    def first(self, rows: int) -> Batches:
        x, y, weight = (None if a is None else a[:rows] for a in self._host)
        return batches(x, y, weight, device=self.device, dtype=self.dtype, seed=self.seed)

    def pieces(self, size: int) -> Iterator[Tensor]:
        x = self._host[0]
        assert x is not None
        for start in range(0, self.rows, size):
            yield Tensor(self.device.upload(x[start : start + size]), self.device)

    def answers(self) -> tuple[Tensor | None, Tensor | None]:
        return self._upload(self._host[1]), self._upload(self._host[2])


def _groups(sizes: Sequence[int], capacity: int) -> list[Group]:
    """As many steps a group as fit into half of the stage."""
    groups: list[Group] = []
    first = rows = 0
    for at, size in enumerate(sizes):
        if rows + size > capacity:
            groups.append(Group(at, first, rows))
            first, rows = first + rows, 0
        rows += size
    return [*groups, Group(len(sizes), first, rows)]


def taken(x: Any, rows: Tensor) -> Tensor:
    """x[rows], of a Tensor or of SparseRows."""
    return x.take(rows) if isinstance(x, SparseRows) else ops.gather(x, rows)


def between(x: Any, begin: int, end: int) -> Tensor:
    """x[begin:end], of a Tensor or of SparseRows."""
    return x.between(begin, end) if isinstance(x, SparseRows) else Tensor(x.value[begin:end], x.device)


def load(array: Any, device: Device, dtype: Any) -> Any:
    """Rows on the device: floats in the model's dtype; bytes (pixels) and int32 as they are, other integers as int64; a
    Csr as SparseRows."""
    rows = as_rows(array, dtype)
    return SparseRows(rows, device, dtype) if isinstance(rows, Csr) else Tensor(device.upload(rows), device)


def as_rows(array: Any, dtype: Any) -> Any:
    """The array, or Csr, that `load` uploads."""
    if isinstance(array, Csr):
        if not len(array):
            raise DataError("no rows to train on or evaluate")
        return array
    if array.__class__ is np.ndarray and array.dtype == dtype and array.flags.c_contiguous and len(array):
        return array  # as an encoder gives them
    host = np.ascontiguousarray(array.numpy() if isinstance(array, Tensor) else array)
    if host.dtype.kind not in "fiub":
        raise DataError(f"numbers wanted, got an array of {host.dtype}. Tables with text go through gpunet.tabular")
    if not len(host):
        raise DataError("no rows to train on or evaluate")
    if host.dtype.kind == "b" or (host.dtype.kind == "f" and host.dtype != dtype):
        host = host.astype(dtype)
    return host if host.dtype.kind == "f" or host.dtype in WHOLE else host.astype(np.int64)
