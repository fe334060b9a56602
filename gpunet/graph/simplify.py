"""Graph -> Graph: constants computed, views that change nothing erased, the same thing computed once, the unread dropped."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Edge, Node, Spec
from .trace import Graph

_PLAIN = Device()  # computes constants
_LARGEST_CONSTANT = 1 << 16  # elements: what is broadcast from a constant is filled once, not every step


def simplify(graph: Graph) -> Graph:
    """Run after gradients are taken: a view that changes nothing is still an op that a pattern or a vjp may name."""
    keep_read(graph)
    merge(graph)
    assign_last(graph)
    return graph


def keep_read(graph: Graph) -> None:
    """Drop what leads to no output and no state."""
    needed = {node for node, _ in graph.ends()}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(e[0] for e in node.inputs if e is not None)
    graph.nodes = [node for node in graph.nodes if node in needed]


def merge(graph: Graph) -> None:
    """One walk forward: each node is folded, passed through, or found to be the same as an earlier one."""
    moved: dict[Edge, Edge] = {}
    seen: dict[Any, Node] = {}
    kept: list[Node] = []
    for node in graph.nodes:
        node.inputs = tuple([None if e is None else moved.get(e, e) for e in node.inputs])
        folded = _fold(graph, node) or _passed(node)
        if folded is not None:
            moved[node, 0] = folded
            continue
        key = node.op, node.inputs, repr(sorted(node.settings.items())) if node.settings else ""
        first = seen.setdefault(key, node)
        if first is node:
            kept.append(node)
        else:
            moved.update({(node, i): (first, i) for i in range(len(node.specs))})
    graph.nodes = kept
    graph.rewire_ends(moved)


def assign_last(graph: Graph) -> None:
    """What only becomes a state's new value is computed after all that is watched: it can be written straight into it.

    Single numbers come first: a device may do them, and what leads to them, in one go.
    """
    read = {e[0] for node in graph.nodes for e in node.inputs if e is not None}
    read.update(node for node, _ in [*graph.outs, *graph.watched])
    graph.nodes.sort(key=lambda node: (node not in read, node not in read and node.specs[0].shape != ()))  # stable


def is_constant(edge: Edge | None) -> bool:
    return edge is not None and edge[0].op is None and "value" in edge[0].settings


def _fold(graph: Graph, node: Node) -> Edge | None:
    """An op on constants whose elements are all equal is a constant."""
    op, out = node.op, node.specs[0]
    assert op is not None
    if (
        len(node.specs) != 1
        or not node.inputs
        or not all(map(is_constant, node.inputs))
        or not (op.elementwise or op.view)
    ):
        return None
    if op.view:
        value = node.inputs[0][0].settings["value"]  # type: ignore[index]
        return _filled(graph, value, out) if np.prod(out.shape) <= _LARGEST_CONSTANT else None
    arrays = [np.asarray(e[0].settings["value"], e[0].specs[0].dtype) for e in node.inputs if e is not None]
    result = np.empty((), out.dtype)
    with np.errstate(all="ignore"):
        op.forward(_PLAIN, result, *arrays, **node.settings)
    return _filled(graph, result.item(), out)


def _filled(graph: Graph, value: Any, spec: Spec) -> Edge:
    if not spec.shape:
        return graph.constant(value, spec.dtype), 0
    return Node(specs=(spec,), settings={"value": value}), 0


def _passed(node: Node) -> Edge | None:
    """A view with the shape of its input is its input."""
    first = node.inputs[0] if node.inputs else None
    if first is None or node.op is None or not node.op.view or len(node.specs) != 1:
        return None
    same = first[0].specs[first[1]] == node.specs[0] and node.op.name in ("reshape", "broadcast_to", "stop_gradient")
    return first if same else None
