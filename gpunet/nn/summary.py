"""What a net is made of: layers as the lecture counts them, shapes, parameters, FLOPs, bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from ..devices import select
from ..engine import Node, Recorder, Spec, Tensor, set_mode
from .layers import Embedding, Linear
from .module import Module, _watchers

_MATRIX = {"linear", "linear_keep", "matmul"}


@dataclass(frozen=True)
class Row:
    """One layer: its path, what it is, the shape it gives, its parameters, and FLOPs for the batch."""

    path: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    """`str()` is the table. `layers` counts weight layers: the input is not one (a 2-layer net has one hidden layer)."""

    rows: tuple[Row, ...]
    input_shape: tuple[int, ...]
    layers: int
    parameters: int
    flops: int
    bytes: int

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "parameters", "FLOPs")
        body = [(r.path, r.kind, "x".join(map(str, r.shape)), f"{r.parameters:,}", f"{r.flops:,}") for r in self.rows]
        wide = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
        align = ("<", "<", ">", ">", ">")
        lines = [
            "  ".join(f"{cell:{a}{w}}" for cell, a, w in zip(row, align, wide, strict=True)).rstrip()
            for row in [head, *body]
        ]
        hidden = self.layers - 1
        lines.append(
            f"{self.layers}-layer net ({hidden} hidden layer{'s' * (hidden != 1)}), input {'x'.join(map(str, self.input_shape))}: "
            f"{self.parameters:,} parameters, {self.flops:,} FLOPs forward, {self.bytes:,} bytes of parameters and activations"
        )
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table, in a notebook."""
        head = "".join(f"<th>{name}</th>" for name in ("layer", "kind", "output", "parameters", "FLOPs"))
        cells = [(r.path, r.kind, "×".join(map(str, r.shape)), f"{r.parameters:,}", f"{r.flops:,}") for r in self.rows]
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        return f"<table><tr>{head}</tr>{body}</table><p>{escape(str(self).rpartition(chr(10))[2])}</p>"


def summary(model: Module, input_shape: tuple[int, ...], *, dtype: Any = np.float32) -> Summary:
    """The layers of `model` for inputs of `input_shape` (rows included), found by a run on shapes alone.

    FLOPs: 2 n k m for a product of [n, k] and [k, m], one for each other value computed (a bias, an activation).
    """
    model._ready()
    recorder, rows = Recorder(), []
    counted = 0

    def watch(module: Module, x: Tensor, out: Tensor) -> None:
        nonlocal counted
        own = sum(t.size for t in vars(module).values() if isinstance(t, Tensor) and t.requires_grad)
        flops = sum(map(_flops, recorder.nodes[counted:]))
        counted = len(recorder.nodes)
        contains = any(module.children())
        if contains and not own and not flops:  # its layers have rows of their own, and it does nothing else
            return
        name = type(module).__name__
        rows.append(Row(module.path or name, name if contains else repr(module), out.shape, own, flops))

    training = model.training
    spec = Spec(tuple(input_shape), np.dtype(dtype))
    device = next((t.device for _, t in model.named_tensors()), select.device("cpu"))
    _watchers.append(watch)
    try:
        with set_mode(trace=recorder, record=False):
            model.eval()(Tensor(spec, device, Node(specs=(spec,))))
    finally:
        _watchers.remove(watch)
        model.train(training)
    values = sum(math.prod(r.shape) for r in rows) + math.prod(input_shape)
    parameters = sum(t.size for _, t in model.named_parameters())
    layers = sum(isinstance(m, (Linear, Embedding)) for _, m in model.modules())
    return Summary(
        tuple(rows),
        tuple(input_shape),
        layers,
        parameters,
        sum(map(_flops, recorder.nodes)),
        (values + parameters) * np.dtype(dtype).itemsize,
    )


def _flops(node: Node) -> int:
    assert node.op is not None
    if node.op.view:
        return 0
    out = sum(math.prod(s.shape) for s in node.specs[:1])
    if node.op.name not in _MATRIX:
        return out
    x = node.inputs[0]
    assert x is not None
    product = 2 * out * x[0].specs[x[1]].shape[-1]
    return product + out * ((node.op.name != "matmul") + (node.settings.get("act", "identity") != "identity"))
