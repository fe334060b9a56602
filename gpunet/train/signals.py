"""Ctrl-C and SIGTERM while a net is trained."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ASKED_TO_END = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@contextmanager
def interruptible(trainer: Any, terminable: bool) -> Iterator[None]:
    """Ctrl-C (and SIGTERM, where the state is kept) is served between steps; a second signal at once, by who had it before.

    Only the main thread can catch signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, frame: Any) -> None:
        trainer.stop(ASKED_TO_END[signal.Signals(number)])
        give_back()

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in ASKED_TO_END if number == signal.SIGINT or terminable}
    try:
        for number in before:
            signal.signal(number, asked)
        yield
    finally:
        give_back()
    if trainer._stop == "terminated" and before.get(signal.SIGTERM) is signal.SIG_DFL:
        signal.raise_signal(signal.SIGTERM)  # all is saved: the process ends as it was told to
