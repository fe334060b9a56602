"""The engine: graphs and the walk back, what is kept and freed, threads, traced Tensors, ops of one's own."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from gpunet import ops
from gpunet.devices.cpu import CPU
from gpunet.engine import Recorder, Spec, Tensor, composite, grad, no_grad, op, set_mode, tensor
from gpunet.errors import GraphError, ShapeError, TraceError
from gpunet.graph import check_grads
from gpunet.ops.rules import same


def leaf(value: Any, dtype: Any = np.float64) -> Tensor:
    return tensor(value, dtype=dtype, requires_grad=True)


def test_operators_are_there_from_import_gpunet_alone() -> None:
    """They are hung on Tensor by gpunet.ops, which nobody need import by name."""
    program = "import gpunet; x = gpunet.tensor(-2.0, requires_grad=True); (x * 3 + 1).backward(); print(x.grad.item())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("3.0\n", "")


# ---------------------------------------------------------------- graphs


def test_gradients_that_meet_add_up() -> None:
    x = leaf(3.0)
    y = x * x + x * 2 + x
    y.backward()
    assert x.grad.item() == 2 * 3 + 2 + 1


def test_diamond() -> None:
    x = leaf(2.0)
    top = x.exp()
    (top * 3 + top.sin()).backward()
    np.testing.assert_allclose(x.grad.item(), np.exp(2) * (3 + np.cos(np.exp(2))), rtol=1e-14)


def test_a_long_chain_needs_no_recursion() -> None:
    x = leaf(1.0)
    y = x
    for _ in range(5000):
        y = y + x
    y.backward()
    assert x.grad.item() == 5001


def test_each_node_is_walked_once(count_calls: Any) -> None:
    x = leaf(1.0)
    y = x.sin()
    for _ in range(20):
        y = y + y
    with count_calls(ops.sin, "backward") as calls:
        y.backward()
    assert calls == [1]
    assert x.grad.item() == pytest.approx(2**20 * np.cos(1))


@pytest.mark.parametrize("has_kernel", [False, True])
def test_one_tensor_twice_in_a_composite(has_kernel: bool) -> None:
    """Run as its meaning, or as one node with the default vjp, where the device has a kernel of its name."""

    @composite
    def product(a: Tensor, b: Tensor) -> Tensor:
        return a * b

    device = CPU(native=False)
    device.kernels = {"product": lambda *arrays: NotImplemented} if has_kernel else {}
    x = tensor([1.0, 2.0, 3.0], device=device, requires_grad=True)
    y = product(x, x)
    assert y.node.op.name == ("product" if has_kernel else "mul")
    y.sum().backward()
    assert x.grad.tolist() == [2, 4, 6]


def test_backward_adds_to_what_is_there() -> None:
    x = leaf([1.0, 2.0])
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5, 5]
    x.grad = None
    assert x.grad is None


def test_the_gradient_given_weighs_the_outputs() -> None:
    x = leaf([1.0, 2.0])
    x.exp().backward(np.array([1.0, 10.0]))
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1, 2]) * [1, 10])


def test_outputs_with_several_edges() -> None:
    """A node whose outputs are used apart gets None for those that nobody used."""
    x = leaf(np.arange(6.0).reshape(3, 2))
    normed, mean, _ = ops.batch_norm(x, tensor(np.ones(2)), tensor(np.zeros(2)), eps=1e-3)
    assert grad(mean.sum(), x, retain_graph=True).numpy() == pytest.approx(1 / 3)
    assert np.abs(grad(normed.sum(), x).numpy()).max() < 1e-12


def test_gradient_of_an_intermediate_tensor() -> None:
    x = leaf(2.0)
    y = x * 3
    z = y * y
    assert [g.item() for g in grad(z, [y, x])] == [12, 36]


def test_retain_grad() -> None:
    x = leaf(2.0)
    y = (x * 3).retain_grad()
    z = y * y
    z.backward()
    assert (y.grad.item(), x.grad.item(), z.grad) == (12, 36, None)
    with pytest.raises(GraphError, match="no gradient flows"):
        tensor(1.0).retain_grad()


def test_grad_leaves_the_leaves_alone_and_keeps_the_form_of_inputs() -> None:
    x, y, apart = leaf(2.0), leaf(3.0), leaf(4.0)
    found = grad(x * y, [x, y, apart, tensor(1.0)])
    assert [g if g is None else g.item() for g in found] == [3, 2, None, None]
    assert x.grad is y.grad is None
    assert isinstance(grad(x * y, x), Tensor)


def test_grad_of_several_outputs() -> None:
    x = leaf([1.0, 2.0])
    found = grad([x.sum(), x * x], x, [None, np.array([1.0, 10.0])])
    assert found.tolist() == [1 + 2, 1 + 40]


def test_grad_of_itself() -> None:
    x = leaf(2.0)
    assert grad(x, x).item() == 1


def test_stop_gradient_and_detach() -> None:
    x = leaf(3.0)
    assert grad(x * x.detach(), x).item() == 3
    assert grad(x * ops.stop_gradient(x), x).item() == 3
    assert not x.detach().tracked


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_higher_orders_of_a_polynomial(k: int) -> None:
    """d^k/dx^k of x^4 - 3 x^3 + x at 1.5, each by the gradient of the gradient before."""
    x = leaf(1.5)
    y = x**4 - 3 * x * x * x + x
    for _ in range(k):
        y = grad(y, x, create_graph=True)
    assert y.item() == pytest.approx(np.polyder(np.poly1d([1, -3, 0, 1, 0]), k)(1.5), abs=1e-9)


def test_backward_with_create_graph_can_be_differentiated() -> None:
    x = leaf(2.0)
    (x * x * x).backward(create_graph=True)
    assert x.grad.item() == 12
    assert grad(x.grad, x).item() == 12


def test_gradient_penalty_reaches_the_weights() -> None:
    """The gradient of a gradient's norm, as in WGAN-GP, through linear and its activation."""
    random = np.random.default_rng(0)

    def penalty(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        if not x.tracked:
            x.requires_grad = True
        score = ops.linear(x, w, b, act="tanh").sum()
        return (grad(score, x, create_graph=True) ** 2).sum()

    check_grads(penalty, [random.normal(size=s) for s in ((3, 4), (4, 2), (2,))], order=1)


# ---------------------------------------------------------------- what is kept, and for how long


def test_a_second_backward_is_an_error_that_says_how_to() -> None:
    x = leaf(2.0)
    y = x.exp()
    y.backward()
    with pytest.raises(GraphError, match=r"freed it \(at exp\)\. Use retain_graph=True"):
        y.backward()


def test_retain_graph_allows_another() -> None:
    x = leaf(2.0)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8


def test_a_vjp_keeps_only_what_it_names() -> None:
    x, y = leaf(np.ones(3)), leaf(np.ones(3))
    assert (x + y).node.kept == ()
    out = x.exp()
    (kept,) = out.node.kept
    assert kept is out.value
    assert (x * y).node.kept[0] is x.value
    assert x.sum().node.kept == ((3,),)


def test_memory_is_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        x = leaf(np.ones(3))
        loss = (ops.relu(x * 2).exp() * x).sum()
        nodes = [weakref.ref(loss.node), weakref.ref(loss)]
        loss.backward()
        del loss
        assert [r() for r in nodes] == [None, None]
    finally:
        gc.enable()


def test_backward_frees_what_was_kept_and_a_chain_of_sums_keeps_no_values() -> None:
    x = leaf(np.ones(3))
    middle = x + 1
    value = weakref.ref(middle)
    y = (middle + 1).sum()
    del middle
    assert value() is None
    exp = y.exp()
    exp.backward()
    assert exp.node.kept is None


def test_an_untracked_computation_makes_no_nodes() -> None:
    x = tensor(np.ones(3))
    assert (x * 2).exp().node is None


# ---------------------------------------------------------------- no_grad and threads


def test_no_grad_as_context_and_as_decorator() -> None:
    x = leaf(2.0)

    @no_grad()
    def double(t: Tensor) -> Tensor:
        return t * 2

    with no_grad():
        assert not (x * 2).tracked
    assert not double(x).tracked
    assert not double(x).tracked  # a decorator works more than once
    assert (x * 2).tracked


def test_no_grad_ends_when_an_error_leaves_it() -> None:
    with pytest.raises(ShapeError), no_grad():
        tensor([1.0, 2.0]) + tensor([1.0, 2.0, 3.0])
    assert (leaf(1.0) * 2).tracked


def test_no_grad_in_one_thread_is_not_seen_in_another() -> None:
    inside, checked = threading.Event(), threading.Event()
    tracked: list[bool] = []

    def other() -> None:
        inside.wait(5)
        tracked.append((leaf(1.0) * 2).tracked)
        checked.set()

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        assert checked.wait(5)
    thread.join()
    assert tracked == [True]


def test_threads_build_and_walk_their_own_graphs() -> None:
    results: dict[int, float] = {}

    def work(k: int) -> None:
        x = leaf(float(k))
        for _ in range(50):
            x.grad = None
            (x * x).backward()
        results[k] = x.grad.item()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {k: 2.0 * k for k in range(4)}


# ---------------------------------------------------------------- traced Tensors

VALUES = {
    "bool()": bool, "float()": float, "int()": int, "item()": Tensor.item, "numpy()": Tensor.numpy,
    "tolist()": Tensor.tolist,
    "np.asarray": np.asarray, "if": lambda t: 1 if t > 0 else 2,
}  # fmt: skip


@pytest.mark.parametrize("ask", VALUES.values(), ids=VALUES)
def test_a_traced_tensor_has_no_values_and_says_where_they_were_asked_for(ask: Any) -> None:
    with set_mode(trace=Recorder()):
        t = Tensor(Spec((), np.dtype(np.float32)), tensor(1.0).device)
        with pytest.raises(
            TraceError, match=r"needs the values of a Tensor of shape \(\).*test_engine\.py:\d+.*Use ops \(where"
        ) as caught:
            ask(t)
    line = ask.__code__.co_firstlineno if hasattr(ask, "__code__") and ask.__module__ == __name__ else None
    assert line is None or f"test_engine.py:{line})" in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [lambda t: t + 1, lambda t: t.reshape(1), lambda t: t.exp(), lambda t: ops.relu(t), lambda t: tensor([1.0]) * t],
)
def test_a_traced_tensor_that_leaks_is_named(use: Any) -> None:
    with set_mode(trace=Recorder()):
        leaked = Tensor(Spec((), np.dtype(np.float32)), tensor(1.0).device) * 2
    with pytest.raises(
        TraceError, match="got a Tensor that a traced function left behind. Return it from that function instead"
    ):
        use(leaked)


