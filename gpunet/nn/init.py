"""Initial weights: drawn on the host from the counter-based generator, in float64, the same for every device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import rng
from ..errors import ConfigError, did_you_mean

Array = npt.NDArray[np.float64]
Shape = tuple[int, ...]


def fans(shape: Shape) -> tuple[int, int]:
    """Inputs and outputs of one unit of a weight [..., inputs, outputs]; a stack's nets do not count."""
    return (shape[-2], shape[-1]) if len(shape) >= 2 else (shape[-1], shape[-1])


def _normal(variance: Callable[[int, int], float]) -> Callable[..., Array]:
    return lambda shape, **draw: rng.normal(shape, **draw) * math.sqrt(variance(*fans(shape)))


def _unit(shape: Shape, **draw: Any) -> Array:
    return rng.uniform(math.prod(shape), **draw).astype(np.float64).reshape(shape)


def _uniform(variance: Callable[[int, int], float]) -> Callable[..., Array]:
    return lambda shape, **draw: (2 * _unit(shape, **draw) - 1) * math.sqrt(3 * variance(*fans(shape)))


def orthogonal(shape: Shape, **draw: Any) -> Array:
    """Orthonormal rows or columns, whichever fit (Saxe et al. 2014), by QR of a normal matrix."""
    rows, columns = fans(shape)
    z = rng.normal((*shape[:-2], max(rows, columns), min(rows, columns)), **draw)
    q, r = np.linalg.qr(z)
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]  # makes it uniform over the orthogonal group
    return q if rows >= columns else np.swapaxes(q, -1, -2)


# fmt: off
INITIALIZERS: dict[str, Callable[..., Array]] = {
    "he":             _normal(lambda inputs, outputs: 2 / max(inputs, 1)),               # He et al. 2015, for ReLU
    "he_uniform":     _uniform(lambda inputs, outputs: 2 / max(inputs, 1)),
    "glorot":         _normal(lambda inputs, outputs: 2 / max(inputs + outputs, 1)),     # Glorot and Bengio 2010, for tanh and sigmoid
    "glorot_uniform": _uniform(lambda inputs, outputs: 2 / max(inputs + outputs, 1)),
    "lecun":          _normal(lambda inputs, outputs: 1 / max(inputs, 1)),               # LeCun et al. 1998, for SELU
    "lecun_uniform":  _uniform(lambda inputs, outputs: 1 / max(inputs, 1)),
    "orthogonal":     orthogonal,
    "normal":         _normal(lambda inputs, outputs: 1.0),                              # times s: "normal:s"
    "symmetric":      lambda shape, **draw: 2 * _unit(shape, **draw) - 1,                # uniform on (-s, s): "symmetric:s"
    "zeros":          lambda shape, **draw: np.zeros(shape),
    "ones":           lambda shape, **draw: np.ones(shape),
}
# fmt: on
_OF_ACTIVATION = {"selu": "lecun", "tanh": "glorot", "sigmoid": "glorot", "identity": "glorot", "softplus": "glorot"}


def suited_to(activation: str) -> str:
    """The usual initialiser before an activation: LeCun for SELU, Glorot for saturating ones, He for the ReLU family."""
    return _OF_ACTIVATION.get(activation, "he")


def get(name: str) -> Callable[..., Array]:
    """The initialiser of this name; "normal:0.1" and "symmetric:3" carry the size of what is drawn."""
    kind, colon, text = name.partition(":")
    if kind not in INITIALIZERS:
        raise ConfigError(f'no initialiser "{kind}".{did_you_mean(kind, INITIALIZERS)}')
    drawn = INITIALIZERS[kind]
    if not colon:
        return drawn
    if kind not in ("normal", "symmetric"):
        raise ConfigError(f'initialiser "{name}": {kind} takes no number; normal and symmetric do')
    try:
        size = float(text)
    except ValueError:
        raise ConfigError(f'initialiser "{name}": "{text}" is not a number. For example: {kind}:0.1') from None
    return lambda shape, **draw: size * drawn(shape, **draw)
