"""The compiler: what is traced, fused, planned and run as one program is what the function says."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from conftest import DecliningCPU
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunet import losses, nn, ops, optim
from gpunet.data.batches import Batches
from gpunet.devices import device
from gpunet.engine import Tensor, grad, mode, no_grad, tensor
from gpunet.errors import GraphError, TraceError
from gpunet.graph import compile, plan, trace
from gpunet.graph.compile import build
from gpunet.graph.fuse import fuse
from gpunet.graph.program import Program


def names(graph: Any) -> list[str]:
    return [node.op.name for node in graph.nodes]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


# ---------------------------------------------------------------- whole training steps


def training_step(
    optimizer: Any, *, dropout: float = 0.2, norm: str | None = None, activation: str = "relu"
) -> tuple[Any, Any, Any]:
    r = np.random.default_rng(0)
    x, y = r.standard_normal((70, 10)).astype(np.float32), r.integers(0, 3, 70)
    net = nn.MLP(10, 12, 11, 3, dropout=dropout, norm=norm, activation=activation).initialize(3)
    optimizer.bind(list(net.named_parameters()))
    optimizer.start(40)
    data = Batches(x, y, device=device("cpu"))
    data.shuffle(1)

    def step() -> Tensor:
        batch, target, _ = data.next(16)
        loss = losses.cross_entropy(net(batch), target)
        optimizer.update(grad(loss, optimizer.parameters))
        return loss

    return net, data, step


GROUPS = [{"match": "*.bias", "lr_factor": 0.1, "weight_decay": 0.0}]
OPTIMIZERS = {
    "sgd": lambda: optim.SGD(lr=0.1, momentum=0.9, nesterov=True, schedule="cosine"),
    "adagrad": lambda: optim.Adagrad(lr=0.05),
    "rmsprop": lambda: optim.RMSprop(lr=1e-3, momentum=0.5),
    "adamw": lambda: optim.AdamW(lr=1e-2, clip_norm=1.0, schedule="one_cycle", groups=GROUPS),
    "nadam": lambda: optim.NAdam(lr=1e-2, clip_value=0.01),
    "lion": lambda: optim.Lion(lr=1e-3, schedule="coslog4"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_compiled_step_has_the_bits_of_the_eager_one(name: str) -> None:
    runs = []
    for compiled in (False, True):
        net, data, step = training_step(OPTIMIZERS[name](), norm="batch" if name == "adamw" else None)
        call = compile(step) if compiled else step
        steps = []
        for _ in range(3):
            data.rewind()
            steps += [call().item() for _ in range(4)]
        runs.append((steps, net.state_dict()))
    assert runs[0][0] == runs[1][0]
    for key, value in runs[0][1].items():
        np.testing.assert_array_equal(value, runs[1][1][key], err_msg=key)


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_every_activation_compiles(activation: str) -> None:
    _, _, eager = training_step(optim.Adam(), activation=activation)
    _, _, traced = training_step(optim.Adam(), activation=activation)
    run = compile(traced)
    assert [eager().item() for _ in range(4)] == [run().item() for _ in range(4)]
    assert not run.eagerly


def test_changing_a_setting_never_retraces() -> None:
    optimizer = optim.AdamW(lr=1e-2)
    net, data, step = training_step(optimizer)
    run = compile(step)
    run()
    optimizer.lr, optimizer.weight_decay = 1e-3, 0.5
    net[1].level.assign(tensor(0.7, dtype=np.float64))
    before = net.state_dict()["0.weight"]
    run()
    assert len(run.programs[()]) == 1
    assert abs(net.state_dict()["0.weight"] - before).max() < 1.1e-3 * (1 + abs(before).max())


def test_train_and_eval_are_two_programs() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    x = tensor(np.ones((2, 4), np.float32))
    run = compile(lambda x: net(x))
    run(x)
    net.eval()
    first, second = run(x), run(x)
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    net.train()
    run(x)
    assert [len(found) for found in run.programs.values()] == [2]


def test_a_new_shape_is_a_new_trace() -> None:
    net = nn.MLP(4, 5, 2)
    run = compile(lambda x: net(x))
    for rows in (7, 1, 7, 0):
        x = tensor(np.ones((rows, 4), np.float32))
        np.testing.assert_array_equal(run(x).numpy(), net(x).numpy())
    assert len(run.programs) == 3


# ---------------------------------------------------------------- states


def test_states_swap_and_old_values_are_read() -> None:
    a, b = tensor(np.arange(3.0)), tensor(np.arange(3.0) + 10)

    def f() -> tuple[Tensor, Tensor]:
        old = a.detach()
        a_new, b_new = b.detach(), a.detach()
        a.assign(a_new)
        b.assign(b_new)
        a.assign(a + 1.0)
        return old + 0.0, a + b

    run = compile(f)
    first = run()
    assert first[0].tolist() == [0, 1, 2] and first[1].tolist() == [11, 13, 15]
    assert a.tolist() == [11, 12, 13] and b.tolist() == [0, 1, 2]
    run()
    assert a.tolist() == [1, 2, 3] and b.tolist() == [11, 12, 13]
    a.assign(tensor(np.zeros(3)))  # the program adopts what was assigned outside
    run()
    assert b.tolist() == [0, 0, 0] and a.tolist() == [12, 13, 14]


def test_two_names_of_one_array_are_two_states() -> None:
    t = tensor(0)
    begun = tensor(5)
    begun.assign(t)
    run = compile(lambda: t.assign(t + 1))
    run()
    run()
    assert (t.item(), begun.item()) == (2, 0)


def test_a_failed_trace_leaves_every_state(caplog: pytest.LogCaptureFixture) -> None:
    count = tensor(0.0)

    def f(x: Tensor) -> Tensor:
        count.assign(count + 1.0)
        return x * 2.0 if float(ops.sum(x)) > 0 else x

    run = compile(f)
    with caplog.at_level(logging.WARNING, logger="gpunet"):
        assert [run(tensor(np.full(3, s))).numpy()[0] for s in (1.0, -1.0, 1.0)] == [2.0, -1.0, 2.0]
    assert count.item() == 3
    assert len(caplog.records) == 1 and "float()" in caplog.text and "test_graph.py" in caplog.text


def test_misuse_raises() -> None:
    leaked = []
    compile(lambda x: leaked.append(x * 2.0) or x)(tensor(1.0))
    with pytest.raises(TraceError, match="left behind"):
        leaked[0] + 1.0
    with pytest.raises(GraphError, match="would be lost"):
        compile(lambda x: x * 2.0)(tensor(1.0, requires_grad=True))


def test_a_value_that_is_not_finite_ends_the_step_before_any_state_changes() -> None:
    x, count, best = tensor(1.0), tensor(0), tensor(0.0)

    def f() -> None:
        count.assign(count + 1)
        loss = 1.0 - 1.0 / x
        mode.trace.watch(loss)  # type: ignore[union-attr]
        best.assign(loss)
        x.assign(x - 0.5)

    run = compile(f)
    with np.errstate(divide="ignore"):
        assert run.run(10) == 2  # 1, 0.5, then 0
    assert (count.item(), x.item(), best.item()) == (2, 0.0, -1.0)


# ---------------------------------------------------------------- fusing


def test_a_sigmoid_neuron_written_out_is_one_op_forward_and_one_backward() -> None:
    fused = DecliningCPU()  # has a kernel of every name, on every machine
    x, w, b = (tensor(t, device=fused, requires_grad=True) for t in (normal(6, 5), normal(5, 3), normal(3)))

    def f() -> tuple[Tensor, ...]:
        loss = ops.mean(ops.square(1.0 / (1.0 + ops.exp(-(b + x @ w)))))
        return loss, *grad(loss, [w, b])

    run = compile(f)
    found = names(run.graph())
    assert found.count("linear") == found.count("linear_dw") == 1 and "exp" not in found
    for got, want in zip(run(), f(), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)


def by_one_exp(x: Tensor) -> Tensor:
    e = ops.exp(x)
    return e / ops.sum(e, axis=-1, keepdims=True)


WRITTEN_OUT: dict[str, tuple[Any, list[str]]] = {
    "silu": (lambda x: x * (1.0 / (1.0 + ops.exp(-x))), ["activation_keep"]),
    "tanh": (lambda x: (ops.exp(x) - ops.exp(-x)) / (ops.exp(x) + ops.exp(-x)), ["activation"]),
    "softmax": (lambda x: ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True), ["softmax"]),
    "softmax of one exp": (by_one_exp, ["softmax"]),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_formulas_written_out_are_found_and_agree(name: str) -> None:
    f, found = WRITTEN_OUT[name]
    x = normal(6, 5)
    assert names(compile(f).graph(x.detach())) == found
    whole = lambda: [y := f(x), *grad(ops.sum(ops.square(y)), [x])]  # noqa: E731
    for got, want in zip(compile(whole)(), whole(), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12, atol=1e-14)
    other = tensor(np.full((2, 3), 300.0))
    assert np.isfinite(compile(f)(other).numpy()).all(), "the fused formula does not overflow"


def test_an_inner_result_that_is_read_elsewhere_is_not_fused_away() -> None:
    x, w, b = normal(6, 5), normal(5, 3, seed=1), normal(3, seed=2)

    def f() -> tuple[Tensor, ...]:
        z = x @ w + b
        loss = ops.sum(ops.tanh(z)) + ops.mean(ops.square(z))
        return loss, *grad(loss, [w])

    for got, want in zip(compile(f)(), f(), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)


@pytest.mark.parametrize("rows", [0, 1, 7, 512, 513, 1100])
@pytest.mark.parametrize("widths", [(5, 33, 17, 8), (64, 128, 100, 8)], ids=str)
def test_layers_that_nobody_else_reads_are_one_call_with_the_same_bits(rows: int, widths: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.MLP(*widths, activation="gelu"), nn.MLP(8, 300, 4, activation="relu")).initialize(0).eval()
    x = tensor(np.random.default_rng(0).standard_normal((rows, widths[0])).astype(np.float32))
    run = compile(lambda x: net(x))
    with no_grad():
        want = net(x).numpy()
    np.testing.assert_array_equal(run(x).numpy(), want)
    kernels = device("cpu").kernels
    layers = [name for name in names(run.graph(x)) if name in ("linear", "linear_keep", "layers")]
    assert layers == (["layers", "linear", "linear"] if "layers" in kernels else layers), "300 columns are too wide"


def test_layers_that_are_read_elsewhere_stay() -> None:
    first, second = (nn.Linear(4, 4).initialize(i) for i in range(2))
    x = tensor(np.ones((3, 4), np.float32))

    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        h = first(x)
        return h, second(h)

    run = compile(f)
    with no_grad():
        want = [t.numpy() for t in f(x)]
    for got, expected in zip(run(x), want, strict=True):
        np.testing.assert_array_equal(got.numpy(), expected)
    assert "layers" not in names(run.graph(x))


def test_a_graph_prints() -> None:
    graph = trace(lambda x: ops.sum(x * 2.0), [tensor(np.ones((2, 3), np.float32))])
    assert str(graph).splitlines() == [
        "%0    = mul(arg0, 2)  float32[2x3]",
        "%1    = sum(%0, axis=None, keepdims=False)  float32[]",
        "return %1",
    ]


def test_a_graph_is_drawn() -> None:
    w, count = normal(3, 2), tensor(0)

    def f(x: Tensor) -> Tensor:
        count.assign(count + 1)
        return ops.reshape(ops.split(x @ w, 2, axis=1)[1], shape=(-1,))

    x = tensor(np.ones((4, 3)))
    for graph in (trace(f, [x]), compile(f).graph(x)):
        lines = graph.dot().splitlines()
        assert lines[0] == "digraph {" and lines[-1] == "}" and all(line.endswith(";") for line in lines[1:-1])
        assert sum("shape=box" in line for line in lines) == len(graph.nodes)
        assert sum(line.startswith('  "arg0" -> "%') for line in lines) == 1 and sum("shape=ellipse" in line for line in lines) == 1
        assert sum("shape=cylinder" in line for line in lines) == 2 and sum("style=dashed" in line for line in lines) == 1
        assert sum(line.endswith('-> "out0";') for line in lines) == 1


# ---------------------------------------------------------------- planning


def test_a_layout_names_the_place_of_each_buffer() -> None:
    x = tensor(np.ones((4, 3), np.float32))
    program = compile(lambda x: ops.sum(ops.exp(x), axis=0)).program(x)
    assert program.layout().splitlines() == [f"{'exp':24} 0+48 <- held+48", f"{'sum':24} 48+12 <- 0+48"]


def test_the_arena_is_near_its_bound_and_running_makes_no_arrays() -> None:
    _, data, step = training_step(OPTIMIZERS["adamw"](), dropout=0.0)
    run = compile(step)
    program = run.program()
    assert program.plan.arena_bytes <= 1.1 * program.plan.bound + 256 * len(program.calls)
    places = [array.__array_interface__["data"][0] for call in program.calls for array in call.outs]
    run()
    assert places == [array.__array_interface__["data"][0] for call in program.calls for array in call.outs]


def test_minus_zero_is_a_constant_of_its_own() -> None:
    x = tensor(np.array([1.0, -1.0]))
    f = lambda x: ops.where(ops.gt(x, 0.0), x * 0.0, -0.0) + -0.0  # noqa: E731
    np.testing.assert_array_equal(np.signbit(compile(f)(x).numpy()), np.signbit(f(x).numpy()))


OLD_VALUES: dict[str, Any] = {  # what a step does with old values of its states a and b; the last item is its result
    "a follows b": lambda a, b: (a.assign(b), b.assign(b + 1.0)),
    "b goes first": lambda a, b: (old := b.detach(), b.assign(b + 1.0), a.assign(old)),
    "a swap": lambda a, b: (old := a.detach(), a.assign(b.detach()), b.assign(old)),
    "through a view": lambda a, b: (old := b.reshape(shape=(-1,)), b.assign(b + 1.0), a.assign(old.reshape(shape=b.shape))),
    "transposed into itself": lambda a, b: (a.assign(a.mT), b.assign(a + b)),
    "returned": lambda a, b: (old := b.detach(), b.assign(b * 2.0), old),
    "returned from a swap": lambda a, b: (old := a.detach(), a.assign(b), b.assign(old), old),
    "returned as a view": lambda a, b: (old := b.mT, b.assign(b * 2.0), a.assign(old), old),
}


@pytest.mark.parametrize("executor", ["native", "python"])
@pytest.mark.parametrize("n", [2, 40])
@pytest.mark.parametrize("step", OLD_VALUES)
def test_an_old_value_is_read_before_it_is_written_over(step: str, n: int, executor: str) -> None:
    if executor == "native" and device("cpu").native is None:
        pytest.skip("the C++ kernels are not built")
    seen = []
    for compiled in (False, True):
        a, b = (tensor(np.arange(n * n).reshape(n, n) + float(k)) for k in range(2))

        def f(a: Tensor = a, b: Tensor = b) -> Tensor | None:
            return OLD_VALUES[step](a, b)[-1]

        run = compile(f, executor=executor) if compiled else f
        outs = [None if made is None else made.numpy().copy() for made in [run() for _ in range(3)]]
        seen.append([*outs, a.numpy(), b.numpy()])
    for want, got in zip(*seen, strict=True):
        np.testing.assert_array_equal(got, want)


PLANTED = {
    "a lifetime cut short": ("_lifetimes", lambda self: [setattr(s, "last", s.first) for s in self.stores.values() if s.array is None]),
    "a state overwritten early": ("_read_after", None),
    "every result in place": ("_elementwise_in_place", lambda self: [
        setattr(self.stores[n, 0], "within", (self.stores[n.inputs[0]], 0))
        for n in self.graph.nodes if n.op is ops.linear_dz or n.op.name == "matmul"
        if self.stores[n, 0].free and self.stores[n.inputs[0]].free and self.stores[n, 0].nbytes <= self.stores[n.inputs[0]].nbytes
    ]),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_planted_planner_faults_are_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the assertions as a program is built, or by comparison with the eager run."""
    w = normal(5, 5)

    def f() -> tuple[Tensor, ...]:
        h = ops.exp(w @ w)
        k = ops.tanh(h @ h)
        old = w.detach()
        loss = ops.sum(h * k) + ops.sum(k @ h)
        (g,) = grad(loss, [w])
        new = w.detach() - 1e-3 * g
        w.assign(new)
        return loss, g, ops.sum(new), old @ k

    start, want = w.numpy().copy(), [t.numpy().copy() for t in f()]
    moved = w.numpy().copy()
    w.value = start.copy()
    name, extra = PLANTED[fault]
    true = getattr(plan.Plan, name)
    monkeypatch.setattr(
        plan.Plan, name, (lambda *_: False) if extra is None else lambda self: (true(self), extra(self))
    )
    graph = build(f, ())
    try:
        got = [t.numpy() for t in Program(graph, device("cpu"))()]
    except GraphError:
        return
    assert not all(np.allclose(a, b, rtol=1e-9) for a, b in zip([*got, w.numpy()], [*want, moved], strict=True))


