"""The CPU's own executor: the bits of the Python one, many steps in one call, nothing allocated."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fibers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import OPTIMIZERS, STEPS, random_program

from gpunet import losses, nn, ops, optim
from gpunet.data.batches import Batches
from gpunet.devices import cpu, device
from gpunet.engine import Tensor, grad, mode, op, tensor
from gpunet.errors import ConfigError, DeviceError, RangeError
from gpunet.graph.compile import Compiled, compile
from gpunet.graph.native import NativeProgram
from gpunet.graph.program import Program

if cpu._native is None:
    pytest.skip("gpunet._cpu is not built", allow_module_level=True)

Array = np.ndarray
FLOATS = [np.float32, np.float64]
each_float = pytest.mark.parametrize("dtype", FLOATS, ids=lambda t: t.__name__)
EXECUTORS = ("python", "native")


@pytest.fixture(autouse=True, params=[1, 3], ids=["1 thread", "3 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = cpu._native.threads()
    cpu._native.set_threads(request.param)
    yield request.param
    cpu._native.set_threads(before)


class Training:
    """A net, its data and its step, compiled with one executor."""

    def __init__(
        self, executor: str = "native", *, optimizer: Any = None, loss: Any = losses.cross_entropy, y: Any = None, weight: Any = None,
        dtype: Any = np.float32, widths: tuple[int, ...] = (10, 12, 11, 3), batch: int = 16, rows: int = 70, **net: Any,
    ) -> None:  # fmt: skip
        r = np.random.default_rng(0)
        x = r.standard_normal((rows, widths[0]))
        self.net = nn.MLP(*widths, **net).to(dtype).initialize(3)
        self.optimizer = optimizer or optim.Adam(lr=1e-2)
        self.optimizer.bind(list(self.net.named_parameters()))
        self.optimizer.start(40)
        y = r.integers(0, widths[-1], rows) if y is None else y(r, rows)
        self.data = Batches(x, y, None if weight is None else weight(r, rows), device=device("cpu"), dtype=dtype)
        self.data.shuffle(1)
        self.loss, self.total = loss, tensor(np.zeros(()))
        self.run = Compiled(lambda: self.step(batch), executor=executor)

    def step(self, batch: int) -> None:
        x, y, w = self.data.next(batch)
        value = self.loss(self.net(x), y) if w is None else self.loss(self.net(x), y, weight=w)
        assert mode.trace is not None
        mode.trace.watch(value)
        self.optimizer.update(grad(value, self.optimizer.parameters))
        self.total.assign(self.total + ops.cast(value.detach(), dtype=np.float64))

    @property
    def program(self) -> Any:
        return self.run.program()

    def state(self) -> dict[str, Any]:
        return {
            **self.net.state_dict(),
            **{k: v for k, v in self.optimizer.state_dict().items() if isinstance(v, np.ndarray)},
            "t": self.optimizer.t.item(),
            "total": self.total.item(),
            "cursor": self.data.cursor.item(),
        }


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], err_msg=key)


def both(**settings: Any) -> list[Training]:
    """Two epochs by each executor, from fresh optimizers; the native one must not have called Python."""
    make = settings.pop("optimizer", None)
    runs = []
    for executor in EXECUTORS:
        training = Training(executor, optimizer=make() if make else None, **settings)
        for _ in range(2):
            training.data.rewind()
            assert training.run.run(4) == 4
        assert not training.run.eagerly
        runs.append(training)
    assert type(runs[0].program) is Program and type(runs[1].program) is NativeProgram
    assert_same(runs[0].state(), runs[1].state())
    assert runs[1].program.callbacks == []
    return runs


# ---------------------------------------------------------------- whole training steps


@pytest.mark.parametrize("name", OPTIMIZERS)
@each_float
def test_optimizers_with_schedules_clipping_and_groups(name: str, dtype: Any) -> None:
    both(optimizer=OPTIMIZERS[name], dtype=dtype, dropout=0.2)


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
@each_float
def test_activations(activation: str, dtype: Any) -> None:
    both(activation=activation, dtype=dtype)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norms(norm: str) -> None:
    both(norm=norm, dropout=0.1)


def numbers(r: Any, rows: int) -> Array:
    return np.abs(r.standard_normal((rows, 3)))


LOSSES: dict[str, tuple[Any, Any]] = {
    "cross_entropy": (losses.cross_entropy, None),
    "smoothed": (losses.get("cross_entropy:0.1"), None),
    "soft targets": (losses.cross_entropy, lambda r, n: r.dirichlet(np.ones(3), n)),
    "hinge": (losses.hinge, None),
    "bce": (losses.bce_with_logits, lambda r, n: r.integers(0, 2, (n, 3)).astype(np.float64)),
    "bce of integers": (losses.bce_with_logits, lambda r, n: r.integers(0, 2, (n, 3))),
    **{name: (losses.get(name), numbers) for name in ("mse", "mae", "huber", "poisson", "quantile", "quantile:0.1,0.5,0.9")},
}  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
@each_float
def test_losses(name: str, weighted: bool, dtype: Any) -> None:
    loss, y = LOSSES[name]
    both(loss=loss, y=y, weight=(lambda r, n: r.uniform(0.5, 2, n)) if weighted else None, dtype=dtype)


def test_sizes_at_which_threads_share_the_work() -> None:
    both(widths=(200, 300, 250, 10), batch=150, rows=600)


def test_a_tail_batch_is_a_program_of_its_own_over_the_same_states() -> None:
    states = []
    for executor in EXECUTORS:
        training = Training(executor, dropout=0.2)
        tail = Compiled(lambda t=training: t.step(6), executor=executor)
        for _ in range(3):
            training.data.rewind()
            assert training.run.run(4) == 4 and tail.run(1) == 1
        states.append(training.state())
    assert states[0]["cursor"] == 70
    assert_same(*states)


def test_settings_take_effect_without_recording_again() -> None:
    states = []
    for executor in EXECUTORS:
        training = Training(executor, optimizer=optim.AdamW(lr=1e-2, clip_norm=1.0), dropout=0.2)
        for lr, rate, beta in ((1e-2, 0.2, 0.9), (1e-3, 0.7, 0.5), (0.0, 0.0, 0.9)):
            training.optimizer.lr, training.optimizer.beta1 = lr, beta
            level = training.net[1].level
            level.assign(tensor(rate, dtype=level.dtype))
            before = training.net.state_dict()["0.weight"]
            training.data.rewind()
            assert training.run.run(2) == 2
            assert np.array_equal(before, training.net.state_dict()["0.weight"]) == (lr == 0)
        assert len(training.run.programs[()]) == 1
        states.append(training.state())
    assert_same(*states)


def test_two_programs_over_the_same_states_alternate() -> None:
    states = []
    for executor in EXECUTORS:
        training = Training(executor, optimizer=optim.SGD(lr=0.1, momentum=0.9))
        other = Compiled(
            lambda t=training: t.optimizer.update([p * 0.01 for p in t.optimizer.parameters]), executor=executor
        )
        for _ in range(4):
            assert training.run.run(1) == 1 and other.run(2) == 2
        states.append(training.state())
    assert_same(*states)


# ---------------------------------------------------------------- what ends a run


@pytest.mark.parametrize("executor", EXECUTORS)
def test_nan_ends_the_run_at_its_step_with_all_states_as_before(executor: str) -> None:
    good, bad = (Training(executor, optimizer=OPTIMIZERS["adamw"](), norm="batch", dropout=0.2) for _ in range(2))
    order = bad.data.order.numpy()
    bad.data.x.numpy()[order[40]] = np.nan  # in the third batch of 16
    assert good.run.run(2) == 2 and bad.run.run(4) == 2
    assert_same(good.state(), bad.state())
    assert bad.run.run(4) == 0
    assert_same(good.state(), bad.state())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_indices_are_checked_as_the_step_runs(executor: str) -> None:
    training = Training(executor)
    assert training.run.run(4) == 4
    with pytest.raises(RangeError, match=r"slice_rows: rows 64 to 79 of 70"):
        training.run.run(1)
    training.data.rewind()
    target = training.data.order.numpy()[20]
    training.data.y.numpy()[target] = 3
    with pytest.raises(RangeError, match=r"softmax_cross_entropy: row 4 has target 3, expected 0\.\.2"):
        training.run.run(3)
    training.data.y.numpy()[target] = 2
    training.data.order.numpy()[5] = 70
    training.data.rewind()
    with pytest.raises(RangeError, match=r"gather: rows\[5\] is 70, expected 0\.\.69"):
        training.run.run(1)
    training.data.order.numpy()[5] = 0
    training.data.rewind()
    assert training.run.run(4) == 4


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_rate_that_is_no_probability_is_refused(executor: str) -> None:
    training = Training(executor, dropout=0.2)
    training.run.run(1)
    level = training.net[1].level
    level.assign(tensor(1.0, dtype=level.dtype))
    with pytest.raises(ConfigError, match="dropout: the rate is a probability"):
        training.run.run(1)


def test_the_versions_of_pinned_memory_count_the_steps() -> None:
    training = Training()
    (group,) = training.optimizer.groups
    before = group.vector.version.count
    training.run.run(3)
    assert group.vector.version.count == before + 3


# ---------------------------------------------------------------- memory


COUNTER = """
#include <errno.h>
#include <stdlib.h>
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
long made;
static void count(void) { __atomic_add_fetch(&made, 1, __ATOMIC_RELAXED); }
void *malloc(size_t n) { count(); return __libc_malloc(n); }
void *calloc(size_t n, size_t size) { count(); return __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { count(); return __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { count(); return __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { return memalign(a, n); }
int posix_memalign(void **p, size_t a, size_t n) { return (*p = memalign(a, n)) ? 0 : ENOMEM; }
"""
COUNTED = """
import ctypes, numpy as np
from test_native_program import many_steps
made = ctypes.c_long.in_dll(ctypes.CDLL(None), "made")
epochs = many_steps()
epochs(2)
before = made.value
np.empty(100_000)
assert made.value > before, "allocations are counted"
before = made.value
epochs(600)
print(made.value - before)
"""


def many_steps() -> Callable[[int], None]:
    """Runs so many epochs of 17 steps."""
    training = Training(optimizer=OPTIMIZERS["adamw"](), norm="batch", dropout=0.2, batch=4)
    step, data = training.program, training.data

    def epochs(n: int) -> None:
        for _ in range(n):
            data.cursor.numpy()[...] = 0
            assert step.native.run(17) == 17

    return epochs


def test_a_step_allocates_nothing_of_python() -> None:
    epochs = many_steps()
    tracemalloc.start()
    epochs(2)
    before = tracemalloc.get_traced_memory()[0]
    epochs(600)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 10_000


def test_a_step_calls_no_malloc(tmp_path: Path, threads: int) -> None:
    """Each call of malloc and its like is counted, what is freed again too."""
    if platform.libc_ver()[0] != "glibc" or fibers.missing():
        pytest.skip(f"malloc is counted with glibc and a compiler: {platform.libc_ver()}, {fibers.missing()}")
    if "san" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("a sanitizer's runtime counts malloc itself")
    (tmp_path / "counter.c").write_text(COUNTER)
    counter = str(tmp_path / "counter.so")
    c = [str(fibers.COMPILER), "-x", "c", "-O1", "-fno-builtin", "-shared", "-fPIC", str(tmp_path / "counter.c"), "-o", counter]
    subprocess.run(c, check=True)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    known = {**os.environ, "LD_PRELOAD": counter, "PYTHONPATH": path, "GPUNET_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", COUNTED], env=known, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60, "in 600 calls of 17 steps"


def test_a_program_outlives_its_model() -> None:
    training = Training()
    training.run.run(2)
    program, want = training.program, training.state()
    native, arrays = program.native, [a for call in program.calls for a in (*call.ins, *call.outs)]
    del training, program, arrays
    gc.collect()
    junk = [np.full(5000, np.nan) for _ in range(200)]
    assert native.run(2) == 2 and len(junk) == 200
    again = Training()
    again.run.run(4)
    assert again.state()["t"] == want["t"] + 2


# ---------------------------------------------------------------- a batch that nobody copies

COMPILE = sys.modules["gpunet.graph.compile"]


@pytest.mark.parametrize(("activation", "first"), [("relu", "linear_rows"), ("gelu", "linear_keep_rows")])
def test_a_first_layer_reads_long_rows_where_they_lie_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, activation: str, first: str
) -> None:
    there = both(widths=(300, 40, 3), activation=activation)[1]
    ops_there = [node.op.name for node in there.program.graph.nodes]
    assert {first, "linear_dw_rows", "slice_rows"} < set(ops_there) and "gather_two" not in ops_there
    monkeypatch.setattr(COMPILE, "read_rows", lambda graph: graph)
    copied = both(widths=(300, 40, 3), activation=activation)[1]
    assert "gather_two" in [node.op.name for node in copied.program.graph.nodes]
    assert_same(there.state(), copied.state())


@pytest.mark.parametrize("widths", [(30, 40, 3), (300, 600, 3)], ids=["short rows", "wide layer"])
def test_short_rows_and_wide_layers_have_their_batch_copied(widths: tuple[int, ...]) -> None:
    assert "gather_two" in [node.op.name for node in both(widths=widths)[1].program.graph.nodes]


def test_a_batch_that_is_read_otherwise_is_copied() -> None:
    x = tensor(np.random.default_rng(0).standard_normal((50, 300)).astype(np.float32))
    rows, net = tensor(np.arange(0, 20, 2)), nn.MLP(300, 20, 2).initialize(0)
    parameters = [p for _, p in net.named_parameters()]

    def step(also: bool) -> Any:
        batch = ops.gather(x, rows)
        out = net(batch)
        loss = ops.sum(ops.square(out)) + (ops.sum(batch) if also else 0.0)
        return loss, *grad(loss, parameters)

    for also in (False, True):
        run = compile(lambda also=also: step(also))
        for got, want in zip(run(), step(also), strict=True):
            np.testing.assert_array_equal(got.numpy(), want.numpy())
        found = {node.op.name for node in run.graph().nodes}
        assert ("gather" in found) is also and ("linear_rows" in found) is not also


@each_float
def test_a_mask_is_drawn_once_there_and_back_with_the_same_bits(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    once = both(dtype=dtype, dropout=0.3, activation="gelu")[1]
    found = [node.op.name for node in once.program.graph.nodes]
    assert found.count("dropout_keep") == 2 and "dropout" not in found
    monkeypatch.setattr(sys.modules["gpunet.graph.pairs"], "_join_dropouts", lambda graph, moved: None)
    twice = both(dtype=dtype, dropout=0.3, activation="gelu")[1]
    assert [node.op.name for node in twice.program.graph.nodes].count("dropout") == 4
    assert_same(once.state(), twice.state())


# ---------------------------------------------------------------- any graph


@op(shape=ops.same, elementwise=True)
def arctan(dev: Any, out: Any, x: Any) -> None:
    """An op of somebody else's, which no device has a kernel for."""
    dev.xp.arctan(x, out=out)


def test_what_has_no_kernel_is_called_back() -> None:
    x = np.random.default_rng(0).uniform(0.5, 2, (4, 6))
    for executor in EXECUTORS:
        run = compile(lambda x: arctan(x.T * 2.0) + ops.pow(x.T, 1.5), executor=executor)
        np.testing.assert_allclose(run(tensor(x)).numpy(), np.arctan(2 * x.T) + x.T**1.5, rtol=1e-12)
    assert "arctan[6, 4]" in run.program(tensor(x)).callbacks


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "a transposed matrix reshaped": lambda x: ops.reshape(x.T, shape=(-1,)) + 1.0,
    "rows apart": lambda x: ops.tanh(x[:, 1:4]),
    "a broadcast row": lambda x: ops.tanh(ops.broadcast_to(x[0], shape=x.shape)),
    "a transposed matrix": lambda x: ops.softmax(x.T),
    "backwards": lambda x: ops.tanh(x[::-1]),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_views_of_any_layout(name: str, executor: str) -> None:
    """The kernel runs on copies, made anew in each step."""
    run = compile(VIEWS[name], executor=executor)
    for seed in (0, 1):
        x = tensor(np.random.default_rng(seed).standard_normal((4, 6)))
        np.testing.assert_array_equal(run(x).numpy(), VIEWS[name](x).numpy())


def test_an_error_of_a_callback_comes_through() -> None:
    run = compile(lambda x: ops.scatter_add(x, ops.cast(x, dtype=np.int32), n=2), executor="native")
    run(tensor(np.ones(3)))
    with pytest.raises(RangeError, match="scatter_add"):
        run(tensor(np.full(3, 7.0)))


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 10_000))
def test_random_programs_have_the_bits_of_the_python_executor(
    steps: list[tuple[bool, int, int, int, int]], seed: int
) -> None:
    results = [run_twice(steps, seed, executor) for executor in EXECUTORS]
    for got, want in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)


