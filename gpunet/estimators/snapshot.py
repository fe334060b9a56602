"""Nets as they were when an earlier cycle of the learning rate ended (snapshot ensembles, Huang et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..train import Callback, Trainer


class Snapshot(Callback):
    """Keeps the weights that a net has after one epoch (0: none)."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.state = epoch, None

    def on_epoch_end(self, trainer: Any, epoch: int, logs: dict[str, float]) -> None:
        if epoch == self.epoch:
            self.state = trainer.snapshot()


def earlier(trainers: Sequence[Trainer], kept: Sequence[Snapshot]) -> list[nn.Module]:
    """The nets as they were, if on the rows held out they were as good as they are now, each by itself; else none."""
    nets = list(zip(trainers, kept, strict=True))
    curves = [(trainer.history.get("val_loss", []), snapshot.epoch) for trainer, snapshot in nets]
    if any(not 0 < epoch < len(curve) for curve, epoch in curves):
        return []
    then, now = np.mean([(curve[epoch - 1], curve[-1]) for curve, epoch in curves], axis=0)
    return [_with(trainer.model, snapshot.state) for trainer, snapshot in nets] if then <= now else []


def _with(model: nn.Module, state: Any) -> nn.Module:
    made = copy.deepcopy(model)
    made.load_state_dict(state)
    return made
