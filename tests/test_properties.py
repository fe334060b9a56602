"""What holds for any program: devices agree, gradients are right, and linear ops and their vjps are adjoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import DecliningCPU, make
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices, mutually_broadcastable_shapes

from gpunet import ops
from gpunet.devices import Device, cpu
from gpunet.devices.cpu import CPU
from gpunet.engine import Tensor, grad, tensor
from gpunet.graph import check_grads

ROWS, COLUMNS = 4, 3

# ---------------------------------------------------------------- random small programs

# Smooth functions that neither grow nor leave their domain: programs of them can be checked by difference quotients.
# fmt: off
ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": ops.tanh, "sigmoid": ops.sigmoid, "gelu": ops.gelu, "silu": ops.silu, "mish": ops.mish,
    "softplus": ops.softplus, "sin": ops.sin,
    "erf": ops.erf, "softmax": ops.softmax, "log_softmax": ops.log_softmax,
    "exp": lambda x: ops.exp(-ops.square(x)),
    "sqrt": lambda x: ops.sqrt(1.0 + ops.square(x)),
    "log": lambda x: ops.log(2.0 + ops.sin(x)),
    "mean": lambda x: x - ops.mean(x, axis=0),
    "norm": lambda x: x / ops.sqrt(ops.var(x, axis=1, keepdims=True) + 1.0),
    "logsumexp": lambda x: x - ops.logsumexp(x, axis=-1, keepdims=True),
    "transpose": lambda x: ops.reshape(x.T, shape=x.shape),
    "flip": lambda x: x[::-1, ::-1],
    "pad": lambda x: ops.pad(x[1:], widths=((0, 1), (0, 0))),
    "shuffle": lambda x: x[[2, 0, 0, 1]],
    "dropout": lambda x: ops.dropout(x, 0.3, 1, seed=1, stream=2),
    "split": lambda x: ops.concat(ops.split(x, [1, 2], axis=1)[::-1], axis=1),
    "sum": lambda x: x * ops.tanh(x.sum()),
    "stop": lambda x: x + 0.0 * x.detach(),
}
TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: ops.tanh(x) * y, "div": lambda x,
    y: x / (1.0 + ops.square(y)),
    "pow": lambda x, y: ops.pow(ops.softplus(x) + 0.5, ops.tanh(y)),
    "matmul": lambda x, y: (x @ ops.tanh(y).T) @ ops.sigmoid(y),
    "linear": lambda x, y: ops.linear(x, ops.tanh(y[:COLUMNS]), y[0], act="tanh"),
    "keep": lambda x, y: ops.linear(x, ops.tanh(y[:COLUMNS]), y[0], act="gelu"),
    "norm": lambda x, y: ops.layer_norm(x, ops.sigmoid(y[0]), y[1], eps=0.5),
    "batch": lambda x, y: ops.batch_norm(x, ops.sigmoid(y[0]), y[1], eps=0.5)[0],
    "entropy": lambda x,
    y: x + ops.reshape(ops.softmax_cross_entropy(y, tensor([0, 2, 1, 1], device=y.device)), shape=(ROWS, 1)),
    "where": lambda x, y: ops.where(tensor([True, False, True], device=x.device), x, y),
    "broadcast": lambda x, y: x + y[:, :1] * y[1],
}
# fmt: on
Step = tuple[str, int, int]
steps = st.tuples(st.sampled_from([*ONE, *(f"{name}2" for name in TWO)]), st.integers(0, 9), st.integers(0, 9))
programs = st.lists(steps, min_size=1, max_size=6)
seeds = st.integers(0, 2**31)


def run(program: list[Step], *inputs: Tensor) -> Tensor:
    """Each step takes values made so far, by their number, and adds one; all of them end in the result."""
    values = list(inputs)
    for name, i, j in program:
        x, y = values[i % len(values)], values[j % len(values)]
        values.append(ONE[name](x) if name in ONE else TWO[name[:-1]](x, y))
    return ops.stack(values[len(inputs) :]).mean(axis=0)


def draw(seed: int, dtype: Any = np.float64) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).uniform(-1.5, 1.5, (2, ROWS, COLUMNS)).astype(dtype))


def outcome(program: list[Step], arrays: list[np.ndarray], device: Device) -> list[np.ndarray]:
    """The value, and the gradients of its square's sum."""
    inputs = [tensor(a, device=device, requires_grad=True) for a in arrays]
    made = run(program, *inputs)
    found = grad(ops.square(made).sum(), inputs)
    return [made.numpy(), *[np.zeros(a.shape) if g is None else g.numpy() for g, a in zip(found, arrays, strict=True)]]


