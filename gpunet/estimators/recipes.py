"""The recipes an estimator knows by name: how columns are encoded, which net, loss and optimizer, and how it is fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any


from .. import losses, nn, optim
from ..data.table import Table
from ..errors import ConfigError, did_you_mean
from ..tabular import ArrayEncoder, Encoder, Target
from ..train.recipe import DEFAULT_LR, default_epochs


@dataclass(frozen=True)
class Preset:
    """`fit` holds arguments of Trainer.fit, and `validation`: the share of rows that choose the best epoch.

    `epochs` and `batch_size` may be functions of the number of training rows.
    """

    name: str
    encode: Callable[[Any, Any, Target], Any]
    build: Callable[..., nn.Module]
    loss: Callable[[Target], Any]
    optimizer: Callable[..., Any]
    fit: Mapping[str, Any] = field(default_factory=dict)


def encode(x: Any, rows: Any, target: Target) -> Encoder | ArrayEncoder:
    return Encoder.fit(x, rows=rows) if isinstance(x, Table) else ArrayEncoder.fit(x, rows=rows)


def build(encoder: Any, target: Target, *, hidden: tuple[int, ...] = (128, 64), **settings: Any) -> nn.Module:
    return nn.MLP(len(encoder.output_names), *hidden, target.outputs, **settings)


def loss(target: Target) -> Any:
    return {"classification": losses.cross_entropy, "multilabel": losses.bce_with_logits}.get(target.task, losses.mse)


def optimizer(target: Target, *, name: str = "adamw", **settings: Any) -> Any:
    usual: dict[str, Any] = {"lr": DEFAULT_LR[name]}
    if name not in ("lbfgs",):
        usual["schedule"] = "one_cycle"
    return optim.get(name)(**usual | settings)


def _classic_optimizer(target: Target, *, name: str = "adam", **settings: Any) -> Any:
    usual: dict[str, Any] = {} if name == "lbfgs" else {"lr": 1e-3}
    if name == "sgd":
        usual |= {"momentum": 0.9, "nesterov": True}
    return optim.get(name)(**usual | settings)


# fmt: off
PRESETS: dict[str, Preset] = {preset.name: preset for preset in (
    Preset("default", encode, build, loss, optimizer,
           {"epochs": default_epochs, "validation": 0.2}),
    Preset("classic", encode, partial(build, hidden=(100,), init="glorot_uniform"), loss, _classic_optimizer,
           {"epochs": 200, "batch_size": partial(min, 200), "validation": 0.0, "patience": 10, "min_delta": 1e-4,
            "alpha": 1e-4}),
)}
# fmt: on


def get(name: str) -> Preset:
    if name not in PRESETS:
        raise ConfigError(f'no preset "{name}".{did_you_mean(name, PRESETS)}')
    return PRESETS[name]


def resolved(value: Any, rows: int) -> Any:
    return value(rows) if callable(value) else value


__all__ = ["PRESETS", "Preset", "get", "resolved"]
