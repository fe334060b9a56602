"""The engine: graphs and their walk back, what is kept and freed, dtypes, indexing, states, threads, and every error's text."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from gpunet import ops
from gpunet.devices.cpu import CPU
from gpunet.engine import Recorder, Spec, Tensor, composite, grad, no_grad, op, set_mode, tensor
from gpunet.errors import ConfigError, DeviceError, DTypeError, GraphError, RangeError, ShapeError, TraceError
from gpunet.graph import check_grads
from gpunet.ops.rules import same


def leaf(value: Any, dtype: Any = np.float64) -> Tensor:
    return tensor(value, dtype=dtype, requires_grad=True)


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


# ---------------------------------------------------------------- dtypes


def test_a_python_number_takes_the_tensors_dtype() -> None:
    for dtype in (np.float32, np.float64):
        x = tensor([1.0, 2.0], dtype=dtype)
        for made in (x + 1, 1.5 * x, x / 3, 2 - x, x**2.5, 2**x, ops.maximum(x, 0), x * True):
            assert made.dtype == dtype
    assert (tensor([1, 2]) + 1).dtype == np.int64
    assert (tensor([1, 2], dtype=np.int32) * 2).dtype == np.int32
    assert (tensor([1, 2]) * 0.5).dtype == np.float32
    assert (tensor([True, False]) + 1).dtype == np.int64


def test_mixed_floats_are_an_error_that_names_both() -> None:
    with pytest.raises(DTypeError, match=r"add: mixed floating point types: float32 and float64.*cast"):
        tensor([1.0]) + tensor([1.0], dtype=np.float64)


def test_an_integer_beside_a_float_gives_the_float() -> None:
    assert (tensor([1.0, 2.0]) * tensor([3, 4])).dtype == np.float32
    x = leaf([1.0, 2.0])
    (x * tensor([3, 4])).sum().backward()
    assert x.grad.tolist() == [3, 4] and x.grad.dtype == np.float64


def test_division_of_integers_is_true_division() -> None:
    made = tensor([1, 2]) / tensor([2, 4])
    assert made.dtype == np.float32 and made.tolist() == [0.5, 0.5]


def test_functions_of_integers_are_float() -> None:
    x = tensor([1, 4])
    for f in (ops.exp, ops.sqrt, ops.sigmoid, ops.mean, ops.gelu):
        assert f(x).dtype == np.float32
    assert ops.square(x).dtype == ops.abs(x).dtype == np.int64


def test_sums_count_in_int64() -> None:
    assert tensor([True, True, False]).sum().item() == 2
    assert tensor(np.full(10, 200, np.uint8)).sum().item() == 2000
    assert tensor(np.full(4, 2**30, np.int32)).sum().item() == 2**32
    assert tensor([True, True, False, False]).mean().item() == 0.5


def test_what_tensor_makes() -> None:
    assert tensor(1.0).dtype == tensor([[1.5]]).dtype == np.float32
    assert tensor(1).dtype == np.int64 and tensor(True).dtype == np.bool_
    assert tensor(np.ones(2)).dtype == np.float64
    assert tensor([1.0], dtype="float64").dtype == np.float64
    source = np.ones(2)
    made = tensor(source)
    source[0] = 5
    assert made.tolist() == [1, 1]
    with pytest.raises(DTypeError, match="numbers wanted"):
        tensor(["a"])


def test_integers_have_no_gradient() -> None:
    with pytest.raises(DTypeError, match="floating point"):
        tensor([1, 2], requires_grad=True)
    x = leaf(1.0)
    with pytest.raises(DTypeError, match="int64 has no gradient"):
        grad(x * 2, tensor([1, 2]))


def test_no_gradient_through_an_integer() -> None:
    x = leaf([1.5, 2.5])
    y = x.cast(dtype=np.int64)
    assert not y.tracked
    assert grad((y * x).sum(), x).tolist() == [1, 2]


def test_cast_brings_the_gradient_back_in_its_own_dtype() -> None:
    x = leaf([1.0, 2.0], np.float32)
    (x.to(np.float64) * 2).sum().backward()
    assert x.grad.dtype == np.float32
    assert x.to("float64").dtype == np.float64


# ---------------------------------------------------------------- NumPy on either side


def test_arrays_on_either_side_of_an_operator() -> None:
    x, a = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    for left, right, want in (
        (x + a, a + x, [4, 6]), (x * a, a * x, [3, 8]), (x - a, -(a - x), [-2, -2]), (x / a, 1 / (a / x), [1 / 3, 0.5]),
        (x**a, 1 / (a ** -x) ** 0 * x**a, [1, 16]), (ops.maximum(x, a), ops.maximum(a, x), [3, 4]),
    ):  # fmt: skip
        for made in (left, right):
            assert isinstance(made, Tensor)
            np.testing.assert_allclose(made.numpy(), want, rtol=1e-12)


def test_matrix_products_with_arrays_on_either_side() -> None:
    x, a = leaf(np.arange(6.0).reshape(2, 3)), np.arange(6.0).reshape(3, 2)
    assert (x @ a).tolist() == (x.numpy() @ a).tolist()
    assert (a @ x).tolist() == (a @ x.numpy()).tolist()
    assert (x @ np.ones(3)).tolist() == [3, 12]
    assert (np.ones(2) @ x).tolist() == [3, 5, 7]


def test_numpy_numbers_beside_a_tensor() -> None:
    x = tensor([1.0, 2.0])
    for made in (np.float32(2) * x, x * np.float32(2), np.int64(2) * x, np.float64(2) * x, [2, 2] * x):
        assert isinstance(made, Tensor) and made.dtype == np.float32 and made.tolist() == [2, 4]


def test_comparisons() -> None:
    x = tensor([1.0, 2.0, 3.0])
    assert (x < 2).tolist() == [True, False, False]
    assert (2 <= x).tolist() == [False, True, True]
    assert (x == np.array([1, 0, 3], np.float32)).tolist() == [True, False, True]
    assert (x != 2).dtype == np.bool_
    assert (x == None) is False and (x != None) is True  # noqa: E711
    assert len({x, tensor([1.0, 2.0, 3.0])}) == 2  # a Tensor is hashed by identity


def test_conversions() -> None:
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(x).sum() == 10 and np.array(x, dtype=np.float64).dtype == np.float64
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert float(x[0, 0]) == int(x[0, 0]) == 1 and bool(x[0, 0])
    assert [10, 20, 30][tensor(1)] == 20
    assert x.T.tolist() == x.mT.tolist() == [[1, 3], [2, 4]]
    assert x.reshape(4).tolist() == x.reshape((4,)).tolist() == x.reshape(shape=(2, -1)).reshape(-1).tolist()
    assert (x.shape, x.ndim, x.size) == ((2, 2), 2, 4)
    with pytest.raises(ShapeError, match=r"one element, this one has the shape \(2, 2\)"):
        x.item()
    with pytest.raises(ShapeError, match="without axes"):
        len(x.sum())
    with pytest.raises(DTypeError, match="only an integer Tensor can be an index"):
        [1, 2][x[0, 0]]


def test_repr_says_what_it_is() -> None:
    x = leaf([1.0, 2.0])
    assert repr(x) == "Tensor([1., 2.], dtype=float64, requires_grad=True)"
    assert repr(tensor([1.5]) * 2) == "Tensor([3.])"
    assert repr(x * 2) == "Tensor([2., 4.], dtype=float64, op=mul)"
    assert repr(Tensor(Spec((2, 3), np.dtype(np.float32)), x.device)) == "Tensor(traced float32[2, 3])"
    assert repr((x * 2).node) == "Node(mul [2])" and repr(x.node) == "Node(leaf [2])"


# ---------------------------------------------------------------- indexing

CUBE = np.arange(60.0).reshape(3, 4, 5)


@pytest.mark.parametrize(
    "index",
    [
        0, -1, slice(None), slice(1, None), slice(None, -1), slice(None, None, -1), slice(-1, None, -2), slice(5, 9), slice(2, 0), None, ...,
        np.int64(1), (0, 1), (0, 1, 2), (-1, -2, -3), (slice(None), 0), (0, ...), (..., 0), (..., None), (None, 0, ..., None, 2), (0, ..., 1),
        (slice(None), slice(3, None, -2), -1), (slice(0, 3, 2), slice(1, 1), slice(None)), (1, None, slice(None, None, 3)), (),
        [0, 2, 0], [-1] and [2], np.array([[0, 1], [2, 0]]), np.array([], np.int64), [], np.array(1),
    ],
    ids=str,
)  # fmt: skip
def test_indexing_is_numpys(index: Any) -> None:
    x = leaf(CUBE)
    got = x[index]
    np.testing.assert_array_equal(got.numpy(), CUBE[index], strict=True)
    weights = np.arange(1.0, got.size + 1).reshape(got.shape)
    want = np.zeros_like(CUBE)
    np.add.at(want, index, weights)
    if got.tracked:
        np.testing.assert_array_equal(grad(got, x, weights).numpy(), want)
    with set_mode(trace=Recorder()):
        assert Tensor(x.spec, x.device)[index].value == got.spec


def test_an_integer_tensor_is_an_index() -> None:
    x = tensor(CUBE)
    rows = tensor([2, 0])
    assert x[rows].tolist() == CUBE[[2, 0]].tolist()
    assert x[tensor(1)].tolist() == CUBE[1].tolist()
    assert x[: tensor(2)].shape == (2, 4, 5)


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        (3, RangeError, "index 3 is out of range for axis 0 with 3 elements"),
        ((0, -5), RangeError, "index -5 is out of range for axis 1 with 4 elements"),
        ([0, 3], RangeError, "index 3 is out of range for 3 rows"),
        ([-1], RangeError, "index -1 is out of range for 3 rows"),
        ((0, 0, 0, 0), ShapeError, r"4 indices for a Tensor with 3 axes, shape \(3, 4, 5\)"),
        ((..., ...), ShapeError, "one Ellipsis"),
        ((slice(None), [0, 1]), ShapeError, "an index array must stand alone"),
        (1.5, DTypeError, "got float"),
        ("a", DTypeError, "got str"),
        ([True, False, True], DTypeError, "integer indices wanted, got bool"),
        (np.array([0.0]), DTypeError, "integer indices wanted, got float64"),
    ],
    ids=str,
)
def test_indices_that_cannot_be(index: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        tensor(CUBE)[index]


# ---------------------------------------------------------------- states


def test_assign_binds_a_plain_state_and_leaves_what_was_kept() -> None:
    x = leaf(3.0)
    y = x * x
    x.assign(tensor(100.0, dtype=np.float64))
    y.backward()
    assert x.grad.item() == 6 and x.item() == 100


def test_assign_writes_pinned_memory_in_place() -> None:
    x = tensor([1.0, 2.0]).pin()
    memory, view = x.value, x.reshape(2, 1)
    x.assign(tensor([3.0, 4.0]))
    assert x.value is memory and view.tolist() == [[3], [4]]


def test_a_pinned_write_between_forward_and_backward_is_an_error() -> None:
    x = leaf([1.0, 2.0]).pin()
    y = (x * x).sum()
    x.assign(tensor([3.0, 4.0], dtype=np.float64))
    with pytest.raises(GraphError, match=r"mul: a parameter was written in place after the forward pass.*before the optimizer's step"):
        y.backward()


def test_a_pinned_write_after_backward_or_to_what_is_not_kept_is_none() -> None:
    x = leaf([1.0, 2.0]).pin()
    new = tensor([3.0, 4.0], dtype=np.float64)
    (x * x).sum().backward()
    x.assign(new)
    y = (x + x).sum()  # a sum keeps no values
    x.assign(new)
    y.backward()
    assert x.grad.tolist() == [2 + 2, 4 + 2]


def test_a_view_of_pinned_memory_carries_its_version() -> None:
    flat = leaf(np.ones(4)).pin()
    w = flat[1:3].reshape(2, 1)
    y = (w * w).sum()
    flat.assign(tensor(np.zeros(4)))
    with pytest.raises(GraphError, match="written in place"):
        y.backward()


def test_a_state_given_pinned_memory_does_not_follow_it() -> None:
    average, w = tensor([0.0, 0.0]), tensor([1.0, 2.0]).pin()
    average.assign(w)
    w.assign(tensor([9.0, 9.0]))
    assert average.tolist() == [1, 2]


@pytest.mark.parametrize("pinned", [False, True])
def test_assign_takes_the_same_shape_and_dtype_only(pinned: bool) -> None:
    x = tensor([1.0, 2.0])
    x = x.pin() if pinned else x
    for new in (tensor([1.0]), tensor([[1.0, 2.0]]), tensor([1.0, 2.0], dtype=np.float64)):
        with pytest.raises(ShapeError, match=r"assign: expected float32\[2\], got float"):
            x.assign(new)
    with pytest.raises(DTypeError, match="a Tensor wanted, got float"):
        x.assign(3.0)
    assert x.tolist() == [1, 2]


def test_augmented_assignment_rebinds() -> None:
    x = tensor([1.0])
    y = x
    y += 1
    assert (x.item(), y.item()) == (1, 2)


def test_requires_grad_can_be_switched_on_leaves() -> None:
    x = tensor([1.0])
    x.requires_grad = True
    assert x.is_leaf and x.requires_grad
    with pytest.raises(GraphError, match="leaves only"):
        (x * 2).requires_grad = False
    x.requires_grad = False
    assert not (x * 2).tracked
    with pytest.raises(GraphError, match="requires no gradient"):
        x.grad = tensor([1.0])


# ---------------------------------------------------------------- errors, word for word


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: x + tensor(np.ones(4)), ShapeError, r"add: the shapes \(2, 3\) and \(4,\) do not broadcast together"),
        (lambda x: x @ x, ShapeError, r"matmul: \(2, 3\) @ \(2, 3\): columns of the left and rows of the right must agree"),
        (lambda x: ops.matmul(tensor(np.ones((2, 1, 3))), tensor(np.ones((4, 3, 1)))), ShapeError, r"matmul: .*\(2,\) and \(4,\)"),
        (lambda x: x @ 2.0, ShapeError, r"matmul: a number has no axes.*Use \*"),
        (lambda x: x.reshape(4, 2), ShapeError, r"\(2, 3\) has 6 elements, \(4, 2\) has 8"),
        (lambda x: x.reshape(4, -1), ShapeError, r"\(2, 3\) has 6 elements, which do not divide into \(4, -1\)"),
        (lambda x: x.reshape(-2, -3), ShapeError, r"6 elements"),
        (lambda x: x.broadcast_to(shape=(2, 4)), ShapeError, r"\(2, 3\) and \(2, 4\)"),
        (lambda x: x.broadcast_to(shape=(3,)), ShapeError, r"\(2, 3\) does not broadcast to \(3,\)"),
        (lambda x: x.sum_to(shape=(2,)), ShapeError, r"sum_to: \(2,\) does not broadcast to \(2, 3\)"),
        (lambda x: x.sum(axis=2), ShapeError, r"sum: axis 2 of an array with 2 axes; there are -2 to 1"),
        (lambda x: ops.transpose(x, axes=(0, 0)), ShapeError, r"axes \(0, 0\) are not an order of the 2 axes"),
        (lambda x: ops.concat([x, tensor(np.ones((3, 3)))], axis=1), ShapeError, r"float64\[2, 3\], float64\[3, 3\]"),
        (lambda x: ops.concat([x, tensor([[1.0]])]), ShapeError, r"float64\[2, 3\], float32\[1, 1\]"),
        (lambda x: ops.concat([]), ShapeError, "no Tensors to join"),
        (lambda x: ops.split(x, 4, axis=1), ShapeError, "axis 1 has 3 elements, which 4 do not divide"),
        (lambda x: ops.split(x, [1, 1], axis=1), ShapeError, r"\[1, 1\] do not add up to 3"),
        (lambda x: ops.pad(x, widths=((1, 1),)), ShapeError, "1 pairs of widths for 2 axes"),
        (lambda x: ops.max(tensor(np.ones((0, 3))), axis=0), ShapeError, r"shape \(0, 3\)"),
        (lambda x: ops.pick(x, tensor([0, 1, 2])), ShapeError, r"one index for each row wanted: \(2,\), got \(3,\)"),
        (lambda x: ops.pick(x, tensor([0, 3])), RangeError, "index 3 is out of range for 3"),
        (lambda x: ops.pick(x, tensor([0.0, 1.0])), DTypeError, "pick: integer indices wanted, got float32"),
        (lambda x: ops.scatter_add(x, tensor([0, 7]), n=3), RangeError, "index 7 is out of range for 3 rows"),
        (lambda x: ops.scatter_add(x, tensor([0, 1, 2]), n=3), ShapeError, r"one row of values for each index wanted: \(3,\), got \(2, 3\)"),
        (lambda x: ops.one_hot(tensor([3]), n=3, dtype=np.float32), RangeError, "index 3"),
        (lambda x: ops.pack(x, tensor([1.0])), DTypeError, "float64, float32"),
        (lambda x: ops.slice_rows(x, 1, size=2), RangeError, "rows 1 to 2 of 2"),
        (lambda x: ops.linear(x, tensor(np.ones((4, 5)))), ShapeError, r"linear: x \(2, 3\) @ w \(4, 5\).*x needs w's 4 columns"),
        (lambda x: ops.linear(x, tensor(np.ones((3, 5))), tensor(np.ones(4))), ShapeError, r"b \(4,\).*b its 5"),
        (lambda x: ops.linear(x, tensor(np.ones((4, 3, 5)))), ShapeError, r"stack of weights \(4, 3, 5\)"),
        (lambda x: ops.linear(x, tensor(np.ones((3, 5))), act="rleu"), ConfigError, 'no activation "rleu". Did you mean "relu"'),
        (lambda x: ops.leaky_relu(x, alpha=-1), ConfigError, "leaky_relu: alpha must not be negative"),
        (lambda x: ops.dropout(x, 1.0, 0, seed=0, stream=0), ConfigError, r"in \[0, 1\), got 1.0"),
        (lambda x: ops.sum(x, axes=0), ConfigError, r"sum: no setting 'axes'. Did you mean \"axis\""),
        (lambda x: ops.pad(x), ConfigError, "pad: the setting 'widths' is missing"),
        (lambda x: ops.exp(x, x), ConfigError, r"exp takes 1 Tensors \(x\), got 2"),
        (lambda x: ops.sum(x, 0), ConfigError, r"sum takes 1 Tensors \(x\), got 2. Settings go by keyword: axis, keepdims"),
        (lambda x: x + "a", DeviceError, "add: a Tensor, a number or an array wanted, got str"),
        (lambda x: ops.exp(1.0), DeviceError, r"exp: no Tensor among the arguments. Make one with gpunet.tensor"),
        (lambda x: x.backward(), ShapeError, r"backward\(\): the Tensor has the shape \(2, 3\); reduce it to one number"),
        (lambda x: x.exp().backward(np.ones(3)), ShapeError, r"the gradient given is float64\[3\], the Tensor is float64\[2, 3\]"),
        (lambda x: x.detach().sum().backward(), GraphError, "no input of this Tensor requires a gradient. Make one with requires_grad=True"),
    ],
)  # fmt: skip
def test_errors_name_the_op_and_both_sides(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(leaf(np.ones((2, 3))))


def test_shape_errors_name_the_op_while_tracing_too() -> None:
    x = Tensor(Spec((2, 3), np.dtype(np.float64)), tensor(1.0).device)
    with set_mode(trace=Recorder()), pytest.raises(ShapeError, match=r"add: the shapes \(2, 3\) and \(4,\)"):
        x + tensor(np.ones(4))


def test_tensors_on_two_devices_do_not_meet(standin: Any) -> None:
    x, y = tensor([1.0]), tensor([1.0], device=standin)
    with pytest.raises(DeviceError, match=r"add: Tensors on cpu and on cuda:1. Move one with .to\('cpu'\)"):
        x + y
    with pytest.raises(DeviceError, match=r"a NumPy array \(host memory\) met a Tensor on cuda:1.*device='cuda:1'"):
        y + np.ones(1, np.float32)


# ---------------------------------------------------------------- traced Tensors

VALUES = {
    "bool()": bool, "float()": float, "int()": int, "item()": Tensor.item, "numpy()": Tensor.numpy, "tolist()": Tensor.tolist,
    "np.asarray": np.asarray, "if": lambda t: 1 if t > 0 else 2,
}  # fmt: skip


@pytest.mark.parametrize("ask", VALUES.values(), ids=VALUES)
def test_a_traced_tensor_has_no_values_and_says_where_they_were_asked_for(ask: Any) -> None:
    with set_mode(trace=Recorder()):
        t = Tensor(Spec((), np.dtype(np.float32)), tensor(1.0).device)
        with pytest.raises(TraceError, match=r"needs the values of a Tensor of shape \(\).*test_engine\.py:\d+.*Use ops \(where") as caught:
            ask(t)
    line = ask.__code__.co_firstlineno if hasattr(ask, "__code__") and ask.__module__ == __name__ else None
    assert line is None or f"test_engine.py:{line})" in str(caught.value)


@pytest.mark.parametrize("use", [lambda t: t + 1, lambda t: t.reshape(1), lambda t: t.exp(), lambda t: ops.relu(t), lambda t: tensor([1.0]) * t])
def test_a_traced_tensor_that_leaks_is_named(use: Any) -> None:
    with set_mode(trace=Recorder()):
        leaked = Tensor(Spec((), np.dtype(np.float32)), tensor(1.0).device) * 2
    with pytest.raises(TraceError, match="got a Tensor that a traced function left behind. Return it from that function instead"):
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

    with pytest.raises(GraphError, match=r"the vjp of f asks for 'z'; there are inputs \('x',\) and outputs \('out',\)"):

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
