"""Whole training steps on the CUDA device, captured and replayed: on the emulated back end, and on a GPU where there is one."""

from __future__ import annotations

from typing import Any

import fibers
import numpy as np
import pytest
from conftest import DeviceArray, emulated_cuda
from emulation import EmulatedCupy

from gpunet import Trainer, losses, nn, ops, optim
from gpunet.data import digits
from gpunet.devices import Device, environment
from gpunet.devices.cpu import CPU
from gpunet.devices.cublaslt import BGRADA, BIAS
from gpunet.devices.cuda import CUDA, open_cuda
from gpunet.engine import Tensor, mode, tensor
from gpunet.errors import ConfigError, DivergedError, RangeError
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
}


@pytest.fixture(params=["emulated", "cuda"])
def cuda(request: pytest.FixtureRequest) -> Any:
    """Fresh each time, so that what it was asked for can be counted."""
    if request.param == "emulated":
        return emulated_cuda(orders=())
    problem = environment.cuda_problem()
    if problem is not None:
        pytest.skip(f"no GPU: {problem}")
    return open_cuda(0)


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
    compile: bool = True, poison: int | None = None, classes: int = 10, **net: Any,
) -> Trainer:  # fmt: skip
    data = digits()
    x = (data.x[:rows] / 16).astype(np.float32)
    if poison is not None:
        x[poison] = np.nan
    model = nn.MLP(64, 32, classes, **net)
    rule = rule or optim.AdamW(lr=2e-3, clip_norm=1.0, schedule="cosine")
    trainer = Trainer(model, losses.cross_entropy, rule, device=device, seed=0, compile=compile, metrics=[])
    trainer.fit((x, data.y[:rows]), epochs=epochs, batch_size=32, show_progress=False, callbacks=callbacks)
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


def test_many_steps_are_one_launch_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", 1e9)
    cuda = emulated_cuda(orders=())
    steps = 2 * STEPS_A_LAUNCH + 3
    trainer = train(cuda, rows=32 * steps)
    (program,) = programs(trainer)
    trainer._total.assign(trainer._total * 0.0)
    for state in program.graph.held.values():  # back to the first row
        if state.shape == () and state.dtype == np.int64 and int(state.numpy()) == 32 * steps:
            state.assign(Tensor(cuda.upload(np.zeros((), np.int64)), cuda))
    program.adopt()
    before = cuda.xp.counts.copy()
    assert program.run(steps) == steps
    asked = cuda.xp.counts - before
    calls = len(program._segments[0]) + 1
    assert asked.pop("graph launches") == 2 + 3
    assert asked.pop("downloads") == 1  # how many steps were done
    assert asked.pop("launches") + asked.pop("products") >= steps * calls
    assert not asked, "an allocation, an array function, a copy from the host or a wait"


def test_the_same_bits_in_one_launch_or_many_and_without_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for chunk in (1e-9, 1e9):
        monkeypatch.setattr("gpunet.train.trainer.CHUNK_SECONDS", chunk)
        made[chunk] = weights(train(emulated_cuda(orders=()), **NETS["gelu and dropout"]))
    assert made[1e-9].tobytes() == made[1e9].tobytes()
    monkeypatch.setattr(Compiled, "_executor", lambda self, device: Program)
    assert weights(train(emulated_cuda(orders=()), **NETS["gelu and dropout"])).tobytes() == made[1e9].tobytes()


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
    x, n = tensor(np.arange(6.0).reshape(2, 3), device=cuda), tensor(np.zeros(()), device=cuda)

    def step() -> None:
        x.assign(ops.pad(x, widths=((0, 0), (1, 0)))[:, :3] + 1.0)
        n.assign(n + 1.0)

    step_of = compile(step)
    assert step_of.run(4) == 4
    (program,) = step_of.programs[()]
    assert program.callbacks and len(program._segments) == len(program.callbacks) + 1  # type: ignore[attr-defined]
    assert n.item() == 4 and x.tolist() == [[1, 2, 3], [1, 2, 3]]


# ---------------------------------------------------------------- products


def test_products_go_to_the_library_with_its_epilogues() -> None:
    cuda = emulated_cuda(orders=())
    train(cuda, rows=64, activation="relu")
    asked = cuda.products._library.epilogues
    assert asked[BIAS] and asked[BGRADA]


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


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_precision_is_chosen(precision: str) -> None:
    cuda = emulated_cuda(orders=())
    cuda.products.choose(precision)
    train(cuda, rows=32, activation="relu")
    told = [t["compute"] for t in cuda.products._library.things.values() if t["kind"] == "MatmulDesc"]
    assert set(told) == {{"tf32": 77, "bf16": 75}[precision]}
    with pytest.raises(ConfigError, match='no precision "fp8"'):
        cuda.products.choose("fp8")


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
