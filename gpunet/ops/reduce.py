"""Reductions over axes, and what broadcasting has as its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Tensor, composite, op
from ..errors import ShapeError
from .elementwise import cast, clip, eq, exp, log, square, stop_gradient
from .layout import broadcast_to, reshape, transpose
from .rules import averaged, axes_of, extreme, indexed, reduced, summed

Axis = int | tuple[int, ...] | None


def _spread(g: Tensor, x_shape: tuple[int, ...], axis: Axis) -> Tensor:
    """What was reduced over `axis`, back at the shape it came from."""
    axes = axes_of(len(x_shape), axis)
    return broadcast_to(reshape(g, shape=tuple(1 if i in axes else n for i, n in enumerate(x_shape))), shape=x_shape)


@op(shape=summed)
def sum(dev: Device, out: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> None:
    """The sum over `axis` (an int, a tuple, or None for all)."""
    x.sum(axis=axis, keepdims=keepdims, out=out)


@sum.vjp
def _(g: Tensor, x_shape: Any, *, axis: Axis) -> Tensor:
    return _spread(g, x_shape, axis)


@op(shape=averaged)
def mean(dev: Device, out: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> None:
    """The arithmetic mean over `axis`."""
    x.mean(axis=axis, keepdims=keepdims, out=out)


@mean.vjp
def _(g: Tensor, x_shape: Any, *, axis: Axis) -> Tensor:
    return _spread(g / float(math.prod(x_shape[a] for a in axes_of(len(x_shape), axis))), x_shape, axis)


def _extreme_vjp(g: Tensor, out: Tensor, x: Tensor, *, axis: Axis) -> Tensor:
    """The router: all of the gradient to the extreme element, in equal shares where several tie."""
    chosen = cast(eq(x, _spread(out, x.shape, axis)), dtype=x.dtype)
    return _spread(g / reshape(sum(chosen, axis=axis), shape=g.shape), x.shape, axis) * chosen


@op(shape=extreme)
def max(dev: Device, out: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> None:
    """The largest value over `axis`; where several tie, each gets an equal share of the gradient."""
    x.max(axis=axis, keepdims=keepdims, out=out)


@op(shape=extreme)
def min(dev: Device, out: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> None:
    """The smallest value over `axis`; ties as in `max`."""
    x.min(axis=axis, keepdims=keepdims, out=out)


max.vjp(_extreme_vjp)
min.vjp(_extreme_vjp)


@op(shape=indexed)
def argmax(dev: Device, out: Any, x: Any, *, axis: int | None = None, keepdims: bool = False) -> None:
    """The index (int64) of the largest value along `axis`, the first where several tie; no gradient."""
    out[...] = dev.xp.argmax(x, axis=axis, keepdims=keepdims)


@composite
def var(x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The variance over `axis`, divided by the number of elements."""
    return mean(square(x - mean(x, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims)


@composite
def logsumexp(x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow; -inf where all elements are."""
    largest = float(np.finfo(x.dtype).max)
    top = clip(stop_gradient(max(x, axis=axis, keepdims=True)), low=-largest, high=largest)
    total = log(sum(exp(x - top), axis=axis, keepdims=True)) + top
    return total if keepdims else reshape(total, shape=reduced(x, axis=axis).shape)


def sum_to(x: Tensor, *, shape: tuple[int, ...]) -> Tensor:
    """The sum of x down to `shape`: what broadcasting up to x's shape has as its gradient."""
    if x.shape == tuple(shape):
        return x
    extra = x.ndim - len(shape)
    kept = tuple(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1) if extra >= 0 else ()
    if extra < 0 or any(n not in (1, x.shape[i + extra]) for i, n in enumerate(shape)):
        raise ShapeError(f"sum_to: {tuple(shape)} does not broadcast to {x.shape}")
    return reshape(sum(x, axis=tuple(range(extra)) + kept), shape=tuple(shape))


def _over_last(function: Any, x: Tensor, axis: int) -> Tensor:
    (axis,) = axes_of(x.ndim, axis)
    if axis == x.ndim - 1:
        return function(x)
    order = tuple(x.ndim - 1 if i == axis else axis if i == x.ndim - 1 else i for i in range(x.ndim))
    return transpose(function(transpose(x, axes=order)), axes=order)


@composite
def _softmax(x: Tensor) -> Tensor:
    e = exp(x - stop_gradient(max(x, axis=-1, keepdims=True)))
    return e / sum(e, axis=-1, keepdims=True)


@_softmax.vjp
def _(g: Tensor, out: Tensor) -> Tensor:
    return out * (g - sum(g * out, axis=-1, keepdims=True))


@composite
def _log_softmax(x: Tensor) -> Tensor:
    z = x - stop_gradient(max(x, axis=-1, keepdims=True))
    return z - log(sum(exp(z), axis=-1, keepdims=True))


@_log_softmax.vjp
def _(g: Tensor, out: Tensor) -> Tensor:
    return g - exp(out) * sum(g, axis=-1, keepdims=True)


def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`."""
    return _over_last(_softmax, x, axis)


def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """log(softmax(x)) along `axis`, exact also where softmax underflows."""
    return _over_last(_log_softmax, x, axis)
