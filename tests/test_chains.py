"""Chains: groups of elementwise nodes that run as one keep every bit, and no group breaks what the planner relies on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import DecliningCPU
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import STEPS, random_program

from gpunet import losses, ops
from gpunet.devices import cpu, device
from gpunet.engine import Tensor, grad, mode, tensor
from gpunet.graph import chains as passes
from gpunet.graph.compile import build, compile
from gpunet.graph.program import Program

native = pytest.mark.skipif(cpu._native is None, reason="gpunet._cpu is not built")
FLOATS = [np.float32, np.float64]
each_float = pytest.mark.parametrize("dtype", FLOATS, ids=lambda t: t.__name__)
SIZES = (0, 1, 7, 8, 9, 511, 512, 513, 1023, 5000)


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SMALLEST", 0)


@pytest.fixture(params=[1, 2, 3], ids=["1 thread", "2 threads", "3 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = cpu._native.threads()
    cpu._native.set_threads(request.param)
    yield request.param
    cpu._native.set_threads(before)


@pytest.fixture(params=[] if cpu._native is None else cpu._native.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = cpu._native.isa()
    cpu._native.set_isa(request.param)
    yield request.param
    cpu._native.set_isa(before)


def unchained(fn: Callable[..., Any]) -> Any:
    """As compile(fn), of a graph that the pass has not seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CPU_DEVICE, "chained", frozenset())
        return build(fn, ())


CPU_DEVICE = device("cpu")


def names(graph: Any) -> list[str]:
    return [node.op.name for node in graph.nodes]


def uniform(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Tensor:
    return tensor(np.random.default_rng(seed).uniform(-2, 2, shape).astype(dtype))


def assert_same(fn: Callable[..., Any], *args: Tensor, wants_chain: bool = True) -> Any:
    """Chained by either executor, and op by op: the same bits. Gives the graph."""
    want = fn(*args)
    for executor in ("native", "python"):
        run = compile(fn, executor=executor)
        for _ in range(2):
            got = run(*args)
            for a, b in zip(*[x if isinstance(x, tuple) else (x,) for x in (got, want)], strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a.numpy(), b.numpy(), strict=True)
        assert not run.eagerly
    graph = run.graph(*args)
    assert ("chain" in names(graph)) == wants_chain
    assert not [label for label in compile(fn).program(*args).callbacks if label.startswith("chain")]
    return graph


# ---------------------------------------------------------------- every formula, every size


def everything(x: Tensor, y: Tensor) -> Tensor:
    """One of each kind of step."""
    made = ops.maximum(ops.abs(x) + y, -y) / (1.0 + ops.square(y))
    made = ops.where(ops.gt(made, 0.25), ops.exp(-made), ops.minimum(made, ops.erf(x))) * ops.sign(y)
    made = ops.clip(made, low=-0.75, high=None) - ops.cast(ops.le(x, y), dtype=x.dtype) * ops.sqrt(ops.abs(y))
    return ops.leaky_relu(ops.gelu(made) - ops.log(ops.abs(x) + 0.5), alpha=0.3)


@native
@each_float
@pytest.mark.parametrize("size", SIZES)
def test_odd_sizes(size: int, dtype: Any, isa: str) -> None:
    graph = assert_same(everything, uniform(size, dtype=dtype), uniform(size, dtype=dtype, seed=1))
    assert names(graph) == ["chain"]


@native
@each_float
@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_activations_and_their_gradients(activation: str, dtype: Any, isa: str) -> None:
    def both(x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        act = ops.ACTIVATIONS[activation]
        y = ops.activate(x * 1.5, activation) - 0.5
        slope = ops.activation_vjp(g * 2.0, y if act.needs == "output" else x, act=activation, alpha=act.alpha)
        return y * g, slope + 1.0

    assert_same(both, uniform(1023, dtype=dtype), uniform(1023, dtype=dtype, seed=1))


@native
@each_float
def test_nan_infinities_and_signed_zeros(dtype: Any, isa: str) -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5], dtype)
    x, y = (tensor(a.reshape(-1).astype(dtype)) for a in np.meshgrid(special, special))
    assert_same(everything, x, y)
    assert_same(lambda x, y: ops.where(ops.ne(x, y), ops.maximum(x, y), ops.minimum(y, x)), x, y)


