"""Hangs the operators and methods on Tensor, from tables: Tensor stands below the ops and does not know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine import Tensor
from . import elementwise, layout, reduce
from .activations import relu, sigmoid, tanh
from .elementwise import (
    add,
    cast,
    clip,
    cos,
    div,
    eq,
    erf,
    exp,
    ge,
    gt,
    le,
    log,
    lt,
    mod,
    mul,
    ne,
    neg,
    sign,
    sin,
    sqrt,
    square,
    sub,
)
from .linear import matmul

Function = Callable[..., Any]


def _power(x: Tensor, y: Any) -> Tensor:
    return square(x) if isinstance(y, (int, float)) and y == 2 else elementwise.pow(x, y)


def _mirrored(function: Function) -> Function:
    """For y on the left of a Tensor x: an array is admitted here, a number by the op, which gives it x's dtype."""

    def reflected(x: Tensor, y: Any) -> Any:
        array = isinstance(y, np.ndarray) and x.device.kind == "cpu"
        return function(Tensor(np.asarray(y), x.device) if array else y, x)

    return reflected


def _unless_none(function: Function) -> Function:
    return lambda x, y: NotImplemented if y is None else function(x, y)


def _reshape(self: Tensor, *lengths: Any, shape: Any = None) -> Tensor:
    return layout.reshape(self, shape=shape if shape is not None else lengths[0] if len(lengths) == 1 else lengths)


# fmt: off
ARITHMETIC: dict[str, Function] = {
    "add": add, "sub": sub, "mul": mul, "truediv": div, "mod": mod, "pow": _power, "matmul": matmul,
}
OTHER: dict[str, Function] = {
    "eq": _unless_none(eq), "ne": _unless_none(ne), "lt": lt, "le": le, "gt": gt, "ge": ge,
    "neg": neg, "abs": elementwise.abs, "getitem": layout.slice,
}
METHODS: dict[str, Function] = {
    "abs": elementwise.abs, "cast": cast, "clip": clip, "cos": cos, "erf": erf, "exp": exp, "log": log, "relu": relu, "sigmoid": sigmoid,
    "sign": sign, "sin": sin, "sqrt": sqrt, "square": square, "tanh": tanh, "softmax": reduce.softmax, "log_softmax": reduce.log_softmax,
    "sum_to": reduce.sum_to, "broadcast_to": layout.broadcast_to, "reshape": _reshape, "detach": elementwise.stop_gradient,
}
REDUCTIONS: dict[str, Function] = {  # x.sum(0), as everybody writes
    "argmax": reduce.argmax, "max": reduce.max, "mean": reduce.mean, "min": reduce.min, "sum": reduce.sum, "var": reduce.var,
    "logsumexp": reduce.logsumexp,
}
# fmt: on

for _name, _function in ARITHMETIC.items():
    setattr(Tensor, f"__{_name}__", lambda x, y, _f=_function: _f(x, y))
    setattr(Tensor, f"__r{_name}__", _mirrored(_function))
for _name, _function in OTHER.items():
    setattr(Tensor, f"__{_name}__", lambda *args, _f=_function: _f(*args))
for _name, _function in METHODS.items():
    setattr(Tensor, _name, lambda self, *args, _f=_function, **settings: _f(self, *args, **settings))
for _name, _function in REDUCTIONS.items():
    setattr(Tensor, _name, lambda self, axis=None, keepdims=False, _f=_function: _f(self, axis=axis, keepdims=keepdims))
Tensor.__hash__ = object.__hash__  # type: ignore[method-assign]
Tensor.T = property(lambda self: layout.transpose(self))
Tensor.mT = property(lambda self: layout.swap_last(self))
