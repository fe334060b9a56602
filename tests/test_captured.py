"""Whole training steps on the CUDA device, captured and replayed: on the emulated back end, and on a GPU where there is one."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fibers
import numpy as np
import pytest
from conftest import DeviceArray, emulated_cuda
from emulation import EmulatedCupy

from gpunet import Trainer, losses, nn, ops, optim
from gpunet.data import digits
from gpunet.devices import Device, cuda_kernels
from gpunet.devices.cpu import CPU
from gpunet.devices.cublaslt import BGRADA, BIAS
from gpunet.devices.cuda import CUDA
from gpunet.engine import mode, op, tensor
from gpunet.errors import ConfigError, DivergedError, OutOfMemoryError, RangeError
from gpunet.graph import compile
from gpunet.graph.captured import STEPS_A_LAUNCH, CapturedProgram
from gpunet.graph.compile import Compiled
from gpunet.graph.program import Program

if fibers.missing():
    pytest.skip(f"csrc/*.cu cannot be built for the host: {fibers.missing()}", allow_module_level=True)

FIRST = 20  # steps
NETS = {
    "relu": {"activation": "relu"},
    "gelu and dropout": {"activation": "gelu", "dropout": 0.2},
    "tanh and batch norm": {"activation": "tanh", "norm": "batch"},
    "silu and layer norm": {"activation": "silu", "norm": "layer"},
}


class LossOfEachStep:
    """From the trainer's running total, where a chunk is one step."""

    def __init__(self, size: int) -> None:
        self.size, self.sums = size, [0.0]

    def on_chunk_end(self, trainer: Trainer, step: int) -> None:
        self.sums.append(trainer._total.item())

    @property
    def losses(self) -> Any:
        return np.diff(self.sums) / self.size


def train(
    device: Device, *, rule: Any = None, rows: int = 32 * FIRST, epochs: int = 1, callbacks: Any = (),
    compile: bool = True, poison: int | None = None, classes: int = 10, precision: str = "float32",
    autotune: bool = False, accumulate: int = 1, batch: int = 32, **net: Any,
) -> Trainer:  # fmt: skip
    data = digits()
    x = (data.x[:rows] / 16).astype(np.float32)
    if poison is not None:
        x[poison] = np.nan
    model = nn.MLP(64, 32, classes, **net)
    rule = rule or optim.AdamW(lr=2e-3, clip_norm=1.0, schedule="cosine")
    trainer = Trainer(
        model, losses.cross_entropy, rule, device=device, seed=0, compile=compile, metrics=[], precision=precision,
        autotune=autotune,
    )  # fmt: skip
    trainer.fit(
        (x, data.y[:rows]), epochs=epochs, batch_size=batch, show_progress=False, callbacks=callbacks, accumulate=accumulate
    )
    return trainer


def weights(trainer: Trainer) -> Any:
    return np.concatenate([a.ravel() for a in trainer.model.state_dict().values()])


def programs(trainer: Trainer) -> list[CapturedProgram]:
    return [p for compiled in trainer._programs.values() for found in compiled.programs.values() for p in found]  # type: ignore[misc]


@pytest.mark.parametrize("net", NETS)
def test_digits_train_as_on_the_cpu(cuda: Any, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e-9)
    seen, expected = LossOfEachStep(32), LossOfEachStep(32)
    trained = train(cuda, callbacks=[seen], **NETS[net])
    train(CPU(), callbacks=[expected], **NETS[net])
    assert len(seen.losses) == FIRST
    np.testing.assert_allclose(seen.losses, expected.losses, rtol=1e-5)
    assert all(isinstance(p, CapturedProgram) for p in programs(trained)) and trained.compiles


def test_threads_take_turns_on_a_device(cuda: Any) -> None:
    """Nets trained at once are those trained alone, each in its own precision, and eager ops between them are right."""
    how: list[dict[str, Any]] = [{"activation": "relu"}, {"activation": "gelu", "dropout": 0.2}, {"precision": "tf32"}]
    alone = [weights(train(cuda, rows=160, epochs=3, **h)) for h in how]
    x = np.random.default_rng(0).normal(size=(64, 33)).astype(np.float32)

    def eager(_: int) -> Any:
        return [ops.sum(ops.exp(tensor(x, device=cuda)), axis=0).numpy() for _ in range(20)]

    with ThreadPoolExecutor(6) as pool:
        trained = [pool.submit(train, cuda, rows=160, epochs=3, **h) for h in how]
        sums = [row for found in pool.map(eager, range(3)) for row in found]
        together = [weights(t.result()) for t in trained]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert all(np.array_equal(sums[0], row) for row in sums)
    np.testing.assert_allclose(sums[0], np.exp(x).sum(axis=0), rtol=1e-6)


