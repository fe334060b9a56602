"""Metrics against scikit-learn: ties, weights, absent classes, and what happens where the rows cannot tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet import metrics
from gpunet.errors import ConfigError, DataError, ShapeError

sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn (gpunet[test]) is not installed")

# fmt: off
REFERENCE: dict[str, Callable[..., Any]] = {
    "accuracy":          lambda y, p, w: sk.accuracy_score(y, p, sample_weight=w),
    "balanced_accuracy": lambda y, p, w: sk.balanced_accuracy_score(y, p, sample_weight=w),
    "f1":                lambda y, p, w: sk.f1_score(y, p, sample_weight=w, zero_division=0),
    "f1_macro":          lambda y, p, w: sk.f1_score(y, p, average="macro", sample_weight=w, zero_division=0),
    "top_k_accuracy:2":  lambda y, p, w: sk.top_k_accuracy_score(y, two(p), k=2, labels=classes(p), sample_weight=w),
    "auc":               lambda y, p, w: sk.roc_auc_score(y, two(p), multi_class="ovr", sample_weight=w),
    "log_loss":          lambda y, p, w: sk.log_loss(y, p, labels=classes(p), sample_weight=w),
    "brier":             lambda y, p, w: brier(y, p, w) / (2 if p.shape[1] == 2 else 1),
    "mae":               lambda y, p, w: sk.mean_absolute_error(y, p, sample_weight=w),
    "rmse":              lambda y, p, w: sk.root_mean_squared_error(y, p, sample_weight=w),
    "r2":                lambda y, p, w: sk.r2_score(y, p, sample_weight=w),
}
# fmt: on


def classes(p: np.ndarray) -> np.ndarray:
    return np.arange(p.shape[1])


def brier(y: np.ndarray, p: np.ndarray, w: np.ndarray | None) -> float:
    return sum(sk.brier_score_loss(y == c, p[:, c], sample_weight=w) for c in classes(p))


def two(p: np.ndarray) -> np.ndarray:
    """scikit-learn takes the probability of class 1 alone where there are two classes."""
    return p[:, 1] if p.shape[1] == 2 else p


def data(needs: str, classes: int, *, n: int = 60, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    if needs == "values":
        y = generator.normal(size=(n, classes))
        return y, y + generator.normal(size=y.shape)
    y = np.concatenate([np.arange(classes), generator.integers(0, classes, n - classes)])
    p = generator.dirichlet(np.ones(classes), n) + 0.3 * (np.arange(classes) == y[:, None])
    p = np.ceil(4 * p) if ties else p
    p /= p.sum(axis=1, keepdims=True)
    return y, p.argmax(axis=1) if needs == "labels" else p


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", REFERENCE)
def test_a_metric_is_scikit_learns(name: str, classes: int, weighted: bool) -> None:
    metric = metrics.get(name)
    if name == "f1":
        classes = 2
    for ties in (False, True) if name != "top_k_accuracy:2" else (False,):
        for seed in range(5):
            y, given = data(metric.needs, classes, ties=ties, seed=seed)
            weight = np.random.default_rng(seed).integers(0, 4, len(y)).astype(float) if weighted else None
            expected = REFERENCE[name](y, given, weight)
            assert metric.function(y, given, sample_weight=weight) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_every_metric_of_the_table_is_compared() -> None:
    assert {name.partition(":")[0] for name in REFERENCE} == set(metrics.METRICS)


@pytest.mark.parametrize("name", REFERENCE)
def test_greater_is_better_where_it_says_so(name: str) -> None:
    metric = metrics.get(name)
    y, given = data(metric.needs, 2)
    right = y if metric.needs != "probabilities" else np.eye(2)[y]
    best, other = metric.function(y, right), metric.function(y, given)
    assert (best > other) is metric.greater_is_better or name == "top_k_accuracy:2" and best == other == 1


def test_float32_probabilities_are_clipped_at_their_own_precision() -> None:
    y, p = np.array([0, 1]), np.array([[0, 1], [0, 1]], np.float32)
    assert metrics.log_loss(y, p) == pytest.approx(sk.log_loss(y, p), rel=1e-6)
    assert metrics.log_loss(y, p) == pytest.approx(-math.log(np.finfo(np.float32).eps) / 2, rel=1e-6)
    assert metrics.log_loss(y, p.astype(np.float64)) > metrics.log_loss(y, p)


def test_scores_of_class_one_alone() -> None:
    y, p = data("probabilities", 2)
    for function in (metrics.auc, metrics.log_loss, metrics.brier):
        assert function(y, p[:, 1]) == pytest.approx(function(y, p), rel=1e-12)
    assert metrics.auc(y, 100 * p[:, 1] - 7) == pytest.approx(metrics.auc(y, p), rel=1e-12)  # only the order counts


def test_auc_counts_a_tie_half() -> None:
    assert metrics.auc([0, 1], [0.5, 0.5]) == 0.5
    assert metrics.auc([0, 1, 1], [0.5, 0.5, 0.9]) == 0.75
    assert metrics.auc([1, 0], [0.1, 0.9]) == 0


def test_of_equal_scores_the_first_class_is_better_as_for_argmax() -> None:
    p = np.array([[0.4, 0.4, 0.2]] * 3)
    assert [metrics.top_k_accuracy([c], p[:1], k=1) for c in range(3)] == [1, 0, 0]
    assert [metrics.top_k_accuracy([c], p[:1], k=2) for c in range(3)] == [1, 1, 0]
    assert metrics.top_k_accuracy([0, 1, 2], p, k=3) == 1
    y, p = data("probabilities", 4, ties=True)
    assert metrics.top_k_accuracy(y, p, k=1) == metrics.accuracy(y, p.argmax(axis=1))


# ---------------------------------------------------------------- what the rows cannot tell


def test_an_absent_class_is_left_out() -> None:
    y, p = np.array([0, 0, 2, 2]), np.array([[0.6, 0.1, 0.3], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.3, 0.5, 0.2]])
    of = [sk.roc_auc_score(y == c, p[:, c]) for c in (0, 2)]
    assert metrics.auc(y, p) == pytest.approx(np.mean(of))
    assert metrics.balanced_accuracy(y, p.argmax(axis=1)) == 0.5
    assert metrics.f1_macro(y, p.argmax(axis=1)) == pytest.approx(sk.f1_score(y, p.argmax(axis=1), average="macro"))
    assert metrics.log_loss(y, p) == pytest.approx(sk.log_loss(y, p, labels=[0, 1, 2]))


def test_a_class_of_weight_zero_is_absent() -> None:
    assert metrics.balanced_accuracy([0, 1, 2], [0, 0, 2], sample_weight=[1, 0, 1]) == 1
    assert math.isnan(metrics.auc([0, 1], [0.1, 0.9], sample_weight=[1, 0]))


def test_one_class() -> None:
    p = np.array([[0.8, 0.2], [0.3, 0.7]])
    assert math.isnan(metrics.auc([1, 1], p))
    assert metrics.accuracy([1, 1], [0, 1]) == metrics.balanced_accuracy([1, 1], [0, 1]) == 0.5
    assert metrics.log_loss([1, 1], p) == pytest.approx(-(math.log(0.2) + math.log(0.7)) / 2)
    assert metrics.f1([0, 0], [0, 0]) == sk.f1_score([0, 0], [0, 0], zero_division=0) == 0
    assert metrics.f1([1, 1], [1, 1]) == 1


def test_one_class_of_many_has_no_auc() -> None:
    assert math.isnan(metrics.auc([2, 2], np.full((2, 3), 1 / 3)))


def test_r2_of_one_row_and_of_a_constant() -> None:
    assert math.isnan(metrics.r2([1.0], [1.0]))
    assert metrics.r2([0.1] * 3, [0.1] * 3) == sk.r2_score([0.1] * 3, [0.1] * 3) == 1
    assert metrics.r2([5.0] * 3, [5.0, 5.0, 6.0]) == sk.r2_score([5.0] * 3, [5.0, 5.0, 6.0]) == 0
    assert metrics.r2([0.1] * 6 + [3], [0.1] * 5 + [0.2, 3], sample_weight=[1] * 6 + [0]) == 0
    y = np.array([[1.0, 7.0], [2.0, 7.0], [4.0, 7.0]])
    assert metrics.r2(y, y + [[0, 1]]) == sk.r2_score(y, y + [[0, 1]]) == 0.5
    assert math.isnan(metrics.r2([5.0, 5.0], [math.nan, 5.0]))


@pytest.mark.parametrize("name", [m.name for m in metrics.METRICS.values() if m.needs != "labels"])
def test_nan_predictions_score_nan(name: str) -> None:
    metric = metrics.get(name)
    y, given = data(metric.needs, 3)
    given[4] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(metric.function(y, given))


@pytest.mark.parametrize("name", metrics.METRICS)
def test_no_rows_and_bad_weights_are_errors(name: str) -> None:
    metric = metrics.get(name)
    y, given = data(metric.needs, 2)
    with pytest.raises(ShapeError, match=f"{name}: no rows"):
        metric.function(y[:0], given[:0])
    with pytest.raises(ShapeError, match=r"sample_weight must have the shape \(60,\), got \(59,\)"):
        metric.function(y, given, sample_weight=np.ones(59))
    for weight in (np.zeros(60), -np.ones(60), np.full(60, np.nan)):
        with pytest.raises(DataError, match="sample_weight must be finite"):
            metric.function(y, given, sample_weight=weight)
    with pytest.raises(ShapeError, match=name):
        metric.function(y, given[:-1])


# ---------------------------------------------------------------- errors that help


def test_values_are_never_broadcast() -> None:
    with pytest.raises(ShapeError, match=r"mae: .* got \(3, 1\) and \(3,\). Use y\[:, None\] or predictions\[:, 0\]"):
        metrics.mae(np.ones((3, 1)), np.ones(3))


def test_logits_are_not_taken_for_probabilities() -> None:
    with pytest.raises(DataError, match=r"row 2 is -1, 2. Logits\?"):
        metrics.log_loss([0, 1], [[0.5, 0.5], [-1, 2]])
    with pytest.raises(DataError, match="brier: probabilities"):
        metrics.brier([0], [[1.0, 1.0]])


@pytest.mark.parametrize("y", [[0, 3], [0, -1], [0, 0.5], ["a", "b"]])
def test_classes_must_be_columns(y: Any) -> None:
    with pytest.raises(DataError, match="classes are the columns of the scores, 0 to 2; row"):
        metrics.auc(y, np.full((2, 3), 1 / 3))


def test_f1_wants_two_classes_and_to_know_the_positive_one() -> None:
    assert metrics.f1(["no", "yes", "yes"], ["no", "yes", "no"], positive="yes") == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="found 0, 1, 2. Use f1_macro"):
        metrics.f1([0, 1, 2], [0, 1, 2])
    with pytest.raises(DataError, match="which is positive"):
        metrics.f1(["no", "yes"], ["no", "no"])
    assert metrics.f1_macro(["no", "yes"], ["no", "no"]) == pytest.approx(1 / 3)


def test_text_and_numbers_are_not_compared() -> None:
    with pytest.raises(DataError, match="accuracy: the true classes are"):
        metrics.accuracy(["0", "1"], [0, 1])


def test_get_by_name() -> None:
    assert metrics.get("auc").function is metrics.auc
    assert metrics.get("top_k_accuracy:3").function([0], [[0.2, 0.4, 0.4]]) == 1
    assert metrics.get("top_k_accuracy:3").name == "top_k_accuracy:3"
    with pytest.raises(ConfigError, match='no metric "acuracy". Did you mean "accuracy"?'):
        metrics.get("acuracy")
    for name in ("auc:3", "top_k_accuracy:0", "top_k_accuracy:x"):
        with pytest.raises(ConfigError, match="only top_k_accuracy takes a number"):
            metrics.get(name)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        metrics.top_k_accuracy([0], [[1.0, 0.0]], k=0)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_usual_metrics_belong_to_the_task(task: str) -> None:
    assert all(metrics.get(name).task == task for name in metrics.default_metrics(task))
    with pytest.raises(ConfigError, match='no task "clasification". Did you mean "classification"?'):
        metrics.default_metrics("clasification")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(1, 3)), min_size=1, max_size=30))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int, int]]) -> None:
    pairs = [(a * b, (s > t) + (s == t) / 2) for up, s, a in rows if up for down, t, b in rows if not down]
    y, score, weight = (np.array(part) for part in zip(*rows, strict=True))
    found = metrics.auc(y, score, sample_weight=weight)
    if not pairs:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(sum(w * order for w, order in pairs) / sum(w for w, _ in pairs))
