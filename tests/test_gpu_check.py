"""scripts/gpu_check.py, on the emulated device: what will be asked of a GPU can be answered."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fibers
import pytest
from conftest import emulated_cuda

SCRIPT = Path(__file__).parent.parent / "scripts" / "gpu_check.py"

if fibers.missing():
    pytest.skip(f"csrc/*.cu cannot be built for the host: {fibers.missing()}", allow_module_level=True)
if not SCRIPT.exists():
    pytest.skip("scripts/ is not beside these tests", allow_module_level=True)


@pytest.fixture(scope="module")
def check() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_losses_are_compared(check: Any) -> None:
    off = check.curves_agree(emulated_cuda(orders=()))
    assert 0 < off["from_cpu"] <= check.LOSSES_AGREE


def test_losses_that_differ_are_told(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "LOSSES_AGREE", 0.0)
    found = check.outcome("first losses", lambda: check.curves_agree(emulated_cuda(orders=())))
    assert found["outcome"] == "failed" and "the first 20 losses are off by" in found["reason"]


def test_two_runs_have_the_same_bits(check: Any) -> None:
    assert check.same_bits_twice(emulated_cuda(orders=()), epochs=1, rows=320)["weights"] >= 64 * 32 + 32 + 330


def test_capturing_changes_no_bit(check: Any) -> None:
    assert check.captured_is_uncaptured(emulated_cuda(orders=()), rows=160)["weights"] > 2000


def test_mnist_is_trained_where_it_is(check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check.outcome("mnist", lambda: check.mnist(emulated_cuda(orders=()), None))["reason"].startswith("no MNIST: --data")
    asked = []

    def train(dataset: Any, *, recipe: Any, show_progress: bool) -> Any:
        asked.append((dataset, recipe.device))
        return SimpleNamespace(test={"accuracy": 0.95}, history=SimpleNamespace(seconds=1.0))

    monkeypatch.setattr(check, "train", train)
    monkeypatch.setattr(check, "read", lambda folder: folder)
    found = check.outcome("mnist", lambda: check.mnist(emulated_cuda(orders=()), tmp_path))
    assert asked == [(tmp_path, "cuda:0")] and found["outcome"] == "failed" and "0.978 is wanted" in found["reason"]


NOT_EXERCISED = {"bias_activation": "it is for where cuBLASLt has no bias epilogue"}


def test_what_the_sanitizer_watches_is_nearly_every_kernel(check: Any) -> None:
    device = emulated_cuda(orders=())
    check.exercise(device)
    ran = {family(kind[0]) for kind in device.xp.seen}
    every = {family(name) for _, name in fibers.all_kernels()}
    assert every - ran == set(NOT_EXERCISED) and any(name.startswith("chain_") for name in ran)
    assert device.xp.counts["graph launches"] > 10


def family(name: str) -> str:
    return name.removeprefix("gpunet::").partition("<")[0]


def test_a_step_is_timed(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TIMED", {"digits": ((64, 32, 10), 32)})
    assert check.timings(emulated_cuda(orders=()), steps=3)["digits"] > 0


def test_a_skip_has_its_reason_and_the_report_is_json(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    made = {tool: check.outcome(tool, lambda tool=tool: check.sanitized(tool, emulated_cuda(orders=()))) for tool in check.SANITIZER}
    assert {found["outcome"] for found in made.values()} == {"skipped"}
    assert "compute-sanitizer is not on the path" in made["memcheck"]["reason"]
    written = json.loads(json.dumps(check.report(emulated_cuda(orders=()), made)))
    assert written["checks"]["racecheck"]["outcome"] == "skipped" and "Stand-in" in written["device"]
