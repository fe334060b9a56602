"""The directory of a run: never overwritten, used by one process at a time, and whole whenever that process ends."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DivergedError, RunError

if TYPE_CHECKING:  # NumPy is not for --help
    from ..train.model import Model
    from ..train.recipe import Run

RUNS = Path("runs")
LAST, BEST = "last.ckpt", "best.gpunet"


class RunDirectory:
    """What a run leaves, written while it goes on; a callback of the trainer.

    | file          | written                                                                       |
    |---------------|-------------------------------------------------------------------------------|
    | last.ckpt     | first of all, then now and then: the whole state (train.checkpoint)           |
    | config.yaml   | at the beginning: every choice, the automatic ones too                        |
    | env.json      | at the beginning: the machine and the versions                                |
    | log.txt       | what was said                                                                 |
    | metrics.csv   | a line an epoch, the same bytes for the same run                              |
    | metrics.jsonl | a line an epoch, with the learning rate and times                             |
    | best.gpunet   | whenever the state is saved and a better epoch has come                       |
    | summary.json  | at the end                                                                    |
    | report.html   | after it, with plots/, where the packages for them are installed              |

    Files are written beside and renamed; the three that grow are appended to a line at a time, and a resumed run first
    cuts them back to the epochs that its checkpoint knows.
    """

    def __init__(self, path: Path, *, quiet: bool = False) -> None:
        self.path, self.quiet = path, quiet
        self.begun = False
        self.config: dict[str, Any] = {}
        self._unsaid: list[str] = []  # lines for log.txt, which is not the first file of a run
        self._handle = _lock(path)

    # ------------------------------------------------------------------ opening and closing

    @classmethod
    def claim(cls, wanted: Path | None, name: str, **how: Any) -> RunDirectory:
        """Make the directory of a new run: the one asked for, which must not exist, or the next runs/NAME-K."""
        return cls(_make(wanted, name), **how)

    def release(self) -> None:
        """Let go of it; an empty directory, of training that did not begin, is given back."""
        with contextlib.suppress(OSError):
            os.close(self._handle)
        with contextlib.suppress(OSError):
            if not any(self.path.iterdir()):
                self.path.rmdir()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *error: Any) -> None:
        self.release()

    # ------------------------------------------------------------------ what is said

    def say(self, line: str, *, shown: bool = True) -> None:
        """A line to stderr (not with -q) and to log.txt."""
        if shown and not self.quiet:
            print(line, file=sys.stderr, flush=True)
        self._unsaid.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        if self.begun:
            self._log()

    def _log(self) -> None:
        lines, self._unsaid = self._unsaid, []
        self._append("log.txt", "".join(lines))

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """What the library warns of is said and logged; so is what ends a run that has begun, with how to go on."""
        handler = logging.Handler()
        handler.emit = lambda record: self.say(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("gpunet")
        logger.addHandler(handler)
        try:
            yield
        except Exception as error:
            if self.begun:
                again = " --force --set optimizer.lr=..." if isinstance(error, DivergedError) else ""
                with contextlib.suppress(RunError):  # of a full disk there is nothing to log on
                    self.say(f"error: {error}", shown=False)
                    self.say(f"{self.path}/{LAST} has the state before it: gpunet-train resume {self.path}{again}")
            raise
        finally:
            logger.removeHandler(handler)

    # ------------------------------------------------------------------ the moments of training

    def on_train_begin(self, trainer: Any) -> None:
        """The checkpoint of step 0 is there already."""
        from ..devices.environment import env
        from .config import to_yaml

        self.begun = True
        for stale in self.path.glob(".*.part"):  # of a process that was killed while it wrote
            stale.unlink(missing_ok=True)
        self.put("config.yaml", to_yaml(self.config))
        self.put("env.json", json.dumps(env().to_dict(), indent=1) + "\n")
        self._cut_back(trainer)
        self._log()

    def _cut_back(self, trainer: Any) -> None:
        history = trainer.history
        if not history.epochs and not (self.path / "metrics.csv").exists():
            return
        rows = "".join(_row(epoch, history.at(epoch)) for epoch in range(1, history.epochs + 1))
        self.put("metrics.csv", (_head(history) + rows) if history else "")
        told = dict(_told(self.path / "metrics.jsonl"))
        lines = [told.get(n) or to_json({"epoch": n, **history.at(n)}) for n in range(1, history.epochs + 1)]
        self.put("metrics.jsonl", "".join(f"{line}\n" for line in lines))

    def on_epoch_end(self, trainer: Any, epoch: int, logs: dict[str, float]) -> None:
        from ..train.callbacks import figures

        self._append("metrics.csv", (_head(logs) if epoch == 1 else "") + _row(epoch, logs))
        about = {
            "epoch": epoch, **logs, "step": trainer.step, "lr": trainer.lr, "seconds": round(trainer.seconds, 3),
            "rows_per_second": round(trainer.speed), "best": trainer.best_epoch == epoch,
        }  # fmt: skip
        self._append("metrics.jsonl", to_json(about) + "\n")
        star = " *" if trainer.best_epoch == epoch else ""
        self.say(f"epoch {epoch}/{trainer.epochs}  {figures(logs)}{star}", shown=False)

    def keep_best(self, model: Model) -> None:
        with self._writing(BEST):
            model.save(self.path / BEST)

    def finish(self, run: Run) -> dict[str, Any]:
        """The model, scored, and the summary, which is returned."""
        self.keep_best(run.model)
        found = summary(run, self.path / BEST)
        self.put("summary.json", to_json(found, indent=1) + "\n")
        return found

    def draw(self, run: Run) -> Path | None:
        """plots/ and report.html, which is returned; None, and why in log.txt, where there can be none."""
        from ..errors import GpunetError
        from .plot import write_report

        try:
            with self._writing("report.html"):
                return write_report(run, self.path, tell=lambda line: self.say(line, shown=False))
        except GpunetError as error:  # the run is whole without it
            self.say(f"no report.html: {error}")
            return None

    # ------------------------------------------------------------------ writing

    def put(self, name: str, content: str) -> None:
        """A file that appears whole."""
        from ..data.files import write_whole

        with self._writing(name):
            write_whole(self.path / name, content.encode(), sync=False)

    def _append(self, name: str, lines: str) -> None:
        with self._writing(name), open(self.path / name, "ab", buffering=0) as file:
            file.write(lines.encode())

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            from ..train.checkpoint import not_written

            raise not_written(self.path / name, error) from error


def _make(wanted: Path | None, name: str) -> Path:
    if wanted is not None:
        try:
            wanted.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(
                f"--out {wanted}: exists already, and a run is never overwritten. Give another name, or go on with it: "
                f"gpunet-train resume {wanted}"
            ) from None
        return wanted
    stem = re.sub(r"[^\w.-]+", "-", Path(name).name.split(".")[0]).strip("-") or "run"
    for k in range(1, 1_000_000):
        directory = RUNS / f"{stem}-{k}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        return directory
    raise ConfigError(f"{RUNS}/{stem}-1 to -999999 exist; give --out DIR")


def _lock(path: Path) -> int:
    """A lock on the directory itself: no file is left behind, and it ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # no POSIX
        return -1
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path}: no such run directory") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise RunError(f"{path}: another process is using this run. Wait for it, or stop it with Ctrl-C") from None
    except OSError:  # a file system without locks
        print(f"note: {path}: this file system has no locks; see that no other process uses this run", file=sys.stderr)
    return handle


