"""Tensors: dtypes, NumPy beside them, indexing, states, and every error word for word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpunet import ops
from gpunet.engine import Recorder, Spec, Tensor, grad, set_mode, tensor
from gpunet.errors import ConfigError, DeviceError, DTypeError, GraphError, RangeError, ShapeError


def leaf(value: Any, dtype: Any = np.float64) -> Tensor:
    return tensor(value, dtype=dtype, requires_grad=True)


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
    assert (x >= 2).tolist() == [False, True, True]
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
        0, -1, slice(None), slice(1, None), slice(None, -1), slice(None, None, -1), slice(-1, None, -2), slice(5, 9),
        slice(2, 0), None, ...,
        np.int64(1), (0, 1), (0, 1, 2), (-1, -2, -3), (slice(None), 0), (0, ...), (..., 0), (..., None),
        (None, 0, ..., None, 2), (0, ..., 1),
        (slice(None), slice(3, None, -2), -1), (slice(0, 3, 2), slice(1, 1), slice(None)),
        (1, None, slice(None, None, 3)), (),
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
        ([0, 3], RangeError, r"gather: .*\b3\b.*\b3\b"),
        ([-1], RangeError, r"gather: .*-1\b.*\b3\b"),
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
    with pytest.raises(
        GraphError, match=r"mul: a parameter was written in place after the forward pass.*before the optimizer's step"
    ):
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
        (lambda x: x + tensor(np.ones(4)), ShapeError,
         r"add: the shapes \(2, 3\) and \(4,\) do not broadcast together"),
        (lambda x: x @ x, ShapeError,
         r"matmul: \(2, 3\) @ \(2, 3\): columns of the left and rows of the right must agree"),
        (lambda x: ops.matmul(tensor(np.ones((2, 1, 3))), tensor(np.ones((4, 3, 1)))), ShapeError,
         r"matmul: .*\(2,\) and \(4,\)"),
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
        (lambda x: ops.scatter_add(x, tensor([0, 7]), n=3), RangeError, r"scatter_add: .*\b7\b.*\b3\b"),
        (lambda x: ops.scatter_add(x, tensor([0, 1, 2]), n=3), ShapeError,
         r"one row of values for each index wanted: \(3,\), got \(2, 3\)"),
        (lambda x: ops.one_hot(tensor([3]), n=3, dtype=np.float32), RangeError, "index 3"),
        (lambda x: ops.pack(x, tensor([1.0])), DTypeError, "float64, float32"),
        (lambda x: ops.slice_rows(x, 1, size=2), RangeError, "rows 1 to 2 of 2"),
        (lambda x: ops.linear(x, tensor(np.ones((4, 5)))), ShapeError,
         r"linear: x \(2, 3\) @ w \(4, 5\).*x needs w's 4 columns"),
        (lambda x: ops.linear(x, tensor(np.ones((3, 5))), tensor(np.ones(4))), ShapeError, r"b \(4,\).*b its 5"),
        (lambda x: ops.linear(x, tensor(np.ones((4, 3, 5)))), ShapeError, r"stack of weights \(4, 3, 5\)"),
        (lambda x: ops.linear(x, tensor(np.ones((3, 5))), act="rleu"), ConfigError,
         'no activation "rleu". Did you mean "relu"'),
        (lambda x: ops.leaky_relu(x, alpha=-1), ConfigError, "leaky_relu: alpha must not be negative"),
        (lambda x: ops.dropout(x, 1.0, 0, seed=0, stream=0), ConfigError, r"in \[0, 1\), got 1.0"),
        (lambda x: ops.sum(x, axes=0), ConfigError, r"sum: no setting 'axes'. Did you mean \"axis\""),
        (lambda x: ops.pad(x), ConfigError, "pad: the setting 'widths' is missing"),
        (lambda x: ops.exp(x, x), ConfigError, r"exp takes 1 Tensors \(x\), got 2"),
        (lambda x: ops.sum(x, 0), ConfigError,
         r"sum takes 1 Tensors \(x\), got 2. Settings go by keyword: axis, keepdims"),
        (lambda x: x + "a", DeviceError, "add: a Tensor, a number or an array wanted, got str"),
        (lambda x: ops.exp(1.0), DeviceError, r"exp: no Tensor among the arguments. Make one with gpunet.tensor"),
        (lambda x: x.backward(), ShapeError,
         r"backward\(\): the Tensor has the shape \(2, 3\); reduce it to one number"),
        (lambda x: x.exp().backward(np.ones(3)), ShapeError,
         r"the gradient given is float64\[3\], the Tensor is float64\[2, 3\]"),
        (lambda x: x.detach().sum().backward(), GraphError,
         "no input of this Tensor requires a gradient. Make one with requires_grad=True"),
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
