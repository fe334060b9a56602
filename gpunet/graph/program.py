"""A planned Graph that can be run: a list of kernel calls over memory that is all there already."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..devices import Device
from ..engine import Edge, Node, Tensor
from ..errors import GraphError
from .plan import Plan, in_place
from .trace import Graph


class Call(NamedTuple):
    """One kernel on fixed memory; views cost none."""

    node: Node
    outs: tuple[Any, ...]
    ins: tuple[Any, ...]


class NotFinite(Exception):
    """A watched value was not finite."""


class Program:
    """The base executor: Python walks the calls. Nothing is allocated while it runs, but by ops without a kernel."""

    def __init__(self, graph: Graph, device: Device) -> None:
        self.graph, self.device = graph, device
        leaves = {node: self._leaf(node) for node in _leaves(graph)}
        self.plan = Plan(graph, leaves)
        self.arena = np.zeros(self.plan.arena_bytes + 256, np.uint8)
        self._start = -self.arena.ctypes.data % 256
        self.arrays: dict[Edge, Any] = {(node, 0): array for node, array in leaves.items()}
        self.calls = [call for node in graph.nodes if (call := self._place(node)) is not None]
        self._runs: list[Callable[[], Any]] = []
        watched = {node for node, _ in graph.watched}
        for call in self.calls:
            self._runs.append(self._bind(call))
            if call.node in watched:
                self._runs += [partial(_check, out) for out in call.outs]
        self._runs += [partial(np.copyto, leaves[leaf], self.arrays[edge]) for leaf, edge in self._staged()]
        self.outs = [self.arrays[edge] for edge in graph.outs]
        self._versions = [v for leaf, _ in graph.stores if (v := graph.held[leaf].version) is not None]

    def _leaf(self, node: Node) -> Any:
        spec, state = node.specs[0], self.graph.held.get(node)
        if state is not None:
            if state.version is None and any(leaf is node for leaf, _ in self.graph.stores):
                state.value = state.value.copy()  # written in place from now on: nobody else may hold this array
            return state.value
        return np.full(spec.shape, node.settings.get("value", 0), spec.dtype)

    def _place(self, node: Node) -> Call | None:
        """Arrays for a node's outputs, over the memory that the plan gave them."""
        assert node.op is not None
        ins = tuple(self.arrays[e] for e in node.inputs if e is not None)
        if node.op.view:
            self.arrays[node, 0] = node.op.forward(self.device, *ins, **node.settings)
            return None
        for i, spec in enumerate(node.specs):
            root, at = self.plan.stores[node, i].root()
            if root.array is not None and not at and root.array.shape == spec.shape:
                self.arrays[node, i] = root.array
            else:
                memory = (
                    self.arena[self._start + root.offset :]
                    if root.array is None
                    else root.array.reshape(-1).view(np.uint8)
                )
                self.arrays[node, i] = np.ndarray(spec.shape, spec.dtype, memory.data, at)
        outs = tuple(self.arrays[node, i] for i in range(len(node.specs)))
        self._assert_apart(node, outs, ins)
        return Call(node, outs, ins)

    def _assert_apart(self, node: Node, outs: tuple[Any, ...], ins: tuple[Any, ...]) -> None:
        """No call writes over what it reads, unless it promised that it may and addresses and strides are equal."""
        for edge, a in zip(node.inputs, ins, strict=True):
            for i, out in enumerate(outs):
                if not np.shares_memory(a, out) or not a.size:
                    continue
                same = a.__array_interface__["data"] == out.__array_interface__["data"] and a.strides == out.strides
                if not (same and (node.op is ops.pack or in_place(node, i, edge))) and not (
                    node.op is ops.pack and _inside(a, out)
                ):
                    raise GraphError(
                        f"plan: {node} would write over what it reads (output {i}); this is a bug in gpunet, please report it"
                    )

    def _bind(self, call: Call) -> Callable[[], Any]:
        op = call.node.op
        assert op is not None
        return partial(op.runner(self.device), *call.outs, *call.ins, **call.node.settings)

    def _staged(self) -> list[tuple[Node, Edge]]:
        """States' new values that are other states' old ones (a swap) are copied aside first."""
        late, staged = self.plan.late, []
        for leaf, edge in late:
            source = self.arrays[edge]
            if any(other is not leaf and np.may_share_memory(source, self.plan.leaves[other]) for other, _ in late):
                aside = np.empty_like(source)
                self._runs.append(partial(np.copyto, aside, source))
                key = (Node(specs=edge[0].specs), edge[1])
                self.arrays[key] = aside
                staged.append((leaf, key))
            else:
                staged.append((leaf, edge))
        return staged

    def adopt(self) -> None:
        """A state that somebody gave another array meanwhile: its content moves in, for its memory is the program's."""
        for node, state in self.graph.held.items():
            mine = self.plan.leaves[node]
            if state.value is not mine:
                np.copyto(mine, state.value)
                state.value = mine

    def __call__(self, *args: Tensor) -> tuple[Tensor, ...]:
        for node, given in zip(self.graph.args, args, strict=True):
            np.copyto(self.plan.leaves[node], given.value)
        self.run(1)
        return tuple(Tensor(out.copy(), self.device) for out in self.outs)

    def run(self, steps: int) -> int:
        """Run the whole program `steps` times; fewer are done if a watched value was not finite in the next."""
        self.adopt()
        done = 0
        try:
            while done < steps:
                for run in self._runs:
                    run()
                done += 1
        except NotFinite:
            steps = done
        for version in self._versions:
            version.count += done
        return done

    def __str__(self) -> str:
        return f"{len(self.calls)} calls, arena {self.plan.arena_bytes:,} bytes (at least {self.plan.bound:,} alive at once)\n{self.graph}"


def _check(value: Any) -> None:
    if not np.isfinite(value).all():
        raise NotFinite


def _leaves(graph: Graph) -> list[Node]:
    found = dict.fromkeys(graph.args)
    found.update(dict.fromkeys(e[0] for n in graph.nodes for e in n.inputs if e is not None and e[0].op is None))
    found.update(dict.fromkeys(leaf for leaf, _ in graph.stores))
    found.update(dict.fromkeys(e[0] for e in graph.ends() if e[0].op is None))
    return list(found)


def _inside(piece: Any, whole: Any) -> bool:
    start, at = whole.__array_interface__["data"][0], piece.__array_interface__["data"][0]
    return start <= at and at + piece.nbytes <= start + whole.nbytes
