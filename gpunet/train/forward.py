"""A net's outputs for many rows: compiled once a shape, a piece of the rows at a time, each written where it belongs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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

    def __call__(self, x: Tensor, rows: int = ROWS) -> npt.NDArray[Any]:
        n = len(x)
        if n <= rows:
            return self.run(x).numpy()
        return self.joined((Tensor(x.value[at : at + rows], x.device) for at in range(0, n, rows)), n).numpy()

    def joined(self, pieces: Iterable[Tensor], rows: int) -> Tensor:
        """The outputs for all pieces of the data, `rows` in all, as one Tensor on their device."""
        outputs, at = None, 0
        for piece in pieces:
            made = self.run(piece)
            if len(made) == rows:
                return made
            if outputs is None:
                outputs = made.device.empty((rows, *made.shape[1:]), made.dtype)
            outputs[at : at + len(made)] = made.value
            at += len(made)
        return Tensor(outputs, made.device)
