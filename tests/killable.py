"""gpunet-train for the kill test: saves after every chunk, keeps its chunks short, and tells where it is.

    python killable.py PHASE_FILE WORDS ...

One letter in PHASE_FILE says what a process that was killed was doing: t(raining), v(alidating), s(aving), m(etrics and
other files), or "-" for anything else. With GPUNET_TEST_EMULATE=1, device cuda:0 is the emulated one.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from typing import Any

from gpunet.cli import main, rundir
from gpunet.devices import select
from gpunet.train import checkpoint, trainer


def telling(place: mmap.mmap, letter: bytes, work: Callable[..., Any]) -> Callable[..., Any]:
    def told(*args: Any, **settings: Any) -> Any:
        before, place[0:1] = place[0:1], letter
        try:
            return work(*args, **settings)
        finally:
            place[0:1] = before

    return told


def prepare(phase_file: str) -> None:
    with open(phase_file, "r+b") as file:
        place = mmap.mmap(file.fileno(), 1)
    place[0:1] = b"-"
    checkpoint.SHARE = float("inf")  # saving may take all the time there is
    trainer.CHUNK_SECONDS = 0.002
    for owner, name, letter in (
        (checkpoint, "write", b"s"), (trainer.Trainer, "_run_chunk", b"t"), (trainer.Trainer, "_validate", b"v"),
        (trainer.Trainer, "_measure", b"v"), (rundir.RunDirectory, "put", b"m"), (rundir.RunDirectory, "_append", b"m"),
        (rundir.RunDirectory, "keep_best", b"m"),
    ):  # fmt: skip
        setattr(owner, name, telling(place, letter, getattr(owner, name)))


def emulate() -> None:
    from conftest import emulated_cuda

    select._opened["cuda:0"] = emulated_cuda()


if __name__ == "__main__":
    if os.environ.get("GPUNET_TEST_EMULATE"):
        emulate()
    prepare(sys.argv[1])
    main.main(sys.argv[2:])
