"""A planned Graph as a list of the C++ kernels' calls, run for many steps in one call of gpunet._cpu.Program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..devices import Device
from ..engine.op import plain_copies
from .program import Call, NotFinite, Program, check_finite
from .trace import Graph


class NativeProgram(Program):
    """The CPU's executor: kernels are recorded once, what has none is called back in Python.

    Attributes:
        labels: what each instruction is: the name of its op and the shape of its output.
        callbacks: those that have no kernel for their arrays; a step of an ordinary net has none.
    """

    def __init__(self, graph: Graph, device: Device) -> None:
        self.native = device.native.Program()
        self.labels: list[str] = []
        self.callbacks: list[str] = []
        super().__init__(graph, device)

    def profile(self, steps: int) -> list[tuple[str, float]]:
        """Run so many steps; each instruction and its mean seconds."""
        self.adopt()
        return list(zip(self.labels, self.native.profile(steps), strict=True))

    def _add(self, call: Call) -> None:
        op = call.node.op
        assert op is not None
        label, kernel = f"{op.name}{list(call.outs[0].shape)}", self.device.kernels.get(op.kernel)
        recorded = kernel is not None and (
            self.native.record(kernel, call.outs, call.ins, call.node.settings) or self._record_plain(kernel, call)
        )
        self._note(label, recorded, self._bound(call))

    def _record_plain(self, kernel: Callable[..., Any], call: Call) -> bool:
        """As an op does when it runs by itself: a kernel that declines the layout of views gets copies of them."""
        plain = plain_copies(call.ins)
        trial = self.device.native.Program()
        if plain is None or not trial.record(kernel, call.outs, tuple(plain), call.node.settings):
            return False
        for copy, source in zip(plain, call.ins, strict=True):
            if copy is not source:
                self._copy(copy, source)
        return self.native.record(kernel, call.outs, tuple(plain), call.node.settings)

    def _watch(self, value: Any) -> None:
        self._note("watch", self.native.watch(value), partial(check_finite, value))

    def _copy(self, to: Any, source: Any) -> None:
        recorded = self.native.record(self.device.kernels["copy"], (to,), (source,), {})
        self._note("copy", recorded, partial(np.copyto, to, source))

    def _note(self, label: str, recorded: bool, otherwise: Callable[[], Any]) -> None:
        """Name what was recorded (pack: the pieces that move), or have Python called."""
        if not recorded:
            self.native.call(otherwise)
            self.callbacks.append(label)
        self.labels += [label] * (len(self.native) - len(self.labels))

    def _execute(self, steps: int) -> int:
        try:
            return self.native.run(steps)
        except NotFinite:  # called back
            return self.native.done
