#!/usr/bin/env python
"""Checks the CUDA path on a GPU and times it; scripts/gpu_check.sh installs what it needs and calls it.

    python scripts/gpu_check.py --data path/to/mnist --json gpu-check.json --log gpu-check.log

Each check is passed, failed or skipped with its reason. The exit code is 1 if one failed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpunet import Trainer, losses, nn, ops, optim, tensor
from gpunet.data import digits, read
from gpunet.devices import Device, environment
from gpunet.devices import device as open_device
from gpunet.errors import DeviceError
from gpunet.graph.compile import Compiled
from gpunet.graph.program import Program
from gpunet.train import trainer as training
from gpunet.train.recipe import Recipe, train
from gpunet.train.together import train_together

ROOT = Path(__file__).resolve().parent.parent
FIRST, BATCH = 20, 32  # steps whose losses are compared, rows in each
LOSSES_AGREE, ACCURACIES_AGREE = 1e-5, 0.002
SANITIZER, SANITIZER_SECONDS = ("memcheck", "racecheck", "initcheck"), 60
MNIST_ACCURACY = 0.978  # of a net of two hidden layers, on the 10,000 test rows
# fmt: off
TIMED = {  # widths, batch
    "digits":  ((64, 32, 10), 32),
    "small":   ((64, 128, 128, 10), 64),
    "mnist":   ((784, 256, 128, 10), 128),
    "tabular": ((54, 256, 256, 256, 7), 256),
    "wide":    ((784, 1024, 1024, 10), 512),
}
# fmt: on
TIMED_STEPS = 2000


class Skip(Exception):
    """Why a check cannot be made here."""


class StepLosses:
    def __init__(self) -> None:
        self.sums = [0.0]

    def on_chunk_end(self, trainer: Trainer, step: int) -> None:
        self.sums.append(trainer._total.item())


def make(device: Device, *, compile: bool = True) -> Trainer:
    net = nn.MLP(64, 32, 10, activation="gelu", dropout=0.1)
    return Trainer(net, losses.cross_entropy, optim.AdamW(lr=2e-3, clip_norm=1.0), device=device, seed=0, compile=compile)


def first_losses(device: Device, **how: Any) -> Any:
    """The loss of each of the first steps, one step a chunk."""
    data, seen, chunk = digits(), StepLosses(), training.CHUNK_SECONDS
    rows = FIRST * BATCH
    training.CHUNK_SECONDS = 1e-9
    try:
        make(device, **how).fit(
            (data.x[:rows] / 16, data.y[:rows]), epochs=1, batch_size=BATCH, show_progress=False, callbacks=[seen]
        )
    finally:
        training.CHUNK_SECONDS = chunk
    return np.diff(seen.sums) / BATCH


def trained(device: Device, *, epochs: int, rows: int | None = None) -> tuple[Any, float]:
    """The weights and the last accuracy on a fifth of the digits."""
    data, trainer = digits(), make(device)
    history = trainer.fit(
        (data.x[:rows] / 16, data.y[:rows]), validation=0.2, epochs=epochs, batch_size=BATCH, show_progress=False,
        restore_best=False,
    )  # fmt: skip
    return np.concatenate([a.ravel() for a in trainer.model.state_dict().values()]), history["val_accuracy"][-1]


# ---------------------------------------------------------------- checks: each gives its figures, or raises


def curves_agree(device: Device) -> dict[str, Any]:
    """The first losses as the CPU's, and the captured step's as those of eager ops."""
    cpu, captured, eager = first_losses(open_device("cpu")), first_losses(device), first_losses(device, compile=False)
    off = {
        "from_cpu": float(np.max(np.abs(captured - cpu) / np.abs(cpu))),
        "from_eager": float(np.max(np.abs(captured - eager) / np.abs(eager))),
    }
    assert max(off.values()) <= LOSSES_AGREE, f"the first {FIRST} losses are off by {off}"
    return off


def same_bits_twice(device: Device, *, epochs: int = 3, rows: int | None = None) -> dict[str, Any]:
    first, second = (trained(device, epochs=epochs, rows=rows)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes(), "two runs from one seed have other bits"
    return {"weights": int(first.size)}


def accuracies_agree(device: Device) -> dict[str, Any]:
    found = {"cuda": trained(device, epochs=20)[1], "cpu": trained(open_device("cpu"), epochs=20)[1]}
    assert abs(found["cuda"] - found["cpu"]) <= ACCURACIES_AGREE, f"the accuracies are {found}"
    return found


def captured_is_uncaptured(device: Device, *, rows: int | None = None) -> dict[str, Any]:
    """The program's launches, captured and replayed or asked for one by one from Python: bit by bit the same weights."""
    captured = trained(device, epochs=2, rows=rows)[0]
    executor = Compiled._executor
    Compiled._executor = lambda self, device: Program  # type: ignore[method-assign]
    try:
        uncaptured = trained(device, epochs=2, rows=rows)[0]
    finally:
        Compiled._executor = executor  # type: ignore[method-assign]
    assert captured.tobytes() == uncaptured.tobytes(), "capturing the program changes bits"
    return {"weights": int(captured.size)}


