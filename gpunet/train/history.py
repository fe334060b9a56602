"""What a run of training leaves behind: every metric of every epoch."""

from __future__ import annotations

from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any


class History(dict[str, list[float]]):
    """Lists by name, one entry an epoch: "loss", "val_loss", "val_accuracy", ... (Keras's names).

    Attributes:
        best_epoch: the epoch (from 1) whose weights the model has now. monitor: by what it was chosen.
        stopped: "finished", "patience", "time", "interrupted" or "callback".
        seconds: wall time. rows_per_second: rows trained on in each second of it.
    """

    best_epoch = 0
    monitor = ""
    stopped = "finished"
    seconds = 0.0
    rows_per_second = 0.0

    def add(self, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self.setdefault(name, []).append(float(value))

    @property
    def epochs(self) -> int:
        return len(self.get("loss", ()))

    def at(self, epoch: int) -> dict[str, float]:
        """All values of one epoch, counted from 1."""
        return {name: values[epoch - 1] for name, values in self.items() if len(values) >= epoch}

    def _repr_html_(self) -> str:
        """In a notebook: the last epochs as a table, and the curves where matplotlib is installed."""
        first = max(1, self.epochs - 9)
        head = "".join(f"<th>{escape(name)}</th>" for name in ("epoch", *self))
        rows = [
            (str(n) + " ★" * (n == self.best_epoch), *(f"{v:.4g}" for v in self.at(n).values()))
            for n in range(first, self.epochs + 1)
        ]
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return f"{self._curves()}<table><tr>{head}</tr>{body}</table>"

    def _curves(self) -> str:
        if not self.epochs or find_spec("matplotlib") is None:
            return ""
        # As Tensor.graph, a call that goes up: what draws stands above what it draws.
        viz = import_module("gpunet.viz")
        return str(viz.svg_of(viz.curves(self)))

    def info(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "monitor": self.monitor,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "rows_per_second": self.rows_per_second,
        }
