"""CS231n lecture 4, "Introduction to Neural Networks": its worked examples, with its numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from gpunet import ops
from gpunet.devices import Device
from gpunet.engine import Recorder, Spec, Tensor, grad, set_mode, tensor
from gpunet.graph import jacobian


def leaf(value: float, device: Device | str = "cpu") -> Tensor:
    return tensor(value, device=device, requires_grad=True)


def test_a_formula_becomes_a_graph() -> None:
    """Each operator is a node, and its inputs are edges to those before."""
    f = (leaf(-2.0) + leaf(5.0)) * leaf(-4.0)
    multiply = f.node
    (add, _), (z, _) = multiply.inputs
    assert (multiply.op.name, add.op.name, z.op) == ("mul", "add", None)
    assert [edge[0].op for edge in add.inputs] == [None, None]


def test_first_backpropagation(device: Device) -> None:
    """f = (x + y) z at -2, 5, -4: forward q = 3, f = -12; backward df/dz = 3, df/dq = df/dx = df/dy = -4."""
    x, y, z = leaf(-2.0, device), leaf(5.0, device), leaf(-4.0, device)
    q = (x + y).retain_grad()
    f = q * z
    assert (q.item(), f.item()) == (3, -12)
    f.backward()
    assert [t.grad.item() for t in (z, q, x, y)] == [3, -4, -4, -4]


def test_the_gradient_is_upstream_times_local_gate_by_gate() -> None:
    x = leaf(1.3)
    gates = [x.retain_grad()]
    for gate in (ops.sin, ops.exp, ops.square, ops.log):
        gates.append(gate(gates[-1]).retain_grad())
    gates[-1].backward()
    for before, after in itertools.pairwise(gates):
        again = leaf(before.item())
        local = grad(after.node.op(again), again).item()  # of this gate alone
        assert before.grad.item() == pytest.approx(after.grad.item() * local, rel=1e-5)


class TestSigmoidNeuron:
    """1 / (1 + exp(-(w0 x0 + w1 x1 + w2))), gate by gate, to the lecture's two decimals."""

    def gates(self, device: Device) -> dict[str, Tensor]:
        t = {
            name: leaf(value, device)
            for name, value in {"w0": 2.0, "x0": -1.0, "w1": -3.0, "x1": -2.0, "w2": -3.0}.items()
        }
        t["w0 x0"], t["w1 x1"] = t["w0"] * t["x0"], t["w1"] * t["x1"]
        t["sum"] = t["w0 x0"] + t["w1 x1"]
        t["z"] = t["sum"] + t["w2"]
        t["-z"] = t["z"] * -1
        t["exp"] = t["-z"].exp()
        t["1+"] = t["exp"] + 1
        t["f"] = 1 / t["1+"]
        for gate in t.values():
            gate.retain_grad()
        t["f"].backward()
        return t

    def test_forward(self, device: Device) -> None:
        t = self.gates(device)
        forward = {"w0 x0": -2, "w1 x1": 6, "sum": 4, "z": 1, "-z": -1, "exp": 0.37, "1+": 1.37, "f": 0.73}
        assert {name: round(t[name].item(), 2) for name in forward} == forward

    def test_backward(self, device: Device) -> None:
        t = self.gates(device)
        backward = {
            "f": 1, "1+": -0.53, "exp": -0.53, "-z": -0.20, "z": 0.20, "sum": 0.20, "w0 x0": 0.20, "w1 x1": 0.20,
            "w2": 0.20, "w0": -0.20, "x0": 0.39, "w1": -0.39, "x1": -0.59,
        }  # fmt: skip
        assert {name: round(t[name].grad.item(), 2) for name in backward} == backward

    def test_the_reciprocal_gate_alone(self) -> None:
        x = leaf(1.37)
        assert round(grad(1 / x, x).item(), 2) == round(-1 / 1.37**2, 2) == -0.53

    def test_the_sigmoid_gate_gives_the_same_in_one_node(self, device: Device) -> None:
        t = self.gates(device)
        z = leaf(t["z"].item(), device)
        s = ops.sigmoid(z)
        assert s.item() == pytest.approx(t["f"].item(), rel=1e-6)
        assert grad(s, z).item() == pytest.approx(t["z"].grad.item(), rel=1e-6)


