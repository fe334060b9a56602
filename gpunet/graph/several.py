"""Several captured programs run as one: a launch does the same kernel's work for each of several nets.

A small net's step takes as long as its launches. Nets that are built alike launch the same kernels in the same order, on
arrays of their own: nothing in their graphs or memory has to change for one launch to serve all of them (csrc/several.h),
and the bits are those of each net alone. What a net needs for itself, such as a product by cuBLASLt, is launched for one
after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..devices.launcher import BEYOND, DONE
from ..devices.several import Apart, alike, listed
from .captured import STEPS_A_LAUNCH, CapturedProgram, beyond, captured
from .program import Program, as_found


def kind(program: Program) -> Any:
    """Programs of one kind, which has nothing to do with sizes, can be run as one; None is of no kind."""
    if not isinstance(program, CapturedProgram) or program.works is None:
        return None
    return program.device.name, len(program.works), tuple(node.op for node in program.graph.nodes)


class Several:
    """Programs of one `kind`, each with a Control of its own: one that stops does not stop the others."""

    def __init__(self, programs: Sequence[CapturedProgram]) -> None:
        self.programs, self.cuda = programs, programs[0].cuda
        self._start = self.cuda.upload(np.tile(np.array([1, 0, 0, 0], np.int64), (len(programs), 1)))
        self._controls = self.cuda.upload(np.zeros((len(programs), 4), np.int64))
        every = zip(*(program.works or () for program in programs), strict=True)
        with self.cuda.turn:
            self._works = [launch for works in every for launch in self._joined(works)]
        self._graphs: dict[int, Any] = {}

    def run(self, steps: int) -> list[int | BaseException]:
        """So many steps of each; what its own `run` would have returned or raised."""
        for program in self.programs:
            program.adopt()
        done = [steps] * len(self.programs)  # as far as anybody knows
        try:
            with self.cuda.turn:
                found = self._run_to_the_end(steps)
            done = [steps if control[BEYOND] else control[DONE] for control in found]
        finally:
            for program, count in zip(self.programs, done, strict=True):
                program.count(count)
        return [as_found(beyond(control)) if control[BEYOND] else control[DONE] for control in found]

    def _run_to_the_end(self, steps: int) -> list[list[int]]:
        """What then stands in the Controls."""
        self._controls[...] = self._start
        many, rest = divmod(steps, STEPS_A_LAUNCH)
        for length in [STEPS_A_LAUNCH] * many + [1] * rest:
            if length not in self._graphs:
                self._graphs[length] = captured(self.cuda, self._works, length)
            self._graphs[length].launch()
        found: list[list[int]] = self.cuda.download(self._controls).tolist()
        return found

    def _joined(self, works: Sequence[Callable[[], Any]]) -> Sequence[Callable[[], Any]]:
        """The launches of one call, for all programs."""
        try:
            lists = [self._listed(work, i) for i, work in enumerate(works)]
        except Apart:
            return [partial(self._apart, works)]
        rows = list(zip(*lists, strict=False))
        if any(len(launches) != len(rows) for launches in lists) or not all(map(alike, rows)):
            return [partial(self._apart, works)]
        return [launch for row in rows for launch in self.cuda.launcher.joined(row)]

    def _listed(self, work: Callable[[], Any], i: int) -> list[Any]:
        with listed(self.cuda, self._controls[i], (i, len(self.programs))) as launches:
            work()
        return launches

    def _apart(self, works: Sequence[Callable[[], Any]]) -> None:
        for i, work in enumerate(works):
            with self.cuda.launcher.using(self._controls[i]):
                work()
