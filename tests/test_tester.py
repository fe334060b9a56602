"""The tests are tested: small faults planted in ops, gradients and kernels must be caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_ops
from cases import CASES, Case
from conftest import PoisonedCPU, make
from test_ops import SMOOTH, all_ops

from gpunet import ops
from gpunet.engine import Op, Tensor, composite, op, tensor
from gpunet.errors import DTypeError
from gpunet.graph import GradientError, check_grads
from gpunet.ops.rules import same


def case(name: str) -> Case:
    return next(c for c in SMOOTH if str(c) == name)


def scaled(g: Any, factor: float) -> Any:
    """A gradient that is wrong by a factor, in each form a vjp may return it."""
    if callable(g):
        return lambda: scaled(g(), factor)
    return g if g is None else g * factor


# ---------------------------------------------------------------- gradients

# fmt: off
PLANTED = [  # the case that must fail, the op whose vjp is made wrong, and which of its inputs' gradients
    ("exp", "exp", 0), ("log", "log", 0), ("sqrt", "sqrt", 0), ("mul", "mul", 0), ("mul", "mul", 1), ("div", "div", 1),
    ("pow", "pow", 0),
    ("maximum", "maximum", 1), ("where", "where", 2), ("erf", "erf", 0), ("sum-0", "sum", 0),
    ("mean-(0, 2)", "mean", 0), ("max-rows", "max", 0),
    ("matmul", "matmul", 0), ("matmul", "matmul", 1), ("reshape", "reshape", 0), ("broadcast_to", "broadcast_to", 0),
    ("slice", "slice", 0),
    ("concat", "concat", 2), ("pad", "pad", 0), ("gather", "gather", 0), ("scatter_add", "scatter_add", 0),
    ("pick", "pick", 0),
    ("activate-tanh", "activation", 0), ("activate-gelu", "activation_keep", 0), ("dropout", "dropout", 0),
    ("pack", "pack", 1),
]
# fmt: on


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def planted(target: Op, which: int, factor: float) -> None:
        backward = target.backward

        def wrong(*args: Any, **settings: Any) -> tuple[Any, ...]:
            made = backward(*args, **settings)
            grads = made if isinstance(made, tuple) else (made,)
            return tuple(scaled(g, factor) if i == which else g for i, g in enumerate(grads))

        monkeypatch.setattr(target, "backward", wrong)

    return planted


@pytest.mark.parametrize(("name", "of", "which"), PLANTED, ids=str)
def test_a_vjp_wrong_by_a_thousandth_is_caught(plant: Any, numpy_device: Any, name: str, of: str, which: int) -> None:
    test_ops.test_gradient(case(name), numpy_device)
    plant(all_ops()[of], which, 1.001)
    with pytest.raises(GradientError, match="allowed"):
        test_ops.test_gradient(case(name), numpy_device)


@pytest.mark.parametrize(
    "name", ["linear-tanh", "softmax", "log_softmax", "softmax_cross_entropy-0.1", "activation_vjp-sigmoid"]
)
def test_a_composites_vjp_wrong_by_a_thousandth_is_caught(plant: Any, name: str) -> None:
    """On a device with a kernel of its name, where a composite is one node with one vjp."""
    device = make("declining")
    test_ops.test_gradient(case(name), device)
    plant(all_ops()[case(name).op], 0, 1.001)
    with pytest.raises(GradientError):
        test_ops.test_gradient(case(name), device)


def test_a_wrong_second_order_is_caught_where_the_first_is_right() -> None:
    @op(shape=same, elementwise=True)
    def inner(dev: Any, out: Any, g: Any, x: Any) -> None:
        out[...] = g * 3 * x**2

    @inner.vjp
    def _(gg: Tensor, g: Tensor, x: Tensor) -> Any:
        return gg * 3 * x * x, gg * g * 6.006 * x

    @op(shape=same, elementwise=True)
    def cube(dev: Any, out: Any, x: Any) -> None:
        out[...] = x**3

    @cube.vjp
    def _(g: Tensor, x: Tensor) -> Tensor:
        return inner(g, x)

    x = np.array([0.5, -1.5])
    check_grads(cube, [x], order=1)
    with pytest.raises(GradientError, match=r"cube, order 2, input 0 \(float64\[2\]\)"):
        check_grads(cube, [x], order=2)


def test_a_gradient_that_forgets_the_graph_is_caught_at_second_order() -> None:
    """Computed by detached values: right once, constant ever after."""

    @composite
    def square(x: Tensor) -> Tensor:
        return x * x

    @op(shape=same, elementwise=True)
    def detached(dev: Any, out: Any, x: Any) -> None:
        out[...] = x * x

    @detached.vjp
    def _(g: Tensor, x: Tensor) -> Tensor:
        return g * 2 * x.detach()

    x = np.array([0.5, -1.5])
    check_grads(square, [x])
    check_grads(detached, [x], order=1)
    with pytest.raises(GradientError, match="order 2"):
        check_grads(detached, [x])


def test_the_error_says_everything() -> None:
    @op(shape=same, elementwise=True)
    def half(dev: Any, out: Any, x: Any, y: Any) -> None:
        out[...] = x * y

    @half.vjp
    def _(g: Tensor, x: Tensor, y: Tensor) -> Any:
        return g * y, g * x * 0.5

    words = (
        r"half, order 1, input 1 \(float64\[2\]\): the gradient gives -?\d.*, "
        r"the difference quotient -?\d.*: 0.5 apart, 1e-06 allowed"
    )
    for fn in (half, lambda x, y: half(x, y)):  # a lambda is called by its op
        with pytest.raises(GradientError, match=words):
            check_grads(fn, [np.array([0.5, -1.5]), np.array([2.0, 3.0])])


def test_nan_never_passes() -> None:
    with np.errstate(invalid="ignore"), pytest.raises(GradientError):
        check_grads(ops.log, [np.array([-1.0])])


def test_a_missing_gradient_is_caught() -> None:
    with pytest.raises(GradientError, match="the gradient gives 0"):
        check_grads(lambda x: x.detach() * 2, [np.array([1.0])])


def test_float32_is_checked_more_loosely_and_mixtures_are_refused() -> None:
    x = np.array([0.5, -1.5, 0.7])
    check_grads(lambda x: ops.tanh(x) * x, [x.astype(np.float32)])
    with pytest.raises(GradientError, match="0.01 allowed"):
        check_grads(lambda x: x * x.detach(), [x.astype(np.float32)])
    for inputs in ([x, x.astype(np.float32)], [np.array([1, 2])], [x.astype(np.float16)]):
        with pytest.raises(DTypeError, match="check_grads: inputs all float64, or all float32"):
            check_grads(ops.add, inputs)


def test_a_direction_finds_one_wrong_element_among_a_thousand() -> None:
    @op(shape=same, elementwise=True)
    def almost(dev: Any, out: Any, x: Any) -> None:
        out[...] = x * x

    @almost.vjp
    def _(g: Tensor, x: Tensor) -> Tensor:
        mask = np.ones(1023)
        mask[511] = 1.001
        return g * 2 * x * mask

    x = np.random.default_rng(0).uniform(0.5, 1.5, 1023)
    with pytest.raises(GradientError):
        check_grads(almost, [x])


# ---------------------------------------------------------------- values


@pytest.fixture
def forward_wrong(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Forwards of an op on the device pass through `spoil(out)` from now on."""

    def planted(target: Op, spoil: Callable[[Any], None]) -> None:
        forward = target.forward

        def wrong(dev: Any, *arrays: Any, **settings: Any) -> None:
            forward(dev, *arrays, **settings)
            spoil(arrays[0])

        monkeypatch.setattr(target, "forward", wrong)
        monkeypatch.setattr(target, "_runs", {})

    return planted


