#!/usr/bin/env python
"""Kills gpunet-train by SIGKILL at random moments and resumes it, and compares with the run that nobody killed.

    python scripts/kill_test.py --moments 200                  # all optimizers and schedules, CPU and emulated CUDA
    python scripts/kill_test.py --moments 20 --only "lion" --devices cpu

Every run is cut off again and again, each time at a moment drawn after its first checkpoint, until it has ended. Then
best.gpunet and metrics.csv must be the same bytes as those of the run never interrupted. How many kills fell into training,
validation and saving is printed. Exit code 1 if any bit differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WORKER = ROOT / "tests" / "killable.py"
SCHEDULES = ("constant", "step:0.3", "cosine", "one_cycle", "warmup:10,cosine", "plateau:1", "coslog4", "flat_cos")
# fmt: off
NETS = {
    "sgd":  ("--optimizer", "sgd", "--lr", "0.05"),
    "adam": ("--optimizer", "adam", "--lr", "0.003"),
    "lion": ("--optimizer", "lion", "--lr", "0.0005", "--dropout", "0.2"),
}
# fmt: on
COMPARED = ("best.gpunet", "metrics.csv")
PHASES = {"t": "training", "v": "validation", "s": "saving the state", "m": "writing other files", "-": "elsewhere"}


class Case(NamedTuple):
    name: str
    words: tuple[str, ...]
    device: str


def cases(devices: list[str], only: str) -> list[Case]:
    made = [
        Case(f"{net} {schedule} {device}", (*words, "--schedule", schedule), device)
        for device in devices for net, words in NETS.items() for schedule in SCHEDULES
    ]  # fmt: skip
    return [case for case in made if only in case.name]


def table(path: Path, rows: int = 600) -> Path:
    draw = random.Random(4)
    lines = ["a,b,c,y"]
    for _ in range(rows):
        a, b, c = (draw.gauss(0, 1) for _ in range(3))
        lines.append(f"{a:.4f},{b:.4f},{draw.choice(['red', 'green'])},{'u' if a * b + c > 0 else 'v'}")
    path.write_text("\n".join(lines) + "\n")
    return path


class Bench:
    """Runs in a folder; counts the kills by what the process was doing."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw, self.kills = folder, random.Random(seed), Counter[str]()
        self.phase = folder / "phase"
        self.phase.write_bytes(b"-")
        self.data = table(folder / "data.csv")
        self.emulated = False

    def start(self, *words: object) -> subprocess.Popen[bytes]:
        emulated = {"GPUNET_TEST_EMULATE": "1"} if self.emulated else {}
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, str(WORKER), str(self.phase), *map(str, words), "-q"], cwd=self.folder,
            env={**os.environ, **emulated, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def words(self, case: Case, out: Path, epochs: int) -> tuple[object, ...]:
        device = "cuda:0" if case.device == "emulated" else case.device
        return (
            self.data, "--target", "y", "--hidden", "16,8", "--epochs", epochs, "--batch-size", 32, "--validation", "0.3",
            "--device", device, "--checkpoint-every", 0, "--no-report", "--out", out, *case.words,
        )  # fmt: skip

    def whole(self, case: Case, out: Path, epochs: int) -> float:
        """The run never interrupted; the seconds from its first checkpoint on."""
        process = self.start(*self.words(case, out, epochs))
        began = self.until_first_checkpoint(process, out)
        self.ended(process)
        return time.monotonic() - began

    def until_first_checkpoint(self, process: subprocess.Popen[bytes], out: Path, before: int = 0) -> float:
        last = out / "last.ckpt"
        while process.poll() is None:
            if last.exists() and last.stat().st_mtime_ns > before:
                break
            time.sleep(0.001)
        return time.monotonic()

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        err = process.communicate(timeout=600)[1]
        if process.returncode:
            raise SystemExit(f"ended with {process.returncode}:\n{err.decode()}")

    def killed(self, case: Case, out: Path, epochs: int, seconds: float, most: int) -> int:
        """The same run, killed until it has ended or been killed `most` times; how often it was."""
        kills, words = 0, self.words(case, out, epochs)
        while True:
            before = (out / "last.ckpt").stat().st_mtime_ns if (out / "last.ckpt").exists() else 0
            process = self.start(*words)
            if kills < most:
                began = self.until_first_checkpoint(process, out, before)
                # now and then right away: a run that makes no headway would never end
                time.sleep(max(0.0, began + self.draw.uniform(0, 1.3 * seconds / most) - time.monotonic()))
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    kills += 1
                    self.kills[self.phase.read_bytes().decode()] += 1
                    process.stderr.close() if process.stderr else None
                    words = ("resume", out)
                    continue
            self.ended(process)
            return kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=200, help="kills in all, shared among the cases")
    parser.add_argument("--devices", default="cpu,emulated", help="cpu, emulated or both")
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--epochs", type=int, default=0, help="of each run; by default 60 on the CPU, 6 emulated")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chosen = cases(given.devices.split(","), given.only)
    each = -(-given.moments // len(chosen))
    differing, total = [], 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.seed)
        for i, case in enumerate(chosen):
            bench.emulated = case.device == "emulated"
            epochs = given.epochs or (60 if case.device == "cpu" else 6)
            whole, cut = Path(folder, f"whole{i}"), Path(folder, f"cut{i}")
            seconds = bench.whole(case, whole, epochs)
            kills = bench.killed(case, cut, epochs, seconds, each)
            total += kills
            odd = [name for name in COMPARED if (whole / name).read_bytes() != (cut / name).read_bytes()]
            differing += [(case.name, name) for name in odd]
            print(f"{case.name:32} {kills:3} kills  {'DIFFERS: ' + ', '.join(odd) if odd else 'the same bits'}", flush=True)
    where = ", ".join(f"{n} in {PHASES.get(p, p)}" for p, n in bench.kills.most_common())
    print(f"{total} kills in {len(chosen)} runs: {where}. {len(differing)} files differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