def run_twice(steps: list[tuple[bool, int, int, int, int]], seed: int, executor: str) -> list[Array]:
    f, states = random_program(steps, seed)
    run = compile(f, executor=executor)
    return [t.numpy() for _ in range(2) for t in run()] + [state.numpy() for state in states]


def test_the_executor_can_be_chosen() -> None:
    x = tensor(np.ones(3))
    kinds = {name: type(compile(lambda x: x + 1.0, executor=name).program(x)) for name in ("auto", *EXECUTORS)}
    assert kinds == {"auto": NativeProgram, "native": NativeProgram, "python": Program}
    with pytest.raises(ConfigError, match='Did you mean "native"'):
        compile(lambda x: x, executor="nativ")
    plain = cpu.CPU(native=False)
    with pytest.raises(DeviceError, match="wants C\\+\\+ kernels"):
        compile(lambda x: x + 1.0, executor="native")(tensor(np.ones(3), device=plain))


def test_profile_names_every_instruction() -> None:
    training = Training()
    rows = training.program.profile(4)
    assert len(rows) == len(training.program.native) and rows[0][0] == "gather_two[16, 10]"
    assert all(seconds >= 0 for _, seconds in rows)


# ---------------------------------------------------------------- the small kernels, beside NumPy

OPERANDS: dict[str, Callable[[Any], Array]] = {
    "as out": lambda a: a,
    "number": lambda a: np.array(a[0, 0]),
    "row": lambda a: a[0],
    "column": lambda a: a[:, :1].copy(),
    "wider rows": lambda a: np.concatenate([a, a], 1)[:, : a.shape[1]],
    "broadcast": lambda a: np.broadcast_to(a[0], a.shape),
}  # fmt: skip
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge")
NUMPY = {"sub": "subtract", "mul": "multiply", "div": "divide", "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal",
         "gt": "greater", "ge": "greater_equal", "neg": "negative", "abs": "absolute"}  # fmt: skip


