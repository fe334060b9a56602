"""Optimizers, schedules and weight averages: what turns gradients into better weights."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import ConfigError, did_you_mean
from . import schedules
from .average import WeightAverage
from .clip import clip_by_norm, clip_by_value, global_norm
from .lbfgs import LBFGS
from .optimizer import Optimizer
from .rules import SGD, Adagrad, Adam, AdamW, Lion, NAdam, RMSprop
from .schedules import Schedule

__all__ = [
    "LBFGS", "OPTIMIZERS", "SGD", "Adagrad", "Adam", "AdamW", "Lion", "NAdam", "Optimizer", "RMSprop", "Schedule",
    "WeightAverage", "clip_by_norm", "clip_by_value", "get", "global_norm", "schedules",
]

OPTIMIZERS: dict[str, type[Optimizer]] = {c.name: c for c in (SGD, Adagrad, RMSprop, Adam, AdamW, NAdam, Lion, LBFGS)}


def get(name: str) -> Callable[..., Optimizer]:
    """The optimizer class called "sgd", "adam", "adamw", ..."""
    if name not in OPTIMIZERS:
        raise ConfigError(f'no optimizer "{name}".{did_you_mean(name, OPTIMIZERS)}')
    return OPTIMIZERS[name]
