"""The directory of a run: never overwritten, each file written beside and renamed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError

if TYPE_CHECKING:  # NumPy is not for --help
    from ..train.recipe import Run


def claim(wanted: Path | None, name: str) -> Path:
    """Make the directory of a new run: the one asked for, which must not exist, or the next runs/NAME-K."""
    if wanted is not None:
        try:
            wanted.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(
                f"--out {wanted}: exists already, and a run is never overwritten. Give another name"
            ) from None
        return wanted
    stem = re.sub(r"[^\w.-]+", "-", Path(name).name.split(".")[0]).strip("-") or "run"
    for k in range(1, 1_000_000):
        directory = Path("runs") / f"{stem}-{k}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        return directory
    raise ConfigError(f"runs/{stem}-1 to -999999 exist; give --out DIR")


def release(directory: Path) -> None:
    """Give an empty directory back when training did not begin or broke off."""
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()


def write(directory: Path, run: Run) -> Path:
    """The run's files; returns the path of the model."""
    from ..devices.environment import env

    model = run.model.save(directory / "best.gpunet")
    _put(directory / "metrics.csv", _metrics(run))
    _put(directory / "env.json", json.dumps(env().to_dict(), indent=1) + "\n")
    _put(directory / "summary.json", to_json(summary(run, model), indent=1) + "\n")
    return model


def summary(run: Run, model: Path) -> dict[str, Any]:
    """The results, with stable keys; what --json prints."""
    return {
        "model": str(model),
        **{f"test.{name}": value for name, value in run.test.items()},
        **{
            f"best.{name}": value
            for name, value in run.history.at(run.history.best_epoch).items()
            if run.history.best_epoch
        },
        **run.history.info(),
        "seconds": run.seconds,
    }


def to_json(found: dict[str, Any], *, indent: int | None = None) -> str:
    """JSON has no NaN: what cannot be told is null."""
    return json.dumps({name: None if value != value else value for name, value in found.items()}, indent=indent)


def _metrics(run: Run) -> str:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["epoch", *run.history])
    for epoch in range(1, run.history.epochs + 1):
        lines.writerow([epoch, *map(repr, run.history.at(epoch).values())])
    return text.getvalue()


def _put(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