def mnist(device: Device, folder: Path | None, *, epochs: int = 15) -> dict[str, Any]:
    if folder is None:
        raise Skip("no MNIST: --data FOLDER with its four files")
    recipe = Recipe(hidden=(256, 128), epochs=epochs, device=device.name)
    done = train(read(folder), recipe=recipe, show_progress=False)
    found = {"accuracy": done.test["accuracy"], "seconds": round(done.history.seconds, 2)}
    assert found["accuracy"] >= MNIST_ACCURACY, f"{found}, and {MNIST_ACCURACY} is wanted"
    return found


def timings(device: Device, *, steps: int = TIMED_STEPS) -> dict[str, Any]:
    """Microseconds a step of the last epoch (Adam, float32), the gather of its rows included."""
    return {name: round(time_step(device, *work, steps=steps), 2) for name, work in TIMED.items()}


def time_step(device: Device, widths: tuple[int, ...], batch: int, *, steps: int) -> float:
    random, rows = np.random.default_rng(0), batch * steps
    x = np.resize(random.normal(size=(64 * batch, widths[0])).astype(np.float32), (rows, widths[0]))
    y = random.integers(0, widths[-1], rows)
    trainer = Trainer(nn.MLP(*widths), losses.cross_entropy, optim.Adam(lr=1e-4), device=device, seed=0, metrics=[])
    trainer.fit((x, y), epochs=3, batch_size=batch, show_progress=False, restore_best=False)
    return 1e6 * batch / trainer.speed


def tests() -> dict[str, Any]:
    """All of them, the rows of the CUDA device among them."""
    workers = ["-n", str(min(13, os.cpu_count() or 1)), "--dist", "worksteal", "-p", "no:benchmark"]
    shared = workers if importlib.util.find_spec("xdist") else []
    return run([sys.executable, "-m", "pytest", "-q", "-rs", *shared, str(ROOT / "tests")])


def exercise(device: Device) -> None:
    """What compute-sanitizer watches: a captured step of every layer and optimizer and of the usual losses, one of three
    nets by the same launches, eager ops at odd sizes, an evaluation. Small, for each access is checked: it takes seconds
    without the sanitizer."""
    random = np.random.default_rng(0)
    x, codes = random.normal(size=(66, 13)).astype(np.float32), random.integers(0, 9, (66, 3))
    classes, weights, values = random.integers(0, 5, 66), random.random(66), random.normal(size=(66, 5)).astype(np.float32)
    table = nn.Sequential(nn.Embedding(9, 5), nn.Flatten(), nn.Linear(15, 5))
    work: list[tuple[nn.Module, Any, Any, str, str]] = [
        (nn.MLP(13, 17, 33, 5, activation="gelu", norm="layer", dropout=0.2), x, classes, "cross_entropy", "adamw"),
        (nn.MLP(13, 17, 5, activation="tanh", norm="batch"), x, classes, "cross_entropy", "nadam"),
        (nn.MLP(13, 17, 5, activation="relu"), x.view(np.uint8)[:, :13], classes, "hinge", "rmsprop"),
        (nn.Sequential(nn.Maxout(13, 9), nn.SiLU(), nn.Linear(9, 5)), x, values, "huber", "sgd"),
        (nn.MLP(13, 17, 5, activation="selu"), x, values, "mse", "lion"),
        (table, codes, values, "mae", "adagrad"),
        (nn.Sequential(nn.PeriodicEmbedding(13, frequencies=5, width=3), nn.Linear(39, 5)), x, values, "mse", "adam"),
    ]
    for net, rows, targets, loss, rule in work:
        recipe = optim.get(rule)(lr=1e-3, clip_norm=1.0, clip_value=0.5, schedule="cosine")
        data = (rows, targets, weights) if loss == "hinge" else (rows, targets)
        Trainer(net, loss, recipe, device=device, seed=0).fit(
            data, validation=0.3, epochs=2, batch_size=16, accumulate=2, average=0.9, show_progress=False
        )
    several = [Trainer(nn.MLP(13, 17, 5, norm="layer", dropout=0.1), "cross_entropy", device=device, seed=i) for i in range(3)]
    train_together(several, lambda i: several[i].fit((x, classes), epochs=2, batch_size=16, show_progress=False), at_a_time=3)
    a, b = (tensor(random.normal(size=(7, 1023)), device=device, requires_grad=True) for _ in "ab")
    made = ops.where(a > b, ops.sin(a) * b, ops.clip(b, low=-1.0, high=1.0)) + ops.erf(a) / (1.0 + ops.square(b))
    picked = ops.pad(ops.softmax(made)[1:, ::3], widths=((1, 2), (0, 3)))
    ops.one_hot(tensor(classes, device=device), n=5)
    stack = [tensor(random.normal(size=s), device=device, requires_grad=True) for s in ((3, 7, 5), (3, 5, 9), (3, 9))]
    ops.sum(ops.linear(*stack, act="tanh")).backward()
    ops.copy(ops.transpose(stack[0], axes=(1, 0, 2)))
    ops.sum(ops.softmax_cross_entropy(a, tensor(classes[:7], device=device))).backward()
    ops.sum(ops.concat([picked, ops.log(1.0 + ops.exp(picked))], axis=1)).backward()
    device.synchronize()


