"""What CONTRIBUTING.md says a new activation takes is done in a copy of the sources, and is enough, the GPU included."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fibers
import pytest

import gpunet

HERE = Path(__file__).parent
GUIDE = HERE.parent / "CONTRIBUTING.md"
MOST_FILES, MOST_LINES = 4, 14  # 10 that are new, 4 that make it known

if not GUIDE.is_file():
    pytest.skip("CONTRIBUTING.md is not beside these tests", allow_module_level=True)

TRIED = """
import fibers, numpy as np
from gpunet import Trainer, check_grads, losses, nn, ops, tensor
from gpunet.devices import sources

x = np.float32([-np.inf, -3, -1, -0.0, 0.5, 2, 7, np.inf, np.nan])
expected = np.float32([-1, -0.75, -0.5, 0, 1 / 3, 2 / 3, 0.875, 1, np.nan])
np.testing.assert_allclose(nn.Softsign()(x).numpy(), expected, rtol=1e-6)
check_grads(lambda t: ops.activate(t, "softsign"), [tensor(np.float64([-3, -1, 0.5, 2]), requires_grad=True)])

kernels = fibers.library(sources.find("activations.cu"))  # as CUDA runs them, one fiber a thread
def run(name, *arrays):
    out, go = np.full_like(x, 9), np.int64([1, 0, 0, 0])
    args = (out, *arrays, np.int64(x.size), np.float32(0), go)
    kernels.checked(f"gpunet::{name}<gpunet::act::softsign, float>", (1,), (32,), args)
    return out
np.testing.assert_allclose(run("activation", x), expected, rtol=1e-6)
slope = run("activation_vjp", np.ones_like(x), expected)
np.testing.assert_allclose(slope, (1 - np.abs(expected)) ** 2, rtol=1e-5, atol=1e-7)

t = Trainer(nn.MLP(4, 8, 3, activation="softsign", norm="layer"), losses.cross_entropy, device="cpu", metrics=[])
rows = np.random.default_rng(0).normal(size=(64, 4))
history = t.fit((rows, rows[:, :3].argmax(1)), epochs=20, show_progress=False)
assert history["loss"][-1] < 0.9 * history["loss"][0]
print("enough")
"""


def hunks(diff: str) -> list[tuple[str, str, str]]:
    """File, what stood there, what stands there then."""
    found = []
    for part in diff.split("--- ")[1:]:
        file, _, rest = part.partition("\n")
        for hunk in rest.split("@@\n")[1:]:
            lines = hunk.splitlines()
            old = "\n".join(line[1:] for line in lines if line[0] != "+")
            new = "\n".join(line[1:] for line in lines if line[0] != "-")
            found.append((file, old, new))
    return found


def test_an_activation_is_a_few_lines_in_four_files(tmp_path: Path) -> None:
    diff = re.findall(r"```diff\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]
    assert len(re.findall("^--- ", diff, re.MULTILINE)) <= MOST_FILES
    assert len(re.findall(r"^\+", diff, re.MULTILINE)) <= MOST_LINES
    package = Path(gpunet.__file__).parent
    keep = shutil.ignore_patterns("_cpu*", "__pycache__")  # the C++ module would have to be built anew
    shutil.copytree(package, tmp_path / "gpunet", ignore=keep)
    shutil.copytree(fibers.CSRC, tmp_path / "csrc", dirs_exist_ok=True)
    for file, old, new in hunks(diff):
        text = (tmp_path / file).read_text()
        assert text.count(old) == 1, f"{file}: {old!r} stands there {text.count(old)} times"
        (tmp_path / file).write_text(text.replace(old, new))
    if fibers.missing():
        pytest.skip(f"csrc/*.cu cannot be built for the host: {fibers.missing()}")
    shutil.rmtree(tmp_path / "gpunet" / "csrc", ignore_errors=True)  # a wheel's
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE)])}
    environment.pop("GPUNET_REQUIRE_NATIVE", None)
    done = subprocess.run([sys.executable, "-c", TRIED], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.strip().endswith("enough"), done.stderr
