"""A device is an array module, its memory, and the kernels it does better than the ops' own xp code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import rng
from ..errors import ConfigError, DeviceError, did_you_mean

PRECISIONS = ("float32", "tf32", "bf16")
ALIGNMENT = 256  # bytes: whole cache lines and vector registers, on a GPU too


def address(array: Any) -> int:
    """Where the array's first element lies, in its device's memory."""
    at = getattr(array.data, "ptr", None)
    return int(array.__array_interface__["data"][0] if at is None else at)


def overlaps(a: Any, b: Any) -> bool:
    """Whether two arrays of one device share an element; on a GPU, whether their ranges of addresses do."""
    if not np.may_share_memory(a, b):  # by their ranges: soon said, and mostly so
        return False
    return hasattr(a.data, "ptr") or bool(np.shares_memory(a, b))  # CuPy's is wrong for arrays of no dimension


def aligned_zeros(nbytes: int) -> npt.NDArray[np.uint8]:
    """Bytes that begin at a multiple of ALIGNMENT: a vector register's load never straddles two cache lines."""
    memory = np.zeros(nbytes + ALIGNMENT, np.uint8)  # the system's own zeros, which cost nothing until they are used
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes]


def aligned(array: Any) -> Any:
    """A copy that begins at a multiple of ALIGNMENT."""
    if hasattr(array.data, "ptr"):  # a GPU's memory always does
        return array.copy()
    copy = aligned_zeros(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Memory(NamedTuple):
    """Bytes of a device's memory."""

    free: int
    total: int


class Device:
    """The base: NumPy arrays and no kernels. It is the specification that every other device is tested against.

    Attributes:
        name: "cpu", "cuda:0", ...; equal names are the same device.
        xp: the array module, NumPy's names.
        native: the module with compiled kernels, whose `Program` runs whole steps; None where there is none.
        captures: whether what it is asked for can be recorded once and replayed, as a CUDA graph.
        kernels: name of an op -> kernel(*outs, *ins, **settings), which returns NotImplemented where it declines.
        chained: names of the kernels that its kernel `chain` can run one after the other on parts of the arrays.
        precisions: those of PRECISIONS in which it can multiply float32 matrices.
    """

    name = "numpy"
    kind = "cpu"
    xp: Any = np
    native: Any = None
    captures = False
    kernels: Mapping[str, Callable[..., Any]] = {}
    chained: frozenset[str] = frozenset()
    precisions: tuple[str, ...] = PRECISIONS[:1]

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        return np.empty(shape, dtype)

    def upload(self, array: npt.NDArray[Any]) -> Any:
        """A host array as one of this device's (the same memory on the CPU)."""
        return array

    def download(self, array: Any) -> npt.NDArray[Any]:
        """One of this device's arrays in host memory (the same memory on the CPU)."""
        return array

    def check_host(self, what: str) -> None:
        """DeviceError where an array in host memory, which `what` was given, cannot be used as it is."""
        if self.kind != "cpu":
            raise DeviceError(
                f"{what}: a NumPy array (host memory) met a Tensor on {self.name}. "
                f"Use gpunet.tensor(array, device={self.name!r})"
            )

    def synchronize(self) -> None:
        """Wait until everything asked for has been done."""

    def memory(self) -> Memory | None:
        """Free and total memory, where the device can tell."""
        return None

    # ------------------------------------------------------------------ rows that come while it works

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Host memory that `send` can copy from while the device works."""
        return np.empty(shape, dtype)

    def send(self, pairs: Sequence[tuple[Any, npt.NDArray[Any]]]) -> Any:
        """Begin to copy pinned arrays into some of this device's: pairs (to, from). The ticket is for `follow` and `wait`."""
        for to, source in pairs:
            to[...] = self.upload(source)

    def follow(self, ticket: Any) -> None:
        """What the device is asked for from now on comes after what was sent."""

    def wait(self, ticket: Any) -> None:
        """Wait here until what was sent is there."""

    # ------------------------------------------------------------------ how matrices are multiplied

    def check_precision(self, precision: str) -> None:
        """ConfigError unless this device can multiply so."""
        if precision not in PRECISIONS:
            raise ConfigError(f"no precision {precision!r}.{did_you_mean(str(precision), PRECISIONS)}")
        if precision not in self.precisions:
            raise ConfigError(
                f'precision "{precision}": {self.description} multiplies in {", ".join(self.precisions)} only. '
                'Leave it out, or use device="cuda" (an NVIDIA GPU with cuBLASLt)'
            )

    @contextmanager
    def computing(self, *, precision: str = "float32", autotune: bool = False) -> Iterator[None]:
        """Inside, products of float32 matrices are in this precision, by the fastest algorithm if `autotune`."""
        self.check_precision(precision)
        yield

    def choices(self) -> dict[str, Any]:
        """What `autotune` found here, as plain data for a checkpoint; empty where there is nothing to choose."""
        return {}

    def restore(self, choices: Mapping[str, Any]) -> None:
        """Choose again as `choices` says, where it is of an equal device and library."""

    # ------------------------------------------------------------------ what ops ask for

    def kept(self, n: int, rate: float, *, seed: int, stream: int, step: int) -> Any:
        """Which of n elements a dropout keeps: gpunet.rng's, on this device."""
        return rng.kept(n, rate, seed=seed, stream=stream, step=step, xp=self.xp)

    def scatter_add(self, out: Any, rows: Any, g: Any) -> None:
        """out[rows[i]] += g[i]; rows may repeat."""
        np.add.at(out, rows, g)

    @property
    def description(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<device {self.description}>"
