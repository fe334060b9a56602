"""A net's outputs for many rows: compiled once a shape, a chunk of rows at a time, each written where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine import Tensor, set_mode
from ..graph.compile import Compiled
from ..nn import Module

ROWS = 4096


class Forward:
    """`Forward(net)(x)`: what net gives in evaluation mode for rows x, as a NumPy array; net itself stays as it is."""

    def __init__(self, net: Module, compile: bool = True) -> None:
        self.net, self.compile = net, compile

        def forward(x: Tensor) -> Tensor:
            with set_mode(evaluating=True, record=False):
                return net(x)

        self.run = Compiled(forward, dtype=net.dtype) if compile else forward

    def __reduce__(self) -> Any:
        """A copy is of the net's copy."""
        return Forward, (self.net, self.compile)

    def __call__(self, x: Tensor, rows: int = ROWS, *, between: Callable[[], None] = lambda: None) -> npt.NDArray[Any]:
        """`between` is called before each piece of the work: whoever wants to end it raises there."""
        n = len(x)
        between()
        if n <= rows:
            return self.run(x).numpy()
        outputs: Any = None
        for start in range(0, n, rows):
            between()
            made = self.run(Tensor(x.value[start : start + rows], x.device)).numpy()
            if outputs is None:
                outputs = np.empty((n, *made.shape[1:]), made.dtype)
            outputs[start : start + rows] = made
        return outputs
