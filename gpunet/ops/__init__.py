"""What can be differentiated: value and gradient side by side. Importing this hangs the operators on Tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine import Tensor
from .activations import (
    ACTIVATIONS,
    Activation,
    activate,
    activation,
    activation_keep,
    activation_vjp,
    elu,
    gelu,
    leaky_relu,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from .classify import softmax_cross_entropy, softmax_cross_entropy_vjp
from .elementwise import (
    abs,
    add,
    cast,
    clip,
    copy,
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
    maximum,
    minimum,
    mod,
    mul,
    ne,
    neg,
    pow,
    sign,
    sin,
    sqrt,
    square,
    stop_gradient,
    sub,
    where,
)
from .layout import (
    broadcast_to,
    concat,
    gather,
    one_hot,
    pack,
    pad,
    pick,
    reshape,
    scatter_add,
    slice,
    slice_rows,
    split,
    stack,
    swap_last,
    transpose,
    unpack,
)
from .linear import linear, linear_keep, linear_vjp, matmul
from .normalize import batch_norm, layer_norm
from .random import dropout
from .reduce import argmax, log_softmax, logsumexp, max, mean, min, softmax, sum, sum_to, var
from .rules import same
from .updates import adagrad, adam, lion, nadam, rmsprop, sgd

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "abs",
    "activate",
    "activation",
    "activation_keep",
    "activation_vjp",
    "adagrad",
    "adam",
    "add",
    "argmax",
    "batch_norm",
    "broadcast_to",
    "cast",
    "clip",
    "concat",
    "copy",
    "cos",
    "div",
    "dropout",
    "elu",
    "eq",
    "erf",
    "exp",
    "gather",
    "ge",
    "gelu",
    "gt",
    "layer_norm",
    "le",
    "leaky_relu",
    "linear",
    "linear_keep",
    "linear_vjp",
    "lion",
    "log",
    "log_softmax",
    "logsumexp",
    "lt",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mish",
    "mod",
    "mul",
    "nadam",
    "ne",
    "neg",
    "one_hot",
    "pack",
    "pad",
    "pick",
    "pow",
    "relu",
    "reshape",
    "rmsprop",
    "same",
    "scatter_add",
    "selu",
    "sgd",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "slice",
    "slice_rows",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_vjp",
    "softplus",
    "split",
    "sqrt",
    "square",
    "stack",
    "stop_gradient",
    "sub",
    "sum",
    "sum_to",
    "swap_last",
    "tanh",
    "transpose",
    "unpack",
    "var",
    "where",
]


def _squared(x: Tensor, y: Any) -> Tensor:
    return square(x) if isinstance(y, (int, float)) and y == 2 else pow(x, y)


def _mirrored(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, y: function(y if isinstance(y, Tensor) else _beside(x, y), x)


def _beside(x: Tensor, y: Any) -> Any:
    """A NumPy array left of an operator; a number is left to the op, which gives it x's dtype."""
    return Tensor(np.asarray(y), x.device) if isinstance(y, np.ndarray) and x.device.name == "cpu" else y


# fmt: off
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": add, "sub": sub, "mul": mul, "truediv": div, "mod": mod, "pow": _squared, "matmul": matmul,
}
# fmt: on
for _name, _function in _ARITHMETIC.items():
    setattr(Tensor, f"__{_name}__", lambda x, y, _f=_function: _f(x, y))
    setattr(Tensor, f"__r{_name}__", _mirrored(_function))


def _equals(x: Tensor, y: Any) -> Any:
    return NotImplemented if y is None else eq(x, y)


def _differs(x: Tensor, y: Any) -> Any:
    return NotImplemented if y is None else ne(x, y)


for _name, _function in {
    "eq": _equals,
    "ne": _differs,
    "lt": lt,
    "le": le,
    "gt": gt,
    "ge": ge,
    "neg": neg,
    "abs": abs,
    "getitem": slice,
}.items():
    setattr(Tensor, f"__{_name}__", lambda *args, _f=_function: _f(*args))
Tensor.__hash__ = object.__hash__  # type: ignore[method-assign]

for _function in (
    abs,
    broadcast_to,
    cast,
    clip,
    cos,
    erf,
    exp,
    log,
    log_softmax,
    relu,
    sigmoid,
    sign,
    sin,
    softmax,
    sqrt,
    square,
    sum_to,
    tanh,
):
    _name = getattr(_function, "name", getattr(_function, "__name__", ""))
    setattr(Tensor, _name, lambda self, _f=_function, **settings: _f(self, **settings))

for _function in (argmax, max, mean, min, sum, var, logsumexp):  # x.sum(0), as everybody writes
    setattr(
        Tensor,
        _function.name,
        lambda self, axis=None, keepdims=False, _f=_function: _f(self, axis=axis, keepdims=keepdims),
    )


def _reshape(self: Tensor, *lengths: Any, shape: Any = None) -> Tensor:
    wanted = shape if shape is not None else lengths[0] if len(lengths) == 1 else lengths
    return reshape(self, shape=wanted)


setattr(Tensor, "reshape", _reshape)  # noqa: B010 the methods are not declared in the class
setattr(Tensor, "detach", lambda self: stop_gradient(self))  # noqa: B010
Tensor.T = property(lambda self: transpose(self))
Tensor.mT = property(lambda self: swap_last(self))
