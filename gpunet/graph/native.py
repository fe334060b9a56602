"""A planned Graph as a list of the C++ kernels' calls, run for many steps in one call of gpunet._cpu.Program."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Tensor
from ..engine.op import plain_copies
from .program import Call, Meeting, Program, as_found, finite
from .trace import STATES, Graph


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
        for i, out in enumerate(self.outs):
            if not out.flags.c_contiguous:
                self.outs[i] = np.empty(out.shape, out.dtype)
                self._copy(self.outs[i], out)
        self.native.ports([self.plan.leaves[node] for node in graph.args], self.outs)
        self._facts = self._found()

    def _found(self) -> tuple[tuple[Any, str, Any], ...]:
        """What the guards and the states' memory rest on, as attributes that stay the same object while nothing changes."""
        states = [(state, name) for state in self.graph.held.values() for name in ("value", "node", "version")]
        others = [(thing, name) for thing, name, _ in self.graph.guards.values() if not isinstance(thing, Tensor)]
        return tuple((thing, name, getattr(thing, name)) for thing, name in [*states, *others])

    def holds(self) -> bool:
        return self.native.unchanged(self._facts) or super().holds()

    def adopt(self) -> None:
        with STATES:
            if not self.native.unchanged(self._facts):
                super().adopt()
                self._facts = self._found()

    def at_once(self, args: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
        return self._step(args, self._facts)

    def __call__(self, *args: Tensor) -> tuple[Tensor, ...]:
        self.adopt()
        values = tuple(a.value for a in args)
        made = self._step(values, ())
        if made is None:  # an array with gaps, or of another byte order
            plain = tuple(np.empty_like(self.plan.leaves[node]) for node in self.graph.args)
            for to, value in zip(plain, values, strict=True):
                np.copyto(to, value)
            made = self._step(plain, ())
        assert made is not None
        return made

    def _step(self, args: tuple[Any, ...], facts: tuple[tuple[Any, str, Any], ...]) -> tuple[Tensor, ...] | None:
        try:
            made = self.native.step(args, facts)
        except BaseException as error:
            self.count(1)
            raise as_found(error) from None
        if made is None:
            return None
        if self._versions:
            self.count(made[0])
        if len(made) == 2:  # most often; a comprehension takes as long as a small net's layer
            return (Tensor(made[1], self.device),)
        return tuple([Tensor(out, self.device) for out in made[1:]])

    def profile(self, steps: int) -> list[tuple[str, float]]:
        """Run so many steps; each instruction and its mean seconds."""
        self.adopt()
        return list(zip(self.labels, self.native.profile(steps), strict=True))

    def _meeting(self, outs: tuple[Any, ...], ins: tuple[Any, ...]) -> list[Meeting]:
        found: list[Meeting] = self.native.meeting(outs, ins)
        return found

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
        self._note("watch", self.native.watch(value), partial(finite, value))

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
        return self.native.run(steps)