def test_a_traced_graph_lists_its_nodes_and_walks_back_by_specs() -> None:
    recorder = Recorder()
    with set_mode(trace=recorder):
        x = Tensor(Spec((2, 3), np.dtype(np.float32)), tensor(1.0).device)
        x.requires_grad = True
        g = grad((x.exp() * 2).sum(), x)
    assert g.spec == Spec((2, 3), np.dtype(np.float32))
    assert [node.op.name for node in recorder.nodes] == ["exp", "mul", "sum", "reshape", "broadcast_to", "mul", "mul"]


# ---------------------------------------------------------------- ops of one's own


@op(shape=same, elementwise=True)
def cube(dev: Any, out: Any, x: Any) -> None:
    """x times x times x"""
    out[...] = x**3


@cube.vjp
def _(g: Tensor, x: Tensor) -> Tensor:
    return g * (3 * x * x)


@composite
def swish(x: Tensor, *, beta: float = 1.0) -> Tensor:
    return x * ops.sigmoid(beta * x)


@op(shape=lambda x, *, k: (Spec(x.shape, x.dtype), Spec(x.shape, x.dtype)), outs=2)
def sin_and_cos(dev: Any, s: Any, c: Any, x: Any, *, k: float) -> None:
    s[...], c[...] = np.sin(k * x), np.cos(k * x)