# ---------------------------------------------------------------- random programs

ONE: list[Any] = [
    ops.tanh, ops.sigmoid, ops.gelu, ops.exp, ops.square, ops.abs, lambda x: x.T, lambda x: -x, ops.softmax,
    lambda x: x.reshape(2, 8).reshape(4, 4),
    lambda x: x.sum(0, True) + x, lambda x: x - x.mean(1, True), ops.log_softmax, lambda x: ops.concat(ops.split(x, 2), axis=0),
    lambda x: x[::-1], lambda x: ops.maximum(x, 0.0), lambda x: 1.0 / (1.0 + ops.exp(-x)), lambda x: ops.clip(x, low=-0.5, high=0.5),
]  # fmt: skip
TWO: list[Any] = [
    lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a @ b, ops.maximum, lambda a, b: a / (2.0 + ops.square(b)),
    lambda a, b: ops.linear(a, b, b[0], act="tanh"), lambda a, b: ops.where(ops.gt(a, b), a, b),
]  # fmt: skip
STEPS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 4)),
    min_size=3,
    max_size=12,
)


def random_program(steps: list[tuple[bool, int, int, int, int]], seed: int) -> tuple[Any, list[Tensor]]:
    """A function with first and second gradients and two states it changes, one of which may follow the other; and these."""
    r = np.random.default_rng(seed)
    inputs = [tensor(r.uniform(-1, 1, (4, 4)), requires_grad=True) for _ in range(3)]
    state, follower = (tensor(r.uniform(-1, 1, (4, 4))) for _ in range(2))

    def f() -> tuple[Tensor, ...]:
        pool = [*inputs, state, follower]
        for two, i, j, k, c in steps:
            a, b = pool[i % len(pool)], pool[j % len(pool)]
            pool.append(ops.tanh(TWO[k % len(TWO)](a, b) if two else ONE[k % len(ONE)](a)))
            if c == 0:
                state.assign(pool[-1].detach())
                pool.append(state.detach())
            elif c == 1:
                old = state.detach()
                if two:
                    state.assign(follower.detach())
                follower.assign(old)
        loss = ops.mean(ops.square(pool[-1])) + ops.sum(pool[-3] * pool[-2]) + sum(0.1 * ops.sum(x) for x in inputs)
        first = grad(loss, inputs, create_graph=True)
        second = grad(ops.sum(loss) + sum(ops.sum(ops.square(g)) for g in first), inputs)
        return loss, *first, *second, follower.detach(), pool[3]

    return f, [state, follower]


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 10_000))
def test_random_programs_agree_second_order_and_states_included(
    steps: list[tuple[bool, int, int, int, int]], seed: int
) -> None:
    f, states = random_program(steps, seed)
    start = [state.numpy().copy() for state in states]
    want = [t.numpy().copy() for _ in range(2) for t in f()] + [state.numpy().copy() for state in states]
    for state, value in zip(states, start, strict=True):
        state.assign(tensor(value))
    run = compile(f)
    got = [t.numpy().copy() for _ in range(2) for t in run()] + [state.numpy().copy() for state in states]
    assert not run.eagerly
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_the_public_name_is_this() -> None:
    assert callable(compile)
    assert fuse(trace(lambda: tensor(1.0) + 1.0)) is not None
