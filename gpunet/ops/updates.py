"""Optimizer updates as ops on flat vectors: p parameters, g gradient; the rest is what the rule remembers.

Scalars (learning rate, betas, ...) are float64 Tensors without axes, t counts steps from 1: changing one never
retraces. Powers of beta are taken in float64, where 1 - beta ** t keeps its digits. Results as PyTorch's.
"""

from __future__ import annotations

from typing import Any

from ..engine import Tensor, composite
from .elementwise import cast, pow, sign, sqrt, square


def _like(p: Tensor, *scalars: Tensor) -> list[Tensor]:
    return [cast(s, dtype=p.dtype) if s.dtype != p.dtype else s for s in scalars]


@composite(outs=2, inplace=("p", "m"))
def sgd(p: Tensor, g: Tensor, m: Tensor, lr: Tensor, momentum: Tensor, decay: Tensor, *, nesterov: bool) -> Any:
    """Stochastic gradient descent with momentum (Sutskever et al. 2013)."""
    lr, momentum, decay = _like(p, lr, momentum, decay)
    g = g + decay * p
    m = momentum * m + g
    return p - lr * (g + momentum * m if nesterov else m), m


@composite(outs=2, inplace=("p", "v"))
def adagrad(p: Tensor, g: Tensor, v: Tensor, lr: Tensor, eps: Tensor, decay: Tensor) -> Any:
    """Duchi et al. 2011."""
    lr, eps, decay = _like(p, lr, eps, decay)
    g = g + decay * p
    v = v + square(g)
    return p - lr * g / (sqrt(v) + eps), v


@composite(outs=3, inplace=("p", "v", "m"))
def rmsprop(
    p: Tensor, g: Tensor, v: Tensor, m: Tensor, lr: Tensor, rho: Tensor, eps: Tensor, momentum: Tensor, decay: Tensor
) -> Any:
    """Tieleman and Hinton 2012; momentum on the scaled gradient."""
    keep = _like(p, 1.0 - rho)[0]
    lr, rho, eps, momentum, decay = _like(p, lr, rho, eps, momentum, decay)
    g = g + decay * p
    v = rho * v + keep * square(g)
    m = momentum * m + g / (sqrt(v) + eps)
    return p - lr * m, v, m


@composite(outs=3, inplace=("p", "m", "v"))
def adam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: Tensor,
    lr: Tensor,
    beta1: Tensor,
    beta2: Tensor,
    eps: Tensor,
    decay: Tensor,
    *,
    decoupled: bool,
) -> Any:
    """Kingma and Ba 2015; decoupled weight decay is AdamW (Loshchilov and Hutter 2019)."""
    t = cast(t, dtype=beta1.dtype)
    size, root = _like(p, lr / (1.0 - pow(beta1, t)), sqrt(1.0 - pow(beta2, t)))
    p, g = _decayed(p, g, lr, decay, decoupled)
    m, v = _moments(g, m, v, beta1, beta2)
    return p - size * m / (sqrt(v) / root + _like(p, eps)[0]), m, v


@composite(outs=4, inplace=("p", "m", "v", "mu"))
def nadam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    mu: Tensor,
    t: Tensor,
    lr: Tensor,
    beta1: Tensor,
    beta2: Tensor,
    eps: Tensor,
    decay: Tensor,
    momentum_decay: Tensor,
    *,
    decoupled: bool,
) -> Any:
    """Dozat 2016; mu (float64, from 1) is the product of the momenta so far."""
    t = cast(t, dtype=beta1.dtype)
    now = beta1 * (1.0 - 0.5 * pow(0.96 + 0.0 * t, t * momentum_decay))
    then = beta1 * (1.0 - 0.5 * pow(0.96 + 0.0 * t, (t + 1.0) * momentum_decay))
    mu = mu * now
    of_g, of_m, root = _like(p, lr * (1.0 - now) / (1.0 - mu), lr * then / (1.0 - mu * then), sqrt(1.0 - pow(beta2, t)))
    p, g = _decayed(p, g, lr, decay, decoupled)
    m, v = _moments(g, m, v, beta1, beta2)
    return p - (of_g * g + of_m * m) / (sqrt(v) / root + _like(p, eps)[0]), m, v, mu


@composite(outs=2, inplace=("p", "m"))
def lion(p: Tensor, g: Tensor, m: Tensor, lr: Tensor, beta1: Tensor, beta2: Tensor, decay: Tensor) -> Any:
    """The sign of an interpolated momentum (Chen et al. 2023), decoupled weight decay."""
    b1, a1, b2, a2 = _like(p, beta1, 1.0 - beta1, beta2, 1.0 - beta2)
    step = sign(b1 * m + a1 * g)
    return _decayed(p, g, lr, decay, True)[0] - _like(p, lr)[0] * step, b2 * m + a2 * g


def _decayed(p: Tensor, g: Tensor, lr: Tensor, decay: Tensor, decoupled: bool) -> tuple[Tensor, Tensor]:
    if decoupled:
        return p * _like(p, 1.0 - lr * decay)[0], g
    return p, g + _like(p, decay)[0] * p


def _moments(g: Tensor, m: Tensor, v: Tensor, beta1: Tensor, beta2: Tensor) -> tuple[Tensor, Tensor]:
    b1, a1, b2, a2 = _like(m, beta1, 1.0 - beta1, beta2, 1.0 - beta2)
    return b1 * m + a1 * g, b2 * v + a2 * square(g)
