"""Temperature scaling: the one number by which logits are divided so that held-out rows find them honest."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .judge import probabilities

COLDEST, HOTTEST = 0.05, 20.0


def temperature(z: npt.NDArray[Any], answers: npt.NDArray[Any], weight: npt.NDArray[Any] | None, task: str) -> float:
    """The T > 0 that minimises the log loss of z / T on rows that training did not see.

    The loss is convex in 1 / T, so its slope, sum of (p - t) z, is bisected. The answers t are smoothed by 1 / (n + 1),
    as if one more row had come that could be anything: a few rows, all of them right, do not make a model certain.

    Args:
        z: logits [n, k]. answers: classes [n], or 0 and 1 of labels [n, k].
        weight: of the rows [n]. task: "classification" or "multilabel".
    """
    z = z.astype(np.float64)
    n = len(z) if weight is None else float(weight.sum())
    even = 0.5 if task == "multilabel" else 1.0 / z.shape[1]
    truth = answers if task == "multilabel" else np.eye(z.shape[1])[answers]
    truth = truth + (even - truth) / (n + 1)
    rows = (1.0 if weight is None else weight[:, None]) * z

    def slope(inverse: float) -> float:
        return float(np.sum((probabilities(task, inverse * z) - truth) * rows))

    low, high = np.log(1 / HOTTEST), np.log(1 / COLDEST)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(float(np.exp(middle))) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))
