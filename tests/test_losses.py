"""Losses: what they are worth, how strict they are, and that they are made of ops alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from gpunet import losses, ops
from gpunet.devices import Device
from gpunet.engine import Node, Recorder, Spec, Tensor, grad, set_mode, tensor
from gpunet.errors import ConfigError, DTypeError, ShapeError

RNG = np.random.default_rng(3)
N, C = 6, 4
ARRAYS = {
    "z": RNG.normal(size=(N, C)),
    "classes": RNG.integers(0, C, N),
    "soft": RNG.dirichlet(np.ones(C), N),
    "labels": RNG.integers(0, 2, (N, C)).astype(float),
    "numbers": RNG.normal(size=(N, C)),
    "column": RNG.normal(size=(N, 1)),
    "counts": RNG.poisson(2.0, (N, C)).astype(float),
    "weight": RNG.uniform(0.2, 2.0, N),
    "class_weight": RNG.uniform(0.3, 3.0, C),
}
QUANTILES = (0.1, 0.5, 0.7, 0.9)
# fmt: off
CASES: dict[str, tuple[Callable[..., Tensor], str]] = {
    "cross_entropy":  (losses.cross_entropy, "classes"),
    "smoothed":       (partial(losses.cross_entropy, label_smoothing=0.1), "classes"),
    "soft":           (losses.cross_entropy, "soft"),
    "soft smoothed":  (partial(losses.cross_entropy, label_smoothing=0.1), "soft"),
    "hinge":          (losses.hinge, "classes"),
    "bce":            (losses.bce_with_logits, "labels"),
    "bce positive":   (partial(losses.bce_with_logits, pos_weight=3.0), "labels"),
    "mse":            (losses.mse, "numbers"),
    "mae":            (losses.mae, "numbers"),
    "huber":          (partial(losses.huber, delta=0.6), "numbers"),
    "poisson":        (losses.poisson, "counts"),
    "quantile":       (partial(losses.quantile, q=0.8), "numbers"),
    "quantiles":      (partial(losses.quantile, q=QUANTILES), "column"),
}
# fmt: on
REGRESSION = [losses.mse, losses.mae, losses.huber, losses.poisson, losses.quantile, losses.bce_with_logits]


def given(name: str, device: Device | str = "cpu", dtype: Any = np.float64) -> Tensor:
    array = ARRAYS[name]
    return tensor(array.astype(dtype) if array.dtype.kind == "f" else array, device=device)


def rows(t: Tensor, chosen: list[int]) -> Tensor:
    return tensor(t.numpy()[chosen])


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("case", CASES)
def test_gradient_agrees_with_differences(case: str, device: Device) -> None:
    loss, targets = CASES[case]
    z, t, w = given("z", device), given(targets, device), given("weight", device)
    z.requires_grad = True
    direction = np.random.default_rng(1).normal(size=z.shape)
    slope = np.sum(grad(loss(z, t, weight=w), z).numpy() * direction)
    ahead, behind = (loss(tensor(z.numpy() + h * direction, device=device), t, weight=w).item() for h in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=2e-7)


@pytest.mark.parametrize("case", CASES)
def test_weight_two_is_the_row_twice(case: str) -> None:
    loss, targets = CASES[case]
    z, t = given("z"), given(targets)
    doubled = [0, 1, 1, 2, 3, 4, 4, 5]
    weight = tensor(np.array([1.0, 2, 1, 1, 2, 1]))
    expected = loss(rows(z, doubled), rows(t, doubled)).item()
    np.testing.assert_allclose(loss(z, t, weight=weight).item(), expected, rtol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_equal_weights_change_nothing(case: str) -> None:
    loss, targets = CASES[case]
    z, t = given("z"), given(targets)
    np.testing.assert_allclose(loss(z, t, weight=tensor(np.full(N, 0.3))).item(), loss(z, t).item(), rtol=1e-13)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_integer_targets_are_one_hot_soft_targets(smoothing: float, weighted: bool) -> None:
    z, t = given("z"), given("classes")
    one_hot = tensor(np.eye(C)[ARRAYS["classes"]])
    class_weight = given("class_weight") if weighted else None
    settings = {"label_smoothing": smoothing, "weight": given("weight"), "class_weight": class_weight}
    hard, soft = losses.cross_entropy(z, t, **settings), losses.cross_entropy(z, one_hot, **settings)
    np.testing.assert_allclose(hard.item(), soft.item(), rtol=1e-13)


def test_class_weight_is_a_row_weight() -> None:
    z, t, w = given("z"), given("classes"), ARRAYS["class_weight"][ARRAYS["classes"]]
    by_class = losses.cross_entropy(z, t, class_weight=given("class_weight"))
    np.testing.assert_allclose(by_class.item(), losses.cross_entropy(z, t, weight=tensor(w)).item(), rtol=1e-13)


def test_class_of_weight_zero_is_left_out() -> None:
    z, t = given("z"), given("soft")
    assert np.isfinite(losses.cross_entropy(z, t, class_weight=tensor(np.array([0.0, 0, 0, 1]))).item())
    hard, only = tensor(np.array([0, 0, 0, 1, 1, 1])), tensor(np.array([0.0, 1, 1, 1]))
    left = losses.cross_entropy(rows(z, [3, 4, 5]), rows(hard, [3, 4, 5]))
    np.testing.assert_allclose(losses.cross_entropy(z, hard, class_weight=only).item(), left.item(), rtol=1e-13)


def test_hinge_is_the_lectures() -> None:
    scores = tensor(np.array([[3.2, 5.1, -1.7], [1.3, 4.9, 2.0], [2.2, 2.5, -3.1]]))  # CS231n: cat, car, frog
    assert losses.hinge(scores, tensor(np.array([0, 1, 2]))).item() == pytest.approx((2.9 + 0.0 + 12.9) / 3)


def test_cross_entropy_of_nothing_known_is_log_classes() -> None:
    assert losses.cross_entropy(tensor(np.zeros((5, 10))), tensor(np.arange(5))).item() == pytest.approx(np.log(10))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_logits_stay_finite(dtype: Any, device: Device) -> None:
    z = tensor(np.array([[1e4, -1e4], [-1e4, 1e4]], dtype), device=device, requires_grad=True)
    for loss, t in [
        (losses.cross_entropy(z, tensor(np.array([1, 1]), device=device)), 1e4),
        (losses.bce_with_logits(z, tensor(np.array([[0, 0], [0, 0]], dtype), device=device)), 5e3),
    ]:
        assert loss.item() == pytest.approx(t)
        assert np.isfinite(grad(loss, z).numpy()).all()


def test_bce_keeps_the_digits_of_small_losses() -> None:
    z = tensor(np.array([[20.0], [-20.0]], np.float32))
    loss = losses.bce_with_logits(z, tensor(np.array([[1.0], [0.0]], np.float32)))
    assert loss.item() == pytest.approx(np.exp(-20.0), rel=1e-5)


def test_bce_takes_bools_and_integers() -> None:
    z, t = given("z"), ARRAYS["labels"]
    for other in (t.astype(bool), t.astype(np.int64), t.astype(np.uint8)):
        assert losses.bce_with_logits(z, tensor(other)).item() == losses.bce_with_logits(z, tensor(t)).item()


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_loss_is_least_at_the_quantile(q: float) -> None:
    y = np.random.default_rng(0).normal(size=(1001, 1))
    candidates = np.sort(y[:, 0])
    worth = [losses.quantile(tensor(np.full_like(y, c)), tensor(y), q=q).item() for c in candidates[::10]]
    assert abs(np.argmin(worth) / 100 - q) <= 0.01


def test_several_quantiles_are_the_mean_of_each() -> None:
    z, t = given("z"), given("column")
    each = [losses.quantile(tensor(ARRAYS["z"][:, [k]]), t, q=q).item() for k, q in enumerate(QUANTILES)]
    np.testing.assert_allclose(losses.quantile(z, t, q=QUANTILES).item(), np.mean(each), rtol=1e-13)


# ---------------------------------------------------------------- strictness


@pytest.mark.parametrize("loss", REGRESSION)
def test_column_against_vector_is_an_error_that_says_so(loss: Callable[..., Tensor]) -> None:
    column, vector = tensor(np.zeros((32, 1))), tensor(np.zeros(32))
    with pytest.raises(ShapeError) as one:
        loss(column, vector)
    both = "predictions (32, 1) and targets (32,) would broadcast to (32, 32)"
    assert str(one.value) == f"{loss.__name__}: {both}. Use y[:, None] or net(x)[:, 0]"
    with pytest.raises(ShapeError, match=r"would broadcast to \(32, 32\). Use y\[:, 0\] or net\(x\)\[:, None\]"):
        loss(vector, column)


@pytest.mark.parametrize("loss", REGRESSION)
@pytest.mark.parametrize("shapes", [((4, 2), (4, 3)), ((4, 2), (4, 1)), ((4, 1), (1, 1)), ((4,), ()), ((4,), (3,))])
def test_any_other_mismatch_is_an_error(loss: Callable[..., Tensor], shapes: tuple[Any, Any]) -> None:
    with pytest.raises(ShapeError, match=loss.__name__):
        loss(*[tensor(np.zeros(s)) for s in shapes])


@pytest.mark.parametrize("loss", [f for f in REGRESSION if f is not losses.bce_with_logits])
def test_integer_targets_for_a_regression(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(DTypeError, match=r"int64, floating point wanted. Use y.cast\(dtype='float64'\)"):
        loss(tensor(np.zeros((4, 1))), tensor(np.zeros((4, 1), np.int64)))


def test_float_targets_are_never_promoted() -> None:
    z, y = tensor(np.zeros((4, 1), np.float32)), tensor(np.zeros((4, 1)))
    for loss in REGRESSION:
        with pytest.raises(DTypeError, match=r"predictions are float32, targets float64"):
            loss(z, y)
    with pytest.raises(DTypeError, match="weight is float64, predictions are float32"):
        losses.mse(z, z, weight=tensor(np.ones(4)))


def test_targets_of_a_classifier() -> None:
    z, classes = given("z"), given("classes")
    with pytest.raises(DTypeError, match=r"are classes, integers wanted.*cast\(dtype='int64'\), or give class prob"):
        losses.cross_entropy(z, classes.cast(dtype=np.float64))
    with pytest.raises(ShapeError, match=r"got \(6, 1\). Use y\[:, 0\]"):
        losses.cross_entropy(z, classes.reshape(-1, 1))
    with pytest.raises(ShapeError, match="two columns, or bce_with_logits"):
        losses.cross_entropy(given("column"), classes)
    with pytest.raises(ShapeError, match=r"\(n, classes\) wanted"):
        losses.hinge(given("weight"), classes)
    with pytest.raises(ShapeError, match=r"need targets \(6,\), got \(6, 4\)"):
        losses.hinge(z, given("soft"))


def test_shapes_of_weights() -> None:
    z, t = given("z"), given("classes")
    with pytest.raises(ShapeError, match=r"weight must have the shape \(6,\), got \(6, 1\)"):
        losses.cross_entropy(z, t, weight=given("column"))
    with pytest.raises(ShapeError, match=r"class_weight must have the shape \(4,\), got \(6,\)"):
        losses.cross_entropy(z, t, class_weight=given("weight"))


def test_no_rows_have_no_mean() -> None:
    with pytest.raises(ShapeError, match="no rows"):
        losses.mse(tensor(np.zeros((0, 1))), tensor(np.zeros((0, 1))))
    with pytest.raises(ShapeError, match="no rows"):
        losses.cross_entropy(tensor(np.zeros((0, 3))), tensor(np.zeros(0, np.int64)))


@pytest.mark.parametrize("q", [0.0, 1.0, -1.0, np.nan, [], [0.5, 1.5]])
def test_quantile_outside_the_open_interval(q: Any) -> None:
    with pytest.raises(ConfigError, match=r"q must lie in \(0, 1\)"):
        losses.quantile(given("column"), given("column"), q=q)


def test_several_quantiles_need_their_columns() -> None:
    with pytest.raises(ShapeError, match=r"2 quantiles need predictions \(n, 2\), got \(6, 4\)"):
        losses.quantile(given("z"), given("column"), q=[0.1, 0.9])
    with pytest.raises(ShapeError, match=r"Use y\[:, None\]"):
        losses.quantile(given("z"), given("weight"), q=QUANTILES)


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="label_smoothing"):
        losses.cross_entropy(given("z"), given("classes"), label_smoothing=1.5)
    with pytest.raises(ConfigError, match="delta"):
        losses.huber(given("z"), given("numbers"), delta=0.0)


# ---------------------------------------------------------------- by name


def test_every_name_finds_its_loss() -> None:
    assert all(losses.get(name) is loss for name, loss in losses.LOSSES.items())
    assert losses.get(losses.mse) is losses.mse


def test_a_name_may_carry_a_number() -> None:
    z, t = given("z"), given("numbers")
    assert losses.get("huber:1.5")(z, t).item() == losses.huber(z, t, delta=1.5).item()
    assert losses.get("quantile:0.9")(z, t).item() == losses.quantile(z, t, q=0.9).item()
    several = losses.get("quantile:0.1,0.5,0.7,0.9")(z, given("column"))
    assert several.item() == losses.quantile(z, given("column"), q=QUANTILES).item()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("crossentropy", 'Did you mean "cross_entropy"?'),
        ("mse:1", "mse takes no number"),
        ("huber:one", '"one" is not a number'),
        ("huber:1,2", "takes one number, got 2"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        losses.get(name)
    assert message in str(error.value)


# ---------------------------------------------------------------- made of ops alone


@pytest.mark.parametrize("case", CASES)
def test_losses_can_be_traced(case: str) -> None:
    loss, targets = CASES[case]
    arguments = [given("z"), given(targets), given("weight")]
    specs = [Spec(t.shape, t.dtype) for t in arguments]
    z, t, w = (Tensor(s, arguments[0].device, Node(specs=(s,))) for s in specs)
    with set_mode(trace=Recorder()):
        assert loss(z, t, weight=w).spec == Spec((), np.dtype(np.float64))


def test_a_callable_made_of_ops_is_a_loss_too() -> None:
    def log_cosh(z: Tensor, t: Tensor) -> Tensor:
        return ops.mean(z - t + ops.softplus(-2.0 * (z - t)) - np.log(2.0))

    mine = losses.get(log_cosh)(given("z"), given("numbers")).item()
    assert mine == pytest.approx(np.mean(np.log(np.cosh(ARRAYS["z"] - ARRAYS["numbers"]))))
