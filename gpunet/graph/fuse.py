"""Graph -> Graph: where the nodes of a pattern stand, put the one op that does the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any as Anything
from typing import NamedTuple

import numpy as np

from .. import ops
from ..devices import Device
from ..engine import Edge, Node, Op, Spec, Tensor, set_mode
from ..ops.linear import _linear as linear_op
from ..ops.linear import _matmul as matmul_op
from ..ops.reduce import _log_softmax as log_softmax_op
from .trace import Graph

_ANYWHERE = Device()


class Any(str):
    """A setting of a pattern that matches whatever is there; the replacement gets it by name."""


class Rule(NamedTuple):
    """Two functions traced alike. args: a word for each argument, a letter for each axis (* any shape, :i integers)."""

    pattern: Callable[..., Tensor]
    args: str
    replacement: Callable[..., Tensor]


def _activation_vjp(g: Tensor, s: Tensor) -> Tensor:
    """As one node, as a device with this kernel has it; its shape does not depend on the activation."""
    made: Tensor = Op.__call__(ops.activation_vjp, g, s, act="identity", alpha=0.0)
    assert made.node is not None
    made.node.settings = {"act": Any("act"), "alpha": Any("alpha")}
    return made


def _act(x: Tensor) -> Tensor:
    return ops.activation(x, act=Any("act"), alpha=Any("alpha"))


# fmt: off
RULES = [  # gates first: what stands inside an activation is found before the layer around it
    Rule(lambda x: 1.0 / (1.0 + ops.exp(-x)),       "*",       lambda x: ops.sigmoid(x)),
    Rule(lambda x: x * ops.sigmoid(x),              "*",       lambda x: ops.silu(x)),
    Rule(lambda x: (ops.exp(x) - ops.exp(-x)) / (ops.exp(x) + ops.exp(-x)), "*", lambda x: ops.tanh(x)),
    Rule(lambda x: ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True), "*", lambda x: ops.softmax(x)),
    Rule(lambda x, w, b: _act(matmul_op(x, w) + b), "nk km m", lambda x, w, b, **of: linear_op(x, w, b, **of)),
    Rule(lambda x, w, b: matmul_op(x, w) + b,       "nk km m", lambda x, w, b: linear_op(x, w, b, act="identity", alpha=0.0)),
    Rule(lambda g, w, s: _activation_vjp(matmul_op(g, w), s), "nk km nm", lambda g, w, s, **of: ops.linear_dz(g, w, s, **of)),
    Rule(lambda z, t: -ops.pick(log_softmax_op(z), t), "nc n:i", lambda z, t: ops.softmax_cross_entropy(z, t, smoothing=0.0)),
]
# fmt: on


class Pattern(NamedTuple):
    inputs: tuple[Node, ...]
    root: Node
    replacement: Callable[..., Tensor]


@cache
def _patterns() -> tuple[Pattern, ...]:
    return tuple(map(pattern, RULES))


def pattern(rule: Rule) -> Pattern:
    """The rule's pattern as nodes, from a trace on small shapes; * stands for an axis of 7."""
    lengths = {"*": 7, "n": 2, "k": 3, "m": 4, "c": 5}
    inputs = []
    for word in rule.args.split():
        letters, _, kind = word.partition(":")
        inputs.append(
            Node(specs=(Spec(tuple(lengths[c] for c in letters), np.dtype(np.int64 if kind else np.float32)),))
        )
    with set_mode(trace=Graph(), record=False):
        root = rule.pattern(*[Tensor(n.specs[0], _ANYWHERE, n) for n in inputs]).node
    assert root is not None
    return Pattern(tuple(inputs), root, rule.replacement)


Bound = dict[Anything, Anything]


def match(p: Edge, e: Edge, bound: Bound) -> Bound | None:
    """Does the graph at e look like the pattern at p? What is bound to what, or None."""
    (wanted, i), (node, j) = p, e
    if p in bound:
        return bound if bound[p] == e else None
    if wanted.op is None:
        return _match_leaf(wanted, p, e, bound)
    if wanted.op is not node.op or i != j:
        return None
    for key, value in wanted.settings.items():
        if isinstance(value, Any):
            bound = {**bound, value: node.settings[key]}
        elif node.settings[key] != value:
            return None
    for inputs in [node.inputs, node.inputs[::-1]][: 1 + node.op.commutes]:
        found: Bound | None = {**bound, p: e}
        for inner, edge in zip(wanted.inputs, inputs, strict=True):
            found = match(inner, edge, found) if found is not None and inner is not None and edge is not None else None
        if found is not None:
            return found
    return None


def _match_leaf(wanted: Node, p: Edge, e: Edge, bound: Bound) -> Bound | None:
    node, j = e
    if "value" in wanted.settings:
        return bound if node.op is None and node.settings.get("value") == wanted.settings["value"] else None
    spec, got = wanted.specs[0], node.specs[j]
    if spec.dtype.kind != got.dtype.kind or (spec.shape != (7,) and len(spec.shape) != len(got.shape)):
        return None
    return {**bound, p: e}


def fuse(graph: Graph) -> Graph:
    """Apply every rule wherever it fits and no inner result is read by anybody else."""
    for found in _patterns():
        for node in reversed(list(graph.nodes)):
            if node.op is found.root.op:
                _apply(graph, found, node)
    return graph


def _apply(graph: Graph, rule: Pattern, node: Node) -> None:
    bound = match((rule.root, 0), (node, 0), {})
    if bound is None:
        return
    inside = [e for p, e in bound.items() if not isinstance(p, str) and p[0].op is not None and p[0] is not rule.root]
    users, gone = graph.users(), {e[0] for e in inside}
    within = [e for n in gone | {node} for e in n.inputs]
    if any(users.get(e, 0) > within.count(e) for e in inside):
        return
    settings = {str(k): v for k, v in bound.items() if isinstance(k, str)}
    edges = [bound[n, 0] for n in rule.inputs]
    before = len(graph.nodes)
    with set_mode(trace=graph, record=node.tracked):
        made = rule.replacement(*map(graph.tensor, edges), **settings).node
    if made is not None and len(graph.nodes) == before + 1 and made.specs == node.specs:
        # The root becomes the new op, so that whoever holds it need not know; the backward is born from it.
        node.op, node.inputs, node.settings = made.op, made.inputs, made.settings
        graph.nodes.remove(made)
        graph.nodes = [n for n in graph.nodes if n not in gone]
    else:
        del graph.nodes[before:]
