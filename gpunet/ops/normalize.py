"""Normalisation over the batch or over a row's features."""

from __future__ import annotations

from typing import Any

from ..engine import Tensor, composite
from .elementwise import sqrt, square
from .reduce import mean


@composite(outs=3)
def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float) -> Any:
    """gamma * (x - mean) / sqrt(var + eps) + beta over the rows, and that mean and variance (Ioffe and Szegedy 2015)."""
    m = mean(x, axis=0)
    centred = x - m
    v = mean(square(centred), axis=0)
    return centred / sqrt(v + eps) * gamma + beta, m, v


@composite
def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, *, eps: float) -> Tensor:
    """The same over the last axis, each row by itself (Ba et al. 2016)."""
    centred = x - mean(x, axis=-1, keepdims=True)
    return centred / sqrt(mean(square(centred), axis=-1, keepdims=True) + eps) * gamma + beta
