"""What a compiled program does, call by call: where each reads and writes, and how long its kernel takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..devices import address
from ..graph.program import Call, Program

REPEATS = 5


@dataclass
class Step:
    """One call: the op, the places (offset+length in the arena, or memory that is there already), microseconds."""

    op: str
    writes: list[str]
    reads: list[str]
    shape: str
    microseconds: float


@dataclass
class Steps:
    """`print` it. Times are of each kernel alone, on copies of the same memory: the best of a few runs."""

    calls: list[Step]
    arena: int

    @classmethod
    def of(cls, program: Program) -> Steps:
        start = address(program.arena)

        def place(a: Any) -> str:
            at = address(a) - start
            return f"{at:,}+{a.nbytes:,}" if 0 <= at < program.arena.nbytes else f"held+{a.nbytes:,}"

        calls = [
            Step(
                call.node.op.name if call.node.op else "", [place(a) for a in call.outs], [place(a) for a in call.ins],
                " ".join("×".join(map(str, s.shape)) or "number" for s in call.node.specs), _microseconds(program, call),
            )
            for call in program.calls
        ]  # fmt: skip
        return cls(calls, program.plan.arena_bytes)

    def __str__(self) -> str:
        rows = [("op", "shape", "µs", "writes", "reads")]
        rows += [(s.op, s.shape, f"{s.microseconds:.1f}", " ".join(s.writes), " ".join(s.reads)) for s in self.calls]
        wide = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join([*(f"{c:{w}}" for c, w in zip(row, wide, strict=False)), row[-1]]) for row in rows]
        total = sum(s.microseconds for s in self.calls)
        return "\n".join([*lines, f"{len(self.calls)} calls, {total:.1f} µs, arena {self.arena:,} bytes"])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        return {"calls": [vars(step) for step in self.calls], "arena": self.arena}


def _microseconds(program: Program, call: Call) -> float:
    """The kernel on copies, so that no state of the user's changes."""
    assert call.node.op is not None
    outs, ins = [np.copy(a) for a in call.outs], [np.copy(a) for a in call.ins]
    if program.device.kind != "cpu":
        outs, ins = [a.copy() for a in call.outs], [a.copy() for a in call.ins]
    run, best = call.node.op.runner(program.device), float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        run(*outs, *ins, **call.node.settings)
        program.device.synchronize()
        best = min(best, time.perf_counter() - began)
    return best * 1e6
