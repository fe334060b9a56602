"""gpunet.compile: a function of Tensors, run as one program for each set of shapes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from ..devices import Device
from ..engine import Tensor, mode, set_mode
from ..errors import ConfigError, DeviceError, GraphError, TraceError, did_you_mean
from .chains import chains
from .fuse import fuse
from .native import NativeProgram
from .program import Program
from .simplify import simplify
from .trace import Graph, trace

log = logging.getLogger("gpunet")

EXECUTORS = ("auto", "native", "python")


def build(fn: Callable[..., Any], args: tuple[Tensor, ...]) -> Graph:
    """The passes up to the plan: trace (each grad fuses the forward first), fuse, simplify, chains."""
    with set_mode(record=True):
        graph = trace(fn, args, on_grad=fuse)
    return chains(simplify(fuse(graph)))


class Compiled:
    """`compile(fn)`: call it as fn. `graph(*args)` and `program(*args)` show what runs.

    executor: "native" (C++ runs the calls), "python", or "auto": native where the device has it.
    """

    def __init__(self, fn: Callable[..., Any], *, executor: str = "auto") -> None:
        if executor not in EXECUTORS:
            raise ConfigError(f"compile: no executor {executor!r}.{did_you_mean(executor, EXECUTORS)}")
        self.fn, self.executor = fn, executor
        self.programs: dict[Any, list[Program]] = {}
        self.eagerly = ""  # why it cannot be traced, once that is known
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Tensor) -> Any:
        if mode.trace is not None:
            return self.fn(*args)
        if mode.record and any(a.tracked for a in args):
            raise GraphError(
                "a compiled function got an argument that requires a gradient, which would be lost. "
                "Take the gradient inside it (gpunet.grad), or pass x.detach()"
            )
        program = self._program_or_reason(args)
        if program is None:
            return self.fn(*args)
        made = program(*args)
        return None if not made else made[0] if len(made) == 1 else made

    def run(self, steps: int) -> int:
        """Call a function without arguments `steps` times; how many were done before a watched value was not finite."""
        program = self._program_or_reason(())
        if program is not None:
            return program.run(steps)
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
        found = self.programs.setdefault(tuple([(a.value.shape, a.value.dtype) for a in args]), [])  # as Specs
        for program in found:
            if program.graph.guarded():
                return program
        graph = build(self.fn, args)
        device = args[0].device if args else next(t.device for t in graph.held.values())
        found.append(self._executor(device)(graph, device))
        return found[-1]

    def _executor(self, device: Device) -> type[Program]:
        has_native = device.native is not None
        if self.executor == "native" and not has_native:
            raise DeviceError(f'compile: executor="native" wants C++ kernels; {device.description} has none')
        return NativeProgram if has_native and self.executor != "python" else Program

    def graph(self, *args: Tensor) -> Graph:
        return self.program(*args).graph


def compile(fn: Callable[..., Any], *, executor: str = "auto") -> Compiled:
    """fn, a function of Tensors that returns Tensors, as a program: traced once for each set of shapes, then run.

    States change by `assign`, gradients are taken inside by `gpunet.grad`. A function that asks for a Tensor's value
    (bool(), float(), ...) runs eagerly, and one line of the log names the reason; what it did in Python before it
    asked is then done twice.
    """
    return Compiled(fn, executor=executor)
