"""The numbers of an optimizer: plain floats to read and set, float64 scalars on the device for the update to read."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..devices import Device, aligned
from ..engine import Tensor
from ..errors import ConfigError


class Setting:
    """A number in an interval such as "[0, 1)": assigning it reaches the device, and never retraces.

    An optional one may be None, which leaves its part out of the update.
    """

    def __init__(self, interval: str, *, optional: bool = False) -> None:
        self.interval, self.optional = interval, optional
        low, high = interval[1:-1].split(",")
        self.low, self.high = float(low), float(high)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, holder: Any, kind: type | None = None) -> Any:
        return self if holder is None else holder.numbers.get(self.name)

    def __set__(self, holder: Settings, value: float | None) -> None:
        if value is None and self.optional:
            holder.numbers[self.name] = None
            if holder.scalars.pop(self.name, None) is not None:
                holder.restructure()
            return
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not self._holds(float(value)):
            raise ConfigError(f"{type(holder).__name__}: {self.name} must lie in {self.interval}, got {value!r}")
        holder.numbers[self.name] = float(value)
        holder.send(self.name)

    def _holds(self, value: float) -> bool:
        above = value >= self.low if self.interval[0] == "[" else value > self.low
        below = value <= self.high if self.interval[-1] == "]" else value < self.high
        return above and below and math.isfinite(value)


class Settings:
    """Whoever has a Setting.

    Attributes:
        numbers: the value of each.
        scalars: the same on the device, from `place` on; None has none.
        structure: another object whenever what is computed changes, beside values: another one needs another trace.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, float | None] = {}
        self.scalars: dict[str, Tensor] = {}
        self.device: Device | None = None
        self.restructure()

    def restructure(self) -> None:
        self.structure = object()

    def place(self, device: Device) -> None:
        self.device = device
        for name in self.numbers:
            self.send(name)

    def send(self, name: str) -> None:
        value = self.numbers[name]
        if self.device is None or value is None:
            return
        new = upload(value, self.device)
        if name in self.scalars:
            self.scalars[name].assign(new)
        else:
            self.scalars[name] = new
            self.restructure()


def upload(values: Any, device: Device, dtype: Any = np.float64) -> Tensor:
    """A Tensor of values from the host, in memory of its own."""
    return Tensor(device.upload(aligned(np.asarray(values, dtype))), device)
