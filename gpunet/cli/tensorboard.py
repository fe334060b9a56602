"""TensorBoard event files of a run, by the tensorboard package."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..errors import ConfigError


class EventFiles:
    """A callback: every figure of every epoch, at its step; a resumed run begins a file of its own."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise ConfigError('run.tensorboard: the tensorboard package is not installed. pip install "gpunet[tensorboard]"') from None
        self.folder, self.events, self.summaries, self.open = folder, event_pb2, summary_pb2, EventFileWriter
        self.writer: Any = None

    def on_train_begin(self, trainer: Any) -> None:
        self.writer = self.open(str(self.folder))
        start = self.events.SessionLog(status=self.events.SessionLog.START)
        self.writer.add_event(self.events.Event(session_log=start, step=trainer.step, wall_time=_now()))

    def on_epoch_end(self, trainer: Any, epoch: int, logs: dict[str, float]) -> None:
        figures = {**logs, "lr": trainer.lr, "rows_per_second": trainer.speed}
        values = [
            self.summaries.Summary.Value(tag=_tag(name), simple_value=value)
            for name, value in figures.items()
            if math.isfinite(value)
        ]
        summary = self.summaries.Summary(value=values)
        self.writer.add_event(self.events.Event(summary=summary, step=trainer.step, wall_time=_now()))
        self.writer.flush()

    def on_train_end(self, trainer: Any) -> None:
        self.writer.close()

    def on_train_break(self, trainer: Any) -> None:
        if self.writer is not None:
            self.writer.close()


def _now() -> float:
    import time

    return time.time()


def _tag(name: str) -> str:
    """val_loss beside loss in one chart."""
    return f"{name.removeprefix('val_')}/{'validation' if name.startswith('val_') else 'train'}"