def slightly(out: Any) -> None:
    out *= out.dtype.type(1.001)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "name",
    [
        "exp", "add", "div", "erf", "sum-0", "mean-None", "max-rows", "matmul", "pad", "gather", "scatter_add",
        "activation-elu", "dropout",
    ],
)  # fmt: skip
def test_a_forward_wrong_by_a_thousandth_is_caught(
    forward_wrong: Any, numpy_device: Any, name: str, dtype: Any
) -> None:
    test_ops.test_value(case(name), numpy_device, dtype)
    forward_wrong(all_ops()[case(name).op], slightly)
    with pytest.raises(AssertionError, match=case(name).op):
        test_ops.test_value(case(name), numpy_device, dtype)


@pytest.fixture
def poisoned() -> PoisonedCPU:
    return PoisonedCPU(native=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_forgotten_write_is_caught_by_the_poisoned_device(poisoned: PoisonedCPU, dtype: Any) -> None:
    """A kernel whose loop stops one element early, as a wrong tail would."""

    def short(out: Any, x: Any) -> None:
        out[...].reshape(-1)[: x.size - 1] = np.exp(x.reshape(-1)[: x.size - 1])

    test_ops.test_value(case("exp"), poisoned, dtype)
    poisoned.kernels = {"exp": short}
    ops.exp._runs.pop(poisoned)
    with pytest.raises(AssertionError, match="nan"):
        test_ops.test_value(case("exp"), poisoned, dtype)


def test_a_forgotten_write_of_integers_is_caught(poisoned: PoisonedCPU) -> None:
    poisoned.kernels = {"argmax": lambda out, x, axis, keepdims: None}
    with pytest.raises(AssertionError):
        test_ops.test_value(next(c for c in CASES if c.op == "argmax"), poisoned, np.float64)


def test_every_case_would_notice_an_empty_forward(poisoned: PoisonedCPU) -> None:
    """No row of the table compares nothing: a device whose kernels write nothing fails each of them."""
    views = {"reshape", "transpose", "broadcast_to", "slice", "stop_gradient"}
    poisoned.kernels = {
        o.kernel: lambda *arrays, **settings: None for name, o in all_ops().items() if name not in views
    }
    unnoticed = []
    for row in CASES:
        try:
            test_ops.test_value(row, poisoned, np.float64)
        except (AssertionError, FloatingPointError, IndexError):
            continue
        unnoticed.append(str(row))
    # these are views, of which there is nothing to forget
    composed = {"activate-identity", "swap_last", "transpose-axes", "split", "split-equal", "unpack"}
    assert set(unnoticed) == views | composed


def test_fresh_memory_of_the_poisoned_devices_shows(poisoned: PoisonedCPU) -> None:
    assert np.isnan(poisoned.empty((3,), np.float32)).all()
    assert poisoned.empty((3,), np.int64).tolist() == [-1] * 3
    assert poisoned.empty((3,), np.bool_).all()
    assert tensor([1.0, 2.0], device=poisoned).exp().numpy() == pytest.approx(np.exp([1, 2]))