SHAPES = {
    "row": ((5, 9), (9,)), "row of one": ((5, 9), (1, 9)), "column": ((5, 9), (5, 1)), "number": ((5, 9), ()),
    "narrow rows": ((1100, 3), (3,)), "narrow columns": ((1100, 3), (1100, 1)), "wide rows": ((3, 1300), (1300,)),
    "wide columns": ((3, 1300), (3, 1)), "one column": ((700, 1), (1,)), "one row": ((1, 700), (1, 1)),
    "three axes": ((3, 4, 70), (4, 70)), "of three axes": ((3, 4, 70), (3, 1, 1)),
    "no rows": ((0, 4), (4,)), "no columns": ((4, 0), (4, 1)),
}  # fmt: skip


@native
@each_float
@pytest.mark.parametrize("shape", SHAPES)
def test_broadcast_operands(shape: str, dtype: Any, isa: str) -> None:
    full, small = SHAPES[shape]
    x, y, z = uniform(*full, dtype=dtype), uniform(*small, dtype=dtype, seed=1), uniform(*full, dtype=dtype, seed=2)
    mask = tensor(np.random.default_rng(3).random(small) < 0.5)
    assert_same(lambda x, y, z, m: ops.where(m, x * y, z - y) + ops.square(y) * 2.0, x, y, z, mask)


@native
def test_operands_that_broadcast_in_the_middle_are_not_joined_with_rows() -> None:
    x, y, z = uniform(3, 40, 50), uniform(3, 1, 50), uniform(40, 50)
    graph = assert_same(lambda x, y, z: (x * y - 1.0) * z + 0.5, x, y, z)
    assert names(graph) == ["mul", "chain"]


@native
@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[:, 1:4], lambda x: x[::-1], lambda x: x[:, :1]])
def test_views_of_any_layout(view: Callable[[Tensor], Tensor]) -> None:
    assert_same(lambda x: ops.exp(view(x) * 2.0) - view(x), uniform(4, 6))


# ---------------------------------------------------------------- what is a group


@native
def test_a_loss_and_its_gradient_are_one_chain() -> None:
    p = uniform(6, 5)
    p.requires_grad = True

    def f(t: Tensor) -> tuple[Tensor, ...]:
        loss = losses.mse(p * 1.0, t)
        return loss, *grad(loss, [p])

    graph = assert_same(f, uniform(6, 5, seed=1))
    assert names(graph).count("chain") == 1
    assert not {"sub", "square", "mul"} & set(names(graph))


@native
def test_a_result_that_a_reduction_needs_in_between_is_no_circle() -> None:
    """The sum stands between the two: they are two groups, in this order."""
    graph = assert_same(lambda x: (ops.exp(x - 1.0) / ops.sum(ops.exp(x - 1.0))) * 2.0 + x, uniform(40, 30))
    assert names(graph) == ["chain", "sum", "chain"]


@native
def test_a_group_waits_for_what_its_later_nodes_read() -> None:
    """It moves down over the sum, for nobody reads it before."""
    graph = assert_same(lambda x, y: ops.exp(x * 2.0) / ops.sum(y), uniform(40, 30), uniform(9))
    assert names(graph) == ["sum", "chain"]


