"""Softmax and cross-entropy in one op: the loss of a classifier, row by row."""

from __future__ import annotations

from typing import Any

from ..engine import Tensor, composite
from .layout import one_hot, pick, reshape
from .reduce import _log_softmax, _softmax, mean
from .rules import same


@composite
def softmax_cross_entropy(z: Tensor, t: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """-log softmax(z)[i, t[i]] for each row of logits z [n, c] and targets t [n] (integers).

    smoothing e gives the target distribution (1 - e) at t and e / c everywhere (Szegedy et al. 2016).
    """
    logp = _log_softmax(z)
    loss = -pick(logp, t)
    return loss if not smoothing else (1.0 - smoothing) * loss - smoothing * mean(logp, axis=-1)


@softmax_cross_entropy.vjp
def _(g: Tensor, z: Tensor, t: Tensor, *, smoothing: float) -> Any:
    return softmax_cross_entropy_vjp(g, z, t, smoothing=smoothing), None


@composite(shape=lambda g, z, t, **_: same(z))
def softmax_cross_entropy_vjp(g: Tensor, z: Tensor, t: Tensor, *, smoothing: float) -> Tensor:
    """(softmax(z) - target distribution) times g, which arrives row by row."""
    target = one_hot(t, n=z.shape[-1], dtype=z.dtype)
    if smoothing:
        target = (1.0 - smoothing) * target + smoothing / z.shape[-1]
    return (_softmax(z) - target) * reshape(g, shape=(*g.shape, 1))


@composite(outs=2)
def softmax_cross_entropy_both(g: Tensor, z: Tensor, t: Tensor, *, smoothing: float) -> Any:
    """The loss and its gradient: the compiler puts it in the place of both, on devices that do them in one pass."""
    return softmax_cross_entropy(z, t, smoothing=smoothing), softmax_cross_entropy_vjp(g, z, t, smoothing=smoothing)
