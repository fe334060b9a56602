"""Randomness inside the graph: all of it comes from counters, so the same masks fall on every device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..devices import Device
from ..engine import Tensor, op
from .rules import same


@op(shape=same, elementwise=True)
def dropout(dev: Device, out: Any, x: Any, rate: Any, step: Any, *, seed: int, stream: int) -> None:
    """x / (1 - rate) with probability 1 - rate, else 0 (Srivastava et al. 2014, inverted).

    rate and step are Tensors without axes, so that a new value never retraces; element i is kept if number i of the
    draw (seed, stream, step) is at least the rate.
    """
    p = float(rate)
    keep = dev.uniform(x.size, seed=seed, stream=stream, step=int(step)).reshape(x.shape) >= np.float32(p)
    out[...] = dev.xp.where(keep, x * x.dtype.type(1.0 / (1.0 - p)), x.dtype.type(0))


@dropout.vjp
def _(g: Tensor, rate: Tensor, step: Tensor, *, seed: int, stream: int) -> Any:
    return dropout(g, rate, step, seed=seed, stream=stream), None, None  # the counter is kept, the mask drawn again
