"""A short form of scripts/kill_test.py: killed by SIGKILL at random moments and resumed, the files are the same bytes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import missing

SCRIPT = Path(__file__).parent.parent / "scripts" / "kill_test.py"


@pytest.fixture(scope="module")
def kill_test() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("scripts/kill_test.py is not beside the tests")
    spec = importlib.util.spec_from_file_location("kill_test", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_test"] = module  # NamedTuple looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["lion one_cycle cpu", "adam plateau:1 emulated"])
def test_killed_and_resumed_is_never_interrupted(kill_test: ModuleType, tmp_path: Path, name: str) -> None:
    device = name.split()[-1]
    if device == "emulated" and missing("emulated"):
        pytest.skip(str(missing("emulated")))
    (case,) = kill_test.cases([device], name)
    bench = kill_test.Bench(tmp_path, seed=1)
    bench.emulated = device == "emulated"
    epochs = 30 if device == "cpu" else 2
    seconds = bench.whole(case, tmp_path / "whole", epochs)
    assert bench.killed(case, tmp_path / "cut", epochs, seconds, 2) >= 1
    for file in kill_test.COMPARED:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes(), file
    assert (tmp_path / "cut" / "log.txt").read_text().count("resuming") >= 1
