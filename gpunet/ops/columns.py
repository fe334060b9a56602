"""Each column of a table through a small net of its own: what embeddings of numbers are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..engine import Spec, Tensor, composite
from ..errors import ConfigError, ShapeError, did_you_mean
from .elementwise import clip, copy, cos, ge, le, neg, sin, where
from .layout import reshape, swap_last, transpose
from .linear import linear, linear_dw, matmul


class ColumnAct(NamedTuple):
    value: Callable[[Tensor], Tensor]
    vjp: Callable[[Tensor, Tensor], Tensor]  # of g and z


# fmt: off
COLUMN_ACTS = {
    "cos":  ColumnAct(cos,                                    lambda g, z: neg(g * sin(z))),
    "ramp": ColumnAct(lambda z: clip(z, low=0.0, high=1.0),   lambda g, z: where(le(z, 1.0), where(ge(z, 0.0), g, 0.0), 0.0)),
}
# fmt: on


def _shape(x: Any, slope: Any, start: Any, weight: Any, bias: Any, *, act: str) -> Spec:
    if act not in COLUMN_ACTS:
        raise ConfigError(f"column_nets: no act {act!r}.{did_you_mean(str(act), COLUMN_ACTS)}")
    k, m, w = slope.shape[:1], slope.shape[1:], weight.shape[2:]
    fits = len(m) == len(w) == 1 and x.shape[1:] == k and start.shape == k + m and weight.shape == k + m + w
    if not fits or bias.shape != k + w:
        raise ShapeError(
            f"column_nets: x {x.shape}, slope {slope.shape}, start {start.shape}, weight {weight.shape}, bias {bias.shape}: "
            "x [n, k] takes slope and start [k, m], weight [k, m, w] and bias [k, w]"
        )
    return Spec((x.shape[0], k[0] * w[0]), x.dtype)


@composite(shape=_shape)
def column_nets(x: Tensor, slope: Tensor, start: Tensor, weight: Tensor, bias: Tensor, *, act: str) -> Tensor:
    """act(slope x + start) @ weight + bias of each column of x, with its own slope, start, weight and bias.

    Gorishniy et al. 2022, "On Embeddings for Numerical Features".

    Args:
        x: [n, k]. slope, start: [k, m]. weight: [k, m, w]. bias: [k, w]. The result is [n, k * w].
        act: "cos", or "ramp", which is 0 up to 0, 1 from 1 on and straight between.
    """
    _shape(x, slope, start, weight, bias, act=act)  # where a device has no kernel, this is all that is called
    _, z = _inner(x, slope, start)
    made = linear(COLUMN_ACTS[act].value(z), weight, bias)
    return reshape(copy(transpose(made, axes=(1, 0, 2))), shape=(x.shape[0], -1))


@column_nets.vjp
def _(g: Tensor, x: Tensor, slope: Tensor, start: Tensor, weight: Tensor, bias: Tensor, *, act: str) -> Any:
    found = functools.cache(lambda: column_nets_vjp(g, x, slope, start, weight, act=act))
    of_x = lambda: column_nets.by_meaning(g, x, slope, start, weight, bias, act=act)[0]  # noqa: E731 rare: x is data
    return of_x, lambda: found()[0], lambda: found()[1], lambda: found()[2], lambda: found()[3]


def _of_weights(g: Any, x: Any, slope: Any, start: Any, weight: Any, **_: Any) -> tuple[Spec, ...]:
    return tuple(Spec(s, x.dtype) for s in (slope.shape, start.shape, weight.shape, (*weight.shape[::2],)))


@composite(outs=4, shape=_of_weights)
def column_nets_vjp(g: Tensor, x: Tensor, slope: Tensor, start: Tensor, weight: Tensor, *, act: str) -> Any:
    """The gradients of slope, start, weight and bias."""
    columns, z = _inner(x, slope, start)
    g = copy(transpose(reshape(g, shape=(x.shape[0], *weight.shape[::2])), axes=(1, 0, 2)))
    dweight, dbias = linear_dw(COLUMN_ACTS[act].value(z), g)
    dslope, dstart = linear_dw(columns, COLUMN_ACTS[act].vjp(matmul(g, swap_last(weight)), z))
    return reshape(dslope, shape=slope.shape), dstart, dweight, dbias


def _inner(x: Tensor, slope: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The columns as a stack [k, n, 1], and slope x + start [k, n, m]."""
    k, m = slope.shape
    columns = reshape(copy(swap_last(x)), shape=(k, x.shape[0], 1))
    return columns, linear(columns, reshape(slope, shape=(k, 1, m)), start)
