"""What holds for every part of the package once compiled: gradients, threads, memory, odd shapes, each instruction set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES, Case
from test_native_program import LOSSES, Training, assert_same

from gpunet import losses, nn, ops, optim
from gpunet.devices import cpu, environment
from gpunet.engine import Tensor, grad, tensor
from gpunet.errors import ConfigError
from gpunet.graph.compile import compile
from gpunet.nn.module import LAYERS
from gpunet.optim.schedules import SCHEDULES

Array = np.ndarray
SMOOTH = [case for case in CASES if case.smooth]


def listed(made: Any) -> list[Any]:
    return list(made) if isinstance(made, (tuple, list)) else [made]


# ---------------------------------------------------------------- gradients


def weighted(outs: Any) -> Tensor:
    """All outputs as one number."""
    terms = [ops.sum(t * np.cos(np.arange(t.size)).reshape(t.shape)) for t in outs if t.dtype.kind == "f"]
    return sum(terms[1:], terms[0])


def slopes(of: Callable[[], Tensor], leaves: list[Tensor]) -> list[Tensor]:
    value = of()
    found = grad(value, leaves, create_graph=True) if value.tracked else [None] * len(leaves)
    return [leaf * 0.0 if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def native(f: Callable[[], Any]) -> Callable[[], list[Array]]:
    run = compile(f, executor="native")
    run.program()  # raises where f cannot be traced
    return lambda: [t.numpy() for t in listed(run())]


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_compiled_gradients_are_the_difference_quotients(case: Case) -> None:
    """Along one direction, for the gradient and the gradient of the gradient; tolerances as gpunet.check_grads has."""
    for arrays in case.draws(np.float64):
        ins = [tensor(a, requires_grad=a.dtype.kind == "f" and a.ndim > 0 or len(arrays) == 1) for a in arrays]
        leaves = [t for t in ins if t.requires_grad and t.size]
        orders: list[Callable[[], Tensor]] = [lambda ins=ins: weighted(listed(case.call(*ins)))]
        orders.append(lambda f=orders[0], leaves=leaves: weighted(slopes(f, leaves)))
        for f in orders[: case.smooth] if leaves else []:
            assert_slope(native(f), native(lambda f=f, leaves=leaves: slopes(f, leaves)), leaves)


def assert_slope(value: Callable[[], list[Array]], slope: Callable[[], list[Array]], leaves: list[Tensor]) -> None:
    eps, r = 1e-5, np.random.default_rng(0)
    ways = [r.standard_normal(t.shape) for t in leaves]
    starts = [t.numpy().copy() for t in leaves]
    analytic = sum(float(np.vdot(g, way)) for g, way in zip(slope(), ways, strict=True))
    ends = []
    for step in (eps, -eps, 0.0):
        for leaf, start, way in zip(leaves, starts, ways, strict=True):
            leaf.numpy()[...] = start + step * way
        ends.append(float(value()[0]))
    numeric = (ends[0] - ends[1]) / (2 * eps)
    terms = sum(t.size for t in leaves) + 1  # of size 1 or so, each with its rounding
    rounding = 10 * np.finfo(np.float64).eps * (abs(ends[0]) + terms) / eps
    assert abs(analytic - numeric) <= 1e-6 * max(abs(analytic), abs(numeric)) + rounding


# ---------------------------------------------------------------- the same bits


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = cpu._native.threads()
    yield cpu._native.set_threads
    cpu._native.set_threads(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_compiled_row_has_the_bits_of_the_eager_op(case: Case, set_threads: Callable[[int], None]) -> None:
    for dtype in (np.float32, np.float64):
        for arrays in case.draws(dtype):
            ins = [tensor(a) for a in arrays]
            want = [t.numpy() for t in listed(case.call(*ins))]
            run = compile(case.call, executor="native")
            for threads in (1, 2, 3):
                set_threads(threads)
                for got, value in zip(listed(run(*ins)), want, strict=True):
                    np.testing.assert_array_equal(got.numpy(), value)


def test_training_has_the_same_bits_with_any_number_of_threads(set_threads: Callable[[int], None]) -> None:
    """A net of a size at which the products, the activations and the optimizer are shared out."""
    states = []
    for threads in (1, 2, 3):
        set_threads(threads)
        training = Training(widths=(200, 300, 250, 10), batch=150, rows=600, dropout=0.2, norm="batch")
        assert training.run.run(4) == 4
        states.append(training.state())
    assert_same(states[0], states[1])
    assert_same(states[0], states[2])


# ---------------------------------------------------------------- every part compiles

INNER = {"layer": "Linear", "inputs": 6, "outputs": 6}
# fmt: off
LAYER_SETTINGS: dict[str, dict[str, Any]] = {  # those that cannot be made of nothing
    "Linear": {"inputs": 6, "outputs": 5}, "Maxout": {"inputs": 6, "outputs": 5}, "FC": {"inputs": 6, "outputs": 5},
    "Dropout": {"rate": 0.3}, "BatchNorm1d": {"features": 6}, "LayerNorm": {"features": 6},
    "Embedding": {"count": 9, "width": 6}, "Residual": {"inner": INNER}, "Sequential": {"layers": [INNER, INNER]},
    "MLP": {"widths": [6, 5, 4]}, "Scale": {"features": 6}, "NTKLinear": {"inputs": 6, "outputs": 5},
    "ParametricActivation": {"features": 6, "activation": "mish"}, "PeriodicEmbedding": {"features": 6},
    "Columns": {"numeric": 3, "plain": 3, "embedding": {}, "piecewise": {}},
    "PiecewiseEmbedding": {"features": 6}, "Temperature": {"value": 1.5}, "Unsmooth": {"amount": 0.1},
    "Ensemble": {"layers": [INNER, INNER]}, "Clamp": {"low": [-1.0] * 6, "high": [1.0] * 6},
}
SCHEDULE_SETTINGS = {"step": "step:3", "warmup": "warmup:2,cosine", "plateau": "plateau:1,0.5"}
# fmt: on


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_compiles(name: str) -> None:
    net = nn.build({"layer": name, **LAYER_SETTINGS.get(name, {})}).to(np.float32).initialize(1)
    r = np.random.default_rng(0)
    x = tensor(r.integers(0, 9, (8, 6)) if name == "Embedding" else r.standard_normal((8, 6)).astype(np.float32))
    leaves = [p for _, p in net.named_parameters()]

    def step() -> Any:
        out = net(x)
        return [out, *(grad(ops.mean(ops.square(out)), leaves) if leaves else [])]

    run = compile(step, executor="native")
    assert run.program().callbacks == []
    assert all(np.isfinite(t.numpy()).all() for t in listed(run()))


@pytest.mark.parametrize("name", sorted({*losses.LOSSES} - {n.partition(":")[0] for n in LOSSES}))
def test_every_loss_is_trained_with_in_test_native_program(name: str) -> None:
    assert losses.LOSSES[name] in [losses.plain(loss) for loss, _ in LOSSES.values()]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_every_optimizer_with_every_schedule_compiles_or_says_why_not(name: str, schedule: str) -> None:
    if name == "lbfgs":
        with pytest.raises(ConfigError, match="several times a step"):
            Training(optimizer=optim.LBFGS()).run.run(1)
        return
    optimizer = optim.get(name)(lr=1e-3, schedule=SCHEDULE_SETTINGS.get(schedule, schedule), clip_norm=1.0)
    training = Training(optimizer=optimizer)
    assert training.program.callbacks == []
    assert training.run.run(4) == 4


# ---------------------------------------------------------------- memory

# fmt: off
NETS = {  # as in scripts/bench.py
    "xor": ((2, 16, 2), 4), "digits": ((64, 32, 10), 32), "small": ((64, 128, 128, 10), 64),
    "cs231n": ((3072, 100, 10), 256), "mnist": ((784, 256, 128, 10), 128), "sigmoid": ((784, 256, 128, 10), 128),
    "tabular": ((54, 256, 256, 256, 7), 256), "wide": ((784, 1024, 1024, 10), 512), "deep": ((*[128] * 9, 10), 1024),
}
KINDS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "sgd": (lambda: optim.SGD(lr=0.1), {}), "adam": (optim.Adam, {}), "dropout": (optim.Adam, {"dropout": 0.2}),
    "batch norm": (optim.Adam, {"norm": "batch"}),
}
# fmt: on


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_memory_is_within_a_tenth_of_the_bound(name: str, kind: str) -> None:
    (widths, batch), (optimizer, settings) = NETS[name], KINDS[kind]
    activation = "sigmoid" if name == "sigmoid" else "relu"
    training = Training(
        optimizer=optimizer(), widths=widths, batch=batch, rows=batch, activation=activation, **settings
    )
    plan = training.program.plan
    assert plan.bound <= plan.arena_bytes
    assert plan.arena_bytes <= 1.1 * plan.bound
    parameters = sum(p.size * p.dtype.itemsize for p in training.optimizer.parameters)
    assert plan.held >= parameters * (1 if kind == "sgd" else 3)  # Adam keeps two moments of each
    assert f"{plan.bound + plan.held:,}" in str(training.program)


# ---------------------------------------------------------------- odd shapes


@pytest.mark.parametrize("isa", cpu._native.isas())
@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("width", [1, 7, 45, 46, 100, 257])
def test_odd_layers_beside_float64_numpy(width: int, batch: int, isa: str) -> None:
    before = cpu._native.isa()
    cpu._native.set_isa(isa)
    try:
        r = np.random.default_rng([width, batch])
        exact = [r.standard_normal(s) for s in ((batch, width), (width, width), (width,))]
        x, w, b = (tensor(a.astype(np.float32), requires_grad=True) for a in exact)
        run = compile(lambda: [h := ops.linear(x, w, b, act="tanh"), *grad(ops.sum(ops.square(h)), [x, w, b])])
        got = [t.numpy() for t in run()]
    finally:
        cpu._native.set_isa(before)
    xs, ws, bs = (t.numpy().astype(np.float64) for t in (x, w, b))
    h = np.tanh(xs @ ws + bs)
    dz = 2 * h * (1 - h * h)
    scales = [width**0.5] * 2 + [(batch * width) ** 0.5] * 2
    for found, want, scale in zip(got, (h, dz @ ws.T, xs.T @ dz, dz.sum(0)), scales, strict=True):
        np.testing.assert_allclose(found, want, rtol=0, atol=64 * np.finfo(np.float32).eps * max(scale, 1.0))


# ---------------------------------------------------------------- instruction sets

TRAIN = """
import sys
sys.path.insert(0, sys.argv[1])
from test_native_program import Training
training = Training(norm="batch", dropout=0.2)
training.run.run(4)
print(training.program.device.native.isa(), training.state()["total"])
"""


def train_elsewhere(isa: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TRAIN, str(Path(__file__).parent)]
    variables = {**os.environ, "GPUNET_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_the_portable_kernels_train_as_the_others_do() -> None:
    best, portable = (train_elsewhere(isa) for isa in ("", "portable"))
    assert best.returncode == portable.returncode == 0, best.stderr + portable.stderr
    assert portable.stdout.split()[0] == "portable"
    np.testing.assert_allclose(float(portable.stdout.split()[1]), float(best.stdout.split()[1]), rtol=1e-5)


def test_an_instruction_set_that_cannot_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = train_elsewhere("avx1024")
    assert unknown.returncode and 'GPUNET_ISA: no instruction set "avx1024"' in unknown.stderr
    monkeypatch.setattr(environment, "ISAS", (*environment.ISAS, "avx10"))
    monkeypatch.setenv("GPUNET_ISA", "avx10")  # known, and not this processor's
    with pytest.raises(ConfigError, match='GPUNET_ISA: set_isa: "avx10" cannot be had on this processor; usable: '):
        cpu.open_cpu()


def test_what_every_processor_runs_has_no_avx_in_it() -> None:
    """The portable kernels and the bindings, as the last build in this source tree left them."""
    objects = sorted((Path(__file__).parents[1] / "build").glob("temp.*x86_64*/csrc/*.o"))
    common = [o for o in objects if not o.stem.endswith(("_avx2", "_avx512", "_amx"))]
    if not common or shutil.which("objdump") is None:
        pytest.skip("no objdump" if common else "no objects of an x86-64 build in build/ (an installed gpunet keeps none)")

    def wide_registers(o: Path) -> int:
        code = subprocess.run(["objdump", "-d", str(o)], capture_output=True, text=True, check=True).stdout
        return len(re.findall(r"%[yz]mm", code))

    assert {o.name: wide_registers(o) for o in common} == dict.fromkeys((o.name for o in common), 0)
    assert all(wide_registers(o) for o in objects if o not in common), "the search finds none where there are many"
