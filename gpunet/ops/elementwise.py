"""Elementwise ops, as a table: the array module's function, and the gradient beside it.

g is the gradient that arrives, out the op's own output. Where two values tie in maximum or minimum (and in max or min
over an axis), each gets an equal share of the gradient. A lambda inside a gradient runs only if it is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Op, Spec, Tensor, op
from .rules import as_float, broadcast, broadcast_float, choice, compare, same


def _row(
    name: str,
    function: str,
    shape: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    doc: str,
    two: bool,
    commutes: bool,
) -> Op:
    def unary(dev: Device, out: Any, x: Any) -> None:
        getattr(dev.xp, function)(x, out=out)

    def binary(dev: Device, out: Any, x: Any, y: Any) -> None:
        getattr(dev.xp, function)(x, y, out=out, casting="same_kind")

    made = Op(binary if two else unary, shape, name=name, elementwise=True, commutes=commutes)
    made.__doc__ = doc
    if vjp is not None:
        made.vjp(vjp)
    return made


def _unary(
    name: str, function: str, vjp: Callable[..., Any] | None, doc: str, shape: Callable[..., Any] = as_float
) -> Op:
    return _row(name, function, shape, vjp, doc, two=False, commutes=False)


def _binary(
    name: str,
    function: str,
    vjp: Callable[..., Any] | None,
    doc: str,
    shape: Callable[..., Any] = broadcast,
    commutes: bool = False,
) -> Op:
    return _row(name, function, shape, vjp, doc, two=True, commutes=commutes)


def _routed(g: Tensor, x: Tensor, y: Tensor, wins: Op) -> Any:
    """All of g to the one that wins, half to each at a tie."""

    def share(a: Tensor, b: Tensor) -> Tensor:
        return g * where(eq(a, b), 0.5, cast(wins(a, b), dtype=g.dtype))

    return lambda: share(x, y), lambda: share(y, x)


# fmt: off
#                   name     array module  gradients                                        meaning
neg: Op  = _unary("neg",    "negative", lambda g: -g,                                       "-x", shape=same)
exp: Op  = _unary("exp",    "exp",      lambda g, out: g * out,                             "e to the x")
log: Op  = _unary("log",    "log",      lambda g, x: g / x,                                 "The natural logarithm.")
sqrt: Op = _unary("sqrt",   "sqrt",     lambda g, out: g / (2.0 * out),                     "The square root.")
square: Op = _unary("square", "square", lambda g, x: g * (2.0 * x),                         "x times x", shape=same)
abs: Op  = _unary("abs",    "absolute", lambda g, x: g * sign(x),                           "The magnitude; gradient 0 at 0.", shape=same)
sign: Op = _unary("sign",   "sign",     None,                                               "-1, 0 or 1; no gradient.", shape=same)
sin: Op  = _unary("sin",    "sin",      lambda g, x: g * cos(x),                            "The sine.")
cos: Op  = _unary("cos",    "cos",      lambda g, x: -g * sin(x),                           "The cosine.")

add: Op  = _binary("add",   "add",      lambda g: (g, g),                                   "x + y", commutes=True)
sub: Op  = _binary("sub",   "subtract", lambda g: (g, lambda: -g),                          "x - y")
mul: Op  = _binary("mul",   "multiply", lambda g, x, y: (lambda: g * y, lambda: g * x),     "x * y", commutes=True)
div: Op  = _binary("div",   "divide",   lambda g, y, out: (lambda: g / y, lambda: -g * out / y), "x / y", shape=broadcast_float)
maximum: Op = _binary("maximum", "maximum", lambda g, x, y: _routed(g, x, y, gt),           "The larger of two.", commutes=True)
minimum: Op = _binary("minimum", "minimum", lambda g, x, y: _routed(g, x, y, lt),           "The smaller of two.", commutes=True)
mod: Op  = _binary("mod",   "remainder", None,                                              "x modulo y; no gradient.")

eq: Op   = _binary("eq",    "equal",         None, "x == y", shape=compare, commutes=True)
ne: Op   = _binary("ne",    "not_equal",     None, "x != y", shape=compare, commutes=True)
lt: Op   = _binary("lt",    "less",          None, "x < y",  shape=compare)
le: Op   = _binary("le",    "less_equal",    None, "x <= y", shape=compare)
gt: Op   = _binary("gt",    "greater",       None, "x > y",  shape=compare)
ge: Op   = _binary("ge",    "greater_equal", None, "x >= y", shape=compare)
# fmt: on


@op(shape=broadcast, elementwise=True)
def pow(dev: Device, out: Any, x: Any, y: Any) -> None:
    """x to the y; as a function of x it is smooth at x = 0 for y >= 1, of y it needs x > 0."""
    dev.xp.power(x, y, out=out, casting="same_kind")


@pow.vjp
def _(g: Tensor, x: Tensor, y: Tensor, out: Tensor) -> Any:
    zero = eq(y, 0.0)  # x ** 0 is constant, also at x = 0, where 0 * x ** -1 would be NaN
    return lambda: g * where(zero, 0.0, y * pow(x, where(zero, 1.0, y - 1.0))), lambda: g * out * log(x)


@op(shape=choice, elementwise=True)
def where(dev: Device, out: Any, condition: Any, x: Any, y: Any) -> None:
    """x where the condition holds, else y."""
    out[...] = dev.xp.where(condition, x, y)  # in one go: out may be x or y


@where.vjp
def _(g: Tensor, condition: Tensor) -> Any:
    return None, lambda: where(condition, g, 0.0), lambda: where(condition, 0.0, g)


@op(shape=lambda x, *, dtype: Spec(x.shape, np.dtype(dtype)), elementwise=True)
def cast(dev: Device, out: Any, x: Any, *, dtype: Any) -> None:
    """x with another element type; the gradient comes back in x's."""
    dev.xp.copyto(out, x, casting="unsafe")


