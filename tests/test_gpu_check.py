"""scripts/gpu_check.py, on the emulated device: what will be asked of a GPU can be answered."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
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


def test_a_step_is_timed(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TIMED", {"digits": ((64, 32, 10), 32)})
    assert check.timings(emulated_cuda(orders=()), steps=3)["digits"] > 0


def test_a_skip_has_its_reason_and_the_report_is_json(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    made = {tool: check.outcome(tool, lambda tool=tool: check.sanitized(tool)) for tool in check.SANITIZER}
    assert {found["outcome"] for found in made.values()} == {"skipped"}
    assert "compute-sanitizer is not on the path" in made["memcheck"]["reason"]
    written = json.loads(json.dumps(check.report(emulated_cuda(orders=()), made)))
    assert written["checks"]["racecheck"]["outcome"] == "skipped" and "Stand-in" in written["device"]