@pytest.mark.parametrize("isa", cpu._native.isas())
@pytest.mark.parametrize(
    ("name", "dtype"), [(n, t) for n in BINARY for t in (*FLOATS, np.int64) if (n, t) != ("div", np.int64)]
)
def test_two_operands_broadcast(name: str, dtype: Any, isa: str) -> None:
    kernel, reference = getattr(cpu._native, name), getattr(np, NUMPY.get(name, name))
    before = cpu._native.isa()
    cpu._native.set_isa(isa)
    try:
        for shape in ((1, 1), (5, 3), (7, 17), (3, 40)):
            r = np.random.default_rng(shape)
            a, b = (np.trunc(r.standard_normal(shape) * 3 + 5).astype(dtype) for _ in range(2))
            if dtype is not np.int64:
                a[0, 0] = np.nan
            for left in OPERANDS.values():
                for right in OPERANDS.values():
                    x, y = left(a), right(b)
                    with np.errstate(divide="ignore", invalid="ignore"):
                        want = reference(np.broadcast_to(x, shape), y)
                    out = np.empty_like(want)
                    assert kernel(out, x, y) is None
                    np.testing.assert_array_equal(out, want)
    finally:
        cpu._native.set_isa(before)


@each_float
def test_one_operand_and_choices(dtype: Any) -> None:
    r = np.random.default_rng(0)
    x, y = (r.standard_normal((7, 19)).astype(dtype) for _ in range(2))
    x[0, :3] = np.nan, 0, -0.0
    for name in ("neg", "abs", "sign", "square", "sqrt"):
        out, source = np.empty_like(x), np.abs(x) if name == "sqrt" else x
        assert getattr(cpu._native, name)(out, source) is None
        np.testing.assert_array_equal(out, getattr(np, NUMPY.get(name, name))(source))
    out = np.empty_like(x)
    assert cpu._native.clip(out, x, low=-0.5, high=None) is None
    np.testing.assert_array_equal(out, np.clip(x, -0.5, None))
    assert cpu._native.where(out, x > y, x, y[0]) is None
    np.testing.assert_array_equal(out, np.where(x > y, x, y[0]))


