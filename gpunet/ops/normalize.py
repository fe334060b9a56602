"""Normalisation over the batch or over a row's features: value and gradient, each one op where the device has its kernel."""

from __future__ import annotations

import functools
from typing import Any

from ..engine import Spec, Tensor, composite
from ..errors import ShapeError
from .elementwise import sqrt, square
from .reduce import mean, sum
from .rules import same


def _check(name: str, x: Tensor, gamma: Tensor, beta: Tensor) -> None:
    if not x.ndim or gamma.shape != x.shape[-1:] or beta.shape != x.shape[-1:]:
        raise ShapeError(
            f"{name}: x {x.shape}, gamma {gamma.shape}, beta {beta.shape}: gamma and beta take one number for each column of x"
        )


@composite(outs=3)
def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float) -> Any:
    """gamma * (x - mean) / sqrt(var + eps) + beta over the rows, and that mean and variance (Ioffe and Szegedy 2015).

    Shapes: x [rows, n]; gamma, beta, mean and variance [n].
    """
    _check("batch_norm", x, gamma, beta)
    if x.ndim != 2:
        raise ShapeError(f"batch_norm: x {x.shape}: a matrix [rows, columns] wanted. Use reshape")
    m = mean(x, axis=0)
    centred = x - m
    v = mean(square(centred), axis=0)
    return centred / sqrt(v + eps) * gamma + beta, m, v


@batch_norm.vjp
def _(
    g: Tensor | None, gm: Tensor | None, gv: Tensor | None, x: Tensor, gamma: Tensor, beta: Tensor, out1: Tensor, out2: Tensor,
    *, eps: float,
) -> Any:  # fmt: skip
    if g is None or gm is not None or gv is not None:  # the statistics are used for more, as a second derivative does
        return batch_norm.by_meaning(g, gm, gv, x, gamma, beta, eps=eps)
    found = functools.cache(lambda: batch_norm_vjp(g, x, out1, out2, gamma, eps=eps))
    return lambda: found()[0], lambda: found()[1], lambda: found()[2]


@composite(outs=3, inplace=("g",), shape=lambda g, x, m, v, gamma, **_: (same(x), same(gamma), same(gamma)))
def batch_norm_vjp(g: Tensor, x: Tensor, m: Tensor, v: Tensor, gamma: Tensor, *, eps: float) -> Any:
    """The gradients of x, gamma and beta; mean and variance depend on x too."""
    scale = 1.0 / sqrt(v + eps)
    normal = (x - m) * scale
    dgamma, dbeta = sum(g * normal, axis=0), sum(g, axis=0)
    rows = float(max(x.shape[0], 1))
    return gamma * scale * (g - dbeta / rows - normal * (dgamma / rows)), dgamma, dbeta


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float) -> Tensor:
    """gamma * (x - mean) / sqrt(var + eps) + beta over the last axis, each row by itself (Ba et al. 2016).

    Shapes: x [..., n]; gamma and beta [n].
    """
    return _layer_norm(x, gamma, beta, eps=eps)[0]


@composite(outs=3)
def _layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float) -> Any:
    """And each row's mean and 1 / sqrt(var + eps), which the way back needs."""
    _check("layer_norm", x, gamma, beta)
    m = mean(x, axis=-1, keepdims=True)
    centred = x - m
    scale = 1.0 / sqrt(mean(square(centred), axis=-1, keepdims=True) + eps)
    return centred * scale * gamma + beta, m, scale


@_layer_norm.vjp
def _(
    g: Tensor | None, gm: Tensor | None, gs: Tensor | None, x: Tensor, gamma: Tensor, beta: Tensor, out1: Tensor, out2: Tensor,
    *, eps: float,
) -> Any:  # fmt: skip
    if g is None or gm is not None or gs is not None:
        return _layer_norm.by_meaning(g, gm, gs, x, gamma, beta, eps=eps)
    of_weights = functools.cache(lambda: layer_norm_dw(g, x, out1, out2))
    return lambda: layer_norm_dx(g, x, out1, out2, gamma), lambda: of_weights()[0], lambda: of_weights()[1]


@composite(inplace=("g",), shape=same)
def layer_norm_dx(g: Tensor, x: Tensor, m: Tensor, scale: Tensor, gamma: Tensor) -> Tensor:
    """The gradient of x, through its mean and variance too."""
    normal, h = (x - m) * scale, g * gamma
    return scale * (h - mean(h, axis=-1, keepdims=True) - normal * mean(h * normal, axis=-1, keepdims=True))


@composite(outs=2, shape=lambda g, *_: (Spec(g.shape[-1:], g.dtype),) * 2)
def layer_norm_dw(g: Tensor, x: Tensor, m: Tensor, scale: Tensor) -> Any:
    """The gradients of gamma and beta."""
    rows = tuple(range(x.ndim - 1))
    return sum(g * ((x - m) * scale), axis=rows), sum(g, axis=rows)
