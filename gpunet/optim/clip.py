"""Gradient clipping in ops: by value, and by the norm of all gradients together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import ops
from ..engine import Tensor


def clip_by_value(grads: Sequence[Tensor], limit: Tensor | float) -> list[Tensor]:
    """Every element kept within [-limit, limit]."""
    if isinstance(limit, Tensor):
        limit = ops.cast(limit, dtype=grads[0].dtype)
    return [ops.maximum(ops.minimum(g, limit), -limit) for g in grads]


def global_norm(grads: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all elements together, float64."""
    squares = [ops.cast(ops.sum(ops.square(g)), dtype=np.float64) for g in grads]
    return ops.sqrt(sum(squares[1:], squares[0]))


def clip_by_norm(grads: Sequence[Tensor], limit: Tensor | float) -> list[Tensor]:
    """All scaled by one factor, so that their global norm is at most `limit` (Pascanu et al. 2013; PyTorch's 1e-6)."""
    factor = ops.minimum(limit / (global_norm(grads) + 1e-6), 1.0)
    return [g * ops.cast(factor, dtype=g.dtype) for g in grads]
