"""An NVIDIA GPU through CuPy: its arrays, streams and memory; the ops' xp code runs on it as it is."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..errors import DeviceError
from . import environment
from .base import Device, Memory


class CUDA(Device):
    """GPU number `index`; `cupy` is the array module (a stand-in in tests)."""

    kind = "cuda"

    def __init__(self, index: int, cupy: Any) -> None:
        self.index, self.xp = index, cupy
        self.name = f"cuda:{index}"
        self._device = cupy.cuda.Device(index)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        with self._device:
            return self.xp.empty(shape, dtype)

    def upload(self, array: npt.NDArray[Any]) -> Any:
        with self._device:
            return self.xp.asarray(array)

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
    return CUDA(index, cupy)
