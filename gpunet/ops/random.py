"""Randomness inside the graph: all of it comes from counters, so the same masks fall on every device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Spec, Tensor, op, tensor
from ..errors import ConfigError, DTypeError
from .rules import BOOL


def _floats(x: Any, rate: Any, step: Any, **_: Any) -> Spec:
    if x.dtype.kind != "f":
        raise DTypeError(f"dropout: floating point wanted, got {x.dtype}. Use .cast(dtype=...)")
    return Spec(x.shape, x.dtype)


def _probability(rate: Any) -> float:
    p = float(rate)
    if not 0 <= p < 1:
        raise ConfigError(f"dropout: the rate is a probability in [0, 1), got {p}")
    return p


@op(shape=_floats, elementwise=True)
def _dropout(dev: Device, out: Any, x: Any, rate: Any, step: Any, *, seed: int, stream: int) -> None:
    p = _probability(rate)
    keep = dev.kept(x.size, p, seed=seed, stream=stream, step=int(step)).reshape(x.shape)
    out[...] = dev.xp.where(keep, x * x.dtype.type(1.0 / (1.0 - p)), x.dtype.type(0))


@_dropout.vjp
def _(g: Tensor, rate: Tensor, step: Tensor, *, seed: int, stream: int) -> Any:
    return _dropout(g, rate, step, seed=seed, stream=stream), None, None  # the counter is kept, the mask drawn again


def _kept(rate: Any, step: Any, *, shape: tuple[int, ...], **_: Any) -> Spec:
    return Spec(shape, BOOL)


@op(shape=_kept)
def dropout_keep(dev: Device, out: Any, rate: Any, step: Any, *, shape: tuple[int, ...], seed: int, stream: int) -> None:
    """Which elements dropout keeps. The compiler puts it in the place of two dropouts, there and back, that draw the same."""
    out[...] = dev.kept(out.size, _probability(rate), seed=seed, stream=stream, step=int(step)).reshape(shape)


def dropout(x: Tensor, rate: Tensor | float, step: Tensor | int, *, seed: int, stream: int) -> Tensor:
    """x / (1 - rate) with probability 1 - rate, else 0 (Srivastava et al. 2014, inverted).

    rate and step may be Tensors without axes, so that a new value never retraces. Which elements are kept is said by
    the draw (seed, stream, step) of gpunet.rng, whose share of dropped ones is the rate to the nearest 1 / 65,536.
    """
    level = rate if isinstance(rate, Tensor) else tensor(float(rate), dtype=np.float64, device=x.device)
    count = step if isinstance(step, Tensor) else tensor(int(step), dtype=np.int64, device=x.device)
    return _dropout(x, level, count, seed=seed, stream=stream)
