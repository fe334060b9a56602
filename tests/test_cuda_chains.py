"""Chains on the CUDA device: each is one generated kernel, with the bits of the single kernels, and those with NumPy's values."""

from __future__ import annotations

from typing import Any

import fibers
import numpy as np
import pytest
from any_chain import BINARY, COMPARE, UNARY, Chain, layer_norm, longest, random_chain
from conftest import cuda_device, emulated_cuda
from test_chains import everything, names

from gpunet import Trainer, losses, nn, ops, optim, presets
from gpunet.data.table import Table
from gpunet.devices import Device, cuda_chains
from gpunet.devices.cpu import CPU
from gpunet.engine import mode, tensor
from gpunet.graph import compile
from gpunet.graph.captured import captured
from gpunet.tabular import Target

if fibers.missing():
    pytest.skip(f"csrc/*.cu cannot be built for the host: {fibers.missing()}", allow_module_level=True)

FLOATS = [np.float32, np.float64]
each_float = pytest.mark.parametrize("dtype", FLOATS, ids=lambda t: t.__name__)


@pytest.fixture(params=["emulated", "cuda"])
def cuda(request: pytest.FixtureRequest) -> Any:
    """The first launch of each kind goes in eight orders of threads, on guarded copies."""
    return cuda_device(request.param)


# ---------------------------------------------------------------- any chain


@pytest.mark.parametrize("seed", range(6))
def test_random_chains(cuda: Any, seed: int) -> None:
    random_chain(seed, FLOATS[seed % 2]).check(cuda)


@each_float
def test_every_kernel_that_can_be_chained(cuda: Any, dtype: Any) -> None:
    """Formulas of special numbers, too; of those NumPy's activations make NaN where ours end in 0."""
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, 0.3], dtype)
    x, y = (a.reshape(-1).astype(dtype) for a in np.meshgrid(special, special))
    formulas = Chain(x.shape, dtype, [x, y, np.array(0.7, dtype)])
    for name, op in UNARY.items():
        formulas.add(op, 0, **({"low": None, "high": 0.5} if name == "clip" else {}))
    for op in BINARY.values():
        formulas.add(op, 0, 1)
    conditions = [formulas.add(op, 0, 1) for op in COMPARE.values()]
    for condition in conditions[:2]:
        formulas.add(ops.where, condition, 1, 2)
        formulas.add(ops.cast, condition, dtype=np.dtype(dtype))
    formulas.add(ops.copy, 1)
    x, y = np.random.default_rng(0).uniform(-3, 3, (2, 65)).astype(dtype)
    values, slopes = Chain(x.shape, dtype, [x]), Chain(x.shape, dtype, [x, y])
    for name, row in ops.ACTIVATIONS.items():
        values.add(ops.activation, 0, act=name, alpha=row.alpha)
        slopes.add(ops.activation_vjp, 1, 0, act=name, alpha=row.alpha)
    for chain in (formulas, values, slopes):
        with np.errstate(all="ignore"):
            chain.check(cuda)
    done = {step.op.kernel for chain in (formulas, values, slopes) for step in chain.steps}
    assert done == cuda_chains.CHAINED == cuda.chained


@pytest.mark.parametrize("chain", [longest, lambda: layer_norm(np.float32)], ids=["as long as may be", "of layer norm"])
def test_chains_of_nets_and_the_longest(cuda: Any, chain: Any) -> None:
    chain().check(cuda)


# ---------------------------------------------------------------- in the compiler's graphs


@pytest.mark.parametrize("shape", [(0, 5), (3, 3), (41, 7), (7, 64)])
def test_captured_uncaptured_and_eager_agree(cuda: Any, shape: tuple[int, ...]) -> None:
    x, y = (tensor(np.random.default_rng(i).uniform(-2, 2, shape).astype(np.float32), device=cuda) for i in range(2))

    def f(x: Any, y: Any) -> tuple[Any, ...]:
        z = everything(x, y[0]) if shape[0] else everything(x, y)
        return z * x, ops.gt(z * x, 0.1)

    want = f(x, y)
    for executor in ("auto", "python"):
        run = compile(f, executor=executor)
        for _ in range(2):
            for a, b in zip(run(x, y), want, strict=True):
                assert a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
        assert ("chain" in names(run.graph(x, y))) == bool(x.shape[0]) and not getattr(run.program(x, y), "callbacks", [])


def test_single_numbers_go_together_as_before_and_all_else_is_chained(cuda: Any) -> None:
    for shape, wanted in (((), ["mul", "add"]), ((1, 1), ["mul", "add"]), ((2,), ["chain"])):
        x = tensor(np.ones(shape, np.float32), device=cuda)
        assert names(compile(lambda x: x * 2.0 + 1.0).graph(x)) == wanted


