"""The learning-rate range test: train a little at ever higher rates, and read a good one off the curve, or say it cannot be.

L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017. It is known to suggest nonsense on noisy
curves; so the curve is smoothed, three orders of the data must agree, the answer is capped below the rate at which the
loss is least, and "unsure" is an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import losses, nn
from ..data.batches import Batches
from ..devices import Device
from ..devices import device as open_device
from ..engine import grad
from ..errors import ConfigError

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 120
SMOOTHING = 0.9  # of an exponential average
DIVERGED = 4.0  # times the least loss
SWEEPS, AGREE = 3, 6.0  # suggestions this factor apart agree
LEAST_DROP = 0.1  # of the initial loss
CAP = 0.1  # of the rate with the least loss

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Suggestion:
    """`lr` is None where the curves do not tell; `why` says so in words. curves: (rates, smoothed losses) of each sweep."""

    lr: float | None
    why: str
    curves: list[tuple[Array, Array]] = field(repr=False)

    def __str__(self) -> str:
        return f"unsure: {self.why}" if self.lr is None else f"lr {self.lr:.1e}: {self.why}"


def find(
    build: Callable[[], nn.Module], loss: Any, optimizer: Callable[[], Any], train: tuple[Any, Any], *,
    batch_size: int, device: Device | str = "auto", seed: int = 0,
) -> Suggestion:  # fmt: skip
    """The rate at which the smoothed loss falls fastest, at most a tenth of where it is least: the median of three sweeps.

    Args:
        build, optimizer: make a new net and a new unbound optimizer; a schedule is left out.
        train: (x, y), encoded.
    """
    opened = open_device(device)
    curves = [_sweep(build, loss, optimizer(), train, batch_size, opened, seed + k) for k in range(SWEEPS)]
    known = _knowing_nothing(loss, np.asarray(train[1]))
    found = [_read_off(*curve, known) for curve in curves]
    smooth = [(rates, smoothed(values)) for rates, values in curves]
    unsure = next((why for lr, why in found if lr is None), None)
    if unsure is not None:
        return Suggestion(None, unsure, smooth)
    rates = sorted(lr for lr, _ in found if lr is not None)
    if rates[-1] > AGREE * rates[0]:
        shown = ", ".join(f"{lr:.0e}" for lr in rates)
        return Suggestion(None, f"other orders of the data suggest other rates ({shown}); try a larger batch", smooth)
    return Suggestion(rates[1], "where the loss falls fastest, and at most a tenth of where it is least", smooth)


def _sweep(
    build: Callable[[], nn.Module], loss: Any, optimizer: Any, train: tuple[Any, Any], size: int, device: Device, seed: int
) -> tuple[Array, Array]:
    """(rates, loss at each) until it has diverged."""
    if optimizer.full_batch:
        raise ConfigError(f"{optimizer.name} chooses its step length itself; there is no rate to find")
    optimizer.schedules = dict.fromkeys(optimizer.schedules)
    net = build().initialize(seed).to(device).train()
    optimizer.bind(list(net.named_parameters()))
    data = Batches(*train, device=device, dtype=net.dtype, seed=seed)
    size = min(size, data.rows)
    rates = LOWEST * (HIGHEST / LOWEST) ** (np.arange(STEPS) / (STEPS - 1))
    seen: list[float] = []
    with np.errstate(over="ignore", invalid="ignore"):
        for step, rate in enumerate(rates):
            if step % max(1, data.rows // size) == 0:
                data.shuffle(step)
            optimizer.lr = float(rate)
            x, y, _ = data.next(size)
            value = loss(net(x), y)
            found = value.item()
            if not math.isfinite(found) or (seen and found > DIVERGED * min(seen)):
                break
            seen.append(found)
            optimizer.update(grad(value, optimizer.parameters))
    return rates[: len(seen)], np.array(seen)


def smoothed(values: Array) -> Array:
    """An exponential average, corrected for its start."""
    average, out = 0.0, np.empty(len(values))
    for i, value in enumerate(values):
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        out[i] = average / (1 - SMOOTHING ** (i + 1))
    return out


def _knowing_nothing(loss: Any, y: npt.NDArray[Any]) -> float:
    """The loss of the best constant answer, where that is known: whoever learns something falls below it."""
    if losses.plain(loss) is losses.cross_entropy and y.dtype.kind in "iu":
        share = np.bincount(y) / len(y)
        return float(-np.sum(share[share > 0] * np.log(share[share > 0])))
    if losses.plain(loss) is losses.mse:
        return float(np.mean(np.var(y, axis=0, dtype=np.float64)))
    return math.inf


def _read_off(rates: Array, values: Array, known: float) -> tuple[float | None, str]:
    """(rate or None, why) of one curve."""
    if len(values) < STEPS // 4:
        return None, "the loss is not finite, or explodes, at the lowest rates already: check the scale of the data"
    curve = smoothed(values)
    quiet = max(5, len(values) // 5)
    start, noise = float(np.mean(values[:quiet])), float(np.std(values[:quiet]))
    least = int(np.argmin(curve))
    drop = start - float(curve[least])
    if drop < LEAST_DROP * abs(start) or drop < 2 * noise:
        return None, f"the loss falls by {drop:.2g} at most, its noise is {noise:.2g}: nothing to read off; try a larger batch"
    if curve[least] > 0.98 * known:
        return None, f"at no rate does the loss fall below {known:.3g}, that of the same answer for every row"
    if least == len(curve) - 1 and len(curve) == STEPS:
        return None, f"the loss still falls at {HIGHEST:g}, the highest rate tried"
    slope = np.gradient(curve, np.log(rates))
    steepest = int(np.argmin(slope[quiet : least + 1])) + quiet if least > quiet else least
    return min(float(rates[steepest]), CAP * float(rates[least])), ""
