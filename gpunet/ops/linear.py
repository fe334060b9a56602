"""Matrix products, and the fully-connected layer as one op: act(x @ w + b)."""

from __future__ import annotations

import functools
from typing import Any

from ..devices import Device
from ..engine import Spec, Tensor, composite, op
from ..errors import ShapeError
from .activations import ACTIVATIONS, activate, activation_vjp, lookup
from .layout import gather, reshape, swap_last
from .reduce import sum
from .rules import common_dtype, product


@op(shape=product)
def _matmul(dev: Device, out: Any, x: Any, y: Any) -> None:
    dev.xp.matmul(x, y, out=out)


@_matmul.vjp
def _(g: Tensor, x: Tensor, y: Tensor) -> Any:  # a stack that was broadcast is summed down again
    return lambda: _matmul(g, swap_last(y)).sum_to(shape=x.shape), lambda: _matmul(swap_last(x), g).sum_to(
        shape=y.shape
    )


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """x @ y: vectors, matrices, or stacks of matrices whose leading axes broadcast."""
    x, y = _matmul.admit((x, y))
    if not x.ndim or not y.ndim:
        raise ShapeError("matmul: a number has no axes to multiply along. Use *")
    if x.ndim == 1 and y.ndim == 1:
        return reshape(_matmul(reshape(x, shape=(1, -1)), reshape(y, shape=(-1, 1))), shape=())
    if x.ndim == 1:
        made = _matmul(reshape(x, shape=(1, -1)), y)
        return reshape(made, shape=(*made.shape[:-2], made.shape[-1]))
    if y.ndim == 1:
        made = _matmul(x, reshape(y, shape=(-1, 1)))
        return reshape(made, shape=made.shape[:-1])
    return _matmul(x, y)


def _plus_bias(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return _matmul(x, w) + (reshape(b, shape=(b.shape[0], 1, b.shape[1])) if b.ndim == 2 else b)


def _of_layer(x: Any, w: Any, b: Any, **_: Any) -> Spec:
    z = product(x, w)
    return Spec(z.shape, common_dtype(z, b))


@composite(shape=_of_layer)
def _linear(x: Tensor, w: Tensor, b: Tensor, *, act: str, alpha: float) -> Tensor:
    return activate(_plus_bias(x, w, b), act, alpha)


@_linear.vjp
def _(g: Tensor, x: Tensor, w: Tensor, out: Tensor, *, act: str, alpha: float) -> Any:
    return _back(g if act == "identity" else activation_vjp(g, out, act=act, alpha=alpha), x, w)


@composite(outs=2, shape=lambda x, w, b, **_: (_of_layer(x, w, b),) * 2)
def linear_keep(x: Tensor, w: Tensor, b: Tensor, *, act: str, alpha: float) -> Any:
    """As linear, for activations whose gradient needs their input z, which is the second output."""
    z = _plus_bias(x, w, b)
    return activate(z, act, alpha), z


@linear_keep.vjp
def _(g: Tensor | None, gz: Tensor | None, x: Tensor, w: Tensor, out1: Tensor, *, act: str, alpha: float) -> Any:
    dz = None if g is None else activation_vjp(g, out1, act=act, alpha=alpha)
    return _back(gz if dz is None else dz if gz is None else dz + gz, x, w)


def _back(dz: Tensor | None, x: Tensor, w: Tensor) -> Any:
    """The gradients of x, w and b, from that of z = x w + b."""
    assert dz is not None
    of_weights = functools.cache(lambda: linear_dw(x, dz))
    return lambda: _matmul(dz, swap_last(w)), lambda: of_weights()[0], lambda: of_weights()[1]


def _of_weights(x: Any, g: Any) -> tuple[Spec, Spec]:
    stack, (k, n) = g.shape[:-2], (x.shape[-1], g.shape[-1])
    return Spec((*stack, k, n), g.dtype), Spec((*stack, n), g.dtype)


@composite(outs=2, shape=_of_weights)
def linear_dw(x: Tensor, g: Tensor) -> Any:
    """The gradients of the weights and of the bias, from that of x @ w + b."""
    return _matmul(swap_last(x), g), sum(g, axis=-2)


@composite
def linear_rows(x: Tensor, rows: Tensor, w: Tensor, b: Tensor, *, act: str, alpha: float) -> Tensor:
    """linear of x[rows], read from the table x where they lie: the compiler puts it in the place of gather and linear."""
    return _linear(gather(x, rows), w, b, act=act, alpha=alpha)


@composite(outs=2)
def linear_keep_rows(x: Tensor, rows: Tensor, w: Tensor, b: Tensor, *, act: str, alpha: float) -> Any:
    """linear_keep of x[rows]."""
    return linear_keep(gather(x, rows), w, b, act=act, alpha=alpha)


@composite(outs=2)
def linear_dw_rows(x: Tensor, rows: Tensor, g: Tensor) -> Any:
    """linear_dw of x[rows]."""
    return linear_dw(gather(x, rows), g)


@composite(shape=lambda g, w, s, **_: product(g, w))
def linear_dz(g: Tensor, w: Tensor, s: Tensor, *, act: str, alpha: float) -> Tensor:
    """The gradient before an activation, from that of the layer above it, whose weights are transposed in w."""
    return activation_vjp(_matmul(g, w), s, act=act, alpha=alpha)


def _layered(x: Any, *weights: Any, acts: tuple[str, ...], alphas: tuple[float, ...]) -> Spec:
    return Spec((x.shape[0], weights[-1].shape[0]), x.dtype)


@op(shape=_layered)
def layers(dev: Device, out: Any, x: Any, *weights: Any, acts: tuple[str, ...], alphas: tuple[float, ...]) -> None:
    """Linear after linear, w and b by turns: what the compiler makes of layers whose results nobody else reads."""
    for w, b, act, alpha in zip(weights[::2], weights[1::2], acts, alphas, strict=True):
        z = dev.xp.matmul(x, w) + b
        x = dev.xp.empty_like(z)
        ACTIVATIONS[act].value(dev, x, z, alpha)
    out[...] = x


def linear(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, act: str = "identity", alpha: float | None = None
) -> Tensor:
    """act(x @ w + b), the fully-connected layer.

    Args:
        x: rows [..., k]. w: weights [k, m]. b: bias [m] or None.
            A stack of N independent nets: x [N, n, k], w [N, k, m], b [N, m].
        act: an activation's name. alpha: its parameter, by default the table's.
    """
    row = lookup(act)
    alpha = row.alpha if alpha is None else float(alpha)
    of_x, of_w = x.shape, w.shape
    if of_x[-1:] != of_w[-2:-1] or (b is not None and b.shape != of_w[:-2] + of_w[-1:]):
        raise ShapeError(
            f"linear: x {x.shape} @ w {w.shape} + b {None if b is None else b.shape}: "
            f"x needs w's {w.shape[-2]} columns, b its {w.shape[-1]}"
        )
    if len(of_w) > 2 and of_x[:-2] != of_w[:-2]:
        raise ShapeError(f"linear: a stack of weights {w.shape} takes a stack of as many inputs, got x {x.shape}")
    if len(of_w) == 2 and len(of_x) != 2:
        rows = reshape(x, shape=(-1, x.shape[-1]))
        return reshape(linear(rows, w, b, act=act, alpha=alpha), shape=(*x.shape[:-1], w.shape[-1]))
    if b is None:
        return activate(_matmul(x, w), act, alpha)
    if row.needs == "input":
        return linear_keep(x, w, b, act=act, alpha=alpha)[0]
    return _linear(x, w, b, act=act, alpha=alpha)
