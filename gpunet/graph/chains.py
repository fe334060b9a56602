"""Graph -> Graph: neighbouring elementwise nodes become one, which a device runs tile by tile, or in registers: a chain."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..devices import Device
from ..engine import Edge, Node, Op, Spec
from ..ops.rules import BOOL
from .simplify import is_constant, keep_read
from .trace import Graph

MOST_INPUTS, MOST_STEPS = 16, 32  # that the CPU's kernel has room for (csrc/kernels.h)
SMALLEST = 1024  # elements: below, setting up a chain takes a CPU longer than writing inner results to the nearest cache
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Step(NamedTuple):
    """One op of a chain. Its inputs are numbers: first come the inputs of the chain, then the results of its steps."""

    op: Op
    inputs: tuple[int, ...]
    settings: dict[str, Any]
    spec: Spec

    def __repr__(self) -> str:
        return f"{self.op.name}({', '.join([*map(str, self.inputs), *(f'{k}={v}' for k, v in self.settings.items())])})"


def _run(dev: Device, *arrays: Any, steps: tuple[Step, ...], results: tuple[int, ...], split: int) -> None:
    """The steps one after the other, each by its own kernel: what a device does whose `chain` declines."""
    values = list(arrays[len(results) :])
    for step in steps:
        out = dev.empty(step.spec.shape, step.spec.dtype)
        ins = [dev.xp.broadcast_to(values[i], out.shape) for i in step.inputs]
        step.op.runner(dev)(out, *ins, **step.settings)
        values.append(out)
    for out, i in zip(arrays, results, strict=False):
        out[...] = values[i]


def _shapes(*_: Any, steps: tuple[Step, ...], results: tuple[int, ...], split: int) -> Any:
    return tuple(steps[i - len(steps)].spec for i in results)


@cache
def chain_op(results: int) -> Op:
    """The op of chains with so many results."""
    return Op(_run, _shapes, name="chain", outs=results, elementwise=True)


class Group:
    """Nodes of one shape and float type that are to be one chain, and when it runs.

    A group stands where its first node stood: a later one may join if everything else that it reads is made before
    that. Or it moves down to the later one, if nobody reads it before. Either way the order stays one in which nothing
    is read before it is made, so that no circle can arise.
    """

    def __init__(self, node: Node, at: int, kind: Any, reads: Iterable[Edge]) -> None:
        self.nodes, self.at, self.kind, self.reads = [node], at, kind, set(reads)
        self.splits = _splits(node.specs[0].shape, *[n.specs[i].shape for n, i in self.reads])

    def pays(self, launches: bool) -> bool:
        """A lone node is no chain. Where each call is a launch, which costs the same at any size, all chains pay but
        those of single numbers, which share one anyway (scalars.py). Elsewhere a small one gains only by conditions,
        which are slow as arrays of bools."""
        size = math.prod(self.nodes[0].specs[0].shape)
        conditions = any(node.specs[0].dtype == BOOL for node in self.nodes)
        return len(self.nodes) > 1 and (size > 1 if launches else conditions or size >= SMALLEST)

    def take(self, other: Group, at: dict[Node, int], readers: dict[Node, list[Node]]) -> bool:
        """Let the nodes of another, which stands later, join, if they can."""
        outside = {e for e in other.reads if e[0] not in self.nodes}
        reads, splits = self.reads | outside, self.splits & other.splits
        if not splits or len(reads) > MOST_INPUTS or len(self.nodes) + len(other.nodes) > MOST_STEPS:
            return False
        if any(at.get(node, -1) >= self.at for node, _ in outside):
            others = {r for node in self.nodes for r in readers[node]}.difference(self.nodes)
            if any(at.get(r, other.at) < other.at for r in others):
                return False
            self.at = other.at
        self.nodes, self.reads, self.splits = self.nodes + other.nodes, reads, splits
        at.update(dict.fromkeys(self.nodes, self.at))
        return True


def chains(graph: Graph) -> Graph:
    """The last pass before the plan. Where the device has no kernel for chains, the graph stays as it is."""
    device = graph.device
    if device is not None and device.chained:
        at, whose = _groups(graph, device.chained, siblings=device.captures)
        paying = {group for group in set(whose.values()) if group.pays(device.captures)}
        _put(graph, at, {node: group for node, group in whose.items() if group in paying})
    return graph


def _groups(graph: Graph, names: Collection[str], *, siblings: bool) -> tuple[dict[Node, int], dict[Node, Group]]:
    """When each node runs, and the group of those that may be a step. siblings: those that only read the same join too."""
    at: dict[Node, int] = {}
    whose: dict[Node, Group] = {}
    watched = {node for node, _ in graph.watched}
    readers: dict[Node, list[Node]] = {node: [] for node in graph.nodes}
    for node in graph.nodes:
        for e in node.inputs:
            if e is not None and e[0] in readers:
                readers[e[0]].append(node)

    def near(group: Group) -> Iterable[Node]:
        for node, _ in group.reads:
            yield node
            yield from readers.get(node, ()) if siblings else ()

    for t, node in enumerate(graph.nodes):
        assert node.op is not None
        inputs = [e for e in node.inputs if e is not None]
        at[node] = t if not node.op.view else max(at.get(n, -1) for n, _ in inputs)  # a view costs nothing anywhere
        kind = _kind(node, names)
        if kind is None or node in watched:
            continue
        mine = Group(node, t, kind, _sources(graph, node))
        before = {g for n in near(mine) if (g := whose.get(n)) is not None and g.kind == kind}
        for group in sorted(before, key=lambda g: -g.at):
            if group.take(mine, at, readers):
                mine = group
        whose.update(dict.fromkeys(mine.nodes, mine))
    return at, whose


def _put(graph: Graph, at: dict[Node, int], whose: dict[Node, Group]) -> None:
    """Chains in the place of the groups."""
    when = {node: t for t, node in enumerate(graph.nodes)}
    for node in whose:
        node.inputs = _sources(graph, node)
    read = {e for n in graph.nodes for e in n.inputs if e is not None and whose.get(n) is not whose.get(e[0])}
    read.update(graph.ends())
    moved: dict[Edge, Edge] = {}
    for group in dict.fromkeys(whose.values()):
        group.nodes.sort(key=when.__getitem__)
        results = [node for node in group.nodes if (node, 0) in read]
        chain = _chain(group, results)
        at[chain], when[chain] = group.at, -1  # before the views of what it makes
        moved.update({(node, 0): (chain, i) for i, node in enumerate(results)})
        graph.nodes.append(chain)
    graph.nodes = sorted((n for n in graph.nodes if n not in whose), key=lambda n: (at[n], when[n]))
    graph.rewire(moved)
    keep_read(graph)


def _chain(group: Group, results: list[Node]) -> Node:
    """The group as one node."""
    inputs = [
        e for e in dict.fromkeys(e for n in group.nodes for e in n.inputs if e is not None) if e[0] not in group.nodes
    ]
    number = {e: i for i, e in enumerate([*inputs, *((node, 0) for node in group.nodes)])}
    steps = [
        Step(n.op, tuple([number[e] for e in n.inputs if e is not None]), n.settings, n.specs[0]) for n in group.nodes
    ]
    settings = {
        "steps": tuple(steps),
        "results": tuple([number[node, 0] for node in results]),
        "split": group.splits.bit_length() - 1,
    }
    return Node(chain_op(len(results)), tuple(inputs), settings, tuple([node.specs[0] for node in results]))


def _kind(node: Node, names: Collection[str]) -> tuple[Any, ...] | None:
    """The shape and the one float type of a node that can be a step; conditions (bool) go with any."""
    op = node.op
    if op is None or not op.elementwise or op.kernel not in names or len(node.specs) != 1:
        return None
    out = node.specs[0]
    types = {out.dtype, *(n.specs[i].dtype for n, i in node.inputs)} - {BOOL}  # type: ignore[misc]
    if len(types) != 1 or (op is ops.cast and out.dtype == BOOL):
        return None
    (dtype,) = types
    return (out.shape, dtype) if dtype in FLOATS else None


def _sources(graph: Graph, node: Node) -> tuple[Edge, ...]:
    """What a step reads: not the broadcast array but what it is made of, and of a constant its number."""
    return tuple([_source(graph, e) for e in node.inputs if e is not None])


def _source(graph: Graph, edge: Edge) -> Edge:
    node = edge[0]
    if node.op is not None and node.op.name == "broadcast_to" and node.inputs[0] is not None:
        return _source(graph, node.inputs[0])
    if is_constant(edge) and node.specs[0].shape:
        return graph.constant(node.settings["value"], node.specs[0].dtype), 0
    return edge


@cache
def _splits(out: tuple[int, ...], *ins: tuple[int, ...]) -> int:
    """Where the axes may be cut in rows and columns so that each input is whole or broadcast on either side: bit k."""
    found = 0
    for k in range(max(len(out), 1)):
        padded = [(1,) * (len(out) - len(shape)) + shape for shape in ins]
        if all(a in (b, (1,) * len(b)) for shape in padded for a, b in ((shape[:k], out[:k]), (shape[k:], out[k:]))):
            found |= 1 << k
    return found
