"""Toy sets in the plane that a linear classifier cannot separate: spirals, circles, moons and xor.

Each gives x, float32 [n, 2], and y, int64 [n], with the classes in turn (0, 1, ..., 0, 1, ...) but for xor, whose
points fall where they fall. The same n, noise and seed give the same points on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import rng
from ..errors import ConfigError

Toy = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def spirals(n: int = 300, *, classes: int = 3, noise: float = 0.2, seed: int = 0) -> Toy:
    """One arm a class, each turning by 4 radians on its way out; `noise` blurs the angle (Stanford's CS231n)."""
    y, radius = _classes_in_turn(n, classes)
    blur = noise * rng.normal((n,), seed=seed, stream=rng.stream("toys.spirals"))
    angle = 2 * np.pi * y / classes + 4 * radius + blur
    return _points(radius * np.sin(angle), radius * np.cos(angle)), y


def circles(n: int = 300, *, classes: int = 2, noise: float = 0.05, seed: int = 0) -> Toy:
    """Rings around the origin, the outermost of radius 1; `noise` moves the points in both directions."""
    y, _ = _classes_in_turn(n, classes)
    radius, angle = (y + 1) / classes, 2 * np.pi * rng.uniform(n, seed=seed, stream=rng.stream("toys.circles"))
    return _points(radius * np.cos(angle), radius * np.sin(angle)) + _jitter(n, noise, seed, "toys.circles.noise"), y


def moons(n: int = 300, *, noise: float = 0.1, seed: int = 0) -> Toy:
    """Two half circles that reach into each other."""
    y, turn = _classes_in_turn(n, 2)
    up = 1 - 2 * y  # the second moon is the first one turned around and moved
    x = _points(up * np.cos(np.pi * turn) + y, up * np.sin(np.pi * turn) + y / 2)
    return x + _jitter(n, noise, seed, "toys.moons"), y


def xor(n: int = 300, *, noise: float = 0.0, seed: int = 0) -> Toy:
    """Points of the square [-1, 1] x [-1, 1], of class 1 where their signs differ; `noise` moves them afterwards."""
    x = 2 * rng.uniform(2 * n, seed=seed, stream=rng.stream("toys.xor")).reshape(n, 2) - 1
    y = ((x[:, 0] > 0) != (x[:, 1] > 0)).astype(np.int64)
    return x + _jitter(n, noise, seed, "toys.xor.noise"), y


def _classes_in_turn(n: int, classes: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(the class of each point, how far along its class it is: from 0 for the first to 1 for the last)."""
    if classes < 2 or n < classes:
        raise ConfigError(f"n={n}, classes={classes}: at least two classes and a point for each are expected")
    y = np.arange(n) % classes
    sizes = np.bincount(y, minlength=classes)
    return y.astype(np.int64), (np.arange(n) // classes) / np.maximum(sizes[y] - 1, 1)


def _points(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.stack((x, y), axis=1).astype(np.float32)


def _jitter(n: int, noise: float, seed: int, name: str) -> npt.NDArray[np.float32]:
    return (noise * rng.normal((n, 2), seed=seed, stream=rng.stream(name))).astype(np.float32)
