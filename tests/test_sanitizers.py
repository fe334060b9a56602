"""What scripts/sanitize.sh trusts: the thread pool is clean under the sanitizers, and a planted fault is reported."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import fibers
import pytest

HERE = Path(__file__).parent
FLAGS = {"thread": "-fsanitize=thread", "address": "-fsanitize=address,undefined"}
FAULTS = {"race": ("thread", "data race"), "bounds": ("address", "heap-buffer-overflow")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program for each sanitizer."""
    if fibers.missing():
        pytest.skip(f"nothing can be built here: {fibers.missing()}")
    folder = tmp_path_factory.mktemp("planted")
    (folder / "nothing.cpp").write_text("int main() {}")
    for name, flag in FLAGS.items():
        done = compiled(folder / name, flag, folder / "nothing.cpp")
        if done.returncode:
            pytest.skip(f"the compiler has no {flag}: {done.stderr.strip().splitlines()[-1]}")
        done = compiled(folder / name, flag, HERE / "planted.cpp", fibers.CSRC / "threads.cpp")
        assert not done.returncode, done.stderr
    return {name: folder / name for name in FLAGS}


def compiled(program: Path, flag: str, *sources: Path) -> subprocess.CompletedProcess[str]:
    command = [str(fibers.COMPILER), "-std=c++17", "-O1", "-g1", flag, "-pthread", f"-I{fibers.CSRC}"]
    return subprocess.run([*command, *map(str, sources), "-o", str(program)], capture_output=True, text=True)


def run(program: Path, fault: str) -> subprocess.CompletedProcess[str]:
    """Addresses are not laid out at random, where that can be had: ThreadSanitizer wants them where it knows them."""
    plainly = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run([*plainly, str(program), fault], capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in done.stderr or "setarch: failed" in done.stderr:
        pytest.skip(f"the sanitizer does not start here: {done.stderr.strip().splitlines()[-1]}")
    return done


@pytest.mark.parametrize("sanitizer", FLAGS)
def test_the_pool_of_threads_is_clean(built: dict[str, Path], sanitizer: str) -> None:
    done = run(built[sanitizer], "none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_reported(built: dict[str, Path], fault: str) -> None:
    sanitizer, said = FAULTS[fault]
    done = run(built[sanitizer], fault)
    assert done.returncode and said in done.stderr