def test_a_whole_step_of_an_ordinary_net_is_one_graph(cuda: Any) -> None:
    for net in ("relu", "gelu and dropout"):
        for program in programs(train(cuda, rows=64, **NETS[net])):
            assert program.callbacks == [] and len(program._segments) == 1


@pytest.mark.parametrize("rule", ["SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad", "Lion"])
def test_every_rule_runs_in_the_graph(rule: str) -> None:
    cuda = emulated_cuda(orders=())
    made = train(cuda, rows=128, rule=getattr(optim, rule)(lr=1e-3))
    expected = train(CPU(native=False), rows=128, rule=getattr(optim, rule)(lr=1e-3))
    assert [p.callbacks for p in programs(made)] == [[]]
    np.testing.assert_allclose(weights(made), weights(expected), rtol=1e-4, atol=2e-6)


class Asked:
    """What the device was asked for in the last chunk of a training: on a GPU by CuPy's hooks and wrapped functions."""

    def __init__(self, cuda: CUDA, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cuda, self.counts = cuda, getattr(cuda.xp, "counts", None)
        self.hook: Any = None
        if self.counts is None:
            self.counts = Counter()
            self.hook = allocations(cuda.xp, self.counts)
            for name, what in (("asnumpy", "downloads"), ("asarray", "uploads"), ("array", "uploads")):
                monkeypatch.setattr(cuda.xp, name, counted(getattr(cuda.xp, name), self.counts, what))
            monkeypatch.setattr(CUDA, "synchronize", counted(CUDA.synchronize, self.counts, "synchronisations"))

    def on_chunk_begin(self, trainer: Trainer, step: int) -> None:
        self.begun, self.steps = self.counts.copy(), step
        if self.hook is not None:
            for program in programs(trainer):
                program._graphs = {k: [Launched(g, self.counts) for g in gs] for k, gs in program._graphs.items()}
            self.hook.__enter__()

    def on_chunk_end(self, trainer: Trainer, step: int) -> None:
        if self.hook is not None:
            self.hook.__exit__(None, None, None)
        self.found, self.steps = self.counts - self.begun, step - self.steps


class Launched:
    def __init__(self, graph: Any, counts: Counter[str]) -> None:
        self.graph = graph.graph if isinstance(graph, Launched) else graph
        self.launch = counted(self.graph.launch, counts, "graph launches")


def counted(function: Any, counts: Counter[str], what: str) -> Any:
    def call(*args: Any, **settings: Any) -> Any:
        counts[what] += 1
        return function(*args, **settings)

    return call


def allocations(cupy: Any, counts: Counter[str]) -> Any:
    class Hook(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "allocations"

        def malloc_preprocess(self, **how: Any) -> None:
            counts["allocations"] += 1

    return Hook()


def test_many_steps_are_one_launch_and_nothing_else(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No allocation, no copy from the host, no wait; one read at the end of a chunk, of how many steps were done."""
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e9)
    asked, steps = Asked(cuda, monkeypatch), 2 * STEPS_A_LAUNCH + 3
    trainer = train(cuda, rows=32 * steps, epochs=2, callbacks=[asked], **NETS["gelu and dropout"])
    assert asked.steps == steps and len(programs(trainer)) == 1
    launched = asked.found.pop("launches", 0) + asked.found.pop("products", 0)  # by the graphs: the emulation sees them
    assert launched % steps == 0 and (launched >= 10 * steps or not hasattr(cuda.xp, "counts"))
    assert asked.found == {"graph launches": 2 + 3, "downloads": 1}


@pytest.mark.parametrize("net", NETS)
def test_the_same_bits_in_one_launch_or_many_and_without_capture(
    cuda: Any, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for chunk in (1e-9, 1e9):
        monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", chunk)
        made.append(weights(train(cuda, **NETS[net])))
    monkeypatch.setattr(Compiled, "_executor", lambda self, device: Program)
    made.append(weights(train(cuda, **NETS[net])))
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()


def test_a_step_that_is_not_finite_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e9)

    class Keep:
        def on_train_begin(self, trainer: Trainer) -> None:
            self.trainer = trainer

    left = []
    for device in (emulated_cuda(orders=()), CPU(native=False)):
        keep = Keep()
        with pytest.raises(DivergedError):
            train(device, poison=100, callbacks=[keep])
        left.append((keep.trainer.step, weights(keep.trainer)))
    assert left[0][0] == left[1][0] > 0
    np.testing.assert_allclose(left[0][1], left[1][1], rtol=1e-4, atol=1e-6)


def test_a_watched_value_stops_what_follows(cuda: Any) -> None:
    total, x = tensor(np.float32(1), device=cuda), tensor(np.float32(1e30), device=cuda)

    def step() -> None:
        grown = x * 1e4
        mode.trace.watch(grown)  # type: ignore[union-attr]
        x.assign(grown)
        total.assign(total + 1.0)

    assert compile(step).run(20) == 2  # 1e34, 1e38, and then infinity
    assert total.item() == 3 and x.item() == pytest.approx(1e38)
    assert compile(step).run(5) == 0
    assert (tensor([1.0], device=cuda) + 1.0).tolist() == [2.0]  # and eager ops go on


def test_a_row_out_of_range_is_told_after_the_launch(cuda: Any) -> None:
    table, row = tensor(np.arange(3.0), device=cuda), tensor(np.int64([5]), device=cuda)
    made = tensor(np.zeros(1), device=cuda)

    def step() -> None:
        made.assign(ops.gather(table, row))

    with pytest.raises(RangeError, match="5 is out of range"):
        compile(step).run(3)
    assert made.tolist() == [0.0]
    assert ops.gather(table, tensor(np.int64([2]), device=cuda)).tolist() == [2.0]


def test_what_has_no_kernel_is_done_by_python_between_graphs(cuda: Any) -> None:
    @op(shape=ops.same)
    def doubled(dev: Device, out: Any, x: Any) -> None:
        out[...] = 2 * x

    x, n = tensor(np.arange(6.0).reshape(2, 3), device=cuda), tensor(np.zeros(()), device=cuda)

    def step() -> None:
        x.assign(doubled(x) + 1.0)
        n.assign(n + 1.0)

    step_of = compile(step)
    assert step_of.run(4) == 4
    (program,) = step_of.programs[()]
    assert program.callbacks == ["doubled[2, 3]"] and len(program._segments) == 2  # type: ignore[attr-defined]
    assert n.item() == 4 and x.tolist() == [[15, 31, 47], [63, 79, 95]]


# ---------------------------------------------------------------- data that do not fit


def fitted(cuda: Any, *, free: int, **how: Any) -> tuple[Any, dict[str, list[float]]]:
    """A net trained on pixels and weights where the GPU has so much free memory: its weights and history."""
    cuda._device.mem_info = free, 1 << 30
    data = digits()
    x, y = data.x[:333].astype(np.uint8), data.y[:333]
    trainer = Trainer(nn.MLP(64, 32, 10, dropout=0.1), device=cuda, seed=0)
    weight = np.linspace(0.5, 1.5, 333, dtype=np.float32)
    history = trainer.fit(
        (x, y, weight), validation=(x[:50], y[:50]), epochs=3, batch_size=32, show_progress=False, restore_best=False, **how
    )
    return weights(trainer), dict(history)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_streamed_data_train_to_the_same_bits(lazy: bool, accumulate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.data.batches.STAGE_BYTES", 3 * 32 * 76)  # three batches at once
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e9)
    made = []
    for free in (1 << 30, 1000):
        cuda = emulated_cuda(orders=())
        cuda.xp.lazy = lazy
        made.append(fitted(cuda, free=free, accumulate=accumulate))
        sent = cuda.xp.counts["copies beside the work"], cuda.xp.counts["pinned"]
        assert sent == ((0, 0) if free > 1000 else (3 * 4 * 3, 2 * 3))  # epochs, groups, and x, y and weight
    assert made[0][0].tobytes() == made[1][0].tobytes() and made[0][1] == made[1][1]


def test_the_emulation_sees_rows_that_were_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.data.batches.STAGE_BYTES", 3 * 32 * 76)
    monkeypatch.setattr(CUDA, "follow", lambda self, ticket: None)
    with pytest.raises(Exception, match="not finite|out of range|diverged"):
        fitted(emulated_cuda(orders=()), free=1000)


# ---------------------------------------------------------------- stacks of nets, and axes that are turned


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("act", ["relu", "gelu"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 7, 9), (2, 33, 1, 17)])
def test_a_stack_of_layers_is_each_of_them(dtype: Any, act: str, shape: tuple[int, ...]) -> None:
    nets, rows, inputs, outputs = shape
    random, found = np.random.default_rng(0), []
    drawn = [random.normal(size=s).astype(dtype) for s in ((nets, rows, inputs), (nets, inputs, outputs), (nets, outputs))]
    for device in (emulated_cuda(orders=(0, 7)), CPU(native=False)):
        x, w, b = (tensor(a, device=device, requires_grad=True) for a in drawn)
        made = ops.linear(x, w, b, act=act)
        ops.sum(ops.square(made)).backward()
        found.append([t.numpy() for t in (made, x.grad, w.grad, b.grad)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3 if dtype is np.float32 else 1e-10, atol=1e-4 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_copies_of_turned_axes(dtype: Any) -> None:
    x, cuda = np.arange(2 * 3 * 5 * 7).astype(dtype).reshape(2, 3, 5, 7), emulated_cuda(orders=(0, 7))
    there = tensor(x, device=cuda)
    four = there.value.transpose(0, 2, 1, 3)  # four strides: more than the kernel has
    assert cuda_kernels.copy(cuda, cuda.empty(four.shape, dtype), four) is NotImplemented
    for axes in ((1, 0, 2, 3), (3, 0, 1, 2), (2, 3, 0, 1), (0, 1, 3, 2), (0, 3, 1, 2)):
        out = cuda.empty(x.transpose(axes).shape, dtype)
        assert cuda_kernels.copy(cuda, out, there.value.transpose(axes)) is None
        np.testing.assert_array_equal(cuda.download(out), x.transpose(axes))
    out = cuda.empty((3, 4, 2), dtype)
    assert cuda_kernels.copy(cuda, out, there.value[::-1, :, 4:0:-1, 3].transpose(1, 2, 0)) is None
    np.testing.assert_array_equal(cuda.download(out), x[::-1, :, 4:0:-1, 3].transpose(1, 2, 0))


# ---------------------------------------------------------------- more than a grid holds


@pytest.mark.parametrize("axis", [0, 1, 2, None, (0, 2)])
def test_reductions_beyond_the_size_of_a_grid(axis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MOST_PLACES", 3), ("MOST_ROWS", 5), ("ROWS_CHUNK", 4), ("COLUMNS_CHUNK", 4)):
        monkeypatch.setattr(cuda_kernels, name, most)
    x = np.random.default_rng(0).integers(-9, 9, (7, 33, 14)).astype(np.float32)
    made = ops.sum(tensor(x, device=emulated_cuda(orders=(0, 7))), axis=axis)
    np.testing.assert_array_equal(made.numpy(), x.sum(axis=axis))


# ---------------------------------------------------------------- too little memory


class Fills:
    """Nothing larger than so many bytes fits from the first step on."""

    def __init__(self, cuda: CUDA, nbytes: int) -> None:
        self.cuda, self.nbytes = cuda, nbytes

    def on_train_begin(self, trainer: Trainer) -> None:
        self.cuda.xp.largest = self.nbytes


def test_out_of_memory_halves_the_micro_batch_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    made, how = {}, {"rows": 512, "batch": 256, "activation": "relu"}
    for parts in (1, 2, 4):
        trained = train(emulated_cuda(orders=()), accumulate=parts, **how)
        (program,) = programs(trained)
        made[parts] = program.plan.arena_bytes, weights(trained)
    assert made[1][0] > made[2][0] > made[4][0]
    for parts in (2, 4):
        cuda = emulated_cuda(orders=())
        with caplog.at_level("WARNING", "gpunet"):
            trained = train(cuda, callbacks=[Fills(cuda, made[parts][0])], **how)
        lines = [record.message for record in caplog.records if "out of memory" in record.message]
        assert lines[-1].startswith(
            f"out of memory with {512 // parts} rows at once: a step of 256 rows is made of {parts} micro-batches"
        )
        assert len(lines) == (1 if parts == 2 else 1 + 2)
        assert weights(trained).tobytes() == made[parts][1].tobytes(), "as if it had been asked for"
        np.testing.assert_allclose(weights(trained), made[1][1], rtol=1e-3, atol=1e-5)


def test_out_of_memory_in_the_middle_of_a_training_repeats_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eagerly, where half of a step may have been done: it goes back, batch cursor and dropout's counter too."""
    net = {"activation": "relu", "dropout": 0.2}
    whole = train(CPU(native=False), compile=False, accumulate=2, **net)
    plain, failed = Trainer._loss, []

    def fails_once(self: Trainer, x: Any, y: Any, weight: Any) -> Any:
        made = plain(self, x, y, weight)
        if self.step == 0 and not failed:
            failed.append(1)
            raise MemoryError("planted")
        return made

    monkeypatch.setattr(Trainer, "_loss", fails_once)
    again = train(CPU(native=False), compile=False, **net)
    assert failed and again.step == FIRST and weights(again).tobytes() == weights(whole).tobytes()


def test_out_of_memory_with_batch_norm_is_an_error() -> None:
    cuda = emulated_cuda(orders=())
    said = r"(?s)cuda:0: out of memory.*32 rows .* change batch norm's statistics.*batch_size"
    with pytest.raises(OutOfMemoryError, match=said):
        train(cuda, norm="batch", callbacks=[Fills(cuda, 10_000)])


def test_a_row_that_does_not_fit_is_an_error() -> None:
    cuda = emulated_cuda(orders=())
    rule = optim.SGD(lr=0.1)
    data = np.zeros((4, 1 << 12), np.float32), np.zeros(4, np.int64)
    trainer = Trainer(nn.MLP(1 << 12, 64, 2), optimizer=rule, device=cuda, metrics=[])
    with pytest.raises(OutOfMemoryError, match="cuda:0: out of memory"):
        trainer.fit(data, epochs=1, batch_size=4, show_progress=False, callbacks=[Fills(cuda, 1 << 17)])


# ---------------------------------------------------------------- metrics


def test_metrics_are_made_on_the_device(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs stay there: what is read back is one number for each figure."""
    rows = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float32)
    classes, values = rows[:, :10].argmax(axis=1), rows[:, :3]
    for loss, y, names in (("cross_entropy", classes, ["accuracy"]), ("mse", values, ["rmse", "mae"])):
        found = []
        for device in (cuda, CPU(native=False)):
            trainer = Trainer(nn.MLP(64, 16, 10 if y.ndim == 1 else 3), loss, device=device, seed=0, metrics=names)
            sizes: list[int] = []
            download = type(device).download
            monkeypatch.setattr(type(device), "download", lambda self, a, d=download, s=sizes: (s.append(a.size), d(self, a))[1])
            found.append(trainer.evaluate((rows, y)))
            assert max(sizes) == 1
        assert list(found[0]) == ["loss", *names] and found[0] == pytest.approx(found[1], rel=1e-5)


# ---------------------------------------------------------------- nothing calls back

CODES = np.random.default_rng(1).integers(0, 10, (64, 3))
X = np.random.default_rng(2).normal(size=(64, 8)).astype(np.float32)
CLASSES = np.random.default_rng(3).integers(0, 4, 64)
VALUES = np.abs(np.random.default_rng(4).normal(size=(64, 4))).astype(np.float32)
WEIGHTS = np.random.default_rng(5).random(64).astype(np.float32)


def between(kind: str, **how: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), getattr(nn, kind)(**how), nn.Linear(16, 4))


# fmt: off
LAYERS: dict[str, Any] = {  # layer -> a net with it, and rows for it if they are not X
    **{name: (lambda name=name: between(name),) for name in (
        "ReLU", "SELU", "Sigmoid", "Tanh", "Softplus", "GELU", "SiLU", "Mish", "Identity", "LeakyReLU", "ELU", "Dropout",
    )},
    "BatchNorm1d": (lambda: between("BatchNorm1d", features=16),),
    "LayerNorm":   (lambda: between("LayerNorm", features=16),),
    "Linear":      (lambda: nn.Sequential(nn.Linear(8, 4, bias=False)), X.view(np.uint8)[:, :8]),
    "Maxout":      (lambda: nn.Sequential(nn.Maxout(8, 4, pieces=3)),),
    "Residual":    (lambda: nn.Sequential(nn.Residual(nn.MLP(8, 4, 8)), nn.Linear(8, 4)),),
    "Flatten":     (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 4)), X.reshape(64, 2, 4)),
    "Embedding":   (lambda: nn.Sequential(nn.Embedding(10, 5), nn.Flatten(), nn.Linear(15, 4)), CODES),
    "Sequential":  (lambda: nn.Sequential(nn.Embedding(10, 5), nn.Flatten(), nn.Linear(15, 4)), CODES.astype(np.uint8)),
    "MLP":         (lambda: nn.MLP(8, 16, 16, 4, activation="gelu", norm="layer", dropout=0.1),),
    "Scale":       (lambda: nn.Sequential(nn.Scale(8), nn.Linear(8, 4)),),
    "NTKLinear":   (lambda: nn.Sequential(nn.NTKLinear(8, 16), nn.ReLU(), nn.NTKLinear(16, 4)),),
    "ParametricActivation": (lambda: between("ParametricActivation", features=16, activation="mish"),),
    "PeriodicEmbedding":    (lambda: nn.Sequential(nn.PeriodicEmbedding(8, frequencies=5, width=3), nn.Linear(24, 4)),),
    "PiecewiseEmbedding":   (lambda: nn.Sequential(nn.PiecewiseEmbedding(8, bins=4, width=3), nn.Linear(24, 4)),),
    "Columns":     (lambda: nn.Sequential(nn.Columns(5, 3, embedding={"frequencies": 5, "width": 3}), nn.Linear(18, 4)),),
    "Clamp":       (lambda: nn.Sequential(nn.Linear(8, 4), nn.Clamp([-1.0] * 4, [1.0] * 4)),),
    "Temperature": (lambda: nn.Sequential(nn.Linear(8, 4), nn.Temperature(1.5)),),
    "Unsmooth":    (lambda: nn.Sequential(nn.Linear(8, 4), nn.Unsmooth(0.1)),),
    "Ensemble":    (lambda: nn.Ensemble(nn.MLP(8, 4), nn.MLP(8, 4)),),
}
TARGETS: dict[str, Any] = {  # loss -> targets, with and without weights
    "cross_entropy": (CLASSES, CLASSES.astype(np.uint8), CLASSES.astype(np.int32), VALUES), "hinge": (CLASSES,),
    "bce_with_logits": ((VALUES > 0.5).astype(np.float32),), "bce": ((VALUES > 0.5).astype(np.float32),),
    "mse": (VALUES,), "mae": (VALUES,), "huber": (VALUES,), "poisson": (np.floor(VALUES),), "quantile": (VALUES,),
}
CALLS_BACK = {"lbfgs": "its line search asks for the loss in the middle of a step, so that Python leads"}
# fmt: on


def called_back(net: nn.Module, x: Any = X, y: Any = CLASSES, *, loss: str = "cross_entropy", rule: Any = None, **fit: Any) -> Any:
    trainer = Trainer(net, loss, rule or optim.SGD(lr=1e-3), device=emulated_cuda(orders=()), metrics=[])
    data = (x, *y) if isinstance(y, tuple) else (x, y)
    trainer.fit(data, epochs=1, **{"batch_size": 32, "show_progress": False, **fit})
    return trainer.compiles, [program.callbacks for program in programs(trainer)]


@pytest.mark.parametrize("layer", sorted(n for n, made in nn.module.LAYERS.items() if made.__module__.startswith("gpunet.")))
def test_no_layer_calls_back(layer: str) -> None:
    net, *x = LAYERS[layer]
    assert called_back(net(), *x) == (True, [[]])


@pytest.mark.parametrize("loss", sorted(losses.LOSSES))
def test_no_loss_calls_back(loss: str) -> None:
    for targets in TARGETS[loss]:
        for y in (targets, (targets, WEIGHTS)):
            assert called_back(nn.MLP(8, 4), y=y, loss=loss) == (True, [[]])


@pytest.mark.parametrize("rule", sorted(optim.OPTIMIZERS))
def test_no_optimizer_calls_back(rule: str) -> None:
    make, every = optim.OPTIMIZERS[rule], {"match": "*bias", "weight_decay": 0.0, "lr_factor": 0.5}
    how = {"schedule": "one_cycle", "clip_norm": 1.0, "clip_value": 0.1, "weight_decay": 0.01, "groups": [every]}
    if rule in CALLS_BACK:
        assert called_back(nn.MLP(8, 4), rule=make(), batch_size=64)[1] == []
        return
    for settings in ({}, how):
        assert called_back(nn.MLP(8, 16, 4), rule=make(lr=1e-3, **settings)) == (True, [[]])


def test_no_way_of_training_calls_back() -> None:
    for how in ({"average": 0.9}, {"accumulate": 2}, {"accumulate": 3, "average": 0.99}):
        assert called_back(nn.MLP(8, 16, 4), y=(CLASSES, WEIGHTS), **how) == (True, [[]])


# ---------------------------------------------------------------- products


@pytest.fixture
def by_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """No product is small."""
    monkeypatch.setattr(cuda_kernels, "SMALL_PRODUCT", 0)


@pytest.mark.parametrize("few", [0, 10**9], ids=["tiles of 32", "tiles of 16"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (7, 9, 8), (1, 9, 1), (5, 1, 3), (33, 131, 65), (48, 64, 32)])
def test_small_products_of_every_layout_agree(
    few: int, m: int, k: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_kernels, "FEW_TILES", few)
    cuda, random = emulated_cuda(orders=(0, 7)), np.random.default_rng(0)
    a, b = (random.normal(size=shape).astype(np.float32) for shape in ((2, m, k), (2, k, n)))
    for x in (a, np.swapaxes(np.swapaxes(a, 1, 2).copy(), 1, 2), np.pad(a, 3)[3:-3, 3:-3, 3:-3]):
        for y in (b, np.swapaxes(np.swapaxes(b, 1, 2).copy(), 1, 2), np.pad(b, 2)[2:-2, 2:-2, 2:-2]):
            out, one = cuda.empty((2, m, n), np.float32), cuda.empty((m, n), np.float32)
            assert cuda_kernels._small_product(cuda, out, x.view(DeviceArray), y.view(DeviceArray))
            assert cuda_kernels._small_product(cuda, one, x[1].view(DeviceArray), y[1].view(DeviceArray))
            np.testing.assert_allclose(cuda.download(out), a @ b, rtol=1e-4, atol=1e-5)
            assert cuda.download(one).tobytes() == cuda.download(out)[1].tobytes()


@pytest.mark.parametrize("few", [0, 10**9], ids=["tiles of 32", "tiles of 16"])
def test_what_a_small_product_ends_with(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_kernels, "FEW_TILES", few)
    cuda, random = emulated_cuda(orders=(0, 7)), np.random.default_rng(0)
    x, w, b, g = (random.normal(size=s).astype(np.float32) for s in ((45, 70), (70, 37), (37,), (45, 37)))
    X, W, B, G = (cuda.upload(a) for a in (x, w, b, g))
    made = [cuda.empty(s, np.float32) for s in ((45, 37), (45, 37), (70, 37), (37,), (45, 70))]
    out, z, dw, db, dx = made
    cuda.xp.counts.clear()
    cuda_kernels.linear_keep(cuda, out, z, X, W, B, act="silu", alpha=0.0)
    cuda_kernels.linear_dw(cuda, dw, db, X, G)
    cuda_kernels.linear_dz(cuda, dx, G, W.T, X, act="leaky_relu", alpha=0.1)
    assert cuda.xp.counts == {"launches": 3}
    pre = x @ w + b
    expected = pre / (1 + np.exp(-pre)), pre, x.T @ g, g.sum(0), g @ w.T * np.where(x > 0, 1, 0.1)
    for found, wanted in zip(made, expected, strict=True):
        np.testing.assert_allclose(cuda.download(found), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("by_library")
def test_products_go_to_the_library_with_its_epilogues() -> None:
    cuda = emulated_cuda(orders=())
    train(cuda, rows=64, activation="relu")
    asked = cuda.products._library.epilogues
    assert asked[BIAS] and asked[BGRADA]


@pytest.mark.usefixtures("by_library")
def test_where_an_epilogue_is_refused_a_kernel_does_it() -> None:
    made = []
    for refuses in ((), (BIAS, BGRADA)):
        cuda = emulated_cuda(orders=())
        cuda.products._library.refuses = refuses
        trainer = train(cuda, rows=128, activation="relu")
        assert set(cuda.products._library.epilogues) & {BIAS, BGRADA} == ({BIAS, BGRADA} if not refuses else set())
        assert programs(trainer)[0].callbacks == []
        made.append(weights(trainer))
    np.testing.assert_allclose(made[0], made[1], rtol=1e-5, atol=1e-7)


def test_a_nan_is_not_hidden_by_relu(cuda: Any) -> None:
    x = tensor(np.float32([[1, np.nan], [1, 2]]), device=cuda)
    w, b = tensor(np.ones((2, 4), np.float32), device=cuda), tensor(np.zeros(4, np.float32), device=cuda)
    made = ops.linear(x, w, b, act="relu").numpy()
    assert np.isnan(made[0]).all() and (made[1] == 3).all()


@pytest.mark.usefixtures("by_library")
@pytest.mark.parametrize(("precision", "compute"), [("float32", 68), ("tf32", 77), ("bf16", 75)])
def test_a_precision_is_that_of_all_products(precision: str, compute: int) -> None:
    cuda = emulated_cuda(orders=())
    trainer = train(cuda, rows=32, activation="relu", precision=precision)
    trainer.predict(np.zeros((3, 64), np.float32))
    trainer.evaluate((np.zeros((5, 64), np.float32), np.zeros(5, np.int64)))
    told = [t["compute"] for t in cuda.products._library.things.values() if t["kind"] == "MatmulDesc"]
    assert set(told) == {compute}
    assert cuda.products.how.precision == "float32", "what others compute on this device stays as it was"


def test_precisions_that_a_device_does_not_have() -> None:
    net = nn.MLP(4, 2)
    for device, precision, said in (
        (CPU(native=False), "tf32", r'"tf32": cpu .* multiplies in float32 only.*device="cuda"'),
        (CUDA(0, EmulatedCupy(orders=())), "bf16", "cuda:0 .* multiplies in float32 only.*cuBLASLt"),
        (emulated_cuda(orders=()), "fp32", "no precision 'fp32'.*float32"),
    ):
        with pytest.raises(ConfigError, match=said):
            Trainer(net, device=device, precision=precision)
    Trainer(net, device="cpu", autotune=True)  # nothing to choose


@pytest.mark.usefixtures("by_library")
def test_autotune_takes_the_fastest_algorithm_and_says_which() -> None:
    cuda = emulated_cuda(orders=())
    trained = train(cuda, rows=96, activation="relu", autotune=True)
    library = cuda.products._library
    (program,) = programs(trained)
    assert program.callbacks == []
    kept = cuda.choices()
    assert kept["gpu"] == "Stand-in 0" and kept["cublaslt"] == library.version and len(kept["products"]) >= 5
    assert json.loads(json.dumps(kept)) == kept
    assert {algorithm[:2] for _, algorithm in kept["products"]} == {"03"}, "the third of the candidates"
    library.used.clear()
    program._graphs.clear()
    program._captured(1)
    assert set(library.used) == {2}
    untuned = train(emulated_cuda(orders=()), rows=96, activation="relu")
    assert weights(trained).tobytes() == weights(untuned).tobytes(), "as all candidates of the emulation multiply alike"


@pytest.mark.usefixtures("by_library")
def test_autotune_keeps_the_first_guess_unless_another_is_clearly_faster() -> None:
    cuda = emulated_cuda(orders=())
    cuda.products._library.costs = (1.0, 0.99, 1.2)
    train(cuda, rows=32, activation="relu", autotune=True)
    assert {algorithm[:2] for _, algorithm in cuda.choices()["products"]} == {"01"}


@pytest.mark.usefixtures("by_library")
def test_autotune_passes_over_an_algorithm_that_does_not_run() -> None:
    cuda = emulated_cuda(orders=())
    cuda.products._library.costs = (2.0, np.inf, 1.0)
    train(cuda, rows=32, activation="relu", autotune=True)
    assert {algorithm[:2] for _, algorithm in cuda.choices()["products"]} == {"03"}


@pytest.mark.usefixtures("by_library")
def test_choices_are_taken_up_again_without_timing() -> None:
    first, again = emulated_cuda(orders=()), emulated_cuda(orders=())
    train(first, rows=64, activation="relu", autotune=True)
    again.restore(json.loads(json.dumps(first.choices())))
    train(again, rows=64, activation="relu", autotune=True)
    assert set(again.products._library.used) == {2} and again.xp.counts["timed events"] == 0
    assert again.choices() == first.choices()


@pytest.mark.usefixtures("by_library")
def test_choices_of_another_library_or_gpu_are_not_used(caplog: pytest.LogCaptureFixture) -> None:
    first, other = emulated_cuda(orders=()), emulated_cuda(orders=())
    train(first, rows=64, activation="relu", autotune=True)
    kept = first.choices()
    with caplog.at_level("WARNING", "gpunet"):
        other.restore({**kept, "cublaslt": 120000})
    assert "not tuned as before" in caplog.text and not other.products.chosen
    altered = [[key, "00" * 64] for key, _ in kept["products"][:-1]] + [[kept["products"][-1][0], "0a"]]
    other.restore({**kept, "products": altered})  # the library refuses these
    train(other, rows=64, activation="relu")
    assert set(other.products._library.used) == {0} and other.choices() == {}


def test_products_of_every_layout_agree() -> None:
    cuda, random = emulated_cuda(orders=()), np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        for m, k, n in ((1, 1, 1), (7, 9, 8), (1, 9, 1), (5, 1, 3), (33, 31, 65)):
            a, b = random.normal(size=(m, k)).astype(dtype), random.normal(size=(k, n)).astype(dtype)
            for x in (a, np.asfortranarray(a), np.pad(a, 3)[3:-3, 3:-3]):
                for y in (b, np.asfortranarray(b), np.pad(b, 2)[2:-2, 2:-2]):
                    out = cuda.empty((m, n), dtype)
                    assert cuda.products.matmul(out, x.view(DeviceArray), y.view(DeviceArray))
                    np.testing.assert_allclose(cuda.download(out), a @ b, rtol=1e-4, atol=1e-5)


def test_without_the_library_cupy_multiplies() -> None:
    cupy = EmulatedCupy(orders=())
    cuda = CUDA(0, cupy)
    seen = weights(train(cuda, rows=64, activation="relu"))
    np.testing.assert_allclose(seen, weights(train(CPU(native=False), rows=64, activation="relu")), rtol=1e-4, atol=1e-6)