BASE = CPU(native=False)
OTHERS: dict[str, Device] = {"declining": DecliningCPU(), "standin": make("standin")}
if cpu._native is not None:
    OTHERS["native"] = CPU()


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("dtype", "room"), [(np.float32, 2e-4), (np.float64, 1e-11)], ids=["float32", "float64"])
@given(program=programs, seed=seeds)
def test_programs_agree_on_every_device(program: list[Step], seed: int, name: str, dtype: Any, room: float) -> None:
    arrays = draw(seed, dtype)
    for got, want in zip(outcome(program, arrays, OTHERS[name]), outcome(program, arrays, BASE), strict=True):
        assert got.dtype == dtype or not got.any()
        np.testing.assert_allclose(got, want, rtol=room, atol=room * max(1.0, float(np.abs(want).max())))


@given(program=programs, seed=seeds)
def test_programs_have_the_right_gradients_of_both_orders(program: list[Step], seed: int) -> None:
    check_grads(lambda *xs: run(program, *xs), [tensor(a, device=BASE) for a in draw(seed)], rng_seed=seed % 1000)


@given(program=programs, seed=seeds)
def test_programs_have_the_right_gradients_with_composites_as_nodes(program: list[Step], seed: int) -> None:
    device = OTHERS["native" if "native" in OTHERS else "declining"]
    check_grads(lambda *xs: run(program, *xs), [tensor(a, device=device) for a in draw(seed)], rng_seed=seed % 1000)


@given(program=programs, seed=seeds)
def test_a_detour_does_not_change_gradients(program: list[Step], seed: int) -> None:
    """grad() to the program's result and from there is grad() in one go."""
    x, y = (tensor(a, requires_grad=True) for a in draw(seed))
    made = run(program, x, y)
    loss = ops.square(made).sum()
    (upstream,) = grad(loss, [made], retain_graph=True)
    there = grad(made, [x, y], upstream, retain_graph=True)
    once = grad(loss, [x, y])
    for a, b in zip(there, once, strict=True):
        assert (a is None) == (b is None)
        assert a is None or a.tolist() == b.tolist()


# ---------------------------------------------------------------- broadcasting


@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=4), seed=seeds)
def test_any_shapes_that_broadcast_do_so_with_gradients(shapes: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    condition, x, y = (random.uniform(0.5, 1.5, s) for s in shapes.input_shapes)
    for op, want in ((ops.mul, x * y), (ops.div, x / y), (ops.sub, x - y), (ops.pow, x**y)):
        made = op(tensor(x), tensor(y))
        np.testing.assert_allclose(made.numpy(), want, rtol=1e-12, strict=False)
        assert made.shape == want.shape
        check_grads(op, [x, y])
    chosen = condition > 1
    assert ops.where(tensor(chosen), tensor(x), tensor(y)).shape == shapes.result_shape
    check_grads(ops.where, [chosen, x, y])


# ---------------------------------------------------------------- adjoints: <A x, y> = <x, A' y>

shape3 = st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(1, 4))


