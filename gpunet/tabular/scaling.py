"""Numbers brought to mean 0 and standard deviation 1, finite whatever finite numbers come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..devices import cpu

# In standard deviations. Training rows lie within sqrt(rows) of the mean, so that only later ones are held back here.
LIMIT = 1e6


def moments(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation over the rows of finite [n, ...]; where all are equal, that value and exactly 0."""
    low, high = values.min(axis=0), values.max(axis=0)
    exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]  # by a power of two, so that no square overflows
    ratio = np.ldexp(values, -exponent)
    center, scale = np.ldexp(ratio.mean(axis=0), exponent), np.ldexp(ratio.std(axis=0), exponent)
    return np.where(low == high, low, center), np.where(low == high, 0.0, scale)


def standardised(
    values: npt.NDArray[Any], center: Any, scale: Any, check: Callable[[], None] = lambda: None
) -> npt.NDArray[np.float32]:
    """(values - center) / scale, within LIMIT, C-contiguous; 0 where the scale is 0 or infinite.

    check: called before any number is held back; it may refuse numbers that are not finite, and need not look otherwise.
    """
    if cpu._native is not None:
        usual: npt.NDArray[np.float32] | None = cpu._native.standardised(values, center, scale, LIMIT)
        if usual is not None:  # as it nearly always is
            return usual
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        z = np.subtract(values, center, dtype=np.float64)
        np.divide(z, scale, out=z)
    if not np.vdot(z, z) < LIMIT**2:  # one number tells that nothing is to be held back, as is usual
        check()
        np.copyto(z, 0.0, where=np.equal(scale, 0.0) | np.isinf(scale))
        np.clip(z, -LIMIT, LIMIT, out=z)
    return z.astype(np.float32, order="C")
