"""A planned Graph as CUDA graphs: the step's launches are recorded once and replayed, many steps a launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from ..devices import Device
from ..devices.launcher import BEYOND, DONE, GO, INDEX
from ..devices.several import Apart, listed
from ..engine.op import plain_copies
from .program import Call, Program, finite
from .scalars import Scalars, fits
from .trace import Graph

STEPS_A_LAUNCH = 32
STOP = (  # what a row number out of range stops
    "gather", "gather_two", "slice_rows", "pick", "one_hot", "scatter_add", "softmax_cross_entropy", "softmax_cross_entropy_vjp",
    "softmax_cross_entropy_both",
)  # fmt: skip
PRODUCTS = ("matmul", "linear", "linear_keep", "linear_dw", "linear_dz")  # cuBLASLt writes, whatever happened before


class CapturedProgram(Program):
    """CUDA's executor. A step allocates nothing, copies nothing from or to the host and waits for nothing.

    Once a watched value is not finite, or a row number is out of range, the kernels of all later steps do nothing; the
    host reads how many steps were done when they have all been launched.

    Attributes:
        callbacks: what has no kernel for its arrays: Python does it between two graphs, in every step. An ordinary
            net has none, and its whole step is one graph.
    """

    def __init__(self, graph: Graph, device: Device) -> None:
        self.callbacks: list[str] = []
        self._segments: list[list[Callable[[], Any]]] = [[]]
        self._between: list[Callable[[], Any]] = []
        self._graphs: dict[int, list[Any]] = {}  # steps -> a CUDA graph for each segment
        self.cuda = cast(Any, device)
        self._scalars = Scalars()
        self._counting: Scalars | None = None  # the last launch of such, if nothing after it can stop the step
        with self.cuda.turn:
            super().__init__(graph, device)
            self._count_steps()

    # ------------------------------------------------------------------ what is recorded

    def _add(self, call: Call) -> None:
        op = call.node.op
        assert op is not None
        if fits(op.kernel, call.outs, call.ins):
            self._wait(op.kernel, call.outs[0], call.ins)
            return
        kernel = self.cuda.kernels.get(op.kernel)
        work = None if kernel is None or self._unguarded(call) else self._recordable(kernel, call)
        if work is None:
            self._call_back(f"{op.name}{list(call.outs[0].shape)}", self._bound(call))
        else:
            self._record(work, call.outs, call.ins, stops=op.kernel in STOP)

    def _record(self, work: Callable[[], Any], outs: Sequence[Any], ins: Sequence[Any], *, stops: bool) -> None:
        """After the waiting scalars, if it touches them, or writes a state that their watch may have to save."""
        if self._scalars.touched(outs, ins) or (self._scalars.watches and self._writes_state(outs)):
            self._flush()
        self._counting = None if stops else self._counting
        self._segments[-1].append(work)

    def _wait(self, what: str, out: Any, ins: tuple[Any, ...]) -> None:
        if self._scalars.full:
            self._flush()
        self._scalars.add(what, out, ins)

    def _flush(self) -> None:
        if self._scalars.calls:
            self._segments[-1].append(partial(self._scalars.launch, self.cuda))
            self._counting, self._scalars = self._scalars, Scalars()

    def _count_steps(self) -> None:
        """The last thing of a step, or as early as nothing can stop it any more."""
        self._flush()
        if self._counting is None or self._counting.full:
            self._counting = Scalars()
            self._segments[-1].append(partial(self._counting.launch, self.cuda))
        self._counting.count()

    def _writes_state(self, outs: Sequence[Any]) -> bool:
        held = [self.arrays[leaf, 0] for leaf in self.graph.held if (leaf, 0) in self.arrays]
        return any(np.may_share_memory(out, a) for out in outs for a in held)

    def _recordable(self, kernel: Callable[..., Any], call: Call) -> Callable[[], Any] | None:
        """The kernel on these arrays, or on plain copies of views whose layout it declines."""
        op = call.node.op
        work = partial(kernel, *call.outs, *call.ins, **call.node.settings)
        if op is not None and op.kernel in PRODUCTS and self.cuda.products.how.autotune:
            work()  # its algorithm is timed here, for a capture cannot be waited for; what it writes nobody reads
        if self._takes(work):
            return work
        plain = plain_copies(call.ins)
        if plain is None:
            return None
        copies = [(to, a) for to, a in zip(plain, call.ins, strict=True) if to is not a]
        work = partial(kernel, *call.outs, *plain, **call.node.settings)
        moves = [partial(self.cuda.kernels["copy"], to, a) for to, a in copies]
        if not all(map(self._takes, [*moves, work])):
            return None
        return partial(_in_turn, [*moves, work])

    def _takes(self, work: Callable[[], Any]) -> bool:
        """Whether a kernel takes these arrays: it is asked to, in a capture and a list that are thrown away."""
        with self.cuda.capture(), self.cuda.launcher.listing():
            return work() is not NotImplemented

    def _unguarded(self, call: Call) -> bool:
        """A product that would be written straight into a state, even after a failed step."""
        assert call.node.op is not None
        return call.node.op.kernel in PRODUCTS and self._writes_state(call.outs)

    def _call_back(self, label: str, work: Callable[[], Any]) -> None:
        self._flush()
        self._counting = None
        self.callbacks.append(label)
        self._between.append(work)
        self._segments.append([])

    def _watch(self, value: Any) -> None:
        if fits("watch", (value,), ()) and value.dtype.kind == "f":
            self._wait("watch", None, (value,))
        elif value.dtype.kind == "f" and value.flags.c_contiguous:
            self._record(partial(self.cuda.check_finite, value), (), (value,), stops=True)
        else:
            self._call_back("watch", partial(finite, value))

    def _copy(self, to: Any, source: Any) -> None:
        work = partial(self.cuda.kernels["copy"], to, source)
        if fits("copy", (to,), (source,)):
            self._wait("copy", to, (source,))
        elif self._takes(work):
            self._record(work, (to,), (source,), stops=False)
        else:
            self._call_back("copy", partial(np.copyto, to, source))

    # ------------------------------------------------------------------ running it

    def _execute(self, steps: int) -> int:
        with self.cuda.turn:
            return self._run_to_the_end(steps)

    def _run_to_the_end(self, steps: int) -> int:
        launcher = self.cuda.launcher
        before = launcher.read()[DONE] if self._between else launcher.done
        many, rest = (0, steps) if self._between else divmod(steps, STEPS_A_LAUNCH)
        for _ in range(many):
            self._captured(STEPS_A_LAUNCH)[0].launch()
        for _ in range(rest):
            if not self._one_step():
                break
        found = launcher.read()
        if not found[GO] or found[BEYOND]:
            launcher.reset()
        if found[BEYOND]:
            raise beyond(found)
        launcher.done = found[DONE] if found[GO] else 0
        return found[DONE] - before

    def _one_step(self) -> bool:
        graphs = self._captured(1)
        for graph, between in zip(graphs, self._between, strict=False):
            graph.launch()
            control = self.cuda.launcher.read()
            if not control[GO] or control[BEYOND] or between() is False:
                return False
        graphs[-1].launch()
        return True

    def _captured(self, steps: int) -> list[Any]:
        """The graphs of so many steps; there is more than one where Python is called back."""
        if steps not in self._graphs:
            with self.cuda.turn:
                ready = [[_ready(self.cuda, work) for work in segment] for segment in self._segments]
            self._graphs[steps] = [captured(self.cuda, segment, steps) for segment in ready]
        return self._graphs[steps]

    @property
    def works(self) -> list[Callable[[], Any]] | None:
        """What a step launches, in order; None where Python is called back."""
        return None if self._between else self._segments[0]


def _ready(cuda: Any, work: Callable[[], Any]) -> Callable[[], Any]:
    """Its launches, which many steps repeat, without what it takes to find them; itself, if cuBLASLt is called too."""
    try:
        with listed(cuda, cuda.launcher.control) as launches:
            work()
    except Apart:
        return work
    return partial(_in_turn, cuda.launcher.ready(launches))


def captured(cuda: Any, works: Sequence[Callable[[], Any]], steps: int) -> Any:
    """A CUDA graph of so many steps."""
    with cuda.capture() as graph:
        for _ in range(steps):
            _in_turn(works)
    return graph[0]


def beyond(control: Sequence[int]) -> IndexError:
    return IndexError(f"index {control[INDEX]} is out of range (gather, pick, slice_rows or a target)")


def _in_turn(works: Sequence[Callable[[], Any]]) -> None:
    for work in works:
        work()
