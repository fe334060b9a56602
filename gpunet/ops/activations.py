"""Activation functions: value in array code and gradient in ops, one row each. csrc/activations.h has the kernels' maths.

A row `needs` its own output y for the gradient, or its input x. Those of the output first: the layer below may then
forget the pre-activation. alpha is the slope of leaky_relu (for x < 0) and the scale of elu.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..devices import Device
from ..engine import Tensor, composite, op
from ..errors import ConfigError, did_you_mean
from .elementwise import erf, exp, gt, square, where
from .rules import as_float, same

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017
_SQRT_HALF, _INV_SQRT_2PI = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)


class Activation(NamedTuple):
    value: Callable[..., Any]  # (dev, out, x, alpha): writes out
    gradient: Callable[..., Tensor]  # (g, y or x, alpha), in ops
    needs: str = "output"
    alpha: float = 0.0


def _sigmoid(dev: Device, out: Any, x: Any, alpha: float = 0.0) -> None:
    xp = dev.xp
    z = xp.exp(-xp.abs(x))  # never overflows
    xp.divide(xp.where(x >= 0, xp.ones_like(z), z), 1 + z, out=out)


def _elu(dev: Device, out: Any, x: Any, alpha: float, scale: float = 1.0) -> None:
    xp = dev.xp
    out[...] = xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))) * scale


def _log1p_exp(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


def _gelu(dev: Device, out: Any, x: Any, alpha: float) -> None:
    half = 0.5 * x  # before out is written, for it may be x
    erf.forward(dev, out, x * _SQRT_HALF)
    out += 1
    out *= half


def _silu(dev: Device, out: Any, x: Any, alpha: float) -> None:
    s = dev.xp.empty_like(x)
    _sigmoid(dev, s, x)
    dev.xp.multiply(x, s, out=out)


def _mish(dev: Device, out: Any, x: Any, alpha: float) -> None:
    xp = dev.xp
    xp.multiply(x, xp.tanh(_log1p_exp(xp, x)), out=out)


def _gelu_gradient(g: Tensor, x: Tensor, alpha: float) -> Tensor:
    return g * (0.5 * (1.0 + erf(x * _SQRT_HALF)) + x * exp(-0.5 * square(x)) * _INV_SQRT_2PI)


def _silu_gradient(g: Tensor, x: Tensor, alpha: float) -> Tensor:
    s = sigmoid(x)
    return g * (s + x * s * (1.0 - s))


def _mish_gradient(g: Tensor, x: Tensor, alpha: float) -> Tensor:
    t = tanh(softplus(x))
    return g * (t + x * sigmoid(x) * (1.0 - t * t))


def _relu(dev: Device, out: Any, x: Any, alpha: float) -> None:
    dev.xp.maximum(x, 0, out=out)


def _leaky_relu(dev: Device, out: Any, x: Any, alpha: float) -> None:
    out[...] = dev.xp.where(x > 0, x, alpha * x)


def _selu(dev: Device, out: Any, x: Any, alpha: float) -> None:
    _elu(dev, out, x, SELU_ALPHA, SELU_SCALE)


def _softplus(dev: Device, out: Any, x: Any, alpha: float) -> None:
    out[...] = _log1p_exp(dev.xp, x)


# fmt: off
ACTIVATIONS: dict[str, Activation] = {
    #                       value          gradient through the output y ...
    "identity":   Activation(lambda dev, out, x, a: dev.xp.copyto(out, x), lambda g, y, a: g),
    "relu":       Activation(_relu,        lambda g, y, a: where(gt(y, 0.0), g, 0.0)),
    "leaky_relu": Activation(_leaky_relu,  lambda g, y, a: where(gt(y, 0.0), g, a * g), alpha=0.01),
    "elu":        Activation(_elu,         lambda g, y, a: where(gt(y, 0.0), g, g * (y + a)), alpha=1.0),
    "selu":       Activation(_selu,        lambda g, y, a: g * where(gt(y, 0.0), SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)),
    "sigmoid":    Activation(_sigmoid,     lambda g, y, a: g * (y * (1.0 - y))),
    "tanh":       Activation(lambda dev, out, x, a: dev.xp.tanh(x, out=out), lambda g, y, a: g * (1.0 - y * y)),
    "softplus":   Activation(_softplus,    lambda g, y, a: g * (1.0 - exp(-y))),
    # ... or through the input x
    "gelu":       Activation(_gelu,        _gelu_gradient, "input"),
    "silu":       Activation(_silu,        _silu_gradient, "input"),
    "mish":       Activation(_mish,        _mish_gradient, "input"),
}
# fmt: on


def lookup(name: str) -> Activation:
    if name not in ACTIVATIONS:
        raise ConfigError(f'no activation "{name}".{did_you_mean(name, ACTIVATIONS)}')
    return ACTIVATIONS[name]


def _value(dev: Device, out: Any, x: Any, *, act: str, alpha: float) -> None:
    ACTIVATIONS[act].value(dev, out, x, alpha)


activation = op(shape=as_float, name="activation", elementwise=True)(_value)
activation_keep = op(shape=as_float, name="activation_keep", kernel="activation", elementwise=True)(_value)


@activation.vjp
def _(g: Tensor, out: Tensor, *, act: str, alpha: float) -> Tensor:
    return activation_vjp(g, out, act=act, alpha=alpha)


@activation_keep.vjp
def _(g: Tensor, x: Tensor, *, act: str, alpha: float) -> Tensor:
    return activation_vjp(g, x, act=act, alpha=alpha)


@composite(shape=same, elementwise=True, inplace=("g",))
def activation_vjp(g: Tensor, s: Tensor, *, act: str, alpha: float) -> Tensor:
    """g times the derivative, from what the activation saved: its output or its input."""
    return ACTIVATIONS[act].gradient(g, s, alpha)


def activate(x: Tensor, act: str, alpha: float | None = None) -> Tensor:
    """The activation called `act` of x; alpha defaults to the table's."""
    row = lookup(act)
    alpha = row.alpha if alpha is None else float(alpha)
    if alpha < 0:
        raise ConfigError(f"{act}: alpha must not be negative (the gradient is taken from the output), got {alpha}")
    if act == "identity":
        return x
    return (activation if row.needs == "output" else activation_keep)(x, act=act, alpha=alpha)


# fmt: off
def relu(x: Tensor) -> Tensor:                               return activate(x, "relu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor: return activate(x, "leaky_relu", alpha)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:         return activate(x, "elu", alpha)
def selu(x: Tensor) -> Tensor:                               return activate(x, "selu")
def sigmoid(x: Tensor) -> Tensor:                            return activate(x, "sigmoid")
def tanh(x: Tensor) -> Tensor:                               return activate(x, "tanh")
def softplus(x: Tensor) -> Tensor:                           return activate(x, "softplus")
def gelu(x: Tensor) -> Tensor:                               return activate(x, "gelu")
def silu(x: Tensor) -> Tensor:                               return activate(x, "silu")
def mish(x: Tensor) -> Tensor:                               return activate(x, "mish")
# fmt: on
