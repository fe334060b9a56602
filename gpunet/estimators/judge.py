"""Metrics as a person reads them: of classes and probabilities, of values in their own unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import metrics
from ..errors import ConfigError
from ..tabular import Target

Array = npt.NDArray[Any]

GREATER = ("_score", "accuracy", "auc")  # scikit-learn's convention for names, where a function does not say
LOWER = ("_error", "_loss", "_deviance")


class Judge:
    """What the Trainer calls with encoded answers and raw outputs; `target` says what these mean."""

    needs = "values"  # of the Trainer: the outputs as they are

    def __init__(self, name: str, metric: metrics.Metric | Callable[..., float], greater_is_better: bool) -> None:
        self.__name__, self.metric, self.greater_is_better = name, metric, greater_is_better
        self.target: Target | None = None

    def of(self, target: Target) -> Judge:
        self.target = target
        return self

    def function(self, y: Array, outputs: Array, sample_weight: Array | None = None) -> float:
        assert self.target is not None
        task = self.target.task
        if not isinstance(self.metric, metrics.Metric):
            answers = y if task == "multilabel" else self.target.decode(y) if task == "classification" else None
            if answers is None:
                return float(self.metric(self.target.restore(y), self.target.decode_values(outputs)))
            return float(self.metric(answers, probabilities(task, outputs)))
        if self.metric.task == "regression":
            given = self.target.restore(y), self.target.decode_values(outputs)
            return self.metric.function(*given, sample_weight=sample_weight)
        if self.metric.needs == "labels":
            return self.metric.function(y, outputs.argmax(axis=-1), sample_weight=sample_weight)
        return self.metric.function(y, probabilities(task, outputs), sample_weight=sample_weight)


def probabilities(task: str, z: Array) -> Array:
    """Of classes, which add up to 1, or of labels, each for itself."""
    z = z.astype(np.float64)
    if task == "multilabel":
        return np.asarray(np.exp(-np.logaddexp(0, -z)))
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def judge(scoring: str | Callable[..., float]) -> Judge:
    """Of a name in gpunet.metrics, or of a function (y_true, probabilities or values) -> float.

    A function says which way is better by its attribute greater_is_better, or by its name, as scikit-learn's do.
    """
    if isinstance(scoring, str):
        metric = metrics.get(scoring)
        return Judge(scoring, metric, metric.greater_is_better)
    if not callable(scoring):
        raise ConfigError(f"scoring: the name of a metric, or a function (y_true, y_pred) -> float, got {scoring!r}")
    name = getattr(scoring, "__name__", type(scoring).__name__)
    greater = getattr(scoring, "greater_is_better", None)
    if greater is None and not name.endswith((*GREATER, *LOWER)):
        raise ConfigError(f"scoring: is more of {name} better? Say so by {name}.greater_is_better = True")
    return Judge(name, scoring, bool(name.endswith(GREATER) if greater is None else greater))
