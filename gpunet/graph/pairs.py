"""Graph -> Graph: two calls that read the same become one. Run once nobody traces any more, for nodes are replaced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .. import ops
from ..engine import Edge, Node, Op, set_mode
from ..ops.random import _dropout as dropout_op
from .trace import Graph

Moved = dict[Edge, Edge]


def join_pairs(graph: Graph) -> Graph:
    moved: Moved = {}
    _join_gathers(graph, moved)
    _join_cross_entropies(graph, moved)
    _join_dropouts(graph, moved)
    if moved:
        graph.rewire(moved)
    return graph


def _join_gathers(graph: Graph, moved: Moved) -> None:
    """A batch's two tables, if nobody else wants to know its rows."""
    users = graph.users()
    for rows in [node for node in graph.nodes if node.op is ops.slice_rows]:
        readers = [n for n in graph.nodes if n.op is ops.gather and n.inputs[1] == (rows, 0)]
        if len(readers) == users[rows, 0] == 2:
            x, y = readers
            _put(graph, ops.gather_two, (x.inputs[0], y.inputs[0], *rows.inputs), moved, at=rows, of=readers)
            graph.nodes.remove(rows)


def _join_cross_entropies(graph: Graph, moved: Moved) -> None:
    """The loss and its gradient, where the device does both in one pass."""
    if graph.device is None or ops.softmax_cross_entropy_both.kernel not in graph.device.kernels:
        return
    values = {n.inputs: n for n in graph.nodes if n.op is ops.softmax_cross_entropy}
    for gradient in [n for n in graph.nodes if n.op is ops.softmax_cross_entropy_vjp]:
        g, value = gradient.inputs[0], values.get(gradient.inputs[1:])
        if value is None or g is None or value.settings != gradient.settings:
            continue
        at = graph.nodes.index(value)
        if g[0].op is None or g[0] in graph.nodes[:at]:
            _put(graph, ops.softmax_cross_entropy_both, gradient.inputs, moved, at=value, of=[value, gradient])


def _join_dropouts(graph: Graph, moved: Moved) -> None:
    """The way there and the way back keep the same elements: these are drawn once, for to draw takes longer than all else.

    What is left is elementwise, and joins its neighbours in a chain.
    """
    device = graph.device
    if device is None or ops.dropout_keep.kernel not in device.kernels:
        return
    draws: dict[Any, list[Node]] = {}
    for node in graph.nodes:
        if node.op is dropout_op:
            draws.setdefault((node.inputs[1:], node.specs[0], *node.settings.items()), []).append(node)
    scales: dict[Any, Any] = {}  # one for all layers of one rate
    for (inputs, spec, *settings), nodes in draws.items():
        if len(nodes) < 2:
            continue
        of = inputs[0], spec.dtype
        with _traced(graph, before=nodes[0]):
            rate, step = map(graph.tensor, inputs)
            keep = ops.dropout_keep(rate, step, shape=spec.shape, **dict(settings))
            if of not in scales:
                scales[of] = ops.cast(1.0 / (1.0 - rate), dtype=spec.dtype)
        for node in nodes:
            with _traced(graph, before=node):
                made = ops.where(keep, graph.tensor(node.inputs[0]) * scales[of], 0.0)
            moved[node, 0] = made.node, made.index
            graph.nodes.remove(node)


@contextmanager
def _traced(graph: Graph, *, before: Node) -> Iterator[None]:
    """What is traced inside stands before that node."""
    end = len(graph.nodes)
    with set_mode(trace=graph, record=False):
        yield
    made, at = graph.nodes[end:], graph.nodes.index(before)
    graph.nodes = [*graph.nodes[:at], *made, *graph.nodes[at:end]]


def _put(graph: Graph, op: Op, inputs: tuple[Edge | None, ...], moved: Moved, *, at: Node, of: Sequence[Node]) -> None:
    """Before `at`, one node with the outputs of several, which go."""
    both = Node(op, inputs, dict(at.settings), tuple(node.specs[0] for node in of))
    moved.update({(node, 0): (both, i) for i, node in enumerate(of)})
    graph.nodes.insert(graph.nodes.index(at), both)
    graph.nodes = [node for node in graph.nodes if node not in of]