def newest() -> Path:
    """The run whose state was saved last, of those under runs/."""
    found = sorted((p.stat().st_mtime_ns, p.parent) for p in RUNS.glob(f"*/{LAST}"))
    if not found:
        raise ConfigError(f"no run to resume: there is no {RUNS}/*/{LAST} here. Give its directory: gpunet-train resume RUN")
    return found[-1][1]


# ---------------------------------------------------------------- what the files say


def summary(run: Run, model: Path) -> dict[str, Any]:
    """The results, with stable keys; what --json prints."""
    best = run.history.at(run.history.best_epoch) if run.history.best_epoch else {}
    return {
        "model": str(model),
        **{f"test.{name}": value for name, value in run.test.items()},
        **{f"best.{name}": value for name, value in best.items()},
        **run.history.info(),
        "seconds": run.seconds,
    }


def to_json(found: Any, *, indent: int | None = None) -> str:
    """JSON has no NaN and no infinity: what cannot be told is null."""
    return json.dumps(_known(found), indent=indent)


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _head(logs: dict[str, Any]) -> str:
    return ",".join(["epoch", *map(_cell, logs)]) + "\n"


def _row(epoch: int, logs: dict[str, float]) -> str:
    return ",".join([str(epoch), *map(repr, logs.values())]) + "\n"


def _cell(name: str) -> str:
    return f'"{name}"' if "," in name else name


def _told(path: Path) -> Iterator[tuple[int, str]]:
    """(epoch, line) of a metrics.jsonl, whose last line may be torn."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield int(json.loads(line)["epoch"]), line
        except (ValueError, KeyError, TypeError):
            continue
