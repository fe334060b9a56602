"""Reverse mode: one walk back over the nodes, newest first; gradients that meet add up."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..errors import DTypeError, GraphError, ShapeError
from .node import Edge, Node, Spec, mode, set_mode
from .tensor import Tensor


def walk(
    outs: Sequence[Tensor],
    gs: Sequence[Tensor | None],
    *,
    stop: Collection[Edge] = (),
    create_graph: bool,
    retain_graph: bool,
) -> dict[Edge, Tensor]:
    """The gradient of sum(out * g) at every edge that leads to outs; `stop` edges get theirs and are not entered."""
    found: dict[Edge, Tensor] = {}
    queue: list[tuple[int, Node]] = []
    queued: set[int] = set()
    device = outs[0].device

    def send(edge: Edge, g: Tensor, by: Any) -> None:
        node, i = edge
        spec = node.specs[i]
        if g.shape != spec.shape:
            if not by.elementwise:
                raise ShapeError(
                    f"the vjp of {by.name} returned the shape {g.shape} for an input of shape {spec.shape}"
                )
            g = g.sum_to(shape=spec.shape)
        found[edge] = found[edge] + g if edge in found else g
        if edge not in stop and node.id not in queued and node.op is not None:
            queued.add(node.id)
            heapq.heappush(queue, (-node.id, node))

    with set_mode(record=create_graph):
        for out, g in zip(outs, gs, strict=True):
            if g is not None and out.tracked:
                assert out.edge is not None
                send(out.edge, g, None)
        while queue:
            node = heapq.heappop(queue)[1]
            assert node.op is not None
            arrived = [None if (node, i) in stop else found.get((node, i)) for i in range(len(node.specs))]
            for edge, pulled in zip(node.inputs, node.op.pull(node, arrived, device), strict=True):
                if pulled is None or edge is None or not _wants(edge):
                    continue
                send(edge, pulled() if callable(pulled) else pulled, node.op)
            if not retain_graph and mode.trace is None:
                node.kept = None
    return found


def _wants(edge: Edge) -> bool:
    node, i = edge
    return node.tracked and node.specs[i].dtype.kind == "f"


def _seed(out: Tensor, g: Any, what: str) -> Tensor:
    """The gradient that starts the walk: one for a scalar, else what the caller gives."""
    if not out.tracked:
        raise GraphError(f"{what}: no input of this Tensor requires a gradient. Make one with requires_grad=True")
    if g is None:
        if out.size != 1:
            raise ShapeError(
                f"{what}: the Tensor has the shape {out.shape}; reduce it to one number (sum, mean), or give the gradient of that shape"
            )
        one = np.ones(out.shape, out.dtype)
        if mode.trace is None:
            return Tensor(out.device.upload(one), out.device)
        return Tensor(Spec((), out.dtype), out.device, mode.trace.constant(1.0, out.dtype)).broadcast_to(
            shape=out.shape
        )
    g = g if isinstance(g, Tensor) else Tensor(out.device.upload(np.asarray(g, out.dtype)), out.device)
    if g.shape != out.shape or g.dtype != out.dtype:
        raise ShapeError(
            f"{what}: the gradient given is {g.dtype}{list(g.shape)}, the Tensor is {out.dtype}{list(out.shape)}"
        )
    return g


def backward(self: Tensor, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Add d self / d leaf to `.grad` of every leaf with `requires_grad`, and of whoever asked by `retain_grad()`.

    Args:
        gradient: what arrives at this Tensor, of its shape; 1 for a scalar.
        retain_graph: keep what the graph needs for another backward.
        create_graph: record the gradients too, so that they can be differentiated again.
    """
    seed = _seed(self, gradient, "backward()")
    if mode.trace is not None:
        mode.trace.before_grad()
    found = walk([self], [seed], create_graph=create_graph, retain_graph=retain_graph or create_graph)
    for (node, i), g in found.items():
        if node.op is None or node.retains:
            grads = node.grads or {}
            node.grads = {**grads, i: grads[i] + g if i in grads else g}


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    gradients: Any = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Any:
    """d outputs / d inputs, for any Tensors on the way (not only leaves); None where outputs do not depend on an input.

    Args:
        outputs, inputs: a Tensor or a list; the result has the form of `inputs`.
        gradients: what arrives at the outputs (their shapes); 1 for scalars.
        create_graph: record the gradients too (gradient of a gradient); it retains the graph.
    """
    outs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    ins = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given = (
        [gradients] if isinstance(outputs, Tensor) else list(gradients) if gradients is not None else [None] * len(outs)
    )
    for t in ins:
        if t.dtype.kind != "f":
            raise DTypeError(f"grad: an input of dtype {t.dtype} has no gradient; floating point wanted")
    seeds = [_seed(out, g, "grad") for out, g in zip(outs, given, strict=True)]
    if mode.trace is not None:
        mode.trace.before_grad()
    retain = create_graph if retain_graph is None else retain_graph
    found = walk(outs, seeds, create_graph=create_graph, retain_graph=retain)
    result = [None if t.edge is None else found.get(t.edge) for t in ins]
    return result[0] if isinstance(inputs, Tensor) else result


Tensor.backward = backward  # type: ignore[attr-defined]
