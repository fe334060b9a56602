"""Nets side by side that answer as one, and what makes their probabilities honest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from .. import ops
from ..engine import Tensor
from ..errors import ConfigError
from .module import Module, build, layer

TINY = 1e-37  # the least float32 whose logarithm every device takes
AVERAGES = ("probabilities", "outputs")


@layer
class Temperature(Module):
    """Logits divided by a constant, fitted on rows that training did not see (Guo et al. 2017)."""

    fields = ("value",)

    def __init__(self, value: float) -> None:
        if not value > 0:
            raise ConfigError(f"Temperature: above 0, got {value}")
        self.value = float(value)

    def forward(self, x: Tensor) -> Tensor:
        return x / self.value


@layer
class Unsmooth(Module):
    """Takes label smoothing back: logits of q, as a net learns them, become logits of what it would say of true labels.

    Labels that are smoothed by e have probabilities q = (1 - e) p + e / k (Szegedy et al. 2016), so that p is q - e / k over
    1 - e. A q that is less than e / k is no probability of any p: such a class keeps the share `floor` of its q. What is
    larger stays larger.

    Args:
        amount: the e of the loss. floor: at least this share of each q is left.
    """

    fields = ("amount", "floor")

    def __init__(self, amount: float, floor: float = 0.05) -> None:
        for name, share in (("amount", amount), ("floor", floor)):
            if not 0 < share < 1:
                raise ConfigError(f"Unsmooth: {name} is a share between 0 and 1, got {share}")
        self.amount, self.floor = float(amount), float(floor)

    def forward(self, x: Tensor) -> Tensor:
        q = ops.log_softmax(x)
        above = ops.maximum(ops.exp(q) - self.amount / x.shape[-1], TINY)
        return ops.maximum(ops.log(above), q + math.log(self.floor))


@layer
class Ensemble(Module):
    """The mean of nets for the same rows: of their `outputs`, or of the `probabilities` that their logits mean.

    In the second case the outputs are logarithms of mean probabilities, which are logits too.
    """

    def __init__(self, *nets: Module | dict[str, Any], average: str = "probabilities") -> None:
        if not nets:
            raise ConfigError("Ensemble: one net at least")
        if average not in AVERAGES:
            raise ConfigError(f"Ensemble: average is one of {', '.join(AVERAGES)}, got {average!r}")
        self.average = average
        for i, net in enumerate(nets):
            setattr(self, str(i), build(net) if isinstance(net, dict) else net)

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.children())

    def forward(self, x: Tensor) -> Tensor:
        outputs = [net(x) for net in self]
        if self.average == "outputs":
            return sum(outputs[1:], outputs[0]) / len(outputs)
        logs = [ops.log_softmax(z) for z in outputs]
        top = logs[0]
        for z in logs[1:]:
            top = ops.maximum(top, z)
        shares = [ops.exp(z - top) for z in logs]
        return top + ops.log(sum(shares[1:], shares[0]) / len(shares))

    def config(self) -> dict[str, Any]:
        return {"layer": "Ensemble", "layers": [net.config() for net in self], "average": self.average}

    def __repr__(self) -> str:
        inside = "".join(f"  ({i}): {net!r}\n".replace("\n ", "\n   ") for i, net in enumerate(self))
        return f"Ensemble(\n{inside}, average={self.average!r})"
