"""Everything a training run's next step depends on, in one file, so that an interrupted run goes on with the same bits.

Parameters, the optimizer's memory and counters, the place in the schedule, in the epoch and in the random streams (which
are counters, and among the model's states), the best weights so far, how long patience has waited, the sums of metrics,
the micro-batches of a step as they were halved where memory ran out, the algorithms that autotune chose, and what all of
this was made with: the data's fingerprint, the options, the code and the machine.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..devices import Device
from ..devices.sources import PACKAGE
from ..errors import ConfigError, FormatError, RunError
from . import archive
from .callbacks import Callback, Logs

FORMAT = 1
EVERY = 10.0  # seconds between two checkpoints, at least
SHARE = 0.01  # of the time that saving may take, at most
NOT_NUMERIC = ("cli", "viz", "export")  # folders without influence on a bit of the weights


class Checkpoint(Callback):
    """Saves the trainer that calls it to `path`: before the first step, then now and then, and when training ends or fails.

        Trainer(net, ...).fit(data, checkpoint="run.ckpt", resume=True)

    Args:
        every: seconds between two, at least; more where saving would take over 1 % of the time.
        about: JSON to keep beside the state, such as the configuration of the run.
        made_with: JSON that must be the same when the run is resumed, beside what the trainer knows of.
        also: called with the trainer after each save, in the same interval: what else is to be safe by then.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, every: float = EVERY, about: Mapping[str, Any] | None = None,
        made_with: Mapping[str, Any] | None = None, also: Any = None,
    ) -> None:  # fmt: skip
        self.path, self.every, self.also = Path(path), float(every), also
        self.about, self.made_with = dict(about or {}), dict(made_with or {})
        self.due = 0.0

    def on_chunk_end(self, trainer: Any, step: int) -> None:
        if time.monotonic() >= self.due:  # a clock that nobody can set back
            self.save(trainer)

    def on_epoch_end(self, trainer: Any, epoch: int, logs: Logs) -> None:
        if epoch == trainer.epochs or trainer.stopping or time.monotonic() >= self.due:
            self.save(trainer)

    def on_train_break(self, trainer: Any) -> None:
        if trainer.whole:
            self.save(trainer)

    def save(self, trainer: Any) -> None:
        began = time.monotonic()
        try:
            write(self.path, trainer.state_dict(), about=self.about)
        except OSError as error:
            raise not_written(self.path, error) from error
        if self.also is not None:
            self.also(trainer)
        ended = time.monotonic()
        self.due = ended + max(self.every, (ended - began) / SHARE)


def not_written(path: Path, error: OSError) -> RunError:
    """What to tell about a file of a run that the disk did not take."""
    kept = "The one before is whole; w" if path.exists() else "W"
    saved = f"{kept}hat was saved can be resumed" if any(path.parent.glob("*.ckpt")) else "Nothing was saved before"
    return RunError(f"{path}: cannot be written ({error.strerror or error}). {saved}")


# ---------------------------------------------------------------- the file


def write(path: Path, state: Mapping[str, Any], *, about: Mapping[str, Any]) -> None:
    tensors = dict(_arrays(state))
    archive.write(path, {"format": FORMAT, "kind": "checkpoint", "state": _plain(state), "about": dict(about)}, tensors)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the trainer's state, what was kept beside it).

    Raises:
        FormatError: there is no such file, or it is no checkpoint, or not a whole one.
    """
    file = Path(path)
    if not file.is_file():
        raise FormatError(f"{file}: no such checkpoint. A run has one from its first second on, as RUN/last.ckpt")
    found, tensors = archive.read(file, kind="checkpoint", newest=FORMAT)
    if found.get("kind") != "checkpoint" or not isinstance(found.get("state"), dict):
        raise FormatError(f"{file}: not a gpunet checkpoint, which is a run's last.ckpt")
    try:
        for name, value in tensors.items():
            *folders, leaf = name.split("/")
            functools.reduce(dict.__getitem__, folders, found["state"])[leaf] = value
        return found["state"], dict(found["about"])
    except archive.MALFORMED as error:
        raise FormatError(f"{file}: the description inside does not make a checkpoint ({error})") from None


def _arrays(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """The arrays of nested dicts, by path."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _arrays(value, f"{path}{name}/")
        elif isinstance(value, np.ndarray):
            yield f"{path}{name}", value


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of them, which is JSON."""
    return {
        name: _plain(value) if isinstance(value, Mapping) else value
        for name, value in tree.items()
        if not isinstance(value, np.ndarray)
    }


# ---------------------------------------------------------------- what a run's bits depend on


def fingerprint(*arrays: npt.NDArray[Any] | None) -> str:
    """32 hexadecimal digits of the arrays' types, shapes and content."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.dtype.str}{array.shape}".encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@functools.cache
def code_version() -> str:
    """gpunet's version, and eight digits of the sources that are running."""
    digest = hashlib.blake2b(digest_size=4)
    for file in sorted(PACKAGE.rglob("*")):
        inside = file.relative_to(PACKAGE)
        if file.suffix in (".py", ".so", ".cu", ".h") and inside.parts[0] not in NOT_NUMERIC:
            digest.update(f"{inside}\0".encode() + file.read_bytes())
    return f"{__version__}+{digest.hexdigest()}"


def machine(device: Device) -> dict[str, str]:
    """What decides how numbers are rounded here; threads do not."""
    kernels = (
        device.native.isa() if device.native is not None else "numpy" if device.kind == "cpu" else device.description
    )
    return {"device": device.kind, "kernels": kernels, "processor": platform.machine(), "numpy": np.__version__}


def differences(saved: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """What is no longer as it was, one line each: "options.epochs: was 10, is 20"."""
    found = []
    for name in [*saved, *(n for n in now if n not in saved)]:
        was, is_ = saved.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(is_, Mapping):
            found += differences(was, is_, f"{path}{name}.")
        elif was != is_ and not (was != was and is_ != is_):
            found.append(f"{path}{name}: was {was}, is {is_}")
    return found


def check_same(path: Path, saved: Mapping[str, Any], now: Mapping[str, Any], *, force: bool) -> list[str]:
    """The differences; a ConfigError unless there are none or `force` says to go on with them."""
    found = differences(saved, now)
    if found and not force:
        changed = "\n  ".join(found)
        raise ConfigError(
            f"{path}: not the same run any more, so the result would not be that of the run never interrupted:\n"
            f'  {changed}\nGo on all the same with --force (fit: resume="force"), or start a new run'
        )
    return found
