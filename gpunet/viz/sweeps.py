"""One small net after another on the same points: how many neurons, and how strong a regulariser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, nn, optim
from ..errors import ConfigError
from ..train.trainer import Trainer
from .plane import boundary
from .style import new_figure, styled
from .subject import outputs

Array = npt.NDArray[Any]
EPOCHS, LR, BATCH = 300, 0.01, 10
GRID = 200


@dataclass
class Trained:
    """One net of a sweep: how many of its training points are right, how much its boundary turns, how large it is."""

    hidden: int
    l2: float
    net: nn.Module
    right: float
    turning: float  # degrees, along all of the boundary
    size: float  # root of the summed squares of the weights

    @property
    def name(self) -> str:
        return f"{self.hidden} hidden neurons, λ = {self.l2:g}"


@dataclass
class Sweep:
    """`figure` has a panel a net, `text` says what the numbers show, `nets` has them."""

    nets: list[Trained]
    figure: Any
    text: str


def sweep(
    x: Any, y: Any, *, hidden: Sequence[int] = (20,), l2: Sequence[float] = (0.0,), seed: int = 0, activation: str = "tanh"
) -> Sweep:  # fmt: skip
    """Train a net with one hidden layer for each width, or each strength of L2, and draw where they decide what.

    Args:
        x: points [n, 2]. y: classes [n], 0 and up. hidden: numbers of neurons. l2: lambdas; one of both lists has one
            entry. Each net has the same seed, Adam(lr=0.01) falling by a cosine, 300 epochs and batches of 10.

    λ counts as in ConvNetJS, which made the lecture's pictures: λ/2 Σ w² is added to the loss summed over a batch of 10,
    so that the mean loss of a batch sees λ/10.
    """
    x, y = np.asarray(x, np.float32), np.asarray(y)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ConfigError(f"sweep: points [n, 2] wanted, got the shape {x.shape}")
    if len(hidden) > 1 and len(l2) > 1:
        raise ConfigError("sweep: several widths or several lambdas, not both at once")
    nets = [_train(x, y, width, decay, seed, activation) for width in hidden for decay in l2]
    with styled():
        figure, axes = new_figure(3.5 * len(nets) + 0.6, 3.7, 1, len(nets), squeeze=False, sharex=True, sharey=True)
        for i, (ax, one) in enumerate(zip(axes[0], nets, strict=True)):
            label = f"{one.hidden} hidden neurons" if len(hidden) > 1 else f"λ = {one.l2:g}"
            boundary(one.net, x, y, title=f"{label}: {one.right:.1%} right", ax=ax)
            if i < len(nets) - 1 and ax.get_legend() is not None:
                ax.get_legend().remove()
            if i:
                ax.set_ylabel("")
    return Sweep(nets, figure, _in_words(nets, by_width=len(hidden) > 1))


def _train(x: Array, y: Array, width: int, decay: float, seed: int, activation: str) -> Trained:
    net = nn.MLP(2, width, int(y.max()) + 1, activation=activation)
    trainer = Trainer(
        net,
        losses.cross_entropy,
        optim.Adam(lr=LR, weight_decay=decay / BATCH, schedule="cosine"),
        device="cpu",
        seed=seed,
    )
    trainer.fit((x, y), epochs=EPOCHS, batch_size=BATCH, show_progress=False)
    size = float(np.sqrt(sum(float((t.numpy() ** 2).sum()) for n, t in net.named_parameters() if n.endswith("weight"))))
    return Trained(width, decay, net, float((outputs(net, x).argmax(axis=1) == y).mean()), turning(net, x), size)


def turning(net: nn.Module, x: Array) -> float:
    """By how many degrees the boundary between the first class and the others turns, added up along its length."""
    import contourpy

    low, high = x.min(axis=0), x.max(axis=0)
    u, v = (np.linspace(low[i], high[i], GRID) for i in (0, 1))
    grid = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2).astype(np.float32)
    z = outputs(net, grid).astype(np.float64)
    edge = (z[:, 0] - z[:, 1:].max(axis=1)).reshape(GRID, GRID)
    total = 0.0
    for line in contourpy.contour_generator(u, v, edge).lines(0.0):
        steps = np.diff(np.asarray(line)[::4], axis=0)  # every fourth point: the grid's own corners are no turns
        angle = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])) if len(steps) else np.zeros(1)
        total += float(np.abs(np.diff(angle)).sum())
    return float(np.degrees(total))


def _in_words(nets: list[Trained], *, by_width: bool) -> str:
    """What happened, from the numbers alone."""

    def each(write: Callable[[Trained], str]) -> str:
        return ", ".join(map(write, nets))

    which = f"Neurons {each(lambda n: str(n.hidden))}" if by_width else f"λ {each(lambda n: f'{n.l2:g}')}"
    told = (
        f"{which}: {each(lambda n: f'{n.right:.1%}')} of the training points are right; the boundary turns by "
        f"{each(lambda n: f'{n.turning:,.0f}°')}; the weights have the norm {each(lambda n: f'{n.size:.1f}')}. "
    )
    pairs = list(zip(nets, nets[1:], strict=False))
    if by_width:
        more = all(b.right >= a.right for a, b in pairs)
        return told + ("More neurons separate more." if more else "Here more neurons did not always separate more.")
    smoother = all(round(b.turning) <= round(a.turning) for a, b in pairs)
    smaller = all(b.size < a.size for a, b in pairs)
    said = (
        f"{'A' if smoother else 'Here a'} larger λ {'gives' if smoother else 'did not always give'} a smoother boundary"
    )
    return f"{told}{said} and {'smaller' if smaller else 'not always smaller'} weights, with as many neurons."