@pytest.mark.parametrize("to", [*FLOATS, np.int64], ids=lambda t: t.__name__)
@pytest.mark.parametrize(
    "source", [np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_], ids=lambda t: t.__name__
)
def test_cast(to: Any, source: Any) -> None:
    x = (np.arange(40).reshape(5, 8) * 1.5).astype(source)
    out = np.full((5, 8), -1, to)
    assert cpu._native.cast(out, x, dtype=to) is None
    np.testing.assert_array_equal(out, x.astype(to))


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, (0, 1), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
@each_float
def test_reductions(name: str, axis: Any, dtype: Any) -> None:
    for shape in ((3, 5, 7), (2, 300, 20), (4, 1, 1000)):
        x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
        want = getattr(x.astype(np.longdouble), name)(axis=axis)
        out = np.full(want.shape, np.nan, dtype)
        assert getattr(cpu._native, name)(out, x, axis=axis, keepdims=False) is None
        np.testing.assert_allclose(
            out, want.astype(dtype), rtol=0, atol=40 * np.finfo(dtype).eps * (x.size / max(out.size, 1)) ** 0.5
        )
        x[-1, -1, -1] = np.nan
        getattr(cpu._native, name)(out, x, axis=axis, keepdims=True)
        np.testing.assert_array_equal(np.isnan(out), np.isnan(getattr(x, name)(axis=axis)))


