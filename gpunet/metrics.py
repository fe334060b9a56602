"""A metric says how good predictions are, in one number that a person can read: accuracy, AUC, RMSE, ...

Every metric takes (y_true, predictions, *, sample_weight=None). Classes are the integers 0, 1, ... that index the
columns of the probabilities [n, classes]; where predicted classes are compared with true ones, strings do as well.
Values are [n] or [n, k]; k columns are scored one by one and averaged. All is computed in float64.

What the rows cannot tell is NaN, and the docstring says when; so is the score of predictions that hold NaN. No rows at
all, or weights that add up to 0, are an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import ConfigError, DataError, ShapeError, did_you_mean

Array = npt.NDArray[Any]
Weight = npt.ArrayLike | None

# ---------------------------------------------------------------- predicted classes


def accuracy(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The share of rows whose class is right."""
    true, pred, weight = _labels("accuracy", y_true, y_pred, sample_weight)
    return float(np.average(true == pred, weights=weight))


def balanced_accuracy(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The mean recall of the classes that occur in y_true."""
    true, pred, weight = _labels("balanced_accuracy", y_true, y_pred, sample_weight)
    there, right = np.bincount(true, weight), np.bincount(true, weight * (true == pred))
    return float(np.mean(right[there > 0] / there[there > 0]))


def f1(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, positive: Any = 1, sample_weight: Weight = None) -> float:
    """The harmonic mean of precision and recall of the class `positive`, of two; 0 if no row is truly positive."""
    _, _, weight = _labels("f1", y_true, y_pred, sample_weight)
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    found = np.union1d(true, pred)
    if len(found) > 2:
        raise DataError(f"f1 is for two classes, found {', '.join(map(str, found[:10]))}. Use f1_macro")
    if len(found) == 2 and positive not in found:
        raise DataError(f"f1: the classes are {found[0]} and {found[1]}: which is positive? positive={found[1]!r}")
    return _f1(true == positive, pred == positive, weight)


def f1_macro(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The mean F1 of the classes that are true or predicted somewhere."""
    true, pred, weight = _labels("f1_macro", y_true, y_pred, sample_weight)
    return float(np.mean([_f1(true == c, pred == c, weight) for c in np.union1d(true, pred)]))


def _f1(true: Array, pred: Array, weight: Array) -> float:
    """2 tp / (2 tp + fp + fn)."""
    size = float(weight @ true + weight @ pred)
    return float(2 * (weight @ (true & pred)) / size) if size else 0.0


# ---------------------------------------------------------------- probabilities of the classes


def top_k_accuracy(y_true: npt.ArrayLike, scores: npt.ArrayLike, *, k: int = 5, sample_weight: Weight = None) -> float:
    """The share of rows whose class is among the k best scored of [n, classes]; of equal scores the first is better."""
    if k < 1:
        raise ConfigError(f"top_k_accuracy: k must be at least 1, got {k}")
    true, p, weight = _scores("top_k_accuracy", y_true, scores, sample_weight)
    if np.isnan(p).any():
        return float("nan")
    own = np.take_along_axis(p, true[:, None], axis=1)
    better = (p > own) | ((p == own) & (np.arange(p.shape[1]) < true[:, None]))
    return float(np.average(better.sum(axis=1) < k, weights=weight))


def auc(y_true: npt.ArrayLike, scores: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The area under the ROC curve: how often a row of the class scores higher than one of another; a tie counts half.

    Two classes: scores of class 1, [n], or [n, 2]. More: the mean over the classes, each against the rest (macro). A
    class that no row has, or every row, has no area and is left out; if that leaves none, NaN.
    """
    true, p, weight = _scores("auc", y_true, scores, sample_weight)
    if np.isnan(p).any():
        return float("nan")
    classes = [1] if p.shape[1] == 2 else range(p.shape[1])
    areas = np.array([_area(true == c, p[:, c], weight) for c in classes])
    areas = areas[~np.isnan(areas)]
    return float(areas.mean()) if len(areas) else float("nan")


def _area(positive: Array, score: Array, weight: Array) -> float:
    """The Mann-Whitney statistic of weighted rows."""
    _, place = np.unique(score, return_inverse=True)
    up, down = np.bincount(place, weight * positive), np.bincount(place, weight * ~positive)
    pairs = up.sum() * down.sum()
    return float(up @ (np.cumsum(down) - down / 2) / pairs) if pairs else float("nan")


def log_loss(y_true: npt.ArrayLike, probabilities: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The mean of -log p(class), with p kept in [eps, 1 - eps] of its dtype: a sure mistake costs 16 in float32."""
    eps = np.finfo(_float_dtype(probabilities)).eps
    true, p, weight = _scores("log_loss", y_true, probabilities, sample_weight, sums_to_one=True)
    own = np.clip(np.take_along_axis(p, true[:, None], axis=1)[:, 0], eps, 1 - eps)
    return float(np.average(-np.log(own), weights=weight))


def brier(y_true: npt.ArrayLike, probabilities: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The mean squared error of p (Brier 1950): of class 1 if there are two classes, else summed over the classes."""
    true, p, weight = _scores("brier", y_true, probabilities, sample_weight, sums_to_one=True)
    error = np.sum((p - (np.arange(p.shape[1]) == true[:, None])) ** 2, axis=1)
    return float(np.average(error, weights=weight)) / (2 if p.shape[1] == 2 else 1)


# ---------------------------------------------------------------- values


def mae(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The mean absolute error."""
    true, pred, weight = _values("mae", y_true, y_pred, sample_weight)
    return float(np.mean(np.average(np.abs(true - pred), axis=0, weights=weight)))


def rmse(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """The root of the mean squared error; for [n, k] the mean of k roots."""
    true, pred, weight = _values("rmse", y_true, y_pred, sample_weight)
    return float(np.mean(np.sqrt(np.average((true - pred) ** 2, axis=0, weights=weight))))


def r2(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, *, sample_weight: Weight = None) -> float:
    """1 - squared error / squared deviation from the mean. One row: NaN. Constant y_true: 1 if met exactly, else 0."""
    true, pred, weight = _values("r2", y_true, y_pred, sample_weight)
    if len(true) < 2:
        return float("nan")
    error = np.average((true - pred) ** 2, axis=0, weights=weight)
    spread = np.average((true - np.average(true, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    seen = true[weight > 0]
    constant = np.all(seen == seen[0], axis=0) | (spread == 0)  # by rounding, a constant's spread may not be 0
    explained = 1 - error / np.where(constant, 1.0, spread)
    return float(np.mean(np.where(constant, np.where(error == 0, 1.0, 0.0 * error), explained)))


# ---------------------------------------------------------------- by name


@dataclass(frozen=True)
class Metric:
    """A metric and what is to be known for calling it and for judging its number."""

    name: str
    function: Callable[..., float]
    needs: Literal["labels", "probabilities", "values"]
    greater_is_better: bool
    task: Literal["classification", "regression"]


# fmt: off
METRICS: dict[str, Metric] = {metric.name: metric for metric in (
    Metric("accuracy",          accuracy,          "labels",        True,  "classification"),
    Metric("balanced_accuracy", balanced_accuracy, "labels",        True,  "classification"),
    Metric("f1",                f1,                "labels",        True,  "classification"),
    Metric("f1_macro",          f1_macro,          "labels",        True,  "classification"),
    Metric("top_k_accuracy",    top_k_accuracy,    "probabilities", True,  "classification"),
    Metric("auc",               auc,               "probabilities", True,  "classification"),
    Metric("log_loss",          log_loss,          "probabilities", False, "classification"),
    Metric("brier",             brier,             "probabilities", False, "classification"),
    Metric("mae",               mae,               "values",        False, "regression"),
    Metric("rmse",              rmse,              "values",        False, "regression"),
    Metric("r2",                r2,                "values",        True,  "regression"),
)}
_DEFAULTS = {
    "classification": ("accuracy", "balanced_accuracy", "auc"),
    "regression":     ("rmse", "mae", "r2"),
}
# fmt: on


def get(name: str) -> Metric:
    """The metric called "auc", "rmse", ...; "top_k_accuracy:3" says which k (else 5)."""
    plain, colon, number = name.partition(":")
    if plain not in METRICS:
        raise ConfigError(f'no metric "{plain}".{did_you_mean(plain, METRICS)}')
    if not colon:
        return METRICS[plain]
    if plain != "top_k_accuracy" or not number.isdecimal() or int(number) < 1:
        raise ConfigError(f'metric "{name}": only top_k_accuracy takes a number, its k. For example top_k_accuracy:3')
    return replace(METRICS[plain], name=name, function=partial(top_k_accuracy, k=int(number)))


def default_metrics(task: str) -> tuple[str, ...]:
    """The names of the metrics shown unless others are asked for; the first is the one to quote."""
    if task not in _DEFAULTS:
        raise ConfigError(f'no task "{task}".{did_you_mean(task, _DEFAULTS)}')
    return _DEFAULTS[task]


# ---------------------------------------------------------------- checks


def _labels(name: str, y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weight: Weight) -> tuple[Array, Array, Array]:
    """True and predicted classes as places in the sorted list of all that occur, and the weights."""
    true, pred = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != pred.shape:
        raise ShapeError(f"{name}: true and predicted classes [n] are expected, got {true.shape} and {pred.shape}")
    weights = _weights(name, weight, len(true))
    if (true.dtype.kind in "OUT") != (pred.dtype.kind in "OUT"):
        raise DataError(f"{name}: the true classes are {true.dtype}, the predicted ones {pred.dtype}")
    _, codes = np.unique(np.concatenate([true, pred]), return_inverse=True)
    return codes[: len(true)], codes[len(true) :], weights


def _scores(
    name: str, y_true: npt.ArrayLike, scores: npt.ArrayLike, weight: Weight, *, sums_to_one: bool = False
) -> tuple[Array, Array, Array]:
    """True classes [n] as int64, scores [n, classes] as float64 (two columns for [n]), and the weights."""
    true, p = np.asarray(y_true), np.asarray(scores, np.float64)
    p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    if true.ndim != 1 or p.ndim != 2 or len(p) != len(true) or p.shape[1] < 2:
        shapes = f"{true.shape} and {np.shape(scores)}"
        raise ShapeError(f"{name}: classes [n] and scores [n, classes], or [n] of class 1, are expected, got {shapes}")
    weights = _weights(name, weight, len(true))
    codes = true.astype(np.int64) if true.dtype.kind in "biuf" else np.full(len(true), -1)
    wrong = np.flatnonzero((codes != true) | (codes < 0) | (codes >= p.shape[1]))
    if len(wrong):
        what = f"row {wrong[0] + 1} has the class {true[wrong[0]]!r}"
        raise DataError(f"{name}: classes are the columns of the scores, 0 to {p.shape[1] - 1}; {what}")
    if sums_to_one:
        _check_probabilities(name, p)
    return codes, p, weights


def _check_probabilities(name: str, p: Array) -> None:
    wrong = np.flatnonzero((np.abs(p.sum(axis=1) - 1) > 1e-3) | (p < 0).any(axis=1))
    if len(wrong):
        row = ", ".join(f"{value:.4g}" for value in p[wrong[0], :5])
        raise DataError(f"{name}: probabilities that add up to 1 are expected; row {wrong[0] + 1} is {row}. Logits?")


def _values(name: str, y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weight: Weight) -> tuple[Array, Array, Array]:
    """True and predicted values as float64 [n, k], and the weights."""
    true, pred = np.asarray(y_true, np.float64), np.asarray(y_pred, np.float64)
    if true.shape != pred.shape or true.ndim not in (1, 2):
        hint = ". Use y[:, None] or predictions[:, 0]" if true.size == pred.size else ""
        shapes = f"{true.shape} and {pred.shape}"
        raise ShapeError(f"{name}: values of one shape, [n] or [n, k], are expected, got {shapes}{hint}")
    weights = _weights(name, weight, len(true))
    return true.reshape(len(true), -1), pred.reshape(len(true), -1), weights


def _weights(name: str, weight: Weight, rows: int) -> Array:
    if rows == 0:
        raise ShapeError(f"{name}: no rows")
    weights = np.ones(rows) if weight is None else np.asarray(weight, np.float64)
    if weights.shape != (rows,):
        raise ShapeError(f"{name}: sample_weight must have the shape ({rows},), got {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.sum() > 0:
        raise DataError(f"{name}: sample_weight must be finite, at least 0, and not all 0")
    return weights


def _float_dtype(array: npt.ArrayLike) -> Any:
    dtype = np.asarray(array).dtype
    return dtype if dtype.kind == "f" else np.float64
