"""Dropout whose rates follow a schedule."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops, optim
from ..engine import Tensor, no_grad, tensor
from ..errors import ConfigError
from ..nn import Dropout, Module
from ..optim.optimizer import ScheduleLike


class ScheduledDropout:
    """The rates of all Dropout layers of a model, moved along a schedule by the optimizer's count of steps."""

    def __init__(self, layers: list[Dropout], optimizer: Any, table: Tensor) -> None:
        self.layers, self.optimizer, self.table = layers, optimizer, table

    @classmethod
    def of(cls, model: Module, optimizer: Any, schedule: ScheduleLike, steps: int) -> ScheduledDropout | None:
        layers = [module for _, module in model.modules() if isinstance(module, Dropout) and module.rate]
        if schedule is None or not layers:
            return None
        table = optim.schedules.get(schedule).table(steps)
        if not 0 <= table.min() <= table.max() <= 1:
            raise ConfigError(
                f"dropout_schedule: factors from 0 to 1 wanted, {schedule!r} has {table.min()} to {table.max()}"
            )
        return cls(layers, optimizer, Tensor(model.device.upload(table), model.device))

    @no_grad()
    def advance(self) -> None:
        at = ops.minimum(self.optimizer.t - self.optimizer.begun, self.table.size - 1)
        factor = ops.gather(self.table, at)
        for module in self.layers:
            module.level.assign(factor * module.rate)

    def reset(self) -> None:
        for module in self.layers:
            module.level.assign(tensor(module.rate, dtype=np.float64, device=module.level.device))
