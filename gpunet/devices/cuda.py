"""An NVIDIA GPU: arrays, streams and memory are CuPy's, the hot kernels ours, matrix products cuBLASLt's."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError
from . import cublaslt, environment
from .base import Device, Memory
from .cuda_kernels import KERNELS, c_name, lanes
from .launcher import BEYOND, INDEX, Launcher

log = logging.getLogger("gpunet")


class CUDA(Device):
    """GPU number `index`; `cupy` is the array module and `lt` the cuBLASLt library (stand-ins in tests).

    kernels: False leaves ours out, and the ops' xp code does everything.
    """

    kind = "cuda"

    def __init__(self, index: int, cupy: Any, lt: Any = None, *, kernels: bool = True) -> None:
        self.index, self.xp = index, cupy
        self.name = f"cuda:{index}"
        self._device = cupy.cuda.Device(index)
        self.capturing, self.captures = False, kernels
        if kernels:
            with self._device:
                self.workspace = cupy.empty(cublaslt.WORKSPACE, np.uint8)
                self.launcher = Launcher(cupy, self._device)
                self.products = (
                    cublaslt.NoProducts() if lt is None else cublaslt.Products(lt, cupy, self.workspace)
                )
            self.kernels = {name: partial(kernel, self) for name, kernel in KERNELS.items()}

    # ------------------------------------------------------------------ what kernels need

    def scratch(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """Memory until the next kernel: whatever runs goes through one stream, in order."""
        dtype = np.dtype(dtype)
        return self.workspace[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def raise_beyond(self, name: str, length: int) -> None:
        """IndexError if a kernel met a row number out of range; a captured step is looked at when it is done."""
        if self.capturing:
            return
        found = self.launcher.read()
        if found[BEYOND]:
            self.launcher.reset()
            raise IndexError(f"{name}: index {found[INDEX]} is out of range for {length} rows")

    def check_finite(self, x: Any) -> None:
        """Everything after this stops, on the device, unless all of x is finite."""
        self.launcher.flat("reduce", f"check_finite<{c_name(x)}>", lanes(x), x, np.int64(x.size))

    def count_step(self) -> None:
        self.launcher.launch("reduce", "count_step<gpunet::Control>", (1,), (1,))

    @contextmanager
    def capture(self) -> Iterator[Any]:
        """What is asked for inside is recorded and not run: `with cuda.capture() as graph`, then graph[0].launch()."""
        stream = self.xp.cuda.Stream(non_blocking=True)
        graph: list[Any] = []
        with self._device, stream:
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
            raise DeviceError(
                f"{self.name}: out of memory: {nbytes / 2**20:,.1f} MiB wanted, {left / 2**20:,.1f} of "
                f"{total / 2**20:,.1f} MiB free. Use a smaller batch_size or accumulate=, or free other programs' "
                "memory (nvidia-smi lists them)"
            ) from error

    def download(self, array: Any) -> npt.NDArray[Any]:
        return self.xp.asnumpy(array)

    def synchronize(self) -> None:
        self._device.synchronize()

    def memory(self) -> Memory:
        free, total = self._device.mem_info
        return Memory(int(free), int(total))

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
    def description(self) -> str:
        properties = self.xp.cuda.runtime.getDeviceProperties(self.index)
        return f"{self.name} ({properties['name'].decode()}, {self.memory().total / 2**30:.0f} GiB)"


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