def sanitized(tool: str, device: Device) -> dict[str, Any]:
    """`exercise` under compute-sanitizer, once its kernels are compiled and in CuPy's cache."""
    if shutil.which("compute-sanitizer") is None:
        raise Skip("compute-sanitizer is not on the path (it comes with the CUDA toolkit)")
    exercise(device)
    watched = [sys.executable, str(Path(__file__).resolve()), "--exercise", "--device", device.name]
    return run(["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", *watched], timeout=SANITIZER_SECONDS)


def run(command: list[str], timeout: float | None = None) -> dict[str, Any]:
    how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": timeout}
    done = subprocess.run(command, cwd=ROOT, **how)
    print(done.stdout, flush=True)
    said = done.stdout.strip().splitlines() or [""]
    if "not supported" in done.stdout and command[0] == "compute-sanitizer":
        raise Skip(f"this machine's runtime does not admit compute-sanitizer: {said[-1]}")
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {said[-1]}"
    return {"summary": said[-1]}


# ---------------------------------------------------------------- the report


def checks(device: Device, data: Path | None) -> dict[str, Callable[[], dict[str, Any]]]:
    return {
        "tests": tests,
        **{tool: lambda tool=tool: sanitized(tool, device) for tool in SANITIZER},  # type: ignore[misc]
        "first losses": lambda: curves_agree(device),
        "same bits twice": lambda: same_bits_twice(device),
        "captured is uncaptured": lambda: captured_is_uncaptured(device),
        "accuracies": lambda: accuracies_agree(device),
        "mnist": lambda: mnist(device, data),
        "microseconds a step": lambda: timings(device),
    }


def outcome(name: str, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    print(f"== {name}", flush=True)
    began = time.perf_counter()
    try:
        found: dict[str, Any] = {"outcome": "passed", "found": check()}
    except Skip as why:
        found = {"outcome": "skipped", "reason": str(why)}
    except Exception as error:  # the others are made all the same
        found = {"outcome": "failed", "reason": f"{type(error).__name__}: {error}"}
    found["seconds"] = round(time.perf_counter() - began, 1)
    print(f"{found['outcome']}: {found.get('reason', found.get('found'))}", flush=True)
    return found


def report(device: Device, made: dict[str, Any]) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.platform(),
        "device": device.description,
        "environment": environment.env().to_dict(),
        "checks": made,
    }


class Both:
    """What is printed goes to the log too."""

    def __init__(self, *files: Any) -> None:
        self.files = files

    def write(self, text: str) -> int:
        for file in self.files:
            file.write(text)
        return len(text)

    def flush(self) -> None:
        for file in self.files:
            file.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with MNIST's four files")
    parser.add_argument("--exercise", action="store_true", help="only run what compute-sanitizer is to watch")
    parser.add_argument("--only", help="names of checks, separated by commas")
    parser.add_argument("--json", type=Path, default=Path("gpu-check.json"))
    parser.add_argument("--log", type=Path, default=Path("gpu-check.log"))
    given = parser.parse_args()
    device = open_device(given.device)
    if given.exercise:
        exercise(device)
        return 0
    wanted = checks(device, given.data)
    chosen = given.only.split(",") if given.only else list(wanted)
    with given.log.open("w") as log:
        sys.stdout = Both(sys.__stdout__, log)  # type: ignore[assignment]
        print(environment.env())
        made = {name: outcome(name, wanted[name]) for name in chosen}
        sys.stdout = sys.__stdout__
    given.json.write_text(json.dumps(report(device, made), indent=2) + "\n")
    return int(any(found["outcome"] == "failed" for found in made.values()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DeviceError as error:
        sys.exit(f"gpu_check: {error}")
