"""The CPU: NumPy, and the C++ kernels of gpunet._cpu where they were built."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ConfigError, DeviceError
from . import environment
from .base import Device, Memory

try:
    from .. import _cpu as _native
except ImportError:  # no compiler at installation: the ops' xp code serves; gpunet.env() says so
    _native = None  # type: ignore[assignment]

KERNELS = (
    "add", "sub", "mul", "div", "maximum", "minimum", "neg", "abs", "sign", "square", "sqrt", "exp", "log", "sin", "cos",
    "clip", "mod", "pow", "argmax", "eq", "ne", "lt", "le", "gt", "ge", "where", "cast", "sum", "mean", "max", "min",
    "activation", "activation_vjp", "linear", "linear_keep", "linear_dw", "linear_dz", "layers", "matmul",
    "linear_rows", "linear_keep_rows", "linear_dw_rows",
    "softmax", "log_softmax", "softmax_cross_entropy", "softmax_cross_entropy_vjp", "softmax_cross_entropy_both",
    "column_nets", "column_nets_vjp",
    "layer_norm", "layer_norm_dx", "layer_norm_dw", "batch_norm", "batch_norm_vjp",
    "erf", "dropout", "dropout_keep", "gather", "gather_two", "scatter_add", "slice_rows", "pick", "one_hot",
    "copy", "pack", "concat", "chain",
    "sgd", "adagrad", "rmsprop", "adam", "nadam", "lion",
)  # fmt: skip


class CPU(Device):
    """Host memory; `native=False` leaves the C++ kernels out."""

    name = "cpu"

    def __init__(self, *, native: bool = True) -> None:
        self.native = _native if native else None
        self.kernels: dict[str, Any] = {name: getattr(_native, name) for name in KERNELS} if self.native else {}
        self.chained = frozenset(self.native.chained()) if self.native else frozenset()

    def memory(self) -> Memory | None:
        try:
            page = os.sysconf("SC_PAGE_SIZE")
            return Memory(os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page)
        except (ValueError, OSError, AttributeError):  # not every system tells
            return None

    @property
    def description(self) -> str:
        if self.native is None:
            return "cpu (NumPy only: the C++ kernels are not built, see gpunet.env())"
        threads = self.native.threads()
        return f"cpu ({self.native.isa()}, {threads} thread{'s' * (threads != 1)})"


def open_cpu() -> CPU:
    """The CPU as the environment asks for it (GPUNET_ISA, GPUNET_THREADS, GPUNET_REQUIRE_NATIVE)."""
    wanted = environment.settings()
    if _native is None:
        if wanted.require_native:
            problem = environment.native_problem()
            raise DeviceError(f"GPUNET_REQUIRE_NATIVE is set, but the C++ kernels are {problem or 'missing'}")
        return CPU()
    if wanted.isa:
        try:
            _native.set_isa(wanted.isa)
        except ValueError as error:
            raise ConfigError(f"GPUNET_ISA: {error}") from None
    _native.set_threads(wanted.threads)
    return CPU()
