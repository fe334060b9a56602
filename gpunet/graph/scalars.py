"""Calls on single numbers, collected so that one launch of csrc/scalars.cu does up to eight of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

WHAT = {
    "add": 0, "sub": 1, "mul": 2, "div": 3, "maximum": 4, "minimum": 5, "cast": 6, "copy": 6, "watch": 7, "count": 8,
}  # fmt: skip
TYPES = {"float32": 0, "float64": 1, "int64": 2}
MOST = 8


class ScalarCall(NamedTuple):
    what: str
    out: Any
    ins: tuple[Any, ...]
    level: int  # after those of a lower one


class Scalars:
    """Those that wait for their launch. Whoever comes between asks `touched` first."""

    def __init__(self) -> None:
        self.calls: list[ScalarCall] = []

    @property
    def full(self) -> bool:
        return len(self.calls) == MOST

    @property
    def watches(self) -> bool:
        return any(call.what == "watch" for call in self.calls)

    def touched(self, outs: Sequence[Any], ins: Sequence[Any]) -> bool:
        """Whether a call with these arrays must come after those that wait."""
        return any(_depends(outs, ins, call) for call in self.calls)

    def add(self, what: str, out: Any, ins: tuple[Any, ...]) -> None:
        outs = () if out is None else (out,)
        before = [call for call in self.calls if call.what == "watch" or _depends(outs, ins, call)]
        self.calls.append(ScalarCall(what, out, ins, max((call.level + 1 for call in before), default=0)))

    def count(self) -> None:
        """A step is done, unless one of these stops it."""
        self.add("count", None, ())

    def launch(self, cuda: Any) -> None:
        control = cuda.launcher.control
        args: list[Any] = []
        for call in self.calls:
            x, y = (*call.ins, *call.ins[-1:], control, control)[:2]
            out = control if call.out is None else call.out
            types = 16 * TYPES[x.dtype.name] + 64 * TYPES[out.dtype.name]
            args += [np.int32(WHAT[call.what] + types + 256 * call.level), out, x, y]
        for _ in range(MOST - len(self.calls)):
            args += [np.int32(-1), control, control, control]
        levels = np.int32(1 + max(call.level for call in self.calls))
        cuda.launcher.launch("scalars", "scalars<gpunet::Control>", (1,), (32,), *args, levels)


def fits(what: str, outs: Sequence[Any], ins: Sequence[Any]) -> bool:
    """Whether this call is one of them."""
    arrays = [*outs, *ins]
    if what not in WHAT or len(outs) != 1 or any(a.size != 1 or a.dtype.name not in TYPES for a in arrays):
        return False
    kinds = {a.dtype.name for a in (ins if what == "cast" else arrays)}
    return len(kinds) == 1 and (what != "div" or kinds != {"int64"})


def _depends(outs: Sequence[Any], ins: Sequence[Any], call: ScalarCall) -> bool:
    written = () if call.out is None else (call.out,)
    return _share(written, [*outs, *ins]) or _share(call.ins, outs)


def _share(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return any(np.may_share_memory(a, b) for a in some for b in others)