def test_the_add_gate_distributes() -> None:
    x, y = leaf(3.0), leaf(-7.0)
    found = grad(x + y, [x, y], tensor(2.5))
    assert [g.item() for g in found] == [2.5, 2.5]


def test_the_sigmoid_gate_needs_its_own_output_alone() -> None:
    """Its local gradient is (1 - s) s: nothing but s is kept, and at 0.73 it is 0.20."""
    s = ops.sigmoid(leaf(1.0))
    (kept,) = s.node.kept
    assert kept is s.value
    assert round((1 - s.item()) * s.item(), 2) == 0.20


def test_the_mul_gate_switches() -> None:
    x, y = leaf(3.0), leaf(-4.0)
    assert [g.item() for g in grad(x * y, [x, y], tensor(2.0))] == [-8, 6]


@pytest.mark.parametrize("low_first", [False, True])
def test_the_max_gate_routes(low_first: bool) -> None:
    low, high = leaf(-1.0), leaf(2.0)
    f = ops.maximum(low, high) if low_first else ops.maximum(high, low)
    assert [g.item() for g in grad(f, [low, high], tensor(5.0))] == [0, 5]


def test_at_a_tie_the_max_gate_routes_equal_shares() -> None:
    x, y = leaf(2.0), leaf(2.0)
    assert [g.item() for g in grad(ops.maximum(x, y), [x, y], tensor(5.0))] == [2.5, 2.5]
    row = tensor([1.0, 4.0, 4.0, 4.0, 4.0], requires_grad=True)
    assert grad(row.max(), row).tolist() == [0, 0.25, 0.25, 0.25, 0.25]


def test_gradients_add_up_where_a_value_branches() -> None:
    x = leaf(3.0)
    f = x * 2 + x.exp() + x * x
    assert grad(f, x).item() == pytest.approx(2 + math.exp(3) + 6, rel=1e-6)


def test_the_jacobian_of_relu_is_diagonal(device: Device) -> None:
    x = tensor([1.0, -2.0, 0.5, -0.1, 3.0], device=device)
    built = jacobian(ops.relu, x).numpy()
    assert built.tolist() == np.diag((x.numpy() > 0) * 1.0).tolist()


def test_a_4096_vector_through_relu_builds_no_jacobian() -> None:
    """Nothing of 4096 x 4096 is made on the way forward or back: the largest array has 4096 elements."""
    recorder = Recorder()
    with set_mode(trace=recorder):
        x = Tensor(Spec((4096,), np.dtype(np.float32)), tensor(0.0).device)
        x.requires_grad = True
        grad(ops.relu(x).sum(), x)
    assert max(math.prod(spec.shape) for node in recorder.nodes for spec in node.specs) == 4096


def test_jacobians_of_vectors_and_matrices() -> None:
    random = np.random.default_rng(0)
    w, x = tensor(random.normal(size=(3, 4))), tensor(random.normal(size=4))
    np.testing.assert_allclose(jacobian(lambda v: w @ v, x).numpy(), w.numpy(), rtol=1e-12)
    wide = jacobian(lambda m: m @ x, w)  # d (W x)_i / d W_jk = x_k where i = j
    assert wide.shape == (3, 3, 4)
    np.testing.assert_allclose(wide.numpy(), np.einsum("ij,k->ijk", np.eye(3), x.numpy()), rtol=1e-12)


def test_jacobian_of_a_tensor_already_computed() -> None:
    x = leaf(2.0)
    y = x * 3
    assert jacobian(y * y, y).item() == 12
    assert jacobian(y * y, x).shape == ()
    assert jacobian(ops.stack([x, x * x, tensor(1.0)]), x).tolist() == [1, 4, 0]
    assert jacobian(lambda v: v[:0], tensor([1.0, 2.0])).shape == (0, 2)


def test_a_linear_score_becomes_a_two_layer_net(device: Device) -> None:
    """f = W2 max(0, W1 x) with 3072 inputs, 100 hidden neurons and 10 classes."""
    random = np.random.default_rng(0)
    x, w1, w2 = (
        tensor(random.normal(size=s).astype(np.float32), device=device) for s in ((1, 3072), (3072, 100), (100, 10))
    )
    scores = ops.linear(ops.linear(x, w1, act="relu"), w2)
    want = np.maximum(x.numpy() @ w1.numpy(), 0) @ w2.numpy()
    np.testing.assert_allclose(scores.numpy(), want, rtol=1e-4, atol=1e-2)
