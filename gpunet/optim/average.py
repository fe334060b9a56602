"""A moving average of the weights, which is often better than the weights (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import ops
from ..engine import Tensor, no_grad
from ..errors import ConfigError, ShapeError
from .optimizer import Optimizer
from .settings import Setting, Settings, upload


class WeightAverage(Settings):
    """average = decay * average + (1 - decay) * weights, after every update of the optimizer.

    The decay is min(decay, (1 + n) / (10 + n)) at update n, so that the initial weights are soon forgotten.
    """

    decay = Setting("[0, 1)")

    def __init__(self, optimizer: Optimizer, *, decay: float = 0.999) -> None:
        super().__init__()
        if not optimizer.bound:
            raise ConfigError("WeightAverage: the optimizer has no parameters yet. Bind it first")
        self.optimizer, self.decay = optimizer, decay
        device = optimizer.parameters[0].device
        self.place(device)
        self.n = upload(0, device, np.int64)
        with no_grad():
            self.vectors = [ops.copy(group.vector) for group in optimizer.groups]

    @no_grad()
    def update(self) -> None:
        """Take the present weights in; all in ops, so that it can be traced."""
        n = ops.cast(self.n, dtype=np.float64)
        keep = ops.minimum(self.scalars["decay"], (1.0 + n) / (10.0 + n))
        for average, group in zip(self.vectors, self.optimizer.groups, strict=True):
            old, new = (ops.cast(share, dtype=average.dtype) for share in (keep, 1.0 - keep))
            average.assign(old * average + new * group.vector)
        self.n.assign(self.n + 1)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside `with average.applied():`."""
        with no_grad():
            kept = [ops.copy(group.vector) for group in self.optimizer.groups]
        try:
            self._write(self.vectors)
            yield
        finally:
            self._write(kept)

    def _write(self, vectors: list[Tensor]) -> None:
        for group, vector in zip(self.optimizer.groups, vectors, strict=True):
            group.vector.assign(vector)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights by parameter name, "decay" and "n" (the updates so far)."""
        state: dict[str, Any] = {"decay": self.decay, "n": self.n.item()}
        for group, vector in zip(self.optimizer.groups, self.vectors, strict=True):
            state |= {f"average.{name}": array for name, array in group.split(vector).items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        mine = self.state_dict()
        if set(mine) != set(state):
            odd = sorted(set(mine) ^ set(state))[:5]
            raise ConfigError(f"WeightAverage: the state does not fit: {odd} are on one side only")
        for key, value in mine.items():
            if np.shape(value) != np.shape(state[key]):
                raise ShapeError(f"WeightAverage: {key} is {np.shape(value)}, the saved one {np.shape(state[key])}")
        self.decay = state["decay"]
        self.n.assign(upload(state["n"], self.n.device, np.int64))
        for vector, group in zip(self.vectors, self.optimizer.groups, strict=True):
            vector.assign(group.join({piece.name: state[f"average.{piece.name}"] for piece in group.pieces}))