@cast.vjp
def _(g: Tensor, x_dtype: Any) -> Tensor:
    return cast(g, dtype=x_dtype)


@op(shape=same, elementwise=True)
def clip(dev: Device, out: Any, x: Any, *, low: float | None = None, high: float | None = None) -> None:
    """x kept within [low, high]; the gradient passes where x was inside, the bounds included."""
    dev.xp.clip(x, low, high, out=out)


@clip.vjp
def _(g: Tensor, x: Tensor, *, low: float | None, high: float | None) -> Tensor:
    if low is not None:
        g = where(ge(x, float(low)), g, 0.0)
    return g if high is None else where(le(x, float(high)), g, 0.0)


# Rational approximations of W. J. Cody, Math. Comp. 23 (1969) 631-637: |x| <= 0.46875, up to 4, beyond.
# fmt: off
_ERF  = ((1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
         (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3))
_ERFC = ((2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
          8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
         (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
          3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3))
_TAIL = ((1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
          1.60837851487422766e-2, 6.58749161529837803e-4),
         (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185e-3))
# fmt: on


def _ratio(x: Any, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    top, bottom = (math.nan, math.nan)
    for k, (a, b) in enumerate(zip(*coefficients, strict=True)):
        top, bottom = (a, b) if k == 0 else (top * x + a, bottom * x + b)
    return top / bottom


@op(shape=as_float, elementwise=True)
def erf(dev: Device, out: Any, x: Any) -> None:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    xp = dev.xp
    a = xp.abs(x.astype(np.float64))
    near, mid, far = xp.minimum(a, 0.46875), xp.clip(a, 0.46875, 4.0), xp.clip(a, 4.0, 7.0)
    small = near * _ratio(near * near, _ERF)
    middle = 1.0 - xp.exp(-mid * mid) * _ratio(mid, _ERFC)
    inverse = 1.0 / (far * far)
    large = 1.0 - xp.exp(-far * far) / far * (1.0 / math.sqrt(math.pi) - inverse * _ratio(inverse, _TAIL))
    out[...] = xp.copysign(xp.where(a <= 0.46875, small, xp.where(a <= 4.0, middle, large)), x)


@erf.vjp
def _(g: Tensor, x: Tensor) -> Tensor:
    return g * (exp(-square(x)) * (2.0 / math.sqrt(math.pi)))


@op(shape=same, elementwise=True)
def copy(dev: Device, out: Any, x: Any) -> None:
    """x in memory of its own."""
    out[...] = x


@copy.vjp
def _(g: Tensor) -> Tensor:
    return g


@op(shape=same, view=True)
def stop_gradient(dev: Device, x: Any) -> Any:
    """x, through which no gradient flows."""
    return x.view()