@native
def test_two_groups_that_would_wait_for_each_other_stay_apart() -> None:
    def f(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        p, q = ops.exp(a) * 2.0, ops.exp(b) * 3.0
        return p + ops.sum(q), q + ops.sum(p)

    assert_same(f, uniform(40), uniform(40, seed=1))


@native
def test_a_chain_has_no_more_steps_and_inputs_than_the_kernel_holds() -> None:
    xs = [uniform(330, seed=i) for i in range(40)]

    def long(x: Tensor) -> Tensor:
        for i in range(100):
            x = x * 0.5 + float(i % 3)
        return x

    graph = assert_same(long, xs[0])
    assert max(len(n.settings["steps"]) for n in graph.nodes) == passes.MOST_STEPS
    graph = assert_same(lambda *xs: sum(xs[1:], xs[0]), *xs)
    assert max(len(n.inputs) for n in graph.nodes) == passes.MOST_INPUTS


@native
def test_small_arrays_are_chained_for_their_conditions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SMALLEST", 1024)
    for size, chained in ((1023, False), (1024, True)):
        assert_same(lambda x: ops.exp(x * 2.0), uniform(size), wants_chain=chained)
    assert_same(lambda x: ops.where(ops.gt(x, 0.0), x, 0.5 * x), uniform(9))


@native
def test_conditions_come_in_and_go_out() -> None:
    mask = tensor(np.random.default_rng(0).random(1023) < 0.5)
    assert_same(lambda m, x: (ops.where(m, x, 1.0) * 2.0, ops.gt(x * 2.0, 0.5), m * x), mask, uniform(1023))


@native
def test_integers_and_changes_of_type_are_a_boundary() -> None:
    x, n = uniform(9), tensor(np.arange(9))
    graph = assert_same(lambda x, n: ops.cast(ops.exp(x * 2.0), dtype=np.float64) * 3.0 - (n * 2 + 1), x, n)
    assert "cast" in names(graph)


@native
def test_states_are_written_in_place_by_a_chain() -> None:
    mean, x = uniform(1023, seed=1), uniform(1023)
    start = mean.numpy().copy()

    def f() -> Tensor:
        mean.assign(mean * 0.9 + x * 0.1)
        return mean.detach() * 2.0

    run = compile(f)
    for _ in range(3):
        got = run().numpy().copy()
    assert not run.program().plan.late
    assert names(run.graph()) == ["chain"]
    mean.assign(tensor(start))
    for _ in range(3):
        want = f().numpy().copy()
    np.testing.assert_array_equal(got, want)


@native
@pytest.mark.parametrize("view", [lambda t: t[0], lambda t: t.T, lambda t: t[::-1]], ids=["row", "transposed", "backwards"])
def test_what_is_read_through_a_view_as_well_is_not_written_over(view: Callable[[Tensor], Tensor]) -> None:
    def chained(x: Tensor) -> Tensor:
        t = x @ x
        return ops.exp(t * 2.0) + view(t)

    def alone(x: Tensor) -> Tensor:
        t = x @ x
        return t + view(t)

    assert_same(chained, uniform(40, 40))
    assert_same(alone, uniform(40, 40), wants_chain=False)


@native
def test_two_states_that_swap_in_one_chain() -> None:
    a, b = uniform(700), uniform(700, seed=1)
    first, second = a.numpy().copy(), b.numpy().copy()

    def f() -> None:
        c = a * 2.0 - 1.0
        a.assign(b * 2.0 + c)
        b.assign(c * 3.0)

    compile(f)()
    got = a.numpy().copy(), b.numpy().copy()
    a.assign(tensor(first)), b.assign(tensor(second))
    f()
    np.testing.assert_array_equal(got, (a.numpy(), b.numpy()))


@native
def test_a_state_is_written_in_place_only_when_later_steps_have_read_the_old_one() -> None:
    a, b = uniform(2000), uniform(2000, seed=1)
    first, second = a.numpy().copy(), b.numpy().copy()

    def f() -> None:
        c = a * 2.0 - 1.0
        d = b * 0.5 + a
        a.assign(c), b.assign(d * 2.0 + c)

    run = compile(f)
    run()
    assert names(run.graph()) == ["chain"] and not run.program().plan.late
    got = a.numpy().copy(), b.numpy().copy()
    a.assign(tensor(first)), b.assign(tensor(second))
    f()
    np.testing.assert_array_equal(got, (a.numpy(), b.numpy()))


@native
def test_a_watched_value_stays_a_node_of_its_own() -> None:
    total, x = tensor(0.0), uniform(30)

    def f() -> None:
        loss = ops.sum(x) * 2.0 + 1.0
        if mode.trace is not None:
            mode.trace.watch(loss)
        total.assign(total * 0.5 + loss)

    run = compile(f)
    assert run.run(2) == 2
    (watched,) = {node for node, _ in run.graph().watched}
    assert watched.op is ops.add
    x.value[3] = np.nan
    before = total.numpy().copy()
    assert run.run(2) == 0 and total.numpy() == before


def test_a_device_without_the_kernel_keeps_its_graph() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (4, 6))
    for plain in (cpu.CPU(native=False), DecliningCPU()):
        run = compile(lambda x: ops.exp(x * 2.0) - 1.0)
        run(tensor(x, device=plain))
        assert names(run.graph(tensor(x, device=plain))) == ["mul", "exp", "sub"]