def test_what_has_no_kernel_declines() -> None:
    whole = np.ones(3, np.int64)
    assert cpu._native.div(whole.copy(), whole, whole) is NotImplemented
    assert cpu._native.sum(np.empty(3), np.ones((2, 3, 4)), axis=(0, 2)) is NotImplemented


def test_rows() -> None:
    x, t = np.arange(30.0).reshape(5, 6), np.array([3, 0, 5, 1, 2])
    out = np.empty(5)
    assert cpu._native.pick(out, x, t) is None
    np.testing.assert_array_equal(out, x[np.arange(5), t])
    hot = np.full((5, 6), np.nan)
    assert cpu._native.one_hot(hot, t, n=6, dtype=np.float64) is None
    np.testing.assert_array_equal(hot, t[:, None] == np.arange(6))
    one = np.array(0.0)
    assert cpu._native.gather(one, out, np.array(2)) is None and one == out[2]
    joined = np.full((5, 12), np.nan)
    assert cpu._native.concat(joined, x, x * 2, axis=1) is None
    np.testing.assert_array_equal(joined, np.concatenate([x, x * 2], 1))
    packed = np.full(36, np.nan)
    packed[:30] = x.ravel()
    assert cpu._native.pack(packed, packed[:30].reshape(5, 6), x[0]) is None
    np.testing.assert_array_equal(packed, np.concatenate([x.ravel(), x[0]]))
    some = np.empty((2, 6))
    assert cpu._native.slice_rows(some, x, np.array(3), size=2) is None
    np.testing.assert_array_equal(some, x[3:])
    assert cpu._native.copy(some, x[:2]) is None
    np.testing.assert_array_equal(some, x[:2])
