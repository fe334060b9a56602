"""The multilayer perceptron: widths in, network out."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..errors import ConfigError
from .layers import Linear, Residual, Sequential, hidden_block
from .module import layer


@layer
class MLP(Sequential):
    """`MLP(784, 256, 128, 10)`: 784 inputs, two hidden layers, 10 outputs (a 3-layer net: the input is not counted).

    Args:
        widths: inputs, hidden widths, outputs; at least inputs and outputs (a linear model).
        activation: after each hidden layer; the outputs are linear (losses take logits).
        dropout: rate after each hidden layer. norm: None, "batch" or "layer", before each activation.
        residual: adds a hidden block's input to its output wherever the widths agree.
        init: an initialiser's name; "auto" suits the activation.
    """

    def __init__(
        self,
        *widths: int,
        activation: str = "relu",
        dropout: float = 0.0,
        norm: str | None = None,
        residual: bool = False,
        init: str = "auto",
    ) -> None:
        if len(widths) < 2:
            raise ConfigError(f"MLP: at least inputs and outputs wanted, as in MLP(4, 16, 3); got {widths}")
        ops.activations.lookup(activation)
        self.widths = tuple(int(n) for n in widths)
        self.settings: dict[str, Any] = {
            "activation": activation,
            "dropout": float(dropout),
            "norm": norm,
            "residual": bool(residual),
            "init": init,
        }
        layers: list[Any] = []
        for k, m in zip(self.widths[:-2], self.widths[1:-1], strict=True):
            block = hidden_block(k, m, activation=activation, norm=norm, dropout=dropout, init=init)
            layers += [Residual(Sequential(*block))] if residual and k == m else block
        super().__init__(*layers, Linear(*self.widths[-2:], init="auto" if init == "auto" else init))

    def config(self) -> dict[str, Any]:
        return {"layer": "MLP", "widths": list(self.widths), **self.settings}
