"""Metrics of a model's raw outputs: what a logit must become before a metric can judge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, metrics, ops
from ..engine import Tensor

Array = npt.NDArray[Any]


def _mean(x: Tensor) -> Tensor:
    return ops.mean(x, axis=0)


def _error(y: Tensor, z: Tensor) -> Tensor:
    return ops.cast(y, dtype=np.float64) - ops.cast(z, dtype=np.float64)


# what a device can do by itself, in float64 as gpunet.metrics does it: one number a column
_ON_DEVICE: dict[Any, Callable[[Tensor, Tensor], Tensor]] = {
    metrics.accuracy: lambda y, z: _mean(ops.cast(ops.eq(y, ops.argmax(z, axis=-1)), dtype=np.float64)),
    metrics.mae: lambda y, z: _mean(ops.abs(_error(y, z))),
    metrics.rmse: lambda y, z: ops.sqrt(_mean(ops.square(_error(y, z)))),
}


class Score:
    """One metric. `greater_is_better` is None where a function of the user's does not say."""

    def __init__(self, metric: Any, name: str) -> None:
        self.name, self.metric = name, metric
        self.greater_is_better: bool | None = getattr(metric, "greater_is_better", None)

    def of(self, y: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        """From Tensors: by their device where it can, so that one number comes back and not all outputs."""
        formula = _ON_DEVICE.get(getattr(self.metric, "function", None))
        fits = y.ndim == 1 and outputs.ndim == 2 if self.name == "accuracy" else y.shape == outputs.shape
        if formula is not None and weight is None and fits and len(y):
            return ops.mean(formula(y, outputs)).item()
        return self(y.numpy(), outputs.numpy(), None if weight is None else weight.numpy())

    def __call__(self, y: Array, outputs: Array, weight: Array | None) -> float:
        needs = getattr(self.metric, "needs", None)
        if needs is None:
            return float(self.metric(y, outputs))
        if needs != "values" and y.ndim == 2 and y.shape == outputs.shape:
            y = y.argmax(axis=-1)  # soft targets
        return self.metric.function(y, _as(needs, outputs), sample_weight=weight)


def _as(needs: str, outputs: Array) -> Array:
    if needs == "labels":
        return outputs.argmax(axis=-1)
    if needs == "probabilities":
        e = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    return outputs


def scores(loss: Any, wanted: Sequence[str | Callable[..., float]] | None) -> dict[str, Score]:
    """The metrics asked for, by name; by default the usual one of the loss, where it has one."""
    if wanted is None:
        wanted = _USUAL.get(losses.plain(loss), [])
    named = [(m, metrics.get(m)) if isinstance(m, str) else (getattr(m, "__name__", "metric"), m) for m in wanted]
    return {name: Score(metric, name) for name, metric in named}


_USUAL: dict[Any, list[Any]] = {
    losses.cross_entropy: ["accuracy"],
    losses.hinge: ["accuracy"],
    losses.mse: ["rmse"],
    losses.mae: ["mae"],
    losses.huber: ["mae"],
}