@sin_and_cos.vjp
def _(gs: Tensor | None, gc: Tensor | None, s: Tensor, c: Tensor, *, k: float) -> Tensor:
    from_sin = None if gs is None else gs * c * k
    from_cos = None if gc is None else -(gc * s * k)
    return from_sin if from_cos is None else from_cos if from_sin is None else from_sin + from_cos


def test_an_op_of_ones_own() -> None:
    check_grads(cube, [np.array([0.5, -1.2, 2.0])])
    assert cube(tensor([2, 3])).tolist() == [8, 27]
    assert repr(cube) == "<op cube(x)>" and cube.__doc__ == "x times x times x"


def test_a_composite_of_ones_own() -> None:
    check_grads(lambda x: swish(x, beta=1.7), [np.array([0.5, -1.2, 2.0])])
    x = tensor([0.5, 1.0])
    assert swish(x).tolist() == ops.silu(x).tolist()


def test_an_op_with_two_outputs_used_apart() -> None:
    x = np.array([0.3, -0.8])
    check_grads(lambda x: sin_and_cos(x, k=2.0), [x])
    check_grads(lambda x: sin_and_cos(x, k=2.0)[0], [x])
    check_grads(lambda x: sin_and_cos(x, k=2.0)[1], [x])


def test_an_own_kernel_is_used_and_may_decline() -> None:
    device = CPU(native=False)
    device.kernels = {"cube": lambda out, x: NotImplemented if len(x) > 2 else np.multiply(x, 100, out=out)}
    assert cube(tensor([2.0, 3.0], device=device)).tolist() == [200, 300]
    assert cube(tensor([2.0, 3.0, 4.0], device=device)).tolist() == [8, 27, 64]


def test_a_vjp_that_asks_for_what_is_not_there_fails_when_it_is_defined() -> None:
    @op(shape=same)
    def f(dev: Any, out: Any, x: Any) -> None:
        out[...] = x

    with pytest.raises(
        GraphError, match=r"the vjp of f asks for 'z'; there are inputs \('x',\) and outputs \('out',\)"
    ):

        @f.vjp
        def _(g: Tensor, z: Tensor) -> Tensor:
            return g


def test_a_vjp_that_returns_the_wrong_shape_is_named() -> None:
    @op(shape=same)
    def f(dev: Any, out: Any, x: Any) -> None:
        out[...] = x

    @f.vjp
    def _(g: Tensor) -> Tensor:
        return g.sum()

    with pytest.raises(ShapeError, match=r"the vjp of f returned the shape \(\) for an input of shape \(2,\)"):
        f(leaf([1.0, 2.0])).sum().backward()


def test_an_unwanted_gradient_is_not_computed() -> None:
    asked: list[str] = []

    @op(shape=same)
    def f(dev: Any, out: Any, x: Any, y: Any) -> None:
        out[...] = x * y

    @f.vjp
    def _(g: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: asked.append("x") or g * y, lambda: asked.append("y") or g * x

    f(leaf([2.0]), tensor([3.0], dtype=np.float64)).sum().backward()
    assert asked == ["x"]