def test_what_reads_the_same_is_one_launch(cuda: Any) -> None:
    """A CPU leaves the two apart: what they have in common is one read, not a launch."""

    def f(x: Any) -> tuple[Any, ...]:
        y = x @ x
        return ops.sum(y * x[0]), y + x  # the sum stands between them

    x = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    for device, wanted in ((cuda, ["matmul", "chain", "sum"]), (CPU(), ["matmul", "mul", "sum", "add"])):
        run, there = compile(f), tensor(x, device=device)
        found = [name for name in names(run.graph(there)) if name not in ("slice", "reshape")]
        assert found == wanted or (device is not cuda and device.native is None)
        for a, b in zip(run(there), f(there), strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()


def test_one_text_serves_other_sizes_strides_and_settings(cuda: Any) -> None:
    def f(x: Any, alpha: float) -> Any:
        return ops.clip(ops.leaky_relu(x + x[:, :1], alpha=alpha), low=-alpha)

    x = tensor(np.random.default_rng(0).normal(size=(9, 12)).astype(np.float32), device=cuda)
    for view, alpha in ((lambda x: x, 0.1), (lambda x: x[:3], 0.2), (lambda x: x[1:, 1:], 0.3)):
        run = compile(lambda x, view=view, alpha=alpha: f(view(x), alpha))
        assert run(x).numpy().tobytes() == f(view(x), alpha).numpy().tobytes()
    assert len(cuda.launcher.texts) == 2  # the rows of the last view have gaps


def test_a_chain_stops_with_the_step(cuda: Any) -> None:
    total, x = tensor(np.ones(5, np.float32), device=cuda), tensor(np.float32(1e30), device=cuda)

    def step() -> None:
        grown = x * 1e4
        mode.trace.watch(grown)  # type: ignore[union-attr]
        x.assign(grown)
        total.assign(ops.maximum(total * 2.0, 0.5) + 1.0)

    assert compile(step).run(20) == 2  # 1e34, 1e38, and then infinity
    assert total.tolist() == [7.0] * 5


@pytest.mark.parametrize(
    ("line", "fault", "said"),
    [
        ("store(out0, k, size, y0)", "store_16(out0 + k, y0)", "16-byte write: beside the array"),
        ("if (stopped(control)) return;", "if (!stopped(control)) out0[size] = T();", "wrote beside an array"),
        ("load(in0, k, size)", "load_16(in0 + k)", "16-byte read: beside the array"),
    ],
)
def test_what_a_wrong_text_does_is_caught(line: str, fault: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true = cuda_chains.Source.named
    monkeypatch.setattr(cuda_chains.Source, "named", lambda self: tuple(s.replace(line, fault) for s in true(self)))
    x = tensor(np.ones(7, np.float32), device=emulated_cuda())
    with pytest.raises(fibers.KernelError, match=said):
        compile(lambda x: ops.exp(x * 2.0))(x)


# ---------------------------------------------------------------- nets

X = np.random.default_rng(0).normal(size=(64, 9)).astype(np.float32)
CLASSES, VALUES = (
    np.random.default_rng(1).integers(0, 4, 64),
    np.random.default_rng(2).normal(size=(64, 3)).astype(np.float32),
)


def batch_norms() -> tuple[Any, ...]:
    net = nn.MLP(9, 17, 17, 4, activation="gelu", norm="batch")
    return net, losses.cross_entropy, optim.AdamW(lr=1e-2, clip_norm=1.0), X, CLASSES


def mse() -> tuple[Any, ...]:
    return nn.MLP(9, 17, 3, activation="tanh"), losses.mse, optim.Adam(lr=1e-2), X, VALUES


def realmlp() -> tuple[Any, ...]:
    preset, y = presets.get("realmlp"), VALUES[:, 0]
    target = Target.fit(y, task="regression")
    encoder = preset.encode(X, None, target)
    net = preset.build(encoder, target, hidden=(17, 17))
    return net, preset.loss(target), preset.optimizer(target), encoder.transform(Table.from_array(X)), target.encode(y)


def trained(device: Device, made: tuple[Any, ...]) -> tuple[list[float], Any, list[Any]]:
    """The losses of three epochs, the weights, and the programs of a step."""
    net, loss, rule, x, y = made
    trainer = Trainer(net, loss, rule, device=device, seed=0, metrics=[])
    history = trainer.fit((x, y), epochs=3, batch_size=32, show_progress=False, restore_best=False)
    programs = [p for compiled in trainer._programs.values() for found in compiled.programs.values() for p in found]
    return history["loss"], np.concatenate([a.ravel() for a in trainer.model.state_dict().values()]), programs


@pytest.mark.parametrize("net", [batch_norms, mse, realmlp])
def test_nets_train_through_chains_with_the_bits_of_single_kernels(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for chained in (cuda_chains.CHAINED, frozenset()):
        cuda = emulated_cuda(orders=())
        cuda.chained = chained
        losses_of, weights, programs = trained(cuda, net())
        assert [p.callbacks for p in programs] == [[]]
        assert any("chain" in names(p.graph) for p in programs) == bool(chained)
        found.append((losses_of, weights.tobytes(), launches(programs[0])))
    (some, bits, fewer), (others, same, more) = found
    assert some == others and bits == same and fewer < more
    cpu_losses = trained(CPU(native=False), net())[0]
    np.testing.assert_allclose(some, cpu_losses, rtol=1e-4)


def launches(program: Any) -> int:
    """Of a step."""
    return sum(len(captured(program.cuda, segment, 1).recorded) for segment in program._segments)
