"""NaN and infinity: found at the step they appear in, and traced to a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import Tensor, no_grad
from ..errors import DivergedError
from ..nn import module as modules


def check(trainer: Any, loss: Tensor, grads: list[Tensor | None], batches: list[Any]) -> None:
    """Raise DivergedError unless the loss and all gradients are finite; nothing has been updated yet."""
    if np.isfinite(loss.item()) and all(
        g is None or np.isfinite(float(g.device.download(g.value.sum()))) for g in grads
    ):
        return
    where = next((found for batch in batches if (found := _blame(trainer, loss, grads, batch))), None)
    if where is None:  # large finite gradients whose sum overflows
        return
    raise DivergedError(
        f"training diverged at epoch {trainer.epoch}, step {trainer.step + 1}: {where}. "
        f"Lower the learning rate (now {trainer.optimizer.lr:g}), clip gradients (clip_norm=1.0), or check the data's scale"
    )


def _blame(trainer: Any, loss: Tensor, grads: list[Tensor | None], batch: Any) -> str | None:
    x = batch[0].numpy()
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x.reshape(len(x), -1)))[0]
        return f"the data: row {row} of the batch, column {column}, is {x.reshape(len(x), -1)[row, column]}"
    for name, t in trainer.model.named_parameters():
        if not np.isfinite(t.numpy()).all():
            return f"the parameter {name} holds values that are not finite"
    found = _first_layer(trainer, batch[0])
    if found:
        return found
    if not np.isfinite(loss.item()):
        return f"the loss is {loss.item()} though every layer's output is finite"
    names = [name for name, _ in trainer.model.named_parameters()]
    bad = [n for n, g in zip(names, grads, strict=False) if g is not None and not np.isfinite(g.numpy()).all()]
    return f"the gradient of {bad[0]} is not finite" if bad else None


def _first_layer(trainer: Any, x: Tensor) -> str | None:
    found: list[str] = []

    def watch(module: Any, given: Tensor, out: Tensor) -> None:
        values = out.numpy()
        bad = ~np.isfinite(values)
        if not found and bad.any():
            row = np.argwhere(bad.reshape(len(values), -1).any(axis=1))[0, 0]
            found.append(
                f"{modules.describe(module)} gave {int(bad.sum())} values that are not finite, first at row {row} of the batch"
            )

    modules._watchers.append(watch)
    try:
        with no_grad():
            trainer.model(x)
    finally:
        modules._watchers.remove(watch)
    return found[0] if found else None
