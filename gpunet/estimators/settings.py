"""What an estimator's parameters come to: the preset, and what they change in it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import losses, nn, ops, presets
from ..engine import Tensor
from ..errors import ConfigError
from .judge import Judge, judge

PATIENCE = 10  # scikit-learn's n_iter_no_change
ACTIVATIONS = {"logistic": "sigmoid"}  # scikit-learn's names
LOSSES = {"log_loss": "cross_entropy", "squared_error": "mse", "absolute_error": "mae"}
SCHEDULES: dict[str, Any] = {"adaptive": {"name": "plateau", "patience": PATIENCE, "gamma": 0.2}}


@dataclass
class Settings:
    """Checked before any data are looked at.

    Attributes:
        net, optimizer: overrides of the preset's. fit: arguments of Trainer.fit.
        validation: share of the rows held out, where there are no folds. cv: folds, as the user or the preset says.
        members: nets for each fold. judge: the metric that chooses the best epoch, None for the preset's choice.
    """

    preset: presets.Preset
    net: dict[str, Any]
    optimizer: dict[str, Any]
    fit: dict[str, Any]
    validation: float
    cv: Any
    members: int
    judge: Judge | None


def settings(asked: Any) -> Settings:
    """Of an estimator, whose attributes of the parameters' names say what is asked for; None leaves it to the preset."""
    preset = presets.get(asked.preset)
    validation, patience = preset.validation, asked.n_iter_no_change
    if asked.early_stopping:
        validation, patience = validation or 0.1, patience or PATIENCE
    if asked.validation_fraction is not None and validation:
        validation = asked.validation_fraction
    if asked.early_stopping is False:
        validation = 0.0
    if not 0 <= validation < 1:
        raise ConfigError(f"validation_fraction: a share of the rows between 0 and 1, got {validation!r}")
    epochs = preset.fit.get("epochs", 1) if asked.max_iter is None else asked.max_iter
    _check_counts(max_iter=epochs)
    if patience is None and preset.patience is not None and validation:
        patience = max(1, round(preset.patience * epochs))
    fit = dict(preset.fit) | _given(
        epochs=asked.max_iter, batch_size=None if asked.batch_size == "auto" else asked.batch_size,
        patience=patience, min_delta=asked.tol, max_seconds=asked.max_seconds, average=asked.average,
    )  # fmt: skip
    members = preset.n_ensemble if asked.n_ensemble is None else asked.n_ensemble
    _check_counts(n_ensemble=members, n_iter_no_change=patience or 1)
    # the preset's folds stand for its one split
    own = asked.cv is None and asked.n_ensemble is None and asked.validation_fraction is None and validation
    chosen = None if asked.scoring is None or asked.scoring == "loss" else judge(asked.scoring)
    return Settings(
        preset,
        _net(asked, preset),
        _optimizer(asked),
        fit,
        validation,
        preset.cv if own else asked.cv,
        int(members),
        chosen,
    )


def _net(asked: Any, preset: presets.Preset) -> dict[str, Any]:
    hidden = asked.hidden_layer_sizes
    if hidden is not None:
        hidden = tuple(int(n) for n in np.atleast_1d(np.asarray(hidden, np.int64)))
    if asked.activation is not None:
        ops.activations.lookup(ACTIVATIONS.get(asked.activation, asked.activation))
    overrides = _given(
        hidden=hidden, activation=ACTIVATIONS.get(asked.activation, asked.activation), dropout=asked.dropout,
        norm=asked.norm, residual=asked.residual,
    )  # fmt: skip
    known = inspect.signature(preset.build).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for name in overrides:
            if name not in known:
                raise ConfigError(f'preset "{preset.name}" has no {name}; "classic" and "cs231n" have')
    return overrides


def _optimizer(asked: Any) -> dict[str, Any]:
    schedule = asked.learning_rate
    betas = tuple(b or usual for b, usual in zip((asked.beta_1, asked.beta_2), (0.9, 0.999), strict=True))
    return _given(
        optimizer=asked.solver, lr=asked.learning_rate_init,
        schedule=SCHEDULES.get(schedule, schedule) if isinstance(schedule, str) else schedule,
        weight_decay=0.0 if asked.weight_decay is None and asked.alpha is not None else asked.weight_decay,
        momentum=asked.momentum, nesterov=asked.nesterovs_momentum, eps=asked.epsilon, clip_norm=asked.clip_norm,
        betas=None if asked.beta_1 is None and asked.beta_2 is None else betas,
    )  # fmt: skip


def loss(asked: Any, task: str, usual: Any) -> Any:
    """The loss asked for, or the preset's."""
    if asked.loss is not None:
        return losses.get(LOSSES.get(asked.loss, asked.loss) if isinstance(asked.loss, str) else asked.loss)
    return losses.bce_with_logits if task == "multilabel" else usual


class Penalised:
    """scikit-learn's alpha: a loss plus alpha / 2 times the sum of squared weights, over the rows of the batch.

    Only where it is differentiated: what judges an epoch is the loss alone.
    """

    def __init__(self, loss: Any, net: nn.Module, alpha: float) -> None:
        self.loss, self.net, self.alpha = loss, net, float(alpha)

    def __call__(self, outputs: Tensor, targets: Tensor, **weight: Any) -> Tensor:
        loss: Tensor = self.loss(outputs, targets, **weight)
        if not outputs.tracked:
            return loss
        squares = [ops.sum(ops.square(t)) for t in self.net.parameters() if t.ndim > 1]
        return loss + self.alpha / (2 * outputs.shape[0]) * sum(squares[1:], squares[0])


def _check_counts(**counts: Any) -> None:
    for name, n in counts.items():
        if not isinstance(n, (int, float, np.number)) or n < 1 or n != int(n):
            raise ConfigError(f"{name}: a whole number of at least 1, got {n!r}")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
