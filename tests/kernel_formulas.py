"""The formulas that the kernels are checked against, in NumPy and float64 or wider."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray


def erf_long(x: Array) -> Array:
    """erf by its series of positive terms (Abramowitz and Stegun 7.1.6), in long double."""
    a = np.minimum(np.abs(x.astype(np.longdouble)), np.longdouble(7))
    term, total = a.copy(), a.copy()
    for k in range(1, 250):
        term = term * 2 * a * a / (2 * k + 1)
        total = total + term
    pi = 4 * np.arctan(np.longdouble(1))
    return np.copysign(2 / np.sqrt(pi) * np.exp(-a * a) * total, x)


LAMBDA, SELU = 1.0507009873554805, 1.6732632423543772
erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def normal_density(x: Array) -> Array:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def mish(x: Array) -> Array:
    return x * np.tanh(np.logaddexp(0, x))


def mish_slope(x: Array) -> Array:
    t = np.tanh(np.logaddexp(0, x))
    return t + x * (1 - t * t) * sigmoid(x)


def selu(x: Array) -> Array:
    return LAMBDA * np.where(x > 0, x, SELU * np.expm1(x))


def selu_slope(x: Array) -> Array:
    return LAMBDA * np.where(x > 0, 1.0, SELU * np.exp(x))


def normal(x: Array) -> Array:
    return (1 + erf(x / math.sqrt(2))) / 2


# Optimizers as PyTorch has them: each takes parameters, gradient and state, and gives the new parameters and state.


def sgd(p: Array, g: Array, m: Array, *, lr: float, momentum: float, decay: float, nesterov: bool) -> tuple:
    g = g + decay * p
    m = momentum * m + g
    return p - lr * (g + momentum * m if nesterov else m), m


def adagrad(p: Array, g: Array, v: Array, *, lr: float, eps: float, decay: float) -> tuple:
    g = g + decay * p
    v = v + g * g
    return p - lr * g / (np.sqrt(v) + eps), v


def rmsprop(
    p: Array, g: Array, v: Array, m: Array, *, lr: float, rho: float, eps: float, momentum: float, decay: float
) -> tuple:
    g = g + decay * p
    v = rho * v + (1 - rho) * g * g
    m = momentum * m + g / (np.sqrt(v) + eps)
    return p - lr * m, v, m


def moments(p: Array, g: Array, m: Array, v: Array, s: dict[str, Any]) -> tuple[Array, Array, Array, Array]:
    """p after decoupled decay, the first and second moment, and the gradient with the other kind of decay."""
    p, g = (p * (1 - s["lr"] * s["decay"]), g) if s["decoupled"] else (p, g + s["decay"] * p)
    return p, s["beta1"] * m + (1 - s["beta1"]) * g, s["beta2"] * v + (1 - s["beta2"]) * g * g, g


def adam(p: Array, g: Array, m: Array, v: Array, t: int, **s: Any) -> tuple:
    p, m, v, _ = moments(p, g, m, v, s)
    corrected = m / (1 - s["beta1"] ** t), np.sqrt(v / (1 - s["beta2"] ** t))
    return p - s["lr"] * corrected[0] / (corrected[1] + s["eps"]), m, v


def nadam(p: Array, g: Array, m: Array, v: Array, mu: float, t: int, **s: Any) -> tuple:
    p, m, v, g = moments(p, g, m, v, s)
    now, after = (s["beta1"] * (1 - 0.5 * 0.96 ** (at * s["momentum_decay"])) for at in (t, t + 1))
    mu = mu * now
    root = np.sqrt(v / (1 - s["beta2"] ** t)) + s["eps"]
    p = p - s["lr"] * (1 - now) / (1 - mu) * g / root - s["lr"] * after / (1 - mu * after) * m / root
    return p, m, v, mu


def lion(p: Array, g: Array, m: Array, *, lr: float, beta1: float, beta2: float, decay: float) -> tuple:
    sign = np.sign(beta1 * m + (1 - beta1) * g)
    return p * (1 - lr * decay) - lr * sign, beta2 * m + (1 - beta2) * g
