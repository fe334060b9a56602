"""The checks of the CS231n lectures before a long run: cheap questions whose answers tell most mistakes.

http://cs231n.github.io/neural-networks-3/ ("Before learning: sanity checks tips and tricks", "Babysitting the learning
process"). Each gives a Finding: passed or not, what was measured, and what to do about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, nn, optim, rng
from ..data.batches import Batches
from ..data.sparse import Csr
from ..engine import Tensor, grad, no_grad
from ..nn import layers
from ..nn import module as modules
from .trainer import Trainer

Array = npt.NDArray[Any]
Pair = tuple[Any, Array]  # x is an array, or a Csr

ROWS = 1024  # looked at, at most
OVERFIT_ROWS = 20
STEPS = 200  # of the short trainings
DEAD, SATURATED = 0.2, 0.2  # shares of units from which on they are a warning
RATIO = 1e-4, 1e-2  # of an update to its weights; 1e-3 is usual
ONE_SIDED = ("relu",)
BOUNDED = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}


@dataclass(frozen=True)
class Finding:
    """The answer to one check; `advice` is empty where it passed."""

    name: str
    passed: bool
    text: str
    advice: str = ""
    values: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        line = f"{'PASS' if self.passed else 'WARN'}  {self.name}: {self.text}"
        return line if self.passed else f"{line}\n      {self.advice}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "check": self.name, "result": "PASS" if self.passed else "WARN", "text": self.text, "advice": self.advice or None,
            "values": self.values,
        }  # fmt: skip


@dataclass
class Subject:
    """What is checked: how nets and optimizers are made, the loss, and encoded rows.

    `build` gives a new net each time, with the weights of `seed`; y is classes [n] or values [n, k].
    """

    build: Callable[[], nn.Module]
    loss: losses.Loss
    optimizer: Callable[[], Any]
    train: Pair
    validation: Pair | None
    classes: int | None
    batch_size: int
    activation: str = "relu"
    device: Any = "cpu"
    seed: int = 0

    def rows(self, n: int) -> Pair:
        """n training rows drawn by the seed, fewer if there are fewer, or if they are sparse and very wide; dense."""
        x, y = self.train
        order = rng.permutation(len(x), seed=self.seed, stream=rng.stream("sanity"))[:n]
        if isinstance(x, Csr):
            order = order[: x.at_once]
            return x[order].dense(), y[order]
        return x[order], y[order]

    def net(self) -> nn.Module:
        return self.build().initialize(self.seed).to(self._device)

    @property
    def _device(self) -> Any:
        from ..devices import device

        return device(self.device)

    def loss_of(self, net: nn.Module, rows: Pair) -> Tensor:
        x, y = (Tensor(net.device.upload(np.ascontiguousarray(a)), net.device) for a in rows)
        return self.loss(net(x), y)


def suite(subject: Subject) -> Iterator[Finding]:
    """All checks, as they are answered."""
    yield initial_loss(subject)
    yield activation_spread(subject)
    yield gradients(subject)
    yield overfits(subject)
    yield from trained(subject)
    if subject.validation is not None:
        yield leak(subject)


# ---------------------------------------------------------------- before training


def initial_loss(subject: Subject) -> Finding:
    """A net that knows nothing gives every class the same chance: log C. Standardised values: their variance, 1."""
    net = subject.net().train()
    rows = subject.rows(ROWS)
    with no_grad():
        found = subject.loss_of(net, rows).item()
    if subject.classes is not None:
        expected, most, name = math.log(subject.classes), 2.0, f"log {subject.classes}"
    else:
        expected, most = float(np.mean(np.square(rows[1], dtype=np.float64))), 10.0  # one output's spread is a lottery
        name = "the targets' mean square"
    passed = 0.5 * expected <= found <= most * expected
    return Finding(
        "initial loss", passed, f"{found:.3f}, where {name} is {expected:.3f}",
        "far from chance before training: the weights start too large or too small, or the columns are not scaled alike",
        {"loss": found, "expected": expected},
    )  # fmt: skip


def activation_spread(subject: Subject) -> Finding:
    """Signals neither die out nor blow up on the way through the layers."""
    net = subject.net().train()
    with _watching() as outputs, no_grad():
        subject.loss_of(net, subject.rows(ROWS))
    spread = {name: float(np.std(values, dtype=np.float64)) for name, values in outputs.items()}
    shown = ", ".join(f"{s:.2g}" for s in spread.values())
    odd = [s for s in spread.values() if not 1e-2 < s < 1e2]
    return Finding(
        "activation spread", not odd, f"standard deviation by layer: {shown}" if spread else "no hidden layer",
        "a layer's outputs are nearly constant or very large: use the initialiser of the activation (init=\"auto\"), or norm",
        spread,
    )  # fmt: skip


def gradients(subject: Subject, *, rtol: float = 1e-5) -> Finding:
    """Backpropagation against difference quotients along a random direction, layer by layer, in float64."""
    net = subject.build()
    net.initialize(subject.seed).to("float64").to(subject._device)
    net.eval()  # batch statistics and masks have their own gradients, checked in gpunet's tests
    x, y = subject.rows(16)
    rows = x.astype(np.float64) if x.dtype.kind == "f" else x, y.astype(np.float64) if y.dtype.kind == "f" else y
    named = list(net.named_parameters())
    found = grad(subject.loss_of(net, rows), [t for _, t in named])
    errors = {name: _error(subject, net, rows, t, g) for (name, t), g in zip(named, found, strict=True) if g is not None}
    worst = max(errors, key=lambda name: errors[name])
    passed = errors[worst] <= rtol
    return Finding(
        "gradients", passed, f"{len(errors)} parameters, relative error at most {errors[worst]:.1e} ({worst})",
        f"the gradient of {worst} is not that of the loss: a layer or a loss of your own has a wrong derivative", errors,
    )  # fmt: skip


def _error(subject: Subject, net: nn.Module, rows: Pair, t: Tensor, g: Tensor) -> float:
    """The relative error along one direction; at a kink a shorter step may tell better."""
    start = np.array(t.numpy())
    v = rng.normal(start.shape, seed=subject.seed, stream=rng.stream("sanity direction"))
    analytic = float(np.vdot(g.numpy(), v))

    def value(step: float) -> float:
        t.assign(Tensor(t.device.upload(start + step * v), t.device))
        with no_grad():
            return subject.loss_of(net, rows).item()

    found = []
    for eps in (1e-5, 1e-6, 1e-7):
        numeric = (value(eps) - value(-eps)) / (2 * eps)
        larger = max(abs(analytic), abs(numeric), 1e-6)
        found.append(abs(analytic - numeric) / larger)
    value(0.0)
    return min(found)


def overfits(subject: Subject) -> Finding:
    """A net that cannot learn 20 rows by heart will not learn more."""
    x, y = subject.rows(OVERFIT_ROWS)
    net = subject.net()
    for _, module in net.modules():
        if isinstance(module, nn.Dropout):
            module.rate = 0.0
    trainer = Trainer(net, subject.loss, optim.Adam(lr=3e-3), device=subject.device, seed=subject.seed, metrics=[])
    before = trainer.evaluate((x, y))["loss"]
    trainer.fit((x, y), epochs=3 * STEPS, batch_size=len(x), restore_best=False, show_progress=False)
    after = trainer.evaluate((x, y))["loss"]
    passed = after < 0.05 * before
    return Finding(
        f"{len(x)} rows can be overfitted", passed, f"loss {before:.3f} -> {after:.3g} in {3 * STEPS} steps",
        "equal rows with different answers among them? Otherwise the net is too small, or the inputs carry no information",
        {"before": before, "after": after},
    )  # fmt: skip


# ---------------------------------------------------------------- a short training


def trained(subject: Subject) -> Iterator[Finding]:
    """Loss against zeroed inputs, units that are stuck, the size of updates: after 200 steps as they will be made."""
    judge = subject.validation if subject.validation is not None else subject.train
    judged = judge[0][:ROWS], judge[1][:ROWS]
    trainer, ratios = _short_training(subject, subject.train[0])
    found = trainer.evaluate(judged)["loss"]
    blind, _ = _short_training(subject, _zeroed(subject.train[0]))
    zeroed = blind.evaluate((_zeroed(judged[0]), judged[1]))["loss"]
    yield Finding(
        "beats zeroed inputs", found < 0.98 * zeroed, f"loss {found:.3f} after {STEPS} steps, {zeroed:.3f} without inputs",
        "the columns do not help yet: is the target the right one, are rows and answers in the same order, is lr too small?",
        {"loss": found, "zeroed": zeroed},
    )  # fmt: skip
    yield from _stuck(subject, trainer.model)
    middle = float(np.median(list(ratios.values())))
    low, high = RATIO
    yield Finding(
        "updates to weights", low <= middle <= high, f"ratio {middle:.1e} at the peak learning rate; about 1e-3 is usual",
        "raise the learning rate" if middle < low else "lower the learning rate", ratios,
    )  # fmt: skip


def _zeroed(x: Any) -> Any:
    return replace(x, values=np.zeros_like(x.values)) if isinstance(x, Csr) else np.zeros_like(x)


def _short_training(subject: Subject, x: Any) -> tuple[Trainer, dict[str, float]]:
    """(a trainer after STEPS steps at the peak learning rate, each matrix's update-to-weight ratio in the last of them)."""
    made = subject.optimizer()
    made.schedules = dict.fromkeys(made.schedules)
    net = subject.net()
    trainer = Trainer(net, subject.loss, made, device=subject.device, seed=subject.seed, metrics=[])
    y = subject.train[1]
    if made.full_batch:
        trainer.fit((x, y), epochs=10, restore_best=False, show_progress=False)
        return trainer, {"lbfgs": 1e-3}  # its line search chooses the step
    size = min(subject.batch_size, len(x))
    per_epoch = min(STEPS, len(x) // size)
    trainer.fit(
        (x[: per_epoch * size], y[: per_epoch * size]), epochs=-(-STEPS // per_epoch), batch_size=size,
        restore_best=False, show_progress=False,
    )  # fmt: skip
    before = {name: np.array(t.numpy()) for name, t in net.named_parameters() if t.ndim > 1}
    rows = Batches(x[:size], y[:size], device=trainer.device, dtype=trainer.dtype)
    a, b, _ = rows.next(size)
    made.update(grad(trainer.loss(net.train()(a), b), made.parameters))
    after = {name: t.numpy() for name, t in net.named_parameters() if name in before}
    change = {n: float(np.linalg.norm(after[n] - w) / max(float(np.linalg.norm(w)), 1e-12)) for n, w in before.items()}
    return trainer, change


def _stuck(subject: Subject, net: nn.Module) -> Iterator[Finding]:
    """Units that are the same for every row: a dead ReLU is never above 0, a saturated one always at an end."""
    with _watching() as outputs, no_grad():
        subject.loss_of(net.eval(), subject.rows(ROWS))
    if not outputs:
        return
    if subject.activation in BOUNDED:
        low, high = BOUNDED[subject.activation]
        edge = 0.03 * (high - low)
        shares = {n: float(((v < low + edge) | (v > high - edge)).mean()) for n, v in outputs.items()}
        name, most, what = "saturated units", SATURATED, "of the outputs at an end of their range"
        advice = "the inputs or weights are too large: scale the columns, lower lr, or use relu"
    else:
        shares = {n: float((v <= 0).all(axis=0).mean()) for n, v in outputs.items()}
        name, most, what = "dead units", DEAD, "of the units never above 0"
        advice = "lower the learning rate, or use leaky_relu: a dead unit gets no gradient any more"
        if subject.activation not in ONE_SIDED:
            return
    worst = max(shares.values())
    shown = ", ".join(f"{s:.0%}" for s in shares.values())
    yield Finding(name, worst <= most, f"by layer {shown} {what}", advice, shares)


# ---------------------------------------------------------------- the data


def leak(subject: Subject) -> Finding:
    """Rows that are in the training and in the validation set make the second too easy."""
    assert subject.validation is not None
    known = set(_rows(subject.train))
    twice = sum(row in known for row in _rows(subject.validation))
    share = twice / len(subject.validation[0])
    return Finding(
        "leak", share <= 0.01, f"{twice:,} of {len(subject.validation[0]):,} validation rows are training rows too ({share:.1%})",
        "duplicate rows: remove them, or split by what repeats; the validation score is too good by as much",
        {"rows": twice, "share": share},
    )  # fmt: skip


def _rows(pair: Pair) -> Iterator[bytes]:
    x, y = pair[0], np.ascontiguousarray(pair[1])
    if isinstance(x, Csr):
        for begin, end, b in zip(x.starts, x.starts[1:], y, strict=False):
            yield x.columns[begin:end].tobytes() + x.values[begin:end].tobytes() + b.tobytes()
        return
    for a, b in zip(np.ascontiguousarray(x), y, strict=True):
        yield a.tobytes() + b.tobytes()


@contextmanager
def _watching() -> Iterator[dict[str, Array]]:
    """Outputs of the hidden layers, after their activations, of what runs inside."""
    outputs: dict[str, Array] = {}

    def watch(module: nn.Module, x: Tensor, out: Tensor) -> None:
        if layers.is_activated(module):
            outputs[module.path] = np.array(out.numpy())

    modules._watchers.append(watch)
    try:
        yield outputs
    finally:
        modules._watchers.remove(watch)
