"""Several nets trained at the same time: on a CPU, one thread for each is worth more than all threads for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from .trainer import Trainer


def train_together(trainers: Sequence[Trainer], fit: Callable[[int], Any], *, at_a_time: int | None = None) -> None:
    """Call fit(i), which trains trainers[i], for every i; the bits are those of one after the other.

    Args:
        at_a_time: how many at a time; by default as many as the CPU may use threads, and one on another device
            or without the C++ kernels.

    Raises:
        What the first fit to fail raises; the others end after their step.
    """
    several = min(len(trainers), at_a_time or concurrency(trainers))
    if several < 2:
        for i in range(len(trainers)):
            fit(i)
        return
    with ThreadPoolExecutor(several) as pool:
        futures = [pool.submit(fit, i) for i in range(len(trainers))]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = next((f for f in futures if f.done() and f.exception() is not None), None)
            if failed is not None:
                failed.result()
        except BaseException:  # Ctrl-C too: it reaches the thread that waits
            for future in futures:
                future.cancel()
            for trainer in trainers:
                trainer.stop("interrupted")
            raise


def concurrency(trainers: Sequence[Trainer]) -> int:
    """How many nets are worth training at a time."""
    if not all(trainer.device.kind == "cpu" and trainer.device.native is not None for trainer in trainers):
        return 1
    return min(len(trainers), int(trainers[0].device.native.threads()))
