"""gpunet.compile: a function of Tensors, run as one program for each set of shapes."""

from __future__ import annotations

import functools
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..devices import Device, select
from ..engine import DEFAULT_DTYPE, Tensor, mode, set_mode
from ..errors import ConfigError, DeviceError, DTypeError, GraphError, TraceError, did_you_mean
from .captured import CapturedProgram
from .chains import chains
from .fuse import fuse
from .layers import join_layers
from .native import NativeProgram
from .pairs import join_pairs
from .program import Program
from .rows import read_rows
from .simplify import simplify
from .trace import STATES, Graph, trace

log = logging.getLogger("gpunet")

EXECUTORS = ("auto", "native", "python")
KEPT = 8  # programs for the same shapes: training and evaluation, say


@contextmanager
def no_collection() -> Iterator[None]:
    """No search for garbage meanwhile, set off by a program's thousands of objects; then they count as old ones at once."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            if not gc.get_freeze_count():  # else somebody else's would be let go
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def build(fn: Callable[..., Any], args: tuple[Tensor, ...]) -> Graph:
    """The passes up to the plan: trace (each grad fuses the forward first), fuse, simplify, rows, pairs, layers, chains."""
    with set_mode(record=True):
        graph = trace(fn, args, on_grad=fuse)
    return chains(join_layers(join_pairs(read_rows(simplify(fuse(graph))))))


class Compiled:
    """`compile(fn)`: call it as fn. `graph(*args)` and `program(*args)` show what runs.

    Threads may call it at the same time: they take turns, a whole call each.

    executor: "native" (C++ runs the calls), "python", or "auto": native where the device has it.
    """

    def __init__(
        self, fn: Callable[..., Any], *, dtype: npt.DTypeLike | None = None, executor: str = "auto"
    ) -> None:
        if executor not in EXECUTORS:
            raise ConfigError(f"compile: no executor {executor!r}.{did_you_mean(executor, EXECUTORS)}")
        self.fn, self.executor = fn, executor
        self.programs: dict[Any, list[Program]] = {}
        self.eagerly = ""  # why it cannot be traced, once that is known
        self._dtype = dtype
        self._turn = threading.RLock()  # its programs share their states
        self._latest: Program | None = None  # tried first, for arguments as they come
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, *args: Any) -> Any:
        if mode.trace is not None:
            return self.fn(*args)
        with self._turn:
            latest = self._latest
            made = None if latest is None else latest.at_once(args)
            if made is None:
                args = tuple([a if isinstance(a, Tensor) else self._admit(a) for a in args])
                made = None if latest is None else latest.at_once(args)  # as float64 arrays may be run, once they are cast
            if made is None:
                made = self._looked_up(args)
        if made is None:
            return self.fn(*args)
        return made[0] if len(made) == 1 else made or None

    def _looked_up(self, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if mode.record and any(a.tracked for a in args):
            raise GraphError(
                "a compiled function got an argument that requires a gradient, which would be lost. "
                "Take the gradient inside it (gpunet.grad), or pass x.detach()"
            )
        program = self._program_or_reason(args)
        if program is None:
            return None
        self._latest = program if all(a.dtype.kind != "f" or a.dtype == self.dtype for a in args) else None
        return program(*args)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of floats that come as arrays: what `compile` was told, or a module's own, or float32."""
        return np.dtype(self._dtype or getattr(self.fn, "dtype", DEFAULT_DTYPE))

    def _admit(self, given: Any) -> Tensor:
        """An argument that is no Tensor: floats become `dtype`, integers and booleans stay as they are."""
        array = np.asarray(given)
        if array.dtype.kind not in "fiub":
            raise DTypeError(f"a compiled function takes Tensors and arrays of numbers, got {type(given).__name__} of {array.dtype}")
        device = getattr(self.fn, "device", None) or select.device("cpu")
        if array.ndim:
            device.check_host(getattr(self.fn, "__name__", type(self.fn).__name__))
        return Tensor(device.upload(array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array), device)

    def run(self, steps: int, by: Callable[[Program, int], int] = Program.run) -> int:
        """Call a function without arguments `steps` times; how many were done before a watched value was not finite.

        by: what runs the program.
        """
        with self._turn:
            program = self._program_or_reason(())
            if program is not None:
                return by(program, steps)
        for _ in range(steps):
            self.fn()
        return steps

    def _program_or_reason(self, args: tuple[Tensor, ...]) -> Program | None:
        if self.eagerly:
            return None
        try:
            return self.program(*args)
        except TraceError as error:
            self.eagerly = str(error)
            log.warning("%s runs eagerly: %s", getattr(self.fn, "__name__", "the function"), error)
            return None

    def program(self, *args: Tensor) -> Program:
        """The program for arguments of these shapes, made if it is not there yet."""
        with self._turn, STATES:
            shapes = tuple([(a.value.shape, a.value.dtype, a.device.name) for a in args])
            found = self.programs.setdefault(shapes, [])
            for program in found:
                if program.holds():
                    return program
            with no_collection():
                graph = build(self.fn, args)
                device = args[0].device if args else next(t.device for t in graph.held.values())
                found.append(self._executor(device)(graph, device))
            del found[:-KEPT]
            return found[-1]

    def _executor(self, device: Device) -> type[Program]:
        has_native = device.native is not None
        if self.executor == "native" and not has_native:
            raise DeviceError(f'compile: executor="native" wants C++ kernels; {device.description} has none')
        if self.executor == "python":
            return Program
        return NativeProgram if has_native else CapturedProgram if device.captures else Program

    def graph(self, *args: Tensor) -> Graph:
        return self.program(*args).graph


def compile(fn: Callable[..., Any], *, dtype: npt.DTypeLike | None = None, executor: str = "auto") -> Compiled:
    """fn, a module or a function of Tensors that returns Tensors, as a program: traced once for each set of shapes, then run.

    It takes NumPy arrays and numbers too: floats are cast to `dtype` (by default the module's, for a function float32),
    integers stay as they are. The results are Tensors that are nobody else's.

    States change by `assign`, gradients are taken inside by `gpunet.grad`. A function that asks for a Tensor's value
    (bool(), float(), ...) runs eagerly, and one line of the log names the reason; what it did in Python before it
    asked is then done twice.
    """
    return Compiled(fn, dtype=dtype, executor=executor)
