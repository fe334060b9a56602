"""Every op on every device: value against plain NumPy, gradients against difference quotients, shape rule."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case

from gpunet import ops
from gpunet.devices import Device
from gpunet.devices.cpu import CPU, KERNELS
from gpunet.engine import Composite, Op, Recorder, Spec, Tensor, grad, set_mode, tensor
from gpunet.errors import ConfigError, ShapeError
from gpunet.graph import check_grads
from gpunet.graph.chains import chain_op

DTYPES = [np.float32, np.float64]
SMOOTH = [case for case in CASES if case.smooth]
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_smooth = pytest.mark.parametrize("case", SMOOTH, ids=str)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)


def listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, (tuple, list)) else [made]


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def assert_near(got: np.ndarray, want: Any, dtype: Any, tolerance: float, what: str) -> None:
    room = 16 * float(np.finfo(dtype).eps) * tolerance
    np.testing.assert_allclose(got, want, rtol=room, atol=room, strict=False, err_msg=what)
    assert got.shape == np.shape(want), what


@each_dtype
@each_case
def test_value(case: Case, device: Device, dtype: Any) -> None:
    for arrays in case.draws(dtype):
        with np.errstate(all="raise", under="ignore"):
            got = listed(case.call(*[tensor(a, device=device) for a in arrays]))
        for g, want in zip(got, listed(case.meaning(*map(wide, arrays))), strict=True):
            assert_near(g.numpy(), want, dtype, case.tolerance, f"{case} {[a.shape for a in arrays]}")
            assert g.dtype.kind != "f" or g.dtype in (dtype, np.float64)


@each_smooth
def test_gradient(case: Case, device: Device) -> None:
    for arrays in case.draws(np.float64):
        check_grads(case.call, [tensor(a, device=device) for a in arrays])


def gradients(case: Case, arrays: list[np.ndarray], device: Device) -> list[np.ndarray | None]:
    ins = [tensor(a, device=device, requires_grad=a.dtype.kind == "f") for a in arrays]
    outs = [out for out in listed(case.call(*ins)) if out.tracked]
    floats = [t for t in ins if t.dtype.kind == "f"]
    if not outs:
        return [None] * len(floats)
    weights = [np.cos(np.arange(out.size)).reshape(out.shape) for out in outs]
    found = grad(outs, floats, weights)
    assert all(g is None or g.dtype == t.dtype for g, t in zip(found, floats, strict=True))
    return [None if g is None else g.numpy() for g in found]


@each_smooth
def test_gradient_in_float32(case: Case, device: Device, numpy_device: Device) -> None:
    """On any device it is the float64 one of the base device, but for rounding."""
    for arrays in case.draws(np.float32):
        for got, want in zip(
            gradients(case, arrays, device), gradients(case, list(map(wide, arrays)), numpy_device), strict=True
        ):
            if got is None or want is None:
                assert got is want
            else:
                assert_near(got, want, np.float32, 10 * case.tolerance, f"{case} {[a.shape for a in arrays]}")


@each_dtype
@each_case
def test_traced_specs_are_the_eager_ones(case: Case, device: Device, dtype: Any) -> None:
    for arrays in case.draws(dtype):
        eager = [t.spec for t in listed(case.call(*[tensor(a, device=device) for a in arrays]))]
        with set_mode(trace=Recorder()):
            traced = [t.value for t in listed(case.call(*[Tensor(Spec(a.shape, a.dtype), device) for a in arrays]))]
        assert traced == eager
        assert all(isinstance(t, Spec) for t in traced)


@each_case
def test_short_shape_rules_say_what_the_composites_mean(case: Case, native_device: Device) -> None:
    for arrays in case.draws(np.float32):
        recorder, leaves = Recorder(), [Tensor(Spec(a.shape, a.dtype), native_device) for a in arrays]
        for t in leaves:
            t.requires_grad = t.dtype.kind == "f"
        with set_mode(trace=recorder):
            outs = [out for out in listed(case.call(*leaves)) if out.tracked]
            if outs:
                grad([ops.sum(out) for out in outs], [t for t in leaves if t.dtype.kind == "f"])
        for node in recorder.nodes:
            if isinstance(node.op, Composite):
                ins = [n.specs[i] for n, i in node.inputs]
                assert node.op.shape(*ins, **node.settings) == node.op.meant_shape(*ins, **node.settings), node


def test_norms_say_what_does_not_fit(device: Device) -> None:
    x, gamma, beta = (tensor(np.ones(s), device=device) for s in ((5, 3), 3, 4))
    for norm, name in ((ops.layer_norm, "layer_norm"), (ops.batch_norm, "batch_norm")):
        with pytest.raises(ShapeError, match=rf"{name}: x \(5, 3\), gamma \(3,\), beta \(4,\): gamma and beta take one"):
            norm(x, gamma, beta, eps=1e-5)
    with pytest.raises(ShapeError, match=r"batch_norm: x \(3,\): a matrix"):
        ops.batch_norm(gamma, gamma, gamma, eps=1e-5)


# ---------------------------------------------------------------- nobody is forgotten


def test_every_public_op_has_a_case() -> None:
    functions = set(ops.__all__) - {"ACTIVATIONS", "Activation", "same"}  # the table of activations, a shape rule
    assert functions - {case.op for case in CASES} == set()
    assert {case.op for case in CASES} <= set(ops.__all__)


def all_ops() -> dict[str, Op]:
    rooms = [room for name, room in sys.modules.items() if name.startswith("gpunet.ops.")]
    return {o.name: o for room in rooms for o in vars(room).values() if isinstance(o, Op)}


def test_every_op_is_run_by_some_case() -> None:
    """Also the private ones (reshape's _reshape, slice's _unslice), forward or on the way back."""
    seen: set[str] = set()
    device = Device()
    device.kernels = dict.fromkeys(KERNELS, lambda *arrays, **settings: NotImplemented)
    for case in CASES:
        recorder = Recorder()
        with set_mode(trace=recorder):
            arrays = next(case.draws(np.float32))
            ins = [Tensor(Spec(a.shape, a.dtype), device) for a in arrays]
            for t in ins:
                t.requires_grad = t.dtype.kind == "f"
            outs = [out for out in listed(case.call(*ins)) if out.tracked]
            if outs:
                grad([ops.sum(out) for out in outs], [t for t in ins if t.dtype.kind == "f"])
        seen |= {node.op.name for node in recorder.nodes if node.op is not None}
    ran_whole = {name for name, o in all_ops().items() if isinstance(o, Composite) and name not in KERNELS}
    assert all_ops().keys() - seen - ran_whole == set()


def test_every_kernel_name_is_an_op() -> None:
    assert set(KERNELS) <= {o.kernel for o in [*all_ops().values(), chain_op(1)]}


# ---------------------------------------------------------------- kernels and composites mean the same


@pytest.mark.parametrize("case", [case for case in CASES if isinstance(all_ops().get(case.op), Composite)], ids=str)
def test_kernel_means_what_the_composite_means(case: Case, native_device: Device, numpy_device: Device) -> None:
    for dtype in DTYPES:
        for arrays in case.draws(dtype):
            for a, b in zip(
                *[listed(case.call(*[tensor(x, device=d) for x in arrays])) for d in (native_device, numpy_device)],
                strict=True,
            ):
                assert a.spec == b.spec
                assert_near(a.numpy(), b.numpy(), dtype, 2 * case.tolerance, str(case))


# ---------------------------------------------------------------- views


@pytest.mark.parametrize(
    "view",
    [
        lambda x: ops.reshape(x, shape=(3, 2)), ops.transpose, ops.swap_last, lambda x: x[:, ::-1], lambda x: x[1],
        lambda x: x[None],
        lambda x: ops.broadcast_to(x, shape=(4, 2, 3)), ops.stop_gradient, lambda x: ops.split(x, 2)[1],
        lambda x: x.detach(),
    ],
)  # fmt: skip
def test_views_share_memory(view: Any) -> None:
    x = tensor(np.arange(6.0).reshape(2, 3))
    assert np.shares_memory(view(x).numpy(), x.numpy())


def test_what_is_no_view_has_its_own_memory() -> None:
    x = tensor(np.arange(6.0).reshape(2, 3))
    for made in (ops.copy(x), ops.cast(x, dtype=np.float64), x[[0, 1]], ops.pad(x, widths=((0, 0), (0, 0))), x + 0):
        assert not np.shares_memory(made.numpy(), x.numpy())


# ---------------------------------------------------------------- where the formulas are hard


@each_dtype
def test_large_arguments_neither_overflow_nor_lose_the_result(device: Device, dtype: Any) -> None:
    x = tensor(np.array([-800.0, -90.0, 0.0, 90.0, 800.0], dtype), device=device)
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(ops.sigmoid(x).numpy(), [0, np.exp(-90.0), 0.5, 1, 1], rtol=1e-5, atol=1e-30)
        np.testing.assert_allclose(ops.softplus(x).numpy()[2:], [np.log(2), 90, 800], rtol=1e-6)
        for name in ("tanh", "gelu", "silu", "mish", "selu", "elu"):
            assert np.isfinite(getattr(ops, name)(x).numpy()).all(), name
        np.testing.assert_allclose(ops.softmax(x).numpy(), [0, 0, 0, 0, 1], atol=1e-30)
        np.testing.assert_allclose(ops.log_softmax(x).numpy(), [-1600, -890, -800, -710, 0], rtol=1e-6)
        np.testing.assert_allclose(ops.logsumexp(x).item(), 800, rtol=1e-6)
        np.testing.assert_allclose(
            ops.softmax_cross_entropy(x.reshape(1, 5), tensor([0], device=device)).numpy(), [1600], rtol=1e-6
        )


@each_dtype
@pytest.mark.parametrize("act", [name for name in ops.ACTIVATIONS if name != "identity"])
def test_activations_pass_nan_on(device: Device, dtype: Any, act: str) -> None:
    x = np.ones(9, dtype)
    x[4] = np.nan
    assert np.isnan(ops.activate(tensor(x, device=device), act).numpy()).tolist() == np.isnan(x).tolist()


def test_logsumexp_of_nothing_but_minus_infinity(device: Device) -> None:
    x = tensor(np.full((2, 3), -np.inf), device=device)
    with np.errstate(divide="ignore"):
        assert ops.logsumexp(x, axis=1).tolist() == [-np.inf, -np.inf]


def test_erf_to_the_last_digits(device: Device) -> None:
    x = np.concatenate([np.linspace(-7, 7, 2001), [0.46875, 4.0, -4.0, 1e-300, np.inf, -np.inf]])
    from math import erf

    got = ops.erf(tensor(x, device=device)).numpy()
    np.testing.assert_allclose(got, [erf(v) for v in x], rtol=5e-16, atol=0)


# ---------------------------------------------------------------- ties, documented


@pytest.mark.parametrize("op", [ops.maximum, ops.minimum])
def test_equal_arguments_share_the_gradient(op: Any, device: Device) -> None:
    x = tensor([1.0, 2.0], device=device, requires_grad=True)
    y = tensor([1.0, 2.0], device=device, requires_grad=True)
    op(x, y).sum().backward()
    assert x.grad.tolist() == y.grad.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("op", [ops.max, ops.min])
def test_tied_elements_share_the_gradient(op: Any, device: Device) -> None:
    x = tensor([[3.0, 3.0, 3.0], [5.0, 5.0, 5.0]], device=device, requires_grad=True)
    op(x, axis=1).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full((2, 3), 1 / 3), rtol=1e-6)


def test_gradients_at_kinks() -> None:
    x = tensor([0.0], requires_grad=True)
    assert grad(ops.abs(x).sum(), x).tolist() == [0]
    assert grad(ops.relu(x).sum(), x).tolist() == [0]
    assert grad(ops.clip(x, low=0.0).sum(), x).tolist() == [1]
    assert grad((x**0).sum(), x).tolist() == [0]


# ---------------------------------------------------------------- dropout


def test_dropout_keeps_the_expected_share_and_the_mean(device: Device) -> None:
    x = tensor(np.ones(100_000, np.float32), device=device)
    y = ops.dropout(x, 0.3, 1, seed=1, stream=2).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.006  # four standard deviations
    assert abs(y.mean() - 1) < 0.01


def test_dropout_is_the_same_on_every_device_and_another_each_step(device: Device, numpy_device: Device) -> None:
    def mask(on: Device, **draw: int) -> list[bool]:
        drawn = {"seed": 1, "stream": 2, "step": 3, **draw}
        step = tensor(drawn.pop("step"), device=on)
        return (ops.dropout(tensor(np.ones(1023, np.float32), device=on), 0.5, step, **drawn).numpy() == 0).tolist()

    assert mask(device) == mask(numpy_device)
    assert mask(device, step=4) != mask(device) != mask(device, seed=2)
    assert mask(device, stream=9) != mask(device)


def test_the_gradient_falls_through_the_same_mask(device: Device) -> None:
    x = tensor(np.ones((9, 7)), device=device, requires_grad=True)
    y = ops.dropout(x, 0.5, 3, seed=1, stream=2)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_linear_without_activation_between_collapses() -> None:
    """Lecture row 13: a stack of linear layers is one linear layer."""
    random = np.random.default_rng(0)
    x, v, w = (tensor(random.normal(size=s)) for s in ((5, 4), (4, 6), (6, 3)))
    np.testing.assert_allclose(
        ops.linear(ops.linear(x, v), w).numpy(), ops.linear(x, ops.matmul(v, w)).numpy(), rtol=1e-12
    )


@pytest.mark.parametrize("native", [True, False])
def test_column_nets_says_what_does_not_fit(native: bool) -> None:
    device = CPU(native=native)
    x, slope, start, weight, bias = (tensor(np.zeros(s, np.float32), device=device) for s in ((4, 3), (3, 5), (3, 5), (3, 5, 2), (3, 2)))
    for given in ((x[:, :2], slope, start, weight, bias), (x[0], slope, start, weight, bias), (x, slope[0], start, weight, bias),
                  (x, slope, start, weight[0], bias), (x, slope, start, weight, bias[0])):  # fmt: skip
        with pytest.raises(ShapeError, match="column_nets: x .* takes slope and start"):
            ops.column_nets(*given, act="cos")
    with pytest.raises(ConfigError, match="column_nets: no act .*ramp"):
        ops.column_nets(x, slope, start, weight, bias, act="rampe")
