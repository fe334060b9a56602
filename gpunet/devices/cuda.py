"""An NVIDIA GPU: arrays, streams and memory are CuPy's, the hot kernels ours, matrix products cuBLASLt's."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError, OutOfMemoryError
from . import cublaslt, environment
from .base import PRECISIONS, Device, Memory
from .cuda_chains import CHAINED, chain
from .cuda_kernels import KERNELS, c_name, lanes
from .cuda_warps import WARP_KERNELS
from .launcher import BEYOND, INDEX, Launcher
from .several import Apart

log = logging.getLogger("gpunet")

ALIGNMENT = 256  # bytes


class CUDA(Device):
    """GPU number `index`; `cupy` is the array module and `lt` the cuBLASLt library (stand-ins in tests).

    kernels: False leaves ours out, and the ops' xp code does everything.

    Attributes:
        turn: threads take it to launch: a kernel and the program of a step have the scratch memory, `Launcher.control`
            and a capture to themselves.
    """

    kind = "cuda"

    def __init__(self, index: int, cupy: Any, lt: Any = None, *, kernels: bool = True) -> None:
        self.index, self.xp = index, cupy
        self.name = f"cuda:{index}"
        self._device = cupy.cuda.Device(index)
        self.capturing, self.captures = False, kernels
        self.turn = threading.RLock()
        self.part = (0, 1)  # of the scratch memory: which, of how many
        self._copies: Any = None  # the stream of `send`
        self.products: Any = cublaslt.NoProducts()
        if kernels:
            with self._device:
                self.workspace = cupy.empty(cublaslt.WORKSPACE, np.uint8)
                self.launcher = Launcher(cupy, self._device)
                if lt is not None:
                    self.products = cublaslt.Products(lt, cupy, self.workspace, self.gpu)
                    self.precisions = PRECISIONS
            every = {**KERNELS, **WARP_KERNELS, "chain": chain}
            self.kernels = {name: partial(self._alone, kernel) for name, kernel in every.items()}
            self.chained = CHAINED

    # ------------------------------------------------------------------ what kernels need

    def _alone(self, kernel: Callable[..., Any], *arrays: Any, **settings: Any) -> Any:
        with self.turn:
            return kernel(self, *arrays, **settings)

    def scratch(self, shape: tuple[int, ...], dtype: npt.DTypeLike, *, half: int = 0) -> Any:
        """Memory until the next kernel, one half or the other: whatever runs goes through one stream, in order."""
        dtype, (mine, parts), whole = np.dtype(dtype), self.part, self.workspace.nbytes // 2
        size, room = math.prod(shape) * dtype.itemsize, whole // parts // ALIGNMENT * ALIGNMENT
        if size > room and parts > 1:
            raise Apart
        start = half * whole + mine * room
        return self.workspace[start : start + size].view(dtype).reshape(shape)

    def raise_beyond(self, name: str, length: int) -> None:
        """IndexError if a kernel met a row number out of range; a captured step is looked at when it is done."""
        if self.capturing:
            return
        found = self.launcher.read()
        if found[BEYOND]:
            self.launcher.reset()
            raise IndexError(f"{name}: index {found[INDEX]} is out of range for {length} rows")

    @contextmanager
    def computing(self, *, precision: str = "float32", autotune: bool = False) -> Iterator[None]:
        self.check_precision(precision)
        how = self.products.how
        before = how.precision, how.autotune
        how.precision, how.autotune = precision, autotune
        try:
            yield
        finally:
            how.precision, how.autotune = before

    def choices(self) -> dict[str, Any]:
        return self.products.choices()

    def restore(self, choices: Mapping[str, Any]) -> None:
        self.products.restore(choices)

    def check_finite(self, x: Any) -> None:
        """Everything after this stops, on the device, unless all of x is finite."""
        self.launcher.flat("reduce", f"check_finite<{c_name(x)}>", lanes(x), x, np.int64(x.size))

    @contextmanager
    def capture(self) -> Iterator[Any]:
        """What is asked for inside is recorded and not run: `with cuda.capture() as graph`, then graph[0].launch()."""
        stream = self.xp.cuda.Stream(non_blocking=True)
        graph: list[Any] = []
        with self.turn, self._device, stream:
            self.capturing = True
            stream.begin_capture()
            try:
                yield graph
            finally:
                self.capturing = False
                graph.append(stream.end_capture())

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        with self._device, self._memory_for(math.prod(shape) * np.dtype(dtype).itemsize):
            return self.xp.empty(shape, dtype)

    def upload(self, array: npt.NDArray[Any]) -> Any:
        with self._device, self._memory_for(array.nbytes):
            return self.xp.asarray(array)

    @contextmanager
    def _memory_for(self, nbytes: int) -> Iterator[None]:
        try:
            yield
        except MemoryError as error:  # CuPy's is one
            left, total = self.memory()
            raise OutOfMemoryError(
                f"{self.name}: out of memory: {nbytes / 2**20:,.1f} MiB wanted, {left / 2**20:,.1f} of "
                f"{total / 2**20:,.1f} MiB free. Use a smaller batch_size or accumulate=, or free other programs' "
                "memory (nvidia-smi lists them)"
            ) from error

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        size = math.prod(shape)
        memory = self.xp.cuda.alloc_pinned_memory(max(size * np.dtype(dtype).itemsize, 1))
        return np.frombuffer(memory, dtype, size).reshape(shape)

    def send(self, pairs: Sequence[tuple[Any, npt.NDArray[Any]]]) -> Any:
        cuda = self.xp.cuda
        with self._device:
            if self._copies is None:
                self._copies = cuda.Stream(non_blocking=True)
            read, sent = cuda.Event(disable_timing=True), cuda.Event(disable_timing=True)
            read.record()  # whatever still reads what is to be written over
            self._copies.wait_event(read)
            for to, source in pairs:
                to.set(source, stream=self._copies)
            sent.record(self._copies)
        return sent

    def follow(self, ticket: Any) -> None:
        with self._device:
            self.xp.cuda.get_current_stream().wait_event(ticket)

    def wait(self, ticket: Any) -> None:
        if ticket is not None:
            ticket.synchronize()

    def download(self, array: Any) -> npt.NDArray[Any]:
        return self.xp.asnumpy(array)

    def synchronize(self) -> None:
        self._device.synchronize()

    def memory(self) -> Memory:
        """What CuPy keeps for the next array is free, too."""
        with self._device:
            kept = self.xp.get_default_memory_pool().free_bytes()
        free, total = self._device.mem_info
        return Memory(int(free + kept), int(total))

    def scatter_add(self, out: Any, rows: Any, g: Any) -> None:
        """Pass k adds the k-th use of each row: CuPy's own add.at uses atomics, whose order changes the bits."""
        xp = self.xp
        if not rows.size:
            return
        flat, g = rows.reshape(-1), g.reshape(rows.size, *out.shape[1:])
        order = xp.argsort(flat)
        ordered = flat[order]
        use = xp.arange(flat.size) - xp.searchsorted(ordered, ordered)
        for k in range(int(use.max()) + 1):
            once = order[use == k]
            out[flat[once]] += g[once]

    @property
    def gpu(self) -> str:
        """What the card is called."""
        return str(self.xp.cuda.runtime.getDeviceProperties(self.index)["name"].decode())

    @property
    def description(self) -> str:
        return f"{self.name} ({self.gpu}, {self.memory().total / 2**30:.0f} GiB)"


def open_cuda(index: int) -> CUDA:
    """GPU `index`, or a DeviceError that names what is missing and the command that mends it."""
    problem = environment.cuda_problem()
    if problem is not None:
        raise DeviceError(f"device cuda: {problem}")
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if not 0 <= index < count:
        raise DeviceError(f"device cuda:{index}: there {'is' if count == 1 else 'are'} {count}, numbered from 0")
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    lt = cublaslt.load(major)
    if lt is None:
        log.warning(
            "device cuda: no cuBLASLt (libcublasLt.so.%s); products go through CuPy, slower: pip install \"gpunet[cuda%s]\"",
            major, major,
        )  # fmt: skip
    return CUDA(index, cupy, lt)
