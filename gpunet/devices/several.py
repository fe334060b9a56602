"""One launch for several nets: what each net's kernels are given, listed, and written down as csrc/several.h reads it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

SOURCE, KERNEL = "#define GPUNET_SEVERAL\n", "several"
MOST_THREADS, MOST_BLOCKS = 256, 2**31 - 1  # of a block, of the launch
TABLE_BYTES, MOST_LAUNCHES = 4096, 8  # of a launch's arguments; in one


class Apart(Exception):
    """A net needs this for itself: cuBLASLt, or much of the scratch memory."""


class Launch(NamedTuple):
    """A kernel of csrc/SOURCE.cu, and what it is to be given."""

    source: str
    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    args: tuple[Any, ...]


class _Unavailable:
    """Products that are not to be had, but can be asked how they would be made."""

    def __init__(self, products: Any) -> None:
        self._products = products

    def __getattr__(self, name: str) -> Any:
        return getattr(self._products, name)

    def matmul(self, *arrays: Any, **extra: Any) -> bool:
        raise Apart


@contextmanager
def listed(cuda: Any, control: Any, part: tuple[int, int] = (0, 1)) -> Iterator[list[Launch]]:
    """Kernels asked for inside are not run but listed; they are to use this Control and, with part (k, n), the k-th of n
    equal parts of the scratch memory. The caller has cuda.turn.

    Raises:
        Apart: something else than kernels is needed, or more memory.
    """
    launcher, before = cuda.launcher, (cuda.products, cuda.capturing, cuda.part)
    cuda.products, cuda.capturing, cuda.part = _Unavailable(cuda.products), True, part
    try:
        with launcher.using(control), launcher.listing() as launches:
            yield launches
    finally:
        cuda.products, cuda.capturing, cuda.part = before


def alike(launches: Sequence[Launch]) -> bool:
    """Whether one launch can do for all of these."""
    first = launches[0]
    same = all((a.source, a.name, a.block) == (first.source, first.name, first.block) for a in launches)
    return same and math.prod(first.block) <= MOST_THREADS and sum(map(_blocks, launches)) <= MOST_BLOCKS


def tables(launches: Sequence[Launch]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """For each launch that there is to be: its blocks, and its one argument, a struct as NumPy has them."""
    count = len(launches[0].args)
    most = min(MOST_LAUNCHES, TABLE_BYTES // (16 + 8 * count))
    kind = [("first", np.uint32, most), ("grid", np.uint32, (most, 3)), ("given", np.uint64, (most, count))]
    for at in range(0, len(launches), most):
        table, blocks = np.zeros((), kind), 0
        table["first"] = MOST_BLOCKS
        for i, launch in enumerate(launches[at : at + most]):
            table["first"][i], table["grid"][i] = blocks, (*launch.grid, 1, 1)[:3]
            table["given"][i] = list(map(_argument, launch.args))
            blocks += _blocks(launch)
        yield blocks, table


def _blocks(launch: Launch) -> int:
    return math.prod(launch.grid)


def _argument(given: Any) -> int:
    """8 bytes: an address, or a number in the first of them."""
    return int.from_bytes(given.tobytes(), "little") if isinstance(given, np.generic) else int(given.data.ptr)