@st.composite
def linear_maps(draw: st.DrawFn) -> tuple[tuple[int, ...], Callable[[Tensor], Any]]:
    """An input shape, and an op that is linear in it."""
    shape = draw(shape3)
    size = int(np.prod(shape))
    slices = st.builds(slice, *[st.none() | st.integers(-5, 5)] * 2, st.sampled_from([None, 1, 2, -1, -2]))
    widths = tuple(draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape)
    axes, axis = tuple(draw(st.permutations(range(3)))), draw(st.integers(-3, 2))
    index = tuple(draw(st.lists(slices, max_size=3)))
    rows = np.array(draw(st.lists(st.integers(0, max(shape[0] - 1, 0)), max_size=6 if shape[0] else 0)), np.int64)
    into = np.array(draw(st.lists(st.integers(0, 4), min_size=shape[0], max_size=shape[0])), np.int64)
    columns = np.array(
        draw(st.lists(st.integers(0, shape[2] - 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])),
        np.int64,
    )
    lead = draw(st.integers(0, 3))
    kept = tuple(1 if draw(st.booleans()) else n for n in shape)
    constant = np.random.default_rng(0).normal(size=(shape[2], 3))
    maps: dict[str, Callable[[Tensor], Any]] = {
        "reshape": lambda x: x.reshape(size) if size == 0 else x.reshape(-1, shape[2]),
        "transpose": lambda x: ops.transpose(x, axes=axes),
        "slice": lambda x: x[index],
        "newaxis": lambda x: x[None, ..., 0],
        "pad": lambda x: ops.pad(x, widths=widths),
        "concat": lambda x: ops.concat([x, x * 2.0, x], axis=axis),
        "stack": lambda x: ops.stack([x, -x], axis=axis),
        "split": lambda x: ops.split(x, [0, shape[1]], axis=1)[1],
        "gather": lambda x: ops.gather(x, tensor(rows)),
        "scatter_add": lambda x: ops.scatter_add(x, tensor(into), n=5),
        "pick": lambda x: ops.pick(x, tensor(columns.reshape(shape[:2]))),
        "broadcast_to": lambda x: ops.broadcast_to(x, shape=(lead, *shape)),
        "broadcast_inside": lambda x: ops.broadcast_to(ops.sum_to(x, shape=kept), shape=shape),
        "sum_to": lambda x: ops.sum_to(x, shape=kept[1:]),
        "sum": lambda x: ops.sum(x, axis=axis),
        "pack": lambda x: ops.pack(x, x),
        "unpack": lambda x: ops.unpack(ops.pack(x), [shape])[0],
        "matmul": lambda x: x @ tensor(constant),
        "where": lambda x: ops.where(tensor(np.arange(shape[2]) % 2 == 0), x, 0.0),
        "dropout": lambda x: ops.dropout(x, 0.4, 1, seed=1, stream=2),
        "cast": lambda x: x.cast(dtype=np.float64),
    }
    return shape, maps[draw(st.sampled_from(sorted(maps)))]


@given(linear=linear_maps(), seed=seeds)
def test_the_vjp_of_a_linear_op_is_its_adjoint(linear: Any, seed: int) -> None:
    shape, apply = linear
    random = np.random.default_rng(seed)
    x = tensor(random.normal(size=shape), requires_grad=True)
    ax = apply(x)
    y = tensor(random.normal(size=ax.shape), requires_grad=True)
    adjoint = grad(ax, x, y, create_graph=True) if ax.tracked else None
    back = np.zeros(shape) if adjoint is None else adjoint.numpy()
    assert np.vdot(ax.numpy(), y.numpy()) == pytest.approx(np.vdot(x.numpy(), back), rel=1e-10, abs=1e-10)
    if adjoint is not None:  # and the adjoint of the adjoint is the op again
        again = grad(adjoint, y, x.detach())
        np.testing.assert_allclose(
            np.zeros(ax.shape) if again is None else again.numpy(), ax.numpy(), rtol=1e-12, atol=1e-12
        )


@given(shapes=mutually_broadcastable_shapes(num_shapes=1, base_shape=(3, 2, 4), max_dims=3, max_side=4), seed=seeds)
def test_broadcast_to_and_sum_to_are_adjoint(shapes: Any, seed: int) -> None:
    (small,), big = shapes.input_shapes, shapes.result_shape
    random = np.random.default_rng(seed)
    x, y = random.normal(size=small), random.normal(size=big)
    left = np.vdot(ops.broadcast_to(tensor(x), shape=big).numpy(), y)
    assert left == pytest.approx(np.vdot(x, ops.sum_to(tensor(y), shape=small).numpy()), rel=1e-10, abs=1e-10)


# ---------------------------------------------------------------- indexing


@given(data=st.data(), shape=st.lists(st.integers(0, 4), max_size=3).map(tuple))
def test_any_basic_index_is_numpys(data: st.DataObject, shape: tuple[int, ...]) -> None:
    index = data.draw(basic_indices(shape, allow_newaxis=True))
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float64).reshape(shape)
    np.testing.assert_array_equal(tensor(x)[index].numpy(), x[index])
    assert tensor(x)[index].shape == x[index].shape
