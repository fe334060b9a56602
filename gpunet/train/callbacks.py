"""What may happen at a moment of training. A callback is an object whose method names are the moments."""

from __future__ import annotations

import math
import sys
import time
from typing import IO, Any, Protocol

from ..errors import ConfigError, did_you_mean
from .history import History

Logs = dict[str, float]


class Training(Protocol):
    """What a callback may use of the Trainer that calls it."""

    history: History
    epoch: int
    epochs: int
    step: int
    total_steps: int
    speed: float  # rows a second, over the last epoch

    @property
    def best_epoch(self) -> int: ...
    def stop(self, why: str = "callback") -> None: ...
    def snapshot(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


class Callback:
    """Subclass it and define the moments you want. A chunk is as many steps as fit into about 50 ms.

    One that must remember across a resume has `state_dict()` (JSON values, arrays, dicts of both) and `load_state_dict`.
    """

    def on_train_begin(self, trainer: Training) -> None: ...
    def on_epoch_begin(self, trainer: Training, epoch: int) -> None: ...
    def on_chunk_begin(self, trainer: Training, step: int) -> None: ...
    def on_chunk_end(self, trainer: Training, step: int) -> None: ...
    def on_epoch_end(self, trainer: Training, epoch: int, logs: Logs) -> None: ...
    def on_train_end(self, trainer: Training) -> None: ...
    def on_train_break(self, trainer: Training) -> None: ...  # instead of the end: an error, a second Ctrl-C


class BestWeights(Callback):
    """Keeps the weights of the best epoch, by `monitor`, and puts them back at the end.

    Args:
        monitor: a key of the history. greater_is_better: its direction.
        tie: a second key, lower is better, for equals; "last": the later one of equals; None: the earlier.
        patience: stop after so many epochs in a row without an improvement by more than min_delta; None never stops.
        restore: False leaves the last epoch's weights.
    """

    def __init__(
        self,
        monitor: str,
        *,
        greater_is_better: bool,
        tie: str | None = None,
        patience: int | None = None,
        min_delta: float = 0.0,
        restore: bool = True,
    ) -> None:
        self.monitor, self.tie, self.patience, self.min_delta = monitor, tie, patience, min_delta
        self.restore = restore
        self.sign = 1.0 if greater_is_better else -1.0
        self.best, self.best_tie, self.epoch, self.waited = -math.inf, math.inf, 0, 0
        self.state: dict[str, Any] | None = None

    def on_epoch_end(self, trainer: Training, epoch: int, logs: Logs) -> None:
        if self.monitor not in logs:
            raise ConfigError(f'monitor "{self.monitor}" is not measured.{did_you_mean(self.monitor, logs)}')
        value, tie = self.sign * logs[self.monitor], logs.get(self.tie or "", math.inf)
        if math.isnan(value):  # an AUC of one class, say: any number is better
            value = -math.inf
        equal = value == self.best and (self.tie == "last" or tie < self.best_tie)
        if value > self.best + self.min_delta or equal or self.state is None:
            improved = value > self.best + self.min_delta
            self.best, self.best_tie, self.epoch, self.state = value, tie, epoch, trainer.snapshot()
            self.waited = 0 if improved else self.waited + 1
        else:
            self.waited += 1
        if self.patience is not None and self.waited >= max(self.patience, 1):
            trainer.stop("patience")

    def state_dict(self) -> dict[str, Any]:
        """What it has seen so far; what `Trainer.state_dict` keeps of every callback that has this method."""
        seen = {name: getattr(self, name) for name in ("best", "best_tie", "epoch", "waited")}
        return seen if self.state is None else seen | {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = None
        for name, value in state.items():
            setattr(self, name, value)

    def on_train_end(self, trainer: Training) -> None:
        if self.restore and self.state is not None:
            trainer.restore(self.state)
            trainer.history.best_epoch, trainer.history.monitor = self.epoch, self.monitor


class Lines(Callback):
    """One plain line an epoch."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self.stream = stream

    def on_epoch_end(self, trainer: Training, epoch: int, logs: Logs) -> None:
        star = " *" if trainer.best_epoch == epoch else ""
        print(
            f"epoch {epoch}/{trainer.epochs}  {figures(logs)}  {trainer.speed:,.0f} rows/s{star}",
            file=self.stream or sys.stderr,
            flush=True,
        )


class Bar(Callback):
    """A progress bar with time left, rows a second and the latest figures, on a terminal (rich)."""

    progress: Any = None

    def on_train_begin(self, trainer: Training) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        wide = Column(no_wrap=True, min_width=len(f"epoch {trainer.epochs}/{trainer.epochs}"))
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}", table_column=wide),
            BarColumn(bar_width=8),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        self.progress.start()
        self.task = self.progress.add_task("", total=trainer.total_steps, epoch=f"0/{trainer.epochs}", figures="")
        self.logs: Logs = {}
        self.drawn = 0.0

    def on_chunk_end(self, trainer: Training, step: int) -> None:
        if time.perf_counter() - self.drawn > 0.1:
            self._draw(trainer)

    def on_epoch_end(self, trainer: Training, epoch: int, logs: Logs) -> None:
        self.logs = logs
        self.on_chunk_end(trainer, trainer.step)

    def on_train_end(self, trainer: Training) -> None:
        self._draw(trainer)
        self.progress.stop()

    def on_train_break(self, trainer: Training) -> None:
        if self.progress is not None:
            self.progress.stop()  # gives the cursor back

    def _draw(self, trainer: Training) -> None:
        """80 columns hold the loss, the last metric and the best epoch; the history has the rest."""
        shown = dict([*self.logs.items()][:1] + [*self.logs.items()][-1:])
        text = "  ".join([f"{compact(trainer.speed)} rows/s", *(f"{name} {value:.3g}" for name, value in shown.items())])
        text += f" ★ {trainer.best_epoch}" if trainer.best_epoch else ""
        epoch = f"{trainer.epoch}/{trainer.epochs}"
        self.progress.update(self.task, completed=trainer.step, epoch=epoch, figures=text)
        self.progress.refresh()
        self.drawn = time.perf_counter()


def compact(n: float) -> str:
    """1.2M for 1,234,567."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.{0 if n >= 10 * size else 1}f}{letter}"
    return f"{n:.0f}"


def figures(logs: Logs) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


def progress(wanted: bool | str) -> list[Callback]:
    """What shows progress: a bar on a terminal, lines elsewhere, nothing for False."""
    if wanted is False:
        return []
    if wanted in (True, "auto"):
        return [Bar() if sys.stderr.isatty() else Lines()]
    choices: dict[Any, type[Callback]] = {"bar": Bar, "lines": Lines}
    if wanted not in choices:
        raise ConfigError(f"progress: {wanted!r}.{did_you_mean(str(wanted), ['auto', *choices])}")
    return [choices[wanted]()]