class ChainingDevice(DecliningCPU):
    """Asks for chains, and then declines them."""

    def __init__(self) -> None:
        super().__init__()
        self.chained = frozenset(("mul", "exp", "sub", "gt", "where", "activation"))


def test_a_chain_that_the_kernel_declines_runs_step_by_step() -> None:
    x = uniform(4, 6).numpy()
    f = lambda x: ops.where(ops.gt(x * 2.0, 0.0), ops.exp(x * 2.0), ops.tanh(x[0] - 1.0))  # noqa: E731
    run = compile(f)
    got = run(tensor(x, device=ChainingDevice())).numpy()
    assert names(run.graph(tensor(x, device=ChainingDevice()))).count("chain") == 2
    np.testing.assert_array_equal(got, f(tensor(x, device=cpu.CPU(native=False))).numpy())


@native
def test_a_chain_prints() -> None:
    x = uniform(2, 3)
    lines = str(compile(lambda x: ops.exp(x * 2.0) - x).graph(x)).splitlines()
    assert (
        lines[0] == "%0    = chain(arg0, 2, steps=(mul(0, 1), exp(2), sub(3, 0)), results=(4,), split=1)  float32[2x3]"
    )


# ---------------------------------------------------------------- any program


@native
@settings(max_examples=80, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 10_000), launches=st.booleans())
def test_random_programs_keep_their_bits(steps: list[tuple[bool, int, int, int, int]], seed: int, launches: bool) -> None:
    """Grouped as for a CPU, or as where each call is a launch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CPU_DEVICE, "captures", launches)
        keeps_its_bits(*random_program(steps, seed))


def keeps_its_bits(f: Callable[..., Any], states: list[Tensor]) -> None:
    start = [state.numpy().copy() for state in states]
    plain = Program(unchained(f), CPU_DEVICE)
    want = [t.numpy().copy() for _ in range(2) for t in plain()] + [state.numpy().copy() for state in states]
    for executor in ("native", "python"):
        for state, value in zip(states, start, strict=True):
            state.assign(tensor(value))
        run = compile(f, executor=executor)
        got = [t.numpy().copy() for _ in range(2) for t in run()] + [state.numpy().copy() for state in states]
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)


@native
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    shapes = ((700, 900), (900,), (700, 1))
    args = [uniform(*shape, seed=i) for i, shape in enumerate(shapes)]

    def f(x: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, ...]:
        made = ops.tanh(x * row - column)
        return made * made, ops.exp(made) + row

    got = compile(f)(*args)
    for a, b in zip(got, f(*args), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


PLANTED = {
    "a node moved before what it reads": test_a_result_that_a_reduction_needs_in_between_is_no_circle,
    "results exchanged": test_a_loss_and_its_gradient_are_one_chain,
}


@native
@pytest.mark.parametrize("fault", PLANTED)
def test_planted_faults_are_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparisons above would see them."""
    if fault == "a node moved before what it reads":
        monkeypatch.setattr(passes.Group, "take", careless)
    else:
        true = passes._chain
        monkeypatch.setattr(passes, "_chain", lambda group, results: true(group, results[::-1]))
    with pytest.raises((AssertionError, KeyError)):
        PLANTED[fault]()


def careless(self: Any, other: Any, at: Any, readers: Any) -> bool:
    """Group.take that does not look when the inputs are made."""
    self.reads |= {e for e in other.reads if e[0] not in self.nodes}
    self.nodes, self.splits = self.nodes + other.nodes, self.splits & other.splits
    at.update(dict.fromkeys(other.nodes, self.at))
    return True
